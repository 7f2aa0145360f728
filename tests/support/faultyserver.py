"""A web server whose replies fail as requested: statuses, cut and slow bodies, redirects."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from tests.support.webserver import FileHandler, running

__all__ = ["Faulty", "serve_faulty"]

Fault = Callable[["Faulty", str, int], str | int | None]


class Faulty:
    """A running server.

    Attributes
    ----------
    url
        Of the folder, without a slash at the end.
    fault
        Called with (server, path, number of earlier requests of this path). It returns a status to
        send, "cut" (half of the body, then the end of the connection), "slow" (the body in pieces
        with pauses), or None for the proper reply.
    retry_after
        Value of the header of that name in replies with a status.
    requests
        How many requests there were.
    sent
        Bytes of bodies that were sent.
    seen
        Number of requests of each path.
    """

    def __init__(self, fault: Fault, retry_after: str | None) -> None:
        self.url = ""
        self.fault = fault
        self.retry_after = retry_after
        self.requests = self.sent = 0
        self.seen: Counter[str] = Counter()
        self.lock = threading.Lock()


class _Handler(FileHandler):
    state: Faulty
    folder: Path

    def answer(self, *, body: bool) -> None:
        state, name = self.state, unquote(self.path)
        with state.lock:
            number = state.seen[name]
            state.seen[name] += 1
            state.requests += 1
        if name.startswith("/moved/"):
            self.send_status(302, {"Location": self.path.removeprefix("/moved")})
            return
        fault = state.fault(state, name, number)
        path = self.folder / name.lstrip("/")
        if isinstance(fault, int):
            after = {} if state.retry_after is None else {"Retry-After": state.retry_after}
            self.send_status(fault, after)
        elif not path.is_file():
            self.send_status(404)
        else:
            content = self.send_head(path.read_bytes())
            if body:
                self._body(content, fault)

    def _body(self, content: bytes, fault: str | None) -> None:
        if fault == "cut":
            content = content[: len(content) // 2]
            self.close_connection = True
        step = max(1, len(content) // 4 if fault == "slow" else len(content))
        for place in range(0, len(content), step):
            self.wfile.write(content[place : place + step])
            if fault == "slow":
                time.sleep(0.05)
        with self.state.lock:
            self.state.sent += len(content)


@contextmanager
def serve_faulty(
    folder: Path,
    fault: Fault = lambda server, path, number: None,
    *,
    ranges: bool = True,
    retry_after: str | None = None,
) -> Iterator[Faulty]:
    """Serve a folder. Names below ``/moved/`` are redirected to the same names without it."""
    state = Faulty(fault, retry_after)
    handler = {"state": state, "folder": folder, "ranges": ranges}
    with running(type("Handler", (_Handler,), handler)) as state.url:
        yield state
