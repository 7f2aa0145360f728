"""Servers that fail now and then: reads are repeated, a limited number of times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="aiohttp is not installed")

from bfbridge import BioReader, imwrite
from bfbridge.errors import BfbridgeError, FileMissing
from bfbridge.storage.remote import retries
from bfbridge.storage.remote.retries import ATTEMPTS, is_transient, pauses, retried
from tests.support.faultyserver import serve_faulty

PIXELS = np.random.default_rng(1).integers(0, 999, (3, 300, 400), np.uint16)
NAMES = ("a.ome.tif", "a.ome.zarr")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TIFF and a store of 18 chunks."""
    path = tmp_path_factory.mktemp("served")
    for name in NAMES:
        imwrite(path / name, PIXELS, axes="CYX", tile=160)
    return path


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses before further attempts, which are not waited for."""
    found: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", found.append)
    return found


def read(url: str, name: str) -> Any:
    with BioReader(f"{url}/{name}", cache=0) as br:
        return br.read(keepdims=True)[:, :, 0, :, 0].transpose(2, 0, 1)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", [429, 500, 503, 504, "cut"])
def test_transient_errors_are_repeated(folder: Path, name: str, fault: str | int) -> None:
    # Every path fails at its first and third request.
    with serve_faulty(folder, lambda _, path, n: fault if n in (0, 2) else None) as server:
        np.testing.assert_array_equal(read(server.url, name), PIXELS)


@pytest.mark.parametrize("name", NAMES)
def test_attempts_are_limited(folder: Path, name: str, slept: list[float]) -> None:
    with serve_faulty(folder) as server, BioReader(f"{server.url}/{name}", cache=0) as br:
        server.fault = lambda *_: 503
        before, slept[:] = server.requests, []
        with pytest.raises(BfbridgeError, match="503"):
            br[:10, :10, :, :1]
        assert server.requests - before == ATTEMPTS
        assert len(slept) == ATTEMPTS - 1
        assert sum(slept) < 10
    with serve_faulty(folder, lambda *_: 429) as server:
        with pytest.raises(BfbridgeError) as raised:
            BioReader(f"{server.url}/{name}")
        assert not isinstance(raised.value, FileMissing), "a busy server has the file"


@pytest.mark.parametrize("status", [400, 403, 410, 501])
def test_final_errors_are_not_repeated(folder: Path, status: int) -> None:
    with (
        serve_faulty(folder) as server,
        BioReader(f"{server.url}/a.ome.tif", cache=0) as br,
    ):
        server.fault = lambda *_: status
        before = server.requests
        with pytest.raises(BfbridgeError, match=str(status)):
            br[:10, :10, :, :1]
        assert server.requests - before == 1


@pytest.mark.parametrize("name", NAMES)
def test_slow_bodies_and_redirects(folder: Path, name: str) -> None:
    with serve_faulty(folder, lambda *_: "slow") as server:
        np.testing.assert_array_equal(read(f"{server.url}/moved", name), PIXELS)


def test_servers_without_ranges(folder: Path) -> None:
    with serve_faulty(folder, ranges=False) as server:
        np.testing.assert_array_equal(read(server.url, "a.ome.zarr"), PIXELS)
        with pytest.raises(BfbridgeError, match="download"):
            read(server.url, "a.ome.tif")


@pytest.mark.slow(ci=True)
def test_the_pause_is_that_of_the_server_within_limits(folder: Path, slept: list[float]) -> None:
    for header, least, most in (("7", 7, 7), ("99999", 20, 20), ("soon", 0, 1), ("-5", 0, 1)):
        slept.clear()
        with serve_faulty(
            folder, lambda _, path, n: 503 if n < 3 else None, retry_after=header
        ) as server:
            read(server.url, "a.ome.tif")
        assert least <= max(slept) <= most


def test_pauses_grow_and_differ() -> None:
    found = [list(pauses()) for _ in range(20)]
    assert len({tuple(waits) for waits in found}) == 20
    for waits in found:
        for attempt, wait in enumerate(waits):
            assert 0.1 * 2**attempt <= wait <= 0.3 * 2**attempt


def test_which_errors_are_transient() -> None:
    assert is_transient(ConnectionResetError())
    assert is_transient(TimeoutError())
    assert not is_transient(ConnectionRefusedError())
    assert not is_transient(ValueError())
    hidden = FileNotFoundError("a")
    hidden.__cause__ = TimeoutError()
    assert is_transient(hidden), "fsspec hides the reason"
    with pytest.raises(ZeroDivisionError):
        retried(lambda: 1 // 0, "a")


def test_few_requests_and_bytes(folder: Path) -> None:
    """The numbers in docs/reliability.md."""
    with serve_faulty(folder) as server:
        read(server.url, "a.ome.tif")
        stored = (folder / "a.ome.tif").stat().st_size
        # Existence, size, header, directories; then 18 tiles.
        assert server.requests <= 18 + 12
        assert server.sent <= 1.3 * stored
        before = server.requests
        read(server.url, "a.ome.zarr")
        assert server.requests - before <= 18 + 24
