"""The segments of a CZI file: header, directory of subblocks, metadata, attachments.

The structures are those of ZEISS' "ZISRAW (CZI) File Format" 1.2.2 and of libCZI's CziStructs.h.
Only the directories are read here: one contiguous read describes a file of 100 000 subblocks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess

__all__ = [
    "ABSENT",
    "MAGIC",
    "Attachment",
    "AttachmentAccess",
    "Blocks",
    "CziFile",
    "SubblockHeader",
]

Array = np.ndarray[Any, np.dtype[Any]]

MAGIC: Final = b"ZISRAWFILE"
ABSENT: Final = -1
"""Position along an axis that a subblock does not have."""

AXES: Final = "ZCTRSIHVBM"
_SEGMENT: Final = struct.Struct("<16sqq")
_FILE: Final = struct.Struct("<4i16s16siqqiq")
_SUBBLOCK: Final = struct.Struct("<iiq")
_ENTRY: Final = struct.Struct("<2siqiiB5xi")
_ATTACHMENT: Final = struct.Struct("<2s10xqi16x8s80s")
# libCZI's MAXDIMENSIONS.
_MOST_AXES: Final = 40
_DIMENSION: Final = np.dtype(
    [("name", "S4"), ("start", "<i4"), ("size", "<i4"), ("coordinate", "<f4"), ("stored", "<i4")]
)
_AHEAD: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Blocks:
    """The subblocks of a file as columns, in file order.

    Attributes
    ----------
    position
        Position of the segment in the file, in bytes.
    pixel_type, compression, pyramid
        Codes of the format.
    x, y, width, height
        The box that a block covers, in pixels of the full resolution.
    stored_width, stored_height
        Stored size in pixels: smaller than the covered box in a lower level of a pyramid.
    start
        Position along each further axis that occurs; `ABSENT` for blocks without the axis.
    axes
        Axis letters of each block, in its own order, as an index of `orders`.
    orders
        Each order of axes that occurs.
    """

    position: Array
    pixel_type: Array
    compression: Array
    pyramid: Array
    x: Array
    y: Array
    width: Array
    height: Array
    stored_width: Array
    stored_height: Array
    start: Mapping[str, Array]
    axes: Array
    orders: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True, slots=True)
class Attachment:
    """An attachment of the directory: its segment's position, content type and name."""

    position: int
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class SubblockHeader:
    """Positions and sizes of the parts of one subblock in the file, in bytes."""

    metadata: int
    metadata_size: int
    data: int
    data_size: int


class AttachmentAccess:
    """A part of an open file as a separate file: an attachment that is itself a CZI file."""

    def __init__(self, access: RandomAccess, offset: int, size: int) -> None:
        self._access = access
        self._offset = offset
        self.size = size

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """Return `length` bytes from `offset`; fewer only at the end of the part."""
        length = max(min(length, self.size - offset), 0)
        return self._access.read_at(self._offset + offset, length)

    def close(self) -> None:
        """Do nothing: the file is closed by its owner."""


