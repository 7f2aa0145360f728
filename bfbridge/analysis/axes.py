"""Selections and orders of axes by their letters, as AICSImageIO has them."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.errors import BadArgument, BadSelection

if TYPE_CHECKING:
    from bfbridge.analysis.mosaics import Pixels

__all__ = ["reorder", "select_axes"]


def select_axes(
    source: Pixels, order: str | None, selection: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the order of the result, and positions (or one integer) by axis."""
    wanted = source.order if order is None else str(order).upper()
    if len(set(wanted)) != len(wanted) or not set(wanted) <= set("MTCZYXS"):
        raise BadArgument(f"dimension_order_out={order!r}: use the axes M, T, C, Z, Y, X and S.")
    sizes = dict(zip(source.order, source.shape, strict=True))
    unknown = {axis for axis in selection if axis.upper() not in sizes}
    if unknown:
        raise BadArgument(f"{', '.join(sorted(unknown))}: the axes are {source.order}.")
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
    """Drop axes that are not wanted, add those that the image lacks, and transpose."""
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
