"""The command line: what it prints, and that every failure is one line and a non-zero exit."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ome_types import from_xml

import bfbridge
from bfbridge import BioReader, BioWriter
from tests.support.engine import face
from tests.support.memory import distinct

ARRAY = face(distinct((2, 3, 4, 45, 70)))


@dataclass
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def command(*arguments: Any) -> Done:
        from bfbridge.cli import main

        monkeypatch.setattr(sys, "argv", ["bfbridge", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        shown = capsys.readouterr()
        code = caught.value.code
        assert code is None or isinstance(code, int)
        return Done(code or 0, shown.out, shown.err)

    return command


def process(*arguments: Any, **environment: str) -> Done:
    """Run a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", "from bfbridge.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **environment},
    )
    return Done(done.returncode, done.stdout, done.stderr)


def failed(done: Done, *words: str, code: int = 1) -> None:
    """Check that a command failed as every command should."""
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: "), done.err
    assert done.err.endswith("\n")
    assert done.err.count("\n") == 1, done.err
    assert "fault of bfbridge" not in done.err
    for word in words:
        assert word in done.err


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "a b.ome.tif"
    with BioWriter(
        path, shape=ARRAY.shape, dtype="uint16", cnames=["DAPI", "[red]", "c"], ps_x=(0.5, "µm"),
        ps_y=(250, "nm"), name="cells", pyramid=1, tile=16,
    ) as bw:  # fmt: skip
        bw[:] = ARRAY
    return path


# ---- info


def test_info_tells_what_is_there(run: Run, image: Path) -> None:
    done = run("info", image)
    assert (done.code, done.err) == (0, "")
    for word in (
        str(image), "ometiff", "ometiff claims this content", "cells", "uint16", "70x45 35x23",
        "0.5 µm x 250 nm", "DAPI, [red], c", "magnification of 0: about 20x (estimated",
    ):  # fmt: skip
        assert word in done.out


def test_info_as_json(run: Run, image: Path) -> None:
    done = run("info", image, "--json")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told["backend"] == "ometiff"
    assert told["used_files"] == [str(image)]
    (series,) = told["series"]
    assert series["sizes"] == {"Y": 45, "X": 70, "Z": 4, "C": 3, "T": 2}
    assert series["dtype"] == "uint16"
    assert series["magnification"] == {"value": 20.0, "approximate": True}
    assert series["pixel_size"] == {
        "x": {"value": 0.5, "unit": "µm"}, "y": {"value": 250.0, "unit": "nm"}, "z": None
    }  # fmt: skip
    assert [c["name"] for c in series["channels"]] == ["DAPI", "[red]", "c"]
    assert [level["sizes"]["X"] for level in series["levels"]] == [70, 35]


def test_info_as_ome_xml(run: Run, image: Path) -> None:
    done = run("info", image, "--ome-xml")
    assert (done.code, done.err) == (0, "")
    assert from_xml(done.out).images[0].pixels.size_x == 70


@pytest.mark.java
def test_info_through_a_named_backend(run: Run, image: Path) -> None:
    done = run("info", image, "--json", "--backend", "bioformats")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    assert told["backend"] == "bioformats"
    assert told["series"][0]["sizes"]["X"] == 70


@pytest.mark.java
def test_info_of_a_made_up_image(run: Run) -> None:
    done = run("info", "x&sizeX=123&sizeY=45&sizeC=2&pixelType=float.fake", "--json")
    assert (done.code, done.err) == (0, "")
    series = json.loads(done.out)["series"][0]
    assert series["sizes"] == {"Y": 45, "X": 123, "Z": 1, "C": 2, "T": 1}
    assert series["dtype"] == "float32"


# ---- convert


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_convert_keeps_pixels_and_metadata(
    run: Run, image: Path, tmp_path: Path, suffix: str
) -> None:
    target = tmp_path / f"b{suffix}"
    done = run("convert", image, target)
    assert done.code == 0, done.err
    assert done.out.startswith(f"{target}: 1 image, ")
    with BioReader(target) as br:
        np.testing.assert_array_equal(br[...], ARRAY)
        assert br.name == "cells"
        assert br.channel_names == ["DAPI", "[red]", "c"]
        assert br.ps_x == (0.5, "µm")
    failed(run("convert", image, target), str(target), "--overwrite")
    done = run("convert", image, target, "--overwrite", "--quiet", "--no-pyramid")
    assert (done.code, done.out, done.err) == (0, "", "")
    with BioReader(target) as br:
        assert len(br.levels) == 1
        np.testing.assert_array_equal(br[...], ARRAY)


