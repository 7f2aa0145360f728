"""The engine "bfbridge" of xarray, through xarray's own functions."""

import pickle

import numpy as np
import pytest
import xarray as xr

from bfbridge.integrations.xarray import BfbridgeBackend
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr

PIXELS = distinct((2, 3, 4, 37, 53))
HALF = np.ascontiguousarray(PIXELS[..., ::2, ::2])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_ome_zarr(tmp_path_factory.mktemp("engine") / "a.ome.zarr", [PIXELS, HALF])


@pytest.fixture(scope="module")
def tiff(tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "a.ome.tif"
    return write_ome_tiff(path, PIXELS, metadata={"PhysicalSizeX": 0.5})


def test_open_dataset(tiff):
    with xr.open_dataset(tiff, engine=BfbridgeBackend) as dataset:
        assert dataset.image.dims == ("t", "c", "z", "y", "x")
        assert dataset.sizes == {"t": 2, "c": 3, "z": 4, "y": 37, "x": 53}
        np.testing.assert_allclose(dataset.x, np.arange(53) * 0.5)
        assert dataset.x.attrs["units"] == "µm"
        assert dataset.image.dtype == np.uint16
        np.testing.assert_array_equal(dataset.image.values, PIXELS)


def test_nothing_is_read_until_it_is_asked_for(tiff, monkeypatch):
    from bfbridge.analysis.dask_arrays import LazyImage

    seen = []
    real = LazyImage.__getitem__
    monkeypatch.setattr(
        LazyImage, "__getitem__", lambda self, key: seen.append(key) or real(self, key)
    )
    with xr.open_dataset(tiff, engine=BfbridgeBackend) as dataset:
        part = dataset.image.isel(t=1, c=[2, 0], y=slice(3, 9), x=slice(None, None, -5))
        assert not seen
        np.testing.assert_array_equal(part.values, PIXELS[1, [2, 0], :, 3:9, ::-5])
        assert len(seen) == 1


def test_pointwise_indexing_is_numpys(tiff):
    with xr.open_dataset(tiff, engine=BfbridgeBackend) as dataset:
        y, x = xr.DataArray([3, 20, 36], dims="p"), xr.DataArray([50, 0, 7], dims="p")
        found = dataset.image.isel(t=0, y=y, x=x)
        np.testing.assert_array_equal(found.values, PIXELS[0][..., [3, 20, 36], [50, 0, 7]])


@pytest.mark.slow(ci=True)
def test_chunks_are_dasks(store):
    with xr.open_dataset(store, engine=BfbridgeBackend, chunks={}) as dataset:
        assert dataset.image.chunks == ((1, 1), (1, 1, 1), (1, 1, 1, 1), (37,), (53,))
        np.testing.assert_array_equal(dataset.image.compute().values, PIXELS)
        halves = dataset.image.mean("z").compute(scheduler="processes", num_workers=2)
        np.testing.assert_allclose(halves.values, PIXELS.mean(axis=2))


def test_datasets_can_be_pickled(tiff):
    with xr.open_dataset(tiff, engine=BfbridgeBackend) as dataset:
        copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.image.values, PIXELS)


def test_level_series_and_drop(store):
    with xr.open_dataset(
        store, engine=BfbridgeBackend, level=1, series=0, drop_variables=["t"]
    ) as dataset:
        assert "t" not in dataset.coords
        np.testing.assert_array_equal(dataset.image.values, HALF)


def test_open_datatree_has_series_and_levels(tmp_path):
    import tifffile

    small = distinct((1, 2, 1, 9, 11))
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(PIXELS, metadata={"axes": "TCZYX", "Name": "first"})
        writer.write(small, metadata={"axes": "TCZYX", "Name": "a/b"})
    with xr.open_datatree(path, engine=BfbridgeBackend) as tree:
        assert set(tree.groups) == {
            "/", "/series_0", "/series_0/level_0", "/series_1", "/series_1/level_0",
        }  # fmt: skip
        assert tree["series_1"].attrs == {"role": "image", "name": "a/b"}
        np.testing.assert_array_equal(tree["series_0/level_0/image"].values, PIXELS)
        np.testing.assert_array_equal(tree["series_1/level_0/image"].values, small)


def test_open_datatree_of_a_pyramid(store):
    with xr.open_datatree(store, engine=BfbridgeBackend) as tree:
        np.testing.assert_array_equal(tree["series_0/level_1/image"].values, HALF)
        assert tree["series_0/level_0"].sizes["x"] == 53


@pytest.mark.parametrize(
    ("name", "claimed"),
    [
        ("a.czi", True), ("A.OME.TIFF", True), ("s3://b/a.ome.zarr/", True), ("a.tif", False),
        ("a.zarr", False), ("a.nc", False), (b"II*\0", False),
    ],
)  # fmt: skip
def test_only_sure_names_are_claimed(name, claimed):
    assert BfbridgeBackend().guess_can_open(name) is claimed


def test_the_engine_is_registered():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["xarray.backends"] == {
        "bfbridge": "bfbridge.integrations.xarray:BfbridgeBackend"
    }
