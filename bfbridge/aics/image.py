"""`AICSImage` over `BioReader`: arrays T, C, Z, Y, X, with S last for RGB, M first for mosaics."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from bfbridge.aics.described import Described
from bfbridge.aics.records import Dimensions
from bfbridge.aics.scenes import described_again, equal_scenes, save_arrays, tiles_of
from bfbridge.aics.selections import axes_given, parse_chunk_dims, parse_selection, reorder
from bfbridge.analysis.mosaics import (
    Given,
    Mosaic,
    Pixels,
    Plain,
    Stitched,
    Tiles,
    channel_ids,
    labelled,
    mosaics_of,
    scene_names,
    tiles_by_scene,
)
from bfbridge.errors import BadArgument, BadSelection, Unsupported
from bfbridge.files.array_images import ArrayImages, images_of
from bfbridge.ome.metadata import carry
from bfbridge.reader import BioReader
from bfbridge.runtime.arguments import flag, one_of, whole
from bfbridge.runtime.cached_property import cached_property
from bfbridge.views import ImageView

if TYPE_CHECKING:
    import dask.array
    import xarray

__all__ = ["AICSImage", "Reader"]

Array = np.ndarray[Any, Any]
Mode = Literal["stitch", "tiles"]


class AICSImage(Described):
    """An image file as in AICSImageIO 4: one current scene, arrays T, C, Z, Y, X (, S).

    Parameters
    ----------
    image
        Any input of `BioReader`, or an array (numpy, dask, xarray), or a list of arrays, one for
        each scene.
    mosaic
        Images of the file that are tiles of one larger image, by their positions: "stitch" puts
        them together, "tiles" gives them an axis M. None takes each as a scene of its own.
    reconstruct_mosaic
        AICSImageIO's word: False is ``mosaic="tiles"`` where there are several images. The tiles of
        a CZI file are then read separately, scene by scene; else they are stitched on reading.
    fs_kwargs
        AICSImageIO's name of `storage_options`.
    dim_order
        A letter of T, C, Z, Y, X and S for each axis; or a list of such texts, one for each scene.
        Default: the dimensions of a labelled array, else the last of T, C, Z, Y, X (, S). For a
        file, the letters of axes that are longer than 1 as they are stored, then Y, X (, S):
        "CYX" makes the pages of a plain TIFF channels.
    channel_names
        Names, or a list of names for each scene. Default: those of the file, or the labels of C.
    physical_pixel_sizes
        Micrometres along Z, Y, X, or a list of them for each scene. Default: those of the file.
    chunk_dims
        Axes that chunks of dask arrays span, as letters or a list: "YX" for one plane per chunk;
        along others a chunk has length 1. Default: a multiple of the stored chunks.
    unfold
        As in `ImageView.to_dask`: axes inside T, C or Z become axes of their own, behind the one
        that contains them. Their letters are those of tifffile: A angle, P phase, R tile, H
        lifetime, E wavelength, Q others.
    reader
        Class of `bfbridge.aics.readers`: files of other kinds are an error.
    **options
        Further keyword arguments of `BioReader`.

    Raises
    ------
    Unsupported
        The file is of another kind than `reader`.
    BadArgument
        `mosaic` was given, but the images are not tiles of one image; or an argument for arrays
        does not fit the array; or `unfold` with a mosaic, or where it does not fit the image.
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
        chunk_dims: str | Sequence[str] | None = None,
        unfold: bool | str = False,
        reader: type[Reader] | None = None,
        **options: Any,
    ) -> None:
        reader = Reader if reader is None else reader
        self._unfold = unfold
        self._chunk_dims = parse_chunk_dims(chunk_dims)
        self._orders = axes_given(image, dim_order)
        description: list[Any] = [dim_order, channel_names, physical_pixel_sizes]
        self._arrays = images_of(image, *(description if self._orders else [None] * 3))
        if self._arrays is not None:
            image = ArrayImages(self._arrays)
        if fs_kwargs is not None:
            options.setdefault("storage_options", fs_kwargs)
        reconstruct_mosaic = flag(reconstruct_mosaic, "reconstruct_mosaic")
        path = str(image) if isinstance(image, (str, os.PathLike)) else ""
        apart = {"zeissczi.autostitch": False, **(options.get("options") or {})}
        self._opened_apart = (image, {**options, "options": apart})
        if not reconstruct_mosaic and path.lower().endswith(".czi"):
            options["options"] = apart
        if not (isinstance(reader, type) and issubclass(reader, Reader)):
            raise BadArgument(f"reader={reader!r}: give a class of bfbridge.aics.readers.")
        self._file = self._reader = reader.open(image, options)
        if self._arrays is None and any(given is not None for given in description):
            self._describe_again(*description)
        views = self._views
        several = len(views) > 1 and (views[0].placement is None or bool(tiles_by_scene(views)))
        if not reconstruct_mosaic and several:
            mosaic = mosaic or "tiles"
        self._scene = self._level = 0
        self._mode = mosaic
        if mosaic is not None:
            one_of(mosaic, "mosaic", ("stitch", "tiles"))
        if mosaic is not None and unfold:
            raise BadArgument(f"unfold={unfold!r} is not possible with mosaic={mosaic!r}.")
        self._mosaics: list[Mosaic] = [] if mosaic is None else mosaics_of(views)
        self._data: Array | None = None

    def _describe_again(self, *description: Any) -> None:
        """Replace the scenes of the file by arrays with the caller's description."""
        try:
            arrays = described_again(self._views, *description)
        except BaseException:
            self._file.close()
            raise
        self.__dict__.pop("_views")
        self._arrays = arrays
        self._reader = BioReader(ArrayImages(arrays))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._reader.close()
        self._file.close()

    def __repr__(self) -> str:
        name, scene = self._reader.source_name, self.current_scene
        return f"<AICSImage {name!r}, scene {scene!r}: {self.dims}>"

    @property
    def reader(self) -> AICSImage:
        """The reader of the file, with the original axes of arrays; see `Reader`."""
        kind = next((one for one in Reader.kinds if one.fits(self._file)), Reader)
        made: Reader = kind.__new__(kind)
        made.__dict__.update(self.__dict__)
        made._data = None
        return made

    # ---- scenes

    @cached_property
    def _views(self) -> list[ImageView]:
        views = list(self._reader.series)
        return [view for view in views if view.role == "image"] or views

    @property
    def _scene_views(self) -> list[ImageView]:
        """One view of each scene: of a mosaic its first tile."""
        return [mosaic.views[0] for mosaic in self._mosaics] or self._views

    @property
    def _view(self) -> ImageView:
        return self._scene_views[self._scene].levels[self._level]

    @cached_property
    def scenes(self) -> tuple[str, ...]:
        """Name of each scene; the names are unique.

        ``Image:number`` without a stored name, and ``name (Image:number)`` for a repeated name.
        """
        return scene_names(self._scene_views)

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
        """Numbers of the current scene's resolutions; 0 is full size. A mosaic has one."""
        return (0,) if self._mosaics else tuple(range(len(self._view.levels)))

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
        """Sizes along `dims.order` of each resolution."""
        if self._mosaics:
            return {0: self.shape}
        return {level.level: Plain(level, self._unfold).shape for level in self._view.levels}

    # ---- sizes

    @property
    def _source(self) -> Pixels:
        if self._mosaics:
            return self._of_mosaic(self._mosaics[self._scene])
        if self._arrays is not None:
            return Given(*self._arrays[self._scene].in_order())
        return Plain(self._view, self._unfold)

    def _of_mosaic(self, mosaic: Mosaic) -> Pixels:
        return Stitched(mosaic) if self._mode == "stitch" else Tiles(mosaic)

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

    @property
    def data(self) -> Array:
        """The whole current scene, cached until another scene is selected."""
        if self._data is None:
            self._data = self._source.read({})
        return self._data

    @property
    def dask_data(self) -> dask.array.Array:
        """The current scene as a dask array."""
        return self._dask(self._source)

    def _dask(self, source: Pixels) -> dask.array.Array:
        """Return pixels as a dask array, in the requested chunks."""
        wanted = self._chunk_dims
        chunks = None if wanted is None else {
            axis: size if axis in wanted else 1
            for axis, size in zip(source.order, source.shape, strict=True)
        }  # fmt: skip
        array: Any
        if chunks is not None and isinstance(source, Plain) and source.unfolded is None:
            array = source.dask(chunks)
        else:
            array = source.dask()
            if chunks is not None:
                array = array.rechunk(tuple(chunks.values()))
        result: dask.array.Array = array
        return result

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
        source = self._source
        unfolded = source.unfolded if isinstance(source, Plain) else None
        return labelled(data, dims, view, self._channel_names(view), unfolded)

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
        order, chosen = parse_selection(source, dimension_order_out, selection)
        result: Array = reorder(source.read(chosen), source.order, order, chosen)
        return result

    def get_image_dask_data(
        self, dimension_order_out: str | None = None, **selection: Any
    ) -> dask.array.Array:
        """Return a dask array; `dimension_order_out` and `selection` as for `get_image_data`."""
        source = self._source
        order, chosen = parse_selection(source, dimension_order_out, selection)
        array = self._dask(source)
        for axis, positions in chosen.items():
            key: list[Any] = [slice(None)] * array.ndim
            key[source.order.index(axis)] = (
                positions if isinstance(positions, int) else np.asarray(positions, np.intp)
            )
            if isinstance(positions, int):
                key[source.order.index(axis)] = slice(positions, positions + 1)
            array = array[tuple(key)]
        result: dask.array.Array = reorder(array, source.order, order, chosen)
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
        """Return `get_stack` (`drop_non_matching_scenes`) as a dask array."""
        da: Any = import_module("dask.array")

        scenes = [self._dask(scene) for scene in self._stacked(drop_non_matching_scenes)]
        return da.stack(scenes)  # type: ignore[no-any-return]

    def get_xarray_stack(self, drop_non_matching_scenes: bool = False) -> xarray.DataArray:
        """Return `get_stack` (`drop_non_matching_scenes`) with labels; axis I counts scenes."""
        return self._labelled(self.get_stack(drop_non_matching_scenes), "I")

    def get_xarray_dask_stack(self, drop_non_matching_scenes: bool = False) -> xarray.DataArray:
        """Return `get_xarray_stack` (`drop_non_matching_scenes`), read on demand."""
        return self._labelled(self.get_dask_stack(drop_non_matching_scenes), "I")

    def _stacked(self, drop: bool) -> list[Pixels]:
        """Return the scenes that make a stack."""
        drop = flag(drop, "drop_non_matching_scenes")
        views = self._views
        scenes: list[tuple[Pixels, Any]]
        scenes = [(Plain(view, self._unfold), view.dtype) for view in views]
        if self._mosaics:
            scenes = [(self._of_mosaic(one), one.views[0].dtype) for one in self._mosaics]
        return equal_scenes(self._reader.source_name, scenes, drop)

    # ---- mosaics

    @property
    def mosaic_tile_dims(self) -> Dimensions | None:
        """Y and X of one tile, or None if the scene is no mosaic."""
        mosaic = self._tiles_of_scene
        return None if mosaic is None else Dimensions("YX", mosaic.tile)

    @property
    def _tiles_of_scene(self) -> Mosaic | None:
        if self._mosaics:
            return self._mosaics[self._scene]
        return self._stitched_mosaics[self._scene] if self._stitched_mosaics else None

    @cached_property
    def _stitched_mosaics(self) -> list[Mosaic]:
        """The mosaics of a CZI file whose scenes were stitched on reading."""
        if self._arrays is not None or self._reader.backend != "czi":
            return []
        return tiles_of(*self._opened_apart)

    def get_mosaic_tile_position(self, mosaic_tile_index: int) -> tuple[int, int]:
        """Return (top, left) of tile `mosaic_tile_index`; see `get_mosaic_tile_positions`."""
        positions = self.get_mosaic_tile_positions()
        return positions[whole(mosaic_tile_index, "mosaic_tile_index", 0, len(positions) - 1)]

    def get_mosaic_tile_positions(self) -> list[tuple[int, int]]:
        """Return (top, left) of each tile of the current scene, in pixels.

        They are counted from the origin of the file's pixel coordinates for CZI files, as in
        AICSImageIO, and from the corner of the stitched image for others.

        Raises
        ------
        BadArgument
            The scene is no mosaic, or was not opened as one.
        """
        mosaic = self._tiles_of_scene
        if mosaic is None:
            raise BadArgument("this image was not opened as a mosaic; use mosaic='stitch'.")
        return list(mosaic.positions)

    # ---- metadata

    @property
    def channel_names(self) -> list[str]:
        """One name for each channel; ``Channel:scene:number`` if none is stored.

        Samples of RGB pixels are not channels here.
        """
        return self._channel_names(self._view)

    def _channel_names(self, view: ImageView) -> list[str]:
        scene = [one.index for one in self._scene_views].index(view.index)
        return channel_ids(view, scene, self._unfold)

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
        if self._mosaics:
            raise BadArgument("a mosaic cannot be saved as one image; open it without mosaic=.")
        chosen = range(len(self.scenes)) if select_scenes is None else select_scenes
        numbers = [self._scene_number(scene) for scene in chosen]
        if self._arrays is not None:
            pixels = [self._arrays[number].pixels for number in numbers]
            save_arrays(uri, carry(self._reader.ome, numbers), pixels, options)
            return
        series = [self._views[number].index for number in numbers]
        from bfbridge.convert import convert

        convert(self._reader._file.source, os.fspath(uri), series=series, **options)


