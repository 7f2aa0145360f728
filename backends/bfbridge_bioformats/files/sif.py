"""Andor SIF files whose pixels Bio-Formats reads from a wrong position.

SIFReader counts back from the end of the file: the length of the first block of pixels, plus eight
bytes. A file may contain further blocks (background, reference), or another number of bytes at the
end. SIFReader then reads another block, or pixels that are shifted by one. The first block follows
its own header, and a line after it states whether another block follows. Java reads a file that
consists of the header, the first block and eight bytes.
"""

from __future__ import annotations

import re
from math import prod
from typing import Final

from bfbridge.errors import Unsupported
from bfbridge.limits import Limits
from bfbridge.storage.source import RandomAccess
from bfbridge_bioformats.files.dicom_parts import Added, Joined, Stretch

__all__ = ["corrected"]

MAGIC: Final = b"Andor Technology"
_FOOTER: Final = b"0\n" * 4
_HEADER: Final = 1 << 20
# The line with the sizes, and the one with area and binning, each after a type number.
_SIZES: Final = re.compile(rb"Pixel number\d+ +([^\n]*)\n *\d+ +([^\n]*)\n")
_FLAG: Final = re.compile(rb" *([01]) *\r?\n")
_PIXEL: Final = 4


def corrected(access: RandomAccess, name: str, limits: Limits) -> RandomAccess | None:
    """Return a SIF file in a form that Bio-Formats reads correctly, or None if it already is.

    Raises
    ------
    Unsupported
        The position of its pixels is unknown.
    """
    del limits
    head = bytes(access.read_at(0, min(_HEADER, access.size)))
    if not head.startswith(MAGIC):
        return None
    found = next(filter(None, map(_planes, _SIZES.finditer(head))), None)
    if found is None:
        # Java reports what is wrong with its header.
        return None
    frames, length, at = found
    taken = access.size - len(_FOOTER) - length
    places = [place for place in _places(head, at, frames) if _is_block(access, place, length)]
    if taken in places:
        return None
    if not places:
        raise Unsupported(
            f"{name}: the position of the pixels in this SIF file is unknown, and Bio-Formats "
            "reads such files from a wrong position. Convert it with the vendor's software."
        )
    return Joined(access, [Stretch(access, 0, places[0] + length), Added(_FOOTER)])


def _planes(sizes: re.Match[bytes]) -> tuple[int, int, int] | None:
    """Return the number of frames, the bytes of all pixels, and the position of the frame times."""
    try:
        # Channels, then X, Y, Z, T; as in SIFReader.initFile.
        numbers = [int(text) for text in sizes[1].split()]
        left, top, right, bottom, *binning = (int(text) for text in sizes[2].split()[:6])
        channels, _, _, depth, times = numbers[:5]
        width, height = abs(left - right) + binning[0], abs(top - bottom) + binning[1]
    except (ValueError, IndexError):
        return None
    frames = prod((channels, depth, times))
    length = frames * width * height * _PIXEL
    return (frames, length, sizes.end()) if frames > 0 and length > 0 else None


def _places(head: bytes, at: int, frames: int) -> list[int]:
    """Return possible positions of the pixels: after the frame times and, if newer, more lines."""
    found: list[int] = []
    for _ in range(frames):
        at = head.find(b"\n", at) + 1
        if not at:
            return found
    found.append(at)
    flag = _FLAG.match(head, at)
    if flag is not None:
        at = flag.end()
        for _ in range(frames if flag[1] == b"1" else 0):
            at = head.find(b"\n", at) + 1
        found.append(at)
    return found


def _is_block(access: RandomAccess, place: int, length: int) -> bool:
    """Whether a line about further blocks, or the end of the file, follows these pixels."""
    end = place + length
    if end >= access.size:
        return end == access.size
    return _FLAG.match(bytes(access.read_at(end, 16))) is not None
