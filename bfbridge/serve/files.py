"""Open files: opened once for all requests, at most so many, again when they have changed."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final, TypeVar

import bfbridge
from bfbridge.engine.tiles import ChunkCache
from bfbridge.errors import BfbridgeError, FileChanged, UnreadableFile
from bfbridge.reader import BioReader
from bfbridge.rendering.contrast import Contrast
from bfbridge.rendering.plan import Drawing, plan_drawing
from bfbridge.runtime import forking
from bfbridge.serve.library import Library, Located, not_found
from bfbridge.serve.metrics import Metrics
from bfbridge.serve.options import ServeOptions
from bfbridge.serve.replies import Refused
from bfbridge.virtual.hierarchy import VirtualHierarchy

if TYPE_CHECKING:
    from bfbridge.views import ImageView
    from bfbridge.virtual.pyramid import VirtualImage

__all__ = ["SIDE", "OpenFiles", "ServedFile"]

T = TypeVar("T")
SIDE: Final = 512
"""Of virtual chunks."""
FRESH: Final = 1.0
"""Seconds for which the place and stamp of a file are not looked up again."""
_FAILED_SECONDS: Final = 30.0
_MOST_FAILED: Final = 1024
_MOST_OPENING: Final = 64
_MOST_DRAWINGS: Final = 256
_MOST_PLACES: Final = 4096


class ServedFile:
    """An open file and what replies are computed with. Thread-safe.

    Parameters
    ----------
    reader
        The file.
    name
        As messages and documents have it.
    compression
        Of Zarr chunks.

    Attributes
    ----------
    reader, name
        As given.
    version
        What tells the present content from an older one, in 32 hexadecimal digits.
    """

    def __init__(self, reader: BioReader, name: str, compression: Any = "none") -> None:
        self.reader = reader
        self.name = name
        stamp: Hashable = reader._file.stamp
        if reader._file.source.path is None:
            # A change of content cannot be noticed.
            stamp = secrets.token_hex(8)
        told = (bfbridge.__version__, stamp, reader.backend, str(compression))
        self.version = hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()
        self._compression = compression
        self._lock = forking.lock()
        self._hierarchies: dict[int, VirtualHierarchy] = {}
        self._drawings: OrderedDict[Hashable, Drawing] = OrderedDict()
        self._drawing_lock = forking.lock()

    def hierarchy(self, version: int = 3) -> VirtualHierarchy:
        """Return the file as an OME-Zarr store, of Zarr version 3 or 2."""
        with self._lock:
            found = self._hierarchies.get(version)
            if found is None:
                found = VirtualHierarchy(
                    self.reader.series[:],
                    version,  # type: ignore[arg-type]
                    self._compression,
                    SIDE,
                    self.reader._file.cache,
                )
                self._hierarchies[version] = found
            return found

    def view(self, series: int) -> ImageView:
        """Return an image at full size.

        Raises
        ------
        Refused
            404: there is none of this number.
        """
        if not 0 <= series < len(self.reader.series):
            raise Refused(404, f"there is no series {series}; it has {len(self.reader.series)}")
        return self.reader.series[series]

    def image(self, series: int) -> VirtualImage:
        """Return an image as a pyramid of exact halves.

        Raises
        ------
        Refused
            404: there is none of this number.
        """
        self.view(series)
        return self.hierarchy().image(series)

    def drawing(self, series: int, style: Any, channels: Any, z: int, t: int) -> Drawing:
        """Return what is drawn of a plane; measured once for equal arguments.

        Parameters
        ----------
        series
            Number of the image.
        style
            A parsed style, or None.
        channels
            Numbers or names, in a tuple, or None.
        z, t
            The plane.
        """
        key = (series, style, channels, z, t)
        found = self._drawings.get(key)
        if found is not None:
            return found
        # One at a time: others would measure the same pixels.
        with self._drawing_lock:
            found = self._drawings.get(key)
            if found is None:
                view = self.view(series)
                found = plan_drawing(view, Contrast(view), style, channels, z, t)
                self._drawings[key] = found
                while len(self._drawings) > _MOST_DRAWINGS:
                    self._drawings.popitem(last=False)
            return found


class OpenFiles:
    """The files that are open, the least recently used closed first. For one event loop.

    Parameters
    ----------
    library
        Where files are.
    options
        How they are opened, and how many.
    cache
        Of decoded chunks, for all files.
    pool
        Threads that open files: one that takes long does not keep others from being read.
    metrics
        Counts.
    """

    def __init__(
        self,
        library: Library,
        options: ServeOptions,
        cache: ChunkCache,
        pool: Executor,
        metrics: Metrics,
    ) -> None:
        self._library = library
        self._options = options
        self._cache = cache
        self._pool = pool
        self._metrics = metrics
        self._open: OrderedDict[str, tuple[Located, ServedFile]] = OrderedDict()
        self._opening: dict[str, asyncio.Task[ServedFile]] = {}
        self._failed: OrderedDict[str, tuple[Located, float, BfbridgeError]] = OrderedDict()
        self._places: OrderedDict[str, tuple[float, Located]] = OrderedDict()

    async def get(self, name: str) -> ServedFile:
        """Return an open file; equal requests wait for one opening.

        Raises
        ------
        Refused
            404: there is no such file. 503: too many are being opened.
        BfbridgeError
            It cannot be read.
        """
        located = await self.locate(name)
        known = self._open.get(name)
        if known is not None:
            if known[0].stamp == located.stamp:
                self._open.move_to_end(name)
                return known[1]
            self.forget(name)
        failed = self._failed.get(name)
        if failed is not None:
            if failed[0].stamp == located.stamp and time.monotonic() < failed[1]:
                raise failed[2]
            del self._failed[name]
        task = self._opening.get(name)
        if task is None:
            if len(self._opening) >= _MOST_OPENING:
                raise Refused(503, "too many files are being opened; try again", retry_after=2)
            task = asyncio.create_task(self._start(located))
            self._opening[name] = task
            task.add_done_callback(lambda _: self._opening.pop(name, None))
        return await asyncio.shield(task)

    def source_of(self, name: str) -> str | None:
        """Return the path or URL of a file that was asked for lately, as errors have it."""
        known = self._places.get(name)
        return None if known is None else known[1].source.name

    def forget(self, name: str) -> None:
        """Close a file once nobody uses it any more; the next request opens it again."""
        self._open.pop(name, None)
        self._places.pop(name, None)
        self._metrics.set("open_files", len(self._open))

    def close(self) -> None:
        """Close all files."""
        for _, served in self._open.values():
            served.reader.close()
        self._open.clear()

    async def ask(self, function: Callable[[str], T], name: str) -> T:
        """Return what a function of the library says of a name.

        It runs on a thread, as file systems on the network may take their time.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, name)
        except (UnicodeError, ValueError) as error:
            if isinstance(error, BfbridgeError):
                raise
            raise not_found() from None

    async def locate(self, name: str) -> Located:
        """Return where a file is, looked up at most once a second.

        Raises
        ------
        Refused
            404: there is no such file.
        """
        known = self._places.get(name)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        located = await self.ask(self._library.locate, name)
        self._places[name] = (time.monotonic() + FRESH, located)
        while len(self._places) > _MOST_PLACES:
            self._places.popitem(last=False)
        return located

    async def _start(self, located: Located) -> ServedFile:
        loop = asyncio.get_running_loop()
        try:
            served = await loop.run_in_executor(self._pool, self._open_now, located)
        except BfbridgeError as error:
            self._metrics.add("files_failed")
            if not isinstance(error, FileChanged):
                deadline = time.monotonic() + _FAILED_SECONDS
                self._failed[located.name] = (located, deadline, error)
                while len(self._failed) > _MOST_FAILED:
                    self._failed.popitem(last=False)
            raise
        self._metrics.add("files_opened")
        self._open[located.name] = (located, served)
        while len(self._open) > self._options.open_files:
            # Not closed here: requests may still read it. It is closed with its last reference.
            self._open.popitem(last=False)
        self._metrics.set("open_files", len(self._open))
        return served

    def _open_now(self, located: Located) -> ServedFile:
        try:
            reader = BioReader(
                located.source,
                limits=self._options.limits,
                cache=self._cache,
                isolated=True if self._options.isolated else None,
            )
            return ServedFile(reader, located.name, self._options.compression)
        except (BfbridgeError, MemoryError):
            raise
        except Exception as error:
            raise UnreadableFile(
                f"{located.source.name}: cannot be opened ({type(error).__name__})."
            ) from error
