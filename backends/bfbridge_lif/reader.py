"""LIF reader: the same images and tiles as in Bio-Formats; rows are read into the result."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np

from bfbridge.backend import (
    Channel,
    Image,
    Level,
    OpenOptions,
    PixelSize,
    Quantity,
    Region,
)
from bfbridge.errors import ReadFailed, Unsupported
from bfbridge.limits import check
from bfbridge.ome.documents.build import physical_size
from bfbridge.ome.documents.xml_tree import Element, parse_tree
from bfbridge.reader_base import FileReader
from bfbridge.storage.rows import RUN_BYTES
from bfbridge_lif.container import read_blocks, read_xml
from bfbridge_lif.document import Series, document_xml, excitations
from bfbridge_lif.entries import original_entries
from bfbridge_lif.images import LifLayout, find_images, name_of, read_layout
from bfbridge_lif.settings import COLORS, LifSettings, prune_masters, read_settings

__all__ = ["LifReader"]

_CHUNK: Final = 2 << 20
# Every tile of an image has all entries of the image.
_MOST_ENTRIES: Final = 10_000_000
_GREY: Final = (255, 255, 255, 255)


class LifReader(FileReader):
    """One open LIF file. Made by `open`."""

    name: ClassVar[str] = "lif"
    leaves_options: ClassVar[bool] = True

    def read_structure(self, options: OpenOptions) -> list[Image]:
        """Read every image, tile by tile; see `FileReader`."""
        del options
        name, limits = self.source.name, self.limits
        xml, end = read_xml(self.access, name, limits)
        self._own_xml = xml
        root = parse_tree(f"<LEICA>{xml}</LEICA>", f"{name}: its XML", limits)
        blocks = read_blocks(self.access, end, name, limits)
        prune_masters(root)
        self._parts: list[tuple[Element, str]] = []
        self._series: list[Series] = []
        places: list[tuple[Quantity | None, Quantity | None]] = []
        tiles: list[tuple[LifLayout, LifSettings, int]] = []
        planes = channels = 0
        for index, (image, above) in enumerate(find_images(root)):
            layout = read_layout(image, above, blocks, limits, name)
            count = len(tiles) + layout.tiles.length
            check(count, limits.images, "number of images", name)
            planes += layout.tiles.length * math.prod(layout.sizes[2:])
            check(planes, limits.planes, "number of planes", name)
            channels += layout.tiles.length * layout.shape[1]
            check(channels, limits.channels, "number of channels", name)
            settings = read_settings(image, layout, places, index)
            for tile in range(layout.tiles.length):
                tiles.append((layout, settings, tile))
                self._parts.append((image, name_of(above)))
        if not tiles:
            raise Unsupported("a LIF file without images")
        for number, (layout, settings, tile) in enumerate(tiles):
            place = places[number] if number < len(places) else (None, None)
            self._series.append(Series(layout, settings, tile, place))
        return [
            _record(series, title)
            for series, (_, title) in zip(self._series, self._parts, strict=True)
        ]

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region; see `ReaderBackend.read`.

        Raises
        ------
        ReadFailed
            A plane is outside its block of pixels, or cannot be read.
        """
        self.check_open()
        series = self._series[region.image]
        samples, rows = series.layout.samples, series.layout.rows
        (t0, c0, z0, y0, x0), (_, c1, _, y1, _) = region.start, region.stop
        for channel in range(c0 // samples, -(-c1 // samples)):
            first, last = max(c0, channel * samples), min(c1, (channel + 1) * samples)
            wanted = slice(first - channel * samples, last - channel * samples)
            # T, Z, Y, X, samples
            part = np.moveaxis(out[:, first - c0 : last - c0], 1, -1)
            for t, z, box in _stacks(series.layout, part, whole=y1 - y0 == series.layout.sizes[1]):
                where = f"{self.source.name}: image {region.image}, plane "
                where += f"z {z0 + z}, c {channel}, t {t0 + t}"
                number = series.layout.plane_number(z0 + z, channel, t0 + t)
                begin = series.layout.offset(series.tile, number) + y0 * series.layout.row
                self._check_block(series.layout, begin + x0 * rows.pixel, box, where)
                # LIFReader interprets three samples as blue, green, red.
                reverse = samples == 3
                rows.read(
                    self.access,
                    series.layout.block.offset + begin + x0 * rows.pixel,
                    samples - wanted.stop if reverse else wanted.start,
                    box[:, :, ::-1] if reverse else box,
                    where,
                )

    def _check_block(self, layout: LifLayout, begin: int, box: Any, where: str) -> None:
        end = begin + layout.rows.length(*box.shape[:2])
        if end > layout.block.size:
            raise ReadFailed(
                f"{where}: its pixels should end at byte {end:,} of their block, which has "
                f"{layout.block.size:,}; the recording was stopped, or the file is damaged."
            )

    def reads_parts(self, image: int, level: int) -> bool:
        """Return True: pixels are stored uncompressed."""
        del image, level
        return True

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return a colour ramp from black to the channel's colour.

        As in LIFReader, for images of integers; unknown colour names are grey.
        """
        layout = self._series[image].layout
        if layout.samples > 1 or layout.dtype.kind != "u":
            return None
        color = _color(layout, channel)
        values = np.arange(np.iinfo(layout.dtype).max + 1, dtype=layout.dtype)
        return np.stack([values if part else np.zeros_like(values) for part in color[:3]])

    def own_metadata(self) -> str:
        return self._own_xml

    def make_xml(self) -> str:
        """Return the OME-XML, made from the file's metadata."""
        return document_xml(self._series, self._images)

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Every attribute of the XML under its path; with a number if there are several images."""
        found: dict[str, Any] = {}
        entries: dict[str, Any] = {}
        for number, (series, (image, title)) in enumerate(
            zip(self._series, self._parts, strict=True)
        ):
            if series.tile == 0:
                # Tiles of one image have the same entries.
                entries = original_entries(image, series.settings, title)
            before = "" if len(self._series) == 1 else f"Series {number} "
            for key, value in entries.items():
                found[before + key] = value
            check(len(found), _MOST_ENTRIES, "number of entries of the metadata", self.source.name)
        return dict(sorted(found.items()))


def _stacks(layout: LifLayout, planes: Any, *, whole: bool) -> Iterator[tuple[int, int, Any]]:
    """Yield T, Z and a box (Y, X, samples) of each plane; planes without gaps form one long box.

    Parameters
    ----------
    layout
        Layout of the image.
    planes
        Shape (T, Z, Y, X, samples).
    whole
        Whether all rows of the planes are requested.
    """
    times, depth, _, width = planes.shape[:4]
    axis = layout.stacked if whole and width == layout.sizes[0] else ""
    for t in range(1 if axis == "T" else times):
        for z in range(1 if axis == "Z" else depth):
            if not axis:
                yield t, z, planes[t, z]
                continue
            stack = planes[:, z] if axis == "T" else planes[t]
            if stack.flags.c_contiguous:
                yield t, z, stack.reshape(-1, width, planes.shape[4])
            else:
                for number, plane in enumerate(stack):
                    yield (number, z, plane) if axis == "T" else (t, number, plane)


def _color(layout: LifLayout, channel: int) -> tuple[int, int, int, int]:
    name = layout.luts[channel].lower() if channel < len(layout.luts) else ""
    return COLORS.get(name, _GREY)


def _record(series: Series, title: str) -> Image:
    layout, settings = series.layout, series.settings
    channels = layout.sizes[3]
    names = settings.channel_names
    sizes = [*layout.pixel_size[:2], settings.z_step]
    rows = max(1, min(layout.sizes[1], RUN_BYTES // layout.row_bytes))
    # Consecutive planes are read together.
    deep = max(1, _CHUNK // (rows * layout.row_bytes)) if rows == layout.sizes[1] else 1
    z = min(deep, layout.sizes[2]) if layout.stacked == "Z" else 1
    t = min(deep, layout.sizes[4]) if layout.stacked == "T" else 1
    return Image(
        name=title,
        levels=(Level(layout.shape, (t, layout.samples, z, rows, layout.sizes[0])),),
        dtype=layout.dtype,
        samples=layout.samples,
        interleaved=layout.samples > 1,
        pixel_size=PixelSize(*map(physical_size, sizes)),
        channels=tuple(
            Channel(
                name=None if names is None else names[channel],
                color=None if layout.samples > 1 else _color(layout, channel),
                excitation=excitation,
                samples=layout.samples,
            )
            for channel, excitation in enumerate(excitations(settings, channels))
        ),
        significant_bits=8 * layout.dtype.itemsize,
    )
