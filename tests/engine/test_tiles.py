"""Requests split by chunks, run by threads, remembered in a cache."""

from __future__ import annotations

import os
import pickle
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, BioWriter
from bfbridge.backend import Region
from bfbridge.engine import tiles, workers
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.engine.tiles import plan, put, take
from bfbridge.engine.workers import Background, available_cpus, prefetch, run
from bfbridge.errors import ReadFailed
from tests.support.memory import MemoryReader, distinct, view_of
from tests.support.peak import peak_memory

STORED = distinct((2, 3, 4, 50, 70))
CHUNK = (1, 2, 1, 16, 32)


def reader(view: Any) -> MemoryReader:
    backend = view._file.backend
    assert isinstance(backend, MemoryReader)
    return backend


# ---- plan


def test_plan_gives_each_chunk_of_a_box_once() -> None:
    axes = [range(2), range(3), range(1, 3), range(10, 40), range(31, 33)]
    blocks = list(plan(axes, CHUNK))
    assert [b.index for b in blocks] == [
        (t, c, z, y, x)
        for t in (0, 1) for c in (0, 1) for z in (1, 2) for y in (0, 1, 2) for x in (0, 1)
    ]  # fmt: skip
    assert all(b.is_box for b in blocks)
    first = blocks[0]
    assert (first.start, first.stop) == ((0, 0, 1, 10, 31), (1, 2, 2, 16, 32))
    assert first.outer == tuple(slice(0, n) for n in (1, 2, 1, 6, 1))


def test_plan_of_lists_reads_the_smallest_box_of_each_chunk() -> None:
    axes = [range(1), range(1), range(1), np.array([40, 3, 3, 9]), range(69, -1, -23)]
    blocks = list(plan(axes, CHUNK))
    assert [(b.index[3:], b.start[3:], b.stop[3:]) for b in blocks] == [
        ((0, 0), (3, 0), (10, 24)),
        ((0, 1), (3, 46), (10, 47)),
        ((0, 2), (3, 69), (10, 70)),
        ((2, 0), (40, 0), (41, 24)),
        ((2, 1), (40, 46), (41, 47)),
        ((2, 2), (40, 69), (41, 70)),
    ]
    assert not blocks[0].is_box
    assert blocks[0].outer[3] == slice(1, 4)
    np.testing.assert_array_equal(blocks[0].inner[3], [0, 0, 6])


@pytest.mark.parametrize("empty", [range(0), range(5, 5), np.empty(0, np.intp)])
def test_plan_of_an_empty_selection_is_empty(empty: Any) -> None:
    assert list(plan([range(2), range(1), range(1), empty, range(9)], CHUNK)) == []


def test_take_and_put_are_orthogonal() -> None:
    array = distinct((4, 5, 6))
    chosen = (np.array([3, 0]), slice(1, 5, 2), np.array([5, 5, 0]))
    wanted = array[np.ix_([3, 0], [1, 3], [5, 5, 0])]
    np.testing.assert_array_equal(take(array, chosen), wanted)
    into = np.zeros_like(array)
    put(into, chosen, wanted)
    np.testing.assert_array_equal(take(into, chosen), wanted)
    assert np.count_nonzero(into) == 2 * 2 * 2
    slices = (slice(0, 2), slice(1, 5, 2), slice(None))
    assert np.shares_memory(take(array, slices), array)


# ---- reading


def test_whole_chunks_are_read_straight_into_the_result() -> None:
    view = view_of(STORED, CHUNK, workers=1)
    seen: list[Any] = []
    real = reader(view).read

    def read(region: Region, out: Any) -> None:
        seen.append(out)
        real(region, out)

    reader(view).read = read  # type: ignore[method-assign]
    got = view[:16, :32, 0, 0:2, 1]
    assert len(seen) == 1
    assert np.shares_memory(seen[0], got)


