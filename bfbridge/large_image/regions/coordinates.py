"""Coordinates on the Earth of a tile source, in large_image's terms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from bfbridge import registry
from bfbridge.errors import BadArgument
from bfbridge.runtime.arguments import number
from bfbridge.views.geography import georeference_of, is_reference_system

if TYPE_CHECKING:
    from bfbridge.backend import GeoReference
    from bfbridge.large_image.regions.geometry import Geometry
    from bfbridge.views import ImageView

__all__ = ["Coordinates", "box_at_control_points", "corners_of", "named", "reference_system"]

_LONGITUDE_LATITUDE: Final = "EPSG:4326"
_CORNERS: Final = ("ll", "ul", "lr", "ur")
_POLE: Final = 89.999999
"""Latitude that Mercator's projections still have."""
_RADIUS: Final = 6.378e6
"""Of the sphere on which large_image measures pixels, in metres."""
_PROJECTION: Final = "projection"


def reference_system(units: Any) -> str | None:
    """Return the reference system that units of a region name, "projection", or None.

    As in large_image: "EPSG:4326" in any case, "wgs84", "proj4:" and "+proj=" texts, or WKT.
    """
    if not isinstance(units, str):
        return None
    lower = units.lower()
    if lower == _PROJECTION:
        return _PROJECTION
    if lower == "wgs84":
        return _LONGITUDE_LATITUDE
    if lower.startswith("proj4:"):
        return units[6:]
    if lower.startswith("+proj="):
        return units
    if lower.startswith("epsg:"):
        return units.upper()
    return units if is_reference_system(units) else None


def named(crs: Any) -> Any:
    """Return the name of a reference system that may be given as an EPSG number."""
    if isinstance(crs, int) and not isinstance(crs, bool):
        return f"EPSG:{crs}"
    return reference_system(crs) or crs


