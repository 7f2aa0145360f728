"""A server of images in a thread of this process, and a client that sends given requests."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bfbridge.serve.metrics import Metrics
from bfbridge.serve.options import ServeOptions
from bfbridge.serve.run import listen, serve_on

TOKEN = "test-token-1"


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Live:
    port: int
    options: ServeOptions
    metrics: Metrics = field(default_factory=Metrics)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.options.prefix}"

    def get(
        self, path: str, method: str = "GET", prefix: str | None = None, **headers: str
    ) -> Answer:
        """Send a path as it is; underscores in names of headers are dashes."""
        prefix = self.options.prefix if prefix is None else prefix
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, prefix + path, headers=named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()


@contextmanager
def live(*sources: Path | str, **options: Any) -> Iterator[Live]:
    """Serve sources until the block ends."""
    settings: dict[str, Any] = {"port": 0, "token": TOKEN, "access_log": False}
    made = ServeOptions(sources=tuple(str(s) for s in sources), **(settings | options))
    listening = listen(made)
    server = Live(listening.getsockname()[1], made)
    ready = threading.Event()
    stops: list[Any] = []
    failures: list[BaseException] = []

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        stops.append(lambda: loop.call_soon_threadsafe(stop.set))
        await serve_on(listening, made, stop, server.metrics, ready.set)

    def work() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        ready.wait(60)
        if failures:
            raise failures[0]
        yield server
    finally:
        if stops and thread.is_alive():
            stops[0]()
        thread.join(30)
        listening.close()
    assert not thread.is_alive()
    if failures:
        raise failures[0]
