"""Tile arithmetic: XYZ, DeepZoom and raw tiles of an image whose levels halve exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import quoteattr

from bfbridge.serve.replies import Refused
from bfbridge.virtual.boxes import Box, level_sides

if TYPE_CHECKING:
    from bfbridge.virtual.pyramid import VirtualImage

__all__ = [
    "DEFAULT_SIDE",
    "LARGEST_SIDE",
    "SMALLEST_SIDE",
    "deepzoom_document",
    "deepzoom_level",
    "stored_side",
    "tile_box",
    "xyz_level",
    "zooms",
]

DEFAULT_SIDE: Final = 256
SMALLEST_SIDE, LARGEST_SIDE = 64, 2048


def tile_box(image: VirtualImage, level: int, row: int, column: int, side: int) -> Box:
    """Return the box of a tile, cut at the level's edge.

    Raises
    ------
    Refused
        404: there is no such tile.
    """
    height, width = level_sides(image, level)
    top, left = row * side, column * side
    if not (0 <= top < height and 0 <= left < width):
        raise Refused(404, "there is no such tile")
    return top, left, min(height, top + side), min(width, left + side)


def zooms(image: VirtualImage, side: int) -> int:
    """Return the zoom at which XYZ tiles have full size; at 0 one tile contains the whole image."""
    longest = max(image.levels[0].shape[3:])
    return max(0, (-(-longest // side) - 1).bit_length())


def xyz_level(image: VirtualImage, zoom: int, side: int) -> int:
    """Return the level, in halvings, of a zoom.

    Raises
    ------
    Refused
        404: there is no such zoom.
    """
    most = zooms(image, side)
    if not 0 <= zoom <= most:
        raise Refused(404, f"there are the zooms 0 to {most}")
    return most - zoom


def deepzoom_level(image: VirtualImage, number: int) -> int:
    """Return the level, in halvings, of a DeepZoom level; 0 is a single pixel.

    Raises
    ------
    Refused
        404: there is no such level.
    """
    most = (max(image.levels[0].shape[3:]) - 1).bit_length()
    if not 0 <= number <= most:
        raise Refused(404, f"there are the levels 0 to {most}")
    return most - number


def deepzoom_document(image: VirtualImage, side: int, form: str) -> bytes:
    """Return the XML document of a DeepZoom image."""
    height, width = image.levels[0].shape[3:]
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" '
        f'Format={quoteattr(form)} Overlap="0" TileSize="{side}">'
        f'<Size Height="{height}" Width="{width}"/></Image>\n'
    ).encode()


def stored_side(image: VirtualImage) -> int:
    """Return the fastest tile side: that of the square tiles of the file, otherwise 256."""
    height, width = image.view.chunks[:2]
    fits = height == width and SMALLEST_SIDE <= height <= LARGEST_SIDE // 2
    return height if fits else DEFAULT_SIDE
