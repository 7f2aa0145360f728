"""What may be assigned to an image: arrays of every kind give dtype and shape, and are exact."""

from __future__ import annotations

import array as stdlib_array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from bfbridge import BioReader, BioWriter
from bfbridge.errors import BadArgument, BadDtype, BadSelection, BfbridgeError, WriteFailed
from tests.support.memory import distinct
from tests.support.peak import peak_memory

SHAPE = (45, 70, 3, 2, 2)
WHOLE = distinct(SHAPE, np.uint16)
PLANE = WHOLE[:, :, 1, 0, 1]


class Foreign:
    """Has ``__array__`` and nothing else."""

    def __init__(self, pixels: np.ndarray[Any, Any]) -> None:
        self._pixels = pixels

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
        return self._pixels


def stored(path: Path) -> np.ndarray[Any, Any]:
    with BioReader(path) as br:
        return br.read(keepdims=True)


KINDS: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "numpy": lambda a: a,
    "fortran": np.asfortranarray,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "dask": lambda a: da.from_array(a, chunks=tuple(max(1, n // 2) for n in a.shape)),
    "xarray": xr.DataArray,
    "xarray of dask": lambda a: xr.DataArray(da.from_array(a, chunks=17)),
    "xarray named": lambda a: xr.DataArray(a, dims=tuple("yxzct"[: a.ndim])),
    "xarray transposed": lambda a: xr.DataArray(a, dims=tuple("yxzct"[: a.ndim])).transpose(),
    "zarr": lambda a: zarr.array(a, chunks=tuple(max(1, n // 2) for n in a.shape)),
    "__array__": Foreign,
    "memoryview": lambda a: memoryview(np.ascontiguousarray(a)),
}


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pixels", [PLANE, WHOLE], ids=["plane", "whole"])
def test_dtype_and_shape_are_those_of_the_first_array(
    tmp_path: Path, suffix: str, kind: str, pixels: np.ndarray[Any, Any]
) -> None:
    path = tmp_path / f"a{suffix}"
    with BioWriter(path) as bw:
        bw[:] = KINDS[kind](pixels)
        assert bw.dtype == np.uint16
    got = stored(path)
    assert got.dtype == np.uint16
    np.testing.assert_array_equal(got, pixels.reshape(pixels.shape + (1,) * (5 - pixels.ndim)))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_every_kind_go_to_regions(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.ome.tif"
    with BioWriter(path, shape=SHAPE, dtype="uint16", tile=32) as bw:
        bw[..., 1] = WHOLE[..., 1]
        for z in range(3):
            for c in range(2):
                bw[::-1, :, z, c, 0] = KINDS[kind](WHOLE[::-1, :, z, c, 0])
    np.testing.assert_array_equal(stored(path), WHOLE)
    with BioWriter(path, shape=SHAPE, dtype="uint16", overwrite=True) as bw:
        bw.write(KINDS[kind](WHOLE[10:, :50]), Y=10)
        bw.write(KINDS[kind](WHOLE[:10]))
        bw.write(KINDS[kind](WHOLE[10:, 50:]), X=50, Y=10)
    np.testing.assert_array_equal(stored(path), WHOLE)


@pytest.mark.parametrize("chunks", [7, (45, 1), (1, 70), -1])
def test_dask_arrays_are_broadcast_as_numpys_are(tmp_path: Path, chunks: Any) -> None:
    columns = da.from_array(PLANE[:1], chunks=chunks if chunks in (7, -1) else (1, chunks[1]))
    with BioWriter(tmp_path / "a.ome.zarr", shape=SHAPE, dtype="uint16", chunks=16) as bw:
        bw[:] = 0
        bw[:, :, 0, 0, 0] = columns
        bw[5:40:3, [3, 9, 1], 2, 1, 1] = da.from_array(PLANE[:12, :3], chunks=5)
        bw[:, :, :, 0, 1] = da.from_array(np.array([1, 2, 3], "uint8").reshape(1, 3), chunks=1)
    got = stored(tmp_path / "a.ome.zarr")
    np.testing.assert_array_equal(got[:, :, 0, 0, 0], np.broadcast_to(PLANE[:1], (45, 70)))
    np.testing.assert_array_equal(got[5:40:3][:, [3, 9, 1], 2, 1, 1], PLANE[:12, :3])
    np.testing.assert_array_equal(got[:, :, :, 0, 1], np.broadcast_to([1, 2, 3], (45, 70, 3)))


def test_lists_say_numpys_dtype(tmp_path: Path) -> None:
    with BioWriter(tmp_path / "a.ome.zarr") as bw:
        bw[:] = [[1, 2, 3], [4, 5, 70_000]]
    np.testing.assert_array_equal(
        stored(tmp_path / "a.ome.zarr")[..., 0, 0, 0], np.array([[1, 2, 3], [4, 5, 70_000]])
    )
    assert stored(tmp_path / "a.ome.zarr").dtype == np.int64
    with BioWriter(tmp_path / "a.ome.tif", dtype="uint16") as bw:
        bw[:] = [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(
        stored(tmp_path / "a.ome.tif")[..., 0, 0, 0], np.array([[1, 2, 3], [4, 5, 6]])
    )
    with BioWriter(tmp_path / "b.ome.tif") as bw:
        bw[:] = memoryview(stdlib_array.array("H", [1, 500])).cast("B").cast("H", (1, 2))
    assert stored(tmp_path / "b.ome.tif").ravel().tolist() == [1, 500]
    bw = BioWriter(tmp_path / "c.ome.tif")
    with pytest.raises(BfbridgeError, match="int64"):
        bw[:] = [[1, 2], [3, 4]]
    bw.abort()


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("given", ["int8", "uint16", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "float32", "float64"])
def test_integers_that_fit_are_taken_whatever_their_type(
    tmp_path: Path, given: str, dtype: str
) -> None:
    pixels = (distinct((20, 30)) % 120).astype(given)
    path = tmp_path / "a.ome.tif"
    with BioWriter(path, shape=(20, 30), dtype=dtype) as bw:
        bw[:] = pixels
        bw[:5] = da.from_array(pixels[:5], chunks=3)
    np.testing.assert_array_equal(stored(path)[..., 0, 0, 0], pixels.astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", np.array([[-1]], "int64")),
        ("uint16", np.array([[65536]], "int64")),
        ("int8", np.array([[128]], "uint64")),
        ("float32", np.array([[2**24 + 1]], "int32")),
        ("float32", np.array([[-(2**24) - 1]], "int64")),
        ("float32", 2**24 + 1),
        ("float64", np.array([[2**53 + 1]], "int64")),
        ("float64", np.array([[2**63 + 1]], "uint64")),
        ("float64", np.array([[-(2**63) + 1]], "int64")),
    ],
)
def test_integers_that_do_not_fit_are_refused(tmp_path: Path, dtype: str, value: Any) -> None:
    bw = BioWriter(tmp_path / "a.ome.zarr", shape=(2, 2), dtype=dtype)
    with pytest.raises(BadDtype, match=f"cannot be stored in an image of {dtype}"):
        bw[:] = value
    bw.abort()


@pytest.mark.parametrize("value", [2**24, -(2**24), 2**40, -(2**63), 0])
def test_integers_that_a_float_holds_are_taken(tmp_path: Path, value: int) -> None:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, shape=(2, 2), dtype="float32") as bw:
        bw[0] = value
        bw[1] = np.full(2, value, np.int64)
    assert stored(path).ravel().tolist() == [float(value)] * 4


# ---- sizes


def test_the_first_array_gives_the_sizes_that_nothing_else_does(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with BioWriter(path, ps_x=0.5) as bw:
        bw.write(WHOLE)
        assert bw.shape == SHAPE
    np.testing.assert_array_equal(stored(path), WHOLE)
    with BioReader(path) as br:
        assert br.ps_x == (0.5, "µm")


@pytest.mark.parametrize("key", [0, np.s_[:10], np.s_[:, :, 0], np.s_[0, 0], np.s_[:, 5:]])
def test_a_part_of_an_image_of_unknown_size_is_refused(tmp_path: Path, key: Any) -> None:
    bw = BioWriter(tmp_path / "a.ome.tif")
    with pytest.raises(BadArgument, match=r"size of the image is not set.*shape=\(Y, X"):
        bw[key] = PLANE
    with pytest.raises(BadArgument, match="size of the image is not set"):
        bw.write(PLANE, Y=0)
    with pytest.raises(BadArgument, match="size of the image is not set"):
        bw[:] = 5
    with pytest.raises(BadArgument, match="size of the image is not set"):
        bw[:] = np.zeros((2,) * 6)
    bw.abort()
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_were_set_are_not_taken_from_the_array(tmp_path: Path) -> None:
    bw = BioWriter(tmp_path / "a.ome.tif", X=70, Y=45)
    with pytest.raises(BadSelection, match="do not fit"):
        bw[:] = PLANE[:44]
    bw[:] = PLANE
    bw.close()
    np.testing.assert_array_equal(stored(tmp_path / "a.ome.tif")[..., 0, 0, 0], PLANE)


def test_image_takes_arrays_of_every_kind_and_reads_none(tmp_path: Path) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("computed")

    lazy = da.map_blocks(never, chunks=((20,), (30,)), dtype="int16", meta=np.empty((0, 0), "i2"))
    bw = BioWriter(tmp_path / "a.ome.tif", image=lazy)
    assert (bw.shape, bw.dtype) == ((20, 30), np.int16)
    bw.abort()


# ---- labels


def test_dimensions_with_names_are_put_in_order(tmp_path: Path) -> None:
    labelled = xr.DataArray(WHOLE, dims=tuple("yxzct")).transpose("t", "c", "z", "y", "x")
    for number, pixels in enumerate((labelled, labelled.chunk({"y": 20, "x": 33}))):
        path = tmp_path / f"{number}.ome.zarr"
        with BioWriter(path) as bw:
            bw[:] = pixels
        np.testing.assert_array_equal(stored(path), WHOLE)
    with BioWriter(tmp_path / "planes.ome.tif", shape=SHAPE, dtype="uint16") as bw:
        for t in range(2):
            bw[..., t] = labelled[t]  # dims c, z, y, x
    np.testing.assert_array_equal(stored(tmp_path / "planes.ome.tif"), WHOLE)


@pytest.mark.parametrize("chunks", [None, (20, 30, 1), (20, 30, 3)])
def test_samples_are_joined_to_channels(tmp_path: Path, chunks: Any) -> None:
    rgb = distinct((40, 50, 3), np.uint8)
    pixels = xr.DataArray(rgb, dims=("y", "x", "s")).transpose("s", "y", "x")
    if chunks:
        pixels = pixels.chunk(dict(zip("yxs", chunks, strict=True)))
    with BioWriter(tmp_path / "a.ome.tif") as bw:
        bw[:] = pixels
        assert bw.samples_per_pixel == 3
    with BioReader(tmp_path / "a.ome.tif") as br:
        assert br.samples_per_pixel == 3
        np.testing.assert_array_equal(br[:][:, :, 0], rgb)


@pytest.mark.parametrize("dims", [("y", "x", "time"), ("row", "x"), ("y", "Y")])
def test_dimensions_that_are_no_axes_are_refused(tmp_path: Path, dims: tuple[str, ...]) -> None:
    bw = BioWriter(tmp_path / "a.ome.tif")
    with pytest.raises(BadArgument, match=r"those of an image are y, x, z, c, t"):
        bw[:] = xr.DataArray(
            WHOLE[:, :, 0, 0, 0] if len(dims) == 2 else WHOLE[..., 0, 0], dims=dims
        )
    bw.abort()


# ---- what cannot be written


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 2], [3]], "a list cannot be converted to a numpy array"),
        (np.ma.masked_equal(PLANE, PLANE[0, 0]), "masked values"),
        (da.from_array(PLANE)[da.from_array(PLANE)[:, 0] > 3], "unknown shape"),
    ],
)
def test_arrays_that_are_none(tmp_path: Path, value: Any, words: str) -> None:
    bw = BioWriter(tmp_path / "a.ome.tif", shape=(45, 70))
    with pytest.raises(BadArgument, match=words):
        bw[:] = value
    bw.abort()


@pytest.mark.parametrize("value", ["text", None, {1: 2}, [["a"]], np.zeros((45, 70), "M8[s]")])
def test_values_that_are_no_numbers(tmp_path: Path, value: Any) -> None:
    bw = BioWriter(tmp_path / "a.ome.tif", shape=(45, 70), dtype="uint8")
    with pytest.raises(BadDtype, match="cannot be written"):
        bw[:] = value
    bw.abort()


def test_an_array_without_masked_values_is_written(tmp_path: Path) -> None:
    with BioWriter(tmp_path / "a.ome.tif") as bw:
        bw[:] = np.ma.masked_equal(PLANE, 65_535)
    np.testing.assert_array_equal(stored(tmp_path / "a.ome.tif")[..., 0, 0, 0], PLANE)


# ---- computed on demand


def test_a_failing_computation_fails_the_file(tmp_path: Path) -> None:
    def fail(block: np.ndarray[Any, Any], block_info: Any = None) -> np.ndarray[Any, Any]:
        if block_info[0]["chunk-location"] == (2, 0):
            raise ZeroDivisionError("no pixels")
        return block

    pixels = da.from_array(WHOLE[:, :, 0, 0, 0], chunks=(10, 70)).map_blocks(fail, dtype="uint16")
    bw = BioWriter(tmp_path / "a.ome.tif", memory=1000)
    with pytest.raises(ZeroDivisionError, match="no pixels"):
        bw[:] = pixels
    with pytest.raises(WriteFailed, match="an earlier write failed.*no pixels"):
        bw.close()
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_does_not_fit_in_a_later_block_fails_the_file(tmp_path: Path) -> None:
    pixels = WHOLE[:, :, 0, 0, 0].astype("uint16")
    pixels[-1, -1] = 300
    pixels[:-1] %= 200
    bw = BioWriter(tmp_path / "a.ome.tif", shape=(45, 70), dtype="uint8", memory=1000)
    with pytest.raises(BadDtype, match="cannot be stored in an image of uint8"):
        bw[:] = da.from_array(np.maximum(pixels, 0) % 400, chunks=(5, 70))
    with pytest.raises(WriteFailed, match="an earlier write failed"):
        bw.close()


SIDE = 8192  # 128 MiB of uint16


def large_array(kind: str, folder: Path) -> Any:
    """An array of SIDE x SIDE, each pixel the exclusive or of its row and column."""
    if kind == "dask":
        rows = da.arange(SIDE, dtype="uint16", chunks=1024)
        return rows[:, np.newaxis] ^ rows
    if kind == "zarr":
        made = zarr.create_array(
            folder / "in.zarr", shape=(SIDE, SIDE), chunks=(1024, 1024), dtype="uint16"
        )
    else:
        made = BioWriter(folder / "in.ome.tif", shape=(SIDE, SIDE), dtype="uint16")
    for y in range(0, SIDE, 1024):
        made[y : y + 1024] = (np.arange(y, y + 1024)[:, np.newaxis] ^ np.arange(SIDE)).astype("u2")
    if kind == "zarr":
        return made
    made.close()
    return BioReader(folder / "in.ome.tif", cache=0)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("kind", ["dask", "zarr", "view"])
def test_large_arrays_are_never_in_memory_whole(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a{suffix}"
    pixels = large_array(kind, tmp_path)
    with peak_memory() as peak, BioWriter(path, memory=16 << 20, max_workers=2) as bw:
        bw[:] = pixels
    assert peak.nbytes < 90 << 20, f"{peak.nbytes / 2**20:.0f} MiB"
    with BioReader(path) as br:
        assert (br.shape, br.dtype) == ((SIDE, SIDE), np.uint16)
        rows = [0, 1, 1023, 1024, 5000, SIDE - 1]
        np.testing.assert_array_equal(br[rows], np.array(rows)[:, np.newaxis] ^ np.arange(SIDE))
