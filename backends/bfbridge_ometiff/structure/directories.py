"""Image directories (IFDs) to bytes, for a file whose segments are already in place."""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import numpy as np

__all__ = ["BYTE_ORDER", "Ifd", "Tag", "header", "pack_directory", "patch_link"]

BYTE_ORDER: Final = "<" if sys.byteorder == "little" else ">"

BYTE, ASCII, SHORT, LONG, RATIONAL, LONG8, IFD, IFD8 = 1, 2, 3, 4, 5, 16, 13, 18
UNDEFINED = 7
_CODES: Final = {SHORT: "H", LONG: "I", LONG8: "Q", IFD: "I", IFD8: "Q"}


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry: number, field type, count and the bytes of its values."""

    number: int
    kind: int
    count: int
    data: bytes

    @classmethod
    def short(cls, number: int, *values: int) -> Tag:
        """Make an entry of 16-bit numbers."""
        return cls(number, SHORT, len(values), struct.pack(f"{BYTE_ORDER}{len(values)}H", *values))

    @classmethod
    def long(cls, number: int, *values: int) -> Tag:
        """Make an entry of 32-bit numbers."""
        return cls(number, LONG, len(values), struct.pack(f"{BYTE_ORDER}{len(values)}I", *values))

    @classmethod
    def text(cls, number: int, text: str) -> Tag:
        """Make an entry of text, with the NUL that ends it."""
        data = text.encode() + b"\0"
        return cls(number, ASCII, len(data), data)

    @classmethod
    def rational(cls, number: int, *values: float) -> Tag:
        """Make an entry of fractions of 32-bit numbers."""
        parts = [part for value in values for part in _fraction(value)]
        data = struct.pack(f"{BYTE_ORDER}{len(parts)}I", *parts)
        return cls(number, RATIONAL, len(values), data)

    @classmethod
    def places(cls, number: int, values: np.ndarray[Any, Any], *, big: bool) -> Tag:
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
class Ifd:
    """One directory to be: its own entries, and those below it, each with entries of its own."""

    tags: list[Tag]
    below: list[list[Tag]] = field(default_factory=list)


def header(first: int, *, big: bool) -> bytes:
    """Return the first bytes of a file whose first directory is at `first`."""
    mark = b"II" if BYTE_ORDER == "<" else b"MM"
    if big:
        return mark + struct.pack(f"{BYTE_ORDER}HHHQ", 43, 8, 0, first)
    return mark + struct.pack(f"{BYTE_ORDER}HI", 42, first)


def pack_directory(ifd: Ifd, base: int, *, big: bool) -> tuple[bytearray, int, int]:
    """Lay out a directory with what it points to, beginning at byte `base` of the file.

    Returns
    -------
    (bytes, position of the directory, position inside the bytes of its link to the next)
        The link is 0, the end of the chain, until it is filled in.
    """
    out = bytearray()
    places = [_pack_one(tags, base, out, big=big)[0] for tags in ifd.below]
    tags = ifd.tags
    if places:
        kind = IFD8 if big else IFD
        data = struct.pack(f"{BYTE_ORDER}{len(places)}{'Q' if big else 'I'}", *places)
        tags = [*tags, Tag(330, kind, len(places), data)]
    place, link = _pack_one(tags, base, out, big=big)
    return out, place, link


def _pack_one(tags: list[Tag], base: int, out: bytearray, *, big: bool) -> tuple[int, int]:
    """Append one directory, its long values in front; return its place and its link's."""
    inline = 8 if big else 4
    entries = bytearray()
    for tag in sorted(tags, key=lambda tag: tag.number):
        entries += struct.pack(
            f"{BYTE_ORDER}HH{'Q' if big else 'I'}", tag.number, tag.kind, tag.count
        )
        if len(tag.data) <= inline:
            entries += tag.data.ljust(inline, b"\0")
            continue
        out += b"\0" * (-(base + len(out)) % 8)
        entries += struct.pack(f"{BYTE_ORDER}{'Q' if big else 'I'}", base + len(out))
        out += tag.data
    out += b"\0" * (-(base + len(out)) % 8)
    place = base + len(out)
    out += struct.pack(f"{BYTE_ORDER}{'Q' if big else 'H'}", len(tags)) + entries
    link = len(out)
    out += b"\0" * inline
    return place, link


def patch_link(block: bytearray, link: int, place: int, *, big: bool) -> None:
    """Point the link inside a block at the next directory."""
    struct.pack_into(f"{BYTE_ORDER}{'Q' if big else 'I'}", block, link, place)
