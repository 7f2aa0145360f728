"""What a batch makes of sources that are damaged, odd or out of reach: one record each."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.convert import convert_many
from bfbridge.convert.copy import source as single
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan import grouping
from bfbridge.convert.plan.grouping import AHEAD
from bfbridge.convert.plan.sources import Opened, Skipped, find_sources
from bfbridge.convert.reports.writer import REPORT_NAME
from bfbridge.errors import (
    BfbridgeError,
    FileMissing,
    UnknownFormat,
    UnreadableFile,
    WriteFailed,
)

PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30)
TEXT = b"nothing to see\n" * 100
BINARY = bytes(range(256)) * 20


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with BioWriter(path, image=PIXELS) as bw:
        bw[:] = PIXELS
    return path


def found(*sources: Path | str) -> tuple[dict[str, str | None], dict[str, str]]:
    """Errors of what is found, and reasons of what is left out, by name."""
    skipped = Skipped()
    listed = find_sources([str(one) for one in sources], ConvertOptions(), skipped=skipped)
    reasons = {os.path.basename(path): reason for path, reason in skipped.reasons.items()}
    return {os.path.basename(one.path): one.error for one in listed}, reasons


# ---- damaged images and what is none


@pytest.mark.java
@pytest.mark.parametrize(
    ("name", "content", "is_image"),
    [
        # A cut density map: its header is not there, so that no reader knows it.
        ("cut.map", BINARY[:300], True),
        ("cut.rec", BINARY[:300], True),
        ("film.mov", BINARY, True),
        ("film.avi", b"RIFF" + BINARY, True),
        ("slices.zip", b"PK\3\4" + BINARY, True),
        ("cut.tif", BINARY, True),
        ("cut.czi", TEXT, True),
        ("main.js.map", b'{"version":3,"mappings":"AAAA"}', False),
        ("notes.mov", TEXT, False),
        ("table.csv", TEXT, False),
        ("readme.txt", TEXT, False),
        ("thumbs.db", BINARY, False),
        ("counts.dat", BINARY, False),
        ("raw.bin", BINARY, False),
        ("program.py", TEXT, False),
        ("data.unknown", BINARY, False),
    ],
)
def test_damaged_images_are_failures_and_other_files_are_not(
    tmp_path: Path, name: str, content: bytes, is_image: bool
) -> None:
    pytest.importorskip("jpype", reason="JPype is not installed")
    write(tmp_path / "in/a.ome.tif")
    (tmp_path / "in" / name).write_bytes(content)
    errors, reasons = found(tmp_path / "in")
    assert errors["a.ome.tif"] is None
    assert (name in errors, name in reasons) == (is_image, not is_image)
    told = errors[name] if is_image else reasons[name]
    assert told is not None
    assert name in told


@pytest.mark.java
def test_an_image_that_cannot_be_read_makes_the_batch_fail(tmp_path: Path) -> None:
    pytest.importorskip("jpype", reason="JPype is not installed")
    write(tmp_path / "in/a.ome.tif")
    (tmp_path / "in/cut.map").write_bytes(BINARY[:300])
    done = run("convert", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 1
    assert f"FAILED: {tmp_path}/in/cut.map: Bio-Formats knows no format" in done.stderr
    report = json.loads((tmp_path / "out" / REPORT_NAME).read_text())
    assert report["counts"] == {"done": 1, "kept": 0, "failed": 1}


@pytest.mark.java
def test_content_that_is_of_no_format_has_an_error_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("jpype", reason="JPype is not installed")
    (tmp_path / "a.dat").write_bytes(BINARY)
    with pytest.raises(UnknownFormat, match="a.dat"):
        BioReader(tmp_path / "a.dat")


@pytest.mark.java
def test_folders_without_images_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.py").write_bytes(TEXT)
    with pytest.raises(FileMissing, match=r"there is no image. 1 files are not images; .*notes.py"):
        convert(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- links, folders and files out of reach


@pytest.mark.java
def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "in/a.ome.tif")
    for name, target in (("b.tif", "gone.tif"), ("c.tif", "c.tif"), ("d.txt", "gone.txt")):
        (tmp_path / "in" / name).symlink_to(target)
    errors, reasons = found(tmp_path / "in")
    assert set(errors) == {"a.ome.tif", "b.tif", "c.tif"}
    assert "leads to gone.tif, which is not there" in str(errors["b.tif"])
    assert "leads back to itself" in str(errors["c.tif"])
    assert "gone.txt" in reasons["d.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_pipes_are_left_out_and_told(tmp_path: Path) -> None:
    write(tmp_path / "in/a.ome.tif")
    os.mkfifo(tmp_path / "in/b.tif")
    errors, reasons = found(tmp_path / "in")
    assert set(errors) == {"a.ome.tif"}
    assert "pipe" in reasons["b.tif"]


def test_a_folder_that_may_not_be_searched_is_one_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in/a.ome.tif")
    write(tmp_path / "in/closed/b.ome.tif")
    plain = os.scandir

    def scandir(path: Any) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied")  # root may search everywhere
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    done = convert_many([tmp_path / "in"], tmp_path / "out")
    assert [record.status for record in done.files] == ["done", "failed"]
    assert done.files[1].error == f"{tmp_path}/in/closed: cannot be searched (Permission denied)."
    with pytest.raises(UnreadableFile, match="closed: cannot be searched"):
        convert(tmp_path / "in/closed", tmp_path / "out")


@pytest.mark.java
def test_a_file_that_may_not_be_read_is_one_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in/a.ome.tif")
    write(tmp_path / "in/b.ome.tif")
    plain = os.open

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("b.ome.tif"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return plain(path, *arguments, **options)

    monkeypatch.setattr(os, "open", opened)
    done = convert_many([tmp_path / "in"], tmp_path / "out")
    assert [record.status for record in done.files] == ["done", "failed"]
    assert "Permission denied" in str(done.files[1].error)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "odd",
    ["gone.tif", "*.none", "x_{c:d}.tif", "loop.tif", "zip::path", "nothing://x/y.tif", "a\0b"],
)
def test_one_source_that_is_odd_does_not_stop_the_others(tmp_path: Path, odd: str) -> None:
    source = write(tmp_path / "in/a.ome.tif")
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    place = odd if ":" in odd and "{" not in odd else str(tmp_path / odd)
    done = convert_many([place, source], tmp_path / "out")
    assert sorted(record.status for record in done.files) == ["done", "failed"]
    (failed,) = done.failed
    assert failed.source == place
    assert failed.error
    with pytest.raises(BfbridgeError, match=r"x_|gone|none|loop|zip|nothing|a"):
        convert([place], tmp_path / "out")


@pytest.mark.slow(ci=True)
def test_without_a_working_directory(tmp_path: Path) -> None:
    source = write(tmp_path / "in/a.ome.tif")
    program = (
        "import os, sys\n"
        "os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])\n"
        "del sys.argv[1]\n"
        "from bfbridge.cli import main; main()"
    )

    def run_without(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "gone"), *map(str, arguments)],
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    done = run_without("convert", source, "b.ome.tif", "c.ome.tif", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.count("the working directory of this process was removed") == 2
    assert (tmp_path / "out/a.ome.tif").exists()
    assert "Traceback" not in done.stderr
    assert "fault of bfbridge" not in done.stderr
    for arguments in (("b.ome.tif", tmp_path / "b.ome.zarr"), (source, "b.ome.zarr")):
        done = run_without("convert", *arguments)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: ")
        assert "fault of bfbridge" not in done.stderr


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from bfbridge.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


# ---- what ends a batch, and what it says


def full(*_: Any, **__: Any) -> None:
    raise WriteFailed("the disk is full") from OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_full_disk_stops_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    for number in range(6):
        write(tmp_path / f"in/{number}.ome.tif")
    plain, count = single.BioWriter, 0

    def writer(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        return full() if count == 3 else plain(*arguments, **options)

    monkeypatch.setattr(single, "BioWriter", writer)
    with pytest.raises(WriteFailed, match=r"the disk is full.* batch was stopped.*--resume"):
        convert(tmp_path / "in", tmp_path / "out", jobs=jobs)
    report = json.loads((tmp_path / "out" / REPORT_NAME).read_text())
    assert report["counts"] == {"done": 2, "kept": 0, "failed": 1}
    assert report["interrupted"] is True
    monkeypatch.undo()
    done = convert(tmp_path / "in", tmp_path / "out", resume=True)
    assert [record.status for record in done.files] == ["kept"] * 2 + ["done"] * 4


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_private_folders_are_not_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    source = write(tmp_path / "in/a.ome.tif")
    plain = os.open

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        # The lock of the private folder is made; what is to be written into it is refused.
        if "bfbridge-partial" in str(path) and not str(path).endswith("bfbridge-lock"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return plain(path, *arguments, **options)

    monkeypatch.setattr(os, "open", opened)
    target = tmp_path / f"b{suffix}"
    with pytest.raises(WriteFailed, match="Permission denied") as caught:
        convert(source, target, recompress=True)
    assert "bfbridge-partial" not in str(caught.value)
    assert f"b{suffix}" in str(caught.value)


def named_files(folder: Path, count: int, suffix: str = ".ome.tif") -> list[str]:
    paths = [str(folder / f"{i:02}{suffix}") for i in range(count)]
    for path in paths:
        Path(path).touch()
    return paths


def test_the_search_opens_several_files_at_once(tmp_path: Path) -> None:
    """After one that waits, files are opened only if a whole group is opened at the same time."""
    paths = named_files(tmp_path, 1 + 2 * AHEAD)
    together = threading.Barrier(AHEAD)

    def opener(path: str) -> Opened:
        if path == paths[0]:
            time.sleep(0.05)
        else:
            together.wait(30)
        if path == paths[3]:
            raise UnreadableFile("damaged")
        return Opened([path], int(Path(path).name[:2]))

    told: list[str] = []
    found = find_sources(paths, ConvertOptions(), opener=opener, each=told.append)
    assert [one.path for one in found] == paths
    assert told == [*paths[:3], *paths[4:]]
    assert [one.error for one in found if one.error] == ["damaged"]
    assert [one.pixel_bytes for one in found] == [0, 1, 2, 0, *range(4, 1 + 2 * AHEAD)]


def test_files_that_are_opened_at_once_need_no_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "WAITING_SECONDS", 60)
    threads: set[str] = set()

    def opener(path: str) -> Opened:
        threads.add(threading.current_thread().name)
        return Opened([path])

    paths = named_files(tmp_path, 20)
    assert len(find_sources(paths, ConvertOptions(), opener=opener)) == 20
    assert threads == {threading.current_thread().name}


@pytest.mark.parametrize("suffix", [".ome.tif", ".oir"])
def test_other_files_of_a_data_set_are_not_opened(tmp_path: Path, suffix: str) -> None:
    paths = named_files(tmp_path, 40, suffix)
    opened: list[str] = []

    def opener(path: str) -> Opened:
        opened.append(path)
        return Opened(paths[:20] if path in paths[:20] else paths[20:])

    skipped = Skipped()
    found = find_sources([str(tmp_path)], ConvertOptions(), skipped=skipped, opener=opener)
    assert [one.path for one in found] == [paths[0], paths[20]] == opened
    assert len(skipped.reasons) == 38


def test_an_interrupted_search_opens_no_more_files(tmp_path: Path) -> None:
    paths = named_files(tmp_path, 100)
    opened: list[str] = []

    def opener(path: str) -> Opened:
        opened.append(path)
        return Opened([path])

    def looked(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_sources([str(tmp_path)], ConvertOptions(), opener=opener, looked=looked)
    assert opened[0] == paths[0]
    assert len(opened) <= 3 + AHEAD
    names = [each.name for each in threading.enumerate()]
    assert not any(name.startswith("bfbridge-search") for name in names)
