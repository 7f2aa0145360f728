"""Rules of NGFF 0.4 and 0.5 for the attributes of one group, without access to other groups.

Each function yields (severity, code, place, message). The sections are those of
https://ngff.openmicroscopy.org/0.4/ and /0.5/.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from bfbridge.backend.findings import Severity
from bfbridge.ome.units import LENGTHS, TIMES, ngff_name

__all__ = [
    "Fault",
    "check_image_label",
    "check_multiscale",
    "check_omero",
    "check_plate",
    "check_well",
    "is_number",
]

_COLOR: Final = re.compile("[0-9A-Fa-f]{6}")
_NAME: Final = re.compile("[A-Za-z0-9]+")
_UNITS: Final = {
    "space": {ngff_name(unit) for unit in LENGTHS},
    "time": {ngff_name(unit) for unit in TIMES},
}


class Fault(NamedTuple):
    """One violation: its severity, the name of the check, the key in the document, and a text."""

    severity: Severity
    code: str
    place: str
    message: str


Faults = Iterator[Fault]


def is_number(value: Any) -> bool:
    """Whether a value of a document is a number that a float can represent."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return isinstance(value, float) or abs(value) <= sys.float_info.max


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# ---- multiscales


def check_multiscale(entry: Any, place: str) -> Faults:
    """Check one entry of ``multiscales`` (section "multiscales" metadata)."""
    if not isinstance(entry, Mapping):
        yield Fault("error", "ngff-multiscales", place, "it is not an object")
        return
    axes = entry.get("axes")
    if not isinstance(axes, list):
        yield Fault("error", "ngff-axes", place, "it has no list of axes")
        axes = []
    else:
        yield from _check_axes(axes, f"{place}.axes")
    datasets = entry.get("datasets")
    if not isinstance(datasets, list) or not datasets:
        yield Fault("error", "ngff-datasets", place, "it has no list of datasets")
        return
    paths = [each.get("path") for each in datasets if isinstance(each, Mapping)]
    if len({str(path) for path in paths}) != len(paths):
        yield Fault("error", "ngff-datasets", f"{place}.datasets", "a path is named twice")
    for number, dataset in enumerate(datasets):
        where = f"{place}.datasets[{number}]"
        if not isinstance(dataset, Mapping) or not isinstance(dataset.get("path"), str):
            yield Fault("error", "ngff-datasets", where, "it has no path")
            continue
        found = dataset.get("coordinateTransformations")
        yield from _check_transformations(found, len(axes), where, needed=True)
    common = entry.get("coordinateTransformations")
    if common is not None:
        yield from _check_transformations(common, len(axes), place, needed=True)


def _check_axes(axes: Sequence[Any], place: str) -> Faults:
    if not all(isinstance(axis, Mapping) and isinstance(axis.get("name"), str) for axis in axes):
        yield Fault("error", "ngff-axes", place, "an axis is not an object with a name")
        return
    if not 2 <= len(axes) <= 5:
        yield Fault("error", "ngff-axes", place, f"there are {len(axes)} axes, not 2 to 5")
    names = [axis["name"] for axis in axes]
    if len(set(names)) != len(names):
        yield Fault("error", "ngff-axes", place, f"names of axes are not unique: {names}")
    kinds = [axis.get("type") for axis in axes]
    space = kinds.count("space")
    if space not in (2, 3):
        yield Fault("error", "ngff-axes", place, f'{space} axes have the type "space", not 2 or 3')
    if kinds.count("time") > 1:
        yield Fault("error", "ngff-axes", place, 'several axes have the type "time"')
    others = [kind for kind in kinds if kind not in ("space", "time")]
    if len(others) > 1:
        yield Fault("error", "ngff-axes", place, "several axes have neither space nor time")
    rank = [{"time": 0, "space": 2}.get(str(kind), 1) for kind in kinds]
    if rank != sorted(rank):
        yield Fault(
            "error",
            "ngff-axes",
            place,
            f"the order of axes is {names}: time comes first, then the channel, then space",
        )
    spatial = [name for name, kind in zip(names, kinds, strict=True) if kind == "space"]
    if set(spatial) <= set("zyx") and spatial != sorted(spatial, key="zyx".index):
        yield Fault("warning", "ngff-axes", place, f"space axes are {spatial}, not z, y, x")
    for number, axis in enumerate(axes):
        unit, known = axis.get("unit"), _UNITS.get(str(axis.get("type")))
        if unit is not None and known is not None and unit not in known:
            yield Fault(
                "warning",
                "ngff-unit",
                f"{place}[{number}]",
                f"{unit!r:.40} is not a name of a unit of {axis['type']} in NGFF",
            )


