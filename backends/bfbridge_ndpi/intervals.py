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
# Intervals are read with those between them if these have up to so many times their bytes.
_WASTE: Final = 4


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
        elif directory.file_size >= WIDE:
            # Without the tag of the upper halves, a smaller number follows each 4 GiB.
            begins[1:] += np.cumsum(np.diff(begins) < 0) << 32
        # NDPIReader, too, uses the distances only. Every marker is checked when it is read.
        shifted: Array = begins - begins[0] + len(stream.header.data)
        return shifted

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
        if bool((np.diff(bounds) < 3).any()):
            raise ReadFailed(
                f"{stream.where}: the positions of its restart intervals are not in ascending "
                "order inside its JPEG stream; the file is damaged."
            )
        return bounds

    def joined(
        self, rows: tuple[int, int], columns: tuple[int, int], size: tuple[int, int]
    ) -> bytearray:
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
        header = self._stream.header.resized(*size)
        numbers = np.arange(rows[0], rows[1])[:, None] * self.grid.across + np.arange(*columns)
        bounds = self.bounds()
        lengths = bounds[numbers + 1] - bounds[numbers]
        samples = size[0] * size[1] * self._stream.header.components
        if int(lengths.sum()) > _MOST_BYTES_OF_SAMPLE * samples + _SMALL:
            raise ReadFailed(
                f"{self._stream.where}: restart intervals from {numbers[0, 0]} on are longer than "
                "any encoder makes them; the file is damaged."
            )
        parts = self._runs(numbers, lengths)
        if numbers[-1, -1] == self._count - 1:
            parts[-1], cut = self._without_padding(parts[-1], int(lengths[-1, -1]))
            lengths[-1, -1] -= cut
        data = bytearray().join([header, *parts])
        self._number(data, len(header), numbers.ravel(), lengths.ravel())
        return data

    def _runs(self, numbers: Array, lengths: Array) -> list[bytes | memoryview]:
        """Read intervals, each row of `numbers` with one read, or all of them."""
        bounds, stream = self.bounds(), self._stream
        begins, ends = bounds[numbers[:, 0]], bounds[numbers[:, -1] + 1]
        first, last = int(begins[0]), int(ends[-1])
        if last - first > _WASTE * int(lengths.sum()):
            return [stream.read(*run) for run in zip(begins.tolist(), ends.tolist(), strict=True)]
        data = memoryview(stream.read(first, last))
        pairs = zip((begins - first).tolist(), (ends - first).tolist(), strict=True)
        return [data[begin:end] for begin, end in pairs]

    def _without_padding(
        self, run: bytes | memoryview, length: int
    ) -> tuple[bytes | memoryview, int]:
        """Return a run up to the end of the image, and how many bytes follow it.

        Parameters
        ----------
        run
            Intervals, the last of which is the last one of the stream.
        length
            Bytes of that interval.
        """
        tail = min(length, _TAIL)
        end = bytes(run[-tail:]).rfind(_END)
        if end < 0:
            raise ReadFailed(
                f"{self._stream.where}: its JPEG stream has no end; it is truncated or damaged."
            )
        cut = tail - end - len(_END)
        return run[: len(run) - cut], cut

    def _number(self, data: bytearray, begin: int, numbers: Array, lengths: Array) -> None:
        """Check the markers at the ends of intervals, and number them from 0.

        Parameters
        ----------
        data
            The new stream.
        begin
            Where its first interval begins.
        numbers, lengths
            Numbers of the intervals in the stream of the level, and their lengths.
        """
        stored = np.frombuffer(data, np.uint8)
        places = begin - 1 + np.cumsum(lengths)
        wanted = np.where(numbers == self._count - 1, EOI, RST0 + numbers % 8)
        marks = np.flatnonzero(stored[begin:-1] == 0xFF) + begin
        found = marks[stored[marks + 1] != 0] + 1
        if not np.array_equal(found, places) or (stored[places] != wanted).any():
            raise ReadFailed(
                f"{self._stream.where}: restart intervals {numbers[0]} to {numbers[-1]} do not end "
                "with the restart markers that should be there; the file is damaged."
            )
        stored[places] = RST0 + np.arange(len(places)) % 8
        stored[-1] = EOI
