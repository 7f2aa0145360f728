"""The API of AICSImageIO for existing scripts: `AICSImage` on top of `BioReader`.

Arrays have the axes T, C, Z, Y, X, with S last for RGB and M first for mosaics read by tile.
Shapes are known without reading pixels, and a selection reads only its own pixels.
"""

from __future__ import annotations

import operator
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from bfbridge.analysis import dask_arrays as arrays
from bfbridge.analysis.coordinates import coordinates, time_step
from bfbridge.analysis.mosaics import Given, Mosaic, Pixels, Plain, Stitched, Tiles
from bfbridge.backend import Quantity
from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.files.array_images import ArrayImages, images_of
from bfbridge.ome.metadata import carry, convert_length
from bfbridge.reader import BioReader
from bfbridge.runtime.arguments import flag, one_of, whole
from bfbridge.views import ImageView
from bfbridge.writer import BioWriter

if TYPE_CHECKING:
    import dask.array
    import xarray
    from ome_types import OME

__all__ = ["AICSImage", "Dimensions", "PhysicalPixelSizes", "Scale"]

Array = np.ndarray[Any, Any]
Mode = Literal["stitch", "tiles"]


class PhysicalPixelSizes(NamedTuple):
    """Micrometres per pixel along `Z`, `Y` and `X`; None if unknown."""

    Z: float | None
    Y: float | None
    X: float | None


class Scale(NamedTuple):
    """Seconds along `T`, micrometres along `Z`, `Y`, `X`; None if unknown. `C` is None."""

    T: float | None
    C: float | None
    Z: float | None
    Y: float | None
    X: float | None


@dataclass(frozen=True)
class Dimensions:
    """Axes (`order`) and their sizes (`shape`): also ``dims.X`` and ``dims["T", "X"]``."""

    order: str
    shape: tuple[int, ...]

    def items(self) -> list[tuple[str, int]]:
        """Return (axis, size) in order."""
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
        except (KeyError, TypeError) as error:
            raise BadSelection(f"there is no axis {error}; there are {self.order}.") from None

    def __repr__(self) -> str:
        return f"<Dimensions [{', '.join(f'{a}: {n}' for a, n in self.items())}]>"


