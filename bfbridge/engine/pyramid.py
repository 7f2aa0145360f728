"""Lower resolutions: the levels of a pyramid, and the reduction of a block.

Only Y and X are reduced. The size of a level is that of the level before divided by the factor and
rounded up, so the last row and column are kept; at an odd edge a window has fewer pixels, and only
these are used. Means of integers are rounded to the nearest, halves up; means of floats are not
rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from bfbridge.backend import Level, Shape5
from bfbridge.errors import BadArgument, Unsupported

__all__ = ["METHODS", "SMALLEST", "factors_of", "plan_levels", "reduce_block", "steps_between"]

METHODS = ("mean", "nearest", "mode")
SMALLEST = 512
"""The last level of a default pyramid is the first one whose sides are at most this."""
MOST_LEVELS = 31
"""Number of halvings after which the longest possible side has one pixel."""
STRIP_BYTES = 1 << 18

Array = np.ndarray[Any, Any]
Pyramid = bool | int | Sequence[int]


def factors_of(pyramid: Pyramid, height: int, width: int) -> list[int]:
    """Return the factor of each lower level relative to the level before it.

    Parameters
    ----------
    pyramid
        False for none; True for halving until both sides are at most `SMALLEST`; a number of lower
        levels; or their factors against full size, such as (2, 4, 8).

    Raises
    ------
    BadArgument
        The factors are not integers above 1, each a multiple of the one before it.
    """
    if pyramid is True:
        count, side = 0, max(height, width)
        while side > SMALLEST:
            side, count = -(-side // 2), count + 1
        return [2] * count
    if isinstance(pyramid, (int, np.integer)):
        if not 0 <= pyramid <= MOST_LEVELS:
            raise BadArgument(
                f"pyramid={pyramid}: give a number of lower levels, 0 or more and at most "
                f"{MOST_LEVELS}."
            )
        return [2] * int(pyramid)
    steps, before = [], 1
    for factor in pyramid if np.iterable(pyramid) else [None]:
        if not isinstance(factor, (int, np.integer)) or factor <= before or factor % before:
            raise BadArgument(
                f"pyramid={pyramid!r}: give True, False, a number of lower levels, or their "
                "factors against full size, each a multiple of the one before it and above 1, "
                "such as [2, 4, 8]."
            )
        steps.append(int(factor) // before)
        before = int(factor)
    return steps


def steps_between(levels: Sequence[Level]) -> list[int]:
    """Return the factor of each lower level relative to the level before it, from their sizes."""
    steps = []
    for before, after in pairwise(levels):
        old, new = before.shape[3:], after.shape[3:]
        fitting = (
            factor
            for factor in range(1, max(old) + 1)
            if all(-(-a // factor) == b for a, b in zip(old, new, strict=True))
        )
        step = next(fitting, None)
        if step is None:
            raise Unsupported(f"a level of {new} is not {old} reduced by an integer factor")
        steps.append(step)
    return steps


def plan_levels(shape: Shape5, chunk: Shape5, steps: Sequence[int]) -> tuple[Level, ...]:
    """Return full size and the lower levels.

    Parameters
    ----------
    shape, chunk
        Size and chunk at full size, along T, C, Z, Y, X. The chunk is used on every level.
    steps
        Factor of each lower level relative to the level before it.

    Raises
    ------
    BadArgument
        The sides of the chunk are not multiples of a factor, so windows would extend over two
        chunks.
    """
    levels = [Level(shape, chunk)]
    for step in steps:
        t, c, z, y, x = levels[-1].shape
        if (chunk[3] < y and chunk[3] % step) or (chunk[4] < x and chunk[4] % step):
            raise BadArgument(
                f"a pyramid with factor {step} needs chunks whose height and width are multiples "
                f"of {step}; they are {chunk[3]} x {chunk[4]}."
            )
        levels.append(Level((t, c, z, -(-y // step), -(-x // step)), chunk))
    return tuple(levels)


def reduce_block(block: Array, factor: int, method: str) -> Array:
    """Reduce a block along its last two axes.

    Parameters
    ----------
    block
        Pixels with Y and X last.
    factor
        Side of the window that becomes one pixel.
    method
        "mean"; "nearest", the window's first pixel; or "mode", its most frequent value (the
        smallest, if several are equally frequent), for label images.
    """
    if method == "nearest":
        return block[..., ::factor, ::factor]
    if method == "mode":
        return _mode(block, factor)
    if block.dtype.kind in "iu":
        return _integer_mean(block, factor)
    # In double precision: the sum of four large float32 may be infinite.
    wide = np.result_type(block.dtype, np.float64)
    # NaN and infinities are ordinary values here.
    with np.errstate(invalid="ignore", over="ignore"):
        total, counts = _sums(block, factor, wide)
        return np.asarray(total / counts, dtype=block.dtype)


def _integer_mean(block: Array, factor: int) -> Array:
    even = block.shape[-1] % 2 == 0 and block.shape[-2] % 2 == 0
    if factor == 2 and even and block.dtype in (np.uint8, np.uint16) and block.size:
        return _mean_of_pairs(block)
    if block.dtype.itemsize == 8:
        return _long_mean(block, factor)
    total, counts = _sums(block, factor, np.dtype(np.int64))
    return np.asarray((total + counts // 2) // counts, dtype=block.dtype)


def _mean_of_pairs(block: Array) -> Array:
    """Mean of 2 x 2 windows: two neighbouring pixels are the two halves of one wider integer."""
    size = block.dtype.itemsize
    wide = np.dtype(f"u{size * 2}")
    if block.strides[-1] != size:
        block = np.ascontiguousarray(block)
    pairs = block.view(wide)
    half = wide.type(8 * size)
    mask = wide.type((1 << (8 * size)) - 1)
    mean = np.empty((*pairs.shape[:-2], pairs.shape[-2] // 2, pairs.shape[-1]), block.dtype)
    # In strips: sums of whole blocks would use new memory each time, which takes longer.
    rows = max(1, STRIP_BYTES // (pairs.shape[-1] * wide.itemsize))
    for top in range(0, mean.shape[-2], rows):
        strip = pairs[..., 2 * top : 2 * (top + rows), :]
        upper, lower = strip[..., 0::2, :], strip[..., 1::2, :]
        total = upper & mask
        total += upper >> half
        total += lower & mask
        total += lower >> half
        total += wide.type(2)
        total >>= wide.type(2)
        mean[..., top : top + rows, :] = total
    return mean


def _long_mean(block: Array, factor: int) -> Array:
    """Mean of 64-bit integers, whose sum would overflow: quotients and remainders separately."""
    _, counts = _sums(np.zeros(block.shape[-2:], np.uint8), factor, np.dtype(np.uint8))
    whole = np.zeros((*block.shape[:-2], *counts.shape), block.dtype)
    rest = np.zeros_like(whole)
    divisor = counts.astype(block.dtype)
    for part, (rows, columns) in _windows(block, factor):
        inside = divisor[:rows, :columns]
        whole[..., :rows, :columns] += part // inside
        rest[..., :rows, :columns] += part % inside
    return np.asarray(whole + (rest + divisor // 2) // divisor, dtype=block.dtype)


def _windows(block: Array, factor: int) -> list[tuple[Array, tuple[int, int]]]:
    """Return, for each position in a window, its pixels in all windows that have it."""
    parts = [block[..., i::factor, j::factor] for i in range(factor) for j in range(factor)]
    return [(part, (part.shape[-2], part.shape[-1])) for part in parts]


def _sums(block: Array, factor: int, wide: np.dtype[Any]) -> tuple[Array, Array]:
    """Return the sum over each window in a wider dtype, and the number of pixels in it."""
    height, width = -(-block.shape[-2] // factor), -(-block.shape[-1] // factor)
    total = np.zeros((*block.shape[:-2], height, width), wide)
    counts = np.zeros((height, width), np.int64)
    for part, (rows, columns) in _windows(block, factor):
        total[..., :rows, :columns] += part
        counts[:rows, :columns] += 1
    return total, counts


def _mode(block: Array, factor: int) -> Array:
    """Most frequent value of each window; the smallest if several are equally frequent."""
    first = block[..., ::factor, ::factor]
    best = first.copy()
    frequency = np.zeros(first.shape, np.int32)
    parts = _windows(block, factor)
    for candidate, (rows, columns) in parts:
        votes = np.zeros(candidate.shape, np.int32)
        for other, (r, c) in parts:
            low, left = min(r, rows), min(c, columns)
            same = other[..., :low, :left] == candidate[..., :low, :left]
            votes[..., :low, :left] += same
        known, seen = best[..., :rows, :columns], frequency[..., :rows, :columns]
        better = (votes > seen) | ((votes == seen) & (candidate < known))
        known[better] = candidate[better]
        seen[better] = votes[better]
    return best
