"""Conversion of keys and ranges to selections. No I/O.

The selection rules are those of numpy (negative indices, clipped slices, steps, Ellipsis); lists of
integers and boolean masks of one axis select orthogonally on every axis. The shape rule is that of
bfio: five axes in the order Y, X, Z, C, T are kept, then trailing axes of length 1 are dropped,
never below two.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from bfbridge.errors import BadSelection

__all__ = [
    "USER_AXES",
    "Axis",
    "Selection",
    "dropped_axes",
    "fit_axes",
    "full_key",
    "parse_key",
    "parse_ranges",
    "split_new_axes",
    "spread",
    "trim",
]

USER_AXES = "YXZCT"
Axis = range | np.ndarray[Any, np.dtype[np.intp]]
ACCEPTED = (
    "integers, slices, 1-D lists or arrays of integers, boolean masks of one axis, and one "
    "Ellipsis, in the order Y, X, Z, C, T"
)


@dataclass(frozen=True)
class Selection:
    """Indices chosen along each of five axes, orthogonally.

    Attributes
    ----------
    axes
        Along Y, X, Z, C, T: a range, or an array of non-negative indices.
    """

    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths along Y, X, Z, C, T."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of selected pixels."""
        return prod(self.shape)

    def part(
        self,
        axes: Sequence[int | None],
        shape: Sequence[int],
        start: Sequence[int],
        lengths: Sequence[int],
    ) -> Selection:
        """Return the selection for a part of an array that is broadcast to this selection.

        Parameters
        ----------
        axes
            As `fit_axes` returns them for the whole array.
        shape
            Shape of the whole array.
        start, lengths
            Position and lengths of the part.
        """
        return Selection(
            tuple(
                chosen
                if at is None or shape[at] == 1
                else chosen[start[at] : start[at] + lengths[at]]
                for chosen, at in zip(self.axes, axes, strict=True)
            )
        )

    def tczyx(self) -> tuple[Axis, ...]:
        """Return the axes in the order backends use: T, C, Z, Y, X."""
        y, x, z, c, t = self.axes
        return t, c, z, y, x


def trim(shape: Sequence[int]) -> tuple[int, ...]:
    """Drop trailing lengths of 1, never below two axes.

    >>> trim((100, 100, 1, 1, 1)), trim((1, 1, 4, 1, 2))
    ((100, 100), (1, 1, 4, 1, 2))
    """
    keep = len(shape)
    while keep > 2 and shape[keep - 1] == 1:
        keep -= 1
    return tuple(shape[:keep])


def split_new_axes(key: Any) -> tuple[Any, tuple[int, ...]]:
    """Remove None (numpy's newaxis) from a key.

    Returns
    -------
    (key, places)
        The rest of the key, and the axis number before which each None is (5: after all axes).

    Raises
    ------
    BadSelection
        There is more than one Ellipsis.
    """
    if key is not None and not isinstance(key, tuple):
        return key, ()
    items = key if isinstance(key, tuple) else (key,)
    if not any(item is None for item in items):
        return key, ()
    _refuse_ellipses(items)
    given = sum(item is not None and item is not Ellipsis for item in items)
    places, at = [], 0
    for item in items:
        if item is None:
            places.append(at)
        else:
            at += max(0, len(USER_AXES) - given) if item is Ellipsis else 1
    return tuple(item for item in items if item is not None), tuple(places)


def _refuse_ellipses(items: Sequence[Any]) -> None:
    if sum(item is Ellipsis for item in items) > 1:
        raise BadSelection("an index can have only one Ellipsis ('...').")


