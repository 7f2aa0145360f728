"""Documents of a new store: Zarr arrays and groups, NGFF 0.4 and 0.5 metadata."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bfbridge.backend import Quantity
from bfbridge.ngff.units import SYMBOLS

if TYPE_CHECKING:
    from bfbridge.backend import Channel, Image, ImageSpec, Level, Shape5
    from bfbridge.ngff.compression import Compression

__all__ = [
    "Version",
    "Window",
    "array_document",
    "channel_color",
    "dimension_names",
    "fill_json",
    "group_documents",
    "label_attributes",
    "level_factors",
    "multiscale_attributes",
    "shard_shape",
    "to_json",
]

Version = Literal["0.4", "0.5"]

_NAMES: Final = {symbol: name for name, symbol in SYMBOLS.items()}
# Lengths that OME names and NGFF does not, in metres.
_IN_METRES: Final = {
    "dam": 10.0,
    "li": 0.0254 / 12,
    "ly": 9_460_730_472_580_800.0,
    "pt": 0.0254 / 72,
    "thou": 2.54e-5,
    "ua": 149_597_870_700.0,
}
_AXES: Final = (
    ("t", "time"),
    ("c", "channel"),
    ("z", "space"),
    ("y", "space"),
    ("x", "space"),
)
_LARGEST_STEP: Final = 64
# One hue per channel where the caller gives none: those that stay apart for most eyes first.
_PALETTE: Final = (
    (0, 255, 0),
    (255, 0, 255),
    (0, 255, 255),
    (255, 255, 0),
    (255, 0, 0),
    (0, 0, 255),
    (255, 128, 0),
    (255, 255, 255),
)


@dataclass(frozen=True, slots=True)
class Window:
    """Lowest and highest value seen in one channel, or None where none was."""

    low: float | None = None
    high: float | None = None

    def joined(self, other: Window) -> Window:
        """Return the window that holds both."""
        lows = [value for value in (self.low, other.low) if value is not None]
        highs = [value for value in (self.high, other.high) if value is not None]
        return Window(min(lows, default=None), max(highs, default=None))


def to_json(document: Mapping[str, Any]) -> bytes:
    """Return a document's bytes. NaN and the like are no JSON, and an error here."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()


def fill_json(value: float, dtype: np.dtype[Any]) -> Any:
    """Return a fill value as JSON has it; both versions name what JSON has no number for."""
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
    """Return name and content of an array's document.

    Parameters
    ----------
    level
        Shape and chunk, along T, C, Z, Y, X.
    dtype
        Of the pixels, in native byte order; stored little-endian.
    version
        Of NGFF: "0.4" is Zarr version 2, "0.5" version 3.
    compression
        Of every chunk.
    fill
        What absent chunks hold.
    shards
        Chunks of a shard along each axis, or None.
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


def dimension_names() -> list[str]:
    """Return the names of an array's axes, in their order."""
    return [name for name, _ in _AXES]


def shard_shape(level: Level, grid: Shape5) -> Shape5:
    """Return a shard's size in elements."""
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
    attributes: Mapping[str, Any], version: Version
) -> list[tuple[str, dict[str, Any]]]:
    """Return names and contents of a group's documents, the one that makes it an image last."""
    if version == "0.4":
        # Before 0.5 each of these carries the version itself.
        attributes = {
            name: {**value, "version": "0.4"} if name in ("plate", "well") else value
            for name, value in attributes.items()
        }
        documents: list[tuple[str, dict[str, Any]]] = [(".zgroup", {"zarr_format": 2})]
        if attributes:
            documents.append((".zattrs", dict(attributes)))
        return documents
    ome = {"version": version, **attributes}
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": ome} if attributes else {},
    }
    return [("zarr.json", document)]


def level_factors(levels: Sequence[Level]) -> list[tuple[float, ...]]:
    """Return how many level-0 elements an element of each level spans, along all five axes.

    A level whose sides are those of the level before divided by a whole number, rounded up or
    down, has that factor exactly: only the last element of a row may be made of fewer. Other steps
    have the ratio of the sizes.
    """
    factors: list[tuple[float, ...]] = [(1.0,) * 5]
    for before, level in pairwise(levels):
        step = _step(before.shape, level.shape)
        factors.append(tuple(f * s for f, s in zip(factors[-1], step, strict=True)))
    return factors


