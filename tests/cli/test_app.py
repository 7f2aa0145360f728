"""The command `bfbridge`: failures are one line and a non-zero exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bfbridge
from bfbridge import BioWriter
from tests.support.commands import Run, failed, process, text_czi


def empty(folder: Path) -> Path:
    (folder / "empty.tif").touch()
    return folder / "empty.tif"


def folder_without_image(folder: Path) -> Path:
    (folder / "notes.txt").write_text("notes")
    return folder


def truncated_tiff(folder: Path) -> Path:
    path = folder / "cut.ome.tif"
    with BioWriter(path, X=70, Y=45, compression="none") as bw:
        bw[:] = 5
    path.write_bytes(path.read_bytes()[:300])
    return path


def truncated_store(folder: Path) -> Path:
    path = folder / "cut.ome.zarr"
    with BioWriter(path, X=70, Y=45) as bw:
        bw[:] = 5
    document = path / "zarr.json"
    document.write_bytes(document.read_bytes()[:100])
    return path


def nothing(folder: Path) -> Path:
    return folder / "none.lif"


@pytest.mark.java
@pytest.mark.parametrize("command", ["info", "convert"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (nothing, ["none.lif", "no such file"]),
        (empty, ["empty.tif", "is empty (0 bytes)"]),
        (text_czi, ["text.czi"]),
        (truncated_tiff, ["cut.ome.tif"]),
        (truncated_store, ["cut.ome.zarr"]),
    ],
)
def test_what_cannot_be_read_is_named(
    run: Run, tmp_path: Path, command: str, make: Callable[[Path], Path], words: list[str]
) -> None:
    path = make(tmp_path)
    target = [tmp_path / "out.ome.tif"] if command == "convert" else []
    failed(run(command, path, *target), *words)
    assert not (tmp_path / "out.ome.tif").exists()


@pytest.mark.java
def test_a_folder_without_an_image(run: Run, tmp_path: Path) -> None:
    path = folder_without_image(tmp_path)
    failed(run("info", path), str(path), "there is no image")


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = process("info", tmp_path / "none.lif", "--debug")
    assert done.code == 1
    assert "Traceback (most recent call last)" in done.err
    assert "FileMissing" in done.err.splitlines()[-1]
    assert "none.lif" in done.err.splitlines()[-1]


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


def test_version_and_help(run: Run) -> None:
    done = run("--version")
    assert (done.code, done.out, done.err) == (0, f"bfbridge {bfbridge.__version__}\n", "")
    done = run("--help")
    assert (done.code, done.err) == (0, "")
    for command in ("info", "convert", "formats", "doctor", "jar"):
        assert command in done.out


@pytest.mark.parametrize("arguments", [[], ["jar"]])
def test_a_command_left_out_shows_the_help(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code in (0, 2)
    shown = done.out + done.err
    assert "Usage: bfbridge" in shown
    assert shown.count("\n") > 5
    assert "error" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing"], ["No such command 'nothing'"]),
        (["info"], ["Missing argument", "Try 'bfbridge info --help'"]),
        (["info", "a", "--no-such"], ["--no-such"]),
        (["convert", "a", "b", "--max-workers", "0"], ["max-workers"]),
        (["convert", "a", "b", "--max-workers", "x"], ["max-workers"]),
        (["jar", "nothing"], ["No such command 'nothing'. Try 'bfbridge jar --help'"]),
    ],
)
def test_mistakes_in_the_command(run: Run, arguments: list[str], words: list[str]) -> None:
    failed(run(*arguments), *words, "--help", code=2)


def test_names_with_brackets_are_printed_as_they_are(run: Run, tmp_path: Path) -> None:
    failed(run("info", tmp_path / "[bold]x[/red].tif"), "[bold]x[/red].tif")


def test_an_unforeseen_error_is_one_line_and_says_so(
    run: Run, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("division by\nzero")

    monkeypatch.setattr("bfbridge.analysis.description.describe", fail)
    done = run("info", image)
    assert done.code == 1
    assert done.err.startswith("error: ZeroDivisionError: division by zero. This is a defect of")
    assert done.err.count("\n") == 1


def test_interrupting_shows_no_traceback(
    run: Run, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bfbridge.analysis.description.describe", interrupt)
    done = run("info", image)
    assert done.code == 130
    assert "Traceback" not in done.err
    assert done.err.count("\n") <= 1


@pytest.mark.java
def test_a_reader_of_our_output_may_leave(image: Path) -> None:
    # `bfbridge info --ome-xml FILE | head -0`
    program = subprocess.Popen(
        [sys.executable, "-c", "from bfbridge.cli import main; main()", "formats"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    shown = program.stderr.read()
    program.stderr.close()
    assert program.wait(60) in (1, 141)  # click's answer, or the shell's
    assert shown == b""


@pytest.mark.slow(ci=True)
def test_warnings_are_one_line_and_none_when_quiet(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="7" SizeY="5" SizeZ="1" '
        'SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData/></Pixels>'
        '</Image><StructuredAnnotations><CommentAnnotation ID="PYME"><Value>x</Value>'
        "</CommentAnnotation></StructuredAnnotations></OME>"
    )
    pixels = np.arange(35, dtype=np.uint16).reshape(5, 7)
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, description=xml, metadata=None)
    for quiet in ((), ("--quiet",)):
        done = process(
            "convert", "--overwrite", *quiet, tmp_path / "a.ome.tif", tmp_path / "b.zarr"
        )
        assert done.code == 0, done.err
        expected = [] if quiet else ["warning: Casting invalid AnnotationID 'PYME'"]
        assert [line.split(" to ")[0] for line in done.err.splitlines()] == expected
