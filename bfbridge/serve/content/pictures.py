"""Pictures of tiles and regions, from the levels of a virtual pyramid."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from bfbridge.engine.resample import resample, support, to_dtype
from bfbridge.errors import BadArgument
from bfbridge.rendering.contrast import real
from bfbridge.rendering.encode import encode_picture
from bfbridge.rendering.plan import Drawing, Plane
from bfbridge.serve.content.query import Shown
from bfbridge.serve.replies import Refused
from bfbridge.virtual.boxes import (
    Box,
    draw_planes,
    is_identity,
    level_sides,
    needed_planes,
    read_box,
)

if TYPE_CHECKING:
    from bfbridge.serve.files.served_file import ServedFile
    from bfbridge.virtual.pyramid import VirtualImage

__all__ = [
    "MAP_RESAMPLING",
    "MapTile",
    "draw_box",
    "draw_map_tile",
    "draw_region",
    "encode",
    "stored_jpeg",
]

Array = np.ndarray[Any, Any]
MAP_RESAMPLING: Final = ("nearest", "bilinear", "cubic", "lanczos", "average", "mode")
"""Methods by which tiles of maps are projected, GDAL's."""
_SPEED: Final = {"png": 1, "jpeg": 85, "webp": 80}
"""Default effort or quality: low, because encoding takes longer than reading."""
_MOST_READ: Final = 8
"""Largest number of pixels that are read for one pixel of the picture."""
_MERCATOR: Final = 20037508.342789244
"""Half the equator in Web Mercator: pi times 6378137 m (EPSG:3857)."""
_ADOBE_RGB: Final = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""Adobe's marker (APP14): three components are red, green and blue."""
_ADOBE_YCC: Final = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x01"


def draw_box(served: ServedFile, series: int, shown: Shown, level: int, box: Box) -> Array:
    """Return a picture of a box of a level, without scaling.

    Returns
    -------
    numpy.ndarray
        (Y, X, 4) of uint8.
    """
    image, drawing = _planned(served, series, shown)
    slices = _bounded_slices(served, image, drawing, shown, level, box)
    planes = _projected(
        needed_planes(image, drawing), slices, lambda planes: read_box(image, level, box, planes)
    )
    return draw_planes(image, drawing, planes)


def _bounded_slices(
    served: ServedFile, image: VirtualImage, drawing: Drawing, shown: Shown, level: int, box: Box
) -> range | None:
    """Return the slices of a projection, or None; refuse more bytes than the limit of a chunk."""
    slices = shown.slices_in(image.view)
    if slices is None:
        return None
    top, left, bottom, right = box
    # Levels beyond the last one are computed from it.
    factor = 1 << max(0, level - len(image.levels) + 1)
    pixels = (bottom - top) * (right - left) * factor**2 * len(needed_planes(image, drawing))
    nbytes = pixels * len(slices) * image.dtype.itemsize
    most = served.reader._file.options.limits.chunk_bytes
    if nbytes > most:
        raise Refused(
            400,
            f"projection: {nbytes >> 20:,} MiB would have to be read, and {most >> 20:,} MiB are "
            "allowed; request fewer slices or channels, or a smaller region",
        )
    return slices


def _projected(
    wanted: tuple[Plane, ...],
    slices: range | None,
    read: Callable[[tuple[Plane, ...]], dict[Plane, Array]],
) -> dict[Plane, Array]:
    """Read planes, each the maximum of all slices. The memory is that of two slices."""
    if slices is None:
        return read(wanted)
    found: dict[Plane, Array] = {}
    for z in slices:
        part = read(tuple(plane._replace(z=z) for plane in wanted))
        for plane in wanted:
            pixels = real(part[plane._replace(z=z)])
            found[plane] = np.maximum(found[plane], pixels) if plane in found else pixels
    return found


def _planned(served: ServedFile, series: int, shown: Shown) -> tuple[VirtualImage, Drawing]:
    image = served.image(series)
    z, t = shown.plane_in(image.view)
    drawing = served.drawing(series, shown.style, shown.channels, z, t)
    if drawing.dtype != "uint8":
        raise Refused(400, "style: dtype is not for pictures; leave it out")
    return image, drawing


