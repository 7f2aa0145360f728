"""`ImageStack` as CAREamics' protocol describes it, against numpy, for three backends."""

import itertools
import multiprocessing
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.patches import ImageStack, Rectangle
from tests.real.manifest import DATA
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr

PIXELS = distinct((2, 3, 4, 37, 53))
FAKE = "p&sizeX=53&sizeY=37&sizeZ=4&sizeC=3&sizeT=2&pixelType=uint16.fake"


@pytest.fixture(scope="module", params=["ometiff", "omezarr", "bioformats"])
def sample(request, tmp_path_factory):
    """A file, and its pixels T, C, Z, Y, X."""
    folder = tmp_path_factory.mktemp("patches")
    if request.param == "ometiff":
        return write_ome_tiff(folder / "a.ome.tif", PIXELS), PIXELS
    if request.param == "omezarr":
        return write_ome_zarr(folder / "a.ome.zarr", [PIXELS]), PIXELS
    pytest.importorskip("jpype")
    with BioReader(FAKE) as br:
        return FAKE, br.read(keepdims=True).transpose(4, 3, 2, 0, 1)


def padded(whole, coords, size):
    """A patch of the last axes of `whole`, cut from zeros all around."""
    wide = np.pad(whole, [(0, 0)] + [(99, 99)] * len(size))
    return wide[
        (slice(None), *(slice(c + 99, c + 99 + n) for c, n in zip(coords, size, strict=True)))
    ]


def test_two_dimensions(sample):
    path, pixels = sample
    stack = ImageStack(path)
    assert stack.axes == "SCYX"
    assert stack.data_shape == (8, 3, 37, 53)
    assert (stack.original_axes, stack.original_data_shape) == ("TZCYX", (2, 4, 3, 37, 53))
    assert stack.data_dtype == np.uint16
    assert str(stack.source) == str(path)
    for number, (t, z) in enumerate(itertools.product(range(2), range(4))):
        patch = stack.extract_patch(number, None, (5, 6), (7, 9))
        assert patch.dtype == np.uint16
        assert patch.flags.c_contiguous
        np.testing.assert_array_equal(patch, pixels[t, :, z, 5:12, 6:15])


@pytest.mark.parametrize(
    "coords", list(itertools.product((-40, -3, 0, 20, 30, 40), (-60, -1, 0, 30, 50, 60)))
)
def test_zeros_at_all_borders(sample, coords):
    path, pixels = sample
    patch = ImageStack(path).extract_patch(3, [2, 0], coords, (8, 10))
    np.testing.assert_array_equal(patch, padded(pixels[0, [2, 0], 3], coords, (8, 10)))


@pytest.mark.parametrize("coords", [(0, 0, 0), (-1, -2, -3), (2, 30, 50), (4, 0, 0), (-9, 0, 0)])
def test_depth_along_z(sample, coords):
    path, pixels = sample
    stack = ImageStack(path, depth_axis="Z")
    assert (stack.axes, stack.data_shape) == ("SCZYX", (2, 3, 4, 37, 53))
    assert (stack.original_axes, stack.original_data_shape) == ("TCZYX", (2, 3, 4, 37, 53))
    patch = stack.extract_patch(1, [1], coords, (3, 9, 11))
    np.testing.assert_array_equal(patch, padded(pixels[1, [1]], coords, (3, 9, 11)))


@pytest.mark.parametrize("coords", [(0, 3, 4), (-1, -2, -3), (1, 30, 50)])
def test_depth_along_t(sample, coords):
    path, pixels = sample
    stack = ImageStack(path, depth_axis="T")
    assert (stack.axes, stack.data_shape) == ("SCTYX", (4, 3, 2, 37, 53))
    assert (stack.original_axes, stack.original_data_shape) == ("ZCTYX", (4, 3, 2, 37, 53))
    patch = stack.extract_patch(2, None, coords, (2, 9, 11))
    np.testing.assert_array_equal(patch, padded(pixels[:, :, 2].swapaxes(0, 1), coords, (2, 9, 11)))


@pytest.mark.parametrize(
    ("sample_idx", "channels", "coords", "size"),
    [
        (0, None, (0, 0, 0), (4, 4)), (0, None, (0, 0), (1, 4, 4)), (0, [3], (0, 0), (4, 4)),
        (0, [-1], (0, 0), (4, 4)), (0, [], (0, 0), (4, 4)), (8, None, (0, 0), (4, 4)),
        (-1, None, (0, 0), (4, 4)), (0, None, (0, 0), (4, 0)),
    ],
)  # fmt: skip
def test_wrong_requests_are_value_errors(sample, sample_idx, channels, coords, size):
    with pytest.raises(ValueError, match=r"\d"):
        ImageStack(sample[0]).extract_patch(sample_idx, channels, coords, size)


