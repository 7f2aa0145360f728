"""AICSImageIO's and bioio's daily calls, for scripts that have them: `AICSImage` over `BioReader`.

Arrays have the axes T, C, Z, Y, X, with S last for RGB and M first for mosaics read by tile.
Nothing is read to answer a shape, and a selection reads only what it selects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bfbridge.aics import readers, writers
from bfbridge.aics.image import AICSImage
from bfbridge.aics.records import (
    DimensionProperties,
    DimensionProperty,
    Dimensions,
    PhysicalPixelSizes,
    Scale,
    StandardMetadata,
)
from bfbridge.aics.writers import OmeTiffWriter, OmeZarrWriter

if TYPE_CHECKING:
    import dask.array
    import numpy as np
    import xarray

__all__ = [
    "AICSImage",
    "BioImage",
    "DimensionProperties",
    "DimensionProperty",
    "Dimensions",
    "OmeTiffWriter",
    "OmeZarrWriter",
    "PhysicalPixelSizes",
    "Scale",
    "StandardMetadata",
    "imread",
    "imread_dask",
    "imread_xarray",
    "imread_xarray_dask",
    "readers",
    "writers",
]

BioImage = AICSImage
"""bioio's name of `AICSImage`."""


def _opened(image: Any, scene_id: str | int | None, options: dict[str, Any]) -> AICSImage:
    found = AICSImage(image, **options)
    if scene_id is not None:
        found.set_scene(scene_id)
    return found


def imread(image: Any, scene_id: str | int | None = None, **options: Any) -> np.ndarray[Any, Any]:
    """Read a scene as an array T, C, Z, Y, X.

    Parameters
    ----------
    image, **options
        As for `AICSImage`.
    scene_id
        Name or number of the scene. Default: the first.
    """
    with _opened(image, scene_id, options) as found:
        return found.data


def imread_dask(image: Any, scene_id: str | int | None = None, **options: Any) -> dask.array.Array:
    """Return scene `scene_id` of `image` as a dask array; `options` as in `imread`."""
    return _opened(image, scene_id, options).dask_data


def imread_xarray(
    image: Any, scene_id: str | int | None = None, **options: Any
) -> xarray.DataArray:
    """Read scene `scene_id` of `image` as a labelled array; `options` as in `imread`."""
    with _opened(image, scene_id, options) as found:
        return found.xarray_data


def imread_xarray_dask(
    image: Any, scene_id: str | int | None = None, **options: Any
) -> xarray.DataArray:
    """Like `imread_xarray` with `image`, `scene_id` and `options`, but read on demand."""
    return _opened(image, scene_id, options).xarray_dask_data
