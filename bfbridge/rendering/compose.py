"""Conversion of pixels to colours: a colour table per channel, then one picture of all channels.

Pure functions of arrays. A `Layer` defines how the values of one plane become colours: by a table
with one entry for each value of 8-bit and 16-bit integers; other types are scaled to 65 535 steps
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np

from bfbridge.errors import BadArgument
from bfbridge.rendering.palettes import distinct_colors, palette_colors

__all__ = ["Layer", "as_dtype", "compose", "compose_float"]

Array = np.ndarray[Any, Any]
STEPS: Final = 1 << 16
STRIP: Final = 1 << 14
"""Number of pixels that are drawn at a time."""
_IDENTITY: Final = bytes(range(256))
_MOST_FAST: Final = 256
"""Number of bands whose sum of 8-bit values fits into 16 bits."""
_RESERVED: Final = 1
"""Entries at the end of the table for scaled values: one for transparent pixels."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Conversion of the values of one plane to colours, with all numbers resolved.

    Attributes
    ----------
    low, high
        Values that become the palette's first and last colour.
    palette
        As `palette_colors` takes it, or "labels": distinct colours of integers, 0 transparent
        black.
    discrete
        Whether only the palette's own colours are used.
    nodata
        Value that is transparent, or None. NaN always is.
    clamp
        Whether values outside take the end colours, or are transparent.
    composite
        "lighten", "additive" or "multiply".
    gamma, invert
        As in `Band`.
    lookup
        For an indexed image: the colours of its values as bytes, four for each.
    """

    low: float = 0.0
    high: float = 255.0
    palette: Any = "white"
    discrete: bool = False
    nodata: float | None = None
    clamp: bool = True
    composite: str = "lighten"
    gamma: float = 1.0
    invert: bool = False
    lookup: bytes | None = None

    @property
    def by_value(self) -> bool:
        """Whether values are labels or indices, not intensities."""
        return self.lookup is not None or self.palette == "labels"


def compose(planes: Sequence[Array], layers: Sequence[Layer]) -> Array:
    """Draw planes on top of each other.

    Parameters
    ----------
    planes
        One array (Y, X) for each layer, all of one shape, of any real dtype.
    layers
        How each plane is drawn, in this order.

    Returns
    -------
    numpy.ndarray
        (Y, X, 4) of uint8: red, green, blue and alpha.

    Raises
    ------
    BadArgument
        There are no layers, their number differs from that of the planes, or pixels are complex.
    """
    _check(planes, layers)
    joined = {layer.composite for layer in layers[1:]}
    if "multiply" in joined or len(layers) > _MOST_FAST:
        return as_dtype(compose_float(planes, layers), "uint8")
    simple = _channel_by_channel(planes, layers)
    if simple is not None:
        return simple
    return _packed(planes, layers, wide="additive" in joined)


def _check(planes: Sequence[Array], layers: Sequence[Layer]) -> None:
    if not layers or len(planes) != len(layers):
        raise BadArgument(f"{len(planes)} planes and {len(layers)} layers: give one for each.")
    for plane in planes:
        if plane.dtype.kind not in "iufb":
            raise BadArgument(
                f"pixels of type {plane.dtype} have no colours; take their magnitude."
            )


def _channel_by_channel(planes: Sequence[Array], layers: Sequence[Layer]) -> Array | None:
    """Draw layers of one primary colour each (red, green or blue); None for other layers."""
    found = [_one_channel(layer, _kind(p)) for p, layer in zip(planes, layers, strict=True)]
    known = [single for single in found if single is not None]
    if len(known) < len(found) or len({place for place, _ in known}) < len(known):
        return None
    out = np.zeros((*planes[0].shape, 4), np.uint8)
    out[..., 3] = 255
    for plane, layer, (place, column) in zip(planes, layers, known, strict=True):
        if plane.dtype == np.uint8 and column.tobytes() == _IDENTITY:
            out[..., place] = plane
        else:
            out[..., place] = column.take(_positions(plane, layer), mode="clip")
    return out


@lru_cache(maxsize=64)
def _one_channel(layer: Layer, kind: str) -> tuple[int, Array] | None:
    """Return the index of the one primary colour of an opaque layer, and its values."""
    table = _table(layer, kind)
    used = np.flatnonzero(table[:, :3].any(0))
    if len(used) > 1 or not (table[:, 3] == 255).all():
        return None
    place = int(used[0]) if len(used) else 0
    return place, np.ascontiguousarray(table[:, place])


def _packed(planes: Sequence[Array], layers: Sequence[Layer], *, wide: bool) -> Array:
    """Draw with one table look-up per pixel: one integer contains the four components.

    Strips that fit into the processor's cache take a quarter of the time of whole planes.
    """
    lane = np.uint16 if wide else np.uint8
    tables = [_lanes(layer, _kind(p), wide) for p, layer in zip(planes, layers, strict=True)]
    height, width = planes[0].shape
    out = np.empty((height, width, 4), np.uint8)
    rows = max(1, STRIP // max(1, width))
    for top in range(0, height, rows):
        total: Array | None = None
        for plane, layer, table in zip(planes, layers, tables, strict=True):
            drawn = table.take(_positions(plane[top : top + rows], layer), mode="clip")
            if total is None:
                total = drawn
            elif layer.composite == "additive":
                total += drawn
            else:
                lanes = total.view(lane)
                np.maximum(lanes, drawn.view(lane), out=lanes)
        if total is not None:
            parts = np.ascontiguousarray(total).view(lane).reshape(-1, width, 4)
            out[top : top + rows] = np.minimum(parts, 255, out=parts) if wide else parts
    return out


def compose_float(planes: Sequence[Array], layers: Sequence[Layer]) -> Array:
    """Draw planes on top of each other without rounding; see `compose`.

    Returns
    -------
    numpy.ndarray
        (Y, X, 4) of float32, 0 to 255, and above where colours were added.
    """
    _check(planes, layers)
    out: Array | None = None
    for plane, layer in zip(planes, layers, strict=True):
        colors, seen = _entries(layer, _kind(plane))
        if out is not None and layer.composite == "multiply":
            # Where a band is transparent, the layers below do not change.
            shares = np.where(seen[:, np.newaxis], colors / 255, 1).astype(np.float32)
            out *= shares[_positions(plane, layer)]
            continue
        drawn = np.where(seen[:, np.newaxis], colors, 0).astype(np.float32)
        drawn = drawn[_positions(plane, layer)]
        if out is None:
            out = drawn
        elif layer.composite == "additive":
            out += drawn
        else:
            np.maximum(out, drawn, out=out)
    if out is None:
        raise BadArgument("there is nothing to draw: give at least one plane.")
    return out


def as_dtype(colors: Array, dtype: str) -> Array:
    """Return colours from 0 to 255 as "uint8", "uint16" (0 to 65535) or "float" (0 to 1)."""
    if dtype == "float":
        return np.asarray(np.clip(colors, 0, 255) / np.float32(255), np.float32)
    factor, kind = (257, np.uint16) if dtype == "uint16" else (1, np.uint8)
    return np.rint(np.clip(colors, 0, 255) * np.float32(factor)).astype(kind)


# ---- tables


def _kind(plane: Array) -> str:
    """Return the dtype for whose values the table has one entry each, or "" for scaled values."""
    dtype = plane.dtype
    if dtype == np.bool_:
        return "uint8"
    return dtype.name if dtype.kind in "iu" and dtype.itemsize <= 2 else f"scaled {dtype.name}"


def _positions(plane: Array, layer: Layer) -> Array:
    """Return the index of each pixel in the layer's table."""
    if plane.dtype == np.bool_:
        plane = plane.view(np.uint8)
    if plane.dtype.kind == "u" and plane.dtype.itemsize <= 2:
        return plane
    if plane.dtype.kind == "i" and plane.dtype.itemsize <= 2:
        # The table begins with the lowest value.
        unsigned = np.dtype(f"u{plane.dtype.itemsize}")
        half = unsigned.type(1 << (8 * plane.dtype.itemsize - 1))
        flipped: Array = plane.view(unsigned) ^ half
        return flipped
    if layer.by_value:
        return _by_value(plane, layer)
    return _scaled(plane, layer)


