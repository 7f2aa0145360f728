"""Arrays that are computed or read on demand, written to an image part by part.

dask arrays are computed in batches of their chunks. Other objects with a shape, a dtype and numpy's
basic indexing (Zarr and HDF5 arrays, xarray, the views of this package) are read in boxes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from bfbridge.errors import BadArgument

__all__ = ["LazyPixels", "arranged", "is_dask", "is_lazy", "unwrapped"]

Array = np.ndarray[Any, Any]
Box = tuple[slice, ...]
FACE = "YXZCT"
MOST_READ = 64 << 20
"""Bytes of the boxes in which arrays other than dask arrays are read."""


def is_lazy(value: Any) -> bool:
    """Return whether an object is an array of pixels that is not in this process's memory."""
    shape = getattr(value, "shape", None)
    if hasattr(value, "__array_interface__") or not hasattr(value, "__getitem__"):
        return False
    if not isinstance(shape, tuple) or len(shape) < 2:
        return False
    try:
        np.dtype(value.dtype)
    except (AttributeError, TypeError):
        return False
    return True


def is_dask(value: Any) -> bool:
    """Return whether an object is a dask array; xarray objects have ``__dask_graph__`` too."""
    return hasattr(value, "__dask_graph__") and hasattr(value, "blocks")


def unwrapped(value: Any, name: str) -> tuple[Any, str | None]:
    """Return the array in a labelled array (xarray), and its axes as letters.

    Parameters
    ----------
    value
        Any object.
    name
        Name of the target, for messages.

    Returns
    -------
    (array, axes)
        `value` itself and None if it is not labelled, or none of its labels names an axis.

    Raises
    ------
    BadArgument
        Some labels are axes of an image and others are not.
    """
    dims = getattr(value, "dims", None)
    if not isinstance(dims, tuple) or not hasattr(value, "coords") or not hasattr(value, "dtype"):
        return value, None
    letters = [str(dim).upper() for dim in dims]
    known = [letter for letter in letters if letter in ("Y", "X", "Z", "C", "T", "S")]
    array = value.data if value.chunks is not None else value
    if not known:
        return array, None
    if len(known) < len(letters) or len(set(known)) < len(known):
        raise BadArgument(
            f"{name}: an array with the dimensions {dims!r}: those of an image are y, x, z, c, t "
            "and s (samples). Rename them, or write the bare array (array.data) in the order Y, X, "
            "Z, C, T."
        )
    return array, "".join(letters)


