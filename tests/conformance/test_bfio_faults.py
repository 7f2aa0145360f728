"""The 21 faults seen in bfio 2.5.0: programs written for it must not meet them here."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from ome_types import OME, from_xml
from ome_types.model import Pixels

from bfbridge import BioReader, BioWriter
from bfbridge.engine import workers
from bfbridge.errors import (
    BadArgument,
    BadDtype,
    BadSelection,
    BfbridgeError,
    FileMissing,
    ReadOnlyProperty,
)
from tests.support.engine import face, smaller
from tests.support.memory import distinct

Array = np.ndarray[Any, Any]
SHAPE = (45, 70, 4, 3, 2)
ARRAY = face(distinct((2, 3, 4, 45, 70)))
SUFFIXES = {"ometiff": ".ome.tif", "omezarr": ".ome.zarr", "bioformats": ".ome.tif"}
SMALL: dict[str, dict[str, Any]] = {
    "ometiff": {"tile": 16}, "omezarr": {"chunks": 16}, "bioformats": {}
}  # fmt: skip

writers = pytest.mark.parametrize("backend", ["ometiff", "omezarr", "bioformats"])
natives = pytest.mark.parametrize("backend", ["ometiff", "omezarr"])


def write(path: Path, array: Array, **options: Any) -> Path:
    """Write Y, X, Z, C, T whole."""
    with BioWriter(path, **options) as bw:
        bw.shape, bw.dtype = array.shape, array.dtype
        bw[...] = array
    return path


def tifffile_tiff(path: Path, stored: Array, **options: Any) -> Path:
    """Write T, C, Z, Y, X by tifffile."""
    file = {key: options.pop(key) for key in ("byteorder", "bigtiff") if key in options}
    options.setdefault("tile", (16, 32))
    with tifffile.TiffWriter(path, ome=True, **file) as writer:
        writer.write(stored, metadata={"axes": "TCZYX"}, photometric="minisblack", **options)
    return path


def read(path: Path, **options: Any) -> Array:
    """Read Y, X, Z, C, T whole."""
    with BioReader(path, **options) as br:
        return br.read(keepdims=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("faults")
    made = {
        backend: write(folder / f"a{SUFFIXES[backend]}", ARRAY, pyramid=2, **SMALL[backend])
        for backend in ("ometiff", "omezarr")
    }
    return {**made, "bioformats": made["ometiff"]}


@pytest.fixture(params=["ometiff", "omezarr", "bioformats"])
def reader(request: pytest.FixtureRequest, files: dict[str, Path]) -> Iterator[BioReader]:
    """The same image, through each backend."""
    with BioReader(files[request.param], backend=request.param) as br:
        yield br


def python(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own."""
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def paths(files: dict[str, Path]) -> str:
    """The files as pairs, for a program."""
    return repr([(name, str(path)) for name, path in files.items()])


# ---- 1


@pytest.mark.java
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr", ".png", "", ".ome"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_01_an_existing_folder_is_not_deleted(tmp_path: Path, suffix: str, overwrite: bool) -> None:
    folder = tmp_path / f"data{suffix}"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "notes.txt").write_text("kept")
    with pytest.raises(BfbridgeError):
        write(folder, ARRAY, overwrite=overwrite)
    assert (folder / "deep" / "notes.txt").read_text() == "kept"
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


# ---- 2


@writers
def test_02_regions_off_the_grid_with_several_workers_are_whole(
    tmp_path: Path, backend: str
) -> None:
    path = tmp_path / f"a{SUFFIXES[backend]}"
    with BioWriter(path, backend=backend, max_workers=4, **SMALL[backend]) as bw:
        bw.shape, bw.dtype = SHAPE, "uint16"
        for y in range(0, 45, 13):
            for x in range(0, 70, 19):
                bw[y : y + 13, x : x + 19] = ARRAY[y : y + 13, x : x + 19]
    np.testing.assert_array_equal(read(path), ARRAY)


@natives
def test_02_a_corrupt_chunk_is_an_error_not_zeros(tmp_path: Path, backend: str) -> None:
    path = write(tmp_path / f"a{SUFFIXES[backend]}", ARRAY, compression="zstd", **SMALL[backend])
    if backend == "omezarr":
        chunks = [p for p in path.rglob("*") if p.is_file() and p.name.isdigit()]
        victim = max(chunks, key=lambda p: p.stat().st_size)
        victim.write_bytes(b"\x55" * victim.stat().st_size)
    else:
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[0]
            offset, length = page.dataoffsets[3], page.databytecounts[3]
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\x55" * length)
    with BioReader(path) as br, pytest.raises(BfbridgeError) as caught:
        br[...]
    assert isinstance(caught.value, OSError)
    assert path.name in str(caught.value)


