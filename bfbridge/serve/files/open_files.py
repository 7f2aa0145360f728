"""The open files of a server: each is opened once, and again after it has changed."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final, TypeVar

from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.errors import BfbridgeError, FileChanged, UnreadableFile
from bfbridge.reader import BioReader
from bfbridge.serve.files.library import Library, Located, not_found
from bfbridge.serve.files.served_file import ServedFile
from bfbridge.serve.metrics import Metrics
from bfbridge.serve.options import ServeOptions
from bfbridge.serve.replies import Refused

if TYPE_CHECKING:
    pass

__all__ = ["OpenFiles"]

T = TypeVar("T")
FRESH: Final = 1.0
"""Seconds for which the location and stamp of a file are reused."""
_FAILED_SECONDS: Final = 30.0
_MOST_FAILED: Final = 1024
_MOST_OPENING: Final = 64
_MOST_PLACES: Final = 4096


class OpenFiles:
    """Open files; beyond a limit, the least recently used is closed. For one event loop.

    Parameters
    ----------
    library
        Maps names to files.
    options
        How files are opened, and how many stay open.
    cache
        The cache of decoded chunks that all files share.
    pool
        Threads that open files; they are separate, so that reads do not wait for them.
    metrics
        The counters.
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
        """Return an open file; requests for the same file wait until it is opened once.

        Raises
        ------
        Refused
            404: there is no such file. 503: too many are being opened.
        BfbridgeError
            The file cannot be read.
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
        """Return the path or URL of a recently requested file in the form that errors contain."""
        known = self._places.get(name)
        return None if known is None else known[1].source.name

    def forget(self, name: str) -> None:
        """Close a file after its last use; the next request opens it again."""
        self._open.pop(name, None)
        self._places.pop(name, None)
        self._metrics.set("open_files", len(self._open))

    def close(self) -> None:
        """Close all files."""
        for _, served in self._open.values():
            served.reader.close()
        self._open.clear()

    async def ask(self, function: Callable[[str], T], name: str) -> T:
        """Call a function of the library with a name in a thread, and return its result.

        File systems on the network may be slow.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, function, name)
        except (UnicodeError, ValueError) as error:
            if isinstance(error, BfbridgeError):
                raise
            raise not_found() from None

    async def locate(self, name: str) -> Located:
        """Return the location of a file, looked up at most once a second.

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
            # It is not closed here, because requests may read it. The last reference closes it.
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
                index=True if self._options.index else None,
            )
            return ServedFile(reader, located.name, self._options.compression)
        except (BfbridgeError, MemoryError):
            raise
        except Exception as error:
            raise UnreadableFile(
                f"{located.source.name}: cannot be opened ({type(error).__name__})."
            ) from error
