"""Keys of OME-Zarr stores: folders, ZIP files and URLs are read and written alike."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

fsspec = pytest.importorskip("fsspec")
zarr = pytest.importorskip("zarr")

from bfbridge.errors import (  # noqa: E402
    FileChanged,
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
    Unsupported,
    WriteFailed,
)
from bfbridge.limits import DEFAULT_LIMITS  # noqa: E402
from bfbridge.runtime.thread_buffer import ThreadBuffer  # noqa: E402
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr.adapter import Adapter  # noqa: E402
from bfbridge_omezarr.hierarchy import store as module  # noqa: E402
from bfbridge_omezarr.hierarchy.files import (  # noqa: E402
    FileTree,
    JournalTree,
    KeyTree,
    ObjectTree,
    tree_of,
)
from bfbridge_omezarr.hierarchy.store import FolderStore, Store  # noqa: E402
from bfbridge_omezarr.hierarchy.zips import open_store  # noqa: E402

NOISE = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
KEYS = {"zarr.json": b"{}", "0/zarr.json": b'{"a": 1}', "0/c/0/0": NOISE, "0/c/0/1": b""}


def written(path: Path, keys: dict[str, bytes] = KEYS) -> Path:
    for key, data in keys.items():
        (path / key).parent.mkdir(parents=True, exist_ok=True)
        (path / key).write_bytes(data)
    return path


@pytest.fixture(params=["folder", "zip", "deflated", "url"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The same keys in every kind of store."""
    memory = fsspec.filesystem("memory")
    if request.param == "folder":
        place: Any = written(tmp_path / "a.zarr")
    elif request.param == "url":
        place = f"memory://{tmp_path.name}/a.zarr"
        for key, data in KEYS.items():
            memory.pipe(f"/{tmp_path.name}/a.zarr/{key}", data)
    else:
        place = tmp_path / "a.zip"
        kind = zipfile.ZIP_STORED if request.param == "zip" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(place, "w", kind) as archive:
            for key, data in KEYS.items():
                archive.writestr(f"inside/{key}", data)
    opened = open_store(as_source(place), DEFAULT_LIMITS, allow_outside=False)
    yield opened
    opened.close()
    opened.close()
    if opened.is_remote:
        memory.rm(f"/{tmp_path.name}", recursive=True)


def test_keys_are_read_alike(store: Store) -> None:
    buffer = ThreadBuffer(1 << 20)
    for key, data in KEYS.items():
        assert store.get(key, 5000) == data
        view = store.read(key, 5000, buffer)
        assert view is not None
        assert bytes(view) == data
    for missing in ("1/zarr.json", "0/c/0/2", "0/zarr.json/c"):
        assert store.get(missing, 10) is None
        assert store.read(missing, 10, buffer) is None
        assert store.get_range(missing, 0, 10) is None
        assert store.read_stamped(missing, 0, 10, buffer) is None
        assert store.stamp(missing) is None
        assert store.size(missing) is None
    with pytest.raises(LimitExceeded, match=r"0/c/0/0: has [45],...? bytes, more than the 4,998"):
        store.get("0/c/0/0", 4998)
    names = store.get_many([*KEYS, "1/zarr.json"], 5000)
    assert {key: bytes(found.data) for key, found in names.items()} == KEYS


@pytest.mark.parametrize("start", [0, 1, 4990, -1, -100])
@pytest.mark.parametrize("length", [1, 100])
def test_ranges_are_read_alike(store: Store, start: int, length: int) -> None:
    begin = start % 5000
    expected = NOISE[begin : begin + length]
    assert store.get_range("0/c/0/0", start, length) == expected
    found = store.read_stamped("0/c/0/0", start, length, ThreadBuffer(1 << 20))
    assert found is not None
    assert bytes(found.data) == expected
    assert store.is_remote or store.same(found.stamp, found.stamp)