def draw_region(
    served: ServedFile,
    series: int,
    shown: Shown,
    region: tuple[int, int, int, int],
    size: tuple[int, int],
) -> Array:
    """Return a picture of a region, computed from the lowest sufficient resolution.

    Parameters
    ----------
    served, series, shown
        The image, and its selection and style.
    region
        Left, top, right, bottom in pixels of full size, within the image.
    size
        Width and height of the picture.

    Returns
    -------
    numpy.ndarray
        (Y, X, 4) of uint8. Each pixel is the mean of the pixels it covers; for
        labels, the central pixel.

    Raises
    ------
    Refused
        400: too many pixels would have to be read.
    """
    image, drawing = _planned(served, series, shown)
    left, top, right, bottom = region
    height, width = level_sides(image, 0)
    level = _level_for(right - left, bottom - top, size, max(height, width))
    scale = 1 << level
    sides = level_sides(image, level)
    enlarged = size[0] > right - left or size[1] > bottom - top
    method = "nearest" if drawing.by_value else "linear" if enlarged else "area"
    rows = _edges(top, bottom, size[1], scale, height)
    columns = _edges(left, right, size[0], scale, width)
    y0, y1 = support(rows, method, sides[0])
    x0, x1 = support(columns, method, sides[1])
    if (y1 - y0) * (x1 - x0) > _MOST_READ * max(size[0] * size[1], 1 << 20):
        raise Refused(
            400, "too many pixels would have to be read for this size; request a larger one"
        )
    box = (y0, x0, y1, x1)

    def read(wanted: tuple[Plane, ...]) -> dict[Plane, Array]:
        planes = read_box(image, level, box, wanted)
        for axis, edges, offset in ((0, rows, y0), (1, columns, x0)):
            if not is_identity(edges, offset, (y1 - y0, x1 - x0)[axis]):
                planes = {
                    plane: to_dtype(resample(pixels, axis, edges, offset, method), pixels.dtype)
                    for plane, pixels in planes.items()
                }
        return planes

    slices = _bounded_slices(served, image, drawing, shown, level, box)
    return draw_planes(image, drawing, _projected(needed_planes(image, drawing), slices, read))


class MapTile(NamedTuple):
    """A tile of a map in Web Mercator (EPSG:3857), as OpenStreetMap numbers them.

    Attributes
    ----------
    zoom, row, column
        Its place: level `zoom` has 2**zoom rows and columns.
    side
        Its width and height in pixels.
    resampling
        One of `MAP_RESAMPLING`; None: "bilinear", "nearest" for labels and palettes.
    """

    zoom: int
    row: int
    column: int
    side: int
    resampling: str | None = None


def draw_map_tile(served: ServedFile, series: int, shown: Shown, tile: MapTile) -> Array:
    """Return a tile of a map.

    Returns
    -------
    numpy.ndarray
        (Y, X, 4) of uint8; transparent where the image has no values.

    Raises
    ------
    Refused
        404: the image has no coordinates, or there is no such tile.
    """
    image, drawing = _planned(served, series, shown)
    count = 1 << tile.zoom
    if not (0 <= tile.row < count and 0 <= tile.column < count):
        raise Refused(404, f"zoom {tile.zoom} has {count} x {count} tiles")
    if image.view.crs is None:
        raise Refused(404, "the image has no coordinates on the Earth")
    width = 2 * _MERCATOR / count
    left, top = tile.column * width - _MERCATOR, _MERCATOR - tile.row * width
    box = (left, top - width, left + width, top)
    method = tile.resampling or ("nearest" if drawing.by_value else "bilinear")
    try:
        pixels, valid = image.view.warped(box, (tile.side, tile.side), resampling=method)
    except BadArgument as error:
        raise Refused(404, f"the image has no place on this tile: {error}") from error
    picture = np.array(
        draw_planes(
            image,
            drawing,
            {plane: pixels[..., plane.c] for plane in needed_planes(image, drawing)},
        )
    )
    picture[~valid] = 0
    return picture


