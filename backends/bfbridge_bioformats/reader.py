"""The Bio-Formats reader: about 170 formats, read in parallel through Java."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from bfbridge.backend import Image, OpenOptions, ReaderBackend, Region
from bfbridge.errors import BfbridgeError, FileMissing, Unsupported
from bfbridge.reader_base import plane_parts
from bfbridge.runtime import forking
from bfbridge.runtime.finalizers import finalize
from bfbridge_bioformats.files.cellsens import check_all_stacks
from bfbridge_bioformats.files.companions import check_named_files
from bfbridge_bioformats.files.synthetic import check_synthetic
from bfbridge_bioformats.files.truncation import check_length
from bfbridge_bioformats.files.virtual_files import (
    PACKED,
    Files,
    LocalFiles,
    Lookups,
    MappedFiles,
    seen_by_java,
)
from bfbridge_bioformats.readers import document
from bfbridge_bioformats.readers.document import Modulo
from bfbridge_bioformats.readers.failures import open_failure, read_failure
from bfbridge_bioformats.readers.opening import Recipe, check_file, recipe_for
from bfbridge_bioformats.readers.pixels import JAVA_ARRAY_LIMIT, samples_first
from bfbridge_bioformats.readers.pool import JavaReader, ReaderPool
from bfbridge_bioformats.readers.records import SeriesImage, describe, images_from
from bfbridge_bioformats.runtime.calls import Activity, Bounds, call, check_wanted
from bfbridge_bioformats.runtime.machine import machine

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import Source
    from bfbridge_bioformats.files.archives import Package
    from bfbridge_bioformats.indexing.entry import Facts

__all__ = ["BioFormatsReader"]

T = TypeVar("T")

_LEFT = "Its thread continues in Java and cannot be ended; use isolated=True or timeout= to end it."
# One call of openBytes uses at most this share of Java's heap: decoders need memory too.
_HEAP_SHARE = 8
_SMALLEST_PIECE = 16 << 20
# Of files with more images, reading the original metadata takes seconds.
_MOST_WITH_ORIGINAL = 256


class BioFormatsReader(ReaderBackend):
    """An open file, read through Bio-Formats. See `bfbridge.backend.ReaderBackend`."""

    name: ClassVar[str] = "bioformats"

    def __init__(
        self,
        name: str,
        entries: Sequence[SeriesImage],
        pool: ReaderPool[JavaReader],
        files: Files,
        store: Any,
        format_: str,
        bounds: Bounds,
    ) -> None:
        self._name = name
        self._bounds = bounds
        self._entries = entries
        # Made once: views use it often, and files may have thousands of series.
        self._images = tuple(entry.image for entry in entries)
        self._pool = pool
        self._files = files
        self._store = store
        self._store_lock = forking.lock()
        self._xml: str | None = None
        self._xml_made = False
        self._used: tuple[str, ...] | None = None
        self._original: dict[str, Any] | None = None
        self._trace: _Trace | None = None
        self.format = format_
        machine.close_at_exit(self)
        # A reader that is deleted without close() releases its file as well.
        close = partial(_close, pool, files)
        self._finalizer = finalize(self, call, close, name, "closing it")

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        """Open a file with the first Bio-Formats reader that recognises it.

        With ``options.isolated`` Java runs in worker processes, and so does this reader.

        Raises
        ------
        FileMissing, UnreadableFile, Unsupported
            There is no such file, or no reader of Bio-Formats opens it.
        BadArgument
            `options.backend_options` contains a name that is unknown to all readers.
        OutOfMemory
            Java's heap is too small to open it.
        ReadFailed
            The worker process died while opening; only with isolation.
        TookTooLong
            It took longer than `options.timeout`, or than `Limits.idle_seconds` without reading.
        """
        if options.index and source.path is not None:
            from bfbridge_bioformats.indexing.reader import open_indexed

            return open_indexed(source, source.path, options, cls._open_with_java)
        return cls._open_with_java(source, options)

    @classmethod
    def _open_with_java(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        if options.isolated:
            from bfbridge_bioformats.isolation.isolated import IsolatedReader

            return IsolatedReader.open(source, options)
        return cls.open_here(source, options)

    @classmethod
    def open_here(cls, source: Source, options: OpenOptions, left: str = _LEFT) -> BioFormatsReader:
        """Open a file with Java in this process.

        Parameters
        ----------
        source, options
            The file, and how to open it.
        left
            What happens to work that takes too long, for messages.
        """
        bounds = Bounds(Activity(), options.limits.idle_seconds, options.timeout, left)
        action = partial(cls._open_source, source, options, bounds)
        return call(action, source.name, "opening it", bounds)

    @classmethod
    def _open_source(cls, source: Source, options: OpenOptions, bounds: Bounds) -> BioFormatsReader:
        if source.path is not None:
            check_file(source.path)
        package = _package(source, options)
        try:
            main = source if package is None else package.main
            check_synthetic(main, options.limits)
            names: list[str] = []
            if main.path is None or main.path.exists():
                names = _named_files(main, options, packed=package is not None)
                check_length(main, options.limits)
            with machine.attached():
                bounds.activity.note()
                machine.follow_log_level()
                files: Files
                if main.is_local and seen_by_java(main):
                    files = LocalFiles(main, options, bounds.activity)
                else:
                    files = MappedFiles(main, names, options, bounds.activity, package)
                return cls._open_files(main, files, options, bounds)
        except BaseException:
            if package is not None:
                package.close()
            raise

    @classmethod
    def _open_files(
        cls, source: Source, files: Files, options: OpenOptions, bounds: Bounds
    ) -> BioFormatsReader:
        try:
            return cls._open(source, files, options, bounds)
        except BaseException as error:
            files.close()
            if isinstance(error, BfbridgeError) or not isinstance(error, Exception):
                raise
            raise open_failure(error, source) from error

    @classmethod
    def _open(
        cls, source: Source, files: Files, options: OpenOptions, bounds: Bounds
    ) -> BioFormatsReader:
        recipe, store, first, cost = _first_reader(files, options)
        java = first.java
        try:
            with files.using(first.table):
                described = describe(java, store, source.name, options.limits)
                entries = images_from(described, source.name, options.limits)
            format_ = str(java.getFormat())
            trace = _trace_of(described, files, first) if options.index else None
        except BaseException:
            java.close()
            raise
        pool = ReaderPool(
            lambda: _another(recipe, source), first, cost, options.max_workers, source.name
        )
        reader = cls(source.name, entries, pool, files, store, format_, bounds)
        reader._trace = trace
        return reader

    @property
    def images(self) -> Sequence[Image]:
        """Every image; series in Bio-Formats' order, label, macro and thumbnails last."""
        return self._images

    @property
    def series(self) -> Sequence[int]:
        """Bio-Formats' series number of each of `images`."""
        return [entry.series for entry in self._entries]

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region, decoded by openBytes. Thread-safe.

        Raises
        ------
        ReadFailed
            Java cannot decode the pixels.
        OutOfMemory
            Java's heap is too small; smaller regions can still be read.
        TookTooLong
            It took longer than a timeout, or than `Limits.idle_seconds` without reading anything.
        Closed
            After `close`.
        """
        try:
            call(partial(self._fill, region, out), self._name, region, self._bounds)
        except BfbridgeError:
            raise
        except Exception as error:
            raise read_failure(error, self._name, str(region)) from error

    def _call(self, action: Callable[[], T], what: object = "metadata") -> T:
        try:
            return call(action, self._name, what, self._bounds)
        except BfbridgeError:
            raise
        except Exception as error:
            raise read_failure(error, self._name, str(what)) from error

    def _fill(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` plane by plane, in blocks that fit into a Java array."""
        entry = self._entries[region.image]
        layout = entry.layouts[region.level]
        pixel = layout.samples * layout.dtype.itemsize
        blocks = self._blocks(entry, region)
        with self._pooled_reader() as reader:
            reader.go_to(entry.series, region.level)
            for part in plane_parts(region, out, layout.samples):
                plane = entry.plane(region.level, part.z, part.channel, part.t)
                row = -1
                for y, x, height, width in blocks:
                    if y != row:
                        row = y
                        self._pool.check_open()
                        check_wanted()
                    self._bounds.activity.note()
                    raw = reader.open_bytes(
                        plane, region.start[4] + x, region.start[3] + y, width, height,
                        width * height * pixel,
                    )  # fmt: skip
                    block = samples_first(raw, layout, height, width)[part.samples]
                    part.pixels[:, y : y + height, x : x + width] = block

    def _blocks(self, entry: SeriesImage, region: Region) -> list[tuple[int, int, int, int]]:
        """Return the blocks of one plane of a region: row, column, height, width."""
        size_y, size_x = region.shape[3:]
        layout = entry.layouts[region.level]
        pixel = layout.samples * layout.dtype.itemsize
        step_x = max(min(size_x, _piece_bytes() // pixel), 1)
        step_y = max(_piece_bytes() // (pixel * step_x), 1)
        stored = entry.image.levels[region.level].chunk[3]
        if step_y > stored:
            step_y -= step_y % stored
        return [
            (y, x, min(step_y, size_y - y), min(step_x, size_x - x))
            for y in range(0, size_y, step_y)
            for x in range(0, size_x, step_x)
        ]

    def ome_xml(self) -> str | None:
        """Return the OME-XML of Bio-Formats' metadata store; None if it has none.

        Some files contain text that is invalid in XML (NIfTI, Analyze, IMOD): use `ome` for them.
        """
        self._pool.check_open()
        return self._call(self._make_xml)

    def _make_xml(self) -> str | None:
        with self._store_lock:
            if not self._xml_made:
                with machine.attached():
                    self._xml = document.xml_of(self._store)
                self._xml_made = True
            return self._xml

    def ome(self) -> OME:
        """Return all images' metadata, in the order of `images`."""
        return document.ome_document(self.ome_xml(), self.images, self.series)

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """The format's own metadata; keys contain the series number if there are several series."""
        if self._original is None:
            self._original = self._call(partial(self._ask, document.original_metadata))
        return self._original

    @property
    def used_files(self) -> Sequence[str]:
        """Every file of this data set; the opened file is first."""
        if self._used is None:
            names = self._call(partial(self._ask, _used_names))
            self._used = tuple(dict.fromkeys(self._files.shown(name) for name in names))
        return self._used

    def modulo(self, image: int) -> Mapping[str, Modulo]:
        """Axes ("Z", "C", "T") of an image that contain another axis, with its description."""
        series = self._entries[image].series
        return self._call(partial(self._ask, lambda reader: document.modulo(reader, series)))

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return the colours of an indexed image: 3 x 256 uint8 or 3 x 65536 uint16, or None."""
        entry = self._entries[image]
        plane = entry.plane(0, 0, channel, 0)
        look = partial(document.lookup_table, series=entry.series, plane=plane)
        return self._call(partial(self._ask, look))

    def facts(self) -> Facts | None:
        """Return what the index keeps of this file, once; None if it cannot be kept."""
        trace, self._trace = self._trace, None
        if trace is None:
            return None
        from bfbridge_bioformats.indexing.entry import Facts

        few = len(self._entries) <= _MOST_WITH_ORIGINAL
        return Facts(
            format=self.format,
            described=trace.described,
            xml=self.ome_xml(),
            original=self.original_metadata if few else None,
            modulo={
                number: self.modulo(number)
                for number, entry in enumerate(self._entries)
                if entry.series in trace.with_modulo
            },
            used=self.used_files,
            looked_up=trace.lookups.names,
            tree=trace.lookups.tree,
        )

    def _ask(self, question: Callable[[JavaReader], T]) -> T:
        with self._pooled_reader() as reader:
            return question(reader)

    @contextlib.contextmanager
    def _pooled_reader(self) -> Iterator[JavaReader]:
        """Yield a reader for use by this thread."""
        with machine.attached():
            reader = self._pool.take()
            try:
                with self._files.using(reader.table):
                    yield reader
            except BaseException:
                self._pool.discard(reader)
                raise
            self._pool.give(reader)

    def close(self) -> None:
        """Close all Java readers; those in use are closed after their current read."""
        self._finalizer.detach()
        call(partial(_close, self._pool, self._files), self._name, "closing it")
        self._store = None


class _Trace(NamedTuple):
    """What is known only while a file is opened, for `BioFormatsReader.facts`.

    Attributes
    ----------
    described
        Java's description of each series.
    with_modulo
        Numbers of the series with further axes.
    lookups
        What Java looked up.
    """

    described: list[dict[str, Any]]
    with_modulo: frozenset[int]
    lookups: Lookups


def _trace_of(described: list[dict[str, Any]], files: Files, first: JavaReader) -> _Trace | None:
    """Return the trace of opening a file on disk; None for others."""
    lookups = files.take_lookups(first.table)
    # Bio-Formats of a Java that another library started need not be the one in the index.
    if lookups is None or machine.adopted:
        return None
    with files.using(first.table):
        found = machine.type("bfbridge.Store").seriesWithModulo(first.java)
    return _Trace(described, frozenset(map(int, found)), lookups)


def _package(source: Source, options: OpenOptions) -> Package | None:
    if not source.filename.lower().endswith(PACKED):
        return None
    from bfbridge_bioformats.files.archives import find_package

    return find_package(source, options.limits)


def _named_files(source: Source, options: OpenOptions, *, packed: bool) -> list[str]:
    try:
        return check_named_files(source, options)
    except FileMissing:
        # A companion: bytes have no folder, but a decompressed file may have siblings.
        if packed:
            return []
        raise


def _first_reader(files: Files, options: OpenOptions) -> tuple[Recipe, Any, JavaReader, float]:
    """Open the first reader, with its metadata store and the mapped files that it needs."""
    limits = options.limits
    files.correct_files([files.main_id], limits)
    while True:
        store = machine.type("bfbridge.Store")(limits.images, limits.channels, limits.planes)
        table = files.table()
        recipe = recipe_for(files, options, table)
        try:
            reader, cost = recipe.make(store, table)
        except machine.type("java.lang.Throwable") as error:
            if isinstance(error, machine.type("java.lang.Error")):
                # Another file does not help against these errors.
                raise
            if files.find_missing(str(error)) or files.to_disk():
                continue
            raise
        try:
            again = _correct_others(files, reader, options)
        except BaseException:
            reader.close()
            raise
        if not again:
            return recipe, store, reader, cost
        reader.java.close()
        files.release(table)


def _correct_others(files: Files, reader: JavaReader, options: OpenOptions) -> bool:
    """Check the other files of a data set; return whether it must be opened again."""
    with files.using(reader.table):
        misread = machine.type("bfbridge.Misread").why(reader.java)
        if misread is not None:
            raise Unsupported(
                f"{files.name}: {machine.text(misread)}. Convert it with other software."
            )
        files.check_used(reader.java)
        check_all_stacks(reader.java, files.name, options)
        is_dicom = str(reader.java.getClass().getSimpleName()) == "DicomReader"
        used = [str(file) for file in reader.java.getUsedFiles()] if is_dicom else []
    return files.correct_files(used, options.limits)


def _another(recipe: Recipe, source: Source) -> JavaReader:
    try:
        return recipe.make()[0]
    except BfbridgeError:
        raise
    except Exception as error:
        raise open_failure(error, source) from error


def _used_names(reader: JavaReader) -> list[str]:
    files = [str(file) for file in reader.java.getUsedFiles()]
    main = str(reader.java.getCurrentFile())
    return [main, *files] if main in files else files


def _close(pool: ReaderPool[JavaReader], files: Files) -> None:
    if machine.started:
        with machine.attached():
            pool.close()
            machine.collect_if_grown()
    files.close()


def _piece_bytes() -> int:
    share = max(machine.max_memory() // _HEAP_SHARE, _SMALLEST_PIECE)
    return min(share, JAVA_ARRAY_LIMIT)
