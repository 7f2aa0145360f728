"""OME-Zarr written to URLs: in memory here, in a local S3 in test_s3.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

fsspec = pytest.importorskip("fsspec")

from bfbridge import BioReader, BioWriter  # noqa: E402
from bfbridge.errors import (  # noqa: E402
    BfbridgeError,
    FileMissing,
    TargetBusy,
    TargetExists,
    Unsupported,
    WriteFailed,
)
from bfbridge.ome.metadata import new_document  # noqa: E402
from bfbridge.runtime.systems import process_namespace  # noqa: E402
from bfbridge.storage.remote import object_store  # noqa: E402
from bfbridge.storage.remote.object_store import ExtendedTarget, Objects, UrlTarget  # noqa: E402
from bfbridge.storage.source import as_source  # noqa: E402
from bfbridge_omezarr.append import Extension  # noqa: E402

SHAPE = (300, 420, 2, 3)
VALUES = np.random.default_rng(0).integers(1, 60_000, SHAPE).astype(np.uint16)
URL = "memory://lab/cells.ome.zarr"
OTHER = "memory://lab/other.ome.zarr"
LAYOUTS: dict[str, dict[str, Any]] = {
    "0.4": {"version": "0.4"},
    "0.5": {},
    "sharded": {"shards": 256},
}
layouts = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


@pytest.fixture
def memory() -> Iterator[Any]:
    """A file system in memory, empty."""
    there = fsspec.filesystem("memory")
    there.store.clear()
    there.pseudo_dirs[:] = [""]
    yield there
    there.store.clear()
    there.pseudo_dirs[:] = [""]


def keys(memory: Any) -> list[str]:
    return [path.removeprefix("/lab/cells.ome.zarr/") for path in memory.store]


def writer(**more: Any) -> BioWriter:
    return BioWriter(URL, image=VALUES, **({"chunks": 128, "pyramid": 2} | more))


def everything(place: Any) -> list[np.ndarray[Any, Any]]:
    with BioReader(place) as br:
        return [level.read(keepdims=True) for level in br.levels]


@layouts
def test_a_url_gets_what_a_folder_gets(memory: Any, tmp_path: Path, layout: dict[str, Any]) -> None:
    with writer(**layout) as bw:
        for row in range(0, 300, 100):  # not the chunks' rows: they are assembled, and met again
            bw[row : row + 100] = VALUES[row : row + 100]
        bw[10:20, 30:40] = VALUES[10:20, 30:40]
    path = tmp_path / "cells.ome.zarr"
    with BioWriter(path, image=VALUES, chunks=128, pyramid=2, **layout) as bw:
        bw[:] = VALUES
    assert len(everything(URL)) == 3
    for there, here in zip(everything(URL), everything(path), strict=True):
        np.testing.assert_array_equal(there, here)
    files = [f.relative_to(path).as_posix() for f in path.rglob("*") if f.is_file()]
    assert sorted(keys(memory)) == sorted(files)


def test_nothing_opens_before_the_last_document(memory: Any) -> None:
    order: list[str] = []
    put = Objects.put

    def watch(self: Objects, key: str, data: Any, *, new: bool = False) -> None:
        with pytest.raises(BfbridgeError):
            BioReader(URL)
        order.append(key)
        put(self, key, data, new=new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "put", watch)
        with writer(max_workers=1) as bw:
            bw[:] = VALUES
    assert order[0] == ".bfbridge-partial"
    assert order[-1] == "zarr.json"
    chunks = [i for i, key in enumerate(order) if "/c/" in key]
    assert max(chunks) < order.index("0/zarr.json")
    np.testing.assert_array_equal(everything(URL)[0][..., 0], VALUES)
    assert ".bfbridge-partial" not in keys(memory)


def test_a_store_there_is_replaced_only_if_asked(memory: Any) -> None:
    with writer() as bw:
        bw[:] = VALUES
    before = dict(memory.store)
    with pytest.raises(TargetExists, match="overwrite=True"):
        writer()
    bw = writer(overwrite=True)
    bw.abort()  # before the first write the old one is untouched
    assert memory.store == before
    with writer(overwrite=True, chunks=256, pyramid=False) as bw:
        bw[:] = VALUES[::-1]
    (only,) = everything(URL)
    np.testing.assert_array_equal(only[..., 0], VALUES[::-1])
    assert not [key for key in keys(memory) if key.startswith("1/")]


def test_the_documents_of_a_replaced_store_go_first(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer() as bw:
        bw[:] = VALUES
    removed: list[str] = []
    remove = Objects.remove

    def watch(self: Objects, keys: Any) -> None:
        removed.extend(keys)
        remove(self, keys)

    monkeypatch.setattr(Objects, "remove", watch)
    bw = writer(overwrite=True)
    bw[:128, :128, 0, 0] = 7
    documents = [i for i, key in enumerate(removed) if key.endswith("zarr.json")]
    assert removed[0] == "zarr.json"
    assert documents == list(range(len(documents)))
    with pytest.raises(BfbridgeError):
        BioReader(URL)
    bw.abort()
    assert memory.store == {}


def test_what_is_no_store_is_never_replaced(memory: Any) -> None:
    memory.pipe(f"{URL}/thesis.docx", b"years of work")
    for overwrite, kind in ((False, TargetExists), (True, WriteFailed)):
        with pytest.raises(kind, match="not belong to a Zarr store"):
            writer(overwrite=overwrite)
    memory.rm("/lab", recursive=True)
    memory.pipe(URL, b"a file of that name")
    with pytest.raises(WriteFailed, match="not belong to a Zarr store"):
        writer(overwrite=True)
    assert len(memory.store) == 1


def test_one_writer_at_a_time(memory: Any) -> None:
    first = writer()
    first[:] = VALUES
    for overwrite in (False, True):
        with pytest.raises(TargetBusy, match="another writer"):
            writer(overwrite=overwrite)
    first.close()
    np.testing.assert_array_equal(everything(URL)[0][..., 0], VALUES)


def test_of_two_at_once_one_wins(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Both looked before either took the place.
    monkeypatch.setattr(UrlTarget, "_refuse", lambda self, *_: setattr(self, "occupied", False))
    first = writer()
    with pytest.raises(TargetBusy):
        writer()
    first.abort()
    assert memory.store == {}


@pytest.mark.skipif(
    process_namespace() is None, reason="processes are not known across restarts here"
)
def test_what_a_dead_writer_left_is_cleared(memory: Any) -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    left = writer()
    left[:] = VALUES
    owner = {"machine": process_namespace(), "pid": int(told.stdout)}
    mark = f"{URL}/.bfbridge-partial"
    chunks = dict(memory.store)
    for stranger in ({**owner, "machine": "another"}, {}, {**owner, "pid": os.getppid()}):
        memory.pipe(mark, json.dumps(stranger).encode())
        with pytest.raises(TargetBusy):
            writer()
    assert len(memory.store) == len(chunks)
    memory.pipe(mark, json.dumps(owner).encode())
    with writer(chunks=256, pyramid=False) as bw:
        bw[:200] = VALUES[:200]
    (only,) = everything(URL)
    np.testing.assert_array_equal(only[:200, ..., 0], VALUES[:200])
    assert not only[200:].any()
    # It is complete: left to the garbage collector, it would be finished during the next test.
    left.abort()


def test_an_error_removes_what_was_written(memory: Any) -> None:
    def fail() -> None:
        with writer(shards=256) as bw:
            bw[:] = VALUES
            raise KeyError("a fault of the program")

    with pytest.raises(KeyError):
        fail()
    assert memory.store == {}


def test_a_server_that_refuses_is_a_clear_error(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bw = writer()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(memory), "pipe_file", refuse)
    with pytest.raises(WriteFailed, match=r"cells\.ome\.zarr/0/c/0/.*Access Denied"):
        bw[:] = VALUES
    with pytest.raises(WriteFailed, match="earlier write failed"):
        bw.close()
    with pytest.raises(WriteFailed, match="Access Denied"):
        writer()


def test_names_that_look_like_patterns_harm_no_other(memory: Any) -> None:
    memory.pipe("memory://lab/img1.zarr/zarr.json", b"{}")
    memory.pipe("memory://lab/img1.zarr/0", b"x")
    for _ in range(2):
        with BioWriter("memory://lab/img[1].zarr", image=VALUES, overwrite=True) as bw:
            bw[:] = VALUES
    assert {"/lab/img1.zarr/zarr.json", "/lab/img1.zarr/0"} <= set(memory.store)
    np.testing.assert_array_equal(everything("memory://lab/img[1].zarr")[0][..., 0], VALUES)


def test_only_zarr_is_written_by_several_processes_at_urls(memory: Any) -> None:
    for make in (BioWriter.create, BioWriter.open, BioWriter.finish):
        with pytest.raises(Unsupported):
            make("memory://lab/cells.ome.tif")
    assert memory.store == {}


@pytest.mark.parametrize("name", ["cells.ome.tif", "cells.tiff"])
def test_a_tiff_is_uploaded_whole(memory: Any, name: str) -> None:
    url = f"memory://lab/{name}"
    before = set(Path(tempfile.gettempdir()).glob("bfbridge-upload-*"))
    with BioWriter(url, image=VALUES, pyramid=1) as bw:
        bw[:] = VALUES
        assert memory.store == {}
    np.testing.assert_array_equal(everything(url)[0][..., 0], VALUES)
    assert set(Path(tempfile.gettempdir()).glob("bfbridge-upload-*")) == before
    with pytest.raises(TargetExists, match=re.escape(url)):
        BioWriter(url, image=VALUES)
    with BioWriter(url, image=VALUES, overwrite=True) as bw:
        bw[:] = VALUES + 1
        # The old file is readable until the new one is complete.
        np.testing.assert_array_equal(everything(url)[0][..., 0], VALUES)
    np.testing.assert_array_equal(everything(url)[0][..., 0], VALUES + 1)


def test_a_tiff_that_is_given_up_leaves_nothing(memory: Any) -> None:
    before = set(Path(tempfile.gettempdir()).glob("bfbridge-upload-*"))
    bw = BioWriter("memory://lab/a.ome.tif", image=VALUES)
    bw[:] = VALUES
    bw.__exit__(RuntimeError, RuntimeError(), None)
    assert memory.store == {}
    assert set(Path(tempfile.gettempdir()).glob("bfbridge-upload-*")) == before


def test_an_upload_that_fails_is_an_error(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("Access Denied")

    put_file = type(memory).put_file
    monkeypatch.setattr(type(memory), "put_file", refuse)
    bw = BioWriter("memory://lab/a.ome.tif", image=VALUES)
    bw[:] = VALUES
    with pytest.raises(WriteFailed, match=r"memory://lab/a\.ome\.tif: cannot be written.*Denied"):
        bw.close()

    def cut(self: Any, local: str, path: str, **options: Any) -> None:
        put_file(self, local, path, **options)
        self.pipe_file(path, self.cat_file(path)[:-5])

    monkeypatch.setattr(type(memory), "put_file", cut)
    bw = BioWriter("memory://lab/a.ome.tif", image=VALUES)
    bw[:] = VALUES
    with pytest.raises(WriteFailed, match="were uploaded, but the object has"):
        bw.close()


def test_pixels_of_stores_at_urls_are_not_changed(memory: Any) -> None:
    with writer(append=True) as bw:
        bw[:] = VALUES
    before = dict(memory.store)
    with pytest.raises(Unsupported, match=r"cannot be changed.*T above 1 adds time points"):
        BioWriter(URL, append=True)
    with BioWriter(URL, append=True, T=2) as bw:
        with pytest.raises(TargetBusy, match=r"remove the object \.bfbridge-journal/append\.json"):
            BioWriter(URL, append=True, T=2)
        with pytest.raises(TargetBusy, match="adding time points"):
            writer(overwrite=True)
        bw.abort()
    assert dict(memory.store).keys() == before.keys()


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.zarr"
    with BioWriter(path.as_uri(), image=VALUES) as bw:
        bw[:] = VALUES
    np.testing.assert_array_equal(everything(path)[0][..., 0], VALUES)
    with pytest.raises(TargetExists):
        BioWriter(path)


@layouts
def test_several_writers_of_one_store(memory: Any, layout: dict[str, Any]) -> None:
    BioWriter.create(URL, image=VALUES, chunks=128, pyramid=2, **layout)
    with pytest.raises(TargetBusy, match="several processes"):
        writer()
    with pytest.raises(TargetBusy, match="several processes"):
        BioWriter.create(URL, image=VALUES, overwrite=True)
    with BioWriter.open(URL) as top, BioWriter.open(URL) as bottom:
        top[:256] = VALUES[:256]
        bottom[256:] = VALUES[256:]
    with pytest.raises(BfbridgeError):
        BioReader(URL)
    BioWriter.finish(URL)
    shared = everything(URL)
    assert not [key for key in keys(memory) if "bfbridge" in key]
    with pytest.raises(FileMissing, match="finished already"):
        BioWriter.open(URL)
    with pytest.raises(TargetExists):
        BioWriter.create(URL, image=VALUES)
    with writer(overwrite=True, **layout) as bw:
        bw[:] = VALUES
    for ours, alone in zip(shared, everything(URL), strict=True):
        np.testing.assert_array_equal(ours, alone)


def test_a_part_written_by_halves_is_refused(memory: Any) -> None:
    BioWriter.create(URL, image=VALUES, chunks=128, shards=256)
    bw = BioWriter.open(URL)
    bw[:128] = VALUES[:128]
    with pytest.raises(WriteFailed, match="chunks were written"):
        bw.close()
    assert not [key for key in keys(memory) if key.startswith("0/")]


def test_a_forked_child_writes_nothing(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = UrlTarget(as_source(URL))
    parent = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(WriteFailed, match="forked copy"):
        target.check_owner()
    target.discard()
    assert keys(memory) == [".bfbridge-partial"]
    monkeypatch.undo()
    target.discard()
    assert memory.store == {}


class Died(BaseException):
    """Takes the place of a kill: nothing is executed after it."""


def limited(
    monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = Died, *, stored: bool = False
) -> list[int]:
    """Return a list with the number of writes that succeed before one raises `error`.

    With `stored`, the last object is there, although its request seems to have failed.
    """
    left: list[int] = []
    put, put_file = Objects.put, Objects.put_file

    def count(begun: bool) -> None:
        if left[0] == 0 and (begun or stored):
            raise error("the server refuses")
        left[0] -= begun

    def dying(self: Objects, key: str, data: Any, *, new: bool = False) -> None:
        count(True)
        put(self, key, data, new=new)
        count(False)

    def dying_file(self: Objects, path: str, key: str) -> None:
        count(True)
        put_file(self, path, key)
        count(False)

    monkeypatch.setattr(Objects, "put", dying)
    monkeypatch.setattr(Objects, "put_file", dying_file)
    return left


@pytest.mark.parametrize("layout", [{}, {"version": "0.4"}, {"shards": 256}], ids=LAYOUTS)
def test_wherever_a_writer_dies_nothing_or_everything_is_there(
    memory: Any, monkeypatch: pytest.MonkeyPatch, layout: dict[str, Any]
) -> None:
    values = VALUES[:200, :200, :1, 0]
    done = limited(monkeypatch)
    monkeypatch.setattr(UrlTarget, "discard", lambda self: None)
    whole = 0
    for steps in range(1, 100):
        done[:] = [steps]
        memory.store.clear()
        try:
            with BioWriter(URL, image=values, chunks=128, pyramid=1, max_workers=1, **layout) as bw:
                bw[:] = values
        except Died:
            with pytest.raises(BfbridgeError):
                BioReader(URL)
            assert ".bfbridge-partial" in keys(memory)
        else:
            whole += 1
            np.testing.assert_array_equal(everything(URL)[0][:, :, 0, 0, 0], values[..., 0])
            break
    assert whole == 1
    assert steps > 6


def levels_at(url: str) -> list[Any]:
    with BioReader(url) as br:
        return [level.read(keepdims=True) for level in br.levels]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "refused"])
@layouts
def test_wherever_a_writer_of_time_points_dies_the_image_is_whole(
    memory: Any, monkeypatch: pytest.MonkeyPatch, layout: dict[str, Any], killed: bool
) -> None:
    values = np.random.default_rng(4).integers(1, 60_000, (200, 210, 1, 1, 4), np.uint16)
    with BioWriter(OTHER, image=values, chunks=128, pyramid=1, **layout) as bw:
        bw[:] = values
    expected = levels_at(OTHER)
    document = new_document(1)
    document.images[0].description = "of the user"
    sizes: dict[str, Any] = {"metadata": document, "Y": 200, "X": 210, "T": 2, "dtype": "uint16"}
    with BioWriter(URL, **sizes, chunks=128, pyramid=1, **layout) as bw:
        bw[:] = values[..., :2]
    first = dict(memory.store)

    def add() -> None:
        with BioWriter(URL, append=True, T=4, max_workers=1) as bw:
            bw[..., 2:] = values[..., 2:]

    done = limited(monkeypatch, Died if killed else WriteFailed, stored=not killed)
    monkeypatch.setattr(object_store, "process_is_gone", lambda pid: True)
    counts = []
    for steps in range(2, 100):
        memory.store.clear()
        memory.store.update(first)
        done[:] = [steps]
        with monkeypatch.context() as dead:
            if killed:
                dead.setattr(ExtendedTarget, "discard", lambda self: None)
                dead.setattr(Extension, "abort", lambda self: self._files.close())
            try:
                add()
            except (Died, WriteFailed):
                pass
            else:
                break
        done[:] = [1000]
        found = levels_at(URL)
        counts.append(found[0].shape[4])
        for level, whole in zip(found, expected, strict=True):
            np.testing.assert_array_equal(level, whole[..., : level.shape[4]])
            assert level.shape[4] in (counts[-1], 4)
        if counts[-1] == 2:
            # The next writer removes what is left, and adds the time points.
            add()
        for level, whole in zip(levels_at(URL), expected, strict=True):
            np.testing.assert_array_equal(level, whole)
        with BioReader(URL) as br:
            assert br.ome.images[0].description == "of the user"
            assert br.ome.images[0].pixels.size_t == 4
        assert not [key for key in keys(memory) if "bfbridge" in key]
    assert len(counts) > 4
    # The document of the full size is the last object that is written.
    assert counts == [2] * len(counts) if killed else counts == [2] * (len(counts) - 1) + [4]
