"""`BioReader`: one reader for every microscopy image."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final, Self, TypeGuard, cast

import numpy as np

from bfbridge.backend import OpenOptions, Quantity
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.engine.workers import worker_count
from bfbridge.errors import (
    BadArgument,
    BadSelection,
    FileMissing,
    ReadOnlyProperty,
    UnreadableFile,
    Unsupported,
)
from bfbridge.files.attribute_names import BFIO_BACKENDS, BfioNames
from bfbridge.files.open_file import OpenFile
from bfbridge.limits import DEFAULT_LIMITS, Limits
from bfbridge.ome import metadata
from bfbridge.registry import BACKENDS
from bfbridge.runtime import finalizers
from bfbridge.runtime.arguments import flag, number, text_or_none
from bfbridge.storage.source import Source, as_source
from bfbridge.views import ImageView

if TYPE_CHECKING:
    from types import TracebackType

    from ome_types import OME

    from bfbridge.files.array_images import ArrayImages
    from bfbridge.files.file_series import Plan
    from bfbridge.files.rearranged import Changes, Rearranged

__all__ = ["BioReader"]

_NAMES: Final = (str, os.PathLike)
ISOLATED_VARIABLE = "BFBRIDGE_ISOLATED"
INDEX_VARIABLE = "BFBRIDGE_INDEX"


class BioReader(BfioNames, ImageView):
    """Read one image of a file in any format, numpy-style.

    >>> with BioReader("cells.czi") as br:          # doctest: +SKIP
    ...     tile = br[:1024, :1024, 0, 0, 0]        # Y, X, Z, C, T

    Parameters
    ----------
    file_path
        A path, a URL that fsspec supports, bytes, or an open binary file. Also several files as one
        image: a pattern such as ``"img_t{t:d}_c{c}_z{z:d}.tif"``, or a list in order of time.
    max_workers
        Threads that read and decode at once. Default: the CPUs this process may use; 16 at least
        for OME-Zarr at a URL, as they mostly wait.
    backend
        "ometiff", "omezarr", "pictures" or "bioformats", or one of bfio's names for them (python,
        zarr, zarr3, tensorstore, java). Default: chosen by content; `backend_reason` says why.
    clean_metadata
        Accepted for compatibility with bfio: malformed OME-XML is always read as far as possible.
    level
        Resolution within the image; 0 is full size.
    series
        Number or name of the image. Default: the first.
    storage_options
        For a URL: arguments of its fsspec filesystem.
    group_files
        Whether files that belong together are read as one; None: default of the format.
    allow_outside
        Whether the file may refer to companion files outside its folder.
    options
        Settings of the backend by name, such as ``{"zeissczi.autostitch": False}``.
    limits
        Limits on what the file may declare.
    cache
        Bytes of decoded chunks to keep (0 for none), or a mapping to keep them in, which several
        readers may share. Default: 64 MiB for this reader.
    name
        For bytes and open files: a file name whose suffix hints at the format.
    isolated
        Whether Bio-Formats' Java runs in worker processes, up to `max_workers`: a crash of native
        code is then a `ReadFailed`, and the next read starts a new worker; the process may fork.
        A crop of a megapixel takes about a millisecond longer. None: the environment variable
        ``BFBRIDGE_ISOLATED`` (1, true or yes). Without effect for formats that need no Java.
    timeout
        Seconds that Java may take to open the file, and for each block of pixels; then
        `TookTooLong` is raised, the worker process is ended, and the next read starts a new one.
        With it `isolated` is True by default, because a thread of this process cannot be ended.
        Without effect for formats that need no Java.
    thumbnails
        Whether a thumbnail that Bio-Formats omits (that of Aperio SVS) is an image too, after all
        others, and therefore in `associated`.
    index
        Whether metadata that Bio-Formats found is kept on disk, so that the same file opens in
        milliseconds the next time, without Java until pixels are read: in the user's cache folder
        (True), or in a folder. An entry is used only while the sizes and times of all files of the
        data set, and the names in their folders, are unchanged; `backend_reason` says whether it
        was. None: the environment variable ``BFBRIDGE_INDEX`` (1, true, yes, or the absolute path
        of a folder). Without effect for formats that need no Java, and for URLs.

    Raises
    ------
    FileMissing
        There is no file at the path.
    UnreadableFile
        The file is damaged, or no backend reads it.
    BadSelection
        The series or level does not exist.
    """

    def __init__(
        self,
        file_path: str
        | os.PathLike[str]
        | bytes
        | IO[bytes]
        | Source
        | Sequence[Any]
        | ArrayImages
        | Rearranged,
        max_workers: int | None = None,
        backend: str | None = None,
        clean_metadata: bool = True,
        level: int | None = None,
        *,
        series: int | str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        group_files: bool | None = None,
        allow_outside: bool = False,
        options: Mapping[str, Any] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        cache: int | MutableMapping[Hashable, np.ndarray[Any, Any]] | None = None,
        name: str | None = None,
        isolated: bool | None = None,
        timeout: float | None = None,
        thumbnails: bool = False,
        index: bool | str | os.PathLike[str] | None = None,
    ) -> None:
        self.clean_metadata = flag(clean_metadata, "clean_metadata")
        self._whole_document = series is None
        if options is not None and not isinstance(options, Mapping):
            raise BadArgument(f"options={options!r}: give a mapping of names to values.")
        if not isinstance(limits, Limits):
            raise BadArgument(f"limits={limits!r}: give a bfbridge.Limits.")
        name = text_or_none(name, "name")
        backend_options = {str(key): value for key, value in (options or {}).items()}
        file_path, changes = _without_changes(file_path)
        plan = _series_plan(file_path, storage_options)
        if _is_arrays(file_path):
            source, backend = file_path.source, "array"
            backend_options["arrays"] = file_path
        elif plan is None:
            source = as_source(cast("Any", file_path), storage_options, name)
            if source.path is not None:
                finalizers.settle(source.path)
        else:
            source = plan.source
            backend_options |= {"plan": plan, "member_backend": backend}
            backend = "fileseries"
        if changes is not None:
            backend_options = {
                "changes": changes, "inner_options": backend_options, "inner_backend": backend,
            }  # fmt: skip
            backend = "rearranged"
        file = OpenFile(
            source=source,
            options=OpenOptions(
                limits=limits,
                max_workers=worker_count(max_workers),
                workers_chosen=max_workers is not None,
                group_files=None if group_files is None else flag(group_files, "group_files"),
                allow_outside=flag(allow_outside, "allow_outside"),
                backend_options=backend_options,
                isolated=_is_isolated(isolated, timeout),
                timeout=None if timeout is None else number(timeout, "timeout", positive=True),
                thumbnails=flag(thumbnails, "thumbnails"),
                index=_index_place(index),
            ),
            backend_name=backend,
            cache=_as_cache(cache),
            shared=isinstance(cache, MutableMapping),
        )
        super().__init__(file, 0)
        _ = file.backend
        try:
            self._index = self.series.pick(0 if series is None else series).index
            self._level = self.levels.pick(0 if level is None else level).level
        except BadSelection:
            file.close()
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self._file, self._index, self._level, self._whole_document, self.clean_metadata)
        return _rebuild, state

    # ---- lifetime

    def close(self) -> None:
        """Release the file. May be called twice; views of this reader are closed with it."""
        self._file.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- bfio's attributes

    @property
    def metadata(self) -> OME:
        """OME metadata of the whole file, or of the one image chosen with ``series=``."""
        return self.ome if self._whole_document else metadata.narrow(self.ome, self._index)

    @property
    def read_only(self) -> bool:
        """Always True: a reader's properties cannot be set."""
        return True

    @property
    def _backend_name(self) -> str:
        return BFIO_BACKENDS.get(self.backend, self.backend)

    def read_image(self, *args: Any, **kwargs: Any) -> np.ndarray[Any, Any]:
        """Read a region: name of `read` in bfio 1.

        Parameters
        ----------
        *args, **kwargs
            Those of `read`.
        """
        return self.read(*args, **kwargs)

    def pixel_type(self) -> np.dtype[Any]:
        """Return `dtype`: its name in bfio 1."""
        return self.dtype

    def __call__(
        self,
        tile_size: Sequence[int],
        tile_stride: Sequence[int] | None = None,
        batch_size: int | None = None,
        channels: Sequence[int] = (0,),
    ) -> Iterator[tuple[np.ndarray[Any, Any], tuple[list[list[int]], ...]]]:
        """Iterate over the first plane in batches of tiles, as bfio does; see also `tiles`.

        Parameters
        ----------
        tile_size
            Height and width of the tiles.
        tile_stride
            Rows and columns from tile to tile. Default: `tile_size`. If it differs, tiles are
            centred on their strides, so the first starts outside the image.
        batch_size
            Tiles in a batch. Default: the smaller of 32 and `maximum_batch_size`.
        channels
            Channels to load.

        Yields
        ------
        (tiles, index)
            tiles: (tile, row, column, channel), zeros outside the image. index: five lists with a
            range or list of positions for each tile, in the order X, Y, Z, C, T. As in bfio, tiles
            are ordered down the columns.
        """
        from bfbridge.analysis.tiling import bfio_batches

        return bfio_batches(self, tile_size, tile_stride, batch_size, channels)

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(
            "a BioReader cannot be iterated: use `for tile in br.tiles(1024)`, or call it as "
            "bfio does: `for tiles, index in br([256, 256])`."
        )

    def maximum_batch_size(
        self, tile_size: Sequence[int], tile_stride: Sequence[int] | None = None
    ) -> int:
        """Return the largest batch that calling the reader can return, as computed by bfio.

        Parameters
        ----------
        tile_size, tile_stride
            As in a call of the reader.

        Raises
        ------
        BadArgument
            An argument is not one or two integers of 1 or more.
        """
        from bfbridge.analysis.tiling import bfio_batch_limit

        return bfio_batch_limit(self, tile_size, tile_stride)

    def _physical_size(self, axis: str) -> Quantity | None:
        size: Quantity | None = getattr(self.physical_pixel_size, axis)
        return size

    def _set_size(self, axis: str, value: Any) -> None:
        del value
        raise ReadOnlyProperty(f"{axis} cannot be set: a reader describes a file as it is.")

    def _set_physical_size(self, axis: str, value: Any) -> None:
        del value
        raise ReadOnlyProperty(
            f"physical_size_{axis} cannot be set: a reader describes a file as it is."
        )

    @classmethod
    def image_size(cls, filepath: str | os.PathLike[str]) -> tuple[int, int]:
        """Return (width, height) of a TIFF or Zarr from its header; (-1, -1) for other files.

        Parameters
        ----------
        filepath
            Path of the file or store.

        Raises
        ------
        FileMissing
            There is no file at the path.
        """
        source = as_source(filepath)
        if not source.exists():
            raise FileMissing(f"{source.name}: no such file or folder.")
        native = BACKENDS[:-1]
        head = source.head()
        for entry in native:
            if not entry.claims(source, head):
                continue
            measure = getattr(entry.load(), "image_size", None)
            if measure is not None:
                with suppress(UnreadableFile):
                    width, height = measure(source)
                    return width, height
            with suppress(Unsupported, UnreadableFile), cls(source, backend=entry.name) as br:
                return int(br.X), int(br.Y)
        return -1, -1


