"""Conversion programs as bfio's documentation has them, with the import changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter


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
@pytest.mark.parametrize("declared", [True, False], ids=["sizes are set", "sizes are left"])
def test_a_file_for_each_channel_and_time_through_java(tmp_path: Path, declared: bool) -> None:
    """The scalable converter, as documented for WIPP, in both of its spellings."""
    source = tmp_path / "s&sizeX=1100&sizeY=40&sizeZ=2&sizeC=2&sizeT=2&pixelType=uint8.fake"
    tile = 1024
    with BioReader(source, backend="bioformats", max_workers=2) as br:
        a = br.read()
        for t in range(br.T):
            for c in range(br.C):
                name = source.with_name(f"out_c{c:03}_t{t:03}.ome.tif")
                with BioWriter(
                    name, backend="bioformats" if declared else "python", metadata=br.metadata,
                    max_workers=2,
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
                assert made.shape == ((40, 1100, 2) if declared else (40, 1100, 2, 2, 2))


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
