"""`bfbridge info`: what it prints of one file and of several."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ome_types import from_xml

from bfbridge.analysis.description import describe as plain_description
from bfbridge.reader import BioReader
from tests.support.commands import Run, failed, write


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


def test_info_keeps_the_order_of_files(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is described after the next one, as on a slow disk."""
    files = [write(tmp_path / f"{name}.ome.tif") for name in "abcd"]
    ready = {path.name: threading.Event() for path in files}

    def describe(br: BioReader, more: Sequence[str]) -> dict[str, Any]:
        name = Path(br.source_name).name
        if name == "a.ome.tif":
            time.sleep(0.3)
        if name in ("b.ome.tif", "c.ome.tif"):
            assert ready[f"{chr(ord(name[0]) + 1)}.ome.tif"].wait(30)
        found = plain_description(br, more)
        ready[name].set()
        return found

    monkeypatch.setattr("bfbridge.analysis.description.describe", describe)
    done = run("info", *files)
    assert (done.code, done.err) == (0, "")
    places = [done.out.index(f"{path.name}\n") for path in files]
    assert places == sorted(places)
    done = run("info", *files, "--json")
    assert [one["file"] for one in json.loads(done.out)] == [str(path) for path in files]


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


@pytest.fixture
def timed(tmp_path: Path) -> Path:
    """An image of two time points with times and positions, and an original-metadata annotation."""
    tifffile = pytest.importorskip("tifffile")
    pixels = np.arange(2 * 2 * 20 * 30, dtype=np.uint16).reshape(2, 2, 20, 30)
    planes = "".join(
        f'<Plane TheZ="0" TheC="{c}" TheT="{t}" DeltaT="{t * 2.5}" DeltaTUnit="min" '
        f'ExposureTime="{c + 10}" ExposureTimeUnit="ms" PositionX="{5 + t}" PositionXUnit="µm"/>'
        for t in range(2)
        for c in range(2)
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" '
        'SizeZ="1" SizeC="2" SizeT="2"><Channel ID="Channel:0:0" Name="a" SamplesPerPixel="1"/>'
        f'<Channel ID="Channel:0:1" SamplesPerPixel="1"/><TiffData/>{planes}</Pixels></Image></OME>'
    )
    path = tmp_path / "timed.ome.tif"
    tifffile.imwrite(path, pixels, description=xml.encode(), metadata=None)
    return path


def test_planes_extremes_and_files(run: Run, timed: Path) -> None:
    done = run("info", timed, "--planes", "--min-max", "--files")
    assert (done.code, done.err) == (0, "")
    rows = [line.split("  ") for line in done.out.splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ["t", "c", "z", "time", "exposure", "x"] in cells
    assert ["0", "0", "0", "0 min", "10 ms", "5 µm"] in cells
    assert ["1", "1", "0", "2.5 min", "11 ms", "6 µm"] in cells
    assert "values of 0, channel 0 (a): 0 to 1799" in done.out
    assert "values of 0, channel 1: 600 to 2399" in done.out
    assert f"files:\n{timed}" in done.out


def test_further_parts_as_json(run: Run, timed: Path) -> None:
    done = run("info", timed, "--planes", "--min-max", "--original", "--json", "--nogroup")
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    (series,) = told["series"]
    assert len(series["planes"]) == 4
    assert series["planes"][3] == {
        "z": 0, "c": 1, "t": 1, "time": {"value": 2.5, "unit": "min"},
        "exposure": {"value": 11.0, "unit": "ms"}, "x": {"value": 6.0, "unit": "µm"}, "y": None,
        "z_position": None,
    }  # fmt: skip
    assert [(c["min"], c["max"]) for c in series["channels"]] == [(0, 1799), (600, 2399)]
    assert isinstance(told["original_metadata"], dict)


def test_original_metadata(run: Run, timed: Path) -> None:
    from bfbridge import BioReader

    done = run("info", timed, "--original")
    with BioReader(timed) as br:
        known = br.original_metadata
        assert [(p.t, p.c) for p in br.planes()] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert known
    for key, value in known.items():
        if "\n" not in str(value):
            assert f"{key}: {value}"[:40] in done.out


def test_an_image_without_planes(run: Run, image: Path) -> None:
    done = run("info", image, "--planes")
    assert "planes of 0: the metadata have no times and positions" in done.out
