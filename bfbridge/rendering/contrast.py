"""Contrast: statistics of channels from a small part of their pixels, and display windows.

A coarse level is read, or, for large images without one, pieces spread over the plane. The cost is
therefore limited for images of any size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.analysis.statistics import coarse_level
from bfbridge.runtime import forking

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["Contrast", "Statistics", "measure", "real"]

Array = np.ndarray[Any, Any]
BINS: Final = 256
SHARE: Final = 0.001
"""Part of the pixels that a display window leaves out at each end."""
_MOST_PIXELS: Final = 1 << 22
"""Maximum number of pixels read of one plane; of larger planes only pieces are read."""
_SMALL_PLANE: Final = 1 << 20
"""Maximum number of pixels of a plane for which several planes along z and t are read."""
_PIECES: Final = 4
_PIECE: Final = 512
_EXACT: Final = 1 << 20
_KEPT: Final = 4096


@dataclass(frozen=True, slots=True)
class Statistics:
    """Values of one channel, without NaN and infinities.

    Attributes
    ----------
    least, greatest
        Both 0 if there is no finite value.
    counts
        Pixels in each of 256 bins of equal width from `least` to `greatest` + 1, as large_image
        counts them.
    low, high
        Display window: leaves out 0.1 % of the pixels at each end.
    """

    least: float
    greatest: float
    counts: tuple[int, ...]
    low: float
    high: float

    def threshold(self, share: float, *, from_top: bool) -> float:
        """Return the bin edge that leaves out at most `share` of the pixels at one end."""
        edges = np.linspace(self.least, self.greatest + 1, BINS + 1)
        counts = np.asarray(self.counts)
        first = self.greatest if from_top else self.least
        if from_top:
            edges, counts = edges[::-1], counts[::-1]
        below = np.cumsum(counts)
        index = int(np.searchsorted(below, share * below[-1], side="right"))
        return float(edges[min(index, BINS)]) if index else first


def real(values: Array) -> Array:
    """Return the values to display: the magnitude of complex pixels."""
    return np.abs(values) if values.dtype.kind == "c" else values


def measure(values: Array) -> Statistics:
    """Return the statistics of an array of values."""
    values = values.reshape(-1)
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return Statistics(0.0, 0.0, (0,) * BINS, 0.0, 1.0)
    least, greatest = float(values.min()), float(values.max())
    counts = np.histogram(values, BINS, (least, greatest + 1))[0]
    low, high = _window(values, least, greatest)
    return Statistics(least, greatest, tuple(int(n) for n in counts), low, high)


def _window(values: Array, least: float, greatest: float) -> tuple[float, float]:
    """Return the values that leave out `SHARE` of the pixels at each end."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        first = int(values.min())
        below = np.cumsum(np.bincount(values.astype(np.int64) - first))
        share = SHARE * values.size
        low = float(first + np.searchsorted(below, share, side="right"))
        high = float(first + np.searchsorted(below, values.size - share, side="left"))
    else:
        some = values[:: max(1, values.size // _EXACT)]
        low, high = (float(v) for v in np.quantile(some, (SHARE, 1 - SHARE)))
    if low < high:
        return low, high
    if least < greatest:
        # Nearly all pixels have one value: the range must include the others.
        return least, greatest
    # A single value: shown bright, or black if it is 0 or less.
    return (0.0, least) if least > 0 else (least, least + 1)


class _Known:
    """Cache of computed statistics; the oldest are removed first. Thread-safe."""

    def __init__(self) -> None:
        self._lock = forking.lock()
        self._found: OrderedDict[Hashable, Statistics] = OrderedDict()

    def get(self, key: Hashable) -> Statistics | None:
        with self._lock:
            return self._found.get(key)

    def put(self, key: Hashable, statistics: Statistics) -> None:
        with self._lock:
            self._found[key] = statistics
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)


class Contrast:
    """Statistics of one image's channels and planes, computed on first use. Thread-safe.

    They are cached with the open file.

    Parameters
    ----------
    view
        The image; its coarsest useful level is read.
    """

    def __init__(self, view: ImageView) -> None:
        self._view = view.levels[0]
        self._known = view._file.remembered(("contrast", view.index), _Known)

    def of_plane(self, c: int, z: int, t: int) -> Statistics:
        """Return the statistics of channel `c` (of C) at one z and t."""
        return self._of(("plane", c, z, t), c, [(z, t)])

    def of_channel(self, c: int) -> Statistics:
        """Return the statistics of channel `c` (of C) over some planes of the image."""
        return self._of(("channel", c), c, self._planes())

    def window(self, c: int) -> tuple[float, float]:
        """Return the display window of channel `c` (of C): as stored in the file, else measured.

        The samples of an RGB pixel share one window: the full range for 8 bits.
        """
        view = self._view
        samples = view.samples_per_pixel
        record = view.channels[c // samples] if c // samples < len(view.channels) else None
        stored = None if record is None else record.window
        if stored is not None and stored[0] != stored[1]:
            return stored
        if samples < 3:
            found = self.of_channel(c)
            return found.low, found.high
        if view.dtype == np.uint8:
            return 0.0, 255.0
        first = c // samples * samples
        all_of_pixel = [self.of_channel(first + i) for i in range(min(samples, 3))]
        return min(s.low for s in all_of_pixel), max(s.high for s in all_of_pixel)

    def _of(self, key: Hashable, c: int, planes: Sequence[tuple[int, int]]) -> Statistics:
        found = self._known.get(key)
        if found is None:
            found = measure(np.concatenate([self._sample(c, z, t) for z, t in planes]))
            self._known.put(key, found)
        return found

    def _planes(self) -> list[tuple[int, int]]:
        """Return (z, t) of the planes to sample: one, or up to six small ones."""
        depth, times = self._view.sizes["Z"], self._view.sizes["T"]
        coarse = coarse_level(self._view).sizes
        if coarse["Y"] * coarse["X"] > _SMALL_PLANE:
            return [(depth // 2, 0)]
        slices = sorted({depth // 4, depth // 2, 3 * depth // 4})
        return [(z, t) for t in sorted({0, times // 2}) for z in slices]

    def _sample(self, c: int, z: int, t: int) -> Array:
        """Return values of one plane, flat: all of a coarse level, or pieces of a large plane."""
        view = coarse_level(self._view)
        height, width = view.sizes["Y"], view.sizes["X"]
        if view.sizes["Z"] != self._view.sizes["Z"]:
            z = z * view.sizes["Z"] // self._view.sizes["Z"]
        if height * width <= _MOST_PIXELS:
            return real(view.read(Z=z, C=c, T=t).reshape(-1))
        rows, columns = (_spread(n) for n in (height, width))
        parts = [view.read(X=x, Y=y, Z=z, C=c, T=t).reshape(-1) for y in rows for x in columns]
        return real(np.concatenate(parts))


def _spread(size: int) -> list[tuple[int, int]]:
    """Return spans of at most `_PIECE` pixels, evenly distributed over an axis."""
    count = min(_PIECES, -(-size // _PIECE))
    starts = [round(i * (size - min(size, _PIECE)) / max(1, count - 1)) for i in range(count)]
    return [(start, min(size, start + _PIECE)) for start in starts]
