"""The segments of one level of an image being written: their positions, and the tags of a plane."""

from __future__ import annotations

import operator
from math import prod
from typing import Any, Final

import numpy as np

from bfbridge.backend import ChunkGrid, Image, PixelSize, Quantity, Shape5
from bfbridge.errors import BadArgument
from bfbridge.ome.units import LENGTHS, length_symbol
from bfbridge.tiff.packing import BYTE_ORDER, TagValue
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.structure.segment_layout import SegmentLayout
from bfbridge_ometiff.writing.copying import Copied
from bfbridge_ometiff.writing.encode import Encoding

__all__ = ["SegmentGrid", "grid_of"]

Array = np.ndarray[Any, Any]

_FORMATS: Final = {"u": 1, "i": 2, "f": 3, "c": 6, "b": 1}
_SOFTWARE: Final = "bfbridge"
# Units of length that are converted to resolution tags; others are stored in OME-XML only.
_RESOLUTION_UNITS: Final = frozenset({"Å", "pm", "nm", "µm", "mm", "cm", "dm", "m", "in"})


class SegmentGrid:
    """The segments of one level. Their numbers follow the chunk index (t, c, z, y, x), x fastest.

    Attributes
    ----------
    chunks
        The grid of the segments' pixels.
    offsets, counts
        Position and length of each segment; length 0 means not yet written.
    planes
        Number of stored planes; the samples of a pixel share one.
    segments
        Number of segments of one plane.
    layout
        Layout of a segment, for reading it back.
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
        self.layout: SegmentLayout

    def number(self, index: Shape5) -> int:
        """Return the number of the segment at a grid position.

        Raises
        ------
        BadArgument
            It is outside the grid.
        """
        if index not in self.chunks:
            raise BadArgument(f"chunk {index} is outside the grid {self._blocks} (T, C, Z, Y, X).")
        return self.chunks.number(index)

    def places_of(self, index: Shape5, shape: Shape5) -> tuple[slice, ...]:
        """Return the grid positions of neighbouring chunks with `shape` pixels in all.

        Raises
        ------
        BadArgument
            They are not whole chunks of the level, of which the first is at `index`.
        """
        start = self.chunks.origin(index)
        stop = tuple(map(operator.add, start, shape))
        for end, size, length in zip(stop, self.shape, self._chunk, strict=True):
            if index not in self.chunks or end > size or (end % length and end != size):
                raise BadArgument(
                    f"a block of {shape} pixels at chunk {index} (T, C, Z, Y, X) is not one of "
                    f"whole chunks of {self._chunk} in {self.shape}."
                )
        ends = (-(-end // length) for end, length in zip(stop, self._chunk, strict=True))
        return tuple(map(slice, index, ends))

    def place(self, places: tuple[slice, ...], offsets: Array, counts: Array) -> None:
        """Set position and length of the segments at grid positions, from `places_of`."""
        for values, found in ((self.offsets, offsets), (self.counts, counts)):
            part = values.reshape(self._blocks)[places]
            part[...] = found.reshape(part.shape)

    def segments_in(self, block: Array, dtype: np.dtype[Any]) -> Array:
        """Return whole chunks as tiles of `dtype`: (tile, Y, X, samples), zeros at the edge."""
        t, c, z, y, x = map(operator.floordiv, map(operator.neg, block.shape), self._chunk)
        _, samples, _, length, width = self._chunk
        shape = (-t, -c * samples, -z, -y * length, -x * width)
        if block.shape != shape:
            block, part = np.zeros(shape, dtype), block
            block[tuple(map(slice, part.shape))] = part
        split = block.reshape(-t, -c, samples, -z, -y, length, -x, width)
        tiles = split.transpose(0, 1, 3, 4, 6, 5, 7, 2)
        return np.ascontiguousarray(tiles, dtype).reshape(-1, length, width, samples)

    def segment_shape(self, row: int) -> tuple[int, int, int]:
        """Return (Y, X, samples) of the segments in a row; only strips are cropped."""
        length, width = self._chunk[3:]
        if not self.tiled:
            length, width = min(length, self.shape[3] - row * length), self.shape[4]
        return length, width, self._samples

    def rows_at(self, number: int) -> int:
        """Return the number of rows of segment `number`."""
        return self.segment_shape(number // self._blocks[4] % self._blocks[3])[0]

    def planes_in_order(self) -> Array:
        """Return the plane numbers, (t, c, z) in that order, in the image's DimensionOrder."""
        t, c, z = self._blocks[:3]
        numbers = np.arange(t * c * z).reshape(t, c, z)
        # The first axis of the name varies fastest, which is numpy's last.
        axes = tuple("TCZ".index(axis) for axis in reversed(self._order[2:]))
        return numbers.transpose(axes).ravel()

    @property
    def _place_tags(self) -> tuple[int, int]:
        if self.tiled:
            return Tag.TileOffsets, Tag.TileByteCounts
        return Tag.StripOffsets, Tag.StripByteCounts

    def place_tags(self, *, big: bool) -> list[TagValue]:
        """Return the directory entries for the places of a plane's segments; see `places`."""
        offsets, sizes = self._place_tags
        return [
            TagValue.offsets(offsets, self.segments, big=big),
            TagValue.offsets(sizes, self.segments, big=False),
        ]

    def places(self, planes: Array, *, big: bool) -> dict[int, Array]:
        """Return the values of `place_tags` by tag, with a row for each of `planes`."""
        offsets, sizes = self._place_tags
        shape = self.planes, self.segments
        width = 8 if big else 4
        return {
            offsets: self.offsets.reshape(shape)[planes].astype(f"{BYTE_ORDER}u{width}"),
            sizes: self.counts.reshape(shape)[planes].astype(f"{BYTE_ORDER}u4"),
        }

    def shared_tags(self, encoding: Encoding | Copied, size: PixelSize) -> list[TagValue]:
        """Return the directory entries that all planes share: all but `place_tags`."""
        length, width = self.shape[3:]
        samples = self._samples
        bits = encoding.dtype.itemsize * 8
        tags = [
            TagValue.long(Tag.NewSubfileType, 0 if self._scale == (1, 1) else 1),
            TagValue.long(Tag.ImageWidth, width),
            TagValue.long(Tag.ImageLength, length),
            TagValue.short(Tag.BitsPerSample, *[bits] * samples),
            TagValue.short(Tag.Compression, encoding.tag),
            TagValue.short(Tag.PhotometricInterpretation, encoding.photometric),
            TagValue.short(Tag.SamplesPerPixel, samples),
            *self._resolution(size),
            TagValue.short(Tag.PlanarConfiguration, 1),
            TagValue.text(Tag.Software, _SOFTWARE),
            TagValue.short(Tag.SampleFormat, *[_FORMATS[encoding.dtype.kind]] * samples),
        ]
        if encoding.predictor != 1:
            tags.append(TagValue.short(Tag.Predictor, encoding.predictor))
        extra = samples - (3 if samples > 2 else 1)
        if extra:
            tags.append(TagValue.short(Tag.ExtraSamples, *[0] * extra))
        if encoding.photometric == 6:
            tags.append(TagValue.rational(Tag.ReferenceBlackWhite, 0, 255, 128, 255, 128, 255))
        if encoding.subsampling:
            tags.append(TagValue.short(Tag.YCbCrSubSampling, *encoding.subsampling))
        if encoding.tables:
            tags.append(TagValue.undefined(Tag.JPEGTables, encoding.tables))
        if self.tiled:
            tags += [
                TagValue.long(Tag.TileWidth, self._chunk[4]),
                TagValue.long(Tag.TileLength, self._chunk[3]),
            ]
        else:
            tags.append(TagValue.long(Tag.RowsPerStrip, min(self._chunk[3], length)))
        return tags

    def _resolution(self, size: PixelSize) -> list[TagValue]:
        """Return resolutions in pixels per centimetre, or without a unit if unknown."""
        across = _per_centimetre(size.x, self._scale[1])
        down = _per_centimetre(size.y, self._scale[0])
        if across is None and down is None:
            return [
                TagValue.rational(Tag.XResolution, 1),
                TagValue.rational(Tag.YResolution, 1),
                TagValue.short(Tag.ResolutionUnit, 1),
            ]
        across, down = across or down or 1.0, down or across or 1.0
        return [
            TagValue.rational(Tag.XResolution, across),
            TagValue.rational(Tag.YResolution, down),
            TagValue.short(Tag.ResolutionUnit, 3),
        ]


def _per_centimetre(size: Quantity | None, scale: float) -> float | None:
    symbol = None if size is None else length_symbol(size.unit)
    if size is None or symbol not in _RESOLUTION_UNITS:
        return None
    length = size.value * (LENGTHS[symbol] * 100) * scale
    return 1 / length if length > 0 else None


def grid_of(image: Image, number: int, encoding: Encoding | Copied, order: str) -> SegmentGrid:
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
            f"level {number}: chunk {chunk} (T, C, Z, Y, X) is not a TIFF tile; it needs 1, "
            f"{image.samples}, 1 and multiples of 16, or whole rows."
        )
    full = image.levels[0].shape
    scale = (full[3] / level.shape[3], full[4] / level.shape[4]) if number else (1.0, 1.0)
    grid = SegmentGrid(level.shape, chunk, image.samples, order, scale)
    grid.layout = _layout(grid, encoding, tiled=tiled)
    return grid


def _layout(grid: SegmentGrid, encoding: Encoding | Copied, *, tiled: bool) -> SegmentLayout:
    rows, columns, samples = grid.segment_shape(0)
    nowhere: np.ndarray[Any, Any] = np.zeros(0, np.uint64)
    return SegmentLayout(
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