class Coordinates:
    """Reference system, bounds and scale of a source; see `bfbridge.large_image.TileSource`."""

    if TYPE_CHECKING:

        @property
        def _geometry(self) -> Geometry: ...

        @property
        def _view(self) -> ImageView: ...

    @property
    def _reference(self) -> GeoReference | None:
        return georeference_of(self._view)

    def _needed_reference(self) -> GeoReference:
        found = self._reference
        if found is None:
            raise BadArgument(
                f"{self._view.source_name}: it has no coordinate reference system, so regions in "
                "projections are not supported."
            )
        return found

    def _source_size(self) -> tuple[int, int]:
        sizes = self._view.levels[0].sizes
        return sizes["X"], sizes["Y"]

    def getCrs(self) -> str | None:
        """Return the file's reference system: "EPSG:32633", or WKT; None if it has none."""
        found = self._reference
        return None if found is None else found.crs

    def getBounds(self, crs: Any = None, **more: Any) -> dict[str, Any]:
        """Return the corners of a georeferenced image, or the size of another one.

        Parameters
        ----------
        crs, srs
            Reference system of the result. Default: that of the file.

        Returns
        -------
        dict
            ``ll``, ``ul``, ``lr``, ``ur``: x and y of each corner; ``xmin``, ``xmax``, ``ymin``,
            ``ymax``, and ``srs``. Without coordinates: ``sizeX`` and ``sizeY``.

        Raises
        ------
        BadArgument
            There is no such system, or a corner has no place in it.
        """
        wanted = named(crs if crs is not None else more.get("srs"))
        reference = self._reference
        if reference is None:
            return {"sizeX": self._geometry.width, "sizeY": self._geometry.height}
        width, height = self._source_size()
        a, b, c, d, e, f = reference.transform
        places = {"ll": (0, height), "ul": (0, 0), "lr": (width, height), "ur": (width, 0)}
        corners = [
            (a * x + b * y + c, d * x + e * y + f) for x, y in (places[name] for name in _CORNERS)
        ]
        if wanted is not None:
            if reference.is_geographic:
                corners = _on_the_map(corners, wanted)
            corners = reference.points(corners, None, wanted)
        found: dict[str, Any] = {
            name: {"x": x, "y": y} for name, (x, y) in zip(_CORNERS, corners, strict=True)
        }
        xs, ys = zip(*corners, strict=True)
        found |= {"xmin": min(xs), "xmax": max(xs), "ymin": min(ys), "ymax": max(ys)}
        return {**found, "srs": reference.crs if wanted is None else wanted}

    def getCenter(self, crs: Any = None, **more: Any) -> tuple[float, float]:
        """Return the middle along Y and X: in full-size pixels, or in coordinates.

        In coordinates, those of the arguments of `getBounds`, if the source is opened in a
        projection.
        """
        del crs, more
        return self._geometry.height / 2, self._geometry.width / 2

    def getPixelSizeInMeters(self) -> float | None:
        """Return the mean width of a pixel along the four edges, in metres; None without scale."""
        if self._reference is None:
            return None
        bounds = self.getBounds(_LONGITUDE_LATITUDE)
        corners = [bounds[name] for name in ("ul", "ur", "lr", "ll", "ul")]
        length = sum(_distance(start, end) for start, end in pairwise(corners))
        return length / (2 * sum(self._source_size()))

    def pixelToProjection(
        self, x: float, y: float, level: float | None = None
    ) -> tuple[float, float]:
        """Return the coordinates of a pixel of a tile level, by default of full size.

        Raises
        ------
        BadArgument
            The file has no reference system.
        """
        scale = self._geometry.at_level(level).scale
        a, b, c, d, e, f = self._needed_reference().transform
        x, y = x * scale, y * scale
        return a * x + b * y + c, d * x + e * y + f

    def toNativePixelCoordinates(
        self, x: float, y: float, crs: Any = None, roundResults: bool = True
    ) -> tuple[float, float]:
        """Return the pixel of the file at coordinates.

        Parameters
        ----------
        x, y
            The coordinates.
        crs
            Their reference system. Default: the source's.
        roundResults
            Whether the results are whole numbers.

        Raises
        ------
        BadArgument
            There is no such system, or the file has none.
        """
        source = self._own_crs() if crs is None else named(crs)
        reference = self._needed_reference()
        [(x, y)] = reference.points([(x, y)], source)
        x, y = reference.pixel_box((x, y, x, y))[:2]
        return (round(x), round(y)) if roundResults else (x, y)

    def _own_crs(self) -> str | None:
        """Return the projection of the source, None for that of the file."""
        return None

    def getTileCorners(self, z: int, x: float, y: float) -> tuple[float, float, float, float]:
        """Return xmin, ymin, xmax, ymax of a tile: full-size pixels, Y counted upwards."""
        g = self._geometry
        scale = g.at_level(z).scale
        left, top = scale * x * g.tile_width, scale * y * g.tile_height
        bottom = top + scale * g.tile_height
        return left, g.height - bottom, left + scale * g.tile_width, g.height - top

    # ---- regions

    def _in_pixels(self, region: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Return a region in base pixels if its units are a reference system."""
        units = None if region is None else reference_system(region.get("units"))
        if region is None or units is None:
            return region
        edges = {key: region.get(key) for key in ("left", "top", "right", "bottom")}
        other = region.get("unitsWH")
        if other is not None and reference_system(other) != units:
            given = {key: region[key] for key in ("width", "height", "unitsWH") if key in region}
            found = self._pixels_of(edges, units)
            return {**found, **given, "units": "base_pixels"}
        _fill(edges, "left", "right", region.get("width"))
        _fill(edges, "top", "bottom", region.get("height"))
        return {**self._pixels_of(self._completed(edges, units), units), "units": "base_pixels"}

    def _completed(self, edges: dict[str, Any], units: str) -> dict[str, Any]:
        """Return edges with those that a region in these units has by default."""
        del units
        return edges

    def _pixels_of(self, edges: dict[str, Any], units: str) -> dict[str, float]:
        """Return edges in a reference system in pixels of full size."""
        if units == _PROJECTION:
            raise BadArgument(
                "units='projection': Projections are of sources that are opened with projection=; "
                "give a reference system such as 'EPSG:4326', or base_pixels."
            )
        corners = corners_of(edges)
        found = [self.toNativePixelCoordinates(*corner, units) for corner in corners]
        places = dict(zip(("left", "top", "right", "bottom"), (*found[0], *found[1]), strict=True))
        # A negative number would count from the far edge.
        return {key: max(0, places[key]) for key, value in edges.items() if value is not None}


def box_at_control_points(
    box: Mapping[str, Any], crs: Any, points: Sequence[Sequence[float]], points_crs: Any
) -> tuple[float, float, float, float]:
    """Return left, top, right, bottom in pixels of a box in a reference system.

    Parameters
    ----------
    box
        Its left, top, right and bottom in `crs`.
    crs, points_crs
        Reference systems of `box` and of `points`.
    points
        Ground control points: x, y, column and row of each.

    Raises
    ------
    BadArgument
        An argument is not valid.
    MissingExtra
        rasterio is not installed.
    """
    known = []
    for point in points:
        if not isinstance(point, Sequence) or len(point) != 4:
            raise BadArgument(f"src_gcps: {point!r:.80}: give x, y, column and row of each point.")
        known.append([number(value, "src_gcps") for value in point])
    edges = {}
    for key in ("left", "top", "right", "bottom"):
        if box.get(key) is None:
            raise BadArgument(f"dest_region={box!r:.120}: {key} is missing.")
        edges[key] = number(box[key], f"dest_region: {key}")
    corners = [(edges[x], edges[y]) for x in ("left", "right") for y in ("top", "bottom")]
    backend = registry.find("geo").load()
    found = backend.pixels_at(corners, named(crs), known, named(points_crs))
    xs, ys = zip(*found, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _fill(edges: dict[str, Any], near: str, far: str, size: Any) -> None:
    """Set the edge that is missing from the other one and the size."""
    if size is None:
        return
    if edges[far] is None and edges[near] is not None:
        edges[far] = edges[near] + size
    elif edges[near] is None and edges[far] is not None:
        edges[near] = edges[far] - size


def corners_of(edges: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the upper left and the lower right corner; an edge that is missing is its opposite.

    Raises
    ------
    BadArgument
        Both edges along an axis are missing.
    """
    left, top, right, bottom = (edges[key] for key in ("left", "top", "right", "bottom"))
    if (left is None and right is None) or (top is None and bottom is None):
        raise BadArgument(
            "region: in a reference system, give one of left and right and one of top and bottom "
            "at least."
        )
    return [
        (right if left is None else left, bottom if top is None else top),
        (left if right is None else right, top if bottom is None else bottom),
    ]


def _on_the_map(corners: list[tuple[float, float]], crs: str) -> list[tuple[float, float]]:
    """Return longitudes and latitudes that other systems have, as large_image changes them."""
    most = 90.0 if crs.upper() == _LONGITUDE_LATITUDE else _POLE
    cut = [(x, max(-most, min(most, y))) for x, y in corners]
    west = min(x for x, _ in cut)
    if not -180 <= west < 180:
        shift = (west + 180) % 360 - 180 - west
        cut = [(x + shift, y) for x, y in cut]
    if any(x >= 180 for x, _ in cut):
        cut = [(180.0 if name[1] == "r" else -180.0, y) for name, (_, y) in
               zip(_CORNERS, cut, strict=True)]  # fmt: skip
    return cut


def _distance(start: Mapping[str, float], end: Mapping[str, float]) -> float:
    """Return the length of the great circle between two longitudes and latitudes, in metres."""
    (x0, y0), (x1, y1) = (
        (math.radians(place["x"]), math.radians(place["y"])) for place in (start, end)
    )
    half = math.sin((y1 - y0) / 2) ** 2 + math.cos(y0) * math.cos(y1) * math.sin((x1 - x0) / 2) ** 2
    return 2 * _RADIUS * math.asin(math.sqrt(min(1.0, half)))
