"""DICOM files that Bio-Formats' DicomReader reads incorrectly: corrected for Java, or refused.

Java reads the same file with its pixels in another layout:

- A frame in JPEG or JPEG 2000 may have several fragments (PS3.5, annex A.4). DicomReader decodes
everything after the start of a frame, including the headers of further fragments. Here each
frame has one fragment.
- With run-length encoding (annex G), DicomReader loses the last byte of every plane, and zero
bytes between planes. With JPEG 2000 it reads only the declared number of tile-parts, and does not
extend the sign of samples with unused bits. Here both are decoded.
- DicomReader does not swap one-byte samples in big-endian words (OW). Here they are swapped.
DicomReader interprets four bytes before the pixels as the length of an item, and looks for another
item after it. If uncompressed pixels contain the two bytes that start an item, it reads pixels from
that position. Such files are refused.
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
# JPEG (.50 to .70), JPEG-LS (.80, .81) and JPEG 2000 (.90 to .93): each frame is a separate
# stream. Videos have no separate frames.
_STREAMS: Final = re.compile(r"1\.2\.840\.10008\.1\.2\.4\.([5-9]\d)")
_JPEG, _JPEG2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"

# Offset and length of each fragment.
_Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """The elements of a DICOM file before its pixels.

    Attributes
    ----------
    syntax
        Transfer syntax.
    elements
        Offset and length of the values that are needed here, by tag.
    at, length
        Offset and length of the value of (7FE0,0010); both 0 if there is none.
    kind
        Its value representation; empty if it is implicit.
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
    """Read the elements of a DICOM file before its pixels; None for deflated and other files."""
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
    """Return tag, value representation, offset and length of the element at an offset, or None."""
    raw = bytes(access.read_at(at, 12))
    if len(raw) < 8:
        return None
    # The first group is always explicit and little-endian.
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
    """Return a DICOM file in a form that Bio-Formats reads correctly, or None if it already is.

    Raises
    ------
    UnreadableFile
        The numbers of frames and fragments do not match.
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
    # Uncompressed pixels have a length of four bytes.
    small = file.frame_bytes * file.frames < UNDEFINED
    return file.unpacked(file.grouped(_JPEG2000)) if small else file.joined(_JPEG2000)


@dataclass
class _DicomFile:
    """A DICOM file with its header."""

    access: RandomAccess
    name: str
    limits: Limits
    header: DicomHeader

    def number(self, tag: int, default: int) -> int:
        """Return the value of an element of type US, or a number of frames written as digits."""
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
        """Refuse a file in which Bio-Formats would interpret pixels as an item.

        See DicomReader.calculatePixelsOffsets.
        """
        at, order = self.header.at, self.header.order
        (length,) = struct.unpack(order + "i", bytes(access.read_at(at - 12, 4)))
        place = at - 8 + length
        if length < 0 or place >= access.size:
            return
        if bytes(access.read_at(place, 2)) == struct.pack(order + "H", _ITEM_GROUP):
            raise UnreadableFile(
                f"{self.name}: at byte {place:,} its pixels have the value that marks an item; "
                "Bio-Formats would read pixels from there. Save it in another format."
            )

    def swapped(self) -> RandomAccess | None:
        """Return the file with swapped bytes in big-endian words, or None for other sample types.

        Bio-Formats reads one-byte samples in file order, whatever the byte order of the file.
        """
        header = self.header
        if not (header.order == ">" and header.kind == b"OW" and self.number(_BITS, 0) == 8):
            return None
        return self._rebuilt([Swapped(self.access, header.at, header.length)])

    @property
    def frame_bytes(self) -> int:
        """Bytes of an uncompressed frame."""
        samples = self.number(_ROWS, 0) * self.number(_COLUMNS, 0) * self.number(_SAMPLES, 1)
        return samples * self.number(_BITS, 0) // 8

    def grouped(self, start: bytes) -> list[_Spans]:
        """Return the fragments of each frame, for streams that start with a marker."""
        table, fragments = self._fragments()
        if len(fragments) == self.frames:
            return [[fragment] for fragment in fragments]
        frames = self._fragments_by_start(fragments, start, table)
        if frames is None:
            raise UnreadableFile(
                f"{self.name}: its {self.frames} frames have {len(fragments)} fragments, and "
                "it is unknown which of them belong together. Save it again with one fragment per "
                "frame."
            )
        return frames

    def run_lengths(self) -> list[_Spans]:
        """Return the one fragment of each frame."""
        _, fragments = self._fragments()
        if len(fragments) != self.frames:
            raise UnreadableFile(
                f"{self.name}: its {self.frames} frames have {len(fragments)} fragments, which is "
                "invalid for run-length encoding (PS3.5, annex G); it is damaged."
            )
        return [[fragment] for fragment in fragments]

    def joined(self, start: bytes) -> RandomAccess | None:
        """Return the file with each frame in one fragment, or None if it already is."""
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
        """Return the file with its frames decompressed, as an uncompressed file."""
        bits, length = self.number(_BITS, 0), self.frame_bytes
        if bits not in (8, 16, 32) or not length:
            raise UnreadableFile(f"{self.name}: compressed {bits}-bit samples are not supported.")
        check(length, self.limits.chunk_bytes, "decoded size of a frame in bytes", self.name)
        kind = f"{'i' if self.number(_SIGNED, 0) else 'u'}{bits // 8}"
        decoder = DicomFrames(
            self.access,
            self.name,
            (self.number(_ROWS, 0), self.number(_COLUMNS, 0), self.number(_SAMPLES, 1)),
            np.dtype(kind),
            stored=self.number(_STORED, bits),
            # Bio-Formats assumes planes of samples if the element is missing.
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
        """Return the file with other, uncompressed pixels; changed values have the same length."""
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
        """Return the offset table and the fragments; there is at least one fragment per frame."""
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
                "are present; it is damaged. Copy or download it again."
            )
        return found[0], found[1:]

    def _fragments_by_start(
        self, fragments: _Spans, start: bytes, table: tuple[int, int]
    ) -> list[_Spans] | None:
        """Return the fragments of each frame, or None if they cannot be determined."""
        frames = self.frames
        if frames == 1:
            return [fragments]
        # A frame starts a fragment, and a stream starts with its marker.
        marked = [
            number
            for number, (at, size) in enumerate(fragments)
            if start.startswith(bytes(self.access.read_at(at, min(size, len(start)))))
        ]
        at, length = table
        if length == 4 * frames:
            # Offsets are those of each frame's first item, counted from the end of the table.
            raw = bytes(self.access.read_at(at, length))
            items = {place - 8: number for number, (place, _) in enumerate(fragments)}
            starts = [items.get(at + length + int(n), -1) for (n,) in struct.iter_unpack("<I", raw)]
            if not set(starts) <= set(marked):
                return None
            marked = starts
        if len(marked) != frames or marked[0] != 0 or marked != sorted(set(marked)):
            return None
        return [fragments[a:b] for a, b in pairwise([*marked, len(fragments)])]
