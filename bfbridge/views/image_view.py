"""Views of an open file: every image and level has the same interface, and views have no state.

An `ImageView` is a file, an image number and a level number. `BioReader` is the view of one image
that also owns the file. Views are light and can be pickled: in another process they open the file
again, once for all views of it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from bfbridge.backend import (
    Channel,
    Image,
    PixelSize,
    Placement,
    Shape5,
    StoredAs,
)
from bfbridge.engine.selection import parse_key, parse_ranges, split_new_axes, trim
from bfbridge.engine.tiles import LevelReader
from bfbridge.errors import BadArgument, BadSelection
from bfbridge.files.open_file import OpenFile
from bfbridge.ome import metadata, roles
from bfbridge.runtime.arguments import flag
from bfbridge.views.derived import Derived
from bfbridge.views.geography import Georeferenced

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.analysis.tiling import Edge, Tile, TileBatch

__all__ = ["ImageView", "LevelViews", "OpenFile", "SeriesViews"]

Array = np.ndarray[Any, Any]


class ImageView(Derived, Georeferenced):
    """One level of one image: numpy-style reading, sizes and metadata.

    Arrays have the axes Y, X, Z, C, T; trailing axes of length 1 are dropped, never below two.

    Parameters
    ----------
    file
        The open file.
    index, level
        Numbers of the image and of its resolution; 0 is full size.
    """

    # Whether arrays in memory have separate planes of samples, also if the file interleaves them.
    _planar = False

    def __init__(self, file: OpenFile, index: int, level: int = 0) -> None:
        self._file = file
        self._index = index
        self._level = level

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._file, self._index, self._level)

    @property
    def _image(self) -> Image:
        return self._file.backend.images[self._index]

    @property
    def _shape5(self) -> tuple[int, ...]:
        t, c, z, y, x = self._image.levels[self._level].shape
        return y, x, z, c, t

    def on(self, file: OpenFile) -> ImageView:
        """Return this level of this image for another opening of the file."""
        return ImageView(file, self._index, self._level)

    # ---- the image

    @property
    def name(self) -> str | None:
        """Name of the image as stored."""
        return self._image.name

    @property
    def role(self) -> str:
        """Purpose of the image: "image", "label", "macro" or "thumbnail"."""
        return self._image.role

    @property
    def placement(self) -> Placement | None:
        """Scene, y and x of the image's first pixel in the file's pixel coordinates; else None."""
        return self._image.placement

    @property
    def is_mask(self) -> bool:
        """Whether the values are numbers of objects, as in NGFF's label images."""
        return self._image.is_mask

    @property
    def index(self) -> int:
        """Number of the image (Bio-Formats' series) in the file."""
        return self._index

    @property
    def level(self) -> int:
        """Number of the resolution; 0 is full size."""
        return self._level

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes along Y, X, Z, C, T, trailing 1s dropped, never below two axes."""
        return trim(self._shape5)

    @property
    def ndim(self) -> int:
        """Number of axes of `shape`."""
        return len(self.shape)

    @property
    def sizes(self) -> dict[str, int]:
        """Size by axis name, all five, in the order Y, X, Z, C, T."""
        return dict(zip("YXZCT", self._shape5, strict=True))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels as returned, in native byte order."""
        return self._image.dtype

    @property
    def chunks(self) -> tuple[int, ...]:
        """Stored block along Y, X, Z, C, T: requests aligned to it decode no chunk twice."""
        t, c, z, y, x = self._image.levels[self._level].chunk
        return y, x, z, c, t

    @property
    def channels(self) -> tuple[Channel, ...]:
        """Channel records: name, colour, wavelengths, samples."""
        return self._image.channels

    @property
    def channel_names(self) -> list[str | None]:
        """Name of each channel as stored, None if it has none."""
        return [channel.name for channel in self._image.channels]

    @property
    def samples_per_pixel(self) -> int:
        """Samples of one pixel: 3 for RGB. C counts channels x samples."""
        return self._image.samples

    @property
    def physical_pixel_size(self) -> PixelSize:
        """Size of a pixel of this level along x, y, z with units; None if the file has none."""
        image = self._image
        full, here = image.levels[0].shape, image.levels[self._level].shape
        if self._level == 0:
            return image.pixel_size
        z, y, x = (a / b for a, b in zip(full[2:], here[2:], strict=True))
        return metadata.scaled(image.pixel_size, y, x, z)

    def pixel_size(self, unit: str = "µm") -> dict[str, float | None]:
        """Return the size of a pixel of this level along X, Y and Z in one unit.

        Parameters
        ----------
        unit
            Unit of length: "µm", "um", "nm", "mm", ...

        Returns
        -------
        dict
            By axis name; None if the file has no size.

        Raises
        ------
        BadArgument
            `unit` is not a length, or the file gives sizes in pixels or in a reference frame.
        """
        size = self.physical_pixel_size
        return {
            axis: None if q is None else metadata.convert_length(q, unit)
            for axis, q in zip("XYZ", (size.x, size.y, size.z), strict=True)
        }

    # ---- the file

    @property
    def max_workers(self) -> int:
        """Threads that decode at once."""
        return self._file.workers

    @property
    def source_name(self) -> str:
        """Path or URL of the file, or the name given with bytes."""
        return self._file.source.name

    @property
    def backend(self) -> str:
        """Name of the backend that reads the file."""
        return self._file.backend.name

    @property
    def backend_reason(self) -> str:
        """Why this backend was chosen, and why others do not read the file."""
        return self._file.reason

    @property
    def metadata(self) -> OME:
        """OME metadata of this image only, built on first use and cached."""
        return metadata.narrow(self.ome, self._index)

    @property
    def ome(self) -> OME:
        """OME metadata of the whole file; annotations hold the roles of its images."""
        with self._file.reading("metadata") as backend:
            ome = backend.ome()
            if len(ome.images) == len(backend.images):
                roles.write_roles(ome, [roles.role_of(image) for image in backend.images])
            return ome

    @property
    def ome_xml(self) -> str | None:
        """The file's OME-XML, stored or generated; None if XML cannot express it."""
        with self._file.reading("OME-XML") as backend:
            return backend.ome_xml()

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """Metadata of the format, flat, under the format's own names."""
        with self._file.reading("original metadata") as backend:
            return backend.original_metadata

    @property
    def own_metadata(self) -> str | None:
        """The format's own metadata as text, or None where bfbridge reads none.

        The XML of a CZI or LIF file, the description of a TIFF, the attributes of a Zarr group.
        """
        with self._file.reading("own metadata") as backend:
            return backend.own_metadata()

    @property
    def modulo(self) -> Mapping[str, Any]:
        """Axes "Z", "C" or "T" that contain a further axis (lifetime, angle), with its description.

        As in OME's Modulo annotations; empty for most images. `to_xarray`, `to_dask` and `asarray`
        make axes of them with ``unfold=True``.
        """
        with self._file.reading("modulo axes") as backend:
            found: Mapping[str, Any] = backend.modulo(self._index)
            if found:
                return found
            from bfbridge.ome.modulo import stored_modulo

            limits = self._file.options.limits
            return stored_modulo(
                backend.ome_xml(), self._index, self.sizes, f"OME-XML of {self.source_name}", limits
            )

    def lookup_table(self, channel: int = 0) -> Array | None:
        """Return the colours of an indexed image.

        Parameters
        ----------
        channel
            Number of the channel.

        Returns
        -------
        numpy.ndarray or None
            (3, values) of uint8 or uint16: red, green and blue of each pixel value; None for an
            image that is not indexed.
        """
        with self._file.reading("lookup table") as backend:
            return backend.lookup_table(self._index, channel)

    @property
    def icc_profile(self) -> bytes | None:
        """The ICC colour profile stored with an RGB image, or None."""
        return self._file.backend.icc_profile(self._index)

    @property
    def used_files(self) -> list[str]:
        """Every file of this data set, the main one first."""
        return list(self._file.backend.used_files)

    @property
    def levels(self) -> LevelViews:
        """Views of this image's resolutions, full size first."""
        return LevelViews(self._file, self._index)

    @property
    def series(self) -> SeriesViews:
        """Views of all images of the file at full size, in the file's order."""
        return SeriesViews(self._file)

    @property
    def scenes(self) -> SeriesViews:
        """The same as `series`."""
        return self.series

    @property
    def associated(self) -> dict[str, ImageView]:
        """Label, macro and thumbnail images by role; a repeated role is followed by a number."""
        found: dict[str, ImageView] = {}
        for view in self.series:
            if view.role != "image":
                number = sum(known.role == view.role for known in found.values()) + 1
                found[view.role if number == 1 else f"{view.role}{number}"] = view
        return found

    # ---- pixels

    @property
    def stored_as(self) -> StoredAs | None:
        """Encoding of the chunks of this level, or None if they cannot be copied."""
        with self._file.reading("encoding") as backend:
            return backend.stored_as(self._index, self._level)

    def read_stored(self, place: Shape5) -> bytes | None:
        """Return a chunk as it is stored.

        Parameters
        ----------
        place
            Position in the grid of `chunks`, along T, C, Z, Y, X.

        Returns
        -------
        bytes or None
            None for a chunk of zeros that is not stored.

        Raises
        ------
        BadSelection
            There is no such position.
        Unsupported
            `stored_as` is None.
        """
        grid = self._image.levels[self._level].grid
        try:
            t, c, z, y, x = (operator.index(n) for n in place)
        except (TypeError, ValueError):
            raise BadSelection(
                f"place={place!r}: give five integers along T, C, Z, Y, X."
            ) from None
        where = (t, c, z, y, x)
        if where not in grid:
            raise BadSelection(
                f"place={where}: the grid of chunks is {grid.counts} along T, C, Z, Y, X."
            )
        with self._file.reading("encoded chunk") as backend:
            return backend.read_stored(self._index, self._level, where)

    def __getitem__(self, key: Any) -> Array:
        key, new = split_new_axes(key)
        pixels = self._reader().load(parse_key(key, self._shape5))
        if not new:
            return _trimmed(pixels)
        # Keep new axes, and all axes before them.
        kept = max(len(trim(pixels.shape)), new[-1])
        return np.expand_dims(
            pixels[(...,) + (0,) * (pixels.ndim - kept)], [at + i for i, at in enumerate(new)]
        )

    def read(
        self, X: Any = None, Y: Any = None, Z: Any = None, C: Any = None, T: Any = None,
        *, keepdims: bool = False, squeeze: bool = False,
    ) -> Array:  # fmt: skip
        """Read a region.

        Parameters
        ----------
        X, Y, Z
            None for all, (start, stop), an integer, a slice or range, or a longer list of
            positions.
        C, T
            None for all, an integer, a slice or range, or a list of positions.
        keepdims
            Whether all five axes are kept.
        squeeze
            Whether Z, C and T are dropped if they have length 1, also before longer axes: an RGB
            image is then (Y, X, 3), as matplotlib's ``imshow`` requires.

        Returns
        -------
        numpy.ndarray
            Axes Y, X, Z, C, T; trailing axes of length 1 dropped, never below two.

        Raises
        ------
        BadSelection
            A range or position is outside the image.
        BadArgument
            `keepdims` and `squeeze` are both True.
        ReadFailed
            The pixels cannot be read.
        """
        selection = parse_ranges(self._shape5, X, Y, Z, C, T)
        keepdims = flag(keepdims, "keepdims")
        squeeze = flag(squeeze, "squeeze")
        if keepdims and squeeze:
            raise BadArgument("keepdims=True keeps all axes, squeeze=True drops some: give one.")
        pixels = self._reader().load(selection)
        if squeeze:
            return pixels[:, :, *(0 if n == 1 else slice(None) for n in pixels.shape[2:])]
        return pixels if keepdims else _trimmed(pixels)

    @overload
    def tiles(
        self, size: int | tuple[int, int] = 1024, *, overlap: int | tuple[int, int] = 0,
        region: Any = ..., level: int | None = None, pixel_size: Any = None,
        magnification: float | None = None, edge: Edge | None = None, batch: None = None,
    ) -> Iterator[Tile]: ...  # fmt: skip
    @overload
    def tiles(
        self, size: int | tuple[int, int] = 1024, *, overlap: int | tuple[int, int] = 0,
        region: Any = ..., level: int | None = None, pixel_size: Any = None,
        magnification: float | None = None, edge: Edge | None = None, batch: int,
    ) -> Iterator[TileBatch]: ...  # fmt: skip
    def tiles(
        self, size: int | tuple[int, int] = 1024, *, overlap: int | tuple[int, int] = 0,
        region: Any = ..., level: int | None = None, pixel_size: Any = None,
        magnification: float | None = None, edge: Edge | None = None, batch: int | None = None,
    ) -> Iterator[Tile] | Iterator[TileBatch]:  # fmt: skip
        """Iterate over all planes in tiles, row by row, reading ahead.

        Parameters
        ----------
        size
            Tile height and width, or one number for both.
        overlap
            Pixels that neighbouring tiles share.
        region
            Where to read: a key as in ``br[...]``, Y and X without steps; or a mapping as in
            ``{"x": (0, 50), "y": (20, 60), "units": "um"}``. Default: everywhere.
        level, pixel_size, magnification
            At most one of these sets the resolution of the tiles, as in `region`; positions of
            tiles and a key as `region` then count pixels of that resolution. Default: this view's
            level.
        edge
            Tiles that extend beyond the edge are "crop": smaller; "pad": filled with zeros; "drop":
            left out. Default: "crop", and "pad" with `batch`.
        batch
            Number of tiles in a batch. Default: single tiles.

        Yields
        ------
        Tile or TileBatch
            Each tile is of one plane (z, c, t): time point by time point, channel by channel, slice
            by slice. The samples of an RGB channel are together in one tile.

        Raises
        ------
        BadArgument, BadSelection
            A size, overlap or region that is not valid here.
        """
        from bfbridge.analysis import tiling

        view: tiling.Readable = self if level is None else self.levels.pick(level)
        if pixel_size is not None or magnification is not None:
            view = self._resampled(level, pixel_size, magnification)
        if isinstance(region, Mapping):
            region = self._key_of(region, view)
        if batch is None:
            return tiling.iterate(view, size, overlap, region, "crop" if edge is None else edge)
        return tiling.batches(view, size, batch, overlap, region, "pad" if edge is None else edge)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("pixels are read from a file, so copy=False is not possible.")
        array = self[...]
        return array if dtype is None else array.astype(dtype, copy=False)

    def _reader(self) -> LevelReader:
        """Return a reader of the pixels of this level."""
        file = self._file
        return LevelReader(
            backend=file.backend,
            image=self._index,
            level=self._level,
            workers=file.workers,
            cache=file.cache,
            token=file.token if file.cache is not None else None,
            name=file.source.name,
            planar=self._planar,
        )


