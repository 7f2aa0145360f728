"""The search for metadata that may identify somebody, in every byte of a TIFF file.

Every directory of all chains is read, with entries of unknown tags and field types. Bytes that
belong neither to a directory nor to a segment must be zeros: nothing is hidden between them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend.findings import COPY_AGAIN, Finding
from bfbridge.errors import BfbridgeError
from bfbridge.limits import check
from bfbridge.ome.checks.identifying import CLEAN, check_identifying, note_of_names
from bfbridge.ome.documents.xml import document_text
from bfbridge.tiff.header import ASCII, FIELD_TYPES, HEADER_BYTES, UNDEFINED, WHOLE, Entry
from bfbridge.tiff.jpeg_segments import metadata_of_jpeg
from bfbridge.tiff.tags import Tag, tag_name
from bfbridge_ometiff.reading.files import OpenTiff
from bfbridge_ometiff.structure.segment_layout import DEFLATE, JPEG, SegmentLayout, layout_of

if TYPE_CHECKING:
    from bfbridge.backend import OpenOptions
    from bfbridge.storage.source import Source

__all__ = ["find_identifying"]

_FEW: Final = 8
# Tags that describe the layout of pixels, with the largest number of values of each; 0 for one
# value for each segment.
_NUMBERS: Final[dict[int, int]] = {
    Tag.NewSubfileType: 1, Tag.ImageWidth: 1, Tag.ImageLength: 1, Tag.BitsPerSample: _FEW,
    Tag.Compression: 1, Tag.PhotometricInterpretation: 1, Tag.FillOrder: 1, Tag.StripOffsets: 0,
    Tag.SamplesPerPixel: 1, Tag.RowsPerStrip: 1, Tag.StripByteCounts: 0, Tag.XResolution: 1,
    Tag.YResolution: 1, Tag.PlanarConfiguration: 1, Tag.ResolutionUnit: 1, Tag.Predictor: 1,
    Tag.TileWidth: 1, Tag.TileLength: 1, Tag.TileOffsets: 0, Tag.TileByteCounts: 0,
    Tag.SubIFDs: 64, Tag.ExtraSamples: _FEW, Tag.SampleFormat: _FEW, Tag.YCbCrSubSampling: 2,
    Tag.ReferenceBlackWhite: 6,
}  # fmt: skip
_SOFTWARE: Final = b"bfbridge"
_LINKS: Final = (Tag.SubIFDs,)
_GAP_BYTES: Final = 1 << 20


def find_identifying(source: Source, options: OpenOptions) -> Iterator[Finding]:
    """Yield everything in a TIFF that is not known to identify nobody.

    Parameters
    ----------
    source
        The file.
    options
        `limits` are used.
    """
    with closing(OpenTiff(source, options.limits)) as tiff:
        yield from _Search(tiff).run()


class _Search:
    """The search in one file.

    Parameters
    ----------
    tiff
        The open file.
    """

    def __init__(self, tiff: OpenTiff) -> None:
        self._tiff = tiff
        self._file = tiff.tiff
        self._used = [(0, HEADER_BYTES if self._file.header.big else 8)]
        self._segments: list[np.ndarray[Any, np.dtype[Any]]] = []
        self._names: set[str] = set()

    def run(self) -> Iterator[Finding]:
        """Yield the findings of all directories, segments and other bytes."""
        pending, seen = [self._file.header.first], set[int]()
        while pending:
            offset = pending.pop()
            if offset in seen:
                continue
            seen.add(offset)
            check(len(seen), self._file.limits.directories, "directories", self._tiff.name)
            where = f"{self._tiff.name}: directory at byte {offset:,}"
            try:
                entries, end, following = self._file.entries_at(offset)
                self._used.append((offset, end))
                pending += [following] if following else []
                for tag, entry in entries:
                    yield from self._entry(tag, entry, where)
                directory = self._file.directory_at(offset)
                for tag in _LINKS:
                    pending += directory.numbers(tag)
                twice = len(entries) - len({tag for tag, _ in entries})
                if twice:
                    yield self._found(where, f"{twice} entries of tags that occur twice")
                layout = layout_of(directory, self._file.header.byteorder, where)
                yield from self._pixels(layout, where)
            except BfbridgeError as error:
                yield Finding("error", "identifying-unreadable", where, str(error), COPY_AGAIN)
        yield from self._gaps()
        yield from note_of_names(self._names, self._tiff.name)

    @staticmethod
    def _found(where: str, message: str) -> Finding:
        return Finding("error", "identifying-tag", where, message, CLEAN)

    def _entry(self, tag: int, entry: Entry, where: str) -> Iterator[Finding]:
        """Check one entry of a directory."""
        name = f"tag {tag} ({tag_name(tag)})" if tag_name(tag) != str(tag) else f"tag {tag}"
        if entry.kind not in FIELD_TYPES:
            yield self._found(where, f"{name} has the unknown field type {entry.kind}")
            return
        code, size = FIELD_TYPES[entry.kind]
        length, inline = entry.values * size, self._file.header.offset_bytes
        if length > inline:
            offset = min(entry.offset, self._tiff.size)
            self._used.append((offset, offset + min(length, self._tiff.size)))
        else:
            rest = self._file.bytes_at(entry.offset + length, inline - length, name)
            if rest.strip(b"\0"):
                yield self._found(where, f"{name} has unused bytes that are not zeros")
        if tag == Tag.ImageDescription:
            yield from self._description(entry, where)
        elif tag == Tag.Software:
            if self._value(entry).strip(b"\0") != _SOFTWARE:
                yield self._found(where, f"{name} names another program")
        elif tag == Tag.JPEGTables and entry.kind == UNDEFINED:
            yield from self._stream(self._value(entry), f"{where}, {name}")
        elif tag not in _NUMBERS:
            yield self._found(where, f"{name}, {length:,} bytes")
        elif not code or not (set(code) <= set(WHOLE)):
            yield self._found(where, f"{name} has the field type {entry.kind} instead of numbers")
        elif _NUMBERS[tag] and entry.values > _NUMBERS[tag]:
            yield self._found(where, f"{name} has {entry.values:,} values")

    def _value(self, entry: Entry) -> bytes:
        length = entry.values * FIELD_TYPES[entry.kind][1]
        check(length, self._file.limits.tag_bytes, "length of a tag in bytes", self._tiff.name)
        return self._file.bytes_at(entry.offset, length, "the value of a tag")

    def _description(self, entry: Entry, where: str) -> Iterator[Finding]:
        text = self._value(entry)
        if entry.kind != ASCII or b"<OME" not in text:
            yield self._found(where, "ImageDescription is not OME-XML")
            return
        where = f"{where}, ImageDescription"
        decoded = document_text(text.rstrip(b"\0"), where, self._file.limits)
        yield from check_identifying(decoded, where, self._names)

    def _stream(self, stream: bytes, where: str) -> Iterator[Finding]:
        try:
            found = metadata_of_jpeg(stream)
        except ValueError as error:
            message = f"its JPEG stream cannot be checked: {error}"
            yield Finding("error", "identifying-jpeg", where, message, CLEAN)
            return
        if found:
            message = f"JPEG metadata: {'; '.join(found[:_FEW])}"
            yield Finding("error", "identifying-jpeg", where, message, CLEAN)

    # ---- segments

    def _pixels(self, layout: SegmentLayout, where: str) -> Iterator[Finding]:
        """Check the segments of one directory."""
        wanted = layout.across * layout.down * (layout.samples if layout.planar else 1)
        # Places outside the file, which cannot be read, may be above the largest signed number.
        offsets, counts = (
            np.minimum(values[:wanted], self._tiff.size).astype(np.int64)
            for values in (layout.offsets, layout.counts)
        )
        if len(layout.offsets) > wanted or len(layout.counts) > wanted:
            yield self._found(where, "more offsets of segments than segments")
        self._segments.append(np.stack([offsets, offsets + counts], axis=1))
        if layout.compression not in (JPEG, DEFLATE, "none"):
            message = (
                f"segments with the compression {layout.compression!r} may contain metadata, and "
                "cannot be checked"
            )
            yield Finding("error", "identifying-compression", where, message, CLEAN)
            return
        for number, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
            if count:
                place = f"{where}, segment {number}"
                rows = layout.rows_of(number // layout.across % layout.down)
                yield from self._segment(layout, int(offset), int(count), rows, place)

    def _segment(
        self, layout: SegmentLayout, offset: int, count: int, rows: int, where: str
    ) -> Iterator[Finding]:
        """Check that a segment contains nothing but pixels."""
        size, message = rows * layout.row_bytes, ""
        if layout.compression == "none":
            if count > size:
                message = f"{count - size:,} bytes after its pixels"
        else:
            data = bytes(self._tiff.read(offset, count, None))
            if layout.compression == JPEG:
                yield from self._stream(data, where)
                return
            message = _beyond_deflate(data, size)
        if message:
            yield Finding("error", "identifying-segment", where, message, CLEAN)

    def _gaps(self) -> Iterator[Finding]:
        """Check that bytes that nothing refers to are zeros."""
        used = np.concatenate([np.array(self._used, np.int64), *self._segments])
        used = used[np.argsort(used[:, 0], kind="stable")]
        ends = np.maximum.accumulate(used[:, 1])
        starts = np.append(used[1:, 0], self._tiff.size)
        for number in np.flatnonzero(starts > ends):
            start, stop = int(ends[number]), int(starts[number])
            for at in range(start, stop, _GAP_BYTES):
                data = bytes(self._tiff.read(at, min(_GAP_BYTES, stop - at), None))
                if data.strip(b"\0"):
                    where = f"{self._tiff.name}: bytes {start:,} to {stop:,}"
                    message = "bytes that no directory refers to are not zeros"
                    yield Finding("error", "identifying-bytes", where, message, CLEAN)
                    break


def _beyond_deflate(data: bytes, size: int) -> str:
    """Return what a deflate stream contains beside `size` bytes of pixels; or nothing."""
    stream = zlib.decompressobj()
    try:
        pixels = len(stream.decompress(data, size + 1))
    except zlib.error as error:
        return f"it cannot be decompressed ({error})"
    if pixels > size:
        return "more bytes than its pixels"
    if stream.unused_data.strip(b"\0"):
        return f"{len(stream.unused_data):,} bytes after its pixels"
    return ""
