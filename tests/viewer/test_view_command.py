"""``bfbridge view`` as a process, and what it prints."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

from bfbridge.errors import BadArgument
from bfbridge.viewer.others import link_for
from bfbridge.viewer.presence import Presence
from tests.support.samples import write_ome_tiff

COMMAND = [sys.executable, "-m", "bfbridge", "view"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(1, 1, 1, 64, 64)
    return write_ome_tiff(tmp_path / "a b.ome.tif", pixels)


@contextmanager
def viewing(*arguments: object, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; give the process and the link that it prints."""
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "DISPLAY": "", "WAYLAND_DISPLAY": "",
             **variables},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("http"), (line, process.stderr and process.stderr.read())
        yield process, line
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(30)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=30) as reply:
        status: int = reply.status
        return status


@pytest.mark.slow(ci=True)
def test_the_link_works_and_ctrl_c_ends(image: Path) -> None:
    with viewing("--no-browser", image) as (process, link):
        assert link.endswith("/view/a%20b.ome.tif")
        assert get(link) == 200
        assert process.stdout is not None
        assert "ssh -N -L " in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.slow(ci=True)
@pytest.mark.skipif(os.name == "nt", reason="needs a program that is no browser")
def test_it_ends_when_its_page_is_closed(image: Path) -> None:
    with viewing(image, BROWSER="true") as (process, link):
        root = link.partition("/view/")[0]
        assert get(f"{root}/page/open/abc") == 204
        assert get(f"{root}/page/closed/abc") == 204
        assert process.wait(20) == 0


@pytest.mark.slow(ci=True)
@pytest.mark.skipif(os.name == "nt", reason="needs a program that is no browser")
def test_keep_goes_on(image: Path) -> None:
    with viewing("--keep", image, BROWSER="true") as (process, link):
        root = link.partition("/view/")[0]
        get(f"{root}/page/open/abc")
        get(f"{root}/page/closed/abc")
        time.sleep(4)
        assert process.poll() is None
        assert get(link) == 200


@pytest.mark.slow(ci=True)
def test_two_files_side_by_side(image: Path, tmp_path: Path) -> None:
    other = write_ome_tiff(tmp_path / "c.ome.tif", np.ones((1, 1, 1, 32, 32), np.uint8))
    with viewing("--no-browser", "--beside", image, other) as (_, link):
        assert link.endswith("/view/a%20b.ome.tif?beside=c.ome.tif")
        assert get(link) == 200


@pytest.mark.slow(ci=True)
def test_a_folder_opens_the_chooser(image: Path) -> None:
    with viewing("--no-browser", image.parent) as (_, link):
        assert link.endswith("/view/")
        assert get(link) == 200


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("viewer", ["neuroglancer", "vizarr"])
def test_other_viewers_may_read(image: Path, viewer: str) -> None:
    with viewing("--no-browser", "--with", viewer, image) as (_, link):
        place = unquote(unquote(link))
        place = place[place.index("http://127.0.0.1") :].partition('"')[0]
        origin = link[: link.index("/", 8)]
        request = urllib.request.Request(
            place.replace(" ", "%20") + "/.zattrs", headers={"Origin": origin}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            assert reply.headers["Access-Control-Allow-Origin"] == origin
            assert b"multiscales" in reply.read()


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow(ci=True)
def test_errors_in_words(image: Path, tmp_path: Path) -> None:
    for arguments, wanted in (
        ([tmp_path / "none.tif"], "no such file"),
        ([image, "--with", "foo"], "use one of napari, neuroglancer, vizarr"),
        ([image, "--beside"], "name two files"),
        ([image.parent, "--with", "vizarr"], "name one file"),
    ):
        found = run(*arguments)
        assert found.returncode == 1
        assert wanted in found.stderr
        assert "Traceback" not in found.stderr


@pytest.mark.slow(ci=True)
def test_napari_gets_the_files_to_open(image: Path) -> None:
    found = run("--with", "napari", "--no-browser", image)
    assert found.stdout.startswith("napari --plugin bfbridge ")


def test_links() -> None:
    with pytest.raises(BadArgument, match="use one of napari"):
        link_for("paint", "http://x/", "a.tif")
    assert "zarr2%2Fa.tif.ome.zarr" in link_for("vizarr", "http://x/", "a.tif")


def test_presence() -> None:
    import asyncio

    async def ended(*calls: tuple[str, bool], wait: float = 0.3) -> int:
        count: list[Any] = []
        watch = Presence(lambda: count.append(1), grace=0.05, silence=0.2)
        for page, is_open in calls:
            watch(page, is_open)
            await asyncio.sleep(0.01)
        await asyncio.sleep(wait)
        return len(count)

    assert asyncio.run(ended(("a", True), ("a", False))) == 1
    # Loaded again: the page comes back before the time is over.
    assert asyncio.run(ended(("a", True), ("a", False), ("b", True), wait=0.1)) == 0
    assert asyncio.run(ended(("a", True), ("b", True), ("a", False), wait=0.1)) == 0
    # A page that died says nothing any more.
    assert asyncio.run(ended(("a", True))) == 1
