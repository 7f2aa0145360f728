"""From subblocks to images: scenes, planes, levels, and the position of each subblock in them.

The rules are those of Bio-Formats' ZeissCZIReader with its default options, which stitches the
tiles of a mosaic, for files that they describe uniquely. For files where it guesses (missing planes
of several scenes, tiles without a mosaic index), `Unsupported` is raised.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from bfbridge.backend import Modulo, Shape5
from bfbridge.errors import Unsupported
from bfbridge.limits import check
from bfbridge_czi.segments import ABSENT, Blocks, CziFile

__all__ = [
    "JPEGXR",
    "UNCOMPRESSED",
    "ZSTD0",
    "ZSTD1",
    "PixelKind",
    "Scene",
    "ScenePlan",
    "SubblockTiles",
    "plan_scenes",
    "scene_rectangles",
]

Array = np.ndarray[Any, np.dtype[Any]]

UNCOMPRESSED, JPEGXR, ZSTD0, ZSTD1 = 0, 4, 5, 6
_COMPRESSIONS: Final = (UNCOMPRESSED, JPEGXR, ZSTD0, ZSTD1)
_PYRAMIDS: Final = (1, 2)
# Minimum number of bytes of a subblock in addition to its pixels.
_HEADER: Final = 288
_MOST_HEADERS: Final = 16


class PixelKind(NamedTuple):
    """Type of a pixel: dtype and number of its samples."""

    dtype: np.dtype[Any]
    samples: int


KINDS: Final = {
    0: PixelKind(np.dtype(np.uint8), 1),
    1: PixelKind(np.dtype(np.uint16), 1),
    2: PixelKind(np.dtype(np.float32), 1),
    3: PixelKind(np.dtype(np.uint8), 3),
    4: PixelKind(np.dtype(np.uint16), 3),
    8: PixelKind(np.dtype(np.float32), 3),
    9: PixelKind(np.dtype(np.uint8), 4),
    12: PixelKind(np.dtype(np.uint32), 1),
    13: PixelKind(np.dtype(np.float64), 1),
}
"""Pixel types of the format: Gray8, Gray16, Gray32Float, Bgr24, Bgr48, Bgr96Float, Bgra32,
Gray32 and Gray64Float. Complex types are not supported."""


@dataclass(frozen=True, slots=True)
class SubblockTiles:
    """The tiles of one level of one scene, by plane; in a plane, later tiles cover earlier ones.

    Attributes
    ----------
    height, width
        Size of the level, in pixels.
    plane
        Number of the plane that a tile is part of: see `Scene.plane`.
    top, left, rows, columns
        Position and size in the level, in pixels of the level.
    block
        Number of the tile's subblock.
    """

    height: int
    width: int
    plane: Array
    top: Array
    left: Array
    rows: Array
    columns: Array
    block: Array


@dataclass(frozen=True, slots=True)
class Scene:
    """One image: a scene, or one acquisition or view of a scene.

    Attributes
    ----------
    sizes
        Along T (including phases), channels (illuminations) and Z (rotations).
    folded
        Numbers of positions of the axes H, I and R that are folded into T, channels and Z.
    levels
        Full size first.
    number
        Of the scene; differs from the image's number if the tiles of a mosaic are images.
    origin
        (y, x) of the first pixel in the coordinates of the file.
    """

    sizes: tuple[int, int, int]
    folded: tuple[int, int, int]
    levels: tuple[SubblockTiles, ...]
    number: int = 0
    origin: tuple[int, int] = (0, 0)

    def plane(self, t: int, channel: int, z: int) -> int:
        """Return the number of a plane: Z varies fastest, then channels, then T."""
        return (t * self.sizes[1] + channel) * self.sizes[2] + z

    def shape(self, level: int, samples: int) -> Shape5:
        """Sizes of a level along T, C (channels x samples), Z, Y, X."""
        t, c, z = self.sizes
        tiles = self.levels[level]
        return t, c * samples, z, tiles.height, tiles.width

    @property
    def modulo(self) -> dict[str, Modulo]:
        """The phases, illuminations and rotations that are folded into T, channels and Z."""
        found = {}
        kinds = ("Phase", "Illumination", "Rotation")
        for axis, kind, size, count in zip("TCZ", kinds, self.sizes, self.folded, strict=True):
            if count > 1:
                step = size // count
                end = float(step * (count - 1))
                found[axis] = Modulo(kind, 0.0, float(step), end, None, (), count, False)
        return found


class ScenePlan(NamedTuple):
    """Contents of a file: the type of its pixels, its images, and the number of their scenes."""

    kind: PixelKind
    images: list[Scene]
    scenes: int


def plan_scenes(file: CziFile, *, grouped: bool = True, stitched: bool = True) -> ScenePlan:
    """Sort the subblocks of a file into images, in Bio-Formats' order of series.

    Parameters
    ----------
    file
        The file.
    grouped
        Bio-Formats' setGroupFiles, by which it guesses where planes are missing.
    stitched
        False: each tile of a mosaic is an image, at full size only. Tiles that a scene lacks are
        left out; Bio-Formats makes black images of them.

    Raises
    ------
    Unsupported
        The subblocks have an unusual structure.
    LimitExceeded
        There are more images, channels or planes than the limits allow, and more than there are
        subblocks.
    """
    blocks = file.blocks
    kind = _pixel_kind(blocks)
    level, factor = _levels(blocks)
    _check_lengths(file, kind)
    axes = _CziAxes(blocks, kind)
    series = axes.series()
    count = int(series.max()) + 1
    _check_counts(file, axes, kind, count)
    if not stitched:
        return ScenePlan(kind, _tile_images(file, axes, kind, level, series), axes.scenes)
    _check_guesses(blocks, axes, level, count, grouped=grouped)
    scenes = []
    order = np.argsort(series, kind="stable")
    ends = np.searchsorted(series[order], np.arange(1, count))
    for number, chosen in enumerate(np.split(order, ends)):
        if not len(chosen):
            raise Unsupported(f"a CZI file in which scene {number} has no subblock")
        levels = _scene_levels(blocks, axes, level, chosen, factor)
        extent = _extent(blocks, chosen[level[chosen] == 0])
        origin = (extent.top, extent.left)
        scenes.append(Scene(axes.sizes, axes.folded, levels, number, origin))
    return ScenePlan(kind, scenes, axes.scenes)


def _tile_images(
    file: CziFile, axes: _CziAxes, kind: PixelKind, level: Array, series: Array
) -> list[Scene]:
    """Return every tile as an image, scene by scene."""
    blocks, tiles = file.blocks, int(axes.mosaic.max()) + 1
    numbers = series * tiles + axes.mosaic
    base = np.flatnonzero(level == 0)
    found, ordinal = np.unique(numbers[base], return_inverse=True)
    _check_counts(file, axes, kind, len(found))
    order = np.argsort(ordinal, kind="stable")
    ends = np.searchsorted(ordinal[order], np.arange(1, len(found)))
    images = []
    for chosen in np.split(base[order], ends):
        levels = _scene_levels(blocks, axes, level, chosen, 1)
        number, extent = int(series[chosen[0]]), _extent(blocks, chosen)
        origin = (extent.top, extent.left)
        images.append(Scene(axes.sizes, axes.folded, levels, number, origin))
    return images


class _Extent(NamedTuple):
    """Rectangle that subblocks cover, in the coordinates of the file."""

    left: int
    top: int
    width: int
    height: int


def _extent(blocks: Blocks, chosen: Array) -> _Extent:
    x, y = blocks.x[chosen], blocks.y[chosen]
    left, top = int(x.min()), int(y.min())
    right, bottom = int((x + blocks.width[chosen]).max()), int((y + blocks.height[chosen]).max())
    return _Extent(left, top, right - left, bottom - top)


def _is_full_size(blocks: Blocks) -> Array:
    """Return for each block whether it stores every pixel that it covers."""
    found: Array = (blocks.width == blocks.stored_width) & (blocks.height == blocks.stored_height)
    return found


def _check_counts(file: CziFile, axes: _CziAxes, kind: PixelKind, count: int) -> None:
    """Compare what a few numbers of the directory declare with the limits."""
    limits, least = file.limits, len(file.blocks)
    check(count, max(limits.images, least), "number of images", file.name)
    channels = count * axes.sizes[1] * kind.samples
    check(channels, max(limits.channels, least), "number of channels", file.name)
    planes = count * math.prod(axes.sizes)
    check(planes, max(limits.planes, least), "number of planes", file.name)


def _pixel_kind(blocks: Blocks) -> PixelKind:
    codes = np.unique(blocks.pixel_type).tolist()
    if len(codes) > 1:
        raise Unsupported("a CZI file with pixels of several types")
    if codes[0] not in KINDS:
        raise Unsupported(f"a CZI file with pixels of type {codes[0]}")
    for code in np.unique(blocks.compression).tolist():
        if code not in _COMPRESSIONS:
            raise Unsupported(f"a CZI file with compression {code}")
    return KINDS[codes[0]]


def _check_lengths(file: CziFile, kind: PixelKind) -> None:
    """Refuse subblocks that contain several planes, as line scans of old microscopes do."""
    blocks = file.blocks
    pixel = kind.samples * kind.dtype.itemsize
    planes = blocks.stored_width * blocks.stored_height * pixel
    raw = np.flatnonzero(blocks.compression == UNCOMPRESSED)
    # The space after a block is known without reading it; the header is read only if it is large.
    suspicious = raw[file.rooms[raw] >= 2 * planes[raw] + _HEADER]
    for block in suspicious[:_MOST_HEADERS].tolist():
        head = file.access.read_at(int(blocks.position[block]), 80)
        if file.subblock(block, head).data_size >= 2 * int(planes[block]):
            raise Unsupported("a CZI file with subblocks of several planes")


def _levels(blocks: Blocks) -> tuple[Array, int]:
    """Return each block's level, and the scale factor between two levels.

    A block of level n covers factor ** n times as many pixels along x as it stores.
    """
    scale = (blocks.width / blocks.stored_width + 0.5).astype(np.int64)
    exact = _is_full_size(blocks)
    if exact.all():
        return np.zeros(len(blocks), np.int64), 1
    reduced = scale > 1
    if np.any(~exact & ~reduced):
        raise Unsupported("a CZI file with subblocks that are stored at another size")
    unmarked = ~np.isin(blocks.pyramid, _PYRAMIDS) & (blocks.compression == UNCOMPRESSED)
    if np.any(reduced & unmarked):
        raise Unsupported("a CZI file with a pyramid that is not marked as one")
    factor = 2 if scale[np.argmax(reduced)] % 2 == 0 else 3
    level = np.zeros(len(blocks), np.int64)
    for number in range(1, 64):
        at_least = scale >= factor**number
        if not at_least.any():
            break
        level[at_least] = number
    if np.any(factor**level != scale):
        raise Unsupported("a CZI file with a pyramid of uneven factors")
    return level, factor


class _CziAxes:
    """Positions of each block along the axes of an image, and along those that form images."""

    def __init__(self, blocks: Blocks, kind: PixelKind) -> None:
        self._blocks = blocks
        t = self._at("T")
        times = np.unique(t)
        t, z, c = np.searchsorted(times, t), self._at("Z"), self._at("C")
        phases, rotations, illuminations = (self._at(axis) for axis in "HRI")
        inner = (len(times), int(c.max()) + 1, int(z.max()) + 1)
        h, i, r = (int(axis.max()) + 1 for axis in (phases, illuminations, rotations))
        self.folded = (h, i, r)
        self.sizes = (inner[0] * h, inner[1] * i, inner[2] * r)
        if kind.samples > 1 and self.folded[1] > 1:
            raise Unsupported("a CZI file with several illuminations in colour")
        if kind.samples == 4 and self.sizes[1] > 1:
            raise Unsupported("a CZI file with several channels of four samples")
        t, c, z = t + phases * inner[0], c + illuminations * inner[1], z + rotations * inner[2]
        self.plane = (t * self.sizes[1] + c) * self.sizes[2] + z
        self.mosaic = self._at("M")
        self.scenes = int(np.ptp(self._at("S"))) + 1

    def _at(self, axis: str) -> Array:
        start = self._blocks.start.get(axis)
        if start is None:
            return np.zeros(len(self._blocks), np.int64)
        return np.where(start == ABSENT, 0, start)

    def series(self) -> Array:
        """Return the series of each block.

        Scenes, acquisition blocks and views form series; the axis that changes first in the file
        varies fastest, as in ZeissCZIReader.assignPlaneIndices.
        """
        blocks = self._blocks
        series, step = np.zeros(len(blocks), np.int64), 1
        for axis in self._by_first_move("SBV"):
            at = self._at(axis)
            if axis == "S":
                at = at - at.min()
            if axis == "V" and np.any(blocks.start["V"] == ABSENT) and at.max():
                raise Unsupported("a CZI file with subblocks of unknown view")
            series += at * step
            step *= int(at.max()) + 1
            if step > len(blocks):
                raise Unsupported("a CZI file with scenes that have no subblock")
        several = any(self._at(axis).max() for axis in "BV")
        if several and self.mosaic.max():
            raise Unsupported("a CZI file with mosaics of several acquisitions or views")
        return series

    def _by_first_move(self, letters: str) -> list[str]:
        moves = []
        for axis in letters:
            start = self._blocks.start.get(axis)
            if start is None:
                continue
            having = np.flatnonzero(start != ABSENT)
            rises = np.flatnonzero(np.diff(start[having], prepend=0) > 0)
            if len(rises):
                block = int(having[rises[0]])
                order = self._blocks.orders[self._blocks.axes[block]]
                moves.append((block, order.index(axis), axis))
        return [axis for _, _, axis in sorted(moves)]


def _check_guesses(
    blocks: Blocks, axes: _CziAxes, level: Array, count: int, *, grouped: bool
) -> None:
    """Refuse files with fewer subblocks than planes that ZeissCZIReader reads as one series."""
    tiles = 1 if level.any() else int(axes.mosaic.max()) + 1
    series = count * tiles
    planes = math.prod(axes.sizes)
    found = len(blocks)
    if planes * series <= found or series == 1:
        return
    if found in (axes.sizes[0], planes) or (not grouped and count > 1):
        raise Unsupported("a CZI file that lacks planes of several scenes")


def _scene_levels(
    blocks: Blocks, axes: _CziAxes, level: Array, chosen: Array, factor: int
) -> tuple[SubblockTiles, ...]:
    base = chosen[level[chosen] == 0]
    if not len(base):
        raise Unsupported("a CZI file with a pyramid without its full size")
    _check_tiles(blocks, axes, base)
    left, top, width, height = _extent(blocks, base)
    tiles = []
    for number in itertools.count():
        members = chosen[level[chosen] == number]
        scale = factor**number
        size = (height // scale, width // scale)
        # A level must contain a part of every plane.
        whole = bool(np.isin(axes.plane[base], axes.plane[members]).all())
        if not whole or min(size) < 1:
            break
        order = np.argsort(axes.plane[members], kind="stable")
        members = members[order]
        tiles.append(
            SubblockTiles(
                *size,
                plane=axes.plane[members],
                top=(blocks.y[members] - top) // scale,
                left=(blocks.x[members] - left) // scale,
                rows=blocks.stored_height[members],
                columns=blocks.stored_width[members],
                block=members,
            )
        )
    return tuple(tiles)


def _check_tiles(blocks: Blocks, axes: _CziAxes, base: Array) -> None:
    """Refuse planes of several tiles without a mosaic index, and planes of several sizes."""
    keys = axes.plane[base] * (int(axes.mosaic.max()) + 1) + axes.mosaic[base]
    if len(np.unique(keys)) != len(base):
        raise Unsupported("a CZI file with several subblocks for one plane")
    if len(np.unique(axes.plane[base])) == len(base):
        sizes = np.stack([blocks.width[base], blocks.height[base]])
        if np.any(sizes != sizes[:, :1]):
            raise Unsupported("a CZI file with planes of several sizes")


def scene_rectangles(blocks: Blocks) -> dict[int | None, tuple[int, int, int, int]]:
    """Return left, top, width, height of each scene, by its number, out of its full-size subblocks.

    Of a file whose subblocks have no axis S, the only entry is None.
    """
    base = np.flatnonzero(_is_full_size(blocks))
    start = blocks.start.get("S")
    numbers = np.full(len(blocks), ABSENT) if start is None else start
    found: dict[int | None, tuple[int, int, int, int]] = {}
    for number in np.unique(numbers[base]).tolist():
        extent = _extent(blocks, base[numbers[base] == number])
        found[None if number == ABSENT else number] = extent
    if len(found) > 1:
        found.pop(None, None)
    return found
