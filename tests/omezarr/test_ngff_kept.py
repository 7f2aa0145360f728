"""What an OME-Zarr store says of its images, kept on the ways to another file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from bfbridge import BioReader, BioWriter, convert  # noqa: E402
from bfbridge.backend import Extras, Quantity  # noqa: E402
from bfbridge.ome.extras import NAMESPACE, attach_extras, find_extras  # noqa: E402

PIXELS = np.random.default_rng(3).integers(100, 4000, (2, 3, 2, 40, 60)).astype(np.uint16)
FACE = PIXELS.transpose(3, 4, 2, 1, 0)
CHANNELS = [
    {
        "label": "DAPI", "color": "0000FF", "wavelength_id": "A01_C01", "active": False,
        "coefficient": 0.5, "family": "exponential", "inverted": True,
        "window": {"min": 0, "max": 65535, "start": 110, "end": 800}, "lut": {"name": "fire"},
    },
    {"label": 405, "color": "#FF8000", "window": {"min": 0, "max": 4095, "start": 5, "end": 3999}},
    {"label": "GFP", "color": "00FF00", "wavelength_id": "A02_C03"},
]  # fmt: skip
RDEFS = {"defaultT": 1, "defaultZ": 0, "model": "color", "projection": "max"}
OMERO = {"id": 7, "name": "cells", "version": "0.4", "channels": CHANNELS, "rdefs": RDEFS}
LABELLED = {"colors": [{"label-value": 1, "rgba": [255, 0, 0, 255]}]}
WAYS = ("loop", "convert", "tiff")
ways = pytest.mark.parametrize("way", WAYS)
XML = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" '
    'Name="of OME"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="60" '
    'SizeY="40" SizeZ="2" SizeC="3" SizeT="2"{more}>{channels}<MetadataOnly/></Pixels></Image>'
    "</OME>"
)


def store(path: Path, version: str = "0.5", **more: Any) -> Path:
    """A store of two levels as ngio, napari-ome-zarr and others write them, with keys of theirs."""
    axes = [{"name": "t", "type": "time", "unit": "seconds"}, {"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    axes[4]["orientation"] = {"type": "anatomical", "value": "left-to-right"}
    scales = [[4.0, 1.0, 2.0, 0.5, 0.25], [4.0, 1.0, 2.0, 1.0, 0.5]]
    shifts = [[12.0, 0, 5.0, -7.5, 30.0], [12.0, 0, 5.0, -7.0, 30.5]]
    datasets = [
        {
            "path": str(i),
            "coordinateTransformations": [
                {"type": "scale", "scale": scale},
                {"type": "translation", "translation": shift},
            ],
        }
        for i, (scale, shift) in enumerate(zip(scales, shifts, strict=True))
    ]
    entry = {"name": "cells", "axes": axes, "datasets": datasets, "@type": "ngff:Image"}
    entry |= {"type": "local mean", "metadata": {"method": "skimage"}}
    attributes: dict[str, Any] = {"multiscales": [entry], "omero": OMERO, **more}
    form = 2 if version == "0.4" else 3
    root = zarr.open_group(str(path), mode="w", zarr_format=form)
    if form == 2:
        entry["version"] = "0.4"
        root.attrs.put({**attributes, "fractal": {"tasks": [1, None]}})
    else:
        ome = {"version": "0.5", **attributes, "_creator": {"name": "someone"}}
        root.attrs.put({"ome": ome, "fractal": {"tasks": [1, None]}})
    encoding = {"name": "v2", "separator": "/"} if form == 2 else None
    for i, values in enumerate((PIXELS, PIXELS[..., ::2, ::2])):
        array = root.create_array(
            str(i), shape=values.shape, dtype="u2", chunks=(1, 1, 1, 16, 16),
            chunk_key_encoding=encoding,
        )  # fmt: skip
        array[...] = values
    return path


def beside(path: Path, channels: str = "", more: str = "") -> None:
    """Put an OME document beside, as bioformats2raw does."""
    (path / "OME").mkdir()
    (path / "OME/METADATA.ome.xml").write_text(XML.format(channels=channels, more=more))


def go(source: Path, target: Path, way: str, **options: Any) -> Path:
    """Copy a store: as README does, by `convert`, or by way of an OME-TIFF file."""
    if way == "loop":
        with BioReader(source) as br, BioWriter(target, metadata=br.metadata, **options) as bw:
            for tile in br.tiles(32):
                bw[tile.key] = tile.pixels
    elif way == "convert":
        convert(source, target, **options)
    else:
        between = target.with_name("between.ome.tif")
        convert(source, between)
        convert(between, target, **options)
    return target


def told(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes of a store's root, and those of NGFF among them."""
    if (path / "zarr.json").exists():
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]
        return attributes, attributes["ome"]
    attributes = json.loads((path / ".zattrs").read_text())
    return attributes, attributes


