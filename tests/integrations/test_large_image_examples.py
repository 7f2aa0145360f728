"""The calls of the examples in large_image's "Getting Started" page, with another import only.

https://girder.github.io/large_image/getting_started.html, of version 1.35. Two of its examples fail
in large_image too: ``numpy.zeros(1, 1, 3)`` is no array, and ``frameUnits`` names an axis that the
tiles do not have. The example of a projection is in `tests/geotiff/test_large_image_maps.py`.
"""

from __future__ import annotations

import io
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bfbridge import large_image
from bfbridge.errors import BadArgument

Array = np.ndarray[Any, Any]


def picture(data: bytes) -> Array:
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened)


@pytest.fixture(scope="module")
def pixels() -> Array:
    y, x = np.mgrid[0:640, 0:1500]
    return np.stack([x // 6, y // 3, (x + y) // 9], -1).astype(np.uint8)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, pixels: Array) -> str:
    path = tmp_path_factory.mktemp("sample") / "sample.ome.tiff"
    with large_image.new() as source:
        source.addTile(pixels, 0, 0)
        source.mm_x = source.mm_y = 0.00025
        source.addAssociatedImage(pixels[:40, :90], "macro")
        source.write(path, lossy=False)
    return str(path)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sample") / "sample.ome.tiff"
    with large_image.new() as source:
        for c in range(5):
            tile = (np.arange(60 * 90) % (500 + c)).astype(np.uint16).reshape(60, 90)
            source.addTile(tile, c=c)
        source.write(path)
    return str(path)


def test_regions(sample: str, pixels: Array) -> None:
    source = large_image.open(sample)
    metadata = source.getMetadata()
    assert (metadata["sizeX"], metadata["sizeY"]) == (1500, 640)
    assert metadata["levels"] == np.ceil(np.log2(1500 / metadata["tileWidth"])) + 1
    assert (metadata["mm_x"], metadata["magnification"]) == (0.00025, 40)
    image, mime_type = source.getRegion(
        region={"left": 1000, "top": 500, "right": 11000, "bottom": 1500},
        output={"maxWidth": 250},
        encoding="PNG")  # fmt: skip
    assert mime_type == "image/png"
    nparray, kind = source.getRegion(
        region={"left": 1000, "top": 500, "right": 11000, "bottom": 1500},
        output={"maxWidth": 250},
        format=large_image.constants.TILE_FORMAT_NUMPY)  # fmt: skip
    assert kind == large_image.constants.TILE_FORMAT_NUMPY
    np.testing.assert_array_equal(picture(image), nparray)
    means = pixels[500:, 1000:].astype(float).reshape(70, 2, 250, 2, 3).mean((1, 3))
    np.testing.assert_allclose(nparray, means, atol=0.51)
    in_mm, _ = source.getRegion(
        region={"left": 0.25, "top": 0.125, "right": 2.75, "bottom": 0.375, "units": "mm"},
        scale={"mm_x": 0.0005},
        format=large_image.constants.TILE_FORMAT_NUMPY)  # fmt: skip
    np.testing.assert_array_equal(in_mm, nparray)
    assert source.geospatial is False


def test_tiles(sample: str, pixels: Array) -> None:
    source = large_image.open(sample)
    assert picture(source.getTile(0, 0, 0)).shape == picture(source.getTile(0, 0, 2)).shape
    source = large_image.open(sample, encoding="PNG")
    tile0 = source.getTile(0, 0, source.levels - 1)
    np.testing.assert_array_equal(picture(tile0), pixels[: source.tileHeight, : source.tileWidth])
    shapes = []
    for tile in source.tileIterator(
        tile_size={"width": 512, "height": 512},
        format=large_image.constants.TILE_FORMAT_NUMPY
    ):  # fmt: skip
        x, y, found = tile["x"], tile["y"], tile["tile"]
        np.testing.assert_array_equal(found, pixels[y : y + 512, x : x + 512])
        shapes.append((x, y, found.shape))
    assert shapes[::2] == [(0, 0, (512, 512, 3)), (1024, 0, (512, 476, 3)),
                           (512, 512, (128, 512, 3))]  # fmt: skip
    places = []
    for tile in source.tileIterator(
        tile_size={"width": 1024, "height": 1024},
        tile_overlap={"x": 128, "y": 128, "edges": False},
        format=large_image.constants.TILE_FORMAT_NUMPY
    ):  # fmt: skip
        x = tile["x"]
        np.testing.assert_array_equal(tile["tile"], pixels[:, x : x + 1024])
        places.append((x, tile["tile"].shape))
    assert places == [(0, (640, 1024, 3)), (896, (640, 604, 3))]


def test_thumbnails_and_associated_images(sample: str, pixels: Array) -> None:
    source = large_image.open(sample)
    image, mime_type = source.getThumbnail()
    assert (mime_type, picture(image).shape) == ("image/jpeg", (109, 256, 3))
    image, mime_type = source.getThumbnail(width=640, height=480, encoding="PNG")
    assert (mime_type, picture(image).shape) == ("image/png", (273, 640, 3))
    assert source.getAssociatedImagesList() == ["macro"]
    image, mime_type = source.getAssociatedImage("macro")
    assert mime_type == "image/jpeg"
    image, mime_type = source.getAssociatedImage("macro", encoding="PNG")
    np.testing.assert_array_equal(picture(image), pixels[:40, :90])
    image, mime_type = source.getAssociatedImage(
        "macro", format=large_image.constants.TILE_FORMAT_NUMPY
    )
    np.testing.assert_array_equal(image, pixels[:40, :90])


def test_frames_and_styles(frames: str) -> None:
    source = large_image.open(frames)
    assert source.getMetadata()["IndexRange"] == {"IndexC": 5}
    nparray, _ = source.getRegion(frame=1, format=large_image.constants.TILE_FORMAT_NUMPY)
    assert nparray.max() == 500
    pytest.importorskip("cmap")
    part = {
        "region": {"left": 10, "top": 5, "right": 11000, "bottom": 1500},
        "output": {"maxWidth": 40},
    }
    source = large_image.open(frames, style={"min": "min", "max": "max"})
    image, mime_type = source.getRegion(**part)
    assert (mime_type, picture(image).shape[:2]) == ("image/jpeg", (27, 40))
    source = large_image.open(frames, encoding="PNG", style={"bands": [
        {"frame": 0, "min": "min", "max": "max", "palette": "#f00"},
        {"frame": 3, "min": "min", "max": "max", "palette": "#0f0"},
        {"frame": 4, "min": "min", "max": "max", "palette": "#00f"},
    ]})  # fmt: skip
    drawn = picture(source.getRegion()[0])
    raw = [large_image.open(frames).getRegion(frame=n, format="numpy")[0] for n in (0, 3, 4)]
    for band, stored in enumerate(raw):
        expected = stored[..., 0] / stored.max() * 255
        assert np.abs(drawn[..., band] - expected).max() <= 1


def add_tile_to_source(tilesource: Any, nparray: Array, position: dict[str, int]) -> None:
    tilesource.addTile(nparray, **position)


def test_new_images(tmp_path: Path, frames: str) -> None:
    source = large_image.new()
    for t_index, t_value in enumerate([0.5, 1.5]):
        for z_index, z_value in enumerate([3, 6, 9]):
            for x_value in (0, 32):
                tile = np.full((32, 32, 3), 10 * t_index + z_index + x_value, np.uint8)
                source.addTile(
                    tile, x_value, 0, z=z_index, time=t_index, z_value=z_value, time_value=t_value
                )
    with pytest.raises(BadArgument, match="no axis 't'"):
        source.frameUnits = {"t": "ms", "z": "cm"}
    source.frameUnits = {"time": "ms", "z": "cm"}
    source.write(str(tmp_path / "sample.zarr.zip"), lossy=False)
    with large_image.open(tmp_path / "sample.zarr.zip") as written:
        # NGFF has no bands: they are channels.
        found = [written.getRegion(format="numpy", frame=n)[0] for n in range(written.frames)]
        assert [(f.shape, int(f[0, 40, 0])) for f in found] == [
            ((32, 64, 1), value) for value in (32, 33, 34, 42, 43, 44) for _ in range(3)
        ]

    original_source = large_image.open(frames)
    new_source = large_image.new()
    for frame in original_source.getMetadata().get("frames", []):
        for tile in original_source.tileIterator(frame=frame["Frame"], format="numpy"):
            new_source.addTile(tile["tile"] + 1, x=tile["x"], y=tile["y"], c=frame["IndexC"])
    new_source.channelNames = original_source.channelNames
    new_source.write(str(tmp_path / "image.tiff"), lossy=False)
    with large_image.open(tmp_path / "image.tiff") as written:
        for number in range(5):
            before = original_source.getRegion(format="numpy", frame=number)[0]
            after = written.getRegion(format="numpy", frame=number)[0]
            np.testing.assert_array_equal(after, before + 1)

    source = large_image.new()
    add_tile_to_source(source, np.zeros((1, 1, 3), np.uint8), {"x": 49, "y": 7, "z": 1})
    tileset = [
        (np.full((8, 10, 3), n + 1, np.uint8), {"x": 10 * n, "y": 0, "z": 0}) for n in range(4)
    ]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.starmap(add_tile_to_source, [(source, t, t_pos) for t, t_pos in tileset])
    source.write(str(tmp_path / "sample.zarr.zip"), lossy=False)
    with large_image.open(tmp_path / "sample.zarr.zip") as written:
        assert written.frames == 2 * 3
        row = written.getRegion(format="numpy")[0][3, ::10, 0]
        assert row.tolist() == [1, 2, 3, 4, 0]
