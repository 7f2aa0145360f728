"""Further parts of the output of ``bfbridge info``, as text without borders.

Lines are not cut at the terminal's width, so that other programs can read them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from bfbridge.cli.terminal.text import say

__all__ = ["print_details"]

_PLACES = ("t", "c", "z")
_VALUES = ("time", "exposure", "x", "y", "z_position")


def print_details(description: dict[str, Any], more: Collection[str]) -> None:
    """Print the parts "min_max", "planes", "files" and "original" of a description."""
    parts = {
        "min_max": _extremes, "planes": _planes, "files": _files, "original": _original
    }  # fmt: skip
    for name, lines in parts.items():
        if name in more:
            for line in ("", *lines(description)):
                say(line)


def _extremes(description: dict[str, Any]) -> Iterator[str]:
    for series in description["series"]:
        for number, channel in enumerate(series["channels"]):
            name = f" ({channel['name']})" if channel["name"] else ""
            values = f"{channel['min']} to {channel['max']}"
            yield f"values of {series['index']}, channel {number}{name}: {values}"


def _planes(description: dict[str, Any]) -> Iterator[str]:
    for series in description["series"]:
        planes = series["planes"]
        known = [name for name in _VALUES if any(plane[name] for plane in planes)]
        if not known:
            yield f"planes of {series['index']}: the metadata have no times and positions"
            continue
        yield f"planes of {series['index']}:"
        rows = [[*_PLACES, *known]]
        for plane in planes:
            values = (_shown(plane[name]) for name in known)
            rows.append([*(str(plane[place]) for place in _PLACES), *values])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield "  ".join(cells).rstrip()


def _shown(quantity: dict[str, Any] | None) -> str:
    return "-" if quantity is None else f"{quantity['value']:.10g} {quantity['unit']}"


def _files(description: dict[str, Any]) -> Iterator[str]:
    yield "files:"
    yield from description["used_files"]


def _original(description: dict[str, Any]) -> Iterator[str]:
    yield "original metadata:"
    for key, value in description["original_metadata"].items():
        yield f"{key}: {value}"