class Reader(AICSImage):
    """Any file or array; the base of all readers.

    Parameters
    ----------
    image, **options
        As for `AICSImage`.

    Raises
    ------
    Unsupported
        The file is of another kind.
    """

    kinds: ClassVar[list[type[Reader]]] = []
    _backends: ClassVar[tuple[str, ...]] = ()
    _is_ome: ClassVar[bool | None] = None
    _options: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        if cls._backends:
            Reader.kinds.append(cls)

    def __init__(self, image: Any, **options: Any) -> None:
        super().__init__(image, **{**options, "reader": type(self)})

    @classmethod
    def fits(cls, reader: BioReader) -> bool:
        """Return whether an open file is of this kind."""
        fits = not cls._backends or reader.backend in cls._backends
        if fits and cls._is_ome is not None:
            described = (reader.own_metadata or "").lstrip()
            fits = described.startswith("<") == cls._is_ome
        return fits

    @classmethod
    def open(cls, image: Any, options: Mapping[str, Any]) -> BioReader:
        """Open a file of this kind, or raise `Unsupported`."""
        reader = BioReader(image, **{**cls._options, **options})
        if cls.fits(reader):
            return reader
        name, backend = reader.source_name, reader.backend
        reader.close()
        raise Unsupported(
            f"{name}: no file for {cls.__name__}; the backend {backend!r} reads it. Use AICSImage, "
            "which reads all."
        )

    @property
    def channel_names(self) -> list[str] | None:  # type: ignore[override]
        """Names as in `AICSImage.channel_names`; None if the axes have no C."""
        return super().channel_names if "C" in self.dims.order else None

    @property
    def _source(self) -> Pixels:
        source = super()._source
        order = self._orders[self._scene] if self._orders else None
        if order is None or self._arrays is None or self._mosaics:
            return source
        have, pixels = self._arrays[self._scene].in_order()
        lost = tuple(0 if axis not in order else slice(None) for axis in have)
        kept = [axis for axis in have if axis in order]
        return Given(order, pixels[lost].transpose([kept.index(axis) for axis in order]))

    @property
    def reader(self) -> AICSImage:
        """The reader itself."""
        return self
