"""What the command line shows: of many files, as they are worked at, and of odd names."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ome_types import from_xml

import bfbridge
from bfbridge import BioReader, BioWriter
from bfbridge.cli import pace, progress
from bfbridge.cli.pace import Pace, duration
from bfbridge.cli.stopping import Stopper
from bfbridge.cli.text import printable_json, printable_xml
from bfbridge.convert.reports.record import FileRecord
from bfbridge.runtime.terminal import printable
from tests.cli.test_cli import Done, failed, process, run

__all__ = ["run"]

Run = Callable[..., Done]
PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30)
# Red text, a bell, an 8-bit escape, a change of direction, a byte that is no UTF-8, and a line end.
ODD = os.fsdecode("a\x1b[31m\a\x9b\u202eb\n".encode() + b"\xff") + ".ome.tif"
SHOWN = r"a\x1b[31m\x07\x9b\u202eb \udcff.ome.tif"
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def write(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with BioWriter(path, image=PIXELS, **options) as bw:
        bw[:] = PIXELS
    return path


# ---- the package


@pytest.mark.slow(ci=True)
def test_python_runs_the_package_as_a_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bfbridge", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"bfbridge {bfbridge.__version__}\n")
    done = subprocess.run(
        [sys.executable, "-m", "bfbridge", "info", str(tmp_path / "none.tif")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")


def test_errors_are_a_name_of_the_package() -> None:
    code = (
        "import bfbridge, sys\n"
        "assert 'bfbridge.errors' not in sys.modules\n"
        "print(issubclass(bfbridge.errors.FileMissing, bfbridge.BfbridgeError))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    assert "errors" in dir(bfbridge)


# ---- info of many files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "in/a.ome.tif", channel_names=["DAPI"])
    write(tmp_path / "in/deep/b.ome.zarr")
    (tmp_path / "in/notes.txt").write_text("notes")
    return tmp_path / "in"


@pytest.mark.java
def test_info_of_several_files_and_folders(run: Run, folder: Path, tmp_path: Path) -> None:
    c = write(tmp_path / "c.ome.tif")
    done = run("info", folder, c)
    assert (done.code, done.err) == (0, "skipped, not images: 1\n")
    places = [done.out.index(f"{name}\n") for name in ("a.ome.tif", "b.ome.zarr", "c.ome.tif")]
    assert places == sorted(places)
    assert "DAPI" in done.out
    done = run("info", folder, c, "--json")
    assert [Path(one["file"]).name for one in json.loads(done.out)] == [
        "a.ome.tif", "b.ome.zarr", "c.ome.tif",
    ]  # fmt: skip
    assert isinstance(json.loads(run("info", c, "--json").out), dict)
    done = run("info", f"{tmp_path}/in/*.tif")
    assert (done.code, "a.ome.tif" in done.out, "b.ome" in done.out) == (0, True, False)


@pytest.mark.java
def test_info_goes_on_after_a_failure(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "cut.ome.tif").write_bytes((folder / "a.ome.tif").read_bytes()[:200])
    done = run("info", tmp_path / "none.tif", folder)
    assert done.code == 1
    assert "b.ome.zarr" in done.out
    assert re.search(r"error: .*none.tif: no such file", done.err)
    assert re.search(r"error: .*cut.ome.tif: ", done.err)
    done = run("info", tmp_path / "none.tif", folder, "--json")
    told = json.loads(done.out)
    assert [Path(one["file"]).name for one in told] == [
        "a.ome.tif", "b.ome.zarr", "none.tif", "cut.ome.tif",
    ]  # fmt: skip
    assert ["error" in one for one in told] == [False, False, True, True]
    failed(run("info", folder, "--ome-xml"), "name one file", code=2)


# ---- text from files


def test_text_is_escaped() -> None:
    assert printable(ODD) == SHOWN
    assert printable("µ 日本 é\u00a0x  y") == "µ 日本 é\u00a0x  y"
    assert printable("one\n  two\tthree\r\n") == "one two three"
    document = {"name": f"x{ODD}\U0001f600\U000e0001"}
    shown = printable_json(json.dumps(document, indent=1, ensure_ascii=False))
    assert not RAW.search(shown)
    assert json.loads(shown) == document
    xml = printable_xml('<a b="x\x9b\u202e">\x7f\n\u2028</a>')
    assert not RAW.search(xml)
    assert xml == '<a b="x&#x9B;&#x202E;">&#x7F;\n&#x2028;</a>'


@pytest.mark.java
@pytest.mark.skipif(sys.platform == "win32", reason="such names need another file system")
def test_odd_names_never_reach_a_terminal_raw(run: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "in" / ODD, name="cells\x9b[1m", channel_names=["\u202eDAPI"])
    (tmp_path / "in/\x1bcut.ome.tif").write_bytes(source.read_bytes()[:200])
    commands: list[Sequence[Any]] = [
        ("info", source), ("info", source, "--json"), ("info", tmp_path / "in"),
        ("info", tmp_path / "in", "--json"), ("info", tmp_path / ("none" + ODD)),
        ("convert", source, tmp_path / ("b" + ODD)), ("convert", source, tmp_path / ("b" + ODD)),
        ("convert", tmp_path / "in", tmp_path / "out\x1b"),
        ("convert", tmp_path / "in", tmp_path / "out\x1b", "--resume", "--quiet"),
        ("convert", source, tmp_path / "c.xyz\x1b"),
        ("convert", source, tmp_path / "x", "--z", "\x1b"),
        ("info", source, "--\x1b"), ("\x1b",),
    ]  # fmt: skip
    for command in commands:
        done = run(*command)
        assert not RAW.search(done.out + done.err), command
        assert "fault of bfbridge" not in done.err
    assert SHOWN in run("info", source).out


@pytest.mark.filterwarnings("default")
def test_warnings_of_the_library_are_escaped(
    run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def describe(*_: Any) -> dict[str, Any]:
        logging.getLogger("bfbridge.x").warning("first \x1b[2J %s", "second\nline")
        warnings.warn("third \x9b", UserWarning, stacklevel=2)
        return {"file": ""}

    monkeypatch.setattr("bfbridge.cli.show.describe", describe)
    monkeypatch.setattr("bfbridge.cli.show.print_description", lambda *_: None)
    done = run("info", folder / "a.ome.tif")
    assert done.err == "warning: first \\x1b[2J second line\nwarning: third \\x9b\n"


def test_ome_xml_for_another_program_is_as_stored(run: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "a.ome.tif", name="cells\x9b")
    done = run("info", source, "--ome-xml")
    assert "cells\x9b" in done.out
    assert from_xml(done.out.encode()).images[0].name == "cells\x9b"


# ---- how long it will take


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_the_time_that_is_left(clock: list[float]) -> None:
    files = Pace(5)
    big, small = 992 << 20, 92 << 20
    files.sized([big, small, small, small, 0])
    assert files.left() is None
    files.ended(0, converted=False)  # was complete already
    files.started(1)
    clock[0] = 10.0
    files.ended(1, converted=True)
    # 100 MiB in 10 s; of the last file the usual size is taken, 317 MiB.
    assert files.left() == pytest.approx(10 + 10 + 32.5)
    files.started(2)
    files.moved(2, 50, 100)
    clock[0] = 15.0
    assert files.left() == pytest.approx(5 + 10 + 32.5)
    for number in (2, 3, 4):
        files.ended(number, converted=True)
    assert files.left() == 0


def test_nothing_is_told_of_the_time_before_it_is_known(clock: list[float]) -> None:
    files = Pace(2)
    files.sized([1 << 40, 1 << 40])
    files.started(0)
    files.moved(0, 1, 1000)
    clock[0] = 60.0
    assert files.left() is None, "a thousandth tells nothing"
    files.moved(0, 1, 10)
    clock[0] = 2.0
    assert files.left() is None, "two seconds tell nothing"
    clock[0] = 10.0
    assert files.left() == pytest.approx(190)


def test_durations() -> None:
    assert [duration(s) for s in (0.2, 8.4, 99, 100, 5900, 7500)] == [
        "0 s", "8 s", "99 s", "2 min", "98 min", "2 h 5 min",
    ]  # fmt: skip


# ---- lines and bars


def test_lines_of_a_batch(
    capsys: pytest.CaptureFixture[str], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.watch(Stopper(), quiet=False) as watcher:
        watcher.looked(0, 0)
        watcher.looked(0, 300)
        for done in range(1, 300):
            clock[0] += 0.125
            watcher.looked(done, 300)
        watcher.looked(300, 300)
        watcher.begin(4)
        watcher.sized([92 << 20] * 4)
        watcher.ended(0, FileRecord("in/k.tif", "k.ome.tif", "kept"))
        watcher.started(1, "a.tif")
        clock[0] += 10
        watcher.ended(1, FileRecord("in/a.tif", "a.ome.tif", "done", seconds=10.0))
        error = "in/b.tif: is\ndamaged."
        watcher.started(2, "b.tif")
        watcher.ended(2, FileRecord("in/b.tif", "b.ome.tif", error=error))
        watcher.started(3, "c.tif")
        watcher.moved(3, 1, 4)
        clock[0] += 40
        watcher.moved(3, 2, 4)
    assert capsys.readouterr().err.splitlines() == [
        "searching for images",
        "looking at 300 files",
        "looked at 81 of 300 files",
        "looked at 162 of 300 files",
        "looked at 243 of 300 files",
        "[1/4] k.tif: kept, complete already",
        "[2/4] a.tif: done in 10.0 s; about 20 s left",
        "[3/4] FAILED: in/b.tif: is damaged.",
        "c.tif: 50 %, 0 MB/s, 40 s left",
    ]


def on_a_terminal(columns: int, *arguments: Any) -> tuple[str, str, int]:
    """Run a command whose stderr is a terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, "-m", "bfbridge", *map(str, arguments)], stderr=theirs,
        stdout=subprocess.PIPE, env={**environment, "TERM": "xterm"},
    ) as command:  # fmt: skip
        os.close(theirs)
        shown = b""
        # Linux ends a terminal without a writer by an error.
        with suppress(OSError):
            while data := os.read(ours, 4096):
                shown += data
        os.close(ours)
        output, _ = command.communicate(timeout=60)
    return shown.decode(), output.decode(), command.returncode


