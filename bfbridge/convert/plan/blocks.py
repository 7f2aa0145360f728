"""The division of an image into blocks, along the chunks of the source, within a memory limit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

__all__ = ["BlockGrid", "plan_grid"]

SIDE = 1024
SMALL = 4 << 20


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """A grid of blocks over an image; axes Y, X, Z, C, T.

    Attributes
    ----------
    shape
        Shape of the image.
    step
        Shape of a block that is not at the edge.
    """

    shape: tuple[int, ...]
    step: tuple[int, ...]

    def __len__(self) -> int:
        return prod(-(-n // s) for n, s in zip(self.shape, self.step, strict=True))

    def __iter__(self) -> Iterator[tuple[slice, ...]]:
        """Keys of the blocks, x fastest, then y, z, c, t: the order in which files are stored."""
        y, x, z, c, t = (range(0, n, s) for n, s in zip(self.shape, self.step, strict=True))
        for t0, c0, z0, y0, x0 in itertools.product(t, c, z, y, x):
            starts = (y0, x0, z0, c0, t0)
            yield tuple(
                slice(a, min(a + s, n))
                for a, s, n in zip(starts, self.step, self.shape, strict=True)
            )


def plan_grid(
    shape: Sequence[int],
    source: Sequence[int],
    target: Sequence[int],
    itemsize: int,
    samples: int,
    limit: int,
) -> BlockGrid:
    """Choose the blocks in which an image is read and written.

    A block is a whole number of the source's chunks, so that nothing is decoded twice, and covers
    the target's chunk, so that few chunks are incomplete at the same time. If both are not
    possible within the limit, the chunks of the source have priority: incomplete chunks of the
    target are kept until they are complete. Only a source chunk above the limit is read in parts.

    Parameters
    ----------
    shape, source, target
        Sizes of the image, of the source's chunk and of the target's, along Y, X, Z, C, T.
    itemsize, samples
        Bytes of a value, and samples of a pixel, which are always in one block.
    limit
        Most bytes of a block.
    """
    chunk = [min(a, n) for a, n in zip(source, shape, strict=True)]
    chunk[3] = -(-chunk[3] // samples) * samples
    step = list(chunk)
    least = [max(SIDE, target[0]), max(SIDE, target[1]), *target[2:]]

    def fits(sizes: Sequence[int], within: int = limit) -> bool:
        return prod(sizes) * itemsize <= within

    def grow(axis: int, wanted: int, within: int = limit) -> None:
        """Take as many chunks along an axis as are wanted and fit."""
        unit = chunk[axis]
        count = min(-(-wanted // unit), -(-shape[axis] // unit))
        bytes_each = prod(step) * itemsize
        count = max(1, min(count, within // max(1, bytes_each)))
        step[axis] = min(shape[axis], unit * count)

    _shrink(step, limit // itemsize, samples)
    if fits(chunk):
        for axis in (1, 0, 2, 3, 4):
            grow(axis, least[axis])
        for axis in (2, 3, 4):
            # Many small planes go together: a block costs more than its pixels otherwise.
            if step[:2] == list(shape[:2]) and fits(step, SMALL // 2):
                unit = chunk[axis]
                chunk[axis] = step[axis]
                grow(axis, shape[axis], SMALL)
                chunk[axis] = unit
    return BlockGrid(tuple(shape), tuple(step))


def _shrink(step: list[int], values: int, samples: int) -> None:
    """Cut a block that is too large: along T, C and Z first, then to bands, then to tiles."""
    for axis, least in ((4, 1), (3, samples), (2, 1), (0, 256), (1, SIDE), (0, 1)):
        others = prod(step) // step[axis]
        if prod(step) > values:
            step[axis] = max(min(least, step[axis]), min(step[axis], values // others))
    step[3] = max(samples, step[3] // samples * samples)
