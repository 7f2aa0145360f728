"""Documents of a new store: Zarr arrays and groups, NGFF 0.4 and 0.5 metadata."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bfbridge.backend import Quantity
from bfbridge.ngff.omero import omero_block
from bfbridge.ome.extras import convert_unit
from bfbridge.ome.units import LENGTHS, TIMES, ngff_name
from bfbridge.runtime.json_text import indented_json

if TYPE_CHECKING:
    from bfbridge.backend import ImageSpec, Level, Shape5
    from bfbridge.ngff.compression import Compression
    from bfbridge.ngff.omero import Window

__all__ = [
    "Version",
    "array_document",
    "dimension_names",
    "fill_json",
    "group_documents",
    "kept_axes",
    "label_attributes",
    "level_factors",
    "method_of",
    "multiscale_attributes",
    "multiscales_without_axes",
    "shard_shape",
    "to_json",
    "without_axes",
]

Version = Literal["0.4", "0.5"]

_AXES: Final = (
    ("t", "time"),
    ("c", "channel"),
    ("z", "space"),
    ("y", "space"),
    ("x", "space"),
)
_LARGEST_STEP: Final = 64


def to_json(document: Mapping[str, Any]) -> bytes:
    """Return a document's bytes. NaN and infinities are not valid JSON: they raise an error."""
    return indented_json(document).encode()


def fill_json(value: float, dtype: np.dtype[Any]) -> Any:
    """Return a fill value for JSON; both versions have names for values that JSON lacks."""
    if dtype.kind == "b":
        return bool(value)
    if dtype.kind in "iu":
        return int(value)
    if dtype.kind == "c":
        return [_real(float(value)), 0.0]
    return _real(float(value))


