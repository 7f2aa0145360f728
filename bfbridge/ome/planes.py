"""Positions and times of an image's planes: where its first pixel lies, and how often it was taken.

OME stores a position and a time for each plane. Formats with one position and one time step for
each image get those computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import Quantity
from bfbridge.ome.units import TIMES

if TYPE_CHECKING:
    from ome_types import model

__all__ = ["first_position", "measured_time_step", "time_step_of"]

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


def _symbol(unit: Any) -> str:
    return str(getattr(unit, "value", unit))
