"""ND2 reader: the same images as in Bio-Formats; rows are read into the result."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np

from bfbridge.backend import Image, Level, OpenOptions, PixelSize, Region
from bfbridge.errors import ReadFailed, UnreadableFile, Unsupported
from bfbridge.limits import check
from bfbridge.ome.documents.build import physical_size
from bfbridge.ome.documents.xml_tree import Element, parse_tree
from bfbridge.reader_base import FileReader
from bfbridge.storage.rows import RUN_BYTES, Rows
from bfbridge_nd2.chunks import Nd2File
from bfbridge_nd2.document import document_xml
from bfbridge_nd2.entries import original_entries
from bfbridge_nd2.layout import Nd2Frames, read_frames, read_loops
from bfbridge_nd2.settings import Nd2Settings, planes_of, read_notes, read_settings
from bfbridge_nd2.variant import decode_variant

__all__ = ["Nd2Reader"]

_ATTRIBUTES: Final = "ImageAttributesLV!"
_PICTURE: Final = "ImageMetadataSeqLV|0!"
_EXPERIMENT: Final = "ImageMetadataLV!"
_CALIBRATION: Final = "ImageCalibrationLV|0!"
_TEXTS: Final = "ImageTextInfoLV!"
_VARIANTS: Final = "CustomDataVar|"
# Maximum compression ratio of zlib.
_DEFLATE: Final = 1032
_SMALL: Final = 1 << 16
# The time of a frame, in milliseconds, precedes its pixels.
_STAMP: Final = 8


class Nd2Reader(FileReader):
    """One open ND2 file. Made by `open`."""

    name: ClassVar[str] = "nd2"
    leaves_options: ClassVar[bool] = True

    def read_structure(self, options: OpenOptions) -> list[Image]:
        """Read an image for each stage position; see `FileReader`."""
        del options
        self._file = Nd2File(self.access, self.source.name, self.limits)
        if _ATTRIBUTES not in self._file.chunks or _PICTURE not in self._file.chunks:
            raise Unsupported("an ND2 file without its attributes")
        picture = self._level(_PICTURE, "SLxPictureMetadata")
        loops = read_loops(self._level(_EXPERIMENT, "SLxExperiment"))
        attributes = self._level(_ATTRIBUTES, "SLxImageAttributes")
        self._frames = read_frames(attributes, len(planes_of(picture)), loops)
        self._check_frames()
        calibration = self._level(_CALIBRATION, "SLxCalibration")
        self._settings = read_settings(picture, calibration, loops)
        # Positions and lengths of the pixels of frames that were read.
        self._places: dict[int, tuple[int, int]] = {}
        count = self._frames.length("P")
        return [
            _record(self._frames, self._settings, _title(self.source.filename, index, count))
            for index in range(count)
        ]

    def _level(self, chunk: str, name: str) -> Mapping[str, Any]:
        """Return the level of this name in a chunk, or an empty one without the chunk."""
        if chunk not in self._file.chunks:
            return {}
        where = f"{self.source.name}: chunk {chunk!r}"
        level = decode_variant(self._file.read(chunk), where, self.limits).get(name)
        if not isinstance(level, Mapping):
            raise Unsupported(f"an ND2 file without {name} in {chunk!r}")
        return level

    def _check_frames(self) -> None:
        """Check that each frame is inside the file and within the limits."""
        frames, name = self._frames, self.source.name
        check(frames.size, self.limits.chunk_bytes, "size of a frame in bytes", name)
        check(frames.count, self.limits.directories, "number of frames", name)
        images = frames.length("P")
        check(images, self.limits.images, "number of images", name)
        check(images * frames.components, self.limits.channels, "number of channels", name)
        check(frames.count * frames.components, self.limits.planes, "number of planes", name)
        missing = next((n for n in range(frames.count) if _frame(n) not in self._file.chunks), None)
        if missing is not None:
            # Bio-Formats returns invented pixels for it.
            raise UnreadableFile(
                f"{name}: frame {missing} of {frames.count} is missing in its map of chunks; the "
                "file is damaged."
            )
        extra = sum(chunk.startswith("ImageDataSeq|") for chunk in self._file.chunks)
        if extra != frames.count:
            raise Unsupported(f"{extra} frames where the experiment has {frames.count}")
        if frames.compressed:
            return
        for chunk in (_frame(n) for n in range(frames.count)):
            if self._file.chunks[chunk] + frames.size > self.access.size:
                raise UnreadableFile(
                    f"{name}: chunk {chunk!r} should have {frames.size:,} bytes of pixels from "
                    f"byte {self._file.chunks[chunk]:,}, but the file has {self.access.size:,}; "
                    "it is truncated or damaged."
                )

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region; see `ReaderBackend.read`.

        Raises
        ------
        ReadFailed
            A frame is damaged, or cannot be read.
        """
        self.check_open()
        frames = self._frames
        rows = Rows(frames.row, frames.dtype, frames.components)
        (t0, c0, z0, y0, x0), (_, _, _, y1, _) = region.start, region.stop
        for t, z in np.ndindex(out.shape[0], out.shape[2]):
            number = frames.number(region.image, z0 + z, t0 + t)
            where = f"{self.source.name}: frame {number} (image {region.image}, z {z0 + z}, "
            where += f"t {t0 + t})"
            begin, length = self._place(number, where)
            box = np.moveaxis(out[t, :, z], 0, -1)
            at = y0 * frames.row + x0 * rows.pixel
            if frames.compressed:
                data = self._decompressed(begin, length, y1 * frames.row, where)
                rows.put(memoryview(data)[at:], c0, box)
            else:
                rows.read(self.access, begin + at, c0, box, where)

    def _place(self, number: int, where: str) -> tuple[int, int]:
        """Return the position and length of the pixels of a frame."""
        found = self._places.get(number)
        if found is not None:
            return found
        try:
            begin, length = self._file.place(_frame(number))
        except UnreadableFile as error:
            raise ReadFailed(str(error)) from error
        begin, length = begin + _STAMP, length - _STAMP
        wanted = 1 if self._frames.compressed else self._frames.size
        if length < wanted:
            raise ReadFailed(
                f"{where} has {max(length, 0):,} bytes of pixels where {wanted:,} are needed; the "
                "file is damaged."
            )
        self._places[number] = begin, length
        return begin, length

    def _decompressed(self, begin: int, length: int, wanted: int, where: str) -> bytes:
        """Return the first `wanted` bytes of a frame's pixels."""
        if wanted > length * _DEFLATE + _SMALL:
            raise ReadFailed(
                f"{where} would grow from {length:,} to {wanted:,} bytes, more than zlib allows; "
                "the file is damaged."
            )
        # A frame that is longer than any compressor makes it is damaged, and not read.
        check(
            length, 2 * self._frames.size + RUN_BYTES, f"length of {where} in bytes", "compressed"
        )
        data = self.access.read_at(begin, length)
        try:
            pixels = zlib.decompressobj().decompress(data, wanted)
        except zlib.error as error:
            raise ReadFailed(f"{where} is damaged ({error}).") from error
        if len(pixels) < wanted:
            raise ReadFailed(
                f"{where} has {len(pixels):,} bytes of pixels where {wanted:,} are needed; the "
                "file is damaged."
            )
        return pixels

    def reads_parts(self, image: int, level: int) -> bool:
        """Whether frames are stored uncompressed."""
        del image, level
        return not self._frames.compressed

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return a colour ramp from black to the channel's colour.

        As in ND2Reader, for integers if some channel is neither black nor white.
        """
        del image
        channels, dtype = self._settings.channels, self._frames.dtype
        if dtype.kind != "u" or not any(one.is_tinted for one in channels):
            return None
        if channels[channel].color == 0:
            return None
        values = np.arange(np.iinfo(dtype).max + 1) / 255
        native = dtype.newbyteorder("=")
        return np.stack([(part * values).astype(native) for part in channels[channel].rgb])

    def make_xml(self) -> str:
        """Return the OME-XML, made from the file's metadata."""
        notes = read_notes(self._file, self._frames)
        return document_xml(self._frames, self._settings, notes, self._images)

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Every value under its name, as in ND2Reader."""
        chunks = [_PICTURE, _EXPERIMENT, _CALIBRATION, _ATTRIBUTES, _TEXTS]
        where = self.source.name
        levels = [
            decode_variant(self._file.read(chunk), f"{where}: chunk {chunk!r}", self.limits)
            for chunk in chunks if chunk in self._file.chunks
        ]  # fmt: skip
        return dict(sorted(original_entries(levels, self._variants()).items()))

    def _variants(self) -> Iterator[Element]:
        """Yield the chunks that are XML; invalid XML is skipped."""
        for chunk in self._file.chunks:
            if chunk.startswith(_VARIANTS):
                text = self._file.read(chunk).decode("utf-8", "replace")
                if text.startswith("<"):
                    try:
                        yield parse_tree(text, f"{self.source.name}: {chunk!r}", self.limits)
                    except UnreadableFile:
                        continue


def _frame(number: int) -> str:
    return f"ImageDataSeq|{number}!"


def _title(name: str, index: int, count: int) -> str:
    """Return the name of an image, as ND2Reader makes it."""
    return f"{name} (series {index + 1:0{len(str(count))}d})"


def _record(frames: Nd2Frames, settings: Nd2Settings, name: str) -> Image:
    rows = frames.height
    if not frames.compressed:
        rows = max(1, min(rows, RUN_BYTES // frames.row))
    shape = (
        frames.length("T"), frames.components, frames.length("Z"), frames.height, frames.width
    )  # fmt: skip
    size = physical_size(settings.pixel_size)
    return Image(
        name=name,
        levels=(Level(shape, (1, frames.components, 1, rows, frames.width)),),
        dtype=frames.dtype.newbyteorder("="),
        pixel_size=PixelSize(size, size, physical_size(settings.z_step)),
        channels=tuple(channel.record for channel in settings.channels),
        significant_bits=frames.significant_bits,
    )
