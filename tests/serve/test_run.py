"""`bfbridge serve` as a process: its output, its workers, its end."""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)

import tifffile

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
