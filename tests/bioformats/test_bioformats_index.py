"""The index: metadata of files that Bio-Formats opened, kept for the next opening."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader, Limits
from bfbridge.backend import Region
from bfbridge.errors import BadArgument, Closed, FileChanged, FileMissing
from bfbridge.runtime.systems import cache_folder
from bfbridge.storage.cache_folder import CacheFolder, is_private
from bfbridge_bioformats.indexing import dependencies, entry, index
from bfbridge_bioformats.indexing.dependencies import Dependencies, NotSettled
from bfbridge_bioformats.indexing.entry import decode, encode
from bfbridge_bioformats.indexing.index import Index, identity_of, index_at
from bfbridge_bioformats.indexing.reader import IndexedReader
from tests.support.indexed import MODULO, SERIES, Opened, Openings

HOUR_NS = 3600 * 10**9


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own; files count as unchanged for long."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("BFBRIDGE_INDEX", raising=False)
    monkeypatch.setattr(dependencies, "SETTLED_NS", -HOUR_NS)
    monkeypatch.setattr(index, "_warned", set())
    return cache_folder()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of four TIFFs and the pattern that Bio-Formats reads them by."""
    made = tmp_path / "data"
    made.mkdir()
    for t in range(4):
        pixels = np.arange(35, dtype=np.uint16).reshape(5, 7) + 100 * t
        tifffile.imwrite(made / f"img_{t}.tif", pixels)
    (made / "all.pattern").write_text("img_<0-3>.tif")
    return made


@pytest.fixture
def openings(folder: Path) -> Openings:
    return Openings(folder / "img_0.tif")


def the_entry() -> Path:
    (path,) = index_at(True).cache.folder.iterdir()
    return path


def test_the_second_opening_has_the_metadata_of_the_first(openings: Openings) -> None:
    first = openings()
    assert first is openings.made[0]
    assert first.note == "the index had no entry: added for the next opening"
    again = openings()
    assert isinstance(again, IndexedReader)
    assert "its metadata is from the index in" in again.note
    assert again.images == first.images
    assert (again.images[0].levels[0].shape, again.images[0].dtype) == ((2, 1, 3, 5, 7), np.uint16)
    assert again.images[0].pixel_size.x == (0.5, "µm")
    assert (again.series, again.format) == ([0], "Fake")
    assert (again.ome_xml(), again.modulo(0), again.modulo(1)) == ("<OME/>", {"T": MODULO}, {})
    assert again.original_metadata == {"a": 1.5, "b": "x"}
    assert again.used_files == [str(openings.path)]
    assert len(openings.made) == 1
    assert not again.is_open


def test_pixels_are_those_of_java_which_opens_the_file_once(openings: Openings) -> None:
    openings()
    reader = openings()
    out = np.zeros((1, 1, 1, 5, 7), np.uint16)
    for _ in range(2):
        reader.read(Region(0, 0, (0,) * 5, out.shape), out)
    assert (out == 7).all()
    assert len(openings.made) == 2
    reader.close()
    assert openings.made[1].is_closed
    with pytest.raises(Closed):
        reader.read(Region(0, 0, (0,) * 5, out.shape), out)


def append(folder: Path) -> None:
    with (folder / "img_0.tif").open("ab") as file:
        file.write(b"\0")


def set_time(folder: Path) -> None:
    os.utime(folder / "img_0.tif", ns=(1, 10**9))


def add(folder: Path) -> None:
    (folder / "img_4.tif").touch()


def remove_other(folder: Path) -> None:
    (folder / "img_3.tif").unlink()


def rename_other(folder: Path) -> None:
    (folder / "img_3.tif").rename(folder / "img_9.tif")


@pytest.mark.parametrize("change", [append, set_time, add, remove_other, rename_other])
def test_a_changed_data_set_is_opened_again(
    openings: Openings, folder: Path, change: Callable[[Path], None]
) -> None:
    openings()
    assert openings.is_indexed()
    before = openings()
    change(folder)
    with pytest.raises(FileChanged, match="open it again|Open it again"):
        before.read(Region(0, 0, (0,) * 5, (1,) * 5), np.zeros((1,) * 5, np.uint16))
    assert openings.made[-1].is_closed
    openings()
    change_seen = openings.made[-1]
    assert change_seen.note.startswith("the index had")
    assert openings.is_indexed()


