"""Scenes as in AICSImageIO: one image, or the tiles of one larger image.

The positions of tiles are those of their planes. Shapes are known without reading pixels, and a
selection reads only the tiles that it overlaps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.analysis import dask_arrays as arrays
from bfbridge.analysis.coordinates import corners
from bfbridge.analysis.modulo import UnfoldedImage
from bfbridge.engine.lazy_pixels import is_dask
from bfbridge.errors import BadArgument

if TYPE_CHECKING:
    from bfbridge.views import ImageView

__all__ = [
    "Given",
    "Mosaic",
    "Pixels",
    "Plain",
    "Stitched",
    "Tiles",
    "mosaics_of",
    "tiles_by_scene",
]

Array = np.ndarray[Any, Any]


class Pixels:
    """Pixels of a scene: axes, sizes, and selections by axis."""

    order: str
    shape: tuple[int, ...]

    def read(self, chosen: Mapping[str, Any]) -> Array:
        """Read positions by axis; all axes are kept."""
        raise NotImplementedError

    def dask(self) -> Any:
        """Return all pixels as a dask array."""
        raise NotImplementedError


class Plain(Pixels):
    """One image, with its folded axes unfolded on request.

    Attributes
    ----------
    unfolded
        The array that unfolds axes; None if there are none.
    """

    def __init__(self, view: ImageView, unfold: bool | str = False) -> None:
        self._view = view
        self._unfold = unfold
        self._stored = self.order = "TCZYXS" if view.samples_per_pixel > 1 else "TCZYX"
        sizes = arrays.axis_sizes(view, self.order)
        self.shape = tuple(sizes[axis] for axis in self.order)
        self.unfolded: UnfoldedImage | None = None
        lazy = arrays.lazy_image(view, self.order, unfold)
        if isinstance(lazy, UnfoldedImage):
            self.unfolded, self.order, self.shape = lazy, lazy.letters, lazy.shape

    def read(self, chosen: Mapping[str, Any]) -> Array:
        """Read positions by axis; all axes are kept."""
        key = tuple(_axis_key(chosen.get(axis, slice(None))) for axis in self.order)
        if self.unfolded is not None:
            return self.unfolded[key]
        return arrays.LazyImage(self._view, self.order)[key]

    def dask(self, chunks: Any = None) -> Any:
        """Return all pixels as a dask array."""
        return self._view.to_dask(chunks, order=self._stored, unfold=self._unfold)


def _axis_key(value: Any) -> Any:
    if isinstance(value, int):
        return slice(value, value + 1)
    return value if isinstance(value, slice) else np.asarray(value, np.intp)


class Given(Pixels):
    """An array of numpy or dask given by the caller."""

    def __init__(self, order: str, array: Any) -> None:
        self.order = order
        self._array = array
        self.shape = tuple(array.shape)

    def read(self, chosen: Mapping[str, Any]) -> Array:
        """Select positions by axis; all axes are kept."""
        array = self._array
        for at, axis in enumerate(self.order):
            if axis in chosen:
                array = array[(slice(None),) * at + (_axis_key(chosen[axis]),)]
        return np.asarray(array)

    def dask(self) -> Any:
        """Return all pixels as a dask array."""
        if is_dask(self._array):
            return self._array
        da: Any = import_module("dask.array")
        return da.from_array(self._array)


class Mosaic:
    """Tiles of one image, with the position of each.

    Attributes
    ----------
    views
        The tiles, as images of the file.
    tile
        Rows and columns of a tile.
    corners
        (top, left) of each tile in the stitched image.
    positions
        (top, left) of each tile in the coordinates of the file, if the file has pixel coordinates;
        else `corners`.
    size
        Rows and columns of the stitched image.
    """

    def __init__(self, views: Sequence[ImageView]) -> None:
        self.views = list(views)
        first = self.views[0]
        name = first.source_name
        shapes = {(*view.sizes.values(), view.dtype, view.samples_per_pixel) for view in self.views}
        if len(shapes) > 1:
            raise BadArgument(f"{name}: images of different shapes are not tiles of one image.")
        self.tile = (first.sizes["Y"], first.sizes["X"])
        placed = corners(self.views)
        top, left = min(y for y, _ in placed), min(x for _, x in placed)
        self.corners = [(round(y - top), round(x - left)) for y, x in placed]
        in_pixels = [(at.y, at.x) for view in self.views if (at := view.placement) is not None]
        self.positions = in_pixels if len(in_pixels) == len(self.views) else self.corners
        self.size = (
            max(y for y, _ in self.corners) + self.tile[0],
            max(x for _, x in self.corners) + self.tile[1],
        )


def mosaics_of(views: Sequence[ImageView]) -> list[Mosaic]:
    """Return the mosaics that the images of a file are tiles of.

    If the file records the scene of each tile, there is one mosaic for each scene; otherwise all
    images are tiles of one mosaic.

    Raises
    ------
    BadArgument
        There is one image only, images differ in shape, or a position is not known.
    """
    if len(views) < 2:
        raise BadArgument(
            f"{views[0].source_name}: there is only one image, so it is not a mosaic."
        )
    scenes = tiles_by_scene(views)
    return [Mosaic(tiles) for tiles in scenes] if scenes else [Mosaic(views)]


def tiles_by_scene(views: Sequence[ImageView]) -> list[list[ImageView]]:
    """Return the images of each scene; nothing if no scene is known to have several."""
    found: dict[int, list[ImageView]] = {}
    for view in views:
        if view.placement is None:
            return []
        found.setdefault(view.placement.scene, []).append(view)
    return list(found.values()) if len(found) < len(views) else []


class Tiles(Pixels):
    """A mosaic as separate tiles: axis M first."""

    def __init__(self, mosaic: Mosaic) -> None:
        self._mosaic = mosaic
        self._plain = [Plain(view) for view in mosaic.views]
        self.order = "M" + self._plain[0].order
        self.shape = (len(self._plain), *self._plain[0].shape)

    def read(self, chosen: Mapping[str, Any]) -> Array:
        """Read positions by axis; all axes are kept."""
        rest = {axis: value for axis, value in chosen.items() if axis != "M"}
        numbers = chosen.get("M", range(len(self._plain)))
        numbers = [numbers] if isinstance(numbers, int) else numbers
        return np.stack([self._plain[number].read(rest) for number in numbers])

    def dask(self) -> Any:
        """Return all pixels as a dask array."""
        da: Any = import_module("dask.array")

        return da.stack([plain.dask() for plain in self._plain])


class Stitched(Pixels):
    """A mosaic as one image: where tiles overlap, the later one is used; gaps are 0."""

    def __init__(self, mosaic: Mosaic) -> None:
        self._mosaic = mosaic
        self._plain = [Plain(view) for view in mosaic.views]
        first = self._plain[0]
        self.order = first.order
        sizes = dict(zip(first.order, first.shape, strict=True))
        sizes["Y"], sizes["X"] = mosaic.size
        self.shape = tuple(sizes[axis] for axis in self.order)

    def read(self, chosen: Mapping[str, Any]) -> Array:
        """Read positions by axis; all axes are kept."""
        sizes = dict(zip(self.order, self.shape, strict=True))
        wanted = {
            axis: np.atleast_1d(np.arange(n)[chosen[axis]] if isinstance(chosen.get(axis), slice)
                                else np.asarray(chosen.get(axis, range(n)), np.intp))
            for axis, n in sizes.items()
        }  # fmt: skip
        out = np.zeros([len(wanted[axis]) for axis in self.order], self._mosaic.views[0].dtype)
        for (top, left), plain in zip(self._mosaic.corners, self._plain, strict=True):
            inside = {}
            for axis, begin, length in zip("YX", (top, left), self._mosaic.tile, strict=True):
                places = wanted[axis] - begin
                inside[axis] = np.flatnonzero((places >= 0) & (places < length))
            if not all(len(where) for where in inside.values()):
                continue
            part = {axis: wanted[axis] for axis in self.order}
            part["Y"] = wanted["Y"][inside["Y"]] - top
            part["X"] = wanted["X"][inside["X"]] - left
            where = np.ix_(*(inside.get(axis, np.arange(len(wanted[axis]))) for axis in self.order))
            out[where] = plain.read(part)
        return out

    def dask(self) -> Any:
        """Return all pixels as a dask array."""
        da: Any = import_module("dask.array")

        chunks = arrays.default_chunks(self._mosaic.views[0], self.order)
        lazy = _LazyPixels(self)
        return da.from_array(
            lazy, chunks=chunks, name=False, meta=np.empty((0,) * lazy.ndim, lazy.dtype)
        )


class _LazyPixels:
    """Array-like object for a stitched mosaic, for dask."""

    def __init__(self, source: Stitched) -> None:
        self._source = source
        self.shape = source.shape
        self.ndim = len(source.shape)
        self.dtype = source._mosaic.views[0].dtype

    def __getitem__(self, key: tuple[Any, ...]) -> Array:
        order = self._source.order
        chosen = {
            axis: range(*item.indices(n)) if isinstance(item, slice) else item
            for axis, item, n in zip(order, key, self.shape, strict=True)
        }
        found = self._source.read(chosen)
        return found[tuple(0 if isinstance(item, int) else slice(None) for item in key)]