def _check_transformations(found: Any, count: int, place: str, *, needed: bool) -> Faults:
    where = f"{place}.coordinateTransformations"
    if not isinstance(found, list) or (needed and not found):
        yield Fault("error", "ngff-transformations", place, "it has no coordinateTransformations")
        return
    kinds = [each.get("type") if isinstance(each, Mapping) else None for each in found]
    if kinds not in (["scale"], ["scale", "translation"]):
        yield Fault(
            "error",
            "ngff-transformations",
            where,
            f"the types are {kinds!r:.80}: one scale is required, then one translation may follow",
        )
    for number, each in enumerate(found):
        kind = kinds[number]
        if kind not in ("scale", "translation") or "path" in each:
            continue
        values = each.get(kind)
        at = f"{where}[{number}].{kind}"
        if not isinstance(values, list) or not all(map(is_number, values)):
            yield Fault("error", "ngff-transformations", at, "it is not a list of numbers")
        elif len(values) != count:
            yield Fault(
                "error",
                "ngff-transformations",
                at,
                f"it has {len(values)} numbers for {count} axes",
            )
        elif kind == "scale" and not all(math.isfinite(v) and v > 0 for v in values):
            yield Fault("error", "ngff-transformations", at, f"{values} are not all above zero")


# ---- omero, image-label


def check_omero(omero: Any, channels: int | None) -> Faults:
    """Check the transitional ``omero`` metadata; `channels` is the size of the channel axis."""
    listed = omero.get("channels") if isinstance(omero, Mapping) else None
    if not isinstance(listed, list):
        yield Fault("error", "ngff-omero", "omero", "it has no list of channels")
        return
    if channels is not None and len(listed) != channels:
        yield Fault(
            "warning",
            "ngff-omero",
            "omero.channels",
            f"it describes {len(listed)} channels, the arrays have {channels}",
        )
    for number, channel in enumerate(listed):
        place = f"omero.channels[{number}]"
        found = channel if isinstance(channel, Mapping) else {}
        color = found.get("color")
        if not isinstance(color, str) or not _COLOR.fullmatch(color):
            yield Fault("error", "ngff-omero", place, f"color is {color!r:.40}, not 6 hex digits")
        window = found.get("window")
        limits = window if isinstance(window, Mapping) else {}
        missing = [n for n in ("min", "max", "start", "end") if not is_number(limits.get(n))]
        if missing:
            yield Fault("error", "ngff-omero", place, f"window has no number {', '.join(missing)}")


def check_image_label(found: Any) -> Faults:
    """Check ``image-label`` (section "labels" metadata)."""
    if not isinstance(found, Mapping):
        yield Fault("error", "ngff-image-label", "image-label", "it is not an object")
        return
    for key in ("colors", "properties"):
        entries = found.get(key)
        if entries is None:
            continue
        place = f"image-label.{key}"
        if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
            yield Fault("error", "ngff-image-label", place, "it is not a list of objects")
            continue
        values = [entry.get("label-value") for entry in entries]
        if not all(map(is_number, values)):
            yield Fault("error", "ngff-image-label", place, "a label-value is not a number")
        elif len(set(values)) != len(values):
            yield Fault("error", "ngff-image-label", place, "a label-value occurs twice")
    colors = found.get("colors")
    for number, entry in enumerate(colors if isinstance(colors, list) else []):
        rgba = entry.get("rgba") if isinstance(entry, Mapping) else None
        good = isinstance(rgba, list) and len(rgba) == 4
        if rgba is not None and not (good and all(_is_whole(v) and 0 <= v <= 255 for v in rgba)):
            place = f"image-label.colors[{number}].rgba"
            yield Fault("error", "ngff-image-label", place, "it is not 4 integers from 0 to 255")


