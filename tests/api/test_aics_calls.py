"""`bfbridge.aics` answers AICSImageIO's calls as AICSImageIO 4.14.0 does.

`aics_calls.json` holds its answers; `tests.support.aicscalls` asked them, and tells how. What
differs on purpose is in `docs/coming-from.md`.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import imagecodecs
import numpy as np
import pytest
import tifffile

from bfbridge.aics import (
    AICSImage,
    BioImage,
    OmeTiffWriter,
    OmeZarrWriter,
    StandardMetadata,
    imread,
    imread_dask,
    imread_xarray,
    imread_xarray_dask,
    readers,
)
from bfbridge.errors import BadArgument, TargetExists, Unsupported
from tests.real.manifest import DATA
from tests.support.aicscalls import CASES, CODE
from tests.support.samples import distinct

PIXELS = distinct((2, 3, 4, 37, 53))

STORED = json.loads((Path(__file__).parent / "aics_calls.json").read_text())
ASKED: dict[str, Any] = {}
exec(compile(CODE, "aicscalls", "exec"), ASKED)
# AICSImageIO ignores positions along an axis that there is not, which is an error here.
DIFFERENT = [i for i, (call, _, given) in enumerate(CASES) if call == "read" and "Q" in given]


def test_every_case_is_stored() -> None:
    assert len(STORED) == len(CASES)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{n}-{CASES[n][0]}")
def test_answers_of_aicsimageio(tmp_path: Path, number: int) -> None:
    call, kind, given = CASES[number]
    ours = ASKED["answer"](AICSImage, OmeTiffWriter, call, kind, given, str(tmp_path))
    if number in DIFFERENT:
        assert ours == "error" != STORED[number]
        return
    assert json.loads(json.dumps(ours)) == STORED[number]


# ---- bioio's and AICSImageIO's further names


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aics") / "a.ome.tiff"
    OmeTiffWriter.save(
        PIXELS, path, channel_names=["a", "b", "c"], physical_pixel_sizes=(1.5, 0.25, 0.5)
    )
    return path


def test_imread(written: Path) -> None:
    np.testing.assert_array_equal(imread(written), PIXELS)
    np.testing.assert_array_equal(imread_dask(written).compute(), PIXELS)
    assert imread_xarray(written).dims == tuple("TCZYX")
    assert imread_xarray_dask(written).coords["C"].values.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(imread([PIXELS, PIXELS + 1], 1), PIXELS + 1)
    assert BioImage is AICSImage


@pytest.mark.parametrize("dims", ["YX", ["Y", "X"], "CYX", "ZYX", "TCZYX"])
def test_chunk_dims(written: Path, dims: Any) -> None:
    expected = tuple(
        n if axis in dims else 1 for axis, n in zip("TCZYX", PIXELS.shape, strict=True)
    )
    for image in (AICSImage(written, chunk_dims=dims), AICSImage(PIXELS, chunk_dims=dims)):
        assert image.dask_data.chunksize == expected
        assert image.xarray_dask_data.data.chunksize == expected
        assert image.get_dask_stack().chunksize == (1, *expected)
        np.testing.assert_array_equal(image.dask_data.compute(), PIXELS)
    with pytest.raises(BadArgument, match="chunk_dims="):
        AICSImage(PIXELS, chunk_dims="BX")


def test_dimension_properties(written: Path) -> None:
    found = AICSImage(written).dimension_properties
    assert found.X == found.Z == ("space", "micrometer")
    assert (found.C, found.T) == (("channel", None), ("time", None))
    assert AICSImage(PIXELS).dimension_properties.X == ("space", None)


def test_standard_metadata(tmp_path: Path) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Experimenter ID="Experimenter:0" UserName="me"/>'
        '<Instrument ID="Instrument:0"><Detector ID="Detector:0"/><Objective ID="Objective:0" '
        'NominalMagnification="20" LensNA="0.8" Immersion="Air"/></Instrument>'
        '<Image ID="Image:0"><AcquisitionDate>2020-01-02T03:04:05</AcquisitionDate>'
        '<ExperimenterRef ID="Experimenter:0"/><ObjectiveSettings ID="Objective:0"/>'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="53" SizeY="37" '
        'SizeZ="4" '
        'SizeC="3" SizeT="2" PhysicalSizeX="0.5" PhysicalSizeY="0.25" PhysicalSizeZ="1500" '
        'PhysicalSizeZUnit="nm">'
        + "".join(
            f'<Channel ID="Channel:0:{c}"><DetectorSettings ID="Detector:0" Binning="2x2"/>'
            "</Channel>"
            for c in range(3)
        )
        + "<MetadataOnly/>"
        + "".join(
            f'<Plane TheZ="0" TheC="0" TheT="{t}" DeltaT="{t * 90}" PositionX="7" '
            'PositionXUnit="mm" PositionY="8" PositionYUnit="mm"/>' for t in range(2)
        )
        + "</Pixels></Image></OME>"
    )  # fmt: skip
    path = tmp_path / "a.ome.tiff"
    OmeTiffWriter.save(PIXELS, path, ome_xml=xml)
    found = AICSImage(path).standard_metadata
    assert found == StandardMetadata(
        binning="2x2", dimensions_present=list("TCZYX"), image_size_c=3, image_size_t=2,
        image_size_x=53, image_size_y=37, image_size_z=4, imaged_by="me",
        imaging_datetime=found.imaging_datetime, objective="20x/0.8Air", pixel_size_x=0.5,
        pixel_size_y=0.25, pixel_size_z=1.5, stage_position_x=7000.0, stage_position_y=8000.0,
        timelapse=True, timelapse_interval=timedelta(seconds=90),
        total_time_duration=timedelta(seconds=90),
    )  # fmt: skip
    assert str(found.imaging_datetime)[:10] == "2020-01-02"
    assert found.to_dict()["Image Size X"] == 53
    with pytest.raises(BadArgument, match="ome_xml describes image"):
        OmeTiffWriter.save(PIXELS[:1], path, ome_xml=xml)


def test_writing_to_zarr(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    writer = OmeZarrWriter(path)
    writer.write_image(
        PIXELS[0], "Image:0", (1.5, 0.25, 0.5), ["a", "b", "c"], [0xFF0000, 0x00FF00, (1, 2, 3)],
        scale_num_levels=2, dimension_order="CZYX",
    )  # fmt: skip
    with AICSImage(path) as image:
        np.testing.assert_array_equal(image.data, PIXELS[:1])
        assert image.channel_names == ["a", "b", "c"]
        assert image.physical_pixel_sizes == (1.5, 0.25, 0.5)
        assert len(image.resolution_levels) == 2
        colors = [channel.color for channel in image.ome_metadata.images[0].pixels.channels]
        assert [color.as_rgb_tuple()[:3] for color in colors] == [
            (255, 0, 0),
            (0, 255, 0),
            (1, 2, 3),
        ]
    writer.write_image(PIXELS[1, :, :, :20], "second", scale_num_levels=2, dimension_order="CZYX")
    with AICSImage(path) as image:
        assert image.scenes == ("Image:0", "second")
        image.set_scene(1)
        np.testing.assert_array_equal(image.data, PIXELS[1:, :, :, :20])
    with pytest.raises(TargetExists):
        OmeZarrWriter(path).write_image(PIXELS, "other")
    OmeZarrWriter(path, overwrite=True).write_image(PIXELS, "other")
    assert AICSImage(path).scenes == ("other",)
    with pytest.raises(BadArgument, match="scale_factor=1.5"):
        writer.write_image(PIXELS, "x", scale_num_levels=2, scale_factor=1.5)


# ---- readers and the format's own metadata


def test_readers_by_name(written: Path, tmp_path: Path) -> None:
    plain, picture = tmp_path / "plain.tif", tmp_path / "a.png"
    tifffile.imwrite(plain, PIXELS[0, 0, 0], metadata=None)
    imagecodecs.imwrite(str(picture), PIXELS[0, 0, 0].astype(np.uint8), codec="png")
    for path, reader in (
        (written, readers.OmeTiffReader), (plain, readers.TiffReader),
        (picture, readers.DefaultReader), (PIXELS, readers.ArrayLikeReader),
    ):  # fmt: skip
        with reader(path) as image:
            assert image.reader is image
            assert image.data.shape == image.shape
    for path, reader in (
        (written, readers.TiffReader), (plain, readers.OmeTiffReader), (plain, readers.CziReader),
        (written, readers.DefaultReader), (PIXELS, readers.OmeTiffReader),
    ):  # fmt: skip
        with pytest.raises(Unsupported, match=f"no file for {reader.__name__}"):
            reader(path)


def test_reader_argument_and_class(written: Path, tmp_path: Path) -> None:
    """As AICSImageIO's tests `test_set_reader` and `test_selected_tiff_reader`."""
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, PIXELS[0, 0, 0], metadata=None)
    for path, reader in ((written, readers.OmeTiffReader), (plain, readers.TiffReader)):
        with AICSImage(path, reader=reader) as image, AICSImage(path) as chosen:
            assert type(image.reader) is type(chosen.reader) is reader
            np.testing.assert_array_equal(image.data, chosen.data)
    with pytest.raises(Unsupported, match="no file for OmeTiffReader"):
        AICSImage(plain, reader=readers.OmeTiffReader)
    with pytest.raises(BadArgument, match=r"a class of bfbridge\.aics\.readers"):
        AICSImage(plain, reader="TiffReader")
    for shape, names in (((4, 5), None), ((2, 3, 4, 5), ["Channel:0:0", "Channel:0:1"])):
        made = readers.ArrayLikeReader(np.zeros(shape, np.uint8))
        assert type(AICSImage(np.zeros(shape, np.uint8)).reader) is readers.ArrayLikeReader
        assert made.channel_names == names