class CziFile:
    """An open file whose directories have been read.

    Parameters
    ----------
    access
        The file.
    name
        Name of the file, for messages.
    limits
        Limits on what the file declares.

    Attributes
    ----------
    blocks
        Every subblock.
    attachments
        Every attachment.
    rooms
        Bytes from the start of each subblock to the next segment: its maximum length.

    Raises
    ------
    UnreadableFile
        The file is truncated or damaged.
    LimitExceeded
        A directory or the metadata is larger than the limits allow.
    Unsupported
        It is not a CZI file, or a variant that is not supported.
    """

    def __init__(self, access: RandomAccess, name: str, limits: Limits) -> None:
        self.access = access
        self.name = name
        self.limits = limits
        self._ahead: tuple[int, bytes] = (0, b"")
        head = self._take(0, _SEGMENT.size + _FILE.size, "file header")
        if not head.startswith(MAGIC):
            raise Unsupported("not a CZI file")
        fields = _FILE.unpack_from(head, _SEGMENT.size)
        major, part, pending = fields[0], fields[6], fields[9]
        directory, self._metadata, self._attached = fields[7], fields[8], fields[10]
        if major != 1:
            raise Unsupported(f"a CZI file of version {major}")
        if part:
            raise Unsupported("a part of a CZI file that is split into several")
        if pending or directory <= 0:
            raise Unsupported("a CZI file that was not closed by its writer")
        self.blocks = self._read_blocks(directory)
        self.attachments = tuple(self._read_attachments())
        self.rooms = self._find_rooms(directory)

    def _take(self, offset: int, length: int, what: str) -> bytes:
        """Return exactly `length` bytes; following bytes are kept, as they are often read next."""
        start, kept = self._ahead
        if start <= offset and offset + length <= start + len(kept):
            return kept[offset - start : offset - start + length]
        if offset < 0 or offset + length > self.access.size:
            raise UnreadableFile(
                f"{self.name}: the {what} should be at bytes {offset:,}-{offset + length:,}, but "
                f"the file has {self.access.size:,}; it is truncated or damaged."
            )
        kept = bytes(self.access.read_at(offset, max(length, _AHEAD)))
        if len(kept) < length:
            raise UnreadableFile(f"{self.name}: the {what} cannot be read; the file is truncated.")
        self._ahead = (offset, kept)
        return kept[:length]

    def _segment(self, position: int, magic: bytes, what: str, least: int) -> int:
        """Check the header of a segment; return the number of bytes in use."""
        head = self._take(position, _SEGMENT.size, what)
        kind, allocated, used = _SEGMENT.unpack(head)
        if kind.rstrip(b"\0") != magic:
            raise UnreadableFile(
                f"{self.name}: there is no {what} at byte {position:,}; the file is damaged."
            )
        used = used or allocated
        if used < least or position + _SEGMENT.size + used > self.access.size:
            raise UnreadableFile(
                f"{self.name}: its {what} of {used:,} bytes does not fit the file, which has "
                f"{self.access.size:,}; it is truncated or damaged."
            )
        return int(used)

    def _read_blocks(self, position: int) -> Blocks:
        what = "subblock directory"
        used = self._segment(position, b"ZISRAWDIRECTORY", what, 128)
        check(used, self.limits.tag_bytes, f"length of the {what} in bytes", self.name)
        data = self._take(position + _SEGMENT.size, used, what)
        count = struct.unpack_from("<i", data)[0]
        if not 0 <= count <= (used - 128) // _ENTRY.size:
            raise UnreadableFile(
                f"{self.name}: its {what} names {count:,} entries, which do not fit its {used:,} "
                "bytes; the file is damaged."
            )
        if not count:
            raise Unsupported("a CZI file without pixels")
        offsets, counts = self._entries(data, count)
        return _columns(np.frombuffer(data, np.uint8), offsets, counts, self)

    def _entries(self, data: bytes, count: int) -> tuple[Array, Array]:
        """Return the start of each entry, and its number of axes."""
        unpack, end = struct.Struct("<i").unpack_from, len(data)
        offsets, counts, at = [0] * count, [0] * count, 128
        for number in range(count):
            axes = unpack(data, at + 28)[0] if at + 32 <= end else -1
            if not 2 <= axes <= _MOST_AXES or at + 32 + 20 * axes > end:
                raise UnreadableFile(
                    f"{self.name}: entry {number:,} of its subblock directory is damaged."
                )
            offsets[number], counts[number] = at, axes
            at += 32 + 20 * axes
        return np.array(offsets), np.array(counts)

    def _read_attachments(self) -> Iterator[Attachment]:
        if self._attached <= 0:
            return
        what = "attachment directory"
        used = self._segment(self._attached, b"ZISRAWATTDIR", what, 256)
        check(used, self.limits.tag_bytes, f"length of the {what} in bytes", self.name)
        data = self._take(self._attached + _SEGMENT.size, used, what)
        count = struct.unpack_from("<i", data)[0]
        if not 0 <= count <= (used - 256) // 128:
            raise UnreadableFile(f"{self.name}: its {what} is damaged.")
        for number in range(count):
            _, position, _, kind, name = _ATTACHMENT.unpack_from(data, 256 + 128 * number)
            yield Attachment(position, _text(kind), _text(name))

    def _find_rooms(self, directory: int) -> Array:
        others = [directory, self._metadata, self._attached, self.access.size]
        others += [attachment.position for attachment in self.attachments]
        positions = self.blocks.position
        ends = np.unique(np.concatenate([positions, np.array(others)]))
        after = np.searchsorted(ends, positions, side="right")
        return ends[np.minimum(after, len(ends) - 1)] - positions

    def metadata_xml(self) -> str | None:
        """Return the file's metadata, or None if there is none."""
        if self._metadata <= 0:
            return None
        what = "metadata segment"
        self._segment(self._metadata, b"ZISRAWMETADATA", what, 0)
        at = self._metadata + _SEGMENT.size
        length = struct.unpack("<i", self._take(at, 4, what))[0]
        if length < 0:
            raise UnreadableFile(f"{self.name}: its {what} is damaged.")
        check(length, self.limits.xml_bytes, "length of the metadata in bytes", self.name)
        return self._take(at + 256, length, what).decode("utf-8", "replace").rstrip("\0")

    def attachment_data(self, attachment: Attachment) -> AttachmentAccess:
        """Return the data of an attachment."""
        what = f"attachment {attachment.name!r}"
        self._segment(attachment.position, b"ZISRAWATTACH", what, 256)
        at = attachment.position + _SEGMENT.size
        size = struct.unpack("<q", self._take(at, 8, what))[0]
        if size < 0 or at + 256 + size > self.access.size:
            raise UnreadableFile(f"{self.name}: its {what} is truncated or damaged.")
        return AttachmentAccess(self.access, at + 256, size)

    def subblock(self, block: int, head: bytes | memoryview) -> SubblockHeader:
        """Read the header of a subblock.

        Parameters
        ----------
        block
            Its number in `blocks`.
        head
            The segment's first bytes: at least 80, or all if there are fewer.

        Raises
        ------
        UnreadableFile
            It is damaged, or extends into the next segment.
        """
        position = int(self.blocks.position[block])
        if len(head) < 80 or not bytes(head[:14]) == b"ZISRAWSUBBLOCK":
            raise UnreadableFile(
                f"there is no subblock at byte {position:,}; the file is truncated or damaged"
            )
        metadata, attachment, data = _SUBBLOCK.unpack_from(head, 32)
        _, pixel_type, _, _, compression, _, axes = _ENTRY.unpack_from(head, 48)
        expected = (int(self.blocks.pixel_type[block]), int(self.blocks.compression[block]))
        if (pixel_type, compression) != expected or not 0 <= axes <= _MOST_AXES:
            raise UnreadableFile(
                f"the subblock at byte {position:,} is not the one that the directory describes; "
                "the file is damaged"
            )
        start = position + 32 + max(256, 48 + 20 * axes)
        end = start + metadata + data
        if min(metadata, attachment, data) < 0 or end > self.access.size:
            raise UnreadableFile(
                f"the subblock at byte {position:,} should end at byte {end:,}, but the file has "
                f"{self.access.size:,}; it is truncated or damaged"
            )
        if end > position + int(self.rooms[block]):
            raise UnreadableFile(
                f"the subblock at byte {position:,} should end at byte {end:,}, after the next "
                f"part of the file begins; the file is damaged"
            )
        return SubblockHeader(start, metadata, start + metadata, data)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace").strip()


