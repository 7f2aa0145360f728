"""Pixels of one directory: restart intervals of a JPEG stream, a whole stream, or segments."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Final

import imagecodecs
import numpy as np

from bfbridge.errors import ReadFailed
from bfbridge.limits import Limits, check, nbytes
from bfbridge.runtime.thread_buffer import ThreadBuffer
from bfbridge.tiff.jpegxr import is_jpegxr_complete, jpegxr_size
from bfbridge_ndpi.intervals import Intervals, Stream
from bfbridge_ndpi.jpeg import EOI, Grid
from bfbridge_ndpi.segments import JPEGXR, Segments

__all__ = ["IntervalPlane", "Plane", "SegmentPlane", "WholePlane"]

Array = np.ndarray[Any, np.dtype[Any]]

# Pixels of a chunk, and the width from which on a chunk is not made wider.
_CHUNK: Final = 1 << 20
_WIDE: Final = 2048
# Pixels that are read with one call where neighbouring chunks need intervals of each other.
_UNIT: Final = 1 << 24
# Columns that are decoded at once.
_WIDEST: Final = 1 << 14
# Longest memory that a thread keeps for decoding.
_KEPT: Final = 32 << 20
_TAIL: Final = 1 << 16
_END: Final = bytes((0xFF, EOI))
_SCAN: Final = b"\xff\xda"
_MOST_SCANS: Final = 500

_decoded = ThreadBuffer(_KEPT)


class Plane(ABC):
    """The pixels of one directory.

    Attributes
    ----------
    shape
        Height, width, samples.
    dtype
        Type of a sample, in native byte order.
    chunk
        Height and width of the chunks in which it is read fastest.
    unit
        Height and width of the box of chunks to read with one call.
    reads_parts
        Whether a part of a chunk takes less time than all of it.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunk: tuple[int, int]
    unit: tuple[int, int]
    reads_parts: bool

    @abstractmethod
    def read(self, y: int, x: int, out: Array) -> None:
        """Fill `out`, shape (Y, X, samples) with any strides, with the pixels from row y, column x.

        Raises
        ------
        ReadFailed
            The stored pixels are damaged, or cannot be read.
        """


