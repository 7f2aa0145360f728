"""Options of a request, parsed from the query of a URL: numbers, channels, styles, formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from bfbridge.rendering.style import PROJECTIONS, Style, parse_style
from bfbridge.serve.replies import Refused

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["FORMATS", "Shown", "bounded", "channel_numbers", "format_named", "plane_of", "shown"]

FORMATS: Final = {
    "png": ("png", "image/png"),
    "jpg": ("jpeg", "image/jpeg"),
    "jpeg": ("jpeg", "image/jpeg"),
    "webp": ("webp", "image/webp"),
}
"""Suffixes of pictures: the encoder's name and the MIME type."""
_WHOLE: Final = re.compile(r"-?[0-9]{1,9}")
_RANGE: Final = re.compile(r"([0-9]{1,9}):([0-9]{1,9})")
_MOST_NAMES: Final = 64


@dataclass(frozen=True, slots=True)
class Shown:
    """The selection and style of a picture, and the quality of its encoding.

    Attributes
    ----------
    z, t
        The plane; None is the middle slice, and the first time point.
    projection
        "max" for the maximum along z, or None for a single slice.
    slices
        For a projection: start and stop along z, or None for all slices, unless `z` is given.
    channels
        Numbers or names, or None for those that the file shows.
    style
        The parsed style, or None for the default.
    quality
        Quality of the encoder, or None for the default.
    """

    z: int | None = None
    t: int | None = None
    channels: tuple[int | str, ...] | None = None
    style: Style | None = None
    quality: int | None = None
    projection: str | None = None
    slices: tuple[int, int] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether style, channels, projection and quality are the defaults."""
        chosen = (self.style, self.channels, self.projection, self.quality)
        return all(option is None for option in chosen)

    def plane_in(self, view: ImageView) -> tuple[int, int]:
        """Return z and t of the plane; of a projection, the slice of the statistics.

        Raises
        ------
        Refused
            404: there is no such plane or slice.
        """
        slices = self.slices_in(view)
        z = self.z if slices is None else (slices.start + slices.stop) // 2
        return plane_of(view, z, self.t)

    def slices_in(self, view: ImageView) -> range | None:
        """Return the slices of a projection, or None if there is none.

        Raises
        ------
        Refused
            404: there are no such slices.
        """
        if self.projection is None:
            return None
        depth = view.sizes["Z"]
        if self.slices is not None:
            start, stop = self.slices
        else:
            start, stop = (0, depth) if self.z is None else (self.z, self.z + 1)
        if not 0 <= start < stop <= depth:
            raise Refused(404, f"z={start}:{stop}: there are the slices 0:{depth}")
        return range(start, stop)


def shown(query: Mapping[str, str]) -> Shown:
    """Parse the query of a request for a picture.

    Raises
    ------
    Refused
        400: a value is not valid.
    BadArgument
        The style is not valid.
    """
    names = query.get("channels", query.get("c"))
    style = _parsed(query["style"]) if query.get("style") else None
    quality = query.get("quality")
    projection = query.get("projection", None if style is None else style.projection)
    if projection not in (None, *PROJECTIONS):
        raise Refused(400, f"projection: there is {', '.join(PROJECTIONS)}")
    slices = _RANGE.fullmatch(query.get("z", ""))
    if slices is not None and projection is None:
        raise Refused(400, "z: a range is for projections; add projection=max")
    return Shown(
        z=None if slices is not None else _optional(query, "z"),
        t=_optional(query, "t"),
        channels=None if names is None else _channels(names),
        style=style,
        quality=None if quality is None else bounded(quality, "quality", 0, 100),
        projection=projection,
        slices=None if slices is None else (int(slices[1]), int(slices[2])),
    )


@lru_cache(maxsize=256)
def _parsed(style: str) -> Style:
    return parse_style(style)


def _optional(query: Mapping[str, str], name: str) -> int | None:
    value = query.get(name)
    return None if value is None else bounded(value, name, 0, 10**9)


def bounded(text: str, name: str, least: int, most: int) -> int:
    """Return a whole number within bounds.

    Raises
    ------
    Refused
        400: the text is not a whole number, or is out of bounds.
    """
    number = int(text) if _WHOLE.fullmatch(text) else None
    if number is None or not least <= number <= most:
        raise Refused(400, f"{name}: give a whole number from {least} to {most}")
    return number


def _channels(text: str) -> tuple[int | str, ...]:
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > _MOST_NAMES or not all(parts):
        raise Refused(400, f"channels: give 1 to {_MOST_NAMES} numbers or names, with commas")
    return tuple(int(part) if _WHOLE.fullmatch(part) else part for part in parts)


def channel_numbers(text: str | None, count: int) -> list[int]:
    """Return numbers along C (channels x samples), all of them by default.

    Raises
    ------
    Refused
        400: the text does not contain numbers. 404: there is no such channel.
    """
    if text is None:
        if count > _MOST_NAMES:
            raise Refused(400, f"c: give at most {_MOST_NAMES} of the {count} channels")
        return list(range(count))
    found = []
    for part in _channels(text):
        if not isinstance(part, int):
            raise Refused(400, "c: give numbers, with commas")
        if not 0 <= part < count:
            raise Refused(404, f"there is no channel {part}; it has {count}")
        found.append(part)
    return found


def plane_of(view: ImageView, z: int | None, t: int | None) -> tuple[int, int]:
    """Return z and t of a plane, the middle slice and the first time point by default.

    Raises
    ------
    Refused
        404: there is no such plane.
    """
    depth, times = view.sizes["Z"], view.sizes["T"]
    z = depth // 2 if z is None else z
    t = 0 if t is None else t
    for name, value, size in (("z", z, depth), ("t", t, times)):
        if not 0 <= value < size:
            raise Refused(404, f"{name}={value}: there are 0 to {size - 1}")
    return z, t


def format_named(suffix: str) -> tuple[str, str]:
    """Return the encoder's name and the MIME type of a suffix.

    Raises
    ------
    Refused
        404: there is no such format.
    """
    found = FORMATS.get(suffix.lower())
    if found is None:
        raise Refused(404, f"there are the formats {', '.join(FORMATS)}")
    return found
