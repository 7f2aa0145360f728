"""The parts of a LIF file: an XML document, then named blocks of pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess

__all__ = ["MAGIC", "MemoryBlock", "read_blocks", "read_xml"]

MAGIC: Final = 0x70
_MARK: Final = 0x2A
_HEAD: Final = struct.Struct("<IIBI")
_OBJECT_FILE: Final = "LMS_Object_File"
# Size of the first read: the head of a block and usual names.
_AHEAD: Final = 256
# Longest accepted name of a block, in characters.
_LONGEST_NAME: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class MemoryBlock:
    """Position of the pixels of an image, in bytes."""

    offset: int
    size: int


def read_xml(access: RandomAccess, name: str, limits: Limits) -> tuple[str, int]:
    """Return the document of a file, and the position of the blocks.

    Raises
    ------
    Unsupported
        It is not a LIF file.
    UnreadableFile
        It is truncated.
    LimitExceeded
        The document is longer than the limits allow.
    """
    head = bytes(access.read_at(0, _HEAD.size))
    if len(head) < _HEAD.size:
        raise Unsupported("not a LIF file")
    magic, _, mark, length = _HEAD.unpack(head)
    if magic != MAGIC or mark != _MARK:
        raise Unsupported("not a LIF file")
    check(2 * length, limits.xml_bytes, "length of the XML in bytes", name)
    end = _HEAD.size + 2 * length
    if end > access.size:
        raise UnreadableFile(
            f"{name}: its XML should end at byte {end:,}, but the file has {access.size:,}; it is "
            "truncated or damaged."
        )
    text = bytes(access.read_at(_HEAD.size, 2 * length)).decode("utf-16-le", "replace")
    if text.rstrip("\0") == _OBJECT_FILE:
        raise Unsupported("a Leica object file (LOF)")
    return text.rstrip("\0 "), end


def read_blocks(
    access: RandomAccess, begin: int, name: str, limits: Limits
) -> dict[str, MemoryBlock]:
    """Return the blocks of a file by name.

    Raises
    ------
    UnreadableFile
        A block is damaged, or does not fit the file.
    LimitExceeded
        There are more blocks than the limits allow.
    """
    found: dict[str, MemoryBlock] = {}
    at = begin
    while at < access.size:
        head = bytes(access.read_at(at, _AHEAD))
        magic = struct.unpack_from("<I", head)[0] if len(head) >= 4 else 0
        if magic == 0 and found and not any(head):
            # LAS X writes zeros at the end of some files.
            break
        size, begins, characters = _block_head(head)
        if magic != MAGIC or not 0 < characters <= _LONGEST_NAME:
            raise UnreadableFile(
                f"{name}: there is no block of pixels at byte {at:,}; the file is damaged."
            )
        raw = head[begins : begins + 2 * characters]
        if len(raw) < 2 * characters:
            raw = bytes(access.read_at(at + begins, 2 * characters))
        offset = at + begins + 2 * characters
        if offset + size > access.size:
            raise UnreadableFile(
                f"{name}: its block of pixels at byte {at:,} should end at byte {offset + size:,}, "
                f"but the file has {access.size:,}; it is truncated or damaged."
            )
        found[raw.decode("utf-16-le", "replace").rstrip("\0")] = MemoryBlock(offset, size)
        check(len(found), limits.directories, "number of blocks of pixels", name)
        at = offset + size
    return found


def _block_head(head: bytes) -> tuple[int, int, int]:
    """Return the size of a block, the position of its name, and the characters of its name.

    Sizes have 32 bits in old files and 64 in new files; the mark after them tells the width.
    """
    if len(head) >= 22 and head[8] == _MARK:
        if head[13] == _MARK:
            size, _, characters = struct.unpack_from("<IBI", head, 9)
            return int(size), 18, int(characters)
        if head[17] == _MARK:
            size, _, characters = struct.unpack_from("<QBI", head, 9)
            return int(size), 22, int(characters)
    return 0, 0, 0
