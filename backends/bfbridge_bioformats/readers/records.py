"""Images, levels, channels and pixel sizes, from a reader's core metadata and metadata store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from bfbridge.backend import Channel, Image, Level, PixelSize, Quantity, Role
from bfbridge.errors import UnreadableFile
from bfbridge.limits import Limits, check
from bfbridge_bioformats.readers.pixels import DTYPES, PlaneLayout, block_size

__all__ = ["SeriesImage", "describe", "images_from"]


class SeriesImage:
    """One image and its position in Bio-Formats.

    Attributes
    ----------
    series
        Its number in Bio-Formats.
    image
        The record.
    layouts
        Per level: how openBytes lays out its planes.
    order
        Dimension order, such as "XYCZT".
    sizes
        Per level: (Z, effective C, T), which number the planes.
    """

    __slots__ = ("image", "layouts", "order", "series", "sizes")

    def __init__(
        self,
        series: int,
        image: Image,
        layouts: tuple[PlaneLayout, ...],
        order: str,
        sizes: tuple[tuple[int, int, int], ...],
    ) -> None:
        self.series = series
        self.image = image
        self.layouts = layouts
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


def describe(reader: Any, store: Any, name: str, limits: Limits) -> list[dict[str, Any]]:
    """Return Java's description of every series, for `images_from`.

    Parameters
    ----------
    reader
        An IFormatReader after setId, with resolutions not flattened.
    store
        The bfbridge.Store that setId filled.
    name
        Name of the file, for messages.
    limits
        Limits on the number of images.

    Raises
    ------
    LimitExceeded
        There are more images than the limits allow.
    """
    check(int(reader.getSeriesCount()), limits.images, "number of images", name)
    described: list[dict[str, Any]] = json.loads(bytes(store.describe(reader)))
    return described


def images_from(
    described: Sequence[Mapping[str, Any]], name: str, limits: Limits
) -> list[SeriesImage]:
    """Make the records of all series; associated images (label, macro, thumbnail) are last.

    Parameters
    ----------
    described
        The description of each series; see `_series`. A series that is like the previous one
        except for its name has only ``name``.
    name
        Name of the file, for messages.
    limits
        Limits on the number of images, channels, planes and levels.

    Raises
    ------
    UnreadableFile
        There is no image, or an image has an invalid size or type.
    LimitExceeded
        There is more than the limits allow.
    """
    check(len(described), limits.images, "number of images", name)
    found: list[SeriesImage] = []
    planes = channels = 0
    thumbnail = False
    for number, answers in enumerate(described):
        title = answers["name"]
        # Only a name: the series is otherwise like the previous one; files may have thousands.
        if len(answers) > 1:
            like, thumbnail = _series(number, answers, name), answers["thumbnail"]
        role = _role(thumbnail, title)
        image = replace(like.image, name=title, role=role, photo=role == "label")
        found.append(SeriesImage(number, image, like.layouts, like.order, like.sizes))
        check(len(image.levels), limits.levels, "number of levels", name)
        t, c, z, _, _ = image.levels[0].shape
        channels += c
        planes += t * c // image.samples * z
        check(channels, limits.channels, "number of channels", name)
        check(planes, limits.planes, "number of planes", name)
    if not found:
        raise UnreadableFile(f"{name}: Bio-Formats finds no image in this file.")
    if all(entry.image.role != "image" for entry in found):
        return found
    return sorted(found, key=lambda entry: entry.image.role != "image")


def _series(number: int, answers: Mapping[str, Any], name: str) -> SeriesImage:
    """Make the record of one series, except its name, from the description by bfbridge.Records.

    Parameters
    ----------
    number
        Number of the series.
    answers
        type (FormatTools' pixel type), little, samples, bits, thumbnail, order; pixel_size: [value,
        unit] or None for X, Y, Z; channels: each name, colour, emission and excitation; levels:
        each X, Y, Z, effective C, T, the optimal tile's width and height, and whether its samples
        are interleaved.
    name
        Name of the file, for messages.
    """
    samples = answers["samples"]
    dtype = _dtype(answers["type"], number, name)
    byteorder: Literal["<", ">"] = "<" if answers["little"] else ">"
    levels = [_sizes(level, number, name) for level in answers["levels"]]
    sizes = tuple((z, c, t) for _, _, z, c, t, *_ in levels)
    x, y, z = map(_quantity, answers["pixel_size"])
    image = Image(
        name=None,
        levels=tuple(_level(level, samples, dtype.itemsize) for level in levels),
        dtype=dtype,
        byteorder=byteorder,
        samples=samples,
        interleaved=bool(levels[0][-1]),
        pixel_size=PixelSize(x, y, z),
        channels=tuple(_channel(channel, samples) for channel in answers["channels"]),
        significant_bits=answers["bits"] or None,
    )
    stored = dtype.newbyteorder(byteorder)
    layouts = tuple(PlaneLayout(stored, samples, bool(level[-1])) for level in levels)
    return SeriesImage(number, image, layouts, answers["order"], sizes)


def _dtype(pixel_type: int, number: int, name: str) -> Any:
    if not 0 <= pixel_type < len(DTYPES):
        raise UnreadableFile(
            f"{name}: series {number} has an unknown pixel type (number {pixel_type})."
        )
    return DTYPES[pixel_type]


def _sizes(level: Sequence[int], number: int, name: str) -> Sequence[int]:
    x, y, z, effective, t, *_ = level
    if min(x, y, z, t, effective) < 1:
        raise UnreadableFile(
            f"{name}: series {number} has a size below 1 (X {x}, Y {y}, Z {z}, C {effective}, "
            f"T {t}); the file is damaged."
        )
    return level


def _level(values: Sequence[int], samples: int, itemsize: int) -> Level:
    x, y, z, effective, t, tile_x, tile_y, _ = values
    height, width = block_size(x, y, tile_x, tile_y, samples * itemsize)
    return Level(shape=(t, effective * samples, z, y, x), chunk=(1, samples, 1, height, width))


def _channel(values: Sequence[Any], samples: int) -> Channel:
    name, color, emission, excitation = values
    return Channel(
        name=name,
        color=None if color is None else (color[0], color[1], color[2], color[3]),
        emission=_quantity(emission),
        excitation=_quantity(excitation),
        samples=samples,
    )


def _quantity(found: Sequence[Any] | None) -> Quantity | None:
    return None if found is None else Quantity(float(found[0]), found[1])


def _role(thumbnail: bool, name: str | None) -> Role:
    if not thumbnail:
        return "image"
    name = (name or "").lower()
    if "label" in name:
        return "label"
    if "macro" in name or "overview" in name:
        return "macro"
    return "thumbnail"
