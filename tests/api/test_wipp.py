"""The WIPP plugin, run as the platform runs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from typer.testing import CliRunner

from bfbridge import BioReader, BioWriter
from bfbridge.cli.app import app

PLUGIN = Path(__file__).parents[2] / "examples/wipp"
SCRIPTS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
# Of the published schema: wipp-plugin-manifest-schema.json of WIPP-Plugins-base-templates.
INPUTS = {
    "collection", "stitchingVector", "tensorflowModel", "csvCollection", "pyramid", "notebook",
    "string", "number", "integer", "enum", "array", "boolean",
}  # fmt: skip


def stack() -> Any:
    return np.arange(20 * 30 * 2 * 3 * 2, dtype=np.uint16).reshape(20, 30, 2, 3, 2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A collection as the platform mounts it: images in a folder of that name, read-only."""
    images = tmp_path / "inputs/images"
    images.mkdir(parents=True)
    (tmp_path / "outputs").mkdir()
    with BioWriter(images / "img_x001.ome.zarr", image=stack()) as bw:
        bw[:] = stack()
    with BioWriter(images / "img_x002.ome.tif", image=stack()[..., 0, 0]) as bw:
        bw[:] = stack()[..., 0, 0]
    return tmp_path


def locked(data: Path) -> None:
    for folder, _, names in os.walk(data / "inputs"):
        for name in names:
            os.chmod(os.path.join(folder, name), 0o444)
        os.chmod(folder, 0o555)


