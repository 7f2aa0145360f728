"""OME metadata (ome_types) of images and plates without stored OME metadata."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count, product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import Extras, Quantity
from bfbridge.ome.documents.model import model_from_xml, pixels_fields
from bfbridge.ome.extras import attach_extras, convert_unit
from bfbridge.ome.metadata import physical_size
from bfbridge.ome.pixel_types import pixel_type_of
from bfbridge.ome.planes import first_position, measured_time_step

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Channel as OmeChannel
    from ome_types.model import Image as OmeImageModel
    from ome_types.model import Plane as OmePlane
    from ome_types.model import Plate

    from bfbridge.backend import Channel, Image
    from bfbridge_omezarr.hierarchy.layout import PlateWells

__all__ = ["make_ome"]

# Most planes with positions, per image and in total; for more, only the first plane has one.
_MOST_PLANES: Final = 16_384
_MOST_IN_ALL: Final = 100_000


def make_ome(
    images: Sequence[Image],
    xml: str | None,
    described: Sequence[object | None],
    extras: Sequence[Extras] = (),
    plate: PlateWells | None = None,
) -> OME:
    """Return one OME document with an Image for each record, in order.

    Parameters
    ----------
    images
        All images of the store.
    xml
        Stored OME-XML, or None.
    described
        For each image, whether `xml` describes it (not None).
    extras
        Further metadata of each image. For images that `xml` does not describe, the origin becomes
        the planes' positions.
    plate
        Added if `xml` has none.
    """
    from ome_types import OME

    document = OME() if xml is None else model_from_xml(xml, "OME/METADATA.ome.xml")
    all_extras = extras or [Extras()] * len(images)
    planes = [
        _count_planes(image, each.origin) for image, each in zip(images, all_extras, strict=True)
    ]
    most = _MOST_PLANES if sum(planes) <= _MOST_IN_ALL else 1
    document.images = [
        _agreeing(document.images[i], image)
        if xml is not None and described[i] is not None
        else _image(i, image, all_extras[i].origin, every_plane=planes[i] <= most)
        for i, image in enumerate(images)
    ]
    attach_extras(document, list(map(_without_known, document.images, all_extras)))
    if plate is not None and not document.plates:
        document.plates = [_plate(plate, [image.id for image in document.images])]
    return document


def _plate(plate: PlateWells, images: Sequence[str]) -> Plate:
    from ome_types.model import ImageRef, Plate, Well, WellSample

    rows, columns = (_Numbered(sorted({well[place] for well in plate.wells})) for place in (0, 1))
    samples = count()
    wells = [
        Well(
            id=f"Well:0:{i}",
            row=rows.numbers[row],
            column=columns.numbers[column],
            well_samples=[
                WellSample(
                    id=f"WellSample:0:{i}:{k}",
                    index=next(samples),
                    image_ref=ImageRef(id=images[number]),
                )
                for k, number in enumerate(fields)
            ],
        )
        for i, ((row, column), fields) in enumerate(zip(plate.wells, plate.fields, strict=True))
    ]
    return Plate(
        id="Plate:0",
        name=plate.name,
        row_naming_convention=rows.convention,
        column_naming_convention=columns.convention,
        wells=wells,
    )


class _Numbered:
    """Rows or columns by name, numbered as in OME: A and 1 are 0, used or not.

    Attributes
    ----------
    numbers
        Number of each name.
    convention
        "letter", "number", or None for other names, which are numbered in order.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.convention: Any = None
        self.numbers = {name: i for i, name in enumerate(names)}
        if all(re.fullmatch("[1-9][0-9]{0,3}|0[1-9]|00[1-9]|0[1-9][0-9]", n) for n in names):
            self.convention = "number"
            self.numbers = {name: int(name) - 1 for name in names}
        elif all(re.fullmatch("[A-Za-z]{1,2}", name) for name in names):
            self.convention = "letter"
            self.numbers = {name: _letters(name) for name in names}


def _letters(name: str) -> int:
    number = 0
    for letter in name.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def ome_type_of(dtype: np.dtype[Any]) -> str:
    """Return the OME pixel type closest to a dtype; OME has no float16 and no 64-bit integers."""
    known = pixel_type_of(dtype)
    if known is not None:
        return known
    return "float" if dtype == np.float16 else "double"


