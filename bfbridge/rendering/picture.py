"""`render`: a region of an image as a picture, by a style or by the file's display settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.analysis.regions import pixel_span, region_shape
from bfbridge.backend import Quantity
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.rendering.annotate import draw_annotations, plan_bar
from bfbridge.rendering.compose import as_dtype, compose, compose_float
from bfbridge.rendering.contrast import Contrast, real
from bfbridge.rendering.encode import FORMATS, encode_picture
from bfbridge.rendering.palettes import parse_color
from bfbridge.rendering.plan import Drawing, Plane, plan_drawing
from bfbridge.rendering.profile import apply_profile, mates
from bfbridge.rendering.style import PROJECTIONS, parse_style

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["SIZE", "draw", "read_planes", "render"]

Array = np.ndarray[Any, Any]
SIZE: Final = 1024
"""Pixels along the longer side of a picture if no resolution is given."""
MOST_PIXELS: Final = 1 << 28
"""Maximum number of pixels of a picture: 16 384 x 16 384."""


def draw(drawing: Drawing, planes: Mapping[Plane, Array] | Sequence[Array]) -> Array:
    """Draw planes that were read, according to a drawing.

    Parameters
    ----------
    drawing
        The layers.
    planes
        One array (Y, X) for each plane of the drawing, in order or by plane.

    Returns
    -------
    numpy.ndarray
        (Y, X, 4), or (Y, X, 1) for one axis, of the drawing's dtype.
    """
    arrays = [planes[p] for p in drawing.planes] if isinstance(planes, Mapping) else list(planes)
    arrays = [real(array) for array in arrays]
    if drawing.dtype == "uint8":
        picture = compose(arrays, drawing.layers)
    else:
        picture = as_dtype(compose_float(arrays, drawing.layers), drawing.dtype)
    return picture if drawing.axis is None else picture[..., drawing.axis : drawing.axis + 1]


def render(
    view: ImageView,
    channels: Any = None,
    style: Any = None,
    *,
    x: Any = None,
    y: Any = None,
    units: str = "px",
    z: Any = None,
    t: int = 0,
    level: int | None = None,
    pixel_size: Any = None,
    magnification: float | None = None,
    max_size: int | tuple[int, int] | None = None,
    resample: str | None = None,
    projection: str | None = None,
    scale_bar: Any = False,
    text: bool | str = False,
    background: Any = "black",
    format: str = "array",  # noqa: A002 - the usual name
    quality: int | None = None,
    contrast: Contrast | None = None,
) -> Any:
    """Return a picture of a region; see `ImageView.render`.

    Parameters
    ----------
    contrast
        Known statistics of the same image.
    """
    if format not in ("array", *FORMATS):
        raise BadArgument(f"format={format!r}: use 'array', {', '.join(map(repr, FORMATS))}.")
    style = None if style is None else parse_style(style)
    if projection is None and style is not None:
        projection = style.projection
    if projection is not None and projection not in PROJECTIONS:
        raise BadArgument(f"projection={projection!r}: use 'max', along z.")
    slices, shown_z = _slices(view, z, projection)
    t = _position(view, "T", t)
    contrast = Contrast(view) if contrast is None else contrast
    drawing = plan_drawing(view, contrast, style, channels, shown_z, t)
    if all(given is None for given in (level, pixel_size, magnification, max_size)):
        max_size = SIZE
    if resample is None and drawing.by_value:
        resample = "nearest"
    where = {
        "x": x, "y": y, "units": units, "level": level, "pixel_size": pixel_size,
        "magnification": magnification, "max_size": max_size, "resample": resample,
    }  # fmt: skip
    _check_area(view, where)
    planes = read_planes(view, drawing, slices if projection else None, where)
    if drawing.icc:
        planes = apply_profile(view, drawing, planes)
    picture = draw(drawing, planes)
    if scale_bar or text:
        picture = _annotated(view, picture, where, scale_bar, text, z=slices, t=t)
    if format == "array":
        return picture
    red, green, blue, _ = parse_color(background)
    return encode_picture(picture, format, quality, (round(red), round(green), round(blue)))


def _position(view: ImageView, axis: str, value: Any) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    size = view.sizes[axis]
    if not whole or not -size <= value < size:
        raise BadSelection(
            f"{view.source_name}: {axis.lower()}={value!r:.40}: give one of 0 to {size - 1}."
        )
    return int(value) % size


def _slices(view: ImageView, z: Any, projection: str | None) -> tuple[range, int]:
    """Return the slices to read, and the slice for the statistics."""
    depth = view.sizes["Z"]
    if projection is None:
        found = depth // 2 if z is None else _position(view, "Z", z)
        return range(found, found + 1), found
    start, stop = (0, depth) if z is None else _ends(z, depth)
    if not 0 <= start < stop <= depth:
        raise BadSelection(
            f"{view.source_name}: z={z!r:.40}: for a projection give (start, stop) within 0 to "
            f"{depth}."
        )
    return range(start, stop), (start + stop) // 2


def _ends(z: Any, depth: int) -> tuple[int, int]:
    if isinstance(z, slice):
        start, stop, step = z.indices(depth)
        return (start, stop) if step == 1 else (0, -1)
    pair = (z, z + 1) if isinstance(z, (int, np.integer)) else z
    listed = isinstance(pair, (tuple, list)) and len(pair) == 2
    if listed and all(isinstance(end, (int, np.integer)) for end in pair):
        return int(pair[0]), int(pair[1])
    return 0, -1


def _check_area(view: ImageView, where: Mapping[str, Any]) -> None:
    """Refuse a picture that is too large for most memories, before it is read."""
    area = {name: value for name, value in where.items() if name != "resample"}
    height, width = region_shape(view, **area)
    if height * width > MOST_PIXELS:
        raise BadArgument(
            f"{view.source_name}: a picture of {width:,} x {height:,} pixels is too large; the "
            f"maximum is {MOST_PIXELS:,} pixels. Give max_size=, or a region."
        )


def read_planes(
    view: ImageView, drawing: Drawing, slices: range | None, where: Mapping[str, Any]
) -> dict[Plane, Array]:
    """Read all planes of a drawing, those of one z and t together.

    Parameters
    ----------
    view, drawing
        The image, and what is drawn of it.
    slices
        Positions along z of which the greatest value is taken, or None.
    where
        Further keyword arguments of `ImageView.region`.
    """
    found: dict[Plane, Array] = {}
    needed = set(drawing.planes)
    if drawing.icc:
        # A colour profile is applied to red, green and blue together.
        needed |= {mate for plane in needed for mate in mates(view, plane)}
    wanted = sorted(needed, key=lambda plane: (plane.t, plane.z, plane.c))
    for (t, z), group in groupby(wanted, key=lambda plane: (plane.t, plane.z)):
        numbers = [plane.c for plane in group]
        pixels: Array | None = None
        # One slice at a time, so a projection needs the memory of two slices.
        for one in range(z, z + 1) if slices is None else slices:
            part = view.region(z=one, c=np.asarray(numbers), t=t, keepdims=True, **where)
            part = real(part[:, :, 0, :, 0])
            pixels = part if pixels is None else np.maximum(pixels, part)
        if pixels is not None:
            for place, c in enumerate(numbers):
                found[Plane(c, z, t)] = pixels[:, :, place]
    return found


def _annotated(
    view: ImageView,
    picture: Array,
    where: Mapping[str, Any],
    scale_bar: Any,
    text: bool | str,
    *,
    z: range,
    t: int,
) -> Array:
    if picture.dtype != np.uint8 or picture.shape[2] != 4:
        raise BadArgument("scale_bar= and text= need a picture of 8 bits with all colours.")
    bar = None
    if scale_bar:
        pixel = _pixel(view, picture.shape[1], where)
        bar = plan_bar(pixel, picture.shape[1], scale_bar, view.source_name)
    label = text if isinstance(text, str) else _place_text(view, z, t) if text else None
    return draw_annotations(picture, bar, label)


def _pixel(view: ImageView, width: int, where: Mapping[str, Any]) -> Quantity | None:
    """Return the length of a pixel of a picture of this width."""
    size = view.physical_pixel_size.x
    if size is None:
        return None
    start, stop = pixel_span(view, "x", where["x"], where["units"])
    return Quantity(size.value * (stop - start) / width, size.unit)


def _place_text(view: ImageView, z: range, t: int) -> str:
    depth, times = view.sizes["Z"], view.sizes["T"]
    parts = []
    if depth > 1:
        shown = f"{z.start + 1}" if len(z) == 1 else f"{z.start + 1}-{z.stop}"
        parts.append(f"z {shown}/{depth}")
    if times > 1:
        parts.append(f"t {t + 1}/{times}")
    return "  ".join(parts)
