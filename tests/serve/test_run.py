"""`bfbridge serve` as a process: its output, its workers, its end."""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)

import tifffile

from bfbridge.backend import Region
from bfbridge.errors import BadArgument, FileMissing
from bfbridge.serve import run
from bfbridge.serve.metrics import CELLS
from bfbridge.serve.options import ServeOptions
from bfbridge_ometiff.reader import OmeTiffReader
from tests.support.liveserver import live

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command; yield its process and the URL that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bfbridge", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"serving at (http://\S+/)\n", line)
        assert found, (line, process.poll())
        yield process, found[1]
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def fetch(url: str) -> bytes:
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(6400, dtype=np.uint16).reshape(80, 80))
    return tmp_path


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(folder: Path, number: signal.Signals) -> None:
    with command(str(folder)) as (process, url):
        token = re.search(r"/~([\w-]+)/$", url)
        assert token
        assert b"a.tif" in fetch(url)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "")
        # The token is a secret; logs may be read by others.
        assert token[1] not in err
        assert "GET /~.../ 200" in err
        assert "Traceback" not in err


@pytest.mark.slow(ci=True)
def test_quiet_and_a_token_of_ones_own(folder: Path) -> None:
    arguments = (str(folder / "a.tif"), "--quiet", "--token", "my-own-token")
    with command(*arguments) as (process, url):
        assert url.endswith("/~my-own-token/")
        assert fetch(f"{url}info/a.tif")
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=60) == ("", "")


@pytest.mark.slow(ci=True)
def test_workers_share_the_port_and_are_started_anew(folder: Path) -> None:
    with command(str(folder), "--workers", "2", "--no-token") as (process, url):
        assert fetch(f"{url}info/a.tif") == fetch(f"{url}info/a.tif")
        children = _children(process.pid)
        assert len(children) == 2
        time.sleep(1.1)
        os.kill(children[0], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while children[0] in _children(process.pid) or len(_children(process.pid)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert fetch(f"{url}raw/a.tif/0/0/0/0/0/0")
        assert b"bfbridge_requests_total" in fetch(f"{url}metrics")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert not any(Path(f"/proc/{child}").exists() for child in children)


def _children(pid: int) -> list[int]:
    """Return the processes of workers; multiprocessing has one more of its own."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if entry.name.isdigit() and int(fields[1]) == pid and b"spawn_main" in line:
            found.append(int(entry.name))
    return sorted(found)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent-folder"], "absent-folder: no such file or folder"),
        ([".", "--token", "x"], "token: give 8 to 200"),
        ([".", "--token", "12345678", "--no-token"], "give one of them"),
        ([".", "--port", "99999"], "port=99999"),
        ([".", "--compression", "best"], "best"),
        ([".", "--host", "203.0.113.7"], "cannot listen on 203.0.113.7"),
    ],
)
def test_messages(folder: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bfbridge", "serve", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def options(folder: Path, **more: object) -> ServeOptions:
    settings = {"sources": (str(folder),), "port": 0, "token": "a-token-1", "access_log": False}
    return ServeOptions(**(settings | more))


def test_a_port_in_use_is_named(folder: Path) -> None:
    with run.listen(options(folder)) as first:
        port = first.getsockname()[1]
        with pytest.raises(BadArgument) as caught:
            run.listen(options(folder, port=port))
    message = str(caught.value)
    assert message.startswith(f"cannot listen on 127.0.0.1 port {port}: ")
    assert message.endswith("Choose another --port (0 is any free one) or --host.")


@pytest.mark.parametrize(
    ("host", "family", "shown"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("localhost", socket.AF_INET, "localhost"),
        ("", socket.AF_INET, "127.0.0.1"),
        ("0.0.0.0", socket.AF_INET, "127.0.0.1"),
        ("::", socket.AF_INET6, "[::1]"),
        ("::1", socket.AF_INET6, "[::1]"),
    ],
)
def test_the_url_is_one_that_a_browser_opens(
    folder: Path, host: str, family: socket.AddressFamily, shown: str
) -> None:
    class Listening:
        def getsockname(self) -> tuple[str, int]:
            return host, 8123

    Listening.family = family
    made = options(folder, host=host)
    assert run.url_of(made, Listening()) == f"http://{shown}:8123/~a-token-1/"


@pytest.mark.parametrize("has_handlers", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_it_with_and_without_handlers_of_the_loop(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, has_handlers: bool
) -> None:
    """The event loops of Windows have no handlers of signals."""

    def missing(*_: object) -> None:
        raise NotImplementedError

    if not has_handlers:
        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_signal_handler", missing)
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    urls: list[str] = []

    def started(url: str) -> None:
        urls.append(url)
        signal.raise_signal(number)

    try:
        run.run_server(options(folder), started)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    (url,) = urls
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/~a-token-1/", url)


def test_it_stops_although_a_request_does_not_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()
    read = OmeTiffReader.read

    def waiting(self: OmeTiffReader, region: Region, out: np.ndarray[Any, Any]) -> None:
        begun.set()
        released.wait(60)
        read(self, region, out)

    monkeypatch.setattr(run, "_GRACE", 0.05)
    monkeypatch.setattr(OmeTiffReader, "read", waiting)
    answers: list[object] = []

    def request() -> None:
        with suppress(OSError, http.client.HTTPException):
            answers.append(server.get("/thumbnail/a.tif/0.png"))

    client = threading.Thread(target=request)
    try:
        with live(folder) as server:
            client.start()
            assert begun.wait(30)
        assert not released.is_set()
    finally:
        released.set()
        client.join(30)
    assert answers == []


def test_a_source_that_is_missing_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="absent"):
        run.run_server(options(tmp_path / "absent"), pytest.fail)


def test_a_worker_that_cannot_start_says_why_and_exits_with_1(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The parent process has checked the sources; they may be gone when a worker starts anew."""
    gone = options(tmp_path / "gone")
    cells = [0.0] * (CELLS * 2)
    with (
        run.listen(gone) as listening,
        caplog.at_level(logging.ERROR, "bfbridge.serve"),
        pytest.raises(SystemExit) as caught,
    ):
        run._worker(listening, gone, cells, 1, lines=False)
    assert caught.value.code == 1
    (record,) = caplog.records
    assert record.getMessage().startswith("worker 1: ")
    assert "gone: no such file or folder" in record.getMessage()
