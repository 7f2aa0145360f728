"""``bfbridge deidentify``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bfbridge.cli.options.help import GroupedHelp, new_app
from bfbridge.cli.options.shared import AsJson
from bfbridge.cli.terminal.text import printable_json, say, show_error

if TYPE_CHECKING:
    from bfbridge.curation import Deidentification, Validation

__all__ = ["app"]

app = new_app()


@app.command(cls=GroupedHelp)
def deidentify(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="IN... OUT",
            help="Files or folders; then the new OME-TIFF or OME-Zarr, or a folder. With --check, "
            "the files to check.",
        ),
    ],
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Write nothing; search the files for what may identify a person."
        ),
    ] = False,
    label_image: Annotated[
        str,
        typer.Option(
            "--label-image", metavar="drop|blank",
            help="Leave labels, macros and thumbnails out, or replace their pixels by zeros.",
        ),
    ] = "drop",
    series: Annotated[
        list[int] | None,
        typer.Option(
            "--series", "-s", min=0, metavar="N",
            help="Number of an image to keep; default: all but labels, macros and thumbnails.",
        ),
    ] = None,
    positions: Annotated[
        bool, typer.Option("--positions", help="Keep the stage positions of planes.")
    ] = False,
    channel_names: Annotated[
        bool,
        typer.Option("--channel-names/--no-channel-names", help="Keep the names of channels."),
    ] = True,
    recompress: Annotated[
        bool, typer.Option("--recompress", help="Decode JPEG tiles and store them without loss.")
    ] = False,
    suffix: Annotated[
        str | None,
        typer.Option("--suffix", metavar="SUFFIX", help="Suffix of new files in a folder."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Copy images without what may identify a person.

    The new files are searched before they get their names. Text in the pixels remains. Exit code:
    0 for success, 1 if --check finds something or a file failed.
    """
    if check:
        _check(paths, as_json)
        return
    if len(paths) < 2:
        raise typer.BadParameter("give one or more files, and the new file or folder.")
    options: dict[str, Any] = {
        "label_image": label_image, "series": series, "positions": positions,
        "channel_names": channel_names, "recompress": recompress, "overwrite": overwrite,
    }  # fmt: skip
    from bfbridge.convert import is_batch
    from bfbridge.curation import deidentify as clean
    from bfbridge.curation import deidentify_many

    *sources, target = paths
    source: Any = sources[0] if len(sources) == 1 else sources
    if is_batch(source, target):
        results = deidentify_many(source, target, suffix=suffix, **options)
    elif suffix is not None:
        raise typer.BadParameter("--suffix is for new files in a folder.")
    else:
        results = [clean(source, target, **options)]
    if as_json:
        content = [result.as_dict() for result in results]
        _print_json(content if is_batch(source, target) else content[0])
    for result in results:
        if result.error is not None:
            show_error(f"{result.source}: {result.error.removeprefix(f'{result.source}: ')}")
        elif not as_json:
            _show(result)
    if any(result.error is not None for result in results):
        raise typer.Exit(1)


def _print_json(content: Any) -> None:
    typer.echo(printable_json(json.dumps(content, indent=2, ensure_ascii=False)))


def _show(result: Deidentification) -> None:
    say(f"{result.source} -> {result.target}")
    for heading, lines in (("removed", result.removed), ("kept", result.kept)):
        say(f"  {heading}:")
        for line in lines:
            say(f"    {line}")
    for note in result.findings:
        say(f"  look at: {note}")


def _check(paths: list[str], as_json: bool) -> None:
    """Check files; exit with 1 if something was found."""
    from bfbridge.curation import check_deidentified

    checked = [check_deidentified(path) for path in paths]
    if as_json:
        content = [found.as_dict() for found in checked]
        _print_json(content[0] if len(content) == 1 else content)
    else:
        for found in checked:
            _show_findings(found)
    if not all(found.valid for found in checked):
        raise typer.Exit(1)


def _show_findings(found: Validation) -> None:
    for finding in found.findings:
        word = "found" if finding.severity == "error" else "look at"
        say(f"{word}: {finding.where}: {finding.message}")
    count = len(found.errors)
    say(f"{found.path}: {f'{count} places may identify somebody' if count else 'nothing found'}")