def test_rgb_is_read_in_the_memory_of_the_array(tmp_path: Path) -> None:
    side = 2048
    y, x = np.mgrid[:side, :side].astype(np.uint8)
    pixels = np.stack([y, x, y ^ x], axis=-1)
    tiles = {"photometric": "rgb", "tile": (256, 256), "compression": "zlib", "predictor": True}
    tifffile.imwrite(tmp_path / "interleaved.ome.tif", pixels, metadata={"axes": "YXS"}, **tiles)
    tifffile.imwrite(
        tmp_path / "planar.ome.tif", pixels.transpose(2, 0, 1), planarconfig="separate",
        metadata={"axes": "SYX"}, **tiles,
    )  # fmt: skip
    chunks = (1, 3, 1, 256, 256)
    with BioWriter(tmp_path / "a.ome.zarr", image=pixels[:, :, None], chunks=chunks) as bw:
        bw[:] = pixels[:, :, None]
    for name in ("interleaved.ome.tif", "planar.ome.tif", "a.ome.zarr"):
        with BioReader(tmp_path / name, max_workers=2) as br:
            br[:16, :16]
            with peak_memory() as peak:
                got = br[:]
            np.testing.assert_array_equal(got[:, :, 0], pixels)
            assert peak.nbytes < 1.15 * pixels.nbytes + 1_000_000, name


@pytest.mark.slow(ci=True)
def test_a_large_read_makes_no_second_copy() -> None:
    # Values that numpy makes one page at a time on reading: the source itself takes no memory.
    stored = np.broadcast_to(np.arange(4096, dtype=np.uint16), (1, 2, 2, 4096, 4096))
    view = view_of(stored, (1, 1, 1, 256, 256), cache=ChunkCache())
    with peak_memory() as peak:
        got = view[:]
    assert got.shape == (4096, 4096, 2, 2)
    assert (got[::511, :, 1, 1] == stored[0, 1, 1, ::511]).all()
    assert peak.nbytes <= 1.15 * got.nbytes


def test_each_chunk_is_read_once_by_several_threads() -> None:
    view = view_of(STORED, CHUNK, workers=4)
    backend = reader(view)
    real = backend.read

    def read(region: Region, out: Any) -> None:
        time.sleep(0.002)
        real(region, out)

    backend.read = read  # type: ignore[method-assign]
    np.testing.assert_array_equal(view[...], STORED.transpose(3, 4, 2, 1, 0))
    regions = [(r.start, r.stop) for r in backend.calls]
    assert len(set(regions)) == len(regions) == 2 * 2 * 4 * 4 * 3
    assert len(backend.threads) > 1


def test_one_worker_reads_on_the_calling_thread() -> None:
    view = view_of(STORED, CHUNK, workers=1)
    assert view[...].shape == (50, 70, 4, 3, 2)
    assert reader(view).threads == {threading.get_ident()}


@pytest.mark.parametrize(
    ("decodes", "waits", "limit", "threads"),
    [(False, False, 1 << 20, 1), (True, False, 1 << 20, 2), (False, True, 1 << 20, 2),
     (False, False, 1, 2)],
)  # fmt: skip
def test_small_selections_that_are_not_decompressed_are_read_by_one_thread(
    monkeypatch: pytest.MonkeyPatch, decodes: bool, waits: bool, limit: int, threads: int
) -> None:
    monkeypatch.setattr(tiles, "_SMALL_READ", limit)
    view = view_of(STORED, CHUNK, workers=2)
    backend = reader(view)
    backend.decodes = lambda image, level: decodes  # type: ignore[method-assign]
    backend.waits = waits
    meeting = threading.Barrier(threads)
    real = backend.read

    def read(region: Region, out: Any) -> None:
        if threading.get_ident() not in backend.threads:
            # All threads are inside at the same time.
            backend.threads.add(threading.get_ident())
            meeting.wait(30)
        real(region, out)

    backend.read = read  # type: ignore[method-assign]
    np.testing.assert_array_equal(view[...], STORED.transpose(3, 4, 2, 1, 0))
    assert len(backend.threads) == threads


