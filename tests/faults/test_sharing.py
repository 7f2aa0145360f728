"""Several writers, readers beside writers, what a thousand openings leave: W3, R1, L1."""

from __future__ import annotations

import gc
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.engine.workers import MAX_THREADS
from bfbridge.errors import BfbridgeError, TargetBusy
from tests.faults.zygote import pixels
from tests.support.dropped import settle_all
from tests.support.faults import leftovers, read_by_peer, read_by_us, state

FORMATS = {
    "ome-tiff": (".ome.tif", {"tile": 128}),
    "ome-zarr": (".ome.zarr", {"chunks": 128}),
}
formats = pytest.mark.parametrize("kind", FORMATS)
SHAPE = (390, 270, 1, 2, 1)


def write(path: Path, array: np.ndarray, kind: str, **more: object) -> None:
    options = {**FORMATS[kind][1], **more}
    with BioWriter(path, shape=array.shape, dtype=array.dtype, **options) as writer:
        writer[:] = array


@formats
class TestTwoWriters:
    def test_the_second_is_refused_at_once_and_harms_nothing(self, tmp_path, kind, zygote):
        """In another process, while the first writes half of its image before and half after."""
        path = tmp_path / f"image{FORMATS[kind][0]}"
        array = pixels(SHAPE, 1)
        with BioWriter(path, shape=SHAPE, dtype=array.dtype, **FORMATS[kind][1]) as writer:
            writer[:200] = array[:200]
            answer = zygote.order(path=path, shape=SHAPE, seed=2, overwrite=True, count=False)
            assert answer["status"] == "raised"
            assert answer["type"] == "TargetBusy"
            assert f"process {os.getpid()}" in answer["message"]
            assert answer["seconds"] < 5
            with pytest.raises(TargetBusy):
                BioWriter(path, overwrite=True)
            writer[200:] = array[200:]
        assert state(path, {"first": array}) == "first"
        assert leftovers(path) == []

    @pytest.mark.parametrize("step", [128, 50], ids=["aligned", "unaligned"])
    @pytest.mark.parametrize("pyramid", [False, True])
    def test_threads_of_one_writer_share_chunks(self, tmp_path, kind, step, pyramid):
        path = tmp_path / f"image{FORMATS[kind][0]}"
        array = pixels(SHAPE, 3)
        boxes = [
            (slice(y, y + step), slice(x, x + step), slice(None), slice(c, c + 1))
            for y in range(0, SHAPE[0], step)
            for x in range(0, SHAPE[1], step)
            for c in range(SHAPE[3])
        ]
        random.Random(step).shuffle(boxes)
        with BioWriter(
            path,
            shape=SHAPE,
            dtype=array.dtype,
            pyramid=pyramid,
            downsample="nearest",
            **FORMATS[kind][1],
        ) as writer:

            def store(box: tuple[slice, ...]) -> None:
                writer[box] = array[box]

            with ThreadPoolExecutor(6) as pool:
                list(pool.map(store, boxes))
        np.testing.assert_array_equal(read_by_us(path), array)
        np.testing.assert_array_equal(read_by_peer(path), array)

    @pytest.mark.slow(ci=True)
    def test_a_race_of_processes_ends_with_one_whole_image(self, tmp_path, kind, zygote):
        path = tmp_path / f"image{FORMATS[kind][0]}"
        ours, theirs = pixels(SHAPE, 1), pixels(SHAPE, 2)
        refused = []
        stop = threading.Event()

        def compete() -> None:
            while not stop.is_set():
                try:
                    write(path, ours, kind, overwrite=True)
                except TargetBusy:
                    refused.append("here")

        thread = threading.Thread(target=compete)
        thread.start()
        try:
            for _ in range(15):
                answer = zygote.order(
                    path=path, shape=SHAPE, seed=2, overwrite=True, count=False,
                    options=FORMATS[kind][1],
                )  # fmt: skip
                if answer["status"] == "raised":
                    assert answer["type"] == "TargetBusy", answer
                    refused.append("there")
        finally:
            stop.set()
            thread.join()
        assert state(path, {"ours": ours, "theirs": theirs}) in {"ours", "theirs"}
        assert leftovers(path) == []
        assert refused


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@formats
class TestForkedChild:
    """A worker process that inherited an open writer must not touch its parent's image."""

    def in_child(self, action: Callable[[], object]) -> str:
        """Fork, call, and return what was raised."""
        receive, send = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                action()
                os.write(send, b"nothing was raised")
            except BaseException as error:  # noqa: BLE001 whatever it is, it is the answer
                os.write(send, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.close(send)
        os.waitpid(pid, 0)
        with open(receive, "rb") as answer:
            return answer.read().decode()

    def test_writing_there_is_refused(self, tmp_path, kind):
        path = tmp_path / f"image{FORMATS[kind][0]}"
        array = pixels(SHAPE, 1)
        with BioWriter(path, shape=SHAPE, dtype=array.dtype, **FORMATS[kind][1]) as writer:
            writer[:128] = array[:128]

            def overwrite() -> None:
                writer[128:256] = array[:128]

            answer = self.in_child(overwrite)
            writer[128:] = array[128:]
        assert "WriteFailed" in answer
        assert "forked copy" in answer
        np.testing.assert_array_equal(read_by_us(path), array)

    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize("way", ["close", "abort", "__del__"])
    def test_ending_there_leaves_the_parent_s_work(self, tmp_path, kind, way):
        path = tmp_path / f"image{FORMATS[kind][0]}"
        array = pixels(SHAPE, 1)
        with BioWriter(path, shape=SHAPE, dtype=array.dtype, **FORMATS[kind][1]) as writer:
            writer[:200] = array[:200]
            answer = self.in_child(getattr(writer, way))
            assert ("forked copy" in answer) == (way == "close")
            assert not path.exists()
            writer[200:] = array[200:]
        np.testing.assert_array_equal(read_by_us(path), array)
        assert leftovers(path) == []


@formats
class TestReaderBesideWriter:
    @pytest.mark.slow(ci=True)
    def test_opening_while_it_is_overwritten(self, tmp_path, kind):
        """Every opening gives one image whole, or an error; never a mixture, never zeros."""
        path = tmp_path / f"image{FORMATS[kind][0]}"
        images = [pixels(SHAPE, seed) for seed in range(3)]
        write(path, images[0], kind)
        stop, failures, whole = threading.Event(), [], []

        def look() -> None:
            while not stop.is_set():
                try:
                    with BioReader(path, max_workers=1) as reader:
                        found = reader.read(keepdims=True)
                except BfbridgeError:
                    continue
                if any(np.array_equal(found, image) for image in images):
                    whole.append(1)
                else:
                    failures.append(f"{np.count_nonzero(found == 0)} zeros")

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for number in range(30):
                write(path, images[number % 3], kind, overwrite=True)
        finally:
            stop.set()
            thread.join()
        assert failures == []
        assert len(whole) > 5

    @pytest.mark.parametrize("same_grid", [True, False])
    def test_a_reader_that_was_open_before(self, tmp_path, kind, same_grid):
        """It still returns the old image, or raises an error that the file was replaced."""
        path = tmp_path / f"image{FORMATS[kind][0]}"
        old, new = pixels(SHAPE, 1), pixels(SHAPE if same_grid else (300, 260, 1, 2, 1), 2)
        write(path, old, kind)
        with BioReader(path, max_workers=2) as reader:
            np.testing.assert_array_equal(reader[:100], old[:100, :, 0, :, 0][:, :, None])
            write(path, new, kind, overwrite=True)
            failure = ""
            try:
                found = reader.read(keepdims=True)
            except BfbridgeError as error:
                failure = str(error)
            else:
                np.testing.assert_array_equal(found, old)
            assert not failure or path.name in failure
        np.testing.assert_array_equal(read_by_us(path), new)

    def test_nothing_is_seen_while_it_is_written(self, tmp_path, kind):
        path = tmp_path / f"image{FORMATS[kind][0]}"
        array = pixels(SHAPE, 1)
        with BioWriter(path, shape=SHAPE, dtype=array.dtype, **FORMATS[kind][1]) as writer:
            for y in range(0, SHAPE[0], 130):
                writer[y : y + 130] = array[y : y + 130]
                assert not path.exists()
                with pytest.raises(BfbridgeError):
                    BioReader(path)[:]
        np.testing.assert_array_equal(read_by_us(path), array)


class Resources:
    """Threads, descriptors and temporary files of this process, compared with a moment before.

    The shared pools keep their threads, up to a fixed number; they are counted apart.
    """

    def __init__(self) -> None:
        # Garbage of earlier tests, freed later, would lower the counts.
        gc.collect()
        self.pooled, self.before = self.now()

    @staticmethod
    def now() -> tuple[int, dict[str, Any]]:
        settle_all()
        names = [thread.name for thread in threading.enumerate()]
        pooled = sum(name.startswith("bfbridge") for name in names)
        found: dict[str, Any] = {
            "threads": len(names) - pooled,
            "temporary files": sorted(os.listdir(tempfile.gettempdir())),
        }
        if Path("/proc/self/task").is_dir():
            found["native threads"] = len(os.listdir("/proc/self/task")) - pooled
            found["descriptors"] = len(os.listdir("/proc/self/fd"))
        return pooled, found

    def assert_back(self) -> None:
        """Give what ends by itself a moment, then compare."""
        gc.collect()
        deadline = time.monotonic() + 5
        pooled, now = self.now()
        while now != self.before and time.monotonic() < deadline:
            time.sleep(0.05)
            pooled, now = self.now()
        if "native threads" in now and now["native threads"] < self.before["native threads"]:
            # Java ends compiler threads that are idle; Python's are compared above.
            now["native threads"] = self.before["native threads"]
        assert now == self.before
        assert pooled <= max(self.pooled, MAX_THREADS) + MAX_THREADS


@pytest.fixture
def own_temporary_folder(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.mark.usefixtures("own_temporary_folder")
@formats
class TestResourcesReturn:
    @pytest.mark.slow(ci=True)
    def test_after_a_thousand_readers(self, tmp_path, kind):
        path = tmp_path / f"image{FORMATS[kind][0]}"
        array = pixels((200, 150, 1, 1, 1), 1)
        write(path, array, kind)

        def once(number: int) -> None:
            with BioReader(path, max_workers=2) as reader:
                y = number % 199
                np.testing.assert_array_equal(
                    reader[y : y + 1, :, 0, 0, 0], array[y : y + 1, :, 0, 0, 0]
                )

        for number in range(5):
            once(number)
        resources = Resources()
        for number in range(1000):
            once(number)
        resources.assert_back()

    @pytest.mark.slow(ci=True)
    def test_after_readers_that_were_never_closed(self, tmp_path, kind):
        path = tmp_path / f"image{FORMATS[kind][0]}"
        array = pixels((200, 150, 1, 1, 1), 1)
        write(path, array, kind)
        BioReader(path, max_workers=2)[:1].sum()
        resources = Resources()
        for _ in range(100):
            BioReader(path, max_workers=2)[:1].sum()
        resources.assert_back()

    @pytest.mark.slow(ci=True)
    def test_after_a_hundred_writers(self, tmp_path, kind):
        array = pixels((200, 150, 1, 1, 1), 1)
        path = tmp_path / f"image{FORMATS[kind][0]}"

        def once() -> None:
            write(path, array, kind, overwrite=True, max_workers=2)
            writer = BioWriter(path, shape=array.shape, dtype=array.dtype, overwrite=True)
            writer[:100] = array[:100]
            writer.abort()

        once()
        resources = Resources()
        for _ in range(100):
            once()
        resources.assert_back()
        assert state(path, {"whole": array}) == "whole"