def _rebuild(
    file: OpenFile, index: int, level: int, whole_document: bool, clean_metadata: bool
) -> BioReader:
    reader = BioReader.__new__(BioReader)
    ImageView.__init__(reader, file, index, level)
    reader._whole_document = whole_document
    reader.clean_metadata = clean_metadata
    return reader


def _is_isolated(isolated: bool | None, timeout: float | None) -> bool:
    if isolated is None and timeout is not None:
        return True
    if isolated is None:
        value = os.environ.get(ISOLATED_VARIABLE, "")
        return value.strip().lower() in {"1", "true", "yes"}
    return flag(isolated, "isolated")


def _index_place(index: bool | str | os.PathLike[str] | None) -> bool | str:
    """Return the absolute folder of the index, True for the user's cache folder, or False."""
    if isinstance(index, _NAMES):
        if not os.fspath(index):
            raise BadArgument(f"index={index!r}: give True, False or the path of a folder.")
        return os.path.abspath(index)
    if index is not None:
        return flag(index, "index")
    value = os.environ.get(INDEX_VARIABLE, "").strip()
    if value.lower() in {"", "0", "false", "no"}:
        return False
    if value.lower() in {"1", "true", "yes"}:
        return True
    if not os.path.isabs(value):
        raise BadArgument(
            f"{INDEX_VARIABLE}={value!r}: give 1, 0 or the absolute path of a folder."
        )
    return value