def test_build_ome(tmp_path: Path) -> None:
    """As AICSImageIO's test `test_ome_tiff_writer_with_meta`."""
    shapes, dtypes = [(1, 2, 3, 4, 5), (2, 2, 3, 4, 5, 3)], [np.uint8, np.dtype(np.uint16)]
    ome = OmeTiffWriter.build_ome(
        shapes, dtypes, [None, "TCZYXS"], [["a", "b"], None], ["one", None], [(1, 2, 3), None]
    )
    first, second = (image.pixels for image in ome.images)
    assert [channel.name for channel in first.channels] == ["a", "b"]
    assert (first.size_c, first.physical_size_x, ome.images[0].name) == (2, 3, "one")
    assert (second.size_c, second.channels[0].samples_per_pixel) == (6, 3)
    data = [np.arange(np.prod(s)).reshape(s).astype(d) for s, d in zip(shapes, dtypes, strict=True)]
    for described in (ome, ome.to_xml()):
        OmeTiffWriter.save(data, tmp_path / "a.ome.tif", [None, "TCZYXS"], described)
        with AICSImage(tmp_path / "a.ome.tif") as image:
            np.testing.assert_array_equal(image.data, data[0])
    for wrong in (
        OmeTiffWriter.build_ome(shapes[:1], [np.float32]), OmeTiffWriter.build_ome(shapes, dtypes),
    ):  # fmt: skip
        with pytest.raises(BadArgument, match="ome_xml describes"):
            OmeTiffWriter.save(data[0], tmp_path / "b.ome.tif", ome_xml=wrong)
    with pytest.raises(BadArgument, match="1 data_shapes, but 2 data_types"):
        OmeTiffWriter.build_ome(shapes[:1], dtypes)


def test_own_metadata(written: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, PIXELS[0, 0], imagej=True)
    with AICSImage(plain) as image:
        assert image.metadata.startswith("ImageJ=")
    with AICSImage(written) as image:
        assert image.metadata.startswith("<?xml") or image.metadata.startswith("<OME")
    store = tmp_path / "a.ome.zarr"
    OmeZarrWriter(store).write_image(PIXELS, "x")
    with AICSImage(store) as image:
        assert "multiscales" in json.loads(image.metadata)["ome"]
    with AICSImage(PIXELS) as image:
        assert "<Pixels" in image.metadata


@pytest.mark.parametrize(("name", "word"), [("czi/DAPI_GFP.czi.d/DAPI_GFP.czi", "ImageDocument")])
def test_xml_of_vendor_formats(name: str, word: str) -> None:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"no real files at {DATA}")
    with AICSImage(path) as image:
        root = ET.fromstring(image.metadata)
    assert root.tag == word
    assert root.find(".//Channel") is not None
