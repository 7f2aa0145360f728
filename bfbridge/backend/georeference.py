"""Positions of images on the Earth: part of the backend contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["GeoReference"]

Array = np.ndarray[Any, Any]


class GeoReference(ABC):
    """Position of an image on the Earth.

    Attributes
    ----------
    crs
        Coordinate reference system: "EPSG:32633", or WKT if it has no such number.
    transform
        a, b, c, d, e, f: the outer corner of pixel (column, row) at full size has the coordinates
        x = a * column + b * row + c, y = d * column + e * row + f.
    is_geographic
        Whether coordinates are longitude and latitude.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    is_geographic: bool

    @abstractmethod
    def bounds(self, crs: str | None = None) -> tuple[float, float, float, float]:
        """Return left, bottom, right, top of the image.

        Parameters
        ----------
        crs
            Reference system of the result. Default: that of the image.

        Raises
        ------
        BadArgument
            There is no such reference system, or the image has no place in it.
        """

    @abstractmethod
    def points(
        self,
        points: Sequence[tuple[float, float]],
        source: str | None = None,
        target: str | None = None,
    ) -> list[tuple[float, float]]:
        """Return points in another reference system.

        Parameters
        ----------
        points
            x, y of each; longitude before latitude.
        source, target
            Reference systems of the arguments and of the result. Default: that of the image.

        Raises
        ------
        BadArgument
            There is no such reference system, or a point has no place in it.
        """

    @abstractmethod
    def pixel_box(
        self, box: tuple[float, float, float, float], crs: str | None = None
    ) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom in pixels of full size of a box in a reference system.

        The result contains the box, and may leave the image. Raises as `bounds`.

        Parameters
        ----------
        box
            Left, bottom, right, top.
        crs
            Its reference system. Default: that of the image.
        """

    @abstractmethod
    def read(
        self,
        crs: str,
        box: tuple[float, float, float, float],
        size: tuple[int, int],
        resampling: str = "nearest",
    ) -> tuple[Array, Array]:
        """Return the pixels of a box in a reference system, and whether each has a value.

        Parameters
        ----------
        crs, box
            The reference system, and left, bottom, right, top in it.
        size
            Height and width of the result.
        resampling
            Method: "nearest", "bilinear", "cubic", "average", "mode" and others of GDAL.

        Returns
        -------
        (pixels, valid)
            Shape (C, Y, X) in the image's dtype, and (Y, X) of booleans.
        """
