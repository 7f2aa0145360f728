"""NGFF metadata of one image, versions 0.1 to 0.6, converted to records.

Differences between the versions:

====== ==================================== =========================================
0.1-2  five axes t, c, z, y, x, unnamed      no sizes
0.3    ``axes`` a list of names              no sizes
0.4    ``axes`` with type and unit           ``coordinateTransformations`` of each level
0.5    as 0.4, under the attribute "ome"
0.6    axes in ``coordinateSystems``         transformations with input and output; images
                                             side by side in a ``scene``
====== ==================================== =========================================
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bfbridge.backend import AXES, Channel, PixelSize, Quantity
from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.ome.units import length_symbol

__all__ = [
    "Multiscale",
    "NgffAxis",
    "channels_of",
    "clean_text",
    "map_axes",
    "parse_multiscale",
    "pixel_size",
    "vector",
]

log = logging.getLogger("bfbridge")

_APPLIED: Final = frozenset({"scale", "translation", "identity"})
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class NgffAxis:
    """One axis of an image: its name in lower case, its type and unit as stored, or None."""

    name: str
    type: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One image.

    Attributes
    ----------
    name
        As stored, or None.
    version
        As stored, or None.
    axes
        In the order of the arrays; empty if the version has none (0.1, 0.2).
    paths
        Paths of the levels' arrays in the document, full size first.
    scale
        Size of a level-0 element along each of `axes`; empty if not stored.
    origin
        Position of the first level-0 element along each of `axes`; empty if not stored.
    method
        Downsampling method of lower levels, as stored ("type"), or None.
    shifts
        For each level, the position of its first element relative to that of level 0, in elements
        of level 0 along each of `axes`; empty if the levels' scales are not stored.
    stored
        The whole entry.
    """

    name: str | None
    version: str | None
    axes: tuple[NgffAxis, ...]
    paths: tuple[str, ...]
    scale: tuple[float, ...]
    origin: tuple[float, ...] = ()
    method: str | None = None
    shifts: tuple[tuple[float, ...], ...] = ()
    stored: Mapping[str, Any] = field(default_factory=dict, repr=False)


def parse_multiscale(entry: Any, where: str) -> Multiscale:
    """Check one entry of ``multiscales``.

    Raises
    ------
    UnreadableFile
        It is not the description of an image.
    """
    if not isinstance(entry, dict):
        raise UnreadableFile(f"{where}: an entry of multiscales is no JSON object.")
    datasets = entry.get("datasets")
    if not isinstance(datasets, list) or not datasets:
        raise UnreadableFile(f"{where}: multiscales has no datasets, so there are no pixels.")
    paths = []
    for dataset in datasets:
        path = dataset.get("path") if isinstance(dataset, dict) else None
        if not isinstance(path, str):
            raise UnreadableFile(f"{where}: a dataset of multiscales has no path.")
        paths.append(path)
    axes = _axes(entry, where)
    own = datasets[0].get("coordinateTransformations")
    # Since 0.6, later transformations of a level lead to other coordinate systems.
    common = None if "coordinateSystems" in entry else entry.get("coordinateTransformations")
    inner, outer = (vector(found, "scale", len(axes)) for found in (own, common))
    scale = tuple(a * b for a, b in zip(inner, outer, strict=True)) if inner and outer else inner
    ignored = _types(own) - _APPLIED
    if ignored:
        log.warning(
            "%s: the transformations of the type %s are not applied: pixel sizes and positions are "
            "those without them",
            where,
            ", ".join(sorted(ignored)),
        )
    name, version, method = (entry.get(key) for key in ("name", "version", "type"))
    return Multiscale(
        name=clean_text(name) if isinstance(name, str) and name else None,
        version=str(version) if version is not None else None,
        axes=axes,
        paths=tuple(paths),
        scale=scale or outer,
        origin=_origin(own, common, len(axes)),
        method=method if isinstance(method, str) else None,
        shifts=_shifts(datasets, len(axes)),
        stored=entry,
    )


