"""`MapTileSource`: a georeferenced raster in a projection, with the tiles of web maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.engine.resample import resample, support, to_dtype
from bfbridge.errors import BadArgument, LimitExceeded
from bfbridge.large_image.frames import Frames, Position
from bfbridge.large_image.regions.coordinates import corners_of, named
from bfbridge.large_image.regions.geometry import Geometry
from bfbridge.large_image.source import TileSource
from bfbridge.rendering.plan import is_indexed
from bfbridge.runtime.arguments import number
from bfbridge.runtime.cached_property import cached_property
from bfbridge.virtual.boxes import Box, draw_planes, is_identity, needed_planes

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["MapTileSource"]

Array = np.ndarray[Any, Any]
_TILE: Final = 256
_MOST_TILES: Final = 4096
_LEAST_SHARE: Final = 1 / 510
"""Of pixels that have a value in a new one that has one: an alpha of less than 0.5 in 255."""


@dataclass(frozen=True, slots=True)
class _Grid:
    """The tiles of a projection: tile 0 at level 0 is a square around its origin.

    Attributes
    ----------
    crs
        The projection.
    across
        Its units along a side of the square.
    levels
        Tile levels.
    """

    crs: str
    across: float
    levels: int

    def edges(self, halvings: int, box: Box) -> tuple[float, float, float, float]:
        """Return left, bottom, right, top of a box of pixels: top, left, bottom, right."""
        pixel = self.across / (_TILE << (self.levels - 1 - halvings))
        half = self.across / 2
        top, left, bottom, right = box
        return left * pixel - half, half - bottom * pixel, right * pixel - half, half - top * pixel


class _MapFrames(Frames):
    """One frame: all bands of a raster in a projection, and where it has values."""

    def __init__(self, views: Sequence[ImageView], style: Any, grid: _Grid) -> None:
        super().__init__(views, style)
        self._grid = grid

    @property
    def sizes(self) -> Position:
        return Position(1, 1, 1, 1)

    def read(self, frame: Any, halvings: int, box: Box, *, picture: bool = False) -> Array:
        self.position(frame)
        top, left, bottom, right = box
        rows = range(top // _TILE, -(-bottom // _TILE))
        columns = range(left // _TILE, -(-right // _TILE))
        if len(rows) * len(columns) > _MOST_TILES:
            raise LimitExceeded(
                f"{self.views[0].source_name}: the region has {len(rows) * len(columns):,} tiles "
                f"of the map, and at most {_MOST_TILES:,} are read at once: give a smaller region, "
                "or an output size."
            )
        found: Array | None = None
        for row in rows:
            for column in columns:
                # Whole tiles, as their pixels depend on the box that is projected.
                tile = self._tile(halvings, row, column, picture=picture)
                if found is None:
                    found = np.empty((bottom - top, right - left, tile.shape[2]), tile.dtype)
                y, x = row * _TILE - top, column * _TILE - left
                part = tile[max(0, -y) : bottom - top - y, max(0, -x) : right - left - x]
                at_y, at_x = max(0, y), max(0, x)
                found[at_y : at_y + part.shape[0], at_x : at_x + part.shape[1]] = part
        if found is None:
            raise BadArgument(f"{self.views[0].source_name}: the region is empty.")
        return found

    def _tile(self, halvings: int, row: int, column: int, *, picture: bool) -> Array:
        view = self.views[0]
        top, left = row * _TILE, column * _TILE
        box = self._grid.edges(halvings, (top, left, top + _TILE, left + _TILE))
        pixels, valid = view.warped(box, (_TILE, _TILE), crs=self._grid.crs)
        style = self.style
        plain = view.dtype == np.uint8 and pixels.shape[2] in (1, 3, 4) and not is_indexed(view)
        if style is None and picture and not plain:
            style = {}
        if style is None:
            if view.samples_per_pixel == 4:
                return pixels
            most = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
            alpha = np.where(valid, pixels.dtype.type(most), pixels.dtype.type(0))
            return np.concatenate([pixels, alpha[..., np.newaxis]], axis=-1)
        drawing, image = self._drawing(Position(0, 0, 0, 0), style), self.pyramid(0)
        planes = {plane: pixels[..., plane.c] for plane in needed_planes(image, drawing)}
        drawn = np.array(draw_planes(image, drawing, planes))
        drawn[~valid] = 0
        return drawn

    def draw(
        self, frame: Any, region: tuple[int, int, int, int], size: tuple[int, int],
        rows: slice = slice(None), *, method: str | None = None, picture: bool = False,
    ) -> Array:  # fmt: skip
        left, top, right, bottom = region
        shrink = min((right - left) / size[0], (bottom - top) / size[1])
        halvings = min(self._grid.levels - 1, max(0, math.floor(math.log2(shrink) + 1e-9)))
        scale = 1 << halvings
        lines = np.linspace(top / scale, bottom / scale, size[1] + 1)
        first, stop, _ = rows.indices(size[1])
        edges = lines[first : stop + 1], np.linspace(left / scale, right / scale, size[0] + 1)
        how = method or ("area" if shrink >= 1 else "cubic")
        return self._between(frame, halvings, edges, how, picture=picture)

    def resampled(
        self, frame: Any, halvings: int, box: Box, size: tuple[int, int], method: str,
        *, picture: bool = False,
    ) -> Array:  # fmt: skip
        top, left, bottom, right = box
        edges = (np.linspace(top, bottom, size[1] + 1), np.linspace(left, right, size[0] + 1))
        return self._between(frame, halvings, edges, method, picture=picture)

    def _between(
        self, frame: Any, halvings: int, edges: tuple[Array, Array], method: str, *, picture: bool
    ) -> Array:
        """Read the pixels between edges, which may lie within pixels of the level."""
        view = self.views[0]
        if self.style is None and (is_indexed(view) or view.is_mask):
            method = "nearest"
        side = _TILE << (self._grid.levels - 1 - halvings)
        (top, bottom), (left, right) = (support(line, method, side) for line in edges)
        pixels = self.read(frame, halvings, (top, left, bottom, right), picture=picture)
        if method == "nearest":
            weights = None
            bands = list(np.moveaxis(pixels, -1, 0))
        else:
            # Pixels without a value have no part in the mean of those around them.
            known = pixels[..., -1] != 0
            weights = known.astype(np.float64)
            # Not a product: values that do not count may be NaN.
            bands = [np.where(known, band, 0.0) for band in np.moveaxis(pixels, -1, 0)]
        planes = bands if weights is None else [*bands, weights]
        for axis, (line, start, stop) in enumerate(
            ((edges[0], top, bottom), (edges[1], left, right))
        ):
            if not is_identity(line, start, stop - start):
                planes = [resample(plane, axis, line, start, method) for plane in planes]
        if weights is not None:
            weights = planes.pop()
            known = weights > _LEAST_SHARE
            share = np.where(known, weights, np.inf)
            planes = [*(plane / share for plane in planes[:-1]), planes[-1] * known]
        return np.stack([to_dtype(plane, pixels.dtype) for plane in planes], axis=-1)


class MapTileSource(TileSource):
    """A georeferenced raster in a projection, as large_image's rasterio source shows it.

    Tiles of 256 x 256 are those of web maps: level 0 is a square around the origin of the
    projection that contains the whole Earth, and `sizeX` and `sizeY` are those of this square at
    the level whose pixels are as large as those of the file or smaller. Regions are in its pixels,
    in units of the projection (``"units": "projection"``), or of another reference system
    (``"units": "EPSG:4326"``). Pixels have the bands of the file, and a last one which is 0 where
    there is no value; with a style, and in pictures, they are 8-bit colours.

    Parameters
    ----------
    path, *arguments, **options
        As for `TileSource`.
    projection
        Reference system: "EPSG:3857", its number, a "+proj=" text, or WKT.
    unitsPerPixel
        Units of the projection in a pixel of level 0. Default: that of the whole Earth.

    Raises
    ------
    BadArgument
        The file has no reference system, or the projection is one of longitude and latitude.
    BfbridgeError
        As `BioReader`.
    """

    def __init__(
        self, path: Any, *arguments: Any, projection: Any, unitsPerPixel: float | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        with_backend = {"backend": "geo", "series": 0, **options}
        super().__init__(path, *arguments, **(options if hasattr(path, "levels") else with_backend))
        self._options = {**options, "projection": projection, "unitsPerPixel": unitsPerPixel}
        try:
            grid = self._planned_grid(_projection_named(projection), unitsPerPixel)
        except BaseException:
            self.close()
            raise
        self._grid = grid
        self._frames = _MapFrames(self._frames.views, self._frames.style, grid)

    def _planned_grid(self, crs: str, units: float | None) -> _Grid:
        reference = self._needed_reference()
        reference.bounds(crs)  # raises, if there is no such system
        if units is not None:
            across = number(units, "unitsPerPixel", positive=True) * _TILE
        else:
            (west, _), (east, _) = reference.points([(-180, 0), (180, 0)], "EPSG:4326", crs)
            across = abs(east - west)
            if not across:
                raise BadArgument(f"projection={crs!r:.80}: give unitsPerPixel= for it.")
            if across <= 360:
                raise BadArgument(
                    f"projection={crs!r:.80}: give one with linear units, such as 'EPSG:3857'; not "
                    "longitude and latitude."
                )
        pixel = self.getPixelSizeInMeters()
        if not pixel or not math.isfinite(pixel):
            raise BadArgument(f"{self.name}: its pixels have no size on the Earth.")
        return _Grid(crs, across, max(1, math.ceil(math.log2(across / (pixel * _TILE))) + 1))

    @cached_property
    def _geometry(self) -> Geometry:
        grid = self._grid
        side = _TILE << (grid.levels - 1)
        pixel = (self.getPixelSizeInMeters() or 0) * 1000
        return Geometry(side, side, _TILE, _TILE, grid.levels, None, pixel, pixel)

    def _level_sides(self, halvings: int) -> tuple[int, int]:
        return self.sizeY >> halvings, self.sizeX >> halvings

    def _own_crs(self) -> str | None:
        return self._grid.crs

    @property
    def geospatial(self) -> bool:
        """Whether the source is opened in a projection: True."""
        return True

    @property
    def projection(self) -> str:
        """The projection."""
        return self._grid.crs

    @property
    def bandCount(self) -> int:
        """Bands of the file; pixels have one more, unless the last one is alpha."""
        return self._view.sizes["C"]

    def getMetadata(self) -> dict[str, Any]:
        """Return what `TileSource.getMetadata` does, and the place of the raster.

        Returns
        -------
        dict
            Also geospatial, projection, bounds (in the projection), sourceBounds, sourceSizeX,
            sourceSizeY and sourceLevels (of the file), and bands.
        """
        width, height = self._source_size()
        steps = max(0, math.ceil(math.log2(max(width, height) / _TILE)))
        return {
            **super().getMetadata(), "magnification": None, "magnificationApproximate": False,
            "geospatial": True, "projection": self._grid.crs, "sourceLevels": steps + 1,
            "sourceSizeX": width, "sourceSizeY": height, "bounds": self.getBounds(self._grid.crs),
            "sourceBounds": self.getBounds(), "bands": self.getBandInformation(),
        }  # fmt: skip

    def getCenter(self, crs: Any = None, **more: Any) -> tuple[float, float]:
        """Return the middle of `getBounds`, whose arguments are `crs` and `more`, along Y and X."""
        found = self.getBounds(crs, **more)
        return (found["ymin"] + found["ymax"]) / 2, (found["xmin"] + found["xmax"]) / 2

    def pixelToProjection(
        self, x: float, y: float, level: float | None = None
    ) -> tuple[float, float]:
        """Return the coordinates, in the projection, of a pixel (`x`, `y`) of a tile `level`."""
        side = self.sizeX / self._geometry.at_level(level).scale
        across = self._grid.across
        return (x / side - 0.5) * across, (0.5 - y / side) * across

    def getTileCorners(self, z: int, x: float, y: float) -> tuple[float, float, float, float]:
        """Return xmin, ymin, xmax, ymax, in the projection, of tile `x`, `y` of level `z`."""
        side, half = self._grid.across / 2.0**z, self._grid.across / 2
        return x * side - half, half - (y + 1) * side, (x + 1) * side - half, half - y * side

    def _completed(self, edges: dict[str, Any], units: str) -> dict[str, Any]:
        if units != "projection":
            return edges
        bounds = self.getBounds(self._grid.crs)
        sides = {"left": "xmin", "right": "xmax", "top": "ymax", "bottom": "ymin"}
        return {key: bounds[sides[key]] if n is None else n for key, n in edges.items()}

    def _pixels_of(self, edges: dict[str, Any], units: str) -> dict[str, float]:
        at = {key: n for key, n in edges.items() if n is not None}
        if units != "projection":
            corners = corners_of(edges)
            points = self._needed_reference().points(corners, units, self._grid.crs)
            found = dict(zip(edges, (*points[0], *points[1]), strict=True))
            at = {key: found[key] for key in at}
        side, across = float(self.sizeX), self._grid.across
        signs = {"left": 1, "right": 1, "top": -1, "bottom": -1}
        pixels = {
            key: max(0.0, min(side, (0.5 + signs[key] * n / across) * side))
            for key, n in at.items()
        }
        for low, high in (("left", "right"), ("top", "bottom")):
            if low in pixels and high in pixels:
                pixels[low], pixels[high] = sorted((pixels[low], pixels[high]))
        return pixels

    def _of_image(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return options of a region, which is by default that of the image."""
        if options.get("region"):
            return options
        bounds = self.getBounds(self._grid.crs)
        edges = {"left": "xmin", "right": "xmax", "top": "ymax", "bottom": "ymin"}
        region = {key: bounds[name] for key, name in edges.items()}
        return {**options, "region": {**region, "units": "projection"}}

    def getBandInformation(self, statistics: bool = False, **options: Any) -> dict[int, Any]:
        """Return what each band is, counted from 1.

        `statistics` and `options` are those of `TileSource.getBandInformation`.
        """
        found = super().getBandInformation(statistics, **options)
        if self._view.samples_per_pixel == 1:
            for band, known in found.items():
                known["interpretation"] = "gray" if band == 1 else "undefined"
        return found

    def getPixel(self, includeTileRecord: bool = False, **options: Any) -> dict[str, Any]:
        """Return one pixel; ``bands`` has the stored value of each band, counted from 1.

        `includeTileRecord`, `options` and further results are those of `TileSource.getPixel`.
        """
        found = super().getPixel(includeTileRecord=True, **options)
        tile = found.pop("tile", None)
        if tile is not None:
            place = self.pixelToProjection(tile["gx"] + 0.5, tile["gy"] + 0.5)
            x, y = self.toNativePixelCoordinates(*place, roundResults=False)
            width, height = self._source_size()
            if 0 <= x < width and 0 <= y < height:
                values = self._view.levels[0][int(y), int(x), 0, :, 0].ravel().tolist()
                found["bands"] = dict(enumerate(values, 1))
            if includeTileRecord:
                found["tile"] = tile
        return found


def _projection_named(value: Any) -> str:
    found = named(value)
    if not isinstance(found, str) or found == "projection":
        raise BadArgument(f"projection={value!r:.80}: give 'EPSG:3857', a '+proj=' text or WKT.")
    return found
