"""Truncated files, detected before Java reads them.

Many readers fill missing data with zeros, or report fewer planes than the header, without an
error. If a header declares the length of the file, it is checked here; other cases are detected
while pixels are read (`bfbridge_bioformats.readers.pool`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from bfbridge.errors import UnreadableFile
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess, Source
from bfbridge_bioformats.files import stored_lengths
from bfbridge_bioformats.files.tiff_truncation import tiff

__all__ = ["check_length"]

_HEAD: Final = 4100
_STEP: Final = 8 << 20
_ND2_MAP = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_ND2_TAIL: Final = 4096
# DeltaVision and MRC2014, word 4 of the header: bytes per pixel, by mode.
_DV_PIXEL: Final = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 5: 2, 6: 2, 7: 4}
_MRC_PIXEL: Final = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2, 16: 3}
_SPE_PIXEL: Final = {0: 4, 1: 4, 2: 2, 3: 2, 5: 8, 6: 1, 8: 4}


def check_length(source: Source, limits: Limits) -> None:
    """Refuse a file that is shorter than its header declares.

    Raises
    ------
    UnreadableFile
        The message states what is missing.
    Unsupported
        The file is complete, but Bio-Formats would read it incorrectly.
    """
    access = source.open()
    try:
        head = bytes(access.read_at(0, min(_HEAD, access.size)))
        for test in _TESTS:
            missing = test(source, access, head, limits)
            if missing is not None:
                raise UnreadableFile(
                    f"{source.name}: the file is cut short: {missing}, and the file has "
                    f"{access.size:,} bytes. Copy or download it again."
                )
    finally:
        access.close()


def _czi(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """ZISRAW: the segments that the file header names, and the last of the subblocks."""
    del source
    if not head.startswith(b"ZISRAWFILE") or len(head) < 112:
        return None
    directory, metadata = struct.unpack_from("<qq", head, 84)
    for what, position in (("subblock directory", directory), ("metadata", metadata)):
        if position >= access.size:
            return f"its {what} should be at byte {position:,}"
        end = _segment_end(access, position) if position > 0 else 0
        if end > access.size:
            return f"its {what} should end at byte {end:,}"
    raw = bytes(access.read_at(directory, 36)) if directory > 0 else b""
    if not raw.startswith(b"ZISRAWDIRECTORY"):
        return None
    used, count = struct.unpack_from("<qi", raw, 24)
    check(used, limits.tag_bytes, "length of the subblock directory", "CZI file header")
    last = _last_subblock(bytes(access.read_at(directory + 160, max(used - 128, 0))), count)
    end = _segment_end(access, last)
    if end > access.size:
        return f"its last block of pixels should end at byte {end:,}"
    return None


def _segment_end(access: RandomAccess, position: int) -> int:
    """Position after the header of a segment and the data it declares."""
    header = bytes(access.read_at(position, 32)) if position < access.size else b""
    used: int = struct.unpack_from("<q", header, 24)[0] if len(header) == 32 else 0
    return position + 32 + max(used, 0)


def _last_subblock(entries: bytes, count: int) -> int:
    """Highest position among directory entries (schema DV) of this file; 0 if there is none."""
    last = at = 0
    for _ in range(count):
        if len(entries) < at + 32 or entries[at : at + 2] != b"DV":
            break
        position, part = struct.unpack_from("<qi", entries, at + 6)
        if part == 0:
            last = max(last, position)
        dimensions = int(struct.unpack_from("<i", entries, at + 28)[0])
        if dimensions < 0:
            break
        at += 32 + 20 * dimensions
    return last


def _nd2(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """ND2 since version 2: the chunk map, whose position is stored at the end of the file."""
    del source, limits
    if not head.startswith(b"\xda\xce\xbe\x0a"):
        return None
    start = max(access.size - _ND2_TAIL, 0)
    tail = bytes(access.read_at(start, access.size - start))
    # The position of the map follows its signature.
    if -1 < tail.rfind(_ND2_MAP) <= len(tail) - len(_ND2_MAP) - 8:
        return None
    return "the chunk map at the end of every ND2 file is missing"


def _deltavision(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """DeltaVision header: bytes 0 to 16 sizes and mode, 92 extended header, 96 magic number."""
    del source, limits
    if len(head) < 1024 or head[96:98] not in (b"\xa0\xc0", b"\xc0\xa0"):
        return None
    order = "<" if head[96:98] == b"\xa0\xc0" else ">"
    return _raw(head, order, _DV_PIXEL, access.size)


def _mrc(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """MRC2014: "MAP " at byte 208, machine stamp at 212."""
    del source, limits
    if len(head) < 1024 or head[208:211] != b"MAP":
        return None
    return _raw(head, ">" if head[212] == 0x11 else "<", _MRC_PIXEL, access.size)


def _xml(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """XML: a limited number of elements. Java builds a tree of some documents."""
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"<":
        return None
    elements = 0
    for start in range(0, access.size, _STEP):
        # Pixels in such a document are base64, which does not contain this character.
        part = bytes(access.read_at(start, min(_STEP, access.size - start)))
        elements += part.count(b"<") - part.count(b"</")
        check(elements, limits.elements, "number of XML elements", source.name)
    return None


def _raw(head: bytes, order: str, pixels: dict[int, int], size: int) -> str | None:
    x, y, planes, mode = struct.unpack_from(order + "iiii", head, 0)
    extended = struct.unpack_from(order + "i", head, 92)[0]
    if mode not in pixels or min(x, y, planes) < 1 or extended < 0:
        return None
    needed = 1024 + extended + x * y * planes * pixels[mode]
    if size < needed:
        return f"{planes} planes of {x} x {y} pixels need {needed:,} bytes"
    return None


def _spe(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """WinSpec 2.5: sizes at 42 and 656, frames at 1446, type at 108; pixels from 4100."""
    del limits
    if not source.filename.lower().endswith(".spe"):
        return None
    if len(head) < 4100:
        return "its header needs 4,100 bytes"
    x, kind, y = (struct.unpack_from("<h", head, at)[0] & 0xFFFF for at in (42, 108, 656))
    frames = struct.unpack_from("<i", head, 1446)[0]
    if kind not in _SPE_PIXEL or min(x, y, frames) < 1:
        return None
    needed = 4100 + x * y * frames * _SPE_PIXEL[kind]
    if access.size < needed:
        return f"{frames} frames of {x} x {y} pixels need {needed:,} bytes"
    return None


def _bmp(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """BITMAPINFOHEADER: uncompressed rows, padded to four bytes."""
    del source, limits
    if not head.startswith(b"BM") or len(head) < 54:
        return None
    offset, size, x, y = struct.unpack_from("<IIii", head, 10)
    bits, compression = struct.unpack_from("<HI", head, 28)
    if size < 40 or compression != 0 or x < 1:
        return None
    # Some writers omit the padding of the last row.
    stride, used = (x * bits + 31) // 32 * 4, (x * bits + 7) // 8
    needed = offset + stride * (abs(y) - 1) + used
    if access.size < needed:
        return f"{x} x {abs(y)} pixels need {needed:,} bytes"
    return None


_Test = Callable[[Source, RandomAccess, bytes, Limits], "str | None"]
_TESTS: Final[tuple[_Test, ...]] = (
    _czi,
    _nd2,
    _deltavision,
    _mrc,
    _spe,
    _bmp,
    _xml,
    tiff,
    stored_lengths.sif,
    stored_lengths.imod,
    stored_lengths.itex,
    stored_lengths.hdf5,
    stored_lengths.netcdf,
    stored_lengths.png,
    stored_lengths.psd,
    stored_lengths.tga,
    stored_lengths.eps,
    stored_lengths.dicom,
    stored_lengths.jpeg2000,
)
