"""Reading through Bio-Formats with Java in worker processes: a crash there is an error here.

The reader implements the same contract as `bfbridge_bioformats.reader.BioFormatsReader`, which runs
in the worker. This process does not start Java, so it can be forked, and its threads never wait for
Java while they hold Python's global lock.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from bfbridge.backend import Image, OpenOptions, ReaderBackend, Region
from bfbridge.errors import BadArgument, ReadFailed
from bfbridge.runtime.finalizers import finalize
from bfbridge_bioformats.isolation.workers import LEFT, Worker, WorkerGone, at_fork, workers
from bfbridge_bioformats.readers import document
from bfbridge_bioformats.readers.document import Modulo
from bfbridge_bioformats.readers.pool import ReaderPool
from bfbridge_bioformats.runtime.calls import Activity, Bounds, call
from bfbridge_bioformats.runtime.settings import shared_heap

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.storage.source import Source
    from bfbridge_bioformats.indexing.entry import Facts

__all__ = ["IsolatedReader"]

T = TypeVar("T")

# Bytes of pixels in one request, unless a single stored block is larger.
_PIECE = 64 << 20


class WorkerFile:
    """The file in one worker."""

    def __init__(self, worker: Worker, number: int, open_in: set[Worker]) -> None:
        self.worker = worker
        self.number = number
        self._open_in = open_in
        self._open = True

    def close(self) -> None:
        """Close the file there."""
        if self._open:
            self._open = False
            self._open_in.discard(self.worker)
            workers.leave(self.worker, self.number)


@dataclass
class Opening:
    """Arguments that open a file in any number of workers, and the workers that have it open.

    Attributes
    ----------
    source, options, folder
        The file, how it is opened in a worker, and the folder that its name is relative to.
    most, heap
        Maximum number of worker processes, and the Java heap of each.
    facts
        Images, series numbers and format, as found when the file was first opened.
    cost
        Seconds that opening took, including the start of a worker.
    open_in
        Workers that have the file open.
    """

    source: Source
    options: OpenOptions
    folder: str
    most: int
    heap: int
    facts: tuple[Any, ...] | None = None
    cost: float = 0.0
    open_in: set[Worker] = field(default_factory=set)

    def make(self) -> WorkerFile:
        """Open the file in a worker that does not have it open.

        Raises
        ------
        ReadFailed
            The worker died while opening, or the file has changed.
        """
        while True:
            with contextlib.suppress(WorkerGone):
                return self._make()

    def _make(self) -> WorkerFile:
        begun = time.monotonic()
        worker = workers.join(self.open_in, self.most, self.heap)
        # Another worker would have to be started, even if this one was already running.
        saved = worker.start_seconds if worker.users > 1 else 0.0
        number = None
        try:
            number, *facts = worker.ask(
                f"{self.source.name}: opening it", "open", self.source, self.options, self.folder
            )
            if self.facts is not None and self.facts != tuple(facts):
                raise ReadFailed(
                    f"{self.source.name}: the file has changed since it was opened: its images "
                    "have other sizes or types now. Open it again."
                )
        except BaseException:
            workers.leave(worker, number)
            raise
        self.facts = tuple(facts)
        self.cost = time.monotonic() - begun + saved
        self.open_in.add(worker)
        return WorkerFile(worker, number, self.open_in)

    def pool(self, first: WorkerFile | None) -> ReaderPool[WorkerFile]:
        """Return a pool of open files, with `first` as its first."""
        return ReaderPool(self.make, first, self.cost, self.most, self.source.name, lambda: True)


class _IsolatedState:
    """State that is released with a reader, and created again in a forked child."""

    def __init__(self, opening: Opening, first: WorkerFile | None) -> None:
        self.opening = opening
        self.pool = opening.pool(first)

    def renew(self) -> None:
        """Forget the parent's workers."""
        closed = self.pool.closed
        self.opening = replace(self.opening, open_in=set())
        self.pool = self.opening.pool(None)
        if closed:
            self.pool.close()

    def close(self) -> None:
        """Close the file in all workers."""
        self.pool.close()


_states: weakref.WeakSet[_IsolatedState] = weakref.WeakSet()


def _renew_all() -> None:
    for state in list(_states):
        state.renew()


at_fork(_renew_all)


