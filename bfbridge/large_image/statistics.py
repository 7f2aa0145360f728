"""Histograms over the tiles of a region, as large_image reports them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bfbridge.errors import BadArgument
from bfbridge.large_image.tiles import TileIterator
from bfbridge.runtime.arguments import flag, whole

__all__ = ["histogram"]

Array = np.ndarray[Any, Any]
MOST_BINS = 1 << 22


def _pixels(tiles: TileIterator, dtype: np.dtype[Any] | None) -> Iterator[Array]:
    """Return the pixels of all tiles, those of another dtype left out."""
    for tile in tiles.read_ahead():
        pixels: Array = tile["tile"]
        if dtype is not None and pixels.dtype != dtype:
            if pixels.dtype != np.uint8 or dtype != np.uint16:
                continue
            pixels = pixels.astype(np.uint16) * 257
        yield pixels


def histogram(
    tiles: Callable[[], TileIterator],
    dtype: Any,
    bins: int,
    span: Any,
    *,
    only: bool,
    density: bool,
) -> dict[str, Any]:
    """Return statistics and histograms; see `TileSource.histogram`.

    Parameters
    ----------
    tiles
        Returns the tiles, once for the statistics and once for the histograms.
    dtype, bins, density
        As there.
    span
        Its ``range``.
    only
        Whether there are no histograms.
    """
    wanted = None if dtype is None else np.dtype(dtype)
    bins, density = whole(bins, "bins", 1, MOST_BINS), flag(density, "density")
    found = _moments(tiles(), wanted)
    if not found or only:
        return found
    entries: list[dict[str, Any]] = [
        {
            **{key: float(found[key][i]) for key in ("min", "max", "mean", "stdev")},
            "range": _range(found, i, bins, span),
            "bins": _bins(found, i, bins, span),
            "density": density,
            "hist": 0,
        }
        for i in range(len(found["min"]))
    ]
    for pixels in _pixels(tiles(), wanted):
        for i, entry in enumerate(entries):
            counts, edges = np.histogram(pixels[..., i], entry["bins"], entry["range"])
            entry.update(hist=entry["hist"] + counts, bin_edges=edges)
    for entry in entries:
        entry["samples"] = entry["hist"].sum()
        if density and entry["samples"]:
            entry["hist"] = entry["hist"] / entry["samples"]
    return {**found, "histogram": entries}


def _moments(tiles: TileIterator, dtype: np.dtype[Any] | None) -> dict[str, Any]:
    """Return min, max, mean and stdev of each band; nothing without pixels."""
    least: Any = None
    most: Any = None
    total: Any = 0.0
    squares: Any = 0.0
    count = 0
    for pixels in _pixels(tiles, dtype):
        values = pixels.astype(np.float64)
        parts = (
            pixels.min((0, 1)), pixels.max((0, 1)), values.sum((0, 1)), (values**2).sum((0, 1)),
        )  # fmt: skip
        least = parts[0] if least is None else np.minimum(least, parts[0])
        most = parts[1] if most is None else np.maximum(most, parts[1])
        total, squares = total + parts[2], squares + parts[3]
        count += pixels.shape[0] * pixels.shape[1]
    if least is None:
        return {}
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return {"min": least, "max": most, "mean": mean, "stdev": deviation}


def _rounds(found: dict[str, Any], band: int, bins: int, span: Any) -> int | None:
    """Return the whole width of a bin that ``range="round"`` asks for, or None."""
    extent = float(found["max"][band]) + 1 - float(found["min"][band])
    is_integer = np.issubdtype(found["min"].dtype, np.integer)
    return (
        math.ceil(extent / bins) if span == "round" and is_integer and extent < bins * 10 else None
    )


def _bins(found: dict[str, Any], band: int, bins: int, span: Any) -> int:
    step = _rounds(found, band, bins, span)
    extent = float(found["max"][band]) + 1 - float(found["min"][band])
    return bins if step is None else math.ceil(extent / step)


def _range(found: dict[str, Any], band: int, bins: int, span: Any) -> tuple[float, float]:
    least, most = float(found["min"][band]), float(found["max"][band]) + 1
    if span is None or (isinstance(span, str) and span == "round"):
        step = _rounds(found, band, bins, span)
        return least, most if step is None else least + step * _bins(found, band, bins, span)
    try:
        low, high = (float(end) for end in span)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise BadArgument(f"range={span!r:.80}: give (least, greatest), 'round' or None.")
    return low, high
