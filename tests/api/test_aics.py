"""AICSImageIO's daily calls against the arrays that were written."""

import pickle
import sys

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr

import bfbridge
from bfbridge import BioReader
from bfbridge.aics import AICSImage, Dimensions, PhysicalPixelSizes
from bfbridge.errors import BadArgument, BadSelection, MissingExtra
from tests.support.samples import distinct, write_ome_tiff

PIXELS = distinct((2, 3, 4, 37, 53))
RGB = distinct((1, 1, 2, 19, 23, 3))


@pytest.fixture(scope="module")
def tiff(tmp_path_factory):
    metadata = {
        "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5,
        "Channel": {"Name": ["a", "b", "c"]},
    }  # fmt: skip
    return write_ome_tiff(tmp_path_factory.mktemp("aics") / "a.ome.tif", PIXELS, metadata=metadata)


@pytest.fixture
def image(tiff):
    with AICSImage(tiff) as opened:
        yield opened


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "s.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number, name in enumerate(["one", "two", "two"]):
            writer.write(PIXELS[0, number], metadata={"axes": "ZYX", "Name": name})
    return path


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Four tiles of 20 x 30 of one image, 2 pixels of overlap, in no order."""
    whole = distinct((2, 38, 58))
    path = tmp_path_factory.mktemp("tiles") / "m.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for top, left in [(0, 28), (18, 0), (0, 0), (18, 28)]:
            plane = {
                "PositionX": [(100 + left) * 0.5] * 2, "PositionY": [(7 + top) * 0.25] * 2,
                "PositionXUnit": ["µm"] * 2, "PositionYUnit": ["µm"] * 2,
            }  # fmt: skip
            metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "Plane": plane}
            writer.write(whole[:, top : top + 20, left : left + 30], metadata=metadata)
    return path, whole


def test_arrays(image):
    assert image.dims.order == "TCZYX"
    assert image.shape == (2, 3, 4, 37, 53)
    assert (image.dims.X, image.dims["T", "X"]) == (53, (2, 53))
    np.testing.assert_array_equal(image.data, PIXELS)
    np.testing.assert_array_equal(image.dask_data.compute(), PIXELS)
    for array in (image.xarray_data, image.xarray_dask_data):
        assert array.dims == ("T", "C", "Z", "Y", "X")
        np.testing.assert_array_equal(array.values, PIXELS)
        assert array.C.values.tolist() == ["a", "b", "c"]
        np.testing.assert_allclose(array.X, np.arange(53) * 250)
        assert array.X.attrs["units"] == "nm"
    with pytest.raises(AttributeError, match="Q"):
        _ = image.dims.Q


@pytest.mark.parametrize(
    ("order", "selection", "expected"),
    [
        ("CZYX", {"T": 1}, PIXELS[1]),
        ("CZYX", {"T": 0, "C": [0, 2]}, PIXELS[0][[0, 2]]),
        ("ZYX", {}, PIXELS[0, 0]),
        ("YX", {"Z": -1, "C": 1}, PIXELS[0, 1, -1]),
        ("XYZCT", {}, PIXELS.transpose(4, 3, 2, 1, 0)),
        ("TCZYX", {"Z": slice(None, None, 2)}, PIXELS[:, :, ::2]),
        ("TCZYX", {"C": (2, 0), "Z": [3, 1]}, PIXELS[:, [2, 0]][:, :, [3, 1]]),
        ("TCZYX", {"T": 1, "X": range(5, 30, 4)}, PIXELS[1:, ..., 5:30:4]),
        ("STCZYX", {}, PIXELS[None]),
        ("CYXM", {"Y": slice(-5, None)}, PIXELS[0, :, 0, -5:, :, None]),
    ],
)
def test_selections(image, order, selection, expected):
    np.testing.assert_array_equal(image.get_image_data(order, **selection), expected)
    lazy = image.get_image_dask_data(order, **selection)
    np.testing.assert_array_equal(lazy.compute(), expected)


@pytest.mark.parametrize(
    ("order", "selection", "error"),
    [
        ("CZYX", {"T": 2}, BadSelection), ("CZYX", {"Z": [0, 4]}, BadSelection),
        ("CZYX", {"Z": "all"}, BadSelection), ("CZYX", {"M": 0}, BadArgument),
        ("CZYX", {"T": [0, 1]}, BadArgument), ("CCYX", {}, BadArgument), ("QYX", {}, BadArgument),
    ],
)  # fmt: skip
def test_wrong_selections_are_refused(image, order, selection, error):
    with pytest.raises(error):
        image.get_image_data(order, **selection)


def test_metadata(image):
    assert image.channel_names == ["a", "b", "c"]
    assert image.physical_pixel_sizes == PhysicalPixelSizes(None, 0.5, 0.25)
    assert image.physical_pixel_size == image.physical_pixel_sizes
    assert image.metadata.lstrip().startswith("<")
    assert image.ome_metadata.images[0].pixels.size_x == 53


def test_rgb_has_samples(tmp_path):
    with AICSImage(write_ome_tiff(tmp_path / "rgb.ome.tif", RGB)) as image:
        assert (image.dims.order, image.shape) == ("TCZYXS", RGB.shape)
        np.testing.assert_array_equal(image.data, RGB)
        np.testing.assert_array_equal(image.get_image_data("YXS", Z=1), RGB[0, 0, 1])
        np.testing.assert_array_equal(image.get_image_data("ZYX", S=2), RGB[0, 0, ..., 2])
        np.testing.assert_array_equal(image.xarray_dask_data.values, RGB)


def test_scenes(scenes):
    with AICSImage(scenes) as image:
        assert image.scenes == ("one", "two (Image:1)", "two (Image:2)")
        assert image.current_scene == "one"
        np.testing.assert_array_equal(image.data[0, 0], PIXELS[0, 0])
        # Every name leads to its own scene, and so do AICSImageIO's names.
        for number, name in enumerate(image.scenes):
            for key in (name, f"Image:{number}"):
                image.set_scene(key)
                assert image.current_scene_index == number
                np.testing.assert_array_equal(image.get_image_data("ZYX"), PIXELS[0, number])
        image.set_scene(1)
        np.testing.assert_array_equal(image.data[0, 0], PIXELS[0, 1])
        image.set_scene(2)
        np.testing.assert_array_equal(image.get_image_data("ZYX"), PIXELS[0, 2])
        np.testing.assert_array_equal(image.get_stack()[:, 0, 0], PIXELS[0])
        np.testing.assert_array_equal(image.get_dask_stack()[:, 0, 0].compute(), PIXELS[0])
        np.testing.assert_array_equal(image.get_xarray_stack().sel(I=1)[0, 0], PIXELS[0, 1])
        stack = image.get_xarray_dask_stack()
        assert stack.dims == ("I", "T", "C", "Z", "Y", "X")
        for wrong in (3, -4, "three", "two"):
            with pytest.raises(BadSelection, match="scene"):
                image.set_scene(wrong)


def test_scenes_that_differ_are_not_stacked(tmp_path):
    path = tmp_path / "d.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for plane in (PIXELS[0, 0, 0], PIXELS[0, 0, 1].astype(np.float32), PIXELS[0, 0, 2]):
            writer.write(plane)
    with AICSImage(path) as image:
        with pytest.raises(BadArgument, match="float32"):
            image.get_stack()
        for stack in (image.get_stack(True), image.get_dask_stack(True).compute()):
            assert stack.dtype == PIXELS.dtype
            np.testing.assert_array_equal(stack[:, 0, 0, 0], PIXELS[0, 0, ::2])


def test_resolution_levels(tmp_path):
    path = tmp_path / "p.ome.zarr"
    pixels = distinct((37, 53))
    with bfbridge.BioWriter(
        path, Y=37, X=53, dtype=pixels.dtype, pyramid=1, downsample="nearest"
    ) as bw:
        bw.ps_x = (0.25, "µm")
        bw[:] = pixels
    with AICSImage(path) as image:
        assert image.resolution_levels == (0, 1)
        assert image.resolution_level_dims == {0: (1, 1, 1, 37, 53), 1: (1, 1, 1, 19, 27)}
        image.set_resolution_level(1)
        assert (image.current_resolution_level, image.shape) == (1, (1, 1, 1, 19, 27))
        np.testing.assert_array_equal(image.get_image_data("YX"), pixels[::2, ::2])
        np.testing.assert_array_equal(image.dask_data[0, 0, 0].compute(), pixels[::2, ::2])
        assert pytest.approx(0.25 * 53 / 27) == image.physical_pixel_sizes.X
        image.set_scene(0)
        assert image.shape == (1, 1, 1, 37, 53)
        with pytest.raises(BadSelection, match="resolution level 2"):
            image.set_resolution_level(2)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"TimeIncrement": 500, "TimeIncrementUnit": "ms"}, 0.5),
        ({"TimeIncrement": 0, "Plane": {"DeltaT": [3, 4, 7]}}, 2),
        ({}, None),
    ],
)
def test_time_interval(tmp_path, metadata, expected):
    path = write_ome_tiff(tmp_path / "t.ome.tif", distinct((3, 1, 1, 5, 7)), metadata=metadata)
    with AICSImage(path) as image:
        step = image.time_interval
        assert (None if step is None else step.total_seconds()) == expected
        assert image.scale == (expected, None, None, None, None)
        assert image.channel_names == ["Channel:0:0"]


def test_save_keeps_the_scene(scenes, tmp_path):
    with AICSImage(scenes) as image:
        image.set_scene(1)
        image.save(tmp_path / "all.ome.tif")
        image.save(tmp_path / "some.ome.zarr", select_scenes=["one"])
        assert image.current_scene_index == 1
    with BioReader(tmp_path / "all.ome.tif") as br:
        assert br.series.names == ["one", "two", "two"]
        np.testing.assert_array_equal(br.series[2][...], PIXELS[0, 2].transpose(1, 2, 0))
    with BioReader(tmp_path / "some.ome.zarr") as br:
        np.testing.assert_array_equal(br[...], PIXELS[0, 0].transpose(1, 2, 0))


def test_mosaics_are_stitched(tiles, monkeypatch):
    path, whole = tiles
    with AICSImage(path, mosaic="stitch") as image:
        assert image.shape == (1, 2, 1, 38, 58)
        assert image.get_mosaic_tile_positions() == [(0, 28), (18, 0), (0, 0), (18, 28)]
        assert image.get_mosaic_tile_position(1) == (18, 0)
        assert image.mosaic_tile_dims.shape == (20, 30)
        np.testing.assert_array_equal(image.data[0, :, 0], whole)
        np.testing.assert_array_equal(
            image.dask_data[0, 1, 0, 5:30, 20:].compute(), whole[1, 5:30, 20:]
        )
        seen = []
        from bfbridge.analysis import dask_arrays as arrays

        real = arrays.LazyImage.__getitem__
        monkeypatch.setattr(
            arrays.LazyImage, "__getitem__", lambda self, key: seen.append(key) or real(self, key)
        )
        found = image.get_image_data("CYX", Y=slice(2, 9), X=range(40, 50, 3))
        np.testing.assert_array_equal(found, whole[:, 2:9, 40:50:3])
        assert len(seen) == 1


@pytest.mark.parametrize("how", [{"mosaic": "tiles"}, {"reconstruct_mosaic": False}])
def test_mosaics_by_tile(tiles, how):
    path, whole = tiles
    with AICSImage(path, **how) as image:
        assert (image.dims.order, image.shape) == ("MTCZYX", (4, 1, 2, 1, 20, 30))
        np.testing.assert_array_equal(image.get_image_data("MCYX", M=[1])[0], whole[:, 18:, :30])
        np.testing.assert_array_equal(image.dask_data[3, 0, :, 0].compute(), whole[:, 18:, 28:])


def test_positions_without_a_length_are_no_places(tmp_path):
    path = tmp_path / "r.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for unit in ("µm", "reference frame"):
            plane = {"PositionX": [4], "PositionY": [3], "PositionXUnit": [unit]}
            metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Plane": plane}
            writer.write(distinct((5, 7)), metadata=metadata)
    with pytest.raises(BadArgument, match=r"image \d is at [xy] = .* reference frame"):
        AICSImage(path, mosaic="stitch")


@pytest.mark.parametrize("axis", "XY")
def test_tiles_of_one_row_need_one_position(tmp_path, axis):
    """A stage that moves along one axis stores the positions of that axis only."""
    whole = distinct((10, 34))
    path = tmp_path / "row.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for left in (24, 0, 12):
            plane = {f"Position{axis}": [left * 0.5], f"Position{axis}Unit": ["µm"]}
            metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Plane": plane}
            tile = whole[:, left : left + 10]
            writer.write(tile if axis == "X" else tile.T, metadata=metadata)
    shown = np.zeros_like(whole)
    for left in (0, 12, 24):
        shown[:, left : left + 10] = whole[:, left : left + 10]
    with AICSImage(path, mosaic="stitch") as image:
        found = image.data[0, 0, 0]
        np.testing.assert_array_equal(found if axis == "X" else found.T, shown)


def test_tiles_of_several_rows_need_both_positions(tmp_path):
    path = tmp_path / "grid.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for left in (0, 5, 0):
            plane = {"PositionX": [left * 0.5], "PositionXUnit": ["µm"]}
            metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Plane": plane}
            writer.write(distinct((5, 7)), metadata=metadata)
    with pytest.raises(BadArgument, match="no position along y"):
        AICSImage(path, mosaic="stitch")


def test_labels_need_xarray_and_say_so(tiff, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with (
        AICSImage(tiff) as image,
        pytest.raises(MissingExtra, match=r'xarray_data needs .*pip install "bfbridge\[all\]"'),
    ):
        _ = image.xarray_data


def test_one_image_is_no_mosaic_to_take_apart(tiff):
    with AICSImage(tiff, reconstruct_mosaic=False) as image:
        assert image.dims.order == "TCZYX"
        np.testing.assert_array_equal(image.data, PIXELS)


def test_what_is_no_mosaic_is_refused(tiff, scenes):
    with pytest.raises(BadArgument, match="only one image"):
        AICSImage(tiff, mosaic="stitch")
    with pytest.raises(BadArgument, match="no position"):
        AICSImage(scenes, mosaic="tiles")
    with pytest.raises(BadArgument, match="mosaic="):
        AICSImage(tiff, mosaic="both")


# ---- arrays


def lazy(array):
    return da.from_array(array, chunks=tuple(max(1, n // 2) for n in array.shape))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("kind", [np.asarray, lazy, xr.DataArray])
@pytest.mark.parametrize("axes", ["YX", "ZYX", "CZYX", "TCZYX"])
def test_arrays_are_images(kind, axes):
    array = PIXELS[(0,) * (5 - len(axes))]
    whole = array.reshape((1,) * (5 - len(axes)) + array.shape)
    with AICSImage(kind(array)) as image:
        assert image.dims.order == "TCZYX"
        assert (image.shape, image.dtype) == (whole.shape, PIXELS.dtype)
        assert image.scenes == ("Image:0",)
        np.testing.assert_array_equal(image.data, whole)
        np.testing.assert_array_equal(image.dask_data.compute(), whole)
        np.testing.assert_array_equal(image.get_image_data("XYZ", T=0, C=0), whole[0, 0].T)
        np.testing.assert_array_equal(image.get_image_dask_data("YX", Z=-1), whole[0, 0, -1])
        np.testing.assert_array_equal(image.get_image_data("ZYX", Y=[3, 1]), whole[0, 0][:, [3, 1]])
        assert image.channel_names == [f"Channel:0:{i}" for i in range(whole.shape[1])]
        assert image.physical_pixel_sizes == (None, None, None)
        assert image.ome_metadata.images[0].pixels.size_y == 37
        assert image.resolution_levels == (0,)
        assert image.get_stack().shape == (1, *whole.shape)


def test_what_is_said_of_arrays():
    image = AICSImage(
        PIXELS[0].transpose(3, 2, 0, 1), dim_order="XYCZ", channel_names=["a", "b", "c"],
        physical_pixel_sizes=PhysicalPixelSizes(2, 0.5, 0.25),
    )  # fmt: skip
    np.testing.assert_array_equal(image.data, PIXELS[:1])
    assert image.channel_names == ["a", "b", "c"]
    assert image.physical_pixel_sizes == (2, 0.5, 0.25)
    assert image.xarray_data.coords["Y"].values[:2].tolist() == [0, 0.5]
    labelled = xr.DataArray(PIXELS[0], dims=("c", "z", "y", "x")).transpose("x", "y", "z", "c")
    np.testing.assert_array_equal(AICSImage(labelled).data, PIXELS[:1])


def test_labels_of_an_xarray_are_channel_names():
    labelled = xr.DataArray(PIXELS[0], dims=tuple("CZYX"), coords={"C": ["a", "b", "c"]})
    assert AICSImage(labelled).channel_names == ["a", "b", "c"]
    assert AICSImage(labelled, channel_names=["d", "e", "f"]).channel_names == ["d", "e", "f"]
    numbers = labelled.assign_coords(C=[1, 2, 3])
    assert AICSImage(numbers).channel_names == ["Channel:0:0", "Channel:0:1", "Channel:0:2"]
    renamed = AICSImage(labelled, dim_order="ZCYX")
    assert renamed.channel_names == [f"Channel:0:{n}" for n in range(4)]


def test_dimensions_have_one_letter_for_each_size():
    dims = Dimensions(["Z", "Y", "X"], (7, 8, 9))
    assert (dims.order, dims["X", "Z"]) == ("ZYX", (9, 7))
    for order in ("ZYXS", "YX", ["C", "ZY", "X"], ["ZYX"]):
        with pytest.raises(BadArgument, match="one letter for each size"):
            Dimensions(order, (7, 8, 9))
    for axis in ("T", 0):
        with pytest.raises(BadSelection, match=f"there is no axis {axis!r}; there are ZYX"):
            dims[axis]


def test_axes_and_names_of_a_file_are_replaced(tiff, scenes, tmp_path):
    with AICSImage(tiff, dim_order="CTZYX", channel_names=["d", "e"]) as image:
        np.testing.assert_array_equal(image.data, PIXELS.transpose(1, 0, 2, 3, 4))
        np.testing.assert_array_equal(image.get_image_data("ZYX", C=1, T=2), PIXELS[1, 2])
        np.testing.assert_array_equal(image.dask_data.compute(), image.data)
        assert image.channel_names == ["d", "e"]
        assert image.physical_pixel_sizes == (None, 0.5, 0.25)
        assert "<OME" in image.metadata
        image.save(tmp_path / "b.ome.tif")
    with AICSImage(tmp_path / "b.ome.tif") as again:
        np.testing.assert_array_equal(again.data, PIXELS.transpose(1, 0, 2, 3, 4))
        assert again.channel_names == ["d", "e"]
    with AICSImage(tiff, channel_names=["d", "e", "f"]) as image:
        np.testing.assert_array_equal(image.data, PIXELS)
        assert image.channel_names == ["d", "e", "f"]
    with AICSImage(tiff, physical_pixel_sizes=(3, 2, 1)) as image:
        assert (image.channel_names, image.physical_pixel_sizes) == (["a", "b", "c"], (3, 2, 1))
    with AICSImage(scenes, dim_order=[None, "CYX", "TYX"]) as image:
        assert image.scenes == ("one", "two (Image:1)", "two (Image:2)")
        for number, shape in enumerate([(1, 1, 4, 37, 53), (1, 4, 1, 37, 53), (4, 1, 1, 37, 53)]):
            image.set_scene(number)
            np.testing.assert_array_equal(image.data, PIXELS[0, number].reshape(shape))
    plain = tmp_path / "rgb.tif"
    tifffile.imwrite(plain, RGB[0, 0], photometric="rgb")
    with AICSImage(plain, dim_order="ZYXC") as image:
        np.testing.assert_array_equal(image.data, RGB[0, 0].transpose(3, 0, 1, 2)[None])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dim_order": "ZYX"}, r"dim_order='ZYX' does not fit it"),
        ({"dim_order": ["CTZYX"] * 2}, "the file has 1 scenes"),
        ({"channel_names": ["a"]}, "the array has 3 channels"),
    ],
)
def test_what_does_not_fit_a_file(tiff, given, words):
    with pytest.raises(BadArgument, match=words):
        AICSImage(tiff, **given)


def test_rgb_arrays_have_samples(tmp_path):
    for array in (RGB[0, 0], lazy(RGB[0, 0])):
        with AICSImage(array, dim_order="ZYXS") as image:
            assert (image.dims.order, image.shape) == ("TCZYXS", RGB.shape)
            np.testing.assert_array_equal(image.data, RGB)
            np.testing.assert_array_equal(image.dask_data.compute(), RGB)
            np.testing.assert_array_equal(image.get_image_data("YXS", Z=1), RGB[0, 0, 1])
            image.save(tmp_path / "rgb.ome.tif", overwrite=True)
        with AICSImage(tmp_path / "rgb.ome.tif") as again:
            assert again.dims.order == "TCZYXS"
            np.testing.assert_array_equal(again.data, RGB)


def test_lists_of_arrays_are_scenes(tmp_path):
    image = AICSImage(
        [PIXELS[0], lazy(PIXELS[1, :2])], channel_names=[["a", "b", "c"], ["d", "e"]],
        physical_pixel_sizes=[(1, 2, 3), (None, 5, 6)],
    )  # fmt: skip
    assert image.scenes == ("Image:0", "Image:1")
    image.set_scene(1)
    np.testing.assert_array_equal(image.data, PIXELS[1:, :2])
    assert image.channel_names == ["d", "e"]
    assert image.physical_pixel_sizes == (None, 5, 6)
    image.save(tmp_path / "both.ome.tif")
    image.save(tmp_path / "one.ome.zarr", select_scenes=[1])
    with AICSImage(tmp_path / "both.ome.tif") as again:
        assert len(again.scenes) == 2
        np.testing.assert_array_equal(again.data, PIXELS[:1])
        again.set_scene(1)
        np.testing.assert_array_equal(again.data, PIXELS[1:, :2])
        assert again.channel_names == ["d", "e"]
    np.testing.assert_array_equal(AICSImage(tmp_path / "one.ome.zarr").data, PIXELS[1:, :2])
    image = AICSImage([PIXELS[0], PIXELS[1]], dim_order=["CZYX", "TZYX"])
    assert image.shape == (1, 3, 4, 37, 53)
    image.set_scene("Image:1")
    assert image.shape == (3, 1, 4, 37, 53)


def test_two_arrays_are_never_taken_for_each_other():
    one, two = AICSImage(PIXELS[0]), AICSImage(PIXELS[1])
    assert one._reader.to_dask().name != two._reader.to_dask().name
    np.testing.assert_array_equal(one._reader.to_dask().compute(), PIXELS[:1])
    np.testing.assert_array_equal(two._reader.to_dask().compute(), PIXELS[1:])
    again = pickle.loads(pickle.dumps(one._reader))
    np.testing.assert_array_equal(again.asarray(), PIXELS[:1])


def test_dask_arrays_are_not_computed_to_answer_questions():
    def fail(block):
        raise AssertionError("computed")

    array = lazy(PIXELS).map_blocks(fail, dtype="uint16", meta=np.empty((0,) * 5, "uint16"))
    image = AICSImage(array)
    assert (image.shape, image.dtype) == (PIXELS.shape, np.uint16)
    assert image.dask_data.shape == PIXELS.shape
    assert image.get_image_dask_data("YX").shape == (37, 53)
    assert image.xarray_dask_data.shape == PIXELS.shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image": PIXELS, "dim_order": "CZYX"}, "dim_order='CZYX' does not fit"),
        ({"image": PIXELS, "dim_order": "TCZYQ"}, "dim_order='TCZYQ'"),
        ({"image": PIXELS, "dim_order": ["TCZYX"] * 2}, "there are 1 arrays"),
        ({"image": PIXELS, "dim_order": 5}, "5: give one value"),
        ({"image": np.zeros((2,) * 7)}, "does not fit it. Give one letter"),
        ({"image": np.zeros(5)}, "does not fit it"),
        ({"image": PIXELS, "channel_names": ["a"]}, "the array has 3 channels"),
        ({"image": PIXELS, "physical_pixel_sizes": (1, 2)}, "those along Z, Y and X"),
        ({"image": PIXELS, "physical_pixel_sizes": (1, 2, -3)}, "above 0"),
        ({"image": [PIXELS], "physical_pixel_sizes": [(1, 2)]}, "those along Z, Y and X"),
    ],
)
def test_what_does_not_fit_arrays(arguments, words):
    with pytest.raises(BadArgument, match=words):
        AICSImage(**arguments)