@pytest.mark.java
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{image}", "{tmp}/b.xyz"], [".ome.tif", ".zarr"]),
        (["{tmp}/none.czi", "{tmp}/b.ome.tif"], ["none.czi", "no such file"]),
        (["{image}", "{tmp}/file/b.ome.tif"], ["file"]),
        (["{image}", "{tmp}/b.ome.tif", "--downsample", "max"], ["downsample='max'"]),
        (["{image}", "{tmp}/b.ome.tif", "--compression", "magic"], ["magic"]),
        (["{image}", "{tmp}/b.ome.tif", "--series", "7"], ["no series 7", "a b.ome.tif"]),
        (["{image}", "{tmp}/b.ome.tif", "--backend", "x"], ["backend='x'", "no such backend"]),
    ],
)
def test_convert_says_what_it_cannot_do(
    run: Run, image: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    given = [text.format(image=image, tmp=tmp_path) for text in arguments]
    failed(run("convert", *given), *words)
    names = {path.name for path in tmp_path.iterdir()}
    assert names <= {"file", "b.ome.tif.report.json"}
    assert (tmp_path / "file").read_text() == "not a folder"


def test_convert_into_a_folder_that_may_not_be_written(
    run: Run, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def refuse(self: Path, *arguments: Any, **options: Any) -> None:
        if tmp_path in self.parents:
            raise PermissionError(13, "Permission denied")
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write everywhere
    failed(run("convert", image, tmp_path / "b.ome.tif"), "b.ome.tif", "Permission denied")


# ---- what cannot be read


def text_czi(folder: Path) -> Path:
    (folder / "text.czi").write_text("This is no image.\n" * 50)
    return folder / "text.czi"


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


# ---- Java and the jar


@pytest.mark.java
def test_without_a_jar(tmp_path: Path) -> None:
    path = text_czi(tmp_path)
    done = process("info", path, BFBRIDGE_JAR=str(tmp_path / "missing.jar"))
    failed(done, "missing.jar")
    done = process("doctor", BFBRIDGE_JAR=str(tmp_path / "missing.jar"))
    assert done.code == 1
    assert done.err == ""
    assert "FAILED" in done.out
    assert "missing.jar" in done.out
    failed(process("jar", "path", BFBRIDGE_JAR=str(tmp_path / "missing.jar")), "missing.jar")


@pytest.mark.slow(ci=True)
def test_without_java(tmp_path: Path) -> None:
    path = text_czi(tmp_path)
    done = process("info", path, BFBRIDGE_JAVA=str(tmp_path / "no-java"))
    failed(done, "no Java runtime found", "no-java", 'pip install "bfbridge[all]"')
    done = process("doctor", BFBRIDGE_JAVA=str(tmp_path / "no-java"))
    assert done.code == 1
    assert "no Java runtime found" in done.out
    assert "pip install" in done.out


@pytest.mark.slow(ci=True)
def test_an_unknown_suffix_without_java(image: Path, tmp_path: Path) -> None:
    missing = {"BFBRIDGE_JAR": str(tmp_path / "no.jar"), "BFBRIDGE_JAVA": str(tmp_path / "none")}
    for suffix in (".png", ".xyz"):
        done = process("convert", image, tmp_path / f"b{suffix}", **missing)
        failed(done, f"b{suffix}: no writer for this suffix", ".ome.tif", ".zarr", str(tmp_path))


@pytest.mark.slow(ci=True)
def test_native_formats_need_neither(image: Path, tmp_path: Path) -> None:
    done = process(
        "convert", image, tmp_path / "b.ome.zarr", "--quiet",
        BFBRIDGE_JAR=str(tmp_path / "missing.jar"), BFBRIDGE_JAVA=str(tmp_path / "no-java"),
    )  # fmt: skip
    assert (done.code, done.out, done.err) == (0, "", "")
    with BioReader(tmp_path / "b.ome.zarr") as br:
        np.testing.assert_array_equal(br[...], ARRAY)


@pytest.mark.java
def test_doctor_as_json_names_what_a_bug_report_needs(run: Run) -> None:
    done = run("doctor", "--json")
    report = json.loads(done.out)
    assert done.code == 0
    assert report["healthy"] is True
    assert report["bfbridge"] == bfbridge.__version__
    assert report["python"] == platform.python_version()
    assert report["packages"]["numpy"] == np.__version__
    assert {check["ok"] for check in report["checks"]} == {True}
    assert any(check["name"] == "bioformats: Bio-Formats starts" for check in report["checks"])
    assert [step["outcome"] for step in report["lookup"]].count("used") == 1


@pytest.mark.java
def test_doctor_where_all_is_well(run: Run) -> None:
    done = run("doctor")
    assert (done.code, done.err) == (0, ""), done.out
    assert "FAILED" not in done.out
    for word in (f"bfbridge {bfbridge.__version__}", "numpy", "omezarr", "ometiff", "bioformats"):
        assert word in done.out


def test_jar_path(run: Run) -> None:
    done = run("jar", "path")
    assert (done.code, done.err) == (0, "")
    assert all(Path(line).is_file() for line in done.out.split("\n")[:-1])


# ---- formats, help, versions, mistakes


@pytest.mark.java
def test_formats(run: Run) -> None:
    done = run("formats")
    assert (done.code, done.err) == (0, "")
    assert "Zeiss CZI" in done.out
    done = run("formats", "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)
    assert len(rows) > 100
    czi = next(row for row in rows if "czi" in [s.lstrip(".") for s in row["suffixes"]])
    assert set(czi) == {"name", "reader", "suffixes", "domains", "writes"}


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

    monkeypatch.setattr("bfbridge.cli.show.describe", fail)
    done = run("info", image)
    assert done.code == 1
    assert done.err.startswith("error: ZeroDivisionError: division by zero. This is a fault of")
    assert done.err.count("\n") == 1


def test_interrupting_shows_no_traceback(
    run: Run, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bfbridge.cli.show.describe", interrupt)
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
