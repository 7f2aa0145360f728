"""DICOM files that Bio-Formats' DicomReader misreads: mended before Java sees them, or refused.

What Java is given in place of such a file is the same file with its pixels laid out another way:

- A frame packed as JPEG or JPEG 2000 may lie in several fragments (PS3.5, annex A.4). DicomReader
  takes all that follows a frame's beginning for its data, the headers of further fragments with it.
  Here each frame has one fragment.
- Of run lengths (annex G) it loses the last byte of every plane, and bytes of zeros between planes.
  Of JPEG 2000 it reads no more tile-parts than are declared, and does not extend the sign of
  samples with spare bits. Here both are unpacked.
- Samples of one byte in big-endian words (OW) it does not swap. Here they are swapped.

It takes four bytes before the pixels for the length of an item, and looks behind it for another.
Where pixels that are not packed happen to hold the two bytes that an item begins with, it reads
from there on. Such files are refused.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from bfbridge.errors import UnreadableFile
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess
from bfbridge_bioformats.files.dicom_parts import (
    Added,
    Buffered,
    DicomFrame,
    DicomFrames,
    DicomPart,
    Joined,
    Stretch,
    Swapped,
)

__all__ = ["UNDEFINED", "DicomHeader", "corrected", "read_header"]

UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = b"\xfe\xff\x00\xe0"
_ITEM_GROUP: Final = 0xFFFE
_ITEM_TAG: Final = 0xFFFEE000
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
_SYNTAX, _PIXELS = 0x00020010, 0x7FE00010
_SAMPLES, _PLANAR, _FRAMES = 0x00280002, 0x00280006, 0x00280008
_ROWS, _COLUMNS, _BITS = 0x00280010, 0x00280011, 0x00280100
_STORED, _SIGNED = 0x00280101, 0x00280103
_KEPT: Final = frozenset(
    {_SYNTAX, _SAMPLES, _PLANAR, _FRAMES, _ROWS, _COLUMNS, _BITS, _STORED, _SIGNED}
)
# Value representations with a length of four bytes.
_LONG_FORMS: Final = (
    *(b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ"),
    *(b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"),
)
_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_BIG_ENDIAN, _RLE = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
# JPEG (.50 to .70), JPEG-LS (.80, .81) and JPEG 2000 (.90 to .93): each frame is a stream of its
# own. Videos have no frames of their own.
_STREAMS: Final = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.([5-9]\d)")
_JPEG, _JPEG2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"

# Offset and length of each fragment.
_Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What stands before the pixels of a DICOM file.

    Attributes
    ----------
    syntax
        Transfer syntax.
    elements
        Where values lie that are needed here, by tag: offset and length.
    at, length
        Where the value of (7FE0,0010) begins, and its length; both 0 if there is none.
    kind
        Its value representation; empty where it is implicit.
    """

    syntax: str
    elements: Mapping[int, tuple[int, int]]
    at: int = 0
    length: int = 0
    kind: bytes = b""

    @property
    def order(self) -> Literal["<", ">"]:
        """Byte order of all but the first group."""
        return ">" if self.syntax == _BIG_ENDIAN else "<"


def read_header(access: RandomAccess, limits: Limits) -> DicomHeader | None:
    """Walk the elements of a DICOM file up to its pixels; None if it is none, or deflated."""
    if bytes(access.read_at(128, 4)) != b"DICM":
        return None
    buffered = Buffered(access)
    elements: dict[int, tuple[int, int]] = {}
    at, depth, syntax = 132, 0, _IMPLICIT
    for _ in range(limits.directories):
        found = _element(buffered, at, syntax)
        if found is None:
            break
        tag, kind, value, length = found
        at = value
        if tag >> 16 == _ITEM_GROUP:
            if tag != _ITEM_TAG:
                depth -= 1
            elif length == UNDEFINED:
                depth += 1
            else:
                at += length
            continue
        if tag == _PIXELS and depth == 0:
            return DicomHeader(syntax, elements, value, length, kind)
        if tag in _KEPT and depth == 0:
            elements[tag] = value, length
        if tag == _SYNTAX:
            text = bytes(buffered.read_at(value, min(length, 64)))
            syntax = text.rstrip(b"\0 ").decode("latin-1")
            if syntax.endswith(".99"):
                return None
        if length == UNDEFINED:
            depth += 1
        else:
            at += length
    return DicomHeader(syntax, elements)