def _by_value(plane: Array, layer: Layer) -> Array:
    """Return the table index for integers of more than 16 bits: labels repeat their colours."""
    if plane.dtype.kind == "f":
        plane = np.nan_to_num(plane, nan=0.0, posinf=0.0, neginf=0.0).astype(np.int64)
    count = 255 if layer.lookup is None else STEPS - _RESERVED
    if layer.lookup is not None:
        known: Array = np.clip(plane, 0, count).astype(np.uint16)
        return known
    cycle = (plane.astype(np.int64, copy=False) - 1) % count + 1
    entries: Array = np.where(plane == 0, 0, cycle).astype(np.uint16)
    return entries


def _scaled(plane: Array, layer: Layer) -> Array:
    """Return the nearest step between `low` and `high` for each pixel."""
    width = layer.high - layer.low or 1.0
    kind = np.float32 if plane.dtype in (np.float32, np.float16) else np.float64
    if plane.dtype == np.float16:
        plane = plane.astype(np.float32)
    last = STEPS - 1 - _RESERVED
    with np.errstate(invalid="ignore", over="ignore"):
        place = (plane - kind(layer.low)) * kind(last / width)
        hidden = np.isnan(place) if plane.dtype.kind == "f" else np.zeros(plane.shape, bool)
        if layer.nodata is not None:
            hidden |= plane == layer.nodata
        if not layer.clamp:
            ends = sorted((layer.low, layer.high))
            hidden |= (plane < ends[0]) | (plane > ends[1])
        steps: Array = np.rint(np.clip(np.where(hidden, 0, place), 0, last)).astype(np.uint16)
    steps[hidden] = STEPS - 1
    return steps


