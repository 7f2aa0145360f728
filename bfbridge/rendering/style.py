"""Styles: how channels become colours, in the form of large_image's style dictionaries.

Every documented key of large_image's styles is supported
(https://girder.github.io/large_image/tilesource_options.html#style) except ``function``, which
names code to run and is refused. ``gamma``, ``invert``, ``projection`` and the composite mode
``additive`` are additions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bfbridge.errors import BadArgument

__all__ = ["PROJECTIONS", "Band", "Style", "parse_style"]

COMPOSITES: Final = ("lighten", "multiply", "additive")
SCHEMES: Final = ("linear", "discrete")
DTYPES: Final = ("uint8", "uint16", "float", "source")
INTENTS: Final = ("perceptual", "relative_colorimetric", "saturation", "absolute_colorimetric")
_LONGEST: Final = 1 << 16
_MOST_BANDS: Final = 256
PROJECTIONS: Final = ("max",)
_BASE: Final = ("bands", "dtype", "axis", "icc", "projection")


@dataclass(frozen=True, slots=True)
class Band:
    """Display settings of one channel.

    Attributes
    ----------
    band
        Number of the channel or sample, from 1; "red", "green", "blue", "gray" or "alpha" of an
        RGB image; or a channel's name. None and -1 select the current channel; of RGB, green.
    frame, framedelta
        Plane to use instead of the current one: its number, counted along channels, then z, then
        t; or an offset to the current plane's number.
    min, max
        Values that become the palette's first and last colour: a number, "min", "max" (of the
        plane), "auto" (0 and 255 where the plane's values lie between them, else its least and
        greatest), "full" (of the dtype), or one of them with the share of pixels to leave out at
        that end, such as "min:0.02".
    palette
        A colour, for a palette from black to it; a list of colours; a palette's name; "labels" for
        distinct colours of integers.
    scheme
        "linear" or "discrete": with interpolation between the palette's colours, or without.
    nodata
        Value of pixels that are transparent, or None.
    composite
        How the band is combined with those before it: "lighten" (maximum), "additive" or
        "multiply". None is "lighten", or "multiply" for the alpha band.
    clamp
        Whether values outside `min` and `max` get the palette's end colours, or are transparent.
    gamma
        Exponent applied to values scaled to 0 to 1; below 1 brightens.
    invert
        Whether the palette is reversed.
    """

    band: int | str | None = None
    frame: int | None = None
    framedelta: int = 0
    min: float | str = "auto"
    max: float | str = "auto"
    palette: Any = None
    scheme: str = "linear"
    nodata: float | None = None
    composite: str | None = None
    clamp: bool = True
    gamma: float = 1.0
    invert: bool = False


@dataclass(frozen=True, slots=True)
class Style:
    """Bands, and the form of the result.

    Attributes
    ----------
    bands
        Drawn in this order.
    dtype
        Dtype of the result: "uint8" (None), "uint16", "float" (0 to 1), or "source": "uint16" or
        "float" if the image has such pixels, else "uint8".
    axis
        The one of red, green, blue and alpha (0 to 3) to keep, or None for all.
    icc
        Whether the file's colour profile is applied: False, True, or a rendering intent.
    projection
        "max" for the maximum along z, or None for a single slice.
    """

    bands: tuple[Band, ...]
    dtype: str | None = None
    axis: int | None = None
    icc: bool | str = False
    projection: str | None = None


def parse_style(value: Style | Mapping[str, Any] | str) -> Style:
    """Check a style.

    Parameters
    ----------
    value
        A dictionary with the keys of `Band` and `Style`, or the same as JSON. Without ``bands`` it
        is one band. With ``bands``, keys of a band at the top level have no effect, as in
        large_image.

    Raises
    ------
    BadArgument
        A key or a value is not valid, or names code to run.
    """
    if isinstance(value, Style):
        return value
    if isinstance(value, str):
        value = _from_json(value)
    if not isinstance(value, Mapping):
        raise BadArgument(f"style={value!r:.80}: give a dictionary, or its JSON text.")
    entries = value.get("bands", [value] if set(value) - set(_BASE) else [])
    if not isinstance(entries, (list, tuple)) or len(entries) > _MOST_BANDS:
        raise BadArgument(f"style: bands must be a list of at most {_MOST_BANDS} dictionaries.")
    _check_keys(value)
    parsed = [_band(entry) for entry in entries]
    dtype, axis, projection = value.get("dtype"), value.get("axis"), value.get("projection")
    for entry in entries:
        dtype = entry.get("dtype") if dtype is None else dtype
        axis = entry.get("axis") if axis is None else axis
        projection = entry.get("projection") if projection is None else projection
    return Style(
        tuple(parsed),
        None if dtype is None else _one_of(dtype, "dtype", DTYPES),
        None if axis is None else _axis(axis),
        _icc(value.get("icc")),
        None if projection is None else _one_of(projection, "projection", PROJECTIONS),
    )


def _from_json(text: str) -> Any:
    if len(text) > _LONGEST:
        raise BadArgument(f"style: {len(text):,} characters of JSON; the maximum is {_LONGEST:,}.")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadArgument(f"style={text!r:.80}: not valid JSON ({error}).") from None


_KEYS: Final = (*Band.__dataclass_fields__, *_BASE)


def _check_keys(entry: Mapping[Any, Any]) -> None:
    if "function" in entry:
        raise BadArgument("style: 'function' names code to run, which is not supported.")
    unknown = [key for key in entry if key not in _KEYS]
    if unknown:
        raise BadArgument(
            f"style: there is no key {unknown[0]!r:.40}. Keys are {', '.join(sorted(_KEYS))}."
        )


def _band(entry: Any) -> Band:
    if not isinstance(entry, Mapping):
        raise BadArgument(f"style: the band {entry!r:.80} is not a dictionary.")
    _check_keys(entry)
    frame = entry.get("frame")
    nodata = entry.get("nodata")
    composite = entry.get("composite")
    return Band(
        band=_which(entry.get("band")),
        frame=None if frame is None else _whole(frame, "frame"),
        framedelta=_whole(entry.get("framedelta") or 0, "framedelta"),
        min=_end(entry.get("min"), "min"),
        max=_end(entry.get("max"), "max"),
        palette=_palette(entry.get("palette")),
        scheme=_one_of(entry.get("scheme") or "linear", "scheme", SCHEMES),
        nodata=None if nodata is None else _number(nodata, "nodata"),
        composite=None if composite is None else _one_of(composite, "composite", COMPOSITES),
        clamp=_flag(entry.get("clamp", True), "clamp"),
        gamma=_gamma(entry.get("gamma", 1.0)),
        invert=_flag(entry.get("invert", False), "invert"),
    )


def _which(value: Any) -> int | str | None:
    if value is None or isinstance(value, str):
        return value or None
    number = _whole(value, "band")
    if number == 0 or number < -1:
        raise BadArgument(f"style: band={number}: bands count from 1; -1 is the current plane's.")
    return None if number == -1 else number


def _palette(value: Any) -> Any:
    """Return a palette that can be compared and hashed."""
    if isinstance(value, (list, tuple)):
        return tuple(tuple(color) if isinstance(color, list) else color for color in value)
    if value is None or isinstance(value, str):
        return value
    raise BadArgument(f"style: palette={value!r:.80}: give a colour, a list of them, or a name.")


def _end(value: Any, name: str) -> float | str:
    if value is None:
        return "auto"
    if not isinstance(value, str):
        return _number(value, name)
    word, colon, share = value.strip().partition(":")
    if word in ("min", "max", "auto", "full") and not colon:
        return word
    try:
        number = float(share if word in ("min", "max", "auto") else value)
    except ValueError:
        number = math.nan
    if word in ("min", "max", "auto") and 0 <= number < 1:
        return f"{word}:{number!r}"
    if not colon and math.isfinite(number):
        return number
    raise BadArgument(
        f"style: {name}={value!r:.40}: give a number, 'min', 'max', 'auto', 'full', or one of the "
        "first three with a share from 0 to 1, such as 'min:0.02'."
    )


def _number(value: Any, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadArgument(f"style: {name}={value!r:.40}: give a number.")
    return number


def _whole(value: Any, name: str) -> int:
    number = _number(value, name)
    if number != int(number):
        raise BadArgument(f"style: {name}={value!r:.40}: give a whole number.")
    return int(number)


def _gamma(value: Any) -> float:
    number = _number(value, "gamma")
    if not 0.01 <= number <= 100:
        raise BadArgument(f"style: gamma={value!r:.40}: give a number from 0.01 to 100.")
    return number


def _axis(value: Any) -> int:
    number = _whole(value, "axis")
    if not 0 <= number <= 3:
        raise BadArgument(f"style: axis={number}: 0 to 3 are red, green, blue and alpha.")
    return number


def _flag(value: Any, name: str) -> bool:
    words = {"true": True, "false": False}
    found = words.get(value.lower()) if isinstance(value, str) else value
    if found is None or not isinstance(found, (bool, int)):
        raise BadArgument(f"style: {name}={value!r:.40}: give true or false.")
    return bool(found)


def _one_of(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise BadArgument(f"style: {name}={value!r:.40}: use one of {', '.join(allowed)}.")
    return str(value)


def _icc(value: Any) -> bool | str:
    if value is None or isinstance(value, bool):
        return bool(value)
    if isinstance(value, str) and value.lower() in INTENTS:
        return value.lower()
    raise BadArgument(
        f"style: icc={value!r:.40}: give true, false, or an intent ({', '.join(INTENTS)})."
    )
