"""Georeferenced rasters (GeoTIFF, COG, JPEG 2000 and others), read with rasterio and GDAL."""

from __future__ import annotations

from bfbridge_geotiff.reader import GeoReader

__all__ = ["READER", "WRITER", "GeoReader"]

READER = GeoReader
WRITER = None
