"""Positions of the restart intervals of a JPEG stream, and new streams made of some of them."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import numpy as np

from bfbridge.errors import BfbridgeError, ReadFailed
from bfbridge.runtime import forking
from bfbridge.storage.source import RandomAccess
from bfbridge_ndpi.directories import WIDE, NdpiDirectory
from bfbridge_ndpi.jpeg import EOI, RST0, Grid, JpegHeader
from bfbridge_ndpi.tags import NdpiTag

__all__ = ["Intervals", "Stream"]

Array = np.ndarray[Any, np.dtype[Any]]

# Bytes that are searched for markers at once.
_WINDOW: Final = 4 << 20
_RESTART: Final = re.compile(rb"\xff([\xd0-\xd7])")
# Padding may follow the end of an image.
_TAIL: Final = 1 << 16
_END: Final = bytes((0xFF, EOI))
# A coefficient has at most 16 + 11 bits, and every byte may be followed by a stuffed one.
_MOST_BYTES_OF_SAMPLE: Final = 8
_SMALL: Final = 1 << 16


class Stream(NamedTuple):
    """One JPEG stream in a file.

    Attributes
    ----------
    access
        The open file.
    directory
        Directory that describes it.
    offset, length
        Its position in the file.
    header
        Its header.
    where
        File and directory, for messages.
    """

    access: RandomAccess
    directory: NdpiDirectory
    offset: int
    length: int
    header: JpegHeader
    where: str

    def read(self, begin: int, end: int) -> bytes | memoryview:
        """Return bytes of the stream.

        Raises
        ------
        ReadFailed
            They are not in the file.
        """
        data = self.access.read_at(self.offset + begin, end - begin)
        if len(data) != end - begin:
            raise ReadFailed(f"{self.where}: the file is cut short.")
        return data


class Intervals:
    """The restart intervals of a stream. All threads of a reader share it.

    Parameters
    ----------
    stream
        The stream.
    grid
        How its intervals divide the pixels.
    """

    def __init__(self, stream: Stream, grid: Grid) -> None:
        self.grid = grid
        self._stream = stream
        self._count = grid.down * grid.across
        self._lock = forking.lock()
        self._bounds: Array | None = None

    def bounds(self) -> Array:
        """Return where each interval begins in the stream, and the end of the last one.

        Raises
        ------
        ReadFailed
            The positions contradict the stream.
        """
        with self._lock:
            if self._bounds is None:
                begins = self._stored()
                if begins is None:
                    begins = self._found()
                self._bounds = self._checked(begins)
            return self._bounds

    def _stored(self) -> Array | None:
        """Return the beginnings that the directory contains, or None if it has none."""
        directory, stream = self._stream.directory, self._stream
        try:
            low = directory.array(NdpiTag.McuStarts)
            high = directory.array(NdpiTag.McuStartsHighBytes)
        except BfbridgeError as error:
            raise ReadFailed(f"{stream.where}: {error}") from error
        if low is None or len(low) != self._count:
            return None
        begins = low.astype(np.int64)
        if high is not None and len(high) == len(low) and directory.file_size >= WIDE:
            begins |= high.astype(np.int64) << 32
        elif stream.length >= WIDE:
            # Without the tag of the upper halves, a smaller number follows each 4 GiB.
            begins[1:] += np.cumsum(np.diff(begins) < 0) << 32
        return begins

    def _found(self) -> Array:
        """Search the stream for restart markers, once."""
        stream = self._stream
        begin = len(stream.header.data)
        found = [begin]
        while begin < stream.length and len(found) <= self._count:
            end = min(begin + _WINDOW, stream.length)
            data = stream.read(begin, end)
            found += [begin + match.end() for match in _RESTART.finditer(data)]
            # A marker may be divided.
            begin = end if end == stream.length else end - 1
        return np.array(found, np.int64)

    def _checked(self, begins: Array) -> Array:
        stream = self._stream
        bounds = np.append(begins, stream.length)
        if len(begins) != self._count:
            raise ReadFailed(
                f"{stream.where}: its JPEG stream has {len(begins):,} restart intervals where its "
                f"size needs {self._count:,}; the file is damaged."
            )
        if int(begins[0]) != len(stream.header.data) or bool((np.diff(bounds) < 3).any()):
            raise ReadFailed(
                f"{stream.where}: the positions of its restart intervals are not in ascending "
                "order inside its JPEG stream; the file is damaged."
            )
        return bounds

    def joined(self, rows: tuple[int, int], columns: tuple[int, int], size: tuple[int, int]) -> Any:
        """Return a JPEG stream of a rectangle of intervals.

        Parameters
        ----------
        rows, columns
            First interval, and the one that follows the last, along Y and X.
        size
            Height and width of the image in pixels.

        Raises
        ------
        ReadFailed
            The intervals are damaged, or not where they should be.
        """
        across, header = self.grid.across, self._stream.header
        bounds = self.bounds()
        most = _MOST_BYTES_OF_SAMPLE * size[0] * size[1] * header.components + _SMALL
        parts: list[Any] = [header.resized(*size)]
        number = 0
        if columns == (0, across):
            runs = [(rows[0] * across, rows[1] * across)]
        else:
            runs = [(row * across + columns[0], row * across + columns[1]) for row in range(*rows)]
        for first, last in runs:
            most -= int(bounds[last] - bounds[first])
            if most < 0:
                raise ReadFailed(
                    f"{self._stream.where}: restart intervals from {first} on are longer than any "
                    "encoder makes them; the file is damaged."
                )
            parts.append(self._numbered(bounds[first : last + 1], first, number))
            number += last - first
        # In place of the last restart marker.
        parts[-1][-1] = EOI
        return b"".join(parts)

    def _numbered(self, bounds: Array, first: int, number: int) -> bytearray:
        """Return consecutive intervals with their markers, renumbered from `number`.

        Parameters
        ----------
        bounds
            Where they begin, and the end of the last one.
        first
            Number of the first one in the stream.
        number
            Its number in the new stream.
        """
        stream = self._stream
        data = bytearray(stream.read(int(bounds[0]), int(bounds[-1])))
        count = len(bounds) - 1
        is_end = first + count == self._count
        if is_end:
            end = data.rfind(_END, max(0, len(data) - _TAIL))
            if end < bounds[-2] - bounds[0]:
                raise ReadFailed(
                    f"{stream.where}: its JPEG stream has no end; it is truncated or damaged."
                )
            del data[end + 2 :]
        pixels = np.frombuffer(data, np.uint8)
        places = bounds[1:] - bounds[0] - 1
        places[-1] = len(data) - 1
        numbers = np.arange(first, first + count)
        wanted = RST0 + numbers % 8
        if is_end:
            wanted[-1] = EOI
        stuffed = np.flatnonzero(pixels[:-1] == 0xFF)
        markers = stuffed[pixels[stuffed + 1] != 0] + 1
        if not np.array_equal(markers, places) or (pixels[places] != wanted).any():
            raise ReadFailed(
                f"{stream.where}: restart intervals {first} to {first + count - 1} do not end with "
                "the restart markers that should be there; the file is damaged."
            )
        pixels[places] = RST0 + (numbers - first + number) % 8
        return data