def _agreeing(element: OmeImageModel, image: Image) -> OmeImageModel:
    """Update a stored element from the record, which includes NGFF's metadata."""
    from ome_types.model import Channel as OmeChannel

    pixels = element.pixels
    if element.name is None:
        element.name = image.name
    for axis in "xyz":
        _set_quantity(pixels, f"physical_size_{axis}", getattr(image.pixel_size, axis))
    measured = None if pixels.time_increment else measured_time_step(pixels)
    if measured is None or not _is_equal(measured, image.time_step):
        _set_quantity(pixels, "time_increment", image.time_step)
    if all((channel.samples_per_pixel or 1) == 1 for channel in pixels.channels):
        for number in range(len(pixels.channels), len(image.channels)):
            pixels.channels.append(
                OmeChannel(id=f"Channel:{element.id}:{number}", samples_per_pixel=1)
            )
        for channel, record in zip(pixels.channels, image.channels, strict=False):
            if record.name is not None:
                channel.name = record.name
            stored = channel.color if "color" in channel.model_fields_set else None
            if record.color is not None and (
                stored is None or tuple(stored.as_rgb_tuple()[:3]) != record.color[:3]
            ):
                channel.color = _color(record.color)
    return element


def _is_equal(first: Quantity, second: Quantity | None) -> bool:
    value = None if second is None else convert_unit(second, first.unit)
    return value is not None and math.isclose(value, first.value, rel_tol=1e-9)


def _without_known(element: OmeImageModel, extras: Extras) -> Extras:
    """Return extras without the position if it is that of the image's planes."""
    known = first_position(element.pixels)
    for axis, place in extras.origin.items():
        if axis == "t" and not place.value:
            continue
        stored = known.get(axis, Quantity(0.0, place.unit))
        value = convert_unit(stored, place.unit)
        if value is None and stored.unit == "pixel":
            size = physical_size(element.pixels, axis)
            value = None if size is None else convert_unit(size, place.unit)
            value = None if value is None else value * stored.value
        if not math.isclose(value or 0.0, place.value, rel_tol=1e-9, abs_tol=1e-12):
            return extras
    return replace(extras, origin={})


def _set_quantity(pixels: Any, name: str, quantity: Quantity | None) -> None:
    """Set a size that differs; equal sizes are not added to a document that omits them."""
    if quantity is None:
        return
    unit = getattr(pixels, f"{name}_unit")
    if (getattr(pixels, name), unit.value) != quantity:
        setattr(pixels, name, quantity.value)
        setattr(pixels, f"{name}_unit", type(unit)(quantity.unit))


def _color(color: tuple[int, int, int, int]) -> Any:
    from ome_types.model import Color

    red, green, blue, alpha = color
    return Color((red, green, blue, alpha / 255))


def _count_planes(image: Image, origin: Mapping[str, Quantity]) -> int:
    t, c, z, _, _ = image.levels[0].shape
    return t * c * z if set(origin) & set("xyz") else 0


def _planes(image: Image, origin: Mapping[str, Quantity], *, every_plane: bool) -> list[OmePlane]:
    """Return planes with their positions; if there are very many, only the first one."""
    from ome_types.model import Plane

    if not set(origin) & set("xyz"):
        return []
    t, c, z, _, _ = image.levels[0].shape
    known: dict[str, Any] = {}
    for axis in "xyz":
        quantity = origin.get(axis)
        if quantity is not None:
            known[f"position_{axis}"] = quantity.value
            known[f"position_{axis}_unit"] = quantity.unit
    step, first = image.pixel_size.z, origin.get("z")
    if step is None or first is None or step.unit != first.unit:
        step = None
    places = product(range(t), range(c), range(z)) if every_plane else [(0, 0, 0)]
    planes = []
    for the_t, the_c, the_z in places:
        if step is not None and first is not None:
            known["position_z"] = first.value + the_z * step.value
        planes.append(Plane(the_t=the_t, the_c=the_c, the_z=the_z, **known))
    return planes


def _image(
    number: int, image: Image, origin: Mapping[str, Quantity], *, every_plane: bool
) -> OmeImageModel:
    from ome_types.model import Image as OmeImageModel
    from ome_types.model import MetadataOnly, Pixels

    fields = pixels_fields(image)
    if image.time_step is not None:
        fields["time_increment"], fields["time_increment_unit"] = image.time_step
    pixels = Pixels(
        id=f"Pixels:{number}",
        dimension_order="XYZCT",
        type=ome_type_of(image.dtype),
        channels=[_channel(number, i, channel) for i, channel in enumerate(image.channels)],
        planes=_planes(image, origin, every_plane=every_plane),
        metadata_only=MetadataOnly(),
        **fields,
    )
    return OmeImageModel(id=f"Image:{number}", name=image.name, pixels=pixels)


def _channel(image: int, number: int, channel: Channel) -> OmeChannel:
    from ome_types.model import Channel as OmeChannel

    more: dict[str, Any] = {}
    if channel.color is not None:
        more["color"] = _color(channel.color)
    for kind in ("emission", "excitation"):
        wavelength = getattr(channel, kind)
        if wavelength is not None:
            more[f"{kind}_wavelength"] = wavelength.value
            more[f"{kind}_wavelength_unit"] = wavelength.unit
    return OmeChannel(
        id=f"Channel:{image}:{number}", name=channel.name, samples_per_pixel=1, **more
    )
