"""Regions of interest (ROI) of the OME model as polygons, and as label images.

Coordinates are pixels of full size: the first pixel extends from 0 to 1 along Y and X, so its
centre is at 0.5. A pixel belongs to an area if its centre does; to a line, if the line crosses it.
"""

from __future__ import annotations

import bz2
import itertools
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.errors import UnreadableFile

if TYPE_CHECKING:
    from ome_types.model import ROI, Mask

    from bfbridge.views.image_view import ImageView

__all__ = ["Roi", "RoiShape", "draw", "draw_rois", "rois_of"]

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int, int]
AREAS: Final = ("polygon", "rectangle", "ellipse")
LINES: Final = ("line", "polyline")


@dataclass(frozen=True, slots=True, eq=False)
class RoiShape:
    """One shape of a region of interest.

    Attributes
    ----------
    kind
        "point", "line", "polyline", "polygon", "rectangle", "ellipse", "label" (a text) or "mask".
    points
        Corners, float64, shape (corners, 2): Y and X in pixels. An ellipse is a polygon; a mask has
        the corners of its box.
    z, c, t
        Plane of the shape; None for all planes along this axis.
    text
        Text of the shape, or None.
    color
        Fill colour, else stroke colour (red, green, blue, alpha), or None.
    mask
        Of a mask: bool, shape (rows, columns). Otherwise None.
    nonzero
        Whether parts that a polygon surrounds twice belong to it (``FillRule="NonZero"``).
    """

    kind: str
    points: Array
    z: int | None = None
    c: int | None = None
    t: int | None = None
    text: str | None = None
    color: Color | None = None
    mask: Array | None = field(default=None, repr=False)
    nonzero: bool = False

    @property
    def is_closed(self) -> bool:
        """Whether the shape has an area."""
        return self.kind in AREAS or self.kind == "mask"


@dataclass(frozen=True, slots=True, eq=False)
class Roi:
    """One region of interest.

    Attributes
    ----------
    id, name, description
        As stored; name and description may be None.
    shapes
        Its shapes.
    """

    id: str
    name: str | None
    description: str | None
    shapes: tuple[RoiShape, ...]

    @property
    def polygons(self) -> list[Array]:
        """Corners of each shape that has an area: Y, X, shape (corners, 2)."""
        return [shape.points for shape in self.shapes if shape.is_closed]


def rois_of(view: ImageView) -> list[Roi]:
    """Return the regions of interest that an image refers to.

    Parameters
    ----------
    view
        The image. In a document where no image refers to any, all belong to an only image.

    Raises
    ------
    UnreadableFile
        A shape is damaged.
    """
    ome = view.ome
    if view.index >= len(ome.images):
        return []
    wanted = {ref.id for ref in ome.images[view.index].roi_refs}
    if not any(image.roi_refs for image in ome.images) and len(ome.images) == 1:
        wanted = {roi.id for roi in ome.rois}
    return [_roi(roi, view.source_name) for roi in ome.rois if roi.id in wanted]


def _roi(roi: ROI, where: str) -> Roi:
    shapes = [] if roi.union is None else list(roi.union)
    found = tuple(_shape(shape, f"{where}: {roi.id}") for shape in shapes)
    return Roi(roi.id, roi.name, roi.description, found)


def _shape(shape: Any, where: str) -> RoiShape:
    kind = type(shape).__name__.lower()
    try:
        points = _points(kind, shape)
        mask = _mask(shape) if kind == "mask" else None
        if mask is not None and not _is_shift(shape.transform):
            raise ValueError("it is a mask that is turned or scaled, which is not supported")
    except (ValueError, TypeError, OverflowError, OSError, EOFError, zlib.error) as error:
        raise UnreadableFile(f"{where}: the shape {shape.id} is damaged ({error}).") from error
    points = _transformed(points, shape.transform)
    if not np.isfinite(points).all():
        raise UnreadableFile(f"{where}: a coordinate of the shape {shape.id} is not a number.")
    color = shape.fill_color or shape.stroke_color
    rule = getattr(shape.fill_rule, "value", shape.fill_rule)
    return RoiShape(
        kind,
        points,
        shape.the_z,
        shape.the_c,
        shape.the_t,
        shape.text,
        None if color is None else _rgba(color),
        mask,
        rule == "NonZero",
    )


def _rgba(color: Any) -> Color:
    red, green, blue, *alpha = color.as_rgb_tuple()
    return red, green, blue, round(255 * alpha[0]) if alpha else 255


def _points(kind: str, shape: Any) -> Array:
    """Return the corners of a shape, before its transformation."""
    if kind in ("point", "label"):
        return np.array([[shape.y, shape.x]], np.float64)
    if kind == "line":
        return np.array([[shape.y1, shape.x1], [shape.y2, shape.x2]], np.float64)
    if kind in ("polyline", "polygon"):
        numbers = [float(n) for n in shape.points.replace(",", " ").split()]
        if len(numbers) % 2 or not numbers:
            raise ValueError(f"{len(numbers)} numbers are not pairs of x and y")
        return np.array(numbers, np.float64).reshape(-1, 2)[:, ::-1]
    if kind == "ellipse":
        radius = max(abs(shape.radius_x), abs(shape.radius_y))
        # With this number of corners, the polygon is nowhere a tenth of a pixel off.
        count = int(min(100_000, 16 + 8 * math.ceil(math.sqrt(radius) + 1)))
        angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
        y = shape.y + shape.radius_y * np.sin(angles)
        return np.stack([y, shape.x + shape.radius_x * np.cos(angles)], axis=1)
    top, left, bottom, right = shape.y, shape.x, shape.y + shape.height, shape.x + shape.width
    return np.array([[top, left], [top, right], [bottom, right], [bottom, left]], np.float64)


