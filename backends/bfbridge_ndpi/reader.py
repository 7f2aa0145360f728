"""NDPI reader: the same images and levels as in Bio-Formats; restart intervals are decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from bfbridge.backend import Channel, Image, Level, OpenOptions, Region
from bfbridge.errors import Unsupported
from bfbridge.reader_base import FileReader, plane_parts
from bfbridge.tiff.directories import TiffFile
from bfbridge_ndpi.directories import NdpiDirectory, read_directories
from bfbridge_ndpi.document import document_xml
from bfbridge_ndpi.layout import Layout, NdpiFile, is_hamamatsu, read_layout
from bfbridge_ndpi.settings import original_entries, pixel_size_of, read_settings

__all__ = ["NdpiReader"]


class NdpiReader(FileReader):
    """One open NDPI file. Made by `open`."""

    name: ClassVar[str] = "ndpi"
    leaves_options: ClassVar[bool] = True

    def read_structure(self, options: OpenOptions) -> list[Image]:
        """Read all directories, and the header of each JPEG stream; see `FileReader`."""
        del options
        tiff = TiffFile(self.access, self.source.name, self.limits)
        self._directories = read_directories(tiff)
        if not self._directories or not is_hamamatsu(self._directories):
            raise Unsupported("a TIFF file without the tags of NDPI")
        file = NdpiFile(self.access, self.source.name, self.limits, self.waits)
        self._layout = read_layout(file, self._directories)
        self._settings = read_settings(self._directories[0])
        images = [
            _record(self._layout, self._directories, index, self._settings.channel)
            for index in range(len(self._layout.images))
        ]
        tiff.settle()
        return images

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region; see `ReaderBackend.read`.

        Raises
        ------
        ReadFailed
            The pixels are damaged, or cannot be read.
        """
        self.check_open()
        samples = self._images[region.image].samples
        for part in plane_parts(region, out, samples):
            plane = self._layout.plane(region.image, region.level, part.z)
            _, _, _, y, x = region.start
            pixels = part.pixels
            if len(pixels) < samples:
                whole = np.empty((*pixels.shape[1:], samples), plane.dtype)
                plane.read(y, x, whole)
                pixels[...] = np.moveaxis(whole[:, :, part.samples], -1, 0)
            else:
                plane.read(y, x, np.moveaxis(pixels, 0, -1))

    def reads_parts(self, image: int, level: int) -> bool:
        """Whether pixels are in restart intervals, of which only those of a region are decoded."""
        return self._layout.plane(image, level, 0).reads_parts

    def decodes(self, image: int, level: int) -> bool:
        """Return True: pixels are compressed, except for those of the map."""
        del image, level
        return True

    def read_unit(self, image: int, level: int) -> tuple[int, int, int, int, int]:
        """Return neighbouring chunks whose intervals depend on each other; see `ReaderBackend`."""
        t, c, z, _, _ = self._images[image].levels[level].chunk
        return t, c, z, *self._layout.plane(image, level, 0).unit

    def make_xml(self) -> str:
        """Return the OME-XML, made from the file's metadata."""
        return document_xml(self._directories, self._layout, self._settings, self._images)

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Tags of the first directory and its property map, as in NDPIReader."""
        self.check_open()
        return dict(sorted(original_entries(self._directories[0], self._settings).items()))


def _record(
    layout: Layout, directories: list[NdpiDirectory], index: int, channel: str | None
) -> Image:
    """Return the record of an image, with the name and role that NDPIReader's series have."""
    found = layout.images[index]
    planes = [layout.planes[level[0]] for level in found.levels]
    samples = planes[0].shape[2]
    names = ("", "macro image", "macro mask image")
    role: Literal["image", "macro", "thumbnail"] = "image"
    if index:
        role = "macro" if index < len(names) else "thumbnail"
    levels = (
        Level(
            (1, samples, len(level), *plane.shape[:2]),
            (1, samples, 1, *plane.chunk),
        )
        for plane, level in zip(planes, found.levels, strict=True)
    )
    return Image(
        name=names[index] if index < len(names) else f"Series {index + 1}",
        levels=tuple(levels),
        dtype=planes[0].dtype,
        samples=samples,
        interleaved=samples > 1,
        pixel_size=pixel_size_of(directories[found.levels[0][0]]),
        channels=(Channel(name=None if index else channel, samples=samples),),
        role=role,
        significant_bits=8 * planes[0].dtype.itemsize,
    )
