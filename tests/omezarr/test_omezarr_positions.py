"""Stage positions as translations, time steps from the times of planes, and the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, convert
from bfbridge.backend import Quantity
from bfbridge.ome.checks.compare import compare_documents
from bfbridge.ome.documents.model import model_from_xml
from bfbridge.ome.planes import measured_time_step

zarr = pytest.importorskip("zarr")
tifffile = pytest.importorskip("tifffile")

PIXELS = np.random.default_rng(9).integers(0, 900, (3, 2, 2, 40, 60)).astype(np.uint16)
XML = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Instrument ID="Instrument:0">'
    '<Objective ID="Objective:0" NominalMagnification="20" LensNA="0.8"/></Instrument>'
    '<Image ID="Image:0" Name="cells"><AcquisitionDate>2024-01-02T03:04:05</AcquisitionDate>'
    '<ObjectiveSettings ID="Objective:0"/>'
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="60" SizeY="40" SizeZ="2" '
    'SizeC="2" SizeT="3" PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" PhysicalSizeY="0.25" '
    'PhysicalSizeYUnit="µm" PhysicalSizeZ="2000" PhysicalSizeZUnit="nm"{more}>'
    '<Channel ID="Channel:0:0" Name="a" SamplesPerPixel="1" Color="16711935" '
    'EmissionWavelength="520.5"/><Channel ID="Channel:0:1" Name="b" SamplesPerPixel="1" '
    'ExcitationWavelength="488"/><TiffData/>{planes}</Pixels></Image></OME>'
)


def write(
    path: Path, times: Any = (0, 10, 20), unit: str = "s", length: str = "µm", more: str = ""
) -> Path:
    planes = "".join(
        f'<Plane TheZ="{z}" TheC="{c}" TheT="{t}" DeltaT="{times[t] + c}" DeltaTUnit="{unit}" '
        f'PositionX="{1.5 + t}" PositionXUnit="{length}" PositionY="-3" PositionYUnit="{length}" '
        f'PositionZ="{7 + 2 * z}" PositionZUnit="{length}"/>'
        for t in range(3)
        for c in range(2)
        for z in range(2)
    )
    xml = XML.format(planes=planes, more=more)
    tifffile.imwrite(path, PIXELS, description=xml.encode(), metadata=None)
    return path


def described(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Axes, and the transformations of each level."""
    attributes = zarr.open_group(str(path), mode="r").attrs
    entry = attributes.get("ome", attributes)["multiscales"][0]
    found = []
    for dataset in entry["datasets"]:
        transforms = dataset["coordinateTransformations"]
        found.append({transform["type"]: transform[transform["type"]] for transform in transforms})
    return entry["axes"], found


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_positions_and_times(tmp_path: Path, version: str) -> None:
    source, made = write(tmp_path / "a.ome.tif"), tmp_path / "b.ome.zarr"
    convert(source, made, pyramid=2, version=version)
    axes, (full, half, quarter) = described(made)
    assert axes[0] == {"name": "t", "type": "time", "unit": "second"}
    # Units along Z: nanometres of the pixel size.
    assert full == {
        "scale": [10.0, 1.0, 2000.0, 0.25, 0.5], "translation": [0.0, 0.0, 7000.0, -3.0, 1.5]
    }  # fmt: skip
    assert half["translation"] == [0, 0, 7000.0, -3 + 0.125, 1.5 + 0.25]
    assert quarter["translation"] == [0, 0, 7000.0, -3 + 0.375, 1.5 + 0.75]
    with BioReader(source) as before, BioReader(made) as after:
        assert compare_documents(before.ome, after.ome) == []
        assert compare_documents(after.ome, before.ome) == []
        assert after._image.time_step == (10.0, "s")
    convert(made, tmp_path / "c.ome.zarr", pyramid=2, version=version)
    assert described(tmp_path / "c.ome.zarr") == described(made)


