"""System calls that read or write less than asked, as those of network file systems may."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.errors import ReadFailed, UnreadableFile, WriteFailed
from bfbridge.runtime.descriptors import fill_at, read_all, write_all
from bfbridge.runtime.processes.ipc import MessagePipe
from bfbridge.storage.source import as_source
from bfbridge_bioformats.isolation.plane_buffer import PlaneBuffer
from bfbridge_ometiff.reading import files
from tests.storage.test_stamp import tiff
from tests.support.tiffs import numbered, read_ours

ROOT = Path(__file__).parents[2]
MOST = 1000


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Every call moves at most `MOST` bytes; the number of calls that were cut short."""
    cut: dict[str, int] = {}

    def of(name: str, number: int) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(fd: int, what: Any, *rest: Any) -> Any:
            if number == 0:  # a length
                small: Any = min(what, MOST)
                less = small < what
            elif number == 1:  # bytes
                small = memoryview(what).cast("B")[:MOST]
                less = len(small) < memoryview(what).nbytes
            else:  # a list of buffers
                small = [memoryview(what[0]).cast("B")[:MOST]]
                less = len(small[0]) < memoryview(what[0]).nbytes
            cut[name] = cut.get(name, 0) + less
            return real(fd, small, *rest)

        return call

    kinds = {"read": 0, "pread": 0, "write": 1, "pwrite": 1, "readv": 2, "preadv": 2}
    for name, number in kinds.items():
        if hasattr(os, name):
            monkeypatch.setattr(os, name, of(name, number))
    return cut


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.ome.tif", {"compression": "none"}),
        ("a.ome.tif", {"compression": "zstd", "tile": 64}),
        ("a.ome.zarr", {}),
        ("a.ome.zarr", {"shards": (1, 1, 1, 128, 128), "chunks": (1, 1, 1, 64, 64)}),
    ],
)
def test_files_written_and_read(
    tmp_path: Path, short: dict[str, int], name: str, options: dict[str, Any]
) -> None:
    pixels = numbered((150, 130, 3), "u2")
    with BioWriter(tmp_path / name, shape=pixels.shape, dtype="u2", **options) as writer:
        writer[:] = pixels
    with BioReader(tmp_path / name) as reader:
        np.testing.assert_array_equal(reader[:], pixels)
        np.testing.assert_array_equal(reader[70:90, 3:60, 1], pixels[70:90, 3:60, 1])
    assert sum(short.values())


