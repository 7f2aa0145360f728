"""Pixels at coordinates by ground control points, for images without a reference system."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import rasterio.warp
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer

from bfbridge.errors import BadArgument
from bfbridge_geotiff.datasets import safely
from bfbridge_geotiff.georeference import crs_named

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["pixels_at"]

Point = tuple[float, float]


def pixels_at(
    points: Sequence[Point], crs: Any, control: Sequence[Sequence[float]], control_crs: Any
) -> list[Point]:
    """Return column and row of points; they may lie outside the image.

    Parameters
    ----------
    points
        x, y of each in the reference system `crs`.
    crs
        Reference system of `points`.
    control
        x and y in `control_crs`, column, row of each ground control point.
    control_crs
        Reference system of `control`.

    Raises
    ------
    BadArgument
        There is no such reference system, or the control points define no transform.
    """
    there, here = crs_named(crs), crs_named(control_crs)
    pairs = [(x, y) for x, y, _, _ in control]
    with safely("ground control points"):
        try:
            xs, ys = rasterio.warp.transform(here, there, *zip(*pairs, strict=True))[:2]
            known = [
                GroundControlPoint(x=x, y=y, col=point[2], row=point[3])
                for x, y, point in zip(xs, ys, control, strict=True)
            ]
            with GCPTransformer(known) as transformer:
                rows, columns = transformer.rowcol(*zip(*points, strict=True))
        except Exception as error:  # rasterio's errors of GDAL have no public base class
            raise BadArgument(
                f"ground control points {list(control)!r:.200}: they define no transform ({error})."
            ) from error
    found = [(float(column), float(row)) for column, row in zip(columns, rows, strict=True)]
    if not all(math.isfinite(place) for pixel in found for place in pixel):
        raise BadArgument(f"{crs!r:.80}: the control points have no place for {list(points)}.")
    return found
