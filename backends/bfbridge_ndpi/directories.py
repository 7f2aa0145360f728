"""Directories of NDPI files, whose offsets have 64 bits in files of 4 GiB and more.

The entries of a directory are those of classic TIFF. The offset of the next directory has 8 bytes.
It is followed by 4 bytes for each entry: the upper half of its value or offset. In smaller files
these bytes are zeros, and are not needed. The offset of the first directory has 8 bytes, too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import check
from bfbridge.tiff.directories import Directory, TiffFile
from bfbridge.tiff.header import ASCII, FIELD_TYPES, LONG, Entry

__all__ = ["NdpiDirectory", "read_directories"]

WIDE: Final = 1 << 32
"""Size from which on offsets in a file need more than 32 bits."""
# Ten levels of a hundred focal planes.
_MOST_DIRECTORIES: Final = 1000
_INLINE: Final = 4
_SIGNED_LONG: Final = 9
# Bytes of a value that is read with others, and of all of them.
_SHORT: Final = 4096
_NEAR: Final = 16384


class NdpiDirectory(Directory):
    """A directory of an NDPI file.

    Attributes
    ----------
    high
        Upper 32 bits of values that are stored in their entry, by tag; those that are not 0.
    """

    __slots__ = ("_spans", "high")

    def __init__(
        self,
        file: TiffFile,
        offset: int,
        entries: dict[int, Entry],
        high: dict[int, int],
        spans: list[tuple[int, bytes]],
    ) -> None:
        super().__init__(file, offset, entries)
        self.high = high
        # Bytes of the file that have been read, and where they begin.
        self._spans = spans

    def raw(self, tag: int, most: int | None = None) -> bytes:
        """Return the bytes of an entry's values, without a read if they are short."""
        entry = self.entries.get(tag)
        if entry is not None:
            size = FIELD_TYPES[entry.kind][1]
            length = size * (entry.values if most is None else min(entry.values, most))
            for begin, data in self._spans:
                at = entry.offset - begin
                if 0 <= at <= len(data) - length:
                    return data[at : at + length]
        return super().raw(tag, most)

    def wide_array(self, tag: int, high: int) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """Return an entry's whole numbers of 64 bits, or None if there is no entry.

        Parameters
        ----------
        tag
            Tag of the lower 32 bits.
        high
            Tag of the upper 32 bits of all values, if there are several.

        Raises
        ------
        UnreadableFile
            They are not whole numbers, or the two tags have different numbers of values.
        """
        low = self.array(tag)
        if low is None:
            return None
        values = low.astype(np.int64)
        if tag in self.high:
            values[0] |= np.int64(self.high[tag]) << 32
        upper = self.array(high) if self.file_size >= WIDE and len(values) > 1 else None
        if upper is not None:
            if len(upper) != len(values):
                raise UnreadableFile(
                    f"{self._file.name}: tags {tag} and {high} of the directory at {self.offset} "
                    f"have {len(values):,} and {len(upper):,} values; it is damaged."
                )
            values |= upper.astype(np.int64) << 32
        return values

    def quantity(self, tag: int) -> float | None:
        """Return the number of an entry, or None if it has none or several."""
        value = self.value(tag) if tag in self else None
        return value if isinstance(value, (int, float)) else None

    def label(self, tag: int) -> str | None:
        """Return the text of an entry, or None."""
        value = self.value(tag) if tag in self else None
        return value if isinstance(value, str) else None


