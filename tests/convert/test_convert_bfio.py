"""Conversion programs as bfio's documentation has them, with the import changed."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.backend import WriterBackend
from bfbridge.errors import IncompleteImage
from bfbridge.runtime import finalizers
from bfbridge_ometiff.writer import TiffWriter


@pytest.fixture
def stack(tmp_path: Path) -> tuple[Path, Any]:
    a = np.arange(1100 * 60 * 3 * 2, dtype=np.uint16).reshape(1100, 60, 3, 2)
    with BioWriter(tmp_path / "in.ome.tif", image=a, channel_names=["a", "b"]) as bw:
        bw[:] = a
    return tmp_path / "in.ome.tif", a


def test_whole_images(stack: tuple[Path, Any], tmp_path: Path) -> None:
    path, a = stack
    br = BioReader(str(path))
    bw = BioWriter(str(tmp_path / "out.ome.tif"), metadata=br.metadata)
    bw.write_image(br.read_image())
    bw.close()
    br.close()
    with BioReader(tmp_path / "out.ome.tif") as made:
        np.testing.assert_array_equal(made[:], a)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_tile_by_tile(stack: tuple[Path, Any], tmp_path: Path, suffix: str) -> None:
    path, a = stack
    size = 1024
    with (
        BioReader(path, max_workers=2) as br,
        BioWriter(tmp_path / f"out{suffix}", metadata=br.metadata, max_workers=2) as bw,
    ):
        for t in range(br.T):
            for c in range(br.C):
                for z in range(br.Z):
                    for y in range(0, br.Y, size):
                        y_max = min(y + size, br.Y)
                        for x in range(0, br.X, size):
                            x_max = min(x + size, br.X)
                            bw[y:y_max, x:x_max, z : z + 1, c, t] = br[
                                y:y_max, x:x_max, z : z + 1, c, t
                            ]
    with BioReader(tmp_path / f"out{suffix}") as made:
        np.testing.assert_array_equal(made[:], a)
        assert made.channel_names == ["a", "b"]


def test_channels_to_files_with_keywords(stack: tuple[Path, Any], tmp_path: Path) -> None:
    path, a = stack
    with BioReader(path, backend="python") as br:
        for c, name in enumerate(br.cnames):
            with BioWriter(
                tmp_path / f"{name}.ome.tif", backend="python", metadata=br.metadata, C=1
            ) as bw:
                bw.cnames = [name]
                bw.ps_x = (0.5, "µm")
                for z in range(br.num_z()):
                    image = br.read(X=(0, br.X), Y=(0, br.Y), Z=(z, z + 1), C=[c], T=[0])
                    bw.write(image, X=(0,), Y=(0,), Z=(z,), C=[0], T=[0])
    for c, name in enumerate("ab"):
        with BioReader(tmp_path / f"{name}.ome.tif") as made:
            np.testing.assert_array_equal(made[:], a[..., c])
            assert made.ps_x == (0.5, "µm")


def test_thresholding_to_another_type(stack: tuple[Path, Any], tmp_path: Path) -> None:
    path, a = stack
    with (
        BioReader(path) as br,
        BioWriter(tmp_path / "mask.ome.zarr", metadata=br.metadata, dtype=np.uint8) as bw,
    ):
        for z in range(br.Z):
            bw[:, :, z : z + 1, ...] = (br[:, :, z : z + 1, ...] > 30000).astype(np.uint8)
    with BioReader(tmp_path / "mask.ome.zarr") as made:
        np.testing.assert_array_equal(made[:], a > 30000)


@pytest.mark.java
@pytest.mark.parametrize("backend", ["bioformats", "python"])
@pytest.mark.parametrize("declared", [True, False], ids=["sizes are set", "sizes are left"])
def test_a_file_for_each_channel_and_time_through_java(
    tmp_path: Path, declared: bool, backend: str
) -> None:
    """The scalable converter, as documented for WIPP, in both of its spellings."""
    source = tmp_path / "s&sizeX=1100&sizeY=40&sizeZ=2&sizeC=2&sizeT=2&pixelType=uint8.fake"
    tile = 1024
    with BioReader(source, backend="bioformats", max_workers=2) as br:
        a = br.read()
        for t in range(br.T):
            for c in range(br.C):
                name = source.with_name(f"out_c{c:03}_t{t:03}.ome.tif")
                with BioWriter(
                    name, backend=backend, metadata=br.metadata, max_workers=2,
                ) as bw:  # fmt: skip
                    if declared:
                        bw.C = 1
                        bw.T = 1
                    for z in range(br.Z):
                        for y in range(0, br.Y, tile):
                            y_max = min([br.Y, y + tile])
                            for x in range(0, br.X, tile):
                                x_max = min([br.X, x + tile])
                                bw[y:y_max, x:x_max, z : z + 1, 0, 0] = br[
                                    y:y_max, x:x_max, z : z + 1, c, t
                                ]
    for t in range(2):
        for c in range(2):
            with BioReader(tmp_path / f"out_c{c:03}_t{t:03}.ome.tif") as made:
                np.testing.assert_array_equal(made[:, :, :, 0, 0], a[:, :, :, c, t])
                assert made.shape == (40, 1100, 2)


def source_of(tmp_path: Path, shape: tuple[int, ...] = (50, 40, 3, 3, 2)) -> tuple[Any, Any]:
    """Return pixels of a source with several channels and time points, and its metadata."""
    rng = np.random.default_rng(3)
    a = rng.integers(1, 60000, shape, dtype=np.uint16)
    names = [f"channel {c}" for c in range(shape[3])]
    with BioWriter(tmp_path / "source.ome.tif", image=a, channel_names=names) as bw:
        bw[:] = a
    with BioReader(tmp_path / "source.ome.tif") as br:
        return a, br.metadata


ORDERS = {
    "by tile": lambda z, y, x: [(k, j, i) for k in range(z) for j in range(0, y, 16)
                                for i in range(0, x, 16)],
    "backwards": lambda z, y, x: [(k, j, i) for i in reversed(range(0, x, 20))
                                  for k in reversed(range(z)) for j in reversed(range(0, y, 20))],
}  # fmt: skip


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".ome.tif", {}),
        (".ome.tif", {"pyramid": True, "tile": 16}),
        (".ome.zarr", {}),
        (".ome.zarr", {"pyramid": 2, "chunks": (16, 16)}),
        (".ome.zarr", {"chunks": (2, 2, 1, 16, 16), "pyramid": (2,), "memory": 4000}),
        (".ome.zarr", {"chunks": (16, 16), "shards": (2, 4, 1, 32, 32)}),
        (".ome.zarr", {"version": "0.4", "chunks": (2, 3, 2, 16, 16)}),
        (".ome.zarr.zip", {}),
    ],
)
def test_one_channel_and_time_of_a_source_with_several(
    tmp_path: Path, suffix: str, options: dict[str, Any], order: str, caplog: Any
) -> None:
    a, metadata = source_of(tmp_path)
    side = 16 if order == "by tile" else 20
    target = tmp_path / f"out{suffix}"
    with caplog.at_level("INFO", "bfbridge"):
        with BioWriter(target, metadata=metadata, **options) as bw:
            bw.cnames = ["channel 2"]
            for z, y, x in ORDERS[order](3, 50, 40):
                bw[y : y + side, x : x + side, z : z + 1, 0, 0] = a[
                    y : y + side, x : x + side, z : z + 1, 2, 1
                ]
        assert bw.shape == (50, 40, 3)
        assert bw.metadata.images[0].pixels.size_t == 1
    assert "the file has C=1, T=1" in caplog.text
    with BioReader(target) as made:
        np.testing.assert_array_equal(made[:], a[..., 2, 1])
        assert made.channel_names == ["channel 2"]
        pixels = made.metadata.images[0].pixels
        assert (pixels.size_c, pixels.size_t, len(pixels.channels)) == (1, 1, 1)
        for level in made.levels:
            step = made.shape[0] // level.shape[0]
            assert level.shape[2:] == (3,)
            if step == 2:
                first = a[:2, :2, 0, 2, 1].astype(float).mean()
                assert level[0, 0, 0] == np.floor(first + 0.5)


def test_trimmed_files_for_other_programs(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    zarr = pytest.importorskip("zarr")
    a, metadata = source_of(tmp_path)
    formats: dict[str, dict[str, Any]] = {
        ".ome.tif": {"pyramid": True, "tile": 16},
        ".ome.zarr": {"chunks": (2, 3, 2, 16, 16)},
        ".zarr": {"chunks": (16, 16), "shards": (2, 4, 1, 32, 32)},
    }
    for suffix, options in formats.items():
        with BioWriter(tmp_path / f"out{suffix}", metadata=metadata, **options) as bw:
            bw[..., 0, 0] = a[..., 1, 0]
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as tiff:
        assert len(tiff.pages) == 3
        np.testing.assert_array_equal(tiff.asarray(), a[..., 1, 0].transpose(2, 0, 1))
    for name in ("out.ome.zarr", "out.zarr"):
        array = zarr.open_group(tmp_path / name, mode="r")["0"]
        assert array.shape == (1, 1, 3, 50, 40)
        np.testing.assert_array_equal(array[0, 0], a[..., 1, 0].transpose(2, 0, 1))


def test_samples_are_one_channel(tmp_path: Path) -> None:
    a = np.random.default_rng(1).integers(1, 255, (30, 40, 1, 6, 2), dtype=np.uint8)
    with BioWriter(tmp_path / "in.ome.tif", image=a, spp=3) as bw:
        bw[:] = a
    with BioReader(tmp_path / "in.ome.tif") as br:
        metadata = br.metadata
    for suffix in (".ome.tif", ".ome.zarr"):
        with BioWriter(tmp_path / f"out{suffix}", metadata=metadata) as bw:
            bw[..., :3, 0] = a[..., 3:, 1]
        with BioReader(tmp_path / f"out{suffix}") as made:
            assert made.shape == (30, 40, 1, 3)
            np.testing.assert_array_equal(made[:], a[..., 3:, 1])


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_other_planes_that_are_missing_are_reported(
    tmp_path: Path, suffix: str, caplog: Any
) -> None:
    """Only exactly C=0, T=0 is a file of one channel and time; nothing else changes its sizes."""
    a, metadata = source_of(tmp_path)
    writes = {
        "second channel": (slice(None), slice(None), slice(None), 1, 0),
        "two times": (slice(None), slice(None), slice(None), slice(0, 1), slice(None)),
        "one slice": (slice(None), slice(None), 0, 0, 0),
        "a part": (slice(0, 20), slice(None), slice(None), 0, 0),
    }
    for name, key in writes.items():
        caplog.clear()
        with BioWriter(tmp_path / f"{name}{suffix}", metadata=metadata) as bw:
            bw[key] = a[key]
        assert "planes were never written" in caplog.text
        expected = np.zeros_like(a)
        expected[key] = a[key]
        with BioReader(tmp_path / f"{name}{suffix}") as made:
            np.testing.assert_array_equal(made.read(keepdims=True), expected)


@pytest.mark.parametrize(
    "given", [{"C": 3}, {"T": 2}, {"shape": (50, 40, 3, 3, 2)}, {"cnames": ["a", "b", "c"]}]
)
def test_sizes_that_are_given_stay(tmp_path: Path, given: dict[str, Any]) -> None:
    a, metadata = source_of(tmp_path)
    with BioWriter(tmp_path / "out.ome.tif", metadata=metadata, **given) as bw:
        bw[..., 0, 0] = a[..., 0, 0]
    with BioReader(tmp_path / "out.ome.tif") as made:
        assert made.shape == a.shape
    with BioWriter(tmp_path / "edited.ome.tif", metadata=metadata) as bw:
        bw.metadata.images[0].pixels.size_t = 3
        bw[..., 0, 0] = a[..., 0, 0]
    with BioReader(tmp_path / "edited.ome.tif") as made:
        assert made.shape == (50, 40, 3, 3, 3)


def test_one_given_size_of_one(tmp_path: Path) -> None:
    a, metadata = source_of(tmp_path)
    with BioWriter(tmp_path / "out.ome.tif", metadata=metadata, C=1) as bw:
        bw[..., 0, 0] = a[..., 2, 1]
    with BioReader(tmp_path / "out.ome.tif") as made:
        np.testing.assert_array_equal(made[:], a[..., 2, 1])


def test_all_planes_are_required_on_request(tmp_path: Path) -> None:
    a, metadata = source_of(tmp_path)
    bw = BioWriter(tmp_path / "out.ome.tif", metadata=metadata)
    bw[..., 0, 0] = a[..., 0, 0]
    with pytest.raises(IncompleteImage, match="never written"):
        bw.close(require_complete=True)


def test_time_points_are_added_in_part(tmp_path: Path) -> None:
    a, _ = source_of(tmp_path)
    with BioWriter(tmp_path / "out.ome.zarr", image=a) as bw:
        bw[:] = a
    with BioReader(tmp_path / "out.ome.zarr") as br:
        metadata = br.metadata
    metadata.images[0].pixels.size_t = 4
    with BioWriter(tmp_path / "out.ome.zarr", append=True, metadata=metadata) as bw:
        bw[..., 0, 2] = a[..., 0, 0]
    with BioReader(tmp_path / "out.ome.zarr") as made:
        assert made.shape == (50, 40, 3, 3, 4)
        np.testing.assert_array_equal(made[..., :2], a)


def test_a_backend_that_cannot_be_reduced(tmp_path: Path, monkeypatch: Any) -> None:
    a, metadata = source_of(tmp_path)
    monkeypatch.setattr(TiffWriter, "trim", WriterBackend.trim)
    bw = BioWriter(tmp_path / "out.ome.tif", metadata=metadata)
    bw[..., 0, 0] = a[..., 0, 0]
    with pytest.raises(IncompleteImage, match=r"Set bw\.C = 1 and bw\.T = 1"):
        bw.close()
    assert not (tmp_path / "out.ome.tif").exists()


@pytest.mark.slow(ci=True)
@pytest.mark.filterwarnings("ignore:.*was not closed:ResourceWarning")
def test_a_writer_that_is_left_to_the_garbage_collector(tmp_path: Path) -> None:
    a, metadata = source_of(tmp_path)
    bw = BioWriter(tmp_path / "out.ome.tif", metadata=metadata)
    bw[..., 0, 0] = a[..., 1, 1]
    del bw
    gc.collect()
    finalizers.settle(tmp_path / "out.ome.tif")
    with BioReader(tmp_path / "out.ome.tif") as made:
        np.testing.assert_array_equal(made[:], a[..., 1, 1])


@pytest.mark.java
def test_whole_image_through_java_to_tiled_tiff(tmp_path: Path) -> None:
    source = tmp_path / "s&sizeX=300&sizeY=200&sizeZ=2&pixelType=uint16.fake"
    with (
        BioReader(source, backend="bioformats") as br,
        BioWriter(tmp_path / "out.ome.tif", metadata=br.metadata, backend="python") as bw,
    ):
        original = br[:]
        bw[:] = original
    br = BioReader(tmp_path.joinpath("out.ome.tif"))
    again = br.read()
    br.close()
    assert np.array_equal(again, original)
    assert original.shape == (200, 300, 2)
