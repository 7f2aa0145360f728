"""Names that scripts take from ``large_image.exceptions``: errors of `bfbridge.errors`."""

from __future__ import annotations

from bfbridge.errors import BadSelection, BfbridgeError, FileMissing

__all__ = [
    "TileGeneralError",
    "TileGeneralException",
    "TileSourceError",
    "TileSourceException",
    "TileSourceFileNotFoundError",
    "TileSourceRangeError",
    "TileSourceXYZRangeError",
]

TileSourceError = BfbridgeError
"""Base class of the errors of this package."""
TileGeneralError = TileSourceError
TileGeneralException = TileSourceError
TileSourceException = TileSourceError
TileSourceFileNotFoundError = FileMissing
TileSourceRangeError = BadSelection
TileSourceXYZRangeError = BadSelection
