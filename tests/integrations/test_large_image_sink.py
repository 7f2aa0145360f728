"""`bfbridge.large_image.new` makes the images that large_image's sink makes.

`large_image_sink.json` has the answers of large_image 1.35.6; see `tests.support.largeimagesink`.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bfbridge import BioReader, large_image
from bfbridge.errors import BadArgument, TargetExists, Unsupported
from bfbridge.ome.extras import find_extras
from tests.support.largeimagesink import CODE

ASKED: dict[str, Any] = {}
exec(compile(CODE, "largeimagesink", "exec"), ASKED)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_associated_images(tmp_path: Path, suffix: str) -> None:
    path, rng = tmp_path / f"a{suffix}", np.random.default_rng(0)
    tile, macro = (rng.integers(0, 255, (*n, 3), np.uint8) for n in ((700, 600), (40, 90)))
    label = rng.integers(0, 60000, (33, 21), np.uint16)
    with large_image.new() as sink:
        sink.addTile(tile, -50, 20)
        sink.addAssociatedImage(macro[:9])
        sink.addAssociatedImage(macro, "macro")
        sink.addAssociatedImage(label)
        assert sink.getAssociatedImagesList() == ["label", "macro"]
        with pytest.raises(BadArgument, match="one of macro, label, thumbnail"):
            sink.addAssociatedImage(macro, "overview")
        copy = pickle.loads(pickle.dumps(sink))
        with pytest.raises(Unsupported, match="process that called"):
            copy.addAssociatedImage(macro)
        macro_before = macro.copy()
        macro[:] = 0
        sink.write(path)
    with BioReader(path, thumbnails=True) as br:
        assert sorted(br.associated) == ["label", "macro"]
        np.testing.assert_array_equal(br.associated["macro"][:][:, :, 0], macro_before)
        np.testing.assert_array_equal(br.associated["label"][:], label)
        assert br.associated["label"].role == "label"
        assert not br.associated["label"].is_mask
        np.testing.assert_array_equal(br[20:][:, :, 0], tile)
        assert br.shape[:2] == (720, 600)
    with large_image.open(path) as source:
        assert source.getAssociatedImagesList() == ["label", "macro"]
        assert source.getAssociatedImage("macro", format="numpy")[0].shape[:2] == (40, 90)


@pytest.mark.slow(ci=True)
def test_images_of_large_image(tmp_path: Path) -> None:
    theirs = json.loads((Path(__file__).parent / "large_image_sink.json").read_text())
    ours = json.loads(json.dumps(ASKED["made"](large_image, tmp_path, ".tiff")))
    # large_image stores no pixel size of a part.
    assert theirs["crop"].pop("mm") is None
    assert ours["crop"].pop("mm") == 0.0005
    assert ours == theirs


def test_getting_started(tmp_path: Path) -> None:
    source = large_image.new()
    for number in range(3):
        source.addTile(np.full((40, 50, 3), number + 1, np.uint8), x=50 * number - 50, y=0)
    assert (source.sizeX, source.sizeY, source.bandCount) == (150, 40, 3)
    assert source.bandFormat == np.uint8
    source.imageDescription = "made of tiles"
    source.write(tmp_path / "a.tiff", lossy=False)
    with pytest.raises(TargetExists):
        source.write(tmp_path / "a.tiff", overwriteAllowed=False)
    source.addTile(np.full((40, 50, 3), 9, np.uint8), x=100)
    source.write(tmp_path / "b.ome.zarr")
    assert source.getRegion(format="numpy")[0].shape == (40, 200, 3)
    folder = source._store.folder
    source.close()
    assert not folder.exists()
    with large_image.open(tmp_path / "a.tiff") as found:
        pixels, _ = found.getRegion(format="numpy")
    assert [int(pixels[0, x, 0]) for x in (0, 50, 100)] == [1, 2, 3]
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert br.shape[:2] == (40, 200)
        assert br.metadata.images[0].description == "made of tiles"
        assert (br[:, 150:] == 9).all()


def test_pictures_axes_and_values(tmp_path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.full((8, 6), 200, np.uint8)).save(picture, "PNG")
    with large_image.new() as source:
        source.addTile(picture.getvalue(), dose=1, dose_value=0.5)
        source.addTile(Image.fromarray(np.full((8, 6), 3, np.uint8)), dose=0, dose_value=0.1)
        block = np.arange(2 * 8 * 6, dtype=np.uint8).reshape(2, 8, 6)
        source.addTile(block, axes="zyx", z=1)
        source.frameUnits = {"dose": "mg"}
        assert source.frameAxes == ["dose", "z"]
        assert source.frameValues == {"dose": [0.1, 0.5]}
        source.write(tmp_path / "a.ome.tif")
        with pytest.raises(BadArgument, match="no axis 'tint'"):
            source.frameUnits = {"tint": "mm"}
        source.addTile(block[0], a=1)
        source.addTile(block[0], b=1)
        with pytest.raises(Unsupported, match="3 axes"):
            source.addTile(block[0], d=1)
        for wrong in ((-1, 0, 2, 2), (0, 0, 0, 2)):
            with pytest.raises(BadArgument, match="crop"):
                source.crop = wrong
    with BioReader(tmp_path / "a.ome.tif") as br:
        found = br.to_xarray(unfold=True)
        assert found.sizes["dose"] == 2
        np.testing.assert_array_equal(found.coords["dose"], [0.1, 0.5])
        np.testing.assert_array_equal(found.isel(dose=0, z=2).values.squeeze(), block[1])
        assert (found.isel(dose=1, z=0) == 200).all()


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_channel_colors_and_additional_metadata(tmp_path: Path, suffix: str) -> None:
    path, further = tmp_path / f"a{suffix}", {"study": [1, {"x": "y"}], "ß": None}
    with large_image.new() as source:
        for c in range(4):
            source.addTile(np.full((9, 8), c + 1, np.uint8), c=c)
        source.channelNames = ["one", "two"]
        # The last one is of no channel.
        source.channelColors = ["FF0000", "#00f", (10, 20, 30), "lime", "red"]
        source.additionalMetadata = further
        assert source.channelColors[0] == "FF0000"
        assert source.additionalMetadata == further
        for wrong in (["nothing"], [(1, 2)]):
            with pytest.raises(BadArgument, match="channelColors: .* is no colour"):
                source.channelColors = wrong
        with pytest.raises(BadArgument, match="not valid as JSON"):
            source.additionalMetadata = {"a": {1, 2}}
        source.write(path)
    with BioReader(path) as br:
        assert [channel.color[:3] for channel in br.channels] == [
            (255, 0, 0), (0, 0, 255), (10, 20, 30), (0, 255, 0)
        ]  # fmt: skip
        assert br.channel_names[:2] == ["one", "two"]
        [extras] = find_extras(br.metadata)
        assert extras.other["attributes"]["additionalMetadata"] == further
    if suffix == ".ome.zarr":
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
        assert attributes["additionalMetadata"] == further
        assert [c["color"] for c in attributes["ome"]["omero"]["channels"]][2] == "0A141E"


def _add(job: tuple[Any, int]) -> int:
    source, number = job
    source.addTile(np.full((30, 20), number + 1, np.uint8), x=20 * number, y=-5, i=number % 2)
    return os.getpid()


def test_from_processes(tmp_path: Path) -> None:
    with large_image.new() as source:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(_add, [(source, n) for n in range(6)], chunksize=1)
        source.write(tmp_path / "a.ome.zarr")
    with BioReader(tmp_path / "a.ome.zarr") as br:
        assert br.sizes == {"Y": 30, "X": 120, "Z": 1, "C": 1, "T": 2}
        for number in range(6):
            assert (br[:, 20 * number : 20 * number + 20, 0, 0, number % 2] == number + 1).all()