def _table(layer: Layer, kind: str) -> Array:
    """Return the colours of all values of a kind, (values, 4) of uint8, transparent ones all 0."""
    table: Array = _tables(layer, kind)
    return table


@lru_cache(maxsize=64)
def _tables(layer: Layer, kind: str) -> Array:
    colors, seen = _entries(layer, kind)
    shown = np.where(seen[:, np.newaxis], colors, 0)
    table: Array = np.rint(np.clip(shown, 0, 255)).astype(np.uint8)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=64)
def _lanes(layer: Layer, kind: str, wide: bool) -> Array:
    """Return the colours of all values, each in one integer of four parts."""
    lane, whole = (np.uint16, np.uint64) if wide else (np.uint8, np.uint32)
    packed: Array = _table(layer, kind).astype(lane).view(whole)[:, 0]
    return packed


@lru_cache(maxsize=16)
def _entries(layer: Layer, kind: str) -> tuple[Array, Array]:
    """Return the colours of all values, (values, 4) of float64, and which of them are visible."""
    if layer.lookup is not None:
        return _of_lookup(layer.lookup, kind)
    if layer.palette == "labels":
        return _of_labels(kind)
    if kind.startswith("scaled"):
        values = np.append(np.linspace(0.0, 1.0, STEPS - _RESERVED), np.nan)
        share, seen = values, ~np.isnan(values)
    else:
        bounds = np.iinfo(kind)
        values = np.arange(bounds.min, bounds.max + 1, dtype=np.float64)
        share = (values - layer.low) / (layer.high - layer.low or 1.0)
        seen = np.ones(len(values), bool)
        if layer.nodata is not None:
            seen &= values != layer.nodata
        if not layer.clamp:
            seen &= (share >= 0) & (share <= 1)
    share = np.clip(np.nan_to_num(share), 0.0, 1.0)
    if layer.gamma != 1:
        share = share**layer.gamma
    if layer.invert:
        share = 1 - share
    return _colored(share, palette_colors(layer.palette), layer.discrete), seen


def _colored(share: Array, palette: Array, discrete: bool) -> Array:
    count = len(palette)
    if discrete or count == 1:
        taken: Array = palette[np.clip(np.floor(share * count), 0, count - 1).astype(np.intp)]
        return taken
    stops = np.linspace(0, 1, count)
    return np.stack([np.interp(share, stops, palette[:, i]) for i in range(4)], axis=1)


def _of_labels(kind: str) -> tuple[Array, Array]:
    """Return distinct colours for integers; 0 is black, because it is not a label."""
    count = STEPS if kind.startswith("scaled") else 1 << (8 * np.dtype(kind).itemsize)
    first = 0 if kind.startswith("scaled") else int(np.iinfo(kind).min)
    values = np.arange(first, first + count)
    colors = distinct_colors()[(values - 1) % 255].astype(np.float64)
    colors[values == 0] = (0, 0, 0, 255)
    return colors, np.ones(count, bool)


def _of_lookup(lookup: bytes, kind: str) -> tuple[Array, Array]:
    """Return the colours of an indexed image; values beyond its table get the last colour."""
    known = np.frombuffer(lookup, np.uint8).reshape(-1, 4).astype(np.float64)
    count = STEPS if kind.startswith("scaled") else 1 << (8 * np.dtype(kind).itemsize)
    first = 0 if kind.startswith("scaled") else int(np.iinfo(kind).min)
    places = np.clip(np.arange(first, first + count), 0, len(known) - 1)
    return known[places], np.ones(count, bool)
