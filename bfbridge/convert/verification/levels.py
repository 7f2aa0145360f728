"""Verification of lower levels: each is computed from the next higher resolution and compared.

The code is independent of `bfbridge.engine.pyramid`, which writes them: windows are cut by
reshaping, integers are summed exactly and floats in extended precision, and the mode is computed
from sorted windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice, product
from math import prod
from typing import Any

import numpy as np

from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.blocks import BlockGrid
from bfbridge.engine.pyramid import Step
from bfbridge.engine.selection import trim
from bfbridge.engine.workers import run
from bfbridge.errors import ReadFailed
from bfbridge.views import ImageView

__all__ = ["check_levels", "difference", "smaller"]

Array = np.ndarray[Any, Any]
SIDE = 2048


def check_levels(
    source: ImageView | None,
    made: ImageView,
    options: ConvertOptions,
    where: str,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Compare the lower levels of an image with their expected pixels.

    Parameters
    ----------
    source
        The image whose levels were copied unchanged; None where they were computed from level 0.
    made
        The new image. Its level 0 has been compared already.
    options
        The conversion options.
    where
        The new file and image, for messages.
    share
        (number, how many): every how many-th block of each level is compared, from this number.

    Raises
    ------
    ReadFailed
        A level is missing, has another size, or has other pixels.
    """
    levels = list(made.levels)
    if source is not None:
        _check_sizes([level.shape for level in source.levels], levels, where)
        for number, (old, new) in enumerate(zip(source.levels, levels, strict=True)):
            if number:
                message = f"{where}, level {number}: the pixels are not the source's"
                grid = BlockGrid(tuple(new.sizes.values()), _step(new, SIDE))
                run(
                    (
                        partial(_compare, old, new, key, message)
                        for key in islice(grid, share[0], None, share[1])
                    ),
                    options.workers,
                )
        return
    height, width, depth, *others = made.sizes.values()
    steps = options.levels.steps((depth, height, width), made.physical_pixel_size)
    shapes = [made.shape]
    for z, y, x in steps:
        depth, height, width = -(-depth // z), -(-height // y), -(-width // x)
        shapes.append(trim((height, width, depth, *others)))
    if not steps:
        # JPEG 2000 and similar codecs compute the resolutions themselves.
        return
    _check_sizes(shapes, levels, where)
    method = "nearest" if made.is_mask and options.downsample == "mean" else options.downsample
    for number, step in enumerate(steps, 1):
        below, here = levels[number - 1], levels[number]
        message = (
            f"{where}, level {number}: the pixels are not those of level {number - 1} made smaller "
            f"({method})"
        )
        grid = BlockGrid(tuple(here.sizes.values()), _step(here, max(1, SIDE // max(step))))
        run(
            (
                partial(_check_block, below, here, step, method, key, message)
                for key in islice(grid, share[0], None, share[1])
            ),
            options.workers,
        )


def _check_sizes(
    wanted: Sequence[tuple[int, ...]], levels: Sequence[ImageView], where: str
) -> None:
    found = [level.shape for level in levels]
    if list(wanted) != found:
        raise ReadFailed(
            f"{where}: its levels are {found} (Y, X, ...), and should be {list(wanted)}."
        )


def _step(level: ImageView, side: int) -> tuple[int, ...]:
    return side, side, 1, level.samples_per_pixel, 1


def _read(view: ImageView, key: tuple[slice, ...]) -> Array:
    y, x, z, c, t = key
    found: Array = view.read(X=x, Y=y, Z=z, C=c, T=t, keepdims=True)
    return found


def _compare(old: ImageView, new: ImageView, key: tuple[slice, ...], message: str) -> None:
    wanted, found = _read(old, key), _read(new, key)
    if not np.array_equal(wanted, found, equal_nan=wanted.dtype.kind in "fc"):
        raise ReadFailed(difference(wanted, found, key, message))


def _check_block(
    below: ImageView, here: ImageView, step: Step, method: str, key: tuple[slice, ...], message: str
) -> None:
    y, x, z, *others = key
    wide = (
        *(
            slice(part.start * factor, min(part.stop * factor, below.sizes[axis]))
            for part, factor, axis in zip(
                (y, x, z), (step[1], step[2], step[0]), "YXZ", strict=True
            )
        ),
        *others,
    )
    wanted, tolerance = smaller(_read(below, wide), step, method)
    found = _read(here, key)
    if not _are_close(wanted, found, tolerance):
        raise ReadFailed(difference(wanted, found, key, message))


def _are_close(wanted: Array, found: Array, tolerance: Array | None) -> bool:
    if tolerance is None:
        return np.array_equal(wanted, found, equal_nan=wanted.dtype.kind in "fc")
    with np.errstate(invalid="ignore", over="ignore"):
        close = np.abs(wanted - found) <= tolerance
        # Infinities and NaN have no distance.
        close |= (wanted == found) | ((wanted != wanted) & (found != found))  # noqa: PLR0124
    return bool(close.all())


def smaller(values: Array, factor: int | Step, method: str) -> tuple[Array, Array | None]:
    """Make pixels smaller along Y and X, and Z.

    Parameters
    ----------
    values
        Axes Y, X, then Z and any others.
    factor
        Side of the window of one new pixel along Y and X, or its sides along Z, Y, X; windows at
        the far edges are smaller.
    method
        "mean", "nearest" or "mode".

    Returns
    -------
    (smaller, tolerance)
        The pixels, and for means of floats by how much each may differ, as sums of floats depend
        on their order; else None.
    """
    z, y, x = factor if isinstance(factor, tuple) else (1, factor, factor)
    if values.ndim == 2:
        made, tolerance = smaller(values[:, :, None], (1, y, x), method)
        return made[:, :, 0], None if tolerance is None else tolerance[:, :, 0]
    step, rest = (y, x, z), values.shape[3:]
    shape = (*(-(-n // f) for n, f in zip(values.shape, step, strict=False)), *rest)
    made = np.empty(shape, values.dtype)
    inexact = method == "mean" and values.dtype.kind in "fc"
    tolerance = np.zeros(shape, np.float64) if inexact else None
    cuts = (_cuts(n, f) for n, f in zip(values.shape, step, strict=False))
    for chosen in product(*cuts):
        part = values[tuple(cut for cut, _ in chosen)]
        sides = [side for _, side in chosen]
        count = [n // side for n, side in zip(part.shape, sides, strict=False)]
        pairs = [n for pair in zip(count, sides, strict=True) for n in pair]
        # Rows and columns of windows, the pixels of a window, then slices of windows.
        order = (0, 2, 1, 3, 5, 4, *range(6, 6 + len(rest)))
        windows = (
            part.reshape(*pairs, *rest)
            .transpose(order)
            .reshape(count[0], count[1], prod(sides), count[2], *rest)
        )
        place = tuple(
            slice(cut.start // f, cut.start // f + n)
            for (cut, _), f, n in zip(chosen, step, count, strict=True)
        )
        made[place] = METHODS[method](windows)
        if tolerance is not None:
            tolerance[place] = _rounding(windows)
    return made, tolerance


def _cuts(length: int, factor: int) -> Iterator[tuple[slice, int]]:
    """Yield the part of an axis with whole windows, then the rest, with their windows."""
    whole = length // factor * factor
    if whole:
        yield slice(0, whole), factor
    if whole < length:
        yield slice(whole, length), length - whole


def _mean(windows: Array) -> Array:
    count = windows.shape[2]
    if windows.dtype.kind in "iu":
        # Sums of 64-bit integers are beyond every type of numpy's.
        exact: Any = object if windows.dtype.itemsize == 8 else np.int64
        total = windows.astype(exact).sum(axis=2)
        mean: Array = (2 * total + count) // (2 * count)
        return mean.astype(windows.dtype)
    extended = np.clongdouble if windows.dtype.kind == "c" else np.longdouble
    with np.errstate(invalid="ignore", over="ignore"):
        mean = windows.astype(extended).sum(axis=2) / count
        return mean.astype(windows.dtype)


def _rounding(windows: Array) -> Array:
    """Return the tolerance of a mean: a few units in the last place of the largest partial sum."""
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(windows.astype(np.complex128 if windows.dtype.kind == "c" else np.float64))
        final = np.finfo(windows.dtype).eps * size.mean(axis=2)
        sums: Array = final + windows.shape[2] * np.finfo(np.float64).eps * size.sum(axis=2)
    return np.nan_to_num(sums, nan=0.0, posinf=0.0)


def _nearest(windows: Array) -> Array:
    return windows[:, :, 0]


def _mode(windows: Array) -> Array:
    """Most frequent value of each window; of equally frequent ones the smallest."""
    ordered = np.sort(windows, axis=2)
    place = np.arange(ordered.shape[2]).reshape(1, 1, -1, *[1] * (ordered.ndim - 3))
    begins = np.ones(ordered.shape, bool)
    begins[:, :, 1:] = ordered[:, :, 1:] != ordered[:, :, :-1]
    seen = place - np.maximum.accumulate(np.where(begins, place, 0), axis=2)
    # argmax returns the first of the longest runs, which is that of the smallest value.
    best = np.expand_dims(np.argmax(seen, axis=2), 2)
    found: Array = np.take_along_axis(ordered, best, axis=2)[:, :, 0]
    return found


METHODS = {"mean": _mean, "nearest": _nearest, "mode": _mode}


def difference(wanted: Array, found: Array, key: tuple[slice, ...], message: str) -> str:
    """Describe where two blocks differ first, in how many values, and by how much at most.

    Parameters
    ----------
    wanted, found
        The blocks; axes Y, X, Z, C, T.
    key
        Their place in the image.
    message
        The fault, without a full stop.
    """
    differ = wanted != found
    first = np.argwhere(differ)[0] + [cut.start for cut in key]
    at = ", ".join(f"{axis.lower()} {n}" for axis, n in zip("YXZCT", first, strict=True))
    wide = np.complex128 if wanted.dtype.kind == "c" else np.float64
    most = np.max(np.abs(wanted.astype(wide) - found.astype(wide)))
    return (
        f"{message}. The first that differs is {at}; {np.count_nonzero(differ):,} of "
        f"{differ.size:,} values of this block differ, by {most:g} at most. This is expected "
        "with a lossy compression; otherwise do not use this file."
    )
