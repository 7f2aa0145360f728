"""Sequential reading of a file's structure: few requests, and an error at the end of the file."""

from __future__ import annotations

import struct
from typing import Any

from bfbridge.storage.source import RandomAccess

__all__ = ["Cursor", "DamagedPicture"]

_BLOCK = 1 << 16


class DamagedPicture(Exception):
    """A picture violates its format; the caller adds the file and the position."""


class Cursor:
    """A position in a file that moves forward.

    Parameters
    ----------
    access
        The open file. It is read in blocks of 64 KiB, to send few requests to a server.
    position
        First byte to read.
    """

    def __init__(self, access: RandomAccess, position: int = 0) -> None:
        self.access = access
        self.size = access.size
        self.position = position
        self._start = 0
        self._block = b""

    def read(self, length: int) -> bytes:
        """Return the next `length` bytes.

        Raises
        ------
        DamagedPicture
            The file ends before.
        """
        data = self.peek(length)
        if len(data) < length:
            raise DamagedPicture(
                f"the file is cut short: {length:,} bytes are needed at byte {self.position:,}, "
                f"and the file has {self.size:,} bytes"
            )
        self.position += length
        return data

    def peek(self, length: int) -> bytes:
        """Return the next `length` bytes, fewer at the end of the file, without moving."""
        first = self.position - self._start
        if not 0 <= first <= first + length <= len(self._block):
            self._start, first = self.position, 0
            most = max(self.size - self.position, 0)
            self._block = bytes(self.access.read_at(self.position, min(max(length, _BLOCK), most)))
        return self._block[first : first + length]

    def unpack(self, form: str) -> tuple[Any, ...]:
        """Return the next values, as `struct.unpack` does."""
        return struct.unpack(form, self.read(struct.calcsize(form)))

    def byte(self) -> int:
        """Return the next byte as a number."""
        return self.read(1)[0]

    def skip(self, length: int) -> None:
        """Move forward.

        Raises
        ------
        DamagedPicture
            It would move past the end of the file.
        """
        if self.position + length > self.size:
            raise DamagedPicture(
                f"the file is cut short: a part of it should end at byte "
                f"{self.position + length:,}, and the file has {self.size:,} bytes"
            )
        self.position += length
