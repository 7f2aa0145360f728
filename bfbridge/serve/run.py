"""Starts and stops servers: one process, or several that share a port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import socket
import time
from collections.abc import Callable, MutableSequence
from typing import Any, Final

from aiohttp import web

from bfbridge.errors import BadArgument, BfbridgeError
from bfbridge.serve.files.library import Library
from bfbridge.serve.http.app import GATE, make_app
from bfbridge.serve.metrics import CELLS, Metrics
from bfbridge.serve.options import ServeOptions

__all__ = ["listen", "run_server", "serve_on", "url_of"]

log = logging.getLogger("bfbridge.serve")
_BACKLOG: Final = 1024
_GRACE: Final = 2.5
"""Seconds for the completion of running requests when the server is stopped.

aiohttp waits twice as long for a request that does not end. A computation that ends later, such as
the levels of a very large image, stops at its next read, because its file is closed.
"""
_LINE: Final = 32_768
"""Longest request line and header, in bytes: styles are part of URLs."""
_SOONEST: Final = 1.0
"""Shortest time in seconds between two starts of a worker that exits."""


def listen(options: ServeOptions) -> socket.socket:
    """Return a socket that listens.

    Raises
    ------
    BadArgument
        The address is not one of this machine, or the port is in use or not permitted.
    """
    try:
        found = socket.getaddrinfo(
            options.host or None, options.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        raise BadArgument(
            f"cannot listen on {options.host} port {options.port}: {error.strerror or error}. "
            "Choose another --port (0 is any free one) or --host."
        ) from error
    listening.setblocking(False)
    return listening


def url_of(options: ServeOptions, listening: socket.socket) -> str:
    """Return the URL of the index page."""
    host = options.host
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared with, not bound to
        host = "127.0.0.1" if listening.family == socket.AF_INET else "::1"
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}{options.prefix}/"


async def serve_on(
    listening: socket.socket,
    options: ServeOptions,
    stop: asyncio.Event,
    metrics: Metrics | None = None,
    started: Callable[[], object] = lambda: None,
) -> None:
    """Handle requests until `stop` is set, then complete those that are running.

    Parameters
    ----------
    listening
        The listening socket.
    options
        Options of the server.
    stop
        Stops the server when it is set.
    metrics
        As for `make_app`.
    started
        Called when requests are accepted.
    """
    app = make_app(options, metrics)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=_GRACE,
        keepalive_timeout=75.0,
        max_line_size=_LINE,
        max_field_size=_LINE,
    )
    await runner.setup()

    def connections() -> list[asyncio.Transport]:
        handlers = [] if runner.server is None else runner.server.connections
        return [handler.transport for handler in handlers if handler.transport is not None]

    idle = asyncio.create_task(app[GATE].close_idle(connections))
    try:
        await web.SockSite(runner, listening).start()
        started()
        await stop.wait()
    finally:
        idle.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await idle
        await runner.cleanup()


def run_server(options: ServeOptions, started: Callable[[str], object] = lambda url: None) -> None:
    """Serve until SIGINT or SIGTERM.

    Parameters
    ----------
    options
        Options of the server.
    started
        Called with the URL of the index page when connections are accepted.

    Raises
    ------
    BfbridgeError
        A source is missing, or the port cannot be used.
    """
    # Sources are checked before any process starts, so that the user gets the error.
    Library(options.sources, options.storage_options)
    listening = listen(options)
    with listening:
        url = url_of(options, listening)
        if options.workers == 1:
            asyncio.run(_until_signalled(listening, options, None, lambda: started(url)))
        else:
            _run_workers(listening, options, lambda: started(url))


async def _until_signalled(
    listening: socket.socket,
    options: ServeOptions,
    metrics: Metrics | None,
    started: Callable[[], object],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stop.set)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    await serve_on(listening, options, stop, metrics, started)


# ---- worker processes


def _worker(
    listening: socket.socket,
    options: ServeOptions,
    cells: MutableSequence[float],
    number: int,
    lines: bool,
) -> None:
    if lines:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        asyncio.run(_until_signalled(listening, options, Metrics(cells, number), lambda: None))
    except BfbridgeError as error:
        log.error("worker %d: %s", number, error)
        raise SystemExit(1) from error


def _run_workers(
    listening: socket.socket, options: ServeOptions, started: Callable[[], object]
) -> None:
    """Start the workers, restart those that exit, and stop all on a signal."""
    # A forked process cannot use Java or the threads of its parent.
    context = multiprocessing.get_context("spawn")
    cells = context.RawArray("d", [0.0] * (CELLS * options.workers))
    stopping: list[int] = []
    lines = access_is_logged()

    def begin(number: int) -> Any:
        process = context.Process(
            target=_worker,
            args=(listening, options, cells, number, lines),
            name=f"bfbridge-serve-{number}",
        )
        process.start()
        return process

    before = {
        number: signal.signal(number, lambda received, _: stopping.append(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    workers = [(begin(number), time.monotonic()) for number in range(options.workers)]
    try:
        started()
        while not stopping:
            time.sleep(0.2)
            for number, (process, since) in enumerate(workers):
                if process.is_alive() or time.monotonic() - since < _SOONEST:
                    continue
                log.warning("worker %d ended with code %s", number, process.exitcode)
                workers[number] = (begin(number), time.monotonic())
    finally:
        for process, _ in workers:
            process.terminate()
        deadline = time.monotonic() + 2 * _GRACE + 5
        for process, _ in workers:
            process.join(max(0.1, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        for number, handler in before.items():
            signal.signal(number, handler)


def access_is_logged() -> bool:
    """Whether this process shows the access log."""
    return logging.getLogger("bfbridge.serve.access").isEnabledFor(logging.INFO)
