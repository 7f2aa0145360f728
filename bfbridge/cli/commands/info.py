"""``bfbridge info``."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.shared import AsJson, Backend, Index, Storage
from bfbridge.cli.options.values import pairs
from bfbridge.cli.terminal.text import printable_json, printable_xml, say, show_error
from bfbridge.errors import FileMissing, Unsupported

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bfbridge.convert.plan.sources import Opened
    from bfbridge.reader import BioReader

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def info(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files, URLs, folders, globs and file patterns."),
    ],
    as_json: AsJson = False,
    ome_xml: Annotated[
        bool, typer.Option("--ome-xml", help="Print the OME-XML of one file.")
    ] = False,
    original: Annotated[
        bool, typer.Option("--original", help="Add the format's own metadata.")
    ] = False,
    planes: Annotated[
        bool, typer.Option("--planes", help="Add times, exposures and positions of planes.")
    ] = False,
    min_max: Annotated[
        bool,
        typer.Option("--min-max", help="Add the extremes of each channel; reads all pixels."),
    ] = False,
    used_files: Annotated[
        bool, typer.Option("--files", help="List all files of the data set.")
    ] = False,
    group: Annotated[
        bool | None,
        typer.Option("--group/--nogroup", help="Whether files that belong together are one."),
    ] = None,
    backend: Backend = None,
    storage: Storage = None,
    index: Index = False,
) -> None:
    """Show images, levels, sizes, channels and the backend of files."""
    options = {"backend": backend, "cache": 0, "storage_options": pairs(storage)}
    # Without the option, the environment decides.
    options |= {"group_files": group, "index": index or None}
    more = {"original": original, "planes": planes, "min_max": min_max, "files": used_files}
    shown = _Shown(options, as_json=as_json, more=[name for name, on in more.items() if on])
    if len(files) == 1 and _is_one_image(files[0]):
        with shown.open(files[0]) as br:
            _show_one(br, shown, as_json=as_json, ome_xml=ome_xml)
        return
    if ome_xml:
        raise typer.BadParameter("--ome-xml shows one document: name one file.")
    _show_many(files, shown)


def _is_one_image(source: str) -> bool:
    # The usual case does not load the modules of a conversion, which are slow to import.
    if os.path.isfile(source):
        return True
    from bfbridge.convert.plan.sources import is_one_image

    return is_one_image(source)


def _show_one(br: BioReader, shown: _Shown, *, as_json: bool, ome_xml: bool) -> None:
    if ome_xml:
        xml = br.ome_xml
        if xml is None:
            raise Unsupported(
                f"{br.source_name}: the metadata of this file cannot be expressed as OME-XML."
            )
        # A program that reads the output gets the XML unchanged.
        typer.echo(printable_xml(xml) if sys.stdout.isatty() else xml)
    elif as_json:
        _echo_json(shown.describe(br))
    else:
        shown.print(shown.describe(br))


def _echo_json(content: Any) -> None:
    typer.echo(printable_json(json.dumps(content, indent=2, ensure_ascii=False)))


def _show_many(files: list[str], shown: _Shown) -> None:
    """Show the images of several files and folders; after a failure, the others are still shown."""
    from bfbridge.convert.options import ConvertOptions
    from bfbridge.convert.plan.sources import Skipped, find_sources

    options = ConvertOptions(storage_options=shown.options["storage_options"])
    skipped = Skipped()
    found = find_sources(files, options, skipped=skipped, opener=shown.look, each=shown.add)
    failures = [one for one in found if one.error is not None]
    if not found:
        raise FileMissing(f"{', '.join(files)}: there is no image.")
    if shown.as_json:
        errors = [{"file": one.path, "error": one.error} for one in failures]
        _echo_json([*shown.described, *errors])
    left = [path for path, reason in skipped.reasons.items() if "no image" in reason]
    if left:
        say(f"skipped, not images: {len(left)}", err=True)
    for one in failures:
        show_error(one.error or "")
    if failures:
        raise typer.Exit(1)


class _Shown:
    """Describes images, and prints each immediately unless JSON was requested."""

    def __init__(self, options: dict[str, Any], *, as_json: bool, more: Sequence[str] = ()) -> None:
        self.options = options
        self.more = more
        self.as_json = as_json
        self.described: list[dict[str, Any]] = []
        self._looked: dict[str, dict[str, Any]] = {}

    def open(self, path: str) -> BioReader:
        """Open a file with the options of the command line."""
        from bfbridge.reader import BioReader

        return BioReader(path, **self.options)

    def describe(self, br: BioReader) -> dict[str, Any]:
        """Describe an open file."""
        from bfbridge.cli.terminal.description import describe

        return describe(br, self.more)

    def print(self, description: dict[str, Any]) -> None:
        """Print a description."""
        from rich.console import Console

        from bfbridge.cli.terminal.description import print_description

        print_description(Console(highlight=False), description)
        if self.more:
            from bfbridge.cli.terminal.details import print_details

            print_details(description, self.more)

    def look(self, path: str) -> Opened:
        """Describe one of several files, and return the files of its data set; for any thread."""
        from bfbridge.convert.plan.sources import Opened

        with self.open(path) as br:
            description = self._looked[path] = self.describe(br)
        return Opened(list(description["used_files"]))

    def add(self, path: str) -> None:
        """Print the next of several files, or keep it for JSON."""
        description = self._looked.pop(path)
        if not self.as_json:
            if self.described:
                typer.echo("")
            self.print(description)
        self.described.append(description)
