"""Names, sizes and channels of an image for which both NGFF and OME-XML have metadata.

Viewers show NGFF and programs edit it, so it is preferred if it is specific: a size with a unit, a
colour, a label that is more than a number. Other values come from OME-XML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bfbridge.backend import Channel, PixelSize, Quantity
from bfbridge.ngff.omero import default_color
from bfbridge.ome.extras import convert_unit
from bfbridge_omezarr.attributes.extras import unit_of
from bfbridge_omezarr.hierarchy.ngff import channels_of, pixel_size

if TYPE_CHECKING:
    from bfbridge.ome.documents.xml import OmeImage
    from bfbridge_omezarr.hierarchy.layout import FoundImage
    from bfbridge_omezarr.hierarchy.ngff import NgffAxis

__all__ = ["channels_from", "name_from", "sizes_from", "time_step_from"]

# Default channel names of programs: "Channel 0", "C1", "0", "Channel:0:1".
_NUMBERED: Final = re.compile(r"(channel|chan|ch|c)?[\s:_.-]*\d+([:_.-]\d+)*", re.IGNORECASE)


def name_from(found: FoundImage, described: OmeImage | None) -> str | None:
    """Return an image's name: from its place in the hierarchy, else OME's, else NGFF's."""
    if found.name is not None:
        return found.name
    if described is not None and described.name:
        return described.name
    return found.multiscale.name if found.multiscale is not None else None


def sizes_from(
    found: FoundImage,
    axes: Sequence[NgffAxis],
    places: Sequence[int | None],
    described: OmeImage | None,
) -> PixelSize:
    """Return the pixel size: NGFF's with a unit, else OME's, else NGFF's without a unit."""
    if found.multiscale is None:
        return PixelSize()
    size = pixel_size(found.multiscale.scale, axes, places)
    if described is None:
        return size
    stored = described.pixel_size
    return PixelSize(**{a: _agreed(getattr(size, a), getattr(stored, a)) for a in "xyz"})


def time_step_from(
    found: FoundImage,
    axes: Sequence[NgffAxis],
    places: Sequence[int | None],
    described: OmeImage | None,
) -> Quantity | None:
    """Return the time between time points: NGFF's if it has a unit, otherwise OME's."""
    own = None
    scale = () if found.multiscale is None else found.multiscale.scale
    for value, axis, place in zip(scale, axes, places, strict=False):
        unit = unit_of(0, axis.unit) if place == 0 else None
        if unit is not None and math.isfinite(value) and value > 0:
            own = Quantity(value, unit)
    return own if described is None else _agreed(own, described.time_step)


def _agreed(ngff: Quantity | None, ome: Quantity | None) -> Quantity | None:
    """Return one of two quantities; OME's if both are equal, as OME has more units."""
    if ngff is None or ome is None:
        return ngff or ome
    if ngff.unit == "pixel":
        return ome
    value = convert_unit(ngff, ome.unit)
    return ome if value is not None and math.isclose(value, ome.value, rel_tol=1e-6) else ngff


def channels_from(found: FoundImage, described: OmeImage | None, count: int) -> tuple[Channel, ...]:
    """Return the channels; NGFF has no samples, so each sample becomes a channel."""
    named = channels_of(found.omero, count)
    stored = [c for c in described.channels for _ in range(c.samples)] if described else []
    if len(stored) != count:
        return named
    return tuple(
        Channel(
            name=_channel_name(channel, other),
            color=_channel_color(channel, other, i, count),
            emission=channel.emission,
            excitation=channel.excitation,
            window=other.window,
            active=other.active,
        )
        for i, (channel, other) in enumerate(zip(stored, named, strict=True))
    )


def _channel_name(ome: Channel, omero: Channel) -> str | None:
    definite = omero.name is not None and not _NUMBERED.fullmatch(omero.name)
    if ome.samples > 1 or not definite:
        return ome.name or omero.name
    return omero.name


def _channel_color(
    ome: Channel, omero: Channel, place: int, count: int
) -> tuple[int, int, int, int] | None:
    shown = omero.color
    if ome.samples > 1 or shown is None:
        return ome.color or shown
    if ome.color is None:
        # NGFF requires a colour; the default that bfbridge writes has no meaning.
        return None if shown == default_color(place, count) else shown
    return ome.color if ome.color[:3] == shown[:3] else shown