def test_the_cache_answers_overlapping_reads() -> None:
    view = view_of(STORED, CHUNK, cache=ChunkCache())
    first = view[3:9, 40:50, 2, 1, 1]
    count = len(reader(view).calls)
    assert count == 1
    assert reader(view).calls[0].shape == (1, 2, 1, 16, 32)
    second = view[2:12:3, 63:35:-4, 2, [1, 0], 1]
    assert len(reader(view).calls) == count
    np.testing.assert_array_equal(first, STORED[1, 1, 2, 3:9, 40:50])
    np.testing.assert_array_equal(
        second[:, :, 0], STORED[1, [1, 0], 2, 2:12:3, 63:35:-4].transpose(1, 2, 0)
    )


@pytest.mark.parametrize(
    ("waits", "rows", "kept"), [(False, 12, False), (False, 1, True), (True, 12, True)]
)
def test_parts_that_are_cheap_to_read_are_kept_if_that_pays(
    waits: bool, rows: int, kept: bool
) -> None:
    """Reading a large part of a chunk again is faster than reading the whole chunk and copying."""
    view = view_of(STORED, CHUNK, cache=ChunkCache())
    backend = reader(view)
    backend.reads_parts = lambda image, level: True  # type: ignore[method-assign]
    backend.waits = waits
    for _ in range(3):
        found = view[3 : 3 + rows, 34:42, 2, 1, 1]
        np.testing.assert_array_equal(found, STORED[1, 1, 2, 3 : 3 + rows, 34:42])
    part, whole = (1, 1, 1, rows, 8), (1, 2, 1, 16, 32)
    wanted = [part, whole] if kept else [part] * 3
    assert [call.shape for call in backend.calls] == wanted


@pytest.mark.parametrize("in_parts", [True, False])
def test_slices_through_more_chunks_than_the_cache_holds(in_parts: bool) -> None:
    stored = distinct((1, 1, 12, 32, 32))
    view = view_of(stored, (1, 1, 1, 32, 32), cache=ChunkCache(5 * 32 * 32 * 2), workers=1)
    backend = reader(view)
    backend.reads_parts = lambda image, level: in_parts  # type: ignore[method-assign]
    pixels = []
    for y in range(4):
        backend.calls.clear()
        expected = stored[0, 0, :, y : y + 1].transpose(1, 2, 0)
        np.testing.assert_array_equal(view[y : y + 1, :, :], expected)
        pixels.append(sum(np.prod(call.shape) for call in backend.calls))
    if in_parts:
        assert pixels == [12 * 32] * 4
    else:
        # Five chunks stay in the cache; of the others only the slice is read.
        assert pixels == [5 * 32 * 32 + 7 * 32] + [7 * 32] * 3


def test_what_is_returned_is_not_the_cache() -> None:
    cache = ChunkCache()
    view = view_of(STORED, CHUNK, cache=cache)
    got = view[3:9, 3:9, 0, 0, 0]
    got[:] = 0
    np.testing.assert_array_equal(view[3:9, 3:9, 0, 0, 0], STORED[0, 0, 0, 3:9, 3:9])
    with pytest.raises(ValueError, match="read-only"):
        next(iter(cache.values()))[:] = 0


def test_the_cache_stays_within_its_bytes() -> None:
    cache = ChunkCache(100)
    for number in range(5):
        cache[number] = np.full(30, number, np.uint8)
    assert list(cache) == [2, 3, 4]
    assert cache.nbytes == 90
    assert cache[2][0] == 2  # now the latest used
    cache[5] = np.zeros(30, np.uint8)
    assert list(cache) == [4, 2, 5]
    cache[2] = np.zeros(10, np.uint8)
    assert cache.nbytes == 70
    del cache[4]
    assert (len(cache), cache.nbytes) == (2, 40)
    cache["large"] = np.zeros(101, np.uint8)
    assert (len(cache), cache.nbytes) == (0, 0)
    with pytest.raises(KeyError):
        cache[5]


def test_a_cache_pickles_as_an_empty_one() -> None:
    cache = ChunkCache(123)
    cache[1] = np.zeros(5, np.uint8)
    again = pickle.loads(pickle.dumps(cache))
    assert (again.max_bytes, len(again), again.nbytes) == (123, 0, 0)


