"""AICSImageIO's daily calls, for scripts that have them: `AICSImage` over `BioReader`.

Arrays have the axes T, C, Z, Y, X, with S last for RGB and M first for mosaics read by tile.
Nothing is read to answer a shape, and a selection reads only what it selects.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from bfbridge.backend import Quantity
from bfbridge.coordinates import channel_labels, coordinates, seconds
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.metadata import convert_length
from bfbridge.mosaics import Mosaic, Pixels, Plain, Stitched, Tiles
from bfbridge.reader import BioReader
from bfbridge.views import ImageView

if TYPE_CHECKING:
    import dask.array
    import xarray
    from ome_types import OME

__all__ = ["AICSImage", "Dimensions", "PhysicalPixelSizes"]

Array = np.ndarray[Any, Any]
Mode = Literal["stitch", "tiles"]


class PhysicalPixelSizes(NamedTuple):
    """Micrometres per pixel; None where the file does not say."""

    Z: float | None
    Y: float | None
    X: float | None


@dataclass(frozen=True)
class Dimensions:
    """Axes and their sizes: ``dims.X``, ``dims["T", "X"]``, ``dims.order``, ``dims.shape``."""

    order: str
    shape: tuple[int, ...]

    def items(self) -> list[tuple[str, int]]:
        """(axis, size) in order."""
        return list(zip(self.order, self.shape, strict=True))

    def __getattr__(self, axis: str) -> int:
        sizes = dict(zip(self.order, self.shape, strict=True))
        if axis in sizes:
            return sizes[axis]
        raise AttributeError(f"there is no axis {axis!r}; there are {self.order}.")

    def __getitem__(self, axes: str | Sequence[str]) -> tuple[int, ...]:
        sizes = dict(zip(self.order, self.shape, strict=True))
        try:
            return tuple(sizes[axis] for axis in axes)
        except KeyError as error:
            raise BadSelection(f"there is no axis {error}; there are {self.order}.") from None

    def __repr__(self) -> str:
        return f"<Dimensions [{', '.join(f'{a}: {n}' for a, n in self.items())}]>"


class AICSImage:
    """An image file as AICSImageIO 4 shows it: one current scene, arrays T, C, Z, Y, X (, S).

    Parameters
    ----------
    image
        Whatever `BioReader` takes.
    mosaic
        Images of the file that are tiles of one larger image, by their plane positions: "stitch"
        puts them together, "tiles" gives them an axis M. None takes each as a scene of its own.
    fs_kwargs
        AICSImageIO's name for `storage_options`.
    **options
        Further keyword arguments of `BioReader`.

    Raises
    ------
    BadArgument
        `mosaic` was asked for, and the images are no tiles of one image.
    """

    def __init__(
        self,
        image: Any,
        *,
        mosaic: Mode | None = None,
        fs_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if fs_kwargs:
            options.setdefault("storage_options", fs_kwargs)
        self._reader = BioReader(image, **options)
        self._scene = 0
        self._mosaic: Mosaic | None = None
        self._mode = mosaic
        if mosaic is not None:
            if mosaic not in ("stitch", "tiles"):
                raise BadArgument(f"mosaic={mosaic!r}: give 'stitch', 'tiles' or None.")
            self._mosaic = Mosaic(self._views)
        self._data: Array | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._reader.close()

    def __repr__(self) -> str:
        return (
            f"<AICSImage {self._reader.source_name!r}, scene {self.current_scene!r}: {self.dims}>"
        )

    # ---- scenes

    @cached_property
    def _views(self) -> list[ImageView]:
        views = list(self._reader.series)
        return [view for view in views if view.role == "image"] or views

    @property
    def _view(self) -> ImageView:
        return self._views[self._scene]

    @property
    def scenes(self) -> tuple[str, ...]:
        """Name of each scene; ``Image:number`` where there is none."""
        if self._mosaic is not None:
            return (self._views[0].name or "Image:0",)
        return tuple(view.name or f"Image:{i}" for i, view in enumerate(self._views))

    @property
    def current_scene(self) -> str:
        """Name of the scene that everything is about."""
        return self.scenes[self._scene]

    @property
    def current_scene_index(self) -> int:
        """Number of the current scene."""
        return self._scene

    def set_scene(self, scene: str | int) -> None:
        """Choose the current scene.

        Parameters
        ----------
        scene
            Number, or name. Of scenes of one name the first is taken; a number is never ambiguous.

        Raises
        ------
        BadSelection
            There is no such scene.
        """
        scenes = self.scenes
        if isinstance(scene, str):
            if scene not in scenes:
                raise BadSelection(f"there is no scene {scene!r}; there are {scenes[:20]}.")
            scene = scenes.index(scene)
        if not -len(scenes) <= scene < len(scenes):
            raise BadSelection(f"there is no scene {scene}; there are {len(scenes)}.")
        self._scene = scene % len(scenes)
        self._data = None

    # ---- sizes

    @property
    def _source(self) -> Pixels:
        if self._mosaic is not None:
            return Stitched(self._mosaic) if self._mode == "stitch" else Tiles(self._mosaic)
        return Plain(self._view)

    @property
    def dims(self) -> Dimensions:
        """Axes and sizes of the current scene."""
        source = self._source
        return Dimensions(source.order, source.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along `dims.order`."""
        return self._source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self._view.dtype

    # ---- pixels

    @property
    def data(self) -> Array:
        """The whole current scene; kept until another is chosen."""
        if self._data is None:
            self._data = self._source.read({})
        return self._data

    @property
    def dask_data(self) -> dask.array.Array:
        """The current scene as a dask array."""
        array: dask.array.Array = self._source.dask()
        return array

    @property
    def xarray_data(self) -> xarray.DataArray:
        """The whole current scene with labels. Its index is positional, its ``sel`` physical."""
        return self._labelled(self.data)

    @property
    def xarray_dask_data(self) -> xarray.DataArray:
        """The current scene with labels, read on use."""
        return self._labelled(self.dask_data)

    def _labelled(self, data: Any) -> xarray.DataArray:
        order = self.dims.order
        found = {name.upper(): values for name, values in coordinates(self._view, "zero").items()}
        coords = {}
        for axis, size in self.dims.items():
            dims, values, *attributes = found.get(axis, ("", ()))
            if len(values) == size and axis != "C":
                coords[axis] = (dims.upper(), values, *attributes)
        names = self.channel_names
        coords["C"] = ("C", names)
        array: xarray.DataArray = import_module("xarray").DataArray(
            data, dims=tuple(order), coords=coords
        )
        return array

    def get_image_data(self, dimension_order_out: str | None = None, **selection: Any) -> Array:
        """Read a selection in an order of axes.

        Parameters
        ----------
        dimension_order_out
            Axes of the result. Axes left out are taken at 0; axes the image lacks have length 1.
        **selection
            By axis letter an integer, list, tuple, range or slice.

        Raises
        ------
        BadSelection, BadArgument
            Positions outside the image, or axes that do not exist.
        """
        source = self._source
        order, chosen = _selection(source, dimension_order_out, selection)
        result: Array = _reorder(source.read(chosen), source.order, order, chosen)
        return result

    def get_image_dask_data(
        self, dimension_order_out: str | None = None, **selection: Any
    ) -> dask.array.Array:
        """As `get_image_data`, as a dask array."""
        source = self._source
        order, chosen = _selection(source, dimension_order_out, selection)
        array = source.dask()
        for axis, positions in chosen.items():
            key: list[Any] = [slice(None)] * array.ndim
            key[source.order.index(axis)] = (
                positions if isinstance(positions, int) else np.asarray(positions, np.intp)
            )
            if isinstance(positions, int):
                key[source.order.index(axis)] = slice(positions, positions + 1)
            array = array[tuple(key)]
        result: dask.array.Array = _reorder(array, source.order, order, chosen)
        return result

    def get_stack(self) -> Array:
        """Read all scenes, which must have one shape, with an axis for the scenes first."""
        if self._mosaic is not None:
            return self.data[np.newaxis]
        shapes = {Plain(view).shape for view in self._views}
        if len(shapes) > 1:
            raise BadArgument(f"scenes of different shapes cannot be stacked: {sorted(shapes)}.")
        return np.stack([Plain(view).read({}) for view in self._views])

    def get_dask_stack(self) -> dask.array.Array:
        """As `get_stack`, as a dask array."""
        da: Any = import_module("dask.array")

        array: dask.array.Array = da.stack([Plain(view).dask() for view in self._views])
        return array

    # ---- mosaics

    @property
    def mosaic_tile_dims(self) -> Dimensions | None:
        """Y and X of one tile, or None if the scene is no mosaic."""
        if self._mosaic is None:
            return None
        return Dimensions("YX", self._mosaic.tile)

    def get_mosaic_tile_position(self, mosaic_tile_index: int) -> tuple[int, int]:
        """Return (top, left) of a tile in the stitched image, in pixels."""
        return self.get_mosaic_tile_positions()[mosaic_tile_index]

    def get_mosaic_tile_positions(self) -> list[tuple[int, int]]:
        """Return (top, left) of each tile in the stitched image, in pixels."""
        if self._mosaic is None:
            raise BadArgument("this image was not opened as a mosaic; use mosaic='stitch'.")
        return list(self._mosaic.corners)

    # ---- metadata

    @property
    def channel_names(self) -> list[str]:
        """One name for each channel; samples of RGB pixels are not channels here."""
        view = self._view
        if view.samples_per_pixel == 1:
            return channel_labels(view)
        return [channel.name or f"Channel {i}" for i, channel in enumerate(view.channels)]

    @property
    def physical_pixel_sizes(self) -> PhysicalPixelSizes:
        """Micrometres per pixel along Z, Y, X."""
        size = self._view.physical_pixel_size
        return PhysicalPixelSizes(_micrometres(size.z), _micrometres(size.y), _micrometres(size.x))

    physical_pixel_size = physical_pixel_sizes

    @property
    def time_interval(self) -> float | None:
        """Seconds between time points, or None."""
        pixels = self._reader.ome.images[self._view.index].pixels
        return seconds(pixels.time_increment, pixels.time_increment_unit)

    @property
    def metadata(self) -> Any:
        """OME-XML where there is one, else the format's own metadata."""
        xml = self._reader.ome_xml
        return xml if xml is not None else dict(self._reader.original_metadata)

    @property
    def ome_metadata(self) -> OME:
        """OME metadata of the file."""
        return self._reader.ome

    def save(self, uri: str | os.PathLike[str], select_scenes: Any = None, **options: Any) -> None:
        """Write scenes to a new file, whose suffix chooses the format; the current scene stays.

        Parameters
        ----------
        uri
            Path of the new file.
        select_scenes
            Names or numbers of scenes. Default: all.
        **options
            Further keyword arguments of `bfbridge.convert`.
        """
        if self._mosaic is not None:
            raise BadArgument("a mosaic cannot be saved as one image; open it without mosaic=.")
        scenes = self.scenes
        chosen = range(len(scenes)) if select_scenes is None else select_scenes
        numbers = [scenes.index(s) if isinstance(s, str) else int(s) for s in chosen]
        series = [self._views[number].index for number in numbers]
        convert = import_module("bfbridge.convert").convert
        convert(self._reader._file.source, os.fspath(uri), series=series, **options)


