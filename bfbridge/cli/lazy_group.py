"""A group of commands that imports a command only when it is used.

`bfbridge --help` therefore imports none of them; it shows the summaries given to the group. This is
the pattern "lazily loading subcommands" of click's documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

from typer.core import TyperGroup
from typer.main import get_command

from bfbridge.cli.options.help import format_options

__all__ = ["SUMMARIES", "LazyGroup"]

SUMMARIES: Mapping[str, str] = {
    "info": "Show images, levels, sizes, channels and the backend of files.",
    "convert": "Convert images to OME-TIFF, OME-Zarr and other formats.",
    "report": "Merge the reports of the parts of a batch into one.",
    "render": "Draw an image, or a contact sheet of a plate or a folder.",
    "view": "Show images of any format and size in the browser.",
    "gui": "Choose, show and convert files in a window in the browser.",
    "serve": "Serve images over HTTP: OME-Zarr, tiles, DeepZoom, IIIF.",
    "validate": "Check OME-TIFF and OME-Zarr files against their specifications.",
    "verify": "Compare the files of a conversion with its certificate.",
    "deidentify": "Copy images without what may identify a person.",
    "labels": "Add label images to OME-Zarr stores.",
    "pyramid": "Add lower levels to images of OME-Zarr stores that have none.",
    "formats": "List the formats that can be read or written.",
    "doctor": "Check the installation.",
    "jar": "Show or download the Bio-Formats jar.",
    "cache": "Show or clear the files in the cache folder.",
}
"""Names and summaries of the commands, in the order of ``bfbridge --help``."""

_INSTALLATION: Final = frozenset({"formats", "doctor", "jar", "cache"})
"""Commands in `bfbridge.cli.commands.installation`; the others are in `bfbridge.cli.commands`."""


class _Commands(Mapping[str, Any]):
    """Commands by name; a command is imported when it is looked up."""

    def __getitem__(self, name: str) -> Any:
        if name not in SUMMARIES:
            raise KeyError(name)
        return _load(name)

    def __iter__(self) -> Iterator[str]:
        return iter(SUMMARIES)

    def __len__(self) -> int:
        return len(SUMMARIES)


@cache
def _load(name: str) -> Any:
    module = f"installation.{name}" if name in _INSTALLATION else name
    command = get_command(import_module(f"bfbridge.cli.commands.{module}").app)
    command.name = name
    return command


class LazyGroup(TyperGroup):
    """The group ``bfbridge``, with the commands of `SUMMARIES`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment] # a command is never added

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return list(SUMMARIES)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options and the commands."""
        format_options(self.params, ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl(list(SUMMARIES.items()))
