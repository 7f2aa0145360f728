"""What later runs take from the reports of earlier ones, whatever these hold."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.convert import convert_many
from bfbridge.convert.copy import source as single
from bfbridge.convert.execute.run import Watcher
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.sources import Scan, find_sources
from bfbridge.convert.reports.history import read_history
from bfbridge.convert.reports.writer import REPORT_NAME
from bfbridge.errors import BatchFailed, WriteFailed


def image(number: int) -> Any:
    return (np.arange(600, dtype=np.uint16) + 1000 * number).reshape(20, 30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images."""
    (tmp_path / "in").mkdir()
    for number in range(5):
        with BioWriter(tmp_path / f"in/{number}.ome.tif", image=image(number)) as bw:
            bw[:] = image(number)
    return tmp_path / "in"


def statuses(done: Any) -> list[str]:
    return [record.status for record in done.files]


def told(folder: Path, name: str = REPORT_NAME) -> dict[str, Any]:
    return json.loads((folder / name).read_text())


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the sources that are converted or compared, in order."""
    names: list[str] = []
    plain = single.open_source

    def noted(source: Any, *given: Any) -> BioReader:
        names.append(Path(str(source)).name)
        return plain(source, *given)

    monkeypatch.setattr(single, "open_source", noted)
    return names


# ---- what is kept


def test_a_run_that_finds_everything_there_leaves_a_good_report_good(
    folder: Path, tmp_path: Path, opened: list[str]
) -> None:
    out = tmp_path / "out"
    convert(folder, out)
    opened.clear()
    for _ in range(2):
        with pytest.raises(BatchFailed, match="5 of 5 files failed") as caught:
            convert(folder, out)
        assert {record.error_type for record in caught.value.conversion.files} == {"TargetExists"}
        assert told(out)["counts"] == {"done": 0, "kept": 0, "failed": 5}
    opened.clear()
    assert statuses(convert(folder, out, resume=True)) == ["kept"] * 5
    assert opened == []
    assert told(out)["earlier"] == []


def test_what_a_failed_run_did_not_touch_is_still_known(
    folder: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    convert(folder, out)

    def fail(*_: Any, **__: Any) -> None:
        raise WriteFailed("no")

    with monkeypatch.context() as patch:
        patch.setattr(single, "BioWriter", fail)
        with pytest.raises(BatchFailed):
            convert(folder, out, overwrite=True)
    opened.clear()
    assert statuses(convert(folder, out, resume=True)) == ["kept"] * 5
    assert opened == []


def test_runs_of_other_sources_keep_what_the_folder_has(
    folder: Path, tmp_path: Path, opened: list[str]
) -> None:
    out = tmp_path / "out"
    convert([folder / "0.ome.tif", folder / "1.ome.tif"], out)
    convert([folder / "2.ome.tif"], out)
    assert told(out)["counts"]["done"] == 1
    assert len(told(out)["earlier"]) == 2
    opened.clear()
    convert(folder, out, resume=True)
    assert opened == ["3.ome.tif", "4.ome.tif"]


def test_a_killed_run_keeps_what_came_before(
    folder: Path, tmp_path: Path, opened: list[str]
) -> None:
    out = tmp_path / "out"
    convert([folder / "0.ome.tif"], out)

    class Stop(Watcher):
        def started(self, number: int, name: str) -> None:
            if number == 2:
                # As if the process had been killed: nothing more is written.
                for name in (REPORT_NAME, f"{REPORT_NAME}.lines"):
                    os.link(out / name, tmp_path / name)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert([folder / "1.ome.tif", folder / "2.ome.tif", folder / "3.ome.tif"], out,
                watcher=Stop())  # fmt: skip
    for name in (REPORT_NAME, f"{REPORT_NAME}.lines"):
        os.replace(tmp_path / name, out / name)
    with open(out / f"{REPORT_NAME}.lines", "ab") as lines:
        lines.write(b'{"source": "cut sho')
    opened.clear()
    assert statuses(convert(folder, out, resume=True)) == ["kept"] * 3 + ["done"] * 2
    assert opened == ["3.ome.tif", "4.ome.tif"]


def test_a_whole_folder_takes_what_its_parts_did(
    folder: Path, tmp_path: Path, opened: list[str]
) -> None:
    out = tmp_path / "out"
    for number in (1, 2, 3):
        convert(folder, out, part=f"{number}/3")
    opened.clear()
    assert statuses(convert(folder, out, resume=True)) == ["kept"] * 5
    assert statuses(convert(folder, out, resume=True, part="2/4")) == ["kept"]
    assert opened == []
    # A part that was done again is what counts.
    with BioWriter(folder / "3.ome.tif", image=image(9), overwrite=True) as bw:
        bw[:] = image(9)
    convert(folder, out, resume=True, part="1/3")
    opened.clear()
    assert statuses(convert(folder, out, resume=True)) == ["kept"] * 5
    assert opened == []


def test_a_single_report_keeps_what_it_has(folder: Path, tmp_path: Path) -> None:
    wanted = {"report": tmp_path / "r.json"}
    convert(folder / "0.ome.tif", tmp_path / "a.ome.tif", **wanted)
    with pytest.raises(WriteFailed):
        convert(folder / "0.ome.tif", tmp_path / "a.ome.tif", **wanted)
    (record,) = told(tmp_path, "r.json")["earlier"]
    assert record["status"] == "done"


def test_equal_pixels_count_as_kept(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(folder, out)
    (out / REPORT_NAME).unlink()
    done = convert(folder, out, resume=True)
    assert statuses(done) == ["kept"] * 5
    assert (done.images, done.pixel_bytes) == (0, 0)


# ---- damaged and foreign reports

WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no object": lambda entry: 5,
    "null": lambda entry: None,
    "list": lambda entry: [entry],
    "text": lambda entry: "done",
    "empty": lambda entry: {},
    "no source": lambda entry: {k: v for k, v in entry.items() if k != "source"},
    "source a number": lambda entry: {**entry, "source": 5},
    "source null": lambda entry: {**entry, "source": None},
    "target a list": lambda entry: {**entry, "target": []},
    "status unknown": lambda entry: {**entry, "status": "perhaps"},
    "status a number": lambda entry: {**entry, "status": 1},
    "outputs null": lambda entry: {**entry, "outputs": None},
    "outputs an object": lambda entry: {**entry, "outputs": {}},
    "outputs of numbers": lambda entry: {**entry, "outputs": [1]},
    "output without target": lambda entry: {**entry, "outputs": [{}]},
    "output target a number": lambda entry: {**entry, "outputs": [{"target": 5}]},
    "output bytes a text": lambda entry: _output(entry, file_bytes="5"),
    "output images null": lambda entry: _output(entry, images=None),
    "output elsewhere": lambda entry: _output(entry, target="/etc/hostname"),
    "output NUL": lambda entry: _output(entry, target="a\0b"),
    "output a server's": lambda entry: _output(entry, target="nothing://x/y"),
    "inputs null": lambda entry: {**entry, "inputs": None},
    "inputs empty": lambda entry: {**entry, "inputs": []},
    "inputs of texts": lambda entry: {**entry, "inputs": ["a"]},
    "input without path": lambda entry: {**entry, "inputs": [{"bytes": 5}]},
    "input path a number": lambda entry: {**entry, "inputs": [{"path": 5}]},
    "input path NUL": lambda entry: {**entry, "inputs": [{"path": "a\0b"}]},
    "input of others": lambda entry: {**entry, "inputs": [{"path": "/etc/hostname"}]},
    "input of a server": lambda entry: _input(entry, "http://127.0.0.1:9/x"),
    "input half a pair": lambda entry: _input(entry, "\ud800"),
    "seconds infinite": lambda entry: {**entry, "seconds": float("inf")},
    "seconds true": lambda entry: {**entry, "seconds": True},
    "request null": lambda entry: {**entry, "request": None},
    "warnings a text": lambda entry: {**entry, "warnings": "x"},
    "ended a number": lambda entry: {**entry, "ended": 5},
}


def _output(entry: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**entry, "outputs": [{**entry["outputs"][0], **changes}]}


def _input(entry: dict[str, Any], path: str) -> dict[str, Any]:
    return {**entry, "inputs": [*entry["inputs"], {**entry["inputs"][0], "path": path}]}


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        *((wrong, "files") for wrong in WRONG),
        *((wrong, place) for wrong in list(WRONG)[::7] for place in ("earlier", "lines")),
    ],
)
def test_entries_that_are_no_records_count_as_not_done(
    folder: Path, tmp_path: Path, wrong: str, place: str
) -> None:
    out = tmp_path / "out"
    sources = [folder / "0.ome.tif", folder / "1.ome.tif"]
    convert(sources, out)
    report = told(out)
    first, second = report["files"]
    entries = [WRONG[wrong](first), second]
    report["files"] = []
    if place == "lines":
        text = "".join(json.dumps(entry) + "\n" for entry in entries)
        (out / f"{REPORT_NAME}.lines").write_text(text)
    else:
        report[place] = entries
    (out / REPORT_NAME).write_text(json.dumps(report))
    done = convert_many(sources, out, resume=True)
    first, second = done.files
    # The first was converted again or proved by its pixels, and the second is known.
    assert first.status == "done" or first.outputs[0].kept
    assert (second.status, second.outputs[0].kept) == ("kept", False)
    with BioReader(out / "0.ome.tif") as br:
        np.testing.assert_array_equal(br[:], image(0))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"null", b"5", b'"x"', b"[]", b'{"files": 5}', b'{"files": {"a": 1}}',
        b'{"files": null, "earlier": 3, "scan": 4}', b"\xff\xfe\x00", b"[" * 100_000,
        b'{"files": ' + b'{"a": ' * 100_000, b"1" * 10_000, b'{"scan": {"key": 1, "files": 2}}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [REPORT_NAME, f"{REPORT_NAME}.lines"])
def test_reports_that_are_none_are_passed_over(
    folder: Path, tmp_path: Path, text: bytes, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    convert([folder / "0.ome.tif"], out, part="1/2")
    (out / name).write_bytes(text)
    with caplog.at_level(logging.WARNING, "bfbridge"):
        done = convert([folder / "0.ome.tif"], out, resume=True)
    assert statuses(done) == ["kept"]
    assert not done.files[0].outputs[0].kept, "the report of the part is used"
    told_of = [record.getMessage() for record in caplog.records]
    assert all(REPORT_NAME in line for line in told_of)
    # Lines may be cut by a kill, and a document without entries is one.
    if name == REPORT_NAME and b"files" not in text and b"scan" not in text:
        assert len(told_of) == 1


def test_names_that_are_not_utf8_are_kept(folder: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.ome.tif")
    os.rename(folder / "0.ome.tif", folder / name)
    out = tmp_path / "out"
    convert(folder, out)
    assert told(out)["files"][-1]["source"] == str(folder / name)
    done = convert(folder, out, resume=True)
    assert statuses(done) == ["kept"] * 5
    assert not any(record.outputs[0].kept for record in done.files)


def test_a_report_is_no_leave_to_replace_what_others_made(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert([folder / "0.ome.tif"], out)
    with BioWriter(out / "0.ome.tif", image=image(7), compression="none", overwrite=True) as bw:
        bw[:] = image(7)
    (record,) = convert_many([folder / "0.ome.tif"], out, resume=True).files
    assert (record.status, record.error_type) == ("failed", "TargetExists")
    with BioReader(out / "0.ome.tif") as br:
        np.testing.assert_array_equal(br[:], image(7))


# ---- the search


def looking(found: list[str]) -> Any:
    from bfbridge.convert.plan.grouping import opener_for

    plain = opener_for(ConvertOptions())

    def opener(path: str) -> Any:
        found.append(Path(path).name)
        return plain(path)

    return opener


@pytest.mark.java
def test_parts_share_what_the_search_found(folder: Path, tmp_path: Path) -> None:
    out, request = tmp_path / "out", ConvertOptions()
    (folder / "table.csv").write_text("1,2\n")
    (folder / "odd.dat").write_bytes(bytes(range(256)))
    convert(folder, out, part="1/2")

    def again() -> list[str]:
        history = read_history(out / REPORT_NAME, out, {})
        found: list[str] = []
        scan = Scan(request, history.scans)
        sources = find_sources([str(folder)], request, scan=scan, opener=looking(found))
        assert [Path(one.path).name for one in sources] == [f"{i}.ome.tif" for i in range(5)]
        assert {one.pixel_bytes for one in sources} == {1200}
        return found

    assert again() == []
    convert(folder, out, part="2/2")
    assert "scan" in told(out, "bfbridge-report.part-1-of-2.json")
    assert "scan" not in told(out, "bfbridge-report.part-2-of-2.json"), "once is enough"
    # A file more may belong to one that was there.
    (folder / "new.csv").write_text("1,2\n")
    assert len(again()) == 8


def test_the_search_is_used_only_for_the_same_way_of_opening(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    convert(folder, out)
    found: list[str] = []
    history = read_history(out / REPORT_NAME, out, {})
    other = ConvertOptions(reader_options={"group_files": False})
    find_sources([str(folder)], other, scan=Scan(other, history.scans), opener=looking(found))
    assert len(found) == 5


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: None, lambda entry: {}, lambda entry: {**entry, "folder": 5},
        lambda entry: {**entry, "opened": {"files": "x"}},
        lambda entry: {**entry, "stamps": [{"path": None}]},
        lambda entry: {**entry, "stamps": [{}]},
        lambda entry: {**entry, "stamps": [{**entry["stamps"][0], "bytes": 1}]},
    ],
)  # fmt: skip
def test_a_damaged_search_is_done_again(folder: Path, tmp_path: Path, damage: Any) -> None:
    out, request = tmp_path / "out", ConvertOptions()
    convert(folder, out)
    report = told(out)
    files = report["scan"]["files"]
    name = next(iter(files))
    files[name] = damage(files[name])
    found: list[str] = []
    scan = Scan(request, [report["scan"]])
    assert len(find_sources([str(folder)], request, scan=scan, opener=looking(found))) == 5
    assert found == [Path(name).name]


# ---- sources that are stores


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, image=image(1), chunks=(1, 1, 1, 8, 8)) as bw:
        bw[:] = image(1)
    return path


def chunk_folders_listed(monkeypatch: pytest.MonkeyPatch, store: Path) -> list[str]:
    """Return the list of folders with chunks of a store that are listed from now on."""
    listed: list[str] = []
    scandir = os.scandir

    def noted(path: Any = ".") -> Any:
        if str(path).startswith(f"{store}{os.sep}0"):
            listed.append(str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    return listed


def test_chunks_of_a_source_are_listed_for_reports_only(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = chunk_folders_listed(monkeypatch, store)
    done = convert(store, tmp_path / "b.ome.tif")
    assert listed == []
    assert done.files[0].inputs == [{"path": str(store), "bytes": None, "mtime_ns": None}]
    done = convert_many([store], tmp_path / "out", suffix=".ome.tif")
    assert len(listed) == len(set(listed)) > 0
    assert done.files[0].inputs[0]["bytes"] == sum(
        path.stat().st_size for path in store.rglob("*") if path.is_file()
    )


def test_a_chunk_that_changed_is_found_when_a_batch_is_resumed(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    convert_many([store], target, suffix=".ome.tif")
    assert statuses(convert_many([store], target, suffix=".ome.tif", resume=True)) == ["kept"]
    with BioWriter(store, append=True) as bw:
        bw[8:16, 8:16] = image(3)[8:16, 8:16]
    assert statuses(convert_many([store], target, suffix=".ome.tif", resume=True)) == ["done"]
    with BioReader(target / "a.ome.tif") as br:
        np.testing.assert_array_equal(br[8:16, 8:16], image(3)[8:16, 8:16])