def _columns(data: Array, offsets: Array, counts: Array, file: CziFile) -> Blocks:
    """Convert the entries of a directory to columns."""
    total = len(offsets)
    columns = {
        name: np.zeros(total, np.int64)
        for name in (
            "position", "pixel_type", "compression", "pyramid", "x", "y", "width", "height",
            "stored_width", "stored_height", "axes",
        )
    }  # fmt: skip
    start: dict[str, Array] = {}
    orders: list[str] = []
    for count in np.unique(counts):
        rows = np.flatnonzero(counts == count)
        record = np.dtype(
            [
                ("schema", "S2"), ("pixel_type", "<i4"), ("position", "<i8"), ("part", "<i4"),
                ("compression", "<i4"), ("pyramid", "u1"), ("", "V5"), ("count", "<i4"),
                ("axes", _DIMENSION, (int(count),)),
            ]
        )  # fmt: skip
        # Whole rows are copied, not bytes.
        windows = np.lib.stride_tricks.sliding_window_view(data, record.itemsize)
        entries = windows[offsets[rows]].view(record).reshape(-1)
        if np.any(entries["schema"] != b"DV"):
            raise Unsupported("a CZI file with directory entries of another type than DV")
        if np.any(entries["part"]):
            raise Unsupported("a CZI file that is split into several")
        for name in ("pixel_type", "position", "compression", "pyramid"):
            columns[name][rows] = entries[name]
        for order, chosen in _by_order(entries["axes"]["name"]):
            if order not in orders:
                orders.append(order)
            columns["axes"][rows[chosen]] = orders.index(order)
            _fill(columns, start, order, entries["axes"][chosen], rows[chosen])
    positions = columns["position"]
    if np.any(positions < 0) or np.any(positions >= file.access.size):
        raise UnreadableFile(
            f"{file.name}: a subblock should be at byte {int(positions.max()):,}, but the file "
            f"has {file.access.size:,}; it is truncated or damaged."
        )
    _check_sizes(columns, file)
    in_file = np.argsort(positions, kind="stable")
    twice = positions[in_file][1:][np.diff(positions[in_file]) == 0]
    if len(twice):
        raise UnreadableFile(
            f"{file.name}: its directory has two subblocks at byte {int(twice[0]):,}; the file is "
            "damaged."
        )
    return Blocks(
        **{name: column[in_file] for name, column in columns.items()},
        start={axis: column[in_file] for axis, column in start.items()},
        orders=tuple(orders),
    )