def _trimmed(pixels: Array) -> Array:
    """Drop trailing axes of length 1, never below two axes."""
    return pixels[(...,) + (0,) * (pixels.ndim - len(trim(pixels.shape)))]


class _Views(Sequence[ImageView]):
    """A sequence of views, which are made on access."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file

    def _make(self, index: int) -> ImageView:
        raise NotImplementedError

    @overload
    def __getitem__(self, key: int | str) -> ImageView: ...
    @overload
    def __getitem__(self, key: slice) -> list[ImageView]: ...
    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return self.pick(key)
        try:
            chosen = range(*key.indices(len(self)))
        except (TypeError, ValueError) as error:
            raise BadSelection(
                f"{self._file.source.name}: {key} is not a slice of integers ({error})."
            ) from None
        return [self._make(i) for i in chosen]

    def pick(self, key: Any) -> ImageView:
        """Return one view by number or name.

        Raises
        ------
        BadSelection
            There is no such view.
        """
        return self._make(self._position(key))

    def _position(self, key: Any) -> int:
        count = len(self)
        try:
            index = self._named(key) if isinstance(key, str) else operator.index(key)
        except TypeError:
            raise BadSelection(
                f"{self._file.source.name}: {key!r} is not a valid {self._kind}; give its number."
            ) from None
        if not -count <= index < count:
            raise BadSelection(
                f"{self._file.source.name}: there is no {self._kind} {index}; it has {count}."
            )
        return index % count

    _kind = "series"

    def _named(self, name: str) -> int:
        raise BadSelection(f"{name!r}: choose by number, not by name.")

    def __iter__(self) -> Iterator[ImageView]:
        return (self._make(i) for i in range(len(self)))

    def __repr__(self) -> str:
        return f"<{len(self)} {self._kind} of {self._file.source.name!r}>"


class SeriesViews(_Views):
    """The images of a file, by number or name, at full size."""

    def __len__(self) -> int:
        return len(self._file.backend.images)

    def _make(self, index: int) -> ImageView:
        return ImageView(self._file, index)

    @property
    def names(self) -> list[str | None]:
        """Name of each image as stored."""
        return [image.name for image in self._file.backend.images]

    def _named(self, name: str) -> int:
        names = self.names
        if names.count(name) == 1:
            return names.index(name)
        found = "several images have this name" if name in names else "no image has this name"
        raise BadSelection(
            f"{self._file.source.name}: series {name!r}: {found}. Choose by number, or one of "
            f"{names[:20]}."
        )


class LevelViews(_Views):
    """The resolutions of one image, full size first."""

    _kind = "level"

    def __init__(self, file: OpenFile, index: int) -> None:
        super().__init__(file)
        self._index = index

    def __len__(self) -> int:
        return len(self._file.backend.images[self._index].levels)

    def _make(self, index: int) -> ImageView:
        return ImageView(self._file, self._index, index)