def _level_for(width: int, height: int, size: tuple[int, int], longest: int) -> int:
    """Return the coarsest level in which a region has as many pixels as the picture."""
    level = 0
    while (
        longest >> level > 1
        and -(-width >> (level + 1)) >= size[0]
        and -(-height >> (level + 1)) >= size[1]
    ):
        level += 1
    return level


def _edges(start: int, stop: int, count: int, scale: int, full: int) -> Array:
    """Return the borders of new pixels along an axis, in pixels of a level.

    The borders of the level itself are used if they fit: its last pixel may represent less than
    one full pixel.
    """
    first = start // scale
    aligned = start % scale == 0 and (stop % scale == 0 or stop == full)
    if aligned and -(-stop // scale) - first == count:
        return np.arange(first, first + count + 1, dtype=np.float64)
    return np.linspace(start / scale, stop / scale, count + 1)


def encode(picture: Array, form: str, quality: int | None = None) -> bytes:
    """Encode a picture as "png", "jpeg" or "webp", by default fast rather than small."""
    if quality is None:
        quality = _SPEED[form]
    elif form == "png":
        quality = min(quality, 9)
    else:
        quality = max(quality, 1)
    return encode_picture(picture, form, quality)


def stored_jpeg(
    served: ServedFile, series: int, shown: Shown, level: int, box: Box
) -> bytes | None:
    """Return a stored tile of a JPEG slide as a complete JPEG file, without decoding it.

    None if the box is not a whole stored tile, or if the picture differs from the stored pixels.

    Parameters
    ----------
    served, series, shown
        The image, and its selection and style.
    level, box
        As for `draw_box`.
    """
    image = served.image(series)
    view = image.view
    if not shown.is_plain or level >= len(image.levels) or view.samples_per_pixel != 3:
        return None
    stored = image.levels[level].stored
    if stored is None or view.dtype != np.uint8 or view.sizes["C"] != 3:
        return None
    if any(channel.window not in (None, (0.0, 255.0)) for channel in view.channels):
        return None
    height, width = view.levels[stored].chunks[:2]
    top, left, bottom, right = box
    whole = bottom - top == height and right - left == width
    held = view.levels[stored].sizes
    if not whole or top % height or left % width or bottom > held["Y"] or right > held["X"]:
        return None
    joint = _jpeg_tables(served, series, stored)
    if joint is None:
        return None
    z, t = shown.plane_in(view)
    place = (t, 0, z, top // height, left // width)
    data = served.reader._file.backend.read_stored(series, stored, place)
    if data is None or data[:2] != b"\xff\xd8":
        return None
    marker, tables = joint
    if data[2:4] in (b"\xff\xe0", b"\xff\xee"):
        # A JFIF or Adobe marker in the tile defines its colour space.
        marker = b""
    return b"".join((b"\xff\xd8", marker, tables, data[2:]))


def _jpeg_tables(served: ServedFile, series: int, stored: int) -> tuple[bytes, bytes] | None:
    """Return the colour marker and the tables that stored JPEG tiles lack; None if not JPEG.

    TIFF stores the tables that all tiles share (JPEGTables) and the colour space outside of the
    tiles (TIFF technical note 2); a complete JPEG file contains both.
    """

    def look() -> tuple[bytes, bytes] | None:
        encoded = served.view(series).levels[stored].stored_as
        if encoded is None or encoded.container != "tiff" or encoded["compression"] != "jpeg":
            return None
        photometric, tables = encoded["photometric"], encoded["tables"]
        if photometric not in (2, 6) or encoded["dtype"] != "uint8":
            return None
        marker = _ADOBE_RGB if photometric == 2 else _ADOBE_YCC
        # Without the markers SOI and EOI.
        return marker, bytes(tables[2:-2] if tables[:2] == b"\xff\xd8" else b"")

    return served.reader._file.remembered(("serve", "tables", series, stored), look)
