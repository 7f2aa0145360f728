"""Further time points for a finished OME-TIFF, added in place and without copying the file.

Everything new is appended to the file: segments, then the directories of the new planes, then a
copy of the first directory with the new OME-XML. Two small writes connect it:

1. The link of the last old directory leads to the first new one. Until the next step, readers find
   directories at the end of the chain that the OME-XML does not mention, and return the old image.
2. The header leads to the copy of the first directory. This commits the change.

The file is flushed before and after each of these, so the order holds after a power failure too.
After a kill, the file is the old image or the new one; what was appended remains as unused bytes.
After an error the link is restored, and the file gets its old length.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from bfbridge.backend import ImageSpec, Level, OpenOptions, Shape5
from bfbridge.chunked_store import ExtendableBackend, ResumedWriter
from bfbridge.errors import BadArgument, Unsupported, WriteFailed
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.ome.documents.xml import parse_ome_xml
from bfbridge.runtime.descriptors import read_all, write_all
from bfbridge.storage.durable_io import flush
from bfbridge.storage.source import as_source
from bfbridge.tiff.header import ASCII, TiffHeader
from bfbridge.tiff.packing import BYTE_ORDER, TagValue
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.reading.dataset import Dataset, open_dataset
from bfbridge_ometiff.reading.planes import ABSENT, PlaneMap, map_planes
from bfbridge_ometiff.structure.segment_layout import (
    BLACK_IS_ZERO,
    DEFLATE,
    LZW,
    NONE,
    ZSTD,
    SegmentLayout,
)
from bfbridge_ometiff.writer import CLASSIC_END, TiffWriter, check_directories, planes_of
from bfbridge_ometiff.writing.copying import stored_as
from bfbridge_ometiff.writing.encode import EncodingOptions, settings_of
from bfbridge_ometiff.writing.time_points import extended_xml

if TYPE_CHECKING:
    from bfbridge.storage.source import Source
    from bfbridge.tiff.directories import Directory, TiffFile
    from bfbridge_ometiff.reading.files import OpenTiff

__all__ = ["Extension", "OmeTiffWriter"]

_RGB: Final = 2
_LOSSLESS: Final = (NONE, DEFLATE, LZW, ZSTD)
# A write inside of one sector is never stored in part.
_SECTOR: Final = 512
# Tags of the new directories, besides the places of segments. Others describe one plane (names,
# dates) or the whole file.
_COPIED_TAGS: Final = frozenset(
    {
        Tag.NewSubfileType, Tag.ImageWidth, Tag.ImageLength, Tag.BitsPerSample, Tag.Compression,
        Tag.PhotometricInterpretation, Tag.SamplesPerPixel, Tag.XResolution, Tag.YResolution,
        Tag.PlanarConfiguration, Tag.ResolutionUnit, Tag.Software, Tag.Predictor, Tag.TileWidth,
        Tag.TileLength, Tag.ExtraSamples, Tag.SampleFormat, Tag.InterColorProfile,
    }
)  # fmt: skip
# Without compression= a conversion copies the tiles of the file as they are.
_ADVICE: Final = (
    "Convert it with bfbridge.convert(source, target, compression='zstd'), and append to the new "
    "file, or write OME-Zarr."
)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A finished file, as far as appending needs it.

    Attributes
    ----------
    xml
        The OME-XML.
    header
        Byte order, variant, and offset of the first directory.
    size
        Length of the file.
    chain
        Offset of each directory, and of its link to the next one.
    planes, order
        The directory of each plane, and the DimensionOrder.
    spec
        The image, with its existing time points.
    settings
        Options with which segments like those of the file are encoded.
    tags
        For each level, the entries that all planes share.
    """

    xml: str
    header: TiffHeader
    size: int
    chain: Sequence[tuple[int, int]]
    planes: PlaneMap
    order: str
    spec: ImageSpec
    settings: EncodingOptions
    tags: Sequence[list[TagValue]]


