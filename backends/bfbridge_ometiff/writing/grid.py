"""The segments of one level of an image being written: where each is, and the tags that say so."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, Final

import numpy as np

from bfbridge.backend import ChunkGrid, Image, PixelSize, Quantity, Shape5
from bfbridge.errors import BadArgument
from bfbridge_ometiff.structure.directories import BYTE_ORDER, UNDEFINED, Tag
from bfbridge_ometiff.structure.layout import Layout
from bfbridge_ometiff.writing.copying import Copied
from bfbridge_ometiff.writing.encode import Encoding

__all__ = ["Grid", "grid_of"]

_FORMATS: Final = {"u": 1, "i": 2, "f": 3, "c": 6, "b": 1}
_SOFTWARE: Final = "bfbridge"
# Centimetres in one of each unit of length that OME has and a resolution can be told in.
_CENTIMETRES: Final = {
    "Å": 1e-8,
    "pm": 1e-10,
    "nm": 1e-7,
    "µm": 1e-4,
    "μm": 1e-4,
    "mm": 0.1,
    "cm": 1.0,
    "dm": 10.0,
    "m": 100.0,
    "in": 2.54,
}


class Grid:
    """One level's segments. Chunk (t, c, z, y, x) is segment number t, c, z, y, x in that order.

    Attributes
    ----------
    chunks
        The grid of the segments' pixels.
    offsets, counts
        Of each segment in the file; a count of 0 is one not yet written.
    planes
        Stored planes; the samples of a pixel share one.
    segments
        Of one plane.
    layout
        How a segment is stored, for reading it back.
    """

    def __init__(
        self, shape: Shape5, chunk: Shape5, samples: int, order: str, scale: tuple[float, float]
    ) -> None:
        self.chunks = ChunkGrid(shape, chunk)
        self.shape = shape
        self._chunk = chunk
        self._samples = samples
        self._order = order
        self._scale = scale
        self._blocks = self.chunks.counts
        self.tiled = chunk[3] % 16 == 0 and chunk[4] % 16 == 0
        total = prod(self._blocks)
        self.offsets = np.zeros(total, np.uint64)
        self.counts = np.zeros(total, np.uint64)
        self.planes = prod(self._blocks[:3])
        self.segments = self._blocks[3] * self._blocks[4]
        self.layout: Layout

    def number(self, index: Shape5) -> int:
        """Return the number of the segment at a grid position.

        Raises
        ------
        BadArgument
            It lies outside the grid.
        """
        if index not in self.chunks:
            raise BadArgument(
                f"chunk {index} lies outside the grid {self._blocks} (T, C, Z, Y, X)."
            )
        return self.chunks.number(index)

    def segment_shape(self, row: int) -> tuple[int, int, int]:
        """Return (Y, X, samples) of the segments in a row; only strips are cropped."""
        length, width = self._chunk[3:]
        if not self.tiled:
            length, width = min(length, self.shape[3] - row * length), self.shape[4]
        return length, width, self._samples

    def rows_at(self, number: int) -> int:
        """Return the rows that segment `number` holds."""
        return self.segment_shape(number // self._blocks[4] % self._blocks[3])[0]

    def planes_in_order(self) -> Iterator[int]:
        """Yield the plane numbers, (t, c, z) in that order, in the image's DimensionOrder."""
        t, c, z = self._blocks[:3]
        numbers = np.arange(t * c * z).reshape(t, c, z)
        # The first axis named varies fastest, which is numpy's last.
        axes = tuple("TCZ".index(axis) for axis in reversed(self._order[2:]))
        yield from numbers.transpose(axes).ravel().tolist()

    def tags(
        self, encoding: Encoding | Copied, size: PixelSize, plane: int, *, big: bool
    ) -> list[Tag]:
        """Return the directory entries of one plane."""
        length, width = self.shape[3:]
        part = slice(plane * self.segments, (plane + 1) * self.segments)
        samples = self._samples
        bits = encoding.dtype.itemsize * 8
        tags = [
            Tag.long(254, 0 if self._scale == (1, 1) else 1),
            Tag.long(256, width),
            Tag.long(257, length),
            Tag.short(258, *[bits] * samples),
            Tag.short(259, encoding.tag),
            Tag.short(262, encoding.photometric),
            Tag.short(277, samples),
            *self._resolution(size),
            Tag.short(284, 1),
            Tag.text(305, _SOFTWARE),
            Tag.short(339, *[_FORMATS[encoding.dtype.kind]] * samples),
        ]
        if encoding.predictor != 1:
            tags.append(Tag.short(317, encoding.predictor))
        extra = samples - (3 if samples > 2 else 1)
        if extra:
            tags.append(Tag.short(338, *[0] * extra))
        if encoding.photometric == 6:
            tags.append(Tag.rational(532, 0, 255, 128, 255, 128, 255))
        if encoding.subsampling:
            tags.append(Tag.short(530, *encoding.subsampling))
        if encoding.tables:
            tags.append(Tag(347, UNDEFINED, len(encoding.tables), encoding.tables))
        if self.tiled:
            tags += [Tag.long(322, self._chunk[4]), Tag.long(323, self._chunk[3])]
        else:
            tags.append(Tag.long(278, min(self._chunk[3], length)))
        places, sizes = (324, 325) if self.tiled else (273, 279)
        tags.append(Tag.places(places, self.offsets[part], big=big))
        tags.append(Tag.places(sizes, self.counts[part], big=False))
        return tags

    def _resolution(self, size: PixelSize) -> list[Tag]:
        """Return resolutions in pixels per centimetre, or without unit where none is known."""
        across = _per_centimetre(size.x, self._scale[1])
        down = _per_centimetre(size.y, self._scale[0])
        if across is None and down is None:
            return [Tag.rational(282, 1), Tag.rational(283, 1), Tag.short(296, 1)]
        across, down = across or down or 1.0, down or across or 1.0
        return [Tag.rational(282, across), Tag.rational(283, down), Tag.short(296, 3)]


