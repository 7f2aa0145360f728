"""A TIFF file's chain of image directories (IFDs) and their entries, without pixels.

Every count and offset is compared with the size of the file and with the limits before memory is
allocated. A cyclic chain of directories raises an error. So does a chain whose directories overlap:
otherwise a small file could declare any number of large directories.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from bfbridge.errors import BfbridgeError, FileChanged, UnreadableFile
from bfbridge.limits import Limits, check
from bfbridge.runtime import forking
from bfbridge.storage.source import RandomAccess
from bfbridge.tiff.header import ASCII, FIELD_TYPES, LONG, SHORT, WHOLE, Entry, parse_header
from bfbridge.tiff.tags import Tag, tag_name

__all__ = ["Directory", "TiffFile", "truncated"]

# If one of these tags were ignored, its default would apply and the same bytes would decode to
# other pixels. An unreadable entry of these tags is therefore an error.
_DECISIVE: Final = frozenset(
    {
        Tag.ImageWidth,
        Tag.ImageLength,
        Tag.BitsPerSample,
        Tag.Compression,
        Tag.PhotometricInterpretation,
        Tag.FillOrder,
        Tag.StripOffsets,
        Tag.SamplesPerPixel,
        Tag.RowsPerStrip,
        Tag.StripByteCounts,
        Tag.PlanarConfiguration,
        Tag.Predictor,
        Tag.TileWidth,
        Tag.TileLength,
        Tag.TileOffsets,
        Tag.TileByteCounts,
        Tag.SampleFormat,
    }
)
# Most writers store directories close together: one read of this many bytes returns several.
_WINDOW: Final = 16384
# Directories of many planes are read together, this many bytes at once, unless they are further
# apart than `_FARTHEST`. The shortest directory has one entry.
_LEAP: Final = 1 << 18
_FARTHEST: Final = 4096
_SHORTEST: Final = 16
_MANY: Final = 32
# The limit of libtiff (TIFFFetchDirectory).
_MOST_ENTRIES: Final = 4096
# Limit for entries that become tuples of Python integers; lists of segments become arrays.
_MOST_NUMBERS: Final = 1 << 20
# Opening a file reads its structure once, or a few times if directories share values.
_SHARED_BYTES: Final = 256 << 20
# Entries with more values are left out of original metadata.
_MOST_NAMED_VALUES: Final = 4096


def truncated(name: str, what: str, offset: int, length: int, size: int) -> UnreadableFile:
    """Return the error for bytes that lie outside the file."""
    return UnreadableFile(
        f"{name}: {what} is at bytes {offset}-{offset + length}, but the file has only {size}; "
        "it is truncated or damaged. Copy it again from its source."
    )


class Directory:
    """One IFD: its entries by tag, with values read on demand.

    Attributes
    ----------
    offset
        Position in the file, for messages.
    entries
        Tag to `Entry`; of repeated tags the first is used, as in Bio-Formats' TiffParser.
    """

    __slots__ = ("_file", "entries", "offset")

    def __init__(self, file: TiffFile, offset: int, entries: dict[int, Entry]) -> None:
        self._file = file
        self.offset = offset
        self.entries = entries

    @property
    def limits(self) -> Limits:
        """Limits on what the file may declare."""
        return self._file.limits

    @property
    def file_size(self) -> int:
        """Size of the file in bytes."""
        return self._file.size

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def length(self, tag: int) -> int:
        """Return the number of bytes of an entry's values."""
        entry = self.entries[tag]
        return entry.values * FIELD_TYPES[entry.kind][1]

    def raw(self, tag: int, most: int | None = None) -> bytes:
        """Return the bytes of the first `most` values of an entry; empty if there is no entry."""
        entry = self.entries.get(tag)
        if entry is None:
            return b""
        size = FIELD_TYPES[entry.kind][1]
        length = entry.values * size
        file = self._file
        check(length, file.limits.tag_bytes, f"tag {tag} length in bytes", file.name)
        if most is not None:
            length = min(length, most * size)
        return file.bytes_at(entry.offset, length, f"tag {tag} of the directory at {self.offset}")

    def array(self, tag: int, most: int | None = None) -> np.ndarray[Any, np.dtype[Any]] | None:
        """Return an entry's whole numbers in native byte order, or None if there is no entry.

        Parameters
        ----------
        tag
            Tag of the entry.
        most
            Most values to return; None for all.

        Raises
        ------
        UnreadableFile
            The values are not whole numbers.
        """
        entry = self.entries.get(tag)
        if entry is None:
            return None
        code = self._code(tag, entry)
        dtype = np.dtype(self._file.header.byteorder + code.replace("I", "u4").replace("i", "i4"))
        values = np.frombuffer(self.raw(tag, most), dtype)
        return values.astype(dtype.newbyteorder("="), copy=False)

    def numbers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Return an entry's whole numbers, or `default` if there is no entry.

        Raises
        ------
        UnreadableFile
            The values are not whole numbers, or more than any entry of this kind has.
        """
        entry = self.entries.get(tag)
        if entry is None or not entry.values:
            return default
        if entry.values > _MOST_NUMBERS:
            raise UnreadableFile(
                f"{self._file.name}: tag {tag} of the directory at {self.offset} declares "
                f"{entry.values:,} values; it is damaged."
            )
        return self._unpacked(tag, entry, entry.values)

    def number(self, tag: int, default: int = 0) -> int:
        """Return the first of an entry's whole numbers, or `default` if there is no entry."""
        entry = self.entries.get(tag)
        return default if entry is None or not entry.values else self._unpacked(tag, entry, 1)[0]

    def _unpacked(self, tag: int, entry: Entry, count: int) -> tuple[int, ...]:
        """Return the first `count` of an entry's whole numbers."""
        code = f"{self._file.header.byteorder}{count}{self._code(tag, entry)}"
        return struct.unpack(code, self.raw(tag, count))

    def _code(self, tag: int, entry: Entry) -> str:
        """Return the struct code of an entry's values, which must be whole numbers."""
        code = FIELD_TYPES[entry.kind][0]
        if code not in WHOLE or not code:
            raise UnreadableFile(
                f"{self._file.name}: tag {tag} of the directory at {self.offset} should hold whole "
                f"numbers, not field type {entry.kind}."
            )
        return code

    def text(self, tag: int) -> bytes:
        """Return an entry's text without the NUL characters at its end."""
        return self.raw(tag).rstrip(b"\0")

    def value(self, tag: int) -> Any:
        """Return an entry's values as Python objects: a number, a tuple, text or bytes."""
        entry = self.entries[tag]
        if entry.kind == ASCII:
            return self.text(tag).decode("utf-8", "replace")
        code, _ = FIELD_TYPES[entry.kind]
        data = self.raw(tag)
        if not code:
            return data
        flat = struct.unpack(f"{self._file.header.byteorder}{code * entry.values}", data)
        if len(code) == 2:
            pairs = zip(flat[::2], flat[1::2], strict=True)
            flat = tuple(a / b if b else float("nan") for a, b in pairs)
        return flat[0] if len(flat) == 1 else flat

    def named_values(self) -> Mapping[str, Any]:
        """Return values by tag name, for original metadata; an unknown tag's name is its number.

        Long lists of numbers (offsets of segments, colour tables) and values that cannot be read
        are left out. Text of any length is kept, unless values share their bytes.
        """
        found: dict[str, Any] = {}
        rest = self.file_size
        for tag, entry in self.entries.items():
            if entry.kind != ASCII and entry.values > _MOST_NAMED_VALUES:
                continue
            # Unless they share bytes, the total length of the values is at most that of the file.
            rest -= self.length(tag)
            if rest < 0:
                break
            try:
                found[tag_name(tag)] = self.value(tag)
            except FileChanged:
                raise
            except BfbridgeError:
                continue
        return found


