"""Coordinates on the Earth: reference system, transform, bounds, and regions in them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from bfbridge import registry
from bfbridge.errors import BadArgument, BadSelection, UnreadableFile, Unsupported
from bfbridge.storage.signatures import PICTURE_MAGIC, is_tiff
from bfbridge.tiff.coordinates import has_coordinates

if TYPE_CHECKING:
    import numpy as np
    from affine import Affine

    from bfbridge.backend import GeoReference, ReaderBackend
    from bfbridge.files.open_file import OpenFile

__all__ = ["Georeferenced", "georeference_of", "is_reference_system", "spans_in_pixels"]

_STORED: Final = "projection"
"""Unit of regions: the coordinates of the file's own reference system."""
_JPEG_2000: Final = PICTURE_MAGIC[-2:]


class Georeferenced:
    """Methods of views of georeferenced images; see `bfbridge.views.ImageView`."""

    @property
    def crs(self: Any) -> str | None:
        """Coordinate reference system: "EPSG:32633", or WKT; None if the file has none."""
        found = georeference_of(self)
        return None if found is None else found.crs

    @property
    def transform(self: Any) -> Affine:
        """Transform from (column, row) of this level to coordinates: an `affine.Affine`.

        Raises
        ------
        BadArgument
            The file has no reference system.
        """
        from affine import Affine

        full, here = self.levels[0].sizes, self.sizes
        a, b, c, d, e, f = _needed(self).transform
        wide, high = full["X"] / here["X"], full["Y"] / here["Y"]
        return Affine(a * wide, b * high, c, d * wide, e * high, f)

    def bounds(self: Any, crs: str | None = None) -> tuple[float, float, float, float]:
        """Return left, bottom, right, top of the image.

        Parameters
        ----------
        crs
            Reference system of the result, such as "EPSG:4326" (longitude, latitude). Default:
            that of the file.

        Raises
        ------
        BadArgument
            The file has no reference system, or there is no such system.
        """
        found: tuple[float, float, float, float] = _needed(self).bounds(crs)
        return found

    def warped(
        self: Any,
        box: tuple[float, float, float, float],
        size: tuple[int, int],
        *,
        crs: str = "EPSG:3857",
        resampling: str = "nearest",
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Read a box of a reference system, projected to a grid of pixels.

        Parameters
        ----------
        box
            Left, bottom, right, top in `crs`; parts outside the image have no values.
        size
            Height and width of the result.
        crs
            The reference system. Default: Web Mercator.
        resampling
            "nearest", "bilinear", "cubic", "average", "mode" or another method of GDAL.

        Returns
        -------
        (pixels, valid)
            Shape (Y, X, C) in the image's dtype, and (Y, X) of booleans: False where there is no
            value.

        Raises
        ------
        BadArgument
            The file has no reference system, or an argument is not valid.
        """
        reference = _needed(self)
        with self._file.reading("pixels"):
            pixels, valid = reference.read(crs, box, size, resampling)
        return pixels.transpose(1, 2, 0), valid


def _needed(view: Any) -> GeoReference:
    found = georeference_of(view)
    if found is None:
        raise BadArgument(
            f"{view.source_name}: image {view.index} has no coordinate reference system."
        )
    return found


def georeference_of(view: Any) -> GeoReference | None:
    """Return the position of an image on the Earth; None if the file has none.

    Files that another backend reads are opened once more by the backend for georeferenced rasters,
    if they can have coordinates.

    Raises
    ------
    MissingExtra
        The file can have coordinates, and rasterio is not installed.
    """
    file: OpenFile = view._file
    with file.reading("coordinates") as backend:
        found = backend.georeference(view.index)
        if found is not None or view.index:
            return found
    opened: tuple[ReaderBackend, GeoReference] | None = file.remembered(
        "georeference", lambda: _opened_again(file)
    )
    return None if opened is None else opened[1]


def _opened_again(file: OpenFile) -> tuple[ReaderBackend, GeoReference] | None:
    source = file.source
    head = source.head()
    is_geotiff = is_tiff(source, head) and has_coordinates(source)
    if not (is_geotiff or head.startswith(_JPEG_2000)):
        return None
    options = replace(file.options, backend_options={})
    try:
        reader, _ = registry.open_reader(source, options, "geo")
    except (Unsupported, UnreadableFile):
        return None
    reference = reader.georeference(0)
    if reference is None:
        reader.close()
        return None
    return reader, reference


def is_reference_system(units: Any) -> bool:
    """Return whether units of a region are a reference system."""
    return isinstance(units, str) and (
        units == _STORED
        or ":" in units
        or units.lstrip().startswith(("PROJCS", "GEOGCS", "PROJCRS"))
    )


def spans_in_pixels(
    view: Any, x: Any, y: Any, units: str
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return x and y of a region, given in a reference system, in pixels of a view.

    The region is the smallest one that contains the box, cut to the image.

    Raises
    ------
    BadSelection
        The box does not meet the image.
    BadArgument
        As `Georeferenced.bounds`.
    """
    reference = _needed(view)
    crs = None if units == _STORED else units
    left, bottom, right, top = reference.bounds(crs)
    west, east = _ends(x, "x", left, right)
    south, north = _ends(y, "y", bottom, top)
    box = reference.pixel_box((west, south, east, north), crs)
    full = view.levels[0].sizes
    spans = []
    for low, high, axis in ((box[0], box[2], "X"), (box[1], box[3], "Y")):
        # Coordinates are whole pixels only up to rounding errors.
        start, stop = (round(end, 6) for end in (low, high))
        start, stop = max(0.0, start), min(float(full[axis]), stop)
        if start >= stop:
            raise BadSelection(
                f"{view.source_name}: x={x!r}, y={y!r} in {units!r:.40} lies outside the image, "
                f"whose bounds are {tuple(round(n, 6) for n in (left, bottom, right, top))}."
            )
        scale = view.sizes[axis] / full[axis]
        spans.append((start * scale, stop * scale))
    return spans[0], spans[1]


def _ends(span: Any, axis: str, low: float, high: float) -> tuple[float, float]:
    if span is None:
        return low, high
    numbers = isinstance(span, (tuple, list)) and len(span) == 2
    if not numbers or not all(isinstance(n, (int, float)) or n is None for n in span):
        raise BadSelection(f"{axis}={span!r}: give (start, stop) as numbers, or None.")
    start, stop = (end if n is None else float(n) for n, end in zip(span, (low, high), strict=True))
    if not start < stop:
        raise BadSelection(f"{axis}={span!r}: the start must be less than the stop.")
    return start, stop