class LazyPixels:
    """An array that is read in parts.

    Parameters
    ----------
    value
        A dask array, or an array-like with ``shape``, ``dtype`` and basic indexing.
    axes
        A letter of Y, X, Z, C, T and S for each axis. The array is then used in the order Y, X, Z,
        C, T, with the samples S joined to C, fastest. None leaves the axes unchanged.
    name
        Name of the target, for messages.

    Attributes
    ----------
    shape, ndim, dtype
        After the change of axes.
    samples
        Length of the axis S; 1 if there is none.
    is_labelled
        Whether `axes` were given.
    """

    def __init__(self, value: Any, axes: str | None, name: str) -> None:
        self._axes = axes
        self.is_labelled = axes is not None
        given = tuple(value.shape)
        if any(not isinstance(n, (int, np.integer)) for n in given):
            # dask uses NaN for unknown lengths.
            raise BadArgument(
                f"{name}: an array of unknown shape {given} cannot be written; call its "
                "compute_chunk_sizes() first."
            )
        self._sizes = dict(zip(axes, given, strict=True)) if axes else {}
        self.samples = self._sizes.get("S", 1)
        self.dtype = np.dtype(value.dtype)
        self._is_dask = is_dask(value)
        if self._is_dask and "S" in self._sizes:
            value = value.rechunk({(axes or "").index("S"): -1})
        self._value = value
        self._given = given
        if axes:
            sizes = [self._sizes.get(axis, 1) for axis in FACE]
            sizes[FACE.index("C")] *= self.samples
            self.shape: tuple[int, ...] = tuple(sizes)
        else:
            self.shape = given
        self.ndim = len(self.shape)

    def batches(self, nbytes: int) -> Iterator[list[tuple[tuple[int, ...], Array]]]:
        """Read the whole array: lists of (start, pixels), in the axes of `shape`.

        Parameters
        ----------
        nbytes
            Bytes of the parts that are in memory at once; at least one part.
        """
        for boxes in self._groups(nbytes):
            yield [
                (self._start(box), self._arranged(pixels))
                for box, pixels in zip(boxes, self._read(boxes), strict=True)
            ]

    def _groups(self, nbytes: int) -> Iterator[list[Box]]:
        group: list[Box] = []
        size = 0
        for box in self._boxes(nbytes):
            length = math.prod(part.stop - part.start for part in box) * self.dtype.itemsize
            if group and size + length > nbytes:
                yield group
                group, size = [], 0
            group.append(box)
            size += length
        if group:
            yield group

    def _boxes(self, nbytes: int) -> Iterator[Box]:
        """Divide the array along dask's chunks, or into boxes of limited size."""
        if self._is_dask:
            edges = [
                list(itertools.pairwise(itertools.accumulate(axis, initial=0)))
                for axis in self._value.chunks
            ]
        else:
            steps = self._steps(min(nbytes, MOST_READ))
            edges = [
                [(start, min(start + step, size)) for start in range(0, size, step)]
                for size, step in zip(self._given, steps, strict=True)
            ]
        for box in itertools.product(*edges):
            yield tuple(slice(start, stop) for start, stop in box)

    def _steps(self, nbytes: int) -> list[int]:
        """Return the lengths of boxes of at most `nbytes`, in whole stored chunks if possible."""
        steps = [max(n, 1) for n in self._given]
        units = getattr(self._value, "chunks", None)
        if not isinstance(units, tuple) or len(units) < len(steps):
            units = (1,) * len(steps)
        order = [(self._axes or FACE).find(axis) for axis in "TCZYX"]
        for at in order:
            if not 0 <= at < len(steps):
                continue
            size = math.prod(steps) * self.dtype.itemsize
            if size <= nbytes:
                break
            unit = units[at] if isinstance(units[at], int) and units[at] > 0 else 1
            fitting = nbytes // (size // steps[at])
            steps[at] = max(fitting // unit * unit, min(unit, steps[at]))
        return steps

    def _read(self, boxes: Sequence[Box]) -> list[Array]:
        if self._is_dask:
            parts = [self._value[box] for box in boxes]
            found: Sequence[Any] = import_module("dask").compute(*parts)
        else:
            found = [self._value[box] for box in boxes]
        return [
            np.asarray(pixels).reshape([part.stop - part.start for part in box])
            for box, pixels in zip(boxes, found, strict=True)
        ]

    def _start(self, box: Box) -> tuple[int, ...]:
        """Return the start of a box of the given array, in the axes of `shape`."""
        if not self._axes:
            return tuple(part.start for part in box)
        starts: Mapping[str, int] = {
            axis: part.start for axis, part in zip(self._axes, box, strict=True)
        }
        return tuple(starts.get(axis, 0) * (self.samples if axis == "C" else 1) for axis in FACE)

    def _arranged(self, pixels: Array) -> Array:
        """Return pixels of the given array in the axes of `shape`."""
        return arranged(pixels, self._axes) if self._axes else pixels


def arranged(pixels: Array, axes: str) -> Array:
    """Return an array with named axes in the order Y, X, Z, C, T.

    Parameters
    ----------
    pixels
        Any array.
    axes
        A letter of Y, X, Z, C, T and S for each axis. S, the samples, is joined to C and is the
        faster of the two.
    """
    order = "YXZCST"
    pixels = pixels.transpose([axes.index(axis) for axis in order if axis in axes])
    sizes = iter(pixels.shape)
    y, x, z, c, s, t = (next(sizes) if axis in axes else 1 for axis in order)
    return pixels.reshape(y, x, z, c * s, t)
