"""Positions of the segments of a level, as chunks that can be fetched by range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from bfbridge.backend import Shape5, StoredRanges
from bfbridge.errors import Unsupported
from bfbridge.tiff.tags import BYTE_STREAMS
from bfbridge_ometiff.structure.segment_layout import NONE, SegmentLayout

__all__ = ["ranges_of"]

_LARGEST_BAND: Final = 64 << 20
"""Bytes of consecutive uncompressed strips that form one chunk."""

Plane = tuple[int, int, int]


def ranges_of(
    shape: Shape5, samples: int, layouts: Mapping[Plane, tuple[str, SegmentLayout]]
) -> StoredRanges:
    """Describe the chunks of a level.

    Parameters
    ----------
    shape
        Shape of the level, along T, C, Z, Y, X.
    samples
        Samples per pixel.
    layouts
        File and layout of each plane that is stored, by t, channel (of all samples), z.

    Raises
    ------
    Unsupported
        The planes differ, or cannot be decoded from their bytes alone.
    """
    if not layouts:
        raise Unsupported("no plane is stored")
    first = next(iter(layouts.values()))[1]
    _check(first)
    for _, layout in layouts.values():
        if _kind(layout) != _kind(first):
            raise Unsupported("its planes are stored in different ways")
    rows = _rows(first, [layout for _, layout in layouts.values()])
    joined = rows != first.tile_length
    chunk = (1, first.segment_samples, 1, rows, first.tile_width)

    def locate(index: Shape5) -> tuple[str, int, int] | None:
        t, c, z, row, column = index
        channel, sample = divmod(c, samples) if first.planar else (c, 0)
        found = layouts.get((t, channel, z))
        if found is None:
            return None
        name, layout = found
        if joined:
            return name, int(layout.offsets[0]), int(layout.counts.sum())
        number = (sample * layout.down + row) * layout.across + column
        count = int(layout.counts[number])
        if layout.compression == NONE:
            # Some writers store more bytes than the pixels need.
            count = min(count, rows * layout.row_bytes)
        return (name, int(layout.offsets[number]), count) if count else None

    dtype = first.dtype.newbyteorder("<" if first.byteorder == "<" else ">")
    return StoredRanges(
        chunk=chunk,
        dtype=dtype,
        compression=first.compression,
        predictor=first.predictor,
        interleaved=first.segment_samples > 1,
        locate=locate,
    )


def _check(layout: SegmentLayout) -> None:
    if layout.compression not in BYTE_STREAMS:
        raise Unsupported(f"{layout.compression} tiles are complete images")
    if layout.packed:
        raise Unsupported(f"samples of {layout.bits} bits")
    if layout.inverted:
        raise Unsupported("pixels in which 0 is white")
    if layout.reversed_bits:
        raise Unsupported("bytes whose lowest bit comes first")
    if layout.predictor not in (1, 2):
        raise Unsupported("a predictor of floating-point numbers")


def _kind(layout: SegmentLayout) -> tuple[object, ...]:
    return (
        layout.tiled, layout.tile_width, layout.tile_length, layout.planar, layout.byteorder,
        layout.compression, layout.predictor, layout.inverted, layout.reversed_bits, layout.bits,
    )  # fmt: skip


def _rows(layout: SegmentLayout, layouts: list[SegmentLayout]) -> int:
    """Return the rows of a chunk: those of a tile, or of strips that form equal chunks.

    The last strip is shorter than the others, but chunks have one size. Uncompressed strips that
    follow each other without a gap can be split and joined anywhere.
    """
    if layout.tiled or layout.length % layout.tile_length == 0:
        return layout.tile_length
    if layout.compression != NONE or layout.predictor != 1:
        raise Unsupported(
            f"strips of {layout.tile_length} rows, of which the last one has fewer: compressed "
            "strips are not chunks of one size"
        )
    row = layout.row_bytes
    for one in layouts:
        ends = one.offsets[:-1].astype(np.int64) + one.counts[:-1].astype(np.int64)
        full = one.counts[:-1] == one.tile_length * row
        if not (ends == one.offsets[1:].astype(np.int64)).all() or not full.all():
            raise Unsupported("strips that do not follow each other in the file")
    if layout.planar or layout.length * row > _LARGEST_BAND:
        raise Unsupported(
            f"strips of {layout.tile_length} rows, of which the last one has fewer, in planes of "
            f"{layout.length * row:,} bytes"
        )
    return layout.length
