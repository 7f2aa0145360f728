"""Conversion of values to the dtype of an image; values that do not fit raise an error.

`as_pixels` accepts every kind of array: numpy arrays, objects with ``__array__``, nested lists, and
lazy arrays (dask, xarray, Zarr, HDF5, the views of this package). The latter become a `LazyPixels`,
which is read part by part.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bfbridge.engine.lazy_pixels import LazyPixels, arranged, is_lazy, unwrapped
from bfbridge.errors import BadArgument, BadDtype

__all__ = ["as_pixels", "cast", "castable", "checked", "checked_number"]

Array = np.ndarray[Any, Any]


def as_pixels(value: Any, name: str, axes: str | None = None) -> Array | LazyPixels:
    """Return a value that is assigned to an image as an array.

    Parameters
    ----------
    value
        An array of any kind, nested sequences, or a number.
    name
        Name of the target, for messages.
    axes
        A letter of Y, X, Z, C, T and S for each axis of the array; the result then has the axes Y,
        X, Z, C, T, and S is joined to C. None leaves the axes as they are.

    Returns
    -------
    numpy.ndarray or LazyPixels
        A labelled array (xarray) whose dimensions are called y, x, z, c, t or s is returned in
        the order Y, X, Z, C, T; S is joined to C.

    Raises
    ------
    BadArgument
        `value` is not an array: sequences of unequal lengths, masked values, a tensor on a GPU.
    """
    if isinstance(value, LazyPixels):
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise BadArgument(
            f"{name}: an array with masked values cannot be written; replace them first "
            "(array.filled(value))."
        )
    if isinstance(value, (np.ndarray, np.generic)):
        return _arranged(np.asarray(value), axes)
    if axes is None:
        value, labels = unwrapped(value, name)
        if labels is not None:
            return LazyPixels(value, labels, name)
    if is_lazy(value):
        return LazyPixels(value, axes, name)
    try:
        return _arranged(np.asarray(value), axes)
    except Exception as error:
        # numpy's errors for ragged lists, and those of any __array__ method.
        raise BadArgument(
            f"{name}: a {type(value).__name__} cannot be converted to a numpy array ({error})."
        ) from error


def _arranged(array: Array, axes: str | None) -> Array:
    return array if axes is None else arranged(array, axes)


def castable(given: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Return whether values of one dtype can be written to an image of another, if they fit."""
    if given.kind in "biu" and dtype.kind in "iu":
        return True
    return bool(np.can_cast(given, dtype, "same_kind"))


def checked(value: Any, dtype: np.dtype[Any], name: str) -> Array:
    """Return a value as an array that can be cast to the image's dtype without wrapping.

    Raises
    ------
    BadDtype
        The dtype cannot hold some of the values.
    """
    if (
        isinstance(value, (np.generic, np.ndarray))
        and value.ndim == 0
        and value.dtype.kind in "biufc"
    ):
        value = value.item()
    if isinstance(value, (bool, int, float, complex)):
        return checked_number(value, dtype, name)
    array = np.asarray(value)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if not castable(array.dtype, dtype):
        raise BadDtype(
            f"{name}: values of {array.dtype} cannot be written to an image of {dtype} "
            f"without loss. Convert them yourself (values.astype({dtype.name!r})), or set "
            f"dtype={array.dtype.name!r} before the first write."
        )
    wrong = _beyond(array, dtype)
    if wrong is not None:
        raise BadDtype(
            f"{name}: the value {wrong} ({array.dtype}) cannot be stored in an image of {dtype}."
        )
    return array


def checked_number(value: complex, dtype: np.dtype[Any], name: str) -> Array:
    """Return a number in the image's dtype; raise `BadDtype` if it cannot be stored."""
    rounds = dtype.kind in ("c" if type(value) is complex else "fc" if type(value) is float else "")
    try:
        with np.errstate(over="ignore"):
            held = np.array(value).astype(dtype) if rounds else np.array(value, dtype)
        number = held.item()
        # A float may be rounded, but not to infinity. An integer may not be rounded.
        fits = bool(number == value) or (
            rounds and bool(np.isfinite(number) == np.isfinite(complex(value)))
        )
    except (OverflowError, TypeError, ValueError):
        fits = False
    if not fits:
        raise BadDtype(f"{name}: {value!r} cannot be stored in an image of {dtype}.")
    return held


def cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Convert checked values; without a copy if the dtype is the same."""
    return values if values.dtype == dtype else values.astype(dtype)


def _beyond(values: Array, dtype: np.dtype[Any]) -> Any:
    """Return a value that casting to `dtype` would wrap, round or make infinite, or None.

    Floats may be rounded to a shorter float; integers must be stored exactly.
    """
    if not values.size:
        return None
    if values.dtype.kind in "iu" and dtype.kind in "fc":
        # numpy regards the cast of 64-bit integers to float64 as safe.
        return _inexact(values, dtype)
    if np.can_cast(values.dtype, dtype, "safe"):
        return None
    if values.dtype.kind == "c":
        real = np.empty(0, dtype).real.dtype
        parts = (_beyond(part, real) for part in (values.real, values.imag))
        return next((part for part in parts if part is not None), None)
    if dtype.kind in "iu":
        low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
        least, most = int(values.min()), int(values.max())
        return least if least < low else most if most > high else None
    if values.dtype.kind != "f":
        return None
    # Every float dtype has infinities and NaN; a finite number must stay finite.
    top = np.finfo(dtype).max
    if np.fmin.reduce(values, axis=None) >= -top and np.fmax.reduce(values, axis=None) <= top:
        return None
    wrong = values[np.isfinite(values) & (np.abs(values) > top)]
    return wrong.flat[0] if wrong.size else None


def _inexact(values: Array, dtype: np.dtype[Any]) -> Any:
    """Return an integer that a float or complex dtype would round, or None."""
    digits = np.finfo(dtype).nmant + 1
    if 8 * values.dtype.itemsize <= digits:
        return None
    if int(values.max()) <= 2**digits and int(values.min()) >= -(2**digits):
        return None
    bits = values.astype(np.uint64)  # wraps, as two's complement: negated below
    size = np.where(values < 0, ~bits + np.uint64(1), bits)
    lowest = size & (~size + np.uint64(1))
    wrong = values[size // np.maximum(lowest, np.uint64(1)) >= np.uint64(1) << np.uint64(digits)]
    return wrong.flat[0] if wrong.size else None
