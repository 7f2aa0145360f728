"""Coordinates of a raster: reference systems, bounds, and reading in another projection."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import rasterio.warp
from affine import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import CRSError, RasterioError
from rasterio.vrt import WarpedVRT

from bfbridge.backend import GeoReference
from bfbridge.errors import BadArgument
from bfbridge_geotiff.datasets import DatasetPool, Kit, safely

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["RasterReference", "crs_named", "name_of", "resampling_named"]

Array = np.ndarray[Any, Any]
_EDGE_POINTS: Final = 21
_MOST_PIXELS: Final = 1 << 26


def crs_named(value: Any, what: str = "crs") -> CRS:
    """Return a reference system by name, number or WKT.

    Raises
    ------
    BadArgument
        There is none of that name.
    """
    try:
        return CRS.from_user_input(value)
    except (CRSError, ValueError, TypeError) as error:
        raise BadArgument(
            f"{what}={value!r:.80}: there is no such reference system ({error}). Give 'EPSG:3857', "
            "or WKT."
        ) from error


def name_of(crs: CRS) -> str:
    """Return the name of a reference system: its EPSG number, or WKT."""
    number = crs.to_epsg()
    return crs.to_wkt() if number is None else f"EPSG:{number}"


def resampling_named(value: Any) -> Resampling:
    """Return a resampling method by name.

    Raises
    ------
    BadArgument
        There is none of that name.
    """
    # Gauss is for overviews only.
    known = {method.name: method for method in Resampling if method.name != "gauss"}
    if value not in known:
        raise BadArgument(f"resampling={value!r:.80}: use one of {', '.join(known)}.")
    return known[value]


def _around(
    transform: Affine, box: tuple[float, float, float, float]
) -> tuple[float, float, float, float]:
    """Return the box around the corners of a box after a transform."""
    # Not with operators of Affine: their names differ between its versions 2 and 3.
    a, b, c, d, e, f = tuple(transform)[:6]
    corners = [(x, y) for x in box[::2] for y in box[1::2]]
    xs = [a * x + b * y + c for x, y in corners]
    ys = [d * x + e * y + f for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


class RasterReference(GeoReference):
    """The coordinates of one dataset.

    Parameters
    ----------
    pool
        The datasets of the file.
    crs, transform, size
        Reference system, transform, and (height, width) of the raster as it is read.
    warp
        Options of `WarpedVRT` of a raster that is read in another projection; else None.
    """

    def __init__(
        self,
        pool: DatasetPool,
        crs: CRS,
        transform: Affine,
        size: tuple[int, int],
        warp: Mapping[str, Any] | None = None,
    ) -> None:
        self._pool, self._crs, self._affine, self._size = pool, crs, transform, size
        self._warp = warp
        self.crs = name_of(crs)
        self.is_geographic = bool(crs.is_geographic)
        a, b, c, d, e, f = tuple(transform)[:6]
        self.transform = (a, b, c, d, e, f)

    def bounds(self, crs: str | None = None) -> tuple[float, float, float, float]:
        height, width = self._size
        return self._transformed(_around(self._affine, (0, 0, width, height)), self._crs, crs)

    def _transformed(
        self, box: tuple[float, float, float, float], source: CRS, crs: str | None
    ) -> tuple[float, float, float, float]:
        if crs is None:
            return box
        return self._between(box, source, crs_named(crs), crs)

    def _between(
        self, box: tuple[float, float, float, float], source: CRS, target: CRS, shown: object
    ) -> tuple[float, float, float, float]:
        if source == target:
            return box
        with safely(self._pool.name):
            try:
                found = rasterio.warp.transform_bounds(
                    source, target, *box, densify_pts=_EDGE_POINTS
                )
            except RasterioError as error:
                raise BadArgument(
                    f"{self._pool.name}: {shown!r:.80} has no place for {box} ({error})."
                ) from error
        if not all(map(math.isfinite, found)):
            raise BadArgument(f"{self._pool.name}: {shown!r:.80} has no place for {box}.")
        return found[0], found[1], found[2], found[3]

    def points(
        self,
        points: Sequence[tuple[float, float]],
        source: str | None = None,
        target: str | None = None,
    ) -> list[tuple[float, float]]:
        here, there = (self._crs if crs is None else crs_named(crs) for crs in (source, target))
        if here == there or not points:
            return [(float(x), float(y)) for x, y in points]
        with safely(self._pool.name):
            try:
                xs, ys = rasterio.warp.transform(here, there, *zip(*points, strict=True))[:2]
            except RasterioError as error:
                raise BadArgument(
                    f"{self._pool.name}: {target!r:.80} has no place for {points} ({error})."
                ) from error
        if not all(map(math.isfinite, (*xs, *ys))):
            raise BadArgument(f"{self._pool.name}: {target!r:.80} has no place for {points}.")
        return list(zip(xs, ys, strict=True))

    def pixel_box(
        self, box: tuple[float, float, float, float], crs: str | None = None
    ) -> tuple[float, float, float, float]:
        source = self._crs if crs is None else crs_named(crs)
        left, bottom, right, top = self._between(box, source, self._crs, crs)
        return _around(~self._affine, (left, bottom, right, top))

    def read(
        self,
        crs: str,
        box: tuple[float, float, float, float],
        size: tuple[int, int],
        resampling: str = "nearest",
    ) -> tuple[Array, Array]:
        target, method = crs_named(crs), resampling_named(resampling)
        left, bottom, right, top = box
        height, width = size
        if height < 1 or width < 1 or height * width > _MOST_PIXELS:
            raise BadArgument(f"size={size}: give a height and width of 1 or more pixels.")
        if not (left < right and bottom < top and all(map(math.isfinite, box))):
            raise BadArgument(f"box={box}: give left, bottom, right, top.")
        transform = Affine((right - left) / width, 0, left, 0, (bottom - top) / height, top)

        def warp(kit: Kit) -> tuple[Array, Array]:
            dataset = kit.dataset()
            count = dataset.count
            has_alpha = ColorInterp.alpha in dataset.colorinterp
            with WarpedVRT(
                dataset,
                crs=target,
                transform=transform,
                height=height,
                width=width,
                resampling=method,
                add_alpha=not has_alpha,
            ) as warped:
                found = warped.read()
                if has_alpha:
                    valid = found[dataset.colorinterp.index(ColorInterp.alpha)] != 0
                else:
                    valid = found[count] != 0
            return found[:count], valid

        return self._pool.run(warp)
