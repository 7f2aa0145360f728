"""Bytes from paths, URLs, open files and memory: the same at any offset, from any thread."""

from __future__ import annotations

import gc
import io
import os
import pickle
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bfbridge.errors import BadArgument, Closed, FileMissing, UnreadableFile
from bfbridge.storage.source import RandomAccess, Source, as_source
from tests.support.webserver import serve

DATA = bytes(range(256)) * 40


@pytest.fixture(params=["path", "bytes", "memoryview", "file", "raw", "url"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    path = tmp_path / "a b.bin"
    path.write_bytes(DATA)
    make: dict[str, Callable[[], Any]] = {
        "path": lambda: path,
        "bytes": lambda: DATA,
        "memoryview": lambda: memoryview(bytearray(DATA)).cast("H"),
        "file": lambda: path.open("rb"),
        "raw": lambda: path.open("rb", buffering=0),
        "url": path.as_uri,
    }
    target = make[request.param]()
    if request.param == "url":
        pytest.importorskip("fsspec")
        target = f"file://{path}"
    yield as_source(target)
    if hasattr(target, "close"):
        target.close()


def test_reads_at_any_offset(source: Source) -> None:
    access = source.open()
    assert isinstance(access, RandomAccess)
    assert access.size == len(DATA)
    for offset, length in [(0, 1), (5, 300), (len(DATA) - 3, 3), (0, len(DATA))]:
        assert bytes(access.read_at(offset, length)) == DATA[offset : offset + length]
    # fewer only at the end
    assert bytes(access.read_at(len(DATA) - 3, 10)) == DATA[-3:]
    assert bytes(access.read_at(len(DATA), 10)) == b""
    assert bytes(source.head(7)) == DATA[:7]
    assert source.exists()
    assert not source.is_dir()
    access.close()
    access.close()


def test_reads_from_many_threads(source: Source) -> None:
    access = source.open()

    def read(n: int) -> bool:
        offset = n * 37 % 9000
        return bytes(access.read_at(offset, 500)) == DATA[offset : offset + 500]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(400)))
    access.close()


def test_what_is_missing_is_said_to_be_missing(tmp_path: Path) -> None:
    source = as_source(tmp_path / "none.tif")
    assert not source.exists()
    with pytest.raises(FileMissing, match=r"none\.tif: no such file"):
        source.open()
    with pytest.raises(UnreadableFile, match="a folder, not a file"):
        as_source(tmp_path).open()
    assert as_source(tmp_path).head() == b""
    assert as_source(tmp_path).is_dir()


def test_a_closed_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(DATA)
    access = as_source(path).open()
    access.close()
    with pytest.raises(Closed, match="read after close"):
        access.read_at(0, 1)


def test_closing_under_a_read_never_reads_another_file(tmp_path: Path, monkeypatch: Any) -> None:
    # The system gives a closed descriptor's number to the next file that is opened.
    (tmp_path / "a").write_bytes(b"a" * 100)
    (tmp_path / "b").write_bytes(b"b" * 100)
    access = as_source(tmp_path / "a").open()
    begun, go = threading.Event(), threading.Event()
    pread = os.pread

    def slow(fd: int, length: int, offset: int) -> bytes:
        begun.set()
        assert go.wait(30)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", slow)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(access.read_at, 0, 100)
        assert begun.wait(30)
        access.close()
        other = as_source(tmp_path / "b").open()
        go.set()
        assert reading.result() == b"a" * 100
    other.close()
    with pytest.raises(Closed):
        access.read_at(0, 1)


def test_short_reads_of_the_system_are_continued(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "a").write_bytes(DATA)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 7), offset))
    access = as_source(tmp_path / "a").open()
    assert access.read_at(5, 100) == DATA[5:105]
    assert access.read_at(len(DATA) - 9, 100) == DATA[-9:]
    access.close()


def test_the_systems_errors_name_the_file(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "a").write_bytes(DATA)
    access = as_source(tmp_path / "a").open()

    def fail(*args: Any) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(UnreadableFile, match=r"/a: bytes 3-7 .*Input/output error"):
        access.read_at(3, 4)
    access.close()


def test_open_files_stay_open_and_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    with (tmp_path / "a").open("rb") as file:
        source = as_source(file)
        assert source.name == str(tmp_path / "a")
        source.open().close()
        assert not file.closed
    with pytest.raises(UnreadableFile, match="cannot"):
        source.open().read_at(0, 3)
    with (tmp_path / "a").open() as text, pytest.raises(UnreadableFile, match="'rb'"):
        as_source(text).open()  # type: ignore[arg-type]
    assert as_source(io.BytesIO(DATA), name="x.tif").filename == "x.tif"
    assert as_source(io.BytesIO(DATA)).name == "<open file>"


def test_a_file_that_cannot_seek_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe, pytest.raises(UnreadableFile, match="cannot seek"):
        as_source(pipe).open()


@pytest.mark.parametrize("target", [None, 5, ["a"], {}])
def test_what_is_no_source(target: Any) -> None:
    with pytest.raises(BadArgument, match="cannot read from"):
        as_source(target)


