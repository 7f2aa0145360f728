"""Checks of TIFF directories before Java reads them.

The data of all directories is inside the file, strips and tiles are within the limits, and
Bio-Formats' TiffParser decodes them correctly. The parser of `bfbridge.tiff.directories` is
stricter; Bio-Formats also reads files that it refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from bfbridge.errors import LimitExceeded, UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess, Source
from bfbridge.tiff.header import (
    FIELD_TYPES,
    HEADER_BYTES,
    LONG,
    LONG8,
    SHORT,
    Entry,
    TiffHeader,
    parse_header,
)
from bfbridge.tiff.tags import BYTE_STREAMS, COMPRESSION_OF_TAG, OLD_JPEG, Tag

__all__ = ["tiff"]

_NEEDED: Final = frozenset(
    {
        Tag.ImageDescription,
        Tag.StripOffsets,
        Tag.StripByteCounts,
        Tag.TileOffsets,
        Tag.TileByteCounts,
    }
)
_INTEGERS: Final = {SHORT: "u2", LONG: "u4", LONG8: "u8"}
# Some writers round the byte count of a compressed strip up to an even number.
_PADDING: Final = 1
# Decoded bytes up to this size are not compared with the limit of the ratio.
_SMALL: Final = 1 << 20


def tiff(source: Source, access: RandomAccess, head: bytes, limits: Limits) -> str | None:
    """TIFF: all directories and their data are inside the file. Local files only."""
    if len(head) < HEADER_BYTES or source.url is not None or head[128:132] == b"DICM":
        return None
    try:
        header = parse_header(head, strict=False)
    except ValueError:
        return None
    # Beyond 4 GiB, LSM and NDPI files hold offsets that do not fit into classic TIFF.
    if header is None or (not header.big and access.size >= 1 << 32):
        return None
    offset = header.first
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise UnreadableFile(
                f"{source.name}: its image directories form a cycle: directory {len(seen)} names "
                f"byte {offset:,} as the next, which is an earlier one. The file is damaged."
            )
        seen.add(offset)
        check(len(seen), limits.directories, "number of image directories", source.name)
        where = f"image directory {len(seen)}"
        read = _read_directory(access, header, offset)
        if read is None:
            return f"{where} should be at byte {offset:,}"
        directory, offset = read
        missing = directory.missing(where)
        if missing is not None:
            return missing
        directory.check_decoded(limits, f"{source.name}: {where}")
        if directory.is_misread():
            raise Unsupported(
                f"{source.name}: {where} has compressed samples of other than 8, 16 or 32 bits, in "
                "tiles or several per pixel, and rows that end within a byte. Bio-Formats reads "
                "such pixels incorrectly. Open it without backend=, or save it again with 8 or 16 "
                "bits."
            )
    return None


def _read_directory(
    access: RandomAccess, header: TiffHeader, offset: int
) -> tuple[_CheckedDirectory, int] | None:
    """Return a directory and the offset of the next one, or None if it is truncated."""
    # An offset may be larger than any file, and larger than the system accepts.
    raw = bytes(access.read_at(min(offset, access.size), header.count_bytes))
    if len(raw) < header.count_bytes:
        return None
    start = offset + header.count_bytes
    length = header.number(header.count_code, raw) * header.entry_bytes
    if start + length + header.offset_bytes > access.size:
        return None
    block = bytes(access.read_at(start, length + header.offset_bytes))
    following = header.number(header.offset_code, block[length:])
    return _CheckedDirectory(access, header, block[:length], start), following


class _CheckedDirectory:
    """The entries of one directory, as TiffParser reads them."""

    def __init__(self, access: RandomAccess, header: TiffHeader, block: bytes, start: int) -> None:
        self._access = access
        self._byteorder = header.byteorder
        self._inline = header.offset_bytes
        self._block = block
        self._start = start
        self._all = list(header.entries(block, start))
        self._integers: dict[int, Entry] = {}
        for tag, entry in self._all:
            if entry.kind in _INTEGERS:
                self._integers.setdefault(tag, entry)

    def missing(self, where: str) -> str | None:
        """Return which data of the directory is outside the file, or None."""
        size = self._access.size
        for tag, start, length in self._values():
            if start + length > size and (tag in _NEEDED or length > size):
                return f"tag {tag} of {where} should end at byte {start + length:,}"
        beyond = self._beyond()
        return None if beyond is None else f"pixels of {where} should be {beyond}"

    def _values(self) -> Iterator[tuple[int, int, int]]:
        """Yield (tag, offset of its values, their bytes) for values outside their entry."""
        for tag, entry in self._all:
            length = entry.values * FIELD_TYPES.get(entry.kind, ("", 0))[1]
            if length > self._inline:
                yield tag, entry.offset, length

    def _beyond(self) -> str | None:
        """Return which strip or tile is outside the file, or None.

        TiffParser leaves pixels black, or fills them with previously decoded pixels, if data ends
        too early. The byte count of an uncompressed strip may exceed its rows.
        """
        offsets = self._numbers(Tag.StripOffsets, Tag.TileOffsets).astype(np.int64)
        lengths = self._numbers(Tag.StripByteCounts, Tag.TileByteCounts).astype(np.int64)
        compression = self._numbers(Tag.Compression)
        if not offsets.size or offsets.size != lengths.size or OLD_JPEG in compression:
            return None
        raw = bool((compression == 1).all())
        size = self._access.size
        # A segment with length 0 was never stored.
        late = (lengths > 0) & (offsets + lengths > size)
        for number in np.flatnonzero(late):
            length = int(lengths[number])
            if raw:
                length = min(length, self._strip_bytes(int(number), length))
            if offsets[number] + length > size + (0 if raw else _PADDING):
                return f"{length:,} bytes from byte {offsets[number]:,} on"
        return None

    def check_decoded(self, limits: Limits, where: str) -> None:
        """Compare the decoded size of a compressed strip or tile with the limits.

        TiffParser allocates what a directory declares, however little is stored.
        """
        lengths = self._numbers(Tag.StripByteCounts, Tag.TileByteCounts)
        if self._first(Tag.Compression, 1) == 1 or not lengths.any():
            return
        width, rows = self._first(Tag.TileWidth, 0), self._first(Tag.TileLength, 0)
        if not width:
            height = self._first(Tag.ImageLength, 0)
            width = self._first(Tag.ImageWidth, 0)
            rows = min(self._first(Tag.RowsPerStrip, height), height)
        decoded = width * rows * self._interleaved() * -(-self._first(Tag.BitsPerSample, 1) // 8)
        check(decoded, limits.chunk_bytes, "decoded size of a strip or tile in bytes", where)
        stored = int(lengths.max())
        if decoded > max(stored * limits.chunk_ratio, _SMALL):
            raise LimitExceeded(
                f"{where}: {stored:,} stored bytes of a strip or tile decode to {decoded:,} bytes, "
                f"more than the limit of {limits.chunk_ratio:,} times as many; the file is damaged "
                "or hostile. If you trust the file, raise the limit with BioReader(..., "
                "limits=Limits(...))."
            )

    def is_misread(self) -> bool:
        """Return whether TiffParser.unpackBytes reads bits from wrong positions.

        It skips padding at the end of each image row, but tile rows, or rows of all samples, are
        padded.
        """
        bits = self._first(Tag.BitsPerSample, 1)
        if bits % 8 == 0 or self._first(Tag.ImageWidth, 0) * bits % 8 == 0:
            return False
        method = COMPRESSION_OF_TAG.get(self._first(Tag.Compression, 1))
        padded = Tag.TileWidth in self._integers or self._interleaved() > 1
        return padded and method is not None and method.name in BYTE_STREAMS

    def _interleaved(self) -> int:
        """Samples per pixel of one segment."""
        if self._first(Tag.PlanarConfiguration, 1) != 1:
            return 1
        return self._first(Tag.SamplesPerPixel, 1)

    def _strip_bytes(self, number: int, length: int) -> int:
        """Bytes of the pixels of an uncompressed strip; `length` for a tile."""
        width, height = self._first(Tag.ImageWidth, 0), self._first(Tag.ImageLength, 0)
        rows = min(self._first(Tag.RowsPerStrip, height), height)
        if Tag.TileWidth in self._integers or rows < 1:
            return length
        above = number % -(-height // rows) * rows
        row = -(-width * self._interleaved() * self._first(Tag.BitsPerSample, 1) // 8)
        return row * min(rows, height - above)

    def _first(self, tag: int, default: int) -> int:
        found = self._numbers(tag)
        return int(found[0]) if found.size else default

    def _numbers(self, *tags: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the values of the first of these tags that the directory has, or none."""
        entry = next((self._integers[tag] for tag in tags if tag in self._integers), None)
        if entry is None:
            return np.empty(0, np.uint64)
        dtype = np.dtype(self._byteorder + _INTEGERS[entry.kind])
        length = entry.values * dtype.itemsize
        at = entry.offset - self._start
        if at >= 0 and at + length <= len(self._block):
            raw = self._block[at : at + length]
        else:
            raw = bytes(self._access.read_at(entry.offset, length))
        return np.frombuffer(raw, dtype, min(entry.values, len(raw) // dtype.itemsize))
