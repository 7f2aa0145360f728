"""A window of ``bfbridge gui`` in this process, and a client that is its page."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bfbridge.gui.window import Window
from tests.support.liveserver import Answer, Live, live

__all__ = ["Client", "opened", "paused"]


@dataclass
class Client:
    """Sends requests as the page does, with its cookie once `open` was called."""

    server: Live
    cookie: str = ""

    def open(self) -> Answer:
        answer = self.send("GET", "/gui")
        self.cookie = (answer.headers["Set-Cookie"] or "").partition(";")[0]
        return answer

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request; underscores in names of headers are dashes."""
        named = {"Cookie": self.cookie} if self.cookie else {}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(method, self.server.options.prefix + path, body, named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, name: str, content: Any = None, **headers: str) -> Answer:
        headers = {"Content_Type": "application/json"} | headers
        return self.send("POST", f"/gui/{name}", json.dumps(content or {}).encode(), **headers)

    def get(self, name: str) -> Any:
        return self.send("GET", f"/gui/{name}").json

    def convert(self, sources: list[Path], folder: Path, **options: Any) -> int:
        answer = self.post("convert", order(sources, folder, **options))
        assert answer.status == 200, answer.body
        number: int = answer.json["number"]
        return number

    def job(self, number: int) -> Any:
        return next(job for job in self.get("jobs") if job["number"] == number)

    def ended(self, number: int) -> Any:
        """Wait for the end of a conversion; return its state."""
        deadline = time.monotonic() + 60
        while True:
            job = self.job(number)
            if job["state"] not in ("waiting", "running"):
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.01)


def order(sources: list[Path], folder: Path, **options: Any) -> dict[str, Any]:
    chosen = {"format": "ome-zarr", "verify": True, "overwrite": False, "pyramid": True} | options
    return {"sources": list(map(str, sources)), "folder": str(folder), "options": chosen}


@contextmanager
def opened(*sources: str, **options: Any) -> Iterator[Client]:
    """Start a window whose page is open."""
    window = Window(sources, **options)
    with live(extend=window.add_to) as server:
        client = Client(server)
        assert client.open().status == 200
        yield client


@contextmanager
def paused(monkeypatch: Any) -> Iterator[None]:
    """Let conversions wait after their first block, until they are cancelled."""
    from bfbridge.gui.jobs import Job

    moved = Job.moved

    def wait(self: Job, number: int, done: int, total: int) -> None:
        moved(self, number, done, total)
        deadline = time.monotonic() + 60
        while done and not self._cancelled and time.monotonic() < deadline:
            time.sleep(0.005)
        self._check()

    with monkeypatch.context() as patch:
        patch.setattr(Job, "moved", wait)
        yield
