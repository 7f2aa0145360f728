"""Forked children use readers that other threads of the parent were using at that moment."""

from __future__ import annotations

import ast
import io
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bfbridge
from bfbridge import BioReader, BioWriter
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.runtime import forking
from bfbridge.runtime.cached_property import cached_property
from bfbridge.storage.source import as_source
from tests.support.forks import Child
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
PIXELS = distinct((2, 3, 2, 70, 75))
FACE = PIXELS.transpose(3, 4, 2, 1, 0)
ROOT = Path(bfbridge.__file__).parent
# What lives as long as one call only, on threads that a child does not have.
OF_ONE_CALL = {
    "cli",
    "convert",
    "runtime/processes/parent_pipe.py",
    "analysis/statistics.py",
    "testing.py",
    "bfbridge_bioformats/runtime/calls.py",
}
# Their locks are made anew in a child by themselves.
OWN_WAYS = {"runtime/forking.py", "runtime/finalizers.py"}


@contextmanager
def held_elsewhere(locks: list[Any]) -> Iterator[None]:
    """Hold locks on another thread."""
    taken, over = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                if lock.acquire(timeout=1):
                    stack.callback(lock.release)
            taken.set()
            over.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    try:
        yield
    finally:
        over.set()
        thread.join()


def zarr_store(path: Path) -> Path:
    return write_ome_zarr(path / "plain.ome.zarr", [PIXELS])


def sharded_store(path: Path) -> Path:
    with BioWriter(path / "s.ome.zarr", image=FACE, chunks=16, shards=32) as bw:
        bw[:] = FACE
    return path / "s.ome.zarr"


def foreign_store(path: Path) -> Path:
    """Two nested shardings are read through zarr-python."""
    zarr = pytest.importorskip("zarr")
    inner = zarr.codecs.ShardingCodec(chunk_shape=(1, 1, 1, 16, 16))
    outer = zarr.codecs.ShardingCodec(chunk_shape=(1, 1, 1, 32, 32), codecs=[inner])
    store = path / "foreign.zarr"
    array = zarr.create_array(
        store, shape=PIXELS.shape, dtype=PIXELS.dtype, chunks=(1, 1, 2, 64, 64), serializer=outer,
        compressors=None, filters=None,
    )  # fmt: skip
    array[...] = PIXELS
    return store


def tiff_file(path: Path) -> Path:
    return write_ome_tiff(path / "a.ome.tif", PIXELS)


def tiff_series(path: Path) -> str:
    for t in range(2):
        write_ome_tiff(path / f"t{t}.ome.tif", PIXELS[t : t + 1])
    return str(path / "t{t:d}.ome.tif")


FILES = (zarr_store, sharded_store, foreign_store, tiff_file, tiff_series)
files = pytest.mark.parametrize("make", FILES)


