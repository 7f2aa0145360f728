"""Chunks: division of a level, position of each chunk, and encoding.

Used by the engine and by every backend. Coordinates are along T, C, Z, Y, X.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

__all__ = [
    "AXES",
    "ChunkGrid",
    "ChunkPart",
    "Shape5",
    "StoredAs",
    "StoredRanges",
    "as_chunks",
    "chunk_parts",
    "chunk_ranges",
]

AXES = "TCZYX"
Shape5 = tuple[int, int, int, int, int]
ChunkPart = tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """Regular grid of chunks that covers a level; chunks at the end of an axis are cropped.

    Attributes
    ----------
    shape
        Sizes of the level along T, C, Z, Y, X.
    chunk
        Sizes of a chunk along the same axes, each 1 or more.

    Notes
    -----
    Methods take `index`, the grid position of a chunk along T, C, Z, Y, X, or a box of pixels from
    `start` to before `stop` along the same axes.
    """

    shape: Shape5
    chunk: Shape5

    @property
    def counts(self) -> Shape5:
        """Number of chunks along each axis."""
        (t, c, z, y, x), (dt, dc, dz, dy, dx) = self.shape, self.chunk
        return -(-t // dt), -(-c // dc), -(-z // dz), -(-y // dy), -(-x // dx)

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __contains__(self, index: object) -> bool:
        return (
            isinstance(index, tuple)
            and len(index) == 5
            and all(map(operator.lt, index, self.counts))
            and min(index) >= 0
        )

    def __iter__(self) -> Iterator[Shape5]:
        """Yield the grid position of every chunk, X fastest."""
        return itertools.product(*map(range, self.counts))  # type: ignore[return-value]

    def origin(self, index: Shape5) -> Shape5:
        """Return the position of the first pixel of the chunk at a grid position."""
        (i, j, k, m, n), (dt, dc, dz, dy, dx) = index, self.chunk
        return i * dt, j * dc, k * dz, m * dy, n * dx

    def block_shape(self, index: Shape5) -> Shape5:
        """Return the shape of the chunk at a grid position, cropped at the level's end."""
        t, c, z, y, x = map(min, self.chunk, map(operator.sub, self.shape, self.origin(index)))
        return t, c, z, y, x

    def box(self, index: Shape5) -> tuple[Shape5, Shape5]:
        """Return (start, stop) of the chunk at a grid position, cropped at the level's end."""
        start = self.origin(index)
        t, c, z, y, x = map(min, map(operator.add, start, self.chunk), self.shape)
        return start, (t, c, z, y, x)

    def slices(self, index: Shape5) -> tuple[slice, ...]:
        """Return `box` as one slice for each axis."""
        return tuple(map(slice, *self.box(index)))

    def number(self, index: Shape5) -> int:
        """Return the number of a chunk in the order of iteration."""
        number = 0
        for position, count in zip(index, self.counts, strict=True):
            number = number * count + position
        return number

    def index_at(self, position: Shape5) -> Shape5:
        """Return the grid position of the chunk that contains the pixel at `position`."""
        t, c, z, y, x = map(operator.floordiv, position, self.chunk)
        return t, c, z, y, x

    def unit(self, pixels: int, outer: Shape5 | None = None) -> Shape5:
        """Return a box of neighbouring chunks for one call, X first.

        Parameters
        ----------
        pixels
            Its largest number of pixels; one chunk may have more.
        outer
            Shard that it must not extend beyond; None for the whole level.
        """
        unit = list(self.chunk)
        for axis in reversed(range(5)):
            most = -(-(outer or self.shape)[axis] // unit[axis])
            unit[axis] *= max(1, min(pixels // math.prod(unit), most))
        t, c, z, y, x = unit
        return t, c, z, y, x

    def overlapping(self, start: Shape5, stop: Shape5) -> Iterator[Shape5]:
        """Yield the grid positions of the chunks that a box overlaps, X fastest."""
        return itertools.product(*chunk_ranges(start, stop, self.chunk))  # type: ignore[return-value]

    def parts(self, start: Shape5, stop: Shape5) -> Iterator[ChunkPart]:
        """Yield the part of a box in each overlapping chunk; see `chunk_parts`."""
        return chunk_parts(start, stop, self.chunk)


def chunk_ranges(
    start: Sequence[int], stop: Sequence[int], chunk: Sequence[int]
) -> tuple[range, ...]:
    """Return for each axis the grid positions of the chunks that a box overlaps.

    Parameters
    ----------
    start, stop
        The box, of any number of axes.
    chunk
        Sizes of a chunk along the same axes.
    """
    return tuple(
        range(a // size, -(-b // size)) for a, b, size in zip(start, stop, chunk, strict=True)
    )


def chunk_parts(
    start: Sequence[int], stop: Sequence[int], chunk: Sequence[int]
) -> Iterator[ChunkPart]:
    """Yield the part of a box in each overlapping chunk, the last axis fastest.

    Parameters
    ----------
    start, stop
        The box, of any number of axes.
    chunk
        Sizes of a chunk along the same axes.

    Yields
    ------
    (index, inside, target)
        Grid position of the chunk, position of the part in the chunk, and its position in the box.
    """
    axes = []
    for numbers, size, a, b in zip(
        chunk_ranges(start, stop, chunk), chunk, start, stop, strict=True
    ):
        parts = []
        for i in numbers:
            origin = i * size
            low, high = max(a, origin), min(b, origin + size)
            parts.append((i, slice(low - origin, high - origin), slice(low - a, high - a)))
        axes.append(parts)
    for combined in itertools.product(*axes):
        yield tuple(zip(*combined, strict=True)) if combined else ((), (), ())


def as_chunks(array: np.ndarray[Any, Any], chunk: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return a view with two axes for each axis of an array, those of the grid before the others.

    Parameters
    ----------
    array
        Any strides; its sizes are multiples of those of the chunk.
    chunk
        Sizes of a chunk along the axes of `array`.
    """
    counts = [size // n for size, n in zip(array.shape, chunk, strict=True)]
    steps = [stride * n for stride, n in zip(array.strides, chunk, strict=True)]
    return as_strided(array, (*counts, *chunk), (*steps, *array.strides))


@dataclass(frozen=True, slots=True)
class StoredAs:
    """Encoding of the chunks of one level; equal encodings can be exchanged byte for byte.

    Attributes
    ----------
    container
        Container of the chunks: "tiff" or "zarr".
    details
        Everything that a decoder needs besides the bytes: compression, predictor, tables, ...
    """

    container: str
    details: tuple[tuple[str, Any], ...]

    def __getitem__(self, name: str) -> Any:
        return dict(self.details)[name]


@dataclass(frozen=True, slots=True)
class StoredRanges:
    """Byte ranges of the stored chunks of one level, for programs that fetch them by range.

    Attributes
    ----------
    chunk
        Shape of a stored chunk along T, C, Z, Y, X; chunks at the edge are stored in full.
    dtype
        Dtype as stored, with its byte order.
    compression
        "none", "deflate" (with zlib's header), "zstd", "lzw" or "packbits" (as in TIFF).
    predictor
        1 for none; 2: each sample is the difference to the same sample of the pixel before it.
    interleaved
        Whether the samples of a pixel are adjacent in a chunk.
    locate
        Returns the file (path or URL), offset and length of the chunk at a grid position; None for
        a chunk of zeros that is not stored.
    """

    chunk: Shape5
    dtype: np.dtype[Any]
    compression: str
    predictor: int
    interleaved: bool
    locate: Callable[[Shape5], tuple[str, int, int] | None]