# ---- 3


@pytest.mark.java
@writers
def test_03_planes_land_at_their_own_index(tmp_path: Path, backend: str) -> None:
    path = tmp_path / f"a{SUFFIXES[backend]}"
    with BioWriter(path, backend=backend) as bw:
        bw.shape, bw.dtype = SHAPE, "uint16"
        for t in reversed(range(2)):
            for c in (1, 0, 2):
                for z in range(4):
                    bw[:, :, z, c, t] = ARRAY[:, :, z, c, t]
    np.testing.assert_array_equal(read(path), ARRAY)
    np.testing.assert_array_equal(read(path, backend=backend), ARRAY)
    if backend == "ometiff":
        np.testing.assert_array_equal(read(path, backend="bioformats"), ARRAY)


# ---- 4


@pytest.mark.java
@writers
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("declared", [None, False, True])
def test_04_byte_order_is_never_swapped(
    tmp_path: Path, backend: str, order: str, declared: bool | None
) -> None:
    planned = BioWriter(tmp_path / f"m{SUFFIXES[backend]}", backend=backend)
    planned.shape, planned.dtype = SHAPE, "uint16"
    metadata = planned.metadata
    planned.abort()
    metadata.images[0].pixels.big_endian = declared
    path = tmp_path / f"a{SUFFIXES[backend]}"
    array = ARRAY.astype(np.dtype("u2").newbyteorder(order))
    with BioWriter(path, backend=backend, metadata=metadata) as bw:
        assert bw.dtype == np.dtype("u2")
        bw[:] = array
    for name in ("ometiff", "bioformats") if backend != "omezarr" else (backend,):
        got = read(path, backend=name)
        assert got.dtype == np.dtype("=u2")
        np.testing.assert_array_equal(got, ARRAY)


@pytest.mark.parametrize("backend", ["ometiff", "bioformats"])
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_04_big_endian_files_read_right(tmp_path: Path, backend: str, dtype: str) -> None:
    stored = distinct((2, 3, 4, 45, 70), dtype)
    path = tifffile_tiff(tmp_path / "a.ome.tif", stored, byteorder=">")
    got = read(path, backend=backend)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, face(stored))


# ---- 5


def test_05_every_plane_of_lower_levels_is_right(reader: BioReader) -> None:
    level = ARRAY.transpose(4, 3, 2, 0, 1)
    for number in range(3):
        with BioReader(reader.source_name, backend=reader.backend, level=number) as br:
            assert br.shape == face(level).shape
            for place in [(z, c, t) for z in range(4) for c in range(3) for t in range(2)]:
                np.testing.assert_array_equal(br[(..., *place)], face(level)[(..., *place)])
        level = smaller(level, 2, "mean")


# ---- 6


def test_06_channel_lists_and_axes_are_not_permuted(reader: BioReader) -> None:
    np.testing.assert_array_equal(reader.read(C=[0, 2]), ARRAY[:, :, :, [0, 2]])
    np.testing.assert_array_equal(
        reader.read(C=[2, 0], T=[1])[..., 0], ARRAY[:, :, :, [2, 0], 1][..., 0]
    )
    np.testing.assert_array_equal(reader[:, :, 1, [0, 2], 0], ARRAY[:, :, 1:2, [0, 2], 0])


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("alias", ["zarr", "zarr3", "tensorstore", "ZARR", "Tensorstore"])
@pytest.mark.parametrize("axes", ["yx", "cyx", "zyx", "tyx", "tczyx", "tzyx", "czyx"])
def test_06_axes_of_other_writers(tmp_path: Path, alias: str, axes: str) -> None:
    lengths = {"t": 2, "c": 3, "z": 4, "y": 45, "x": 70}
    pixels = distinct([lengths[axis] for axis in axes])
    kinds = {"t": "time", "c": "channel"}
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=pixels, chunks=tuple(min(16, n) for n in pixels.shape))
    scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [{"name": a, "type": kinds.get(a, "space")} for a in axes],
            "datasets": [{"path": "0", "coordinateTransformations": scale}],
        }
    ]
    whole = pixels.reshape([lengths[a] if a in axes else 1 for a in "tczyx"])
    with BioReader(tmp_path / "a.zarr", backend=alias) as br:
        assert br._backend_name == "zarr"
        np.testing.assert_array_equal(br.read(keepdims=True), face(whole))


