"""Which backend takes a file, and what is said where none does."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bfbridge import imwrite, registry
from bfbridge.backend import OpenOptions, ReaderBackend
from bfbridge.cli.app import app
from bfbridge.curation import validate
from bfbridge.errors import (
    BadArgument,
    FileMissing,
    JavaNotFound,
    MissingExtra,
    OutOfMemory,
    UnknownFormat,
    UnreadableFile,
    Unsupported,
)
from bfbridge.registry import BACKENDS, Entry, find, open_reader, writer_for
from bfbridge.registry import third_party as THIRD_PARTY  # noqa: N812 - before tests replace it
from bfbridge.runtime.entry_points import held_search_path, may_have
from bfbridge.storage.source import Source, as_source
from tests.support.memory import MemoryReader


class Picky(MemoryReader):
    """Opens the given files, and raises an error with the reason for others."""

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
    monkeypatch.setattr(registry, "third_party", lambda: ())
    return made


def make(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith("/"):
        path.mkdir()
        return path
    path.write_bytes(CONTENT.get(name, b"something else"))
    return path


# A directory with the tag 65420.
HAMAMATSU = b"II*\0\x0c\0\0\0rest\1\0\x8c\xff\4\0\1\0\0\0\1\0\0\0"
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
    "a.ndpi": HAMAMATSU,
    "hamamatsu.tif": HAMAMATSU,
    "no tag.ndpi": b"II*\0\x0c\0\0\0rest\1\0\0\1\3\0\1\0\0\0\1\0\0\0",
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
        ("a.ndpi", "ndpi"),
        ("hamamatsu.tif", "ndpi"),
        ("no tag.ndpi", "ometiff"),
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
    assert (reader.name, reason) == ("bioformats", "backend='bioformats' was requested")


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("none.tif", FileMissing, r"none\.tif: no such file or folder"),
        ("empty.tif", UnreadableFile, r"empty\.tif: the file is empty \(0 bytes\)"),
        ("folder/", UnreadableFile, "folder.*is not an image"),
        (".a.tif.bfbridge-partial/", UnreadableFile, "unfinished file of a writer"),
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


@pytest.mark.java
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


# ---- plug-ins: what other distributions bring


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a distribution with one backend where Python looks for them."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def put(name: str, code: str, value: str | None = None) -> None:
        module = f"bf_plugin_{name}"
        info = tmp_path / "site" / f"bf_{name}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bf-{name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[bfbridge.backends]\n{name} = {value or module}\n")
        (tmp_path / "site" / f"{module}.py").write_text(textwrap.dedent(code))
        importlib.invalidate_caches()
        # Of another test.
        monkeypatch.delitem(sys.modules, module, raising=False)

    return put


PLUGIN = """
    import numpy as np
    from bfbridge.backend import Image, Level, ReaderBackend
    from bfbridge.errors import Unsupported

    class Odd(ReaderBackend):
        name = "odd"

        def __init__(self, source):
            self.files = (source.name,)

        @classmethod
        def open(cls, source, options):
            if source.head(4) != b"ODD!":
                raise Unsupported("it does not begin with ODD!")
            return cls(source)

        @property
        def images(self):
            shape = (1, 1, 1, 7, 9)
            return (Image("odd", (Level(shape, shape),), np.dtype("uint8")),)

        def read(self, region, out):
            out[:] = 5

        ome_xml = lambda self: None
        ome = lambda self: None
        original_metadata = property(lambda self: {})
        used_files = property(lambda self: self.files)
        close = lambda self: None

    READER, WRITER = Odd, None