def test_two_files_that_share_a_cache_keep_their_own_pixels() -> None:
    cache = ChunkCache()
    for number in range(20):  # files that come and go, whose ids Python gives again
        pixels = np.full((1, 1, 1, 40, 40), number, np.uint8)
        assert (view_of(pixels, (1, 1, 1, 40, 40), cache=cache)[3:5, 3:5] == number).all()


def test_images_and_levels_keep_their_own_chunks_in_the_cache() -> None:
    view = view_of(STORED, CHUNK, cache=ChunkCache())
    memory = reader(view)
    (image,) = memory.images
    # Each image and level gives other pixels of the same grid.
    memory._images = (replace(image, levels=image.levels * 3),) * 2

    def read(region: Region, out: np.ndarray[Any, Any]) -> None:
        out[...] = 10 * region.image + region.level

    memory.read = read  # type: ignore[method-assign]
    for again in range(2):
        for one in view.series:
            for level in one.levels:
                found = level[3:5, 3:5, 0, 0, 0]
                assert (found == 10 * one.index + level.level).all(), again


def test_two_backends_of_one_file_do_not_share_chunks(tmp_path: Path) -> None:
    from bfbridge.storage.source import as_source

    path = tmp_path / "a.tif"
    path.write_bytes(b"x")
    cache = ChunkCache()
    first = view_of(STORED, CHUNK, cache=cache)._file
    second = view_of(STORED, CHUNK, cache=cache)._file
    first._state.content = second._state.content = "the same"
    source = as_source(path)
    one, two = (replace(file, source=source, shared=True) for file in (first, second))
    assert one.token == two.token
    other = replace(second, source=source, shared=True)
    other._state.backend.name = "another"  # type: ignore[union-attr, misc]
    assert other.token != one.token


# ---- run


def test_run_does_every_job_and_raises_the_first_error() -> None:
    done: list[int] = []
    run([lambda n=n: done.append(n) for n in range(50)], 4)
    assert sorted(done) == list(range(50))

    started: list[int] = []

    def job(n: int) -> None:
        started.append(n)
        if n == 3:
            raise ValueError("job 3")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="job 3"):
        run((lambda n=n: job(n) for n in range(20_000)), 4)
    # The thread that raises may have to wait for a processor meanwhile.
    assert len(started) < 10_000


def test_more_workers_than_threads_are_harmless() -> None:
    done: list[int] = []
    run((partial(done.append, number) for number in range(100)), 2**70)
    assert sorted(done) == list(range(100))


def test_run_raises_what_making_the_jobs_raises() -> None:
    def jobs() -> Any:
        for n in range(10):
            if n == 5:
                raise KeyError("no fifth job")
            yield lambda: None

    with pytest.raises(KeyError, match="no fifth job"):
        run(jobs(), 3)


def test_an_interrupt_between_two_jobs_stops_the_helpers(monkeypatch: pytest.MonkeyPatch) -> None:
    here, take_job = threading.current_thread(), workers._SharedJobs.__next__
    done: list[int] = []

    def interrupted(shared: Any) -> Any:
        if threading.current_thread() is not here:
            return take_job(shared)
        while not done:
            time.sleep(0.001)
        raise KeyboardInterrupt

    def job(n: int) -> None:
        done.append(n)
        time.sleep(0.001)

    monkeypatch.setattr(workers._SharedJobs, "__next__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run((lambda n=n: job(n) for n in range(20_000)), 3)
    assert 0 < len(done) < 10_000


def test_run_may_be_nested() -> None:
    total = []
    inner = [lambda: total.append(1)] * 10
    run([lambda: run(inner, 8) for _ in range(100)], 80)
    assert len(total) == 1000


def test_prefetch_keeps_order_and_stops_early() -> None:
    started: list[int] = []

    def job(n: int) -> int:
        started.append(n)
        time.sleep(0.002 * (n % 3))
        return n

    assert list(prefetch((lambda n=n: job(n) for n in range(20)), 4)) == list(range(20))
    started.clear()
    ahead = prefetch((lambda n=n: job(n) for n in range(1000)), 4)
    assert [next(ahead), next(ahead)] == [0, 1]
    ahead.close()
    time.sleep(0.05)
    assert len(started) <= 8


def test_prefetch_left_early_cancels_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    go = threading.Event()

    def job(n: int) -> int:
        started.append(n)
        assert n == 0 or go.wait(30)
        return n

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(workers, "shared_pool", lambda: pool)
        ahead = prefetch((lambda n=n: job(n) for n in range(100)), 8)
        assert next(ahead) == 0
        ahead.close()
        go.set()
    assert started in ([0], [0, 1])


def test_prefetch_raises_where_the_job_stands() -> None:
    def job(n: int) -> int:
        if n == 2:
            raise ValueError("tile 2")
        return n

    results = prefetch((lambda n=n: job(n) for n in range(5)), 3)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="tile 2"):
        next(results)


