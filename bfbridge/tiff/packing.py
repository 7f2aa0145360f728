"""Conversion of image directories (IFDs) to bytes, after the segments have been written."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
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

__all__ = ["BYTE_ORDER", "NewDirectory", "TagValue", "pack_directory", "pack_header", "patch_link"]

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
    def offsets(cls, number: int, values: np.ndarray[Any, Any], *, big: bool) -> TagValue:
        """Make an entry of file offsets or byte counts."""
        kind = LONG8 if big else LONG
        data = values.astype(f"{BYTE_ORDER}u{8 if big else 4}").tobytes()
        return cls(number, kind, len(values), data)


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


@cache
def _header(big: bool) -> TiffHeader:
    return TiffHeader(BYTE_ORDER, big=big)


def pack_header(first: int, *, big: bool) -> bytes:
    """Return the header of a file whose first directory is at byte `first`."""
    return TiffHeader(BYTE_ORDER, big=big, first=first).pack()


def pack_directory(ifd: NewDirectory, base: int, *, big: bool) -> tuple[bytearray, int, int]:
    """Return a directory with the values it refers to, for byte `base` of the file.

    Returns
    -------
    (bytes, offset of the directory, position of its link to the next directory in the bytes)
        The link is 0, the end of the chain, until `patch_link` sets it.
    """
    header = _header(big)
    out = bytearray()
    offsets = [_pack_one(tags, base, out, header)[0] for tags in ifd.below]
    tags = ifd.tags
    if offsets:
        kind = IFD8 if big else IFD
        data = struct.pack(f"{BYTE_ORDER}{len(offsets)}{header.offset_code}", *offsets)
        tags = [*tags, TagValue(Tag.SubIFDs, kind, len(offsets), data)]
    offset, link = _pack_one(tags, base, out, header)
    return out, offset, link


def _pack_one(
    tags: list[TagValue], base: int, out: bytearray, header: TiffHeader
) -> tuple[int, int]:
    """Append one directory after its long values; return its offset and its link's position."""
    inline = header.offset_bytes
    head = f"{BYTE_ORDER}HH{header.offset_code}"
    pointer = BYTE_ORDER + header.offset_code
    entries = bytearray()
    for tag in sorted(tags, key=_NUMBER):
        data = tag.data
        entries += struct.pack(head, tag.number, tag.kind, tag.count)
        if len(data) <= inline:
            entries += data.ljust(inline, b"\0")
            continue
        out += b"\0" * (-(base + len(out)) % 8)
        entries += struct.pack(pointer, base + len(out))
        out += data
    out += b"\0" * (-(base + len(out)) % 8)
    offset = base + len(out)
    out += struct.pack(BYTE_ORDER + header.count_code, len(tags)) + entries
    link = len(out)
    out += b"\0" * inline
    return offset, link


def patch_link(block: bytearray, link: int, offset: int, *, big: bool) -> None:
    """Set the link inside a block to the offset of the next directory."""
    struct.pack_into(BYTE_ORDER + _header(big).offset_code, block, link, offset)
