"""The chunks of an ND2 file: names and positions, from the map at its end.

A chunk is a head (mark, length of its name, length of its data), its padded name, and its data.
The map lists every other chunk with offset and length; the last 40 bytes of a file state the
position of the map.
"""

from __future__ import annotations

import struct
from typing import Final

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess

__all__ = ["Nd2File"]

_MARK: Final = 0x0ABECEDA
_HEAD: Final = struct.Struct("<IIQ")
_PLACE: Final = struct.Struct("<QQ")
_SIGNATURE: Final = b"ND2 FILE SIGNATURE CHUNK NAME01!"
_MAP: Final = b"ND2 FILEMAP SIGNATURE NAME 0001!"
_MAP_PLACE: Final = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_TAIL: Final = struct.Struct("<32sQ")
_FIRST: Final = 3
# Longest accepted name of a chunk; Elements pads names to up to 4,080 bytes.
_LONGEST_NAME: Final = 1 << 16
# Names that are compared are shorter than this.
_NAME: Final = 256


class Nd2File:
    """The map of chunks of one file.

    Attributes
    ----------
    access
        The open file.
    name
        Name of the file, for messages.
    chunks
        Offset of the head of every chunk by its name (including "!"), in the order of the map.
    """

    def __init__(self, access: RandomAccess, name: str, limits: Limits) -> None:
        self.access, self.name, self._limits = access, name, limits
        self._check_version()
        self.chunks = self._read_map()

    def _check_version(self) -> None:
        head = bytes(self.access.read_at(0, _HEAD.size + len(_SIGNATURE) + 8))
        if len(head) < _HEAD.size or _HEAD.unpack_from(head)[0] != _MARK:
            raise Unsupported("an ND2 file of the old form, with JPEG 2000")
        text = head[_HEAD.size + len(_SIGNATURE) :]
        if not head[_HEAD.size :].startswith(_SIGNATURE) or text[:3] != b"Ver":
            raise Unsupported("an ND2 file without its version")
        if not text[3:4].isdigit() or int(text[3:4]) < _FIRST:
            raise Unsupported("an ND2 file before version 3, with metadata as XML")

    def _read_map(self) -> dict[str, int]:
        tail = bytes(self.access.read_at(max(self.access.size - _TAIL.size, 0), _TAIL.size))
        signature, at = _TAIL.unpack(tail) if len(tail) == _TAIL.size else (b"", 0)
        if signature != _MAP_PLACE:
            raise UnreadableFile(
                f"{self.name}: the map of chunks is missing at its end: it is truncated or "
                "damaged, or the recording was stopped. BioReader(..., backend='bioformats') "
                "searches the file for remaining frames; lost pixels are then 0."
            )
        begin, length, name = self._head(at, "its map of chunks")
        if name != _MAP:
            raise self._damaged("its map of chunks")
        data = self._bytes(begin, length, "its map of chunks")
        found: dict[str, int] = {}
        at = 0
        while True:
            end = data.find(b"!", at) + 1
            if data[at:end] == _MAP_PLACE:
                return found
            if not end or end - at > _LONGEST_NAME or end + _PLACE.size > len(data):
                raise self._damaged("its map of chunks")
            chunk = data[at:end].decode("utf-8", "replace")
            offset, _ = _PLACE.unpack_from(data, end)
            if offset + _HEAD.size > self.access.size:
                raise UnreadableFile(
                    f"{self.name}: chunk {chunk!r} should begin at byte {offset:,}, but the file "
                    f"has {self.access.size:,}; it is truncated or damaged."
                )
            found[chunk] = offset
            check(len(found), self._limits.directories, "number of chunks", self.name)
            at = end + _PLACE.size

    def place(self, chunk: str) -> tuple[int, int]:
        """Return the position of a chunk's data, and their length in bytes.

        Raises
        ------
        UnreadableFile
            Another chunk is at this position, or the chunk ends after the end of the file.
        """
        begin, length, name = self._head(self.chunks[chunk], f"chunk {chunk!r}")
        if name != chunk.encode():
            raise self._damaged(f"chunk {chunk!r}")
        return begin, length

    def read(self, chunk: str) -> bytes:
        """Return a chunk's data.

        Raises
        ------
        UnreadableFile
            It is damaged, or ends after the end of the file.
        LimitExceeded
            It is longer than the limits allow.
        """
        begin, length = self.place(chunk)
        return self._bytes(begin, length, f"chunk {chunk!r}")

    def _head(self, at: int, what: str) -> tuple[int, int, bytes]:
        """Return the position of the data of the chunk at `at`, their length, and its name."""
        if at + _HEAD.size > self.access.size:
            raise self._damaged(what)
        head = bytes(self.access.read_at(at, _HEAD.size + _NAME))
        mark, length_of_name, length = _HEAD.unpack_from(head)
        if mark != _MARK or not 0 < length_of_name <= _LONGEST_NAME:
            raise self._damaged(what)
        begin = at + _HEAD.size + length_of_name
        if begin + length > self.access.size:
            raise UnreadableFile(
                f"{self.name}: {what} should end at byte {begin + length:,}, but the file has "
                f"{self.access.size:,}; it is truncated or damaged."
            )
        name, mark_of_end, _ = head[_HEAD.size : _HEAD.size + length_of_name].partition(b"!")
        return begin, length, name + mark_of_end

    def _bytes(self, begin: int, length: int, what: str) -> bytes:
        check(length, self._limits.tag_bytes, f"length of {what} in bytes", self.name)
        return bytes(self.access.read_at(begin, length))

    def _damaged(self, what: str) -> UnreadableFile:
        return UnreadableFile(f"{self.name}: {what} is not where it should be; it is damaged.")
