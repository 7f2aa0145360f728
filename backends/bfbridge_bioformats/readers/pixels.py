"""Java's pixels: their types, the layout of the bytes of a plane, and the blocks of a level."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

__all__ = ["DTYPES", "JAVA_ARRAY_LIMIT", "JAVA_NAMES", "PlaneLayout", "block_size", "samples_first"]

# loci.formats.FormatTools: INT8 0 ... BIT 8. openBytes returns a bit as a byte that is 0 or 1 (or
# as stored in the file), never packed. Complex pixels do not occur: the OME types "complex" and
# "double-complex" have no FormatTools constant.
_NAMES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64", "uint8")
DTYPES: Final[tuple[np.dtype[Any], ...]] = tuple(np.dtype(name) for name in _NAMES)

# The names in FormatTools.getPixelTypeString of the types that can be written.
JAVA_NAMES: Final = {
    **{name: name for name in _NAMES[:6]},
    "float32": "float",
    "float64": "double",
}

# Length of the longest Java array that every JVM can allocate.
JAVA_ARRAY_LIMIT: Final = (1 << 31) - 8

# Pixels of a joined block: 2048 x 2048. Decoding takes most of the time, but a block must fit
# into caches.
_JOINED_SIDE: Final = 2048


class PlaneLayout(NamedTuple):
    """Layout of one plane of an image in the result of openBytes.

    Attributes
    ----------
    dtype
        Including the byte order of the file.
    samples
        Samples per pixel (1 unless RGB).
    interleaved
        Whether the samples of a pixel are adjacent; otherwise there is one plane for each sample.
    """

    dtype: np.dtype[Any]
    samples: int
    interleaved: bool


def samples_first(raw: np.ndarray[Any, Any], layout: PlaneLayout, height: int, width: int) -> Any:
    """View the bytes of one block as samples x Y x X, without copying.

    Parameters
    ----------
    raw
        uint8, one dimension, as openBytes filled it.
    layout
        Layout of the image.
    height, width
        Size of the block.
    """
    values = raw.view(layout.dtype)
    if layout.interleaved and layout.samples > 1:
        return values.reshape(height, width, layout.samples).transpose(2, 0, 1)
    return values.reshape(layout.samples, height, width)


def block_size(
    size_x: int, size_y: int, tile_x: int, tile_y: int, pixel_bytes: int
) -> tuple[int, int]:
    """Return the (height, width) of blocks in which a level is read fastest.

    Parameters
    ----------
    size_x, size_y
        Of the level.
    tile_x, tile_y
        The reader's getOptimalTileWidth and getOptimalTileHeight: size of a stored tile or strip.
    pixel_bytes
        Bytes of a pixel with all its samples.

    Returns
    -------
    (height, width)
        A multiple of the stored tile, joined to about 2048 x 2048 pixels; full-width bands for
        strips; never larger than the level or than one Java array.
    """
    width = min(max(tile_x, 1), size_x)
    height = min(max(tile_y, 1), size_y)
    if width == size_x:
        rows = _JOINED_SIDE * _JOINED_SIDE // width
        height *= max(rows // height, 1)
    else:
        width *= max(_JOINED_SIDE // width, 1)
        height *= max(_JOINED_SIDE // height, 1)
    width, height = min(width, size_x), min(height, size_y)
    most = max((JAVA_ARRAY_LIMIT // pixel_bytes) // width, 1)
    return min(height, most), width