@pytest.mark.parametrize(
    ("times", "unit", "more", "scale", "axis_unit"),
    [
        ((5, 6.5, 8), "min", "", 1.5, "minute"),
        ((0, 10, 20.3), "s", "", 10.15, "second"),
        ((0, 10, 30), "s", "", 1.0, None),
        ((0, 0, 0), "s", "", 1.0, None),
        ((0, 10, 20), "reference frame", "", 1.0, None),
        ((0, 10, 30), "s", ' TimeIncrement="4" TimeIncrementUnit="ms"', 4.0, "millisecond"),
    ],
)
def test_time_steps(
    tmp_path: Path, times: Any, unit: str, more: str, scale: float, axis_unit: str | None
) -> None:
    if unit == "reference frame":
        times, unit = (float("nan"), 0, 1), "s"
    convert(write(tmp_path / "a.ome.tif", times, unit, more=more), tmp_path / "b.ome.zarr")
    axes, (full, *_) = described(tmp_path / "b.ome.zarr")
    assert (full["scale"][0], axes[0].get("unit")) == (pytest.approx(scale), axis_unit)
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert (br._image.time_step is None) == (axis_unit is None)


def test_times_in_several_units() -> None:
    planes = "".join(
        f'<Plane TheZ="0" TheC="0" TheT="{t}" DeltaT="{value}" DeltaTUnit="{unit}"/>'
        for t, (value, unit) in enumerate([(0, "s"), (1, "min"), (120_000, "ms")])
    )
    pixels = model_from_xml(XML.format(planes=planes, more="")).images[0].pixels
    assert measured_time_step(pixels) == Quantity(60.0, "s")


def test_positions_without_length_are_not_guessed(tmp_path: Path) -> None:
    convert(write(tmp_path / "a.ome.tif", length="reference frame"), tmp_path / "b.ome.zarr")
    _, (full, *_) = described(tmp_path / "b.ome.zarr")
    assert "translation" not in full
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert br.ome.images[0].pixels.planes[0].position_x == 1.5


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_parts_lie_where_they_were(tmp_path: Path, suffix: str) -> None:
    source = write(tmp_path / "a.ome.tif")
    convert(source, tmp_path / f"b{suffix}", crop="4,8,20,16", z="1:", t="1:")
    with BioReader(tmp_path / f"b{suffix}") as br:
        first = br.ome.images[0].pixels.planes[0]
        assert (first.position_x, first.position_y, first.position_z) == (4.5, -1.0, 9.0)
    convert(source, tmp_path / "p.ome.zarr", pyramid=1)
    convert(tmp_path / "p.ome.zarr", tmp_path / f"c{suffix}", source_level=1)
    with BioReader(tmp_path / f"c{suffix}") as br:
        first = br.ome.images[0].pixels.planes[0]
        assert (first.position_x, first.position_y) == (1.75, -2.875)
    convert(tmp_path / f"b{suffix}", tmp_path / "d.ome.zarr", pyramid=False)
    assert described(tmp_path / "d.ome.zarr")[1][0]["translation"] == [0, 0, 9000.0, -1.0, 4.5]


def test_report_lists_what_was_lost(tmp_path: Path) -> None:
    source = write(tmp_path / "a.ome.tif")
    for suffix in (".ome.tif", ".ome.zarr"):
        convert(source, tmp_path / f"b{suffix}", report=tmp_path / "r.json")
        told = json.loads((tmp_path / "r.json").read_text())
        assert told["files"][-1]["outputs"][0]["lost"] == []


@pytest.mark.java
def test_report_of_a_format_without_metadata(tmp_path: Path) -> None:
    source = write(tmp_path / "a.ome.tif")
    done = convert(
        source, tmp_path / "b.png", channels=0, z=0, t=0, compare_metadata=True, pyramid=False
    )
    lost = done.files[0].outputs[0].lost or []
    assert "Image/AcquisitionDate: 1 of 1 lost" in lost
    assert "Image/Pixels/Channel@EmissionWavelength: 1 of 1 lost" in lost