@pytest.mark.slow(ci=True)
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [80, 40])
def test_long_names_leave_room_for_the_bar(tmp_path: Path, columns: int) -> None:
    long = "a_very_long_name_of_an_experiment_" * 5
    for number in range(3):
        write(tmp_path / f"in/{long}{number}.ome.tif")
    (tmp_path / "in/cut.ome.tif").write_bytes(b"II*\0" + b"x" * 100)
    shown, output, code = on_a_terminal(columns, "convert", tmp_path / "in", tmp_path / "out")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    lines = [line for line in re.split(r"[\r\n]+", plain) if "━" in line]
    assert any(line.startswith("all files") for line in lines)
    names = [line for line in lines if "…" in line]
    assert names
    for line in lines:
        assert line.count("━") >= 4
        assert len(line) < columns, "the ^C of a terminal would begin a new line"
    assert f"FAILED: {tmp_path}/in/cut.ome.tif: " in plain
    assert code == 1
    assert output.endswith("\n3 converted, 1 failed\n")


# ---- what was done


@pytest.mark.java
def test_the_last_line_has_the_counts(run: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("convert", folder, out, "--verify")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{out}: 2 images from 2 files, 0.0 MB of pixels in ")
    assert lines[1:] == [
        "skipped, not images: 1 (notes.txt); the report has the reasons",
        f"report: {out}/bfbridge-report.json",
        "2 converted, verified",
    ]
    write(folder / "new.ome.tif")
    (folder / "cut.ome.tif").write_bytes(b"II*\0" + b"x" * 100)
    done = run("convert", folder, out, "--verify", "--resume")
    assert done.code == 1
    assert done.out.splitlines()[-1] == "1 converted, 2 kept, 1 failed, verified"
    assert "1 image, 0.0 MB" in done.out
    (folder / "cut.ome.tif").unlink()
    done = run("convert", folder, out, "--resume")
    assert done.code == 0
    # What was kept has no throughput.
    assert "MB/s" not in done.out
    assert done.out.splitlines()[-1] == "3 kept, verified"


@pytest.mark.java
def test_quiet_batches_tell_failures_only(run: Run, folder: Path, tmp_path: Path) -> None:
    (folder / "cut.ome.tif").write_bytes(b"II*\0" + b"x" * 100)
    done = run("convert", folder, tmp_path / "out", "--quiet")
    assert (done.code, done.out) == (1, "")
    first, second = done.err.splitlines()
    assert first.startswith(f"failed: {folder}/cut.ome.tif: ")
    assert second.startswith("error: 1 of 3 files failed; the others are done.")


def test_one_file_takes_one_line(run: Run, folder: Path, tmp_path: Path) -> None:
    done = run("convert", folder / "a.ome.tif", tmp_path / "b.ome.tif", "--verify")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{tmp_path}/b.ome.tif: 1 image, 0.0 MB of pixels in ")
    assert done.out.endswith(" MB/s), verified\n")
    assert done.out.count("\n") == 1


# ---- metadata and slides' labels


def broken(path: Path) -> Path:
    """An OME-TIFF with a date that is none."""
    tifffile = pytest.importorskip("tifffile")
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" '
        'Name="bunny"><AcquisitionDate>%(DEFAULT_NOW)s</AcquisitionDate><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" SizeZ="1" SizeC="1" SizeT="1">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, PIXELS, description=xml, metadata=None)
    return path


@pytest.mark.parametrize("jobs", [1, 2])
def test_metadata_that_break_the_schema_are_left_out_and_told(
    run: Run, tmp_path: Path, jobs: int
) -> None:
    source = broken(tmp_path / "bunny.ome.tif")
    told = "left out, as it violates the OME schema: "
    fault = f"{source}: Image:0: AcquisitionDate='%(DEFAULT_NOW)s' is not a date and time"
    done = run("convert", source, tmp_path / "b.ome.zarr", "--report", tmp_path / "r.json")
    assert (done.code, done.err) == (0, f"warning: {source}: {told}{fault}\n")
    (record,) = json.loads((tmp_path / "r.json").read_text())["files"]
    assert record["warnings"] == [f"{told}{fault}"]
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert br.name == "bunny"
        np.testing.assert_array_equal(br[:], PIXELS)
    other = write(tmp_path / "other.ome.tif")
    done = run("convert", source, other, f"{tmp_path}/out/", "--jobs", jobs)
    assert done.code == 0
    assert done.err.count(fault) == 1
    done = run("convert", source, tmp_path / "c.ome.zarr", "--strict-metadata")
    failed(done, fault, "--strict-metadata")
    assert not (tmp_path / "c.ome.zarr").exists()


def test_the_label_of_a_slide_is_named(run: Run, tmp_path: Path) -> None:
    from ome_types import OME, model

    images = [
        model.Image(
            id=f"Image:{i}", name=name,
            pixels=model.Pixels(
                id=f"Pixels:{i}", dimension_order="XYCZT", type="uint8", size_x=30, size_y=20,
                size_z=1, size_c=3, size_t=1,
                channels=[model.Channel(id=f"Channel:{i}:0", samples_per_pixel=3)],
            ),
        )
        for i, name in enumerate(("slide", "label image"))
    ]  # fmt: skip
    source = tmp_path / "slide.ome.tif"
    with BioWriter(source, metadata=OME(images=images), series="all") as bw:
        for image in bw.series:
            image[:] = np.zeros((20, 30, 1, 3), np.uint8)
    done = run("convert", source, tmp_path / "b.ome.tif", "--report", tmp_path / "r.json")
    assert done.code == 0
    assert re.fullmatch(
        rf"warning: {source}: b.ome.tif holds the photograph of the slide's label \(image 1, "
        r"'label image'\), which may show a patient's name. .*--series.*\n", done.err
    )  # fmt: skip
    (record,) = json.loads((tmp_path / "r.json").read_text())["files"]
    assert "slide's label" in record["warnings"][0]
    done = run("convert", source, tmp_path / "c.ome.tif", "--series", "0")
    assert done.err == ""


def test_processes_pass_their_warnings_on(tmp_path: Path) -> None:
    # As a worker says it, for the process that shows the progress.
    code = (
        "import logging, warnings\n"
        "from bfbridge.convert.execute.workers import _pass_on_log\n"
        "told = []\n"
        "_pass_on_log(lambda kind, what: told.append((kind, what)))\n"
        "logging.getLogger('bfbridge.java').error('x %s', 1)\n"
        "logging.getLogger('bfbridge').info('not shown')\n"
        "warnings.warn('y')\n"
        "print(told)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert (
        done.stdout == "[('log', ('bfbridge.java', 40, 'x 1')), ('log', ('bfbridge', 30, 'y'))]\n"
    )


def test_debug_shows_warnings_as_python_does(tmp_path: Path) -> None:
    done = process("info", tmp_path / "none.lif", "--debug")
    assert "FileMissing" in done.err
