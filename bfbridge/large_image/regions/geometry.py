"""Regions, scales and levels in large_image's terms. Pure code, no I/O.

Sizes and places are those of large_image's documentation (https://girder.github.io/large_image/,
"Getting Started" and `TileSource`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bfbridge.errors import BadArgument
from bfbridge.runtime.arguments import number

__all__ = ["Geometry", "Magnification", "fit", "unit_of"]

_LENGTHS: Final = {"nm": 1e-6, "um": 1e-3, "mm": 1.0, "m": 1e3, "km": 1e6}
"""Millimetres in a unit."""
_UNITS: Final = {
    "base_pixels": (None, "base", "base_pixel", "base_pixels"),
    "mag_pixels": (
        "pixel", "pixels", "mag_pixel", "mag_pixels", "magnification_pixel", "magnification_pixels",
    ),
    "nm": ("nm", "nanometer", "nanometers"),
    "um": ("um", "\u03bcm", "\u00b5m", "micrometer", "micrometers", "micron", "microns"),
    "mm": ("mm", "millimeter", "millimeters"),
    "m": ("m", "meter", "meters"),
    "km": ("km", "kilometer", "kilometers"),
    "fraction": ("fraction",),
}  # fmt: skip
_NAMES: Final = {name: unit for unit, names in _UNITS.items() for name in names}
_EDGES: Final = ("left", "top", "right", "bottom", "width", "height")
_WIDEST: Final = 16
"""Sides of a result of which only one was given differ by this factor at most."""


def unit_of(name: Any) -> str:
    """Return the unit of a name.

    Raises
    ------
    BadArgument
        It is not known, or geospatial.
    """
    if name is None or (isinstance(name, str) and name in _NAMES):
        return _NAMES[name]
    raise BadArgument(
        f"units={name!r}: give base_pixels, mag_pixels, nm, um, mm, m, km or fraction. "
        "Reference systems are units of regions."
    )


def fit(most_width: Any, most_height: Any, width: float, height: float) -> tuple[int, int, float]:
    """Return the size of a result within limits, its aspect ratio kept, and the scale to it.

    Parameters
    ----------
    most_width, most_height
        Limits; None for no limit but 16 times the other.
    width, height
        Of the region.

    Returns
    -------
    (width, height, scale)
        `scale` is the number of region pixels to a pixel of the result.
    """
    if not width or not height:
        return 0, 0, 1.0
    most_width = most_width or most_height * _WIDEST
    most_height = most_height or most_width * _WIDEST
    by_height = max(1, int(width * most_height / height))
    by_width = max(1, int(height * most_width / width))
    wider = most_width * height > most_height * width and by_width != most_height
    if by_height == most_width or wider:
        return by_height, int(most_height), height / most_height
    return int(most_width), by_width, width / most_width


@dataclass(frozen=True, slots=True)
class Magnification:
    """A scale.

    Attributes
    ----------
    magnification, mm_x, mm_y
        Of the objective, and millimetres per pixel; None where not known.
    scale
        Full-size pixels to one pixel.
    level
        Number of the tile level, perhaps between two of them.
    """

    magnification: float | None
    mm_x: float | None
    mm_y: float | None
    scale: float
    level: float

    def as_dict(self) -> dict[str, Any]:
        """Return it as large_image does."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a tile source.

    Attributes
    ----------
    width, height
        At full size.
    tile_width, tile_height
        Of a tile at any level.
    levels
        Tile levels; the last one is full size, each before it half of that, the first one tile.
    magnification, mm_x, mm_y
        At full size; None where not known.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    levels: int
    magnification: float | None
    mm_x: float | None
    mm_y: float | None

    # ---- levels

    def at_level(self, level: float | None = None) -> Magnification:
        """Return the scale of a tile level; of full size without one."""
        level = self.levels - 1 if level is None else level
        scale = 2.0 ** (self.levels - 1 - level)
        return Magnification(
            self.magnification and self.magnification / scale,
            self.mm_x and self.mm_x * scale,
            self.mm_y and self.mm_y * scale,
            scale,
            level,
        )

    def level_for(
        self,
        wanted: Mapping[str, Any],
        *,
        exact: bool = False,
        rounding: str | bool | None = "round",
    ) -> float | None:
        """Return the tile level of a magnification or pixel size.

        Parameters
        ----------
        wanted
            Any of magnification, mm_x and mm_y. Several are averaged. Those that the image has no
            values for are ignored.
        exact
            Whether only a level that fits exactly counts.
        rounding
            "round", "ceil", False for a level between two, or None for one that may also lie
            outside the levels there are.

        Returns
        -------
        float or None
            None without a match.
        """
        have = (("magnification", self.magnification, 1), ("mm_x", self.mm_x, -1),
                ("mm_y", self.mm_y, -1))  # fmt: skip
        # Rounded: sizes that differ from powers of two in their last digits only count as such.
        steps = [
            round(sign * math.log2(number(wanted[name], name, positive=True) / full), 4)
            for name, full, sign in have
            if wanted.get(name) and full
        ]
        top = self.levels - 1
        if not steps:
            return top
        if exact and any(step != int(step) or step != steps[0] for step in steps):
            return None
        level = top + round(sum(steps) / len(steps), 4)
        if rounding:
            level = math.ceil(level) if rounding == "ceil" else round(level)
        if (exact and not 0 <= level <= top) or (rounding == "ceil" and level > top):
            return None
        return level if rounding is None else max(0, min(top, level))

    # ---- regions

    def _units(self, unit: str, at: Magnification | None) -> tuple[float, float]:
        """Return how many full-size pixels a unit is along X and Y."""
        if unit == "fraction":
            return self.width, self.height
        if unit == "mag_pixels":
            if at is None or (self.magnification is None and self.mm_x is None):
                raise BadArgument(
                    "units='mag_pixels': the magnification is not known; use base_pixels."
                )
            return at.scale, at.scale
        if unit in _LENGTHS:
            if not self.mm_x or not self.mm_y:
                raise BadArgument(
                    f"units={unit!r}: the file does not say how large a pixel is; use base_pixels "
                    "or fraction."
                )
            return _LENGTHS[unit] / self.mm_x, _LENGTHS[unit] / self.mm_y
        return 1.0, 1.0

    def bounds(
        self, region: Mapping[str, Any], at: Magnification | None = None, *, cut: bool = True
    ) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of a region in full-size pixels.

        Parameters
        ----------
        region
            Any of left, top, right, bottom, width, height, and their units; unitsWH of the last
            two. Numbers below 0 count from the right and bottom edges.
        at
            Scale of "mag_pixels".
        cut
            Whether the result is rounded, and cut to the image.

        Raises
        ------
        BadArgument
            Another key, value or unit; units that the file has no scale for.
        """
        unknown = set(region) - {*_EDGES, "units", "unitsWH"}
        if unknown:
            raise BadArgument(
                f"region: there is no {min(map(str, unknown))!r}; there are {', '.join(_EDGES)}, "
                "units and unitsWH."
            )
        scales = self._units(unit_of(region.get("units")), at)
        extents = scales
        given = {key: region[key] for key in _EDGES if region.get(key) is not None}
        if region.get("unitsWH") is not None:
            extents = self._units(unit_of(region["unitsWH"]), at)
            # Sizes with units of their own take precedence over the far edges.
            for far, near, size in (("right", "left", "width"), ("bottom", "top", "height")):
                if near in given and size in given:
                    given.pop(far, None)
        lines = []
        for axis, (near, far, size) in enumerate(
            (("left", "right", "width"), ("top", "bottom", "height"))
        ):
            full = (self.width, self.height)[axis]
            scaled = {
                key: number(given[key], f"region: {key}") * factor
                for key, factor in (
                    (near, scales[axis]), (far, scales[axis]), (size, extents[axis]),
                )
                if key in given
            }  # fmt: skip
            lines.append(_line(scaled.get(near), scaled.get(far), scaled.get(size), full, cut))
        (left, right), (top, bottom) = lines
        return left, top, right, bottom

    def convert(
        self,
        region: Mapping[str, Any],
        source_scale: Mapping[str, Any] | None,
        target_scale: Mapping[str, Any] | None,
        target_units: str | None,
        *,
        cut: bool = True,
    ) -> dict[str, Any]:
        """Return a region in other units, with the keys it had."""
        units = unit_of(region.get("units"))
        wanted = None if target_units is None else unit_of(target_units)
        if units != "mag_pixels" and wanted in (None, units):
            return dict(region)
        edges = self.bounds(region, self.scale_of(source_scale)[1], cut=cut)
        across, down = self._units(wanted or "base_pixels", self.scale_of(target_scale)[1])
        left, top, right, bottom = (
            edge / scale for edge, scale in zip(edges, (across, down, across, down), strict=True)
        )
        found = {
            "left": left, "top": top, "right": right, "bottom": bottom,
            "width": right - left, "height": bottom - top,
        }  # fmt: skip
        return {**{key: found[key] for key in _EDGES if key in region},
                "units": wanted or "base_pixels"}  # fmt: skip

    def scale_of(self, scale: Mapping[str, Any] | None) -> tuple[float | None, Magnification]:
        """Return the level of a scale as callers give it, and that level's scale.

        Raises
        ------
        BadArgument
            It has other keys than magnification, mm_x, mm_y and exact.
        """
        given = dict(scale or {})
        unknown = set(given) - {"magnification", "mm_x", "mm_y", "exact"}
        if unknown:
            raise BadArgument(
                f"scale: there is no {min(map(str, unknown))!r}; there are magnification, mm_x, "
                "mm_y and exact."
            )
        level = self.level_for(given, exact=given.get("exact", False), rounding=None)
        return level, self.at_level(level)


def _line(
    near: float | None, far: float | None, size: float | None, full: int, cut: bool
) -> tuple[float, float]:
    """Return start and stop along one axis."""
    near = near + full if near is not None and near < 0 else near
    far = far + full if far is not None and far < 0 else far
    if near is None:
        near = far - size if far is not None and size is not None else 0
    if far is None:
        far = full if size is None else near + size
    if cut:
        near = round(min(full, max(0, near)))
        far = max(near, round(min(full, max(0, far))))
    return near, far
