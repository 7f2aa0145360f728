"""The stacks that CAREamics 0.3.5 has beside its protocol, against numpy and its own answers.

Rectangles and shapes are those of CAREamics' ``CziImageStack``, asked with pylibCZIrw 6.1:
``CziImageStack(path).data_shape``, ``CziImageStack.get_bounding_rectangles(path)``.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader
from bfbridge.patches import FileImageStack, ImageStack, Rectangle, ZarrImageStack
from tests.real.manifest import DATA
from tests.support.samples import distinct, write_ome_zarr

zarr = pytest.importorskip("zarr")


def czi(name: str) -> Path:
    path = DATA / "czi" / f"{name}.czi.d" / f"{name}.czi"
    if not path.exists():
        pytest.skip(f"no real files at {DATA}")
    return path


@pytest.mark.slow(ci=True)
def test_a_stack_without_a_scene_is_the_plane_of_all_scenes() -> None:
    path = czi("WellD6-7_S2")
    stack = ImageStack(path)
    assert stack.data_shape == (1, 1, 440, 90544)
    assert (stack.scene, stack.data_path, stack.source) == (None, path, path)
    with BioReader(path) as br:
        scenes = [view[:] for view in br.series]
    np.testing.assert_array_equal(stack.extract_patch(0, None, (10, 20), (50, 60))[0],
                                  scenes[0][10:60, 20:80])  # fmt: skip
    np.testing.assert_array_equal(stack.extract_patch(0, None, (10, 90020), (50, 60))[0],
                                  scenes[1][10:60, 20:80])  # fmt: skip
    between = stack.extract_patch(0, None, (-5, 500), (50, 100))[0]
    np.testing.assert_array_equal(between[5:, :44], scenes[0][:45, 500:])
    assert not between[:5].any()
    assert not between[:, 44:].any()
    across = stack.extract_patch(0, None, (0, 0), (440, 90544))[0]
    np.testing.assert_array_equal(across[:, :544], scenes[0])
    np.testing.assert_array_equal(across[:, 90000:], scenes[1])
    copy = pickle.loads(pickle.dumps(stack))
    np.testing.assert_array_equal(copy.extract_patch(0, None, (0, 89990), (440, 554))[0],
                                  across[:, 89990:])  # fmt: skip
    stack.load()
    assert stack.is_loaded
    np.testing.assert_array_equal(stack.extract_patch(0, None, (0, 0), (440, 90544))[0], across)
    stack.close()
    one = ImageStack(path, scene=1)
    assert one.data_shape == (1, 1, 440, 544)
    assert (one.scene, one.data_path, one.source) == (1, path, Path(f"{path}@1"))


@pytest.mark.parametrize(("name", "expected"), [
    ("WellD6-7_S2", {0: (0, 0, 544, 440), 1: (90000, 0, 544, 440)}),
    ("mosaic_test", {0: (0, 0, 1756, 624)}),
    ("s_1_t_1_c_1_z_1", {None: (39856, 39272, 475, 325)}),
    ("tiles_z", {None: (-127, -128, 510, 512)}),
    ("RGB-8bit", {None: (0, 0, 924, 624)}),
])  # fmt: skip
def test_rectangles_are_those_of_careamics(name: str, expected: dict[Any, Any]) -> None:
    path = czi(name)
    assert ImageStack.get_bounding_rectangles(path) == expected
    with BioReader(path) as br:
        found = ImageStack.get_bounding_rectangles(br)
        assert not br.closed
    assert found == {number: Rectangle(*place) for number, place in expected.items()}


# ---- files with axes


@pytest.mark.parametrize("kind", ["shaped", "ome", "imagej", "rgb"])
def test_tiff_with_axes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    if kind == "shaped":
        data, axes = distinct((3, 2, 19, 23)), "SCYX"
        tifffile.imwrite(path, data, photometric="minisblack")
    elif kind == "ome":
        path, axes = tmp_path / "a.ome.tif", "TZCYX"
        data = distinct((2, 4, 3, 19, 23))
        tifffile.imwrite(path, data, metadata={"axes": axes}, photometric="minisblack")
    elif kind == "imagej":
        data, axes = distinct((2, 4, 3, 19, 23)), "TZCYX"
        tifffile.imwrite(path, data, imagej=True, metadata={"axes": axes})
    else:
        data, axes = distinct((7, 9, 3), np.uint8), "YXC"
        tifffile.imwrite(path, data, photometric="rgb", metadata=None)
    expected = ImageStack.from_array(data, axes)
    lazy = FileImageStack.from_tiff(path, axes)
    with pytest.raises(ValueError, match="call load"):
        lazy.extract_patch(
            0, None, (0,) * (len(expected.axes) - 2), (4,) * (len(expected.axes) - 2)
        )
    assert (lazy.is_loaded, lazy.source, lazy.data_path) == (False, path, path)
    lazy.load()
    for stack in (ImageStack.from_tiff(path, axes), lazy):
        assert stack.data_shape == expected.data_shape
        assert (stack.original_axes, stack.original_data_shape) == (axes, data.shape)
        assert (stack.source, stack.data_dtype, stack.axes) == (path, data.dtype, expected.axes)
        size = [3] * (len(expected.axes) - 2)
        for sample in range(expected.data_shape[0]):
            where = [1, *[-1] * (len(size) - 1)]
            np.testing.assert_array_equal(
                stack.extract_patch(sample, None, where, size),
                expected.extract_patch(sample, None, where, size),
            )
    lazy.close()
    assert not lazy.is_loaded
    assert not pickle.loads(pickle.dumps(lazy)).is_loaded
    with pytest.raises(ValueError, match="one letter"):
        ImageStack.from_tiff(path, "YX")


def test_files_that_a_function_reads(tmp_path: Path) -> None:
    data = distinct((4, 19, 23))
    path = tmp_path / "a.npy"
    np.save(path, data)

    def read(path: Path, factor: int = 1) -> Any:
        return np.load(path) * factor

    stack = ImageStack.from_custom_file_type(path, "ZYX", read, factor=2)
    assert (stack.source, stack.data_shape) == (path, (1, 1, 4, 19, 23))
    np.testing.assert_array_equal(
        stack.extract_patch(0, [0], (1, 2, 3), (2, 5, 6))[0], 2 * data[1:3, 2:7, 3:9]
    )
    lazy = FileImageStack(
        path, "SYX", (4, 1, 19, 23), data.dtype, read, {"factor": 3}, data.shape
    )  # fmt: skip
    lazy.load()
    np.testing.assert_array_equal(
        lazy.extract_patch(3, None, (2, 3), (5, 6))[0], 3 * data[3, 2:7, 3:9]
    )
    wrong = FileImageStack(path, "SYX", (5, 1, 19, 23), data.dtype, read)
    with pytest.raises(ValueError, match="data_shape is"):
        wrong.load()
    with pytest.raises(ValueError, match="give sizes along"):
        FileImageStack(path, "SYX", (4, 19, 23), data.dtype, read)


# ---- Zarr


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("axes", ["YX", "CYX", "ZYX", "SCYX", "TCZYX", "CTZYX", "STCYX", "YXC"])
def test_zarr_arrays_with_axes(tmp_path: Path, axes: str) -> None:
    lengths = {"S": 2, "T": 3, "C": 4, "Z": 5, "Y": 19, "X": 23}
    data = distinct(tuple(lengths[axis] for axis in axes))
    root = zarr.create_group(tmp_path / "a.zarr")
    array = root.create_group("inner").create_array(
        "data", shape=data.shape, dtype=data.dtype, chunks=tuple(min(2, n) for n in data.shape),
        shards=tuple(4 for _ in data.shape),
    )  # fmt: skip
    array[...] = data
    expected = ImageStack.from_array(data, axes)
    stack = ZarrImageStack(root, "inner/data", axes)
    assert stack.source == str(array.store_path) == stack.data_path
    assert (stack.chunks, stack.shards) == (array.chunks, array.shards)
    again = ZarrImageStack.from_uri(stack.source, axes)
    for one in (stack, again, pickle.loads(pickle.dumps(stack))):
        assert (one.data_shape, one.axes) == (expected.data_shape, expected.axes)
        assert (one.original_axes, one.original_data_shape) == (axes, data.shape)
        size = [4] * (len(expected.axes) - 2)
        for sample in range(expected.data_shape[0]):
            for corner in (-2, 3, 40):
                channels = list(range(expected.data_shape[1]))[::-2]
                where = [corner] * len(size)
                np.testing.assert_array_equal(
                    one.extract_patch(sample, channels, where, size),
                    expected.extract_patch(sample, channels, where, size),
                )
    stack.load()
    assert stack.is_loaded
    size = [4] * (len(expected.axes) - 2)
    np.testing.assert_array_equal(
        stack.extract_patch(0, None, [1] * len(size), size),
        expected.extract_patch(0, None, [1] * len(size), size),
    )
    stack.close()
    assert not stack.is_loaded


def test_zarr_arrays_that_there_are_not(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a.zarr")
    root.create_array("data", shape=(4, 5), dtype="u1")
    with pytest.raises(ValueError, match="there is no array 'none'"):
        ZarrImageStack(root, "none", "YX")
    with pytest.raises(ValueError, match="one letter"):
        ZarrImageStack(root, "data", "CYX")
    root.create_group("inner")
    with pytest.raises(ValueError, match="is a group"):
        ZarrImageStack(root, "inner", "YX")
    with pytest.raises(ValueError, match="no Zarr group"):
        ZarrImageStack.from_uri(f"file://{tmp_path}/none.zarr/data", "YX")


def test_shards_as_stored(tmp_path: Path) -> None:
    pixels = distinct((2, 3, 1, 70, 90))
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [pixels])
    stack = ImageStack(path)
    assert stack.shards is None
    root = zarr.open_group(path)
    name = root.attrs["ome"]["multiscales"][0]["datasets"][0]["path"]
    del root[name]
    array = root.create_array(
        name, shape=pixels.shape, dtype=pixels.dtype, chunks=(1, 1, 1, 16, 32),
        shards=(1, 3, 1, 32, 64), dimension_names=list("tczyx"),
    )  # fmt: skip
    array[...] = pixels
    stack = ImageStack(path)
    assert (stack.chunks, stack.shards) == ((1, 1, 16, 32), (1, 3, 32, 64))
    np.testing.assert_array_equal(
        stack.extract_patch(1, None, (5, 6), (40, 50)), pixels[1, :, 0, 5:45, 6:56]
    )
