"""Batches: found files, names of targets, kept files, reports of failures and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.convert import convert_many
from bfbridge.convert.execute import processes, workers
from bfbridge.convert.execute.jobs import converted
from bfbridge.convert.execute.run import Watcher
from bfbridge.convert.option_values import parse_part
from bfbridge.convert.options import ConvertOptions, RunOptions
from bfbridge.convert.plan.sources import Found, Opened, Skipped, find_sources, name_targets
from bfbridge.convert.reports.writer import REPORT_NAME
from bfbridge.errors import (
    BadArgument,
    BatchFailed,
    FileMissing,
    TargetExists,
    UnreadableFile,
    WriteFailed,
)

REQUEST = ConvertOptions(max_workers=1)


def image(number: int, shape: tuple[int, ...] = (20, 30)) -> Any:
    return (np.arange(np.prod(shape), dtype=np.uint16) + 1000 * number).reshape(shape)


def write(path: Path, number: int = 0, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with BioWriter(path, image=image(number), **options) as bw:
        bw[:] = image(number)
    return path


def read(path: Path) -> Any:
    with BioReader(path) as br:
        return br[:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one of them deeper, and a broken one."""
    write(tmp_path / "in/a.ome.tif", 1)
    write(tmp_path / "in/b.ome.zarr", 2)
    write(tmp_path / "in/deep/c.ome.tif", 3)
    (tmp_path / "in/bad.ome.tif").write_bytes((tmp_path / "in/a.ome.tif").read_bytes()[:200])
    return tmp_path / "in"


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / REPORT_NAME).read_text())


# ---- what is found


def opener(sets: dict[str, Sequence[str]]) -> Any:
    """Stand in for opening: the files of each data set by the name of any of them."""

    def used(path: str) -> Opened:
        name = Path(path).name
        for main, names in sets.items():
            if name in names:
                return Opened([str(Path(path).with_name(n)) for n in (main, *names) if n])
        raise UnreadableFile(f"{path}: no backend reads this file.")

    return used


def names(found: Sequence[Found]) -> list[str]:
    return [Path(f.path).name for f in found]


@pytest.mark.java
def test_files_that_belong_together_count_once(tmp_path: Path) -> None:
    for name in ("s_1.tif", "s_2.tif", "s.companion.ome", "z.tif", "notes.txt", "torn.czi"):
        (tmp_path / name).write_bytes(b"x")
    sets = {"s.companion.ome": ("s_1.tif", "s_2.tif", "s.companion.ome"), "z.tif": ("z.tif",)}
    skipped = Skipped()
    found = find_sources([str(tmp_path)], REQUEST, skipped=skipped, opener=opener(sets))
    assert names(found) == ["s.companion.ome", "torn.czi", "z.tif"]
    assert [f.error is not None for f in found] == [False, True, False]
    reasons = {Path(path).name: reason for path, reason in skipped.reasons.items()}
    assert set(reasons) == {"s_1.tif", "s_2.tif", "notes.txt"}
    assert "belongs to" in reasons["s_2.tif"]
    assert "no image" in reasons["notes.txt"]


def test_a_part_named_finds_its_set_even_if_the_main_file_is_elsewhere(tmp_path: Path) -> None:
    for name in ("s_1.tif", "s_2.tif"):
        (tmp_path / name).write_bytes(b"x")
    sets = {"s.companion.ome": ("s_1.tif", "s_2.tif")}
    found = find_sources([str(tmp_path / "*.tif")], REQUEST, opener=opener(sets))
    assert names(found) == ["s_1.tif"]


@pytest.mark.java
def test_folders_globs_and_patterns(folder: Path) -> None:
    def find(*sources: str, **options: Any) -> list[str]:
        paths = [f.path for f in find_sources(sources, REQUEST, **options)]
        return [Path(path).relative_to(folder).as_posix() for path in paths]

    everything = ["a.ome.tif", "b.ome.zarr", "bad.ome.tif", "deep/c.ome.tif"]
    assert sorted(find(str(folder))) == sorted(everything)
    assert "deep/c.ome.tif" not in find(str(folder), recursive=False)
    assert find(str(folder / "**/*.tif"), group=False) == [
        "a.ome.tif", "bad.ome.tif", "deep/c.ome.tif",
    ]  # fmt: skip
    assert find(str(folder / "{x:c}.ome.tif")) == ["a.ome.tif"]
    assert find(str(folder), pattern="[ac].ome.tif") == ["a.ome.tif", "deep/c.ome.tif"]
    assert find(str(folder / "b.ome.zarr"), str(folder / "a.ome.tif")) == everything[1::-1]


