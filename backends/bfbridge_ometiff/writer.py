"""OME-TIFF writer: chunks in any order from any thread, directories and OME-XML at the end.

The first bytes of the file stay zero until everything else is written, so that an unfinished file
is not a TIFF. The position of its last byte decides whether it is a BigTIFF.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from bfbridge.backend import Image, ImageSpec, Shape5, StoredAs, WriterBackend
from bfbridge.errors import BadArgument, BadDtype, Closed, WriteFailed
from bfbridge.limits import DEFAULT_LIMITS
from bfbridge.runtime import forking
from bfbridge.runtime.descriptors import read_all, write_all
from bfbridge.runtime.thread_buffer import ThreadBuffer
from bfbridge.runtime.writer_options import refuse_unknown, split_compression
from bfbridge.tiff.packing import DirectoryTemplate, NewDirectory, TagValue, pack_header
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.codecs import KEPT_BYTES, decode_into
from bfbridge_ometiff.structure.segment_layout import DamagedSegment
from bfbridge_ometiff.writing.copying import copied_from
from bfbridge_ometiff.writing.encode import (
    OPTIONS,
    Encoding,
    EncodingOptions,
    encoding_for,
    settings_of,
    tile_from_chunks,
)
from bfbridge_ometiff.writing.grid import SegmentGrid, grid_of
from bfbridge_ometiff.writing.xml_placement import finished_document, xml_of

if TYPE_CHECKING:
    from pathlib import Path

    from ome_types import OME

Array = np.ndarray[Any, Any]

__all__ = ["CLASSIC_END", "TiffWriter", "check_directories", "planes_of"]

_HEADER: Final = 16
CLASSIC_END: Final = (1 << 32) - 1
"""Largest size of a classic TIFF file: its offsets have 32 bits."""
# Directories are written together in blocks of at least this size.
_DIRECTORY_BYTES: Final = 1 << 20
# Tiles up to this size are encoded and written together, about as many bytes at a time.
_SMALL_TILE: Final = 1 << 15
_JOINED_BYTES: Final = 1 << 20


class TiffWriter(WriterBackend):
    """One OME-TIFF being written. Made by `prepare`."""

    name: ClassVar[str] = "ometiff"
    option_names: ClassVar[tuple[str, ...]] = (*OPTIONS, "chunks")
    _unchanged: ClassVar[str] = "Nothing was stored under the target's name."
    _too_large: ClassVar[str] = (
        "the file grows beyond 4 GiB, which needs BigTIFF; leave bigtiff= at 'auto'"
    )

    def __init__(
        self,
        target: Path,
        specs: Sequence[ImageSpec],
        xml: str,
        orders: Sequence[str],
        settings: EncodingOptions,
    ) -> None:
        self._target = target
        self._specs = specs
        self._xml = xml
        self._document: OME | None = None
        self._settings = settings
        self._encodings = [
            encoding_for(spec.image.dtype, spec.image.samples, settings) for spec in specs
        ]
        self._copied = [
            [
                None if stored is None else copied_from(stored)
                for stored in map(spec.copied, range(len(spec.image.levels)))
            ]
            for spec in specs
        ]
        self._orders = orders
        self._grids = self._new_grids()
        self._padded, self._coded = ThreadBuffer(KEPT_BYTES), ThreadBuffer(KEPT_BYTES)
        self._lock = forking.lock()
        # Windows has no pwrite: there, seeking and writing are one step under this lock.
        self._seek_lock = forking.lock()
        self._end = _HEADER
        self._failed: BaseException | None = None
        self._fd = self._open()

    def _open(self) -> int:
        """Create the file; return its descriptor."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            return os.open(self._target, flags, 0o666)
        except OSError as error:
            raise WriteFailed(
                f"{self._target}: cannot be created ({error.strerror or error})."
            ) from error

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Check option names and values; see `EncodingOptions`."""
        settings_of(options)

    @classmethod
    def normalize_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options with ``chunks`` as ``tile``; see `WriterBackend.normalize_options`."""
        refuse_unknown(options, cls.option_names, "OME-TIFF")
        found = split_compression(options)
        if "chunks" in found:
            found["tile"] = tile_from_chunks(found.pop("chunks"), found.get("tile"))
        cls.check(found)
        return found

    @classmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        """Return the requested tile, or 1024 x 1024; no larger than a small image requires."""
        settings = settings_of(options)
        encoding_for(image.dtype, image.samples, settings)
        length, width = image.levels[0].shape[3:]
        if settings.whole_tiles:
            return 1, image.samples, 1, *settings.tile
        rows = min(settings.tile[0], -(-length // 16) * 16)
        columns = min(settings.tile[1], -(-width // 16) * 16)
        return 1, image.samples, 1, rows, columns

    @classmethod
    def encoded_bytes(
        cls, image: Image, block: np.ndarray[Any, Any], options: Mapping[str, Any]
    ) -> int | None:
        """Return the length of the segment of a block."""
        encoding = encoding_for(image.dtype, image.samples, settings_of(options))
        pixels = np.ascontiguousarray(block[0, : image.samples, 0].transpose(1, 2, 0))
        segment = encoding.encode(pixels.astype(encoding.dtype, copy=False), ThreadBuffer(0))
        return memoryview(segment).nbytes

    @classmethod
    def prepare(
        cls, target: Path, images: Sequence[ImageSpec], ome: OME | None, options: Mapping[str, Any]
    ) -> TiffWriter:
        """Start a file of one or more images, each with its levels."""
        settings = settings_of(options)
        for spec in images:
            encoding_for(spec.image.dtype, spec.image.samples, settings)
        if ome is None:
            raise BadArgument(f"{target.name}: an OME-TIFF needs OME metadata, and none was given.")
        check_directories(target.name, sum(planes_of(spec.image) for spec in images))
        document = finished_document(ome, images)
        orders = [image.pixels.dimension_order.value for image in ome.images]
        writer = cls(target, tuple(images), xml_of(document), orders, settings)
        writer._document = document
        return writer

    def write_block(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        """Encode a chunk and append it to the file; see `WriterBackend.write_block`.

        Raises
        ------
        BadDtype, BadArgument
            The block is not of the image's type, or not of the chunk's shape.
        WriteFailed
            The disk is full, or the system refuses.
        """
        grid, encoding = self._grids[image][level], self._encodings[image]
        number = grid.number(index)
        self._check_dtype(encoding, block)
        if block.shape != grid.chunks.block_shape(index):
            raise BadArgument(
                f"block {index} of image {image}, level {level} has shape {block.shape}, not "
                f"{grid.chunks.block_shape(index)}."
            )
        pixels = self._whole(grid, encoding, index, block)
        self._append(grid, number, encoding.encode(pixels, self._coded))

    def write_unit(self, image: int, level: int) -> Shape5 | None:
        """Return several tiles, if they are so small that each call takes longer than encoding."""
        grid, encoding = self._grids[image][level], self._encodings[image]
        chunk = grid.chunks.chunk
        tile = prod(chunk) * encoding.dtype.itemsize
        if not grid.tiled or encoding.lossy or tile > _SMALL_TILE:
            return None
        return grid.chunks.unit(_JOINED_BYTES // encoding.dtype.itemsize)

    def write_joined(self, image: int, level: int, index: Shape5, block: Array) -> None:
        """Encode neighbouring tiles and append them with one write; errors as `write_block`."""
        grid, encoding = self._grids[image][level], self._encodings[image]
        places = grid.places_of(index, block.shape)
        self._check_dtype(encoding, block)
        segments = grid.segments_in(block, encoding.dtype)
        joined, counts = encoding.encode_many(segments, self._coded)
        start = self._reserve(len(joined))
        self._put(start, joined)
        even = counts + counts % 2
        with self._lock:
            grid.place(places, start + np.cumsum(even) - even, counts)

    @classmethod
    def can_store(cls, stored: StoredAs, image: Image, options: Mapping[str, Any]) -> bool:
        """Whether tiles encoded like this can be copied: unless the options ask for others."""
        asked = {"compression", "level", "predictor", "tile", "whole_tiles"} & set(options)
        return stored.container == "tiff" and not asked and stored["dtype"] == image.dtype.name

    def write_stored(self, image: int, level: int, index: Shape5, data: bytes) -> None:
        """Append an encoded tile."""
        if self._copied[image][level] is None:
            raise BadArgument(f"image {image}, level {level}: its tiles are not copied.")
        grid = self._grids[image][level]
        self._append(grid, grid.number(index), data)

    @staticmethod
    def _check_dtype(encoding: Encoding, block: Array) -> None:
        if block.dtype != encoding.dtype and not (
            block.dtype == np.dtype(bool) and encoding.dtype == np.dtype(np.uint8)
        ):
            raise BadDtype(f"a block of {block.dtype} was given for an image of {encoding.dtype}.")

    def _whole(
        self, grid: SegmentGrid, encoding: Encoding, index: Shape5, block: np.ndarray[Any, Any]
    ) -> np.ndarray[Any, Any]:
        """Return a block as a whole segment, (Y, X, samples); contiguous except for predictor 2."""
        pixels = block[0, :, 0].transpose(1, 2, 0)
        shape = grid.segment_shape(index[3])
        # Differences are computed with any strides, so that pixels are copied once, not twice.
        fits = encoding.predictor == 2 or pixels.flags.c_contiguous
        if fits and pixels.shape == shape and pixels.dtype == encoding.dtype:
            return pixels
        size = shape[0] * shape[1] * shape[2] * encoding.dtype.itemsize
        whole = self._padded.get(size).view(encoding.dtype).reshape(shape)
        rows, columns = pixels.shape[:2]
        whole[:rows, :columns] = pixels
        if encoding.lossy:
            # Repeating the edge avoids a step, which would cause artefacts in the image.
            whole[:rows, columns:] = whole[:rows, columns - 1 : columns]
            whole[rows:] = whole[rows - 1 : rows]
        else:
            whole[:rows, columns:] = 0
            whole[rows:] = 0
        return whole

    def _append(self, grid: SegmentGrid, number: int, data: bytes | memoryview) -> None:
        offset = self._reserve(len(data))
        self._put(offset, data)
        with self._lock:
            grid.offsets[number] = offset
            grid.counts[number] = len(data)

    def _reserve(self, length: int) -> int:
        """Return the offset of `length` bytes at the end of the file for this thread."""
        with self._lock:
            self._check_open()
            offset = self._end
            # Segments start at even offsets (TIFF 6.0, section 2).
            self._end = end = offset + length + length % 2
        if self._settings.bigtiff is False and end > CLASSIC_END:
            raise self._fail(self._too_large)
        return offset

    def _put(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write bytes at an offset that no other thread writes to."""
        try:
            with self._seeking():
                write_all(self._fd, data, offset)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "the disk is full" if full else f"writing failed ({error.strerror or error})"
            raise self._fail(why, error) from error

    def _seeking(self) -> AbstractContextManager[Any]:
        """Lock the position of the file where writing uses it (Windows)."""
        return nullcontext() if hasattr(os, "pwrite") else self._seek_lock

    def _fail(self, why: str, cause: BaseException | None = None) -> WriteFailed:
        error = WriteFailed(f"{self._target.name}: {why}. {self._unchanged}")
        with self._lock:
            self._failed = self._failed or cause or error
        return error

    def _check_open(self) -> None:
        if self._fd < 0:
            raise Closed(f"{self._target.name}: this writer is already finished or aborted.")

    def read_block(self, image: int, level: int, index: Shape5) -> np.ndarray[Any, Any] | None:
        """Return a chunk written before, cropped at the image's edge, or None."""
        grid, encoding = self._grids[image][level], self._encodings[image]
        number = grid.number(index)
        with self._lock:
            self._check_open()
            offset, count = int(grid.offsets[number]), int(grid.counts[number])
        if not count:
            return None
        try:
            with self._seeking():
                data = read_all(self._fd, count, offset)
        except OSError as error:
            raise self._fail(f"written pixels cannot be read back ({error.strerror})") from error
        block = np.empty(grid.chunks.block_shape(index), encoding.dtype)
        out = block[0, :, 0].transpose(1, 2, 0)
        rows = grid.segment_shape(index[3])[0]
        try:
            decode_into(grid.layout, data, rows, (0, 0), out, self._padded)
        except DamagedSegment as error:
            raise self._fail(f"chunk {index} cannot be read back: {error}", error) from error
        return block

    def finish(self) -> None:
        """Write the fill value for missing chunks, the directories, and finally the header.

        Raises
        ------
        WriteFailed
            This or an earlier write failed.
        """
        self._complete_segments()
        big = self._settings.bigtiff
        if big == "auto":
            big = self._end + self._directory_bytes() > CLASSIC_END
        first = self._put_directories(big=bool(big))
        self._put(0, pack_header(first, big=bool(big)))
        self._close()

    def stored_document(self) -> OME | None:
        """Return the document in the file, which readers return unchanged."""
        return self._document

    def _complete_segments(self) -> None:
        """Write the fill value for missing chunks; raise `WriteFailed` after a failed write."""
        with self._lock:
            self._check_open()
            if self._failed is not None:
                raise WriteFailed(
                    f"{self._target.name}: an earlier write failed ({self._failed}), so the file "
                    "is not finished."
                ) from self._failed
        self._fill_missing()

    def _new_grids(self) -> list[list[SegmentGrid]]:
        return [
            [
                grid_of(spec.image, number, copied or encoding, order)
                for number, copied in enumerate(levels)
            ]
            for spec, encoding, levels, order in zip(
                self._specs, self._encodings, self._copied, self._orders, strict=True
            )
        ]

    def trim(self, images: Sequence[ImageSpec], ome: OME | None) -> bool:
        """Keep the segments and directories of the first channels and time points only."""
        if ome is None:
            return False
        self._specs, self._document = tuple(images), finished_document(ome, images)
        self._xml = xml_of(self._document)
        before, self._grids = self._grids, self._new_grids()
        for old, new in zip(chain(*before), chain(*self._grids), strict=True):
            t, c = new.chunks.counts[:2]
            for name in ("offsets", "counts"):
                kept = getattr(old, name).reshape(old.chunks.counts)[:t, :c]
                setattr(new, name, kept.reshape(-1).copy())
        return True

    def _fill_missing(self) -> None:
        """Point all missing chunks of a level to one segment with the fill value."""
        for spec, encoding, grids in zip(self._specs, self._encodings, self._grids, strict=True):
            for grid in grids:
                missing = np.flatnonzero(grid.counts == 0)
                for rows in sorted({grid.rows_at(int(number)) for number in missing}):
                    shape = (rows, *grid.segment_shape(0)[1:])
                    pixels = np.full(shape, spec.fill_value, encoding.dtype)
                    numbers = [n for n in missing.tolist() if grid.rows_at(n) == rows]
                    self._append(grid, numbers[0], encoding.encode(pixels, self._coded))
                    grid.offsets[numbers] = grid.offsets[numbers[0]]
                    grid.counts[numbers] = grid.counts[numbers[0]]

    def _directory_bytes(self) -> int:
        """Return an upper limit of the bytes of the directories of a classic TIFF."""
        total = 4 * len(self._xml.encode()) + 4096
        for grids in self._grids:
            total += grids[0].planes * sum(1024 + 8 * grid.segments for grid in grids)
        return total

    def _directories(self, *, big: bool) -> Iterator[tuple[DirectoryTemplate, int, Array]]:
        """Yield runs of planes: a template, the image, and plane numbers in DimensionOrder."""
        xml: str | None = self._xml or None
        for image, grids in enumerate(self._grids):
            tags, *below = (
                [*same, *grid.place_tags(big=big)]
                for grid, same in zip(grids, self._shared_tags(image), strict=True)
            )
            planes = grids[0].planes_in_order()
            if xml is not None:
                described = [*tags, TagValue.text(Tag.ImageDescription, xml)]
                yield DirectoryTemplate(NewDirectory(described, below), big=big), image, planes[:1]
                planes, xml = planes[1:], None
            if len(planes):
                template = DirectoryTemplate(NewDirectory(tags, below), big=big)
                step = max(1, _DIRECTORY_BYTES // template.length)
                for first in range(0, len(planes), step):
                    yield template, image, planes[first : first + step]

    def _shared_tags(self, image: int) -> list[list[TagValue]]:
        """Return, for each level of an image, the directory entries that all planes share."""
        encoding, size = self._encodings[image], self._specs[image].image.pixel_size
        return [
            grid.shared_tags(copied or encoding, size)
            for grid, copied in zip(self._grids[image], self._copied[image], strict=True)
        ]

    def _put_directories(self, *, big: bool) -> int:
        """Write all directories; return the position of the first one."""
        start = -(-self._end // 8) * 8
        blocks, first, last = bytearray(), 0, None
        for template, image, planes in self._directories(big=big):
            place = start + len(blocks) + template.offset
            if last is None:
                first = place
            else:
                last.link(blocks, place)
            if len(blocks) > _DIRECTORY_BYTES:
                self._put(start, blocks)
                start += len(blocks)
                blocks = bytearray()
            values = {
                (level, tag): numbers
                for level, grid in enumerate(self._grids[image])
                for tag, numbers in grid.places(planes, big=big).items()
            }
            blocks += template.repeated(len(planes), start + len(blocks), values)
            if not big and start + len(blocks) > CLASSIC_END:
                raise self._fail(self._too_large)
            last = template
        self._put(start, blocks)
        self._end = start + len(blocks)
        return first

    def _close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def abort(self) -> None:
        """Release the file and remove it."""
        if self._fd >= 0:
            self._close()
            with contextlib.suppress(OSError):
                self._target.unlink()


def check_directories(name: str, count: int) -> None:
    """Raise `BadArgument` if readers would refuse the number of directories by default."""
    most = DEFAULT_LIMITS.directories
    if count > most:
        raise BadArgument(
            f"{name}: {count:,} planes (Z x C x T) are more than an OME-TIFF should have: readers "
            f"visit one directory for each plane, and the maximum is {most:,}. Check "
            "the order of the sizes, shape=(Y, X, Z, C, T), or write OME-Zarr."
        )


def planes_of(image: Image) -> int:
    """Return the number of planes of an image; samples share a plane."""
    t, c, z, _, _ = image.levels[0].shape
    return t * (c // image.samples) * z
