"""Projections along Z, C or T."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Channel, Image, Level, ReaderBackend, Region, Shape5
from bfbridge.errors import BadArgument
from bfbridge.files.rearranged.wrapper import Wrapper, five

if TYPE_CHECKING:
    from ome_types import OME, model

__all__ = ["Projected"]

Array = np.ndarray[Any, Any]
_PLACES = {"t": 0, "c": 1, "z": 2}


class Projected(Wrapper):
    """Images of which one axis is reduced to its largest, smallest or mean values.

    Only full size is projected: the maximum of a lower level is not the lower level of the maximum.
    Positions are read one after the other, so one block is in memory. Means of integers are
    rounded to the nearest, halves up. Masks and associated images are unchanged.

    Parameters
    ----------
    inner
        The open backend.
    method
        "max", "min" or "mean".
    axis
        "z", "c" or "t".

    Raises
    ------
    BadArgument
        An RGB image is projected along C, or a complex one by its largest or smallest values.
    """

    def __init__(self, inner: ReaderBackend, method: str, axis: str) -> None:
        self._method, self._axis, self._place = method, axis, _PLACES[axis]
        super().__init__(inner, [self._projected(i, im) for i, im in enumerate(inner.images)])

    def _projected(self, number: int, image: Image) -> Image:
        if image.role != "image":
            return image
        if self._axis == "c" and image.samples > 1:
            raise BadArgument(
                f"project={self._method} c: image {number} is RGB, whose samples are no channels. "
                "Add split_rgb=True (--split-rgb)."
            )
        if image.dtype.kind == "c" and self._method != "mean":
            raise BadArgument(
                f"project={self._method}: image {number} has complex pixels, which have no order."
            )
        level = image.levels[0]
        size, step, channels = image.pixel_size, image.time_step, image.channels
        if self._axis == "z":
            size = replace(size, z=None)
        elif self._axis == "t":
            step = None
        else:
            channels = (Channel(),)
        return replace(
            image, levels=(Level(self._single(level.shape), self._single(level.chunk)),),
            pixel_size=size, time_step=step, channels=channels,
        )  # fmt: skip

    def _single(self, shape: Shape5) -> Shape5:
        found = list(shape)
        found[self._place] = 1
        return five(found)

    def read(self, region: Region, out: Array) -> None:
        """Fill `out` with the projection of all positions along the axis."""
        if self._is_same(region.image):
            self._inner.read(region, out)
            return
        count = self._inner.images[region.image].levels[0].shape[self._place]
        part = np.empty(region.shape, out.dtype)
        total = np.zeros(region.shape, _wide(out.dtype)) if self._method == "mean" else None
        for place in range(count):
            start, stop = list(region.start), list(region.stop)
            start[self._place], stop[self._place] = place, place + 1
            self._inner.read(replace(region, start=five(start), stop=five(stop)), part)
            if total is not None:
                total += part
            elif place == 0:
                out[...] = part
            else:
                (np.maximum if self._method == "max" else np.minimum)(out, part, out=out)
        if total is None:
            return
        if out.dtype.kind in "iu":
            out[...] = (total + count // 2) // count
        else:
            out[...] = total / count

    def change_document(self, ome: OME) -> None:
        """Reduce the size, and keep the planes of the first position."""
        for number, element in enumerate(ome.images):
            if not self._is_same(number):
                self._reduce(element.pixels)

    def _reduce(self, pixels: model.Pixels) -> None:
        from ome_types import model

        setattr(pixels, f"size_{self._axis}", 1)
        pixels.planes = [p for p in pixels.planes if getattr(p, f"the_{self._axis}") == 0]
        if self._axis == "z":
            pixels.physical_size_z = None
        elif self._axis == "t":
            pixels.time_increment = None
        else:
            pixels.channels = [model.Channel(id="Channel:0", samples_per_pixel=1)]


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype in which sums are exact, or of double precision."""
    if dtype.kind in "iu":
        # Sums of 64-bit integers are beyond every type of numpy's.
        return np.dtype(object) if dtype.itemsize == 8 else np.dtype(np.int64)
    return np.result_type(dtype, np.float64)