# ---- 7


@pytest.mark.timeout(60)
def test_07_the_tile_iterator_ends_and_readers_share_nothing(files: dict[str, Path]) -> None:
    def walk(br: BioReader) -> Iterator[tuple[Array, Any]]:
        return iter(br([16, 32], batch_size=3, channels=[0, 2]))

    with BioReader(files["ometiff"]) as one, BioReader(files["omezarr"], max_workers=2) as two:
        seen = np.zeros((45, 70, 2), np.uint16)
        pairs = list(zip(walk(one), walk(two), strict=True))
        for (tiles_, index), (others, other_index) in pairs:
            assert index == other_index
            np.testing.assert_array_equal(tiles_, others)
            assert tiles_.shape[1:] == (16, 32, 2)
            for tile, (x0, x1), (y0, y1) in zip(tiles_, index[0], index[1], strict=True):
                part = seen[y0:y1, x0:x1]
                part[...] = tile[: part.shape[0], : part.shape[1]]
                assert not tile[part.shape[0] :].any()  # padding
                assert not tile[:, part.shape[1] :].any()
        np.testing.assert_array_equal(seen, ARRAY[:, :, 0, [0, 2], 0])
        assert sum(len(tiles_) for (tiles_, _), _ in pairs) == 3 * 3
        for _ in range(3):  # left in the middle, again and again
            next(walk(one))
        assert len(list(walk(one))) == len(pairs)


@pytest.mark.timeout(60)
def test_07_tiles_cover_every_plane_once(reader: BioReader) -> None:
    got = np.zeros(SHAPE, np.uint16)
    count = 0
    for tile in reader.tiles((16, 32)):
        got[tile.key] += tile.pixels.reshape(got[tile.key].shape)
        count += 1
    assert count == 3 * 3 * 4 * 3 * 2
    np.testing.assert_array_equal(got, ARRAY)


# ---- 8


@writers
def test_08_image_gives_sizes_and_dtype(tmp_path: Path, backend: str) -> None:
    path = tmp_path / f"a{SUFFIXES[backend]}"
    with BioWriter(path, backend=backend, image=ARRAY) as bw:
        assert (bw.Y, bw.X, bw.Z, bw.C, bw.T) == SHAPE
        assert bw.dtype == np.uint16
        bw[:] = ARRAY
    np.testing.assert_array_equal(read(path), ARRAY)


@writers
def test_08_lists_on_channels_and_times(tmp_path: Path, backend: str) -> None:
    path = tmp_path / f"a{SUFFIXES[backend]}"
    with BioWriter(path, backend=backend) as bw:
        bw.shape, bw.dtype = SHAPE, "uint16"
        bw[:, :, :, [2, 0], [1]] = ARRAY[:, :, :, [2, 0], 1:]
        bw[:, :, :, [1, 2, 0], 0] = ARRAY[:, :, :, [1, 2, 0], 0]
        bw.write(ARRAY[:, :, :, 1:2, 1:], C=[1], T=[1])
    with BioReader(path) as br:
        np.testing.assert_array_equal(br[...], ARRAY)
        np.testing.assert_array_equal(br[..., [0, 2], [1, 0]], ARRAY[..., [0, 2], :][..., [1, 0]])


# ---- 9


def test_09_negative_indices_count_from_the_end(reader: BioReader) -> None:
    np.testing.assert_array_equal(reader[:-1], ARRAY[:-1])
    np.testing.assert_array_equal(reader[-1], ARRAY[-1:])
    np.testing.assert_array_equal(reader[-5:, :, -2, -1, -2], ARRAY[-5:, :, -2, -1, -2])


def test_09_positions_outside_are_errors(reader: BioReader) -> None:
    for key in [np.s_[..., [0, 3], 0], np.s_[..., 3, 0], np.s_[..., 2], np.s_[45], np.s_[-46]]:
        with pytest.raises(IndexError, match="outside the image"):
            reader[key]
    for ranges in ({"C": [0, 3]}, {"T": 2}, {"X": (0, 71)}, {"Z": [4]}):
        with pytest.raises(BadSelection):
            reader.read(**ranges)  # type: ignore[arg-type]