class TestLocks:
    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize("make", [forking.lock, forking.rlock, forking.condition])
    def test_a_lock_held_by_another_thread_is_free_in_a_child(self, make: Callable[[], Any]):
        lock = make()
        with held_elsewhere([lock]):
            child = Child(lambda: lock.acquire(timeout=5) and "taken")
            assert child.answer() == "taken"
            assert not lock.acquire(blocking=False)

    def test_waiters_of_the_parent_are_none_of_the_child(self):
        changed = forking.condition()

        def wait() -> None:
            with changed:
                changed.wait(60)

        thread = threading.Thread(target=wait)
        thread.start()
        while not changed._waiters:  # type: ignore[attr-defined]
            time.sleep(0.001)

        def notify() -> int:
            with changed:
                changed.notify_all()
                return len(changed._waiters)  # type: ignore[attr-defined]

        assert Child(notify).answer() == "0"
        with changed:
            changed.notify_all()
        thread.join()

    def test_objects_are_put_in_order(self):
        class Thing:
            state = "half changed"

            def __init__(self) -> None:
                forking.in_child(self.mend)

            def mend(self) -> None:
                self.state = "repaired"

        thing, gone = Thing(), Thing()
        del gone
        assert Child(lambda: thing.state).answer() == "repaired"
        assert thing.state == "half changed"

    def test_nothing_is_kept_alive(self):
        before = len(forking._locks), len(forking._actions)
        for _ in range(10):
            ChunkCache()
        assert (len(forking._locks), len(forking._actions)) == before

    @pytest.mark.slow(ci=True)
    def test_every_lasting_lock_is_made_there(self):
        """A lock of `threading` in a module would bring back the children that hang."""
        found = []
        for path in (*ROOT.rglob("*.py"), *(ROOT.parent / "backends").rglob("*.py")):
            inside = path.is_relative_to(ROOT)
            place = path.relative_to(ROOT if inside else ROOT.parent / "backends")
            if {place.parts[0] if inside else "", place.as_posix()} & (OF_ONE_CALL | OWN_WAYS):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Attribute) or node.attr not in {
                    "Lock", "RLock", "Condition",
                }:  # fmt: skip
                    continue
                if isinstance(node.value, ast.Name) and node.value.id == "threading":
                    found.append(f"{path.name}:{node.lineno}")
        # Taken before each fork, so that it is never held at one.
        assert [place for place in found if not place.startswith("private_folder.py")] == []
        assert len(found) == 1


@files
class TestReaders:
    @pytest.mark.slow(ci=True)
    def test_a_child_reads_while_all_locks_are_held(self, tmp_path: Path, make: Any):
        """As if each of the parent's threads had been interrupted inside a lock."""
        with BioReader(make(tmp_path), max_workers=3) as br:
            assert np.array_equal(br[:, :, 0, 0, 0], FACE[:, :, 0, 0, 0])

            def read() -> bool:
                same = np.array_equal(br.read(keepdims=True), FACE)
                br.close()
                return same

            with held_elsewhere(list(forking._locks)):
                assert Child(read).answer() == "True"
            assert np.array_equal(br.read(keepdims=True), FACE)

    @pytest.mark.slow(ci=True)
    def test_a_pickled_reader_opens_in_a_child(self, tmp_path: Path, make: Any):
        import pickle

        with BioReader(make(tmp_path)) as br:
            recipe = pickle.dumps(br)
        again = pickle.loads(recipe)
        with held_elsewhere(list(forking._locks)):
            child = Child(lambda: np.array_equal(pickle.loads(recipe).read(keepdims=True), FACE))
            assert child.answer() == "True"
        assert np.array_equal(again.read(keepdims=True), FACE)

    @pytest.mark.skipif(
        "COVERAGE_RUN" in os.environ, reason="measuring threads of the parent hangs the children"
    )
    @pytest.mark.slow(ci=True)
    def test_children_forked_while_threads_read(self, tmp_path: Path, make: Any):
        chance = random.Random(7)
        stop = threading.Event()
        failures: list[str] = []

        def box() -> tuple[slice, ...]:
            y, x = chance.randrange(60), chance.randrange(70)
            return (slice(y, y + chance.randrange(1, 40)), slice(x, x + chance.randrange(1, 40)))

        def look() -> None:
            while not stop.is_set():
                where = box()
                if not np.array_equal(br[where], FACE[where]):
                    failures.append(str(where))

        with BioReader(make(tmp_path), max_workers=2, cache=100_000) as br:
            threads = [threading.Thread(target=look) for _ in range(3)]
            for thread in threads:
                thread.start()
            try:
                for _ in range(8):
                    time.sleep(chance.random() / 500)
                    where = [box() for _ in range(3)]
                    child = Child(
                        lambda where=where: all(np.array_equal(br[w], FACE[w]) for w in where)
                    )
                    failures += [told for told in [child.answer()] if told != "True"]
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
        assert failures == []


