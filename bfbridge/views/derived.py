"""Methods of images that compute something from the pixels.

Each method calls a function of `bfbridge.analysis`, `bfbridge.rendering` or `bfbridge.virtual`.
These modules are imported on first use, so opening a file does not load them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bfbridge.errors import INSTALL, MissingExtra
from bfbridge.views.geography import is_reference_system, spans_in_pixels

if TYPE_CHECKING:
    import dask.array
    import xarray

    from bfbridge.analysis.plane_table import PlaneRecord
    from bfbridge.analysis.rois import Roi
    from bfbridge.views.image_view import ImageView

__all__ = ["Derived"]

Array = np.ndarray[Any, Any]
Span = tuple[float | None, float | None] | None


class Derived:
    """Arrays, regions in physical units, statistics and pictures of one level of one image.

    A mixin of `ImageView`: `self` is always an `ImageView`, which type checkers cannot know here.
    """

    # ---- labels and regions of interest

    @property
    def labels(self: Any) -> dict[str, ImageView]:
        """Label images of this image by name: pixels are numbers of objects, 0 the background."""
        found: dict[str, ImageView] = {}
        for view in self.series:
            owner = self._file.backend.images[view.index].label_of
            if view.is_mask and owner in (None, self.index):
                name = (view.name or "").rpartition("/")[2] or str(view.index)
                found[name if name not in found else f"{name}_{view.index}"] = view
        return found

    @property
    def rois(self: Any) -> list[Roi]:
        """Regions of interest (ROI) of this image in the OME metadata, as polygons."""
        from bfbridge.analysis import rois

        found: list[Roi] = rois.rois_of(self)
        return found

    # ---- bfbridge.analysis.dask_arrays

    def to_dask(
        self: Any, chunks: Any = None, order: str = "TCZYX", *, unfold: bool | str = False
    ) -> dask.array.Array:
        """Return the image as a dask array that reads on compute.

        Parameters
        ----------
        chunks
            As dask accepts them, along the axes of `order`, or a mapping from axis letters to
            sizes. Default: a multiple of the stored chunks near 1024 x 1024.
        order
            Axes of the result, out of T, C, Z, Y and X; those left out must have length 1. S at any
            place splits the samples of RGB pixels off C.
        unfold
            Whether axes inside T, C or Z (`modulo`: lifetime, angle, phase, wavelength) become axes
            of their own, each behind the one that contains it. "fastest" or "slowest" says how they
            are stored, for files that do not.

        Returns
        -------
        dask.array.Array
            Lazy, in the image's dtype. Its name depends on file, modification time, image and level
            only. It can be pickled, and computed after the reader was closed.

        Raises
        ------
        BadArgument
            `order` or `chunks` do not fit the image.
        MissingExtra
            dask is not installed.
        """
        from bfbridge.analysis import dask_arrays

        array: dask.array.Array = dask_arrays.to_dask(self, chunks, order, unfold)
        return array

    def asarray(self: Any, axes: str = "TCZYX", *, unfold: bool | str = False) -> Array:
        """Read the whole image with its axes in a given order.

        Parameters
        ----------
        axes
            Out of T, C, Z, Y and X; those left out must have length 1. S at any place splits the
            samples of RGB pixels off C; without C and in an image that has no RGB pixels, S is the
            channels. So "YXS" is what matplotlib's ``imshow`` takes.
        unfold
            As in `to_dask`.

        Returns
        -------
        numpy.ndarray
            In the image's dtype, with exactly these axes.

        Raises
        ------
        BadArgument
            `axes` do not fit the image.
        ReadFailed
            The pixels cannot be read.
        """
        from bfbridge.analysis import dask_arrays

        array: Array = dask_arrays.asarray(self, axes, unfold)
        return array

    def to_xarray(
        self: Any, lazy: bool = True, *, chunks: Any = None, origin: str = "file",
        unfold: bool | str = False,
    ) -> xarray.DataArray:  # fmt: skip
        """Return the image as a labelled array with dims t, c, z, y, x.

        Parameters
        ----------
        lazy
            Whether pixels are read on use (through dask) or now.
        chunks
            As in `to_dask`.
        origin
            Origin of the coordinates: "file" is the position of the first plane in the metadata, 0
            if they have none; "zero" is always 0.
        unfold
            As in `to_dask`; the axes have names and coordinates ("lifetime" in ps).

        Returns
        -------
        xarray.DataArray
            Coordinates x, y, z are centres of pixels, origin + i x pixel size, with an attribute
            ``units``; c holds channel names, t times if the metadata has them.

        Raises
        ------
        MissingExtra
            xarray, or dask for a lazy array, is not installed.
        """
        from bfbridge.analysis import dask_arrays

        array: xarray.DataArray = dask_arrays.to_xarray(
            self, lazy, chunks=chunks, origin=origin, unfold=unfold
        )
        return array

    def __dask_tokenize__(self: Any) -> Hashable:
        from bfbridge.analysis import dask_arrays

        token: Hashable = dask_arrays.token(self)
        return token

    # ---- bfbridge.analysis.regions

    def region(
        self: Any,
        x: Span = None,
        y: Span = None,
        *,
        units: str = "px",
        z: Any = None,
        c: Any = None,
        t: Any = None,
        level: int | None = None,
        pixel_size: Any = None,
        magnification: float | None = None,
        max_size: int | tuple[int, int] | None = None,
        resample: str | None = None,
        keepdims: bool = False,
    ) -> Array:
        """Read a region given in pixels, lengths or fractions, at any resolution.

        Parameters
        ----------
        x, y
            (start, stop) measured from the outer corner of the first pixel, None for an end of the
            image. A region that extends beyond the image is an error.
        units
            Unit of `x` and `y`: "px" (pixels of this view), a unit of length ("um", "mm", ...),
            "fraction" (0 to 1); or, for georeferenced images, a reference system ("EPSG:4326") or
            "projection" (that of the file): the region then contains the box, cut to the image.
        z, c, t
            As in `read`.
        level, pixel_size, magnification, max_size
            At most one of these sets the resolution of the result: a level; the size of a pixel, as
            (value, unit), a number in `units`, or {"y": ..., "x": ...} of either; the objective's
            magnification; or the largest number of pixels along the longer side, or along (y, x),
            without enlarging. Default: this view's level.
        resample
            "area" (the mean, for smaller results), "nearest", "linear" or "cubic". Default: "area"
            down and "linear" up; "nearest" for label images.
        keepdims
            Whether all five axes are kept.

        Returns
        -------
        numpy.ndarray
            Axes Y, X, Z, C, T in the image's dtype; trailing axes of length 1 dropped, never below
            two. Computed from the nearest level that has at least this resolution.

        Raises
        ------
        BadSelection
            The region is empty or extends beyond the image.
        BadArgument
            A unit for which the file has no pixel size, or two values for the resolution.
        """
        from bfbridge.analysis import regions

        if is_reference_system(units):
            (x, y), units = spans_in_pixels(self, x, y, units), "px"
        result: Array = regions.region(
            self, x, y, units=units, z=z, c=c, t=t, level=level, pixel_size=pixel_size,
            magnification=magnification, max_size=max_size, resample=resample, keepdims=keepdims,
        )  # fmt: skip
        return result

    def _key_of(self: Any, region: Mapping[str, Any], view: Any) -> Any:
        """Return the key in `view` for a region given in this view's units."""
        from bfbridge.analysis import regions

        return regions.key_of(self, view, region)

    def _resampled(
        self: Any, level: int | None, pixel_size: Any, magnification: float | None
    ) -> Any:
        """Return a reader of this image at a resolution, which counts pixels of that resolution."""
        from bfbridge.analysis import regions

        return regions.Resampled(
            self, level=level, pixel_size=pixel_size, magnification=magnification
        )

    def thumbnail(
        self: Any, size: int = 256, *, z: int | None = None, t: int = 0, c: Any = None
    ) -> Array:
        """Return a small picture of one plane, in the image's dtype.

        Parameters
        ----------
        size
            Largest number of pixels along the longer side; a smaller image is not enlarged.
        z, t
            Slice (default: the middle one) and time point.
        c
            Channels, as in `read`. Default: all.

        Returns
        -------
        numpy.ndarray
            (Y, X), or (Y, X, C) with several channels or samples.
        """
        from bfbridge.analysis import regions

        result: Array = regions.thumbnail(self, size, z=z, t=t, c=c)
        return result

    def histogram(
        self: Any,
        bins: int | Sequence[float] = 256,
        *,
        range: tuple[float, float] | None = None,  # noqa: A002 - numpy's name
        exact: bool = False,
        z: Any = None,
        c: Any = None,
        t: Any = None,
    ) -> tuple[Array, Array]:
        """Count pixels by value, as `numpy.histogram` does.

        Parameters
        ----------
        bins, range
            As in numpy. Default range: the least and greatest value.
        exact
            Whether every pixel of this level is counted. Otherwise a coarse level is used.
        z, c, t
            As in `read`. Default: all.

        Returns
        -------
        (counts, edges)
            One count for each bin, and the bins' edges.
        """
        from bfbridge.analysis import statistics

        result: tuple[Array, Array] = statistics.histogram(
            self, bins, range=range, exact=exact, z=z, c=c, t=t
        )
        return result

    def min_max(
        self: Any, *, exact: bool = False, z: Any = None, c: Any = None, t: Any = None
    ) -> tuple[Any, Any]:
        """Return the least and the greatest value, without NaN.

        Parameters
        ----------
        exact
            Whether every pixel of this level is read. Otherwise a coarse level is read, whose means
            lie within the true extremes.
        z, c, t
            As in `read`. Default: all.
        """
        from bfbridge.analysis import statistics

        result: tuple[Any, Any] = statistics.min_max(self, exact=exact, z=z, c=c, t=t)
        return result

    def planes(self: Any) -> list[PlaneRecord]:
        """Return times, exposures and stage positions of the planes that the metadata describe.

        Returns
        -------
        list of bfbridge.analysis.plane_table.PlaneRecord
            Ordered by t, c and z; empty if the metadata describe no planes.
        """
        from bfbridge.analysis import plane_table

        found: list[PlaneRecord] = plane_table.planes_of(self)
        return found

    # ---- bfbridge.rendering

    def __repr__(self: Any) -> str:
        from bfbridge.rendering import summary

        text: str = summary.as_text(self)
        return text

    def _repr_html_(self: Any) -> str:
        from bfbridge.rendering import summary

        text: str = summary.as_html(self, summary.thumbnail_png(self))
        return text

    def _repr_mimebundle_(
        self: Any, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Return the notebook representations: text, a table with a thumbnail, the thumbnail."""
        from bfbridge.rendering import summary

        bundle: dict[str, Any] = summary.mimebundle(self, include, exclude)
        return bundle

    def render(
        self: Any, channels: Any = None, style: Any = None, *,
        x: Span = None, y: Span = None, units: str = "px", z: Any = None, t: int = 0,
        level: int | None = None, pixel_size: Any = None, magnification: float | None = None,
        max_size: int | tuple[int, int] | None = None, resample: str | None = None,
        projection: str | None = None, scale_bar: Any = False, text: bool | str = False,
        background: Any = "black", format: str = "array",  # noqa: A002 - as everywhere
        quality: int | None = None,
    ) -> Any:  # fmt: skip
        """Return a picture of the image or a region of it.

        Without a style, channels are added in the colours and display windows that the file stores.
        A channel without them gets a default colour, and a window that leaves out 0.1 % of the
        values at each end. RGB, indexed and label images keep their colours.

        Parameters
        ----------
        channels
            Numbers or names of channels. Default: those the file shows, at most eight. With a
            style: the one channel that it is for.
        style
            A dictionary with large_image's keys, or JSON; see `bfbridge.rendering.style`.
        x, y, units, level, pixel_size, magnification, max_size, resample
            As in `region`. Default: all of the image, at most 1024 pixels a side.
        z, t
            Slice (default: the middle one) and time point.
        projection
            "max" for the greatest value along z, which may then be (start, stop). Default: the
            ``projection`` of the style.
        scale_bar
            True for a round length, or a length in µm or as (number, unit).
        text
            True for the numbers of slice and time point, or what to write.
        background
            Colour behind transparent pixels of a JPEG.
        format
            "array", or a picture as bytes: "png", "jpeg" or "webp".
        quality
            For JPEG and WebP, 1 to 100 (default 90; 100 is lossless WebP); for PNG the effort, 0 to
            9.

        Returns
        -------
        numpy.ndarray or bytes
            (Y, X, 4) of uint8: red, green, blue, alpha; other by a style's ``dtype`` and ``axis``.

        Raises
        ------
        BadArgument, BadSelection
            A style, option or region that is not valid here, or more than 2**28 pixels.
        """
        from bfbridge.rendering import picture

        return picture.render(
            self, channels, style, x=x, y=y, units=units, z=z, t=t, level=level,
            pixel_size=pixel_size, magnification=magnification, max_size=max_size,
            resample=resample, projection=projection, scale_bar=scale_bar, text=text,
            background=background, format=format, quality=quality,
        )  # fmt: skip

    # ---- bfbridge.viewer

    def view(self: Any, **state: Any) -> Any:
        """Return a widget that shows the image in a notebook, of any size.

        Parameters
        ----------
        **state
            Initial traits, such as ``z``, ``t``, ``center``, ``zoom``, ``channels``, ``height``;
            see `bfbridge.viewer.widget.ImageWidget`.

        Returns
        -------
        ImageWidget
            Its traits follow the user's actions, and can be set. The reader has to stay open.

        Raises
        ------
        MissingExtra
            The extra ``widget`` is not installed.
        """
        from bfbridge.viewer import widget

        return widget.show(self, **state)

    # ---- bfbridge.virtual

    def to_zarr(
        self: Any,
        version: Literal[2, 3] = 3,
        *,
        compression: Any = None,
        chunk: int = 1024,
        whole_file: bool | None = None,
    ) -> Any:
        """Return the file as a read-only OME-Zarr store, without conversion.

        Parameters
        ----------
        version
            Version of Zarr: 3 for NGFF 0.5, 2 for NGFF 0.4.
        compression
            Compression of chunks that are not passed through undecoded: None, "zstd", "blosc-zstd",
            "blosc-lz4", "gzip", or a pair of one of them and a level.
        chunk
            Side of the chunks in pixels, 512 or 1024; chunks passed through undecoded keep their
            size.
        whole_file
            Whether the store has all images, laid out as bioformats2raw does or as a plate, or only
            this one, at its root. Default: True for a `BioReader` opened without ``series=``.

        Returns
        -------
        bfbridge.virtual.store.VirtualStore
            For zarr-python, dask and xarray; its ``root`` is a `zarr.Group`. Each level has half
            the sides of the one before, rounded up, down to 512. Levels missing from the file are
            computed on demand: the mean of 2 x 2 pixels; for labels and indexed images, the first.
            It can be pickled.

        Raises
        ------
        BadArgument
            A version, compression or chunk that is not supported.
        MissingExtra
            zarr is not installed.
        """
        views = self._store_views(whole_file)
        try:
            from bfbridge.virtual import store
        except ImportError as error:
            raise MissingExtra(
                f"to_zarr() needs zarr, which is not installed ({error}). "
                f"Install it with: {INSTALL}"
            ) from error
        return store.VirtualStore(views, version, compression, chunk)

    def to_references(
        self: Any,
        path: str | os.PathLike[str] | None = None,
        *,
        version: Literal[2, 3] = 2,
        url: str | None = None,
        whole_file: bool | None = None,
    ) -> dict[str, Any]:
        """Return references to byte ranges of this file that form an OME-Zarr store.

        fsspec's reference filesystem, kerchunk and VirtualiZarr read them without bfbridge. Levels
        are those that the file stores.

        Parameters
        ----------
        path
            Path of a JSON file to write the references to; an existing file is replaced.
        version
            Version of Zarr. Version 2 can describe LZW, PackBits and predictors (with imagecodecs),
            version 3 interleaved samples of RGB pixels.
        url
            URL of the file; for a data set of several files, the URL of their folder, with a slash
            at its end. Default: the path or URL that was opened.
        whole_file
            As in `to_zarr`.

        Returns
        -------
        dict
            ``{"version": 1, "refs": {...}}``, the format of kerchunk.

        Raises
        ------
        Unsupported
            Chunks cannot be fetched by range and decoded separately; the message has the reason.
            TIFF files are supported if they are uncompressed or compressed with deflate, Zstandard,
            LZW or PackBits.
        WriteFailed
            `path` cannot be written.
        """
        import json

        from bfbridge.storage import atomic
        from bfbridge.virtual import references

        found: dict[str, Any] = references.make_references(
            self._store_views(whole_file), version, url
        )
        if path is not None:
            atomic.write_bytes_atomically(path, json.dumps(found).encode())
        return found

    def _store_views(self, whole_file: bool | None) -> list[Any]:
        """Return the images of the store for this view."""
        whole = getattr(self, "_whole_document", False) if whole_file is None else whole_file
        view: Any = self
        return list(view.series) if whole else [view]

    @property
    def magnification(self: Any) -> float | None:
        """Nominal magnification of this level; None if unknown. At full size, the objective's."""
        from bfbridge.analysis import regions

        factor: float | None = regions.level_magnification(self)
        return factor

    def to_physical(
        self: Any, x: Any = None, y: Any = None, z: Any = None, *, unit: str = "µm"
    ) -> dict[str, Any]:
        """Express positions in pixels of this level as lengths from the image's corner.

        Parameters
        ----------
        x, y, z
            Numbers or arrays; 0 is the outer corner of the first pixel, 0.5 its centre.
        unit
            Unit of the result.

        Returns
        -------
        dict
            By axis name, for the axes given.

        Raises
        ------
        BadArgument
            The file has no pixel size.
        """
        from bfbridge.analysis import regions

        result: dict[str, Any] = regions.to_physical(self, {"x": x, "y": y, "z": z}, unit)
        return result

    def to_pixels(
        self: Any, x: Any = None, y: Any = None, z: Any = None, *, unit: str = "µm"
    ) -> dict[str, Any]:
        """Express lengths from the image's corner in pixels of this level; see `to_physical`."""
        from bfbridge.analysis import regions

        result: dict[str, Any] = regions.to_pixels(self, {"x": x, "y": y, "z": z}, unit)
        return result
