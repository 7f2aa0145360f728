"""Images that grow: tiles in any order, position, thread and process become one image."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from bfbridge import BioReader, BioWriter
from bfbridge.errors import BadArgument, BadDtype, Closed, IncompleteImage, WriteFailed

Array = np.ndarray[Any, Any]
OFFSET = 1000


class Referee:
    """The same tiles in a numpy array whose origin is at (OFFSET, OFFSET)."""

    def __init__(self, samples: int = 1, dtype: Any = np.uint8) -> None:
        self.plane = np.zeros((2200, 2200, samples), dtype)
        self.box = [0, 0, 0, 0]

    def add(self, tile: Array, y: int, x: int, mask: Array | None = None) -> None:
        height, width = tile.shape[:2]
        place = self.plane[OFFSET + y : OFFSET + y + height, OFFSET + x : OFFSET + x + width]
        tile = tile.reshape(place.shape)
        np.copyto(place, tile, where=True if mask is None else mask.reshape(height, width, 1) != 0)
        top, left, bottom, right = self.box
        self.box = [min(top, y), min(left, x), max(bottom, y + height), max(right, x + width)]

    def part(self, y: int, x: int, height: int, width: int) -> Array:
        return self.plane[OFFSET + y : OFFSET + y + height, OFFSET + x : OFFSET + x + width]

    @property
    def image(self) -> Array:
        top, left, bottom, right = self.box
        return self.part(top, left, bottom - top, right - left)


def random_tiles(count: int, least: int, samples: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    for number in range(count):
        height, width = rng.integers(1, 330, 2)
        y, x = (int(n) for n in rng.integers(least, 500, 2))
        tile = rng.integers(1, 255, (height, width, samples), np.uint8)
        mask = rng.random((height, width)) < 0.5 if number % 3 == 2 else None
        yield tile, y, x, mask


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("least", [0, -400], ids=["positive", "negative"])
@pytest.mark.parametrize(
    ("suffix", "samples", "options"),
    [
        (".ome.zarr", 1, {"chunks": 128}),
        (".ome.zarr", 3, {"version": "0.4", "chunks": 96, "compression": "zstd"}),
        (".ome.zarr", 1, {"chunks": 64, "shards": 128}),
        (".ome.tif", 3, {"tile": 128}),
        (".tif", 1, {}),
    ],
)
def test_tiles_of_any_order_and_position(
    tmp_path: Path, suffix: str, samples: int, options: dict[str, Any], least: int
) -> None:
    path, referee = tmp_path / f"image{suffix}", Referee(samples)
    # With so little memory most chunks are moved to files and read back.
    with BioWriter(path, grow=True, pyramid=True, memory=1 << 18, **options) as bw:
        for tile, y, x, mask in random_tiles(25, least, samples):
            bw.add_tile(tile, y=y, x=x, mask=mask)
            referee.add(tile, y, x, mask)
        assert bw.shape[:2] == referee.image.shape[:2]
    with BioReader(path) as br:
        np.testing.assert_array_equal(br[:].reshape(referee.image.shape), referee.image)
        assert br.dtype == np.uint8
        for level, view in enumerate(br.levels[1:]):
            above = br.levels[level][:].reshape(*br.levels[level].shape[:2], samples)
            even = above[: above.shape[0] // 2 * 2, : above.shape[1] // 2 * 2].astype(int)
            sums = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
            small = view[:].reshape(*view.shape[:2], samples)
            np.testing.assert_array_equal(small[: sums.shape[0], : sums.shape[1]], (sums + 2) // 4)
    assert os.listdir(tmp_path) == [path.name]


def test_other_programs_read_it(tmp_path: Path) -> None:
    referee = Referee(3)
    for name in ("a.ome.zarr", "a.ome.tif"):
        with BioWriter(tmp_path / name, grow=True, pyramid=1) as bw:
            for row in (1, 0):
                for column in (0, 1, 2):
                    tile = np.random.default_rng(column).integers(0, 255, (64, 64, 3), np.uint8)
                    bw.add_tile(tile, y=row * 64, x=column * 64 - 64)
                    referee.add(tile, row * 64, column * 64 - 64)
    stored = zarr.open_array(tmp_path / "a.ome.zarr" / "0")[0, :, 0]
    np.testing.assert_array_equal(np.moveaxis(np.asarray(stored), 0, -1), referee.image)
    assert zarr.open_array(tmp_path / "a.ome.zarr" / "0").chunks == (1, 3, 1, 64, 64)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), referee.image)


def test_aligned_chunks_are_not_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bfbridge.ngff.compression import Compression

    encoded = []
    encode = Compression.encode
    monkeypatch.setattr(
        Compression, "encode", lambda self, *args: encoded.append(1) or encode(self, *args)
    )
    tile = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128)
    with BioWriter(tmp_path / "a.ome.zarr", grow=True) as bw:
        for column in range(-2, 3):
            bw.add_tile(tile + np.uint16(column + 2), x=column * 128)
    assert len(encoded) == 5
    with BioReader(tmp_path / "a.ome.zarr") as br:
        np.testing.assert_array_equal(br[:, 128:256], tile + 1)
        low, high = br.channels[0].window
        assert low < 200  # of a sample of each chunk
        assert 15000 < high < 17000


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_pyramids_are_made_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    from bfbridge.files.growing.chunk_files import ChunkFiles

    read = []
    before = ChunkFiles.read

    def counted(self: ChunkFiles, index: Any) -> Any:
        found = before(self, index)
        read.extend([index] if found is not None else [])
        return found

    options: dict[str, Any] = {"chunks": 64} if suffix == ".ome.zarr" else {"tile": 64}
    path, want = tmp_path / f"a{suffix}", np.arange(256 * 320, dtype=np.uint32).reshape(256, 320)
    with BioWriter(path, grow=True, pyramid=2, **options) as bw:
        for y in range(0, 256, 64):
            for x in range(0, 320, 64):
                bw.add_tile(want[y : y + 64, x : x + 64], y=y, x=x)
        monkeypatch.setattr(ChunkFiles, "read", counted)
    # Level 0 and both lower levels are made from one reading of each chunk.
    assert len(read) == len(set(read)) == 20
    with BioReader(path) as br:
        assert len(br.levels) == 3
        np.testing.assert_array_equal(br[:], want)


def test_crop_and_least_size(tmp_path: Path) -> None:
    referee = Referee()
    tiles = list(random_tiles(12, -300, 1, seed=3))
    for crop, least in (
        ((-100, -70, 333, 280), None), ((-128, 0, 256, 192), None), (None, (2000, 1900)),
        ((64, 64, 100, 70), (400, 300)),
    ):  # fmt: skip
        path = tmp_path / "a.ome.zarr"
        with BioWriter(path, grow=True, chunks=64, overwrite=True, min_size=least) as bw:
            bw.crop = crop
            for tile, y, x, mask in tiles:
                bw.add_tile(tile, y=y, x=x, mask=mask)
                referee.add(tile, y, x, mask)
            assert bw.crop == crop
        top, left, bottom, right = referee.box
        y, x, height, width = crop or (top, left, bottom - top, right - left)
        want = np.zeros(np.maximum((height, width), least or 0), np.uint8)
        whole = referee.part(y, x, *want.shape)[..., 0]
        want[: whole.shape[0], : whole.shape[1]] = whole
        with BioReader(path) as br:
            np.testing.assert_array_equal(br[:], want)
        # Pixels outside the crop are in no chunk.
        stored = zarr.open_array(path / "0")
        assert stored.shape[3:] == want.shape


def test_pixels_outside_the_crop_are_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, grow=True, chunks=64, crop=(0, 0, 96, 96), compression="none") as bw:
        bw.add_tile(np.full((128, 128), 77, np.uint8))
    for name, size in (("0/0", 4096), ("1/1", 1024)):
        data = (path / "0" / "c" / "0" / "0" / "0" / name).read_bytes()
        assert data.count(77) == size


def test_dtype_of_all_tiles(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    tile = np.arange(64 * 64, dtype=np.int64).reshape(64, 64)
    with BioWriter(path, grow=True, chunks=64, pyramid=1) as bw:
        bw.add_tile((tile % 200).astype(np.uint8))
        bw.add_tile((tile - 3000).astype(np.int16), y=64)
        bw.add_tile((tile / 8).astype(np.float32), y=32, x=100)
        with pytest.raises(BadDtype, match=r"int64.*float32"):
            bw.add_tile(tile)
        assert bw.dtype == np.float32
    with BioReader(path) as br:
        assert br.dtype == np.float32
        np.testing.assert_array_equal(br[:64, :64], tile % 200)
        np.testing.assert_array_equal(br[64:, :64], tile - 3000)
        np.testing.assert_array_equal(br[32:96, 100:], (tile / 8).astype(np.float32))
    with BioWriter(tmp_path / "b.ome.zarr", grow=True, dtype="uint16") as bw:
        bw.add_tile((tile % 200).astype(np.uint8))
        with pytest.raises(BadDtype, match="-1"):
            bw.add_tile(np.full((2, 2), -1))
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert br.dtype == np.uint16
    with BioWriter(tmp_path / "c.ome.tif", grow=True) as bw:
        bw.add_tile(tile.astype(np.uint32))
        with pytest.raises(BadDtype, match="int64, which this format does not store"):
            bw.add_tile(tile.astype(np.int8))


def test_properties_until_close(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, grow=True, Z=2) as bw:
        bw.add_tile(np.ones((20, 30, 3), np.uint8), c=1, t=2)
        bw.name = "grown"
        bw.ps_x, bw.ps_y = (0.25, "µm"), (0.5, "µm")
        bw.channel_names = ["one", "two", "three"]
        bw.metadata.images[0].description = "made of tiles"
        assert bw.chunks == (512, 512, 1, 3, 1)
        assert bw.shape == (20, 30, 2, 6, 3)
    with BioReader(path) as br:
        assert br.sizes == {"Y": 20, "X": 30, "Z": 2, "C": 9, "T": 3}
        assert (br.name, br.pixel_size("µm")["X"]) == ("grown", 0.25)
        assert br.metadata.images[0].description == "made of tiles"
        assert br[:, :, 0, 3:6, 2].all()
        assert br[:].sum() == 20 * 30 * 3
    with BioReader(tmp_path / "a.ome.zarr") as br, pytest.raises(BadArgument, match="add grow"):
        BioWriter(tmp_path / "b.ome.zarr", metadata=br.metadata, crop=(0, 0, 1, 1))


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_named_axes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    axes = {"stain": ["H", "E"], "dose": ([0.1, 1, 10], "mg"), "round": None}
    with BioWriter(path, grow=True, axes=axes) as bw:
        for number, place in enumerate(np.ndindex(2, 3, 2, 2, 2)):
            stain, dose, turn, c, t = place
            bw.add_tile(
                np.full((5, 4), number + 1, np.uint8), c=c, t=t, stain="HE"[stain], dose=dose,
                round=turn,
            )  # fmt: skip
        with pytest.raises(BadArgument, match="no axis 'tint'"):
            bw.add_tile(np.ones((5, 4), np.uint8), tint=1)
        with pytest.raises(BadArgument, match="its values are"):
            bw.add_tile(np.ones((5, 4), np.uint8), stain="D")
        with pytest.raises(BadArgument, match="from 0 to 2"):
            bw.add_tile(np.ones((5, 4), np.uint8), dose=3)
    with BioReader(path) as br:
        found = br.to_xarray(unfold=True)
        assert br.modulo["Z"].labels == ("0.1", "1", "10")
        assert br.modulo["Z"].unit == "mg"
    assert dict(found.sizes) == {
        "t": 2, "stain": 2, "c": 2, "round": 2, "z": 1, "dose": 3, "y": 5, "x": 4
    }  # fmt: skip
    assert list(found["stain"].values) == ["H", "E"]
    for number, place in enumerate(np.ndindex(2, 3, 2, 2, 2)):
        at = dict(zip(("stain", "dose", "round", "c", "t"), place, strict=True))
        assert (found.isel(at).values == number + 1).all()


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"x": 2}, "cannot be the name"), ({"a": "HE"}, "give a list"), ([1], "give a dictionary"),
        ({"a": ["b", 2]}, "give a list"), ({"a": ["b", "b"]}, "twice"),
        ({"a": 1, "b": 1, "c2": 1, "d": 1}, "has 4 axes"),
    ],
)  # fmt: skip
def test_bad_axes(tmp_path: Path, axes: Any, message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        BioWriter(tmp_path / "a.ome.zarr", grow=True, axes=axes)
    assert not os.listdir(tmp_path)


def test_messages(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, grow=True) as bw:
        bw.add_tile(np.ones((10, 10, 3), np.uint8))
        with pytest.raises(BadArgument, match="1 sample"):
            bw.add_tile(np.ones((10, 10), np.uint8))
        with pytest.raises(BadArgument, match=r"a tile has the shape \(Y, X\)"):
            bw.add_tile(np.ones(10, np.uint8))
        with pytest.raises(BadArgument, match="mask has the shape"):
            bw.add_tile(np.ones((10, 10, 3), np.uint8), mask=np.ones((3, 3), bool))
        with pytest.raises(BadArgument, match="z=-1"):
            bw.add_tile(np.ones((10, 10, 3), np.uint8), z=-1)
        with pytest.raises(BadArgument, match="add_tile"):
            bw[:] = np.ones((10, 10, 3), np.uint8)
        with pytest.raises(BadArgument, match="height and width"):
            bw.crop = (0, 0, 0, 5)
    with pytest.raises(Closed):
        bw.add_tile(np.ones((10, 10, 3), np.uint8))
    with BioWriter(tmp_path / "b.ome.zarr", X=4, Y=4) as other:
        other[:] = np.ones((4, 4), np.uint8)
        with pytest.raises(BadArgument, match="grow=True"):
            other.add_tile(np.ones((4, 4), np.uint8))
    with pytest.raises(IncompleteImage, match="no tile"), BioWriter(tmp_path / "c.tif", grow=True):
        pass
    with (
        pytest.raises(IncompleteImage, match="crop="),
        BioWriter(tmp_path / "c.tif", grow=True, crop=(50, 50, 5, 5)) as bw,
    ):
        bw.add_tile(np.ones((10, 10), np.uint8))
    bw = BioWriter(tmp_path / "c.tif", grow=True)
    bw.add_tile(np.ones((10, 10), np.uint8), y=2)
    with pytest.raises(IncompleteImage, match="20 pixels"):
        bw.close(require_complete=True)
    assert sorted(os.listdir(tmp_path)) == ["a.ome.zarr", "b.ome.zarr"]


def test_lazy_tiles(tmp_path: Path) -> None:
    dask = pytest.importorskip("dask.array")
    xarray = pytest.importorskip("xarray")
    tile = np.arange(60 * 40 * 3, dtype=np.uint16).reshape(60, 40, 3)
    with BioWriter(tmp_path / "a.ome.tif", grow=True) as bw:
        bw.add_tile(dask.from_array(tile, chunks=(17, 40, 3)))
        bw.add_tile(xarray.DataArray(tile.transpose(2, 0, 1), dims=("s", "y", "x")), x=40)
    with BioReader(tmp_path / "a.ome.tif") as br:
        np.testing.assert_array_equal(br[:][:, :, 0], np.tile(tile, (1, 2, 1)))


def test_errors_of_the_plan_come_first(tmp_path: Path) -> None:
    for options in ({"pyramid": [3]}, {"pyramid": "x"}, {"chunks": 50, "pyramid": [4]}):
        with pytest.raises(BadArgument, match="pyramid"):
            BioWriter(tmp_path / "a.ome.zarr", grow=True, **options)
    with pytest.raises(BadArgument, match="Pass the BioWriter"):
        BioWriter.create(tmp_path / "a.ome.zarr", grow=True)
    with pytest.raises(BadArgument, match="leave image="):
        BioWriter(tmp_path / "a.ome.zarr", grow=True, append=True)
    assert not os.listdir(tmp_path)
    with BioWriter(tmp_path / "a.ome.zarr", grow=True, fill_value=300) as bw:
        with pytest.raises(BadDtype, match="300"):
            bw.add_tile(np.ones((3, 3), np.uint8))
        bw.add_tile(np.ones((3, 3), np.uint16), x=2)
    with BioReader(tmp_path / "a.ome.zarr") as br:
        assert br[0].tolist() == [[300, 300, 1, 1, 1]]
    bw = BioWriter(tmp_path / "b.ome.zarr", grow=True)
    pickle.dumps(bw)
    bw.abort()
    assert "b.ome.zarr" in repr(bw)
    assert os.listdir(tmp_path) == ["a.ome.zarr"]


def test_from_threads(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.ome.zarr", np.random.default_rng(1)
    want = rng.integers(0, 60000, (700, 900), np.uint16)
    tiles = [(y, x) for y in range(0, 700, 70) for x in range(0, 900, 90)]
    with BioWriter(path, 2, grow=True, chunks=64, memory=1 << 16) as bw:

        def add(place: tuple[int, int]) -> None:
            y, x = place
            bw.add_tile(want[y : y + 70, x : x + 90], y=y - 333, x=x - 128)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, rng.permutation(tiles).tolist()))
        assert bw.shape == (700, 900)
    with BioReader(path) as br:
        np.testing.assert_array_equal(br[:], want)


def _add_rows(job: tuple[Any, int]) -> int:
    part, number = job
    with part:
        for y in range(number, 40, 4):
            part.add_tile(np.full((10, 300), y + 1, np.uint8 if y < 20 else np.uint16), y=10 * y)
    return os.getpid()


def test_from_processes(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, grow=True, pyramid=1) as bw:
        bw.add_tile(np.full((400, 20), 99, np.uint8), x=290)
        # A copy of a copy, as some schedulers send it.
        part = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(bw))))
        with multiprocessing.get_context("fork").Pool(4) as pool:
            assert len(set(pool.map(_add_rows, [(part, n) for n in range(4)], chunksize=1))) > 1
        bw.add_tile(np.full((1, 310), 7, np.uint8), y=3)
    with BioReader(path) as br:
        assert br.dtype == np.uint16
        want = np.repeat(np.arange(1, 41), 10)[:, None] * np.ones(310, int)
        want[:, 300:] = 99
        want[3] = 7
        np.testing.assert_array_equal(br[:], want)
    with pytest.raises(Closed, match="closed"):
        part.add_tile(np.ones((3, 3), np.uint8))


def _add_masked(job: tuple[Any, int]) -> None:
    part, number = job
    mask = np.zeros((40, 30), bool)
    mask[number::3] = True
    with part:
        for stain in ("H", "E"):
            dtype = np.uint8 if stain == "H" else np.int16
            tile = np.full((40, 30), number + (5 if stain == "H" else -5), dtype)
            part.add_tile(tile, x=-20, c=number % 2, mask=mask, stain=stain, dose=2)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_masks_axes_and_dtypes_from_processes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    axes = {"stain": ["H", "E"], "dose": ([0.1, 1, 10], "mg")}
    options = {"chunks": 16} if suffix == ".ome.zarr" else {}
    with BioWriter(path, grow=True, axes=axes, **options) as bw:
        bw.add_tile(np.full((1, 1), 3, np.uint8), y=39, x=19)
        with multiprocessing.get_context("fork").Pool(3) as pool:
            pool.map(_add_masked, [(bw, n) for n in range(3)], chunksize=1)
    want = np.zeros((2, 2, 3, 40, 40), int)  # stain, c, dose, y, x
    for number in range(3):
        for place, offset in enumerate((5, -5)):
            want[place, number % 2, 2, number::3, :30] = number + offset
    want[0, 0, 0, 39, 39] = 3
    with BioReader(path) as br:
        assert br.dtype == np.int16
        assert (br.modulo["Z"].unit, br.modulo["Z"].labels) == ("mg", ("0.1", "1", "10"))
        assert br.modulo["T"].labels == ("H", "E")
        found = br.to_xarray(unfold=True)
        for place in np.ndindex(2, 2, 3):
            at = dict(zip(("stain", "c", "dose"), place, strict=True))
            np.testing.assert_array_equal(found.isel(at).squeeze(), want[place])


def test_killed_processes_leave_whole_chunks(tmp_path: Path) -> None:
    from bfbridge.files.growing import chunk_files

    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, grow=True, chunks=64) as bw:
        bw.add_tile(np.full((64, 64), 5, np.uint8))
        part = pickle.dumps(bw)
        for step in ("open", "replace"):
            child = os.fork()
            if not child:
                # The lock is held, and the new file is empty or complete.
                real = getattr(Path, step)

                def killed(self: Path, *args: Any, real: Any = real, **kwargs: Any) -> Any:
                    if self.name.startswith("new-"):
                        os._exit(9)
                    return real(self, *args, **kwargs)

                setattr(chunk_files.Path, step, killed)
                pickle.loads(part).add_tile(np.full((64, 32), 9, np.uint8), x=32)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        bw.add_tile(np.full((32, 64), 7, np.uint8), y=32)
    with BioReader(path) as br:
        found = br[:]
    assert (found[:32] == 5).all()
    assert (found[32:] == 7).all()
    assert os.listdir(tmp_path) == [path.name]


def test_forked_copies_are_refused(tmp_path: Path) -> None:
    with BioWriter(tmp_path / "a.ome.zarr", grow=True) as bw:
        bw.add_tile(np.ones((3, 3), np.uint8))
        child = os.fork()
        if not child:
            try:
                bw.add_tile(np.ones((3, 3), np.uint8), x=9)
            except WriteFailed:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.slow(ci=True)
def test_killed_writers_leave_the_old_image(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    with BioWriter(path, grow=True) as bw:
        bw.add_tile(np.full((9, 9), 5, np.uint8))
    code = (
        "import os, sys, numpy as np\nfrom bfbridge import BioWriter\n"
        "bw = BioWriter(sys.argv[1], grow=True, overwrite=True, memory=1)\n"
        "for x in range(9): bw.add_tile(np.ones((100, 100), np.uint8), x=50 * x)\n"
        "os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode == 9
    with BioReader(path) as br:
        assert (br[:] == 5).all()
    assert len(os.listdir(tmp_path)) == 2
    with BioWriter(path, grow=True, overwrite=True) as bw:
        bw.add_tile(np.full((3, 9), 6, np.uint8))
    assert os.listdir(tmp_path) == [path.name]


def test_failed_writes_finish_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bfbridge.files.growing.chunk_files import ChunkFiles

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    bw = BioWriter(tmp_path / "a.ome.zarr", grow=True)
    with monkeypatch.context() as patched:
        patched.setattr(ChunkFiles, "write", full)
        bw.add_tile(np.ones((64, 64), np.uint8))
        with pytest.raises(WriteFailed, match="No space"):
            bw.close()
    with pytest.raises((WriteFailed, Closed)):
        bw.add_tile(np.ones((64, 64), np.uint8))
    bw.abort()
    assert not os.listdir(tmp_path)


@pytest.mark.slow
def test_memory_is_bounded(tmp_path: Path) -> None:
    code = (
        "import resource, sys, numpy as np\nfrom bfbridge import BioWriter\n"
        "rng = np.random.default_rng(0)\n"
        "tile = rng.integers(0, 255, (512, 512, 3), np.uint8)\n"
        "with BioWriter(sys.argv[1], grow=True, pyramid=True) as bw:\n"
        "    bw.add_tile(tile, y=99488, x=99488)\n"
        "    for y, x in rng.integers(0, 99488, (400, 2)): bw.add_tile(tile, y=int(y), x=int(x))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.ome.zarr"], check=True, capture_output=True
    )
    assert int(found.stdout) < 500_000  # KiB
    with BioReader(tmp_path / "a.ome.zarr") as br:
        assert br.shape[:2] == (100_000, 100_000)