def test_levels_have_patches(tmp_path):
    half = np.ascontiguousarray(PIXELS[..., ::2, ::2])
    stack = ImageStack(write_ome_zarr(tmp_path / "l.ome.zarr", [PIXELS, half]), level=1)
    assert stack.data_shape == (8, 3, 19, 27)
    assert stack.chunks == (1, 1, 16, 16)
    assert stack.shards is None
    patch = stack.extract_patch(5, None, (-2, 20), (8, 9))
    np.testing.assert_array_equal(patch, padded(half[1, :, 1], (-2, 20), (8, 9)))


@pytest.mark.parametrize("axes", ["YX", "ZYX", "CYX", "SYX", "TCZYX", "XYCTS", "STCZYX"])
def test_arrays(axes):
    sizes = dict(zip("STCZYX", (2, 3, 4, 5, 13, 17), strict=True))
    data = distinct(tuple(sizes[axis] for axis in axes))
    stack = ImageStack.from_array(data, axes)
    assert stack.source == "array"
    assert (stack.original_axes, stack.original_data_shape) == (axes, data.shape)
    whole = data.transpose([axes.index(a) for a in "STCZYX" if a in axes])
    whole = whole.reshape([sizes[a] if a in axes else 1 for a in "STCZYX"])
    whole = whole.reshape(-1, *whole.shape[2:])
    if "Z" not in axes:
        whole = whole[:, :, 0]
    assert stack.data_shape == whole.shape
    dims = len(whole.shape) - 2
    for number in range(len(whole)):
        patch = stack.extract_patch(number, None, (-1,) * dims, (4,) * dims)
        np.testing.assert_array_equal(patch, padded(whole[number], (-1,) * dims, (4,) * dims))


@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (2, 3, 4)), ("YY", (2, 3)), ("CZ", (2, 3)), ("QYX", (1, 2, 3))]
)
def test_wrong_axes_are_refused(axes, shape):
    with pytest.raises(ValueError, match="axes="):
        ImageStack.from_array(np.zeros(shape), axes)


def test_wrong_depth_axes_are_refused(tmp_path):
    path = write_ome_tiff(tmp_path / "p.ome.tif", PIXELS[:, :, :1])
    for depth in ("Z", "Q"):
        with pytest.raises(ValueError, match="depth_axis="):
            ImageStack(path, depth_axis=depth)


def test_load_and_close(sample):
    path, pixels = sample
    stack = ImageStack(path)
    assert not stack.is_loaded
    stack.load()
    assert stack.is_loaded
    np.testing.assert_array_equal(
        stack.extract_patch(6, [1], (-1, 2), (5, 5)), padded(pixels[1, [1], 2], (-1, 2), (5, 5))
    )
    stack.close()
    assert not stack.is_loaded
    np.testing.assert_array_equal(
        stack.extract_patch(0, [1], (1, 2), (5, 5)), pixels[0, [1], 0, 1:6, 2:7]
    )


def test_an_image_larger_than_its_cache_is_read_without_it(sample):
    path, pixels = sample
    plane = pixels[0, 0, 0].nbytes
    for cache, kept in ((ChunkCache(4 * plane), False), (ChunkCache(pixels.nbytes), True)):
        stack = ImageStack(path, cache=cache)
        for y in (0, 9, 20):
            patch = stack.extract_patch(1, [1, 2], (y, 3), (8, 10))
            np.testing.assert_array_equal(patch, pixels[0, 1:, 1, y : y + 8, 3:13])
        assert (len(cache) > 0) is kept
        stack.close()


def test_stacks_of_a_process_share_one_cache(sample, tmp_path):
    path, pixels = sample
    other = write_ome_tiff(tmp_path / "o.ome.tif", PIXELS[::-1])
    first, second = ImageStack(path), ImageStack(other)
    shared = first._view._file.cache
    assert second._view._file.cache is shared is pickle.loads(pickle.dumps(shared))
    for _ in range(3):
        for stack, whole in ((first, pixels), (second, PIXELS[::-1])):
            patch = stack.extract_patch(0, [1], (3, 4), (5, 6))
            np.testing.assert_array_equal(patch, whole[0, [1], 0, 3:8, 4:10])
    assert 0 < shared.nbytes <= shared.max_bytes
    assert ImageStack(path, cache=0)._view._file.cache is None


