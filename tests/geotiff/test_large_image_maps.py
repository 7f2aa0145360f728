"""`bfbridge.large_image` with rasters in a projection answers as large_image's rasterio source.

`large_image_maps.json` holds the answers of large_image 1.35.6; `tests.support.largeimagemaps`
asked them, and tells how. `rio_tiler_tiles.json` holds pixels of rio-tiler 9.4.12, of
`tests.support.riotilermaps`.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import large_image, registry
from bfbridge.errors import BadArgument, BfbridgeError, LimitExceeded
from tests.support.largeimagemaps import CODE, make_raster
from tests.support.liveserver import live
from tests.support.riotilermaps import STEP

rasterio = pytest.importorskip("rasterio")

STORED = json.loads((Path(__file__).parent / "large_image_maps.json").read_text())
TILES = json.loads((Path(__file__).parent / "rio_tiler_tiles.json").read_text())
ASKED: dict[str, Any] = {}
exec(compile(CODE, "largeimagemaps", "exec"), ASKED)


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "raster.tif"
    make_raster(path)
    return path


@pytest.fixture(autouse=True, scope="module")
def no_java() -> Iterator[None]:
    """Leave Bio-Formats out, as where it is not installed."""
    others = tuple(entry for entry in registry.BACKENDS if entry.name != "bioformats")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(registry, "BACKENDS", others)
        yield


@pytest.fixture(scope="module")
def world(raster: Path) -> Iterator[large_image.TileSource]:
    with large_image.open(raster, projection="EPSG:3857") as source:
        yield source


def near(ours: Any, theirs: Any) -> bool:
    """Whether answers are equal, numbers but for rounding errors."""
    if isinstance(theirs, dict):
        return set(ours) == set(theirs) and all(near(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(near, ours, theirs))
    if isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-7, abs_tol=1e-6)
    return bool(ours == theirs)


def test_answers_of_large_image(raster: Path, world: large_image.TileSource) -> None:
    with large_image.open(raster, backend="geo") as native:
        ours = json.loads(json.dumps(ASKED["answers"](world, native)))
    assert set(ours) == set(STORED)
    different = {
        key: (ours[key], STORED[key]) for key in STORED if not near(ours[key], STORED[key])
    }
    assert not different


def test_smaller_results_are_means_of_pixels_with_values(tmp_path: Path) -> None:
    path = tmp_path / "even.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=2, dtype="uint8", height=300, width=400, crs="EPSG:32633",
        transform=rasterio.Affine(10, 0, 5e5, 0, -20, 5.2e6),
    ) as made:  # fmt: skip
        made.write(np.stack([np.full((300, 400), value, np.uint8) for value in (200, 90)]))
    with large_image.open(path, projection="EPSG:3857") as source:
        bounds = source.getBounds("EPSG:3857")
        # Across the upper left corner of the raster. Zeros around it would make its edge darker.
        box = {"left": bounds["xmin"] - 1000, "top": bounds["ymax"] + 1000, "width": 3000,
               "height": -3000, "units": "projection"}  # fmt: skip
        for size in (20, 33, 700):
            small = source.getRegion(region=box, format="numpy", output={"maxWidth": size})[0]
            assert small.shape[1:] == (size, 3)
            valid = small[..., 2] != 0
            assert 0.1 < valid.mean() < 0.6
            assert (small[valid][:, :2] == (200, 90)).all()
            assert not small[~valid].any()
    with rasterio.open(
        path, "w", driver="GTiff", count=1, dtype="float32", height=300, width=400, nodata=np.nan,
        crs="EPSG:32633", transform=rasterio.Affine(10, 0, 5e5, 0, -20, 5.2e6),
    ) as made:  # fmt: skip
        values = np.full((1, 300, 400), 200, np.float32)
        values[:, ::3, ::5] = np.nan
        made.write(values)
    with large_image.open(path, projection="EPSG:3857") as source:
        small = source.getThumbnail(16, format="numpy")[0]
        assert (small[..., 0] == 200).mean() > 0.5
        assert set(np.unique(small[..., 0])) <= {0, 200}


def test_other_bands_and_pictures(tmp_path: Path, raster: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("cmap")
    path = tmp_path / "heights.tif"
    values = (np.arange(300 * 400).reshape(1, 300, 400) % 977).astype(np.float32)
    values[:, :50] = -9
    with rasterio.open(
        path, "w", driver="GTiff", count=1, dtype="float32", height=300, width=400, nodata=-9,
        crs="EPSG:4326", transform=rasterio.Affine(0.01, 0, 10, 0, -0.01, 50),
    ) as made:  # fmt: skip
        made.write(values)
    with large_image.open(path, projection=3857, encoding="PNG") as source:
        assert source.getBandInformation() == {1: {"interpretation": "gray"}}
        region, _ = source.getRegion(
            region={"left": 10.5, "top": 49.3, "right": 11, "bottom": 48.9, "units": "EPSG:4326"},
            format="numpy",
        )
        assert (region.dtype, region.shape[2]) == (np.float32, 2)
        assert set(np.unique(region[..., 1])) == {1}
        assert set(np.unique(region[..., 0])) <= set(np.unique(values))
        box = source.getBounds("EPSG:3857")
        assert box["srs"] == "EPSG:3857"
        with image.open(io.BytesIO(source.getThumbnail(width=64)[0])) as picture:
            assert (picture.mode, picture.size[0]) == ("RGBA", 64)
            drawn = np.asarray(picture)
        assert not drawn[:4, :, 3].any()  # nodata
        assert (drawn[-10:-2, 5:-5, 3] == 255).all()
        found = source.histogram(bins=4, output={"maxWidth": 128})
        assert found["max"][0] <= 977
    style = {"bands": [{"band": 1, "palette": "#f00", "min": 0, "max": 255}]}
    with large_image.open(raster, projection="EPSG:3857", style=style) as source:
        tile = source.getTile(8876, 5768, 14, numpyAllowed="always")
    with large_image.open(raster, projection="EPSG:3857") as source:
        plain = source.getTile(8876, 5768, 14, numpyAllowed="always")
        np.testing.assert_array_equal(tile[..., 0], plain[..., 0])
        assert not tile[..., 1:3].any()
        again = pickle.loads(pickle.dumps(source))
        with again:
            np.testing.assert_array_equal(
                again.getTile(8876, 5768, 14, numpyAllowed="always"), plain
            )


def test_units_per_pixel(raster: Path) -> None:
    # Twice the Earth at level 0: one level more for the same pixels.
    units = 2 * 40075016.68557849 / 256
    with large_image.open(raster, projection="EPSG:3857", unitsPerPixel=units) as source:
        assert source.levels == 16
        corners = source.getTileCorners(0, 0, 0)
    np.testing.assert_allclose(corners, np.array([-1, -1, 1, 1]) * 40075016.68557849)


def test_coordinates_of_files_without(tmp_path: Path, raster: Path) -> None:
    plain = tmp_path / "plain.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            plain, "w", driver="GTiff", count=1, dtype="uint8", height=30, width=40
        ) as made:
            made.write(np.ones((1, 30, 40), np.uint8))
    with large_image.open(plain) as source:
        assert source.getCrs() is None
        assert source.getPixelSizeInMeters() is None
        assert source.getBounds() == {"sizeX": 40, "sizeY": 30}
        assert source.getCenter() == (15, 20)
        for call in (
            lambda: source.pixelToProjection(1, 1),
            lambda: source.toNativePixelCoordinates(1, 1, "EPSG:4326"),
            lambda: source.getRegion(region={"left": 1, "top": 1, "units": "EPSG:4326"}),
        ):
            with pytest.raises(BadArgument, match="no coordinate reference system"):
                call()
    with pytest.raises(BadArgument, match="no coordinate reference system"):
        large_image.open(plain, projection="EPSG:3857")
    assert not large_image.canRead(plain, projection="EPSG:3857")
    assert large_image.canRead(raster, projection="EPSG:3857")
    for projection, message in (
        ("EPSG:4326", "linear units"),
        ("EPSG:1", "no such"),
        (True, "give"),
    ):
        with pytest.raises(BadArgument, match=message):
            large_image.open(raster, projection=projection)
    with (
        large_image.open(raster, projection="EPSG:3857") as source,
        pytest.raises(LimitExceeded, match="tiles of the map"),
    ):
        source.getRegion(
            format="numpy", region={"left": 0, "top": 0, "right": 90000, "bottom": 90000}
        )
    with (
        large_image.open(raster, projection="EPSG:3857") as source,
        pytest.raises(BfbridgeError, match="at least"),
    ):
        source.getRegion(region={"left": 1, "units": "EPSG:4326"})


def test_tiles_of_the_server_are_those_of_large_image(raster: Path) -> None:
    pytest.importorskip("aiohttp")
    imagecodecs = pytest.importorskip("imagecodecs")
    with live(raster.parent) as server:
        for name in ("tile 14 8876 5768", "tile 11 1109 721"):
            place = "/".join(name.split()[1:])
            url = f"/map/{raster.name}/0/{place}.png"
            answer = server.get(f"{url}?resampling=nearest")
            assert answer.status == 200, answer.body
            picture = imagecodecs.png_decode(answer.body)
            if picture.shape[2] == 3:  # opaque
                picture = np.dstack([picture, np.full((256, 256), 255, np.uint8)])
            assert ASKED["pixels"](picture) == STORED[name]
            smooth = server.get(url)
            assert smooth.body != answer.body
            assert smooth.headers["ETag"] != answer.headers["ETag"]
        wrong = server.get(f"{url}?resampling=gauss")
        assert (wrong.status, b"resampling is one of" in wrong.body) == (400, True)


def test_tiles_of_the_server_are_those_of_rio_tiler(raster: Path) -> None:
    pytest.importorskip("aiohttp")
    imagecodecs = pytest.importorskip("imagecodecs")
    with live(raster.parent) as server:
        for name, theirs in TILES.items():
            place, method = name.split()
            answer = server.get(f"/map/{raster.name}/0/{place}.png?resampling={method}")
            assert answer.status == 200, answer.body
            picture = imagecodecs.png_decode(answer.body)
            if picture.shape[2] == 3:  # opaque
                picture = np.dstack([picture, np.full((256, 256), 255, np.uint8)])
            ours = picture[::STEP, ::STEP].astype(int)
            wanted = np.moveaxis(np.array(theirs), 0, -1)
            np.testing.assert_array_equal(ours[..., 3], wanted[..., 3], name)
            assert wanted[..., 3].any()
            # Interpolated values may be rounded another way by other versions of GDAL.
            most = 0 if method == "nearest" else 1
            inside = wanted[..., 3] != 0
            np.testing.assert_allclose(ours[inside], wanted[inside], rtol=0, atol=most)


CONTROL = [(1000, 9000, 0, 0), (4000, 9000, 3000, 0), (4100, 8000, 3000, 700),
           (1050, 8010, 0, 700)]  # fmt: skip
CAPITOL = [(-8578909.8696, 4704125.8132, 0, 0), (-8571075.0742, 4710164.3385, 3000, 700)]
# Shape and digest of large_image 1.35.6 with pyproj.
CONTROLLED = [
    ("epsg:3857", CAPITOL, "epsg:4326", (-77.015104, 38.887642, -77.005877, 38.892235),
     [[76, 394, 3], "83d9ce2912ff"]),
    ("EPSG:32633", CONTROL, "EPSG:32633", (1500, 8800, 2000, 8300),
     [[352, 534, 3], "c35f01818b53"]),
    ("EPSG:32633", CONTROL[:3], "EPSG:32633", (1500, 8800, 2000, 8300),
     [[351, 550, 3], "1bb9ba174b40"]),
    ("EPSG:32633", CONTROL, "EPSG:32633", (0, 9800, 1100, 8900),
     [[73, 171, 3], "7202b9a71ae6"]),
]  # fmt: skip


def test_regions_by_ground_control_points(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    y, x = np.mgrid[0:700, 0:3000]
    pixels = np.stack([(x + y) % 251, (x * 3) % 241, (y * 5) % 239], -1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(256, 256), photometric="rgb")
    edges = ("left", "top", "right", "bottom")
    with large_image.open(tmp_path / "a.tif") as source:
        for crs, points, target, box, theirs in CONTROLLED:
            region = dict(zip(edges, box, strict=True))
            found, kind = source.getGeospatialRegion(crs, points, target, region, format="numpy")
            assert kind == "numpy"
            assert ASKED["pixels"](found) == theirs
        # large_image counts from the far edge.
        outside = dict(zip(edges, (-500, 8800, -10, 8300), strict=True))
        crs = "EPSG:32633"
        assert not source.getGeospatialRegion(crs, CONTROL, crs, outside, format="numpy")[0].size
        for points, box, message in (
            (CONTROL[:1], outside, "no transform"), (CONTROL[:1] * 3, outside, "no transform"),
            ([(1, 2, 3)], outside, "row of each point"),
            (CONTROL, {"left": 1}, "top is missing"), ([(1, 2, "a", 4)], outside, "src_gcps"),
        ):  # fmt: skip
            with pytest.raises(BadArgument, match=message):
                source.getGeospatialRegion(crs, points, crs, box)
        with pytest.raises(BadArgument, match="no such reference system"):
            source.getGeospatialRegion("EPSG:1", CONTROL, crs, outside)
