"""Resampling along one axis: the weights of old pixels in each new pixel. No I/O."""

from __future__ import annotations

from typing import Any

import numpy as np

from bfbridge.errors import BadArgument

__all__ = ["METHODS", "resample", "support", "to_dtype"]

Array = np.ndarray[Any, Any]
METHODS = ("area", "nearest", "linear", "cubic")
REACH = {"area": 0, "nearest": 0, "linear": 1, "cubic": 2}
"""Number of old pixels that a method needs beyond the covered ones, on each side."""


def support(edges: Array, method: str, size: int) -> tuple[int, int]:
    """Return (start, stop) of the old pixels that new ones between `edges` need.

    Parameters
    ----------
    edges
        Borders of the new pixels in units of old pixels, ascending.
    method
        One of `METHODS`.
    size
        Number of old pixels.

    Raises
    ------
    BadArgument
        The method does not exist.
    """
    if method not in METHODS:
        raise BadArgument(f"resample={method!r}: use one of {', '.join(METHODS)}.")
    reach = REACH[method]
    # A border that is an integer except for rounding needs no further pixel.
    start = int(np.floor(edges[0] + 1e-6)) - reach
    stop = int(np.ceil(edges[-1] - 1e-6)) + reach
    start = min(max(start, 0), size - 1)
    return start, min(max(stop, start + 1), size)


def resample(pixels: Array, axis: int, edges: Array, offset: int, method: str) -> Array:
    """Resample along one axis.

    Parameters
    ----------
    pixels
        Old pixels from position `offset` on, of any dtype; positions outside them repeat the edge.
    axis
        Axis to resample.
    edges
        Borders of the new pixels, in old pixels of the whole image; one more than new pixels.
    offset
        Position in the whole image of the first of `pixels`.
    method
        "area" is the mean weighted by coverage; "nearest" takes the pixel at the centre; "linear"
        and "cubic" (Catmull-Rom) interpolate between centres.

    Returns
    -------
    numpy.ndarray
        float64 (complex128 for complex pixels); with "nearest", the dtype of `pixels`.
    """
    local = np.asarray(edges, np.float64) - offset
    if method == "area":
        return _area(pixels, axis, local)
    size = pixels.shape[axis]
    centres = (local[:-1] + local[1:]) / 2
    if method == "nearest":
        # A centre on a border, except for rounding, belongs to the pixel that begins there.
        return pixels.take(np.clip(np.floor(centres + 1e-9), 0, size - 1).astype(np.intp), axis)
    position = centres - 0.5
    base = np.floor(position)
    share = position - base
    total: Any = 0
    for step, weight in _taps(share, method):
        taken = pixels.take(np.clip(base + step, 0, size - 1).astype(np.intp), axis)
        total = total + taken * _along(weight, axis, pixels.ndim)
    result: Array = total
    return result


def _taps(share: Array, method: str) -> list[tuple[int, Array]]:
    """Return neighbours and weights for centres at `share` after the centre of a pixel."""
    if method == "linear":
        return [(0, 1 - share), (1, share)]
    s, s2, s3 = share, share**2, share**3
    return [
        (-1, (-s + 2 * s2 - s3) / 2),
        (0, (2 - 5 * s2 + 3 * s3) / 2),
        (1, (s + 4 * s2 - 3 * s3) / 2),
        (2, (-s2 + s3) / 2),
    ]


def _along(values: Array, axis: int, ndim: int) -> Array:
    shape = [1] * ndim
    shape[axis] = len(values)
    return values.reshape(shape)


def _area(pixels: Array, axis: int, edges: Array) -> Array:
    """Mean over each interval: whole pixels summed, the two at its ends weighted by coverage."""
    size = pixels.shape[axis]
    edges = np.clip(edges, 0, size)
    near = np.rint(edges)
    edges = np.where(np.abs(edges - near) < 1e-6, near, edges)
    kind = np.complex128 if pixels.dtype.kind == "c" else np.float64
    first = np.minimum(np.floor(edges[:-1]).astype(np.intp), size - 1)
    last = np.clip(np.ceil(edges[1:]).astype(np.intp) - 1, first, size - 1)
    # reduceat over pairs (first, last + 1): every second result is the wanted sum.
    ends = np.empty(2 * len(first), np.intp)
    ends[0::2], ends[1::2] = first, last + 1
    padded = pixels
    if ends.max() >= size:
        width = [(0, 0)] * pixels.ndim
        width[axis] = (0, 1)
        padded = np.pad(pixels, width)
    total = np.add.reduceat(padded, ends, axis=axis, dtype=kind)
    total = total.take(np.arange(0, len(ends), 2), axis)
    before = _along(edges[:-1] - first, axis, pixels.ndim)
    behind = _along(last + 1 - edges[1:], axis, pixels.ndim)
    if before.any():
        total -= _weighted(pixels.take(first, axis), before)
    if behind.any():
        total -= _weighted(pixels.take(last, axis), behind)
    result: Array = total / _along(edges[1:] - edges[:-1], axis, pixels.ndim)
    return result


def _weighted(pixels: Array, weights: Array) -> Array:
    """Multiply where the weight is not 0: 0 x inf would be NaN."""
    if pixels.dtype.kind in "fc":
        return np.where(weights == 0, 0, pixels) * weights
    result: Array = pixels * weights
    return result


def to_dtype(values: Array, dtype: np.dtype[Any]) -> Array:
    """Round and clip to an integer dtype; cast to any other."""
    if values.dtype == dtype:
        return values
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        # The largest 64-bit integers have no float64: set them afterwards.
        high = values >= float(info.max)
        low = np.maximum(np.rint(values), float(info.min))
        result = np.where(high, 0, low).astype(dtype)
        result[high] = info.max
        return result
    with np.errstate(over="ignore"):
        return values.astype(dtype)
