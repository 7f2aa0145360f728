"""TIFF headers, field types, and the format of directory entries.

TIFF 6.0 section 2, and BigTIFF (http://www.awaresystems.be/imaging/tiff/bigtiff.html).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["FIELD_TYPES", "HEADER_BYTES", "WHOLE", "Entry", "TiffHeader", "parse_header"]

HEADER_BYTES: Final = 16
"""Bytes that `parse_header` needs of a BigTIFF file; a classic header has 8."""

CLASSIC: Final = 42
BIG: Final = 43

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
LONG8, IFD, IFD8 = 16, 13, 18

FIELD_TYPES: Final[dict[int, tuple[str, int]]] = {
    BYTE: ("B", 1),
    ASCII: ("", 1),
    SHORT: ("H", 2),
    LONG: ("I", 4),
    RATIONAL: ("II", 8),
    6: ("b", 1),
    UNDEFINED: ("", 1),
    8: ("h", 2),
    9: ("i", 4),
    10: ("ii", 8),
    11: ("f", 4),
    12: ("d", 8),
    IFD: ("I", 4),
    LONG8: ("Q", 8),
    17: ("q", 8),
    IFD8: ("Q", 8),
}
"""Field type to `struct` code and bytes of one value; types without a code are bytes."""

WHOLE: Final = "BHIQbhiq"
"""Codes of `FIELD_TYPES` that are whole numbers."""


class Entry(NamedTuple):
    """One directory entry: field type, number of values, and their position in the file."""

    kind: int
    values: int
    offset: int


class TiffHeader:
    """Byte order and variant of a TIFF file, which define the format of its directories.

    Attributes
    ----------
    byteorder
        "<" or ">".
    big
        Whether it is BigTIFF.
    first
        Offset of the first directory.
    count_code, count_bytes
        `struct` code and bytes of a directory's number of entries.
    offset_code, offset_bytes
        The same for an offset, and for a value inside an entry.
    entry_bytes
        Size of one directory entry.
    """

    __slots__ = (
        "_entry",
        "big",
        "byteorder",
        "count_bytes",
        "count_code",
        "entry_bytes",
        "first",
        "offset_bytes",
        "offset_code",
    )

    def __init__(self, byteorder: str, *, big: bool, first: int = 0) -> None:
        self.byteorder = byteorder
        self.big = big
        self.first = first
        self.count_code, self.count_bytes = ("Q", 8) if big else ("H", 2)
        self.offset_code, self.offset_bytes = ("Q", 8) if big else ("I", 4)
        self.entry_bytes = 20 if big else 12
        # Tag, field type, number of values, the value or its offset.
        self._entry = struct.Struct(byteorder + ("HHQQ" if big else "HHII"))

    def number(self, code: str, data: bytes) -> int:
        """Return the first number in `data` for a `struct` code, in the file's byte order."""
        return int(struct.unpack(self.byteorder + code, data)[0])

    def pack(self) -> bytes:
        """Return the bytes of the header."""
        mark = b"II" if self.byteorder == "<" else b"MM"
        if self.big:
            return mark + struct.pack(f"{self.byteorder}HHHQ", BIG, 8, 0, self.first)
        return mark + struct.pack(f"{self.byteorder}HI", CLASSIC, self.first)

    def entries(self, block: bytes, start: int) -> Iterator[tuple[int, Entry]]:
        """Yield the tags and entries of a directory.

        Parameters
        ----------
        block
            The stored entries, a whole number of them.
        start
            Offset of `block` in the file. Values that fit into their entry are stored there.
        """
        inline = self.offset_bytes
        at = start - inline
        for tag, kind, count, pointer in self._entry.iter_unpack(block):
            at += self.entry_bytes
            known = FIELD_TYPES.get(kind)
            fits = known is None or count * known[1] <= inline
            yield tag, Entry(kind, count, at if fits else pointer)


def parse_header(head: bytes, *, strict: bool = True) -> TiffHeader | None:
    """Return the header at the beginning of a file, or None if it is not a TIFF header.

    Parameters
    ----------
    head
        The first `HEADER_BYTES` bytes of the file, or all of a shorter one.
    strict
        Whether the constants of a BigTIFF header are checked. Bio-Formats' TiffParser skips them.

    Raises
    ------
    ValueError
        It begins as a TIFF header, but its version or its BigTIFF part is not valid.
    """
    byteorder = {b"II": "<", b"MM": ">"}.get(head[:2])
    if byteorder is None or len(head) < 8:
        return None
    version = struct.unpack_from(byteorder + "H", head, 2)[0]
    if version == CLASSIC:
        (first,) = struct.unpack_from(byteorder + "I", head, 4)
        return TiffHeader(byteorder, big=False, first=first)
    if version != BIG:
        raise ValueError(f"its version is {version}")
    if len(head) < HEADER_BYTES:
        raise ValueError("its BigTIFF header is damaged")
    offset_bytes, _, first = struct.unpack_from(byteorder + "HHQ", head, 4)
    if strict and offset_bytes != 8:
        raise ValueError("its BigTIFF header is damaged")
    return TiffHeader(byteorder, big=True, first=first)
