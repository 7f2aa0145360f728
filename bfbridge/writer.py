"""`BioWriter`: one writer for OME-TIFF, OME-Zarr and the formats that Bio-Formats writes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from bfbridge.engine.casting import as_pixels
from bfbridge.engine.pyramid import Pyramid
from bfbridge.engine.workers import worker_count
from bfbridge.errors import BadArgument
from bfbridge.files import in_place as inplace
from bfbridge.files.attribute_names import BFIO_BACKENDS
from bfbridge.files.growing.sink import TileSink
from bfbridge.files.label_images import open_label
from bfbridge.files.writing.image_plans import DEFAULT_MEMORY, WritePlan
from bfbridge.files.writing.image_writer import ImageWriter
from bfbridge.files.writing.writer_arguments import (
    PROPERTIES,
    document_of,
    growing_arguments,
    known_options,
    requested_properties,
)
from bfbridge.runtime import finalizers
from bfbridge.runtime.arguments import flag, whole
from bfbridge.runtime.interrupts import deferred

if TYPE_CHECKING:
    from types import TracebackType

    from ome_types import OME

    from bfbridge.storage.source import Source

__all__ = ["BioWriter", "ImageWriter"]


class BioWriter(TileSink, ImageWriter):
    """Write one image file, numpy-style: any region, in any order, from any thread.

    The file appears under its name when `close` has finished it. After an exception in the ``with``
    block, a kill or a full disk, a previous file is unchanged, and no new file exists.

    Object stores cannot rename. A store at a URL is written at its final location: first the
    chunks, and the metadata in `close`; without them it cannot be opened. A store that is replaced
    is removed at the first write.

    >>> with BioWriter("out.ome.tif", metadata=br.metadata) as bw:    # doctest: +SKIP
    ...     bw[:1024, :1024, 0, 0, 0] = tile

    Parameters
    ----------
    file_path
        Target, a path or a URL that fsspec supports (``"s3://bucket/cells.ome.zarr"``); its suffix
        selects the format. Formats other than OME-Zarr are uploaded to a URL when complete.
    max_workers
        Chunks encoded at once. Default: the CPUs this process may use; 16 at least for a URL.
    backend
        "ometiff", "omezarr" or "bioformats", or one of bfio's names for them. Default: by suffix.
    metadata
        An OME document for the new file; it is copied. If its C and T are not set otherwise, and
        exactly C=0, T=0 is written, as bfio's converters do, the file has C=1, T=1.
    image
        An array that gives sizes (Y, X, Z, C, T) and dtype where `metadata` does not. It is not
        written.
    overwrite
        Whether an existing file of that name may be replaced.
    series
        The image of `metadata` that is written: its number, or "all" for every image (then `series`
        has a view of each).
    pyramid
        True for lower levels by halving, a number of them, or their factors such as (2, 4, 8);
        with Z, [(1, 2, 2), (2, 4, 4)].
    downsample
        Method for lower levels: "mean" (rounded half up), "nearest", or "mode". Label images,
        which are identified by the metadata, are never averaged: for them "mean" is "nearest".
    downsample_z
        Whether lower levels are reduced along Z too, in formats that have such levels (OME-Zarr):
        "none" (default), 2, or "auto", which halves the axes with the finest spacing first, until
        pixels are nearly isotropic.
    smallest
        With ``pyramid=True``, halving ends when both sides are at most this (default 512).
    fill_value
        Value of pixels that are never written.
    durable
        Whether `close` waits until the file would survive a power loss.
    memory
        Bytes of unfinished chunks kept in memory before a scratch file is used.
    append
        Whether to write to an existing file of that name, if there is one: an OME-Zarr store, or,
        for time points only, an OME-TIFF. With a larger T than the file has, time points are added;
        otherwise written regions replace pixels in all levels. Sizes, dtype and chunks do not
        change. The file is unchanged until `close`, which applies all changes; after an exception,
        a kill or a full disk none is applied. A kill while `close` moves the chunks of a store
        leaves a complete journal in it: bfbridge reads from it, and the next ``BioWriter(path,
        append=True)`` or `bfbridge.recover` completes it. At a URL, time points can be added, and
        pixels cannot be changed: readers see the old image until `close` replaces the documents,
        that of the full size last. An OME-TIFF must be on a disk, with one image in tiles,
        uncompressed or with a lossless compression; otherwise `Unsupported` has the reason. After a
        kill it is the old image or the new one.
    labels
        Name of a label image to add to image `series` of an existing OME-Zarr store: integers, 0
        for the background. Y and X are those of the image, Z and T too unless they are given as 1;
        the default dtype is uint32. The levels have the factors of the image's, with `downsample`
        "nearest" (default) or "mode". The store is unchanged until `close`. See also
        `bfbridge.curation.add_labels`.
    storage_options
        For a URL: arguments of its fsspec filesystem.
    grow
        Whether the image gets the size of the tiles that `add_tile` adds, at any position. Its
        properties can be set until `close`; a size is then the least one. Tiles are kept encoded in
        a private folder. The dtype, if it is not set, holds the values of all tiles. Copies of this
        writer that are pickled add tiles from other processes.
    axes
        With `grow`: up to three further axes by name, each with its values (texts or numbers), a
        pair of values and their unit, its length, or None: ``{"stain": ["H", "E"], "dose": ([0.1,
        1], "mg")}``. The first is stored inside T, the second inside Z, the third inside C, as
        Modulo annotations of OME, which `ImageView.modulo` and ``unfold=True`` return.
    crop
        With `grow`: (y, x, height, width) of what becomes the image, in the tiles' coordinates.
        Default: from the least position of a tile, at most 0, to the end of the last tile.
    min_size
        With `grow`: least height and width.
    **kwargs
        Properties (X, Y, Z, C, T, shape, dtype, channel_names, ps_x, ...), which override
        `metadata`; and options of the backend, in the same form for every format: ``compression``
        ("zstd", "zstd:5", ("zstd", 5)), ``level``, ``chunks`` (Y and X, or the last axes of T, C,
        Z, Y, X), ``tile``, ``shards``, ... If no dtype is given, it is that of the first array
        written.

    Raises
    ------
    TargetExists
        The target exists and `overwrite` was not given.
    TargetBusy
        Another writer is writing the same target.
    BadArgument
        No writer has this suffix, or an option does not exist.
    """

    def __init__(
        self,
        file_path: str | os.PathLike[str],
        max_workers: int | None = None,
        backend: str | None = None,
        metadata: OME | None = None,
        image: np.ndarray[Any, Any] | None = None,
        *,
        overwrite: bool = False,
        series: int | str = 0,
        pyramid: Pyramid = False,
        downsample: str = "mean",
        downsample_z: str | int | None = None,
        smallest: int | None = None,
        fill_value: float = 0,
        durable: bool = False,
        memory: int = DEFAULT_MEMORY,
        append: bool = False,
        labels: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        grow: bool = False,
        axes: Mapping[str, Any] | None = None,
        crop: Sequence[int] | None = None,
        min_size: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        append = flag(append, "append")
        growing = growing_arguments(
            grow=grow, axes=axes, crop=crop, min_size=min_size, others=append or image is not None
        )
        given = {key: kwargs.pop(key) for key in list(kwargs) if key in PROPERTIES}
        place = inplace.place_of(file_path, storage_options)
        if isinstance(place, Path):
            finalizers.settle(place)
        plan = WritePlan(
            pyramid=pyramid,
            downsample=downsample,
            downsample_z=downsample_z,
            smallest=smallest,
            fill_value=fill_value,
            memory=whole(memory, "memory"),
            workers=worker_count(max_workers, waits=not isinstance(place, Path)),
            infer_dtype=metadata is None,
            backend_options=kwargs,
        )
        with deferred():
            writer = inplace.writer_for(place, backend)
            known_options(kwargs, writer, _parameters())
            if labels is not None:
                if append or metadata is not None:
                    raise BadArgument("labels=: append and metadata do not apply to label images.")
                file = open_label(
                    place, labels, series, plan, requested_properties(None, image, given),
                    backend_name=backend, overwrite=flag(overwrite, "overwrite"),
                )  # fmt: skip
                super().__init__(file, 0)
                self._file.watch(self)
                return
            if append and inplace.is_there(place, writer):
                carried = None if metadata is None else document_of(metadata, series)
                requested = requested_properties(carried, image, given)
                super().__init__(inplace.reopen(place, plan, requested, backend), 0)
                self._file.watch(self)
                return
            ome = document_of(metadata, series)
            target = inplace.target_of(
                place,
                writer,
                overwrite=flag(overwrite, "overwrite"),
                durable=flag(durable, "durable"),
            )
            super().__init__(inplace.new_file(target, writer, ome, plan, growing), 0)
            self._set_up(
                image if metadata is None else None,
                given | ({"crop": crop, "min_size": min_size} if grow else {}),
            )

    def _set_up(self, image: Any, given: Mapping[str, Any]) -> None:
        """Set sizes and dtype from an array, then properties; remove the file on an error."""
        try:
            self._file.watch(self)
            if image is not None:
                pixels = as_pixels(image, self._file.name)
                self.shape = np.shape(pixels)
                self.dtype = pixels.dtype
            for key, value in given.items():
                setattr(self, key, value)
        except BaseException:
            self._file.abort()
            raise

    # ---- lifetime

    @property
    def series(self) -> list[ImageWriter]:
        """A view of each image of the file, to set up and write."""
        return [ImageWriter(self._file, i, self) for i in range(len(self._file.ome.images))]

    @classmethod
    def create(cls, file_path: str | os.PathLike[str], **kwargs: Any) -> None:
        """Start an OME-Zarr store that several processes, also of several hosts, write at once.

        Each process opens it with `BioWriter.open` and writes whole chunks (or shards) of its own;
        no locks are needed. When all have closed it, one calls `BioWriter.finish`. Until then the
        store cannot be opened for reading.

        Parameters
        ----------
        file_path
            Name of the store, which must not exist.
        **kwargs
            As for `BioWriter`.

        Raises
        ------
        TargetExists
            A file or folder of that name exists.
        Unsupported
            The format of this suffix is written by one process.
        """
        writer = cls(file_path, **kwargs)
        inplace.create(writer._file)

    @classmethod
    def open(
        cls,
        file_path: str | os.PathLike[str],
        max_workers: int | None = None,
        *,
        memory: int = DEFAULT_MEMORY,
        storage_options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a store made with `create` for writing; `close` ends this process's part.

        Parameters
        ----------
        file_path, max_workers, memory, storage_options
            As for `BioWriter`.

        Returns
        -------
        BioWriter
            Its properties are fixed. It can be pickled: the copy is one more part of the store, and
            is closed where it is used. Pixels that this process has written are not copied.

        Raises
        ------
        FileMissing
            No store was created there, or it is finished.
        WriteFailed
            From `close`: a chunk was written in part, and another process may hold the rest.
        """
        place = inplace.place_of(file_path, storage_options)
        workers = worker_count(max_workers, waits=not isinstance(place, Path))
        return cls._open_part(place, workers, whole(memory, "memory"))

    @classmethod
    def _open_part(cls, place: Path | Source, workers: int, memory: int) -> Self:
        writer = cls.__new__(cls)
        file = inplace.open_part(place, workers, memory)
        ImageWriter.__init__(writer, file, 0)
        file.watch(writer)
        return writer

    def __reduce__(self) -> tuple[Any, ...]:
        if self._is_growing:
            return self._part()
        place, wanted = inplace.shared_place(self._file), self._file.wanted
        return type(self)._open_part, (place, wanted.workers, wanted.memory)

    @classmethod
    def finish(
        cls,
        file_path: str | os.PathLike[str],
        max_workers: int | None = None,
        *,
        memory: int = DEFAULT_MEMORY,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Finish a store made with `create`: compute its lower levels, write its metadata.

        Parameters
        ----------
        file_path, max_workers, memory, storage_options
            As for `BioWriter`.

        Raises
        ------
        FileMissing
            No store was created there, or it is finished.
        """
        place = inplace.place_of(file_path, storage_options)
        workers = worker_count(max_workers, waits=not isinstance(place, Path))
        inplace.finish(place, workers, whole(memory, "memory"))

    def close(self, *, require_complete: bool = False) -> None:
        """Finish the file and give it its name. May be called twice.

        Parameters
        ----------
        require_complete
            Whether pixels that were never written are an error instead of the fill value.

        Raises
        ------
        IncompleteImage
            There are such pixels. A previous file of that name is unchanged.
        WriteFailed
            The file cannot be written. A previous file of that name is unchanged.
        """
        self._file.close(require_complete=flag(require_complete, "require_complete"))

    def abort(self) -> None:
        """Remove the unfinished file; a previous file of that name is unchanged."""
        self._file.abort()

    def stored_document(self) -> OME | None:
        """Return the OME document of the finished file if it is known without reading the file.

        None if readers may return other values; see `WriterBackend.stored_document`.
        """
        return self._file.stored_document()

    @property
    def closed(self) -> bool:
        """Whether the file was finished or aborted."""
        return self._file.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        # Programs written for bfio may rely on the garbage collector to close the file. A complete
        # image is finished for them; an incomplete one would look complete, and is removed. Both
        # take time and wait for threads, which a finalizer must not do: see `finalizers`.
        file = getattr(self, "_file", None)
        if file is None or file.closed:
            return
        file.drop()
        with suppress(Exception):
            warnings.warn(
                f"{file.name}: BioWriter was not closed. If every pixel was written, the file is "
                "being finished by another thread; otherwise it is not created.",
                ResourceWarning,
                stacklevel=2,
            )

    # ---- bfio's attributes

    @property
    def max_workers(self) -> int:
        """Chunks encoded at once."""
        return self._file.wanted.workers

    @property
    def read_only(self) -> bool:
        """Whether properties can no longer be set: after the first write."""
        return self._file.started

    @property
    def backend(self) -> str:
        """Name of the backend that writes the file."""
        return self._file.backend.name

    @property
    def _backend_name(self) -> str:
        return BFIO_BACKENDS.get(self.backend, self.backend)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("a BioWriter cannot be iterated; read the file back with BioReader.")


@cache
def _parameters() -> tuple[str, ...]:
    return tuple(signature(BioWriter).parameters)