def _micrometres(size: Quantity | None) -> float | None:
    if size is None:
        return None
    try:
        return convert_length(size, "µm")
    except BadArgument:
        # Sizes in pixels or in a reference frame have no length.
        return None


# ---- selections


def _selection(
    source: Pixels, order: str | None, selection: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the order of the result, and positions (or one integer) by axis."""
    wanted = source.order if order is None else order.upper()
    if len(set(wanted)) != len(wanted) or not set(wanted) <= set("MTCZYXS"):
        raise BadArgument(f"dimension_order_out={order!r}: axes are M, T, C, Z, Y, X and S.")
    sizes = dict(zip(source.order, source.shape, strict=True))
    unknown = {axis for axis in selection if axis.upper() not in sizes}
    if unknown:
        raise BadArgument(f"{', '.join(sorted(unknown))}: there are axes {source.order}.")
    given = {axis.upper(): value for axis, value in selection.items()}
    chosen: dict[str, Any] = {axis: 0 for axis in sizes if axis not in wanted}
    for axis, value in given.items():
        chosen[axis] = _positions(value, sizes[axis], axis)
    return wanted, chosen


def _positions(value: Any, size: int, axis: str) -> Any:
    if isinstance(value, slice):
        return range(*value.indices(size))
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if not -size <= value < size:
            raise BadSelection(f"{axis}={value} is outside the image, whose {axis} is {size}.")
        return int(value) % size
    try:
        found = [int(n) for n in value]
    except (TypeError, ValueError):
        raise BadSelection(
            f"{axis}={value!r}: give an integer, a list, a range or a slice."
        ) from None
    if any(not -size <= n < size for n in found):
        raise BadSelection(f"{axis}={value!r} is outside the image, whose {axis} is {size}.")
    return [n % size for n in found]


def _reorder(array: Any, have: str, want: str, chosen: Mapping[str, Any]) -> Any:
    """Drop the axes not wanted, add those the image lacks, and transpose."""
    for axis in have:
        if axis not in want and not isinstance(chosen[axis], int):
            raise BadArgument(
                f"{axis}={chosen[axis]!r} selects several, but {want} has no axis for them."
            )
    kept = tuple(slice(None) if axis in want else 0 for axis in have)
    array = array[kept]
    names = "".join(axis for axis in have if axis in want)
    missing = "".join(axis for axis in want if axis not in names)
    array = array[(np.newaxis,) * len(missing) + (...,)]
    names = missing + names
    return array.transpose([names.index(axis) for axis in want])
