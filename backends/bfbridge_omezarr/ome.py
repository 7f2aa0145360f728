"""OME metadata (ome_types) of images that have none stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.omexml import pixel_type_of

if TYPE_CHECKING:
    from ome_types import OME
    from ome_types.model import Channel as OmeChannel
    from ome_types.model import Image as OmeImageModel

    from bfbridge.backend import Channel, Image

__all__ = ["make_ome"]


def make_ome(images: Sequence[Image], xml: str | None, described: Sequence[object | None]) -> OME:
    """Return one OME document with an Image for each record, in order.

    Parameters
    ----------
    images
        All images of the store.
    xml
        Stored OME-XML, or None.
    described
        For each image, whether `xml` describes it (not None).
    """
    from ome_types import OME, from_xml

    if xml is None:
        return OME(images=[_image(i, image) for i, image in enumerate(images)])
    document = from_xml(xml)
    document.images = [
        document.images[i] if described[i] is not None else _image(i, image)
        for i, image in enumerate(images)
    ]
    return document


def ome_type_of(dtype: np.dtype[Any]) -> str:
    """Return the OME pixel type nearest to a dtype; OME has no float16 and no 64-bit integers."""
    known = pixel_type_of(dtype)
    if known is not None:
        return known
    return "float" if dtype == np.float16 else "double"


def _image(number: int, image: Image) -> OmeImageModel:
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
