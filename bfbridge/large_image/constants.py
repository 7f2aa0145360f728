"""Names that scripts take from ``large_image.constants``."""

from __future__ import annotations

from bfbridge.large_image.encoding import (
    MIME_TYPES,
    TILE_FORMAT_IMAGE,
    TILE_FORMAT_NUMPY,
    TILE_FORMAT_PIL,
)

__all__ = ["TILE_FORMAT_IMAGE", "TILE_FORMAT_NUMPY", "TILE_FORMAT_PIL", "TileOutputMimeTypes"]

TileOutputMimeTypes = MIME_TYPES
"""MIME type by encoding."""
