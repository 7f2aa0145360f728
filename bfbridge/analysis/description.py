"""A file described as plain data: what ``bfbridge info --json`` prints."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.analysis.regions import approximate_magnification, magnification_of
from bfbridge.backend import Quantity
from bfbridge.errors import BfbridgeError
from bfbridge.files.in_place import find_interrupted

if TYPE_CHECKING:
    from bfbridge.analysis.plane_table import PlaneRecord
    from bfbridge.backend import PixelSize
    from bfbridge.reader import BioReader
    from bfbridge.views import ImageView

__all__ = ["describe"]


def describe(br: BioReader, more: Collection[str] = ()) -> dict[str, Any]:
    """Describe a file as plain data.

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