# ---- 10


@writers
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", np.full((45, 70), 300, np.uint16)),
        ("uint8", 300),
        ("uint8", -1),
        ("uint16", np.full((45, 70), 1.5)),
        ("uint16", 1.5),
        ("uint16", float("nan")),
        ("int16", np.full((45, 70), 40000, np.uint16)),
        ("uint16", np.full((45, 70), -1, np.int16)),
        ("float32", np.full((45, 70), 1e300)),
        ("float32", 1e300),
        ("float32", np.full((45, 70), 1j)),
        ("uint8", np.full((45, 70), "a")),
        ("uint8", None),
    ],
)
def test_10_values_that_do_not_fit_are_refused(
    tmp_path: Path, backend: str, dtype: str, value: Any
) -> None:
    path = tmp_path / f"a{SUFFIXES[backend]}"
    bw = BioWriter(path, backend=backend, X=70, Y=45, dtype=dtype)
    with pytest.raises(BadDtype, match=f"cannot be .* an image of {dtype}") as caught:
        bw[:] = value
    assert isinstance(caught.value, TypeError)
    bw[:] = 7  # what was refused has harmed nothing
    bw.close()
    np.testing.assert_array_equal(read(path)[..., 0, 0, 0], np.full((45, 70), 7, dtype))


@writers
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("uint8", np.full((45, 70), 200, np.uint16)),
        ("uint8", np.int64(200)),
        ("uint8", np.ones((45, 70), bool)),
        ("uint8", 200.0),
        ("int16", np.full((45, 70), 200, np.uint16)),
        ("float32", np.full((45, 70), 3, np.int64)),
        ("float32", np.full((45, 70), np.inf)),
        ("float64", np.full((45, 70), 3, np.float32)),
    ],
)
def test_10_values_that_fit_are_taken(tmp_path: Path, backend: str, dtype: str, value: Any) -> None:
    path = write_value(tmp_path / f"a{SUFFIXES[backend]}", backend, dtype, value)
    wanted = np.broadcast_to(np.asarray(value), (45, 70)).astype(dtype)
    np.testing.assert_array_equal(read(path)[..., 0, 0, 0], wanted)


def write_value(path: Path, backend: str, dtype: str, value: Any) -> Path:
    with BioWriter(path, backend=backend, X=70, Y=45, dtype=dtype) as bw:
        bw[:] = value
    return path


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_10_long_integers_are_held_or_refused(tmp_path: Path, dtype: str) -> None:
    array = np.full((20, 30), np.iinfo(dtype).max - 1, dtype)
    array[3, 5] = np.iinfo(dtype).min
    zarr_path = write(tmp_path / "a.ome.zarr", array)
    got = read(zarr_path)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got[:, :, 0, 0, 0], array)
    with pytest.raises(BfbridgeError, match=dtype):
        write(tmp_path / "a.ome.tif", array)
    assert not (tmp_path / "a.ome.tif").exists()


# ---- 11


@writers
@pytest.mark.parametrize("step", [512, 500, 1000, 1024])
def test_11_writes_of_any_tile_size(tmp_path: Path, backend: str, step: int) -> None:
    array = np.random.default_rng(step).integers(0, 60000, (1300, 1100), np.uint16)
    path = tmp_path / f"a{SUFFIXES[backend]}"
    with BioWriter(path, backend=backend, X=1100, Y=1300, dtype=np.uint16) as bw:
        for y in range(0, 1300, step):
            for x in range(0, 1100, step):
                bw[y : y + step, x : x + step] = array[y : y + step, x : x + step]
    with BioReader(path) as br:
        if backend != "bioformats":  # which is used by name only, and writes strips
            assert br.chunks[:2] == (1024, 1024)
        np.testing.assert_array_equal(br[:], array)


# ---- 12


@writers
def test_12_an_unfinished_file_is_not_there(tmp_path: Path, backend: str) -> None:
    path = tmp_path / f"a{SUFFIXES[backend]}"
    bw = BioWriter(path, backend=backend, **SMALL[backend])
    bw.shape, bw.dtype = SHAPE, "uint16"
    bw[:20] = ARRAY[:20]
    assert not path.exists()
    with pytest.raises(FileMissing):
        BioReader(path)
    partial = next(tmp_path.iterdir())
    for place in (partial, *partial.iterdir()):
        with pytest.raises(BfbridgeError):
            BioReader(place)
    bw.close()
    np.testing.assert_array_equal(read(path)[:20], ARRAY[:20])
    assert not read(path)[20:].any()


