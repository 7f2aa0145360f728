"""Positions of the scenes of a file, on one plane or on the stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bfbridge.analysis.coordinates import corners
from bfbridge.errors import BadArgument
from bfbridge.reader import BioReader
from bfbridge.views import ImageView

__all__ = ["Part", "Rectangle", "plane_parts", "rectangles", "scenes_of"]


class Rectangle(NamedTuple):
    """Position of a scene in pixels.

    Attributes
    ----------
    x, y
        Left and top edge.
    w, h
        Width and height.
    """

    x: int
    y: int
    w: int
    h: int


class Part(NamedTuple):
    """A scene on the plane of all scenes: number of the image, and its place at some level."""

    number: int
    y: int
    x: int
    height: int
    width: int


def plane_parts(reader: BioReader, level: int) -> tuple[tuple[Part, ...], dict[str, int]]:
    """Return the scenes of a file on their plane, and its Y and X; nothing of other files."""
    places = list((reader._file.backend.rectangles or {}).values())
    scenes = scenes_of(reader)
    if len(places) < 2 or len(places) != len(scenes):
        return (), {}
    views = [scene.levels.pick(level) for scene in scenes]
    alike = {(view.dtype, *(view.sizes[axis] for axis in "ZCT")) for view in views}
    if len(alike) > 1:
        raise BadArgument(
            f"{reader.source_name}: its scenes differ in dtype, Z, C or T, so they make no one "
            "stack. Choose one with scene=."
        )
    left, top = min(place[0] for place in places), min(place[1] for place in places)
    parts = []
    for view, scene, (x, y, _, _) in zip(views, scenes, places, strict=True):
        sizes, full = view.sizes, scene.sizes
        row = (y - top) * sizes["Y"] // full["Y"]
        column = (x - left) * sizes["X"] // full["X"]
        parts.append(Part(view.index, row, column, sizes["Y"], sizes["X"]))
    height = max(part.y + part.height for part in parts)
    width = max(part.x + part.width for part in parts)
    return tuple(parts), {"Y": height, "X": width}


def rectangles(reader: BioReader) -> dict[int | None, Rectangle]:
    """Return the scenes' rectangles; see `ImageStack.get_bounding_rectangles`."""
    exact = reader._file.backend.rectangles
    if exact:
        return {number: Rectangle(*place) for number, place in exact.items()}
    scenes = scenes_of(reader)
    placed = _corners(scenes)
    known = [corner for corner in placed if corner is not None]
    top = min((y for y, _ in known), default=0.0)
    left = min((x for _, x in known), default=0.0)
    found: dict[int | None, Rectangle] = {}
    for number, (view, corner) in enumerate(zip(scenes, placed, strict=True)):
        y, x = corner or (top, left)
        sizes = view.sizes
        found[number] = Rectangle(round(x - left), round(y - top), sizes["X"], sizes["Y"])
    return found


def scenes_of(reader: BioReader) -> list[ImageView]:
    """Return the images that are neither label nor macro; all if there are none."""
    return [view for view in reader.series if view.role == "image"] or list(reader.series)


def _corners(views: Sequence[ImageView]) -> list[tuple[float, float] | None]:
    """Return (y, x) of each image in pixels, or None where it is not known."""
    try:
        return list(corners(views))
    except BadArgument:
        if len(views) == 1:
            return [None]
    return [place for view in views for place in _corners([view])]