def read_directories(tiff: TiffFile) -> list[NdpiDirectory]:
    """Return every directory of an NDPI file, in the order of the chain.

    Raises
    ------
    Unsupported
        It is a BigTIFF, or big-endian, or has far more directories than slides have.
    UnreadableFile
        The chain is cyclic, or a directory is outside the file or overlaps another one.
    LimitExceeded
        There are more directories than the limits allow.
    """
    header = tiff.header
    if header.big or header.byteorder != "<":
        raise Unsupported("an NDPI file that is not a little-endian classic TIFF")
    wide = tiff.size >= WIDE
    offset = header.first
    if wide:
        offset = int.from_bytes(tiff.bytes_at(4, 8, "its header"), "little")
    found: list[NdpiDirectory] = []
    seen: set[int] = set()
    walked = 0
    while offset:
        if offset in seen:
            raise UnreadableFile(
                f"{tiff.name}: its chain of directories is cyclic at byte {offset}; it is damaged."
            )
        seen.add(offset)
        check(len(seen), tiff.limits.directories, "number of directories", tiff.name)
        if len(seen) > _MOST_DIRECTORIES:
            raise Unsupported(f"an NDPI file of more than {_MOST_DIRECTORIES:,} directories")
        directory, length, following = _read(tiff, offset, wide=wide)
        walked += length
        if walked > tiff.size:
            raise UnreadableFile(
                f"{tiff.name}: its directories overlap, the last one at byte {offset}; it is "
                "damaged."
            )
        found.append(directory)
        offset = following
    return found


def _read(tiff: TiffFile, offset: int, *, wide: bool) -> tuple[NdpiDirectory, int, int]:
    """Return the directory at a byte of the file, its length, and the offset of the next one."""
    stored, end, following = tiff.entries_at(offset)
    entries = dict(tiff.directory_at(offset).entries)
    high: dict[int, int] = {}
    words = [0] * len(stored)
    if wide:
        begin = end - tiff.header.offset_bytes
        what = f"the directory at byte {offset}"
        data = tiff.bytes_at(begin, 8 + 4 * len(stored), what)
        following = int.from_bytes(data[:8], "little")
        words = list(struct.unpack(f"<{len(stored)}I", data[8:]))
        end = begin + len(data)
    changed: set[int] = set()
    for (tag, entry), word in zip(stored, words, strict=True):
        # Of repeated tags the first is used whose field type is known.
        if tag in changed or entries.get(tag) != entry:
            continue
        changed.add(tag)
        length = entry.values * FIELD_TYPES[entry.kind][1]
        if length > _INLINE:
            entries[tag] = entry._replace(offset=entry.offset + (word << 32))
        elif entry.kind == ASCII:
            entries[tag] = _text_entry(tiff, entry, word)
        elif word and entry.kind in (LONG, _SIGNED_LONG):
            high[tag] = word
        elif word:
            raise UnreadableFile(
                f"{tiff.name}: tag {tag} of the directory at byte {offset} has more bits than its "
                f"field type {entry.kind}; it is damaged."
            )
    block = tiff.bytes_at(offset, end - offset, f"the directory at byte {offset}")
    spans = [(offset, block), *_short_values(tiff, entries)]
    return NdpiDirectory(tiff, offset, entries, high, spans), len(block), following


def _short_values(tiff: TiffFile, entries: Mapping[int, Entry]) -> Iterator[tuple[int, bytes]]:
    """Yield the bytes of all short values, and where they begin, if they are near each other.

    One read of them takes less time than one for each, above all at URLs.
    """
    places = [
        (entry.offset, entry.offset + length)
        for entry in entries.values()
        if _INLINE < (length := entry.values * FIELD_TYPES[entry.kind][1]) <= _SHORT
    ]
    begin = min((begin for begin, _ in places), default=0)
    end = max((end for _, end in places), default=0)
    if end <= tiff.size and end - begin <= _NEAR:
        yield begin, tiff.bytes_at(begin, end - begin, "values of a directory")


def _text_entry(tiff: TiffFile, entry: Entry, word: int) -> Entry:
    """Return the entry of a text of up to four bytes, which Hamamatsu stores like a longer one.

    Other programs store it in the entry, as TIFF defines.
    """
    stored = tiff.bytes_at(entry.offset, _INLINE, "a text")
    place = int.from_bytes(stored, "little") | word << 32
    if entry.values and 8 <= place <= tiff.size - entry.values:
        text = tiff.bytes_at(place, entry.values, "a text")
        if text.endswith(b"\0") and text[:-1].isascii():
            return entry._replace(offset=place)
    return entry
