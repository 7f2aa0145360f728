"""Stacks and files of the scenes of an `AICSImage`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bfbridge.aics.records import micrometres
from bfbridge.analysis.mosaics import Mosaic, Pixels, Plain, tiles_by_scene
from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.errors import BadArgument
from bfbridge.files.array_images import ArrayImage, images_of
from bfbridge.reader import BioReader
from bfbridge.writer import BioWriter

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.views import ImageView

__all__ = ["described_again", "equal_scenes", "save_arrays", "tiles_of"]


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


def described_again(
    views: Sequence[ImageView], dim_order: Any, channel_names: Any, physical_pixel_sizes: Any
) -> list[ArrayImage]:
    """Return the scenes of a file as lazy arrays that are described by the caller.

    Parameters
    ----------
    views
        The scenes.
    dim_order
        A letter for each stored axis, or a list of such texts, one for each scene: axes that are
        longer than 1 in the order in which the planes are stored, then Y and X, and S for RGB.
    channel_names, physical_pixel_sizes
        As for `AICSImage`. What is None is taken from the file.

    Raises
    ------
    BadArgument
        An argument does not fit the scenes.
    """
    stored = [_stored_axes(view) for view in views]
    orders = dim_order if isinstance(dim_order, (list, tuple)) else [dim_order] * len(views)
    if len(orders) != len(views):
        raise BadArgument(f"dim_order={dim_order!r}: the file has {len(views)} scenes.")
    orders = [
        letters if order is None else str(order)
        for order, letters in zip(orders, stored, strict=True)
    ]
    pixels = []
    for view, letters in zip(views, stored, strict=True):
        plain = Plain(view)
        array = plain.dask()[tuple(slice(None) if a in letters else 0 for a in plain.order)]
        kept = [axis for axis in plain.order if axis in letters]
        pixels.append(array.transpose([kept.index(axis) for axis in letters]))
    if channel_names is None:
        names = [
            _stored_names(view) if order.upper() == letters else None
            for view, order, letters in zip(views, orders, stored, strict=True)
        ]
        channel_names = names if any(names) else None
    if physical_pixel_sizes is None:
        sizes = [view.physical_pixel_size for view in views]
        physical_pixel_sizes = [tuple(map(micrometres, (one.z, one.y, one.x))) for one in sizes]
    images = images_of(pixels, orders, channel_names, physical_pixel_sizes) or []
    return [replace(image, name=view.name) for image, view in zip(images, views, strict=True)]


def _stored_axes(view: ImageView) -> str:
    """Return the axes longer than 1, the slowest first, then Y, X, and S for RGB."""
    order = view.ome.images[view.index].pixels.dimension_order.value
    samples = view.samples_per_pixel
    sizes = {**view.sizes, "C": view.sizes["C"] // samples}
    outer = "".join(axis for axis in reversed(order) if axis in "TCZ" and sizes[axis] > 1)
    return f"{outer}YX{'S' if samples > 1 else ''}"


def _stored_names(view: ImageView) -> list[str] | None:
    names = [channel.name for channel in view.channels]
    known = [name for name in names if name]
    return known if known and len(known) == view.sizes["C"] // view.samples_per_pixel else None
