"""Boxes of a virtual pyramid at any depth, and pictures of them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.engine.pyramid import reduce_block
from bfbridge.rendering.picture import draw
from bfbridge.rendering.plan import Drawing, Plane
from bfbridge.rendering.profile import apply_profile, mates

if TYPE_CHECKING:
    from bfbridge.virtual.pyramid import VirtualImage

__all__ = [
    "Box",
    "draw_planes",
    "is_identity",
    "level_sides",
    "needed_planes",
    "read_box",
]

Array = np.ndarray[Any, Any]
Box = tuple[int, int, int, int]
"""Top, left, bottom, right, in pixels of a level."""


def level_sides(image: VirtualImage, level: int) -> tuple[int, int]:
    """Return height and width of a level: full size halved and rounded up, to any depth."""
    height, width = image.levels[0].shape[3:]
    return -(-height >> level), -(-width >> level)


def read_box(
    image: VirtualImage, level: int, box: Box, planes: tuple[Plane, ...]
) -> dict[Plane, Array]:
    """Read a box of several planes of a level.

    Parameters
    ----------
    image
        The pyramid.
    level
        Number of halvings; may be beyond the last level.
    box
        Within the level.
    planes
        Which ones.

    Returns
    -------
    dict
        (Y, X) by plane.

    Raises
    ------
    ReadFailed
        The file cannot deliver the pixels.
    """
    last = len(image.levels) - 1
    if level > last:
        height, width = image.levels[last].shape[3:]
        top, left, bottom, right = box
        factor = 1 << (level - last)
        whole = (
            top * factor, left * factor, min(height, bottom * factor), min(width, right * factor)
        )  # fmt: skip
        found = read_box(image, last, whole, planes)
        return {plane: _reduced(pixels, factor, image.method) for plane, pixels in found.items()}
    top, left, bottom, right = box
    found = {}
    wanted = sorted(set(planes), key=lambda plane: (plane.t, plane.z, plane.c))
    for (t, z), group in groupby(wanted, key=lambda plane: (plane.t, plane.z)):
        for first, stop in _runs([plane.c for plane in group]):
            start = (t, first, z, top, left)
            pixels = image.read(level, start, (t + 1, stop, z + 1, bottom, right))
            found.update({Plane(c, z, t): pixels[0, c - first, 0] for c in range(first, stop)})
    return found


def _reduced(pixels: Array, factor: int, method: str) -> Array:
    while factor > 1:
        pixels, factor = reduce_block(pixels, 2, method), factor // 2
    return pixels


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the ranges that sorted numbers make up."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def needed_planes(image: VirtualImage, drawing: Drawing) -> tuple[Plane, ...]:
    """Return the planes that must be read for a drawing."""
    if not drawing.icc:
        return drawing.planes
    # A profile is applied to red, green and blue together.
    return tuple({mate for plane in drawing.planes for mate in mates(image.view, plane)})


def draw_planes(image: VirtualImage, drawing: Drawing, planes: dict[Plane, Array]) -> Array:
    """Return the picture, (Y, X, bands), of planes that were read."""
    if drawing.icc:
        planes = apply_profile(image.view, drawing, planes)
    return draw(drawing, planes)


def is_identity(edges: Array, offset: int, count: int) -> bool:
    """Whether the new pixels between these edges are the old ones."""
    if len(edges) != count + 1:
        return False
    return bool(np.abs(edges - np.arange(offset, offset + count + 1)).max() < 1e-6)
