"""dask and xarray arrays against the arrays that were written."""

import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.base import tokenize

from bfbridge import BioReader
from bfbridge.analysis import dask_arrays as arrays
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.errors import BadArgument, MissingExtra, ReadFailed
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr

PIXELS = distinct((2, 3, 4, 37, 53))
RGB = distinct((2, 1, 3, 19, 23, 3), np.uint16)


@pytest.fixture(scope="module")
def tiff(tmp_path_factory):
    return write_ome_tiff(
        tmp_path_factory.mktemp("arrays") / "a.ome.tif",
        PIXELS,
        metadata={
            "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0,
            "Channel": {"Name": ["DAPI", "GFP", "RFP"]},
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    return write_ome_tiff(tmp_path_factory.mktemp("rgb") / "rgb.ome.tif", RGB)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_ome_zarr(
        tmp_path_factory.mktemp("store") / "a.ome.zarr",
        [PIXELS, np.ascontiguousarray(PIXELS[..., ::2, ::2])],
        (1, 1, 2, 16, 24),
    )


# ---- dask


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers_give_what_was_written(tiff, scheduler):
    with BioReader(tiff) as br:
        array = br.to_dask(chunks={"Y": 16, "X": 32})
        assert array.chunks[3:] == ((16, 16, 5), (32, 21))
        np.testing.assert_array_equal(array.compute(scheduler=scheduler, num_workers=2), PIXELS)


@pytest.mark.slow(ci=True)
def test_distributed_workers_open_the_file_once(tiff):
    distributed = pytest.importorskip("distributed")

    def files_open():
        return len(arrays._kept)

    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
        BioReader(tiff) as br,
    ):
        found = client.compute(br.to_dask(chunks={"Y": 16, "X": 32})).result(timeout=60)
        other = client.compute(br.to_dask(order="YXZCT")).result(timeout=60)
        opened = set(client.run(files_open).values())
    np.testing.assert_array_equal(found, PIXELS)
    np.testing.assert_array_equal(other, PIXELS.transpose(3, 4, 2, 1, 0))
    assert opened == {1}


@pytest.mark.parametrize("order", ["TCZYX", "YXZCT", "ZYXCT", "XTYCZ"])
def test_order_is_the_order_of_axes(store, order):
    with BioReader(store) as br:
        array = br.to_dask(order=order)
        expected = PIXELS.transpose(*("TCZYX".index(axis) for axis in order))
        np.testing.assert_array_equal(array.compute(), expected)


def test_left_out_axes_have_length_one(tmp_path):
    plane = PIXELS[:1, :1, :1]
    with BioReader(write_ome_tiff(tmp_path / "p.ome.tif", plane)) as br:
        np.testing.assert_array_equal(br.to_dask(order="XY").compute(), plane[0, 0, 0].T)


@pytest.mark.parametrize("order", ["TCZYXT", "TCZYQ", "", "YX"])
def test_wrong_orders_are_refused(tiff, order):
    with BioReader(tiff) as br, pytest.raises(BadArgument, match="order="):
        br.to_dask(order=order)


@pytest.mark.parametrize("chunks", [{"Q": 3}, (3, 3), "nonsense", 0])
def test_wrong_chunks_are_refused(tiff, chunks):
    with BioReader(tiff) as br, pytest.raises(BadArgument, match="chunks="):
        br.to_dask(chunks=chunks)


def test_samples_can_be_an_axis(rgb):
    with BioReader(rgb) as br:
        whole = br.to_dask(order="TCZYXS")
        assert whole.shape == RGB.shape
        np.testing.assert_array_equal(whole.compute(), RGB)
        np.testing.assert_array_equal(
            whole[1, 0, :, 2:9, ::-3, 1].compute(), RGB[1, 0, :, 2:9, ::-3, 1]
        )
        np.testing.assert_array_equal(whole[..., [2, 0]].compute(), RGB[..., [2, 0]])
        flat = br.to_dask()
        np.testing.assert_array_equal(
            flat.compute(), RGB.transpose(0, 1, 5, 2, 3, 4).reshape(2, 3, 3, 19, 23)
        )


@pytest.mark.parametrize(
    "key",
    [
        np.s_[1],
        np.s_[..., 5:30, 7],
        np.s_[:, [2, 0], 1:3, ::5, ::-4],
        np.s_[0, :, -1, -9:, 50:10:-7],
        np.s_[:, :, :, 3:3],
        np.s_[None, 1, 2],
    ],
)
def test_selections_match_numpy(store, key):
    with BioReader(store) as br:
        array = br.to_dask(chunks={"Y": 16, "X": 24})
        np.testing.assert_array_equal(array[key].compute(), PIXELS[key])


def test_a_selection_reads_no_more_than_it_needs(store, monkeypatch):
    seen = []
    real = arrays.LazyImage.__getitem__
    monkeypatch.setattr(
        arrays.LazyImage, "__getitem__", lambda self, key: seen.append(key) or real(self, key)
    )
    with BioReader(store) as br:
        array = br.to_dask(chunks={"T": 2, "C": 3, "Z": 4, "Y": 37, "X": 53})
        found = array[1, 2, 3, 4:9, 10:12].compute()
    np.testing.assert_array_equal(found, PIXELS[1, 2, 3, 4:9, 10:12])
    assert len(seen) == 1
    assert seen[0][:3] == (1, 2, 3)
    assert seen[0][3] == slice(4, 9)


@pytest.mark.slow(ci=True)
def test_names_are_the_same_in_another_process(tiff):
    code = (
        "import sys; from bfbridge import BioReader; "
        "print(BioReader(sys.argv[1]).to_dask(order='ZCTYX').name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tiff], capture_output=True, text=True, check=True
    )
    with BioReader(tiff) as br:
        assert br.to_dask(order="ZCTYX").name == done.stdout.strip()


def test_names_tell_what_differs(tmp_path, store):
    path = write_ome_tiff(tmp_path / "n.ome.tif", PIXELS)
    with BioReader(path) as br:
        names = [
            br.to_dask().name,
            br.to_dask(chunks={"Y": 16}).name,
            br.to_dask(order="YXZCT").name,
        ]
    write_ome_tiff(path, PIXELS[::-1])
    with BioReader(path) as br:
        names.append(br.to_dask().name)
        np.testing.assert_array_equal(br.to_dask().compute(), PIXELS[::-1])
    with BioReader(store) as br:
        names += [br.levels[0].to_dask().name, br.levels[1].to_dask().name]
        assert tokenize(br.levels[1]) != tokenize(br.levels[0])
        assert tokenize(br.levels[0]) == tokenize(BioReader(store))
    assert len(set(names)) == len(names)


def test_compute_is_one_read_unless_dask_was_asked_for_more(tiff, monkeypatch):
    from dask.diagnostics import ResourceProfiler

    sizes = []
    real = arrays.LazyImage.__getitem__

    def spy(self, key):
        found = real(self, key)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(arrays.LazyImage, "__getitem__", spy)
    with BioReader(tiff) as br:
        array = br.to_dask(chunks={"Y": 16})
        for compute in (array.compute, lambda: np.asarray(array)):
            np.testing.assert_array_equal(compute(), PIXELS)
            assert sizes == [PIXELS.size]
            sizes.clear()
        asked = [
            lambda: array.compute(num_workers=2),
            lambda: array.compute(scheduler="synchronous"),
            lambda: dask.compute(array)[0],
        ]
        for config in ({"scheduler": "synchronous"}, {"num_workers": 1}):
            with dask.config.set(config):
                np.testing.assert_array_equal(array.compute(), PIXELS)
        with ResourceProfiler():
            np.testing.assert_array_equal(array.compute(), PIXELS)
        for compute in asked:
            np.testing.assert_array_equal(compute(), PIXELS)
        assert len(sizes) == 6 * array.npartitions
        changed = PIXELS.copy()
        changed[0, 1], array[0, 1] = 7, 7
        np.testing.assert_array_equal(array.compute(), changed)


def test_a_file_that_has_changed_is_an_error(tmp_path):
    path = write_ome_tiff(tmp_path / "c.ome.tif", PIXELS)
    with BioReader(path) as br:
        lazy = br.to_dask()
    pickled = pickle.dumps(lazy)
    np.testing.assert_array_equal(pickle.loads(pickled).compute(), PIXELS)
    write_ome_tiff(path, PIXELS[:1])
    for array in (lazy, pickle.loads(pickled)):
        with pytest.raises(ReadFailed, match=r"c\.ome\.tif: the file has changed"):
            array.compute()


def test_a_member_that_has_changed_is_an_error(tmp_path):
    for t in range(3):
        write_ome_tiff(tmp_path / f"m{t}.ome.tif", PIXELS[t % 2 : t % 2 + 1])
    with BioReader(tmp_path / "m{t:d}.ome.tif") as br:
        lazy = br.to_dask()
        name = lazy.name
    write_ome_tiff(tmp_path / "m2.ome.tif", PIXELS[1:])
    with pytest.raises(ReadFailed, match="changed"):
        lazy.compute()
    with BioReader(tmp_path / "m{t:d}.ome.tif") as br:
        assert br.to_dask().name != name
        np.testing.assert_array_equal(br.to_dask()[2].compute(), PIXELS[1])


def test_a_shared_cache_keeps_what_a_url_held_apart(tmp_path):
    import fsspec

    memory, cache = fsspec.filesystem("memory"), ChunkCache()
    for pixels in (PIXELS, PIXELS[::-1].copy()):
        path = write_ome_tiff(tmp_path / "u.ome.tif", pixels)
        memory.pipe("/shared-cache/u.ome.tif", path.read_bytes())
        with BioReader("memory://shared-cache/u.ome.tif", cache=cache) as br:
            for _ in range(3):
                np.testing.assert_array_equal(br[3:5, 7:9, 0, 0, 0], pixels[0, 0, 0, 3:5, 7:9])
    assert len(cache) == 2
    memory.rm("/shared-cache", recursive=True)


def _sum(array):
    return int(array.sum(dtype=np.int64).compute(scheduler="synchronous"))


@pytest.mark.slow(ci=True)
def test_pickles_hold_no_handles_and_no_chunks(tiff):
    chunks = {}
    with BioReader(tiff, cache=chunks) as br:
        _ = br[3:5, 7:9]
        assert chunks
        pickled = pickle.dumps(br.to_dask()[:, 1])
        assert len(pickled) < 200_000
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            assert pool.submit(_sum, br.to_dask()[:, 1]).result(60) == int(PIXELS[:, 1].sum())


def test_arrays_outlive_the_reader(tiff):
    with BioReader(tiff) as br:
        array = br.to_dask()
    np.testing.assert_array_equal(array[1, :, 2].compute(), PIXELS[1, :, 2])


def test_a_rewritten_file_is_read_anew_from_pickles(tmp_path):
    path = write_ome_tiff(tmp_path / "r.ome.tif", PIXELS)
    with BioReader(path) as br:
        first = pickle.loads(pickle.dumps(br.to_dask()))
        np.testing.assert_array_equal(first.compute(), PIXELS)
    path.unlink()
    write_ome_tiff(path, PIXELS[:, ::-1].copy())
    with BioReader(path) as br:
        second = pickle.loads(pickle.dumps(br.to_dask()))
        np.testing.assert_array_equal(second.compute(), PIXELS[:, ::-1])


@pytest.mark.slow(ci=True)
def test_bytes_stand_in_the_graph_once(tiff):
    data = tiff.read_bytes()
    with BioReader(data, name="a.ome.tif") as br, BioReader(data, name="b.ome.tif") as again:
        array = br.to_dask(chunks={"Y": 16, "X": 16})
        np.testing.assert_array_equal(array.compute(scheduler="processes", num_workers=2), PIXELS)
        assert array.name == again.to_dask(chunks={"Y": 16, "X": 16}).name
        assert len(pickle.dumps(array)) < 2 * len(data)


def test_a_caller_cannot_write_into_what_others_get(store):
    with BioReader(store) as br:
        (first,) = dask.compute(br.to_dask())
        first[:] = 0
        np.testing.assert_array_equal(br.to_dask().compute(), PIXELS)


def test_derived_arrays_and_stores_are_dasks_own(store):
    with BioReader(store) as br:
        array = br.to_dask(chunks={"Y": 16})
        np.testing.assert_array_equal(
            (array.astype(np.int64) * 2 + 1).compute(), PIXELS.astype(int) * 2 + 1
        )
        np.testing.assert_array_equal(array.max(axis=2).compute(), PIXELS.max(axis=2))
        out = np.zeros(PIXELS.shape, PIXELS.dtype)
        da.store(array, out, lock=False)
        np.testing.assert_array_equal(out, PIXELS)
        np.testing.assert_array_equal(array.persist().compute(), PIXELS)


class _Stub:
    """What `default_chunks` asks of a view."""

    def __init__(self, sizes, chunks, samples=1, dtype=np.uint16):
        self.sizes = dict(zip("YXZCT", sizes, strict=True))
        self.chunks, self.samples_per_pixel, self.dtype = chunks, samples, np.dtype(dtype)


@pytest.mark.parametrize(
    ("sizes", "stored", "samples", "expected"),
    [
        ((16384, 16384, 1, 1, 1), (512, 512, 1, 1, 1), 1, (1, 1, 1, 1024, 1024)),
        ((16384, 16384, 1, 1, 1), (300, 300, 1, 1, 1), 1, (1, 1, 1, 900, 900)),
        ((16384, 16384, 1, 1, 1), (1, 16384, 1, 1, 1), 1, (1, 1, 1, 64, 16384)),
        ((16384, 16384, 1, 1, 1), (16384, 16384, 1, 1, 1), 1, (1, 1, 1, 2048, 2048)),
        ((300, 200, 9, 2, 5), (300, 200, 1, 1, 1), 1, (1, 1, 1, 300, 200)),
        ((4096, 4096, 200, 1, 1), (128, 128, 200, 1, 1), 1, (1, 1, 200, 512, 512)),
        ((4096, 4096, 600, 1, 1), (1024, 1024, 600, 1, 1), 1, (1, 1, 1, 1024, 1024)),
        ((4096, 4096, 8, 1, 1), (128, 128, 8, 1, 1), 1, (1, 1, 8, 1024, 1024)),
        ((9000, 9000, 1, 3, 1), (256, 256, 1, 1, 1), 3, (1, 3, 1, 1024, 1024)),
    ],
)
def test_default_chunks(sizes, stored, samples, expected):
    assert arrays.default_chunks(_Stub(sizes, stored, samples), "TCZYX") == expected


def test_default_chunks_split_samples():
    stub = _Stub((9000, 8000, 1, 3, 1), (256, 256, 1, 3, 1), 3, np.uint8)
    assert arrays.default_chunks(stub, "TCZYXS") == (1, 1, 1, 1024, 1024, 3)


# ---- xarray


def test_xarray_has_labels_in_physical_units(tiff):
    with BioReader(tiff) as br:
        array = br.to_xarray()
        assert array.dims == ("t", "c", "z", "y", "x")
        assert array.chunks is not None
        np.testing.assert_array_equal(array.values, PIXELS)
        np.testing.assert_allclose(array.x, np.arange(53) * 0.25)
        np.testing.assert_allclose(array.y, np.arange(37) * 0.5)
        np.testing.assert_allclose(array.z, np.arange(4) * 2.0)
        assert {axis: array[axis].attrs["units"] for axis in "xyz"} == dict.fromkeys("xyz", "µm")
        assert array.c.values.tolist() == ["DAPI", "GFP", "RFP"]
        chosen = array.sel(c="GFP", t=0, z=2.0, x=slice(1, 3))
        np.testing.assert_array_equal(chosen.values, PIXELS[0, 1, 1, :, 4:13])
        eager = br.to_xarray(lazy=False)
    assert isinstance(eager.variable._data, np.ndarray)
    xr.testing.assert_identical(eager, array.compute())


def test_xarray_places_and_times_planes(tmp_path):
    pixels = PIXELS[:, :2, :2]
    count = 8
    path = write_ome_tiff(
        tmp_path / "planes.ome.tif",
        pixels,
        metadata={
            "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5,
            "PhysicalSizeZ": 2.0,
            "Plane": {
                "PositionX": [0.01] * count, "PositionXUnit": ["mm"] * count,
                "PositionY": [-3.0] * count, "PositionYUnit": ["µm"] * count,
                "DeltaT": [100.0, 150.0, 200.0, 250.0, 1700.0, 1750.0, 1800.0, 1850.0],
                "DeltaTUnit": ["ms"] * count,
            },
        },
    )  # fmt: skip
    with BioReader(path) as br:
        array, plain = br.to_xarray(), br.to_xarray(origin="zero")
        with pytest.raises(BadArgument, match="origin="):
            br.to_xarray(origin="stage")
    np.testing.assert_allclose(array.x, 10_000 + np.arange(53) * 250)
    assert array.x.attrs["units"] == "nm"
    np.testing.assert_allclose(array.y, -3 + np.arange(37) * 0.5)
    np.testing.assert_allclose(array.z, np.arange(2) * 2.0)
    np.testing.assert_allclose(array.t, [0.1, 1.7])
    assert array.t.attrs["units"] == "s"
    np.testing.assert_allclose(plain.x, np.arange(53) * 250)
    np.testing.assert_allclose(plain.t, [0.1, 1.7])


def test_lower_levels_are_shifted_by_half_a_pixel(store):
    with BioReader(store) as br:
        array = br.levels[1].to_xarray()
    np.testing.assert_array_equal(array.values, PIXELS[..., ::2, ::2])
    size = 53 / 27 * 0.25
    np.testing.assert_allclose(array.x, (np.arange(27) + 0.5) * size - 0.125)


def test_samples_are_labelled(rgb):
    with BioReader(rgb) as br:
        assert br.to_xarray().c.values.tolist() == ["Channel 0 R", "Channel 0 G", "Channel 0 B"]


def test_an_absent_package_is_named(tiff, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.array", None)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with BioReader(tiff) as br:
        with pytest.raises(MissingExtra, match=r'pip install "bfbridge\[all\]"'):
            br.to_dask()
        with pytest.raises(MissingExtra, match=r'pip install "bfbridge\[all\]"'):
            br.to_xarray()