def _as_cache(
    cache: int | MutableMapping[Hashable, np.ndarray[Any, Any]] | None,
) -> MutableMapping[Hashable, np.ndarray[Any, Any]] | None:
    if cache is None:
        return ChunkCache()
    if isinstance(cache, MutableMapping):
        return cache
    if isinstance(cache, bool) or not isinstance(cache, int) or cache < 0:
        raise BadArgument(f"cache={cache!r}: give a number of bytes, 0 for none, or a mapping.")
    return ChunkCache(cache) if cache else None


# Opening one file by its name imports none of the modules for other sources.


def _without_changes(target: Any) -> tuple[Any, Changes | None]:
    """Return the file of a rearranged file and its changes; other targets unchanged, and None."""
    if isinstance(target, _NAMES):
        return target, None
    from bfbridge.files.rearranged import Rearranged

    return (target.source, target.changes) if isinstance(target, Rearranged) else (target, None)


def _series_plan(target: Any, storage_options: Mapping[str, Any] | None) -> Plan | None:
    """Return the plan of a list of files or a pattern of names; None for anything else."""
    # A URI contains "{" as "%7B".
    if isinstance(target, _NAMES) and not {"{", "%"} & set(str(os.fspath(target))):
        return None
    from bfbridge.files.file_series import plan_series

    return plan_series(target, storage_options)


def _is_arrays(target: Any) -> TypeGuard[ArrayImages]:
    if isinstance(target, (*_NAMES, bytes, Source)):
        return False
    from bfbridge.files.array_images import ArrayImages

    return isinstance(target, ArrayImages)
