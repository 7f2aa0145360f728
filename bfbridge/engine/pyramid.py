"""Lower resolutions: the levels of a pyramid, and the reduction of a block.

Y and X are reduced, and Z on request. The size of a level is that of the level before divided by
the factor and rounded up, so the last slice, row and column are kept; at an odd edge a window has
fewer pixels, and only these are used. Means of integers are rounded to the nearest, halves up;
means of floats are not rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Level, Shape5
from bfbridge.errors import BadArgument, Unsupported
from bfbridge.ome.units import LENGTHS

if TYPE_CHECKING:
    from bfbridge.backend import ImageSpec, PixelSize

__all__ = [
    "METHODS",
    "SMALLEST",
    "LevelPlan",
    "Step",
    "factors_of",
    "level_plan",
    "plan_levels",
    "reduce_block",
    "steps_between",
    "steps_of",
]

METHODS = ("mean", "nearest", "mode")
SMALLEST = 512
"""The last level of a default pyramid is the first one whose sides are at most this."""
MOST_LEVELS = 31
"""Number of halvings after which the longest possible side has one pixel."""
STRIP_BYTES = 1 << 18
ISOTROPIC = math.sqrt(2)
"""Spacings within this ratio count as equal: halving the finer one would not bring them closer."""
Z_RULES = ("none", "2", "auto")

Array = np.ndarray[Any, Any]
Pyramid = bool | int | Sequence[Any]
Step = tuple[int, int, int]
"""Factors along Z, Y, X between a level and the level before it."""


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """Which lower levels an image gets.

    Attributes
    ----------
    levels
        False for none; True for halving until both sides are at most `smallest`; a number of lower
        levels; or their factors against full size: numbers for Y and X, such as (2, 4, 8), or
        (z, y, x) for each level.
    z
        "none" keeps Z; "2" halves it in every level; "auto" halves, in each level, the axes with
        the finest spacing, until the spacings are nearly equal, and then all. Without pixel sizes
        "auto" keeps Z.
    smallest
        See `levels`.
    """

    levels: Pyramid = False
    z: str = "none"
    smallest: int = SMALLEST

    def __post_init__(self) -> None:
        if self.z not in Z_RULES:
            raise BadArgument(f"downsample_z={self.z!r}: use one of {', '.join(Z_RULES)}.")
        small = self.smallest
        if isinstance(small, bool) or not isinstance(small, (int, np.integer)) or small < 1:
            raise BadArgument(f"smallest={small!r}: give a number of pixels, 1 or more.")
        if self._has_factors and self.z != "none":
            raise BadArgument(
                f"downsample_z={self.z!r}: the factors of each level are given already. Leave out "
                "one of them."
            )

    @property
    def _has_factors(self) -> bool:
        return not isinstance(self.levels, (int, np.integer))

    @property
    def is_default(self) -> bool:
        """Whether levels are halved in the usual way, so that levels of a source may be copied."""
        return self.levels is True and self.z == "none" and self.smallest == SMALLEST

    @property
    def may_reduce_z(self) -> bool:
        """Whether a level may have fewer slices than the one before."""
        if self._has_factors and np.iterable(self.levels):
            return any(np.iterable(factor) for factor in self.levels)
        return self.levels is not False and self.z != "none"

    def steps(self, shape: Sequence[int], size: PixelSize) -> list[Step]:
        """Return the factors of each lower level relative to the level before it.

        Parameters
        ----------
        shape
            Z, Y, X at full size.
        size
            Size of a pixel at full size, for "auto".

        Raises
        ------
        BadArgument
            The factors are not integers, or not multiples of those before.
        """
        depth, height, width = (int(n) for n in shape)
        if self._has_factors:
            return [_limited(step, depth) for step in _given_steps(self.levels)]
        count = None if self.levels is True else len(factors_of(self.levels, height, width))
        steps: list[Step] = []
        spacing = _spacing(size)
        while self._continues(len(steps), count, max(height, width)):
            step = _limited(self._next(spacing, depth), depth)
            steps.append(step)
            depth, height, width = (
                -(-n // f) for n, f in zip((depth, height, width), step, strict=True)
            )
            if spacing is not None:
                spacing = (spacing[0] * step[0], spacing[1] * step[1])
        return steps

    def _continues(self, done: int, count: int | None, side: int) -> bool:
        return done < count if count is not None else side > self.smallest

    def _next(self, spacing: tuple[float, float] | None, depth: int) -> Step:
        if self.z == "2":
            return 2, 2, 2
        if self.z == "none" or spacing is None or depth == 1:
            return 1, 2, 2
        along_z, in_plane = spacing
        finest = ISOTROPIC * min(spacing)
        return (2 if along_z < finest else 1, *((2, 2) if in_plane < finest else (1, 1)))


def level_plan(pyramid: Pyramid, downsample_z: Any, smallest: int | None) -> LevelPlan:
    """Return the plan for the arguments of a writer; None is the default.

    Raises
    ------
    BadArgument
        An argument is not valid, or lower levels were excluded and described at once.
    """
    wanted = {"downsample_z": downsample_z, "smallest": smallest}
    if pyramid is False and (given := [name for name, v in wanted.items() if v is not None]):
        raise BadArgument(
            f"{given[0]}={wanted[given[0]]!r} describes lower levels, and none are written: give "
            "pyramid=True, a number of levels, or their factors."
        )
    z = "none" if downsample_z is None else str(downsample_z)
    return LevelPlan(pyramid, z, SMALLEST if smallest is None else smallest)


def _limited(step: Step, depth: int) -> Step:
    """Return the step of an image with one slice only without a factor along Z."""
    return (1, *step[1:]) if depth == 1 else step


def _spacing(size: PixelSize) -> tuple[float, float] | None:
    """Return the spacing along Z and in the plane, in metres; None if unknown."""
    if size.x is None or size.z is None:
        return None
    if size.x.unit not in LENGTHS or size.z.unit not in LENGTHS:
        return (size.z.value, size.x.value) if size.x.unit == size.z.unit else None
    return size.z.value * LENGTHS[size.z.unit], size.x.value * LENGTHS[size.x.unit]


def _given_steps(levels: Any) -> list[Step]:
    steps: list[Step] = []
    before: Step = (1, 1, 1)
    for factor in levels if np.iterable(levels) and not isinstance(levels, str) else [None]:
        given = tuple(factor) if np.iterable(factor) else (1, factor, factor)
        whole = len(given) == 3 and all(
            isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in given
        )
        ratios = list(zip(given, before, strict=True)) if whole else []
        fits = all(n >= b and n % b == 0 for n, b in ratios) and any(n > b for n, b in ratios)
        if not fits:
            raise BadArgument(
                f"pyramid={levels!r}: give True, False, a number of lower levels, or their "
                "factors against full size, each a multiple of the one before it and above 1, "
                "such as [2, 4, 8], or [(1, 2, 2), (2, 4, 4)] along Z, Y, X."
            )
        z, y, x = (int(n) // b for n, b in ratios)
        steps.append((z, y, x))
        before = (int(given[0]), int(given[1]), int(given[2]))
    return steps


def factors_of(pyramid: Pyramid, height: int, width: int) -> list[int]:
    """Return the factor of each lower level relative to the level before it, along Y and X.

    Parameters
    ----------
    pyramid
        As `LevelPlan.levels`, with the same factor along Y and X, and none along Z.

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
    return [y for _, y, _ in _given_steps(pyramid)]


