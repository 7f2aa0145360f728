"""A web server of one folder that serves byte ranges and counts the bytes it sends."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

__all__ = ["FileHandler", "Web", "listen", "running", "serve"]


class FileHandler(BaseHTTPRequestHandler):
    """Replies with files, or parts of them, without a log. Derived classes define `answer`.

    Attributes
    ----------
    ranges
        Whether byte ranges are served.
    """

    protocol_version = "HTTP/1.1"
    ranges = True

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        # Clients that have what they need close the connection.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """Send the reply to a request, with its body or without."""
        raise NotImplementedError

    def send_status(self, code: int, headers: Mapping[str, str] | None = None) -> None:
        """Send a reply without a body."""
        self.send_response(code)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_head(self, content: bytes) -> bytes:
        """Send the headers of a file; return the bytes of its body, all or the requested range."""
        size, wanted = len(content), self.headers.get("Range")
        if wanted is None or not self.ranges:
            self.send_response(200)
        else:
            first, last = wanted.removeprefix("bytes=").split("-")
            start = int(first) if first else size - int(last)
            stop = min(int(last) + 1, size) if first and last else size
            content = content[start:stop]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content


class Web:
    """A running server.

    Attributes
    ----------
    url
        Of the folder, without a slash at the end.
    sent
        Bytes of file content sent so far.
    token
        The value that the header ``X-Token`` of every request must have; None: no such header.
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

    Requests to list the folder `hidden` are refused.
    """

    class Handler(FileHandler):
        def answer(self, *, body: bool) -> None:
            path = folder / unquote(self.path).lstrip("/")
            if web.token is not None and self.headers.get("X-Token") != web.token:
                self.send_status(401)
            elif hidden is not None and path == folder / hidden:
                self.send_status(403)
            elif (content := _content(path, lists)) is None:
                self.send_status(404)
            else:
                part = self.send_head(content)
                if body:
                    web.count(len(part))
                    self.wfile.write(part)

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
    """Yield the URL of a server whose replies are empty, and the list of requested paths."""
    requested: list[str] = []

    class Handler(FileHandler):
        protocol_version = "HTTP/1.0"

        def answer(self, *, body: bool) -> None:
            requested.append(self.path)
            self.send_response(200)
            self.end_headers()

    with running(Handler) as url:
        yield url, requested


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
