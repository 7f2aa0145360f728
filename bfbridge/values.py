"""Values on their way into an image: what it can hold is cast, what it cannot is an error."""

from __future__ import annotations

from typing import Any

import numpy as np

from bfbridge.errors import BadDtype

__all__ = ["cast", "checked", "checked_number"]

Array = np.ndarray[Any, Any]


def checked(value: Any, dtype: np.dtype[Any], name: str) -> Array:
    """Return `value` as an array that can be cast to the image's dtype, none wrapping."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (bool, int, float, complex)):
        return checked_number(value, dtype, name)
    array = np.asarray(value)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise BadDtype(
            f"{name}: values of {array.dtype} cannot be written to an image of {dtype} "
            f"without loss. Convert them yourself (values.astype({dtype.name!r})), or set "
            f"dtype={array.dtype.name!r} before the first write."
        )
    wrong = _beyond(array, dtype)
    if wrong is not None:
        raise BadDtype(
            f"{name}: the value {wrong} ({array.dtype}) cannot be held by an image of {dtype}."
        )
    return array


def checked_number(value: complex, dtype: np.dtype[Any], name: str) -> Array:
    """Return a number as the dtype holds it; one it cannot hold is a `BadDtype`."""
    rounds = dtype.kind in ("c" if isinstance(value, complex) else "fc")
    try:
        with np.errstate(over="ignore"):
            held = np.array(value).astype(dtype) if rounds else np.array(value, dtype)
        number = held.item()
        # A float may round, but not to infinity.
        fits = bool(number == value) or (
            rounds and bool(np.isfinite(number) == np.isfinite(complex(value)))
        )
    except (OverflowError, TypeError, ValueError):
        fits = False
    if not fits:
        raise BadDtype(f"{name}: {value!r} cannot be held by an image of {dtype}.")
    return held


def cast(values: Array, dtype: np.dtype[Any]) -> Array:
    """Convert values that were checked; no copy where the dtype is the same."""
    return values if values.dtype == dtype else values.astype(dtype)


def _beyond(values: Array, dtype: np.dtype[Any]) -> Any:
    """Return a value too large for `dtype`, which casting would wrap or make infinite, or None."""
    if not values.size or np.can_cast(values.dtype, dtype, "safe"):
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
    # Infinities and NaN are held by every float; a finite number must stay one.
    top = np.finfo(dtype).max
    if np.fmin.reduce(values, axis=None) >= -top and np.fmax.reduce(values, axis=None) <= top:
        return None
    wrong = values[np.isfinite(values) & (np.abs(values) > top)]
    return wrong.flat[0] if wrong.size else None
