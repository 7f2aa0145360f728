"""Common picture formats (GIF, PNG, BMP, Targa, JPEG, JPEG 2000, WebP, PNM), read without Java."""

from __future__ import annotations

from bfbridge_pictures.reader import PictureReader

__all__ = ["READER", "WRITER", "PictureReader"]

READER = PictureReader
WRITER = None
