"""DICOM whose frames lie in several fragments, joined before Java sees the file.

A frame that is packed as JPEG or JPEG 2000 may be cut into fragments (PS3.5, annex A.4).
Bio-Formats' DicomReader looks for the beginning of a frame and takes all that follows for its
data, the headers of further fragments with it: pixels are wrong from there on. What Java reads here
is the same file with each frame in one fragment.
"""

from __future__ import annotations

import bisect
import re
import struct
from itertools import accumulate, pairwise
from typing import Final

from bfbridge.errors import UnreadableFile
from bfbridge.limits import Limits, check
from bfbridge.source import RandomAccess

from .extents import UNDEFINED, pixel_data

__all__ = ["is_dicom", "joined"]

_ITEM: Final = b"\xfe\xff\x00\xe0"
# JPEG (.50 to .70), JPEG-LS (.80, .81) and JPEG 2000 (.90 to .93): each frame is a stream of its
# own. Run lengths (.5) have one fragment a frame, and videos have no frames of their own.
_SYNTAX: Final = re.compile(
    rb"\x02\x00\x10\x00UI..1\.2\.840\.10008\.1\.2\.4\.([5-9]\d)(?!\d)", re.DOTALL
)
_JPEG, _JPEG2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
_HEAD: Final = 4096
_BLOCK: Final = 1 << 16

# A stretch of the joined file: bytes as they are, or offset and length in the file on disk.
_Part = bytes | tuple[int, int]


def is_dicom(access: RandomAccess) -> bool:
    """Whether a file has DICOM's mark."""
    return bytes(access.read_at(128, 4)) == b"DICM"


def joined(access: RandomAccess, name: str, limits: Limits) -> RandomAccess | None:
    """Return a DICOM file with each frame in one fragment, or None where that is so already.

    Raises
    ------
    UnreadableFile
        Frames and fragments do not fit together.
    """
    head = bytes(access.read_at(0, min(_HEAD, access.size)))
    if head[128:132] != b"DICM" or not (syntax := _SYNTAX.search(head)):
        return None
    buffered = _Buffered(access)
    found = pixel_data(buffered, limits, implicit=False)
    if not found.at or found.length != UNDEFINED:
        return None
    fragments, end = _fragments(buffered, found.at, limits)
    table, fragments = fragments[:1], fragments[1:]
    if len(fragments) == found.frames:
        return None
    if len(fragments) < found.frames:
        raise UnreadableFile(
            f"{name}: it declares {found.frames} frames, and only {len(fragments)} are there; it "
            "is damaged. Copy or download it again."
        )
    start = _JPEG2000 if syntax.group(1) >= b"90" else _JPEG
    offsets = _offsets(access, *table[0])
    frames = _frames(access, fragments, found.frames, start, offsets)
    if frames is None:
        raise UnreadableFile(
            f"{name}: its {found.frames} frames lie in {len(fragments)} fragments, and which of "
            "them belong together cannot be told. Save it again with one fragment a frame."
        )
    parts: list[_Part] = [(0, found.at), _ITEM + bytes(4)]
    for frame in frames:
        length = sum(size for _, size in frame)
        parts += [_ITEM + struct.pack("<I", length + length % 2), *frame, bytes(length % 2)]
    parts.append((end, access.size - end))
    return _Joined(access, parts)


def _fragments(access: RandomAccess, at: int, limits: Limits) -> tuple[list[tuple[int, int]], int]:
    """Return offset and length of every item, the table of offsets first, and where they end."""
    found: list[tuple[int, int]] = []
    while True:
        raw = bytes(access.read_at(at, 8))
        if raw[:4] != _ITEM or len(raw) < 8:
            # What is wrong with the end of a file, `extents.dicom` tells.
            return found or [(at, 0)], at
        (length,) = struct.unpack_from("<I", raw, 4)
        found.append((at + 8, length))
        check(len(found), limits.directories, "number of fragments", "DICOM file")
        at += 8 + length


def _offsets(access: RandomAccess, at: int, length: int) -> list[int]:
    """Return the basic offset table: of each frame's first item, from the end of the table on."""
    raw = bytes(access.read_at(at, length - length % 4))
    return [at + length + int(offset) for (offset,) in struct.iter_unpack("<I", raw)]


def _frames(
    access: RandomAccess,
    fragments: list[tuple[int, int]],
    count: int,
    start: bytes,
    offsets: list[int],
) -> list[list[tuple[int, int]]] | None:
    """Return the fragments of each frame, or None where that is not certain."""
    if count == 1:
        return [fragments]
    # A frame begins a fragment, and a stream begins with its mark.
    marked = [
        number
        for number, (at, size) in enumerate(fragments)
        if start.startswith(bytes(access.read_at(at, min(size, len(start)))))
    ]
    if len(offsets) == count:
        items = {at - 8: number for number, (at, _) in enumerate(fragments)}
        told = [items.get(offset, -1) for offset in offsets]
        if not set(told) <= set(marked):
            return None
        marked = told
    if len(marked) != count or marked[0] != 0 or marked != sorted(marked):
        return None
    return [fragments[a:b] for a, b in pairwise([*marked, len(fragments)])]


class _Buffered:
    """Small reads one after the other, made of few large ones."""

    def __init__(self, access: RandomAccess) -> None:
        self._access = access
        self.size = access.size
        self._start = 0
        self._block = b""

    def read_at(self, offset: int, length: int) -> bytes:
        """Return `length` bytes, fewer at the end of the file."""
        first = offset - self._start
        if not 0 <= first <= first + length <= len(self._block):
            self._start, first = offset, 0
            self._block = bytes(self._access.read_at(offset, max(length, _BLOCK)))
        return self._block[first : first + length]

    def close(self) -> None:
        """Nothing to release: the file belongs to the caller."""


class _Joined:
    """Parts of a file, and bytes between them, one after the other.

    Parameters
    ----------
    access
        The file on disk; closed with this.
    parts
        In their order.
    """

    def __init__(self, access: RandomAccess, parts: list[_Part]) -> None:
        self._access = access
        self._parts = [part for part in parts if _length(part)]
        self._ends = list(accumulate(map(_length, self._parts)))
        self.size = self._ends[-1]

    def read_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes; fewer only at the end."""
        found = []
        stop = min(offset + length, self.size)
        number = bisect.bisect_right(self._ends, offset)
        while offset < stop:
            part, end = self._parts[number], self._ends[number]
            inner = offset - (end - _length(part))
            size = min(stop, end) - offset
            if isinstance(part, bytes):
                found.append(part[inner : inner + size])
            else:
                found.append(bytes(self._access.read_at(part[0] + inner, size)))
            offset += size
            number += 1
        return b"".join(found)

    def close(self) -> None:
        """Release the file."""
        self._access.close()


def _length(part: _Part) -> int:
    return len(part) if isinstance(part, bytes) else part[1]
