"""Stacks and files of the scenes of an `AICSImage`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bfbridge.analysis.mosaics import Mosaic, Pixels, tiles_by_scene
from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.errors import BadArgument
from bfbridge.reader import BioReader
from bfbridge.writer import BioWriter

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["equal_scenes", "save_arrays", "tiles_of"]


def equal_scenes(
    name: str, scenes: Sequence[tuple[Pixels, Any]], drop_others: bool
) -> list[Pixels]:
    """Return the scenes of the first one's shape and dtype.

    Raises
    ------
    BadArgument
        Other scenes differ, and they are not to be left out.
    """
    first, dtype = scenes[0]
    equal = [one for one, its in scenes if (one.shape, its) == (first.shape, dtype)]
    if len(equal) < len(scenes) and not drop_others:
        found = sorted({f"{one.order} {one.shape} {its}" for one, its in scenes})
        raise BadArgument(
            f"{name}: scenes that differ cannot be stacked: {'; '.join(found)}. "
            "drop_non_matching_scenes=True leaves out those that differ from the first."
        )
    return equal


def save_arrays(
    uri: str | os.PathLike[str], ome: OME, scenes: Sequence[Any], options: Mapping[str, Any]
) -> None:
    """Write scenes that were given as arrays (T, C, Z, Y, X), block by block."""
    with BioWriter(uri, metadata=ome, series="all", **options) as writer:
        for target, pixels in zip(writer.series, scenes, strict=True):
            target.dtype = pixels.dtype
        for target, pixels in zip(writer.series, scenes, strict=True):
            target[...] = LazyPixels(pixels, "TCZYX", str(uri))


def tiles_of(image: Any, options: Mapping[str, Any]) -> list[Mosaic]:
    """Open a file, and return the mosaic of each scene that was acquired in tiles."""
    with BioReader(image, **options) as reader:
        scenes = tiles_by_scene([view for view in reader.series if view.role == "image"])
        return [Mosaic(views) for views in scenes]