# ---- plates


def check_plate(plate: Mapping[str, Any]) -> Faults:
    """Check ``plate`` metadata."""
    names: dict[str, list[str]] = {}
    for key in ("rows", "columns"):
        entries = plate.get(key)
        listed = entries if isinstance(entries, list) else []
        names[key] = [str(e.get("name")) for e in listed if isinstance(e, Mapping)]
        if not listed or len(names[key]) != len(listed):
            yield Fault("error", "ngff-plate", f"plate.{key}", "it is not a list of names")
        if len(set(names[key])) != len(names[key]):
            yield Fault("error", "ngff-plate", f"plate.{key}", "a name occurs twice")
        bad = [name for name in names[key] if not _NAME.fullmatch(name)]
        if bad:
            yield Fault("error", "ngff-plate", f"plate.{key}", f"{bad[0]!r} is not alphanumeric")
    wells = plate.get("wells")
    if not isinstance(wells, list) or not wells:
        yield Fault("error", "ngff-plate", "plate.wells", "it lists no wells")
        return
    seen: set[str] = set()
    for number, well in enumerate(wells):
        yield from _check_place(well, names, f"plate.wells[{number}]")
        path = str(well.get("path")) if isinstance(well, Mapping) else ""
        if path in seen:
            yield Fault("error", "ngff-plate", f"plate.wells[{number}]", f"{path!r} occurs twice")
        seen.add(path)
    acquisitions = plate.get("acquisitions", [])
    listed = acquisitions if isinstance(acquisitions, list) else [None]
    ids: list[Any] = [each.get("id") if isinstance(each, Mapping) else None for each in listed]
    if not all(_is_whole(i) and i >= 0 for i in ids) or len(set(ids)) != len(ids):
        yield Fault("error", "ngff-plate", "plate.acquisitions", "ids are not unique integers")


def _check_place(well: Any, names: Mapping[str, Sequence[str]], place: str) -> Faults:
    path = well.get("path") if isinstance(well, Mapping) else None
    row, _, column = path.partition("/") if isinstance(path, str) else ("", "", "")
    if row not in names["rows"] or column not in names["columns"]:
        yield Fault("error", "ngff-plate", place, f"path {path!r:.60} is not a row and a column")
        return
    for key, names_key, name in (("rowIndex", "rows", row), ("columnIndex", "columns", column)):
        at = names[names_key].index(name)
        if well.get(key) != at:
            yield Fault(
                "error",
                "ngff-plate",
                place,
                f"{key} is {well.get(key)!r:.20}, but {name!r} is at {at}",
            )


def check_well(well: Any, acquisitions: int) -> Faults:
    """Check ``well`` metadata of a plate with this number of acquisitions."""
    images = well.get("images") if isinstance(well, Mapping) else None
    if not isinstance(images, list) or not images:
        yield Fault("error", "ngff-well", "well.images", "it lists no images")
        return
    paths = [image.get("path") if isinstance(image, Mapping) else None for image in images]
    if len(set(map(str, paths))) != len(paths):
        yield Fault("error", "ngff-well", "well.images", "a path occurs twice")
    for number, path in enumerate(paths):
        place = f"well.images[{number}]"
        if not isinstance(path, str) or not _NAME.fullmatch(path):
            yield Fault("error", "ngff-well", place, f"path {path!r:.60} is not alphanumeric")
        elif acquisitions > 1 and not _is_whole(images[number].get("acquisition")):
            yield Fault("error", "ngff-well", place, "it does not name its acquisition")