def _per_centimetre(size: Quantity | None, scale: float) -> float | None:
    if size is None or size.unit not in _CENTIMETRES:
        return None
    length = size.value * _CENTIMETRES[size.unit] * scale
    return 1 / length if length > 0 else None


def grid_of(image: Image, number: int, encoding: Encoding | Copied, order: str) -> Grid:
    """Return the grid of one level of an image.

    Raises
    ------
    BadArgument
        TIFF has no segments of this shape.
    """
    level = image.levels[number]
    chunk = level.chunk
    tiled = chunk[3] % 16 == 0 and chunk[4] % 16 == 0
    strips = chunk[4] >= level.shape[4]
    if chunk[0] != 1 or chunk[1] != image.samples or chunk[2] != 1 or not (tiled or strips):
        raise BadArgument(
            f"level {number}: chunk {chunk} (T, C, Z, Y, X) is no TIFF tile; it needs 1, "
            f"{image.samples}, 1 and multiples of 16, or whole rows."
        )
    full = image.levels[0].shape
    scale = (full[3] / level.shape[3], full[4] / level.shape[4]) if number else (1.0, 1.0)
    grid = Grid(level.shape, chunk, image.samples, order, scale)
    grid.layout = _layout(grid, encoding, tiled=tiled)
    return grid


def _layout(grid: Grid, encoding: Encoding | Copied, *, tiled: bool) -> Layout:
    rows, columns, samples = grid.segment_shape(0)
    nowhere: np.ndarray[Any, Any] = np.zeros(0, np.uint64)
    return Layout(
        width=grid.shape[4],
        length=grid.shape[3],
        tile_width=columns,
        tile_length=rows,
        tiled=tiled,
        samples=samples,
        planar=False,
        dtype=encoding.dtype,
        byteorder=BYTE_ORDER,
        bits=encoding.dtype.itemsize * 8,
        compression=encoding.compression,
        predictor=encoding.predictor,
        photometric=encoding.photometric,
        inverted=False,
        reversed_bits=False,
        offsets=nowhere,
        counts=nowhere,
        tables=encoding.tables,
        extra_compression=0,
        compression_tag=encoding.tag,
        subsampling=encoding.subsampling,
    )
