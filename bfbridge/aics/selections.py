"""Selections by axis letter, and the order of axes of their results."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from bfbridge.analysis.modulo import UNFOLDED_LETTERS
from bfbridge.analysis.mosaics import Pixels
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.files.array_images import is_array

__all__ = ["axes_given", "parse_chunk_dims", "parse_selection", "reorder"]


def parse_selection(
    source: Pixels, order: str | None, selection: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the order of the result, and positions (or one integer) by axis."""
    wanted = source.order if order is None else str(order).upper()
    if len(set(wanted)) != len(wanted) or not set(wanted) <= {*"MTCZYXS", *source.order}:
        further = "".join(axis for axis in source.order if axis not in "MTCZYXS")
        known = ", ".join("MTCZYX" + further)
        raise BadArgument(f"dimension_order_out={order!r}: axes are {known} and S.")
    sizes = dict(zip(source.order, source.shape, strict=True))
    unknown = {axis for axis in selection if axis.upper() not in sizes}
    if unknown:
        raise BadArgument(f"{', '.join(sorted(unknown))}: there are axes {source.order}.")
    given = {axis.upper(): value for axis, value in selection.items()}
    chosen: dict[str, Any] = {axis: 0 for axis in sizes if axis not in wanted}
    for axis, value in given.items():
        chosen[axis] = _positions(value, sizes[axis], axis)
    return wanted, chosen


def _positions(value: Any, size: int, axis: str) -> Any:
    if isinstance(value, slice):
        try:
            return range(*value.indices(size))
        except (TypeError, ValueError) as error:
            raise BadSelection(f"{axis}={value}: not a slice of integers ({error}).") from None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if not -size <= value < size:
            raise BadSelection(f"{axis}={value} is outside the image, whose {axis} is {size}.")
        return int(value) % size
    try:
        found = [operator.index(n) for n in value]
    except (TypeError, ValueError):
        raise BadSelection(
            f"{axis}={value!r}: give an integer, a list, a range or a slice."
        ) from None
    if any(not -size <= n < size for n in found):
        raise BadSelection(f"{axis}={value!r} is outside the image, whose {axis} is {size}.")
    return [n % size for n in found]


def reorder(array: Any, have: str, want: str, chosen: Mapping[str, Any]) -> Any:
    """Drop the axes not wanted, add those the image lacks, and transpose."""
    for axis in have:
        if axis not in want and not isinstance(chosen[axis], int):
            raise BadArgument(
                f"{axis}={chosen[axis]!r} selects several, but {want} has no axis for them."
            )
    kept = tuple(slice(None) if axis in want else 0 for axis in have)
    array = array[kept]
    names = "".join(axis for axis in have if axis in want)
    missing = "".join(axis for axis in want if axis not in names)
    array = array[(np.newaxis,) * len(missing) + (...,)]
    names = missing + names
    return array.transpose([names.index(axis) for axis in want])


def axes_given(image: Any, dim_order: Any) -> list[str | None]:
    """Return the axes of each array as given; nothing for a file."""
    listed = isinstance(image, (list, tuple)) and bool(image) and all(map(is_array, image))
    arrays = list(image) if listed else [image] if is_array(image) else []
    orders = dim_order if isinstance(dim_order, (list, tuple)) else [dim_order] * len(arrays)
    found: list[str | None] = []
    for array, order in zip(arrays, orders, strict=False):
        labels = getattr(array, "dims", ())
        text = "".join(map(str, labels)).upper()
        labelled = len(text) == np.ndim(array) and set(text) <= set("TCZYXS")
        count = np.ndim(array)
        default = "TCZYXS" if count == 6 else "TCZYX"[-count:]
        chosen = "" if order is None else str(order).upper()
        found.append(chosen or (text if labelled and text else default))
    return found


def parse_chunk_dims(given: Any) -> frozenset[str] | None:
    """Return the axes that chunks span, or None."""
    if given is None:
        return None
    try:
        found = frozenset(str(axis).upper() for axis in given)
    except TypeError:
        found = frozenset("?")
    if not found <= {*"MTCZYXS", *UNFOLDED_LETTERS}:
        raise BadArgument(f"chunk_dims={given!r}: give axes out of M, T, C, Z, Y, X and S.")
    return found
