"""Files that end too early, found before Java reads them.

Many readers fill what a shortened file lacks with zeros, or report fewer planes than the header
does, without a word. Where a format's header says how long the file must be, that is checked here;
the rest is noticed while pixels are read (`bfbridge_bioformats.readers.pool`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import numpy as np

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess, Source
from bfbridge_bioformats.files import stored_lengths as extents

__all__ = ["check_length"]

_HEAD: Final = 4100
_ND2_MAP = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_ND2_TAIL: Final = 4096
# DeltaVision and MRC2014, word 4 of the header: bytes of a pixel by mode.
_DV_PIXEL: Final = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 5: 2, 6: 2, 7: 4}
_MRC_PIXEL: Final = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2, 16: 3}
_SPE_PIXEL: Final = {0: 4, 1: 4, 2: 2, 3: 2, 5: 8, 6: 1, 8: 4}


def check_length(source: Source, limits: Limits) -> None:
    """Refuse a file that is shorter than its own header says.

    Raises
    ------
    UnreadableFile
        The message says what is missing.
    Unsupported
        All is there, but Bio-Formats would read it wrongly.
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
    raw = bytes(access.read_at(directory, 36))
    if directory <= 0 or len(raw) < 36 or not raw.startswith(b"ZISRAWDIRECTORY"):
        return None
    used, count = struct.unpack_from("<qi", raw, 24)
    check(used, limits.tag_bytes, "length of the subblock directory", "CZI file header")
    last = _last_subblock(bytes(access.read_at(directory + 160, max(used - 128, 0))), count)
    segment = bytes(access.read_at(last, 32)) if last < access.size else b""
    end = last + 32 + (struct.unpack_from("<q", segment, 24)[0] if len(segment) == 32 else 0)
    if end > access.size or (last and len(segment) < 32):
        return f"its last block of pixels should end at byte {end:,}"
    return None


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
    """ND2 since version 2: the chunk map, of which the end of the file tells the place."""
    del source, limits
    if not head.startswith(b"\xda\xce\xbe\x0a"):
        return None
    start = max(access.size - _ND2_TAIL, 0)
    if _ND2_MAP in bytes(access.read_at(start, access.size - start)):
        return None
    return "the map of its chunks, which every ND2 file ends with, is not there"


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
    # Some writers leave out the padding of the last row.
    stride, used = (x * bits + 31) // 32 * 4, (x * bits + 7) // 8
    needed = offset + stride * (abs(y) - 1) + used
    if access.size < needed:
        return f"{x} x {abs(y)} pixels need {needed:,} bytes"
    return None


def _tiff(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """TIFF: all directories, and what they refer to, lie in the file. Local files only."""
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 16 or source.url is not None or head[128:132] == b"DICM":
        return None
    version = struct.unpack(order + "H", head[2:4])[0]
    # Beyond 4 GiB, LSM and NDPI files hold offsets that classic TIFF has no room for.
    if version not in (42, 43) or (version == 42 and access.size >= 1 << 32):
        return None
    form = _Form(order, big=version == 43)
    offset = struct.unpack_from(order + form.word, head, 8 if form.big else 4)[0]
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < limits.directories:
        seen.add(offset)
        table, following = form.directory(access, offset)
        where = f"image directory {len(seen)}"
        if following is None:
            return f"{where} should be at byte {offset:,}"
        for tag, end in form.places(table):
            if end > access.size and tag in _TIFF_NEEDED:
                return f"tag {tag} of {where} should end at byte {end:,}"
        beyond = form.beyond(access, table)
        if beyond is not None:
            return f"pixels of {where} should be {beyond}"
        if form.is_misread(access, table):
            raise Unsupported(
                f"{source.name}: {where} has packed samples of other than 8, 16 or 32 bits, in "
                "tiles or several to a pixel, and rows that end within a byte: Bio-Formats "
                "misreads those. Open it without backend=, or save it again with 8 or 16 bits."
            )
        offset = following
    return None


# ImageDescription, StripOffsets, StripByteCounts, TileOffsets, TileByteCounts.
_TIFF_NEEDED: Final = frozenset({270, 273, 279, 324, 325})
_TIFF_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 13: 4, 16: 8, 18: 8}
_TIFF_INTEGERS: Final = {3: "u2", 4: "u4", 16: "u8"}
_PLACES: Final = (273, 324)
_LENGTHS: Final = (279, 325)
_COMPRESSION: Final = (259,)
_TILE_WIDTH: Final = (322,)
# Of JPEG as TIFF 6.0 had it, the pixels lie where other tags say.
_OLD_JPEG: Final = 6
# None, LZW, deflate by either number, PackBits, Zstandard: those that know nothing of samples.
_BYTE_STREAMS: Final = frozenset({1, 5, 8, 32946, 32773, 50000})
# Packed strips are counted to an even length by some writers, and the last byte not written.
_PADDING: Final = 1


