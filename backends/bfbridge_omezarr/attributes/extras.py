"""Metadata in NGFF's documents that neither the record nor the OME model contains.

Metadata read from one store are passed to the next writer; when written to a store, they are put
back into their original places. Keys that describe the layout of the store, and those that the
writer computes from the pixels, are not copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bfbridge.backend import AXES, Extras, Quantity
from bfbridge.ome.extras import clean_json
from bfbridge.ome.units import length_symbol, time_symbol

if TYPE_CHECKING:
    from bfbridge_omezarr.hierarchy.layout import FoundImage

__all__ = ["extras_of", "unit_of"]

_LAYOUT: Final = frozenset(
    {"bioformats2raw.layout", "image-label", "labels", "multiscales", "ome", "omero", "plate"}
    | {"scene", "series", "version", "well"}
)
_MULTISCALE: Final = frozenset(
    {"axes", "coordinateSystems", "coordinateTransformations", "datasets", "name", "version"}
)
_AXIS: Final = frozenset({"name", "type", "unit"})


def unit_of(place: int, unit: str | None) -> str | None:
    """Return OME's symbol of an axis's unit; None for an unknown unit or another quantity.

    Parameters
    ----------
    place
        Which of T, C, Z, Y, X the axis is.
    unit
        As stored.
    """
    if unit is None or place == 1:
        return None
    return time_symbol(unit) if place == 0 else length_symbol(unit)


def extras_of(found: FoundImage, places: Sequence[int | None], count: int) -> Extras:
    """Return the metadata of an image in addition to its record.

    Parameters
    ----------
    found
        The image.
    places
        For each axis, which of T, C, Z, Y, X it is.
    count
        Number of channels.
    """
    multiscale, node = found.multiscale, found.node
    if multiscale is None or node is None:
        return Extras()
    entry = multiscale.stored
    omero = found.omero if isinstance(found.omero, dict) else {}
    other = {
        "omero": _others(omero, frozenset({"channels", "version"})),
        "multiscale": _others(entry, _MULTISCALE),
        "axes": _axes(entry, multiscale.axes, places),
        "shifts": _shifts(multiscale.shifts, places),
        "attributes": _others(node.attributes, _LAYOUT),
        "ome": _others(node.ome, _LAYOUT) if node.ome is not node.attributes else {},
        "image-label": _others(node.ome.get("image-label"), frozenset({"source", "version"})),
    }
    return Extras(
        channels=_channels(omero.get("channels"), count),
        origin={
            AXES[place].lower(): Quantity(value, unit_of(place, axis.unit) or "reference frame")
            for value, axis, place in zip(multiscale.origin, multiscale.axes, places, strict=False)
            if place not in (None, 1) and math.isfinite(value)
        },
        other={name: clean_json(value) for name, value in other.items() if value},
    )


def _others(value: Any, known: frozenset[str]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    return {key: item for key, item in value.items() if key not in known}


def _channels(listed: Any, count: int) -> tuple[Mapping[str, Any], ...]:
    """Return the display settings of each channel, except its name and colour."""
    entries = listed[:count] if isinstance(listed, list) else []
    found = [
        {
            key: clean_json(value)
            for key, value in (entry if isinstance(entry, dict) else {}).items()
            if key not in ("color", "label")
        }
        for entry in entries
    ]
    if not any(found):
        return ()
    return (*found, *({} for _ in range(count - len(found))))


def _axes(entry: Mapping[str, Any], axes: Any, places: Sequence[int | None]) -> dict[str, Any]:
    """Return the keys of the axes except name, type and unit, by their letters."""
    stored = entry.get("axes")
    if not isinstance(stored, list) or len(stored) != len(axes):
        return {}
    found = {
        AXES[place].lower(): _others(axis, _AXIS)
        for axis, place in zip(stored, places, strict=False)
        if place is not None
    }
    return {letter: keys for letter, keys in found.items() if keys}


def _shifts(
    shifts: Sequence[Sequence[float]], places: Sequence[int | None]
) -> list[dict[str, float]]:
    """Return, for each level, the position of its first element, in level-0 elements."""
    found = [
        {
            AXES[place].lower(): value
            for value, place in zip(shift, places, strict=False)
            if place is not None and value
        }
        for shift in shifts
    ]
    return found if len(found) > 1 else []
