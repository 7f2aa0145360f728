"""Which backend takes a file, and what is said where none does."""

from __future__ import annotations

import importlib.metadata
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bfbridge import registry
from bfbridge.backend import OpenOptions, ReaderBackend
from bfbridge.errors import (
    BadArgument,
    FileMissing,
    MissingExtra,
    OutOfMemory,
    UnreadableFile,
    Unsupported,
)
from bfbridge.registry import BACKENDS, Entry, find, open_reader, writer_for
from bfbridge.storage.source import Source, as_source
from tests.support.memory import MemoryReader


class Picky(MemoryReader):
    """Opens what it is told to; else says why not."""

    answer: Exception | None = None

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        if cls.answer is not None:
            raise cls.answer
        return cls(np.zeros((1, 1, 1, 2, 3), np.uint8), (1, 1, 1, 2, 3))


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Picky]]:
    """Each backend's reader replaced by one that takes everything."""
    made = {}
    for entry in BACKENDS:
        reader = type(f"Picky_{entry.name}", (Picky,), {"name": entry.name})
        module = SimpleNamespace(READER=reader, WRITER=None)
        monkeypatch.setitem(sys.modules, entry.module, module)
        made[entry.name] = reader
    monkeypatch.setattr(registry, "_third_party", lambda: ())
    return made


def make(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith("/"):
        path.mkdir()
        return path
    path.write_bytes(CONTENT.get(name, b"something else"))
    return path


CONTENT = {
    "a.tif": b"II*\0rest",
    "a.dat": b"MM\0*rest",
    "big.tif": b"II+\0rest",
    "big_endian.svs": b"MM\0+rest",
    "a.czi": b"ZISRAWFILE",
    "a.lif": b"p\0\0\0\x10\0\0\0*rest",
    "old.lei": b"p\0\0\0\x10\0\0\0rest",
    "a.nd2": b"\xda\xce\xbe\nrest",
    "old.nd2": b"\0\0\0\x0cjP  rest",
    "a.zarr.zip": b"PK\x03\x04rest",
    "a.ozx": b"PK\x03\x04rest",
    "other.zip": b"PK\x03\x04rest",
    "a.jar": b"PK\x03\x04rest",
    "a.companion.ome": b"<?xml version='1.0'?><OME/>",
    "text.companion.ome": b"no xml",
    "dicom.dcm": b"II*\0" + bytes(124) + b"DICM",
}


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("a.tif", "ometiff"),
        ("a.dat", "ometiff"),
        ("big.tif", "ometiff"),
        ("big_endian.svs", "ometiff"),
        ("a.companion.ome", "ometiff"),
        ("text.companion.ome", "bioformats"),
        ("a.czi", "czi"),
        ("a.lif", "lif"),
        ("old.lei", "bioformats"),
        ("a.nd2", "nd2"),
        ("old.nd2", "bioformats"),
        ("dicom.dcm", "bioformats"),
        ("a.zarr.zip", "omezarr"),
        ("a.ozx", "omezarr"),
        ("a.jar", "bioformats"),
    ],
)
def test_content_chooses(
    tmp_path: Path, modules: dict[str, type[Picky]], name: str, backend: str
) -> None:
    reader, reason = open_reader(as_source(make(tmp_path, name)), OpenOptions())
    assert reader.name == backend
    assert reason


@pytest.mark.parametrize("key", ["zarr.json", ".zattrs", ".zgroup", ".zarray"])
def test_a_folder_with_zarr_metadata_is_a_store(
    tmp_path: Path, modules: dict[str, type[Picky]], key: str
) -> None:
    (tmp_path / key).write_text("{}")
    assert open_reader(as_source(tmp_path), OpenOptions())[0].name == "omezarr"


def test_falling_through_keeps_the_reason(
    tmp_path: Path, modules: dict[str, type[Picky]], caplog: pytest.LogCaptureFixture
) -> None:
    modules["ometiff"].answer = Unsupported("its tiles are JPEG 2000")
    caplog.set_level("DEBUG", "bfbridge")
    reader, reason = open_reader(as_source(make(tmp_path, "a.tif")), OpenOptions())
    assert reader.name == "bioformats"
    assert reason == "ometiff: its tiles are JPEG 2000."
    assert "a.tif: not read by ometiff: its tiles are JPEG 2000" in caplog.text


def test_a_damaged_file_does_not_fall_through(
    tmp_path: Path, modules: dict[str, type[Picky]]
) -> None:
    modules["ometiff"].answer = UnreadableFile("a.tif: damaged")
    with pytest.raises(UnreadableFile, match="damaged"):
        open_reader(as_source(make(tmp_path, "a.tif")), OpenOptions())


def test_where_nobody_reads_all_reasons_are_told(
    tmp_path: Path, modules: dict[str, type[Picky]]
) -> None:
    modules["ometiff"].answer = Unsupported("reason one")
    modules["bioformats"].answer = MissingExtra("install it")
    with pytest.raises(UnreadableFile, match=r"a\.tif.*ometiff: reason one\. bioformats: install"):
        open_reader(as_source(make(tmp_path, "a.tif")), OpenOptions())


