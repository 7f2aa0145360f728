"""Views of images at URLs, and the chunk cache, for all three backends."""

import fsspec
import numpy as np
import pytest
import xarray as xr

from bfbridge import BioReader
from bfbridge.aics import AICSImage
from bfbridge.errors import BfbridgeError
from bfbridge.napari import read_layers
from bfbridge.patches import ImageStack
from bfbridge.tiles import ChunkCache
from bfbridge.xarray_engine import BfbridgeBackend
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr
from tests.support.webserver import serve

PIXELS = distinct((1, 2, 2, 200, 240), np.uint32)
BACKENDS = {"ometiff": "a.ome.tif", "omezarr": "a.ome.zarr", "bioformats": "a.ome.tif"}
TOKEN = "open sesame"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("remote")
    metadata = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    write_ome_tiff(root / "a.ome.tif", PIXELS, tile=(32, 32), metadata=metadata)
    write_ome_zarr(root / "a.ome.zarr", [PIXELS], (1, 1, 1, 32, 32))
    return root


@pytest.fixture(scope="module", params=["http", "memory"])
def place(request, folder):
    """(URL of the folder, storage options, server or None)."""
    if request.param == "http":
        with serve(folder, TOKEN) as web:
            yield web.url, {"headers": {"X-Token": TOKEN}}, web
    else:
        memory = fsspec.filesystem("memory")
        memory.put(str(folder), "/views", recursive=True)
        yield "memory://views", {}, None
        memory.rm("/views", recursive=True)


@pytest.fixture(params=list(BACKENDS))
def remote(request, place):
    """(URL, keyword arguments of BioReader, server or None)."""
    if request.param == "bioformats":
        pytest.importorskip("jpype")
    url, options, web = place
    how = {"backend": request.param, "storage_options": options}
    return f"{url}/{BACKENDS[request.param]}", how, web


def test_arrays_at_a_url(remote):
    url, how, _ = remote
    with BioReader(url, **how) as br:
        array = br.to_dask(chunks={"Y": 96, "X": 96})
        np.testing.assert_array_equal(
            array[0, 1, :, 50:90, 100:120].compute(), PIXELS[0, 1, :, 50:90, 100:120]
        )
        np.testing.assert_array_equal(array.compute(), PIXELS)
        labelled = br.to_xarray()
        np.testing.assert_allclose(labelled.x, np.arange(240) * 0.25)
    with xr.open_dataset(url, engine=BfbridgeBackend, **how) as dataset:
        found = dataset.image.isel(t=0, z=1, y=slice(5, 60)).values
        np.testing.assert_array_equal(found, PIXELS[0, :, 1, 5:60])


def test_other_processes_open_the_url(remote):
    url, how, web = remote
    if web is None:
        pytest.skip("each process has a memory of its own")
    with BioReader(url, **how) as br:
        array = br.to_dask(chunks={"Y": 100})
        found = array[0, 0].compute(scheduler="processes", num_workers=1)
    np.testing.assert_array_equal(found, PIXELS[0, 0])


def test_regions_and_patches_at_a_url(remote):
    url, how, _ = remote
    with BioReader(url, **how) as br:
        part = br.region(x=(10, 20), y=(5, 30), units="um", c=1)
        assert part.shape == (100, 40, 2)
        np.testing.assert_array_equal(part[:, :, 0], PIXELS[0, 1, 0, 20:120, 40:80])
        np.testing.assert_array_equal(part[:, :, 1], PIXELS[0, 1, 1, 20:120, 40:80])
    stack = ImageStack(url, **how)
    patch = stack.extract_patch(1, [1], (190, -4), (20, 20))
    expected = np.zeros((20, 20), np.uint32)
    expected[:10, 4:] = PIXELS[0, 1, 1, 190:, :16]
    np.testing.assert_array_equal(patch[0], expected)
    with AICSImage(url, fs_kwargs=how["storage_options"], backend=how["backend"]) as image:
        np.testing.assert_array_equal(image.get_image_data("YX", C=1, Z=1), PIXELS[0, 1, 1])


