"""Axes inside Z, C and T, unfolded to axes of their own."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.aics import AICSImage
from bfbridge.errors import BadArgument
from tests.real.manifest import DATA
from tests.support.czis import Block, write_czi

pytest.importorskip("dask")
xr = pytest.importorskip("xarray")

from bfbridge.integrations.xarray import BfbridgeBackend  # noqa: E402

MODULO = "openmicroscopy.org/omero/dimension/modulo"


def annotated(tmp_path: Path, pixels: Any, axes: str, suffix: str = ".ome.tif") -> Path:
    """Write an image (Y, X, Z, C, T) whose OME-XML has Modulo annotations."""
    from ome_types.model import AnnotationRef, StructuredAnnotations, XMLAnnotation

    value = f'<Modulo namespace="http://www.openmicroscopy.org/Schemas/Additions/2011-09">{axes}'
    with BioWriter(tmp_path / f"folded{suffix}", image=pixels) as bw:
        bw.metadata.structured_annotations = StructuredAnnotations(
            xml_annotations=[
                XMLAnnotation(id="Annotation:0", namespace=MODULO, value=f"{value}</Modulo>")
            ]
        )
        bw.metadata.images[0].annotation_refs = [AnnotationRef(id="Annotation:0")]
        bw[:] = pixels
    return tmp_path / f"folded{suffix}"


@pytest.fixture
def pixels() -> Any:
    return np.arange(20 * 30 * 4 * 2 * 6, dtype=np.uint16).reshape(20, 30, 4, 2, 6)


LIFETIMES = '<ModuloAlongT Type="lifetime" Unit="ps" Start="100" Step="50" End="200"/>'
ANGLES = (
    '<ModuloAlongZ Type="angle"><Label>left</Label><Label>right</Label></ModuloAlongZ>'
    '<ModuloAlongC Type="lambda" Unit="nm" Start="500" Step="10" End="510"/>'
)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_lifetimes(tmp_path: Path, pixels: Any, suffix: str) -> None:
    path = annotated(tmp_path, pixels, LIFETIMES, suffix)
    expected = pixels.transpose(4, 3, 2, 0, 1).reshape(2, 3, 2, 4, 20, 30)
    with BioReader(path) as br:
        assert br.modulo["T"].length == 3
        np.testing.assert_array_equal(br.asarray(unfold=True), expected)
        lazy = br.to_dask(unfold=True)
        assert lazy.shape == expected.shape
        np.testing.assert_array_equal(lazy.compute(), expected)
        np.testing.assert_array_equal(
            lazy[1, 2, 0, 1:, 3, ::2].compute(), expected[1, 2, 0, 1:, 3, ::2]
        )
        np.testing.assert_array_equal(
            pickle.loads(pickle.dumps(lazy)).compute(scheduler="sync"), expected
        )
        array = br.to_xarray(unfold=True)
        assert array.dims == ("t", "lifetime", "c", "z", "y", "x")
        assert array.coords["lifetime"].values.tolist() == [100, 150, 200]
        assert array.coords["lifetime"].attrs == {"units": "ps"}
        assert array.sizes["t"] == len(array.coords["t"]) == 2
        np.testing.assert_array_equal(array.sel(lifetime=150).values, expected[:, 1])
        eager = br.to_xarray(lazy=False, unfold=True)
        np.testing.assert_array_equal(eager.values, expected)
        # Without the request nothing changes.
        assert br.to_xarray().dims == ("t", "c", "z", "y", "x")
        np.testing.assert_array_equal(
            br.asarray("YXZCT", unfold=True), pixels.reshape(20, 30, 4, 2, 2, 3)
        )


def test_angles_and_wavelengths(tmp_path: Path, pixels: Any) -> None:
    with BioReader(annotated(tmp_path, pixels, ANGLES)) as br:
        array = br.to_xarray(unfold=True)
        assert array.dims == ("t", "c", "wavelength", "z", "angle", "y", "x")
        assert array.coords["angle"].values.tolist() == ["left", "right"]
        assert array.coords["wavelength"].values.tolist() == [500, 510]
        expected = pixels.transpose(4, 3, 2, 0, 1).reshape(6, 1, 2, 2, 2, 20, 30)
        np.testing.assert_array_equal(array.values, expected)


def test_through_xarrays_engine(tmp_path: Path, pixels: Any) -> None:
    path = annotated(tmp_path, pixels, LIFETIMES)
    expected = pixels.transpose(4, 3, 2, 0, 1).reshape(2, 3, 2, 4, 20, 30)
    options: dict[str, Any] = {"engine": BfbridgeBackend, "unfold": True}
    with xr.open_dataset(path, **options) as dataset:
        assert dict(dataset.sizes) == {"t": 2, "lifetime": 3, "c": 2, "z": 4, "y": 20, "x": 30}
        part = dataset.image.sel(lifetime=150).isel(t=1, z=[2, 0])
        np.testing.assert_array_equal(part.values, expected[1, 1][:, [2, 0]])
        np.testing.assert_array_equal(dataset.image.values, expected)
        copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.image.values, expected)
    with xr.open_dataset(path, chunks={}, **options) as dataset:
        assert dataset.image.chunks[:2] == ((1, 1), (1, 1, 1))
        np.testing.assert_array_equal(dataset.image.compute().values, expected)
    with xr.open_datatree(path, **options) as tree:
        assert tree["series_0/level_0/image"].dims == ("t", "lifetime", "c", "z", "y", "x")
    with pytest.raises(BadArgument, match="unfold='both'"):
        xr.open_dataset(path, engine=BfbridgeBackend, unfold="both")


def test_through_aicsimage(tmp_path: Path, pixels: Any) -> None:
    with AICSImage(annotated(tmp_path, pixels, LIFETIMES), unfold=True) as image:
        expected = pixels.transpose(4, 3, 2, 0, 1).reshape(2, 3, 2, 4, 20, 30)
        assert image.dims.order == "THCZYX"
        assert image.dims.H == 3
        assert image.shape == image.resolution_level_dims[0] == expected.shape
        np.testing.assert_array_equal(image.data, expected)
        np.testing.assert_array_equal(
            image.get_image_data("HZYX", T=1, C=1, Z=slice(1, 3)), expected[1, :, 1, 1:3]
        )
        lazy = image.get_image_dask_data("XHY", T=1, Z=2, H=[2, 0])
        np.testing.assert_array_equal(lazy.compute(), expected[1, [2, 0], 0, 2].transpose(2, 0, 1))
        array = image.xarray_dask_data
        assert array.dims == tuple("THCZYX")
        assert array.coords["H"].values.tolist() == [100, 150, 200]
        assert array.coords["H"].attrs == {"units": "ps"}
        assert image.get_xarray_dask_stack().shape == (1, *expected.shape)
        with pytest.raises(BadArgument, match="axes are M, T, C, Z, Y, X, H and S"):
            image.get_image_data("PZYX")
    chunked = AICSImage(tmp_path / "folded.ome.tif", unfold=True, chunk_dims="HYX")
    assert chunked.dask_data.chunksize == (1, 3, 1, 1, 20, 30)
    chunked.close()
    with AICSImage(tmp_path / "folded.ome.tif") as image:
        assert image.dims.order == "TCZYX"


def test_channels_that_contain_wavelengths(tmp_path: Path, pixels: Any) -> None:
    with AICSImage(annotated(tmp_path, pixels, ANGLES), unfold=True) as image:
        assert image.dims.order == "TCEZAYX"
        assert len(image.channel_names) == 1
        array = image.xarray_data
        assert array.coords["E"].values.tolist() == [500, 510]
        assert array.coords["A"].values.tolist() == ["left", "right"]
        assert array.coords["C"].values.tolist() == image.channel_names
        # Views of a mosaic are put together with their stored axes.
        with pytest.raises(BadArgument, match="unfold=True is not possible with mosaic='stitch'"):
            AICSImage(tmp_path / "folded.ome.tif", unfold=True, mosaic="stitch")


def test_an_image_without_folded_axes(tmp_path: Path, pixels: Any) -> None:
    with BioWriter(tmp_path / "a.ome.tif", image=pixels) as bw:
        bw[:] = pixels
    with BioReader(tmp_path / "a.ome.tif") as br:
        assert br.modulo == {}
        np.testing.assert_array_equal(br.asarray("YXZCT", unfold=True), pixels)


def test_an_order_that_is_not_known(tmp_path: Path, pixels: Any) -> None:
    """As Bio-Formats describes phases of CZI: the step is the number of time points."""
    text = '<ModuloAlongT Type="phase" Start="0" Step="3" End="3"/>'
    planes = pixels.transpose(4, 3, 2, 0, 1)
    with BioReader(annotated(tmp_path, pixels, text)) as br:
        with pytest.raises(BadArgument, match="unfold='slowest'"):
            br.to_dask(unfold=True)
        slow = br.asarray(unfold="slowest")
        np.testing.assert_array_equal(slow, planes.reshape(2, 3, 2, 4, 20, 30).swapaxes(0, 1))
        fast = br.asarray(unfold="fastest")
        np.testing.assert_array_equal(fast, planes.reshape(3, 2, 2, 4, 20, 30))
        with pytest.raises(BadArgument, match="unfold='both'"):
            br.asarray(unfold="both")


def test_a_description_that_does_not_fit(tmp_path: Path, pixels: Any) -> None:
    text = '<ModuloAlongT Type="lifetime" Start="0" Step="1" End="3"/>'
    with (
        BioReader(annotated(tmp_path, pixels, text)) as br,
        pytest.raises(BadArgument, match="4 values, which do not fit T=6"),
    ):
        br.to_xarray(unfold=True)


@pytest.mark.java
def test_phases_of_czi_run_slowest(tmp_path: Path) -> None:

    planes = np.random.default_rng(2).integers(0, 60000, (2, 3, 2, 2, 9, 8), np.uint16)
    blocks = [
        Block(planes[at], at=dict(zip("HIRT", at, strict=True))) for at in np.ndindex(2, 3, 2, 2)
    ]
    path = write_czi(tmp_path / "folded.czi", blocks)
    expected = planes.transpose(3, 0, 1, 2, 4, 5)
    for backend in ("czi", "bioformats"):
        with BioReader(path, backend=backend) as br:
            array = br.to_xarray(unfold=True)
        assert array.dims == ("t", "phase", "c", "illumination", "z", "angle", "y", "x")
        np.testing.assert_array_equal(array.values[:, :, 0, :, 0], expected)
        assert array.coords["phase"].values.tolist() == [0, 1]


@pytest.mark.java
@pytest.mark.skipif(not DATA.is_dir(), reason="no real files")
def test_lifetimes_of_sdt() -> None:
    folder = DATA / "sdt/seminal_receptacle_FLIM_single_image.sdt.d"
    with BioReader(folder / "seminal_receptacle_FLIM_single_image.sdt") as br:
        array = br.to_xarray(unfold=True)
        assert array.sizes["lifetime"] == 256
        assert array.sizes["t"] == br.sizes["T"] // 256
        assert float(array.coords["lifetime"][1]) == pytest.approx(48.86091184430619)
        stored = br.read(Y=(0, 9), X=(0, 9), Z=0, C=0, keepdims=True)[:, :, 0, 0]
        found = array.isel(t=0, c=0, z=0, y=slice(9), x=slice(9)).values
        np.testing.assert_array_equal(found, stored.transpose(2, 0, 1)[:256])
