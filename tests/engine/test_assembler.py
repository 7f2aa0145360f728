"""From regions to chunks: many threads, little memory, and writes that go wrong."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge.backend import ImageSpec, Shape5
from bfbridge.engine import assembler
from bfbridge.engine.assembler import UnfinishedChunks, _LevelChunk
from bfbridge.errors import Closed, WriteFailed
from tests.support.engine import face, memory_writer, smaller, written
from tests.support.memory import MemoryWriter, distinct

STORED = distinct((2, 3, 2, 77, 101))
ARRAY = face(STORED)


@pytest.fixture(autouse=True)
def _encode_small_chunks_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "SMALL_CHUNK", 0)


class SlowWriter(MemoryWriter):
    """Takes its time, so that what should wait for a chunk has to."""

    seconds = 0.02

    def write_block(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        before = block.copy()
        time.sleep(self.seconds)
        assert (block == before).all(), "the caller's array was used after the write returned"
        super().write_block(image, level, index, block)


class FailingWriter(MemoryWriter):
    """Fails at the n-th block, once."""

    fail_at = 3
    error: BaseException = OSError(28, "No space left on device")

    def __init__(self, images: list[ImageSpec]) -> None:
        super().__init__(images)
        self.calls = 0

    def write_block(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        with self._lock:
            self.calls += 1
            calls = self.calls
        if calls == self.fail_at:
            raise self.error
        super().write_block(image, level, index, block)


class JoiningWriter(MemoryWriter):
    """Accepts up to 2 x 3 x 2 chunks of 16 x 32 with one call."""

    def __init__(self, images: list[ImageSpec]) -> None:
        super().__init__(images)
        self.joined: set[int] = set()

    def write_unit(self, image: int, level: int) -> Shape5:
        return (1, 1, 2, 48, 64)

    def write_joined(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        grid = self.specs[image].image.levels[level].grid
        start = grid.origin(index)
        stop = tuple(a + n for a, n in zip(start, block.shape, strict=True))
        assert all(n <= most for n, most in zip(block.shape, (1, 1, 2, 48, 64), strict=True))
        for found, inside, part in grid.parts(start, stop):  # type: ignore[arg-type]
            shape = tuple(cut.stop for cut in inside)
            assert (shape, {cut.start for cut in inside}) == (grid.block_shape(found), {0})  # type: ignore[arg-type]
            self.blocks[image, level, found] = block[part].copy()  # type: ignore[index]
        with self._lock:
            self.joined.add(level)


def start(folder: Path, backend: Any = MemoryWriter, **wanted: Any) -> Any:
    writer = memory_writer(folder, backend=backend, **{"workers": 2, **wanted})
    writer.shape, writer.dtype = ARRAY.shape, ARRAY.dtype
    return writer


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("step", [(16, 32), (13, 17), (77, 5), (1, 101)])
@pytest.mark.parametrize("memory", [0, 3000, 1 << 28])
def test_tiles_of_any_size_and_budget_give_the_whole_image(
    tmp_path: Path, step: tuple[int, int], memory: int
) -> None:
    writer = start(tmp_path, pyramid=2, memory=memory)
    for y in range(0, 77, step[0]):
        for x in range(0, 101, step[1]):
            writer[y : y + step[0], x : x + step[1]] = ARRAY[y : y + step[0], x : x + step[1]]
    writer.close(require_complete=True)
    made = written(writer)
    half = smaller(STORED[:1, :1, :1], 2, "mean")
    np.testing.assert_array_equal(made.array(), STORED)
    np.testing.assert_array_equal(made.array(level=1)[:1, :1, :1], half)
    np.testing.assert_array_equal(made.array(level=2)[:1, :1, :1], smaller(half, 2, "mean"))


def test_eight_threads_write_overlapping_tiles(tmp_path: Path) -> None:
    writer = start(tmp_path, pyramid=1, memory=5000)
    tiles = [(y, x) for y in range(0, 77, 11) for x in range(0, 101, 9)]

    def write(tile: tuple[int, int]) -> None:
        y, x = tile
        writer[y : y + 16, x : x + 16] = ARRAY[y : y + 16, x : x + 16]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, tiles))
    writer.close(require_complete=True)
    made = written(writer)
    np.testing.assert_array_equal(made.array(), STORED)
    np.testing.assert_array_equal(made.array(level=1)[1, 2], smaller(STORED[1, 2], 2, "mean"))


@pytest.mark.parametrize("workers", [1, 3])
def test_whole_chunks_are_written_together(tmp_path: Path, workers: int) -> None:
    writer = start(tmp_path, JoiningWriter, workers=workers, pyramid=2)
    writer[5:7, 40:50, 0] = 1  # chunks with other pixels are written one by one
    writer[:] = ARRAY
    writer[16:48, 32:, :, 1] = 7
    writer[3:, 1:99, 1:, :, :1] = ARRAY[3:, 1:99, 1:, :, :1] + 1
    writer.close(require_complete=True)
    expected = STORED.copy()
    expected[:, 1, :, 16:48, 32:] = 7
    expected[0, :, 1, 3:, 1:99] = STORED[0, :, 1, 3:, 1:99] + 1
    made = written(writer)
    assert isinstance(made, JoiningWriter)
    assert made.joined >= {0, 1}
    for level in range(3):
        np.testing.assert_array_equal(made.array(level=level), expected)
        expected = smaller(expected, 2, "mean")


def test_later_writes_of_a_chunk_win_on_every_level(tmp_path: Path) -> None:
    writer = start(tmp_path, SlowWriter, pyramid=2, workers=4)
    for value in range(1, 8):
        writer[:16, :32, 0, 0, 0] = np.full((16, 32), value, np.uint16)
    writer.close()
    made = written(writer)
    for level, size in enumerate([(16, 32), (8, 16), (4, 8)]):
        corner = made.array(level=level)[0, 0, 0, : size[0], : size[1]]
        np.testing.assert_array_equal(corner, np.full(size, 7))


def test_a_rewrite_never_overtakes_the_level_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bfbridge.engine.assembler.SMALL_LEVEL", 0)
    # The first write is held in the middle of handing its half-size to level 1. The second must
    # wait for it; if it did not, level 1 would end with the first one's pixels.
    held, go = threading.Event(), threading.Event()

    class Held(MemoryWriter):
        def write_block(
            self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
        ) -> None:
            if level == 1 and block[0, 0, 0, 0, 0] == 1:
                held.set()
                assert go.wait(30)
            super().write_block(image, level, index, block)

    writer = memory_writer(
        tmp_path, backend=Held, workers=4, pyramid=1, backend_options={"chunk": (1, 1, 1, 32, 64)}
    )
    writer.shape, writer.dtype = (32, 64), "uint16"
    writer[:] = np.full((32, 64), 1, np.uint16)
    assert held.wait(30)
    second = threading.Thread(target=lambda: writer.__setitem__(..., 2))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    go.set()
    second.join()
    writer.close()
    made = written(writer)
    assert (made.array() == 2).all()
    assert (made.array(level=1) == 2).all()


def test_the_array_handed_in_may_be_changed_at_once(tmp_path: Path) -> None:
    writer = start(tmp_path, SlowWriter)
    tile = np.empty((16, 32), np.uint16)
    for number, y in enumerate(range(0, 64, 16)):
        tile[:] = number
        writer[y : y + 16, :32, 0, 0, 0] = tile
    writer.close()
    got = face(written(writer).array())[:64:16, 0, 0, 0, 0]
    np.testing.assert_array_equal(got, range(4))


@pytest.mark.parametrize("later", ["same tile", "another tile", "nothing"])
def test_after_a_failed_block_nothing_is_finished(tmp_path: Path, later: str) -> None:
    (tmp_path / "image").write_bytes(b"old")
    writer = start(tmp_path, FailingWriter)

    def write_and_close() -> None:
        for x in range(0, 96, 32):
            for y in range(0, 64, 16):
                writer[y : y + 16, x : x + 32, 0, 0, 0] = 5
        writer.close()

    with pytest.raises(WriteFailed, match="No space left"):
        write_and_close()
    if later != "nothing" and not writer.closed:
        with pytest.raises(WriteFailed, match=r"an earlier write failed.*No space left"):
            writer[(0 if later == "same tile" else 48) :, :32, 0, 0, 0] = 5
    if not writer.closed:
        with pytest.raises(WriteFailed, match=r"an earlier write failed.*No space left"):
            writer.close()
    assert writer.closed
    assert written(writer).aborted
    assert (tmp_path / "image").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["image"]


def test_after_an_interrupted_write_nothing_is_finished(tmp_path: Path) -> None:
    """Ctrl-C in a notebook, and then `close`: the file would look whole and have gaps."""

    class Interrupted(FailingWriter):
        error = KeyboardInterrupt()

    (tmp_path / "image").write_bytes(b"old")
    writer = start(tmp_path, Interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer[:] = ARRAY
    with pytest.raises(WriteFailed, match=r"an earlier write failed.*KeyboardInterrupt"):
        writer[:16, :32, 0, 0, 0] = 5
    with pytest.raises(WriteFailed, match=r"an earlier write failed.*KeyboardInterrupt"):
        writer.close()
    assert written(writer).aborted
    assert (tmp_path / "image").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["image"]


def test_an_error_of_the_last_block_is_not_lost(tmp_path: Path) -> None:
    # `wait` may see that a job has ended before the job's own call noted its error.
    for _ in range(50):
        writer = memory_writer(tmp_path, backend=FailingWriter, workers=2)
        writer.shape, writer.dtype = (16, 96), "uint16"
        for x in range(0, 96, 32):
            writer[:, x : x + 32] = 1
        with pytest.raises(WriteFailed, match="No space left"):
            writer.close()


def test_more_writers_than_threads_do_not_lock_up(tmp_path: Path) -> None:
    # Jobs of `run` fill every thread of its pool and each waits for a chunk to be encoded.
    from bfbridge.engine.workers import MAX_THREADS, run

    writer = memory_writer(tmp_path, backend=SlowWriter, workers=1)
    writer.shape, writer.dtype = (16 * 300, 32), "uint16"

    def write(number: int) -> None:
        writer[number * 16 : number * 16 + 16] = number

    jobs = (lambda n=n: write(n) for n in range(300))
    SlowWriter.seconds, before = 0.001, SlowWriter.seconds
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run(jobs, MAX_THREADS + 40)
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(80)
    SlowWriter.seconds = before
    assert not worker.is_alive(), "locked up"
    if errors:
        raise errors[0]
    writer.close(require_complete=True)
    np.testing.assert_array_equal(written(writer).array()[0, 0, 0, ::16, 0], range(300))


def test_close_waits_for_writes_on_other_threads(tmp_path: Path) -> None:
    inside = threading.Event()

    class Telling(SlowWriter):
        seconds = 0.3

        def write_block(
            self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
        ) -> None:
            inside.set()
            super().write_block(image, level, index, block)

    writer = memory_writer(tmp_path, backend=Telling, workers=1)
    writer.shape, writer.dtype = (32, 32), "uint16"
    # Two chunks are encoded on the writing thread itself.
    thread = threading.Thread(target=lambda: writer.__setitem__(..., 9))
    thread.start()
    assert inside.wait(30)
    writer.close(require_complete=True)
    thread.join()
    assert (written(writer).array() == 9).all()
    with pytest.raises(Closed, match="the writer is closed"):
        writer[0, 0] = 1


def test_scratch_keeps_chunks_within_its_budget(tmp_path: Path) -> None:
    shape: Shape5 = (1, 1, 1, 8, 8)
    dtype = np.dtype(np.uint16)
    scratch = UnfinishedChunks(tmp_path, budget=400)
    opened = []
    for number in range(6):
        chunk = _LevelChunk()
        chunk.array = np.full(shape, number, dtype)
        chunk.written = np.zeros(shape, bool)
        chunk.written.flat[: number + 1] = True
        with chunk.lock:
            scratch.touch(chunk)
        opened.append(chunk)
    assert [chunk.array is None for chunk in opened] == [True] * 4 + [False] * 2
    assert scratch._held == 2 * (128 + 64)
    for number, chunk in enumerate(opened):
        scratch.restore(chunk, shape, dtype)
        assert chunk.array is not None
        assert chunk.written is not None
        assert (chunk.array == number).all()
        assert chunk.written.sum() == number + 1
        scratch.drop(chunk, 128 + 8)
    assert scratch._held == 0
    scratch.close()
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_scratch_uses_the_place_of_finished_chunks_again(tmp_path: Path) -> None:
    writer = start(tmp_path, memory=0)
    for y in range(0, 64, 16):
        for x in range(0, 96, 32):  # opens chunks, whose halves spill; then each is written whole
            writer[y : y + 8, x : x + 32, 0, 0, 0] = 1
        for x in range(0, 96, 32):
            writer[y : y + 16, x : x + 32, 0, 0, 0] = 2
        writer._file._background.wait()
    size = writer._file._unfinished._end
    assert 0 < size <= 3 * (16 * 32 * 2 + 16 * 32 // 8)
    writer.abort()


def test_a_full_scratch_disk_fails_the_write(tmp_path: Path, monkeypatch: Any) -> None:
    writer = start(tmp_path, memory=0)

    def full(self: UnfinishedChunks, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(UnfinishedChunks, "_write", full)
    with pytest.raises(WriteFailed, match="No space left"):
        writer[:20] = ARRAY[:20]
    with pytest.raises(WriteFailed, match="an earlier write failed"):
        writer.close()
    assert not (tmp_path / "image").exists()
