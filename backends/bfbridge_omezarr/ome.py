"""OME metadata (ome_types) of images and plates that have none stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count, product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import PixelSize
from bfbridge.omemodel import model_from_xml
from bfbridge.omexml import pixel_type_of

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Channel as OmeChannel
    from ome_types.model import Image as OmeImageModel
    from ome_types.model import Plane as OmePlane
    from ome_types.model import Plate

    from bfbridge.backend import Channel, Image
    from bfbridge_omezarr.layout import PlateWells

__all__ = ["make_ome"]

_MOST_PLANES: Final = 16_384


def make_ome(
    images: Sequence[Image],
    xml: str | None,
    described: Sequence[object | None],
    origins: Sequence[PixelSize] = (),
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
    origins
        Where the first pixel of each image lies; they become plane positions.
    plate
        Added where `xml` has none.
    """
    from ome_types import OME

    document = OME() if xml is None else model_from_xml(xml, "OME/METADATA.ome.xml")
    document.images = [
        document.images[i]
        if xml is not None and described[i] is not None
        else _image(i, image, origins[i] if origins else PixelSize())
        for i, image in enumerate(images)
    ]
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
    """Rows or columns by name, numbered as OME does: A and 1 are 0, used or not.

    Attributes
    ----------
    numbers
        Number of each name.
    convention
        "letter", "number", or None for names that are neither; these are numbered in order.
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
    """Return the OME pixel type nearest to a dtype; OME has no float16 and no 64-bit integers."""
    known = pixel_type_of(dtype)
    if known is not None:
        return known
    return "float" if dtype == np.float16 else "double"


def _planes(image: Image, origin: PixelSize) -> list[OmePlane]:
    """Return planes with their positions; of very many, the first one only."""
    from ome_types.model import Plane

    if origin == PixelSize():
        return []
    t, c, z, _, _ = image.levels[0].shape
    known: dict[str, Any] = {}
    for axis in "xyz":
        quantity = getattr(origin, axis)
        if quantity is not None:
            known[f"position_{axis}"] = quantity.value
            known[f"position_{axis}_unit"] = quantity.unit
    step = image.pixel_size.z
    if step is None or origin.z is None or step.unit != origin.z.unit:
        step = None
    places = product(range(t), range(c), range(z)) if t * c * z <= _MOST_PLANES else [(0, 0, 0)]
    planes = []
    for the_t, the_c, the_z in places:
        if step is not None and origin.z is not None:
            known["position_z"] = origin.z.value + the_z * step.value
        planes.append(Plane(the_t=the_t, the_c=the_c, the_z=the_z, **known))
    return planes


def _image(number: int, image: Image, origin: PixelSize) -> OmeImageModel:
    from ome_types.model import Image as OmeImageModel
    from ome_types.model import MetadataOnly, Pixels

    t, c, z, y, x = image.levels[0].shape
    sizes: dict[str, Any] = {}
    for axis in "xyz":
        quantity = getattr(image.pixel_size, axis)
        if quantity is not None:
            sizes[f"physical_size_{axis}"] = quantity.value
            sizes[f"physical_size_{axis}_unit"] = quantity.unit
    pixels = Pixels(
        id=f"Pixels:{number}",
        dimension_order="XYZCT",
        type=ome_type_of(image.dtype),
        size_x=x,
        size_y=y,
        size_z=z,
        size_c=c,
        size_t=t,
        big_endian=image.byteorder == ">",
        significant_bits=image.significant_bits,
        channels=[_channel(number, i, channel) for i, channel in enumerate(image.channels)],
        planes=_planes(image, origin),
        metadata_only=MetadataOnly(),
        **sizes,
    )
    return OmeImageModel(id=f"Image:{number}", name=image.name, pixels=pixels)


def _channel(image: int, number: int, channel: Channel) -> OmeChannel:
    from ome_types.model import Channel as OmeChannel
    from ome_types.model import Color

    more: dict[str, Any] = {}
    if channel.color is not None:
        red, green, blue, alpha = channel.color
        more["color"] = Color((red, green, blue, alpha / 255))
    for kind in ("emission", "excitation"):
        wavelength = getattr(channel, kind)
        if wavelength is not None:
            more[f"{kind}_wavelength"] = wavelength.value
            more[f"{kind}_wavelength_unit"] = wavelength.unit
    return OmeChannel(
        id=f"Channel:{image}:{number}", name=channel.name, samples_per_pixel=1, **more
    )
