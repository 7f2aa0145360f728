"""Frames: the planes of a file's images in one row, and the pixels of a part of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from bfbridge.engine.resample import resample, support, to_dtype
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.rendering.contrast import Contrast
from bfbridge.rendering.picture import read_planes
from bfbridge.rendering.plan import Drawing, Plane, is_indexed, plan_drawing
from bfbridge.rendering.style import parse_style
from bfbridge.runtime.cached_property import cached_property
from bfbridge.virtual.boxes import (
    Box,
    draw_planes,
    is_identity,
    level_sides,
    needed_planes,
    read_box,
)
from bfbridge.virtual.pyramid import VirtualImage

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = ["AXES", "Frames", "Position"]

Array = np.ndarray[Any, Any]
AXES: Final = ("c", "z", "t", "xy")
"""Axes of frames, the fastest first."""
_PYRAMID_SIDE: Final = 512
_GREY: Final = {"min": "min:0.001", "max": "max:0.001", "palette": ["#000", "#fff"]}
"""Conversion of pixels of more than 8 bits to a picture without a style."""


class Position(NamedTuple):
    """Place of a frame: number of the channel, slice, time point and image."""

    c: int
    z: int
    t: int
    xy: int


@dataclass
class Frames:
    """The planes of images that are alike.

    Attributes
    ----------
    views
        The images, equal in size, dtype and samples.
    style
        As `bfbridge.rendering.style.parse_style` takes it, or None for the pixels as they are.
    """

    views: Sequence[ImageView]
    style: Any = None

    @property
    def sizes(self) -> Position:
        """Frames along each axis."""
        sizes, samples = self.views[0].sizes, self.views[0].samples_per_pixel
        return Position(sizes["C"] // samples, sizes["Z"], sizes["T"], len(self.views))

    @property
    def strides(self) -> Position:
        """Frames from one position to the next along each axis."""
        c, z, t, _ = self.sizes
        return Position(1, c, c * z, c * z * t)

    def __len__(self) -> int:
        return math.prod(self.sizes)

    def position(self, frame: Any) -> Position:
        """Return the place of a frame by its number; None is the first.

        Raises
        ------
        BadSelection
            There is no such frame.
        """
        number = 0 if frame is None else frame
        if isinstance(number, str) and number.isdecimal():
            number = int(number)
        good = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
        if not good or not 0 <= number < len(self):
            raise BadSelection(
                f"{self.views[0].source_name}: there is no frame {frame!r:.40}; it has "
                f"{len(self)}, counted from 0."
            )
        return Position(
            *(
                int(number) // step % size
                for step, size in zip(self.strides, self.sizes, strict=True)
            )
        )

    # ---- pixels

    @cached_property
    def _pyramids(self) -> dict[int, VirtualImage]:
        return {}

    @cached_property
    def _contrasts(self) -> dict[int, Contrast]:
        return {}

    @cached_property
    def _drawings(self) -> dict[tuple[Any, Position], Drawing]:
        return {}

    def pyramid(self, xy: int) -> VirtualImage:
        """Return the levels of an image, halved exactly."""
        found = self._pyramids.get(xy)
        if found is None:
            found = self._pyramids.setdefault(xy, VirtualImage(self.views[xy], _PYRAMID_SIDE))
        return found

    def _drawing(self, at: Position, style: Any) -> Drawing:
        drawn = self._drawings.get((repr(style), at))
        if drawn is None:
            view = self.views[at.xy]
            contrast = self._contrasts.setdefault(at.xy, Contrast(view))
            parsed = None if style is None else parse_style(style)
            if parsed is not None and parsed.projection is not None:
                raise BadArgument(
                    f"{view.source_name}: style: a projection is not for tiles of one frame; "
                    "leave it out."
                )
            drawn = plan_drawing(view, contrast, parsed, at.c, at.z, at.t)
            self._drawings[repr(style), at] = drawn
        return drawn

    def _style_of(self, view: ImageView, picture: bool) -> Any:
        """Return how pixels are drawn, None for the values as they are."""
        indexed = is_indexed(view)
        if self.style is not None or not picture or (view.dtype == np.uint8 and not indexed):
            return self.style
        return {} if indexed or view.is_mask or view.samples_per_pixel > 1 else _GREY

    def read(self, frame: Any, halvings: int, box: Box, *, picture: bool = False) -> Array:
        """Read a box of a level.

        Parameters
        ----------
        frame
            Its number.
        halvings
            Of the level.
        box
            Top, left, bottom, right within the level.
        picture
            Whether pixels are to be 8-bit colours, also without a style.

        Returns
        -------
        numpy.ndarray
            (Y, X, bands).
        """
        top, left, bottom, right = box
        rows, columns = (np.arange(a, b + 1.0) for a, b in ((top, bottom), (left, right)))
        return self._make(self.position(frame), halvings, (rows, columns), None, picture)

    def draw(
        self, frame: Any, region: tuple[int, int, int, int], size: tuple[int, int],
        rows: slice = slice(None), *, method: str | None = None, picture: bool = False,
    ) -> Array:  # fmt: skip
        """Return a region at any size, from the coarsest stored level that is fine enough.

        Parameters
        ----------
        frame
            Its number.
        region
            Left, top, right, bottom at full size.
        size
            Width and height of the result.
        rows
            Part of the result's rows.
        method
            As in `ImageView.region`; None: the mean of the covered pixels for smaller results,
            "cubic" for larger ones.
        picture
            As in `read`.
        """
        at = self.position(frame)
        view = self.views[at.xy]
        left, top, right, bottom = region
        wide, high = (right - left) / size[0], (bottom - top) / size[1]
        first, stop, _ = rows.indices(size[1])
        where: dict[str, Any] = {
            "x": (left, right), "y": (top + first * high, top + stop * high),
            "pixel_size": {"x": wide, "y": high},
        }  # fmt: skip
        style = self._style_of(view, picture)
        drawing = None if style is None else self._drawing(at, style)
        by_value = view.is_mask or is_indexed(view) if drawing is None else drawing.by_value
        if by_value:
            method = "nearest"
        where["resample"] = method or ("area" if min(wide, high) >= 1 else "cubic")
        if drawing is not None:
            planes = read_planes(view, drawing, None, where)
            return draw_planes(self.pyramid(at.xy), drawing, planes)
        samples = view.samples_per_pixel
        channels = slice(at.c * samples, (at.c + 1) * samples)
        pixels: Array = view.region(z=at.z, c=channels, t=at.t, keepdims=True, **where)
        return pixels[:, :, 0, :, 0]

    def resampled(
        self, frame: Any, halvings: int, box: Box, size: tuple[int, int], method: str,
        *, picture: bool = False,
    ) -> Array:  # fmt: skip
        """Read a box of a level at another size, (width, height)."""
        top, left, bottom, right = box
        edges = (np.linspace(top, bottom, size[1] + 1), np.linspace(left, right, size[0] + 1))
        return self._make(self.position(frame), halvings, edges, method, picture)

    def _make(
        self, at: Position, level: int, edges: tuple[Array, Array], method: str | None,
        picture: bool,
    ) -> Array:  # fmt: skip
        image = self.pyramid(at.xy)
        style = self._style_of(image.view, picture)
        samples = image.view.samples_per_pixel
        drawing = None if style is None else self._drawing(at, style)
        by_value = image.method == "nearest" if drawing is None else drawing.by_value
        first = at.c * samples
        planes = (
            tuple(Plane(first + i, at.z, at.t) for i in range(samples))
            if drawing is None else needed_planes(image, drawing)
        )  # fmt: skip
        method = "nearest" if by_value and method is not None else method
        found = _resampled(image, level, edges, method, planes)
        if drawing is None:
            return np.stack([found[plane] for plane in planes], axis=-1)
        return draw_planes(image, drawing, found)


def _resampled(
    image: VirtualImage,
    level: int,
    edges: tuple[Array, Array],
    method: str | None,
    planes: tuple[Plane, ...],
) -> dict[Plane, Array]:
    """Read planes of a level with their new pixels between `edges`."""
    spans = [
        support(line, method or "nearest", side)
        for line, side in zip(edges, level_sides(image, level), strict=True)
    ]
    (top, bottom), (left, right) = spans
    found = read_box(image, level, (top, left, bottom, right), planes)
    for axis, (line, span) in enumerate(zip(edges, spans, strict=True)):
        if method is not None and not is_identity(line, span[0], span[1] - span[0]):
            found = {
                plane: to_dtype(resample(pixels, axis, line, span[0], method), pixels.dtype)
                for plane, pixels in found.items()
            }
    return found