def test_a_crop_fetches_little(remote):
    url, how, web = remote
    if web is None:
        pytest.skip("nothing is sent")
    # Java reads ahead in blocks as large as this file; it must not fetch it again and again.
    allowed = {"omezarr": 60_000, "ometiff": 160_000, "bioformats": 1_600_000}[how["backend"]]
    before = web.sent
    with BioReader(url, **how) as br:
        found = br.to_dask()[0, 1, 1, 40:60, 70:90].compute()
    np.testing.assert_array_equal(found, PIXELS[0, 1, 1, 40:60, 70:90])
    # One tile of 4 KiB of an image of 768 KB; the rest is metadata and what is read ahead.
    assert 4096 <= web.sent - before < allowed


def test_without_credentials_nothing_opens(remote):
    url, how, web = remote
    if web is None:
        pytest.skip("memory asks for none")
    with pytest.raises(BfbridgeError) as caught:
        BioReader(url, backend=how["backend"])
    assert TOKEN not in str(caught.value)
    with pytest.raises(BfbridgeError) as caught:
        BioReader(
            url, backend=how["backend"], storage_options={"headers": {"X-Token": "wrong one"}}
        )
    assert "wrong one" not in str(caught.value)


def test_napari_and_a_series_at_urls(place):
    url, options, web = place
    if web is not None:
        pytest.skip("a web server does not list its folders")
    memory = fsspec.filesystem("memory")
    for z in range(3):
        memory.copy("/views/a.ome.tif", f"/views/z{z}.ome.tif")
    with BioReader(f"{url}/z{{z:d}}.ome.tif", storage_options=options) as br:
        assert br.sizes["Z"] == 6
        np.testing.assert_array_equal(br[:, :, 3, 1, 0], PIXELS[0, 1, 1])
    ((data, _, _),) = read_layers(f"{url}/a.ome.zarr")
    np.testing.assert_array_equal(data.compute(), PIXELS)


# ---- the cache


class Counting(dict):
    """A mapping of the user's own."""

    hits = 0

    def __getitem__(self, key):
        value = super().__getitem__(key)
        self.hits += 1
        return value


@pytest.mark.parametrize("make", [ChunkCache, Counting])
def test_a_cache_is_shared_between_readers(folder, make, monkeypatch):
    cache = make()
    with BioReader(folder / "a.ome.tif", cache=cache) as first:
        np.testing.assert_array_equal(first[3:9, 4:8, 0, 0, 0], PIXELS[0, 0, 0, 3:9, 4:8])
        assert len(cache) == 1
        with BioReader(folder / "a.ome.tif", cache=cache) as second:
            monkeypatch.setattr(
                type(second._file.backend), "read", lambda *_: pytest.fail("read again")
            )
            np.testing.assert_array_equal(second[9:20, 1:3, 0, 0, 0], PIXELS[0, 0, 0, 9:20, 1:3])
    if make is Counting:
        assert cache.hits == 1


def test_files_do_not_see_each_others_chunks(folder, tmp_path):
    cache = ChunkCache()
    other = write_ome_tiff(tmp_path / "a.ome.tif", PIXELS + 7, tile=(32, 32))
    with BioReader(folder / "a.ome.tif", cache=cache) as one, BioReader(other, cache=cache) as two:
        np.testing.assert_array_equal(one[3:9, 4:8, 0, 0, 0], PIXELS[0, 0, 0, 3:9, 4:8])
        np.testing.assert_array_equal(two[3:9, 4:8, 0, 0, 0], PIXELS[0, 0, 0, 3:9, 4:8] + 7)
        np.testing.assert_array_equal(one[3:9, 4:8, 1, 1, 0], PIXELS[0, 1, 1, 3:9, 4:8])
    assert len(cache) == 3


def test_the_cache_is_bounded_by_bytes(folder):
    cache = ChunkCache(20_000)
    with BioReader(folder / "a.ome.tif", cache=cache, max_workers=1) as br:
        for y in range(0, 190, 16):
            np.testing.assert_array_equal(
                br[y : y + 5, 1:3, 0, 0, 0], PIXELS[0, 0, 0, y : y + 5, 1:3]
            )
            assert cache.nbytes <= 20_000
    assert 0 < len(cache) <= 4


def test_the_cache_can_be_off(folder):
    with BioReader(folder / "a.ome.tif", cache=0) as br:
        assert br._file.cache is None
        np.testing.assert_array_equal(br[3:9, 4:8, 0, 0, 0], PIXELS[0, 0, 0, 3:9, 4:8])
