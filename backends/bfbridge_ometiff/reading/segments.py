"""Reading a box of one stored plane: which segments it overlaps, fetching and decoding them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from bfbridge.errors import FileChanged, LimitExceeded, UnreadableFile
from bfbridge.limits import Limits
from bfbridge.runtime.thread_buffer import ThreadBuffer
from bfbridge_ometiff.codecs import KEPT_BYTES, decode_into
from bfbridge_ometiff.reading.files import OpenTiff
from bfbridge_ometiff.structure.segment_layout import DamagedSegment, SegmentLayout

__all__ = ["PlaneReader"]

Array = np.ndarray[Any, np.dtype[Any]]

# Shared by all readers: a reader that is opened for one crop reuses the memory.
_pixels = ThreadBuffer(KEPT_BYTES)
_stored = ThreadBuffer(KEPT_BYTES)

# Consecutive segments are fetched together up to this many bytes.
_RUN = 4 << 20
# Below this size, the ratio of stored to decoded bytes is not checked: a constant tile is small.
_SMALL = 64 << 20


class _Segment(NamedTuple):
    """A fetched segment, and the requested part of it.

    Attributes
    ----------
    number, rows, data
        The segment's number in the directory, its rows, and its bytes as stored.
    inside, out
        Row and column of the requested part in the segment, and the array to fill.
    """

    number: int
    rows: int
    data: Any
    inside: tuple[int, int]
    out: Array


class PlaneReader:
    """Reads boxes of planes; shared by all threads of one reader.

    Parameters
    ----------
    limits
        Limits on what a segment declares.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def read(
        self, tiff: OpenTiff, layout: SegmentLayout, corner: tuple[int, int], first: int, out: Array
    ) -> None:
        """Read a box of a plane.

        Parameters
        ----------
        tiff, layout
            The file and the directory of the plane.
        corner
            Row and column of the box in the plane.
        first
            First requested sample.
        out
            Filled with the box, shape (Y, X, samples), native byte order, any strides.

        Raises
        ------
        DamagedSegment
            A segment cannot be read; the message names it.
        """
        count = out.shape[2]
        if layout.planar:
            parts = [(first + at, out[:, :, at : at + 1]) for at in range(count)]
        elif count == layout.samples:
            parts = [(0, out)]
        else:
            parts = [(0, np.empty((*out.shape[:2], layout.samples), out.dtype))]
        for part, pixels in parts:
            if layout.addressable:
                tiles = _contiguous_tiles(layout, corner, part, pixels)
                if tiles:
                    self._read_tiles(tiff, layout, tiles, pixels)
                else:
                    self._read_rows(tiff, layout, corner, part, pixels)
                continue
            for segment in self._segments(tiff, layout, corner, part, pixels):
                try:
                    decode_into(
                        layout, segment.data, segment.rows, segment.inside, segment.out, _pixels
                    )
                except DamagedSegment as error:
                    raise DamagedSegment(f"{_segment(layout, segment.number)}: {error}") from error
        if not layout.planar and count != layout.samples:
            out[...] = parts[0][1][:, :, first : first + count]

    def _segments(
        self, tiff: OpenTiff, layout: SegmentLayout, corner: tuple[int, int], part: int, out: Array
    ) -> Iterator[_Segment]:
        """Fetch the segments that a box overlaps; those that were never written are set to zero."""
        top, left = corner
        height, width = out.shape[:2]
        tile_length, tile_width = layout.tile_length, layout.tile_width
        base = part * layout.across * layout.down
        wanted = [
            (base + row * layout.across + column, row, column)
            for row in range(top // tile_length, -(-(top + height) // tile_length))
            for column in range(left // tile_width, -(-(left + width) // tile_width))
        ]
        for run in _runs(layout, wanted):
            stored = self._fetch(tiff, layout, run)
            for (number, row, column), data in zip(run, stored, strict=True):
                y0, x0 = max(top, row * tile_length), max(left, column * tile_width)
                y1 = min(top + height, (row + 1) * tile_length)
                x1 = min(left + width, (column + 1) * tile_width)
                box = out[y0 - top : y1 - top, x0 - left : x1 - left]
                if data is None:
                    # A segment of 0 bytes was never written: zeros, as in libtiff and in
                    # Bio-Formats' TiffParser.getTile.
                    box[...] = 0
                    continue
                rows = layout.rows_of(row)
                self._check_ratio(layout, number, rows, data)
                inside = (y0 - row * tile_length, x0 - column * tile_width)
                yield _Segment(number, rows, data, inside, box)

    def _check_ratio(self, layout: SegmentLayout, number: int, rows: int, data: Any) -> None:
        """Refuse a segment with too high a compression ratio."""
        decoded = rows * layout.tile_width * layout.segment_samples * layout.dtype.itemsize
        if decoded > _SMALL and decoded > len(data) * self._limits.chunk_ratio:
            raise LimitExceeded(
                f"{_segment(layout, number)} would grow from {len(data):,} to {decoded:,} bytes, "
                f"more than the limit of {self._limits.chunk_ratio:,} times"
            )

    def _fetch(
        self, tiff: OpenTiff, layout: SegmentLayout, run: list[tuple[int, int, int]]
    ) -> list[Any]:
        """Return the stored bytes of each segment of a run; None for a segment of 0 bytes."""
        first, last = run[0][0], run[-1][0]
        start = int(layout.offsets[first])
        length = int(layout.offsets[last]) + int(layout.counts[last]) - start
        if int(layout.counts[first]) == 0:
            return [None] * len(run)
        numbers = [number for number, _, _ in run]
        data = memoryview(self._bytes(tiff, layout, numbers, start, length))
        pieces = []
        for number, _, _ in run:
            at = int(layout.offsets[number]) - start
            pieces.append(data[at : at + int(layout.counts[number])])
        return pieces

    def _bytes(
        self, tiff: OpenTiff, layout: SegmentLayout, numbers: Sequence[int], start: int, length: int
    ) -> Any:
        """Return the contiguous bytes of segments; an error names the first that fails."""
        number = numbers[0]
        if start + length > tiff.size:
            for number in numbers:
                start, length = int(layout.offsets[number]), int(layout.counts[number])
                if start + length > tiff.size:
                    break
            raise DamagedSegment(
                f"{_segment(layout, number)} is at bytes {start:,}-{start + length:,}, but the "
                f"file has only {tiff.size:,}; it is truncated or damaged"
            )
        try:
            return tiff.read(start, length, _stored.get(length))
        except FileChanged:
            raise
        except (UnreadableFile, OSError) as error:
            raise DamagedSegment(f"{_segment(layout, number)} cannot be read: {error}") from error

    def _read_tiles(self, tiff: OpenTiff, layout: SegmentLayout, tiles: range, out: Array) -> None:
        """Read whole uncompressed tiles of one row, which are contiguous in the file, at once."""
        start = int(layout.offsets[tiles.start])
        length = len(tiles) * layout.tile_length * layout.row_bytes
        data = self._bytes(tiff, layout, tiles, start, length)
        height, width, samples = out.shape
        shape = len(tiles), layout.tile_length, layout.tile_width, samples
        pixels = np.frombuffer(data, layout.stored_dtype).reshape(shape)[:, :height]
        whole, rest = divmod(width, layout.tile_width)
        # A view: an axis is split, none are joined.
        target = out[:, : width - rest].reshape(height, whole, layout.tile_width, samples)
        target[...] = pixels[:whole].swapaxes(0, 1)
        if rest:
            out[:, width - rest :] = pixels[whole, :, :rest]
        if layout.inverted:
            np.invert(out, out=out)

    def _read_rows(
        self, tiff: OpenTiff, layout: SegmentLayout, corner: tuple[int, int], part: int, out: Array
    ) -> None:
        """Read a box of uncompressed segments: only requested rows, contiguous rows together."""
        top, left = corner
        height, width = out.shape[:2]
        for column in range(left // layout.tile_width, -(-(left + width) // layout.tile_width)):
            x0 = max(left, column * layout.tile_width)
            x1 = min(left + width, (column + 1) * layout.tile_width)
            inside = slice(x0 - column * layout.tile_width, x1 - column * layout.tile_width)
            for y0, y1, offset, first in _row_runs(layout, column, part, top, top + height):
                box = out[y0 - top : y1 - top, x0 - left : x1 - left]
                if offset < 0:
                    box[...] = 0
                    continue
                rows_above = (y1 - 1) // layout.tile_length - y0 // layout.tile_length
                numbers = range(first, first + rows_above * layout.across + 1, layout.across)
                data = self._bytes(tiff, layout, numbers, offset, (y1 - y0) * layout.row_bytes)
                rows = np.frombuffer(data, layout.stored_dtype)
                rows = rows.reshape(y1 - y0, layout.tile_width, layout.segment_samples)
                box[...] = rows[:, inside]
        if layout.inverted:
            np.invert(out, out=out)


def _contiguous_tiles(
    layout: SegmentLayout, corner: tuple[int, int], part: int, out: Array
) -> range:
    """Return the tiles of a box if they are whole, in one row, and contiguous in the file."""
    (top, left), (height, width) = corner, out.shape[:2]
    count = -(-width // layout.tile_width)
    row, column = top // layout.tile_length, left // layout.tile_width
    bottom = min(layout.length, (row + 1) * layout.tile_length)
    right = min(layout.width, (column + count) * layout.tile_width)
    aligned = not (top % layout.tile_length or left % layout.tile_width)
    if count < 2 or not (
        layout.tiled and aligned and (top + height, left + width) == (bottom, right)
    ):
        return range(0)
    first = (part * layout.down + row) * layout.across + column
    tiles = range(first, first + count)
    size = layout.tile_length * layout.row_bytes
    if count * size > _RUN:
        return range(0)
    starts = layout.offsets[first : tiles.stop].tolist()
    if layout.counts[first : tiles.stop].tolist() != [size] * count:
        return range(0)
    return tiles if starts == [starts[0] + size * at for at in range(count)] else range(0)


def _segment(layout: SegmentLayout, number: int) -> str:
    """Return the name of a segment for messages."""
    if not layout.tiled:
        return f"strip {number}"
    plane, inside = divmod(number, layout.across * layout.down)
    row, column = divmod(inside, layout.across)
    sample = f" of sample {plane}" if layout.planar else ""
    return f"tile {column}, {row} (column, row){sample}"


def _runs(
    layout: SegmentLayout, wanted: list[tuple[int, int, int]]
) -> list[list[tuple[int, int, int]]]:
    """Group segments that are contiguous in the file."""
    runs: list[list[tuple[int, int, int]]] = []
    end = start = -1
    for segment in wanted:
        offset, count = int(layout.offsets[segment[0]]), int(layout.counts[segment[0]])
        if count and offset == end and end + count - start <= _RUN:
            runs[-1].append(segment)
        else:
            runs.append([segment])
            start = offset
        end = offset + count if count else -1
    return runs


def _row_runs(
    layout: SegmentLayout, column: int, part: int, top: int, bottom: int
) -> list[tuple[int, int, int, int]]:
    """Split rows into runs contiguous in the file: first row, end row, byte offset, segment.

    The offset is -1 for rows of a segment that was never written.
    """
    runs: list[tuple[int, int, int, int]] = []
    base = part * layout.across * layout.down
    row_bytes = layout.row_bytes
    most = max(1, _RUN // row_bytes)
    y = top
    while y < bottom:
        row = y // layout.tile_length
        number = base + row * layout.across + column
        stop = min(bottom, (row + 1) * layout.tile_length)
        count = int(layout.counts[number])
        inside = y - row * layout.tile_length
        offset = int(layout.offsets[number]) + inside * row_bytes if count else -1
        if count and not _holds(layout, count, row):
            raise DamagedSegment(
                f"{_segment(layout, number)} has {count:,} bytes stored where its pixels need "
                f"{layout.rows_of(row) * row_bytes:,}"
            )
        while y < stop:
            end = min(stop, y + most)
            last = runs[-1] if runs else None
            joins = last is not None and offset >= 0 and last[2] >= 0 and last[1] == y
            if (
                last is not None
                and joins
                and last[2] + (y - last[0]) * row_bytes == offset
                and end - last[0] <= most
            ):
                runs[-1] = (last[0], end, last[2], last[3])
            else:
                runs.append((y, end, offset, number))
            if offset >= 0:
                offset += (end - y) * row_bytes
            y = end
    return runs


def _holds(layout: SegmentLayout, count: int, row: int) -> bool:
    """Whether an uncompressed segment is as long as its pixels need.

    Some writers store the number of pixels instead of bytes; TiffParser.getTile accepts that.
    """
    needed = layout.rows_of(row) * layout.row_bytes
    return count >= needed or count * layout.dtype.itemsize == needed
