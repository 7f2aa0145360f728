"""Scale bars and text on pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import Quantity
from bfbridge.errors import INSTALL, BadArgument, MissingExtra
from bfbridge.ome.metadata import convert_length, unit_symbol
from bfbridge.ome.units import LENGTHS

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["ScaleBar", "draw_annotations", "plan_bar", "write_text"]

Array = np.ndarray[Any, Any]
_SHARE: Final = 0.2
"""Maximum length of a scale bar as a part of the picture's width, if no length is given."""
_SHOWN_UNITS: Final = ("pm", "nm", "µm", "mm", "cm", "m", "km")
_WHITE: Final = (255, 255, 255, 255)
_BLACK: Final = (0, 0, 0, 255)


class ScaleBar:
    """A bar of a known length.

    Attributes
    ----------
    pixels
        Length in pixels of the picture.
    label
        The physical length, with its unit.
    """

    def __init__(self, pixels: float, label: str) -> None:
        self.pixels = pixels
        self.label = label


def plan_bar(pixel: Quantity | None, width: int, wanted: Any, name: str) -> ScaleBar:
    """Choose a scale bar.

    Parameters
    ----------
    pixel
        Length of a pixel of the picture along x, or None.
    width
        Width of the picture in pixels.
    wanted
        True for a round length of at most a fifth of the width, or a length as (number, unit) or a
        number of µm.
    name
        Name of the file, for messages.

    Raises
    ------
    BadArgument
        The file has no pixel size, or the bar would not fit.
    """
    if pixel is None or unit_symbol(pixel.unit) not in LENGTHS:
        raise BadArgument(
            f"{name}: the file has no pixel size, so a scale bar is not possible. Leave it out."
        )
    if wanted is True:
        unit = _fitting_unit(pixel, width * _SHARE)
        one = convert_length(pixel, unit)
        length = _round_length(one * width * _SHARE)
    else:
        length, unit = _given(wanted)
        one = convert_length(pixel, unit)
    pixels = length / one
    if not 1 <= pixels <= width:
        raise BadArgument(
            f"{name}: a scale bar of {length:g} {unit} would be {pixels:,.1f} pixels long; the "
            f"picture has {width}."
        )
    return ScaleBar(pixels, f"{length:g} {unit}")


def _given(wanted: Any) -> tuple[float, str]:
    pair = wanted if isinstance(wanted, (tuple, list)) else (wanted, "µm")
    try:
        number, unit = pair
        length = float(number)
    except (TypeError, ValueError):
        length, unit = math.nan, "µm"
    if isinstance(wanted, bool) or not 0 < length < math.inf:
        raise BadArgument(f"scale_bar={wanted!r}: give True, a number of µm, or (number, unit).")
    return length, unit_symbol(unit)


def _fitting_unit(pixel: Quantity, pixels: float) -> str:
    """Return the unit in which a length of this many pixels is a number from 1 to 1000."""
    lengths = {unit: convert_length(pixel, unit) * pixels for unit in _SHOWN_UNITS}
    fitting = [unit for unit, length in lengths.items() if 1 <= length < 1000 and unit != "cm"]
    return fitting[0] if fitting else unit_symbol(pixel.unit)


def _round_length(most: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, 50, ... that is not above `most`."""
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (5, 2, 1) if step * power <= most * (1 + 1e-9))


def draw_annotations(picture: Array, bar: ScaleBar | None, text: str | None) -> Array:
    """Return a picture with a scale bar at its lower right and text at its upper left.

    Parameters
    ----------
    picture
        (Y, X, 4) of uint8.
    bar, text
        What to draw; None for no annotation.

    Raises
    ------
    MissingExtra
        Pillow is not installed.
    """
    if bar is None and not text:
        return picture
    image_module, draw_module = _pillow()
    image = image_module.fromarray(np.ascontiguousarray(picture), "RGBA")
    draw = draw_module.Draw(image)
    size = max(10, min(image.size) // 24)
    font = _font(size)
    margin = max(4, size // 2)
    if text:
        _put(draw, (margin, margin), text, font)
    if bar is not None:
        _draw_bar(draw, image.size, bar, font, size, margin)
    return np.asarray(image)


def _draw_bar(
    draw: ImageDraw,
    size: tuple[int, int],
    bar: ScaleBar,
    font: FreeTypeFont | ImageFont,
    height: int,
    margin: int,
) -> None:
    width = max(1, round(bar.pixels))
    thick = max(2, height // 4)
    right, bottom = size[0] - margin, size[1] - margin
    left = max(0, right - width)
    box = (left, bottom - thick, left + width - 1, bottom - 1)
    draw.rectangle((box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1), fill=_BLACK)
    draw.rectangle(box, fill=_WHITE)
    length = draw.textlength(bar.label, font=font)
    # Centred above the bar, but inside the picture.
    x = min(max(left + (width - length) / 2, 2), size[0] - length - 2)
    _put(draw, (x, bottom - thick - height - margin // 2 - 1), bar.label, font)


def _put(
    draw: ImageDraw, place: tuple[float, float], text: str, font: FreeTypeFont | ImageFont
) -> None:
    """Write white text with a black edge, which is visible on any picture.

    Pillow's built-in font has no µ; it is drawn as u with a stroke below its left stem.
    """
    shown = text.replace("µ", "u").replace("μ", "u")
    tails = []
    for number, (drawn, meant) in enumerate(zip(shown, text, strict=True)):
        if drawn != meant:
            start = place[0] + draw.textlength(shown[:number], font=font)
            left, top, right, bottom = draw.textbbox((start, place[1]), "u", font=font)
            stem = max(1.0, (right - left) * 0.2)
            tails.append((left, bottom - 1, left + stem - 1, bottom + (bottom - top) * 0.4))
    for x0, y0, x1, y1 in tails:
        draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), fill=_BLACK)
    draw.text(place, shown, fill=_WHITE, font=font, stroke_width=1, stroke_fill=_BLACK)
    for tail in tails:
        draw.rectangle(tail, fill=_WHITE)


def write_text(picture: Array, text: str, place: tuple[int, int], size: int, width: int) -> None:
    """Write one line into a picture, in place; longer text is cut and ends with dots.

    Parameters
    ----------
    picture
        (Y, X, 4) of uint8.
    text
        What to write.
    place
        Column and row of its upper left corner.
    size
        Height of the letters in pixels.
    width
        Maximum width in pixels.
    """
    image_module, draw_module = _pillow()
    font = _font(size)
    left, top = place
    box = (left, top, min(left + width, picture.shape[1]), min(top + 2 * size, picture.shape[0]))
    image = image_module.fromarray(
        np.ascontiguousarray(picture[box[1] : box[3], box[0] : box[2]]), "RGBA"
    )
    draw = draw_module.Draw(image)
    shown = "".join(character if character.isprintable() else "?" for character in text)[:200]
    while shown and draw.textlength(shown, font=font) > width:
        shown = shown[:-2].rstrip("…") + "…" if len(shown) > 2 else ""
    draw.text((0, 0), shown, fill=_WHITE, font=font)
    picture[box[1] : box[3], box[0] : box[2]] = np.asarray(image)


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtra(
            f"text on pictures needs Pillow, which is not installed. Install it with: {INSTALL}"
        ) from error
    return Image, ImageDraw


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
