"""Andor SIF files whose pixels Bio-Formats takes from a wrong place.

SIFReader counts back from the end: as many bytes as the first block of pixels has, and eight for
what follows it. But a file may hold further blocks (a background, a reference), and less or more
may follow: of such a file another block is read, or pixels that are one too early. The block begins
behind its own header, and behind it a line says whether another one follows. What Java is given in
place of such a file is its first block with its header, and eight bytes.
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
# The line with the sizes, and the one with the area and binning, each after a number of its kind.
_SIZES: Final = re.compile(rb"Pixel number\d+ +([^\n]*)\n *\d+ +([^\n]*)\n")
_FLAG: Final = re.compile(rb" *([01]) *\r?\n")
_PIXEL: Final = 4


def corrected(access: RandomAccess, name: str, limits: Limits) -> RandomAccess | None:
    """Return a SIF file as Bio-Formats reads it rightly, or None where that is so already.

    Raises
    ------
    Unsupported
        Where its pixels begin cannot be told.
    """
    del limits
    head = bytes(access.read_at(0, min(_HEADER, access.size)))
    if not head.startswith(MAGIC):
        return None
    found = next(filter(None, map(_planes, _SIZES.finditer(head))), None)
    if found is None:
        # Java will say what is wrong with its header.
        return None
    frames, length, at = found
    taken = access.size - len(_FOOTER) - length
    places = [place for place in _places(head, at, frames) if _is_block(access, place, length)]
    if taken in places:
        return None
    if not places:
        raise Unsupported(
            f"{name}: where the pixels of this SIF file begin cannot be told, and Bio-Formats "
            "reads them from a wrong place of such files. Convert it with the vendor's software."
        )
    return Joined(access, [Stretch(access, 0, places[0] + length), Added(_FOOTER)])


def _planes(sizes: re.Match[bytes]) -> tuple[int, int, int] | None:
    """Number of frames, bytes of all pixels, and where the times of the frames begin."""
    try:
        # Channels, and then X, Y, Z, T; as SIFReader.initFile takes them.
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
    """Where pixels may begin: behind a time of each frame, and in newer files behind more lines."""
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
    """Whether behind pixels from here on stands whether another block follows, or nothing."""
    end = place + length
    if end >= access.size:
        return end == access.size
    return _FLAG.match(bytes(access.read_at(end, 16))) is not None
