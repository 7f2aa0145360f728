"""OME-Zarr over fsspec: in memory, and from a web server that answers byte ranges or does not."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")
fsspec = pytest.importorskip("fsspec")

from bfbridge.backend import OpenOptions, Region  # noqa: E402
from bfbridge.engine.workers import available_cpus  # noqa: E402
from bfbridge.errors import (  # noqa: E402
    BadArgument,
    BfbridgeError,
    Closed,
    FileChanged,
    LimitExceeded,
    ReadFailed,
    Unsupported,
)
from bfbridge.storage.remote import retries  # noqa: E402
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr import OmeZarrReader  # noqa: E402

VALUES = (np.arange(2 * 3 * 90 * 70).reshape(2, 3, 90, 70) * 7).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a plain and a sharded store."""
    axes = [{"name": n, "type": t} for n, t in
            (("t", "time"), ("c", "channel"), ("y", "space"), ("x", "space"))]  # fmt: skip
    entry = {"axes": axes, "datasets": [{"path": "0"}]}
    for name, shards in (("plain", None), ("sharded", (1, 3, 64, 64))):
        group = zarr.open_group(str(tmp_path / f"{name}.zarr"), mode="w", zarr_format=3)
        array = group.create_array(
            "0", shape=VALUES.shape, dtype="u2", chunks=(1, 1, 32, 32), shards=shards
        )
        array[...] = VALUES
        group.attrs.put({"ome": {"version": "0.5", "multiscales": [entry]}})
    return tmp_path


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A web server of a folder; it can be slow, blind to ranges, or broken."""

    delay: ClassVar[float] = 0
    ranges: ClassVar[bool] = True
    broken: ClassVar[str] = ""
    missing: ClassVar[int] = 404
    forbidden: ClassVar[str] = ""
    # Headers that tell one version of a file from another.
    validators: ClassVar[tuple[str, ...]] = ("ETag", "Last-Modified", "Content-Range")
    name: ClassVar[str] = "one"
    asked: ClassVar[list[tuple[str, int]]] = []
    # Each request waits, 20 s at most, until so many have been under way at once.
    together: ClassVar[int] = 0
    # Requests under way now, and at most so far.
    active: ClassVar[int] = 0
    most: ClassVar[int] = 0
    lock: ClassVar[threading.Lock] = threading.Lock()
    # Without it each request makes a connection of its own.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        with self.lock:
            type(self).active += 1
            type(self).most = max(self.most, self.active)
        time.sleep(self.delay)
        end = time.monotonic() + 20
        while self.most < self.together and time.monotonic() < end:
            time.sleep(0.005)
        with self.lock:
            type(self).active -= 1
        self.answer()

    def answer(self) -> None:
        path = Path(self.translate_path(self.path))
        if self.broken and self.broken in self.path:
            self.send_error(500)
            return
        if not path.is_file():
            self.send_error(self.missing)
            return
        if self.forbidden and self.forbidden in self.path:
            self.send_error(403)
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range")
        status = 200
        if wanted and self.ranges:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            size = len(data)
            low = int(first) if first else size - int(last)
            high = min(int(last) + 1, size) if first and last else size
            data, status = data[low:high], 206
        self.asked.append((self.path, len(data)))
        self.send_response(status)
        self.tell_version(path, f"bytes {low}-{high - 1}/{size}" if status == 206 else "")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def tell_version(self, path: Path, part: str) -> None:
        told = path.stat()
        headers = {
            "ETag": f'"{self.name}-{told.st_mtime_ns}"',
            "Last-Modified": self.date_time_string(int(told.st_mtime)),
            "Content-Range": part,
        }
        for name in self.validators:
            if headers[name]:
                self.send_header(name, headers[name])

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server(folder: Path) -> Iterator[tuple[str, type[Ranges]]]:
    class Handler(Ranges):
        asked: ClassVar[list[tuple[str, int]]] = []

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, directory=str(folder), **kwargs)

    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.daemon_threads = True
    threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}", Handler
    served.shutdown()
    served.server_close()


def open_reader(url: str) -> OmeZarrReader:
    return OmeZarrReader.open(as_source(url), OpenOptions())


def whole(reader: OmeZarrReader) -> np.ndarray[Any, Any]:
    image = reader.images[0]
    out = np.empty(image.levels[0].shape, image.dtype)
    reader.read(Region(0, 0, (0,) * 5, image.levels[0].shape), out)
    return out


@pytest.mark.parametrize("name", ["plain", "sharded"])
def test_in_memory(folder: Path, name: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder / f"{name}.zarr"), f"/{name}.zarr", recursive=True)
    try:
        reader = open_reader(f"memory://{name}.zarr")
        np.testing.assert_array_equal(whole(reader)[:, :, 0], VALUES)
        assert f"memory://{name}.zarr/0/zarr.json" in reader.used_files
        reader.close()
        with pytest.raises(Closed):
            whole(reader)
        with pytest.raises(Unsupported):
            open_reader("memory://elsewhere.zarr")
    finally:
        memory.rm("/", recursive=True)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", ["plain", "sharded"])
def test_from_a_web_server(server: tuple[str, type[Ranges]], name: str) -> None:
    reader = open_reader(f"{server[0]}/{name}.zarr")
    np.testing.assert_array_equal(whole(reader)[:, :, 0], VALUES)


def test_one_chunk_of_a_shard_is_fetched_alone(server: tuple[str, type[Ranges]]) -> None:
    url, handler = server
    reader = open_reader(f"{url}/sharded.zarr")
    handler.asked.clear()
    out = np.empty((1, 1, 1, 32, 32), np.uint16)
    for channel in (0, 1):
        region = Region(0, 0, (0, channel, 0, 32, 0), (1, channel + 1, 1, 64, 32))
        reader.read(region, out)
        np.testing.assert_array_equal(out[0, 0, 0], VALUES[0, channel, 32:64, :32])
    # The index once, then a chunk each.
    index, first, second = handler.asked
    assert index == ("/sharded.zarr/0/c/0/0/0/0", 12 * 16 + 4)
    assert max(first[1], second[1]) < 2048 + 64


ANSWERS = {
    "all": ("ETag", "Last-Modified", "Content-Range"),
    "ETag": ("ETag",),
    "date": ("Last-Modified",),
    "nothing": (),
}


def rewrite(folder: Path) -> None:
    """Write other pixels into the sharded store, as a program that does not know its readers."""
    path = folder / "sharded.zarr/0"
    zarr.open_array(str(path), mode="r+")[...] = VALUES[::-1] // 3
    for shard in path.rglob("c/**/*"):
        os.utime(shard, (2_000_000_000, 2_000_000_000))


def chunk(reader: OmeZarrReader, y: int, x: int) -> np.ndarray[Any, Any]:
    out = np.empty((1, 1, 1, 32, 32), np.uint16)
    reader.read(Region(0, 0, (0, 0, 0, y, x), (1, 1, 1, y + 32, x + 32)), out)
    return out[0, 0, 0]


class TestShardsThatAreReplaced:
    """An index of one version with chunks of another would be wrong pixels."""

    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize("told", ANSWERS.values(), ids=ANSWERS)
    def test_from_a_web_server(
        self, server: tuple[str, type[Ranges]], folder: Path, told: tuple[str, ...]
    ) -> None:
        url, handler = server
        handler.validators = told
        reader = open_reader(f"{url}/sharded.zarr")
        np.testing.assert_array_equal(chunk(reader, 0, 0), VALUES[0, 0, :32, :32])
        rewrite(folder)
        for _ in range(2):
            with pytest.raises(FileChanged, match=r"0/c/0/0/0/0: this shard was replaced .*again"):
                chunk(reader, 32, 0)
        again = open_reader(f"{url}/sharded.zarr")
        np.testing.assert_array_equal(whole(again)[:, :, 0], VALUES[::-1] // 3)

    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize(("told", "requests"), [("all", 3), ("ETag", 3), ("nothing", 5)])
    def test_requests(self, server: tuple[str, type[Ranges]], told: str, requests: int) -> None:
        """One for the index and one for each chunk, if the server sends validators."""
        url, handler = server
        handler.validators = ANSWERS[told]
        reader = open_reader(f"{url}/sharded.zarr")
        handler.asked.clear()
        for y in (0, 32):
            np.testing.assert_array_equal(chunk(reader, y, 0), VALUES[0, 0, y : y + 32, :32])
        assert len(handler.asked) == requests

    def test_servers_that_answer_in_turn(self, server: tuple[str, type[Ranges]]) -> None:
        """Each makes its own ETag of a file, which is the same one."""
        url, handler = server
        reader = open_reader(f"{url}/sharded.zarr")
        for name in ("one", "two", "three"):
            handler.name = name
            np.testing.assert_array_equal(chunk(reader, 32, 32), VALUES[0, 0, 32:64, 32:64])

    def test_in_memory(self, folder: Path) -> None:
        memory = fsspec.filesystem("memory")
        memory.put(str(folder / "sharded.zarr"), "/s.zarr", recursive=True)
        try:
            reader = open_reader("memory://s.zarr")
            np.testing.assert_array_equal(chunk(reader, 0, 0), VALUES[0, 0, :32, :32])
            rewrite(folder)
            shard = "0/c/0/0/0/0"
            memory.put(str(folder / "sharded.zarr" / shard), f"/s.zarr/{shard}")
            with pytest.raises(FileChanged, match="replaced"):
                chunk(reader, 32, 0)
        finally:
            memory.rm("/", recursive=True)

    @pytest.mark.slow(ci=True)
    def test_on_s3(self, folder: Path, tmp_path: Path) -> None:
        pytest.importorskip("s3fs")
        pytest.importorskip("moto")
        from tests.support.s3server import serve_s3

        with serve_s3(folder, "key-of-this-test") as (web, options):
            source = as_source(f"{web.url}/sharded.zarr", options)
            reader = OmeZarrReader.open(source, OpenOptions())
            np.testing.assert_array_equal(chunk(reader, 0, 0), VALUES[0, 0, :32, :32])
            before = web.sent
            np.testing.assert_array_equal(chunk(reader, 32, 0), VALUES[0, 0, 32:64, :32])
            # That chunk and no index.
            assert web.sent - before < 2 * 32 * 32 + 64
            rewrite(folder)
            shard = "0/c/0/0/0/0"
            source.filesystem().put_file(
                str(folder / "sharded.zarr" / shard), f"{web.url}/sharded.zarr/{shard}"
            )
            with pytest.raises(FileChanged, match="replaced"):
                chunk(reader, 0, 32)
            reader.close()

    def test_a_chunk_that_was_not_stored(
        self, folder: Path, server: tuple[str, type[Ranges]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The answer about one that is missing is believed for some seconds, not for ever."""
        from bfbridge_omezarr.chunked import indexes

        array = zarr.open_array(str(folder / "sharded.zarr/0"), mode="r+")
        array[:, :, :32, :32] = 0
        reader = open_reader(f"{server[0]}/sharded.zarr")
        local = OmeZarrReader.open(as_source(folder / "sharded.zarr"), OpenOptions())
        for each in (reader, local):
            assert not chunk(each, 0, 0).any()
        server[1].asked.clear()
        assert not chunk(reader, 0, 0).any()
        assert server[1].asked == []
        rewrite(folder)
        monkeypatch.setattr(indexes, "_MISSING_SECONDS", -1.0)
        for each in (reader, local):
            with pytest.raises(FileChanged, match="replaced"):
                chunk(each, 0, 0)

    def test_a_shard_that_is_written_later(
        self, folder: Path, server: tuple[str, type[Ranges]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As by a program that adds to a store while it is read."""
        from bfbridge_omezarr.chunked import indexes

        shard = folder / "sharded.zarr/0/c/0/0/0/0"
        data = shard.read_bytes()
        shard.unlink()
        reader = open_reader(f"{server[0]}/sharded.zarr")
        local = OmeZarrReader.open(as_source(folder / "sharded.zarr"), OpenOptions())
        for each in (reader, local):
            assert not chunk(each, 0, 0).any()
        shard.write_bytes(data)
        monkeypatch.setattr(indexes, "_MISSING_SECONDS", -1.0)
        for each in (reader, local):
            np.testing.assert_array_equal(chunk(each, 0, 0), VALUES[0, 0, :32, :32])


def test_zipped_store_by_url(server: tuple[str, type[Ranges]], folder: Path) -> None:
    import zipfile

    memory = fsspec.filesystem("memory")
    with memory.open("/a.ozx", "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for part in sorted((folder / "plain.zarr").rglob("*")):
            if part.is_file():
                archive.write(part, part.relative_to(folder / "plain.zarr").as_posix())
    try:
        np.testing.assert_array_equal(whole(open_reader("memory://a.ozx"))[:, :, 0], VALUES)
    finally:
        memory.rm("/a.ozx")


def test_server_blind_to_ranges_is_an_error_and_not_wrong_pixels(
    server: tuple[str, type[Ranges]],
) -> None:
    url, handler = server
    handler.ranges = False
    np.testing.assert_array_equal(whole(open_reader(f"{url}/plain.zarr"))[:, :, 0], VALUES)
    reader = open_reader(f"{url}/sharded.zarr")
    with pytest.raises(ReadFailed, match="range"):
        whole(reader)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("broken", ["plain.zarr/0/c/0/1", "zarr.json"])
def test_server_errors_are_no_fill_value(
    server: tuple[str, type[Ranges]], broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "FIRST_SECONDS", 0.01)
    url, handler = server
    handler.broken = broken
    with pytest.raises(BfbridgeError, match=r"plain\.zarr/.*500"):
        whole(open_reader(f"{url}/plain.zarr"))


def test_missing_chunk_is_fill_value(server: tuple[str, type[Ranges]], folder: Path) -> None:
    (folder / "plain.zarr/0/c/1/2/1/1").unlink()
    expected = VALUES.copy()
    expected[1, 2, 32:64, 32:64] = 0
    np.testing.assert_array_equal(whole(open_reader(f"{server[0]}/plain.zarr"))[:, :, 0], expected)


@pytest.mark.slow(ci=True)
def test_requests_of_many_threads_overlap(server: tuple[str, type[Ranges]]) -> None:
    url, handler = server
    reader = open_reader(f"{url}/plain.zarr")
    corners = [(c, y, x) for c in range(3) for y in (0, 32) for x in (0, 32)]

    def one(corner: tuple[int, int, int]) -> bool:
        c, y, x = corner
        out = np.empty((1, 1, 1, 32, 32), np.uint16)
        reader.read(Region(0, 0, (0, c, 0, y, x), (1, c + 1, 1, y + 32, x + 32)), out)
        return bool((out[0, 0, 0] == VALUES[0, c, y : y + 32, x : x + 32]).all())

    handler.most, handler.together = 0, len(corners) // 2
    with ThreadPoolExecutor(len(corners)) as pool:
        assert all(pool.map(one, corners))
    assert handler.most >= handler.together


@pytest.mark.slow(ci=True)
def test_as_many_requests_at_once_as_pay(server: tuple[str, type[Ranges]], folder: Path) -> None:
    from bfbridge import BioReader

    url, handler = server
    handler.delay = 0.02
    for workers, least, most in ((None, 6, 64), (1, 1, 1)):
        with BioReader(f"{url}/plain.zarr", max_workers=workers, cache=0) as br:
            handler.most, handler.together = 0, least
            np.testing.assert_array_equal(br[:, :, 0][:, :, 0], VALUES.transpose(2, 3, 1, 0))
            assert least <= handler.most <= most
    with BioReader(folder / "plain.zarr") as br:
        assert br.max_workers == available_cpus()


def test_face_reads_urls(server: tuple[str, type[Ranges]]) -> None:
    from bfbridge import BioReader

    with BioReader(f"{server[0]}/plain.zarr") as br:
        assert br.backend == "omezarr"
        np.testing.assert_array_equal(br[:, :, 0, 2, 1], VALUES[1, 2])


def test_what_is_too_long_is_not_fetched_whole(
    server: tuple[str, type[Ranges]], folder: Path
) -> None:
    url, handler = server
    reader = open_reader(f"{url}/plain.zarr")
    with (folder / "plain.zarr/0/c/0/0/0/0").open("r+b") as file:
        file.truncate(64 << 20)
    handler.asked.clear()
    with pytest.raises(LimitExceeded, match="more than the"):
        whole(reader)
    # Twice a chunk and a mebibyte is what its bytes may take at most.
    assert max(length for _, length in handler.asked) == 2 * 32 * 32 * 2 + (1 << 20) + 1


def plate(path: Path, zarr_format: Any) -> np.ndarray[Any, Any]:
    """A plate of four wells with two fields of two levels each, with consolidated metadata."""
    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)

    def describe(group: Any, **attributes: Any) -> None:
        group.attrs.put({"ome": {"version": "0.5", **attributes}})

    wells = [(row, column) for row in "BD" for column in ("02", "11")]
    listed = [{"path": f"{row}/{column}"} for row, column in wells]
    names = {"rows": [{"name": n} for n in "BD"], "columns": [{"name": n} for n in ("02", "11")]}
    describe(root, plate={"name": "trial", "wells": listed, **names})
    axes = [{"name": n, "type": "space"} for n in "yx"]
    values = (np.arange(8 * 40 * 30).reshape(8, 40, 30) * 3).astype(np.uint16)
    for i, pixels in enumerate(values):
        well = root.require_group("/".join(wells[i // 2]))
        describe(well, well={"images": [{"path": "0"}, {"path": "1"}]})
        field = well.create_group(str(i % 2))
        describe(field, multiscales=[{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}])
        for level, stored in enumerate((pixels, pixels[::2, ::2])):
            array = field.create_array(
                str(level), shape=stored.shape, dtype="u2", chunks=(16, 16),
                chunk_key_encoding={"name": "v2", "separator": "/"} if zarr_format == 2 else None,
            )  # fmt: skip
            array[...] = stored
    zarr.consolidate_metadata(str(path))
    return values


@pytest.mark.slow(ci=True)
@pytest.mark.filterwarnings("ignore:Consolidated metadata:UserWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_copies_of_the_documents_spare_requests(
    server: tuple[str, type[Ranges]], folder: Path, zarr_format: Any
) -> None:
    url, handler = server
    values = plate(folder / "plate.zarr", zarr_format)

    def opened(**options: Any) -> tuple[OmeZarrReader, int]:
        handler.asked.clear()
        source = as_source(f"{url}/plate.zarr")
        reader = OmeZarrReader.open(source, OpenOptions(backend_options=options))
        return reader, len(handler.asked)

    def same(reader: OmeZarrReader) -> bool:
        out = np.empty((8, 40, 30), np.uint16)
        for i in range(8):
            reader.read(Region(i, 0, (0,) * 5, (1, 1, 1, 40, 30)), out[i][None, None, None])
        return [image.name for image in reader.images][1::2] == [
            "B02/1", "B11/1", "D02/1", "D11/1"
        ] and np.array_equal(out, values)  # fmt: skip

    reader, requests = opened()
    assert same(reader)
    plain, others = opened(consolidated=False)
    assert same(plain)
    # The root and one array to compare; 4 wells, 8 fields and 16 arrays are spared.
    assert requests <= 4 < 29 <= others
    assert reader.original_metadata.keys() >= {
        key for key in plain.original_metadata if not key.startswith(("zarr.json", ".z"))
    }
    # One document differs from its copy: none of the copies is taken.
    name = ".zarray" if zarr_format == 2 else "zarr.json"
    document = folder / f"plate.zarr/B/02/0/0/{name}"
    document.write_text(document.read_text().replace("40", "39", 1))
    changed, _ = opened()
    assert changed.images[0].levels[0].shape == (1, 1, 1, 39, 30)
    with pytest.raises(BadArgument, match="True or False"):
        opened(consolidated="yes")


@pytest.mark.parametrize("name", ["plain", "sharded"])
def test_a_server_that_forbids_what_is_not_there(
    server: tuple[str, type[Ranges]], folder: Path, name: str
) -> None:
    """As object stores do for users who may not list them."""
    url, handler = server
    handler.missing = 403
    reader = open_reader(f"{url}/{name}.zarr")
    np.testing.assert_array_equal(whole(reader)[:, :, 0], VALUES)
    # A chunk may be missing or hidden from us: zeros would be a guess.
    (folder / f"{name}.zarr/0/c/1/0/1/1").unlink()
    with pytest.raises(ReadFailed, match=r"0/c/1/0/1/1: cannot be fetched .*403.*missing"):
        whole(open_reader(f"{url}/{name}.zarr"))


@pytest.mark.parametrize("hidden", ["/plain.zarr", "/plain.zarr/zarr.json"])
def test_a_store_that_is_forbidden(server: tuple[str, type[Ranges]], hidden: str) -> None:
    url, handler = server
    handler.forbidden = hidden
    with pytest.raises(ReadFailed, match=r"zarr.json: cannot be fetched .*403"):
        open_reader(f"{url}/plain.zarr")
    # What a document names has to be there.
    handler.forbidden = "/plain.zarr/0/zarr.json"
    with pytest.raises(BfbridgeError, match="plain.zarr/0"):
        open_reader(f"{url}/plain.zarr")


def test_file_systems_that_answer_one_key_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = fsspec.filesystem("memory")
    group = b'{"zarr_format": 3, "node_type": "group", "attributes": {"ome": {}}}'
    memory.pipe("/locked.zarr/zarr.json", group)
    try:
        with pytest.raises(Unsupported, match="multiscales"):
            open_reader("memory://locked.zarr")

        def refuse(path: str, **_: Any) -> bytes:
            raise PermissionError(13, "Forbidden", path)

        monkeypatch.setattr(type(memory), "cat_file", lambda _, path, **more: refuse(path, **more))
        with pytest.raises(ReadFailed, match="Forbidden"):
            open_reader("memory://locked.zarr")
    finally:
        memory.rm("/locked.zarr", recursive=True)