def test_only_the_end_of_the_file_is_a_truncation(
    tmp_path: Path, short: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = numbered((1, 1, 2, 64, 64), "u2")
    data = tiff(array)
    (tmp_path / "a.ome.tif").write_bytes(data)
    np.testing.assert_array_equal(read_ours(tmp_path / "a.ome.tif"), array)
    assert short["preadv"]
    # A file that is shorter than its header states, although its size does not show it.
    monkeypatch.setattr(files, "fill_at", lambda *args: fill_at(*args) - 1)
    with pytest.raises(ReadFailed, match="truncated or damaged"):
        read_ours(tmp_path / "a.ome.tif")


def test_a_spool_and_a_pipe(tmp_path: Path, short: dict[str, int]) -> None:
    from bfbridge.backend import Image, ImageSpec, Level

    pixels = numbered((1, 1, 1, 50, 60), "u2")
    spec = ImageSpec(Image(None, (Level(pixels.shape, pixels.shape),), pixels.dtype))  # type: ignore[arg-type]
    spool = PlaneBuffer(tmp_path / "spool", [spec])
    spool.write(0, 0, (0, 0, 0, 0, 0), pixels)
    np.testing.assert_array_equal(spool.read(0, 0, (0, 0, 0, 0, 0)), pixels)
    spool.close()
    receive, send = os.pipe()
    try:
        channel = MessagePipe(receive, send)
        channel.send(pixels)
        np.testing.assert_array_equal(channel.receive(), pixels)
    finally:
        os.close(receive)
        os.close(send)
    assert short["write"]
    assert short["pwrite"]


def test_whole_reads_and_writes(tmp_path: Path, short: dict[str, int]) -> None:
    data = bytes(range(256)) * 20
    with (tmp_path / "a").open("w+b", buffering=0) as file:
        fd = file.fileno()
        write_all(fd, data)
        write_all(fd, memoryview(np.frombuffer(data, "u2")), 7)
        whole = data[:7] + data
        assert read_all(fd, 99_999, 0) == whole
        assert read_all(fd, 3000, 100) == whole[100:3100]
        assert read_all(fd, 10, len(whole)) == b""
        os.lseek(fd, 5, os.SEEK_SET)
        assert read_all(fd, 2500) == whole[5:2505]
        memory = bytearray(3000)
        assert fill_at(fd, memoryview(memory), 9) == 3000
        assert memory == whole[9:3009]
        assert fill_at(fd, memoryview(memory), len(whole) - 1500) == 1500
    assert {"read", "pread", "preadv", "write", "pwrite"} <= {k for k, n in short.items() if n}


def test_a_system_that_takes_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with (tmp_path / "a").open("wb") as file, pytest.raises(OSError, match="nothing") as caught:
        write_all(file.fileno(), b"x")
    assert caught.value.errno == errno.EIO


def test_a_chunk_that_cannot_be_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written again, it is read first; what comes back is shorter, or the system refuses."""
    from tests.ometiff.test_ometiff_write import prepare

    array = numbered((1, 1, 1, 16, 16), "u2")
    writer, _ = prepare(tmp_path / "a.ome.tif", [[array]], tile=16)
    writer.write_block(0, 0, (0, 0, 0, 0, 0), array)

    def refuse(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", lambda *_: b"")
    with pytest.raises(WriteFailed, match="cannot be read back"):
        writer.read_block(0, 0, (0, 0, 0, 0, 0))
    monkeypatch.setattr(os, "pread", refuse)
    with pytest.raises(WriteFailed, match=r"cannot be read back \(Input/output error"):
        writer.read_block(0, 0, (0, 0, 0, 0, 0))
    writer.abort()


def test_a_server_that_gives_less_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    data = bytes(range(256)) * 20
    fsspec.filesystem("memory").pipe("/short/a", data)
    access = as_source("memory://short/a").open()
    kind = type(fsspec.filesystem("memory"))
    whole = kind.cat_file

    def short(self: Any, url: str, start: int, end: int) -> bytes:
        found: bytes = whole(self, url, start=start, end=min(end, start + MOST))
        return found

    monkeypatch.setattr(kind, "cat_file", short)
    assert access.read_at(5, 4000) == data[5:4005]
    access.size += 10
    with pytest.raises(UnreadableFile, match="no bytes from 5,120 on"):
        access.read_at(4000, 1125)


def test_a_file_in_non_blocking_mode(tmp_path: Path) -> None:
    class NonBlocking:
        name = "socket"

        def seek(self, *_: int) -> int:
            return 10

        def read(self, _: int) -> None:
            return None

    access = as_source(NonBlocking()).open()  # type: ignore[arg-type]
    with pytest.raises(UnreadableFile, match="non-blocking mode"):
        access.read_at(0, 5)


def test_nobody_calls_the_system_but_in_a_loop() -> None:
    """`read_all`, `fill_at` and `write_all` are the loops; three modules have others."""
    loops = {"bfbridge/runtime/descriptors.py", "backends/bfbridge_omezarr/hierarchy/store.py",
             "bfbridge/runtime/processes/ipc.py", "bfbridge/storage/file_object.py"}  # fmt: skip
    call = re.compile(r"\bos\.(p?readv?|p?writev?|sendfile|copy_file_range)\(")
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("bfbridge", "backends")
        for path in (ROOT / folder).rglob("*.py")
        if call.search(path.read_text(encoding="utf-8"))
    }
    assert found <= loops