def steps_between(levels: Sequence[Level]) -> list[Step]:
    """Return the factors of each lower level relative to the level before it, from their sizes.

    Raises
    ------
    Unsupported
        A level is not the one before it reduced by integer factors.
    """
    steps: list[Step] = []
    for before, after in pairwise(levels):
        (depth, *old), (new_depth, *new) = before.shape[2:], after.shape[2:]
        both = _factor(old, new)
        y, x = (both, both) if both else (_factor(old[:1], new[:1]), _factor(old[1:], new[1:]))
        z = y if y and -(-depth // y) == new_depth else _factor([depth], [new_depth])
        z = 1 if depth == new_depth else z
        if not (x and y and z):
            raise Unsupported(
                f"a level of {tuple(new)} is not {tuple(old)} reduced by an integer factor"
            )
        steps.append((z, y, x))
    return steps


def steps_of(spec: ImageSpec) -> Sequence[Step]:
    """Return the factors of the lower levels of a new image: the planned ones, if it has them.

    Raises
    ------
    Unsupported
        See `steps_between`.
    """
    return spec.steps or steps_between(spec.image.levels)


def _factor(old: Sequence[int], new: Sequence[int]) -> int:
    """Return the smallest factor that reduces all sizes as given; 0 if there is none."""
    fitting = (
        factor
        for factor in range(1, max(old) + 1)
        if all(-(-a // factor) == b for a, b in zip(old, new, strict=True))
    )
    return next(fitting, 0)


def _as_step(factor: int | Step) -> Step:
    return factor if isinstance(factor, tuple) else (1, factor, factor)


def plan_levels(shape: Shape5, chunk: Shape5, steps: Sequence[int | Step]) -> tuple[Level, ...]:
    """Return full size and the lower levels.

    Parameters
    ----------
    shape, chunk
        Size and chunk at full size, along T, C, Z, Y, X. The chunk is used on every level.
    steps
        Factor of each lower level relative to the level before it, along Y and X, or Z, Y, X.

    Raises
    ------
    BadArgument
        The sides of the chunk are not multiples of a factor, so windows would extend over two
        chunks.
    """
    levels = [Level(shape, chunk)]
    for factor in steps:
        t, c, *sizes = levels[-1].shape
        step = _as_step(factor)
        if any(n < size and n % f for n, size, f in zip(chunk[2:], sizes, step, strict=True)):
            raise BadArgument(
                f"a pyramid with the factors {step} along Z, Y, X needs chunks whose sides are "
                f"multiples of them; they are {' x '.join(map(str, chunk[2:]))}."
            )
        z, y, x = (-(-n // f) for n, f in zip(sizes, step, strict=True))
        levels.append(Level((t, c, z, y, x), chunk))
    return tuple(levels)


def reduce_block(block: Array, factor: int | Step, method: str) -> Array:
    """Reduce a block along its last two or three axes.

    Parameters
    ----------
    block
        Pixels with Y and X last; with Z before them, if it is reduced.
    factor
        Side of the window that becomes one pixel, or its sides along Z, Y, X.
    method
        "mean"; "nearest", the window's first pixel; or "mode", its most frequent value (the
        smallest, if several are equally frequent), for label images.
    """
    step = _as_step(factor)
    if block.ndim < 3:
        flat: Array = reduce_block(block[None], step, method)[0]
        return flat
    if method == "nearest":
        z, y, x = step
        return block[..., ::z, ::y, ::x]
    if method == "mode":
        return _mode(block, step)
    if block.dtype.kind in "iu":
        return _integer_mean(block, step)
    # In double precision: the sum of four large float32 may be infinite.
    wide = np.result_type(block.dtype, np.float64)
    # NaN and infinities are ordinary values here.
    with np.errstate(invalid="ignore", over="ignore"):
        total, counts = _sums(block, step, wide)
        return np.asarray(total / counts, dtype=block.dtype)


def _integer_mean(block: Array, step: Step) -> Array:
    even = block.shape[-1] % 2 == 0 and block.shape[-2] % 2 == 0
    if step == (1, 2, 2) and even and block.dtype in (np.uint8, np.uint16) and block.size:
        return _mean_of_pairs(block)
    if block.dtype.itemsize == 8:
        return _long_mean(block, step)
    total, counts = _sums(block, step, np.dtype(np.int64))
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


def _long_mean(block: Array, step: Step) -> Array:
    """Mean of 64-bit integers, whose sum would overflow: quotients and remainders separately."""
    _, counts = _sums(np.zeros(block.shape[-3:], np.uint8), step, np.dtype(np.uint8))
    whole = np.zeros((*block.shape[:-3], *counts.shape), block.dtype)
    rest = np.zeros_like(whole)
    divisor = counts.astype(block.dtype)
    for part, box in _windows(block, step):
        inside = divisor[box]
        whole[(..., *box)] += part // inside
        rest[(..., *box)] += part % inside
    return np.asarray(whole + (rest + divisor // 2) // divisor, dtype=block.dtype)


Box = tuple[slice, slice, slice]


def _windows(block: Array, step: Step) -> Iterator[tuple[Array, Box]]:
    """Yield, for each position in a window, its pixels, and the box of windows that have it."""
    for k, i, j in product(*map(range, step)):
        part = block[..., k :: step[0], i :: step[1], j :: step[2]]
        depth, rows, columns = part.shape[-3:]
        yield part, (slice(depth), slice(rows), slice(columns))


def _reduced(block: Array, step: Step) -> tuple[int, ...]:
    return tuple(-(-n // f) for n, f in zip(block.shape[-3:], step, strict=True))


def _sums(block: Array, step: Step, wide: np.dtype[Any]) -> tuple[Array, Array]:
    """Return the sum over each window in a wider dtype, and the number of pixels in it."""
    shape = _reduced(block, step)
    total = np.zeros((*block.shape[:-3], *shape), wide)
    counts = np.zeros(shape, np.int64)
    for part, box in _windows(block, step):
        total[(..., *box)] += part
        counts[box] += 1
    return total, counts


def _mode(block: Array, step: Step) -> Array:
    """Most frequent value of each window; the smallest if several are equally frequent."""
    first = block[..., :: step[0], :: step[1], :: step[2]]
    best = first.copy()
    frequency = np.zeros(first.shape, np.int32)
    parts = list(_windows(block, step))
    for candidate, box in parts:
        votes = np.zeros(candidate.shape, np.int32)
        for other, theirs in parts:
            d, r, c = (slice(min(a.stop, b.stop)) for a, b in zip(box, theirs, strict=True))
            same = other[..., d, r, c] == candidate[..., d, r, c]
            votes[..., d, r, c] += same
        known, seen = best[(..., *box)], frequency[(..., *box)]
        better = (votes > seen) | ((votes == seen) & (candidate < known))
        known[better] = candidate[better]
        seen[better] = votes[better]
    return best