@writers
def test_12_an_exception_leaves_what_stood_there(tmp_path: Path, backend: str) -> None:
    path = write(tmp_path / f"a{SUFFIXES[backend]}", ARRAY, backend=backend)

    def spoil() -> None:
        with BioWriter(path, backend=backend, overwrite=True) as bw:
            bw.shape, bw.dtype = (45, 70), "uint8"
            bw[:20] = 5
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        spoil()
    np.testing.assert_array_equal(read(path), ARRAY)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


# ---- 13


@pytest.mark.parametrize("backend", ["ometiff", "bioformats"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "lzw", "byteorder": ">"},
        {"compression": "zlib", "predictor": True},
        {"bigtiff": True},
        {"tile": (64, 48)},
        {"tile": (2048, 2048)},
        {"tile": None, "rowsperstrip": 7},
    ],
    ids=str,
)
def test_13_ordinary_tiled_tiffs_are_read(
    tmp_path: Path, backend: str, options: dict[str, Any]
) -> None:
    stored = distinct((2, 3, 4, 45, 70))
    path = tifffile_tiff(tmp_path / "a.ome.tif", stored, **options)
    with BioReader(path) as br:
        assert br.backend == "ometiff", br.backend_reason
    np.testing.assert_array_equal(read(path, backend=backend), face(stored))


@pytest.mark.parametrize("backend", ["ometiff", "bioformats"])
@pytest.mark.parametrize("axes", ["TCZYX", "TZCYX", "CTZYX", "ZTCYX", "CZTYX", "ZCTYX"])
def test_13_every_dimension_order_is_read(tmp_path: Path, backend: str, axes: str) -> None:
    lengths = {"T": 2, "C": 3, "Z": 4, "Y": 45, "X": 70}
    pixels = distinct([lengths[axis] for axis in axes])
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels, ome=True, tile=(16, 32), metadata={"axes": axes})
    wanted = pixels.transpose([axes.index(axis) for axis in "YXZCT"])
    np.testing.assert_array_equal(read(path, backend=backend), wanted)