def test_lengths_versions_and_lists(store: Store) -> None:
    if store.is_remote:
        # These would need a request.
        assert store.size("0/c/0/0") is None
        assert store.stamp("0/c/0/0") is None
        return
    assert {key: store.size(key) for key in store.keys()} == {k: len(d) for k, d in KEYS.items()}
    assert sorted(store.keys()) == sorted(KEYS)
    stamps = [store.stamp(key) for key in ("zarr.json", "0/zarr.json")]
    assert store.is_current("zarr.json", stamps[0])
    assert not store.is_current("zarr.json", stamps[1])
    assert not store.is_current("zarr.json", None)
    assert store.is_current("1/zarr.json", None)
    assert not store.is_current("1/zarr.json", stamps[0])


def test_zarr_python_reads_keys_as_its_own_stores_do(store: Store, tmp_path: Path) -> None:
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
    from zarr.core.buffer import default_buffer_prototype

    own = Adapter(store, {"0/zarr.json": b"instead"})
    theirs = zarr.storage.LocalStore(written(tmp_path / "theirs"))
    prototype = default_buffer_prototype()

    async def compared() -> None:
        requests = (
            None, RangeByteRequest(10, 300), OffsetByteRequest(4800), SuffixByteRequest(77),
        )  # fmt: skip
        for request in requests:
            expected = await theirs.get("0/c/0/0", prototype, request)
            found = await own.get("0/c/0/0", prototype, request)
            assert found is not None
            assert expected is not None
            assert found.to_bytes() == expected.to_bytes()
            (pair,) = await own.get_partial_values(prototype, [("0/c/0/0", request)])
            assert pair is not None
            assert pair.to_bytes() == expected.to_bytes()
        for key in ("0/c/0/0", "0/c/9/9"):
            assert await own.exists(key) == await theirs.exists(key)
        assert await own.get("0/c/9/9", prototype) is None
        replaced = await own.get("0/zarr.json", prototype)
        assert replaced is not None
        assert replaced.to_bytes() == b"instead"
        with pytest.raises(NotImplementedError):
            await own.set("a", prototype.buffer.from_bytes(b""))

    asyncio.run(compared())
    assert own == Adapter(store, {})
    assert hash(own) == hash(Adapter(store, {}))
    assert own != theirs
    assert [own.supports_writes, own.supports_deletes, own.supports_listing] == [False] * 3


# ---- folders


def folder(path: Path, allow_outside: bool = False) -> FolderStore:
    return FolderStore(str(path), str(path), allow_outside)


def refuse(*_: Any, **__: Any) -> Any:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.skipif(not hasattr(os, "readv"), reason="no readv here")
def test_systems_without_readv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "readv")
    real = os.read
    monkeypatch.setattr(os, "read", lambda fd, count: real(fd, min(count, 700)))
    found = folder(written(tmp_path / "a"))
    assert found.get("0/c/0/0", 9999) == NOISE
    assert found.get_range("0/c/0/0", 100, 2000) == NOISE[100:2100]
    assert found.get_range("0/c/0/0", 4900, 2000) == NOISE[4900:]


