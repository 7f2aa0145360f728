"""Conversion of image directories (IFDs) to bytes, after the segments have been written."""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from operator import attrgetter
from typing import Any, Final

import numpy as np

from bfbridge.tiff.header import (
    ASCII,
    IFD,
    IFD8,
    LONG,
    LONG8,
    RATIONAL,
    SHORT,
    UNDEFINED,
    TiffHeader,
)
from bfbridge.tiff.tags import Tag

__all__ = ["BYTE_ORDER", "DirectoryTemplate", "NewDirectory", "TagValue", "pack_header"]

Array = np.ndarray[Any, Any]

BYTE_ORDER: Final = "<" if sys.byteorder == "little" else ">"
_NUMBER: Final = attrgetter("number")


@dataclass(frozen=True, slots=True)
class TagValue:
    """One entry: number, field type, count and the bytes of its values."""

    number: int
    kind: int
    count: int
    data: bytes

    @classmethod
    def short(cls, number: int, *values: int) -> TagValue:
        """Make an entry of 16-bit numbers."""
        return cls(number, SHORT, len(values), struct.pack(f"{BYTE_ORDER}{len(values)}H", *values))

    @classmethod
    def long(cls, number: int, *values: int) -> TagValue:
        """Make an entry of 32-bit numbers."""
        return cls(number, LONG, len(values), struct.pack(f"{BYTE_ORDER}{len(values)}I", *values))

    @classmethod
    def text(cls, number: int, text: str) -> TagValue:
        """Make an entry of text, with a NUL at its end."""
        data = text.encode() + b"\0"
        return cls(number, ASCII, len(data), data)

    @classmethod
    def rational(cls, number: int, *values: float) -> TagValue:
        """Make an entry of fractions of 32-bit numbers."""
        parts = [part for value in values for part in _fraction(value)]
        data = struct.pack(f"{BYTE_ORDER}{len(parts)}I", *parts)
        return cls(number, RATIONAL, len(values), data)

    @classmethod
    def undefined(cls, number: int, data: bytes) -> TagValue:
        """Make an entry of bytes without a type."""
        return cls(number, UNDEFINED, len(data), data)

    @classmethod
    def offsets(cls, number: int, count: int, *, big: bool) -> TagValue:
        """Make an entry of file offsets or byte counts that are not known yet."""
        size = 8 if big else 4
        return cls(number, LONG8 if big else LONG, count, bytes(size * count))


def _fraction(value: float) -> tuple[int, int]:
    """Return a fraction close to `value` whose parts fit 32 bits."""
    most = (1 << 32) - 1
    exact = Fraction(min(max(value, 0.0), float(most)))
    limit = most if exact < 1 else max(1, int(most / exact))
    near = exact.limit_denominator(limit)
    return near.numerator, near.denominator


@dataclass(slots=True)
class NewDirectory:
    """A directory to write: its entries, and the entries of each of its SubIFDs."""

    tags: list[TagValue]
    below: list[list[TagValue]] = field(default_factory=list)


class DirectoryTemplate:
    """The bytes of a directory with the values it refers to, repeated for any number of planes.

    Directories of an image differ in their position and in a few values only, such as the offsets
    of segments.

    Parameters
    ----------
    ifd
        The directory of one plane.
    big
        Whether the file is a BigTIFF.

    Attributes
    ----------
    length
        Number of bytes of one plane, a multiple of 8.
    offset
        Position of the directory in these bytes.
    """

    def __init__(self, ifd: NewDirectory, *, big: bool) -> None:
        self._header = TiffHeader(BYTE_ORDER, big=big)
        self._bytes = bytearray()
        # Positions of file offsets, with the positions that these point to.
        self._pointers: list[tuple[int, int]] = []
        # Position of the values of each entry, by level and tag.
        self._values: dict[tuple[int, int], int] = {}
        below = [self._add(tags, level) for level, tags in enumerate(ifd.below, 1)]
        tags = ifd.tags
        size = self._header.offset_bytes
        if below:
            kind = IFD8 if big else IFD
            tags = [*tags, TagValue(Tag.SubIFDs, kind, len(below), bytes(size * len(below)))]
        self.offset = self._add(tags, 0)
        for number, offset in enumerate(below):
            self._pointers.append((self._values[0, Tag.SubIFDs] + number * size, offset))
        self._link = len(self._bytes) - size
        self._align()
        self.length = len(self._bytes)

    def _align(self) -> None:
        self._bytes += bytes(-len(self._bytes) % 8)

    def _add(self, tags: Sequence[TagValue], level: int) -> int:
        """Append one directory after its long values; return its position."""
        inline = self._header.offset_bytes
        head = f"{BYTE_ORDER}HH{self._header.offset_code}"
        tags = sorted(tags, key=_NUMBER)
        for tag in tags:
            if len(tag.data) > inline:
                self._align()
                self._values[level, tag.number] = len(self._bytes)
                self._bytes += tag.data
        self._align()
        offset = len(self._bytes)
        self._bytes += struct.pack(BYTE_ORDER + self._header.count_code, len(tags))
        for tag in tags:
            self._bytes += struct.pack(head, tag.number, tag.kind, tag.count)
            place = self._values.setdefault((level, tag.number), len(self._bytes))
            if place < offset:
                self._pointers.append((len(self._bytes), place))
            self._bytes += (b"" if place < offset else tag.data).ljust(inline, b"\0")
        self._bytes += bytes(inline)
        return offset

    def repeated(
        self, count: int, start: int, values: Mapping[tuple[int, int], Array]
    ) -> bytearray:
        """Return the bytes of planes that follow each other in the file and in the chain.

        The link of the last directory is 0, the end of the chain, until `link` sets it.

        Parameters
        ----------
        count
            Number of planes.
        start
            Position of the first one in the file, a multiple of 8.
        values
            For levels (0: the directory itself) and tags, a row of values for each plane, in the
            type and byte order of the file.
        """
        rows = np.empty((count, self.length), np.uint8)
        rows[:] = np.frombuffer(self._bytes, np.uint8)
        pointer = np.dtype(f"{BYTE_ORDER}u{self._header.offset_bytes}")
        origins = start + self.length * np.arange(count)

        def put(rows: Array, place: int, numbers: Array) -> None:
            data = np.ascontiguousarray(numbers).view(np.uint8).reshape(len(rows), -1)
            rows[:, place : place + data.shape[1]] = data

        for place, target in self._pointers:
            put(rows, place, (origins + target).astype(pointer))
        if count > 1:
            put(rows[:-1], self._link, (origins[1:] + self.offset).astype(pointer))
        for entry, numbers in values.items():
            put(rows, self._values[entry], numbers)
        return bytearray(rows)

    def link(self, block: bytearray, offset: int) -> None:
        """Set the link of the last directory at the end of `block` to the next one's offset."""
        place = len(block) - self.length + self._link
        struct.pack_into(BYTE_ORDER + self._header.offset_code, block, place, offset)


def pack_header(first: int, *, big: bool) -> bytes:
    """Return the header of a file whose first directory is at byte `first`."""
    return TiffHeader(BYTE_ORDER, big=big, first=first).pack()