def _by_order(names: Array) -> Iterator[tuple[str, Array]]:
    """Group entries by the order of their axes; yield the order and the rows that have it."""
    if (names == names[:1]).all():
        yield _order(names[0]), np.arange(len(names))
        return
    keys, inverse = np.unique(names, axis=0, return_inverse=True)
    for number, key in enumerate(keys):
        yield _order(key), np.flatnonzero(inverse.reshape(-1) == number)


def _order(names: Array) -> str:
    letters = [name.decode("latin-1").strip() for name in names.tolist()]
    order = "".join(letters)
    if any(len(letter) != 1 for letter in letters) or len(set(order)) != len(order):
        raise Unsupported("a CZI file with axes of unclear names")
    # libCZI and ZEN write this order; ZeissCZIReader also uses the first two as X and Y.
    if not order.startswith("XY") or not set(order[2:]) <= set(AXES):
        raise Unsupported(f"a CZI file with the axes {order!r}")
    return order


def _fill(
    columns: dict[str, Array], start: dict[str, Array], order: str, axes: Array, rows: Array
) -> None:
    """Write the axes of entries with the same order into the columns."""
    for number, letter in enumerate(order):
        axis = axes[:, number]
        if letter in "XY":
            lengths = ("width", "stored_width") if letter == "X" else ("height", "stored_height")
            columns[letter.lower()][rows] = axis["start"]
            columns[lengths[0]][rows] = axis["size"]
            # 0 means the size of the covered box (libCZI, CSbBlkStatisticsUpdater and subblocks).
            columns[lengths[1]][rows] = np.where(axis["stored"], axis["stored"], axis["size"])
            continue
        if np.any(axis["size"] > 1):
            raise Unsupported(f"a CZI file with subblocks of several positions along {letter}")
        if np.any(axis["start"] < 0):
            raise Unsupported(f"a CZI file with negative positions along {letter}")
        column = start.setdefault(letter, np.full(len(columns["axes"]), ABSENT, np.int64))
        column[rows] = axis["start"]


def _check_sizes(columns: Mapping[str, Array], file: CziFile) -> None:
    for name in ("width", "height", "stored_width", "stored_height"):
        if np.any(columns[name] < 1):
            raise UnreadableFile(
                f"{file.name}: a subblock has a {name.replace('_', ' ')} of "
                f"{int(columns[name].min())} pixels; the file is damaged."
            )
