"""An OME document for images that come without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bfbridge.omemodel import without_forbidden
from bfbridge.omexml import pixel_type_of
from bfbridge_ometiff.planes import ImagePlan

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["document_of"]


def document_of(plans: Sequence[ImagePlan]) -> OME:
    """Return what the records say, as an OME document with metadata-only Pixels."""
    from ome_types import OME, model

    document = OME(creator="bfbridge")
    for index, plan in enumerate(plans):
        image, notes = plan.image, plan.notes
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
        record = model.Image(
            id=f"Image:{index}",
            name=_text(image.name),
            description=_text(notes.description),
            acquisition_date=notes.acquired,
            pixels=pixels,
        )
        document.images.append(record)
        if notes.position is not None:
            place = dict(zip(("position_x", "position_y"), notes.position, strict=True))
            units = dict.fromkeys(
                ("position_x_unit", "position_y_unit"), model.UnitsLength.MILLIMETER
            )
            pixels.planes.append(model.Plane(the_z=0, the_c=0, the_t=0, **place, **units))
        if notes.magnification is not None:
            number = len(document.instruments)
            objective = model.Objective(
                id=f"Objective:{number}:0", nominal_magnification=notes.magnification
            )
            document.instruments.append(
                model.Instrument(id=f"Instrument:{number}", objectives=[objective])
            )
            record.instrument_ref = model.InstrumentRef(id=f"Instrument:{number}")
            record.objective_settings = model.ObjectiveSettings(id=objective.id)
    return document


def _text(text: str | None) -> str | None:
    return None if text is None else without_forbidden(text)
