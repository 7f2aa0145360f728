"""The output of ``bfbridge info``: a file described as plain data and as a table."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from bfbridge.analysis.regions import approximate_magnification, magnification_of
from bfbridge.backend import Quantity
from bfbridge.errors import BfbridgeError
from bfbridge.files.in_place import find_interrupted
from bfbridge.runtime.terminal import printable

if TYPE_CHECKING:
    from bfbridge.analysis.plane_table import PlaneRecord
    from bfbridge.backend import PixelSize
    from bfbridge.reader import BioReader
    from bfbridge.views import ImageView

__all__ = ["describe", "print_description"]


def describe(br: BioReader, more: Collection[str] = ()) -> dict[str, Any]:
    """Describe a file as plain data: what ``bfbridge info --json`` prints.

    Parameters
    ----------
    br
        The open file.
    more
        Further parts: "original", "planes", "min_max".
    """
    description: dict[str, Any] = {
        "file": br.source_name,
        "backend": br.backend,
        "backend_reason": br.backend_reason,
        "series": [_series(view) for view in br.series],
        "used_files": br.used_files,
        "interrupted": _interrupted(br),
    }
    if "original" in more:
        description["original_metadata"] = {
            str(key): _plain(value) for key, value in br.original_metadata.items()
        }
    for view, series in zip(br.series, description["series"], strict=True):
        if "planes" in more:
            series["planes"] = [_plane(plane) for plane in view.planes()]
        if "min_max" in more:
            for number, channel in enumerate(series["channels"]):
                samples = view.samples_per_pixel
                c = range(number * samples, (number + 1) * samples)
                low, high = view.min_max(exact=True, c=slice(c.start, c.stop))
                channel |= {"min": _plain(low), "max": _plain(high)}
    return description


def _plane(plane: PlaneRecord) -> dict[str, Any]:
    return {
        declared.name: _quantity(value) if isinstance(value, Quantity) else value
        for declared in fields(plane)
        for value in [getattr(plane, declared.name)]
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON has: numbers of numpy as numbers, others as text."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _interrupted(br: BioReader) -> str | None:
    """Describe a change in place that was not completed."""
    found = find_interrupted(br.source_name)
    return None if found is None else str(found)


def _series(view: ImageView) -> dict[str, Any]:
    return {
        "index": view.index,
        "name": view.name,
        "role": view.role,
        "sizes": view.sizes,
        "dtype": view.dtype.name,
        "samples_per_pixel": view.samples_per_pixel,
        "pixel_size": _sizes(view.physical_pixel_size),
        "magnification": _magnification(view),
        "channels": [
            {
                "name": channel.name,
                "color": None if channel.color is None else list(channel.color),
                "emission": _quantity(channel.emission),
                "excitation": _quantity(channel.excitation),
            }
            for channel in view.channels
        ],
        "levels": [{"sizes": level.sizes, "chunks": list(level.chunks)} for level in view.levels],
    }


def _magnification(view: ImageView) -> dict[str, Any] | None:
    """Return the objective's magnification, estimated where the file states none."""
    try:
        stated = magnification_of(view)
    except BfbridgeError:
        # The rest is shown also where the metadata cannot be read.
        stated = None
    value = approximate_magnification(view) if stated is None else stated
    return None if value is None else {"value": value, "approximate": stated is None}


def _sizes(size: PixelSize) -> dict[str, Any]:
    return {axis: _quantity(getattr(size, axis)) for axis in "xyz"}


def _quantity(quantity: Any) -> dict[str, Any] | None:
    return None if quantity is None else {"value": quantity.value, "unit": quantity.unit}


def print_description(console: Console, description: dict[str, Any]) -> None:
    """Print the result of `describe` as tables."""
    head = Table.grid(padding=(0, 2))
    head.add_column(style="dim")
    head.add_column(overflow="fold")
    head.add_row("file", Text(printable(description["file"])))
    head.add_row(
        "read by", Text(printable(f"{description['backend']} ({description['backend_reason']})"))
    )
    count = len(description["used_files"])
    if count > 1:
        head.add_row("files", f"{count} belong to this data set")
    if description["interrupted"]:
        head.add_row("warning", Text(description["interrupted"]))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("#", "name", "X", "Y", "Z", "C", "T", "dtype", "pixel size", "levels"):
        right = column in "#XYZCT"
        table.add_column(column, justify="right" if right else "left", no_wrap=right)
    for series in description["series"]:
        table.add_row(*_row(series))
    console.print(Group(head, Text(), table))
    for series in description["series"]:
        names = [c["name"] for c in series["channels"]]
        if any(names):
            shown = ", ".join("-" if name is None else str(name) for name in names)
            console.print(Text(printable(f"channels of {series['index']}: {shown}")))
    for series in description["series"]:
        found = series["magnification"]
        if found is not None:
            shown = f"{found['value']:.3g}x"
            if found["approximate"]:
                shown = f"about {shown} (estimated from the pixel size)"
            console.print(f"magnification of {series['index']}: {shown}")


def _row(series: dict[str, Any]) -> list[Any]:
    sizes = series["sizes"]
    role = "" if series["role"] == "image" else f" ({series['role']})"
    dtype = series["dtype"] + (" RGB" if series["samples_per_pixel"] == 3 else "")
    return [
        str(series["index"]),
        Text(printable((series["name"] or "-") + role)),
        *(f"{sizes[axis]}" for axis in "XYZCT"),
        dtype,
        Text(printable(_shown_size(series["pixel_size"]))),
        " ".join(f"{level['sizes']['X']}x{level['sizes']['Y']}" for level in series["levels"]),
    ]


def _shown_size(size: dict[str, Any]) -> str:
    known = [size[axis] for axis in "xyz" if size[axis] is not None]
    if not known:
        return "-"
    units = {quantity["unit"] for quantity in known}
    if len(units) == 1:
        return " x ".join(f"{q['value']:.4g}" for q in known) + f" {units.pop()}"
    return " x ".join(f"{q['value']:.4g} {q['unit']}" for q in known)
