"""The array of a file in its own order of axes, as tifffile returns it."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import numpy as np

from bfbridge.errors import BadArgument
from bfbridge.reader import BioReader
from bfbridge.views import ImageView

__all__ = ["stored_array", "stored_shape"]

Array = np.ndarray[Any, Any]


def stored_shape(path: Any, axes: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and dtype of what `stored_array` reads, without reading pixels.

    Raises
    ------
    BadArgument
        The letters do not fit the file.
    """
    with BioReader(path) as reader:
        return _shape(reader, axes)[1], reader.dtype


def stored_array(path: Any, axes: str) -> tuple[Array, tuple[int, ...]]:
    """Return the first image of a file in its own order of axes, and its shape.

    Parameters
    ----------
    path
        Whatever `BioReader` takes.
    axes
        Letters of the axes that are expected.

    Raises
    ------
    BadArgument
        There is another number of axes.
    """
    with BioReader(path) as reader:
        order, shape = _shape(reader, axes)
        return reader.asarray(order).reshape(shape), shape


def _shape(reader: BioReader, axes: str) -> tuple[str, tuple[int, ...]]:
    """Return the axes in the file's order, and the shape that has as many axes as expected."""
    count = len(axes) if isinstance(axes, str) else 0
    order = _order(reader)
    samples = reader.samples_per_pixel
    sizes = {**reader.sizes, "C": reader.sizes["C"] // samples, "S": samples}
    whole = tuple(sizes[axis] for axis in order)
    noted = _written_shape(reader)
    found = [noted] if noted is not None and prod(noted) == prod(whole) else []
    found += [tuple(n for n in whole if n > 1), whole]
    for shape in found:
        if len(shape) == count:
            return order, shape
    # Y and X count as axes also where they are 1.
    flat = tuple(n for n, axis in zip(whole, order, strict=True) if n > 1 or axis in "YX")
    if len(flat) == count:
        return order, flat
    raise BadArgument(
        f"{reader.source_name}: axes={axes!r}, but the stored array has the shape {found[0]}: give "
        "one letter for each of its axes."
    )


def _order(view: ImageView) -> str:
    """Return the axes as the file orders them, the slowest first."""
    stored = view.ome.images[view.index].pixels.dimension_order.value
    order = str(stored)[::-1]
    if view.samples_per_pixel == 1:
        return order
    return f"{order}S" if view._image.interleaved else order.replace("YX", "SYX")


def _written_shape(view: ImageView) -> tuple[int, ...] | None:
    """Return the shape that tifffile notes in the description of files without other metadata."""
    try:
        noted = json.loads(str(view.original_metadata.get("ImageDescription", "")))
        return tuple(int(n) for n in noted["shape"])
    except (ValueError, TypeError, KeyError):
        return None