"""


@pytest.mark.java
def test_a_plug_in_reads_what_bio_formats_does_not_know(
    tmp_path: Path, install: Callable[..., None]
) -> None:
    """Bio-Formats itself is asked here: its answer ended the search."""
    path = tmp_path / "a.odd"
    path.write_bytes(b"ODD! and more, of no format that Bio-Formats knows")
    with pytest.raises(UnknownFormat, match="a.odd: Bio-Formats knows no format"):
        open_reader(as_source(path), OpenOptions())
    install("odd", PLUGIN)
    reader, reason = open_reader(as_source(path), OpenOptions())
    assert reader.name == "odd"
    assert "bioformats does not read it" in reason
    # The error for an unknown format does not change.
    path.write_bytes(b"EVEN and more, of no format that Bio-Formats knows")
    with pytest.raises(UnknownFormat, match="a.odd: Bio-Formats knows no format"):
        open_reader(as_source(path), OpenOptions())


def test_a_plug_in_is_asked_where_java_is_missing(
    tmp_path: Path,
    modules: dict[str, type[Picky]],
    install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "third_party", THIRD_PARTY)
    modules["bioformats"].answer = JavaNotFound("no Java runtime found")
    source = as_source(make(tmp_path, "a.vsi"))
    with pytest.raises(JavaNotFound, match="no Java runtime found"):
        open_reader(source, OpenOptions())
    install("any", PLUGIN.replace('source.head(4) != b"ODD!"', "False"))
    assert open_reader(source, OpenOptions())[0].name == "odd"


BROKEN = {
    "missing": ("import no_such_package_anywhere", "no_such_package_anywhere"),
    "syntax": ("this is no Python", "SyntaxError"),
    "fails": ("raise RuntimeError('odd')", "RuntimeError: odd"),
    "empty": ("", "lacks READER or WRITER"),
}


@pytest.mark.java
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plug_in_is_named_and_does_no_harm(
    tmp_path: Path, install: Callable[..., None], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, why = BROKEN[kind]
    install(f"broken{kind}", code)
    path = tmp_path / "a.odd"
    path.write_bytes(b"of no format that Bio-Formats knows")
    with pytest.raises(UnknownFormat):
        open_reader(as_source(path), OpenOptions())
    with pytest.raises((Unsupported, MissingExtra), match=re.escape(why)):
        open_reader(as_source(path), OpenOptions(), f"broken{kind}")
    doctor = CliRunner().invoke(app, ["doctor"])
    assert doctor.exit_code == 1
    (line,) = [line for line in doctor.output.splitlines() if f"plug-in broken{kind}" in line]
    assert line.startswith("FAILED")
    assert why in line


def test_a_plug_in_with_priority_takes_what_ours_claims(
    tmp_path: Path, modules: dict[str, type[Picky]], install: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(registry, "third_party", THIRD_PARTY)
    tiff, odd = make(tmp_path, "a.tif"), tmp_path / "b.tif"
    odd.write_bytes(b"ODD!" + bytes(200))
    install("odd", PLUGIN)
    assert open_reader(as_source(tiff), OpenOptions())[0].name == "ometiff"
    claiming = PLUGIN.replace('!= b"ODD!"', 'not in (b"ODD!", b"II*\\0")')
    install("first", claiming.replace('"odd"', '"first"') + "    PRIORITY = 10\n")
    install("second", claiming.replace('"odd"', '"second"') + "    PRIORITY = 5\n")
    install("broken", "PRIORITY = 99")
    install("wrong", PLUGIN + "    PRIORITY = 'high'\n")
    reader, reason = open_reader(as_source(tiff), OpenOptions())
    assert (reader.name, reason) == ("first", "first claims this content")
    assert [entry.name for entry in registry.preferred()] == ["first", "second"]
    assert open_reader(as_source(tiff), OpenOptions(), "ometiff")[0].name == "ometiff"
    # What it does not read is left to the others.
    other = make(tmp_path, "c.czi")
    assert open_reader(as_source(other), OpenOptions())[0].name == "bioformats"
    with pytest.raises(Unsupported, match="its PRIORITY is 'high', not an integer"):
        find("wrong").load_priority()


def test_a_plug_in_validates_what_it_reads(tmp_path: Path, install: Callable[..., None]) -> None:
    odd, tiff = tmp_path / "b.odd", tmp_path / "a.ome.tif"
    odd.write_bytes(b"ODD!" + bytes(200))
    imwrite(tiff, np.ones((9, 8), np.uint8), axes="YX")
    rules = """
    from bfbridge.backend.findings import Finding

    def validate(source, options):
        yield Finding("error", "odd-length", source.name, "it is even", "Write it again.")
    """
    install("odd", PLUGIN + "    PRIORITY = 5\n" + rules)
    found = validate(odd)
    assert (found.backend, found.valid) == ("odd", False)
    assert [one.code for one in found.findings] == ["odd-length"]
    # Files that it leaves to others are checked by their rules.
    assert validate(tiff).findings == ()
    with open(tiff, "r+b") as file:
        file.truncate(tiff.stat().st_size - 9)
    assert not validate(tiff).valid
    assert "odd-length" not in [one.code for one in validate(tiff).findings]


def test_a_plug_in_writes_its_suffixes(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "third_party", THIRD_PARTY)
    writer = (
        "    class Writer:\n        name = '{0}'\n    WRITER = Writer\n    SUFFIXES = ('{1}',)\n"
    )
    install("odd", PLUGIN + writer.format("odd", ".ODD"))
    install("late", PLUGIN + writer.format("late", ".tif"))
    assert writer_for("a.Odd").name == "odd"
    assert writer_for("a.tif").name == "ometiff"
    install("early", PLUGIN + writer.format("early", ".tif") + "    PRIORITY = 1\n")
    assert writer_for("a.tif").name == "early"
    assert writer_for("a.tiff").name == "ometiff"
    java = SimpleNamespace(READER=None, WRITER=None, writable_suffixes=lambda: (".ics",))
    monkeypatch.setitem(sys.modules, "bfbridge_bioformats", java)  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match=r"no writer for this suffix.*\.odd"):
        writer_for("a.xyz")


def test_a_block_looks_for_plug_ins_once(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "third_party", THIRD_PARTY)
    install("odd", PLUGIN)
    assert {entry.name for entry in registry.third_party()} == {"odd"}
    with held_search_path():
        install("late", PLUGIN)
        assert {entry.name for entry in registry.third_party()} == {"odd"}
    assert {entry.name for entry in registry.third_party()} == {"odd", "late"}


@pytest.mark.java
def test_plug_ins_are_listed(install: Callable[..., None]) -> None:
    install("odd", PLUGIN + "    READ_SUFFIXES = ('.odd', '.ODDER')\n")
    install("badname", PLUGIN, "no module!")
    # A name of ours stays ours.
    install("ometiff", PLUGIN)
    assert {entry.name for entry in THIRD_PARTY()} == {"odd", "badname"}
    doctor = CliRunner().invoke(app, ["doctor"]).output
    assert "ok      plug-in odd: of bf-odd 1.5" in doctor
    assert "FAILED  plug-in badname: the badname backend needs a package" in doctor
    formats = CliRunner().invoke(app, ["formats"]).output
    assert "plug-in odd, of bf-odd 1.5: used for other formats" in formats
    rows = json.loads(CliRunner().invoke(app, ["formats", "--json"]).output)
    assert {
        "plugin": "odd", "module": "bf_plugin_odd", "brought_by": "bf-odd 1.5",
        "suffixes": [".odd", ".odder"], "writes": [],
    } in rows  # fmt: skip
    assert re.search(r"odd \(plug-in\) +\.odd \.odder", formats)
    assert [row["plugin"] for row in rows if "error" in row] == ["badname"]
    assert find("odd").distribution == "bf-odd 1.5"


def test_a_reason_ends_with_one_full_stop_and_keeps_dots_of_paths(
    tmp_path: Path, modules: dict[str, type[Picky]]
) -> None:
    source = as_source(make(tmp_path, "a.tif"))
    for text in ("../b.tif is not there", "../b.tif is not there."):
        modules["ometiff"].answer = Unsupported(text)
        _, reason = open_reader(source, OpenOptions())
        assert reason == "ometiff: ../b.tif is not there."
        with pytest.raises(Unsupported, match=r"file: \.\./b\.tif is not there\. Leave backend="):
            open_reader(source, OpenOptions(), "ometiff")


def test_plug_ins_are_found_without_importlib_metadata(tmp_path: Path) -> None:
    """Opening a file does not import importlib.metadata, unless a plug-in is installed."""
    code = (
        "import sys; from bfbridge import registry; "
        "names = [e.name for e in registry.third_party()]; "
        "print(names, 'importlib.metadata' in sys.modules)"
    )

    def found(folder: Path) -> str:
        path = os.pathsep.join([str(folder), *filter(None, sys.path)])
        # Without site-packages, whose distributions are not known here.
        command = [sys.executable, "-S", "-c", code]
        env = {**os.environ, "PYTHONPATH": path}
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert "'plug'" not in found(tmp_path)
    info = tmp_path / "plug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[bfbridge.backends]\nplug = plug_module\n")
    with_plug_in = found(tmp_path)
    assert "'plug'" in with_plug_in
    assert with_plug_in.endswith("True")


def test_the_quick_check_for_plug_ins(tmp_path: Path) -> None:
    path = ((str(tmp_path), 0), (str(tmp_path / "missing"), 0))
    group = f"group{os.getpid()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "meta_path", [PathFinder])
        (tmp_path / "a-1.dist-info").mkdir()
        assert not may_have(group, path)
        (tmp_path / "a-1.dist-info" / "entry_points.txt").write_text(f"[{group}]\na = b\n")
        assert may_have(group, (*path, ("", 1)))
        (tmp_path / "archive.zip").write_bytes(b"")
        assert may_have("other", ((str(tmp_path / "archive.zip"), 0),))
        patch.setattr(sys, "meta_path", [SimpleNamespace(find_distributions=None)])
        assert may_have("another", ())
