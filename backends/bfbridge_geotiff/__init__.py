"""Georeferenced rasters (GeoTIFF, COG, JPEG 2000 and others), read with rasterio and GDAL."""

from __future__ import annotations

from bfbridge_geotiff.control_points import pixels_at
from bfbridge_geotiff.reader import GeoReader

__all__ = ["READER", "WRITER", "GeoReader", "pixels_at"]

READER = GeoReader
WRITER = None