@pytest.mark.parametrize("backend", ["ometiff", "bioformats"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_13_rgb_is_read(tmp_path: Path, backend: str, planar: str) -> None:
    pixels = distinct((4, 45, 70, 3), np.uint8)
    path = tmp_path / "a.ome.tif"
    stored = pixels if planar == "contig" else np.moveaxis(pixels, -1, 1)
    tifffile.imwrite(
        path, stored, ome=True, tile=(16, 32), photometric="rgb", planarconfig=planar,
        metadata={"axes": "ZYXS" if planar == "contig" else "ZSYX"},
    )  # fmt: skip
    with BioReader(path, backend=backend) as br:
        assert (br.C, br.samples_per_pixel) == (3, 3)
        np.testing.assert_array_equal(br[:], pixels.transpose(1, 2, 0, 3))


# ---- 14


@pytest.mark.java
@pytest.mark.parametrize("suffix", [".xyz", ".zip", "", ".czi", ".lif", ".txt"])
def test_14_a_suffix_nobody_writes_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(BadArgument, match=r"\.ome\.tif.*\.zarr") as caught:
        write(tmp_path / f"a{suffix}", ARRAY)
    assert f"a{suffix}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.java
@pytest.mark.parametrize(
    ("suffix", "place", "magic"),
    [
        (".png", 0, b"\x89PNG"),
        (".ics", 0, b"\t\nic"),
        (".dcm", 128, b"DICM"),
        (".avi", 0, b"RIFF"),
        (".tif", 0, b"II*\0"),
        (".jp2", 4, b"jP  "),
        (".ome", 0, b"<?xm"),
    ],
)
def test_14_a_file_holds_the_format_of_its_suffix(
    tmp_path: Path, suffix: str, place: int, magic: bytes
) -> None:
    path = tmp_path / f"a{suffix}"
    pixels = distinct((45, 70), np.uint8)
    write(path, pixels)
    assert path.read_bytes()[place : place + 4] == magic
    with BioReader(path) as br:
        native = {".tif": "ometiff", ".png": "pictures", ".jp2": "pictures"}
        assert br.backend == native.get(suffix, "bioformats")
        np.testing.assert_array_equal(br[:], pixels)


# ---- 15


@pytest.mark.parametrize("backend", ["ometiff", "omezarr", "bioformats"])
def test_15_every_image_of_a_file_is_there(tmp_path: Path, backend: str) -> None:
    arrays = [ARRAY, face(distinct((1, 1, 2, 20, 33), np.uint8)), face(distinct((3, 2, 1, 9, 8)))]
    folder = tmp_path / "several"
    folder.mkdir()
    path = folder / f"a{SUFFIXES[backend]}"
    ome = OME(images=[image_like(array, f"scene {i}") for i, array in enumerate(arrays)])
    with BioWriter(path, metadata=ome, series="all") as bw:
        for view, array in zip(bw.series, arrays, strict=True):
            view[...] = array
    with BioReader(path, backend=backend) as br:
        assert len(br.series) == 3
        for view, array in zip(br.series, arrays, strict=True):
            np.testing.assert_array_equal(view.read(keepdims=True), array)
    for number, array in enumerate(arrays):
        np.testing.assert_array_equal(read(path, backend=backend, series=number), array)
    np.testing.assert_array_equal(read(path, backend=backend, series="scene 2"), arrays[2])


def image_like(array: Array, name: str) -> Any:
    from ome_types.model import Image

    y, x, z, c, t = array.shape
    return Image(
        name=name,
        pixels=Pixels(
            dimension_order="XYZCT", type=array.dtype.name,
            size_x=x, size_y=y, size_z=z, size_c=c, size_t=t,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("backend", [None, "ometiff", "bioformats"])
@pytest.mark.parametrize("companion", [False, True])
def test_15_sets_of_several_files_are_joined(
    tmp_path: Path, backend: str | None, companion: bool
) -> None:
    pixels = distinct((3, 45, 70))
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{i}" for i in range(3)]
    blocks = "".join(
        f'<TiffData FirstC="{i}" FirstZ="0" FirstT="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="c{i}.ome.tif">{uuid}</UUID></TiffData>'
        for i, uuid in enumerate(uuids)
    )
    channels = "".join(f'<Channel ID="Channel:0:{i}" SamplesPerPixel="1"/>' for i in range(3))

    def document(own: str) -> str:
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{own}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            'SizeX="70" SizeY="45" SizeZ="1" SizeC="3" SizeT="1" BigEndian="false">'
            f"{channels}{blocks}</Pixels></Image></OME>"
        )

    companion_uuid = "urn:uuid:00000000-0000-0000-0000-00000000000f"
    pointer = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{own}">'
        f'<BinaryOnly MetadataFile="set.companion.ome" UUID="{companion_uuid}"/></OME>'
    )
    for i, uuid in enumerate(uuids):
        text = pointer.format(own=uuid) if companion else document(uuid)
        tifffile.imwrite(
            tmp_path / f"c{i}.ome.tif", pixels[i], tile=(16, 32), description=text, metadata=None
        )
    names = [f"c{i}.ome.tif" for i in range(3)]
    if companion:
        (tmp_path / "set.companion.ome").write_text(document(companion_uuid))
        names.append("set.companion.ome")
    for name in names:
        with BioReader(tmp_path / name, backend=backend) as br:
            np.testing.assert_array_equal(br[:][:, :, 0], pixels.transpose(1, 2, 0))
            assert {Path(file).name for file in br.used_files} == set(names)


# ---- 16


def test_16_the_resolution_tag_is_the_pixel_size(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with BioWriter(path, X=70, Y=45, dtype="uint8", ps_x=(0.5, "µm"), ps_y=(250, "nm")) as bw:
        bw[:] = 1
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages[0].tags
        per_cm = [tags[name].value for name in ("XResolution", "YResolution")]
        assert tags["ResolutionUnit"].value == 3  # centimetre
    assert [a / b for a, b in per_cm] == pytest.approx([20_000, 40_000], rel=1e-6)


@pytest.mark.parametrize("backend", ["ometiff", "omezarr", "bioformats"])
def test_16_one_size_alone_and_every_unit(tmp_path: Path, backend: str) -> None:
    for unit in ("µm", "nm", "mm", "Å", "in"):
        folder = tmp_path / unit
        folder.mkdir()
        path = folder / f"a{SUFFIXES[backend]}"
        with BioWriter(path, X=70, Y=45, dtype="uint8") as bw:
            bw.ps_x = (0.325, unit)
            assert bw.ps_x == (0.325, unit)
            bw[:] = 1
        with BioReader(path, backend=backend) as br:
            assert br.ps_x[0] == pytest.approx(0.325)
            assert br.ps_x[1] == br.physical_size_x[1] == unit
            assert br.ps_z == (None, "µm")
            if backend != "omezarr":  # where a scale along y is required
                assert br.ps_y == (None, "µm")


# ---- 17


@pytest.mark.parametrize("alias", ["zarr", "tensorstore"])
def test_17_the_first_dataset_is_full_size(tmp_path: Path, alias: str) -> None:
    full, half = distinct((1, 3, 4, 46, 70)), distinct((1, 3, 4, 23, 35))
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("zz", data=full, chunks=(1, 1, 1, 16, 16))
    group.create_array("aa", data=half, chunks=(1, 1, 1, 16, 16))
    group.create_array("a", data=distinct((1, 1, 1, 5, 5)))
    axes = [{"name": a, "type": {"t": "time", "c": "channel"}.get(a, "space")} for a in "tczyx"]
    datasets = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1, s, s]}]}
        for path, s in (("zz", 1.0), ("aa", 2.0))
    ]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    with BioReader(tmp_path / "a.zarr", backend=alias) as br:
        np.testing.assert_array_equal(br.read(keepdims=True), face(full))
        np.testing.assert_array_equal(br.levels[1].read(keepdims=True), face(half))


