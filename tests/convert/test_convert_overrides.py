"""Metadata of new images that the caller gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, convert
from bfbridge.backend import Quantity
from bfbridge.convert.option_values import parse_colors, parse_pixel_size, parse_time_step
from bfbridge.errors import BadArgument

PIXELS = np.random.default_rng(2).integers(0, 4000, (31, 42, 3, 2, 4)).astype(np.uint16)


def source(path: Path) -> Path:
    with BioWriter(
        path, shape=PIXELS.shape, dtype="uint16", channel_names=["a", "b"], name="old",
        ps_x=(2, "nm"),
    ) as bw:  # fmt: skip
        bw[:] = PIXELS
    return path


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_overrides(tmp_path: Path, suffix: str) -> None:
    made = tmp_path / f"b{suffix}"
    convert(
        source(tmp_path / "a.ome.tif"), made, pixel_size="0.325,0.325,1um", time_step="5min",
        name="new", channel_names="DAPI,GFP", channel_colors=["0000FF", "lime"], verify=True,
    )  # fmt: skip
    with BioReader(made) as br:
        size = br.physical_pixel_size
        assert (size.x, size.y, size.z) == ((0.325, "µm"), (0.325, "µm"), (1.0, "µm"))
        assert br._image.time_step == (5.0, "min")
        assert (br.name, br.channel_names) == ("new", ["DAPI", "GFP"])
        assert [c.color for c in br.channels] == [(0, 0, 255, 255), (0, 255, 0, 255)]
        assert np.array_equal(br[:], PIXELS)


def test_other_readers_see_the_overrides(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    tifffile = pytest.importorskip("tifffile")
    made = source(tmp_path / "a.ome.tif")
    wanted: dict[str, Any] = {
        "pixel_size": ((0.5, "µm"), (500, "nm"), None), "time_step": 1.5,
        "channel_names": ["x,y", "z"], "channel_colors": [(1, 2, 3), "#FF0000"],
    }  # fmt: skip
    convert(made, tmp_path / "b.ome.zarr", **wanted)
    ome = zarr.open_group(str(tmp_path / "b.ome.zarr"), mode="r").attrs["ome"]
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1.5, 1.0, 1.0, 500.0, 0.5]
    assert [axis.get("unit") for axis in ome["multiscales"][0]["axes"]] == [
        "second", None, None, "nanometer", "micrometer",
    ]  # fmt: skip
    entries = ome["omero"]["channels"]
    assert [(c["label"], c["color"]) for c in entries] == [("x,y", "010203"), ("z", "FF0000")]
    convert(made, tmp_path / "b.ome.tif", **wanted)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeY"]) == (0.5, 500)
    assert pixels["TimeIncrement"] == 1.5
    assert [c["Name"] for c in pixels["Channel"]] == ["x,y", "z"]


def test_values_belong_to_the_converted_channels(tmp_path: Path) -> None:
    made = source(tmp_path / "a.ome.tif")
    convert(made, tmp_path / "b.ome.tif", split="c", channels=[1, 0], channel_names=["one", "zero"])
    for number, name in ((1, "one"), (0, "zero")):
        with BioReader(tmp_path / f"b_c{number}.ome.tif") as br:
            assert br.channel_names == [name]
            assert np.array_equal(br[:], PIXELS[:, :, :, number : number + 1])


def test_spellings() -> None:
    um = Quantity(0.5, "µm")
    assert parse_pixel_size("0.5, 500nm", "p") == (Quantity(0.5, "nm"), Quantity(500, "nm"), None)
    assert parse_pixel_size([0.5, "0.5 micron", None], "p") == (um, um, None)
    assert parse_pixel_size((um, um, (1e-3, "mm")), "p") == (um, um, Quantity(1e-3, "mm"))
    assert parse_pixel_size(",,2", "p") == (None, None, Quantity(2, "µm"))
    assert parse_time_step("2.5e2 ms", "t") == Quantity(250, "ms")
    assert parse_time_step((1, "hour"), "t") == Quantity(1, "h")
    assert parse_colors(["red,00ff00"], "c") == ((255, 0, 0), (0, 255, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel_size": "1"}, "along X, Y and Z"),
        ({"pixel_size": "1,2,3,4"}, "along X, Y and Z"),
        ({"pixel_size": "1,-2"}, "number and a unit"),
        ({"pixel_size": (1, 0)}, "above 0"),
        ({"pixel_size": "1,2s"}, "no unit of length"),
        ({"time_step": "2um"}, "no unit of time"),
        ({"time_step": "soon"}, "number and a unit"),
        ({"time_step": True}, "above 0"),
        ({"name": 3}, "give a text"),
        ({"name": ["a", "b"]}, "1 images are converted"),
        ({"channel_names": "a,b,c"}, "one for each channel"),
        ({"channel_colors": "red"}, "one for each channel"),
        ({"channel_colors": "red,nothing"}, "not a colour"),
        ({"channel_colors": [(1, 2), (1, 2, 3)]}, "no colour"),
    ],
)
def test_invalid_overrides(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    made = source(tmp_path / "a.ome.tif")
    with pytest.raises(BadArgument, match=message):
        convert(made, tmp_path / "b.ome.tif", **options)
    assert not (tmp_path / "b.ome.tif").exists()
