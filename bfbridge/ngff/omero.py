"""The ``omero`` block of a new image: names, colours and display windows of its channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from bfbridge.backend import Channel, Image, ImageSpec

__all__ = ["Window", "channel_color", "default_color", "omero_block"]

Color = tuple[int, int, int, int]
# One colour per channel if the caller gives none: colours most people can distinguish are first.
_PALETTE: Final = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF0000", "0000FF", "FF8000", "FFFFFF")
_DISPLAY: Final[Mapping[str, tuple[type, Any]]] = {
    "active": (bool, True),
    "coefficient": (float, 1.0),
    "family": (str, "linear"),
    "inverted": (bool, False),
}
"""Keys of a channel: their type, and the value if the source has none."""


@dataclass(frozen=True, slots=True)
class Window:
    """Lowest and highest value seen in one channel, or None if there was none."""

    low: float | None = None
    high: float | None = None

    def contains(self, other: Window) -> bool:
        """Whether values were seen, and those of `other` lie between them."""
        if None in (self.low, self.high, other.low, other.high):
            return False
        return bool(self.low <= other.low and other.high <= self.high)  # type: ignore[operator]

    def joined(self, other: Window) -> Window:
        """Return the smallest window that contains both."""
        lows = [value for value in (self.low, other.low) if value is not None]
        highs = [value for value in (self.high, other.high) if value is not None]
        return Window(min(lows, default=None), max(highs, default=None))


def omero_block(spec: ImageSpec, windows: Sequence[Window]) -> dict[str, Any]:
    """Return ``channels`` and ``rdefs`` of an image.

    The display settings of the source are kept, except a window that contains none of the values
    seen, for example after a conversion of the values.

    Parameters
    ----------
    spec
        The image.
    windows
        Values seen in each channel.
    """
    image = spec.image
    channels = [c for c in image.channels for _ in range(image.samples)]
    count = image.levels[0].shape[1]
    entries = []
    for i in range(count):
        channel = channels[i] if i < len(channels) else None
        seen = windows[i] if i < len(windows) else Window()
        if image.samples >= 3 and image.dtype == np.uint8:
            # Separate windows for red, green and blue would change the colour balance.
            seen = Window()
        values = spec.extras.channels[i] if i < len(spec.extras.channels) else {}
        entry: dict[str, Any] = {
            **{key: value for key, value in values.items() if key not in ("color", "label")},
            **{key: _typed(values.get(key), *wanted) for key, wanted in _DISPLAY.items()},
            "color": "{:02X}{:02X}{:02X}".format(*channel_color(channel, i, count, image.samples)),
            "window": _kept_window(values.get("window"), _window(image, seen), seen),
        }
        if channel is not None and channel.name:
            entry["label"] = channel.name
        entries.append(entry)
    return {"channels": entries, "rdefs": _rendering(spec, count)}


def _typed(value: Any, kind: type, default: Any) -> Any:
    if kind is float:
        return value if _is_number(value) else default
    return value if isinstance(value, kind) else default


def _is_number(value: Any) -> bool:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and abs(value) < 1e300


def _rendering(spec: ImageSpec, count: int) -> dict[str, Any]:
    """Return ``rdefs``: the plane shown first, and whether in colours."""
    omero = spec.extras.other.get("omero")
    stored = omero.get("rdefs") if isinstance(omero, Mapping) else None
    values = dict(stored) if isinstance(stored, Mapping) else {}
    t, _, z, _, _ = spec.image.levels[0].shape
    ours = {"defaultT": (0, t), "defaultZ": (z // 2, z)}
    for key, (default, size) in ours.items():
        value: Any = values.get(key)
        known = isinstance(value, int) and not isinstance(value, bool)
        values[key] = value if known and 0 <= value < size else default
    if values.get("model") not in ("color", "greyscale"):
        values["model"] = "color" if count > 1 else "greyscale"
    return values


def default_color(place: int, count: int) -> Color:
    """Return the colour of a channel without a colour, by its position among `count`."""
    red, green, blue = bytes.fromhex("FFFFFF" if count == 1 else _PALETTE[place % len(_PALETTE)])
    return red, green, blue, 255


def channel_color(
    channel: Channel | None, place: int, count: int, samples: int = 1
) -> tuple[int, int, int]:
    """Return the display colour of a channel: red, green and blue, 0 to 255.

    Parameters
    ----------
    channel
        Record of the channel; its colour is used if it has one.
    place, count
        Number of the channel (of the sample, for RGB), and how many there are.
    samples
        Samples of one pixel: the three of RGB are red, green and blue.
    """
    if samples >= 3:
        return ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))[min(place % samples, 3)]
    color = None if channel is None else channel.color
    return (color or default_color(place, count))[:3]


def _window(image: Image, seen: Window) -> dict[str, float]:
    """Return a display window: the range of the dtype, and in it the range of the values."""
    if image.dtype.kind in "iu":
        bounds = np.iinfo(image.dtype)
        low, high = float(bounds.min), float(bounds.max)
        if image.significant_bits and image.dtype.kind == "u":
            high = float(min(bounds.max, (1 << image.significant_bits) - 1))
    elif seen.low is not None and seen.high is not None:
        low, high = seen.low, seen.high
    else:
        low, high = 0.0, 1.0
    start = low if seen.low is None else max(low, seen.low)
    end = high if seen.high is None else min(high, seen.high)
    if end <= start:
        # A single value has no contrast, and viewers divide by the width of the window.
        start, end = low, high if high > low else low + 1
    return {"min": low, "max": max(high, end), "start": start, "end": end}


def _kept_window(stored: Any, ours: Mapping[str, float], seen: Window) -> dict[str, Any]:
    """Return the source's window if it contains some of the values seen, else our own."""
    values = dict(stored) if isinstance(stored, Mapping) else {}
    ends: list[Any] = [values.get("start"), values.get("end")]
    if not all(map(_is_number, ends)):
        return dict(ours)
    low, high = sorted(ends)
    if low == high:
        # Viewers divide by the window's width.
        return dict(ours)
    above = seen.high is not None and low > seen.high
    below = seen.low is not None and high < seen.low
    if above or below:
        return dict(ours)
    for key in ("min", "max"):
        if not _is_number(values.get(key)):
            values[key] = ours[key]
    return values
