"""The reader for bioio: bioio's own checks of readers, and values against this library's."""

import subprocess
import sys
import tomllib
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from ome_types import OME

from bfbridge import BioReader, BioWriter
from bfbridge.errors import BadArgument, FileMissing, UnknownFormat, UnreadableFile
from tests.support.czis import Block, write_czi
from tests.support.samples import distinct, write_ome_tiff, write_ome_zarr

pytest.importorskip("bioio_base", reason="the extra `bioio` installs it")

from bioio_base import exceptions
from bioio_base.reader import Reader as Base
from bioio_base.test_utilities import (
    run_image_file_checks,
    run_multi_scene_image_read_checks,
    run_no_scene_name_image_read_checks,
    run_reader_mosaic_checks,
)
from bioio_base.types import PhysicalPixelSizes, ureg

from bfbridge.integrations.bioio import Reader, ReaderMetadata

PIXELS = distinct((2, 3, 4, 37, 53))
HALF = np.ascontiguousarray(PIXELS[..., ::2, ::2])
ROOT = Path(__file__).parents[2]
METADATA = {
    "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2,
    "TimeIncrement": 3, "TimeIncrementUnit": "min", "Channel": {"Name": ["a", "b", "c"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def tiff(tmp_path_factory):
    path = tmp_path_factory.mktemp("bioio") / "a.ome.tif"
    return write_ome_tiff(path, PIXELS, metadata=METADATA)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_ome_zarr(tmp_path_factory.mktemp("bioio") / "a.ome.zarr", [PIXELS, HALF])


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two scenes: other sizes, other dtypes; the second has no name."""
    path = tmp_path_factory.mktemp("bioio") / "two.ome.tif"
    from bfbridge.ome.metadata import new_document

    with BioWriter(path, metadata=new_document(2), series="all") as bw:
        first, second = bw.series
        first.name = "left"
        first.shape, first.dtype = (37, 53, 4, 1, 1), np.uint16
        second.shape, second.dtype = (19, 23, 1, 2, 1), np.float32
        first[...] = PIXELS[0, 0].transpose(1, 2, 0).reshape(37, 53, 4, 1, 1)
        second[...] = distinct((19, 23, 1, 2, 1), np.uint16).astype(np.float32)
    return path


def tile_blocks() -> list[Block]:
    tiles = distinct((4, 20, 30))
    corners = [(0, 0), (0, 25), (17, 0), (17, 25)]
    return [
        Block(tile, x=x, y=y, at={"C": 0, "M": m})
        for m, (tile, (y, x)) in enumerate(zip(tiles, corners, strict=True))
    ]


def test_bioios_checks_of_an_image(tiff):
    checked = run_image_file_checks(
        ImageContainer=Reader,
        image=tiff,
        set_scene="Image0",
        expected_scenes=("Image0",),
        expected_current_scene="Image0",
        expected_shape=PIXELS.shape,
        expected_dtype=np.dtype(np.uint16),
        expected_dims_order="TCZYX",
        expected_channel_names=["a", "b", "c"],
        expected_physical_pixel_sizes=(2.0, 0.5, 0.25),
        expected_metadata_type=OME,
    )
    np.testing.assert_array_equal(checked.data, PIXELS)


def test_bioios_checks_of_a_lower_level(store):
    checked = run_image_file_checks(
        ImageContainer=Reader,
        image=store,
        set_scene="sample",
        expected_scenes=("sample",),
        expected_current_scene="sample",
        expected_shape=HALF.shape,
        expected_dtype=np.dtype(np.uint16),
        expected_dims_order="TCZYX",
        expected_channel_names=["Channel:0:0", "Channel:0:1", "Channel:0:2"],
        expected_physical_pixel_sizes=(0.5, 0.25 * 37 / 19, 0.25 * 53 / 27),
        expected_metadata_type=OME,
        set_resolution_level=1,
        expected_current_resolution_level=1,
        expected_resolution_levels=(0, 1),
    )
    np.testing.assert_array_equal(checked.data, HALF)
    assert checked.resolution_level_dims == {0: PIXELS.shape, 1: HALF.shape}


def test_bioios_checks_of_scenes(scenes):
    for named in ("left", "Image:1"), (0, 1):
        checked = run_multi_scene_image_read_checks(
            ImageContainer=Reader,
            image=scenes,
            first_scene_id=named[0],
            first_scene_shape=(1, 1, 4, 37, 53),
            first_scene_dtype=np.dtype(np.uint16),
            second_scene_id=named[1],
            second_scene_shape=(1, 2, 1, 19, 23),
            second_scene_dtype=np.dtype(np.float32),
            allow_same_scene_data=False,
        )
    assert checked.scenes == ("left", "Image:1")
    run_no_scene_name_image_read_checks(
        Reader, scenes, 0, np.dtype(np.uint16), "Image:1", np.dtype(np.float32), False
    )


def test_bioios_checks_of_a_mosaic(tmp_path):
    path = write_czi(tmp_path / "m.czi", tile_blocks())
    tiles = Reader(path, mosaic="tiles")
    run_reader_mosaic_checks(tiles, Reader(path), tiles.scenes[0], Reader(path).scenes[0])
    assert tiles.dims.order == "MTCZYX"
    assert tiles.shape == (4, 1, 1, 1, 20, 30)
    assert tuple(tiles.mosaic_tile_dims.shape) == (20, 30)
    assert tiles.get_mosaic_tile_positions() == [(0, 0), (0, 25), (17, 0), (17, 25)]
    assert tiles.get_mosaic_tile_positions(M=2) == [tiles.get_mosaic_tile_position(2)] == [(17, 0)]
    np.testing.assert_array_equal(tiles.get_image_data("YX", M=3), distinct((4, 20, 30))[3])
    np.testing.assert_array_equal(tiles.mosaic_dask_data.compute(), tiles.mosaic_data)
    with pytest.raises(exceptions.UnexpectedShapeError, match="mosaic='tiles'"):
        Reader(path).get_mosaic_tile_positions()
    single = write_czi(tmp_path / "s.czi", tile_blocks()[:1])
    with pytest.raises(BadArgument, match="only one image"):
        Reader(single, mosaic="tiles")


def test_selections_read_only_what_they_select(tiff, monkeypatch):
    import bfbridge.analysis.dask_arrays as arrays

    read = []
    real = arrays.LazyImage._read
    monkeypatch.setattr(
        arrays.LazyImage,
        "_read",
        lambda self, chosen: read.append(pixels := real(self, chosen)) or pixels,
    )
    image = Reader(tiff)
    found = image.get_image_data("ZXY", T=1, C=2, Z=[3, 0], Y=slice(5, 9))
    np.testing.assert_array_equal(found, PIXELS[1, 2, [3, 0], 5:9].transpose(0, 2, 1))
    negative = image.get_image_data("CYX", T=-1, C=[0, -1], Z=3)
    np.testing.assert_array_equal(negative, PIXELS[-1, [0, -1], 3])
    if hasattr(Base, "_read_indexed"):  # bioio-base 3.5
        assert [pixels.size for pixels in read] == [found.size, negative.size]
    chunked = Reader(tiff, chunk_dims=["Z", "Y", "X"]).dask_data
    assert chunked.chunks == ((1, 1), (1, 1, 1), (4,), (37,), (53,))
    np.testing.assert_array_equal(chunked[1, 1].compute(), PIXELS[1, 1])


def test_metadata_coordinates_and_units(tiff):
    image = Reader(str(tiff))
    assert image.NAME == "bfbridge"
    assert image.physical_pixel_sizes == PhysicalPixelSizes(2.0, 0.5, 0.25)
    assert image.time_interval == timedelta(minutes=3)
    assert image.scale == (180.0, None, 2.0, 0.5, 0.25)
    assert [one.unit for one in image.dimension_properties] == [
        ureg.second, None, ureg.micrometer, ureg.micrometer, ureg.micrometer,
    ]  # fmt: skip
    labelled = image.xarray_dask_data
    np.testing.assert_allclose(labelled.coords["Z"], [0, 2, 4, 6])
    assert list(labelled.coords["C"].values) == ["a", "b", "c"]
    assert labelled.attrs["unprocessed"].startswith("<?xml")
    with BioReader(tiff) as br:
        assert image.metadata == image.ome_metadata == br.ome
    assert image.standard_metadata.image_size_z == 4
    assert image.standard_metadata.timelapse_interval == timedelta(minutes=3)


def test_rgb_has_an_axis_of_samples(tmp_path):
    rgb = distinct((1, 1, 2, 19, 23, 3))
    image = Reader(write_ome_tiff(tmp_path / "rgb.ome.tif", rgb))
    assert (image.dims.order, image.shape) == ("TCZYXS", rgb.shape)
    assert image.channel_names == ["Channel:0:0"]
    np.testing.assert_array_equal(image.get_image_data("SYX", Z=1), rgb[0, 0, 1].transpose(2, 0, 1))


def test_levels_are_reset_where_a_scene_has_fewer(tmp_path):
    image = Reader(write_ome_zarr(tmp_path / "a.ome.zarr", [PIXELS, HALF]))
    image.set_resolution_level(1)
    assert image.physical_pixel_sizes.X == 0.25 * 53 / 27
    image.set_scene(0)
    assert image.current_resolution_level == 1
    with pytest.raises(IndexError, match="not present"):
        image.set_resolution_level(2)
    image._known.append(image._known[0].__class__((HALF.shape,), (image.physical_pixel_sizes,)))
    image._scenes += ("second",)
    image.set_scene("second")
    assert image.current_resolution_level == 0


def test_files_at_urls_get_the_filesystems_arguments(store, tiff):
    import fsspec

    memory = fsspec.filesystem("memory")
    try:
        memory.put(str(store), "/bioio/a.ome.zarr", recursive=True)
        memory.pipe("/bioio/a.ome.tif", tiff.read_bytes())
        for name in ("a.ome.zarr", "a.ome.tif"):
            url = f"memory://bioio/{name}"
            assert Reader.is_supported_image(url)
            assert Reader._is_supported_image(memory, f"/bioio/{name}")
            np.testing.assert_array_equal(Reader(url).data, PIXELS)
            np.testing.assert_array_equal(Reader(url).dask_data.compute(), PIXELS)
    finally:
        memory.rm("/bioio", recursive=True)
    with pytest.raises(BadArgument, match="nosuch://x.tif: no filesystem"):
        Reader("nosuch://x.tif")


@pytest.mark.java
def test_errors_are_bioios_and_ours(tmp_path, tiff):
    text = tmp_path / "a.txt"
    text.write_text("no image")
    for kind in (UnknownFormat, exceptions.UnsupportedFileFormatError):
        with pytest.raises(kind, match=r"bfbridge does not support the image: .*a.txt"):
            Reader(text)
    with pytest.raises(FileMissing, match="no such file"):
        Reader.is_supported_image(tmp_path / "missing.tif")
    cut = tmp_path / "cut.ome.tif"
    cut.write_bytes(tiff.read_bytes()[:5000])
    with pytest.raises(UnreadableFile, match=r"cut.ome.tif"):
        Reader(cut)
    with pytest.raises(TypeError, match="ndarray"):
        Reader(PIXELS)
    with pytest.raises(BadArgument, match="mosaic"):
        Reader(tiff, mosaic="stitch")
    for wrong in (5, ["Z", 1], "ZQ", PIXELS):
        with pytest.raises(BadArgument, match="(?s)chunk_dims=.*letters of axes"):
            Reader(tiff, chunk_dims=wrong)


@pytest.mark.slow(ci=True)
def test_bio_image_finds_the_reader(tiff, monkeypatch):
    bioio = pytest.importorskip("bioio", reason="the extra `test` installs it")
    from bioio import plugins

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((name, value),) = project["entry-points"]["bioio.readers"].items()
    own = EntryPoint(name=name, value=value, group="bioio.readers")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [own])
    real = plugins.requires
    needs = [f"{one}; extra == 'bioio'" for one in project["optional-dependencies"]["bioio"]]
    monkeypatch.setattr(
        plugins, "requires", lambda name: needs if name == "bfbridge" else real(name)
    )
    found = plugins.get_plugins(use_cache=False)
    assert {".czi", ".ome.tif", ".zarr"} <= set(found)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in found)
    image = bioio.BioImage(tiff)
    assert isinstance(image.reader, Reader)
    assert image.channel_names == ["a", "b", "c"]
    np.testing.assert_array_equal(image.get_image_data("YX", T=1, C=2, Z=3), PIXELS[1, 2, 3])
    assert isinstance(bioio.BioImage(tiff, reader=Reader).reader, Reader)
    assert ReaderMetadata.get_reader() is Reader


@pytest.mark.java
def test_the_suffixes_are_those_of_the_formats():
    from bfbridge.registry import BACKENDS, find

    known = {s for one in find("bioformats").load().formats() for s in one.suffixes}
    known |= {s[1:] for one in BACKENDS for s in (*one.suffixes, *one.zip_suffixes)}
    listed = set(ReaderMetadata.get_supported_extensions())
    # Text, tables and settings, which are parts of images of some formats.
    texts = {
        "cfg", "csv", "dv.log", "env", "fake", "htm", "html", "inf", "log", "lut", "mdb",
        "r3d.log", "set", "txt", "wav", "xlog", "xml", "aiix", "tif, tiff",
    }  # fmt: skip
    assert known - listed == texts
    assert listed - known == {"ome.zarr", "pam", "pnm"}


def test_bioio_is_imported_on_use_only():
    code = "import sys, bfbridge, bfbridge.integrations; sys.exit('bioio_base' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