def _element(access: RandomAccess, at: int, syntax: str) -> tuple[int, bytes, int, int] | None:
    """Return tag, value representation, place and length of the element at a place, or None."""
    raw = bytes(access.read_at(at, 12))
    if len(raw) < 8:
        return None
    # The first group is explicit and little-endian whatever follows.
    first = raw[:2] == b"\x02\x00"
    order = ">" if syntax == _BIG_ENDIAN and not first else "<"
    group, number = struct.unpack_from(order + "HH", raw)
    tag = group << 16 | number
    if group == _ITEM_GROUP or (syntax == _IMPLICIT and not first):
        return tag, b"", at + 8, struct.unpack_from(order + "I", raw, 4)[0]
    kind = raw[4:6]
    if kind not in _LONG_FORMS:
        return tag, kind, at + 8, struct.unpack_from(order + "H", raw, 6)[0]
    if len(raw) < 12:
        return None
    return tag, kind, at + 12, struct.unpack_from(order + "I", raw, 8)[0]


def corrected(access: RandomAccess, name: str, limits: Limits) -> RandomAccess | None:
    """Return a DICOM file as Bio-Formats reads it rightly, or None where that is so already.

    Raises
    ------
    UnreadableFile
        Frames and fragments do not fit together.
    """
    header = read_header(access, limits)
    if header is None or not header.at:
        return None
    file = _DicomFile(access, name, limits, header)
    if header.length != UNDEFINED:
        file.check_place(access)
        return file.swapped()
    if header.syntax == _RLE:
        return file.unpacked(file.run_lengths())
    streams = _STREAMS.fullmatch(header.syntax)
    if streams is None:
        return None
    if streams.group(1) < "90":
        return file.joined(_JPEG)
    # Pixels that are not packed have a length of four bytes.
    small = file.frame_bytes * file.frames < UNDEFINED
    return file.unpacked(file.grouped(_JPEG2000)) if small else file.joined(_JPEG2000)