def _step(before: Shape5, after: Shape5) -> list[float]:
    pairs = list(zip(before, after, strict=True))
    changed = [pair for pair in pairs if pair[0] != pair[1]]
    for factor in range(2, _LARGEST_STEP + 1):
        if all(b in (max(1, a // factor), -(-a // factor)) for a, b in changed):
            return [1.0 if a == b else float(factor) for a, b in pairs]
    return [a / b for a, b in pairs]


def multiscale_attributes(
    spec: ImageSpec, windows: Sequence[Window], version: Version, time_step: Quantity | None
) -> dict[str, Any]:
    """Return ``multiscales`` and ``omero`` of one image.

    Parameters
    ----------
    spec
        The image.
    windows
        Values seen, for each channel.
    version
        Of NGFF.
    time_step
        Between two points of time, or None.
    """
    image = spec.image
    size = image.pixel_size
    quantities = tuple(map(_nameable, (time_step, None, size.z, size.y, size.x)))
    axes: list[dict[str, str]] = []
    for (name, kind), quantity in zip(_AXES, quantities, strict=True):
        axis = {"name": name, "type": kind}
        unit = _NAMES.get(quantity.unit) if quantity is not None else None
        if unit is not None:
            axis["unit"] = unit
        axes.append(axis)
    base = [1.0 if quantity is None else float(quantity.value) for quantity in quantities]
    entry: dict[str, Any] = {
        "name": image.name or "",
        "axes": axes,
        "datasets": [
            {"path": str(i), "coordinateTransformations": _transformations(base, factor, spec)}
            for i, factor in enumerate(level_factors(image.levels))
        ],
    }
    if not image.name:
        del entry["name"]
    if len(image.levels) > 1:
        entry["type"] = spec.downsample
        entry["metadata"] = _method(spec.downsample)
    if version == "0.4":
        entry = {"version": "0.4", **entry}
    attributes: dict[str, Any] = {"multiscales": [entry]}
    if not image.is_mask:
        attributes["omero"] = _omero(image, windows)
    return attributes


def _nameable(quantity: Quantity | None) -> Quantity | None:
    """Return a quantity in a unit that NGFF has a name for, if it is one of length or time."""
    if quantity is None or quantity.unit not in _IN_METRES:
        return quantity
    return Quantity(quantity.value * _IN_METRES[quantity.unit], "m")


def _transformations(
    base: Sequence[float], factors: Sequence[float], spec: ImageSpec
) -> list[dict[str, Any]]:
    """Scale of a level, and where its first element lies.

    The mean (and the mode) of a block stands for the block's middle, half a block from its first
    element's; nearest takes the first element itself, which stays where it was.
    """
    scale = [b * f for b, f in zip(base, factors, strict=True)]
    found: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if spec.downsample != "nearest" and any(factor != 1 for factor in factors):
        shift = [b * (f - 1) / 2 for b, f in zip(base, factors, strict=True)]
        found.append({"type": "translation", "translation": shift})
    return found


def _method(downsample: str) -> dict[str, str]:
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


def _omero(image: Image, windows: Sequence[Window]) -> dict[str, Any]:
    channels = [c for c in image.channels for _ in range(image.samples)]
    count = image.levels[0].shape[1]
    entries = []
    for i in range(count):
        channel = channels[i] if i < len(channels) else None
        window = windows[i] if i < len(windows) else Window()
        if image.samples >= 3 and image.dtype == np.uint8:
            # A window for each of red, green and blue would change their balance.
            window = Window()
        entry: dict[str, Any] = {
            "active": True,
            "coefficient": 1.0,
            "color": "{:02X}{:02X}{:02X}".format(*channel_color(channel, i, count, image.samples)),
            "family": "linear",
            "inverted": False,
            "window": _window(image, window),
        }
        if channel is not None and channel.name:
            entry["label"] = channel.name
        entries.append(entry)
    model = "color" if count > 1 else "greyscale"
    depth = image.levels[0].shape[2]
    return {
        "channels": entries,
        "rdefs": {"defaultT": 0, "defaultZ": depth // 2, "model": model},
    }


def channel_color(
    channel: Channel | None, place: int, count: int, samples: int = 1
) -> tuple[int, int, int]:
    """Return red, green and blue (0 to 255) that a channel is shown in.

    Parameters
    ----------
    channel
        Its record; its colour comes first.
    place, count
        Number of the channel (of the sample, for RGB), and how many there are.
    samples
        Of one pixel: the three of RGB are red, green and blue.
    """
    if samples >= 3:
        return ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))[min(place % samples, 3)]
    if channel is not None and channel.color is not None:
        return channel.color[:3]
    return (255, 255, 255) if count == 1 else _PALETTE[place % len(_PALETTE)]


def _window(image: Image, seen: Window) -> dict[str, float]:
    """Display window: what the type can hold, and within it what the data holds."""
    if image.dtype.kind in "iu":
        bounds = np.iinfo(image.dtype)
        low, high = float(bounds.min), float(bounds.max)
        if image.significant_bits and image.dtype.kind == "u":
            high = float(min(bounds.max, (1 << image.significant_bits) - 1))
    elif seen.low is not None and seen.high is not None:
        low, high = seen.low, seen.high
    else:
        low, high = 0.0, 1.0
    start = low if seen.low is None else max(low, seen.low)
    end = high if seen.high is None else min(high, seen.high)
    if end <= start:
        # One value only says nothing of contrast, and viewers divide by the window's width.
        start, end = low, high if high > low else low + 1
    return {"min": low, "max": max(high, end), "start": start, "end": end}


def label_attributes(version: Version, source: str | None) -> dict[str, Any]:
    """Return ``image-label`` of a mask whose image lies at the relative path `source`, if any."""
    entry: dict[str, Any] = {} if source is None else {"source": {"image": source}}
    if version == "0.4":
        entry = {"version": "0.4", **entry}
    return {"image-label": entry}
