"""Statistics of pixel values: extremes and histograms, computed block by block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.analysis.regions import PIECE, positions
from bfbridge.engine.selection import parse_ranges
from bfbridge.engine.workers import run
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.runtime.arguments import flag, whole

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["coarse_level", "histogram", "min_max"]

Array = np.ndarray[Any, Any]
MOST_BINS = 1 << 22
COARSE = 512
"""Statistics use the smallest level whose longer side has at least this many pixels."""


def coarse_level(view: ImageView) -> ImageView:
    """Return the level used to estimate statistics."""
    best = view
    for level in view.levels[view.level :]:
        if max(level.sizes["Y"], level.sizes["X"]) >= COARSE:
            best = level
    return best


def _pieces(view: ImageView, z: Any, c: Any, t: Any) -> Iterator[dict[str, Any]]:
    """Yield keyword arguments of `read` that cover a selection, along the stored chunks."""
    shape = tuple(view.sizes.values())
    axes = parse_ranges(shape, Z=z, C=c, T=t).axes
    lengths = [
        chunk * max(1, PIECE // chunk) if name in "YX" else (chunk if name == "C" else 1)
        for name, chunk in zip("YXZCT", view.chunks, strict=True)
    ]
    parts = [
        [axis[i : i + n] for i in range(0, len(axis), n)]
        for axis, n in zip(axes, lengths, strict=True)
    ]
    for piece in product(*parts):
        yield {name: positions(axis) for name, axis in zip("YXZCT", piece, strict=True)}


def _each(view: ImageView, z: Any, c: Any, t: Any, use: Callable[[Array], None]) -> None:
    """Read all pieces of a selection and pass each to `use`, one at a time."""
    lock = threading.Lock()

    def job(piece: dict[str, Any]) -> None:
        pixels = view.read(**piece, keepdims=True)
        with lock:
            use(pixels)

    run((partial(job, piece) for piece in _pieces(view, z, c, t)), view.max_workers)


def min_max(
    view: ImageView, *, exact: bool = False, z: Any = None, c: Any = None, t: Any = None,
    finite: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """Return the least and greatest value; see `ImageView.min_max`.

    Parameters
    ----------
    finite
        Whether infinities are left out. NaN always is.
    """
    exact = flag(exact, "exact")
    if view.dtype.kind == "c":
        raise BadArgument(f"{view.source_name}: complex pixels have no order, so no minimum.")
    found: list[Any] = []

    def use(pixels: Array) -> None:
        if pixels.dtype.kind == "f":
            pixels = pixels[np.isfinite(pixels) if finite else ~np.isnan(pixels)]
        if pixels.size:
            low, high = pixels.min(), pixels.max()
            found[:] = [min(found[0], low), max(found[1], high)] if found else [low, high]

    _each(view if exact else coarse_level(view), z, c, t, use)
    if not found:
        if view.dtype.kind == "f":
            return view.dtype.type(np.nan), view.dtype.type(np.nan)
        raise BadSelection(f"{view.source_name}: the selection is empty, so there is no minimum.")
    return found[0], found[1]


def histogram(
    view: ImageView,
    bins: int | Sequence[float] = 256,
    *,
    range: tuple[float, float] | None = None,  # noqa: A002 - numpy's name
    exact: bool = False,
    z: Any = None,
    c: Any = None,
    t: Any = None,
) -> tuple[Array, Array]:
    """Count pixels by value; see `ImageView.histogram`."""
    source = view if flag(exact, "exact") else coarse_level(view)
    if isinstance(bins, (int, np.integer)):
        bins = whole(bins, "bins", 1, MOST_BINS)
    if range is None and isinstance(bins, (int, np.integer)):
        low, high = min_max(source, exact=True, z=z, c=c, t=t, finite=True)
        range = (0.0, 1.0) if np.isnan(low) else (float(low), float(high))  # noqa: A001
    try:
        edges = np.histogram_bin_edges(np.empty(0), bins, range)
        counted = np.histogram(np.zeros(1), edges)[0]
    except (ValueError, TypeError, IndexError, ArithmeticError) as error:
        raise BadArgument(f"bins={bins!r}, range={range!r}: {str(error).rstrip('.')}.") from error
    if edges.ndim != 1 or not len(counted):
        raise BadArgument(f"bins={bins!r}: give a number of bins, or two edges at least.")
    counts = np.zeros(len(edges) - 1, np.int64)

    def use(pixels: Array) -> None:
        counts[:] += np.histogram(pixels, bins, range)[0]

    _each(source, z, c, t, use)
    return counts, edges
