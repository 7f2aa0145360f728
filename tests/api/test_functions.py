"""`imread` and `imwrite`: an image in one call."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr

import bfbridge
from bfbridge import BioReader, BioWriter, imread, imwrite
from bfbridge.errors import BadArgument, BadDtype, FileMissing, TargetExists
from tests.support.memory import distinct

SIZES = {"Y": 30, "X": 40, "Z": 3, "C": 2, "T": 4, "S": 3}
ORDERS = [
    "YX", "XY", "CYX", "ZYX", "TYX", "YXS", "SYX", "YXC", "TCZYX", "YXZCT", "CZYX", "ZCYX", "TYXS",
    "tczyx",
]  # fmt: skip


def array_of(axes: str, dtype: Any = np.uint16) -> np.ndarray[Any, Any]:
    return distinct(tuple(SIZES[axis] for axis in axes.upper()), dtype)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("axes", ORDERS)
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str, axes: str) -> None:
    path = tmp_path / f"a{suffix}"
    array = array_of(axes, np.uint8 if "S" in axes else np.uint16)
    imwrite(path, array, axes)
    np.testing.assert_array_equal(imread(path, axes), array)
    assert imread(path, axes).dtype == array.dtype
    with BioReader(path) as br:
        sizes = {axis: SIZES[axis] if axis in axes.upper() else 1 for axis in "YXZCT"}
        if "S" in axes:
            sizes["C"] *= 3
        assert br.sizes == sizes
        # NGFF knows no samples: there they are channels.
        assert br.samples_per_pixel == (3 if "S" in axes and suffix == ".ome.tif" else 1)
        np.testing.assert_array_equal(br.asarray(axes), array)


@pytest.mark.parametrize("axes", ["TCYXS", "TCZYXS", "XSTZYC"])
def test_channels_of_samples(tmp_path: Path, axes: str) -> None:
    array = array_of(axes, np.uint8)
    imwrite(tmp_path / "a.ome.tif", array, axes)
    np.testing.assert_array_equal(imread(tmp_path / "a.ome.tif", axes), array)
    with BioReader(tmp_path / "a.ome.tif") as br:
        assert (br.C, br.samples_per_pixel, len(br.channels)) == (6, 3, 2)


@pytest.mark.parametrize("axes", ["CYX", "TZYX", "YXS"])
def test_others_read_what_is_written(tmp_path: Path, axes: str) -> None:
    array = array_of(axes, np.uint8)
    imwrite(tmp_path / "a.ome.tif", array, axes)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        assert tiff.series[0].axes == axes
        np.testing.assert_array_equal(tiff.asarray(), array)


@pytest.mark.parametrize("kind", ["dask", "xarray", "labelled", "list"])
def test_arrays_of_every_kind(tmp_path: Path, kind: str) -> None:
    array = array_of("ZCYX")
    made: dict[str, Any] = {
        "dask": da.from_array(array, chunks=(1, 2, 16, 17)),
        "xarray": xr.DataArray(array),
        "labelled": xr.DataArray(array, dims=("slice", "channel", "row", "column")),
        "list": array.tolist(),
    }
    options = {"dtype": "uint16"} if kind == "list" else {}
    imwrite(tmp_path / "a.ome.zarr", made[kind], "ZCYX", **options)
    np.testing.assert_array_equal(imread(tmp_path / "a.ome.zarr", "ZCYX"), array)


def test_labels_say_the_axes(tmp_path: Path) -> None:
    array = array_of("TCZYX")
    imwrite(tmp_path / "a.ome.tif", xr.DataArray(array, dims=tuple("tczyx")))
    with BioReader(tmp_path / "a.ome.tif") as br:
        np.testing.assert_array_equal(br.asarray(), array)
        imwrite(tmp_path / "b.ome.zarr", br.to_xarray())
    np.testing.assert_array_equal(imread(tmp_path / "b.ome.zarr", "TCZYX"), array)


def test_the_default_of_reading_drops_axes_of_length_1(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    for axes in ("YX", "CYX", "TYX", "YXS", "TZYX"):
        array = array_of(axes, np.uint8)
        imwrite(path, array, axes, overwrite=True)
        wanted = [a for a in "YXZCT" if a in axes.replace("S", "C")]
        got = imread(path)
        np.testing.assert_array_equal(
            got, array.transpose([axes.replace("S", "C").index(a) for a in wanted])
        )
    with BioReader(path) as br:
        assert br.read(squeeze=True).shape == (30, 40, 3, 4)
        assert br.read(Y=3, X=(1, 2), Z=0, squeeze=True).shape == (1, 1, 4)
        with pytest.raises(BadArgument, match="keepdims=True keeps all axes"):
            br.read(squeeze=True, keepdims=True)


def test_metadata(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    array = array_of("CYX")
    imwrite(path, array, "CYX", pixel_size=0.325, channel_names=["DAPI", "GFP"], name="cells")
    with BioReader(path) as br:
        assert br.pixel_size() == {"X": 0.325, "Y": 0.325, "Z": None}
        assert (br.channel_names, br.name) == (["DAPI", "GFP"], "cells")
        imwrite(tmp_path / "b.ome.zarr", array, "CYX", pixel_size=br.pixel_size(), pyramid=1)
        imwrite(tmp_path / "c.ome.tif", array[:, :20], "CYX", metadata=br.metadata)
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert br.pixel_size() == {"X": 0.325, "Y": 0.325, "Z": None}
        assert len(br.levels) == 2
    with BioReader(tmp_path / "c.ome.tif") as br:
        assert br.channel_names == ["DAPI", "GFP"]
        np.testing.assert_array_equal(br.asarray("CYX"), array[:, :20])
    imwrite(path, array, "CYX", pixel_size=(325, "nm"), overwrite=True)
    with BioReader(path) as br:
        assert br.ps_x == (325.0, "nm")
    imwrite(path, array, "ZYX", pixel_size={"z": (2, "mm"), "x": 1}, overwrite=True)
    with BioReader(path) as br:
        assert br.pixel_size("µm") == {"X": 1, "Y": None, "Z": 2000}


@pytest.mark.parametrize(
    ("shape", "arguments", "words"),
    [
        ((3, 4, 5), {}, r"shape \(3, 4, 5\) needs the names of its axes, such as axes='CYX'"),
        ((4,), {}, "needs the names of its axes"),
        ((3, 4, 5), {"axes": "YX"}, "give one letter of TCZYXS for each axis"),
        ((3, 4, 5), {"axes": "CYY"}, "each once"),
        ((3, 4, 5), {"axes": "CZX"}, "Y and X among them"),
        ((3, 4, 5), {"axes": "QYX"}, "one letter of TCZYXS"),
        ((3, 4), {"axes": 5}, "axes=5"),
        ((3, 4), {"pixel_size": (0.5, 0.5)}, "which number belongs to which axis"),
        ((3, 4), {"pixel_size": "1um"}, "physical_size_x='1um'"),
        ((3, 4), {"pixel_size": -1}, "above 0"),
        ((3, 4), {"pixel_size": {"q": 1}}, "use the axes x, y and z"),
        ((3, 4), {"channel_names": ["a", "b"]}, "channel_names has 2 names"),
        ((3, 4), {"no_such_option": 1}, "no_such_option"),
    ],
)
def test_arguments_that_make_no_sense(
    tmp_path: Path, shape: tuple[int, ...], arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(BadArgument, match=words):
        imwrite(tmp_path / "a.ome.tif", np.zeros(shape, np.uint8), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    imwrite(path, array_of("YX"))
    with pytest.raises(TargetExists, match="overwrite=True"):
        imwrite(path, array_of("YX"))
    with pytest.raises(BadDtype, match="float16"):
        imwrite(path, array_of("YX", np.float16), overwrite=True)
    with pytest.raises(FileMissing):
        imread(tmp_path / "none.ome.tif")
    imwrite(path, array_of("CYX"), "CYX", overwrite=True)
    with BioReader(path) as br:
        assert br.asarray("YXS").shape == (30, 40, 2)
        for axes in ("YX", "ZYX", "TYX"):
            with pytest.raises(BadArgument, match=r"axes='\w+' leaves out axes .*'C': 2"):
                br.asarray(axes)
        for axes in ("YXX", "QYX", ""):
            with pytest.raises(BadArgument, match="axes="):
                br.asarray(axes)
    with pytest.raises(BadArgument, match="leaves out"):
        imread(path, axes="YX")


def test_what_the_image_does_not_have_has_length_1(tmp_path: Path) -> None:
    array = array_of("YX")
    imwrite(tmp_path / "a.ome.tif", array)
    for axes in permutations("YXSZ"):
        got = imread(tmp_path / "a.ome.tif", "".join(axes))
        wanted = array if axes.index("Y") < axes.index("X") else array.T
        np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)


def test_reading_takes_the_readers_arguments(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    array = array_of("YX")
    imwrite(path, array, pyramid=1)
    assert imread(path, level=1).shape == (15, 20)
    np.testing.assert_array_equal(imread(path.read_bytes(), name="a.ome.tif", series=0), array)


def test_both_are_names_of_the_package() -> None:
    assert {"imread", "imwrite"} <= set(bfbridge.__all__)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_new_axes_are_inserted(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    array = array_of("YXZCT")
    with BioWriter(path) as bw:
        bw[:] = array
    with BioReader(path) as br:
        np.testing.assert_array_equal(br[None], array[None])
        np.testing.assert_array_equal(br[:, None, 3:5, ..., None], array[:, None, 3:5, ..., None])
        np.testing.assert_array_equal(br[..., None, 0], array[..., :1])
        assert br[:, :, 0, 0, 0, None].shape == (30, 40, 1, 1, 1, 1)
        assert br[:, :, None, 0, 0, 0].shape == (30, 40, 1)
        rows = np.arange(30) % 4 == 1
        np.testing.assert_array_equal(br[rows, None, 1:3], array[rows, None, 1:3])