def test_hidden_files_and_unfinished_work_are_no_sources(tmp_path: Path) -> None:
    write(tmp_path / "a.ome.tif")
    (tmp_path / ".b.tif").write_bytes(b"x")
    (tmp_path / ".c.ome.tif.bfbridge-partial").mkdir()
    (tmp_path / ".c.ome.tif.bfbridge-partial/c.ome.tif").write_bytes(b"x")
    assert names(find_sources([str(tmp_path)], REQUEST)) == ["a.ome.tif"]


@pytest.mark.java
def test_links_in_a_circle_are_walked_once(tmp_path: Path) -> None:
    write(tmp_path / "in/a/x.ome.tif", 1)
    write(tmp_path / "in/b/y.ome.tif", 2)
    for link, target in (("a/up", ".."), ("a/self", "."), ("a/b", "../b"), ("b/a", "../a")):
        (tmp_path / "in" / link).symlink_to(target)
    (tmp_path / "in/gone.tif").symlink_to("nowhere")
    found = find_sources([str(tmp_path / "in")], REQUEST)
    assert sorted(names(found)) == ["gone.tif", "x.ome.tif", "y.ome.tif"]
    (gone,) = [one for one in found if one.error is not None]
    assert (
        gone.error
        == f"{tmp_path}/in/gone.tif: this symbolic link leads to nowhere, which is not there."
    )


@pytest.mark.parametrize("target", ["in/out", "in"])
def test_results_inside_the_source_folder_are_no_sources(tmp_path: Path, target: str) -> None:
    write(tmp_path / "in/a.ome.tif", 1)
    write(tmp_path / "in/deep/b.ome.tif", 2)
    for more in ({}, {"resume": True}, {"overwrite": True}):
        done = convert(tmp_path / "in", tmp_path / target, suffix=".ome.zarr", **more)
        assert [Path(record.source).name for record in done.files] == ["a.ome.tif", "b.ome.tif"]
        assert done.skipped == {}
    stores = sorted(path.relative_to(tmp_path / target) for path in tmp_path.rglob("*.ome.zarr"))
    assert stores == [Path("a.ome.zarr"), Path("deep/b.ome.zarr")]
    # Named, or wanted as something else, they are.
    done = convert(tmp_path / target / "a.ome.zarr", f"{tmp_path / target}/", suffix=".ome.btf")
    assert [Path(output).name for output in (done.files[0].outputs[0].target,)] == ["a.ome.btf"]


@pytest.mark.parametrize("source", ["none.tif", "*.none", "x_{c:d}.tif", "empty"])
def test_nothing_found_is_an_error(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileMissing):
        find_sources([str(tmp_path / source)], REQUEST)


@pytest.mark.parametrize(
    ("paths", "split", "expected"),
    [
        ("/in/a.czi /in/b.czi", "", "a b"),
        ("/in/a.czi /in/a.lif", "", "a.czi a.lif"),
        ("/in/a.czi /in/a.ome.zarr", "", "a.czi a"),
        ("/in/1/a.czi /in/2/a.czi /in/3/b.czi", "", "1/a 2/a b"),
        ("/in/a.czi /in/1/a.czi", "", "a 1/a"),
        ("/in/1/a.czi /in/1/a.lif /in/2/a.czi", "", "1/a.czi 1/a.lif 2/a"),
        ("/in/B.tif /in/b.tif", "", "B.tif b.tif-2"),
        ("https://h/1/a.czi?x=1 https://h/2/a.czi", "", "1/a 2/a"),
        ("/in/a.czi /in/a_c1.tif /in/b_t0.tif", "c", "a.czi a_c1.tif b_t0"),
    ],
)
def test_new_names_never_meet(paths: str, split: str, expected: str) -> None:
    found = [Found(path) for path in paths.split()]
    made = name_targets(found, Path("out"), ".ome.zarr", tuple(split))
    assert [path.as_posix() for path in made] == [
        f"out/{name}.ome.zarr" for name in expected.split()
    ]