def _shifts(datasets: Sequence[Mapping[str, Any]], ndim: int) -> tuple[tuple[float, ...], ...]:
    lists = [dataset.get("coordinateTransformations") for dataset in datasets]
    step = vector(lists[0], "scale", ndim)
    if not step or not all(math.isfinite(size) and size for size in step):
        return ()
    places = [vector(found, "translation", ndim) or (0.0,) * ndim for found in lists]
    shifts = tuple(
        tuple((a - b) / size for a, b, size in zip(place, places[0], step, strict=True))
        for place in places
    )
    return shifts if all(math.isfinite(value) for shift in shifts for value in shift) else ()


def _axes(entry: Mapping[str, Any], where: str) -> tuple[NgffAxis, ...]:
    found = entry.get("axes")
    if found is None:
        found = _intrinsic(entry).get("axes")
    if found is None:
        return ()
    if not isinstance(found, list):
        raise UnreadableFile(f"{where}: axes is no list.")
    axes = []
    for axis in found:
        if isinstance(axis, str):
            axes.append(NgffAxis(axis.lower()))
        elif isinstance(axis, dict) and isinstance(axis.get("name"), str):
            kind, unit = axis.get("type"), axis.get("unit")
            axes.append(
                NgffAxis(
                    axis["name"].lower(),
                    kind if isinstance(kind, str) else None,
                    unit if isinstance(unit, str) else None,
                )
            )
        else:
            raise UnreadableFile(f"{where}: {axis!r:.60} is no axis.")
    return tuple(axes)


