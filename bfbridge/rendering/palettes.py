"""Colours and palettes by name: those of `cmap`, and the names in large_image's styles."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.errors import INSTALL, BadArgument, MissingExtra

if TYPE_CHECKING:
    import cmap

__all__ = ["distinct_colors", "palette_colors", "parse_color"]

Array = np.ndarray[Any, np.dtype[np.float64]]
LARGEST_PALETTE: Final = 4096
_SAMPLED: Final = 256
# Names in capitals mean pure colours in large_image; the green of CSS is half as bright.
_PURE: Final = {
    "R": "#ff0000",
    "RED": "#ff0000",
    "G": "#00ff00",
    "GREEN": "#00ff00",
    "B": "#0000ff",
    "BLUE": "#0000ff",
}
_HSV: Final = re.compile(r"hs[vb]\(\s*([\d.]+)\s*,\s*([\d.]+)%\s*,\s*([\d.]+)%\s*\)", re.IGNORECASE)
_CYCLE: Final = re.compile(r"C(\d)")
_TABLEAU: Final = (
    *("blue", "orange", "green", "red", "purple"),
    *("brown", "pink", "gray", "olive", "cyan"),
)


def _cmap() -> Any:
    try:
        import cmap
    except ImportError as error:
        raise MissingExtra(
            f"rendering needs cmap, which is not installed. Install it with: {INSTALL}"
        ) from error
    return cmap


def parse_color(value: Any) -> tuple[float, float, float, float]:
    """Return red, green, blue and alpha, 0 to 255.

    Parameters
    ----------
    value
        A CSS colour (``#rgb``, ``#rgba``, ``#rrggbb``, ``#rrggbbaa``, ``rgb()``, ``rgba()``,
        ``hsl()``, a name), ``hsv()``, a colour name of matplotlib's Tableau palette (``tab:blue``,
        ``C0``), or three or four numbers from 0 to 1.

    Raises
    ------
    BadArgument
        `value` is none of these.
    MissingExtra
        cmap is not installed.
    """
    if isinstance(value, str):
        return _named_color(value.strip())
    if isinstance(value, (list, tuple)) and len(value) in (3, 4):
        numeric = all(isinstance(part, (int, float, np.number)) for part in value)
        if numeric and all(0 <= float(part) <= 1 for part in value):
            red, green, blue, *alpha = (float(part) * 255 for part in value)
            return red, green, blue, alpha[0] if alpha else 255.0
    raise BadArgument(
        f"{value!r:.80} is not a colour. Give a CSS colour such as '#ff8000', 'orange' or "
        "'rgb(255, 128, 0)', or three numbers from 0 to 1."
    )


@lru_cache(maxsize=1024)
def _named_color(text: str) -> tuple[float, float, float, float]:
    known = _PURE.get(text, text)
    if re.fullmatch("#[0-9a-fA-F]{4}", known):
        known = "#" + "".join(digit * 2 for digit in known[1:])
    hsv = _HSV.fullmatch(known)
    if hsv is not None:
        hue, saturation, value = (float(part) for part in hsv.groups())
        red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation / 100, value / 100)
        return red * 255, green * 255, blue * 255, 255.0
    cycle = _CYCLE.fullmatch(known)
    if cycle is not None or known.startswith("tab:"):
        name = _TABLEAU[int(cycle[1])] if cycle is not None else known[4:].replace("grey", "gray")
        if name in _TABLEAU:
            return _as_bytes(_cmap().Colormap("tab10").lut(10)[_TABLEAU.index(name)])
    try:
        color = _cmap().Color(known)
    except ValueError:
        raise BadArgument(
            f"{text!r:.80} is not a colour. Give a CSS colour such as '#ff8000', 'orange' or "
            "'rgb(255, 128, 0)'."
        ) from None
    return _as_bytes(color.rgba)


def _as_bytes(parts: Sequence[float]) -> tuple[float, float, float, float]:
    red, green, blue, alpha = (round(float(part) * 255) for part in parts)
    return float(red), float(green), float(blue), float(alpha)


def palette_colors(value: Any) -> Array:
    """Return the colours of a palette.

    Parameters
    ----------
    value
        A list of two or more colours; one colour, for a palette from black to that colour; or the
        name of a palette: any of cmap's (``viridis``, ``colorbrewer:Blues``, ``viridis_r``), or
        in palettable's spelling (``matplotlib.Plasma_6``, ``colorbrewer.sequential.Blues_5``).

    Returns
    -------
    numpy.ndarray
        (colours, 4) of float64: red, green, blue and alpha, 0 to 255.

    Raises
    ------
    BadArgument
        `value` is not a palette.
    MissingExtra
        cmap is not installed.
    """
    if isinstance(value, str):
        return _named_palette(value.strip())
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= LARGEST_PALETTE:
        raise BadArgument(
            f"palette={value!r:.80}: give a colour, a list of colours (at most {LARGEST_PALETTE}), "
            "or a palette's name."
        )
    return np.array([parse_color(color) for color in value], np.float64)


@lru_cache(maxsize=256)
def _named_palette(text: str) -> Array:
    try:
        found = np.array([(0, 0, 0, 255), _named_color(text)], np.float64)
    except BadArgument:
        found = _catalogued(text)
    found.flags.writeable = False
    return found


def _catalogued(text: str) -> Array:
    last = text.rsplit(".", 1)[-1]
    sampled = re.fullmatch(r"(.+?)_(\d{1,3})(_r)?", last)
    for name in dict.fromkeys((text, last)):
        found = _colormap(name)
        if found is not None:
            return _stops(found)
    if sampled is not None and int(sampled[2]) > 0:
        name, count, turned = sampled.groups()
        found = _colormap(name + (turned or "")) or (
            _colormap(f"tab{count}") if name.lower() == "tableau" else None
        )
        if found is not None:
            return np.asarray(found.lut(int(count)), np.float64) * 255
    raise BadArgument(
        f"palette={text!r:.80}: there is no colour or palette of this name. Palettes are those "
        "of cmap: viridis, magma, gray, turbo, hot, colorbrewer:Blues, ..."
    )


def _colormap(name: str) -> cmap.Colormap | None:
    module = _cmap()
    # A path or another text that cmap accepts is not a name.
    if not re.fullmatch(r"[A-Za-z][\w:\- ]*", name):
        return None
    try:
        found: cmap.Colormap = module.Colormap(name)
    except (ValueError, TypeError, KeyError):
        return None
    return found


def _stops(colormap: cmap.Colormap) -> Array:
    """Return the colours of a palette if they are evenly spaced, otherwise 256 samples."""
    places = np.asarray(colormap.color_stops.stops, np.float64)
    count = len(places)
    even = colormap.interpolation == "nearest" or (
        count > 1 and np.allclose(places, np.linspace(0, 1, count), atol=1e-6)
    )
    return np.rint(np.asarray(colormap.lut(count if even else _SAMPLED), np.float64) * 255)


@lru_cache(maxsize=1)
def distinct_colors() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return 255 colours that differ from each other and from black, (255, 4) of uint8."""
    table = np.asarray(_cmap().Colormap("glasbey").lut(256), np.float64) * 255
    colors = np.rint(table).astype(np.uint8)
    dark = colors[:, :3].astype(int).sum(1) < 96
    bright = colors[~dark]
    # 255 of them in any case, because labels repeat after 255.
    found: np.ndarray[Any, np.dtype[np.uint8]] = bright[np.arange(255) % len(bright)]
    found.flags.writeable = False
    return found