def test_new_names_keep_the_folders_that_were_searched() -> None:
    deep = [
        Found("/in/a.czi"), Found("/in/deep/a.czi", "deep"), Found("/in/deep/a.lif", "deep"),
        Found("/in/x/b.lif", "x"), Found("/also/x/b.lif", "x"),
    ]  # fmt: skip
    assert [path.as_posix() for path in name_targets(deep, Path("out"), ".ome.tif")] == [
        "out/a.ome.tif", "out/deep/a.czi.ome.tif", "out/deep/a.lif.ome.tif",
        "out/in/x/b.ome.tif", "out/also/x/b.ome.tif",
    ]  # fmt: skip
    with pytest.raises(BadArgument, match="suffix"):
        RunOptions(suffix="ome.tif")


NOT_IMAGES = {
    "readme.txt": "hello", "meta.xml": "<?xml version='1.0'?><a><b>1</b></a>", "notes": "plain",
    "results.csv": "x,y,intensity\n1,2,3\n4,5,6\n", "s.json": "{}", "acq.ini": "key=1",
    "y.log": "abc", "z.pdf": "%PDF-1.4", "i.html": "<html>", "s.py": "import os",
    "w.raw": "bytes", "x.hdr": "text",
}  # fmt: skip


@pytest.mark.java
def test_what_lies_beside_images_is_left_out_and_told(tmp_path: Path) -> None:
    write(tmp_path / "in/a.ome.tif", 1)
    for name, text in NOT_IMAGES.items():
        (tmp_path / "in" / name).write_text(text)
    done = run("convert", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"skipped, not images: {len(NOT_IMAGES)} (" in done.stdout
    assert {Path(path).name for path in told(tmp_path / "out")["skipped"]} == set(NOT_IMAGES)
    # An image that cannot be read is no such thing.
    (tmp_path / "in/torn.czi").write_bytes(b"ZISRAWFILE")
    (tmp_path / "in/empty.tif").touch()
    with pytest.raises(BatchFailed, match="2 of 3 files failed"):
        convert(tmp_path / "in", tmp_path / "out", overwrite=True)


# ---- what is done


@pytest.mark.java
@pytest.mark.parametrize("jobs", [1, 2])
def test_failures_do_not_stop_the_others(folder: Path, tmp_path: Path, jobs: int) -> None:
    out = tmp_path / "out"
    with pytest.raises(BatchFailed, match="1 of 4 files failed") as caught:
        convert(folder, out, suffix=".ome.zarr", jobs=jobs, verify=True)
    for number, name in ((1, "a"), (2, "b"), (3, "deep/c")):
        np.testing.assert_array_equal(read(out / f"{name}.ome.zarr"), image(number))
    assert [Path(r.source).name for r in caught.value.conversion.failed] == ["bad.ome.tif"]
    report = told(out)
    assert report["counts"] == {"done": 3, "kept": 0, "failed": 1}
    assert report["interrupted"] is False
    assert report["pixel_bytes"] == 3 * image(0).nbytes
    assert report["machine"]["packages"]["numpy"] == np.__version__
    assert not list(out.glob("*.lines"))


def test_resuming_redoes_nothing_that_is_complete(folder: Path, tmp_path: Path) -> None:
    out, (folder_bad,) = tmp_path / "out", folder.glob("bad*")
    folder_bad.unlink()
    convert(folder, out, verify=True)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.ome.tif")}
    assert len(before) == 3
    write(folder / "new.ome.tif", 9)
    write(folder / "a.ome.tif", 7, overwrite=True)
    (out / "deep/c.ome.tif").unlink()
    done = convert(folder, out, verify=True, resume=True)
    statuses = {Path(r.source).name: r.status for r in done.files}
    assert statuses == {
        "a.ome.tif": "done", "b.ome.zarr": "kept", "c.ome.tif": "done", "new.ome.tif": "done",
    }  # fmt: skip
    assert (out / "b.ome.tif").stat().st_mtime_ns == before[out / "b.ome.tif"]
    np.testing.assert_array_equal(read(out / "a.ome.tif"), image(7))
    np.testing.assert_array_equal(read(out / "deep/c.ome.tif"), image(3))
    changed = convert(folder, out, verify=True, resume=True, compression="none")
    assert {record.status for record in changed.files} == {"done"}


def test_resuming_without_a_report_trusts_only_equal_pixels(tmp_path: Path) -> None:
    write(tmp_path / "in/a.ome.tif", 1)
    write(tmp_path / "in/b.ome.tif", 2)
    write(tmp_path / "out/a.ome.tif", 1)
    write(tmp_path / "out/b.ome.tif", 5)
    done = convert_many(tmp_path / "in", tmp_path / "out", resume=True)
    a, b = done.files
    assert a.outputs[0].verified is True
    assert (b.status, b.error_type) == ("failed", "TargetExists")
    np.testing.assert_array_equal(read(tmp_path / "out/b.ome.tif"), image(5))


def test_a_killed_run_is_continued_from_its_lines(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"in/{i}.ome.tif", i)
    out = tmp_path / "out"

    class Stop(Watcher):
        def started(self, number: int, name: str) -> None:
            if number == 2:
                # As if the process had been killed: nothing more is written.
                os.replace(out / f"{REPORT_NAME}.lines", tmp_path / "kept")
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "in", out, watcher=Stop())
    (out / REPORT_NAME).unlink()
    lines = (tmp_path / "kept").read_bytes()
    (out / f"{REPORT_NAME}.lines").write_bytes(lines + b'{"source": "cut sho')
    done = convert(tmp_path / "in", out, resume=True)
    assert [record.status for record in done.files] == ["kept", "kept", "done"]