def test_a_named_backend_never_falls_through(
    tmp_path: Path, modules: dict[str, type[Picky]]
) -> None:
    modules["ometiff"].answer = Unsupported("its tiles are JPEG 2000")
    source = as_source(make(tmp_path, "a.tif"))
    with pytest.raises(Unsupported, match=r"a\.tif: the ometiff .*JPEG 2000.*Leave backend= out"):
        open_reader(source, OpenOptions(), "python")
    reader, reason = open_reader(source, OpenOptions(), "JAVA")
    assert (reader.name, reason) == ("bioformats", "backend='bioformats' was asked for")


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("none.tif", FileMissing, r"none\.tif: no such file or folder"),
        ("empty.tif", UnreadableFile, r"empty\.tif: the file is empty \(0 bytes\)"),
        ("folder/", UnreadableFile, "folder.*is not an image"),
        (".a.tif.bfbridge-partial/", UnreadableFile, "unfinished work of a writer"),
    ],
)
def test_what_is_no_image(
    tmp_path: Path, modules: dict[str, type[Picky]], name: str, kind: type, words: str
) -> None:
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    elif name.startswith("empty"):
        (tmp_path / name).touch()
    with pytest.raises(kind, match=words):
        open_reader(as_source(tmp_path / name), OpenOptions())


def test_made_up_images_need_no_file(modules: dict[str, type[Picky]]) -> None:
    assert open_reader(as_source("a&sizeX=5.fake"), OpenOptions())[0].name == "bioformats"


def test_names_and_aliases() -> None:
    for entry in BACKENDS:
        for name in (entry.name, *entry.aliases):
            if name != "tensorstore":  # which bfio uses for two of ours
                assert find(name).name == find(name.upper()).name == entry.name
    assert find("tensorstore").name == "omezarr"
    assert find("Tensorstore", lambda entry: entry.name == "ometiff").name == "ometiff"
    assert [find(n).name for n in ("python", "java", "zarr3")] == [
        "ometiff", "bioformats", "omezarr"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["nothing", "", 5, None])
def test_unknown_names_list_the_known(name: Any) -> None:
    with pytest.raises(BadArgument, match=r"no such backend.*omezarr.*ometiff.*bioformats"):
        find(name)


def test_third_parties_are_asked_by_name_or_last(
    tmp_path: Path, modules: dict[str, type[Picky]], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("their_module")
    module.READER = type("Theirs", (Picky,), {"name": "theirs"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "their_module", module)
    asked: list[str] = []
    monkeypatch.undo()
    for entry in BACKENDS:
        reader = type(f"P_{entry.name}", (Picky,), {"name": entry.name})
        monkeypatch.setitem(
            sys.modules,
            entry.module,
            SimpleNamespace(READER=reader, WRITER=None),  # type: ignore[arg-type]
        )
    monkeypatch.setitem(sys.modules, "their_module", module)

    def points(group: str) -> list[EntryPoint]:
        asked.append(group)
        return [EntryPoint("Theirs", "their_module", group)]

    monkeypatch.setattr(importlib.metadata, "entry_points", points)
    source = as_source(make(tmp_path, "a.vsi"))
    assert open_reader(source, OpenOptions())[0].name == "bioformats"
    assert find("java").name == "bioformats"
    assert asked == []
    assert open_reader(source, OpenOptions(), "theirs")[0].name == "theirs"
    sys.modules["bfbridge_bioformats"].READER.answer = Unsupported("unknown")  # type: ignore[attr-defined]
    assert open_reader(source, OpenOptions())[0].name == "theirs"
    assert set(asked) == {"bfbridge.backends"}


def test_a_missing_package_names_what_installs_it() -> None:
    entry = Entry("x", "no_such_module_anywhere", lambda *_: True, extra="omezarr")
    with pytest.raises(MissingExtra, match=r'no_such_module.*pip install "bfbridge\[all\]"'):
        entry.load()
    theirs = Entry("x", "no_such_module_anywhere", lambda *_: True)
    with pytest.raises(MissingExtra, match="Install it, or see") as caught:
        theirs.load()
    assert "bfbridge[]" not in str(caught.value)


def test_writers_by_suffix_and_name() -> None:
    names = {
        "a.ome.tif": "ometiff", "A.OME.TIFF": "ometiff", "a.ome.btf": "ometiff",
        "a.zarr": "omezarr", "a.ome.zarr": "omezarr",
    }  # fmt: skip
    for name, backend in names.items():
        assert writer_for(name).name == backend
    assert writer_for("a.xyz", "zarr").name == "omezarr"
    assert writer_for("a.ome.zarr", "tensorstore").name == "omezarr"
    with pytest.raises(BadArgument, match=r"a\.xyz: no writer for this suffix.*\.ome\.tif.*\.zarr"):
        writer_for("a.xyz")


def test_memory_that_runs_out_while_a_file_opens(
    tmp_path: Path, modules: dict[str, type[Picky]]
) -> None:
    modules["ometiff"].answer = MemoryError()
    with pytest.raises(OutOfMemory, match=r"a\.tif: memory ran out while the ometiff backend"):
        open_reader(as_source(make(tmp_path, "a.tif")), OpenOptions())
