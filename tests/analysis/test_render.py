"""Regions, resampling, thumbnails and statistics against numpy."""

import itertools

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.analysis.regions import region_shape
from bfbridge.engine.resample import METHODS, resample, to_dtype
from bfbridge.errors import BadArgument, BadSelection
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr

PIXELS = distinct((2, 3, 4, 37, 53))
RGB = distinct((1, 1, 2, 40, 60, 3))
SIZES = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 2}


def face(tczyx):
    return tczyx.transpose(3, 4, 2, 1, 0)


def weights(edges, size):
    """Share of each old pixel in each new one, computed pixel by pixel."""
    table = np.zeros((len(edges) - 1, size))
    for row, (start, stop) in enumerate(itertools.pairwise(edges)):
        for i in range(size):
            table[row, i] = max(0.0, min(stop, i + 1) - max(start, i)) / (stop - start)
    return table


def mean_of(plane, rows, columns):
    height, width = plane.shape
    return weights(rows, height) @ plane.astype(float) @ weights(columns, width).T


@pytest.fixture(scope="module")
def tiff(tmp_path_factory):
    path = tmp_path_factory.mktemp("render") / "a.ome.tif"
    return write_ome_tiff(path, PIXELS, metadata=SIZES)


@pytest.fixture
def br(tiff):
    with BioReader(tiff) as reader:
        yield reader


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """Levels unlike each other, so that a result tells which of them was read."""
    full = np.full((1, 1, 1, 256, 512), 10, np.uint16)
    half = np.full((1, 1, 1, 128, 256), 20, np.uint16)
    quarter = np.full((1, 1, 1, 64, 128), 30, np.uint16)
    path = tmp_path_factory.mktemp("pyramid") / "a.ome.zarr"
    return write_ome_zarr(path, [full, half, quarter], (1, 1, 1, 64, 64))


# ---- places


@pytest.mark.parametrize(
    ("x", "y", "units", "columns", "rows"),
    [
        ((5, 20), (3, 30), "px", slice(5, 20), slice(3, 30)),
        ((1.25, 5), (1.5, 15), "um", slice(5, 20), slice(3, 30)),
        ((0.00125, 0.005), (0.0015, 0.015), "mm", slice(5, 20), slice(3, 30)),
        ((1250, 5000), None, "nm", slice(5, 20), slice(0, 37)),
        ((0, 0.5), (0.5, 1), "fraction", slice(0, 27), slice(19, 37)),
        ((50, None), (None, 2), "px", slice(50, 53), slice(0, 2)),
        ((4.6, 7.4), (0.5, 1.4), "px", slice(5, 7), slice(1, 2)),
    ],
)
def test_places(br, x, y, units, columns, rows):
    found = br.region(x=x, y=y, units=units)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, face(PIXELS)[rows, columns])


def test_other_axes_are_those_of_read(br):
    found = br.region(x=(5, 20), y=(3, 30), z=[3, 1, 0], c=1, t=-1)
    np.testing.assert_array_equal(found, face(PIXELS)[3:30, 5:20, [3, 1, 0], 1, 1])
    assert br.region(x=(0, 1), z=0, c=0, t=0, keepdims=True).shape == (37, 1, 1, 1, 1)


@pytest.mark.parametrize(
    "span", [(-1, 5), (5, 5), (9, 3), (0, 54), (53, 60), 7, (1, 2, 3), (float("nan"), 4), ("a", 4)]
)
def test_places_outside_are_refused(br, span):
    with pytest.raises(BadSelection, match="x="):
        br.region(x=span)


def test_lengths_need_a_pixel_size(tmp_path):
    path = write_ome_tiff(tmp_path / "n.ome.tif", PIXELS[:1, :1, :1])
    with BioReader(path) as br:
        with pytest.raises(BadArgument, match="has no pixel size along x"):
            br.region(x=(0, 1), units="um")
        for wrong in ("furlong", None):
            with pytest.raises(BadArgument, match=str(wrong)):
                br.region(x=(0, 1), units=wrong)


def test_to_physical_and_back(br):
    found = br.to_physical(x=[0, 53], y=2.5, z=3, unit="nm")
    np.testing.assert_allclose(found["x"], [0, 13250])
    assert (found["y"], found["z"]) == pytest.approx((1250, 6000))
    back = br.to_pixels(x=found["x"], y=found["y"], unit="nm")
    np.testing.assert_allclose(back["x"], [0, 53])
    assert back["y"] == pytest.approx(2.5)
    assert "z" not in back