def full_key(key: Any, ndim: int) -> list[Any]:
    """Return an index for each axis: the first Ellipsis and missing indices become slices.

    Parameters
    ----------
    key
        As Python passes it to ``__getitem__``, with at most `ndim` indices.
    ndim
        Number of axes.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    if any(item is Ellipsis for item in items):
        at = next(i for i, item in enumerate(items) if item is Ellipsis)
        items[at : at + 1] = [slice(None)] * (ndim - len(items) + 1)
    return items + [slice(None)] * (ndim - len(items))


def dropped_axes(items: Sequence[Any]) -> tuple[int | slice, ...]:
    """Return the key that removes the axes with a single index from pixels read with all axes."""
    return tuple(
        0 if np.ndim(item) == 0 and not isinstance(item, slice) else slice(None) for item in items
    )


def parse_key(key: Any, shape: Sequence[int]) -> Selection:
    """Convert the key of ``br[...]`` to a selection.

    Parameters
    ----------
    key
        The key, as Python passes it.
    shape
        Lengths of the image along Y, X, Z, C, T.

    Raises
    ------
    BadSelection
        Masks of several axes, None, floats, too many indices, or an index outside the image.
    """
    items = list(key) if isinstance(key, tuple) else [key]
    _refuse_ellipses(items)
    ellipses = [i for i, item in enumerate(items) if item is Ellipsis]
    given = len(items) - len(ellipses)
    if given > len(USER_AXES):
        raise BadSelection(
            f"too many indices: {given} were given, and an image has 5 axes (YXZCT)."
        )
    at = ellipses[0] if ellipses else len(items)
    items[at : at + 1] = [slice(None)] * (len(USER_AXES) - given)
    return Selection(
        tuple(
            parse_axis(item, length, name)
            for item, length, name in zip(items, shape, USER_AXES, strict=True)
        )
    )


def parse_axis(item: Any, length: int, name: str) -> Axis:
    """Convert the index of one axis to a range or an array of non-negative indices."""
    if isinstance(item, slice):
        try:
            return range(*item.indices(length))
        except (TypeError, ValueError) as error:
            raise BadSelection(
                f"axis {name}: {item} is not a slice of integers ({error})."
            ) from None
    if item is None or isinstance(item, (bool, np.bool_, float, str)):
        raise BadSelection(f"axis {name}: {item!r} is not an index. Accepted are {ACCEPTED}.")
    if isinstance(item, (list, tuple, range)) or (isinstance(item, np.ndarray) and item.ndim):
        return _index_array(item, length, name)
    try:
        index = operator.index(item)
    except TypeError:
        raise BadSelection(
            f"axis {name}: {item!r} is not an index. Accepted are {ACCEPTED}."
        ) from None
    if not -length <= index < length:
        raise BadSelection(
            f"axis {name}: index {index} is outside the image, whose {name} is {length}."
        )
    index %= length
    return range(index, index + 1)


def _index_array(item: Any, length: int, name: str) -> Axis:
    try:
        array = np.asarray(item)
    except ValueError:
        array = np.empty((0, 0), object)  # a ragged list: refused below
    if array.dtype == np.bool_:
        array = _mask_indices(array, length, name)
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, np.intp)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise BadSelection(
            f"axis {name}: an array of {array.dtype} with {array.ndim} dimension(s) is not an "
            f"index. Accepted are {ACCEPTED}."
        )
    low, high = int(array.min()), int(array.max())
    if low < -length or high >= length:
        wrong = low if low < -length else high
        raise BadSelection(
            f"axis {name}: index {wrong} is outside the image, whose {name} is {length}."
        )
    indices = array.astype(np.intp)
    indices[indices < 0] += length
    if len(indices) == 1 or (len(indices) > 1 and np.all(np.diff(indices) == 1)):
        return range(int(indices[0]), int(indices[-1]) + 1)
    return indices


def _mask_indices(mask: np.ndarray[Any, Any], length: int, name: str) -> np.ndarray[Any, Any]:
    if mask.ndim != 1:
        raise BadSelection(
            f"axis {name}: a boolean mask with {mask.ndim} dimensions is not an index, because the "
            "pixels it selects are not an image. Read first, then apply it: br[...][mask]."
        )
    if len(mask) != length:
        raise BadSelection(
            f"axis {name}: a boolean mask of {len(mask)} values does not fit the image, whose "
            f"{name} is {length}."
        )
    return np.flatnonzero(mask)


def parse_ranges(
    shape: Sequence[int], X: Any = None, Y: Any = None, Z: Any = None, C: Any = None, T: Any = None
) -> Selection:
    """Convert the arguments of ``read(X=, Y=, Z=, C=, T=)`` to a selection.

    None is the whole axis, an integer one position, a slice or range its positions. A tuple or list
    of two integers is a half-open (start, stop) on X, Y and Z, as in bfio; every other sequence,
    and any sequence on C and T, is a list of positions.

    Raises
    ------
    BadSelection
        As `parse_key`, and for a (start, stop) that is not inside the image.
    """
    given = {"Y": Y, "X": X, "Z": Z, "C": C, "T": T}
    axes = []
    for name, length in zip(USER_AXES, shape, strict=True):
        value = given[name]
        if value is None:
            value = slice(None)
        elif name in "YXZ" and isinstance(value, (tuple, list)) and len(value) == 2:
            value = _bounds(value, length, name)
        axes.append(parse_axis(value, length, name))
    return Selection(tuple(axes))


def _bounds(value: Sequence[Any], length: int, name: str) -> slice:
    try:
        start, stop = operator.index(value[0]), operator.index(value[1])
    except TypeError:
        raise BadSelection(
            f"axis {name}: {tuple(value)!r} is not (start, stop) of two integers."
        ) from None
    if not 0 <= start < stop <= length:
        raise BadSelection(
            f"axis {name}: ({start}, {stop}) is not a range inside the image, whose {name} is "
            f"{length}."
        )
    return slice(start, stop)


def fit_axes(given: Sequence[int], shape: Sequence[int]) -> tuple[int | None, ...]:
    """Return which axis of an array belongs to which axis of a selection.

    Parameters
    ----------
    given
        Shape of the array. It is broadcast by numpy's rule to the shape that reading the same key
        gives (trailing 1s dropped); leading and trailing axes of length 1 beyond that are accepted.
    shape
        Lengths of the selection along Y, X, Z, C, T.

    Returns
    -------
    tuple
        For each axis of the selection the number of the array's axis; None if it has none and is
        repeated.

    Raises
    ------
    BadSelection
        The shapes do not match.
    """
    target = trim(shape)
    kept = list(range(len(given)))
    while len(kept) > len(target) and given[kept[-1]] == 1:
        kept.pop()
    while len(kept) > len(target) and given[kept[0]] == 1:
        kept.pop(0)
    first = len(target) - len(kept)
    if first < 0 or any(given[at] not in (1, target[first + i]) for i, at in enumerate(kept)):
        raise BadSelection(
            f"values of shape {tuple(given)} do not fit a selection of shape {tuple(shape)} "
            f"(order Y, X, Z, C, T; {target} without trailing 1s)."
        )
    return (*(None,) * first, *kept, *(None,) * (len(shape) - len(target)))


def spread(
    values: np.ndarray[Any, Any], axes: Sequence[int | None], shape: Sequence[int]
) -> np.ndarray[Any, Any]:
    """Broadcast an array to a selection's five axes, as `fit_axes` defines.

    Returns
    -------
    numpy.ndarray
        A view of shape `shape`, in the dtype of `values`; broadcast axes have stride 0.
    """
    kept = [at for at in axes if at is not None]
    values = values[tuple(slice(None) if at in kept else 0 for at in range(values.ndim))]
    # Not reshape, which would copy a view with strides of 0.
    key = tuple(np.newaxis if at is None else slice(None) for at in axes)
    return np.broadcast_to(values[key], shape)
