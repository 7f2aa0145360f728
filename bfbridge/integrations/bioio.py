"""bioio: a `Reader` of all formats, found by the entry point ``bioio.readers``.

bioio imports this module as soon as it looks for readers, and an error of the import would end its
search for all formats. So names that old versions of bioio-base lack are used on access only.
Files, and Java if it is needed, are opened when an image is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from bioio_base import constants, exceptions, types
from bioio_base import reader as base
from bioio_base import reader_metadata as base_metadata
from bioio_base.io import pathlike_to_fs

from bfbridge.analysis.coordinates import time_step
from bfbridge.analysis.mosaics import (
    Mosaic,
    Pixels,
    Plain,
    Stitched,
    Tiles,
    channel_ids,
    labelled,
    mosaics_of,
    scene_names,
)
from bfbridge.errors import BadArgument, UnknownFormat
from bfbridge.ome.metadata import convert_length
from bfbridge.reader import BioReader
from bfbridge.runtime.arguments import one_of
from bfbridge.storage.signatures import IMAGE_SUFFIXES
from bfbridge.storage.source import as_source

if TYPE_CHECKING:
    import xarray
    from bioio_base import standard_metadata as standard
    from ome_types import OME

    from bfbridge.backend import Quantity
    from bfbridge.views import ImageView

__all__ = ["Reader", "ReaderMetadata", "UnsupportedImage"]

Array = np.ndarray[Any, Any]


class UnsupportedImage(UnknownFormat, exceptions.UnsupportedFileFormatError):  # type: ignore[misc]
    """bioio's `UnsupportedFileFormatError` for a file whose format is not known."""

    def __init__(self, path: str, reason: str) -> None:
        exceptions.UnsupportedFileFormatError.__init__(self, "bfbridge", path, reason)

    def __str__(self) -> str:
        return str(exceptions.UnsupportedFileFormatError.__str__(self))


class ReaderMetadata(base_metadata.ReaderMetadata):  # type: ignore[misc]
    """What bioio asks before it chooses a reader."""

    @staticmethod
    def get_supported_extensions() -> list[str]:
        """Return the suffixes of images; the content of a file decides whether it is read."""
        # bioio tries readers with fewer suffixes first, so that of one format is.
        return list(IMAGE_SUFFIXES)

    @staticmethod
    def get_reader() -> type[Reader]:
        """Return the reader class."""
        return Reader


@dataclass(frozen=True)
class _Scene:
    """Axes, sizes and lengths of one scene, known without its file.

    Attributes
    ----------
    shapes
        Sizes along the axes, by level.
    pixel_sizes
        Z, Y, X in micrometres, by level.
    """

    shapes: tuple[tuple[int, ...], ...]
    pixel_sizes: tuple[types.PhysicalPixelSizes, ...]