def test_levels_have_pixels_of_their_own(pyramid):
    with BioReader(pyramid) as br:
        assert br.levels[2].to_physical(x=128)["x"] == pytest.approx(128)
        assert br.to_physical(x=512)["x"] == pytest.approx(128)
        part = br.levels[1].region(x=(10, 20), y=(0, 7))
        assert part.shape == (7, 10)
        assert np.all(part == 20)


def test_tiles_at_a_pixel_size_are_parts_of_the_region_at_it(br):
    sizes = {"y": (1, "um"), "x": (0.75, "um")}
    whole = br.region(pixel_size=sizes, keepdims=True)
    assert whole.shape == (18, 18, 4, 3, 2)
    found = np.zeros_like(whole)
    for tile in br.tiles(7, pixel_size=sizes, overlap=2):
        found[tile.key] = tile.pixels.reshape(tile.height, tile.width, 1, 1, 1)
    np.testing.assert_array_equal(found, whole)
    where = {"x": (3, 9), "y": (5, 12), "units": "um"}
    tiles = list(br.tiles(4, pixel_size=sizes, region=where))
    assert {(tile.y, tile.x) for tile in tiles} == {(5, 4), (5, 8), (9, 4), (9, 8)}
    for tile in tiles:
        np.testing.assert_array_equal(tile.pixels, whole[tile.key][:, :, 0, 0, 0])
    (batch,) = br.tiles(16, pixel_size=sizes, region=np.s_[2:, 3:, 1, 2, 1], batch=9)
    np.testing.assert_array_equal(batch.pixels[0, :, :15], whole[2:, 3:, 1, 2, 1])
    assert not batch.pixels[0, :, 15:].any()
    with pytest.raises(BadArgument, match="level and pixel_size"):
        br.tiles(4, level=0, pixel_size=sizes)


def test_tiles_of_a_region_in_micrometres(br):
    tiles = list(br.tiles(8, region={"x": (1.25, 5), "y": (1.5, 15), "units": "um"}))
    assert {(tile.y, tile.x) for tile in tiles} == {
        (y, x) for y in range(3, 30, 8) for x in range(5, 20, 8)
    }
    for tile in tiles:
        expected = PIXELS[tile.t, tile.c, tile.z, tile.y : min(tile.y + 8, 30)]
        np.testing.assert_array_equal(tile.pixels, expected[:, tile.x : min(tile.x + 8, 20)])


# ---- resolutions


@pytest.mark.parametrize(
    ("how", "shape", "value"),
    [
        ({}, (256, 512), 10),
        ({"level": 1}, (128, 256), 20),
        ({"level": -1}, (64, 128), 30),
        ({"pixel_size": 1, "units": "px"}, (256, 512), 10),
        ({"pixel_size": (0.5, "um")}, (128, 256), 20),
        ({"pixel_size": (0.49, "um")}, (131, 261), 10),
        ({"pixel_size": (0.9, "um")}, (71, 142), 20),
        ({"pixel_size": (1000, "nm")}, (64, 128), 30),
        ({"pixel_size": 8}, (32, 64), 30),
        ({"pixel_size": {"y": (1, "um"), "x": (0.25, "um")}}, (64, 512), 10),
        ({"pixel_size": (0.125, "um")}, (512, 1024), 10),
        ({"max_size": 256}, (128, 256), 20),
        ({"max_size": 100}, (50, 100), 30),
        ({"max_size": 5000}, (256, 512), 10),
        ({"max_size": (64, 500)}, (64, 128), 30),
    ],
)
def test_the_nearest_finer_level_is_read(pyramid, how, shape, value):
    with BioReader(pyramid) as br:
        found = br.region(**how)
    assert found.shape == shape
    assert found.dtype == np.uint16
    assert np.all(found == value)


def test_levels_of_odd_sizes_are_used(tmp_path):
    levels = [np.full((1, 1, 1, n, m), v, np.uint8) for n, m, v in [(101, 67, 1), (50, 33, 2)]]
    with BioReader(write_ome_zarr(tmp_path / "odd.ome.zarr", levels)) as br:
        assert np.all(br.region(pixel_size=2, units="px") == 2)


@pytest.mark.parametrize(
    "how",
    [
        {"level": 0, "max_size": 3}, {"pixel_size": 0}, {"pixel_size": -2},
        {"pixel_size": {"y": 1}}, {"max_size": 0}, {"max_size": (1, 2, 3)},
        {"max_size": 1.5}, {"magnification": 10},
        {"pixel_size": 2, "resample": "magic"}, {"pixel_size": 0.5, "units": "fraction"},
    ],
)  # fmt: skip
def test_senseless_resolutions_are_refused(br, how):
    with pytest.raises(BadArgument):
        br.region(**how)