class IsolatedReader(ReaderBackend):
    """An open file, read by Java in worker processes. See `bfbridge.backend.ReaderBackend`.

    There are up to ``options.max_workers`` processes, started when needed. Java may use
    ``BFBRIDGE_HEAP`` in each, or by default an equal share of half of the memory.
    """

    name: ClassVar[str] = "bioformats"

    def __init__(self, opening: Opening, first: WorkerFile, bounds: Bounds) -> None:
        self._bounds = bounds
        self._name = opening.source.name
        images, series, format_ = opening.facts or ()
        self._images: tuple[Image, ...] = images
        self.series: Sequence[int] = series
        self.format: str = format_
        self._known: dict[str, Any] = {}
        self._state = _IsolatedState(opening, first)
        _states.add(self._state)
        # At exit `workers` ends all of them, and handles that case.
        finalize(self, self._state.close)

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> IsolatedReader:
        """Open a file in a worker process.

        Raises
        ------
        ReadFailed
            The worker died while it opened the file.
        BadArgument
            An open file cannot be read by another process.
        TookTooLong
            It took longer than `options.timeout`.
        BfbridgeError
            As without isolation.
        """
        if source.file is not None:
            raise BadArgument(
                f"{source.name}: an open file cannot be read by a worker process. Give a path, a "
                "URL or bytes, or read without isolated=True."
            )
        most, heap = shared_heap(options.max_workers)
        # This process enforces the timeout.
        there = replace(options, isolated=False, max_workers=1, timeout=None)
        bounds = Bounds(Activity(), timeout=options.timeout, left=LEFT)
        opening = Opening(source, there, os.getcwd(), most, heap)
        first = call(opening.make, source.name, "opening it", bounds)
        return cls(opening, first, bounds)

    @property
    def images(self) -> Sequence[Image]:
        """Every image; series in Bio-Formats' order, label, macro and thumbnails last."""
        return self._images

    @property
    def processes(self) -> Sequence[int]:
        """Numbers of the worker processes that have the file open now."""
        return sorted(
            worker.pid for worker in list(self._state.opening.open_in) if worker.is_alive()
        )

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region. Thread-safe.

        Raises
        ------
        ReadFailed
            Java cannot decode it, or the worker process died; the next read starts a new one.
        TookTooLong
            It took longer than a timeout, or than `Limits.idle_seconds` without reading anything;
            the worker process has ended.
        OutOfMemory
            The heap of Java in the worker is too small.
        Closed
            After `close`.
        """
        for piece in _pieces(region, self._images[region.image]):
            where = tuple(
                slice(start - origin, stop - origin)
                for start, stop, origin in zip(piece.start, piece.stop, region.start, strict=True)
            )
            purpose = f"{self._name}: {piece}"
            self._call(purpose, piece, partial(_read, purpose, piece, out[where]))

    def _call(self, purpose: str, what: object, use: Callable[[WorkerFile], T]) -> T:
        return call(partial(self._do, purpose, use), self._name, what, self._bounds)

    def _do(self, purpose: str, use: Callable[[WorkerFile], T]) -> T:
        """Return what `use` does with the file in a running worker."""
        while True:
            place = self._take(purpose)
            try:
                return use(place)
            except WorkerGone:
                continue
            finally:
                if place.worker.is_alive():
                    self._state.pool.give(place)
                else:
                    self._state.pool.discard(place)

    def _take(self, purpose: str) -> WorkerFile:
        while True:
            place = self._state.pool.take()
            if place.worker.is_alive():
                return place
            try:
                # Only one read reports it: other files of the worker are opened again.
                place.worker.report_death(purpose)
            finally:
                # Ends the worker if no other file is open in it; nothing is reported after that.
                self._state.pool.discard(place)

    def _ask(self, name: str, *arguments: Any) -> Any:
        purpose = f"{self._name}: {name}"
        return self._call(
            purpose,
            name,
            lambda place: place.worker.ask(purpose, "ask", place.number, name, arguments),
        )

    def _ask_once(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._ask(name)
        return self._known[name]

    def facts(self) -> Facts | None:
        """Return what the index keeps of this file, once; None if it cannot be kept."""
        found: Facts | None = self._ask("facts")
        return found

    def ome_xml(self) -> str | None:
        """Return the OME-XML of Bio-Formats' metadata store; None if it has none."""
        xml: str | None = self._ask_once("ome_xml")
        return xml

    def ome(self) -> OME:
        """Return all images' metadata, in the order of `images`."""
        return document.ome_document(self.ome_xml(), self.images, self.series)

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        """The format's own metadata; keys contain the series number if there are several series."""
        found: Mapping[str, Any] = self._ask_once("original_metadata")
        return found

    @property
    def used_files(self) -> Sequence[str]:
        """Every file of this data set; the opened file is first."""
        found: Sequence[str] = self._ask_once("used_files")
        return found

    def modulo(self, image: int) -> Mapping[str, Modulo]:
        """Axes ("Z", "C", "T") of an image that contain another axis, with its description."""
        found: Mapping[str, Modulo] = self._ask("modulo", image)
        return found

    def lookup_table(self, image: int, channel: int = 0) -> np.ndarray[Any, Any] | None:
        """Return the colours of an indexed image: 3 x 256 uint8 or 3 x 65536 uint16, or None."""
        found: np.ndarray[Any, Any] | None = self._ask("lookup_table", image, channel)
        return found

    def close(self) -> None:
        """Close the file in all workers; workers without other files end."""
        call(self._state.close, self._name, "closing it")


def _read(purpose: str, region: Region, out: np.ndarray[Any, Any], place: WorkerFile) -> None:
    place.worker.read(purpose, place.number, region, out)


def _pieces(region: Region, image: Image) -> Iterator[Region]:
    """Split a region that is too large for one request: at planes, then at stored blocks."""
    size = image.dtype.itemsize
    t, c, z, height, width = region.shape
    if t * c * z * height * width * size <= _PIECE:
        yield region
        return
    chunk = image.levels[region.level].chunk
    pixel = size * image.samples
    columns = max(_PIECE // (chunk[3] * pixel), 1)
    rows = max(_PIECE // (min(columns, width) * pixel), 1)
    cuts = [
        _cuts(region.start[axis], region.stop[axis], step, align)
        for axis, step, align in (
            (0, 1, 1),
            (1, image.samples, image.samples),
            (2, 1, 1),
            (3, rows, chunk[3]),
            (4, columns, chunk[4]),
        )
    ]
    for t0, t1 in cuts[0]:
        for c0, c1 in cuts[1]:
            for z0, z1 in cuts[2]:
                for y0, y1 in cuts[3]:
                    for x0, x1 in cuts[4]:
                        start, stop = (t0, c0, z0, y0, x0), (t1, c1, z1, y1, x1)
                        yield Region(region.image, region.level, start, stop)


def _cuts(start: int, stop: int, step: int, align: int) -> list[tuple[int, int]]:
    """Split a range into steps that end at multiples of `align`, with at least one step."""
    step = max(step // align, 1) * align
    inner = range(start - start % align + step, stop, step)
    edges = [start, *inner, stop]
    return list(itertools.pairwise(edges))
