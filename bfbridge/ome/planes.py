"""Positions and times of planes: position of the first pixel, and time step, of an image.

OME stores a position and a time for each plane. Formats with one position and one time step for
each image get those computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import Quantity
from bfbridge.errors import BadArgument
from bfbridge.ome.metadata import convert_length
from bfbridge.ome.units import TIMES

if TYPE_CHECKING:
    from ome_types import model

    from bfbridge.backend import Image

__all__ = ["corners", "first_position", "measured_time_step", "time_step_of"]

TOLERANCE: Final = 0.05
"""Intervals are regular if each differs from their mean by at most this part of it."""


def time_step_of(pixels: model.Pixels) -> Quantity | None:
    """Return the time between two time points: ``TimeIncrement``, else the regular ``DeltaT``.

    None if the metadata have neither; an increment of 0 counts as none.
    """
    if pixels.time_increment:
        return Quantity(float(pixels.time_increment), pixels.time_increment_unit.value)
    return measured_time_step(pixels)


def measured_time_step(pixels: model.Pixels) -> Quantity | None:
    """Return the mean interval of the planes' ``DeltaT`` if the intervals are regular, else None.

    Times are compared between planes of the first slice and channel. Every time point needs one.
    """
    count = pixels.size_t
    if count < 2:
        return None
    times: dict[int, Quantity] = {}
    for plane in pixels.planes:
        if plane.the_z == plane.the_c == 0 and plane.delta_t is not None:
            times[plane.the_t] = Quantity(float(plane.delta_t), _symbol(plane.delta_t_unit))
    if len(times) != count or any(t not in times for t in range(count)):
        return None
    unit = times[0].unit
    if unit not in TIMES or any(time.unit not in TIMES for time in times.values()):
        return None
    seconds = np.array([times[t].value * TIMES[times[t].unit] for t in range(count)])
    if not np.isfinite(seconds).all():
        return None
    step = float(seconds[-1] - seconds[0]) / (count - 1)
    if step <= 0 or np.abs(np.diff(seconds) - step).max() > TOLERANCE * step:
        return None
    if all(time.unit == unit for time in times.values()):
        return Quantity((times[count - 1].value - times[0].value) / (count - 1), unit)
    return Quantity(step, "s")


def first_position(pixels: model.Pixels) -> Mapping[str, Quantity]:
    """Return the position of the first plane along "x", "y" and "z"; only the known axes.

    The position along Z is that of slice 0.
    """
    if not pixels.planes:
        return {}
    first = min(pixels.planes, key=lambda plane: (plane.the_t, plane.the_c, plane.the_z))
    found = {}
    for axis in "xyz" if first.the_z == 0 else "xy":
        value = getattr(first, f"position_{axis}")
        if value is not None and math.isfinite(value):
            unit = _symbol(getattr(first, f"position_{axis}_unit"))
            found[axis] = Quantity(float(value), unit)
    return found


def corners(
    images: Sequence[Image],
    pixels: Sequence[model.Pixels | None],
    numbers: Sequence[int],
    name: str,
) -> list[tuple[float, float]]:
    """Return where images lie among each other: (y, x) of each in pixels.

    Pixel coordinates of the file come first, else the positions of the first planes are used. If no
    image has a position along one axis, and no two share one along the other, the images are taken
    to lie in one row or column.

    Parameters
    ----------
    images
        Records of the images.
    pixels
        Their Pixels elements, None where unknown; not used if every image has pixel coordinates.
    numbers, name
        Numbers of the images, and the name of the file, for messages.

    Raises
    ------
    BadArgument
        A position is missing, or its unit cannot be converted to pixels.
    """
    placements = [(at.y, at.x) for image in images if (at := image.placement) is not None]
    if len(placements) == len(images):
        return [(float(y), float(x)) for y, x in placements]
    stage = [dict(first_position(each)) if each is not None else {} for each in pixels]
    for axis, other in ("yx", "xy"):
        known = {place[other].value for place in stage if other in place}
        if len(known) == len(images) > 1 and not any(axis in place for place in stage):
            zero = {axis: Quantity(0.0, "pixel")}
            stage = [{**place, **zero} for place in stage]
    return [
        _corner(image, place, f"{name}: image {number}")
        for image, place, number in zip(images, stage, numbers, strict=True)
    ]


def _corner(image: Image, placed: Mapping[str, Quantity], where: str) -> tuple[float, float]:
    found = []
    for axis in "yx":
        pixel: Quantity | None = getattr(image.pixel_size, axis)
        position = placed.get(axis)
        if position is not None and position.unit == "pixel":
            found.append(position.value)
            continue
        if position is None or pixel is None:
            raise BadArgument(
                f"{where} has no position along {axis}, or no pixel size, so its position among "
                "other images is unknown."
            )
        try:
            found.append(convert_length(position, pixel.unit) / pixel.value)
        except BadArgument as error:
            raise BadArgument(
                f"{where} is at {axis} = {position.value:g} {position.unit}, which cannot be "
                f"converted to pixels of {pixel.value:g} {pixel.unit}, so its position among other "
                "images is unknown. If you know the unit of the stage, position_unit= "
                "(--position-unit) of convert sets it."
            ) from error
    return found[0], found[1]


def _symbol(unit: Any) -> str:
    return str(getattr(unit, "value", unit))
