"""OME-TIFF reader: planes according to the OME-XML, pixels by this package's TIFF decoder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from bfbridge.backend import (
    Image,
    OpenOptions,
    ReaderBackend,
    Region,
    Shape5,
    StoredAs,
    StoredRanges,
)
from bfbridge.errors import (
    BfbridgeError,
    Closed,
    FileChanged,
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
)
from bfbridge.reader_base import plane_parts, refuse_options
from bfbridge.runtime import forking
from bfbridge.runtime.cached_property import cached_property
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.reading.dataset import Dataset, open_dataset
from bfbridge_ometiff.reading.planes import ABSENT
from bfbridge_ometiff.structure.segment_layout import PALETTE, DamagedSegment

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import Source
    from bfbridge.tiff.directories import Directory
    from bfbridge_ometiff.reading.files import OpenTiff
    from bfbridge_ometiff.reading.segments import PlaneReader
    from bfbridge_ometiff.structure.segment_layout import SegmentLayout

__all__ = ["OmeTiffReader"]

_KEPT_BYTES = 1 << 14
"""Largest structure, about, of a file that is kept while it is closed."""
_UNIT = 1 << 20
"""Bytes of uncompressed tiles that are read with one call."""


class _DelayedClose:
    """Closes the files after the reader was closed and the last running read has ended.

    If a file descriptor is closed during a read, the system may assign it to the next opened file,
    and the read would return that file's bytes. `shut` does not wait; the last read closes them.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
        self._lock = forking.lock()
        self._inside = 0
        self._shut = False
        forking.in_child(self._forget_others)

    def _forget_others(self) -> None:
        # Reads on other threads of the parent do not exist in the child.
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._shut:
                raise Closed("this reader is closed; open the file again.")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            last = self._shut and not self._inside
        if last:
            self._close()

    def shut(self) -> None:
        """Refuse further reads, and close the files after the last running read."""
        with self._lock:
            idle = not self._shut and not self._inside
            self._shut = True
        if idle:
            self._close()


