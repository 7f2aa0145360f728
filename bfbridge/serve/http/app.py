"""The aiohttp application, assembled from the parts of the server; for one event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.engine.workers import worker_count
from bfbridge.serve.files.library import Library
from bfbridge.serve.files.open_files import OpenFiles
from bfbridge.serve.http.delivery import Delivery
from bfbridge.serve.http.gate import Gate
from bfbridge.serve.http.handlers import Handlers
from bfbridge.serve.http.scheduler import Scheduler
from bfbridge.serve.metrics import Metrics
from bfbridge.serve.options import ServeOptions

__all__ = ["FILES", "GATE", "LIBRARY", "make_app"]

FILES: web.AppKey[OpenFiles] = web.AppKey("files", OpenFiles)
GATE: web.AppKey[Gate] = web.AppKey("gate", Gate)
LIBRARY: web.AppKey[Library] = web.AppKey("library", Library)
_OPENERS = 4
"""Number of files that are opened at the same time."""


def make_app(options: ServeOptions, metrics: Metrics | None = None) -> web.Application:
    """Return the aiohttp application of the server.

    Parameters
    ----------
    options
        Options of the server.
    metrics
        Counters that worker processes share. Default: counters of this process.

    Raises
    ------
    FileMissing
        A path that should be served does not exist.
    BadArgument
        A URL that names several images.
    """
    metrics = Metrics() if metrics is None else metrics
    library = Library(options.sources, options.storage_options)
    threads = worker_count(None, waits=library.waits)
    # Separate pools: shared ones may be busy, and these end with the server.
    readers = ThreadPoolExecutor(threads, thread_name_prefix="bfbridge-serve")
    openers = ThreadPoolExecutor(_OPENERS, thread_name_prefix="bfbridge-open")
    cache = ChunkCache(options.cache_bytes)
    files = OpenFiles(library, options, cache, openers, metrics)
    scheduler = Scheduler(readers, threads, options.queue, metrics)
    delivery = Delivery(options, metrics, files, scheduler, cache)
    gate = Gate(options, metrics)

    async def lifetime(app: web.Application) -> AsyncIterator[None]:
        del app
        yield
        for pool in (openers, readers):
            # Running work is not interrupted, because it may take long.
            pool.shutdown(wait=False, cancel_futures=True)
        files.close()

    app = web.Application(middlewares=[gate.middleware])
    app[FILES], app[GATE], app[LIBRARY] = files, gate, library
    app.cleanup_ctx.append(lifetime)
    if options.extend is not None:
        options.extend(app, options)
    Handlers(options, library, delivery, metrics).add_to(app)
    return app