# ---- 18


@writers
def test_18_properties_are_fixed_by_the_first_write(tmp_path: Path, backend: str) -> None:
    with BioWriter(
        tmp_path / f"a{SUFFIXES[backend]}", backend=backend, X=70, Y=45, dtype="uint8"
    ) as bw:
        assert not bw.read_only
        bw[0, 0] = 1
        assert bw.read_only
        for name, value in {
            "X": 5, "y": 5, "Z": 2, "C": 2, "t": 2, "shape": (5, 5), "dtype": "uint16",
            "channel_names": ["a"], "cnames": ["a"], "ps_x": (1, "µm"), "physical_size_z": 2,
            "samples_per_pixel": 3, "spp": 3, "name": "n",
        }.items():  # fmt: skip
            with pytest.raises(ReadOnlyProperty, match="first write"):
                setattr(bw, name, value)
    with BioReader(tmp_path / f"a{SUFFIXES[backend]}") as br:
        assert br.read_only
        for name, value in {
            "X": 5,
            "c": 2,
            "ps_x": (1, "µm"),
            "cnames": ["a"],
            "dtype": "u1",
        }.items():
            with pytest.raises(AttributeError):
                setattr(br, name, value)
        assert br.shape == (45, 70)


@pytest.mark.java
@writers
def test_18_one_pixel_is_an_image(tmp_path: Path, backend: str) -> None:
    path = write(
        tmp_path / f"a{SUFFIXES[backend]}", np.full((1, 1, 1, 1, 1), 9, np.uint8), backend=backend
    )
    for name in ("ometiff", "bioformats") if backend != "omezarr" else (backend,):
        with BioReader(path, backend=name) as br:
            assert br.shape == (1, 1)
            assert br[:].tolist() == [[9]]


@writers
def test_18_pixels_of_type_bit(tmp_path: Path, backend: str) -> None:
    ome = OME(images=[image_like(np.zeros((45, 70, 1, 1, 1), np.uint8), "mask")])
    ome.images[0].pixels.type = "bit"
    path = tmp_path / f"a{SUFFIXES[backend]}"
    mask = distinct((45, 70)) % 2 == 0
    with BioWriter(path, backend=backend, metadata=ome) as bw:
        assert bw.dtype == np.uint8
        bw[:] = mask
    got = read(path)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got[..., 0, 0, 0], mask)


# ---- 19


def test_19_readers_can_be_pickled(reader: BioReader) -> None:
    again = pickle.loads(pickle.dumps(reader))
    try:
        assert again.backend == reader.backend
        np.testing.assert_array_equal(again[3:30:4, ::-1, 1], ARRAY[3:30:4, ::-1, 1:2])
    finally:
        again.close()
    level = pickle.loads(pickle.dumps(reader.levels[1]))
    np.testing.assert_array_equal(level[...], reader.levels[1][...])