def test_an_interrupted_run_says_so_in_its_report(tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / f"in/{i}.ome.tif", i)

    class Stop(Watcher):
        def moved(self, number: int, done: int, total: int) -> None:
            if number == 1 and done:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "in", tmp_path / "out", watcher=Stop())
    report = told(tmp_path / "out")
    assert report["interrupted"] is True
    assert [entry["status"] for entry in report["files"]] == ["done"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.ome.tif", REPORT_NAME]


def test_parts_make_the_whole(tmp_path: Path) -> None:
    for i in range(5):
        write(tmp_path / f"in/{i}.ome.tif", i)
    seen = []
    for i in (1, 2):
        done = convert(tmp_path / "in", tmp_path / "out", part=f"{i}/2")
        seen.append([Path(record.source).name[0] for record in done.files])
        assert done.report is not None
        assert done.report.name == f"bfbridge-report.part-{i}-of-2.json"
    assert seen == [["0", "2", "4"], ["1", "3"]]
    for wrong in ("0/2", "3/2", "x", "1"):
        with pytest.raises(BadArgument, match="part="):
            parse_part(wrong)


@pytest.mark.parametrize("batch", [False, True])
def test_what_fails_first_is_told(tmp_path: Path, batch: bool) -> None:
    source = write(tmp_path / "in/a.ome.tif")
    (tmp_path / "file").write_text("something")
    target = tmp_path / ("out" if batch else "file/a.ome.tif")
    report = tmp_path / "file/report.json"
    with pytest.raises(WriteFailed) as caught:
        convert([source] if batch else source, target, report=report)
    told = "report" if batch else "a.ome.tif"
    assert told in str(caught.value)
    assert "report" not in str(caught.value) or batch
    assert not (tmp_path / "out").exists(), "nothing is converted before the report is begun"


def test_a_file_is_no_folder_for_a_batch(tmp_path: Path) -> None:
    write(tmp_path / "in/a.ome.tif")
    (tmp_path / "out").write_text("something")
    with pytest.raises(TargetExists, match="this is a file"):
        convert(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "something"


def test_nothing_is_put_into_a_store_that_is_read(tmp_path: Path) -> None:
    store = write(tmp_path / "a.ome.zarr", 1)
    before = sorted(store.rglob("*"))
    for target in (store / "b.ome.tif", store / "0/b.ome.zarr"):
        with pytest.raises(TargetExists, match="inside the source"):
            convert(store, target)
    assert sorted(store.rglob("*")) == before


@pytest.mark.slow(ci=True)
def test_a_worker_that_dies_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        write(tmp_path / f"in/{i}.ome.tif", i)
    # Workers import this module by the path they are given.
    (tmp_path / "deadly.py").write_text(
        "import os, signal\n"
        "import bfbridge.convert.execute.jobs as batch\n"
        "plain = batch.converted\n"
        "def converted(job, request, progress):\n"
        "    if job.name == '1.ome.tif':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(job, request, progress)\n"
        "batch.converted = converted\n"
        "from bfbridge.convert.execute.workers import serve\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(workers, "SERVE", "deadly:serve")
    share_out_at_once(monkeypatch)
    monkeypatch.setattr(processes._Batch, "work", lambda self, request: None)
    done = convert_many(tmp_path / "in", tmp_path / "out", jobs=2)
    assert [record.status for record in done.files] == ["done", "failed", "done", "done"]
    assert "signal 9" in str(done.files[1].error)
    np.testing.assert_array_equal(read(tmp_path / "out/3.ome.tif"), image(3))


def share_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have processes started for the smallest batch."""
    monkeypatch.setattr(processes, "WORTH_SECONDS", -1)
    monkeypatch.setattr(processes, "IDLE_CPUS", -1000)
    monkeypatch.setattr(processes, "LOOK_SECONDS", 0.01)


@pytest.mark.slow(ci=True)
def test_this_process_converts_until_the_others_are_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(5):
        write(tmp_path / f"in/{i}.ome.tif", i)
    share_out_at_once(monkeypatch)
    here: list[str] = []
    watched = Record()

    def slowly(job: Any, *given: Any) -> Any:
        here.append(job.name)
        assert watched.four_ended.wait(60), "the others are ready, and do the rest"
        return converted(job, *given)

    monkeypatch.setattr(processes, "converted", slowly)
    done = convert(tmp_path / "in", tmp_path / "out", jobs=2, watcher=watched)
    assert [record.status for record in done.files] == ["done"] * 5
    assert here == ["0.ome.tif"]
    for i in range(5):
        np.testing.assert_array_equal(read(tmp_path / f"out/{i}.ome.tif"), image(i))
    assert watched.most <= 3, "files are shown as begun when they are"


class Record(Watcher):
    """Records its arguments."""

    def __init__(self) -> None:
        self.most = self._active = self._ended = 0
        self.four_ended = threading.Event()

    def started(self, number: int, name: str) -> None:
        self._active += 1
        self.most = max(self.most, self._active)

    def ended(self, number: int, record: Any) -> None:
        self._active -= 1
        self._ended += 1
        if self._ended == 4:
            self.four_ended.set()


def test_a_short_batch_starts_no_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(3):
        write(tmp_path / f"in/{i}.ome.tif", i)

    def never(self: Any) -> Any:
        raise AssertionError("started")

    monkeypatch.setattr(workers.WorkerProcess, "start", never)
    done = convert(tmp_path / "in", tmp_path / "out", jobs=8)
    assert [record.status for record in done.files] == ["done"] * 3


def test_processes_that_cannot_start_leave_the_work_to_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(3):
        write(tmp_path / f"in/{i}.ome.tif", i)
    share_out_at_once(monkeypatch)
    monkeypatch.setattr(workers, "SERVE", "bfbridge:no_such_function")
    done = convert(tmp_path / "in", tmp_path / "out", jobs=2)
    assert [record.status for record in done.files] == ["done"] * 3


def test_threads_and_memory_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "available_cpus", lambda: 8)
    request = ConvertOptions(memory=1 << 30)
    shares = [processes.share_of(request, n) for n in (2, 4, 8, 100)]
    assert [share.max_workers for share in shares] == [8, 4, 2, 1]
    assert [share.memory for share in shares] == [1 << 29, 1 << 28, 1 << 27, 16 << 20]
    chosen = processes.share_of(ConvertOptions(max_workers=6), 4)
    assert (chosen.max_workers, chosen.memory) == (1, (6 * 128 << 20) // 4)


@pytest.mark.java
def test_two_sources_of_one_name_and_wrong_arguments(tmp_path: Path) -> None:
    a = write(tmp_path / "1/a.ome.tif", 1)
    b = write(tmp_path / "2/a.ome.tif", 2)
    convert([a, b], tmp_path / "out")
    np.testing.assert_array_equal(read(tmp_path / "out/1/a.ome.tif"), image(1))
    np.testing.assert_array_equal(read(tmp_path / "out/2/a.ome.tif"), image(2))
    with pytest.raises(BadArgument, match="jobs"):
        convert([a, b], tmp_path / "out", jobs=0)
    with pytest.raises(BadArgument, match="no writer"):
        convert([a, b], tmp_path / "out", suffix=".nothing")


# ---- the command


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from bfbridge.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.slow(ci=True)
def test_command(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(
        "convert", folder, out, "--suffix", ".ome.zarr", "--verify", "-c", "zstd:3", "--tile", 16
    )
    assert done.returncode == 1
    assert "3 images from 3 files" in done.stdout
    assert done.stdout.endswith("\n3 converted, 1 failed, verified\n")
    assert f"FAILED: {folder}/bad.ome.tif: " in done.stderr
    assert "[4/4]" in done.stderr
    assert told(out)["request"]["target_options"] == {"compression": ["zstd", 3], "chunks": 16}
    np.testing.assert_array_equal(read(out / "a.ome.zarr"), image(1))


@pytest.mark.slow(ci=True)
def test_command_for_one_file_reports_where_it_is_asked_to(tmp_path: Path) -> None:
    a = write(tmp_path / "a.ome.tif", 4)
    done = run(
        "convert", a, tmp_path / "t.ome.tif", "--crop", "2,3,10,9", "--quiet",
        "--report", tmp_path / "report.json",
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    np.testing.assert_array_equal(read(tmp_path / "t.ome.tif"), image(4)[3:12, 2:12])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {"done": 1, "kept": 0, "failed": 0}
    # A name as long as file systems have them leaves no room for that of a report beside it.
    long = f"{'n' * 240}.ome.tif"
    assert run("convert", a, tmp_path / long, "--quiet").returncode == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a.ome.tif", "t.ome.tif", "report.json", long}


@pytest.mark.slow(ci=True)
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("batch", [False, True])
def test_bars_on_a_terminal(folder: Path, tmp_path: Path, batch: bool) -> None:
    import pty

    source, out = (folder, tmp_path / "out") if batch else (folder / "a.ome.tif", "t.ome.tif")
    command = [
        sys.executable, "-c", "from bfbridge.cli import main; main()", "convert", str(source),
        str(tmp_path / out),
    ]  # fmt: skip
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    shown = b""
    # Linux ends a terminal without a writer by an error.
    with suppress(OSError):
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == (1 if batch else 0)
    assert (b"all files" if batch else b"a.ome.tif") in shown
    assert (b"FAILED: " in shown) == batch
    assert b"3 converted, 1 failed\n" in output if batch else b"1 image," in output


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(("number", "jobs"), [(signal.SIGINT, "2"), (signal.SIGTERM, "1")])
def test_signals_end_a_command_in_good_order(
    tmp_path: Path, number: signal.Signals, jobs: str
) -> None:
    big = np.random.default_rng(5).integers(0, 4000, (1500, 2000), np.uint16)
    for i in range(14):
        (tmp_path / "in").mkdir(exist_ok=True)
        with BioWriter(tmp_path / f"in/{i}.ome.tif", image=big, compression="none") as bw:
            bw[:] = big
    out = tmp_path / "out"
    command = [
        sys.executable, "-c", "from bfbridge.cli import main; main()", "convert",
        str(tmp_path / "in"), str(out), "--jobs", jobs, "--compression", "deflate:9",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob("*.ome.tif")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "--resume" in err
    report = told(out)
    assert report["interrupted"] is True
    whole = {Path(entry["target"]).name for entry in report["files"] if entry["status"] == "done"}
    assert 1 <= len(whole) < 14
    found = {path.name for path in out.iterdir()} - {REPORT_NAME}
    # A file may be complete before its worker reports it.
    assert whole <= found
    for name in found:
        with BioReader(out / name) as br:
            assert np.array_equal(br[:], big)
    done = convert(tmp_path / "in", out, resume=True, compression="deflate:9")
    kept = {Path(record.target).name for record in done.files if record.status == "kept"}
    assert kept == found
    assert {path.name for path in out.glob("*.ome.tif")} == {f"{i}.ome.tif" for i in range(14)}
    assert len(done.files) == 14


# ---- a Dask cluster


@pytest.mark.slow(ci=True)
def test_cluster_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    for i in range(6):
        write(tmp_path / f"in/{i}.ome.tif", i)
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal, sys, threading, time\n"
        "from distributed import Client, LocalCluster\n"
        "from bfbridge.convert import convert\n"
        "if __name__ == '__main__':\n"
        "    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True,\n"
        "                      dashboard_address=None) as cluster, Client(cluster) as client:\n"
        "        victim = next(iter(client.run(os.getpid).values()))\n"
        "        threading.Timer(0.3, os.kill, (victim, signal.SIGKILL)).start()\n"
        "        done = convert(sys.argv[1], sys.argv[2], client=client, verify=True)\n"
        "        print(sorted(record.status for record in done.files))\n"
    )
    assert distributed
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "in"), str(tmp_path / "out")],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert "['done', 'done', 'done', 'done', 'done', 'done']" in done.stdout, done.stderr[-3000:]
    for i in range(6):
        np.testing.assert_array_equal(read(tmp_path / f"out/{i}.ome.tif"), image(i))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("options", ["", "shards=512, chunks=256"])
def test_one_image_over_a_cluster_with_a_worker_that_is_killed(
    tmp_path: Path, options: str
) -> None:
    pytest.importorskip("distributed")
    a = np.random.default_rng(3).integers(0, 60000, (1500, 1700, 2, 2), np.uint16)
    with BioWriter(tmp_path / "big.ome.tif", image=a, channel_names=["x", "y"]) as bw:
        bw[:] = a
    script = tmp_path / "run.py"
    script.write_text(
        "import os, signal, sys, threading\n"
        "from distributed import Client, LocalCluster\n"
        "import bfbridge.errors\n"
        "import bfbridge.convert.execute.regions as regions\n"
        "from bfbridge.convert import convert\n"
        "if __name__ == '__main__':\n"
        "    regions.REGION_BYTES = 1 << 20\n"
        "    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True,\n"
        "                      dashboard_address=None) as cluster, Client(cluster) as client:\n"
        "        victim = next(iter(client.run(os.getpid).values()))\n"
        "        threading.Timer(0.2, os.kill, (victim, signal.SIGKILL)).start()\n"
        f"        convert(sys.argv[1], sys.argv[2], client=client, {options})\n"
        "        try:\n"
        "            convert(sys.argv[1], sys.argv[2], client=client)\n"
        "        except bfbridge.errors.TargetExists as error:\n"
        "            print(error)\n"
        "        kept = convert(sys.argv[1], sys.argv[2], client=client, resume=True)\n"
        "        print(kept.files[0].outputs[0].verified)\n"
        "        convert(sys.argv[1], sys.argv[2], client=client, overwrite=True, verify=True,\n"
        f"                report=sys.argv[2] + '.json', {options})\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "big.ome.tif"), str(tmp_path / "t.ome.zarr")],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Pass overwrite=True" in done.stdout
    assert "True\n" in done.stdout
    (record,) = json.loads((tmp_path / "t.ome.zarr.json").read_text())["files"]
    assert record["outputs"][0]["verified"]
    assert sorted(path.name for path in tmp_path.glob(".*")) == []
    convert(tmp_path / "big.ome.tif", tmp_path / "alone.ome.zarr")
    with (
        BioReader(tmp_path / "t.ome.zarr") as made,
        BioReader(tmp_path / "alone.ome.zarr") as alone,
    ):
        np.testing.assert_array_equal(made[:], a)
        assert made.channel_names == ["x", "y"]
        assert len(made.levels) == len(alone.levels) == 3
        for one, other in zip(made.levels, alone.levels, strict=True):
            np.testing.assert_array_equal(one[:], other[:])