class TiffFile:
    """A TIFF or BigTIFF file open for reading; its directories are read only as far as needed.

    Parameters
    ----------
    access
        The open file. It is not closed by this class.
    name
        Name of the file, for messages.
    limits
        Limits on directories and values.

    Attributes
    ----------
    header
        Byte order, variant, and the offset of the first directory.
    skipped
        Chain positions of directories that Bio-Formats' readers do not count: thumbnails
        (NewSubfileType 1) and directories without ImageWidth.

    Raises
    ------
    UnreadableFile
        The file has no TIFF header.
    """

    def __init__(self, access: RandomAccess, name: str, limits: Limits) -> None:
        self.access = access
        self.name = name
        self.limits = limits
        self.size = access.size
        self._lock = forking.rlock()
        self._window = (0, b"")
        self._offsets: list[int] = []
        self._seen: set[int] = set()
        self._walked = 0
        # Position in the chain from which `_leap` tries, and the positions it then leaves out.
        self._leap_from, self._pause = 2, 1
        self._rest: int | None = 4 * self.size + _SHARED_BYTES
        self.skipped: list[int] = []
        forking.in_child(self._undo_incomplete_step)
        first = bytes(access.read_at(0, min(_WINDOW, self.size)))
        self._window = (0, first)
        try:
            header = parse_header(first)
        except ValueError as error:
            raise UnreadableFile(f"{name}: this is not a valid TIFF file; {error}.") from error
        if header is None:
            raise UnreadableFile(
                f"{name}: this is not a TIFF file; its first bytes are {first[:4]!r}."
            )
        self.header = header
        self._next = header.first
        # Tag, field type, number of values, and the first four bytes of the value.
        self._heads = struct.Struct(header.byteorder + ("HHQI4x" if header.big else "HHII"))
        width = struct.pack(header.byteorder + "H", Tag.ImageWidth)
        # The width comes first, or after a NewSubfileType of 0.
        entry = header.byteorder + ("HHQQ" if header.big else "HHII")
        head = struct.pack(entry, Tag.NewSubfileType, LONG, 1, 0)
        self._full_size = width, head + width

    def bytes_at(self, offset: int, length: int, what: str) -> bytes:
        """Return bytes of the file's structure.

        Raises
        ------
        UnreadableFile
            The bytes are outside the file; `what` describes them.
        """
        if offset + length > self.size:
            raise truncated(self.name, what, offset, length, self.size)
        if self._rest is not None:
            self._rest -= length
            if self._rest < 0:
                raise UnreadableFile(
                    f"{self.name}: its directories share the same bytes so often that opening it "
                    "would read many times its size; it is damaged."
                )
        start, window = self._window
        if not start <= offset <= offset + length <= start + len(window):
            if length > _WINDOW:
                data = bytes(self.access.read_at(offset, length))
                if len(data) != length:
                    raise truncated(self.name, what, offset, length, offset + len(data))
                return data
            start = offset
            window = bytes(self.access.read_at(offset, min(_WINDOW, self.size - offset)))
            self._window = (start, window)
        data = window[offset - start : offset - start + length]
        if len(data) != length:
            raise truncated(self.name, what, offset, length, offset + len(data))
        return data

    def reopened(self, access: RandomAccess | None) -> None:
        """Read from another handle of the same file; None until there is one."""
        self._window = (0, b"")
        if access is not None:
            self.access = access

    def settle(self) -> None:
        """Mark the file as opened: after this, the amount of structure read is not limited."""
        self._rest = None

    def count(self) -> int:
        """Follow the chain to its end; return the number of directories.

        Raises
        ------
        UnreadableFile
            The chain is cyclic, or a directory is outside the file or overlaps another one.
        """
        self.walk(self.limits.directories)
        return len(self._offsets)

    @property
    def walked(self) -> int:
        """Number of directories found so far."""
        return len(self._offsets)

    def walk(self, index: int) -> bool:
        """Follow the chain to directory `index`; return whether it exists.

        Raises
        ------
        UnreadableFile
            The chain is cyclic, or a directory is outside the file or overlaps another one.
        """
        with self._lock:
            while len(self._offsets) <= index and self._next:
                self._step()
                self._leap(index)
            return len(self._offsets) > index

    def walk_available(self, index: int) -> None:
        """Follow the chain as `walk` does, but end it where the file is truncated.

        Planes before the truncation can be read; later ones raise an error when they are read.

        Raises
        ------
        UnreadableFile
            The chain is cyclic, or directories overlap.
        """
        try:
            self.walk(index)
        except UnreadableFile:
            if self._next in self._seen or self._walked > self.size:
                raise

    def _step(self) -> None:
        offset = self._next
        if offset in self._seen:
            raise UnreadableFile(
                f"{self.name}: its chain of directories is cyclic at byte {offset}; it is damaged."
            )
        position = len(self._offsets)
        check(position + 1, self.limits.directories, "number of directories", self.name)
        pointer = self.header.offset_bytes
        block, end = self._block(offset, pointer)
        walked = self._walked + end + pointer - offset
        if walked > self.size:
            raise UnreadableFile(
                f"{self.name}: its directories overlap, the last one at byte {offset}; it is "
                "damaged."
            )
        block, tail = block[:-pointer], block[-pointer:]
        skipped = self._is_skipped(block)
        # In this order: `_undo_incomplete_step` undoes an incomplete step.
        self._offsets.append(offset)
        self._seen.add(offset)
        if skipped:
            self.skipped.append(position)
        self._walked = walked
        self._next = self.header.number(self.header.offset_code, tail)

    def _leap(self, index: int) -> None:
        """Follow the chain to `index` at most while directories are alike and at equal distances.

        Files of many planes have such directories. Any other one is left to `_step`.
        """
        distance = self._next - self._offsets[-1]
        if (
            len(self._offsets) < self._leap_from
            or not _SHORTEST < distance < _FARTHEST
            or distance != self._offsets[-1] - self._offsets[-2]
        ):
            return
        pointer = self.header.offset_bytes
        block, end = self._block(self._offsets[-1], pointer)
        start = next((head for head in self._full_size if block.startswith(head)), None)
        length = end + pointer - self._offsets[-1]
        most = min(index + 1, self.limits.directories) - len(self._offsets)
        if start is None or length > distance:
            return
        rest = max(0, self.size - self._next)
        data = self.access.read_at(self._next, min(_LEAP, most * distance, rest))
        rows = np.frombuffer(data, np.uint8, len(data) // distance * distance)
        rows = rows.reshape(-1, distance)
        entries = len(block) // self.header.entry_bytes
        head = struct.pack(self.header.byteorder + self.header.count_code, entries) + start
        links = np.ascontiguousarray(rows[:, length - pointer : length])
        following = self._next + distance * np.arange(1, len(rows) + 1)
        alike = (rows[:, : len(head)] == np.frombuffer(head, np.uint8)).all(axis=1)
        alike &= links.view(f"{self.header.byteorder}u{pointer}")[:, 0] == following
        count = len(rows) if alike.all() else int(alike.argmin())
        # Equal distances may be chance, as between compressed planes: then try again less often.
        self._pause = 1 if count > _MANY else 2 * self._pause
        self._leap_from = len(self._offsets) + count + self._pause
        found = range(self._next, self._next + count * distance, distance)
        walked = self._walked + count * length
        if walked > self.size or not self._seen.isdisjoint(found):
            return
        if self._rest is not None:
            self._rest -= count * length
        self._offsets.extend(found)
        self._seen.update(found)
        self._walked = walked
        self._next += count * distance

    def _undo_incomplete_step(self) -> None:
        """Undo, in a forked child, a step that another thread of the parent had not completed."""
        if self._next in self._offsets:
            del self._offsets[self._offsets.index(self._next) :]
            self._seen = set(self._offsets)
            self.skipped[:] = [place for place in self.skipped if place < len(self._offsets)]
            self._walked = 0

    def _block(self, offset: int, more: int = 0) -> tuple[bytes, int]:
        """Return the entries of the directory at `offset` plus `more` bytes, and their end."""
        what = f"the directory at byte {offset}"
        head, size = self.header.count_bytes, self.header.entry_bytes
        count = self.header.number(self.header.count_code, self.bytes_at(offset, head, what))
        if count > _MOST_ENTRIES:
            raise UnreadableFile(f"{self.name}: {what} declares {count:,} entries; it is damaged.")
        start = offset + head
        return self.bytes_at(start, count * size + more, what), start + count * size

    def _is_skipped(self, block: bytes) -> bool:
        # Entries are sorted by tag, so the first ones nearly always decide.
        if block.startswith(self._full_size):
            return False
        width = False
        for tag, kind, _, value in self._heads.iter_unpack(block):
            # For a SHORT, the other half of the field is padding.
            low = (value if self.header.byteorder == "<" else value >> 16) & 0xFFFF
            if tag == Tag.NewSubfileType and (
                (kind == SHORT and low == 1) or (kind == LONG and value == 1)
            ):
                return True
            width = width or tag == Tag.ImageWidth
        return not width

    def block(self, index: int) -> bytes:
        """Return the entries of directory `index` as they are stored; see `walk`."""
        with self._lock:
            return self._block(self._offsets[index])[0]

    def entries_at(self, offset: int) -> tuple[list[tuple[int, Entry]], int, int]:
        """Return all entries of the directory at a byte of the file, as they are stored.

        Entries of repeated tags and of unknown field types are included.

        Returns
        -------
        entries, end, following
            Tags and entries; the first byte after the directory; the offset of the next directory
            of its chain, or 0.
        """
        pointer = self.header.offset_bytes
        with self._lock:
            block, end = self._block(offset, pointer)
        entries = list(self.header.entries(block[:-pointer], end - len(block) + pointer))
        return entries, end + pointer, self.header.number(self.header.offset_code, block[-pointer:])

    def tags_of(self, block: bytes) -> list[int]:
        """Return the tag of each entry of a block."""
        return [head[0] for head in self._heads.iter_unpack(block)]

    def directory(self, index: int) -> Directory | None:
        """Return directory `index` of the chain, or None if the chain is shorter."""
        return self.directory_at(self._offsets[index]) if self.walk(index) else None

    def directory_at(self, offset: int) -> Directory:
        """Return the directory at a byte of the file, for SubIFDs.

        Raises
        ------
        UnreadableFile
            There is no directory, or it is outside the file.
        """
        with self._lock:
            block, end = self._block(offset)
            entries: dict[int, Entry] = {}
            start = end - len(block)
            for tag, entry in self.header.entries(block, start):
                known = entry.kind in FIELD_TYPES
                if tag in _DECISIVE and not (known and entry.values):
                    raise UnreadableFile(
                        f"{self.name}: tag {tag} of the directory at byte {start} declares "
                        f"{entry.values:,} values of field type {entry.kind}; it is damaged."
                    )
                if known:
                    entries.setdefault(tag, entry)
        return Directory(self, offset, entries)
