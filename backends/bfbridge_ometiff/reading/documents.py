"""An OME document for images that have none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bfbridge.ome.documents.model import document_of as build_document
from bfbridge.ome.documents.model import without_forbidden
from bfbridge_ometiff.reading.planes import ImagePlan

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["document_of"]


def document_of(plans: Sequence[ImagePlan]) -> OME:
    """Return the records as an OME document with metadata-only Pixels."""
    from ome_types import model

    document = build_document([plan.image for plan in plans])
    for plan, record in zip(plans, document.images, strict=True):
        notes = plan.notes
        record.description = _text(notes.description)
        record.acquisition_date = notes.acquired
        if notes.position is not None:
            place = dict(zip(("position_x", "position_y"), notes.position, strict=True))
            units = dict.fromkeys(
                ("position_x_unit", "position_y_unit"), model.UnitsLength.MILLIMETER
            )
            record.pixels.planes.append(model.Plane(the_z=0, the_c=0, the_t=0, **place, **units))
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