def run(data: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bfbridge.wipp", "--inpDir", str(data / "inputs")]
    return subprocess.run(
        [*command, *arguments, "--outDir", str(data / "outputs")],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def names(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "outputs").iterdir())


@pytest.mark.slow(ci=True)
def test_collection(data: Path) -> None:
    locked(data)
    done = run(data, "--filePattern", ".*", "--fileExtension", "default", "--preview", "false")
    assert done.returncode == 0, done.stderr
    expected = [f"img_x001_c{c}_t{t}.ome.tif" for c in range(3) for t in range(2)]
    assert names(data) == ["bfbridge-report.json", *expected, "img_x002.ome.tif"]
    for c in range(3):
        for t in range(2):
            with BioReader(data / f"outputs/img_x001_c{c}_t{t}.ome.tif") as br:
                np.testing.assert_array_equal(br[:], stack()[..., c, t])
    with BioReader(data / "outputs/img_x002.ome.tif") as br:
        np.testing.assert_array_equal(br[:], stack()[..., 0, 0])
    line = r"\d\d-\w{3}-\d\d \d\d:\d\d:\d\d - bfbridge\.wipp - INFO     - "
    assert re.match(line, done.stderr)


@pytest.mark.java
@pytest.mark.parametrize(("level", "told"), [("INFO", False), ("DEBUG", True)])
def test_what_java_remarks_on_is_for_debugging(data: Path, level: str, told: bool) -> None:
    pytest.importorskip("jpype", reason="JPype is not installed")
    header = b"NRRD0004\ntype: uint8\ndimension: 2\nsizes: 5 4\nencoding: raw\n\n"
    (data / "inputs/images/plain.nrrd").write_bytes(header + bytes(range(20)))
    done = run(data, "--filePattern", "plain.nrrd", POLUS_LOG=level)
    assert done.returncode == 0, done.stderr
    assert ("bfbridge.java" in done.stderr) is told


@pytest.mark.slow(ci=True)
def test_new_files_are_tiled_lzw_without_levels(data: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    with BioWriter(data / "inputs/images/big.ome.tif", image=np.eye(1030, 1100)) as bw:
        bw[:] = np.eye(1030, 1100)
    run(data, "--filePattern", "big.ome.tif")
    with tifffile.TiffFile(data / "outputs/big.ome.tif") as tiff:
        page = tiff.pages[0]
        assert (page.tilewidth, page.tilelength, page.compression.name) == (1024, 1024, "LZW")
        assert len(tiff.series[0].levels) == 1


@pytest.mark.slow(ci=True)
def test_tiles_of_small_images_are_whole(data: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    run(data, "--filePattern", "img_x002.ome.tif")
    with tifffile.TiffFile(data / "outputs/img_x002.ome.tif") as tiff:
        assert tiff.pages[0].tile == (1024, 1024)
        np.testing.assert_array_equal(tiff.asarray(), stack()[..., 0, 0].transpose(2, 0, 1))


def test_convert_has_an_option_for_the_platform(data: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    images, out = data / "inputs/images", data / "outputs"
    done = CliRunner().invoke(app, ["convert", "--wipp", str(images), str(out), "-q"])
    assert done.exit_code == 0, done.output
    expected = {f"img_x001_c{c}_t{t}.ome.tif" for c in range(3) for t in range(2)}
    assert {path.name for path in out.glob("*.tif")} == expected | {"img_x002.ome.tif"}
    for name in expected:
        with tifffile.TiffFile(out / name) as tiff:
            page = tiff.pages[0]
            assert (page.tile, page.compression.name) == ((1024, 1024), "LZW")
            c, t = int(name[10]), int(name[13])
            np.testing.assert_array_equal(tiff.asarray(), stack()[..., c, t].transpose(2, 0, 1))
    wrong = CliRunner().invoke(app, ["convert", "--wipp", "--tile", "512", str(images), str(out)])
    assert wrong.exit_code != 0
    assert "--wipp" in wrong.output


@pytest.mark.slow(ci=True)
def test_one_broken_file_among_good_ones(data: Path) -> None:
    images = data / "inputs/images"
    (images / "img_x000.ome.tif").write_bytes((images / "img_x002.ome.tif").read_bytes()[:300])
    locked(data)
    done = run(data, "--filePattern", "img_x{x:d+}.ome.tif", POLUS_IMG_EXT=".ome.zarr")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "failed: " in line]
    assert line.count("img_x000.ome.tif") == 1
    assert names(data) == ["bfbridge-report.json", "img_x002.ome.zarr"]
    report = json.loads((data / "outputs/bfbridge-report.json").read_text())
    assert report["counts"] == {"done": 1, "kept": 0, "failed": 1}


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("preview", [("--preview",), ("--preview", "true"), ("--preview", "True")])
def test_preview(data: Path, preview: tuple[str, ...]) -> None:
    locked(data)
    done = run(data, "--filePattern", "img_x{x:ddd}.ome.zarr", *preview, POLUS_IMG_EXT=".ome.zarr")
    assert done.returncode == 0, done.stderr
    assert names(data) == ["preview.json"]
    told = json.loads((data / "outputs/preview.json").read_text())
    assert told == {
        "filePattern": "img_x{x:ddd}.ome.zarr",
        "outDir": [f"img_x001_c{c}_t{t}.ome.zarr" for c in range(3) for t in range(2)],
    }


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        (("--filePattern", "none_{x:d}.tif"), {}, 1, "no file name"),
        (("--filePattern", "x_{x:q}.tif"), {}, 1, "is not a variable"),
        (("--preview", "maybe"), {}, 2, "neither true nor false"),
        (("--fileExtension", ".png"), {}, 2, "choose one of"),
        ((), {"POLUS_IMG_EXT": ".czi"}, 1, "POLUS_IMG_EXT"),
        ((), {"NUM_WORKERS": "two"}, 1, "NUM_WORKERS"),
    ],
)
def test_wrong_arguments(
    data: Path, arguments: tuple[str, ...], environment: dict[str, str], code: int, message: str
) -> None:
    done = run(data, *arguments, **environment)
    assert done.returncode == code
    assert message in done.stderr
    assert names(data) == []


def test_folders_that_are_missing(data: Path) -> None:
    (data / "outputs").rmdir()
    done = run(data, "--filePattern", ".*")
    assert done.returncode == 1
    assert "--outDir" in done.stderr


def test_manifest_follows_the_schema() -> None:
    manifest = json.loads((PLUGIN / "plugin.json").read_text())
    required = {"name", "version", "title", "description", "containerId", "inputs", "outputs", "ui"}
    optional = {
        "author", "institution", "repository", "website", "citation", "baseCommand",
        "resourceRequirements",
    }  # fmt: skip
    assert required <= set(manifest) <= required | optional
    inputs = {entry["name"]: entry for entry in manifest["inputs"]}
    for name, entry in inputs.items():
        assert re.fullmatch(r"[a-zA-Z0-9][-a-zA-Z0-9]*", name)
        assert entry["type"] in INPUTS
        assert set(entry) <= {"name", "type", "description", "required", "options"}
        if entry["type"] == "enum":
            assert entry["options"]["values"]
    assert [entry["type"] for entry in manifest["outputs"]] == ["collection"]
    assert {entry["key"] for entry in manifest["ui"]} == {f"inputs.{name}" for name in inputs}
    for entry in manifest["ui"]:
        assert entry["title"]
        # Older versions of the schema take text only.
        assert isinstance(entry.get("default", ""), str)
    for name in ("repository", "website"):
        uri = urlsplit(manifest[name])
        assert uri.scheme
        assert uri.netloc
    resources = {"ramMin", "coresMin", "cpuAVX", "cpuAVX2", "gpu"}
    assert set(manifest["resourceRequirements"]) <= resources


def test_manifest_names_what_the_entry_point_takes() -> None:
    from bfbridge.wipp import _parser

    manifest = json.loads((PLUGIN / "plugin.json").read_text())
    named = {entry["name"] for entry in (*manifest["inputs"], *manifest["outputs"])}
    taken = {action.dest for action in _parser()._actions} - {"help"}
    assert named == taken
    ict = (PLUGIN / "ict.yaml").read_text()
    cwl = (PLUGIN / "wipp.cwl").read_text()
    assert all(f"name: {name}" in ict and f"--{name}" in cwl for name in named)


@pytest.mark.slow(ci=True)
@pytest.mark.skipif(
    shutil.which("cwltool", path=SCRIPTS) is None, reason="cwltool is not installed"
)
def test_cwl(data: Path) -> None:
    cwltool = str(shutil.which("cwltool", path=SCRIPTS))
    bin_folder = str(Path(sys.executable).parent)
    done = subprocess.run(
        [
            cwltool, "--no-container", "--preserve-environment", "PYTHONPATH", "--outdir",
            str(data / "cwl"), str(PLUGIN / "wipp.cwl"), "--inpDir", str(data / "inputs"),
            "--filePattern", "img_x002.*", "--outDir", str(data / "outputs"),
        ],
        env={**os.environ, "PATH": bin_folder + os.pathsep + os.environ["PATH"]},
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    made = data / "cwl/outputs/img_x002.ome.tif"
    with BioReader(made) as br:
        np.testing.assert_array_equal(br[:], stack()[..., 0, 0])