def test_scenes(tmp_path):
    import tifffile

    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for index, corner in enumerate((100.0, 110.0)):
            metadata = {
                "axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25,
                "Plane": {
                    "PositionX": [corner] * 4, "PositionXUnit": ["µm"] * 4,
                    "PositionY": [7.0] * 4, "PositionYUnit": ["µm"] * 4,
                },
            }  # fmt: skip
            writer.write(PIXELS[index, index, :, : 20 + index], metadata=metadata)
    stack = ImageStack(f"{path}@1")
    assert stack.source == Path(f"{path}@1")
    assert stack.data_shape == (4, 1, 21, 53)
    again = ImageStack(stack.source)
    np.testing.assert_array_equal(
        again.extract_patch(2, None, (1, 2), (9, 9))[0], PIXELS[1, 1, 2, 1:10, 2:11]
    )
    with pytest.raises(ValueError, match="scene"):
        ImageStack(f"{path}@1", scene=0)
    with pytest.raises(ValueError, match="has 2 scenes"):
        ImageStack(path, scene=2)
    rectangles = ImageStack.get_bounding_rectangles(path)
    assert rectangles == {0: Rectangle(0, 0, 53, 20), 1: Rectangle(20, 0, 53, 21)}


def test_rgb_keeps_its_samples(tmp_path):
    rgb = distinct((1, 1, 2, 19, 23, 3), np.uint16)
    stack = ImageStack(write_ome_tiff(tmp_path / "rgb.ome.tif", rgb))
    assert stack.data_shape == (2, 3, 19, 23)
    patch = stack.extract_patch(1, [2, 0], (15, -2), (6, 8))
    np.testing.assert_array_equal(
        patch, padded(rgb[0, 0, 1].transpose(2, 0, 1)[[2, 0]], (15, -2), (6, 8))
    )


def test_pickles_are_small_recipes(sample):
    path, pixels = sample
    stack = ImageStack(path)
    stack.load()
    pickled = pickle.dumps(stack)
    assert len(pickled) < 5000
    copy = pickle.loads(pickled)
    assert not copy.is_loaded
    np.testing.assert_array_equal(
        copy.extract_patch(7, None, (30, 50), (9, 9)), padded(pixels[1, :, 3], (30, 50), (9, 9))
    )


class PatchSet:
    """What a PyTorch data set is: a length and items."""

    def __init__(self, stack):
        self.stack = stack

    def __getitem__(self, number):
        y, x = divmod(number * 7, 50)
        return number, self.stack.extract_patch(number % 8, None, (y - 2, x - 2), (8, 8))


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(method, marks=pytest.mark.slow(ci=method == "fork"))
        for method in ("spawn", "fork")
    ],
)
def test_a_loader_with_four_workers(sample, method):
    path, pixels = sample
    # Java cannot be used in a forked child, unless it runs in processes of its own.
    isolated = method == "fork" and "fake" in str(path)
    stack = ImageStack(path, isolated=isolated)
    _ = stack.extract_patch(0, None, (0, 0), (8, 8))
    data = PatchSet(stack)
    with warnings.catch_warnings():
        # A loader forks with threads alive; that is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context(method).Pool(4) as pool:
            found = pool.map(data.__getitem__, range(40), chunksize=5)
            # Not killed by the `with`: each ends what it started.
            pool.close()
            pool.join()
    stack.close()
    for number, patch in found:
        y, x = divmod(number * 7, 50)
        t, z = divmod(number % 8, 4)
        np.testing.assert_array_equal(patch, padded(pixels[t, :, z], (y - 2, x - 2), (8, 8)))


def test_a_real_czi():
    path = DATA / "czi" / "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi.d"
    path /= "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi"
    if not path.exists():
        pytest.skip(f"no real files at {DATA}")
    with BioReader(path) as br:
        whole = br.read(keepdims=True).transpose(4, 3, 2, 0, 1)
    stack = ImageStack(f"{path}@0", depth_axis="T")
    assert stack.data_shape == (6, 1, 3, 200, 300)
    assert stack.data_dtype == np.uint16
    patch = stack.extract_patch(4, None, (1, 190, 290), (3, 20, 20))
    np.testing.assert_array_equal(
        patch, padded(whole[:, :, 4].swapaxes(0, 1), (1, 190, 290), (3, 20, 20))
    )
    assert ImageStack.get_bounding_rectangles(path) == {None: Rectangle(0, 0, 300, 200)}