def _real(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def array_document(
    level: Level,
    dtype: np.dtype[Any],
    version: Version,
    compression: Compression,
    *,
    fill: float = 0,
    shards: Shape5 | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return the name and content of an array's document.

    Parameters
    ----------
    level
        Shape and chunk along T, C, Z, Y, X.
    dtype
        Dtype of the pixels, in native byte order; stored little-endian.
    version
        Version of NGFF: "0.4" uses Zarr version 2, "0.5" version 3.
    compression
        Compression of every chunk.
    fill
        Value of chunks that are not stored.
    shards
        Number of chunks of a shard along each axis, or None.
    """
    if version == "0.4":
        return ".zarray", {
            "zarr_format": 2,
            "shape": list(level.shape),
            "chunks": list(level.chunk),
            "dtype": dtype.newbyteorder("<").str,
            "compressor": compression.v2,
            "fill_value": fill_json(fill, dtype),
            "order": "C",
            "filters": None,
            "dimension_separator": "/",
        }
    codecs = compression.v3(dtype.itemsize)
    outer = level.chunk
    if shards is not None:
        codecs = [_sharding(level.chunk, codecs)]
        outer = shard_shape(level, shards)
    return "zarr.json", {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(level.shape),
        "data_type": dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(outer)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill_json(fill, dtype),
        "codecs": codecs,
        "attributes": {},
        "dimension_names": dimension_names(),
    }


def kept_axes(shape: Shape5) -> tuple[int, ...]:
    """Return the places of the axes that are written if those of length 1 are dropped.

    NGFF requires two axes of type space, so Y and X are always written.
    """
    return tuple(place for place, size in enumerate(shape) if size > 1 or place >= 3)


def without_axes(document: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Return an array's document with some of the five axes only.

    The bytes of chunks stay the same, because the other axes have length 1.
    """
    found = dict(document)
    for name in ("shape", "chunks", "dimension_names"):
        if name in found:
            found[name] = [found[name][place] for place in kept]
    if "chunk_grid" in found:
        found["chunk_grid"] = _with_chunk(found["chunk_grid"], kept)
        found["codecs"] = [
            _with_chunk(codec, kept) if codec["name"] == "sharding_indexed" else codec
            for codec in found["codecs"]
        ]
    return found


def _with_chunk(entry: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    settings = dict(entry["configuration"])
    settings["chunk_shape"] = [settings["chunk_shape"][place] for place in kept]
    return {**entry, "configuration": settings}


def multiscales_without_axes(attributes: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Return the attributes of an image with some of the five axes only."""
    (entry,) = attributes["multiscales"]
    datasets = []
    for dataset in entry["datasets"]:
        transforms = [
            {"type": kind, kind: [transform[kind][place] for place in kept]}
            for transform in dataset["coordinateTransformations"]
            for kind in [transform["type"]]
        ]
        # A translation along a dropped axis may have been the only one.
        transforms = [t for t in transforms if t["type"] == "scale" or any(t["translation"])]
        datasets.append({**dataset, "coordinateTransformations": transforms})
    axes = [entry["axes"][place] for place in kept]
    return {**attributes, "multiscales": [{**entry, "axes": axes, "datasets": datasets}]}


def dimension_names() -> list[str]:
    """Return the names of an array's axes, in order."""
    return [name for name, _ in _AXES]


def shard_shape(level: Level, grid: Shape5) -> Shape5:
    """Return the size of a shard in elements."""
    t, c, z, y, x = (n * size for n, size in zip(grid, level.chunk, strict=True))
    return t, c, z, y, x


def _sharding(chunk: Shape5, codecs: list[dict[str, Any]]) -> dict[str, Any]:
    index: list[dict[str, Any]] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "crc32c"},
    ]
    return {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": list(chunk),
            "codecs": codecs,
            "index_codecs": index,
            "index_location": "end",
        },
    }


def group_documents(
    attributes: Mapping[str, Any], version: Version, others: Mapping[str, Any] | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and contents of a group's documents; the one that makes it an image is last.

    Parameters
    ----------
    attributes
        Attributes of NGFF.
    version
        Version of NGFF.
    others
        Attributes that do not belong to NGFF.
    """
    others = others or {}
    if version == "0.4":
        # Before 0.5 each of these contains the version.
        attributes = {
            name: {**value, "version": "0.4"} if name in ("plate", "well") else value
            for name, value in attributes.items()
        }
        documents: list[tuple[str, dict[str, Any]]] = [(".zgroup", {"zarr_format": 2})]
        if attributes or others:
            documents.append((".zattrs", {**others, **attributes}))
        return documents
    ome = {"version": version, **attributes}
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {**others, **({"ome": ome} if attributes else {})},
    }
    return [("zarr.json", document)]


def level_factors(levels: Sequence[Level]) -> list[tuple[float, ...]]:
    """Return the size of an element of each level in level-0 elements, along all five axes.

    If the sides of a level are those of the level before divided by a whole number, rounded up or
    down, the factor is exactly this number: only the last element of a row may cover fewer. Other
    steps have the ratio of the sizes.
    """
    factors: list[tuple[float, ...]] = [(1.0,) * 5]
    for before, level in pairwise(levels):
        step = _step(before.shape, level.shape)
        factors.append(tuple(f * s for f, s in zip(factors[-1], step, strict=True)))
    return factors


def _step(before: Shape5, after: Shape5) -> list[float]:
    pairs = list(zip(before, after, strict=True))
    in_plane = _common_factor(pairs[3:])
    if in_plane is None:
        return [_common_factor([pair]) or pair[0] / pair[1] for pair in pairs]
    # A short axis may fit several factors; the one of Y and X is the most likely.
    others = (
        in_plane if in_plane > 1 and _fits(pair, int(in_plane)) and pair[0] != pair[1]
        else _common_factor([pair]) or pair[0] / pair[1]
        for pair in pairs[:3]
    )  # fmt: skip
    return [*others, *(1.0 if a == b else in_plane for a, b in pairs[3:])]


def _common_factor(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Return the whole number by which all sizes that differ were divided; None without one."""
    changed = [pair for pair in pairs if pair[0] != pair[1]]
    fitting = (
        float(factor)
        for factor in range(2, _LARGEST_STEP + 1)
        if all(_fits(pair, factor) for pair in changed)
    )
    return next(fitting, None) if changed else 1.0


def _fits(pair: tuple[int, int], factor: int) -> bool:
    before, after = pair
    return after in (max(1, before // factor), -(-before // factor))


def multiscale_attributes(
    spec: ImageSpec, windows: Sequence[Window], version: Version, time_step: Quantity | None
) -> dict[str, Any]:
    """Return ``multiscales`` and ``omero`` of one image, with the entries of its source.

    Parameters
    ----------
    spec
        The image.
    windows
        Values seen in each channel.
    version
        Version of NGFF.
    time_step
        Time between two time points, or None.
    """
    image = spec.image
    size = image.pixel_size
    quantities = tuple(map(_nameable, (time_step, None, size.z, size.y, size.x)))
    values = _mappings(spec.extras.other)
    axes: list[dict[str, Any]] = []
    for (name, kind), quantity in zip(_AXES, quantities, strict=True):
        axis = {**_mapping(values["axes"].get(name)), "name": name, "type": kind}
        unit = ngff_name(quantity.unit) if quantity is not None else None
        if unit is not None:
            axis["unit"] = unit
        axes.append(axis)
    base = [1.0 if quantity is None else float(quantity.value) for quantity in quantities]
    copied = len(image.levels) > 1 and all(map(spec.copied, range(len(image.levels))))
    origin = _origin(spec.extras.origin, quantities)
    shifts = _shifts(spec, copied)
    entry: dict[str, Any] = {
        **_others(values["multiscale"], () if copied else ("metadata", "type")),
        "axes": axes,
        "datasets": [
            {"path": str(i), "coordinateTransformations": _placed(base, factor, shift, origin)}
            for i, (factor, shift) in enumerate(
                zip(level_factors(image.levels), shifts, strict=True)
            )
        ],
    }
    if image.name:
        entry = {"name": image.name, **entry}
    if len(image.levels) > 1 and not copied:
        entry["type"] = spec.downsample
        entry["metadata"] = method_of(spec.downsample)
    if version == "0.4":
        entry = {"version": "0.4", **entry}
    attributes: dict[str, Any] = {**values["ome"], "multiscales": [entry]}
    if not image.is_mask:
        attributes["omero"] = {
            **_others(values["omero"], ("channels", "version")),
            **omero_block(spec, windows),
        }
    return attributes


def _nameable(quantity: Quantity | None) -> Quantity | None:
    """Return a quantity in a unit that NGFF has a name for, if it is a length or a time."""
    if quantity is None or ngff_name(quantity.unit) is not None:
        return quantity
    for units, base in ((LENGTHS, "m"), (TIMES, "s")):
        if quantity.unit in units:
            return Quantity(quantity.value * units[quantity.unit], base)
    return quantity


def _placed(
    base: Sequence[float],
    factors: Sequence[float],
    shift: Sequence[float],
    origin: Sequence[float],
) -> list[dict[str, Any]]:
    """Return the scale of a level, and the position of its first element.

    Parameters
    ----------
    base
        Size of a level-0 element.
    factors, shift
        Size of the level's elements, and position of the first one, in level-0 elements.
    origin
        Position of the first level-0 element.
    """
    scale = [b * f for b, f in zip(base, factors, strict=True)]
    found: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    place = [o + b * s for o, b, s in zip(origin, base, shift, strict=True)]
    if any(place):
        found.append({"type": "translation", "translation": place})
    return found


def _shifts(spec: ImageSpec, copied: bool) -> list[Sequence[float]]:
    """Return the position of each level's first element, in level-0 elements.

    The mean (and the mode) of a block belongs to the block's centre, half a block from its first
    element; "nearest" takes the first element itself, at its position. Copied levels have the
    positions that the source gives.
    """
    levels = spec.image.levels
    if copied:
        stored = spec.extras.other.get("shifts")
        known = stored if isinstance(stored, (list, tuple)) and len(stored) == len(levels) else []
        places = [_mapping(shift) for shift in known] or [{} for _ in levels]
        return [[_number(place.get(name)) or 0.0 for name, _ in _AXES] for place in places]
    if spec.downsample == "nearest":
        return [[0.0] * 5 for _ in levels]
    return [[(factor - 1) / 2 for factor in factors] for factors in level_factors(levels)]


def _origin(origin: Mapping[str, Quantity], quantities: Sequence[Quantity | None]) -> list[float]:
    """Return the position of the first element in the units of the axes; 0 if unknown."""
    found = []
    for (name, _), quantity in zip(_AXES, quantities, strict=True):
        place = origin.get(name)
        value = None
        if place is not None:
            unit = None if quantity is None else ngff_name(quantity.unit) and quantity.unit
            framed = unit is None and place.unit == "reference frame"
            value = place.value if framed else convert_unit(place, unit)
            if value is None and place.unit == "pixel" and quantity is not None:
                value = place.value * quantity.value
        found.append(value or 0.0)
    return found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(other: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the parts of a source's metadata that are restored; each may be missing or invalid."""
    return {name: _mapping(other.get(name)) for name in ("axes", "multiscale", "ome", "omero")}


def _others(values: Mapping[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in left_out}


def _number(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known and abs(value) < 1e300 else None


def method_of(downsample: str) -> dict[str, str]:
    """Return ``metadata`` of an image whose lower levels were computed with a method."""
    try:
        version = importlib.metadata.version("bfbridge")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return {
        "description": {
            "mean": "Each element is the mean of a block of the level above.",
            "mode": "Each element is the most frequent value of a block of the level above.",
            "nearest": "Each element is the first one of a block of the level above.",
        }.get(downsample, downsample),
        "method": f"bfbridge.{downsample}",
        "version": version,
    }


def label_attributes(spec: ImageSpec, version: Version, source: str | None) -> dict[str, Any]:
    """Return ``image-label`` of a mask of the image at the relative path `source`, if any.

    Colours and properties of its labels are those of its source.
    """
    values = _mapping(spec.extras.other.get("image-label"))
    entry = _others(values, ("version", "source"))
    if source is not None:
        entry["source"] = {"image": source}
    if version == "0.4":
        entry = {"version": "0.4", **entry}
    return {"image-label": entry}