@pytest.mark.slow(ci=True)
@ways
@pytest.mark.parametrize("versions", [("0.4", "0.5"), ("0.5", "0.4"), ("0.5", "0.5")], ids=str)
def test_everything_is_kept(tmp_path: Path, way: str, versions: tuple[str, str]) -> None:
    source = store(tmp_path / "a.ome.zarr", versions[0])
    path = go(source, tmp_path / "b.ome.zarr", way, version=versions[1])
    top, ome = told(path)
    first, second, third = ome["omero"]["channels"]
    assert first == CHANNELS[0]
    assert (second["label"], second["color"]) == ("405", "FF8000")
    assert second["window"] == CHANNELS[1]["window"]
    assert (third["label"], third["color"]) == ("GFP", "00FF00")
    assert third["wavelength_id"] == "A02_C03"
    # Chunks that are copied as they are show no values.
    lowest = 0 if way == "convert" else PIXELS[:, 2, :, ::8, ::8].min()
    assert third["window"]["start"] == lowest
    assert ome["omero"]["rdefs"] == RDEFS
    assert (ome["omero"]["id"], ome["omero"]["name"]) == (7, "cells")
    entry = ome["multiscales"][0]
    assert (entry["name"], entry["@type"]) == ("cells", "ngff:Image")
    assert entry["axes"][4]["orientation"]["value"] == "left-to-right"
    assert [axis.get("unit") for axis in entry["axes"]] == [
        "second", None, "micrometer", "micrometer", "micrometer"
    ]  # fmt: skip
    scale, translation = entry["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [4.0, 1.0, 2.0, 0.5, 0.25]
    assert translation["translation"] == [12.0, 0.0, 5.0, -7.5, 30.0]
    assert top["fractal"] == {"tasks": [1, None]}
    assert ("_creator" in ome) == (versions[0] == "0.5")
    pytest.importorskip("yaozarrs").validate_zarr_store(str(path))
    with BioReader(path) as br:
        assert np.array_equal(br.read(keepdims=True), FACE)
        pixels = br.metadata.images[0].pixels
        assert [channel.name for channel in pixels.channels] == ["DAPI", "405", "GFP"]
        assert [c.color.as_rgb_tuple()[:3] for c in pixels.channels] == [
            (0, 0, 255), (255, 128, 0), (0, 255, 0)
        ]  # fmt: skip
        assert (pixels.time_increment, pixels.time_increment_unit.value) == (4.0, "s")


class TestBesideOmeXml:
    """A store whose OME document is older than what programs wrote into its NGFF metadata."""

    CHANNELS = (
        '<Channel ID="Channel:0:0" Name="Hoechst" SamplesPerPixel="1" Color="65535" '
        'EmissionWavelength="460"/><Channel ID="Channel:0:1" SamplesPerPixel="1"/>'
        '<Channel ID="Channel:0:2" Name="kept" SamplesPerPixel="1" Color="16711807"/>'
    )

    @pytest.mark.slow(ci=True)
    @ways
    def test_omero_is_what_counts(self, tmp_path: Path, way: str) -> None:
        source = store(tmp_path / "a.ome.zarr")
        beside(source, self.CHANNELS, ' PhysicalSizeX="9" PhysicalSizeZ="2000" '
               'PhysicalSizeZUnit="nm" TimeIncrement="7"')  # fmt: skip
        path = go(source, tmp_path / "b.ome.zarr", way)
        for each in (source, path):
            with BioReader(each) as br:
                pixels = br.metadata.images[0].pixels
                assert br.metadata.images[0].name == br.name == "of OME"
                assert [c.name for c in br.channels] == ["DAPI", "405", "GFP"]
                assert [c.name for c in pixels.channels] == ["DAPI", "405", "GFP"]
                assert [c.color[:3] for c in br.channels] == [
                    (0, 0, 255), (255, 128, 0), (0, 255, 0)
                ]  # fmt: skip
                assert pixels.channels[0].emission_wavelength == 460
                assert (pixels.physical_size_x, br.ps_x) == (0.25, (0.25, "µm"))
                # The same length in another unit is left as OME has it.
                assert (pixels.physical_size_z, pixels.physical_size_z_unit.value) == (2000, "nm")
                assert (pixels.time_increment, pixels.time_increment_unit.value) == (4.0, "s")
        assert told(path)[1]["omero"]["channels"][0] == CHANNELS[0]

    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize("label", ["0", "Channel 0", "channel_0", "Ch1", "C 1", "Channel:0:0"])
    def test_a_number_is_no_name(self, tmp_path: Path, label: str) -> None:
        omero = {"channels": [{"label": label}] * 3}
        source = store(tmp_path / "a.ome.zarr", omero=omero)
        with BioReader(source) as br:
            assert [c.name for c in br.channels] == [label] * 3
        beside(source, self.CHANNELS)
        with BioReader(source) as br:
            assert [c.name for c in br.channels] == ["Hoechst", label, "kept"]
            assert br.channels[0].color == (0, 0, 255, 255)

    def test_channels_that_the_document_lacks(self, tmp_path: Path) -> None:
        source = store(tmp_path / "a.ome.zarr")
        beside(source)
        with BioReader(source) as br:
            channels = br.metadata.images[0].pixels.channels
            assert [channel.name for channel in channels] == ["DAPI", "405", "GFP"]
            assert len({channel.id for channel in channels}) == 3
            br.metadata.to_xml()

    def test_colours_that_bfbridge_made_up_are_none(self, tmp_path: Path) -> None:
        """NGFF must have a colour for each channel; the OME document says that there is none."""
        path = tmp_path / "a.ome.zarr"
        with BioWriter(path, image=FACE, channel_names=["a", "b", "c"]) as bw:
            bw[:] = FACE
        assert [c["color"] for c in told(path)[1]["omero"]["channels"]] == [
            "00FF00", "FF00FF", "00FFFF"
        ]  # fmt: skip
        with BioReader(path) as br:
            assert [c.color for c in br.channels] == [None] * 3
            for channel in br.metadata.images[0].pixels.channels:
                assert "color" not in channel.model_fields_set
        root = path / "zarr.json"
        root.write_text(root.read_text().replace("FF00FF", "FF0001"))
        with BioReader(path) as br:
            assert [c.color for c in br.channels] == [None, (255, 0, 1, 255), None]


class TestParts:
    def test_channels_and_place_follow_a_selection(self, tmp_path: Path) -> None:
        source = store(tmp_path / "a.ome.zarr")
        path = tmp_path / "b.ome.zarr"
        convert(source, path, channels=[2, 0], z=[1], t=[1], crop=(8, 4, 32, 20))
        _, ome = told(path)
        third, first = ome["omero"]["channels"]
        assert (third["label"], third["wavelength_id"]) == ("GFP", "A02_C03")
        assert first == CHANNELS[0]
        _, translation = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"]
        with BioReader(path) as br:
            y, x = 4, 8
            assert np.array_equal(br.read(keepdims=True), FACE[y:24, x:40, 1:, [2, 0], 1:])
        assert translation["translation"] == [16.0, 0.0, 7.0, -7.5 + y * 0.5, 30.0 + x * 0.25]

    def test_windows_of_other_values_are_made_anew(self, tmp_path: Path) -> None:
        source = store(tmp_path / "a.ome.zarr")
        convert(source, tmp_path / "b.ome.zarr", dtype="uint8", scaling=(0, 4000))
        first = told(tmp_path / "b.ome.zarr")[1]["omero"]["channels"][0]
        assert first["window"]["max"] == 255
        assert (first["active"], first["wavelength_id"]) == (False, "A01_C01")
        # The same, by whoever copies with a change of his own.
        with (
            BioReader(source) as br,
            BioWriter(tmp_path / "c.ome.zarr", metadata=br.metadata, dtype="float32") as bw,
        ):
            bw[:] = FACE / np.float32(1e6)
        first, second, _ = told(tmp_path / "c.ome.zarr")[1]["omero"]["channels"]
        for window in (first["window"], second["window"]):
            assert 0 < window["start"] < window["end"] <= 0.004

    def test_copied_levels_lie_where_the_source_says(self, tmp_path: Path) -> None:
        source = store(tmp_path / "a.ome.zarr")
        convert(source, tmp_path / "b.ome.zarr", pyramid=True)
        entry = told(tmp_path / "b.ome.zarr")[1]["multiscales"][0]
        _, translation = entry["datasets"][1]["coordinateTransformations"]
        assert translation["translation"] == [12.0, 0.0, 5.0, -7.0, 30.5]
        assert (entry["type"], entry["metadata"]) == ("local mean", {"method": "skimage"})

    def test_labels_keep_their_colours(self, tmp_path: Path) -> None:
        source = store(tmp_path / "a.ome.zarr", **{"image-label": LABELLED})
        with BioReader(source) as br:
            (extras,) = find_extras(br.metadata)
        assert extras.other["image-label"] == LABELLED


DAMAGED = (
    "",
    "no JSON",
    "[]",
    "7",
    "null",
    "[" * 100_000,
    json.dumps({"channels": 3, "origin": [], "other": 1}),
    json.dumps({"channels": [1, None, {"window": "wide", "active": 9, "family": []}]}),
    '{"origin": {"x": [1], "y": ["a", "b"], "q": [1, "mm"], "z": [1e999, "mm"], "t": [true, "s"]}}',
    json.dumps({"other": {"omero": [], "multiscale": 1, "axes": {"x": 3}, "shifts": {}}}),
    json.dumps({"other": {"ome": "x", "attributes": 7, "image-label": []}}),
    json.dumps({"other": {"omero": {"rdefs": {"defaultZ": "x", "defaultT": -1, "model": 3}}}}),
    json.dumps({"other": {"attributes": {"multiscales": [], "ome": 1}, "ome": {"omero": []}}}),
    '{"channels": [{"window": {"start": 1e999, "end": NaN}, "coefficient": true}]}',
    '{"channels": [{"window": {"start": "\\ud800", "\\ud800": 1}, "\\ud800": "\\ud800"}]}',
)


class TestAnnotations:
    def test_a_store_does_not_say_things_twice(self, tmp_path: Path) -> None:
        path = go(store(tmp_path / "a.ome.zarr"), tmp_path / "b.ome.zarr", "loop")
        assert NAMESPACE not in (path / "OME/METADATA.ome.xml").read_text()
        with BioReader(path) as br:
            assert br.metadata.to_xml().count(NAMESPACE) == 1

    def test_a_document_is_left_as_it_is(self, tmp_path: Path) -> None:
        with BioReader(store(tmp_path / "a.ome.zarr")) as br:
            ome = br.metadata
        before = ome.to_xml()
        copy = ome.model_copy()
        attach_extras(copy, [Extras(origin={"x": Quantity(1, "mm")})])
        assert ome.to_xml() == before
        assert find_extras(copy) == [Extras(origin={"x": Quantity(1, "mm")})]
        attach_extras(copy, [Extras()])
        assert NAMESPACE not in copy.to_xml()

    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize("text", DAMAGED)
    def test_a_damaged_annotation_does_no_harm(self, tmp_path: Path, text: str) -> None:
        with BioReader(store(tmp_path / "a.ome.zarr")) as br:
            ome = br.metadata
        ome.structured_annotations.comment_annotations[0].value = text
        path = tmp_path / "b.ome.zarr"
        with BioWriter(path, metadata=ome) as bw:
            bw[:] = FACE
        pytest.importorskip("yaozarrs").validate_zarr_store(str(path))
        with BioReader(path) as br:
            assert [c.name for c in br.channels] == ["DAPI", "405", "GFP"]
            assert np.array_equal(br.read(keepdims=True), FACE)

    def test_numbers_that_are_none(self, tmp_path: Path) -> None:
        """Python writes and reads NaN in JSON, where no other program takes it."""
        odd = {"channels": [{"window": {"start": float("nan"), "end": 1}, "q": float("inf")}] * 3}
        source = store(tmp_path / "a.ome.zarr", omero=odd, deep={"a": float("nan")})
        path = go(source, tmp_path / "b.ome.zarr", "loop")
        assert "NaN" not in (path / "zarr.json").read_text()
        assert told(path)[1]["deep"] == {"a": None}


def test_orientations_are_kept_and_rotations_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC-4 and RFC-5 of NGFF."""
    path = store(tmp_path / "a.ome.zarr")
    document = json.loads((path / "zarr.json").read_text())
    (entry,) = document["attributes"]["ome"]["multiscales"]
    names = ["inferior-to-superior", "posterior-to-anterior", "left-to-right"]
    for axis, name in zip(entry["axes"][2:], names, strict=True):
        axis["orientation"] = {"type": "anatomical", "value": name}
    (path / "zarr.json").write_text(json.dumps(document))
    convert(path, tmp_path / "b.ome.tif")
    convert(tmp_path / "b.ome.tif", tmp_path / "c.ome.zarr")
    with BioReader(path) as br:
        virtual = json.loads(bytes(br.to_zarr().hierarchy.get("zarr.json")))
    for made in (json.loads((tmp_path / "c.ome.zarr" / "zarr.json").read_text()), virtual):
        axes = made["attributes"]["ome"]["multiscales"][0]["axes"]
        assert [axis["orientation"]["value"] for axis in axes[2:]] == names
    assert not [one for one in caplog.records if "not applied" in one.message]
    document["attributes"]["ome"]["version"] = "0.6rc0"
    entry["coordinateSystems"] = [{"name": "physical", "axes": entry.pop("axes")}]
    entry.pop("coordinateTransformations", None)
    for dataset in entry["datasets"]:
        inner = [*dataset["coordinateTransformations"], {"type": "rotation", "rotation": []}]
        dataset["coordinateTransformations"] = [
            {"type": "sequence", "input": {"path": dataset["path"]}, "output": {"name": "physical"},
             "transformations": inner}
        ]  # fmt: skip
    with BioReader(path) as br:
        before = br.physical_pixel_size
    (path / "zarr.json").write_text(json.dumps(document))
    with BioReader(path) as br:
        assert br.physical_pixel_size == before
        np.testing.assert_array_equal(br[:], FACE)
    (warning,) = [one.message for one in caplog.records if "not applied" in one.message]
    assert "type rotation are not applied" in warning
