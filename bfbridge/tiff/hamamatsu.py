"""Recognition of Hamamatsu NDPI files, which are TIFF files with private tags."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from bfbridge.errors import BfbridgeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bfbridge.storage.source import Source

__all__ = ["is_ndpi"]

_VERSION: Final = 65420
"""A tag of every NDPI file, and of no other format."""
_SUFFIX: Final = ".ndpi"
_TIFF_SUFFIXES: Final = (".tif", ".tiff", ".tf2", ".tf8", ".btf")
_ENTRY_BYTES: Final = 12
_MOST_ENTRIES: Final = 4096


def is_ndpi(source: Source, head: bytes) -> bool:
    """Whether a source is a TIFF file whose first directory has Hamamatsu's tag.

    The directory is usually at the end of the file. To look for it there takes one more read. This
    is not done for names of plain TIFF files, which are opened in large numbers, nor for URLs
    without the suffix ``.ndpi``. Bio-Formats requires this suffix.

    Parameters
    ----------
    source, head
        The source, and its first bytes.
    """
    if head[:4] != b"II*\0" or len(head) < 12:
        return False
    narrow, wide = struct.unpack_from("<I", head, 4)[0], struct.unpack_from("<Q", head, 4)[0]
    if _has_tag(lambda offset, length: head[offset : offset + length], narrow):
        return True
    name = source.filename.lower()
    if not name.endswith(_SUFFIX) and (source.url is not None or name.endswith(_TIFF_SUFFIXES)):
        return False
    try:
        access = source.open()
    except BfbridgeError:
        return False
    try:
        size = access.size
        return any(
            offset < size and _has_tag(lambda at, length: bytes(access.read_at(at, length)), offset)
            for offset in dict.fromkeys((narrow, wide))
        )
    except BfbridgeError:
        return False
    finally:
        access.close()


def _has_tag(read: Callable[[int, int], bytes], offset: int) -> bool:
    """Whether the directory at an offset has the tag; `read` takes an offset and a length."""
    stored = read(offset, 2)
    count = int.from_bytes(stored, "little")
    if len(stored) < 2 or count > _MOST_ENTRIES:
        return False
    entries = read(offset + 2, count * _ENTRY_BYTES)
    whole = len(entries) // _ENTRY_BYTES * _ENTRY_BYTES
    return any(tag == _VERSION for (tag,) in struct.iter_unpack("<H10x", entries[:whole]))
