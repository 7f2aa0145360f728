"""Images, levels, channels and pixel sizes, from a reader's core metadata and metadata store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bfbridge.backend import Channel, Image, Level, PixelSize, Quantity, Role
from bfbridge.errors import UnreadableFile

from .jvm import machine
from .pixels import DTYPES, Layout, block_size

__all__ = ["SeriesImage", "read_images"]


class SeriesImage:
    """One image and where Bio-Formats has it.

    Attributes
    ----------
    series
        Its number in Bio-Formats.
    image
        The record.
    layout
        How openBytes lays out its planes.
    order
        Dimension order, such as "XYCZT".
    sizes
        Per level: (Z, effective C, T), which number the planes.
    """

    __slots__ = ("image", "layout", "order", "series", "sizes")

    def __init__(
        self,
        series: int,
        image: Image,
        layout: Layout,
        order: str,
        sizes: tuple[tuple[int, int, int], ...],
    ) -> None:
        self.series = series
        self.image = image
        self.layout = layout
        self.order = order
        self.sizes = sizes

    def plane(self, level: int, z: int, c: int, t: int) -> int:
        """Return the plane number, as loci.formats.FormatTools.getIndex counts."""
        size_z, size_c, size_t = self.sizes[level]
        length = {"Z": size_z, "C": size_c, "T": size_t}
        place = {"Z": z, "C": c, "T": t}
        number, step = 0, 1
        for axis in self.order[2:]:
            number += place[axis] * step
            step *= length[axis]
        return number


def read_images(reader: Any, store: Any, name: str) -> list[SeriesImage]:
    """Describe every series, associated ones (label, macro, thumbnail) last.

    Parameters
    ----------
    reader
        An IFormatReader after setId, with resolutions not flattened.
    store
        The OMEXMLMetadata that setId filled.
    name
        Of the file, for messages.
    """
    found = [_series(reader, store, number, name) for number in range(int(reader.getSeriesCount()))]
    if not found:
        raise UnreadableFile(f"{name}: Bio-Formats finds no image in this file.")
    if all(entry.image.role != "image" for entry in found):
        return found
    return sorted(found, key=lambda entry: entry.image.role != "image")


def _series(reader: Any, store: Any, number: int, name: str) -> SeriesImage:
    reader.setSeries(number)
    reader.setResolution(0)
    samples = int(reader.getRGBChannelCount())
    little = bool(reader.isLittleEndian())
    dtype = _dtype(int(reader.getPixelType()), number, name)
    interleaved = samples > 1 and bool(reader.isInterleaved())
    levels: list[Level] = []
    sizes: list[tuple[int, int, int]] = []
    for resolution in range(int(reader.getResolutionCount())):
        reader.setResolution(resolution)
        level, size = _level(reader, samples, dtype.itemsize, number, name)
        levels.append(level)
        sizes.append(size)
    reader.setResolution(0)
    channels = _channels(store, number, sizes[0][1], samples)
    image = Image(
        name=_text(lambda: store.getImageName(number)),
        levels=tuple(levels),
        dtype=dtype,
        byteorder="<" if little else ">",
        samples=samples,
        interleaved=interleaved,
        pixel_size=PixelSize(
            x=_quantity(lambda: store.getPixelsPhysicalSizeX(number)),
            y=_quantity(lambda: store.getPixelsPhysicalSizeY(number)),
            z=_quantity(lambda: store.getPixelsPhysicalSizeZ(number)),
        ),
        channels=channels,
        role=_role(reader, store, number),
        significant_bits=int(reader.getBitsPerPixel()) or None,
    )
    layout = Layout(dtype.newbyteorder("<" if little else ">"), samples, interleaved)
    return SeriesImage(number, image, layout, str(reader.getDimensionOrder()), tuple(sizes))


def _dtype(pixel_type: int, number: int, name: str) -> Any:
    if not 0 <= pixel_type < len(DTYPES):
        raise UnreadableFile(
            f"{name}: series {number} has pixels of a type that is not known (number {pixel_type})."
        )
    return DTYPES[pixel_type]


def _level(
    reader: Any, samples: int, itemsize: int, number: int, name: str
) -> tuple[Level, tuple[int, int, int]]:
    x, y = int(reader.getSizeX()), int(reader.getSizeY())
    z, t = int(reader.getSizeZ()), int(reader.getSizeT())
    effective = int(reader.getEffectiveSizeC())
    if min(x, y, z, t, effective) < 1:
        raise UnreadableFile(
            f"{name}: series {number} has a size below 1 (X {x}, Y {y}, Z {z}, C {effective}, "
            f"T {t}); the file is damaged."
        )
    height, width = block_size(
        x,
        y,
        int(reader.getOptimalTileWidth()),
        int(reader.getOptimalTileHeight()),
        samples * itemsize,
    )
    level = Level(shape=(t, effective * samples, z, y, x), chunk=(1, samples, 1, height, width))
    return level, (z, effective, t)


def _channels(store: Any, number: int, count: int, samples: int) -> tuple[Channel, ...]:
    return tuple(_channel(store, number, c, samples) for c in range(count))


def _channel(store: Any, number: int, channel: int, samples: int) -> Channel:
    return Channel(
        name=_text(lambda: store.getChannelName(number, channel)),
        color=_color(lambda: store.getChannelColor(number, channel)),
        emission=_quantity(lambda: store.getChannelEmissionWavelength(number, channel)),
        excitation=_quantity(lambda: store.getChannelExcitationWavelength(number, channel)),
        samples=samples,
    )


def _role(reader: Any, store: Any, number: int) -> Role:
    if not reader.isThumbnailSeries():
        return "image"
    name = (_text(lambda: store.getImageName(number)) or "").lower()
    if "label" in name:
        return "label"
    if "macro" in name or "overview" in name:
        return "macro"
    return "thumbnail"


def _ask(get: Callable[[], Any]) -> Any:
    """Ask the store, which throws for what was never set in some formats and is null in others."""
    try:
        return get()
    except (
        machine.type("java.lang.NullPointerException"),
        machine.type("java.lang.IndexOutOfBoundsException"),
        machine.type("java.lang.IllegalArgumentException"),
    ):
        return None


def _text(get: Callable[[], Any]) -> str | None:
    found = _ask(get)
    return None if found is None else str(found)


def _quantity(get: Callable[[], Any]) -> Quantity | None:
    found = _ask(get)
    if found is None or found.value() is None:
        return None
    return Quantity(float(found.value().doubleValue()), str(found.unit().getSymbol()))


def _color(get: Callable[[], Any]) -> tuple[int, int, int, int] | None:
    found = _ask(get)
    if found is None:
        return None
    return (int(found.getRed()), int(found.getGreen()), int(found.getBlue()), int(found.getAlpha()))