def test_magnification(tmp_path):
    import tifffile

    path = write_ome_tiff(tmp_path / "m.ome.tif", PIXELS[:1, :1, :1, :, :52])
    with BioReader(path) as br:
        xml = br.ome_xml
    objective = (
        '<Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification="40"/>'
        "</Instrument>"
    )
    assert xml is not None
    tifffile.tiffcomment(path, xml.replace("<Image ", objective + "<Image ", 1).encode())
    with BioReader(path) as br:
        found = br.region(y=(0, 36), magnification=10)
        first = next(br.tiles(5, magnification=10)).pixels
        whole = br.region(magnification=10)
        assert br.magnification == 40.0
    with BioReader(write_ome_tiff(tmp_path / "silent.ome.tif", PIXELS[:1, :1, :1])) as br:
        assert br.magnification is None
    np.testing.assert_array_equal(first, whole[:5, :5])
    plane = PIXELS[0, 0, 0, :36, :52]
    np.testing.assert_array_equal(found, np.rint(plane.reshape(9, 4, 13, 4).mean(axis=(1, 3))))


@pytest.mark.parametrize("pixel", [2.0, 3.7, 1.3])
def test_smaller_results_are_area_means(br, pixel):
    found = br.region(x=(3.2, 50.1), y=(1.9, 36.4), pixel_size=pixel, units="px", z=2, c=1, t=1)
    count = [max(1, round(length / pixel)) for length in (34.5, 46.9)]
    rows, columns = np.linspace(1.9, 36.4, count[0] + 1), np.linspace(3.2, 50.1, count[1] + 1)
    expected = np.rint(mean_of(PIXELS[1, 1, 2], rows, columns))
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow(ci=True)
def test_pieces_join_without_a_seam(br, monkeypatch):
    from bfbridge.analysis import regions as render

    whole = br.region(pixel_size=1.7, units="px")
    up = br.region(pixel_size=0.4, units="px", resample="cubic")
    monkeypatch.setattr(render, "PIECE", 8)
    np.testing.assert_array_equal(br.region(pixel_size=1.7, units="px"), whole)
    np.testing.assert_array_equal(br.region(pixel_size=0.4, units="px", resample="cubic"), up)
    expected = mean_of(PIXELS[1, 2, 3], np.linspace(0, 37, 23), np.linspace(0, 53, 32))
    np.testing.assert_array_equal(whole[:, :, 3, 2, 1], np.rint(expected))


def test_a_checkerboard_becomes_grey(tmp_path):
    board = (np.indices((64, 96)).sum(axis=0) % 2 * 200).astype(np.uint8)
    path = write_ome_tiff(tmp_path / "board.ome.tif", board[None, None, None])
    with BioReader(path) as br:
        assert np.all(br.region(pixel_size=2, units="px") == 100)
        assert np.all(br.region(pixel_size=2, units="px", resample="nearest") == board[1, 1])


def test_labels_are_never_mixed(tmp_path):
    labels = np.array([[1, 900], [1, 900]], np.uint16).repeat(8, 0).repeat(8, 1)[None, None, None]
    path = write_ome_zarr(tmp_path / "l.ome.zarr", [labels], labels=labels)
    with BioReader(path) as br:
        view = br.associated["label"]
        assert set(np.unique(view.region(pixel_size=3.1, units="px"))) == {1, 900}
        assert set(np.unique(view.region(pixel_size=0.7, units="px"))) == {1, 900}


# ---- resampling


def test_a_ramp_stays_a_ramp_under_interpolation():
    ramp = np.arange(20, dtype=np.float64)
    edges = np.linspace(4, 16, 37)
    centres = (edges[:-1] + edges[1:]) / 2 - 0.5
    for method in ("linear", "cubic"):
        np.testing.assert_allclose(resample(ramp, 0, edges, 0, method), centres, atol=1e-12)
    np.testing.assert_array_equal(resample(ramp, 0, edges, 0, "nearest"), np.floor(centres + 0.5))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_changes_at_the_same_scale(method):
    pixels = distinct((7, 11), np.uint16).astype(np.float32)
    same = resample(resample(pixels, 0, np.arange(8.0), 0, method), 1, np.arange(12.0), 0, method)
    np.testing.assert_allclose(same, pixels)


def test_infinity_stays_where_it_is():
    values = np.array([1, 2, np.inf, 4, 5, 6], np.float32)
    found = resample(values, 0, np.array([0.0, 1.5, 3.0, 4.0, 6.0]), 0, "area")
    np.testing.assert_allclose(found, [4 / 3, np.inf, 4, 5.5])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "uint64"])