class TestState:
    def test_a_cache_knows_its_size(self):
        cache = ChunkCache(1000)
        cache["a"] = np.zeros(100, np.uint8)
        cache.nbytes = 5_000  # between two assignments of another thread
        assert Child(lambda: cache.nbytes).answer() == "100"

    def test_reads_under_way_elsewhere_do_not_hold_back_closing(self, tmp_path: Path):
        with BioReader(tiff_file(tmp_path)) as br:
            gate = br._file.backend._gate  # type: ignore[attr-defined]
            with gate:
                assert Child(lambda: br.close() or "closed").answer() == "closed"

    def test_a_step_along_directories_is_undone(self, tmp_path: Path):
        from bfbridge.limits import DEFAULT_LIMITS
        from bfbridge.tiff.directories import TiffFile

        access = as_source(tiff_file(tmp_path)).open()
        tiff = TiffFile(access, "a", DEFAULT_LIMITS)
        assert tiff.walk(3)
        expected = list(tiff._offsets)
        # Interrupted before the last assignment of a step.
        tiff._next = expected[-1]
        child = Child(lambda: tiff.walk(5) and tiff._offsets[:4] == expected)
        assert child.answer() == "True"
        access.close()


class TestOpenFiles:
    """A forked child has one position in a file in common with its parent."""

    @pytest.mark.slow(ci=True)
    def test_a_plain_file_is_read_without_its_position(self, tmp_path: Path):
        path = tiff_file(tmp_path)
        with path.open("rb") as file, BioReader(file) as br:
            file.seek(7)
            assert np.array_equal(br.read(keepdims=True), FACE)
            child = Child(lambda: np.array_equal(br.read(keepdims=True), FACE))
            assert child.answer() == "True"
            assert file.tell() == 7

    def test_bytes_in_memory_are_the_child_s_own(self, tmp_path: Path):
        with BioReader(io.BytesIO(tiff_file(tmp_path).read_bytes()), name="a.ome.tif") as br:
            child = Child(lambda: np.array_equal(br.read(keepdims=True), FACE))
            assert child.answer() == "True"

    def test_any_other_file_is_refused_in_a_child(self, tmp_path: Path):
        class Wrapped(io.BufferedReader):
            """Whose bytes may be others than its descriptor's."""

        path = tiff_file(tmp_path)
        with Wrapped(io.FileIO(path)) as file, BioReader(file) as br:
            told = Child(lambda: br[:]).answer()
            assert "ReadFailed" in told
            assert "shared with the parent" in told
            assert "by its path" in told
            assert np.array_equal(br.read(keepdims=True), FACE)


def test_a_part_of_a_shared_store_is_written_by_who_opened_it(tmp_path: Path):
    path = tmp_path / "shared.ome.zarr"
    BioWriter.create(path, image=FACE, chunks=64, shards=128)
    with BioWriter.open(path) as bw:
        bw[:64, :64] = FACE[:64, :64]

        def write() -> None:
            bw[64:] = FACE[64:]

        told = Child(write).answer()
        assert "WriteFailed" in told
        assert "BioWriter.open in each process" in told
        assert Child(lambda: bw.abort() or "given up").answer() == "given up"
        bw[64:] = FACE[64:]
        bw[:64, 64:] = FACE[:64, 64:]
    BioWriter.finish(path)
    with BioReader(path) as br:
        assert np.array_equal(br.read(keepdims=True), FACE)


def test_no_module_uses_the_cached_property_of_functools():
    """In Python 3.11 its lock belongs to a class, and is not made anew in a child."""
    for path in (*ROOT.rglob("*.py"), *(ROOT.parent / "backends").rglob("*.py")):
        if path.name != "cached_property.py":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"functools\b.*\bcached_property", text), path


def test_a_cached_property_is_computed_once_for_each_object():
    class Numbered:
        calls = 0

        @cached_property
        def value(self) -> int:
            """The number of the call."""
            Numbered.calls += 1
            return Numbered.calls

    one, two = Numbered(), Numbered()
    assert (one.value, one.value, two.value, one.value) == (1, 1, 2, 1)
    assert Numbered.value.__doc__ == "The number of the call."