class AICSImage:
    """An image file as in AICSImageIO 4: one current scene, arrays T, C, Z, Y, X (, S).

    Parameters
    ----------
    image
        Any input of `BioReader`, or an array (numpy, dask, xarray), or a list of arrays, one for
        each scene.
    mosaic
        For images of the file that are tiles of one larger image, by their plane positions:
        "stitch" joins them, "tiles" gives them an axis M. None makes each image a separate scene.
    reconstruct_mosaic
        The argument of AICSImageIO. False means ``mosaic="tiles"`` for several images, with CZI
        tiles as stored; True has no effect, because Bio-Formats stitches CZI files itself.
    fs_kwargs
        AICSImageIO's name of `storage_options`.
    dim_order
        For arrays: a letter of T, C, Z, Y, X and S for each axis; or a list of such texts, one for
        each scene. Default: the dimensions of a labelled array, else the last of T, C, Z, Y, X.
    channel_names
        For arrays: names, or a list of names for each scene.
    physical_pixel_sizes
        For arrays: micrometres along Z, Y, X, or a list of them for each scene.
    **options
        Further keyword arguments of `BioReader`.

    Raises
    ------
    BadArgument
        `mosaic` was given, but the images are not tiles of one image; or an argument for arrays
        does not fit the array.
    """

    def __init__(
        self,
        image: Any,
        *,
        mosaic: Mode | None = None,
        reconstruct_mosaic: bool = True,
        fs_kwargs: Mapping[str, Any] | None = None,
        dim_order: str | Sequence[str] | None = None,
        channel_names: Sequence[Any] | None = None,
        physical_pixel_sizes: Any = None,
        **options: Any,
    ) -> None:
        self._arrays = images_of(image, dim_order, channel_names, physical_pixel_sizes)
        if self._arrays is not None:
            image = ArrayImages(self._arrays)
        if fs_kwargs is not None:
            options.setdefault("storage_options", fs_kwargs)
        reconstruct_mosaic = flag(reconstruct_mosaic, "reconstruct_mosaic")
        path = str(image) if isinstance(image, (str, os.PathLike)) else ""
        if not reconstruct_mosaic and path.lower().endswith(".czi"):
            options["options"] = {"zeissczi.autostitch": False, **(options.get("options") or {})}
        self._reader = BioReader(image, **options)
        if not reconstruct_mosaic and len(self._views) > 1:
            mosaic = mosaic or "tiles"
        self._scene = self._level = 0
        self._mosaic: Mosaic | None = None
        self._mode = mosaic
        if mosaic is not None:
            one_of(mosaic, "mosaic", ("stitch", "tiles"))
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
        return self._views[self._scene].levels[self._level]

    @cached_property
    def scenes(self) -> tuple[str, ...]:
        """Name of each scene; the names are unique.

        ``Image:number`` without a stored name, and ``name (Image:number)`` for a repeated name.
        """
        views = self._views if self._mosaic is None else self._views[:1]
        names = [view.name for view in views]
        met = Counter(names)
        numbered = [f"Image:{i}" for i in range(len(names))]
        return tuple(
            number if not name else name if met[name] == 1 else f"{name} ({number})"
            for name, number in zip(names, numbered, strict=True)
        )

    @property
    def current_scene(self) -> str:
        """Name of the current scene."""
        return self.scenes[self._scene]

    @property
    def current_scene_index(self) -> int:
        """Number of the current scene."""
        return self._scene

    def set_scene(self, scene: str | int) -> None:
        """Choose the current scene, at full size.

        Parameters
        ----------
        scene
            Number, name as in `scenes`, or ``Image:number``, as AICSImageIO names TIFF scenes.

        Raises
        ------
        BadSelection
            The scene does not exist.
        """
        self._scene = self._scene_number(scene)
        self._level = 0
        self._data = None

    def _scene_number(self, scene: str | int) -> int:
        scenes = self.scenes
        if isinstance(scene, str):
            numbered = [f"Image:{i}" for i in range(len(scenes))]
            found = next((names for names in (scenes, numbered) if scene in names), None)
            if found is None:
                raise BadSelection(
                    f"{self._reader.source_name}: there is no scene {scene!r}; there are "
                    f"{scenes[:20]}."
                )
            scene = found.index(scene)
        if not isinstance(scene, (int, np.integer)) or not -len(scenes) <= scene < len(scenes):
            raise BadSelection(
                f"{self._reader.source_name}: there is no scene {scene}; there are {len(scenes)}."
            )
        return int(scene) % len(scenes)

    # ---- resolutions

    @property
    def resolution_levels(self) -> tuple[int, ...]:
        """Numbers of the current scene's resolutions; 0 is full size. A mosaic has only one."""
        return (0,) if self._mosaic is not None else tuple(range(len(self._view.levels)))

    @property
    def current_resolution_level(self) -> int:
        """Number of the current resolution."""
        return self._level

    def set_resolution_level(self, resolution_level: int) -> None:
        """Select the resolution of the current scene by its number, `resolution_level`.

        Raises
        ------
        BadSelection
            The resolution does not exist.
        """
        known = self.resolution_levels
        if not isinstance(resolution_level, (int, np.integer)) or resolution_level not in known:
            raise BadSelection(
                f"{self._reader.source_name}: there is no resolution level {resolution_level}; "
                f"there are {self.resolution_levels}."
            )
        self._level = int(resolution_level)
        self._data = None

    @property
    def resolution_level_dims(self) -> dict[int, tuple[int, ...]]:
        """Sizes along `dims.order` for each resolution."""
        if self._mosaic is not None:
            return {0: self.shape}
        return {level.level: Plain(level).shape for level in self._view.levels}

    # ---- sizes

    @property
    def _source(self) -> Pixels:
        if self._mosaic is not None:
            return Stitched(self._mosaic) if self._mode == "stitch" else Tiles(self._mosaic)
        if self._arrays is not None:
            return Given(*self._arrays[self._scene].in_order())
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
        """Dtype of the pixels."""
        return self._view.dtype

    # ---- pixels

    @property
    def data(self) -> Array:
        """The whole current scene, cached until another scene is selected."""
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
        """The current scene with labels, read on demand."""
        return self._labelled(self.dask_data)

    def _labelled(self, data: Any, stacked: str = "") -> xarray.DataArray:
        """Label an array of the current scene, or of all scenes along the axis `stacked`."""
        view = self._views[0] if stacked else self._view
        dims = stacked + self.dims.order
        found = {name.upper(): values for name, values in coordinates(view, "zero").items()}
        coords = {}
        for axis, size in zip(dims, data.shape, strict=True):
            _, values, *attributes = found.get(axis, ("", ()))
            if len(values) == size and axis != "C":
                coords[axis] = (axis, values, *attributes)
        coords["C"] = ("C", self._channel_names(view))
        try:
            module = import_module("xarray")
        except ImportError as error:
            raise arrays.missing("xarray", "AICSImage.xarray_data") from error
        array: xarray.DataArray = module.DataArray(data, dims=tuple(dims), coords=coords)
        return array

    def get_image_data(self, dimension_order_out: str | None = None, **selection: Any) -> Array:
        """Read a selection, with its axes in a given order.

        Parameters
        ----------
        dimension_order_out
            Axes of the result. Axes left out are read at 0; axes not in the image have length 1.
        **selection
            By axis letter: an integer, list, tuple, range or slice.

        Raises
        ------
        BadSelection, BadArgument
            A position is outside the image, or an axis does not exist.
        """
        source = self._source
        order, chosen = _selection(source, dimension_order_out, selection)
        result: Array = _reorder(source.read(chosen), source.order, order, chosen)
        return result

    def get_image_dask_data(
        self, dimension_order_out: str | None = None, **selection: Any
    ) -> dask.array.Array:
        """As `get_image_data`, with its `dimension_order_out` and `selection`, as a dask array."""
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

    def get_stack(self, drop_non_matching_scenes: bool = False) -> Array:
        """Read all scenes at full size, with a first axis for the scenes.

        Parameters
        ----------
        drop_non_matching_scenes
            Whether scenes whose shape or dtype differs are left out. Otherwise they are an error.

        Raises
        ------
        BadArgument
            Scenes differ in shape or dtype.
        """
        return np.stack([scene.read({}) for scene in self._stacked(drop_non_matching_scenes)])

    def get_dask_stack(self, drop_non_matching_scenes: bool = False) -> dask.array.Array:
        """As `get_stack`, with its `drop_non_matching_scenes`, as a dask array."""
        da: Any = import_module("dask.array")

        scenes = self._stacked(drop_non_matching_scenes)
        array: dask.array.Array = da.stack([scene.dask() for scene in scenes])
        return array

    def get_xarray_stack(self, drop_non_matching_scenes: bool = False) -> xarray.DataArray:
        """As `get_stack`, with its `drop_non_matching_scenes`, labelled: axis I counts scenes."""
        return self._labelled(self.get_stack(drop_non_matching_scenes), "I")

    def get_xarray_dask_stack(self, drop_non_matching_scenes: bool = False) -> xarray.DataArray:
        """As `get_xarray_stack` (`drop_non_matching_scenes`), read on demand."""
        return self._labelled(self.get_dask_stack(drop_non_matching_scenes), "I")

    def _stacked(self, drop: bool) -> list[Pixels]:
        """Return the scenes of a stack."""
        if self._mosaic is not None:
            return [self._source]
        drop = flag(drop, "drop_non_matching_scenes")
        scenes = [(Plain(view), view.dtype) for view in self._views]
        first, dtype = scenes[0]
        equal = [one for one, its in scenes if (one.shape, its) == (first.shape, dtype)]
        if len(equal) < len(scenes) and not drop:
            found = sorted({f"{one.order} {one.shape} {its}" for one, its in scenes})
            raise BadArgument(
                f"{self._reader.source_name}: scenes that differ cannot be stacked: "
                f"{'; '.join(found)}. drop_non_matching_scenes=True leaves out those unlike the "
                "first."
            )
        return list(equal)

    # ---- mosaics

    @property
    def mosaic_tile_dims(self) -> Dimensions | None:
        """Y and X of one tile, or None if the scene is not a mosaic."""
        if self._mosaic is None:
            return None
        return Dimensions("YX", self._mosaic.tile)

    def get_mosaic_tile_position(self, mosaic_tile_index: int) -> tuple[int, int]:
        """Return (top, left) of tile `mosaic_tile_index` in the stitched image, in pixels."""
        positions = self.get_mosaic_tile_positions()
        return positions[whole(mosaic_tile_index, "mosaic_tile_index", 0, len(positions) - 1)]

    def get_mosaic_tile_positions(self) -> list[tuple[int, int]]:
        """Return (top, left) of each tile in the stitched image, in pixels."""
        if self._mosaic is None:
            raise BadArgument("this image was not opened as a mosaic; use mosaic='stitch'.")
        return list(self._mosaic.corners)

    def _save_arrays(
        self, uri: str | os.PathLike[str], numbers: Sequence[int], options: Mapping[str, Any]
    ) -> None:
        """Write scenes that were given as arrays."""
        chosen = carry(self._reader.ome, numbers)
        with BioWriter(uri, metadata=chosen, series="all", **options) as writer:
            arrays = [(self._arrays or [])[number].pixels for number in numbers]
            for target, pixels in zip(writer.series, arrays, strict=True):
                target.dtype = pixels.dtype
            for target, pixels in zip(writer.series, arrays, strict=True):
                target[...] = LazyPixels(pixels, "TCZYX", str(uri))

    # ---- metadata

    @property
    def channel_names(self) -> list[str]:
        """One name for each channel; ``Channel:scene:number`` if none is stored.

        Samples of RGB pixels are not channels here.
        """
        return self._channel_names(self._view)

    def _channel_names(self, view: ImageView) -> list[str]:
        scene = 0 if self._mosaic is not None else [v.index for v in self._views].index(view.index)
        count = view.sizes["C"] // view.samples_per_pixel
        names = [channel.name for channel in view.channels]
        if len(names) != count:
            names = [None] * count
        return [name or f"Channel:{scene}:{i}" for i, name in enumerate(names)]

    @property
    def physical_pixel_sizes(self) -> PhysicalPixelSizes:
        """Micrometres per pixel along Z, Y, X."""
        size = self._view.physical_pixel_size
        return PhysicalPixelSizes(_micrometres(size.z), _micrometres(size.y), _micrometres(size.x))

    physical_pixel_size = physical_pixel_sizes

    @property
    def time_interval(self) -> timedelta | None:
        """Time from one time point to the next: the nominal one, else the mean of measured ones."""
        return time_step(self._view)

    @property
    def scale(self) -> Scale:
        """Seconds between time points and micrometres per pixel; C is None."""
        step = self.time_interval
        return Scale(None if step is None else step.total_seconds(), None,
                     *self.physical_pixel_sizes)  # fmt: skip

    @property
    def metadata(self) -> Any:
        """OME-XML if there is any, otherwise the metadata of the format."""
        xml = self._reader.ome_xml
        return xml if xml is not None else dict(self._reader.original_metadata)

    @property
    def ome_metadata(self) -> OME:
        """OME metadata of the file."""
        return self._reader.ome

    def save(self, uri: str | os.PathLike[str], select_scenes: Any = None, **options: Any) -> None:
        """Write scenes to a new file whose suffix selects the format; the current scene is kept.

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
        chosen = range(len(self.scenes)) if select_scenes is None else select_scenes
        numbers = [self._scene_number(scene) for scene in chosen]
        if self._arrays is not None:
            self._save_arrays(uri, numbers, options)
            return
        series = [self._views[number].index for number in numbers]
        from bfbridge.convert import convert

        convert(self._reader._file.source, os.fspath(uri), series=series, **options)


def _micrometres(size: Quantity | None) -> float | None:
    if size is None:
        return None
    try:
        return convert_length(size, "µm")
    except BadArgument:
        # Sizes in pixels or in a reference frame have no length.
        return None


def _selection(
    source: Pixels, order: str | None, selection: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the order of the result, and positions (or one integer) by axis."""
    wanted = source.order if order is None else str(order).upper()
    if len(set(wanted)) != len(wanted) or not set(wanted) <= set("MTCZYXS"):
        raise BadArgument(f"dimension_order_out={order!r}: use the axes M, T, C, Z, Y, X and S.")
    sizes = dict(zip(source.order, source.shape, strict=True))
    unknown = {axis for axis in selection if axis.upper() not in sizes}
    if unknown:
        raise BadArgument(f"{', '.join(sorted(unknown))}: the axes are {source.order}.")
    given = {axis.upper(): value for axis, value in selection.items()}
    chosen: dict[str, Any] = {axis: 0 for axis in sizes if axis not in wanted}
    for axis, value in given.items():
        chosen[axis] = _positions(value, sizes[axis], axis)
    return wanted, chosen


def _positions(value: Any, size: int, axis: str) -> Any:
    if isinstance(value, slice):
        try:
            return range(*value.indices(size))
        except (TypeError, ValueError) as error:
            raise BadSelection(f"{axis}={value}: not a slice of integers ({error}).") from None
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        if not -size <= value < size:
            raise BadSelection(f"{axis}={value} is outside the image, whose {axis} is {size}.")
        return int(value) % size
    try:
        found = [operator.index(n) for n in value]
    except (TypeError, ValueError):
        raise BadSelection(
            f"{axis}={value!r}: give an integer, a list, a range or a slice."
        ) from None
    if any(not -size <= n < size for n in found):
        raise BadSelection(f"{axis}={value!r} is outside the image, whose {axis} is {size}.")
    return [n % size for n in found]


def _reorder(array: Any, have: str, want: str, chosen: Mapping[str, Any]) -> Any:
    """Drop axes that are not wanted, add those that the image lacks, and transpose."""
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