@pytest.mark.parametrize("backend", [None, "ometiff", "omezarr", "bioformats"])
def test_19_a_missing_file_is_a_filenotfounderror(tmp_path: Path, backend: str | None) -> None:
    for name in ("none.czi", "none.ome.tif", "none.ome.zarr"):
        with pytest.raises(FileNotFoundError, match=name):
            BioReader(tmp_path / name, backend=backend)


@pytest.mark.slow(ci=True)
def test_19_errors_of_the_caller_are_errors_under_dash_o(files: dict[str, Path]) -> None:
    done = python(
        f"""
        from bfbridge import BioReader, BioWriter
        from bfbridge.errors import BfbridgeError
        br = BioReader({str(files["ometiff"])!r})
        bw = BioWriter({str(files["ometiff"].with_name("none.ome.tif"))!r}, X=5, Y=5)
        def refused(do):
            try:
                do()
            except BfbridgeError:
                return
            raise SystemExit("not refused")
        refused(lambda: br[50])
        refused(lambda: br.read(X=(5, 5)))
        refused(lambda: bw.__setitem__(slice(None), "text"))
        refused(lambda: bw.write([[1]], X=7))
        refused(lambda: setattr(bw, "X", -1))
        refused(lambda: BioReader({str(files["ometiff"])!r}, max_workers=0))
        refused(lambda: BioReader({str(files["ometiff"])!r}, backend="nothing"))
        bw.abort()
        """,
        "-O",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.java
def test_19_nothing_is_printed_when_objects_die(files: dict[str, Path], tmp_path: Path) -> None:
    done = python(
        f"""
        from bfbridge import BioReader, BioWriter
        readers = [BioReader(p, backend=b) for b, p in {paths(files)}]
        for path in ("none.ome.tif", "a.unknown"):
            try:
                BioReader({str(tmp_path)!r} + "/" + path)
            except FileNotFoundError:
                pass
        try:
            BioWriter({str(tmp_path / "a.unknown")!r})
        except ValueError:
            pass
        bw = BioWriter({str(tmp_path / "a.ome.tif")!r}, X=5, Y=5)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


# ---- 20


@pytest.mark.java
def test_20_opening_needs_no_network_and_import_sets_no_logging(files: dict[str, Path]) -> None:
    done = python(
        f"""
        import logging, socket
        import bfbridge
        def refuse(*args, **kwargs):
            raise SystemExit("a connection was tried")
        socket.socket.connect = socket.create_connection = refuse
        socket.getaddrinfo = refuse
        for name, path in {paths(files)}:
            with bfbridge.BioReader(path, backend=name) as br:
                assert br[0, 0].shape == (1, 1, 4, 3, 2)
                br.metadata
        assert bfbridge.start() == bfbridge.start()
        assert logging.getLogger().handlers == []
        assert logging.getLogger().level == logging.WARNING
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- 21


def test_21_threads_follow_the_quota(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(48)), raising=False)
    monkeypatch.setattr(workers, "_cgroup_quota", lambda: 2.5)
    with BioReader(files["ometiff"]) as br:
        assert br.max_workers == 3
    bw = BioWriter(tmp_path / "a.ome.zarr")
    assert bw.max_workers == 3
    bw.abort()
    with BioReader(files["ometiff"], max_workers=7) as br:
        assert br.max_workers == 7


def test_the_files_of_these_tests_are_what_others_read(files: dict[str, Path]) -> None:
    """Referees: tifffile and zarr see the same pixels."""
    with tifffile.TiffFile(files["ometiff"]) as tif:
        series = tif.series[0]
        wanted = ARRAY.transpose([("YXZCT").index(axis) for axis in series.axes])
        np.testing.assert_array_equal(series.asarray(), wanted)
        assert from_xml(tif.ome_metadata or "").images[0].pixels.size_z == 4
    group = zarr.open_group(files["omezarr"], mode="r")
    found = json.loads(json.dumps(dict(group.attrs)))
    multiscale = (found.get("ome") or found)["multiscales"][0]
    first = group[multiscale["datasets"][0]["path"]]
    np.testing.assert_array_equal(first[...], ARRAY.transpose(4, 3, 2, 0, 1))
