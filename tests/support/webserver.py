"""A web server of one folder that knows byte ranges and counts what it sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["Web", "listen", "running", "serve"]


class Web:
    """A running server.

    Attributes
    ----------
    url
        Of the folder, without a slash at the end.
    sent
        Bytes of file content sent so far.
    token
        What the header ``X-Token`` of every request must say; None asks for nothing.
    """

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.token = token
        self.sent = 0
        self._lock = threading.Lock()

    def count(self, length: int) -> None:
        with self._lock:
            self.sent += length


@contextmanager
def serve(
    folder: Path, token: str | None = None, *, lists: bool = False, hidden: str | None = None
) -> Iterator[Web]:
    """Serve a folder at a free port of this machine, with pages of links to files or without.

    Nobody may list the folder `hidden`.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = folder / unquote(self.path).lstrip("/")
            if web.token is not None and self.headers.get("X-Token") != web.token:
                self._status(401)
            elif hidden is not None and path == folder / hidden:
                self._status(403)
            elif (content := _content(path, lists)) is None:
                self._status(404)
            else:
                self._file(content, body)

        def _status(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _file(self, content: bytes, body: bool) -> None:
            size, wanted = len(content), self.headers.get("Range")
            if wanted is None:
                self.send_response(200)
            else:
                first, last = wanted.removeprefix("bytes=").split("-")
                start = int(first) if first else size - int(last)
                stop = min(int(last) + 1, size) if first and last else size
                content = content[start:stop]
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                web.count(len(content))
                self.wfile.write(content)

    web = Web("", token)
    with running(Handler) as web.url:
        yield web


def _content(path: Path, lists: bool) -> bytes | None:
    """Return a file, or the page of a folder's links."""
    if path.is_file():
        return path.read_bytes()
    if not lists or not path.is_dir():
        return None
    names = [f"{inner.name}/" if inner.is_dir() else inner.name for inner in path.iterdir()]
    links = "".join(f'<a href="{quote(name)}">{name}</a>' for name in sorted(names))
    return f"<html><a href='../'>up</a>{links}</html>".encode()


@contextmanager
def listen() -> Iterator[tuple[str, list[str]]]:
    """Give the URL of a server that answers everything with nothing, and the paths asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def do_HEAD(self) -> None:
            self.do_GET()

    with running(Handler) as url:
        yield url, asked


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
