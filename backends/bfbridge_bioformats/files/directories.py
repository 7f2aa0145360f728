"""TIFF directories: what they refer to lies in the file, and Java reads it rightly and in time."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import numpy as np

from bfbridge.errors import LimitExceeded, UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess, Source

__all__ = ["tiff"]

# ImageDescription, StripOffsets, StripByteCounts, TileOffsets, TileByteCounts.
_TIFF_NEEDED: Final = frozenset({270, 273, 279, 324, 325})
_TIFF_SIZES: Final = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
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
# Decoded bytes that no limit of the ratio is applied to.
_SMALL: Final = 1 << 20


def tiff(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
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
    while offset:
        if offset in seen:
            raise UnreadableFile(
                f"{source.name}: its image directories lead round in a circle: number {len(seen)} "
                f"names byte {offset:,} as the next, where there was one. The file is damaged."
            )
        seen.add(offset)
        check(len(seen), limits.directories, "number of image directories", source.name)
        table, following = form.directory(access, offset)
        where = f"image directory {len(seen)}"
        if following is None:
            return f"{where} should be at byte {offset:,}"
        for tag, start, length in form.places(table):
            if start + length > access.size and (tag in _TIFF_NEEDED or length > access.size):
                return f"tag {tag} of {where} should end at byte {start + length:,}"
        beyond = form.beyond(access, table)
        if beyond is not None:
            return f"pixels of {where} should be {beyond}"
        form.check_decoded(access, table, limits, f"{source.name}: {where}")
        if form.is_misread(access, table):
            raise Unsupported(
                f"{source.name}: {where} has packed samples of other than 8, 16 or 32 bits, in "
                "tiles or several to a pixel, and rows that end within a byte: Bio-Formats "
                "misreads those. Open it without backend=, or save it again with 8 or 16 bits."
            )
        offset = following
    return None


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

    def places(self, table: bytes) -> Iterator[tuple[int, int, int]]:
        """(tag, place of its values, their bytes) for every entry whose values lie elsewhere."""
        entry, word = (20, 8) if self.big else (12, 4)
        for at in range(0, len(table), entry):
            tag, kind = struct.unpack_from(self.order + "HH", table, at)
            count, offset = struct.unpack_from(self.order + self.word * 2, table, at + 4)
            length = count * _TIFF_SIZES.get(kind, 0)
            if length > word:
                yield tag, offset, length

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

    def check_decoded(self, access: RandomAccess, table: bytes, limits: Limits, where: str) -> None:
        """Compare what a packed strip or tile holds once decoded with the limits.

        TiffParser takes memory and time for what a directory declares, whatever is stored.
        """
        first = partial(self._first, access, table)
        lengths = self._integers(access, table, _LENGTHS)
        if first(259, 1) == 1 or not lengths.any():
            return
        width, rows = first(322, 0), first(323, 0)
        if not width:
            width, rows = first(256, 0), min(first(278, first(257, 0)), first(257, 0))
        samples = first(277, 1) if first(284, 1) == 1 else 1
        decoded = width * rows * samples * -(-first(258, 1) // 8)
        check(decoded, limits.chunk_bytes, "decoded size of a strip or tile in bytes", where)
        stored = int(lengths.max())
        if decoded > max(stored * limits.chunk_ratio, _SMALL):
            raise LimitExceeded(
                f"{where}: {stored:,} stored bytes of a strip or tile stand for {decoded:,} bytes, "
                f"more than the limit of {limits.chunk_ratio:,} times as many; the file is damaged "
                "or hostile. If it is sound, raise the limit with BioReader(..., "
                "limits=Limits(...))."
            )

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
