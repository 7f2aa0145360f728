"""Lower levels of a store that several processes write: tasks, each of which computes a part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from bfbridge.convert.execute.tasks import raised
from bfbridge.convert.locations import Storage
from bfbridge.engine.workers import run
from bfbridge.files.in_place import compute_level, level_units, place_of

__all__ = ["Runner", "in_threads", "run_levels"]

LEVEL_PIXELS = 16 << 20
"""Pixels of a lower level that one task computes."""

Runner = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterable[tuple[int, Any]]]
"""Calls a function with each of some arguments; yields (number, result or exception)."""


def run_levels(
    place: str,
    storage: Storage,
    runner: Runner,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute all lower levels of a store that several processes write.

    Each level needs all of the level before.

    Parameters
    ----------
    place, storage
        The store, as every worker sees it, and the options of its storage.
    runner
        `bfbridge.convert.execute.tasks.run_tasks` of a cluster, or `in_threads`.
    progress
        Called with (pixels of lower levels done, pixels in all).
    """
    units = level_units(place_of(place, storage))
    total = sum(prod(shape) for levels in units for shape, _ in levels[1:])
    done = 0
    for level in range(1, max(map(len, units), default=0)):
        arguments = (
            (place, storage, image, level, box)
            for image, levels in enumerate(units)
            if level < len(levels)
            for box in _boxes(*levels[level])
        )
        for _, pixels in runner(_compute_level, arguments):
            done += raised(pixels)
            if progress is not None:
                progress(done, total)


def in_threads(
    workers: int, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
) -> list[tuple[int, Any]]:
    """Call a function in the threads of this process; the first error is raised."""
    results: list[tuple[int, Any]] = []

    def call(number: int, given: tuple[Any, ...]) -> None:
        results.append((number, function(*given)))

    run((partial(call, *numbered) for numbered in enumerate(arguments)), workers)
    return results


def _boxes(shape: Sequence[int], unit: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the parts of a level that tasks compute: rows of units."""
    width = shape[4]
    step = [*unit[:4], min(width, unit[4] * max(1, LEVEL_PIXELS // max(1, prod(unit))))]
    counts = [-(-n // s) for n, s in zip(shape, step, strict=True)]
    for index in np.ndindex(*counts):
        yield tuple(
            slice(i * s, min((i + 1) * s, n)) for i, s, n in zip(index, step, shape, strict=True)
        )


def _compute_level(
    place: str,
    storage: Storage,
    image: int,
    level: int,
    box: tuple[slice, ...],
    again: bool = False,
) -> int:
    """Compute a part of a lower level, on a worker or in a thread; return its pixels."""
    del again
    compute_level(place_of(place, storage), image, level, box)
    return prod(cut.stop - cut.start for cut in box)
