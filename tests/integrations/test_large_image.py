"""`bfbridge.large_image` answers large_image's calls as large_image does.

`large_image_calls.json` holds the answers of large_image 1.35.6; `tests.support.largeimagecalls`
asked them, and tells how.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from ome_types import OME, model

from bfbridge import BioReader, BioWriter, imwrite, large_image, registry
from bfbridge.errors import BadArgument, BadSelection, FileMissing
from tests.support.largeimagecalls import CALLS, CODE, make_images

Array = np.ndarray[Any, Any]
STORED = json.loads((Path(__file__).parent / "large_image_calls.json").read_text())
ASKED: dict[str, Any] = {}
exec(compile(CODE, "largeimagecalls", "exec"), ASKED)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large_image")
    make_images(folder)
    return folder


@pytest.fixture(scope="module")
def sources(folder: Path) -> Iterator[dict[str, large_image.TileSource]]:
    with (
        large_image.open(folder / "slide.tif") as slide,
        large_image.open(folder / "frames.ome.tif") as frames,
        large_image.open(folder / "frames.ome.zarr") as zarr,
    ):
        yield {"slide.tif": slide, "frames.ome.tif": frames, "frames.ome.zarr": zarr}


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("number", range(len(CALLS)), ids=lambda n: f"{n}-{CALLS[n][1]}")
def test_answers_of_large_image(sources: dict[str, large_image.TileSource], number: int) -> None:
    name, call, given = CALLS[number]
    ours = json.loads(json.dumps(ASKED["answer"](sources[name], call, given)))
    assert ours == STORED[number]


def test_every_call_is_stored() -> None:
    assert len(STORED) == len(CALLS)


# ---- pixels that are computed


def test_smaller_regions_are_means(folder: Path, tmp_path: Path) -> None:
    with BioReader(folder / "slide.tif") as br:
        full = br[:][:, :, 0]
    tifffile.imwrite(tmp_path / "flat.tif", full, tile=(128, 128), photometric="rgb")
    box = {"left": 101, "top": 40, "width": 60, "height": 90}
    part = full[40:130, 101:161].astype(np.float64)
    with large_image.open(tmp_path / "flat.tif") as source:
        third = source.getRegion(region=box, output={"maxWidth": 20}, format="numpy")[0]
        nearest = source.getRegion(
            region=box, output={"maxWidth": 20}, format="numpy", resample=None
        )[0]  # fmt: skip
        large = source.getRegion(region=box, output={"maxWidth": 120}, format="numpy")[0]
    assert third.shape == (30, 20, 3)
    np.testing.assert_allclose(third, part.reshape(30, 3, 20, 3, 3).mean((1, 3)), atol=0.51)
    np.testing.assert_array_equal(nearest, part[1::3, 1::3])
    assert large.shape == (180, 120, 3)


def test_levels_that_the_file_lacks(folder: Path) -> None:
    pixels = (np.arange(300 * 500).reshape(300, 500) % 199).astype(np.uint16)
    path = folder / "flat.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64))
    with large_image.open(path) as source:
        meta = source.getMetadata()
        assert (meta["levels"], meta["tileWidth"], meta["dtype"]) == (4, 64, "uint16")
        half = [
            [source.getTile(x, y, 2, numpyAllowed="always") for x in range(4)] for y in range(3)
        ]
        whole = np.concatenate([np.concatenate(row, axis=1) for row in half], axis=0)[:150, :250, 0]
        np.testing.assert_array_equal(
            whole, np.floor(pixels.reshape(150, 2, 250, 2).mean((1, 3)) + 0.5)
        )
        top = source.getTile(0, 0, 0, numpyAllowed="always")
        assert top.shape == (64, 64, 1)
        # 300 x 500 by 8 is 38 x 63; the rest of the tile is filled.
        assert top[:38, :63].all()
        assert not top[38:].any()
        assert not top[:, 63:].any()


def test_edges(folder: Path) -> None:
    at = {"x": 5, "y": 3, "z": 3, "numpyAllowed": "always"}
    with large_image.open(folder / "slide.tif") as whole:
        inner = whole.getTile(**at)
    assert inner.shape == (128, 128, 3)
    for edge in (True, "crop"):
        with large_image.open(folder / "slide.tif", edge=edge) as source:
            np.testing.assert_array_equal(source.getTile(**at), inner[:116, :60])
    with large_image.open(folder / "slide.tif", edge="#102030") as source:
        filled = source.getTile(**at)
    np.testing.assert_array_equal(filled[:116, :60], inner[:116, :60])
    assert (filled[116:] == (16, 32, 48)).all()
    assert (filled[:, 60:] == (16, 32, 48)).all()


def test_overlap_in_units(sources: dict[str, large_image.TileSource]) -> None:
    slide = sources["slide.tif"]
    given = {"tile_size": {"width": 200}}
    in_pixels = slide.tileIterator(**given, tile_overlap={"x": 20, "y": 40})
    for overlap in (
        {"x": 0.01, "y": 0.02, "units": "mm"},
        {"x": 10, "y": 20, "units": "um"},
        {"x": 20, "y": 40, "units": "base_pixels"},
        {"x": 20 / 700, "y": 40 / 500, "units": "fraction"},
    ):
        tiles = slide.tileIterator(**given, tile_overlap=overlap)
        assert tiles.info == in_pixels.info
    # At half the magnification, 0.01 mm are 10 pixels.
    half = slide.tileIterator(
        **given, scale={"magnification": 10}, tile_overlap={"x": 0.01, "units": "mm"}
    )
    assert half.info is not None
    assert half.info["tile_overlap"]["x"] == 10


def test_tiles_are_read_when_they_are_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with large_image.open(folder / "slide.tif") as source:
        read: list[Any] = []
        frames = source._frames
        before = type(frames).read
        monkeypatch.setattr(
            type(frames), "read", lambda *a, **k: (read.append(a), before(*a, **k))[1]
        )
        tiles = source.tileIterator(tile_size={"width": 300})
        assert len(tiles) == 6
        first = next(tiles)
        assert (first["x"], first["width"], "tile" in first, read) == (0, 300, True, [])
        pixels = first["tile"]
        assert pixels is first["tile"]
        assert len(read) == 1
        first.release()
        np.testing.assert_array_equal(first["tile"], pixels)
        assert len(read) == 2
        assert first.get("format") == "numpy"
        ahead = list(tiles.read_ahead())
        assert len(ahead) == 5
        assert len(read) == 7


def test_offset_tiles_lie_where_they_say(sources: dict[str, large_image.TileSource]) -> None:
    # large_image returns other pixels where the offset tiles are as large as those of the file.
    slide = sources["slide.tif"]
    full = slide.getRegion(format="numpy")[0]
    box = {"left": 130, "top": 60, "width": 300, "height": 200}
    for tile in slide.tileIterator(region=box, tile_offset={"auto": True}):
        x, y = tile["x"], tile["y"]
        expected = full[y : y + tile["height"], x : x + tile["width"]]
        np.testing.assert_array_equal(tile["tile"], expected)


# ---- pictures


@pytest.mark.parametrize("encoding", ["JPEG", "JFIF", "PNG", "TIFF", "WEBP"])
def test_encodings(sources: dict[str, large_image.TileSource], encoding: str) -> None:
    image = pytest.importorskip("PIL.Image")
    slide = sources["slide.tif"]
    box = {"left": 100, "top": 40, "width": 60, "height": 90}
    exact = slide.getRegion(region=box, format="numpy")[0]
    data, kind = slide.getRegion(region=box, encoding=encoding, jpegQuality=100)
    assert kind == large_image.TileOutputMimeTypes[encoding]
    with image.open(io.BytesIO(data)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    difference = np.abs(pixels - exact)
    assert difference.mean() <= (4 if encoding in ("JPEG", "JFIF") else 0)
    pil, kind = slide.getRegion(region=box, format=large_image.TILE_FORMAT_PIL)
    assert kind == "PIL"
    np.testing.assert_array_equal(np.asarray(pil), exact)
    tile = slide.getTile(0, 0, 3)
    assert tile[:2] == b"\xff\xd8"
    assert tile.mimetype == slide.getTileMimeType() == "image/jpeg"


def test_sixteen_bits_become_a_picture_that_shows_something(
    sources: dict[str, large_image.TileSource],
) -> None:
    pytest.importorskip("cmap")
    image = pytest.importorskip("PIL.Image")
    frames = sources["frames.ome.tif"]
    exact = frames.getRegion(format="numpy", frame=4)[0]
    assert exact.dtype == np.uint16
    with image.open(io.BytesIO(frames.getRegion(encoding="TIFF", frame=4)[0])) as picture:
        np.testing.assert_array_equal(np.asarray(picture), exact[..., 0])
    with image.open(io.BytesIO(frames.getRegion(encoding="PNG", frame=4)[0])) as picture:
        grey = np.asarray(picture.convert("RGB"))[..., 0].astype(float)
    assert grey.min() == 0
    assert grey.max() == 255
    assert np.corrcoef(grey.ravel(), exact.ravel())[0, 1] > 0.999


def test_styles(folder: Path) -> None:
    pytest.importorskip("cmap")
    style = {"bands": [{"frame": 0, "palette": "#f00", "min": 0, "max": 4000},
                       {"frame": 1, "palette": "#0f0", "min": 0, "max": 4000}]}  # fmt: skip
    with large_image.open(folder / "frames.ome.tif", style=style) as source:
        picture = source.getRegion(format="numpy")[0]
        tile = source.getTile(1, 0, 1, numpyAllowed="always")
    with BioReader(folder / "frames.ome.tif") as br:
        expected = br.render(style=style, z=0, level=0)
    np.testing.assert_array_equal(picture, expected)
    np.testing.assert_array_equal(tile[:128, :72], expected[:128, 128:])
    with large_image.open(folder / "frames.ome.tif", noCache=True) as source:
        source.style = json.dumps(style)
        np.testing.assert_array_equal(source.getRegion(format="numpy")[0], expected)
    with (
        large_image.open(folder / "frames.ome.tif") as source,
        pytest.raises(BadArgument, match="noCache=True"),
    ):
        source.style = style
    with (
        large_image.open(folder / "frames.ome.tif", style={"projection": "max"}) as source,
        pytest.raises(BadArgument, match="a projection is not for tiles of one frame"),
    ):
        source.getTile(0, 0, 0)


def test_fill(sources: dict[str, large_image.TileSource]) -> None:
    slide = sources["slide.tif"]
    limits = {"maxWidth": 70, "maxHeight": 70}
    inner = slide.getRegion(output=limits, format="numpy")[0]
    assert inner.shape == (50, 70, 3)
    boxed = slide.getRegion(output=limits, format="numpy", fill="#ff0000")[0]
    assert boxed.shape == (70, 70, 3)
    np.testing.assert_array_equal(boxed[10:60], inner)
    assert (boxed[:10] == (255, 0, 0)).all()
    corner = slide.getRegion(output=limits, format="numpy", fill="corner:red")[0]
    np.testing.assert_array_equal(corner[:50], inner)


def test_tiled_region(sources: dict[str, large_image.TileSource]) -> None:
    slide = sources["slide.tif"]
    path, kind = slide.getRegion(encoding="TILED", scale={"mm_x": 0.001})
    try:
        assert kind == "image/tiff"
        with BioReader(path) as br, tifffile.TiffFile(path) as tiff:
            assert tiff.pages[0].is_tiled
            assert br.pixel_size("mm")["X"] == pytest.approx(0.001)
            exact = slide.getRegion(scale={"mm_x": 0.001}, format="numpy")[0]
            np.testing.assert_array_equal(br[:][:, :, 0], exact)
    finally:
        path.unlink()
        path.parent.rmdir()


def test_several_frames_in_one_picture(sources: dict[str, large_image.TileSource]) -> None:
    frames = sources["frames.ome.tif"]
    box = {"left": 5, "top": 6, "width": 8, "height": 7}
    sheet = frames.tileFrames(format="numpy", region=box, frameList=[0, 5, 7], framesAcross=2)[0]
    assert sheet.shape == (14, 16, 1)
    for number, (y, x) in {0: (0, 0), 5: (0, 8), 7: (7, 0)}.items():
        one = frames.getRegion(format="numpy", region=box, frame=number)[0]
        np.testing.assert_array_equal(sheet[y : y + 7, x : x + 8], one)


# ---- what belongs to the image


def test_associated_images_and_frames_of_several_images(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "several.ome.tif"
    pixels = [np.full((40, 60), n, np.uint8) for n in (1, 2)]
    macro = (np.arange(20 * 30) % 256).astype(np.uint8).reshape(20, 30)
    arrays = {"a": pixels[0], "b": pixels[1], "macro image": macro, "odd": macro[:7]}
    images = [
        model.Image(
            id=f"Image:{i}", name=name,
            pixels=model.Pixels(
                id=f"Pixels:{i}", dimension_order="XYCZT", type="uint8", size_x=data.shape[1],
                size_y=data.shape[0], size_z=1, size_c=1, size_t=1,
                channels=[model.Channel(id=f"Channel:{i}:0")],
            ),
        )
        for i, (name, data) in enumerate(arrays.items())
    ]  # fmt: skip
    with BioWriter(path, metadata=OME(images=images), series="all") as bw:
        for view, data in zip(bw.series, arrays.values(), strict=True):
            view[...] = data
    with large_image.open(path) as source:
        assert source.getAssociatedImagesList() == ["image3", "macro"]
        assert source.frames == 2
        assert source.getMetadata()["IndexStride"] == {"IndexXY": 1}
        assert source.getMetadata()["IndexRange"] == {"IndexXY": 2}
        assert [int(source.getRegion(format="numpy", frame=n)[0].max()) for n in (0, 1)] == [1, 2]
        assert source.frameToAxes(1) == {"xy": 1}
        data, kind = source.getAssociatedImage("macro", encoding="PNG")
        assert kind == "image/png"
        with image.open(io.BytesIO(data)) as picture:
            np.testing.assert_array_equal(np.asarray(picture), macro)
        small = source.getAssociatedImage("macro", width=15, format="numpy")[0]
        assert small.shape == (10, 15, 1)
        assert source.getAssociatedImage("label") is None
    with large_image.open(path, series=1) as source:
        assert source.frames == 1
        assert source.getPixel(region={"left": 3, "top": 3})["value"] == [2]


def test_names_of_channels(sources: dict[str, large_image.TileSource]) -> None:
    told = sources["frames.ome.tif"].getMetadata()
    assert told["channels"] == ["DAPI", "GFP"]
    assert told["channelmap"] == {"DAPI": 0, "GFP": 1}
    assert [frame["Channel"] for frame in told["frames"][:3]] == ["DAPI", "GFP", "DAPI"]


def test_magnification_that_is_estimated_says_so(
    sources: dict[str, large_image.TileSource], tmp_path: Path
) -> None:
    told = sources["slide.tif"].getMetadata()
    assert (told["magnification"], told["magnificationApproximate"]) == (pytest.approx(20), True)
    imwrite(tmp_path / "silent.ome.tif", np.zeros((9, 9), np.uint8))
    with large_image.open(tmp_path / "silent.ome.tif") as source:
        told = source.getMetadata()
        assert (told["magnification"], told["magnificationApproximate"]) == (None, False)
        with pytest.raises(BadArgument, match="how large a pixel is"):
            source.getRegion(region={"left": 1, "units": "mm"})
        with pytest.raises(BadArgument, match="magnification is not known"):
            source.getRegion(region={"left": 1, "units": "pixels"})


def test_pickled_sources_read_the_same(folder: Path) -> None:
    with large_image.open(folder / "slide.tif", encoding="PNG", edge=True) as source:
        again = pickle.loads(pickle.dumps(source))
        with again:
            assert again.getTile(5, 3, 3) == source.getTile(5, 3, 3)


def test_a_reader_that_is_open_stays_open(folder: Path) -> None:
    with BioReader(folder / "slide.tif") as br:
        with large_image.open(br) as source:
            assert source.sizeX == 700
        assert not br.closed


def test_colour_profiles(tmp_path: Path, sources: dict[str, large_image.TileSource]) -> None:
    cms = pytest.importorskip("PIL.ImageCms")
    profile = cms.ImageCmsProfile(cms.createProfile("sRGB"))
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb",
        iccprofile=profile.tobytes(),
    )  # fmt: skip
    with large_image.open(tmp_path / "a.tif") as source:
        (found,) = source.getICCProfiles()
        assert found.tobytes() == source.getICCProfiles(0).tobytes() == profile.tobytes()
        assert source.getICCProfiles(1) is None
        assert "sRGB" in source.getICCProfiles(onlyInfo=True)[0]
    assert sources["slide.tif"].getICCProfiles() is None


def test_points_and_tiles_at_another_scale(sources: dict[str, large_image.TileSource]) -> None:
    slide = sources["slide.tif"]
    # Pixels are 0.5 µm wide.
    assert slide.getPointAtAnotherScale((40, 60), targetUnits="um") == (20, 30)
    assert slide.getPointAtAnotherScale((20, 30), sourceUnits="um") == (20, 30)
    assert slide.getPointAtAnotherScale(
        (40, 60), targetScale={"magnification": 10}, targetUnits="mag_pixels"
    ) == (20, 30)
    box = {"left": 0.05, "top": 0.03, "width": 0.1, "height": 0.09, "units": "mm"}
    one = slide.getSingleTileAtAnotherScale(box, targetScale={"magnification": 10})
    first = next(slide.tileIteratorAtAnotherScale(box, targetScale={"magnification": 10}))
    assert one is not None
    np.testing.assert_array_equal(one["tile"], first["tile"])
    given = {"tile_size": {"width": 200}}
    for ahead, tile in zip(slide.eagerIterator(**given), slide.tileIterator(**given), strict=True):
        assert (ahead["x"], ahead["y"]) == (tile["x"], tile["y"])
        np.testing.assert_array_equal(ahead["tile"], tile["tile"])


# MIME types of formats that bfbridge reads, as large_image 1.35.6 names them; all but those of
# LIF and ZVI are in its `listMimeTypes` with the sources pil, rasterio, tiff, tifffile and zarr.
MIME_TYPES = [
    "application/vnd+zarr", "application/x-zarr", "application/zip+zarr", "image/bmp",
    "image/geotiff", "image/gif", "image/jp2", "image/jpeg", "image/png", "image/scn",
    "image/tiff", "image/webp", "image/x-leica-lif", "image/x-metamorph-stk", "image/x-ndpi",
    "image/x-portable-anymap", "image/x-portable-graymap", "image/x-portable-pixmap",
    "image/x-svs", "image/x-tga", "image/x-tiff", "image/x-zeiss-lsm", "image/x-zeiss-zvi",
]  # fmt: skip


def test_lists_of_sources() -> None:
    found = large_image.listSources()
    assert {"ometiff", "omezarr", "bioformats", "geo"} <= set(found["sources"])
    assert [name for _, name in found["extensions"]["ome.tif"]] == ["ometiff"]
    assert {"ome.tif", "zarr", "png"} <= set(large_image.listExtensions())
    assert large_image.listMimeTypes() == MIME_TYPES
    assert [name for _, name in found["mimeTypes"]["image/tiff"]] == [
        "ometiff", "geo", "bioformats"
    ]  # fmt: skip
    priority = found["sources"]["geo"]["mimeTypes"]["image/tiff"]
    assert (priority, "geo") in found["mimeTypes"]["image/tiff"]


def test_sources_that_read_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without Bio-Formats, which needs a JVM.
    entries = tuple(entry for entry in registry.BACKENDS if entry.name != "bioformats")
    monkeypatch.setattr(registry, "BACKENDS", entries)
    (folder / "text.txt").write_text("no image")
    for name in ("slide.tif", "frames.ome.tif"):
        for kind in (None, "image/tiff"):
            found = large_image.canReadList(folder / name, kind, noCache=True)
            # large_image: ("tiff", True) is the first, ("zarr", False) is one of the others.
            assert found[0] == ("ometiff", True)
            assert ("omezarr", False) in found
            assert large_image.canRead(folder / name, kind, noCache=True)
        chosen = large_image.canReadList(folder / name, backend="geo")
        assert chosen[0] == ("geo", True)
        assert dict(chosen) == dict(found)
    for name in ("text.txt", "none.tif"):
        # large_image: False for each source.
        found = large_image.canReadList(folder / name, "image/tiff")
        assert {"ometiff", "omezarr", "pictures"} <= {source for source, _ in found}
        assert not any(reads for _, reads in found)
        assert not large_image.canRead(folder / name, "image/tiff")


def test_names_in_modules() -> None:
    assert large_image.constants.TILE_FORMAT_NUMPY is large_image.TILE_FORMAT_NUMPY
    assert large_image.constants.TileOutputMimeTypes["PNG"] == "image/png"
    with pytest.raises(large_image.exceptions.TileSourceFileNotFoundError):
        large_image.open("none.tif")
    assert issubclass(
        large_image.exceptions.TileSourceXYZRangeError, large_image.exceptions.TileGeneralError
    )


# ---- errors


@pytest.mark.parametrize(("call", "given", "message"), [
    ("getRegion", {"region": {"left": 1, "units": "parsec"}}, "units='parsec'"),
    ("getRegion", {"region": {"left": 1, "units": "projection"}}, "Projections"),
    ("getRegion", {"region": {"lft": 1}}, "there is no 'lft'"),
    ("getRegion", {"scale": {"mag": 1}}, "there is no 'mag'"),
    ("getRegion", {"output": {"width": 1}}, "there is no 'width'"),
    ("getRegion", {"output": {"maxWidth": -1}}, "maxWidth"),
    ("getRegion", {"format": "tensor"}, "format='tensor'"),
    ("getRegion", {"encoding": "BMP"}, "encoding='BMP'"),
    ("getRegion", {"jpegQuality": 0}, "jpegQuality=0"),
    ("getRegion", {"tiffCompression": "rar"}, "tiffCompression='rar'"),
    ("getRegion", {"colour": 1}, "colour=: there is no such option"),
    ("getRegion", {"resample": "best"}, "resample='best'"),
    ("tileIterator", {"tile_overlap": {"x": 500}}, "smaller than the tile"),
    ("tileIterator", {"tile_position": {"x": 1}}, "tile_position="),
    ("tileIterator", {"tile_size": {"depth": 1}}, "there is no 'depth'"),
    ("getThumbnail", {"width": 1}, "width=1"),
    ("histogram", {"range": "wide"}, "range='wide'"),
    ("histogram", {"bins": 0}, "bins=0"),
])  # fmt: skip
def test_arguments_that_make_no_sense(
    sources: dict[str, large_image.TileSource], call: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadArgument, match=message):
        getattr(sources["slide.tif"], call)(**given)


def test_frames_and_levels_that_there_are_not(sources: dict[str, large_image.TileSource]) -> None:
    frames = sources["frames.ome.tif"]
    for call in (
        lambda: frames.getRegion(frame=12),
        lambda: frames.tileIterator(frame=-1),
        lambda: frames.frameToAxes(12),
        lambda: frames.axesToFrame(c=2),
        lambda: frames.axesToFrame(q=0),
        lambda: frames.getTile(0, 0, 2),
        lambda: frames.getTile(2, 0, 1),
        lambda: frames.getOneBandInformation(2),
    ):
        with pytest.raises(BadSelection):
            call()
    assert issubclass(BadSelection, large_image.TileSourceError)


def test_files_that_there_are_not(tmp_path: Path) -> None:
    with pytest.raises(large_image.TileSourceFileNotFoundError):
        large_image.open(tmp_path / "none.tif")
    assert large_image.TileSourceFileNotFoundError is FileMissing
    assert not large_image.canRead(tmp_path / "none.tif")
    with pytest.raises(BadArgument, match="edge="):
        large_image.open(tmp_path / "none.tif", edge=7)