class Reader(base.Reader):  # type: ignore[misc]
    """Read any image for bioio: arrays T, C, Z, Y, X (, S), one scene and level at a time.

    ``BioImage("cells.czi", reader=Reader)`` reads a file with it; without ``reader=`` bioio prefers
    readers of fewer formats. No file is open after a call. A dask array opens it when it is
    computed, and releases it when the array is deleted.

    Parameters
    ----------
    image
        A path, or a URL that fsspec supports.
    chunk_dims
        Axes that chunks of dask arrays span, such as "YX" for one plane per chunk. Default: a
        multiple of the stored chunks.
    mosaic
        "tiles": images of the file are tiles of one larger image, by their positions. Arrays have
        an axis M first, and `BioImage` stitches them, unless ``reconstruct_mosaic=False``. None:
        each image is a scene; the scenes of a CZI file are stitched on reading.
    fs_kwargs
        For a URL: arguments of its fsspec filesystem.
    **options
        Further keyword arguments of `BioReader`, such as ``backend`` or ``options``.

    Raises
    ------
    UnsupportedImage
        The format of the file is not known.
    FileMissing
        There is no file at the path.
    UnreadableFile
        The file is damaged.
    BadArgument
        The images of the file are not tiles of one image, but `mosaic` is "tiles"; or an argument
        has an invalid value.
    TypeError
        `image` is neither a path nor a URL.
    """

    NAME: ClassVar[str] = "bfbridge"

    def __init__(
        self,
        image: types.PathLike,
        chunk_dims: str | Sequence[str] | None = None,
        mosaic: Literal["tiles"] | None = None,
        fs_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(image, (str, os.PathLike)):
            raise TypeError(
                f"image is a {type(image).__name__}: bfbridge reads paths and URLs. BioImage reads "
                "arrays without a reader."
            )
        if mosaic is not None:
            one_of(mosaic, "mosaic", ("tiles",))
        source = as_source(image, fs_kwargs)
        if source.url is None:
            self._fs, self._path = pathlike_to_fs(str(source.path))
        else:
            self._fs, self._path = source.located()
        self._tiled = mosaic is not None
        self._chunk_dims = None if chunk_dims is None else _letters(chunk_dims)
        self._source = source
        self._options = options
        if self._tiled:
            # Else the backend of CZI files would stitch each scene.
            apart = {"zeissczi.autostitch": False, **(options.get("options") or {})}
            self._options = options | {"options": apart}
        self._ome: OME | None = None
        self._intervals: dict[int, timedelta | None] = {}
        with self._opened() as reader:
            views, mosaics = self._scenes_of(reader)
            self._scenes: tuple[str, ...] = scene_names(views)
            self._known = [_described(view, mosaics) for view in views]
            self._positions = [mosaic.positions for mosaic in mosaics]

    @classmethod
    def is_supported_image(
        cls,
        image: types.ImageLike,
        fs_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> bool:
        """Return True if the file can be opened.

        Parameters
        ----------
        image, fs_kwargs, **kwargs
            As for the class.

        Raises
        ------
        UnsupportedImage, FileMissing, UnreadableFile, TypeError
            As for the class.
        """
        cls(image, fs_kwargs=fs_kwargs, **kwargs)
        return True

    @staticmethod
    def _is_supported_image(fs: Any, path: str, **kwargs: Any) -> bool:
        return Reader.is_supported_image(fs.unstrip_protocol(path), fs.storage_options, **kwargs)

    @contextmanager
    def _opened(self) -> Iterator[BioReader]:
        try:
            reader = BioReader(self._source, **self._options)
        except UnknownFormat as error:
            raise UnsupportedImage(self._source.name, str(error)) from error
        with reader:
            yield reader

    def _scenes_of(self, reader: BioReader) -> tuple[list[ImageView], list[Mosaic]]:
        """Return the image of each scene, or the first tile of each mosaic and the mosaics."""
        views = list(reader.series)
        views = [view for view in views if view.role == "image"] or views
        mosaics = mosaics_of(views) if self._tiled else []
        return [mosaic.views[0] for mosaic in mosaics] or views, mosaics

    @contextmanager
    def _current(self, stitched: bool = False) -> Iterator[tuple[ImageView, Pixels]]:
        """Yield the image of the current scene and level, and its pixels."""
        with self._opened() as reader:
            views, mosaics = self._scenes_of(reader)
            if mosaics:
                mosaic = mosaics[self._current_scene_index]
                yield mosaic.views[0], Stitched(mosaic) if stitched else Tiles(mosaic)
            else:
                view = views[self._current_scene_index].levels[self._current_resolution_level]
                yield view, Plain(view)

    # ---- scenes and levels

    @property
    def scenes(self) -> tuple[str, ...]:
        """Name of each scene; ``Image:number`` without a name. The names are unique."""
        return self._scenes

    def set_scene(self, scene_id: str | int) -> None:
        """Choose the current scene. The level is kept if the scene has it, else it is 0.

        Parameters
        ----------
        scene_id
            Name or number.

        Raises
        ------
        IndexError
            The scene does not exist.
        """
        super().set_scene(scene_id)
        if self._current_resolution_level not in self.resolution_levels:
            self.set_resolution_level(0)

    @property
    def _scene(self) -> _Scene:
        return self._known[self._current_scene_index]

    @property
    def resolution_levels(self) -> tuple[int, ...]:
        """Numbers of the current scene's levels; 0 is full size. A mosaic has one."""
        return tuple(range(len(self._scene.shapes)))

    @property
    def resolution_level_dims(self) -> dict[int, tuple[int, ...]]:
        """Sizes of each level, along ``dims.order``."""
        return dict(enumerate(self._scene.shapes))

    # ---- pixels

    def _read_delayed(self) -> xarray.DataArray:
        with self._current() as (view, pixels):
            return self._labelled(self._dask(pixels), view, pixels)

    def _read_immediate(self) -> xarray.DataArray:
        with self._current() as (view, pixels):
            return self._labelled(pixels.read({}), view, pixels)

    def _get_stitched_dask_mosaic(self) -> xarray.DataArray:
        with self._current(stitched=True) as (view, pixels):
            return self._labelled(self._dask(pixels), view, pixels)

    def _get_stitched_mosaic(self) -> xarray.DataArray:
        with self._current(stitched=True) as (view, pixels):
            return self._labelled(pixels.read({}), view, pixels)

    def _read_indexed(self, given_dims: str, dim_specs: Sequence[types.DimSpec]) -> Array:
        """Read a selection: an integer, slice or list for each axis. Integers drop their axis."""
        if self._xarray_data is not None:
            result: Array = super()._read_indexed(given_dims, list(dim_specs))
            return result
        chosen: dict[str, Any] = {}
        for axis, size, item in zip(given_dims, self.shape, dim_specs, strict=True):
            kept = np.arange(size)[item]
            chosen[axis] = np.atleast_1d(kept) if not isinstance(item, slice) else item
        with self._current() as (_, pixels):
            found = pixels.read(chosen)
        dropped = (slice(None) if isinstance(item, (slice, list)) else 0 for item in dim_specs)
        return found[tuple(dropped)]

    def _dask(self, pixels: Pixels) -> Any:
        spanned = self._chunk_dims
        if spanned is None:
            return pixels.dask()
        axes = zip(pixels.order, pixels.shape, strict=True)
        chunks = {axis: size if axis in spanned else 1 for axis, size in axes}
        if isinstance(pixels, Plain):
            return pixels.dask(chunks)
        return pixels.dask().rechunk(tuple(chunks.values()))

    def _labelled(self, data: Any, view: ImageView, pixels: Pixels) -> xarray.DataArray:
        names = channel_ids(view, self._current_scene_index)
        array = labelled(data, pixels.order, view, names)
        if self._ome is None:
            self._ome = view.ome
        own = view.own_metadata
        array.attrs[constants.METADATA_UNPROCESSED] = view.ome_xml if own is None else own
        array.attrs[constants.METADATA_PROCESSED] = self._ome
        return array

    # ---- mosaics

    def get_mosaic_tile_positions(self, **kwargs: int) -> list[tuple[int, int]]:
        """Return (top, left) of each tile of the current scene, in pixels.

        They are counted from the origin of the file's pixel coordinates for CZI files, and from the
        corner of the stitched image for others.

        Parameters
        ----------
        **kwargs
            Positions along M, T, C or Z: tiles are at the same place along T, C and Z.

        Raises
        ------
        bioio_base.exceptions.UnexpectedShapeError
            The image was not opened with ``mosaic="tiles"``.
        """
        if not self._positions:
            raise exceptions.UnexpectedShapeError(
                f"{self._path}: the image has no axis M. Open it with mosaic='tiles'."
            )
        positions = self._positions[self._current_scene_index]
        return [positions[kwargs["M"]]] if "M" in kwargs else list(positions)

    def get_mosaic_tile_position(self, mosaic_tile_index: int, **kwargs: int) -> tuple[int, int]:
        """Return (top, left) of tile `mosaic_tile_index`; see `get_mosaic_tile_positions`.

        Parameters
        ----------
        mosaic_tile_index
            Number of the tile along M.
        **kwargs
            Positions along T, C or Z, where it is the same.
        """
        del kwargs
        return self.get_mosaic_tile_positions()[mosaic_tile_index]

    # ---- metadata

    @property
    def ome_metadata(self) -> OME:
        """OME metadata of the file."""
        if self._ome is None:
            with self._opened() as reader:
                self._ome = reader.ome
        return self._ome

    @property
    def physical_pixel_sizes(self) -> types.PhysicalPixelSizes:
        """Micrometres per pixel of the current level along Z, Y, X; None if unknown."""
        return self._scene.pixel_sizes[self._current_resolution_level]

    @property
    def time_interval(self) -> timedelta | None:
        """Time between time points: the nominal interval, else the mean of the measured ones."""
        number = self._current_scene_index
        if number not in self._intervals:
            with self._current() as (view, _):
                self._intervals[number] = time_step(view)
        return self._intervals[number]

    @property
    def standard_metadata(self) -> standard.StandardMetadata:
        """Standard metadata of the scene, as bioio defines them; times from the interval too."""
        found = super().standard_metadata
        step, count = self.time_interval, found.image_size_t or 1
        if step is not None and count > 1:
            found.timelapse_interval = found.timelapse_interval or step
            found.total_time_duration = found.total_time_duration or step * (count - 1)
        return found

    @property
    def dimension_properties(self) -> types.DimensionProperties:
        """Kind and unit of each axis: micrometres and seconds, where the scale is known."""
        scale = self.scale
        kinds = {"T": ("time", "second"), "C": ("channel", None)}
        found = {}
        for axis in "TCZYX":
            kind, unit = kinds.get(axis, ("space", "micrometer"))
            known = getattr(scale, axis) is not None
            measure = getattr(types.ureg, unit) if known and unit else None
            found[axis] = types.DimensionProperty(kind, measure)
        return types.DimensionProperties(**found)


def _letters(axes: str | Sequence[str]) -> frozenset[str]:
    """Return letters of axes, given as a text or a list."""
    found: list[Any] = list(axes) if isinstance(axes, (str, list, tuple)) else [axes]
    if not all(isinstance(axis, str) and axis.upper() in "MTCZYXS" for axis in found):
        raise BadArgument(
            f"chunk_dims={axes!r:.80}: give letters of axes such as 'ZYX', of M, T, C, Z, Y, X, S."
        )
    return frozenset(axis.upper() for axis in found)


def _described(view: ImageView, mosaics: Sequence[Mosaic]) -> _Scene:
    if mosaics:
        mosaic = next(one for one in mosaics if one.views[0].index == view.index)
        return _Scene((Tiles(mosaic).shape,), (_pixel_sizes(view),))
    levels = list(view.levels)
    return _Scene(tuple(Plain(level).shape for level in levels), tuple(map(_pixel_sizes, levels)))


def _pixel_sizes(view: ImageView) -> types.PhysicalPixelSizes:
    size = view.physical_pixel_size
    return types.PhysicalPixelSizes(*map(_micrometres, (size.z, size.y, size.x)))


def _micrometres(size: Quantity | None) -> float | None:
    try:
        return None if size is None else convert_length(size, "µm")
    except BadArgument:  # a number of pixels, or a position in a reference frame
        return None