def _intrinsic(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the target coordinate system of the levels' own transformations (0.6).

    It may be any of those listed; others may have the same axes in another order.
    """
    listed = entry.get("coordinateSystems")
    systems = [s for s in listed if isinstance(s, dict)] if isinstance(listed, list) else []
    transformations = entry["datasets"][0].get("coordinateTransformations")
    last = transformations[-1] if isinstance(transformations, list) and transformations else None
    output = last.get("output") if isinstance(last, dict) else None
    # The release candidate has {"name": ...}, earlier versions only the name.
    name = output.get("name") if isinstance(output, dict) else output
    named = (system for system in systems if name is not None and system.get("name") == name)
    return next(named, systems[0] if systems else {})


def _types(transformations: Any) -> set[str]:
    """Return the types of transformations, also of those in sequences."""
    found: set[str] = set()
    for item in transformations if isinstance(transformations, list) else ():
        if isinstance(item, dict):
            inner = item.get("transformations") if item.get("type") == "sequence" else None
            found |= {str(item.get("type"))} if inner is None else _types(inner)
    return found


def vector(transformations: Any, kind: str, ndim: int) -> tuple[float, ...]:
    """Return the "scale" or "translation" of a list of transformations; empty without one.

    The identity counts as a scale of 1.
    """
    if not isinstance(transformations, list):
        return ()
    identity = False
    for item in transformations:
        if not isinstance(item, dict):
            continue
        identity |= item.get("type") == "identity"
        if item.get("type") == "sequence":
            found = vector(item.get("transformations"), kind, ndim)
            if found:
                return found
        values = item.get(kind)
        if item.get("type") == kind and isinstance(values, list) and len(values) == ndim:
            try:
                return tuple(float(value) for value in values)
            except (TypeError, ValueError, OverflowError):
                return ()
    return (1.0,) * ndim if identity and kind == "scale" else ()


def _origin(own: Any, common: Any, ndim: int) -> tuple[float, ...]:
    """Return the position of the first element after a level's and the common transformations.

    A translation is applied after the scale of the same list, as in the specification.
    """
    inner, outer = (vector(found, "translation", ndim) for found in (own, common))
    factor = vector(common, "scale", ndim) or (1.0,) * ndim
    moved = tuple(a * f for a, f in zip(inner, factor, strict=True)) if inner else ()
    if not moved or not outer:
        return moved or outer
    return tuple(a + b for a, b in zip(moved, outer, strict=True))


def map_axes(axes: Sequence[NgffAxis], shape: Sequence[int], where: str) -> tuple[int | None, ...]:
    """Return which of T, C, Z, Y, X each axis of an array is; None for an axis to omit.

    Types have priority over names. Space axes are identified by their names z, y, x, otherwise by
    their order. An axis of a custom type is used as channel axis if there is none, as in version
    0.4 of the specification; further custom axes are omitted if their length is 1.

    Raises
    ------
    Unsupported
        An axis is none of the five, and longer than 1.
    UnreadableFile
        The axes do not fit the array.
    """
    if len(axes) != len(shape):
        raise UnreadableFile(
            f"{where}: {len(axes)} axes are named for an array of {len(shape)} dimensions."
        )
    places = _places(axes)
    for axis, place, size in zip(axes, places, shape, strict=True):
        if place is None and size != 1:
            raise Unsupported(
                f"the axis {axis.name!r} of length {size}, beside time, channel, z, y and x"
            )
    used = [place for place in places if place is not None]
    if len(set(used)) != len(used):
        raise UnreadableFile(f"{where}: two axes are the same: {[axis.name for axis in axes]}.")
    if 3 not in used or 4 not in used:
        raise Unsupported(f"axes {[axis.name for axis in axes]} without y and x")
    return tuple(places)


def _places(axes: Sequence[NgffAxis]) -> list[int | None]:
    """Assign each axis by its type, then by its name; a remaining one may be the channel axis."""
    places: list[int | None] = [None] * len(axes)
    space = [i for i, axis in enumerate(axes) if axis.type == "space"]
    if not {axes[i].name for i in space} <= set("zyx"):
        for i, place in zip(reversed(space), (4, 3, 2), strict=False):
            places[i] = place
    for i, axis in enumerate(axes):
        if places[i] is not None:
            continue
        if axis.type in ("time", "channel"):
            places[i] = 0 if axis.type == "time" else 1
        elif len(axis.name) == 1 and axis.name in "tczyx":
            places[i] = AXES.index(axis.name.upper())
    for i, axis in enumerate(axes):
        if places[i] is None and 1 not in places and axis.type != "space":
            places[i] = 1
    return places


def pixel_size(
    scale: Sequence[float], axes: Sequence[NgffAxis], places: Sequence[int | None]
) -> PixelSize:
    """Return the size of a pixel.

    A scale of 1 without a unit has no meaning, so there is no size. Another scale without a unit
    has the unit "pixel", because the file does not state a length.
    """
    found: dict[str, Quantity] = {}
    for value, axis, place in zip(scale, axes, places, strict=False):
        if place is None or place < 2 or not math.isfinite(value) or value <= 0:
            continue
        unit = length_symbol(axis.unit or "")
        if unit is None and value == 1:
            continue
        found[AXES[place].lower()] = Quantity(value, unit or "pixel")
    return PixelSize(**found)


def clean_text(text: str) -> str:
    """Return a name in which characters invalid in XML or UTF-8 (NUL, surrogates) are replaced."""
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def channels_of(omero: Any, count: int) -> tuple[Channel, ...]:
    """Return `count` channels, with the metadata of an ``omero`` block."""
    listed = omero.get("channels") if isinstance(omero, dict) else None
    entries = listed if isinstance(listed, list) else []
    channels = []
    for entry in entries[:count]:
        known = entry if isinstance(entry, dict) else {}
        label = known.get("label")
        # Some programs store numbers as channel labels.
        text = str(label) if isinstance(label, (str, int)) and label is not True else ""
        channels.append(
            Channel(
                name=clean_text(text) or None,
                color=_color(known.get("color")),
                window=_window(known.get("window")),
                active=known.get("active") is not False,
            )
        )
    return (*channels, *(Channel(),) * (count - len(channels)))


def _window(value: Any) -> tuple[float, float] | None:
    found = value if isinstance(value, dict) else {}
    start, end = found.get("start"), found.get("end")
    if not isinstance(start, (int, float)) or not isinstance(end, (int, float)):
        return None
    try:
        low, high = float(start), float(end)
    except OverflowError:
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def _color(value: Any) -> tuple[int, int, int, int] | None:
    if not isinstance(value, str):
        return None
    digits = value.removeprefix("#")
    if len(digits) not in (6, 8):
        return None
    try:
        parts = bytes.fromhex(digits)
    except ValueError:
        return None
    red, green, blue, alpha = (*parts, 255) if len(parts) == 3 else parts
    return red, green, blue, alpha