class _Form:
    """How the numbers of a TIFF are written: TIFF 6.0 section 2, and BigTIFF."""

    def __init__(self, order: str, *, big: bool) -> None:
        self.order = order
        self.big = big
        self.word = "Q" if big else "I"

    def directory(self, access: RandomAccess, offset: int) -> tuple[bytes, int | None]:
        """Entries of a directory and the place of the next one; None if it is cut short."""
        count_format, entry = ("Q", 20) if self.big else ("H", 12)
        # An offset may be more than a file can have, and than can be asked for.
        raw = bytes(access.read_at(min(offset, access.size), struct.calcsize(count_format)))
        if len(raw) < struct.calcsize(count_format):
            return b"", None
        length = struct.unpack(self.order + count_format, raw)[0] * entry
        word = struct.calcsize(self.word)
        if offset + len(raw) + length + word > access.size:
            return b"", None
        data = bytes(access.read_at(offset + len(raw), length + word))
        return data[:length], struct.unpack(self.order + self.word, data[length:])[0]

    def places(self, table: bytes) -> Iterator[tuple[int, int]]:
        """(tag, end of its values) for every entry whose values lie elsewhere."""
        entry, word = (20, 8) if self.big else (12, 4)
        for at in range(0, len(table), entry):
            tag, kind = struct.unpack_from(self.order + "HH", table, at)
            count, offset = struct.unpack_from(self.order + self.word * 2, table, at + 4)
            length = count * _TIFF_SIZES.get(kind, 0)
            if length > word:
                yield tag, offset + length

    def beyond(self, access: RandomAccess, table: bytes) -> str | None:
        """Say which strip or tile is not there, or None.

        TiffParser leaves black, or fills with what was decoded before, what ends too early. A strip
        of uncompressed pixels may be counted longer than its rows are.
        """
        places = self._integers(access, table, _PLACES).astype(np.int64)
        lengths = self._integers(access, table, _LENGTHS).astype(np.int64)
        compression = self._integers(access, table, _COMPRESSION)
        if not places.size or places.size != lengths.size or _OLD_JPEG in compression:
            return None
        raw = bool((compression == 1).all())
        # What has no length was never stored.
        late = (lengths > 0) & (places + lengths > access.size)
        for number in np.flatnonzero(late):
            length = int(lengths[number])
            if raw:
                length = min(length, self._strip_bytes(access, table, int(number), length))
            if places[number] + length > access.size + (0 if raw else _PADDING):
                return f"{length:,} bytes from byte {places[number]:,} on"
        return None

    def is_misread(self, access: RandomAccess, table: bytes) -> bool:
        """Whether TiffParser.unpackBytes takes bits from wrong places.

        It skips what fills up a row of the image, where rows of the tile, or of all samples, are
        what is filled up.
        """
        bits = self._first(access, table, 258, 1)
        if bits % 8 == 0 or self._first(access, table, 256, 0) * bits % 8 == 0:
            return False
        together = self._first(access, table, 277, 1) > 1
        together = together and self._first(access, table, 284, 1) == 1
        tiled = bool(self._integers(access, table, _TILE_WIDTH).size)
        return (tiled or together) and self._first(access, table, 259, 1) in _BYTE_STREAMS

    def _first(self, access: RandomAccess, table: bytes, tag: int, default: int) -> int:
        found = self._integers(access, table, (tag,))
        return int(found[0]) if found.size else default

    def _strip_bytes(self, access: RandomAccess, table: bytes, number: int, length: int) -> int:
        """Bytes that the pixels of an uncompressed strip take; `length` for a tile."""
        first = partial(self._first, access, table)
        width, height = first(256, 0), first(257, 0)
        rows = min(first(278, height), height)
        if self._integers(access, table, _TILE_WIDTH).size or rows < 1:
            return length
        samples = first(277, 1) if first(284, 1) == 1 else 1
        above = number % -(-height // rows) * rows
        return -(-width * samples * first(258, 1) // 8) * min(rows, height - above)

    def _integers(
        self, access: RandomAccess, table: bytes, tags: tuple[int, ...]
    ) -> np.ndarray[Any, np.dtype[Any]]:
        """Values of the first of these tags that the directory has; none if it has none."""
        entry, word = (20, 8) if self.big else (12, 4)
        for at in range(0, len(table), entry):
            tag, kind = struct.unpack_from(self.order + "HH", table, at)
            if tag not in tags or kind not in _TIFF_INTEGERS:
                continue
            count, place = struct.unpack_from(self.order + self.word * 2, table, at + 4)
            dtype = np.dtype(self.order + _TIFF_INTEGERS[kind])
            raw = table[at + entry - word : at + entry]
            if count * dtype.itemsize > word:
                raw = bytes(access.read_at(place, count * dtype.itemsize))
            return np.frombuffer(raw, dtype, min(count, len(raw) // dtype.itemsize))
        return np.empty(0, np.uint64)


_Test = Callable[[Source, RandomAccess, bytes, Limits], "str | None"]
_TESTS: Final[tuple[_Test, ...]] = (
    _czi,
    _nd2,
    _deltavision,
    _mrc,
    _spe,
    _bmp,
    _tiff,
    extents.sif,
    extents.imod,
    extents.hdf5,
    extents.netcdf,
    extents.psd,
    extents.tga,
    extents.eps,
    extents.dicom,
    extents.jpeg2000,
)