def test_integers_are_rounded_and_clipped(dtype):
    info = np.iinfo(dtype)
    values = np.array([float(info.min) * 2 - 9, -0.4, 1.6, 2.5, float(info.max) * 2.0])
    expected = np.array([info.min, 0, 2, 2, info.max], dtype)
    np.testing.assert_array_equal(to_dtype(values, np.dtype(dtype)), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint32", "float32", "complex64"])
def test_dtypes_are_kept(tmp_path, dtype):
    pixels = np.arange(12 * 8).reshape(1, 1, 1, 12, 8).astype(dtype)
    path = write_ome_zarr(tmp_path / "d.ome.zarr", [pixels])
    with BioReader(path) as br:
        found = br.region(pixel_size=2, units="px")
    assert found.dtype == dtype
    mean = pixels[0, 0, 0].astype(complex).reshape(6, 2, 4, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(
        found, mean if dtype == "complex64" else to_dtype(mean.real, found.dtype)
    )


# ---- thumbnails and statistics


def test_thumbnail(br, tmp_path):
    found = br.thumbnail(20)
    assert found.shape == (14, 20, 3)
    expected = mean_of(PIXELS[0, 1, 2], np.linspace(0, 37, 15), np.linspace(0, 53, 21))
    np.testing.assert_array_equal(found[:, :, 1], np.rint(expected))
    np.testing.assert_array_equal(br.thumbnail(256, c=2, z=0, t=1), PIXELS[1, 2, 0])
    with BioReader(write_ome_tiff(tmp_path / "rgb.ome.tif", RGB)) as rgb:
        means = RGB[0, 0, 1].astype(float).reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
        np.testing.assert_array_equal(rgb.thumbnail(30), np.rint(means))


def test_min_max_and_histogram(br):
    assert br.min_max() == (PIXELS.min(), PIXELS.max())
    part = PIXELS[1, 1:, [0, 3]]
    assert br.min_max(t=1, c=range(1, 3), z=np.array([0, 3])) == (part.min(), part.max())
    for options in ({}, {"bins": 10, "range": (100, 5000)}, {"bins": [0, 7, 900, 30000]}):
        counts, edges = br.histogram(**options, z=[0, 1, 3])
        expected = np.histogram(
            PIXELS[:, :, [0, 1, 3]], options.get("bins", 256), options.get("range")
        )
        np.testing.assert_array_equal(counts, expected[0])
        np.testing.assert_allclose(edges, expected[1])
    assert counts.sum() < PIXELS.size
    with pytest.raises(BadArgument, match="bins="):
        br.histogram(0)


def test_statistics_are_coarse_or_exact(tmp_path):
    full = distinct((1, 1, 1, 64, 1024), np.uint32)
    levels = [
        full,
        np.full((1, 1, 1, 32, 512), 77, np.uint32),
        np.zeros((1, 1, 1, 16, 256), np.uint32),
    ]
    with BioReader(write_ome_zarr(tmp_path / "s.ome.zarr", levels, (1, 1, 1, 16, 100))) as br:
        assert br.min_max() == (77, 77)
        assert br.min_max(exact=True) == (1, 64 * 1024)
        assert br.histogram(4)[0].sum() == 32 * 512
        np.testing.assert_array_equal(br.histogram(4, exact=True)[0], [16384] * 4)


def test_nan_and_infinity(tmp_path):
    pixels = np.arange(1, 31, dtype=np.float32).reshape(1, 1, 1, 5, 6)
    pixels[..., 0, 0], pixels[..., 4, 5] = np.nan, np.inf
    with BioReader(write_ome_tiff(tmp_path / "f.ome.tif", pixels)) as br:
        assert br.min_max() == (2, np.inf)
        counts, edges = br.histogram(4)
        assert (edges[0], edges[-1], counts.sum()) == (2, 29, 28)
    nothing = np.full((1, 1, 1, 5, 6), np.nan, np.float32)
    with BioReader(write_ome_tiff(tmp_path / "n.ome.tif", nothing)) as br:
        assert np.isnan(br.min_max()).all()
        assert br.histogram(4)[0].sum() == 0


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"x": (3, 20), "y": (5, 6)},
        {"x": (0.5, 10.25), "units": "um", "pixel_size": 1.0},
        {"max_size": 20},
        {"max_size": (7, 30), "y": (0.2, 0.9), "units": "fraction"},
        {"pixel_size": {"y": (2, "um"), "x": (0.1, "um")}},
        {"level": 0, "x": (0, 11)},
    ],
)
def test_the_shape_of_a_region_is_known_before_it_is_read(br, asked):
    found = br.region(**asked, keepdims=True)
    assert region_shape(br, **asked) == found.shape[:2]
