"""Descriptions of the options of conversions and of new files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field
from typing import Any

__all__ = [
    "ADVANCED",
    "OUTPUT",
    "PANELS",
    "PIXELS",
    "REMOTE",
    "RUN",
    "SELECTION",
    "SOURCES",
    "TARGET_OPTIONS",
    "Option",
    "declare",
    "option_of",
]

SOURCES = "What to convert"
OUTPUT = "Output"
SELECTION = "Selection"
PIXELS = "Pixel values and metadata"
RUN = "Run"
REMOTE = "Remote storage"
ADVANCED = "Advanced"
PANELS = (SOURCES, OUTPUT, SELECTION, PIXELS, RUN, REMOTE, ADVANCED)
"""Headings of ``bfbridge convert --help``, in their order."""


@dataclass(frozen=True, slots=True)
class Option:
    """One option: how it is documented, given on the command line, checked and recorded.

    Attributes
    ----------
    help
        One or two sentences, for the command line and the documentation.
    more
        Sentences for the documentation only.
    flags
        Names on the command line; none if there is no command-line option.
    panel
        Heading under which ``bfbridge convert --help`` lists it.
    kind
        Type of the command line's value.
    metavar, least
        Placeholder shown for the value, and smallest number allowed there.
    parse
        Takes (value, name of the option); returns the checked value. Not called for None.
    affects_file
        Whether other values make other files, so that ``resume`` converts again.
    secret
        Whether values may be credentials, of which reports contain only the names.
    """

    help: str
    more: str = ""
    flags: tuple[str, ...] = ()
    panel: str = ""
    kind: Any = str | None
    metavar: str | None = None
    least: int | None = None
    parse: Callable[[Any, str], Any] | None = None
    affects_file: bool = True
    secret: bool = False


def declare(default: Any, help: str, *flags: str, **more: Any) -> Any:  # noqa: A002 - typer's word
    """Return a dataclass field with the description of an option."""
    metadata = {"option": Option(help, flags=flags, **more)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def option_of(declared: Field[Any]) -> Option:
    """Return the description of a dataclass field."""
    found: Option = declared.metadata["option"]
    return found


TARGET_OPTIONS: Mapping[str, Option] = {
    "compression": Option(
        "Compression such as zstd, deflate, none; zstd:5 includes the level.",
        flags=("--compression", "-c"), panel=OUTPUT, metavar="CODEC",
    ),
    "level": Option(
        "Level of the compression.", flags=("--level",), panel=OUTPUT, metavar="N", kind=int | None,
    ),
    "chunks": Option(
        "Chunk size: a number for Y and X, or one number for each of the last axes of T, C, Z, Y, "
        "X.", panel=OUTPUT,
    ),
    "tile": Option(
        "Side of the stored tiles or chunks, in pixels.", flags=("--tile",), panel=OUTPUT,
        metavar="N", kind=int | None, least=1, more="Also (height, width).",
    ),
    "shards": Option(
        "Side of the shards, in formats that have them.", flags=("--shards",), panel=OUTPUT,
        metavar="N", kind=int | None, least=1,
        more="Also one number for each axis, as for ``chunks``.",
    ),
    "version": Option(
        "Version of the NGFF specification: 0.4 or 0.5.", flags=("--ngff-version",),
        panel=OUTPUT, metavar="VERSION",
    ),
    "hcs": Option(
        "Write images of wells as a plate; default: if they are of several wells.",
        flags=("--hcs/--no-hcs",), panel=OUTPUT, kind=bool | None,
    ),
    "drop_axes": Option(
        "Leave out T, C and Z where their length is 1, in OME-Zarr.", flags=("--drop-axes",),
        panel=OUTPUT, kind=bool | None,
    ),
}  # fmt: skip