# ---- background


def test_background_raises_an_error_once_even_if_noted_late() -> None:
    background = Background(2)
    note = background._done

    def late(future: Future[Any]) -> None:
        time.sleep(0.1)
        note(future)

    background._done = late  # type: ignore[method-assign]

    def fail() -> None:
        raise ValueError("the job")

    background.submit(fail)
    with pytest.raises(ValueError, match="the job"):
        background.wait()
    time.sleep(0.2)
    background.wait()
    background.submit(lambda: None)
    background.wait()


def test_background_runs_at_most_its_limit() -> None:
    background = Background(3)
    lock, running, most = threading.Lock(), [0], [0]

    def job() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.005)
        with lock:
            running[0] -= 1

    for _ in range(20):
        background.submit(job)
    background.wait()
    assert running == [0]
    assert 2 <= most[0] <= 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own() -> None:
    view = view_of(STORED, CHUNK, workers=3)
    wanted = view[...]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if (view[...] == wanted).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# ---- CPUs


def test_cpus_follow_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    files: dict[str, str] = {}

    def read(self: Path) -> str:
        if str(self) not in files:
            raise FileNotFoundError(self)
        return files[str(self)]

    monkeypatch.setattr(Path, "read_text", read)
    assert available_cpus() == 6
    files["/sys/fs/cgroup/cpu.max"] = "250000 100000\n"
    assert available_cpus() == 3
    files["/sys/fs/cgroup/cpu.max"] = "max 100000\n"
    assert available_cpus() == 6
    del files["/sys/fs/cgroup/cpu.max"]
    files["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "50000\n"
    files["/sys/fs/cgroup/cpu/cpu.cfs_period_us"] = "100000\n"
    assert available_cpus() == 1
    files["/sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "-1\n"
    assert available_cpus() == 6
    monkeypatch.setattr(workers, "_cgroup_quota", lambda: 64.0)
    assert available_cpus() == 6


def test_a_fault_of_a_backend_is_a_clear_error() -> None:
    view = view_of(distinct((1, 1, 1, 40, 50)), (1, 1, 1, 16, 32))

    def fail(region: Any, out: Any) -> None:
        raise ZeroDivisionError("division by zero")

    reader(view).read = fail  # type: ignore[method-assign]
    with pytest.raises(ReadFailed, match=r"memory: image 0, .* ZeroDivisionError: division"):
        view[:]


def test_one_thread_fetches_and_the_others_wait() -> None:
    cache = ChunkCache()
    order: list[str] = []
    started = threading.Event()

    def first() -> None:
        with suppress(ValueError), cache.fetching("key"):
            started.set()
            time.sleep(0.2)
            order.append("failed")
            raise ValueError("the first thread fails")

    def other() -> None:
        started.wait()
        with cache.fetching("key"):
            order.append("waited")
            assert "key" not in cache

    threads = [threading.Thread(target=work) for work in (first, other, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert order == ["failed", "waited", "waited"]
    # No thread is fetching: the next one is the first again.
    with cache.fetching("key"), cache.fetching("another"):
        order.append("next")
    assert order[-1] == "next"