class IntervalPlane(Plane):
    """A JPEG stream with restart intervals. Only the intervals of a region are decoded.

    Where colour is subsampled, a decoder computes the colour of a pixel from its neighbours. At the
    edge of an interval, they are in the next one, which is therefore decoded with it: the pixels
    are those of the whole stream.

    Parameters
    ----------
    stream, grid
        The stream, and how its intervals divide the pixels.
    size
        Height and width.
    color
        Colour space of the stream: "YCBCR", "RGB", or "" for one component.
    waits
        Whether each read waits for a server: then chunks are short, so that threads read their rows
        of intervals at once.
    """

    reads_parts = True

    def __init__(
        self, stream: Stream, grid: Grid, size: tuple[int, int], color: str, *, waits: bool
    ) -> None:
        header = stream.header
        self.shape = (*size, header.components)
        self.dtype = np.dtype(np.uint8)
        self._intervals = Intervals(stream, grid)
        self._grid, self._color, self._where = grid, color, stream.where
        colored = header.components > 1
        self._down_depends = colored and header.mcu_height > 8
        self._across_depends = colored and header.mcu_width > 8
        height, width = size
        columns = min(grid.across, max(1, _WIDE // grid.width)) * grid.width
        rows = max(1, _CHUNK // columns // grid.height) * grid.height
        if waits:
            rows = min(rows, (4 if self._down_depends else 1) * grid.height)
        self.chunk = min(rows, height), min(columns, width)
        # The intervals of whole rows follow each other in the file.
        joined = _UNIT // math.prod(self.chunk) if self._across_depends or waits else 1
        across = min(max(1, joined), -(-width // self.chunk[1]))
        down = max(1, _CHUNK // (across * math.prod(self.chunk))) if waits else 1
        self.unit = down * self.chunk[0], across * self.chunk[1]

    def read(self, y: int, x: int, out: Array) -> None:
        grid = self._grid
        # Some megapixels are decoded at once, in whole intervals.
        across = max(1, _WIDEST // grid.width) * grid.width
        for left, right in _steps(x, x + out.shape[1], across, grid.width):
            columns = self._needed(left, right, grid.width, grid.across, self._across_depends)
            wide = (columns[1] - columns[0]) * grid.width
            down = max(1, 2 * _CHUNK // wide // grid.height) * grid.height
            for top, bottom in _steps(y, y + out.shape[0], down, grid.height):
                rows = self._needed(top, bottom, grid.height, grid.down, self._down_depends)
                pixels = self._decode(rows, columns)
                first, begin = top - rows[0] * grid.height, left - columns[0] * grid.width
                out[top - y : bottom - y, left - x : right - x] = pixels[
                    first : first + bottom - top, begin : begin + right - left
                ]

    @staticmethod
    def _needed(begin: int, end: int, length: int, count: int, depends: bool) -> tuple[int, int]:
        """Return the first interval for pixels `begin` to `end`, and the one after the last.

        Parameters
        ----------
        begin, end
            First pixel, and the one after the last, along one axis.
        length, count
            Pixels of an interval, and number of intervals, along this axis.
        depends
            Whether pixels at the edge of an interval depend on the next one.
        """
        first, last = begin // length, -(-end // length)
        if depends:
            first = max(0, (begin - 1) // length)
            last = min(count, -(-(end + 1) // length))
        return first, last

    def _decode(self, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
        grid, (height, width, samples) = self._grid, self.shape
        size = (
            min(rows[1] * grid.height, height) - rows[0] * grid.height,
            min(columns[1] * grid.width, width) - columns[0] * grid.width,
        )
        data = self._intervals.joined(rows, columns, size)
        pixels = _decoded.get(nbytes((*size, samples), 1)).reshape(*size, samples)
        where = f"{self._where}, pixels from row {rows[0] * grid.height}, column "
        _decode_jpeg(data, pixels, self._color, where + str(columns[0] * grid.width))
        return pixels


class WholePlane(Plane):
    """A JPEG stream that can only be decoded as a whole.

    Parameters
    ----------
    stream
        The stream. The size in its header may be larger than that of the plane.
    size
        Height and width.
    color
        Colour space of the stream: "YCBCR", "RGB", or "" for one component.
    limits
        Limits on what the file may declare.
    """

    reads_parts = False

    def __init__(self, stream: Stream, size: tuple[int, int], color: str, limits: Limits) -> None:
        header = stream.header
        self.shape = (*size, header.components)
        self.dtype = np.dtype(np.uint8)
        self.chunk = self.unit = size
        self._stream, self._color, self._limits = stream, color, limits
        length = nbytes((header.height, header.width, header.components), 1)
        check(length, limits.chunk_bytes, "size of a JPEG stream in bytes", stream.where)

    def read(self, y: int, x: int, out: Array) -> None:
        stream, header = self._stream, self._stream.header
        shape = header.height, header.width, header.components
        most = self._limits.chunk_ratio
        if nbytes(shape, 1) > stream.length * most:
            raise ReadFailed(
                f"{stream.where}: its JPEG stream would grow more than {most:,}-fold; the file is "
                "damaged."
            )
        data = bytes(stream.read(0, stream.length))
        if _END not in data[-_TAIL:]:
            raise ReadFailed(
                f"{stream.where}: its JPEG stream has no end; it is truncated or damaged."
            )
        scans = data.count(_SCAN)
        if scans > _MOST_SCANS:
            raise ReadFailed(
                f"{stream.where}: its JPEG stream has {scans:,} scans, which would take too long "
                "to decode."
            )
        pixels = _decoded.get(nbytes(shape, 1)).reshape(shape)
        _decode_jpeg(data, pixels, self._color, stream.where)
        out[...] = pixels[y : y + out.shape[0], x : x + out.shape[1]]


class SegmentPlane(Plane):
    """Strips or tiles, uncompressed or in JPEG XR, each of which is read as a whole.

    Parameters
    ----------
    segments
        The segments.
    limits
        Limits on what the file may declare.
    """

    def __init__(self, segments: Segments, limits: Limits) -> None:
        height, width, _ = self.shape = segments.shape
        self.dtype = segments.dtype
        self._segments, self._limits = segments, limits
        rows, columns = segments.size
        self.reads_parts = segments.compression != JPEGXR
        if self.reads_parts:
            # Several short strips are one chunk.
            rows *= max(1, min(_CHUNK // (rows * columns), segments.down))
        self.chunk = self.unit = min(rows, height), min(columns, width)
        length = nbytes((*segments.size, self.shape[2]), self.dtype.itemsize)
        check(length, limits.chunk_bytes, "size of a segment in bytes", segments.where)

    def read(self, y: int, x: int, out: Array) -> None:
        rows, columns = self._segments.size
        for top, bottom in _steps(y, y + out.shape[0], rows, rows):
            for left, right in _steps(x, x + out.shape[1], columns, columns):
                pixels = self._decode(top // rows, left // columns)
                first, begin = top % rows, left % columns
                out[top - y : bottom - y, left - x : right - x] = pixels[
                    first : first + bottom - top, begin : begin + right - left
                ]

    def _decode(self, row: int, column: int) -> Array:
        segments = self._segments
        data, where = segments.read(row, column)
        shape = (*segments.size_of(row), self.shape[2])
        if segments.compression != JPEGXR:
            length = nbytes(shape, self.dtype.itemsize)
            if len(data) < length:
                raise ReadFailed(
                    f"{where} has {len(data):,} bytes where its pixels need {length:,}; the file "
                    "is damaged."
                )
            return np.frombuffer(data, segments.stored, length // self.dtype.itemsize).reshape(
                shape
            )
        return self._jpegxr(bytes(data), shape, where)

    def _jpegxr(self, data: bytes, shape: tuple[int, int, int], where: str) -> Array:
        found = jpegxr_size(data, self.dtype, shape[2])
        # The last strip may be stored at full length.
        if found is None or found not in (shape[:2], self._segments.size):
            raise ReadFailed(
                f"{where}: its JPEG XR headers declare {found}, not {shape[:2]}, or another type "
                "of pixels; the file is damaged."
            )
        if not is_jpegxr_complete(data):
            raise ReadFailed(f"{where}: its JPEG XR data is truncated or damaged.")
        length = nbytes((*found, shape[2]), self.dtype.itemsize)
        if length > len(data) * self._limits.chunk_ratio:
            raise ReadFailed(f"{where} would grow more than any codec allows; it is damaged.")
        pixels = _decoded.get(length).view(self.dtype).reshape(*found, shape[2])
        try:
            imagecodecs.jpegxr_decode(data, out=_face(pixels))
        except (RuntimeError, ValueError, TypeError) as error:
            raise ReadFailed(f"{where}: its JPEG XR data does not decode ({error}).") from error
        return pixels


def _steps(begin: int, end: int, length: int, unit: int) -> Iterator[tuple[int, int]]:
    """Divide a range into parts of up to `length`, at multiples of `unit`."""
    while begin < end:
        following = min(end, begin // unit * unit + length)
        yield begin, following
        begin = following


def _face(pixels: Array) -> Array:
    """Return pixels of one sample without the sample axis, as decoders return them."""
    return pixels if pixels.shape[2] > 1 else pixels[:, :, 0]


def _decode_jpeg(data: bytes | bytearray, out: Array, color: str, where: str) -> None:
    colors = {"colorspace": color, "outcolorspace": "RGB"} if color else {}
    try:
        imagecodecs.jpeg8_decode(data, out=_face(out), **colors)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ReadFailed(f"{where}: its JPEG data does not decode ({error}).") from error
