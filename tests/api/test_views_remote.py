"""Views of images at URLs, and the chunk cache, for all three backends."""

import fsspec
import numpy as np
import pytest
import xarray as xr

from bfbridge import BioReader
from bfbridge.aics import AICSImage
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.errors import BfbridgeError
from bfbridge.integrations.napari import read_layers
from bfbridge.integrations.xarray import BfbridgeBackend
from bfbridge.patches import ImageStack
from tests.support.s3server import serve_s3
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr
from tests.support.webserver import serve

PIXELS = distinct((1, 2, 2, 200, 240), np.uint32)
BACKENDS = {"ometiff": "a.ome.tif", "omezarr": "a.ome.zarr", "bioformats": "a.ome.tif"}
TOKEN = "open-sesame"
MEMBER = PIXELS[:, :1, :1, :150]
CROPS = {
    "dask": lambda br: br.to_dask()[0, 1, 1, 40:60, 70:90].compute(),
    "xarray": lambda br: br.to_xarray()[0, 1, 1, 40:60, 70:90].values,
    "region": lambda br: br.region(x=(17.5, 22.5), y=(10, 15), units="um", z=1, c=1),
    "tiles": lambda br: next(br.tiles(20, region=np.s_[40:60, 70:90, 1, 1])).pixels,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("remote")
    metadata = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    write_ome_tiff(root / "a.ome.tif", PIXELS, tile=(32, 32), metadata=metadata)
    write_ome_zarr(root / "a.ome.zarr", [PIXELS], (1, 1, 1, 32, 32))
    for z in range(3):
        write_ome_tiff(root / f"z{z}.ome.tif", MEMBER + 1000 * z, tile=(32, 32))
    return root


# moto takes seconds to import.
@pytest.fixture(
    scope="module",
    params=["http", pytest.param("s3", marks=pytest.mark.slow(ci=True)), "memory"],
)
def place(request, folder):
    """(URL of the folder, storage options, server or None)."""
    if request.param == "http":
        with serve(folder, TOKEN) as web:
            yield web.url, {"headers": {"X-Token": TOKEN}}, web
    elif request.param == "s3":
        pytest.importorskip("s3fs")
        pytest.importorskip("moto.server", reason="moto, a local S3, is not installed")
        with serve_s3(folder, TOKEN) as (web, options):
            yield web.url, options, web
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


@pytest.mark.slow(ci=True)
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


@pytest.mark.slow(ci=True)
def test_other_processes_open_the_url(remote):
    url, how, web = remote
    if web is None:
        pytest.skip("each process has a memory of its own")
    with BioReader(url, **how) as br:
        array = br.to_dask(chunks={"Y": 100})
        found = array[0, 0].compute(scheduler="processes", num_workers=1)
    np.testing.assert_array_equal(found, PIXELS[0, 0])


@pytest.mark.slow(ci=True)
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


@pytest.fixture
def sent(remote):
    """A function that says how many bytes were sent since it was last called; None: none are."""
    web = remote[2]
    if web is None:
        return None
    marks = [web.sent]

    def since():
        marks.append(web.sent)
        return marks[-1] - marks[-2]

    return since


@pytest.mark.slow(ci=True)
def test_a_crop_fetches_little(remote, sent):
    url, how, _ = remote
    # One tile is 4 KiB of an image of 768 KB; the rest is metadata and what is read ahead. Java
    # reads ahead in blocks as large as this file; it must not fetch it again and again.
    allowed = {"omezarr": 60_000, "ometiff": 160_000, "bioformats": 1_600_000}[how["backend"]]
    expected = PIXELS[0, 1, 1, 40:60, 70:90]
    for name, crop in CROPS.items():
        with BioReader(url, **how) as br:
            np.testing.assert_array_equal(crop(br), expected, name)
        assert sent is None or 4096 <= sent() < allowed, name
    stack = ImageStack(url, **how)
    np.testing.assert_array_equal(stack.extract_patch(1, [1], (40, 70), (20, 20))[0], expected)
    assert sent is None or 4096 <= sent() < allowed


@pytest.mark.slow(ci=True)
def test_a_thumbnail_fetches_one_plane(remote, sent, folder):
    url, how, _ = remote
    with BioReader(url, **how) as br:
        found = br.thumbnail(100, z=1, c=0)
    with BioReader(folder / "a.ome.tif") as br:
        np.testing.assert_array_equal(found, br.thumbnail(100, z=1, c=0))
    assert found.shape == (83, 100)
    plane = PIXELS[0, 0, 0].nbytes
    # Chunks of OME-Zarr are compressed.
    assert sent is None or 10_000 <= sent() < (2 if how["backend"] != "bioformats" else 8) * plane


@pytest.mark.slow(ci=True)
def test_without_credentials_nothing_opens(remote):
    url, how, web = remote
    if web is None:
        pytest.skip("memory asks for none")
    wrong = {"headers": {"X-Token": "wrong one"}}
    none = {}
    if url.startswith("s3:"):
        wrong = {**how["storage_options"], "key": "wrong one"}
        none = {**how["storage_options"], "key": None, "secret": None, "anon": True}
    for options in (none, wrong):
        with pytest.raises(BfbridgeError) as caught:
            BioReader(url, backend=how["backend"], storage_options=options)
        for secret in (TOKEN, "wrong one", "hush-hush"):
            assert secret not in str(caught.value)


def test_napari_at_a_url(place):
    url, options, _ = place
    if options:
        pytest.skip("napari passes no storage options")
    ((data, _, _),) = read_layers(f"{url}/a.ome.zarr")
    np.testing.assert_array_equal(data.compute(), PIXELS)


@pytest.mark.parametrize("backend", [None, "bioformats"])
def test_file_series_at_urls(place, backend):
    if backend:
        pytest.importorskip("jpype")
    url, options, web = place
    # A web server does not list its folders, so there the files are named.
    named = [f"{url}/z{z}.ome.tif" for z in range(3)]
    pattern = f"{url}/z{{z:d}}.ome.tif"
    for files, axis in [(named, "T")] + ([] if url.startswith("http") else [(pattern, "Z")]):
        before = web and web.sent
        with BioReader(files, backend=backend, storage_options=options) as br:
            assert br.sizes[axis] == 3
            found = br.read(**{axis: 2, "Y": (40, 60), "X": (70, 90)})
        np.testing.assert_array_equal(found, MEMBER[0, 0, 0, 40:60, 70:90] + 2000)
        # Less than two of the files.
        assert web is None or 4096 <= web.sent - before < 2 * MEMBER.nbytes * (2 if backend else 1)


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
