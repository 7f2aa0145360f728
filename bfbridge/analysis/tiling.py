"""Iteration over an image in tiles, with reading ahead."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np

from bfbridge.engine.selection import Axis, parse_axis, parse_key
from bfbridge.engine.tiles import new_array
from bfbridge.engine.workers import prefetch
from bfbridge.errors import BadArgument
from bfbridge.runtime.arguments import one_of, whole

__all__ = ["Tile", "TileBatch", "batches", "bfio_batch_limit", "bfio_batches", "iterate"]

Array = np.ndarray[Any, Any]
Edge = Literal["crop", "pad", "drop"]
EDGES = ("crop", "pad", "drop")
MOST = 2**31 - 1
"""Maximum side of a tile, and maximum number of tiles in a batch."""


class Readable(Protocol):
    """Interface of an image that is read in tiles."""

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis name, in the order Y, X, Z, C, T."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""

    @property
    def samples_per_pixel(self) -> int:
        """Samples of one pixel."""

    @property
    def max_workers(self) -> int:
        """Threads that decode at once."""

    def read(self, X: Any, Y: Any, Z: Any, C: Any, T: Any, *, keepdims: bool) -> Array:
        """Read a region."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of one plane.

    Attributes
    ----------
    pixels
        (Y, X), or (Y, X, samples) for RGB.
    y, x, z, c, t
        Position of its first pixel in the image, before padding.
    height, width
        Size of the part inside the image (or the region); the rest is padding.
    """

    pixels: Array
    y: int
    x: int
    z: int
    c: int
    t: int
    height: int
    width: int

    @property
    def key(self) -> tuple[slice, ...]:
        """Key of the same pixels in ``br[...]`` or ``bw[...]``, without padding."""
        samples = self.pixels.shape[2] if self.pixels.ndim == 3 else 1
        return (
            slice(self.y, self.y + self.height),
            slice(self.x, self.x + self.width),
            slice(self.z, self.z + 1),
            slice(self.c, self.c + samples),
            slice(self.t, self.t + 1),
        )


@dataclass(frozen=True, slots=True)
class TileBatch:
    """Several tiles of equal size in one array.

    Attributes
    ----------
    pixels
        (tile, Y, X), or (tile, Y, X, samples) for RGB.
    tiles
        The tiles; their pixels are views of `pixels`.
    """

    pixels: Array
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class _Window:
    y: int
    x: int
    z: int
    c: int
    t: int
    height: int
    width: int


def iterate(
    view: Readable, size: Any, overlap: Any = 0, region: Any = ..., edge: Edge = "crop"
) -> Iterator[Tile]:
    """Iterate over the tiles of all planes, reading ahead; see `ImageView.tiles`."""
    shape = _pair(size, "size", 1)
    windows = _windows(view, shape, _pair(overlap, "overlap", 0), region, edge)
    jobs = (partial(_read, view, window, shape, edge) for window in windows)
    return prefetch(jobs, view.max_workers + 1)


def batches(
    view: Readable,
    size: Any,
    batch: int,
    overlap: Any = 0,
    region: Any = ...,
    edge: Edge = "pad",
) -> Iterator[TileBatch]:
    """Iterate over the tiles of all planes in batches of equal size; see `ImageView.tiles`."""
    if one_of(edge, "edge", EDGES) == "crop":
        raise BadArgument("tiles of one batch must have the same size: use edge='pad' or 'drop'.")
    batch = whole(batch, "batch", 1, MOST)
    shape = _pair(size, "size", 1)
    windows = iter(_windows(view, shape, _pair(overlap, "overlap", 0), region, edge))
    groups = iter(lambda: list(itertools.islice(windows, batch)), [])
    return prefetch((partial(_read_batch, view, group, shape) for group in groups), 2)


def _pair(value: Any, name: str, least: int) -> tuple[int, int]:
    """Return a size given as one number or as (height, width)."""
    pair = tuple(value) if np.iterable(value) and not isinstance(value, str) else (value, value)
    good = len(pair) == 2 and all(
        isinstance(n, (int, np.integer)) and not isinstance(n, bool) and least <= n <= MOST
        for n in pair
    )
    if not good:
        raise BadArgument(f"{name}={value!r}: give an integer of {least} or more, or two (Y, X).")
    return int(pair[0]), int(pair[1])


def _windows(
    view: Readable, size: tuple[int, int], overlap: tuple[int, int], region: Any, edge: Edge
) -> Iterator[_Window]:
    one_of(edge, "edge", EDGES)
    if overlap[0] >= size[0] or overlap[1] >= size[1]:
        raise BadArgument(f"overlap={overlap}: it must be smaller than the tile, {size}.")
    y, x, z, c, t = parse_key(region, tuple(view.sizes.values())).axes
    for name, axis in (("Y", y), ("X", x)):
        if not isinstance(axis, range) or axis.step != 1:
            raise BadArgument(f"region: {name} must be one range without steps.")
    planes = itertools.product(t, _channel_starts(c, view.samples_per_pixel), z)
    rows = _starts(y, size[0], overlap[0], edge)
    columns = _starts(x, size[1], overlap[1], edge)
    for (t0, c0, z0), y0, x0 in itertools.product(planes, rows, columns):
        yield _Window(
            int(y0), int(x0), int(z0), int(c0), int(t0),
            min(size[0], y[-1] + 1 - y0), min(size[1], x[-1] + 1 - x0),
        )  # fmt: skip


def _channel_starts(axis: Axis, samples: int) -> list[int]:
    """Return the first samples of the channels; an RGB channel must be selected completely."""
    chosen = [int(i) for i in axis]
    starts = [i for i in chosen if i % samples == 0]
    if samples > 1 and sorted(chosen) != sorted(s + k for s in starts for k in range(samples)):
        raise BadArgument(
            f"region: the {samples} samples of an RGB channel form one tile; select all of them."
        )
    return starts


def _starts(axis: Axis, size: int, overlap: int, edge: Edge) -> list[int]:
    if not len(axis):
        return []
    first, stop, step = int(axis[0]), int(axis[-1]) + 1, size - overlap
    starts = [first]
    # Stop before a tile that would be inside the overlap.
    while starts[-1] + size < stop:
        starts.append(starts[-1] + step)
    return [s for s in starts if s + size <= stop] if edge == "drop" else starts


def _read(view: Readable, window: _Window, size: tuple[int, int], edge: Edge) -> Tile:
    pixels = _pixels(view, window)
    if edge == "pad" and pixels.shape[:2] != size:
        padded = new_array(np.zeros, (*size, *pixels.shape[2:]), pixels.dtype, "a padded tile")
        padded[: window.height, : window.width] = pixels
        pixels = padded
    return _tile(pixels, window)


def _tile(pixels: Array, w: _Window) -> Tile:
    return Tile(pixels, w.y, w.x, w.z, w.c, w.t, w.height, w.width)


def _pixels(view: Readable, w: _Window) -> Array:
    samples = view.samples_per_pixel
    block = view.read(
        slice(w.x, w.x + w.width),
        slice(w.y, w.y + w.height),
        w.z,
        slice(w.c, w.c + samples),
        w.t,
        keepdims=True,
    )[:, :, 0, :, 0]
    return block if samples > 1 else block[..., 0]


def _read_batch(view: Readable, group: Sequence[_Window], size: tuple[int, int]) -> TileBatch:
    samples = (view.samples_per_pixel,) if view.samples_per_pixel > 1 else ()
    pixels = new_array(np.zeros, (len(group), *size, *samples), view.dtype, "a batch of tiles")
    for place, window in zip(pixels, group, strict=True):
        place[: window.height, : window.width] = _pixels(view, window)
    return TileBatch(pixels, tuple(_tile(p, w) for p, w in zip(pixels, group, strict=True)))


# ---- bfio's iterator

BfioIndex = tuple[list[list[int]], ...]


def bfio_batch_limit(view: Readable, tile_size: Any, tile_stride: Any = None) -> int:
    """Return the largest batch of bfio's iterator: tiles that start in one column of 1024."""
    size = _pair(tile_size, "tile_size", 1)
    stride = size if tile_stride is None else _pair(tile_stride, "tile_stride", 1)
    rows = -(-view.sizes["Y"] // stride[0])
    columns = int((1024 - (size[1] - stride[1]) / 2) // stride[1])
    return max(1, columns) * rows


def bfio_batches(
    view: Readable,
    tile_size: Any,
    tile_stride: Any,
    batch_size: int | None,
    channels: Sequence[int],
) -> Iterator[tuple[Array, BfioIndex]]:
    """Iterate over plane (z 0, t 0) as bfio's iterator does; see `BioReader.__call__`."""
    size = _pair(tile_size, "tile_size", 1)
    stride = size if tile_stride is None else _pair(tile_stride, "tile_stride", 1)
    limit = bfio_batch_limit(view, size, stride)
    if batch_size is None:
        batch_size = min(32, limit)
    try:
        batch_size = whole(batch_size, "batch_size", 1, limit)
    except BadArgument:
        raise BadArgument(
            f"batch_size={batch_size!r}: give 1 to maximum_batch_size(), here {limit}."
        ) from None
    chosen = [int(c) for c in parse_axis(channels, view.sizes["C"], "C")]
    # bfio centres tiles on their strides only if the two have no number in common.
    centred = not set(size) & set(stride)
    y0, x0 = (-((n - s) // 2) if centred else 0 for n, s in zip(size, stride, strict=True))
    corners = itertools.product(
        range(x0, view.sizes["X"], stride[1]), range(y0, view.sizes["Y"], stride[0])
    )
    groups = iter(lambda: list(itertools.islice(corners, batch_size)), [])
    jobs = (partial(_bfio_batch, view, group, size, chosen) for group in groups)
    return prefetch(jobs, 2)


def _bfio_batch(
    view: Readable, corners: Sequence[tuple[int, int]], size: tuple[int, int], channels: list[int]
) -> tuple[Array, BfioIndex]:
    height, width = view.sizes["Y"], view.sizes["X"]
    shape = (len(corners), *size, len(channels))
    images = new_array(np.zeros, shape, view.dtype, "a batch of tiles")
    for image, (x, y) in zip(images, corners, strict=True):
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + size[0], height), min(x + size[1], width)
        if top < bottom and left < right:
            block = view.read(slice(left, right), slice(top, bottom), 0, channels, 0, keepdims=True)
            image[top - y : bottom - y, left - x : right - x] = block[:, :, 0, :, 0]
    index = (
        [[x, x + size[1]] for x, _ in corners],
        [[y, y + size[0]] for _, y in corners],
        [[0, 1] for _ in corners],
        [list(channels) for _ in corners],
        [[0] for _ in corners],
    )
    return images, index
