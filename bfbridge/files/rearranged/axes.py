"""Axes relabelled: Z, C and T of an image exchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Channel, Image, Level, ReaderBackend, Region, Shape5
from bfbridge.errors import BadArgument
from bfbridge.files.rearranged.wrapper import Wrapper, five

if TYPE_CHECKING:
    from ome_types import OME, model

__all__ = ["SwappedAxes"]

Array = np.ndarray[Any, Any]
_PLACES = {"t": 0, "c": 1, "z": 2}


class SwappedAxes(Wrapper):
    """Images in which two of the axes Z, C and T have exchanged their meanings.

    The spacing of a swapped axis is dropped, because it belongs to its former meaning. If C is
    swapped, the channels have no names. Label images and other associated images are unchanged.

    Parameters
    ----------
    inner
        The open backend.
    pair
        Two letters of "z", "c", "t".

    Raises
    ------
    BadArgument
        C is swapped in an RGB image.
    """

    def __init__(self, inner: ReaderBackend, pair: str) -> None:
        self._pair = pair
        self._axes = (_PLACES[pair[0]], _PLACES[pair[1]])
        super().__init__(inner, [self._swapped(i, image) for i, image in enumerate(inner.images)])

    def _swapped(self, number: int, image: Image) -> Image:
        if image.role != "image" and not image.is_mask:
            return image
        if "c" in self._pair and image.samples > 1:
            raise BadArgument(
                f"swap={self._pair!r}: image {number} is RGB, and its samples cannot become "
                "another axis. Split them with split_rgb=True (--split-rgb), in a first conversion."
            )
        levels = tuple(
            Level(self._five(level.shape), self._five(level.chunk)) for level in image.levels
        )
        size, step, channels = image.pixel_size, image.time_step, image.channels
        if "z" in self._pair:
            size = replace(size, z=None)
        if "t" in self._pair:
            step = None
        if "c" in self._pair:
            channels = tuple(Channel() for _ in range(levels[0].shape[1]))
        return replace(image, levels=levels, pixel_size=size, time_step=step, channels=channels)

    def _five(self, values: Shape5) -> Shape5:
        found = list(values)
        a, b = self._axes
        found[a], found[b] = found[b], found[a]
        return five(found)

    def read(self, region: Region, out: Array) -> None:
        """Fill `out` from the planes with exchanged axes."""
        if self._is_same(region.image):
            self._inner.read(region, out)
            return
        own = replace(region, start=self._five(region.start), stop=self._five(region.stop))
        self._inner.read(own, out.swapaxes(*self._axes))

    def change_document(self, ome: OME) -> None:
        """Exchange sizes and the numbers of planes."""
        for number, element in enumerate(ome.images):
            if not self._is_same(number):
                self._swap(element.pixels, self._images[number])

    def _swap(self, pixels: model.Pixels, image: Image) -> None:
        from ome_types import model

        first, second = self._pair[0], self._pair[1]
        t, c, z, _, _ = image.levels[0].shape
        pixels.size_t, pixels.size_c, pixels.size_z = t, c, z
        for plane in pixels.planes:
            old = getattr(plane, f"the_{first}"), getattr(plane, f"the_{second}")
            setattr(plane, f"the_{second}", old[0])
            setattr(plane, f"the_{first}", old[1])
        if "z" in self._pair:
            pixels.physical_size_z = None
        if "t" in self._pair:
            pixels.time_increment = None
        if "c" in self._pair:
            pixels.channels = [
                model.Channel(id=f"Channel:{i}", samples_per_pixel=1) for i in range(c)
            ]
