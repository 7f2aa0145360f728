"""What is computed when many ask: equal requests once, abandoned ones never, and in which order."""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)

import aiohttp
import tifffile

from bfbridge.engine.workers import worker_count
from bfbridge.errors import ReadFailed
from bfbridge.serve.http import handlers
from bfbridge.serve.http.scheduler import Lane, Scheduler
from bfbridge.serve.metrics import CELLS, Metrics
from bfbridge.serve.replies import Refused
from tests.support.liveserver import Live, live


class Bench:
    """A scheduler with one thread, which is busy until it is let go."""

    def __init__(self, queue: int = 8) -> None:
        self.metrics = Metrics()
        self.pool = ThreadPoolExecutor(1)
        self.scheduler = Scheduler(self.pool, 1, queue, self.metrics)
        self.order: list[Any] = []
        self.gate = threading.Event()
        self.busy = threading.Event()

    def block(self) -> asyncio.Task[Any]:
        def wait() -> str:
            self.busy.set()
            self.gate.wait(30)
            return "blocker"

        return asyncio.create_task(self.scheduler.run("blocker", wait, "viewer"))

    def ask(self, key: Any, lane: Lane = "viewer") -> asyncio.Task[Any]:
        def work() -> Any:
            self.order.append(key)
            return key

        return asyncio.create_task(self.scheduler.run(key, work, lane))


def run(test: Any, **options: Any) -> None:
    async def whole() -> None:
        bench = Bench(**options)
        blocker = bench.block()
        await asyncio.to_thread(bench.busy.wait, 30)
        try:
            await test(bench)
        finally:
            bench.gate.set()
            await blocker
            bench.pool.shutdown()

    asyncio.run(whole())


def test_viewers_get_newest_and_oldest_alternately_and_zarr_in_order() -> None:
    async def test(bench: Bench) -> None:
        tasks = [bench.ask(("viewer", i)) for i in range(5)]
        tasks += [bench.ask(("zarr", i), "zarr") for i in range(3)]
        await asyncio.sleep(0)
        bench.gate.set()
        await asyncio.gather(*tasks)
        assert [i for lane, i in bench.order if lane == "viewer"] == [4, 0, 3, 1, 2]
        assert [i for lane, i in bench.order if lane == "zarr"] == [0, 1, 2]
        # Neither waits for all of the other.
        assert {lane for lane, _ in bench.order[:2]} == {"viewer", "zarr"}

    run(test)


def test_equal_requests_are_computed_once() -> None:
    async def test(bench: Bench) -> None:
        tasks = [bench.ask("same") for _ in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        bench.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == ["same"] * 4
        assert bench.order == ["same"]
        assert bench.metrics.get("joined") == 4

    run(test)


def test_abandoned_requests_are_never_started() -> None:
    async def test(bench: Bench) -> None:
        tasks = [bench.ask(i) for i in range(6)]
        await asyncio.sleep(0)
        for task in tasks[:5]:
            task.cancel()
        await asyncio.sleep(0)
        assert bench.scheduler.waiting == bench.metrics.get("queued") == 1
        bench.gate.set()
        await tasks[5]
        assert bench.order == [5]
        assert bench.metrics.get("dropped") == 5
        assert bench.metrics.get("wasted") == 0
        # A second request computes it.
        assert await bench.ask(0) == 0

    run(test)


def test_the_queue_is_bounded() -> None:
    async def test(bench: Bench) -> None:
        old = bench.ask("old")
        await asyncio.sleep(0)
        others = [bench.ask(i) for i in range(2)]
        with pytest.raises(Refused) as refused:
            await old
        assert (refused.value.status, refused.value.retry_after) == (503, 1)
        fair = [bench.ask(f"z{i}", "zarr") for i in range(3)]
        with pytest.raises(Refused):
            await fair[2]
        bench.gate.set()
        assert await asyncio.gather(*others, *fair[:2]) == [0, 1, "z0", "z1"]
        assert bench.metrics.get("refused") == 2
        assert bench.metrics.get("queued") == 0

    run(test, queue=2)


def test_errors_reach_all_that_wait_and_are_not_kept() -> None:
    async def test(bench: Bench) -> None:
        def fail() -> None:
            raise ReadFailed("no")

        tasks = [asyncio.create_task(bench.scheduler.run("bad", fail, "viewer")) for _ in range(2)]
        await asyncio.sleep(0)
        bench.gate.set()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, ReadFailed)
        assert await bench.ask("bad") == "bad"

    run(test)


