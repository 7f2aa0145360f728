"""Positions, times and channel names of the pixels of an image, from its metadata."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Quantity
from bfbridge.errors import BadArgument, BfbridgeError
from bfbridge.ome import planes
from bfbridge.ome.metadata import convert_length
from bfbridge.ome.units import TIMES
from bfbridge.runtime.arguments import one_of

if TYPE_CHECKING:
    from ome_types import model

    from bfbridge.views import ImageView

__all__ = ["channel_labels", "coordinates", "corners", "origins", "seconds", "time_step"]

log = logging.getLogger("bfbridge")

SAMPLE_NAMES = "RGBA"


def seconds(value: float | None, unit: Any) -> float | None:
    """Convert a time to seconds; None stays None."""
    if value is None:
        return None
    return float(value) * TIMES.get(str(getattr(unit, "value", unit)), 1.0)


def pixels_of(view: ImageView) -> model.Pixels | None:
    """Return the image's Pixels element; None if the metadata cannot be read."""
    try:
        return view.ome.images[view.index].pixels
    except (BfbridgeError, ValueError, IndexError) as error:
        # The pixels can be read without the metadata.
        log.warning("%s: no positions or times, for its metadata: %s", view.source_name, error)
        return None


def channel_labels(view: ImageView) -> list[str]:
    """Return one label for each position along C: channels x samples.

    Channels without a name are numbered; samples of RGB pixels have R, G, B or A after the name.
    """
    found = []
    for number, channel in enumerate(view.channels):
        name = channel.name or f"Channel {number}"
        if channel.samples == 1:
            found.append(name)
        elif channel.samples <= len(SAMPLE_NAMES):
            found += [f"{name} {sample}" for sample in SAMPLE_NAMES[: channel.samples]]
        else:
            found += [f"{name} {sample}" for sample in range(channel.samples)]
    count = view.sizes["C"]
    return found if len(found) == count else [f"Channel {number}" for number in range(count)]


def origins(view: ImageView, pixels: model.Pixels | None) -> Mapping[str, Quantity]:
    """Return the position of the first plane in the metadata, by axis; only known axes."""
    return {} if pixels is None else planes.first_position(pixels)


def corners(views: Sequence[ImageView]) -> list[tuple[float, float]]:
    """Return where images lie among each other: (y, x) of each in pixels.

    Pixel coordinates of the file come first, else the positions of the first planes are used. If no
    image has a position along one axis, and no two share one along the other, the images are taken
    to lie in one row or column.

    Raises
    ------
    BadArgument
        A position is missing, or its unit cannot be converted to pixels.
    """
    return planes.corners(
        [view._image for view in views],
        [pixels_of(view) for view in views] if not all(v.placement for v in views) else (),
        [view.index for view in views],
        views[0].source_name if views else "",
    )


def coordinates(view: ImageView, origin: str = "file") -> dict[str, Any]:
    """Return coordinates of a view for xarray: name -> (dims, values, attributes).

    x, y and z are centres of pixels: origin + i x size. For a lower level with factor f, the centre
    of the first pixel is at (f - 1) / 2 full pixels, as defined by NGFF and ITK.

    Parameters
    ----------
    view
        The image and level.
    origin
        "file" for the first plane's position in the metadata, "zero" for 0.

    Raises
    ------
    BadArgument
        `origin` is not one of these.
    """
    one_of(origin, "origin", ("file", "zero"))
    pixels = pixels_of(view)
    placed = origins(view, pixels) if origin == "file" else {}
    full = view.levels[0]
    found: dict[str, Any] = {}
    for axis in "zyx":
        name = axis.upper()
        size: Quantity | None = getattr(full.physical_pixel_size, axis)
        step, unit = (1.0, "pixel") if size is None else size
        start = 0.0
        if size is not None and axis in placed:
            try:
                start = convert_length(placed[axis], unit)
            except BadArgument:
                log.debug("%s: position along %s has no length", view.source_name, axis)
        # The factor along z is separate: NGFF levels may also reduce z.
        factor = full.sizes[name] / view.sizes[name]
        centres = (np.arange(view.sizes[name]) + 0.5) * factor - 0.5
        found[axis] = (axis, start + centres * step, {"units": unit})
    found["c"] = ("c", channel_labels(view))
    found["t"] = _times(view, pixels)
    return found


def _times(view: ImageView, pixels: model.Pixels | None) -> tuple[Any, ...]:
    """Return the coordinate t: seconds if the metadata have times, otherwise numbers of frames.

    Measured times of the first slice and channel are used first, then the nominal interval.
    """
    count = view.sizes["T"]
    if pixels is not None:
        first = {
            plane.the_t: seconds(plane.delta_t, plane.delta_t_unit)
            for plane in pixels.planes
            if plane.the_z == 0 and plane.the_c == 0
        }
        times = [first.get(t) for t in range(count)]
        if None not in times:
            return ("t", np.array(times, np.float64), {"units": "s"})
        step = seconds(pixels.time_increment, pixels.time_increment_unit)
        if step:
            return ("t", np.arange(count) * step, {"units": "s"})
    return ("t", np.arange(count), {"units": "frame"})


def time_step(view: ImageView) -> timedelta | None:
    """Return the time between time points: the nominal interval, else the mean of measured ones.

    None if the metadata have neither; an interval of 0 counts as none.
    """
    pixels = pixels_of(view)
    if pixels is None:
        return None
    step = seconds(pixels.time_increment, pixels.time_increment_unit)
    if not step:
        _, times, attributes = _times(view, pixels)
        known = attributes["units"] == "s" and len(times) > 1
        step = (times[-1] - times[0]) / (len(times) - 1) if known else None
    return timedelta(seconds=step) if step else None
