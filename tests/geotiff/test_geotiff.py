"""Georeferenced rasters: equal to rasterio, and nothing is opened but the file itself."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter, registry
from bfbridge.errors import (
    BadArgument,
    BadSelection,
    BfbridgeError,
    LimitExceeded,
    UnreadableFile,
    Unsupported,
)
from bfbridge.limits import Limits
from tests.support import webserver
from tests.support.liveserver import live

rasterio = pytest.importorskip("rasterio")

from rasterio.enums import Resampling  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402
from rasterio.vrt import WarpedVRT  # noqa: E402
from rasterio.warp import transform_bounds  # noqa: E402

Array = np.ndarray[Any, Any]
PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_200_000, 10, 20)}


def write_geotiff(
    path: Path,
    bands: int = 3,
    dtype: str = "uint8",
    size: tuple[int, int] = (700, 900),
    **more: Any,
) -> Array:
    pixels = np.random.default_rng(bands).integers(0, 250, (bands, *size)).astype(dtype)
    pixels[:, :60, 100:170] = more.get("nodata") or 0
    options = {**PLACE, "tiled": True, "blockxsize": 128, "blockysize": 256, "compress": "deflate"}
    options |= more
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, dtype=dtype, height=size[0], width=size[1],
        **options,
    ) as made:  # fmt: skip
        made.write(pixels)
        made.build_overviews([2, 4], Resampling.average)
    return pixels


@pytest.fixture(scope="module")
def color(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("geo") / "color.tif"
    write_geotiff(path, photometric="RGB", nodata=0)
    return path


@pytest.fixture(scope="module")
def heights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("geo") / "heights.tif"
    write_geotiff(path, 2, "float32", nodata=7, interleave="band")
    return path


@pytest.mark.slow(ci=True)
def test_as_it_is_stored(color: Path, heights: Path) -> None:
    for path, samples in ((color, 3), (heights, 1)):
        with BioReader(path, backend="geo") as br, rasterio.open(path) as theirs:
            assert br.samples_per_pixel == samples
            assert rasterio.crs.CRS.from_user_input(br.crs) == theirs.crs
            assert br.transform == theirs.transform
            assert br.bounds() == tuple(theirs.bounds)
            np.testing.assert_allclose(
                br.bounds("EPSG:4326"),
                transform_bounds(theirs.crs, "EPSG:4326", *theirs.bounds, densify_pts=21),
            )
            np.testing.assert_array_equal(br[:][:, :, 0], theirs.read().transpose(1, 2, 0))
            np.testing.assert_array_equal(
                br[31:300, 650:701, 0, 1:], theirs.read(window=((31, 300), (650, 701)))[1:]
                .transpose(1, 2, 0)[:, :, np.newaxis].reshape(br[31:300, 650:701, 0, 1:].shape),
            )  # fmt: skip
            assert [view.shape[:2] for view in br.levels] == [(700, 900), (350, 450), (175, 225)]
            for number in (0, 1):
                with rasterio.open(path, overview_level=number) as smaller:
                    view = br.levels[number + 1]
                    np.testing.assert_array_equal(
                        view[:][:, :, 0], np.moveaxis(smaller.read(), 0, 2)
                    )
                    np.testing.assert_allclose(tuple(view.transform), tuple(smaller.transform))
            mask = br.series[1]
            assert (mask.role, mask.is_mask, mask.name) == ("label", True, "valid")
            np.testing.assert_array_equal(mask[:], theirs.dataset_mask() // 255)
            assert mask[:].min() == 0
            assert br.pixel_size("m") == {"X": 10, "Y": 20, "Z": None}
            assert br.original_metadata["driver"] == "GTiff"


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_in_another_projection(color: Path, heights: Path, resampling: str) -> None:
    for path in (color, heights):
        options = {"projection": "EPSG:3857", "resampling": resampling}
        with BioReader(path, options=options) as br, rasterio.open(path) as stored:
            with WarpedVRT(
                stored, crs="EPSG:3857", resampling=Resampling[resampling], add_alpha=True
            ) as theirs:
                assert (br.backend, br.crs) == ("geo", "EPSG:3857")
                assert br.transform == theirs.transform
                whole = theirs.read(list(stored.indexes))
                np.testing.assert_array_equal(br[:][:, :, 0], np.moveaxis(whole, 0, 2))
                np.testing.assert_array_equal(
                    br[100:400, 300:333, 0, 0], whole[0, 100:400, 300:333]
                )
                np.testing.assert_array_equal(br.series[1][:], theirs.dataset_mask() // 255)
            half = br.levels[1]
            assert half.shape[:2] == tuple(-(-n // 2) for n in br.shape[:2])
            with WarpedVRT(
                stored, crs="EPSG:3857", resampling=Resampling[resampling], add_alpha=True,
                transform=half.transform, height=half.shape[0], width=half.shape[1],
            ) as theirs:  # fmt: skip
                np.testing.assert_array_equal(
                    half[:][:, :, 0], np.moveaxis(theirs.read(list(stored.indexes)), 0, 2)
                )


def test_regions_in_coordinates(color: Path) -> None:
    with BioReader(color, backend="geo") as br:
        found = br.region((500_100, 500_250), (5_199_000, 5_199_400), units="projection")
        np.testing.assert_array_equal(found, br[30:50, 10:25])
        west, south, east, north = br.bounds("EPSG:4326")
        middle = (west + east) / 2, (south + north) / 2
        part = br.region((middle[0], middle[0] + 0.01), (middle[1], None), units="EPSG:4326")
        assert 0 < part.shape[0] < 400
        assert part.shape[1] < 300
        box = (middle[0], middle[1] - 0.02, middle[0] + 0.03, middle[1] + 0.01)
        part = br.region(box[::2], box[1::2], units="EPSG:4326")
        with rasterio.open(color) as theirs:
            around = transform_bounds("EPSG:4326", theirs.crs, *box, densify_pts=21)
            window = rasterio.windows.from_bounds(*around, theirs.transform)
            (top, bottom), (left, right) = window.toranges()
            rows, columns = slice(round(top), round(bottom)), slice(round(left), round(right))
            want = theirs.read()[:, rows, columns]
        np.testing.assert_array_equal(part[:, :, 0], np.moveaxis(want, 0, 2))
        assert br.region(units="EPSG:4326", max_size=100).shape[:2] == (78, 100)
        level = br.levels[1]
        np.testing.assert_array_equal(
            level.region((500_100, 500_260), (5_199_000, 5_199_400), units="projection"),
            level[15:25, 5:13],
        )
        with pytest.raises(BadSelection, match="lies outside"):
            br.region((0, 1), (0, 1), units="EPSG:4326")
        with pytest.raises(BadArgument, match="no such reference system"):
            br.region((0, 1), (0, 1), units="EPSG:999999")


def test_warped_boxes(color: Path) -> None:
    with BioReader(color, backend="geo") as br, rasterio.open(color) as stored:
        left, bottom, *_ = br.bounds("EPSG:3857")
        box = (left - 500, bottom - 500, left + 2000, bottom + 3000)
        pixels, valid = br.warped(box, (350, 250))
        with WarpedVRT(
            stored, crs="EPSG:3857", add_alpha=True, height=350, width=250,
            transform=from_origin(box[0], box[3], 10, 10),
        ) as theirs:  # fmt: skip
            want = theirs.read()
        np.testing.assert_array_equal(pixels, np.moveaxis(want[:3], 0, 2))
        np.testing.assert_array_equal(valid, want[3] != 0)
        assert valid.any()
        assert not valid.all()
        with pytest.raises(BadArgument, match="resampling="):
            br.warped(box, (5, 5), resampling="gauss")
        with pytest.raises(BadArgument, match="size="):
            br.warped(box, (0, 5))


def test_palettes_and_alpha(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    pixels = (np.arange(64 * 64) % 5).astype(np.uint8).reshape(1, 64, 64)
    with rasterio.open(
        path, "w", driver="GTiff", count=1, dtype="uint8", height=64, width=64, **PLACE
    ) as made:
        made.write(pixels)
        made.write_colormap(1, {0: (1, 2, 3, 255), 4: (200, 100, 50, 255)})
    with BioReader(path, backend="geo") as br:
        assert br.lookup_table()[:, 4].tolist() == [200, 100, 50]
        assert len(br.series) == 1
    write_geotiff(tmp_path / "alpha.tif", 4, photometric="RGB", alpha="YES")
    with BioReader(tmp_path / "alpha.tif", options={"projection": "EPSG:4326"}) as br:
        assert br.samples_per_pixel == 4
        np.testing.assert_array_equal(br.series[1][:] != 0, br[:][:, :, 0, 3] != 0)


def test_cloud_optimized(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (3, 600, 700), np.uint8)
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="COG", count=3, dtype="uint8", height=600, width=700, blocksize=256,
        compress="deflate", **PLACE,
    ) as made:  # fmt: skip
        made.write(pixels)
    with BioReader(path, backend="geo") as br, rasterio.open(path) as theirs:
        assert theirs.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (br.crs, br.transform) == ("EPSG:32633", theirs.transform)
        np.testing.assert_array_equal(br[:][:, :, 0], pixels.transpose(1, 2, 0))
        assert len(br.levels) == 1 + len(theirs.overviews(1)) > 1
        for number, level in enumerate(br.levels[1:]):
            with rasterio.open(path, overview_level=number) as smaller:
                np.testing.assert_array_equal(level[:][:, :, 0], np.moveaxis(smaller.read(), 0, 2))


def test_jpeg_2000(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 300, 200), np.uint8)
    path = tmp_path / "a.jp2"
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", count=3, dtype="uint8", height=300, width=200,
        QUALITY="100", REVERSIBLE="YES", YCBCR420="NO", **PLACE,
    ) as made:  # fmt: skip
        made.write(pixels)
    with BioReader(path, backend="geo") as br, rasterio.open(path) as theirs:
        assert br.crs == "EPSG:32633"
        np.testing.assert_array_equal(br[:][:, :, 0], theirs.read().transpose(1, 2, 0))


FORMATS = [
    ("a.img", "HFA", "uint16", 2, {}),
    ("a.ntf", "NITF", "uint8", 3, {"ICORDS": "G"}),
    ("a.grb2", "GRIB", "float64", 2, {}),
    ("a.asc", "AAIGrid", "int32", 1, {}),
    ("a.grd", "GSBG", "float32", 1, {}),
    ("b.grd", "GS7BG", "float64", 1, {}),
    ("c.grd", "GSAG", "float64", 1, {}),
    ("a.bt", "BT", "int16", 1, {}),
    ("N46E015.hgt", "SRTMHGT", "int16", 1, {}),
    ("a.dt0", "DTED", "int16", 1, {}),
    ("a.png", "PNG", "uint16", 1, {}),
]


@pytest.mark.parametrize(("name", "driver", "dtype", "bands", "more"), FORMATS)
def test_other_formats_of_one_file(
    tmp_path: Path, name: str, driver: str, dtype: str, bands: int, more: dict[str, Any]
) -> None:
    path = tmp_path / name
    rows, columns = {"SRTMHGT": (1201, 1201), "DTED": (121, 121)}.get(driver, (40, 60))
    step = 1 / (rows - 1) if rows == columns else 0.01
    where = {
        "crs": "EPSG:4326", "transform": from_origin(15 - step / 2, 47 + step / 2, step, step)
    }  # fmt: skip
    pixels = np.random.default_rng(bands).integers(0, 200, (bands, rows, columns)).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver=driver, count=bands, dtype=dtype, height=rows, width=columns,
            **where, **more,
        ) as made:  # fmt: skip
            made.write(pixels)
    for sidecar in set(tmp_path.iterdir()) - {path}:
        sidecar.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as theirs:
            stored, crs, transform = theirs.read(), theirs.crs, theirs.transform
            bounds = tuple(theirs.bounds)
    np.testing.assert_array_equal(stored, pixels)
    for ending in (".aux.xml", ".msk", ".ovr"):
        (tmp_path / f"{name}{ending}").write_text("<PAMDataset><SRS>EPSG:3857</SRS></PAMDataset>")
    path.with_suffix(".prj").write_text("Projection UTM\nZone 33\n")
    with BioReader(path, backend="geo") as br:
        assert br.original_metadata["driver"] == driver
        np.testing.assert_array_equal(
            br[:].reshape(rows, columns, bands), np.moveaxis(stored, 0, 2)
        )
        if crs is None:
            assert br.crs is None
        else:
            assert rasterio.crs.CRS.from_user_input(br.crs) == crs
            np.testing.assert_allclose(tuple(br.transform), tuple(transform))
            np.testing.assert_allclose(br.bounds(), bounds)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\x89HDF\r\n\x1a\n", "HDF5 or netCDF"), (b"CDF\x01", "netCDF"), (b"PCIDSK  ", "PCIDSK"),
        (b"SQLite format 3\0", "SQLite"), (b"ENVI\n", "it is not a GeoTIFF"),
    ],
)  # fmt: skip
def test_formats_that_may_open_other_files(tmp_path: Path, head: bytes, message: str) -> None:
    path = tmp_path / "a.dat"
    path.write_bytes(head + bytes(500))
    with pytest.raises(Unsupported, match=message):
        BioReader(path, backend="geo")


def test_pixels_outside_of_the_file_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.img"
    pixels = np.random.default_rng(0).integers(1, 200, (1, 640, 640)).astype(np.uint8)
    with rasterio.open(
        path, "w", driver="HFA", count=1, dtype="uint8", height=640, width=640, USE_SPILL="YES",
        **PLACE,
    ) as made:  # fmt: skip
        made.write(pixels)
    assert path.with_suffix(".ige").exists()
    with rasterio.open(path) as theirs:
        np.testing.assert_array_equal(theirs.read(), pixels)
    with pytest.raises(UnreadableFile), BioReader(path, backend="geo") as br:
        br[:]


def test_plain_images_are_not_claimed(tmp_path: Path, color: Path) -> None:
    path = tmp_path / "a.ome.tif"
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    with BioWriter(path, X=64, Y=64, dtype="uint16") as bw:
        bw[:] = pixels
    with BioReader(path) as br:
        assert (br.backend, br.crs) == ("ometiff", None)
        with pytest.raises(BadArgument, match="no coordinate reference system"):
            br.bounds()
    with pytest.raises(BadArgument, match="cannot be projected"):
        BioReader(path, options={"projection": "EPSG:3857"})
    with BioReader(path, backend="geo") as br:
        np.testing.assert_array_equal(br[:], pixels)
    with pytest.raises(BadArgument, match="add projection"):
        BioReader(color, backend="geo", options={"resampling": "nearest"})
    with pytest.raises(BadArgument, match="no option named zoom"):
        BioReader(color, backend="geo", options={"zoom": 1})


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave Bio-Formats out, as where it is not installed."""
    others = tuple(entry for entry in registry.BACKENDS if entry.name != "bioformats")
    monkeypatch.setattr(registry, "BACKENDS", others)


