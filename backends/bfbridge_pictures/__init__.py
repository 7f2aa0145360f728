"""Common picture formats (GIF, PNG, BMP, Targa, JPEG, JPEG 2000, WebP, PNM) without Java.

All are read; PNG, JPEG, WebP and BMP are written.
"""

from __future__ import annotations

from bfbridge_pictures.reader import PictureReader
from bfbridge_pictures.writer import PictureWriter

__all__ = ["READER", "WRITER", "PictureReader", "PictureWriter"]

READER = PictureReader
WRITER = PictureWriter
