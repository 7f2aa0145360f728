"""The header of MRC files, as https://www.ccpem.ac.uk/mrc_format/mrc2014.php defines it."""

from __future__ import annotations

import struct
from typing import Any, Literal, NamedTuple

import numpy as np

from bfbridge.errors import UnreadableFile, Unsupported

__all__ = ["DTYPES", "HEADER_BYTES", "Header"]

HEADER_BYTES = 1024
# Words 1-4: columns, rows, sections, mode; words 11-13: length of the volume in Å.
DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype("i1"),
    1: np.dtype("i2"),
    2: np.dtype("f4"),
    6: np.dtype("u2"),
}
MARK, MARK_AT = b"MAP ", 208
STAMPS: dict[bytes, Literal["<", ">"]] = {
    b"DD": "<",
    b"DA": "<",
    b"\x11\x11": ">",
}


class Header(NamedTuple):
    """What the pixels of a file are.

    Attributes
    ----------
    columns, rows, sections
        Sizes along X, Y and Z.
    dtype
        With the byte order of the file.
    offset
        Where the pixels begin.
    lengths
        Lengths of the volume along X, Y and Z in Å; 0 where they are not known.
    """

    columns: int
    rows: int
    sections: int
    dtype: np.dtype[Any]
    offset: int = HEADER_BYTES
    lengths: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def end(self) -> int:
        """Where the pixels end."""
        pixels = self.columns * self.rows * self.sections
        return self.offset + pixels * self.dtype.itemsize

    @classmethod
    def parse(cls, head: bytes, name: str) -> Header:
        """Read the first 1024 bytes of a file.

        Raises
        ------
        Unsupported
            It is not an MRC 2014 file, or has pixels of another type.
        UnreadableFile
            Its sizes cannot be true.
        """
        if len(head) < HEADER_BYTES or head[MARK_AT : MARK_AT + 4] != MARK:
            raise Unsupported("no MRC 2014 header")
        order = STAMPS.get(head[212:214])
        if order is None:
            raise Unsupported(f"a machine stamp {head[212:216].hex()} that is not known")
        columns, rows, sections, mode = struct.unpack_from(f"{order}4i", head)
        (extended,) = struct.unpack_from(f"{order}i", head, 92)
        if mode not in DTYPES:
            raise Unsupported(f"pixels of mode {mode}")
        if min(columns, rows, sections) < 1 or extended < 0:
            raise UnreadableFile(
                f"{name}: the header has {columns} x {rows} x {sections} pixels and an extended "
                f"header of {extended} bytes; the file is damaged."
            )
        lengths = struct.unpack_from(f"{order}3f", head, 40)
        dtype = DTYPES[mode].newbyteorder(order)
        return cls(columns, rows, sections, dtype, HEADER_BYTES + extended, lengths)

    def to_bytes(self) -> bytes:
        """Return the header as stored, little-endian."""
        mode = next(mode for mode, dtype in DTYPES.items() if dtype == self.dtype)
        head = bytearray(HEADER_BYTES)
        sizes = (self.columns, self.rows, self.sections)
        struct.pack_into("<4i", head, 0, *sizes, mode)
        struct.pack_into("<3i", head, 28, *sizes)
        struct.pack_into("<3f", head, 40, *self.lengths)
        struct.pack_into("<3f", head, 52, 90.0, 90.0, 90.0)
        struct.pack_into("<3i", head, 64, 1, 2, 3)
        struct.pack_into("<i", head, 108, 20140)
        head[MARK_AT : MARK_AT + 8] = MARK + b"DD\0\0"
        return bytes(head)
