"""Levels of images as objects to read: `ImageView`, the base class of `BioReader`.

Public. Imported by reader.py and by everything above it. Lower modules receive views as arguments
and import them for type checkers only.
"""

from bfbridge.views.image_view import ImageView, LevelViews, SeriesViews

__all__ = ["ImageView", "LevelViews", "SeriesViews"]