@pytest.mark.usefixtures("no_java")
def test_coordinates_of_a_file_of_another_backend(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_geotiff(path, 1, nodata=None)
    with BioReader(path) as br:
        assert (br.backend, br.crs) == ("geo", "EPSG:32633")
        assert br.bounds()[0] == 500_000
    jpeg = tmp_path / "a.jp2"
    with rasterio.open(
        jpeg, "w", driver="JP2OpenJPEG", count=1, dtype="uint8", height=64, width=64, **PLACE
    ) as made:
        made.write(np.ones((1, 64, 64), np.uint8))
    with BioReader(jpeg) as br:
        assert (br.backend, br.crs) == ("pictures", "EPSG:32633")
        assert br.warped(br.bounds("EPSG:3857"), (8, 8))[0].shape == (8, 8, 1)


# ---- only the file itself


def test_virtual_rasters_are_refused(tmp_path: Path, color: Path) -> None:
    text = (
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">'
        '<SimpleSource><SourceFilename relativeToVRT="0">{}</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    with webserver.listen() as (url, asked):
        for number, target in enumerate((color, f"/vsicurl/{url}/a.tif", "/etc/passwd")):
            for suffix in (".vrt", ".tif"):
                path = tmp_path / f"a{number}{suffix}"
                path.write_text(text.format(target))
                for given in ({"backend": "geo"}, {"options": {"projection": "EPSG:3857"}}):
                    with pytest.raises(Unsupported, match="refers to other files and URLs"):
                        BioReader(path, **given)
    assert not asked


def test_sidecars_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.full((1, 64, 64), 9, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(
            path, "w", driver="GTiff", count=1, dtype="uint8", height=64, width=64
        ) as made:
            made.write(pixels)
    (tmp_path / "a.tfw").write_text("10\n0\n0\n-10\n500000\n5000000\n")
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>1,2,0,3,0,-2</GeoTransform>"
        '<PAMRasterBand band="1"><NoDataValue>9</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    write_geotiff(tmp_path / "a.tif.ovr", 1, size=(32, 32))
    with rasterio.open(path) as theirs:
        assert theirs.crs is not None  # GDAL alone reads it
    with BioReader(path, backend="geo") as br:
        assert br.crs is None
        assert len(br.series) == len(br.levels) == 1
    data = path.read_bytes()
    with BioReader(data, backend="geo") as br:
        assert (br[:] == 9).all()


def test_names_of_gdal_are_paths(tmp_path: Path) -> None:
    with webserver.listen() as (url, asked):
        for name in (f"/vsicurl/{url}/a.tif", "/vsimem/a.tif", "GTIFF_DIR:1:/etc/hosts"):
            with pytest.raises(BfbridgeError, match="no such file|no filesystem"):
                BioReader(name, backend="geo")
    assert not asked


def test_urls_use_our_storage(color: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").pipe("/geo/color.tif", color.read_bytes())
    with BioReader("memory://geo/color.tif", backend="geo") as br, rasterio.open(color) as theirs:
        np.testing.assert_array_equal(br[:][:, :, 0], theirs.read().transpose(1, 2, 0))
        assert br.levels[2].shape[:2] == (175, 225)


@pytest.mark.usefixtures("no_java")
def test_maps_of_the_server(color: Path) -> None:
    pytest.importorskip("aiohttp")
    imagecodecs = pytest.importorskip("imagecodecs")
    half, zoom = 20037508.342789244, 12
    with BioReader(color, backend="geo") as br, live(color.parent) as server:
        left, _, _, top = br.bounds("EPSG:3857")
        width = 2 * half / 2**zoom
        column, row = int((left + half) // width), int((half - top) // width)
        box = (column * width - half, half - (row + 1) * width, (column + 1) * width - half,
               half - row * width)  # fmt: skip
        pixels, valid = br.warped(box, (256, 256), resampling="bilinear")
        answer = server.get(f"/map/color.tif/0/{zoom}/{column}/{row}.png")
        assert answer.status == 200, answer.body
        picture = imagecodecs.png_decode(answer.body)
        np.testing.assert_array_equal(picture[..., 3] != 0, valid)
        np.testing.assert_array_equal(picture[valid][:, :3], pixels[valid])
        assert valid.any()
        assert not imagecodecs.png_decode(server.get("/map/color.tif/0/5/0/0.png").body).any()
        assert server.get("/map/color.tif/0/2/4/0.png").status == 404
        assert server.get("/map/color.tif/0/31/4/0.png").status == 404


def test_damaged_files(tmp_path: Path, color: Path) -> None:
    data = color.read_bytes()
    (tmp_path / "short.tif").write_bytes(data[: len(data) // 2])
    with (
        pytest.raises(UnreadableFile, match="GDAL cannot read it"),
        BioReader(tmp_path / "short.tif", backend="geo") as br,
    ):
        br[:]
    with pytest.raises(LimitExceeded, match="block"):
        BioReader(color, backend="geo", limits=Limits(chunk_bytes=1000))
    broken = bytearray(data)
    for start in range(3000, len(data) - 200, 5000):
        broken[start : start + 100] = b"\xff" * 100
    with BioReader(bytes(broken), backend="geo") as br, pytest.raises(UnreadableFile):
        br[:]


@pytest.mark.slow(ci=True)
def test_datasets_are_used_by_threads_that_did_not_open_them(color: Path) -> None:
    # rasterio keeps the functions that open files by context. The process would crash.
    code = """
import os, sys, threading
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from bfbridge import BioReader
data = open(sys.argv[1], "rb").read()
readers = [BioReader(data, 6, backend="geo") for _ in range(2)]
whole = readers[0][:]
def read(number):
    y = number * 13
    return np.array_equal(readers[number % 2][y:y + 140], whole[y:y + 140])
with ThreadPoolExecutor(6) as pool:
    assert all(pool.map(read, range(40)))
child = os.fork()
if not child:
    sys.exit(0 if read(3) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
closing = threading.Thread(target=readers[0].close)
closing.start()
closing.join()
# The other reader is left open.
"""
    done = subprocess.run(
        [sys.executable, "-c", code, color], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_readers_in_forked_children(color: Path) -> None:
    with BioReader(color, backend="geo") as br:
        want = br[:]
        child = os.fork()
        if not child:
            same = np.array_equal(br[:], want)
            os._exit(0 if same else 1)
        assert np.array_equal(br[:], want)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
