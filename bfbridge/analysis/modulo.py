"""Axes inside Z, C or T (lifetime, angle, phase, wavelength), unfolded to axes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bfbridge.engine.selection import dropped_axes, full_key
from bfbridge.errors import BadArgument

if TYPE_CHECKING:
    from bfbridge.analysis.dask_arrays import LazyImage
    from bfbridge.backend import Modulo
    from bfbridge.views import ImageView

__all__ = ["UNFOLDED_LETTERS", "FoldedAxis", "UnfoldedImage", "folded_axes"]

Array = np.ndarray[Any, Any]
_NAMES = {"lambda": "wavelength", "spectra": "wavelength", "rotation": "angle"}
_LETTERS = {"angle": "A", "phase": "P", "tile": "R", "lifetime": "H", "wavelength": "E"}
_SPARE_LETTERS = "QUVW"
UNFOLDED_LETTERS = "".join(_LETTERS.values()) + _SPARE_LETTERS
"""Letters that unfolded axes may have."""
_WAYS = (True, "fastest", "slowest")


class FoldedAxis(NamedTuple):
    """An axis inside another: parent (T, C or Z), name, values, unit, and which runs faster."""

    parent: str
    name: str
    values: Array
    unit: str | None
    fastest: bool

    def split(self, size: int) -> tuple[int, int]:
        """Return the lengths of the parent axis and of this one."""
        return size // len(self.values), len(self.values)

    def positions(self, outer: Array, inner: Array, size: int) -> Array:
        """Return positions along the stored axis, parent first."""
        count, length = self.split(size)
        steps = (length, 1) if self.fastest else (1, count)
        found: Array = np.add.outer(outer * steps[0], inner * steps[1]).ravel()
        return found

    def parent_values(self, values: Sequence[Any]) -> Any:
        """Return the values of the parent axis out of those of the stored axis."""
        count, length = self.split(len(values))
        return values[::length] if self.fastest else values[:count]


def folded_axes(view: ImageView, way: bool | str) -> dict[str, FoldedAxis]:
    """Return the axes that a view unfolds, by their parent.

    Parameters
    ----------
    view
        The image.
    way
        True for the order that the file has; "fastest" or "slowest" if the caller knows it; False
        for no axes.

    Raises
    ------
    BadArgument
        A description does not fit the image, or the order is not known.
    """
    if way is False:
        return {}
    if not isinstance(way, (bool, str)) or way not in _WAYS:
        raise BadArgument(f"unfold={way!r}: give True, 'fastest', 'slowest' or False.")
    found: dict[str, FoldedAxis] = {}
    for parent, modulo in view.modulo.items():
        where = f"{view.source_name}: image {view.index}"
        size = view.sizes[parent]
        if size % modulo.length or (parent == "C" and view.samples_per_pixel > 1):
            raise BadArgument(
                f"{where}: its {modulo.type} axis has {modulo.length} values, which do not fit "
                f"{parent}={size}. Read the image without unfold."
            )
        fastest = modulo.fastest if way is True else way == "fastest"
        if fastest is None:
            raise BadArgument(
                f"{where}: the metadata do not say whether {modulo.type} or {parent} varies "
                "faster. Files converted from CZI need unfold='slowest', others unfold='fastest'."
            )
        name = _name(modulo, parent, {axis.name for axis in found.values()})
        found[parent] = FoldedAxis(parent, name, _values(modulo, fastest), modulo.unit, fastest)
    return found


def _name(modulo: Modulo, parent: str, taken: set[str]) -> str:
    kind = modulo.type.lower()
    name = _NAMES.get(kind, kind.replace(" ", "_"))
    if len(name) < 2 or not name.isidentifier():
        name = f"modulo_{parent.lower()}"
    return f"{name}_{parent.lower()}" if name in taken else name


def _values(modulo: Modulo, fastest: bool) -> Array:
    """Return labels, or values; of CZI files, whose steps are numbers of planes, numbers."""
    if len(modulo.labels) == modulo.length:
        return np.array(modulo.labels)
    if not fastest:
        return np.arange(modulo.length)
    return modulo.start + np.arange(modulo.length) * modulo.step


def _letter(name: str, taken: str) -> str:
    """Return the letter of an unfolded axis that no axis before it has."""
    return next(one for one in _LETTERS.get(name, "") + _SPARE_LETTERS if one not in taken)


class UnfoldedImage:
    """Array-like object as `LazyImage`, with folded axes behind the axes that contain them.

    Parameters
    ----------
    lazy
        The image.
    order
        Its axes.
    folded
        Axes to unfold, by parent.

    Attributes
    ----------
    dims, shape, ndim, dtype
        Names and lengths of the axes, their number, and the dtype of the pixels.
    letters
        One letter for each axis: those of tifffile's ``TIFF.AXES_CODES`` (A angle, P phase, R tile,
        H lifetime, E wavelength), and Q for others.
    """

    def __init__(self, lazy: LazyImage, order: str, folded: Mapping[str, FoldedAxis]) -> None:
        self._lazy = lazy
        self._order = order
        self._folded = {axis: folded[axis] for axis in order if axis in folded}
        self.dtype = lazy.dtype
        self.dims: tuple[str, ...] = ()
        self.letters = ""
        self.shape: tuple[int, ...] = ()
        for axis, size in zip(order, lazy.shape, strict=True):
            inner = self._folded.get(axis)
            self.dims += (axis.lower(),) if inner is None else (axis.lower(), inner.name)
            self.letters += axis if inner is None else axis + _letter(inner.name, self.letters)
            self.shape += (size,) if inner is None else inner.split(size)
        self.ndim = len(self.shape)

    def chunks(self, stored: Sequence[int]) -> tuple[int, ...]:
        """Return chunk lengths of this array out of those of the stored axes."""
        found: tuple[int, ...] = ()
        for axis, size, step in zip(self._order, self._lazy.shape, stored, strict=True):
            inner = self._folded.get(axis)
            if inner is None:
                found += (step,)
                continue
            count, length = inner.split(size)
            if inner.fastest:
                found += (max(1, min(count, step // length)), min(step, length))
            else:
                found += (min(step, count), max(1, min(length, step // count)))
        return found

    def coordinates(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return coordinates for xarray out of those of the stored axes."""
        found = dict(stored)
        for axis in self._folded.values():
            name = axis.parent.lower()
            dim, values, *attributes = stored[name]
            found[name] = (dim, axis.parent_values(values), *attributes)
            units = {"units": axis.unit} if axis.unit else {}
            found[axis.name] = (axis.name, axis.values, units)
        return found

    def __dask_tokenize__(self) -> Any:
        named = [(axis.parent, axis.name, axis.fastest) for axis in self._folded.values()]
        return (self._lazy.__dask_tokenize__(), named)

    def __getitem__(self, key: Any) -> Array:
        items = full_key(key, self.ndim)
        chosen = [np.atleast_1d(np.arange(n)[i]) for n, i in zip(self.shape, items, strict=True)]
        lengths = [len(positions) for positions in chosen]
        stored: list[Any] = []
        for axis, size in zip(self._order, self._lazy.shape, strict=True):
            outer = chosen.pop(0)
            inner = self._folded.get(axis)
            found = outer if inner is None else inner.positions(outer, chosen.pop(0), size)
            stored.append(_as_slice(found))
        pixels = self._lazy[tuple(stored)].reshape(lengths)
        return pixels[dropped_axes(items)]


def _as_slice(found: Array) -> Any:
    """Return positions as a slice where they are consecutive."""
    if len(found) and np.array_equal(found, np.arange(found[0], found[0] + len(found))):
        return slice(int(found[0]), int(found[0]) + len(found))
    return found
