"""Times and positions of the planes of an image, from its metadata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bfbridge.analysis.coordinates import pixels_of
from bfbridge.backend import Quantity

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["PlaneRecord", "planes_of"]


@dataclass(frozen=True, slots=True)
class PlaneRecord:
    """One plane: a slice of one channel at one time.

    Attributes
    ----------
    z, c, t
        Position of the plane. `c` counts channels; an RGB channel is one.
    time
        When it was taken, from the start of the acquisition (``DeltaT``), or None.
    exposure
        How long it was exposed, or None.
    x, y, z_position
        Position of the stage, or None.
    """

    z: int
    c: int
    t: int
    time: Quantity | None = None
    exposure: Quantity | None = None
    x: Quantity | None = None
    y: Quantity | None = None
    z_position: Quantity | None = None


def planes_of(view: ImageView) -> list[PlaneRecord]:
    """Return the planes that the metadata describe, ordered by t, c and z."""
    pixels = pixels_of(view)
    found = [
        PlaneRecord(
            z=plane.the_z, c=plane.the_c, t=plane.the_t,
            time=_quantity(plane, "delta_t"),
            exposure=_quantity(plane, "exposure_time"),
            x=_quantity(plane, "position_x"),
            y=_quantity(plane, "position_y"),
            z_position=_quantity(plane, "position_z"),
        )
        for plane in (pixels.planes if pixels is not None else ())
    ]  # fmt: skip
    return sorted(found, key=lambda plane: (plane.t, plane.c, plane.z))


def _quantity(plane: Any, name: str) -> Quantity | None:
    value, unit = getattr(plane, name), getattr(plane, f"{name}_unit")
    return None if value is None else Quantity(float(value), str(getattr(unit, "value", unit)))
