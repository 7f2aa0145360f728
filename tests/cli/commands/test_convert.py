"""`bfbridge convert`: pixels, metadata, errors, and what is printed in the end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from tests.support.commands import ARRAY, PIXELS, Run, failed, process, write


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
    told = "omitted, because it violates the OME schema: "
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
        rf"warning: {source}: b.ome.tif contains the photograph of the slide's label \(image 1, "
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


def test_lists_are_values_of_set(run: Run, tmp_path: Path) -> None:
    made = tmp_path / "b.ome.zarr"
    source = write(tmp_path / "a.ome.tif")
    done = run("convert", source, made, "--set", "chunks=1,1,1,16,20", "--set", "pyramid=2,4")
    assert done.code == 0, done.err
    with BioReader(made) as br:
        assert [level.sizes["Y"] for level in br.levels] == [20, 10, 5]
    grid = json.loads((made / "0" / "zarr.json").read_text())["chunk_grid"]
    assert grid["configuration"]["chunk_shape"] == [1, 1, 1, 16, 20]
    failed(run("convert", source, tmp_path / "c.ome.zarr", "--set", "chunks=1,x"), "chunks")


def test_debug_shows_warnings_as_python_does(tmp_path: Path) -> None:
    done = process("info", tmp_path / "none.lif", "--debug")
    assert "FileMissing" in done.err


def test_curation_options(run: Run, image: Path, tmp_path: Path) -> None:
    """Options of metadata and shape are spelled as users of other converters expect."""
    out = tmp_path / "o.ome.zarr"
    done = run(
        "convert", image, out, "--pixel-size", "0.325,0.325,1um", "--time-step", "5min", "--name",
        "n", "--channel-name", "a,b,c", "--channel-color", "red", "--channel-color", "00FF00",
        "--channel-color", "blue", "--downsample-z", "auto", "--smallest", "10", "--verify",
        "--report", tmp_path / "r.json", "--nogroup",
    )  # fmt: skip
    assert done.code == 0, done.err
    with BioReader(out) as br:
        assert br.pixel_size() == {"X": 0.325, "Y": 0.325, "Z": 1.0}
        assert (br.name, br.channel_names) == ("n", ["a", "b", "c"])
        assert br.levels[-1].sizes["Z"] < br.sizes["Z"]
    done = run(
        "convert", image, tmp_path / "p.ome.zarr", "--project", "max", "z", "--swap", "zt",
        "--drop-axes", "--factors", "2,4", "--fill-value", "3",
    )  # fmt: skip
    assert done.code == 0, done.err
    with BioReader(image) as before, BioReader(tmp_path / "p.ome.zarr") as after:
        wanted = before[:].transpose(0, 1, 4, 3, 2).max(axis=2, keepdims=True)
        assert np.array_equal(after[:], wanted)
        assert len(after.levels) == 3
    table = tmp_path / "t.csv"
    table.write_text(f"source,z\n{image},1\n")
    done = run("convert", "--table", table, tmp_path / "out")
    assert done.code == 0, done.err
    with BioReader(image) as before, BioReader(next((tmp_path / "out").glob("*.tif"))) as after:
        assert np.array_equal(after[:], before[:, :, 1:2])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--pixel-size", "1"], "pixel_size"),
        (["--swap", "xy"], "two of z, c and t"),
        (["--stitch", "all"], "one of last, mean, max"),
        (["--project", "sum", "z"], "one of max, min, mean"),
        (["--downsample-z", "3"], "none, 2, auto"),
        (["--table", "none.csv"], "no such file"),
    ],
)
def test_invalid_curation(
    run: Run, image: Path, tmp_path: Path, given: list[str], message: str
) -> None:
    done = run("convert", image, tmp_path / "b.ome.tif", *given)
    assert done.code != 0
    assert message in " ".join(done.err.split())