def _is_shift(transform: Any) -> bool:
    """Whether a transformation only moves a shape."""
    if transform is None:
        return True
    linear = (transform.a00, transform.a01, transform.a10, transform.a11)
    return linear == (1, 0, 0, 1)


def _transformed(points: Array, transform: Any) -> Array:
    if transform is None:
        return points
    y, x = points[:, 0], points[:, 1]
    return np.stack(
        [
            transform.a10 * x + transform.a11 * y + transform.a12,
            transform.a00 * x + transform.a01 * y + transform.a02,
        ],
        axis=1,
    )


def _mask(shape: Mask) -> Array:
    """Return the pixels of a mask: one bit each, the first in the highest bit, rows not padded."""
    rows, columns = round(shape.height), round(shape.width)
    if rows < 1 or columns < 1:
        raise ValueError(f"its box is {columns} x {rows}")
    stored = bytes(shape.bin_data.value)
    size = rows * columns
    how = getattr(shape.bin_data.compression, "value", shape.bin_data.compression)
    if how == "zlib":
        stored = zlib.decompressobj().decompress(stored, size + 1)
    elif how == "bzip2":
        stored = bz2.BZ2Decompressor().decompress(stored, size + 1)
    data = np.frombuffer(stored, np.uint8)
    if data.size == size and size > 1:
        return np.asarray(data.reshape(rows, columns) != 0)
    if data.size != -(-size // 8):
        raise ValueError(f"{data.size:,} bytes are not the bits of {rows} x {columns} pixels")
    return np.unpackbits(data, count=size).reshape(rows, columns).astype(bool)


# ---- drawing


def draw(shape: RoiShape, value: int, out: Array, top: int, left: int) -> None:
    """Set the pixels of a shape in a part of a plane.

    Parameters
    ----------
    shape
        The shape. Texts are not drawn.
    value
        The value to set.
    out
        Pixels Y, X of the part.
    top, left
        Position of the part in the plane.
    """
    points = shape.points - (top, left)
    if shape.kind == "mask" and shape.mask is not None:
        _draw_mask(points, shape.mask, value, out)
    elif shape.kind in AREAS:
        _fill(points, value, out, nonzero=shape.nonzero)
    elif shape.kind in LINES:
        for start, stop in itertools.pairwise(points):
            _draw_line(start, stop, value, out)
    elif shape.kind == "point":
        _draw_line(points[0], points[0], value, out)


def _box(points: Array, out: Array) -> tuple[int, int, int, int] | None:
    """Return rows and columns of `out` that corners may touch: top, bottom, left, right."""
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0)) + 1
    top, left = np.clip(low, 0, out.shape).astype(int)
    bottom, right = np.clip(high, 0, out.shape).astype(int)
    return (top, bottom, left, right) if top < bottom and left < right else None


def _fill(points: Array, value: int, out: Array, *, nonzero: bool) -> None:
    """Fill a polygon: pixels whose centres are inside."""
    box = _box(points, out)
    if box is None:
        return
    top, bottom, left, right = box
    # Each edge changes the winding number of all pixels to the right of where it crosses a row.
    changes = np.zeros((bottom - top, right - left + 1), np.int32)
    for start, stop in zip(points, np.roll(points, -1, axis=0), strict=True):
        direction = 1 if stop[0] > start[0] else -1
        (y0, x0), (y1, x1) = (start, stop) if direction > 0 else (stop, start)
        rows = np.arange(max(top, math.ceil(y0 - 0.5)), min(bottom, math.ceil(y1 - 0.5)))
        if not len(rows):
            continue
        crossings = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        columns = np.clip(np.ceil(crossings - 0.5), left, right).astype(int) - left
        np.add.at(changes, (rows - top, columns), direction)
    if nonzero:
        inside = np.cumsum(changes, axis=1)[:, :-1] != 0
    else:
        inside = np.cumsum(changes, axis=1)[:, :-1] % 2 != 0
    out[top:bottom, left:right][inside] = value


def _draw_line(start: Array, stop: Array, value: int, out: Array) -> None:
    """Set the pixels that a line crosses, one for each row or column of its longer side."""
    count = int(min(1 << 24, math.ceil(float(np.abs(stop - start).max())))) + 1
    steps = np.linspace(start, stop, count)
    places = np.floor(steps).astype(int)
    inside = ((places >= 0) & (places < out.shape)).all(axis=1)
    out[places[inside, 0], places[inside, 1]] = value


def _draw_mask(points: Array, mask: Array, value: int, out: Array) -> None:
    """Set the pixels of a mask whose box was moved but not turned or scaled."""
    top, left = np.round(points[0]).astype(int)
    rows = slice(max(0, top), min(out.shape[0], top + mask.shape[0]))
    columns = slice(max(0, left), min(out.shape[1], left + mask.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    part = mask[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    out[rows, columns][part] = value


def _is_in(shape: RoiShape, z: int, t: int) -> bool:
    """Return whether a shape is in a plane."""
    return shape.z in (None, z) and shape.t in (None, t)


def draw_rois(rois: Sequence[Roi], out: Array, top: int, left: int, z: int, t: int) -> None:
    """Draw regions with the values 1, 2, 3, ...; later ones over earlier ones.

    Parameters
    ----------
    rois
        The regions.
    out, top, left
        As for `draw`.
    z, t
        Number of the plane.
    """
    for number, roi in enumerate(rois, 1):
        for shape in roi.shapes:
            if _is_in(shape, z, t):
                draw(shape, number, out, top, left)
