"""An OME document for images that come without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bfbridge.backend import Image
from bfbridge.omexml import pixel_type_of

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["document_of"]


def document_of(images: Sequence[Image]) -> OME:
    """Return what the records say, as an OME document with metadata-only Pixels."""
    from ome_types import OME, model

    document = OME(creator="bfbridge")
    for index, image in enumerate(images):
        size_t, size_c, size_z, size_y, size_x = image.levels[0].shape
        physical: dict[str, Any] = {}
        for axis, size in zip(
            "xyz", (image.pixel_size.x, image.pixel_size.y, image.pixel_size.z), strict=True
        ):
            if size is not None:
                physical[f"physical_size_{axis}"] = size.value
                physical[f"physical_size_{axis}_unit"] = model.UnitsLength(size.unit)
        pixels = model.Pixels(
            id=f"Pixels:{index}",
            dimension_order=model.Pixels_DimensionOrder.XYCZT,
            type=model.PixelType(pixel_type_of(image.dtype)),
            big_endian=image.byteorder == ">",
            interleaved=image.interleaved,
            significant_bits=image.significant_bits,
            size_t=size_t,
            size_c=size_c,
            size_z=size_z,
            size_y=size_y,
            size_x=size_x,
            metadata_only=model.MetadataOnly(),
            channels=[
                model.Channel(id=f"Channel:{index}:{c}", samples_per_pixel=channel.samples)
                for c, channel in enumerate(image.channels)
            ],
            **physical,
        )
        document.images.append(model.Image(id=f"Image:{index}", name=image.name, pixels=pixels))
    return document
