"""Records of the sizes of pixels and of the places of images in their file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["PixelSize", "Placement", "Quantity"]


class Quantity(NamedTuple):
    """A number `value` with its `unit`, as OME writes units ("µm", "nm", "pixel")."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Physical size of one pixel along `x`, `y` and `z`; None if unknown."""

    x: Quantity | None = None
    y: Quantity | None = None
    z: Quantity | None = None


class Placement(NamedTuple):
    """Where an image lies in the pixel coordinates that the images of a file share.

    Attributes
    ----------
    scene
        Number of the scene that the image is, or is a tile of.
    y, x
        Of its first pixel, in pixels of full size; they may be negative.
    """

    scene: int
    y: int
    x: int