def test_other_options_and_other_jars_have_other_entries(
    openings: Openings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    openings()
    assert openings.is_indexed(max_workers=3)
    changes: list[dict[str, Any]] = [
        {"group_files": False},
        {"allow_outside": True},
        {"thumbnails": True},
        {"backend_options": {"a.b": 1}},
        {"limits": Limits(images=9)},
    ]
    for change in changes:
        assert not openings.is_indexed(**change)
        assert openings.is_indexed(**change)
    found = index.find_jar()
    other = tmp_path / "other.jar"
    other.write_bytes(b"x")
    monkeypatch.setattr(index, "find_jar", lambda: replace(found, path=other))
    assert not openings.is_indexed()
    assert openings.is_indexed()


def test_a_missing_file_is_an_error_with_an_entry_too(openings: Openings) -> None:
    openings()
    openings.path.unlink()
    with pytest.raises(FileMissing):
        openings()


def test_files_that_were_just_modified_are_not_indexed(
    openings: Openings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "SETTLED_NS", 60 * 10**9)
    assert "img_0.tif was modified less than a minute before" in openings().note
    assert not openings.is_indexed()
    # The folder, whose names count, was modified just now too.
    os.utime(openings.path, ns=(0, 10**9))
    assert f"{openings.path.parent} was modified" in openings().note
    os.utime(openings.path.parent, ns=(0, 10**9))
    openings()
    assert openings.is_indexed()


def test_dependencies(folder: Path) -> None:
    (folder / "below").mkdir()
    absent = [str(folder / "absent"), str(folder / "below" / "absent"), "/" + "x" * 5000, "/\0"]
    names = [str(folder / "img_1.tif"), str(folder), *absent]
    state = Dependencies.of(names, None, 2**63)
    assert list(state.files) == [str(folder / "img_1.tif")]
    assert list(state.folders) == [str(folder)]
    # The names in `folder` are known: a file that appears there changes its digest.
    assert state.missing == absent[1:]
    assert state.difference() is None
    (folder / "below" / "absent").touch()
    assert state.difference() == absent[1]
    with pytest.raises(NotSettled):
        Dependencies.of([str(folder)], None, 0)


def test_files_without_their_folder_belong_to_that_of_the_main_file(
    openings: Openings, folder: Path
) -> None:
    facts = replace(Opened(openings.path).facts(), used=["img_1.tif", str(openings.path)])
    index_at(True).save(["x"], openings.path, facts, 2**63)
    found = index_at(True).load(["x"])
    assert found is not None
    assert sorted(found.dependencies.files) == [str(folder / f"img_{n}.tif") for n in (0, 1)]


def test_above_a_data_set_only_files_count(folder: Path) -> None:
    above = folder.parent
    (folder / "below").mkdir()
    names = [str(above), str(folder), str(folder / "below"), str(above / "named")]
    (above / "link").symlink_to(folder)
    state = Dependencies.of([*names, str(above / "link")], [str(folder)], 2**63)
    whole = {Path(name).name for name, (is_whole, _) in state.folders.items() if is_whole}
    assert whole == {"data", "below", "link"}
    assert state.missing == [str(above / "named")]
    (above / "other data").mkdir()
    (above / ".hidden").touch()
    assert state.difference() is None
    (above / "found.mtb").touch()
    assert state.difference() == str(above)
    (above / "found.mtb").unlink()
    (above / "named").mkdir()
    assert state.difference() == str(above / "named")
    (folder / "below" / "new").mkdir()
    assert state.difference() == str(folder / "below")
    # What changes above all the time does not matter; the folders of the data set must settle.
    Dependencies.of([str(above)], [str(folder)], 0)
    with pytest.raises(NotSettled):
        Dependencies.of([str(folder / "below")], [str(folder)], 0)


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(zlib.decompress(path.read_bytes()))
    return content


def write(path: Path, content: Any) -> None:
    path.write_bytes(zlib.compress(json.dumps(content).encode()))


def test_damaged_entries_are_ignored_and_written_again(openings: Openings) -> None:
    openings()
    path = the_entry()
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    for data in (b"", good[:-1], bytes(flipped), b"[]", zlib.compress(b"[" * 100_000)):
        path.write_bytes(data)
        assert not openings.is_indexed()
        assert openings.is_indexed()
    assert path.read_bytes() == good


def test_hostile_entries_are_ignored(openings: Openings, monkeypatch: pytest.MonkeyPatch) -> None:
    openings()
    path = the_entry()
    good = content_of(path)
    changes: list[tuple[str, Any]] = [
        ("format", 1), ("xml", []), ("used", []), ("used", [1]), ("described", []),
        ("described", [{"name": "like the one before"}]), ("described", [{**SERIES, "type": 99}]),
        ("described", [{**SERIES, "samples": 0}]), ("described", [{**SERIES, "more": 1}]),
        ("described", [{**SERIES, "levels": [[7, 5, 3, 1, 2]]}]),
        ("described", [{**SERIES, "levels": [[-7, 5, 3, 1, 2, 7, 5, False]]}]),
        ("described", [{**SERIES, "levels": [[7, 5, 2**40, 1, 2, 7, 5, False]]}]),
        ("described", [{**SERIES, "levels": []}]), ("described", [{**SERIES, "bits": True}]),
        ("modulo", {"x": {}}), ("modulo", {"0": {"T": {"type": "a"}}}), ("files", {"/a": [1]}),
        ("folders", {"/a": "x"}), ("missing", "text"), ("identity", []), ("more", 1),
    ]  # fmt: skip
    for key, value in changes:
        write(path, {**good, key: value})
        assert not openings.is_indexed(), (key, value)
    write(path, good)
    assert openings.is_indexed()
    monkeypatch.setattr(entry, "MOST_BYTES", 100)
    assert not openings.is_indexed()


def test_the_entry_of_another_file_is_ignored(openings: Openings, folder: Path) -> None:
    openings()
    own = the_entry()
    other = Openings(folder / "img_1.tif")
    other.described = [{**SERIES, "levels": [[9, 9, 1, 1, 1, 9, 9, False]]}]
    other()
    (foreign,) = set(own.parent.iterdir()) - {own}
    foreign.replace(own)
    assert not openings.is_indexed()
    assert openings().images[0].levels[0].shape == (2, 1, 3, 5, 7)


def test_an_entry_that_java_contradicts_is_removed(openings: Openings) -> None:
    openings()
    path = the_entry()
    content = content_of(path)
    content["described"][0]["levels"][0][0] = 8
    write(path, content)
    reader = openings()
    assert reader.images[0].levels[0].shape[-1] == 8
    out = np.zeros((1, 1, 1, 5, 8), np.uint16)
    with pytest.raises(FileChanged, match="in another way than the index"):
        reader.read(Region(0, 0, (0,) * 5, out.shape), out)
    assert not out.any()
    assert not path.exists()
    assert not openings.is_indexed()


def test_metadata_that_cannot_be_stored(
    openings: Openings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "MOST_BYTES", 100)
    assert "the metadata is too long" in openings().note
    assert not index_at(True).cache.folder.exists()


def test_a_folder_that_cannot_be_used_is_logged_once(
    openings: Openings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    place = str(tmp_path / "file")
    with caplog.at_level(logging.WARNING, "bfbridge"):
        for _ in range(2):
            assert "its folder cannot be used" in openings(index=place).note
    (record,) = caplog.records
    assert place in record.getMessage()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_folder_that_others_may_write_to_is_not_used(
    openings: Openings, caplog: pytest.LogCaptureFixture
) -> None:
    openings()
    folder = index_at(True).cache.folder
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o770)
    with caplog.at_level(logging.WARNING, "bfbridge"):
        assert not openings.is_indexed()
        assert not openings.is_indexed()
    assert len(caplog.records) == 1
    folder.chmod(0o700)
    link = the_entry().rename(folder.parent / "elsewhere")
    os.symlink(link, folder / f"{identity_name(openings)}.index")
    assert not openings.is_indexed()


def identity_name(openings: Openings) -> str:
    return index_at(True)._path(identity_of(openings.path, openings.options)).stem


def test_the_least_recently_used_entries_are_removed(folder: Path, tmp_path: Path) -> None:
    facts = Opened(folder / "img_0.tif").facts()
    main = folder / "img_0.tif"
    noise = os.urandom(4000).hex()
    size = len(
        encode(entry.Entry(["x"], replace(facts, xml=noise), Dependencies({}, {}, []))) or b""
    )
    full = Index(CacheFolder(tmp_path / "small", 3 * size + size // 2, index.SUFFIX))
    for number in range(3):
        full.save([number], main, replace(facts, xml=noise), 2**63)
        os.utime(full._path([number]), (number, number))
    assert full.load([0]) is not None  # which is a use
    full.save([3], main, replace(facts, xml=noise), 2**63)
    assert [full.load([number]) is not None for number in range(4)] == [True, False, True, True]
    assert "the index is full" in full.save(
        [4], main, replace(facts, xml=os.urandom(40_000).hex()), 2**63
    )
    assert full.cache.nbytes <= full.cache.max_bytes
    # Nothing else is removed.
    (full.cache.folder / "mine.txt").touch()
    full.cache.clear()
    assert [path.name for path in full.cache.folder.iterdir()] == ["mine.txt"]


def test_entries_have_any_text(folder: Path) -> None:
    facts = Opened(folder / "img_0.tif").facts()
    odd = replace(facts, xml="\ud800 \0 é", original={"\udcff": float("nan"), "b": True, "c": None})
    data = encode(entry.Entry(["x"], odd, Dependencies({}, {}, [])))
    assert data is not None
    found = decode(data)
    assert found is not None
    assert found.facts.xml == odd.xml
    assert repr(found.facts.original) == repr(odd.original)
    unknown = replace(facts, original={"a": object()})
    assert encode(entry.Entry(["x"], unknown, Dependencies({}, {}, []))) is None


PAIR = """
    import sys
    from pathlib import Path
    from bfbridge.storage.cache_folder import CacheFolder
    from bfbridge_bioformats.indexing.entry import Facts
    from bfbridge_bioformats.indexing.index import Index

    index = Index(CacheFolder(Path(sys.argv[1]), 1 << 20, ".index"))
    for number in range(100):
        series = [{"name": str(number)}]
        facts = Facts("f", series, sys.argv[2] * 5000, None, {}, ["/absent"])
        said = index.save(["same"], Path("/absent"), facts, 2**63)
        assert said == "added for the next opening", said
    print("saved")
"""


def test_two_processes_write_one_entry(tmp_path: Path, folder: Path) -> None:
    described = textwrap.dedent(PAIR).replace('[{"name": str(number)}]', repr([SERIES]))
    program = [sys.executable, "-c", described, str(tmp_path / "pair")]
    started = [
        subprocess.Popen([*program, letter], stdout=subprocess.PIPE, text=True) for letter in "ab"
    ]
    both = Index(CacheFolder(tmp_path / "pair", 1 << 20, ".index"))
    seen = set()
    while any(process.poll() is None for process in started):
        found = both.load(["same"])
        if found is not None:
            seen.add(found.facts.xml)
    for process in started:
        assert process.communicate()[0] == "saved\n"
    assert seen <= {"a" * 5000, "b" * 5000}
    assert both.load(["same"]) is not None
    assert [path.suffix for path in (tmp_path / "pair").iterdir()] == [".index"]


def test_the_argument_and_the_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path
) -> None:
    from bfbridge.reader import _index_place

    for text, wanted in [("", False), ("0", False), ("no", False), ("1", True), ("Yes", True)]:
        monkeypatch.setenv("BFBRIDGE_INDEX", text)
        assert _index_place(None) is wanted
        assert _index_place(False) is False
        assert _index_place(True) is True
    monkeypatch.setenv("BFBRIDGE_INDEX", str(tmp_path))
    assert _index_place(None) == str(tmp_path)
    assert index_at(str(tmp_path)).cache.folder == tmp_path / "bfbridge-index"
    assert _index_place(Path("below")) == os.path.abspath("below")
    for bad in ("", 3, b"x"):
        with pytest.raises(BadArgument, match="index="):
            _index_place(bad)  # type: ignore[arg-type]
    monkeypatch.setenv("BFBRIDGE_INDEX", "yess")
    with pytest.raises(BadArgument, match="BFBRIDGE_INDEX='yess'"):
        BioReader(folder / "img_0.tif")
    assert index_at(True).cache.folder == cache_folder() / "index"
    assert not cache_folder().exists()


def described_by(br: BioReader) -> dict[str, Any]:
    backend = br._file.backend
    return {
        "images": [repr(image) for image in backend.images],
        "xml": br.ome_xml,
        "ome": br.ome,
        "original": dict(br.original_metadata),
        "used": br.used_files,
        "modulo": [dict(backend.modulo(number)) for number in range(len(backend.images))],
    }


@pytest.mark.java
def test_reopening_is_like_opening(folder: Path) -> None:
    path = folder / "all.pattern"
    arguments: dict[str, Any] = {"isolated": False, "max_workers": 1}
    with BioReader(path, **arguments) as br:
        wanted, pixels = described_by(br), br[:]
        assert "index" not in br.backend_reason
    assert not cache_folder().joinpath("index").exists()
    with BioReader(path, index=True, **arguments) as br:
        assert br.backend_reason.endswith("the index had no entry: added for the next opening")
        assert (br[:] == pixels).all()
    with BioReader(path, index=True, **arguments) as br:
        assert isinstance(br._file.backend, IndexedReader)
        assert "its metadata is from the index in" in br.backend_reason
        assert described_by(br) == wanted
        assert not br._file.backend.is_open
        assert (br[:] == pixels).all()
        assert br._file.backend.is_open
    assert sorted(wanted["used"]) == sorted(map(str, folder.iterdir()))
    add(folder)
    with BioReader(path, index=True, **arguments) as br:
        assert f"older entry, made before {folder} changed" in br.backend_reason


@pytest.mark.java
@pytest.mark.slow(ci=True)
def test_workers_fill_the_index_and_start_for_pixels(folder: Path) -> None:
    arguments: dict[str, Any] = {"isolated": True, "max_workers": 1, "backend": "bioformats"}
    with BioReader(folder / "img_1.tif", index=True, **arguments) as br:
        assert br.backend_reason.endswith("added for the next opening")
        wanted = described_by(br)
    with BioReader(folder / "img_1.tif", index=True, **arguments) as br:
        assert described_by(br) == wanted
        assert not br._file.backend.is_open
        assert (br[:].ravel() == np.arange(35) + 100).all()


@pytest.mark.java
def test_everything_that_java_looked_up_is_a_dependency(tmp_path: Path, folder: Path) -> None:
    with BioReader(folder / "img_2.tif", backend="bioformats", index=True) as br:
        assert br.shape[:2] == (5, 7)
    state = Dependencies(
        **{key: content_of(the_entry())[key] for key in ("files", "folders", "missing")}
    )
    assert str(folder / "img_2.tif") in state.files
    assert str(folder) in state.folders
    assert all(os.path.isabs(path) for path in [*state.files, *state.folders, *state.missing])


NO_JAVA = """
    import sys
    from bfbridge import BioReader
    from bfbridge.analysis.description import describe
    from bfbridge_bioformats.runtime.machine import machine

    with BioReader(sys.argv[1], index=True) as br:
        assert br.shape == (5, 7, 4), br.shape
        assert br.ome.images[0].pixels.size_z == 4
        assert br.ome_xml and br.levels and br.used_files and br.modulo == {}
        describe(br, ["original"])
        assert not machine.started
        assert "jpype" not in sys.modules
        assert br[4, 6, 3, 0, 0] == 334
        assert machine.started
"""


@pytest.mark.java
def test_metadata_needs_no_java(folder: Path) -> None:
    with BioReader(folder / "all.pattern", index=True) as br:
        assert br.shape == (5, 7, 4)
    program = textwrap.dedent(NO_JAVA)
    command = [sys.executable, "-c", program, str(folder / "all.pattern")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.java
def test_what_is_not_a_file_on_disk_is_not_indexed(folder: Path) -> None:
    data = (folder / "img_0.tif").read_bytes()
    with BioReader(data, backend="bioformats", index=True) as br:
        assert "index" not in br.backend_reason
    with BioReader("a&sizeX=9&sizeY=7.fake", index=True) as br:
        assert "not added, because such files are not indexed" in br.backend_reason
    assert not index_at(True).cache.folder.exists()


@pytest.mark.java
def test_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bfbridge.cli import main

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["bfbridge", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        assert not caught.value.code
        return capsys.readouterr().out

    path = str(folder / "all.pattern")
    for reason in ("added for the next", "from the index in"):
        assert reason in json.loads(run("info", "--json", "--index", path))["backend_reason"]
    made = folder.parent / "made.ome.tif"
    run("convert", "--index", path, str(made))
    assert tifffile.imread(made).shape == (4, 5, 7)
    assert str(index_at(True).cache.folder) in run("cache", "info")
    run("cache", "clear")
    assert index_at(True).cache.nbytes == 0
    assert is_private(index_at(True).cache.folder)