class Extension(TiffWriter, ResumedWriter):
    """A writer of further time points; its image has only these, and its blocks count from 0."""

    _unchanged: ClassVar[str] = "No time points were added: the file has its old ones."
    _too_large: ClassVar[str] = (
        "it would grow beyond 4 GiB, which a classic TIFF cannot. Convert it to a BigTIFF with "
        "bfbridge.convert(..., bigtiff=True), and append to that"
    )

    def __init__(self, path: Path, stored: _Stored, count: int) -> None:
        image = stored.spec.image
        levels = tuple(Level((count, *level.shape[1:]), level.chunk) for level in image.levels)
        spec = replace(stored.spec, image=replace(image, levels=levels))
        # Absolute: the current folder may be another one when the file is finished.
        super().__init__(path.absolute(), (spec,), "", (stored.order,), stored.settings)
        self._stored = stored
        self._end = stored.size + stored.size % 2
        self._linked = self._heading = self._committed = False

    @classmethod
    def begin(cls, path: Path, count: int) -> Extension:
        """Start to add `count` time points to the file at `path`.

        Raises
        ------
        BadArgument
            `count` is not 1 or more, or the file would have too many planes.
        Unsupported
            The file is not one that can be extended; the message has the reason.
        BfbridgeError
            The file cannot be read.
        """
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise BadArgument(f"{path}: {count!r} time points cannot be added; give 1 or more.")
        try:
            stored = _stored(path)
        except Unsupported as error:
            reason = str(error).removeprefix(f"{path}: ").rstrip(".")
            raise Unsupported(
                f"{path}: time points cannot be added to this file: {reason}. {_ADVICE}"
            ) from error
        image = stored.spec.image
        added = count * (planes_of(image) // image.levels[0].shape[0])
        check_directories(str(path), len(stored.chain) + added)
        return cls(path, stored, count)

    def _open(self) -> int:
        try:
            return os.open(self._target, os.O_RDWR | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise WriteFailed(
                f"{self._target}: cannot be opened for writing ({error.strerror or error})."
            ) from error

    @property
    def images(self) -> Sequence[ImageSpec]:
        """The image, with the new time points only."""
        return self._specs

    def unit(self, image: int, level: int = 0) -> Shape5:
        """Return the size of a tile: each is stored separately."""
        return self._specs[image].image.levels[level].chunk

    def release(self) -> None:
        """Raise `Unsupported`: one process adds time points."""
        raise Unsupported(f"{self._target}: one process adds time points and finishes.")

    def finish(self) -> None:
        """Make the new time points part of the image.

        Raises
        ------
        WriteFailed
            The file system refuses, or another program changed the file. The file is the old image,
            unless the message says that it is complete.
        """
        self._complete_segments()
        stored, header = self._stored, self._stored.header
        planes = self._all_planes()
        xml = extended_xml(stored.xml, planes)
        self._check_xml(xml, planes)
        entries = 1024 + len(xml.encode()) + 4096 * len(stored.chain)
        if not header.big and self._end + self._directory_bytes() + entries > CLASSIC_END:
            raise self._fail(self._too_large)
        first = self._put_directories(big=header.big)
        last_link = stored.chain[-1][1]
        # A link across two sectors could be stored in part; then no old directory is changed.
        split = last_link // _SECTOR != (last_link + header.offset_bytes - 1) // _SECTOR
        copied = len(stored.chain) if split else 1
        start = self._put_copies(xml, stored.chain[:copied], first)
        self._check_same_file()
        self._flush()
        if copied < len(stored.chain):
            self._linked = True
            self._put(last_link, self._pointer(first))
            self._flush()
        self._commit(start)
        self._close()

    def abort(self) -> None:
        """Restore the file; does nothing after `finish`."""
        if self._fd < 0:
            return
        try:
            if not self._committed:
                self._restore()
        finally:
            self._close()

    def _shared_tags(self, image: int) -> list[list[TagValue]]:
        return list(self._stored.tags)

    def _all_planes(self) -> PlaneMap:
        """Return the directories of all planes, old and new."""
        old = self._stored.planes
        z, c, t = old.sizes
        grid = self._grids[0][0]
        planes = PlaneMap(self._stored.order, (z, c, t + grid.shape[0]))
        for iz, ic, it in product(range(z), range(c), range(t)):
            planes.ifds[planes.index(iz, ic, it)] = old.where(iz, ic, it)[1]
        for ifd, number in enumerate(grid.planes_in_order().tolist(), len(self._stored.chain)):
            rest, iz = divmod(number, z)
            it, ic = divmod(rest, c)
            planes.ifds[planes.index(iz, ic, t + it)] = ifd
        planes.files[:] = [0] * len(planes.files)
        return planes

    def _check_xml(self, xml: str, planes: PlaneMap) -> None:
        """Check that readers find each plane by the new OME-XML, before it is stored."""
        name = self._target.name
        image = parse_ome_xml(xml, name, DEFAULT_LIMITS).images[0]
        found = map_planes(image, 0, planes.sizes[1], lambda _: 0, name)
        if (image.size_t, found.files, found.ifds) != (planes.sizes[2], planes.files, planes.ifds):
            raise self._fail("its OME-XML cannot be changed to describe further time points")

    def _put_copies(self, xml: str, old: Sequence[tuple[int, int]], new: int) -> int:
        """Write copies of the first directories, with new OME-XML; return the first one's place.

        The last copy continues with the directory after its original, or with the one at `new`.
        """
        header, start = self._stored.header, self._end
        text = xml.encode() + b"\0"
        block = bytearray(text + bytes(-len(text) % 8))
        places = [start + len(block)]
        for offset, link in old:
            length = link + header.offset_bytes - offset
            places.append(places[-1] + length + -length % 8)
        following = [*places[1:-1], self._after(len(old), new)]
        for number, (offset, link) in enumerate(old):
            entries = self._read(offset, link - offset)
            if not number:
                entries = self._with_description(entries, start, len(text))
            block += entries + self._pointer(following[number])
            block += bytes(-len(block) % 8)
        self._put(start, block)
        self._end = start + len(block)
        return places[0]

    def _after(self, count: int, new: int) -> int:
        chain = self._stored.chain
        return chain[count][0] if count < len(chain) else new

    def _with_description(self, entries: bytes, offset: int, length: int) -> bytes:
        """Return a directory's entries with another place of the ImageDescription."""
        header = self._stored.header
        changed = bytearray(entries)
        code = header.byteorder + "HH" + header.offset_code * 2
        for at in range(header.count_bytes, len(entries), header.entry_bytes):
            if header.number("H", entries[at : at + 2]) == Tag.ImageDescription:
                struct.pack_into(code, changed, at, Tag.ImageDescription, ASCII, length, offset)
                return bytes(changed)
        raise self._fail("its first directory has no ImageDescription any more")

    def _pointer(self, offset: int) -> bytes:
        header = self._stored.header
        return struct.pack(header.byteorder + header.offset_code, offset)

    def _read(self, offset: int, length: int) -> bytes:
        try:
            with self._seeking():
                return read_all(self._fd, length, offset)
        except OSError as error:
            raise self._fail(f"it cannot be read ({error.strerror or error})", error) from error

    def _check_same_file(self) -> None:
        """Raise `WriteFailed` if another program replaced or changed the file."""
        try:
            same = os.path.samestat(os.fstat(self._fd), os.stat(self._target))
        except OSError:
            same = False
        if not (same and self._has_old_links()):
            raise self._fail("another program replaced or changed this file in the meantime")

    def _has_old_links(self) -> bool:
        """Whether the header and the last old directory are as they were."""
        head, last = self._stored.header.pack(), self._stored.chain[-1][1]
        end = self._pointer(0)
        return self._read(0, len(head)) == head and self._read(last, len(end)) == end

    def _flush(self) -> None:
        try:
            flush(self._fd)
        except OSError as error:
            raise self._fail(f"flushing failed ({error.strerror or error})", error) from error

    @property
    def _head(self) -> int:
        """Position of the offset of the first directory in the header."""
        header = self._stored.header
        return len(header.pack()) - header.offset_bytes

    def _commit(self, first: int) -> None:
        """Let the header lead to the new first directory."""
        self._heading = True
        self._put(self._head, self._pointer(first))
        self._committed = True
        try:
            flush(self._fd)
        except OSError as error:
            raise WriteFailed(
                f"{self._target}: the time points were added and are complete, but may not survive "
                f"a power loss ({error.strerror or error})."
            ) from error

    def _restore(self) -> None:
        """Undo everything. If the system refuses a step, the appended bytes are kept.

        The file is shortened last: no link that is stored may lead beyond its end. What another
        program appended in the meantime is kept too.
        """
        stored = self._stored
        steps = [(self._linked, stored.chain[-1][1], 0)]
        steps.insert(0, (self._heading, self._head, stored.header.first))
        with contextlib.suppress(OSError, WriteFailed):
            for tried, place, value in steps:
                if tried:
                    with self._seeking():
                        write_all(self._fd, self._pointer(value), place)
                    flush(self._fd)
            if self._has_old_links():
                os.ftruncate(self._fd, stored.size)


def _stored(path: Path) -> _Stored:
    """Read a file that is to be extended.

    Raises
    ------
    Unsupported
        It has another structure than the files that can be extended.
    """
    dataset = open_dataset(as_source(path), OpenOptions())
    try:
        if dataset.xml is None:
            raise Unsupported("it has no OME-XML")
        if len(dataset.plans) != 1:
            raise Unsupported(f"it has {len(dataset.plans)} images, and one is required")
        if len(dataset.used_files) != 1:
            raise Unsupported("its planes or metadata are in several files")
        with dataset.files.opened(0) as tiff:
            return _stored_in(dataset, dataset.xml, tiff)
    finally:
        dataset.files.close()


def _stored_in(dataset: Dataset, xml: str, tiff: OpenTiff) -> _Stored:
    plan = dataset.plans[0]
    file = tiff.tiff
    header = file.header
    chain = _chain(file)
    planes = plan.planes
    if ABSENT in planes.files:
        raise Unsupported("some of its planes are missing")
    if header.byteorder != BYTE_ORDER:
        raise Unsupported("its byte order is not that of this machine")
    if file.skipped:
        raise Unsupported("it has directories of thumbnails, which readers number differently")
    ifd = planes.where(0, 0, 0)[1]
    directories = [tiff.directory(ifd)]
    directories += map(file.directory_at, directories[0].numbers(Tag.SubIFDs))
    layouts = [tiff.layout(ifd, below) for below in range(-1, len(directories) - 1)]
    settings = _settings(layouts, big=header.big)
    image = plan.image
    steps = _steps(image.levels)
    method = "nearest" if image.is_mask else "mean"
    spec = ImageSpec(image, downsample=method, steps=steps)
    extended_xml(xml, planes)  # raises Unsupported now, before anything is written
    order = parse_ome_xml(xml, tiff.name, DEFAULT_LIMITS).images[0].dimension_order
    tags = [_copied_tags(directory) for directory in directories]
    return _Stored(xml, header, file.size, chain, planes, order, spec, settings, tags)


def _chain(file: TiffFile) -> list[tuple[int, int]]:
    """Return the offset of each directory, and of its link to the next one."""
    chain = []
    for number in range(file.count()):
        directory = file.directory(number)
        if directory is not None:
            _, end, _ = file.entries_at(directory.offset)
            chain.append((directory.offset, end - file.header.offset_bytes))
    return chain


def _steps(levels: Sequence[Level]) -> tuple[tuple[int, int, int], ...]:
    """Return the factors of each lower level relative to the level before it, along Z, Y, X."""
    steps = []
    for before, after in pairwise(levels):
        if after.chunk != before.chunk:
            raise Unsupported("its levels have tiles of several sizes")
        sizes = list(zip(before.shape[3:], after.shape[3:], strict=True))
        y, x = (-(-old // new) for old, new in sizes)
        # Several factors may reduce a short side to the same; usually both sides have one factor.
        common = max(y, x)
        if all(-(-old // common) == new for old, new in sizes):
            y = x = common
        for factor, (old, new), tile in zip((y, x), sizes, before.chunk[3:], strict=True):
            if -(-old // factor) != new or (tile < old and tile % factor):
                raise Unsupported(
                    f"a level of {new} pixels does not follow from {old} and its tiles"
                )
        steps.append((1, y, x))
    return tuple(steps)


def _settings(layouts: Sequence[SegmentLayout], *, big: bool) -> EncodingOptions:
    """Return options with which segments of these layouts are encoded."""
    first = layouts[0]
    for layout in layouts:
        if not layout.tiled or layout.planar:
            raise Unsupported("its pixels are in strips or separate planes of samples, not tiles")
        if stored_as(layout) is None or layout.photometric not in (BLACK_IS_ZERO, _RGB):
            raise Unsupported("its pixels are stored in a way that is not written here")
        if layout.compression not in _LOSSLESS:
            raise Unsupported(f"its compression is {layout.compression}, of unknown quality")
        if (layout.compression, layout.predictor) != (first.compression, first.predictor):
            raise Unsupported("its levels are compressed in several ways")
    return settings_of(
        {
            "compression": first.compression,
            "predictor": first.predictor,
            "tile": (first.tile_length, first.tile_width),
            "whole_tiles": True,
            "bigtiff": big,
        }
    )


def _copied_tags(directory: Directory) -> list[TagValue]:
    return [
        TagValue(tag, entry.kind, entry.values, directory.raw(tag))
        for tag, entry in directory.entries.items()
        if tag in _COPIED_TAGS
    ]


class OmeTiffWriter(TiffWriter, ExtendableBackend):
    """OME-TIFF: new files, and further time points for finished ones."""

    @classmethod
    def extend(cls, path: Path | Source, count: int) -> Extension:
        """Start to add `count` time points to a finished file, in place.

        The writer's image has only the new time points: T and blocks count from 0. `finish` adds
        them to the image; until then, and after `abort`, the image is unchanged. Lower levels are
        those of the file.

        Raises
        ------
        Unsupported
            The file is at a URL, or is not one file of one image in tiles with a lossless
            compression, in the byte order of this machine.
        """
        if not isinstance(path, Path):
            raise Unsupported(f"{path.name}: time points are added to files on disks only.")
        return Extension.begin(path, count)