@dataclass
class _DicomFile:
    """A file with its header."""

    access: RandomAccess
    name: str
    limits: Limits
    header: DicomHeader

    def number(self, tag: int, default: int) -> int:
        """Return the value of an element of type US, or of digits for the number of frames."""
        at, length = self.header.elements.get(tag, (0, 0))
        raw = bytes(self.access.read_at(at, min(length, 16)))
        if tag == _FRAMES:
            text = raw.strip(b" \0")
            return int(text) if text.isdigit() else default
        return default if len(raw) < 2 else int(struct.unpack_from(self.header.order + "H", raw)[0])

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.number(_FRAMES, 1)

    def check_place(self, access: RandomAccess) -> None:
        """Refuse a file of which Bio-Formats would take pixels for an item.

        DicomReader.calculatePixelsOffsets.
        """
        at, order = self.header.at, self.header.order
        (length,) = struct.unpack(order + "i", bytes(access.read_at(at - 12, 4)))
        place = at - 8 + length
        if length < 0 or place >= access.size:
            return
        if bytes(access.read_at(place, 2)) == struct.pack(order + "H", _ITEM_GROUP):
            raise UnreadableFile(
                f"{self.name}: at byte {place:,} its pixels have the value that marks an item, and "
                "Bio-Formats would read them from there on. Save it in another format, or packed."
            )

    def swapped(self) -> RandomAccess | None:
        """Return the file with big-endian words changed over, or None if its samples are no bytes.

        Whatever the byte order of a file, Bio-Formats reads samples of one byte as they come.
        """
        header = self.header
        if not (header.order == ">" and header.kind == b"OW" and self.number(_BITS, 0) == 8):
            return None
        return self._rebuilt([Swapped(self.access, header.at, header.length)])

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame that is not packed."""
        samples = self.number(_ROWS, 0) * self.number(_COLUMNS, 0) * self.number(_SAMPLES, 1)
        return samples * self.number(_BITS, 0) // 8

    def grouped(self, start: bytes) -> list[_Spans]:
        """Return the fragments of each frame, whose streams begin with a mark."""
        table, fragments = self._fragments()
        if len(fragments) == self.frames:
            return [[fragment] for fragment in fragments]
        frames = self._told_apart(fragments, start, table)
        if frames is None:
            raise UnreadableFile(
                f"{self.name}: its {self.frames} frames lie in {len(fragments)} fragments, and "
                "which of them belong together cannot be told. Save it again with one fragment a "
                "frame."
            )
        return frames

    def run_lengths(self) -> list[_Spans]:
        """Return the one fragment of each frame."""
        _, fragments = self._fragments()
        if len(fragments) != self.frames:
            raise UnreadableFile(
                f"{self.name}: its {self.frames} frames lie in {len(fragments)} fragments, which "
                "run lengths cannot (PS3.5, annex G); it is damaged."
            )
        return [[fragment] for fragment in fragments]

    def joined(self, start: bytes) -> RandomAccess | None:
        """Return the file with each frame in one fragment, or None where that is so already."""
        frames = self.grouped(start)
        if all(len(frame) == 1 for frame in frames):
            return None
        parts: list[DicomPart] = [Added(_ITEM + bytes(4))]
        for frame in frames:
            length = sum(size for _, size in frame)
            parts.append(Added(_ITEM + struct.pack("<I", length + length % 2)))
            parts += [Stretch(self.access, at, size) for at, size in frame]
            parts.append(Added(bytes(length % 2)))
        at = self.header.at
        return Joined(self.access, [Stretch(self.access, 0, at), *parts, Added(_SEQUENCE_END)])

    def unpacked(self, frames: list[_Spans]) -> RandomAccess:
        """Return the file with its frames unpacked, as a file that is not packed."""
        bits, length = self.number(_BITS, 0), self.frame_bytes
        if bits not in (8, 16, 32) or not length:
            raise UnreadableFile(f"{self.name}: packed samples of {bits} bits are not read.")
        check(length, self.limits.chunk_bytes, "decoded size of a frame in bytes", self.name)
        kind = f"{'i' if self.number(_SIGNED, 0) else 'u'}{bits // 8}"
        decoder = DicomFrames(
            self.access,
            self.name,
            (self.number(_ROWS, 0), self.number(_COLUMNS, 0), self.number(_SAMPLES, 1)),
            np.dtype(kind),
            stored=self.number(_STORED, bits),
            # What is not told, Bio-Formats takes for planes of samples.
            planar=self.number(_PLANAR, 1) != 0,
            runs=self.header.syntax == _RLE,
        )
        parts: list[DicomPart] = [DicomFrame(decoder, tuple(spans), length) for spans in frames]
        changes = {_SYNTAX: _EXPLICIT.encode()}
        whole = self._rebuilt(parts, changes)
        self.check_place(whole)
        return whole

    def _rebuilt(
        self, pixels: list[DicomPart], changes: Mapping[int, bytes] | None = None
    ) -> RandomAccess:
        """Return the file with other pixels, not packed, and values of the same length changed."""
        header = self.header
        length = sum(part.length for part in pixels)
        check(length, UNDEFINED - 2, "length of its pixels in bytes", self.name)
        head = bytearray(self.access.read_at(0, header.at))
        for tag, value in (changes or {}).items():
            if tag in header.elements:
                at, room = header.elements[tag]
                head[at : at + room] = value.ljust(room, b"\0")[:room]
        head[header.at - 4 :] = struct.pack(header.order + "I", length + length % 2)
        return Joined(self.access, [Added(bytes(head)), *pixels, Added(bytes(length % 2))])

    def _fragments(self) -> tuple[tuple[int, int], _Spans]:
        """Return the table of offsets and the fragments, of which there are enough."""
        buffered = Buffered(self.access)
        found: _Spans = []
        at = self.header.at
        while True:
            raw = bytes(buffered.read_at(at, 8))
            if raw[:4] != _ITEM or len(raw) < 8:
                break
            (length,) = struct.unpack_from("<I", raw, 4)
            found.append((at + 8, length))
            check(len(found), self.limits.directories, "number of fragments", self.name)
            at += 8 + length
        if at > self.access.size or len(raw) < 8:
            raise UnreadableFile(
                f"{self.name}: the file is cut short: a fragment of its pixels should end at byte "
                f"{at:,}, and the file has {self.access.size:,} bytes. Copy or download it again."
            )
        if len(found) <= self.frames:
            raise UnreadableFile(
                f"{self.name}: it declares {self.frames} frames, and only {max(len(found) - 1, 0)} "
                "are there; it is damaged. Copy or download it again."
            )
        return found[0], found[1:]

    def _told_apart(
        self, fragments: _Spans, start: bytes, table: tuple[int, int]
    ) -> list[_Spans] | None:
        """Return the fragments of each frame, or None where that is not certain."""
        frames = self.frames
        if frames == 1:
            return [fragments]
        # A frame begins a fragment, and a stream begins with its mark.
        marked = [
            number
            for number, (at, size) in enumerate(fragments)
            if start.startswith(bytes(self.access.read_at(at, min(size, len(start)))))
        ]
        at, length = table
        if length == 4 * frames:
            # Of each frame's first item, from the end of the table on.
            raw = bytes(self.access.read_at(at, length))
            items = {place - 8: number for number, (place, _) in enumerate(fragments)}
            told = [items.get(at + length + int(n), -1) for (n,) in struct.iter_unpack("<I", raw)]
            if not set(told) <= set(marked):
                return None
            marked = told
        if len(marked) != frames or marked[0] != 0 or marked != sorted(set(marked)):
            return None
        return [fragments[a:b] for a, b in pairwise([*marked, len(fragments)])]