@pytest.mark.parametrize(("target", "words"), [("", "empty"), ("a\0b", "NUL")])
def test_paths_that_are_none(target: str, words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        as_source(target)


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_source("~/a.tif").path == tmp_path / "a.tif"
    assert as_source("~nobody-has-this-name/a.tif").path == Path("~nobody-has-this-name/a.tif")
    assert as_source(Path("b.tif")).name == "b.tif"
    source = as_source("s3://bucket/folder/a.zarr?x=1", {"anon": True})
    assert (source.path, source.filename, source.is_local) == (None, "a.zarr", False)
    assert as_source(source) is source
    assert "anon" not in repr(source)


def test_siblings_and_children(tmp_path: Path) -> None:
    source = as_source(tmp_path / "a.tif")
    assert source.sibling("b.tif").path == tmp_path / "b.tif"
    assert as_source(tmp_path).child("0/c").path == tmp_path / "0" / "c"
    url = as_source("https://host/x/a.tif?token=5", {"k": 1})
    assert url.sibling("b.tif").url == "https://host/x/b.tif?token=5"
    assert url.sibling("b.tif").storage_options == {"k": 1}
    assert as_source("s3://b/x.zarr/").child("0").url == "s3://b/x.zarr/0"
    with pytest.raises(FileMissing, match=r"companion file, 'b\.tif'"):
        as_source(b"II").sibling("b.tif")
    with pytest.raises(BadArgument, match="no folders inside"):
        as_source(b"II").child("0")


@pytest.mark.parametrize("target", [b"bytes", "a.tif", "s3://b/a.tif"])
def test_sources_can_be_pickled(target: Any) -> None:
    source = as_source(target)
    again = pickle.loads(pickle.dumps(source))
    assert (again.name, again.path, again.url) == (source.name, source.path, source.url)
    if source.data is not None:
        assert bytes(again.data) == bytes(source.data)
        assert again.open().read_at(1, 3) == b"yte"


def test_a_url_without_its_package_or_filesystem(monkeypatch: Any) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(BadArgument, match="no filesystem for this URL"):
        as_source("nosuchprotocol://a/b.tif").exists()
    import sys

    from bfbridge.errors import MissingExtra

    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtra, match=r'pip install "bfbridge\[all\]"'):
        as_source("s3://a/b.tif").exists()


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("needs /proc")
    (tmp_path / "a").write_bytes(DATA)
    source = as_source(tmp_path / "a")
    before = len(list(fds.iterdir()))
    for _ in range(50):
        source.open().close()
        source.head()
        source.open()  # closed when it is forgotten
    time.sleep(0)
    assert len(list(fds.iterdir())) <= before


@pytest.mark.slow(ci=True)
@pytest.mark.timeout(20)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_a_file_that_is_refused_is_closed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A second close() would close a file that another thread opened meanwhile.
    os.mkfifo(tmp_path / "a.tif")
    inode = os.stat(tmp_path / "a.tif").st_ino
    closed: list[int] = []
    close = os.close

    def counted(fd: int) -> None:
        # Descriptors of earlier tests are closed meanwhile too.
        if fd in closed or os.fstat(fd).st_ino == inode:
            closed.append(fd)
        close(fd)

    monkeypatch.setattr(os, "close", counted)
    with pytest.raises(UnreadableFile, match="pipe, device or socket"):
        as_source(tmp_path / "a.tif").open()
    gc.collect()
    assert len(closed) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    from bfbridge import BioReader

    os.mkfifo(tmp_path / "a.tif")
    for path in (tmp_path / "a.tif", Path(os.devnull)):
        with pytest.raises(UnreadableFile, match=rf"^{path}: this is a pipe, device or socket"):
            BioReader(path)


@pytest.mark.slow(ci=True)
def test_a_server_that_cannot_be_reached_is_a_clear_error() -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    class Unreachable(MemoryFileSystem):
        protocol = "unreachable"

        def info(self, path: str, **kwargs: Any) -> Any:
            raise ConnectionError("connection refused")

    import fsspec

    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    with pytest.raises(UnreadableFile, match=r"unreachable://a/b\.tif: cannot be reached"):
        as_source("unreachable://a/b.tif").exists()


def test_a_web_server_that_does_not_answer_is_no_missing_file(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    from bfbridge import BioReader

    (tmp_path / "a.tif").write_bytes(DATA)
    with serve(tmp_path, token="secret") as web:
        unknown = as_source(f"{web.url}/a.tif")
        for ask in (unknown.exists, unknown.is_dir):
            with pytest.raises(UnreadableFile, match=r"a\.tif: cannot be reached \(401"):
                ask()
        known = {"client_kwargs": {"headers": {"X-Token": "secret"}}}
        assert as_source(f"{web.url}/a.tif", known).exists()
        assert not as_source(f"{web.url}/b.tif", known).exists()
        with pytest.raises(FileMissing):
            BioReader(f"{web.url}/b.tif", storage_options=known)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and no server listens
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}/b.tif"
        with pytest.raises(UnreadableFile, match=r"b\.tif: cannot be reached \(Cannot connect"):
            BioReader(nowhere)
