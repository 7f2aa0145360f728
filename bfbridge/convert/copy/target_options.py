"""One set of option names for every target, put into the words of the backend that writes.

``compression`` may carry its level: "zstd:5" or ("zstd", 5), or ``compression_level`` has it.
``tile`` is the side of the stored block whatever the format calls it. All else goes to the
backend by the name given, and a backend refuses names it does not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bfbridge import registry
from bfbridge.errors import BadArgument

__all__ = ["holds_levels", "options_for"]


def options_for(target: str, backend: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options in the words of the backend that writes `target`.

    Raises
    ------
    BadArgument
        No backend writes this suffix, or an option contradicts another.
    """
    writer = registry.writer_for(target, backend)
    told = {name: value for name, value in options.items() if value is not None}
    compression, level = _compression(told)
    if writer.name == "ometiff":
        if "chunks" in told:
            told.setdefault("tile", _last_two(told.pop("chunks")))
        _put(told, "compression", compression)
        _put(told, "level", level)
    elif writer.name == "omezarr":
        if "tile" in told:
            told.setdefault("chunks", told.pop("tile"))
        if compression is not None:
            told["compression"] = compression if level is None else (compression, level)
        elif level is not None:
            raise BadArgument(f"compression_level={level}: say which compression it is a level of.")
    else:
        _put(told, "compression", compression)
        _put(told, "compression_level", level)
    writer.check(told)
    return told


def holds_levels(target: str, backend: str | None) -> bool:
    """Whether the format that is written under this name has lower levels."""
    # Of Bio-Formats' writers only those of OME-TIFF are told levels.
    writer = registry.writer_for(target, backend)
    return writer.name != "bioformats" or ".ome.t" in target.lower()


def _put(told: dict[str, Any], name: str, value: Any) -> None:
    if value is not None:
        told[name] = value


def _compression(told: dict[str, Any]) -> tuple[Any, int | None]:
    """Take the compression and its level out of the options."""
    value, level = told.pop("compression", None), told.pop("compression_level", None)
    if isinstance(value, str) and ":" in value:
        value, _, text = value.partition(":")
        try:
            inside = int(text)
        except ValueError:
            raise BadArgument(
                f"compression='{value}:{text}': a level is a number, such as {value}:5."
            ) from None
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        value, inside = value
    else:
        return value, level
    if level is not None and inside is not None and level != inside:
        raise BadArgument(f"compression_level={level}, and compression says {inside}. Give one.")
    return value, inside if level is None else level


def _last_two(chunks: Any) -> Any:
    return tuple(chunks)[-2:] if isinstance(chunks, (tuple, list)) else chunks
