"""Levels of images as objects to read: `ImageView`, which `BioReader` is for a whole file.

Public. Imported by reader.py and by everything above it; what is below takes views as arguments and
imports them for type checkers only.
"""

from bfbridge.views.image_view import ImageView, LevelViews, SeriesViews

__all__ = ["ImageView", "LevelViews", "SeriesViews"]