@pytest.mark.skipif(not hasattr(os, "readv"), reason="no readv here")
def test_failures_of_the_system_name_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = folder(written(tmp_path / "a"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "readv", refuse)
        for read in (found.get, lambda key, n: found.get_range(key, 0, n)):
            with pytest.raises(ReadFailed, match=r"a.0/c/0/0: cannot be read \(Input/output err"):
                read("0/c/0/0", 9999)
    with pytest.raises(ReadFailed, match=r"cannot be read \(File name too long\)"):
        found.get("0/c/" + "9" * 300, 10)
    with pytest.raises(ReadFailed, match="cannot be a file name"):
        found.get("0/c/\0", 10)


def test_a_file_that_is_truncated_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = folder(written(tmp_path / "a"))
    real = os.fstat

    def longer(fd: int) -> Any:
        status = list(real(fd))
        status[6] += 10
        return os.stat_result(status)

    monkeypatch.setattr(os, "fstat", longer)
    with pytest.raises(FileChanged, match="0/c/0/0: the file was written to while it was read"):
        found.get("0/c/0/0", 9999)


@pytest.mark.parametrize("instead", [True, False])
def test_a_store_that_is_replaced_or_removed(tmp_path: Path, instead: bool) -> None:
    path = written(tmp_path / "a")
    found = folder(path)
    path.rename(tmp_path / "old")
    if instead:
        written(path)
    for key in ("0/c/0/0", "0/c/9/9"):
        with pytest.raises(FileChanged, match=rf"{key}: the store was replaced or removed"):
            found.get(key, 9999)


def test_folders_that_were_checked_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHECKED_FOLDERS", 2)
    keys = {f"{n}/{m}/x": bytes([n, m]) for n in range(3) for m in range(3)}
    found = folder(written(tmp_path / "a", keys))
    for _ in range(2):
        assert {key: found.get(key, 9) for key in keys} == keys
    assert len(found._inside) <= 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_to_the_folder_itself(tmp_path: Path) -> None:
    path = written(tmp_path / "a")
    (path / "1").symlink_to(path / "0")
    (path / "loop").symlink_to(path / "loop")
    assert folder(path).get("1/c/0/0", 9999) == NOISE
    with pytest.raises(ReadFailed, match="loop"):
        folder(path).get("loop", 9)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_change_that_is_committed_and_not_in_place(tmp_path: Path, kind: str) -> None:
    """Readers see all of it; see `bfbridge.storage.journal`."""
    place = written(tmp_path / "a.zarr")
    record = {"format": 1, "removed": ["0/c/0/1"], "last": []}
    written(place / ".bfbridge-journal", {
        "commit.json": json.dumps(record).encode(),
        "new/0/zarr.json": b"new", "new/1/c/0/0": b"more",
    })  # fmt: skip
    expected = {k: d for k, d in KEYS.items() if k != "0/c/0/1"}
    expected |= {"0/zarr.json": b"new", "1/c/0/0": b"more"}
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for file in place.rglob("*"):
                archive.write(file, file.relative_to(place).as_posix())
        place = tmp_path / "a.zip"
    found = open_store(as_source(place), DEFAULT_LIMITS, allow_outside=False)
    assert list(found.keys()) == sorted(expected)
    assert {key: found.get(key, 9999) for key in found.keys()} == expected
    assert {key: found.size(key) for key in expected} == {k: len(d) for k, d in expected.items()}
    assert found.get("0/c/0/1", 9) is None
    assert found.stamp("0/c/0/1") is None
    for key in expected:
        assert found.is_current(key, found.stamp(key))
    found.close()


# ---- ZIP files


def zipped(path: Path, **kinds: int) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zarr.json", b"{}")
        for name, kind in kinds.items():
            archive.writestr(name, NOISE, kind)
    return path


def opened(path: Path) -> Store:
    return open_store(as_source(path), DEFAULT_LIMITS, allow_outside=False)


def test_entries_that_zip_compresses_otherwise_or_encrypts(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", packed=zipfile.ZIP_BZIP2, locked=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    # The flags of the last entry of the central directory.
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    found = opened(path)
    with pytest.raises(ReadFailed, match="packed: zip compression 12 is not supported; store the"):
        found.get("packed", 9999)
    with pytest.raises(ReadFailed, match="locked: is encrypted, which is not supported"):
        found.get("locked", 9999)
    found.close()


def test_entries_that_are_not_where_the_directory_says(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", a=zipfile.ZIP_STORED, b=zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        places = {info.filename: info.header_offset for info in archive.infolist()}
    for key in ("a", "b"):
        place = places[key]
        path.write_bytes(whole[:place] + b"XX" + whole[place + 2 :])
        found = opened(path)
        with pytest.raises(ReadFailed, match=rf"{key}: damaged in the zip file \(no entry there"):
            found.get_range(key, 10, 10)
        found.close()
    damaged = bytearray(whole)
    damaged[whole.index(NOISE[:20]) + 50] ^= 1
    path.write_bytes(damaged)
    found = opened(path)
    with pytest.raises(ReadFailed, match=r"a: damaged in the zip file \(checksum or length"):
        found.get("a", 9999)
    found.close()


def test_zip_files_of_several_stores_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__MACOSX/0/x", b"")
        archive.writestr("b.zarr/.zgroup", b"{}")
        archive.writestr("b.zarr/0/.zarray", b"{}")
    found = opened(path)
    assert list(found.keys()) == [".zgroup", "0/.zarray"]
    found.close()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a.zarr/.zgroup", b"{}")
    with pytest.raises(UnreadableFile, match=r"2 Zarr stores in it \(a\.zarr/, b\.zarr/\)"):
        opened(path)
    (tmp_path / "b.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    with pytest.raises(Unsupported, match="a zip file that contains no Zarr store"):
        opened(tmp_path / "b.zip")


# ---- writing


@pytest.fixture(params=["folder", "journal", "url"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A tree in which the keys of `KEYS` are stored."""
    path = written(tmp_path / "a.zarr")
    if request.param == "folder":
        yield tree_of(path)
        return
    if request.param == "journal":
        made: KeyTree = JournalTree(path)
        yield made
        made.discard()  # type: ignore[attr-defined]
        return
    memory = fsspec.filesystem("memory")
    memory.put(str(path), f"/{tmp_path.name}/a.zarr", recursive=True)
    made = tree_of(as_source(f"memory://{tmp_path.name}/a.zarr"))
    assert isinstance(made, ObjectTree)
    yield made
    made.close()
    made.close()
    memory.rm(f"/{tmp_path.name}", recursive=True)


def test_keys_are_written_removed_and_read_back_alike(tree: KeyTree) -> None:
    assert tree_of(tree) is tree
    assert tree.read("0/zarr.json", -9999) == KEYS["0/zarr.json"]
    for start, length in ((0, None), (7, None), (-7, None), (7, 20), (4990, 100)):
        begin = start % 5000
        end = None if length is None else begin + length
        assert tree.read("0/c/0/0", start, length) == NOISE[begin:end]
    assert tree.read("0/c/0/9") is None
    assert tree.read("0/zarr.json/x") is None
    tree.write("0/c/0/0", b"first")
    tree.write("0/c/0/0", memoryview(b"second"))
    tree.write("2/c/0/0", b"new")
    assert [tree.read(key) for key in ("0/c/0/0", "2/c/0/0")] == [b"second", b"new"]
    for _ in range(2):
        tree.remove("0/c/0/0")
        tree.remove("0/c/0/9")
        assert tree.read("0/c/0/0") is None
    tree.write("0/c/0/0", b"again")
    assert tree.read("0/c/0/0") == b"again"
    assert tree.path("0/c/0/0").replace(os.sep, "/").endswith("a.zarr/0/c/0/0")


def test_files_that_are_written_in_parts(tree: KeyTree) -> None:
    temporary = tree.temporary("3/c/0/0")
    assert temporary != tree.temporary("3/c/0/0")
    fd = tree.create(temporary)
    os.write(fd, b"ab")
    os.write(fd, b"cd")
    os.close(fd)
    assert tree.read("3/c/0/0") is None
    tree.publish(temporary, "3/c/0/0")
    assert not os.path.exists(temporary)
    assert tree.read("3/c/0/0") == b"abcd"
    for key, data in (("3/c/0/0", b"abcd"), ("0/c/0/0", NOISE)):
        temporary = tree.temporary(key)
        tree.take_back(key, temporary)
        with open(temporary, "ab") as file:
            file.write(b"ef")
        tree.publish(temporary, key)
        assert tree.read(key) == data + b"ef"
    with pytest.raises(FileNotFoundError):
        tree.take_back("3/c/9/9", tree.temporary("3/c/9/9"))


def test_folders_are_listed_and_removed(tree: KeyTree) -> None:
    assert tree.names("0/c/0") == ["0/c/0/0", "0/c/0/1"]
    assert tree.names("7") == []
    if not isinstance(tree, JournalTree):
        tree.remove_folder("0/c")
        assert tree.names("0/c/0") == []
        assert tree.read("0/c/0/0") is None
        assert tree.read("0/zarr.json") == KEYS["0/zarr.json"]
    tree.remove_folder("7")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_keys_that_lead_out_of_the_folder_are_not_inside(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    written(tmp_path / "a.zarr.old")
    (path / "out").symlink_to(tmp_path / "a.zarr.old")
    (path / "in").symlink_to(path / "0")
    tree = FileTree(path)
    assert [tree.contains(key) for key in ("0/c", "9/9", "in/c")] == [True] * 3
    outside = ("out", "out/c", "../a.zarr.old", "0/../..", "")
    assert [tree.contains(key) for key in outside] == [False] * 5


def test_a_change_is_applied_as_a_whole_or_discarded(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    for committed in (False, True):
        tree = JournalTree(path)
        tree.write("0/zarr.json", b"new")
        tree.remove("0/c/0/0")
        tree.remove("0/c/0/1")
        temporary = tree.temporary("0/c/0/1")
        os.close(tree.create(temporary))
        tree.publish(temporary, "0/c/0/1")
        assert {key: (path / key).read_bytes() for key in KEYS} == KEYS
        if committed:
            tree.commit(last=["0/zarr.json"])
        tree.discard()
    found = {f.relative_to(path).as_posix(): f.read_bytes() for f in path.rglob("*") if f.is_file()}
    assert found == {"zarr.json": b"{}", "0/zarr.json": b"new", "0/c/0/1": b""}


@pytest.mark.parametrize("key", ["../b", "0/../../b", ".bfbridge-journal/x", "0//x"])
def test_keys_outside_of_the_store_are_not_changed(tmp_path: Path, key: str) -> None:
    tree = JournalTree(written(tmp_path / "a.zarr"))
    for change in (lambda: tree.write(key, b""), lambda: tree.remove(key),
                   lambda: tree.temporary(key)):  # fmt: skip
        with pytest.raises(UnreadableFile, match="leads out of the store"):
            change()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.zarr"]


def test_failures_of_a_folder_name_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = FileTree(written(tmp_path / "a.zarr"))
    with pytest.raises(ReadFailed, match=r"0: cannot be read back \(.*irectory|denied"):
        tree.read("0")
    with pytest.raises(WriteFailed, match=r"0: cannot be written \(.*irectory|denied|permitted"):
        tree.remove("0")
    with pytest.raises(WriteFailed, match=r"0.c: cannot be written \(.*irectory|denied"):
        tree.write("0/c", b"")
    assert sorted(each.name for each in (tmp_path / "a.zarr/0").iterdir()) == ["c", "zarr.json"]
    tree.remove("zarr.json/x")
    assert tree.names("zarr.json") == []
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(ReadFailed, match=r"0.c: cannot be listed \(Input/output error\)"):
        tree.names("0/c")


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zarr")
    tree = FileTree(path)
    left = Path(tree.temporary("0/c/0/5"))
    left.write_bytes(b"x")
    # The folder was removed by another program after the file was written.
    temporary = tmp_path / "t"
    temporary.write_bytes(b"y")
    shutil.rmtree(path / "0/c/0")
    tree.publish(str(temporary), "0/c/0/6")
    assert tree.read("0/c/0/6") == b"y"
    left.write_bytes(b"x")
    tree.remove_unfinished()
    tree.close()
    assert tree.names("0/c/0") == ["0/c/0/6"]


def test_folders_at_a_url_beyond_a_number_are_removed(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    base = f"/{tmp_path.name}/a.zarr"
    names = ["0/c/0/x", "0/c/1/x", "0/c/2/0/x", "0/c/10/x", "0/c/x/x", "0/c/²/x"]
    for name in names:
        memory.pipe(f"{base}/{name}", b"x")
    tree = ObjectTree(as_source(f"memory:/{base}"))
    tree.remove_from("0/c", 2)
    assert sorted(tree.names("0/c")) == sorted(["0/c/0/x", "0/c/1/x", "0/c/x/x", "0/c/²/x"])
    memory.rm(f"/{tmp_path.name}", recursive=True)