class OmeTiffReader(ReaderBackend):
    """One open OME-TIFF data set. Made by `open`."""

    name: ClassVar[str] = "ometiff"

    def __init__(self, dataset: Dataset, options: OpenOptions) -> None:
        self._dataset = dataset
        self._images = tuple(plan.image for plan in dataset.plans)
        self._limits = options.limits
        self._gate = _DelayedClose(dataset.files.close)
        self._original: Mapping[str, Any] | None = None
        self._units: dict[tuple[int, int], Shape5 | None] = {}
        self._encodings: dict[tuple[int, int], StoredAs | None] = {}

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> OmeTiffReader:
        """Open an OME-TIFF file, any file of a set, or its companion metadata file."""
        refuse_options(cls.name, options)
        return cls(open_dataset(source, options), options)

    @property
    def images(self) -> Sequence[Image]:
        """Every image of the file."""
        return self._images

    @cached_property
    def _planes(self) -> PlaneReader:
        """Reads pixels. Imported on use, with the codecs, because many files are only opened."""
        from bfbridge_ometiff.reading.segments import PlaneReader

        return PlaneReader(self._limits)

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region; see `ReaderBackend.read`.

        Raises
        ------
        ReadFailed
            A tile is damaged, truncated, or in a file that is missing; the message names it.
        FileChanged
            A file was written to or replaced after the data set was opened.
        """
        samples = self._images[region.image].samples
        corner = region.start[3], region.start[4]
        with self._gate:
            for t, channel, z, wanted, pixels in plane_parts(region, out, samples):
                with self._plane(region, (t, channel, z)) as (tiff, layout):
                    if tiff is None or layout is None:
                        # OME-TIFF: planes that no file of a set contains are black.
                        pixels[...] = 0
                        continue
                    target = np.moveaxis(pixels, 0, -1)
                    self._planes.read(tiff, layout, corner, wanted.start, target)

    @contextmanager
    def _plane(
        self, region: Region, plane: tuple[int, int, int]
    ) -> Iterator[tuple[OpenTiff | None, SegmentLayout | None]]:
        """Open the file and directory of a plane (t, channel, z), and name both in errors.

        Both are None for a plane that no file contains. The file is checked for changes at the end.
        """
        t, channel, z = plane
        number, ifd = self._dataset.plans[region.image].planes.where(z, channel, t)
        if number == ABSENT:
            yield None, None
            return
        try:
            with self._dataset.files.opened(number) as tiff:
                layout = self._layout(tiff, region, ifd)
                try:
                    yield tiff, layout
                except (DamagedSegment, LimitExceeded):
                    tiff.check_unchanged()
                    raise
                tiff.check_unchanged()
        except (DamagedSegment, LimitExceeded, UnreadableFile) as error:
            kind = LimitExceeded if isinstance(error, LimitExceeded) else ReadFailed
            raise kind(
                f"{self._dataset.files.names[number]}: image {region.image}, level {region.level}, "
                f"plane z {z}, c {channel}, t {t} (directory {ifd}): {str(error).rstrip('.')}."
            ) from error

    def _layout(self, tiff: OpenTiff, region: Region, ifd: int) -> SegmentLayout:
        """Return the layout of a plane, checked against the image that contains it."""
        image = self._images[region.image]
        try:
            chain = self._dataset.plans[region.image].levels
            if chain:
                layout = tiff.layout(chain[region.level])
            else:
                layout = tiff.layout(ifd, region.level - 1)
        except (LimitExceeded, FileChanged):
            raise
        except BfbridgeError as error:
            raise DamagedSegment(f"its directory cannot be used: {error}") from error
        length, width = image.levels[region.level].shape[3:]
        if (layout.width, layout.length, layout.samples, layout.dtype) != (
            width,
            length,
            image.samples,
            image.dtype,
        ):
            raise DamagedSegment(
                f"it has {layout.width} x {layout.length} pixels of {layout.samples} x "
                f"{layout.dtype}, where the image has {width} x {length} of {image.samples} x "
                f"{image.dtype}"
            )
        return layout

    def decodes(self, image: int, level: int) -> bool:
        """Whether segments are compressed, packed, or in a file that is not local."""
        return self._unit(image, level) is None

    def read_unit(self, image: int, level: int) -> Shape5:
        """Return several small uncompressed tiles of one row, which are read with one call."""
        return self._unit(image, level) or self._images[image].levels[level].chunk

    def _unit(self, image: int, level: int) -> Shape5 | None:
        """Return the read unit of an uncompressed level, by its first plane; None for others."""
        key = image, level
        if key not in self._units:
            self._units[key] = None
            first = self._stored_plane(image, level, (0, 0, 0))
            with suppress(BfbridgeError), self._gate, first as (tiff, layout):
                if tiff.is_local and layout.addressable:
                    self._units[key] = self._joined(image, level, layout)
        return self._units[key]

    def _joined(self, image: int, level: int, layout: SegmentLayout) -> Shape5:
        t, c, z, y, x = self._images[image].levels[level].chunk
        if layout.tiled:
            size = layout.tile_length * layout.row_bytes
            x *= max(1, min(_UNIT // size, layout.across))
        return t, c, z, y, x

    def icc_profile(self, image: int) -> bytes | None:
        """Return the profile in the directory of the image's first plane, or None."""
        if self._images[image].samples < 3:
            return None
        with self._first_directory(image) as directory:
            return None if directory is None else directory.raw(Tag.InterColorProfile) or None

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return the palette of an image whose pixels are palette indices.

        As in MinimalTiffReader: 8 bits of each colour for pixels of up to 8 bits, otherwise 16. If
        no colour is above 255, the values are 8-bit values, as in libtiff's tif_getimage.c.
        """
        with self._first_directory(image, channel) as directory:
            if directory is None or directory.number(Tag.PhotometricInterpretation, -1) != PALETTE:
                return None
            colors = directory.array(Tag.ColorMap)
        if colors is None or not len(colors) or len(colors) % 3:
            return None
        table = colors.reshape(3, -1).astype(np.uint16)
        if table.shape[1] > 256:
            return table
        return (table if table.max() < 256 else table >> 8).astype(np.uint8)

    @contextmanager
    def _first_directory(self, image: int, channel: int = 0) -> Iterator[Directory | None]:
        """Open the directory of an image's first plane of a channel; None if there is none."""
        plan = self._dataset.plans[image]
        number, ifd = plan.planes.where(0, channel, 0)
        if number == ABSENT:
            yield None
            return
        with self._gate, self._dataset.files.opened(number) as tiff:
            yield tiff.directory(plan.levels[0] if plan.levels else ifd)

    def stored_as(self, image: int, level: int) -> StoredAs | None:
        """Return how the tiles of a level are encoded, if all its planes agree."""
        key = image, level
        if key not in self._encodings:
            self._encodings[key] = self._common_encoding(image, level)
        return self._encodings[key]

    def _common_encoding(self, image: int, level: int) -> StoredAs | None:
        from bfbridge_ometiff.writing.copying import stored_as

        found: set[StoredAs | None] = set()
        with self._gate:
            t, c, z = self._images[image].levels[level].shape[:3]
            channels = c // self._images[image].samples
            for plane in itertools.product(range(t), range(channels), range(z)):
                try:
                    with self._stored_plane(image, level, plane) as (_, layout):
                        found.add(stored_as(layout))
                except BfbridgeError:
                    # Reading it as pixels reports what is wrong, and where.
                    return None
                if len(found) > 1:
                    return None
        return found.pop() if found else None

    def read_stored(self, image: int, level: int, index: Shape5) -> bytes | None:
        """Return a tile as it is stored.

        Raises
        ------
        ReadFailed
            It is outside the file.
        """
        t, channel, z, row, column = index
        with self._gate, self._stored_plane(image, level, (t, channel, z)) as (tiff, layout):
            number = row * layout.across + column
            offset, count = int(layout.offsets[number]), int(layout.counts[number])
            try:
                return bytes(tiff.read(offset, count, None))  # compared with the stamp inside
            except UnreadableFile as error:
                raise ReadFailed(
                    f"{tiff.name}: image {image}, level {level}, tile {index} (T, C, Z, Y, X): "
                    f"{error}."
                ) from error

    @contextmanager
    def _stored_plane(
        self, image: int, level: int, plane: tuple[int, int, int]
    ) -> Iterator[tuple[OpenTiff, SegmentLayout]]:
        """Open the file of a plane, given as t, channel, z."""
        t, channel, z = plane
        number, ifd = self._dataset.plans[image].planes.where(z, channel, t)
        if number == ABSENT:
            raise ReadFailed(f"image {image}: no file contains plane z {z}, c {channel}, t {t}.")
        region = Region(image, level, (t, channel, z, 0, 0), (t + 1, channel + 1, z + 1, 1, 1))
        with self._dataset.files.opened(number) as tiff:
            try:
                layout = self._layout(tiff, region, ifd)
            except DamagedSegment as error:
                raise ReadFailed(
                    f"{tiff.name}: image {image}, level {level}, plane z {z}, c {channel}, t {t} "
                    f"(directory {ifd}): {error}"
                ) from error
            yield tiff, layout

    def stored_ranges(self, image: int, level: int) -> StoredRanges:
        """Return the positions of a level's tiles or strips; its planes must be stored alike."""
        from bfbridge_ometiff.ranges import ranges_of

        record = self._images[image]
        with self._gate:
            t, c, z = record.levels[level].shape[:3]
            planes = list(itertools.product(range(t), range(c // record.samples), range(z)))
            layouts: dict[tuple[int, int, int], tuple[str, SegmentLayout]] = {}
            for plane in planes:
                if self._dataset.plans[image].planes.where(plane[2], *plane[1::-1])[0] == ABSENT:
                    continue
                with self._stored_plane(image, level, plane) as (tiff, layout):
                    layouts[plane] = (tiff.name, layout)
        return ranges_of(record.levels[level].shape, record.samples, layouts)

    def own_metadata(self) -> str | None:
        if self._dataset.xml is not None:
            return self._dataset.xml
        found = self.original_metadata.get("ImageDescription")
        return None if found is None else str(found)

    def ome_xml(self) -> str | None:
        """Return the stored OME-XML; for a plain TIFF, made from its images."""
        xml = self._dataset.xml
        if xml is not None:
            return xml
        from bfbridge_ometiff.reading.documents import document_of

        return document_of(self._dataset.plans).to_xml()

    def ome(self) -> OME:
        """Return the OME-XML as an ome_types document."""
        if self._dataset.xml is None:
            from bfbridge_ometiff.reading.documents import document_of

            return document_of(self._dataset.plans)
        from bfbridge.ome.documents.model import model_from_xml

        return model_from_xml(self._dataset.xml, self._dataset.used_files[0], self._limits)

    def magnifications(self) -> Sequence[float | None]:
        """Return the magnifications that the OME-XML or the tags of a plain TIFF state."""
        if self._dataset.xml is not None:
            from bfbridge.ome.objectives import magnifications_in

            return magnifications_in(self._dataset.xml)
        found = [plan.notes.magnification for plan in self._dataset.plans]
        stated = [value for value in found if value is not None]
        return stated * len(found) if len(stated) == 1 else found

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """The first directory's tags by name."""
        if self._original is None:
            with self._gate, self._dataset.files.opened(self._dataset.first_file) as tiff:
                self._original = tiff.directory(0).named_values()
        return self._original

    @property
    def used_files(self) -> Sequence[str]:
        """The opened file, then the metadata file and the files that contain planes."""
        return self._dataset.used_files

    def release(self) -> bool:
        """Close the file of a small OME-TIFF that consists of one.

        Others depend on files beside it, or on much memory for their structure.
        """
        xml, files = self._dataset.xml, self._dataset.files
        if xml is None or not files.is_single or len(xml) + files.structure_bytes > _KEPT_BYTES:
            return False
        files.release()
        return True

    def resume(self) -> bool:
        """Open the file again; return False if its stamp differs."""
        return self._dataset.files.resume()

    def close(self) -> None:
        """Close every file, now or after the last running read."""
        self._gate.shut()