def test_workers_count_in_their_own_numbers() -> None:
    cells = [0.0] * (2 * CELLS)
    first, second = Metrics(cells, 0), Metrics(cells, 1)
    first.add("computed")
    second.add("computed", 2)
    second.set("open_files", 5)
    assert first.get("computed") == 3
    assert "bfbridge_open_files 5\n" in first.as_text()


# ---- through the server


class Held:
    """Replaces `draw_box`: pictures are drawn when they are let through, and counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.permits = threading.Semaphore(0)
        self.open = False
        self.begun = 0
        self._lock = threading.Lock()
        draw = handlers.draw_box

        def held(*arguments: Any) -> Any:
            with self._lock:
                self.begun += 1
            while not self.open and not self.permits.acquire(timeout=0.05):
                pass
            return draw(*arguments)

        monkeypatch.setattr(handlers, "draw_box", held)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_a_fling_computes_only_what_had_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A viewer requests the tiles of a field of view, leaves, and requests the next."""
    side, fields, tiles = 4096, 6, 16
    pixels = (np.arange(side * side, dtype=np.uint32) % 65_521).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels.reshape(side, side), tile=(256, 256))
    running = min(tiles, worker_count(None, waits=False))

    async def fling(server: Live, held: Held) -> None:
        count = server.metrics.get
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(x: int, y: int) -> int:
                async with session.get(f"{server.url}/tile/a.tif/0/4/{x}/{y}.png") as answer:
                    await answer.read()
                    return answer.status

            for field in range(fields):
                tasks = [asyncio.create_task(one(field, y)) for y in range(tiles)]
                # Each thread works on one tile, and the others wait.
                await until(lambda field=field: held.begun == (field + 1) * running)
                await until(lambda: count("queued") == tiles - running)
                if field == fields - 1:
                    held.open = True
                    assert set(await asyncio.gather(*tasks)) == {200}
                    break
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await until(lambda field=field: count("abandoned") == (field + 1) * tiles)
                assert count("queued") == 0
                held.permits.release(running)
                await until(lambda field=field: count("wasted") == (field + 1) * running)

    with live(tmp_path) as server:
        # It is open, and its contrast is known.
        assert server.get("/tile/a.tif/0/0/0/0.png").status == 200
        before = server.metrics.get("computed")
        held = Held(monkeypatch)
        asyncio.run(fling(server, held))
        left = fields - 1
        assert server.metrics.get("wasted") == left * running
        assert server.metrics.get("dropped") == left * (tiles - running)
        assert server.metrics.get("computed") - before == left * running + tiles
        assert server.metrics.get("queued") == 0
        # A request counts as answered a moment after its last byte was sent.
        deadline = time.monotonic() + 20
        while server.metrics.get("requests_active"):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_file_is_opened_once_for_all_that_ask(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((512, 512), np.uint8), tile=(256, 256))

    async def ask(url: str) -> list[int]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(number: int) -> int:
                async with session.get(f"{url}/raw/a.tif/0/0/0/0/0/0?x={number % 4}") as answer:
                    await answer.read()
                    return answer.status

            return await asyncio.gather(*(one(i) for i in range(40)))

    with live(tmp_path) as server:
        assert set(asyncio.run(ask(server.url))) == {200}
        assert server.metrics.get("files_opened") == 1
        assert server.metrics.get("computed") == 4
