"""Which tiles a tile iterator has, and where they lie. Pure code, no I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bfbridge.errors import BadArgument
from bfbridge.large_image.regions.geometry import Geometry, Magnification, fit, unit_of
from bfbridge.runtime.arguments import flag, number, whole

__all__ = ["Line", "TilePlan", "plan_tiles"]

MOST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Line:
    """Tiles along one axis of a level.

    Attributes
    ----------
    start, stop
        Of the region, in pixels of the level.
    stride
        Pixels from tile to tile.
    overlap
        Pixels that neighbours share.
    edges
        Whether the first and last tile lack the overlap on their outer side; else they are whole.
    origin
        Where tile 0 starts.
    """

    start: int
    stop: int
    stride: int
    overlap: int
    edges: bool
    origin: int = 0

    @property
    def first(self) -> int:
        """Number of the first tile."""
        return (self.start - self.origin) // self.stride

    @property
    def last(self) -> int:
        """Number behind that of the last tile."""
        inside = self.stop - self.origin - (0 if self.edges else self.overlap)
        return max(-(-inside // self.stride), self.first + 1)

    def box(self, tile: int) -> tuple[int, int, int, int]:
        """Return start, stop, and the overlap before and behind of a tile.

        The overlaps are what a neighbour also has and is not to be used for this tile, so none at
        the outer side of the first and the last one, unless `edges`.
        """
        half = self.overlap // 2
        core = tile * self.stride + self.origin + (0 if self.edges else half)
        start = max(self.start, core - half)
        stop = min(self.stop, core - half + self.stride + self.overlap)
        before, behind = max(0, core - start), max(0, stop - core - self.stride)
        if not self.edges and self.overlap:
            if tile == self.first:
                before, behind = 0, min(stop - start, self.overlap - half)
            if tile == self.last - 1:
                behind = 0
        return start, stop, before, behind


@dataclass(frozen=True, slots=True)
class TilePlan:
    """The tiles of a tile iterator.

    Attributes
    ----------
    level
        Tile level that tiles are read from.
    region
        Left, top, right, bottom of the region at full size.
    x, y
        Tiles along the two axes, in pixels of `level`.
    output
        Requested width and height of the whole region.
    scale
        Pixels of `level` to one requested pixel.
    is_resampled
        Whether tiles are made `scale` times smaller.
    position
        Number of the only tile there is to be, or None.
    """

    level: int
    region: tuple[int, int, int, int]
    x: Line
    y: Line
    output: tuple[int, int]
    scale: float
    is_resampled: bool
    position: int | None = None

    @property
    def columns(self) -> int:
        """Tiles along X."""
        return self.x.last - self.x.first

    @property
    def count(self) -> int:
        """Tiles of the whole region."""
        return self.columns * (self.y.last - self.y.first)

    @property
    def positions(self) -> range:
        """Numbers of the tiles to yield."""
        if self.position is None:
            return range(self.count)
        return range(self.position, self.position + (0 <= self.position < self.count))


def plan_tiles(
    geometry: Geometry,
    *,
    region: Mapping[str, Any] | None = None,
    scale: Mapping[str, Any] | None = None,
    output: Mapping[str, Any] | None = None,
    tile_size: Mapping[str, Any] | None = None,
    tile_overlap: Mapping[str, Any] | None = None,
    tile_offset: Mapping[str, Any] | None = None,
    tile_position: Any = None,
    resample: bool = False,
) -> TilePlan | None:
    """Plan the tiles of a region.

    Parameters
    ----------
    geometry
        The image.
    region
        As `Geometry.bounds` takes it.
    scale
        magnification, mm_x, mm_y, and exact.
    output
        maxWidth, maxHeight, which make `scale` a unit of the region only.
    tile_size
        width, height; one alone is used for both.
    tile_overlap
        x, y, edges, and the units of x and y: pixels of the result (None), or as of regions.
    tile_offset
        left, top, or auto: tiles start where the region does.
    tile_position
        Number of one tile; or a mapping with position, region_x and region_y, or level_x and
        level_y.
    resample
        Whether tiles are made to fit `scale` or `output` exactly.

    Returns
    -------
    TilePlan or None
        None for nothing: an empty region, or no level that fits exactly.

    Raises
    ------
    BadArgument
        Values that make no sense.
    """
    output = dict(output or {})
    _check(output, "output", ("maxWidth", "maxHeight"))
    limits = [output.get(name) for name in ("maxWidth", "maxHeight")]
    most_width, most_height = (
        None if n is None else whole(n, "output: maxWidth, maxHeight", 0, MOST) for n in limits
    )
    level, at = geometry.scale_of(scale)
    exact = bool((scale or {}).get("exact")) and limits == [None, None]
    if level is None and exact:
        return None
    edges = geometry.bounds(region or {}, at)
    left, top, right, bottom = (int(edge) for edge in edges)
    width, height = right - left, bottom - top
    if not width or not height or 0 in limits:
        return None
    wanted = _wanted(most_width, most_height, width, height, at)
    out_width, out_height, shrink = wanted
    if not out_width or not out_height:
        return None
    chosen = _level_for(geometry, out_width / width, out_height / height)
    if exact and level != chosen:
        return None
    factor = 1 << (geometry.levels - 1 - chosen)
    plan = TilePlan(
        chosen,
        (left, top, right, bottom),
        *_lines((left, top, right, bottom), factor),
        (out_width, out_height),
        shrink / factor,
        is_resampled=bool(resample) and round(shrink / factor, 2) != 1.0,
    )
    return _gridded(plan, geometry, tile_size, tile_overlap, tile_offset, tile_position)


def _wanted(
    most_width: int | None, most_height: int | None, width: int, height: int, at: Magnification
) -> tuple[int, int, float]:
    """Return width, height and scale of the result."""
    if most_width is not None or most_height is not None:
        return fit(most_width, most_height, width, height)
    if at.scale == 1:
        return width, height, 1.0
    return *fit(width / at.scale, height / at.scale, width, height)[:2], at.scale


def _level_for(geometry: Geometry, *shares: float) -> int:
    """Return the coarsest level that is at least as fine as wanted."""
    top = geometry.levels - 1
    step = math.ceil(round(math.log2(min(shares)), 4))
    return max(0, min(top, top + step))


def _lines(edges: tuple[int, int, int, int], factor: int) -> tuple[Line, Line]:
    """Return both axes of a region in pixels of a level, as large_image rounds them."""
    lines = []
    for start, stop in (edges[::2], edges[1::2]):
        low = start // factor
        lines.append(Line(low, max(stop // factor, low + 1), 1, 0, edges=False))
    return lines[0], lines[1]


def _gridded(
    plan: TilePlan,
    geometry: Geometry,
    tile_size: Mapping[str, Any] | None,
    tile_overlap: Mapping[str, Any] | None,
    tile_offset: Mapping[str, Any] | None,
    tile_position: Any,
) -> TilePlan:
    """Return the plan with its tiles."""
    size, overlap, offset = dict(tile_size or {}), dict(tile_overlap or {}), dict(tile_offset or {})
    _check(size, "tile_size", ("width", "height"))
    _check(overlap, "tile_overlap", ("x", "y", "edges", "units"))
    _check(offset, "tile_offset", ("left", "top", "auto"))
    lines = []
    sides = (("width", "height", "x", "left", plan.x), ("height", "width", "y", "top", plan.y))
    for index, (side, other, axis, near, line) in enumerate(sides):
        given = size.get(side, size.get(other))
        stored = (geometry.tile_width, geometry.tile_height)[index]
        long = stored if given is None else whole(given, f"tile_size: {side}", 1, MOST)
        shared = _overlap(plan, geometry, overlap, axis)
        if shared >= long:
            raise BadArgument(
                f"tile_overlap: {axis}={shared} pixels: it must be smaller than the tile, {long}."
            )
        stride = long - shared
        if plan.is_resampled:
            stride, shared = math.ceil(stride * plan.scale), math.ceil(shared * plan.scale)
        edges = flag(overlap.get("edges", False), "tile_overlap: edges")
        origin = whole(offset.get(near) or 0, f"tile_offset: {near}", -MOST, MOST)
        lines.append(replace(line, stride=stride, overlap=shared, edges=edges, origin=origin))
    if offset.get("auto") and all(line.stop - line.start >= line.stride for line in lines):
        lines = [replace(line, origin=line.start) for line in lines]
    lines = [
        replace(line, origin=line.start - line.start % line.stride)
        if line.origin > line.start else line
        for line in lines
    ]  # fmt: skip
    found = replace(plan, x=lines[0], y=lines[1])
    return replace(found, position=_position(found, tile_position))


def _check(given: Mapping[str, Any], name: str, known: tuple[str, ...]) -> None:
    unknown = set(given) - set(known)
    if unknown:
        raise BadArgument(
            f"{name}: there is no {min(map(str, unknown))!r}; there are {', '.join(known)}."
        )


def _overlap(plan: TilePlan, geometry: Geometry, overlap: Mapping[str, Any], axis: str) -> int:
    """Return the overlap along an axis in pixels of the result."""
    value = overlap.get(axis) or 0
    if overlap.get("units") is None:
        return whole(value, f"tile_overlap: {axis}", 0, MOST)
    unit = unit_of(overlap["units"])
    if unit == "mag_pixels":
        return whole(value, f"tile_overlap: {axis}", 0, MOST)
    length = {"x": "width", "y": "height"}[axis]
    at = {"left": 0, "top": 0, length: number(value, f"tile_overlap: {axis}"), "units": unit}
    _, _, right, bottom = geometry.bounds(at, cut=False)
    # Pixels of the level tiles are read from, or of the result where they are resampled.
    factor = 1 << (geometry.levels - 1 - plan.level)
    pixel = factor * (plan.scale if plan.is_resampled else 1)
    return whole(
        round((right if axis == "x" else bottom) / pixel), f"tile_overlap: {axis}", 0, MOST
    )


def _position(plan: TilePlan, given: Any) -> int | None:
    """Return the number of the only requested tile, or -1 if it does not exist."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        return whole(given, "tile_position", -MOST, MOST)
    if given.get("position") is not None:
        return whole(given["position"], "tile_position: position", -MOST, MOST)
    for prefix, x0, y0 in (("region", 0, 0), ("level", plan.x.first, plan.y.first)):
        if f"{prefix}_x" in given and f"{prefix}_y" in given:
            x = whole(given[f"{prefix}_x"], f"tile_position: {prefix}_x", -MOST, MOST) - x0
            y = whole(given[f"{prefix}_y"], f"tile_position: {prefix}_y", -MOST, MOST) - y0
            return x + y * plan.columns if 0 <= x < plan.columns and y >= 0 else -1
    raise BadArgument(
        f"tile_position={given!r:.80}: give a number, or position, region_x and region_y, or "
        "level_x and level_y."
    )
