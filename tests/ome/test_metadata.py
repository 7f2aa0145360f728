"""OME metadata to attributes and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ome_types import OME
from ome_types.model import (
    Channel,
    Dataset,
    Image,
    ImageRef,
    MetadataOnly,
    Pixels,
    Plane,
    Plate,
    TiffData,
    UnitsLength,
    Well,
    WellSample,
)

from bfbridge.backend import Level, PixelSize, Quantity
from bfbridge.errors import BadArgument, BadDtype
from bfbridge.ome import metadata, units
from bfbridge.ome.pixel_types import PIXEL_TYPES


def pixels(**fields: Any) -> Pixels:
    given = {
        "dimension_order": "XYZCT", "type": "uint16", "size_x": 5, "size_y": 6, "size_z": 2,
        "size_c": 3, "size_t": 4, **fields,
    }  # fmt: skip
    return Pixels(**given)


def test_every_unit_of_the_schema_is_known() -> None:
    known = {*units.LENGTHS, *units.NOT_LENGTHS}
    assert known == {unit.value for unit in UnitsLength}
    for unit in UnitsLength:
        assert metadata.unit_symbol(unit) == metadata.unit_symbol(unit.value) == unit.value
        assert metadata.ome_unit(unit.value) is unit


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("um", "µm"), ("μm", "µm"), ("Micron", "µm"), ("micrometre", "µm"), (" nm ", "nm"),
        ("Angstrom", "Å"), ("inch", "in"), ("pixels", "pixel"), ("reference frame",) * 2,
        ("Mm", "Mm"), ("mm", "mm"), ("pm", "pm"), ("Pm", "Pm"),
    ],
)  # fmt: skip
def test_other_names_of_units(name: str, symbol: str) -> None:
    assert metadata.unit_symbol(name) == symbol


@pytest.mark.parametrize("unit", ["second", "", "furlongs", None, 5])
def test_what_is_no_unit_lists_those_there_are(unit: Any) -> None:
    with pytest.raises(BadArgument, match="not a unit of length.*µm, nm"):
        metadata.unit_symbol(unit)


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "result"),
    [
        (0.25, "µm", "nm", 250.0),
        (250, "nm", "µm", 0.25),
        (1, "in", "mm", 25.4),
        (1, "Å", "nm", 0.1),
        (12, "li", "in", 1.0),
        (72, "pt", "in", 1.0),
        (1000, "thou", "in", 1.0),
        (1, "mi", "ft", 5280.0),
        (3, "ft", "yd", 1.0),
        (5, "pixel", "pixel", 5),
    ],
)
def test_lengths_are_converted(value: float, unit: str, wanted: str, result: float) -> None:
    found = metadata.convert_length(Quantity(value, unit), wanted)
    assert found == pytest.approx(result, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "unit", "wanted", "result"),
    [(5, "mm", "µm", 5000.0), (0.065, "µm", "mm", 0.065 / 1000), (0.499, "µm", "nm", 499.0)],
)
def test_powers_of_ten_are_exact(value: float, unit: str, wanted: str, result: float) -> None:
    assert metadata.convert_length(Quantity(value, unit), wanted) == result


def test_pixels_are_no_length() -> None:
    for pair in (("pixel", "µm"), ("µm", "reference frame"), ("pixel", "reference frame")):
        with pytest.raises(BadArgument, match="cannot be converted"):
            metadata.convert_length(Quantity(1, pair[0]), pair[1])


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (None, None),
        ((None, "µm"), None),
        ((0.5, "nm"), Quantity(0.5, "nm")),
        ([0.5, UnitsLength.MILLIMETER], Quantity(0.5, "mm")),
        (0.5, Quantity(0.5, "µm")),
        ((2, None), Quantity(2.0, "µm")),
        (np.float32(0.5), Quantity(0.5, "µm")),
        (("0.5", "um"), Quantity(0.5, "µm")),
    ],
)
def test_sizes_as_people_give_them(value: Any, result: Quantity | None) -> None:
    assert metadata.as_quantity(value, "ps_x") == result


@pytest.mark.parametrize(
    "value", [0, -1, float("nan"), float("inf"), "wide", (1, 2, 3), ("a", "µm"), [], {}]
)
def test_sizes_that_make_no_sense(value: Any) -> None:
    with pytest.raises(BadArgument, match="ps_x="):
        metadata.as_quantity(value, "ps_x")


def test_scaled_sizes() -> None:
    size = PixelSize(Quantity(0.5, "µm"), None, Quantity(2.0, "nm"))
    assert metadata.scaled(size, 3.0, 2.0) == PixelSize(
        Quantity(1.0, "µm"), None, Quantity(2.0, "nm")
    )


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("bool", "uint8"), (">u2", "uint16"), (np.float32, "float32"), ("<i8", "int64"),
        (np.dtype(">c16"), "complex128"), (int, "int64"), ("uint64", "uint64"),
    ],
)  # fmt: skip
def test_dtypes_that_are_stored(dtype: Any, stored: str) -> None:
    found = metadata.writable_dtype(dtype)
    assert found == np.dtype(stored)
    assert found.isnative


@pytest.mark.parametrize("dtype", ["float16", "U5", "O", "M8[s]", "no such type", "i4,i4", "S3"])
def test_dtypes_that_pixels_cannot_have(dtype: str) -> None:
    with pytest.raises(BadDtype, match="dtype"):
        metadata.writable_dtype(dtype)


def test_pixel_types_both_ways() -> None:
    for numpy_name, ome_name in {d.name: n for n, d in PIXEL_TYPES.items() if n != "bit"}.items():
        element = pixels()
        metadata.set_pixel_type(element, ome_name)
        assert metadata.stored_dtype(element) == np.dtype(numpy_name)
        assert metadata.ome_pixel_type(np.dtype(numpy_name).newbyteorder(">")) == ome_name
    assert metadata.stored_dtype(pixels(type="bit")) == np.uint8
    assert metadata.ome_pixel_type(np.dtype("int64")) is None


def test_channels_are_as_many_as_sizes_ask_for() -> None:
    element = pixels(size_c=6, channels=[Channel(id="Channel:0:0", name="a", samples_per_pixel=3)])
    assert metadata.samples_of(element) == 3
    metadata.settle_channels(element)
    assert [(c.name, c.samples_per_pixel) for c in element.channels] == [("a", 3), (None, 3)]
    element.size_c = 2  # 3 samples no longer go into it
    metadata.settle_channels(element)
    assert [(c.name, c.samples_per_pixel) for c in element.channels] == [("a", 1), (None, 1)]
    assert metadata.samples_of(pixels()) == 1


def document() -> OME:
    images = [
        Image(
            id=f"Image:{i + 5}",
            name=f"image {i}",
            pixels=pixels(
                size_z=2, size_c=2, big_endian=True, interleaved=True,
                channels=[Channel(id=f"Channel:{i + 5}:{c}", name=f"c{c}") for c in range(2)],
                planes=[Plane(the_z=z, the_c=c, the_t=0) for z in range(2) for c in range(2)],
                tiff_data_blocks=[TiffData(ifd=3)], metadata_only=MetadataOnly(),
            ),
        )
        for i in range(3)
    ]  # fmt: skip
    refs = [ImageRef(id=image.id) for image in images]
    well = Well(
        column=0, row=0,
        well_samples=[WellSample(index=i, image_ref=ref) for i, ref in enumerate(refs)],
    )  # fmt: skip
    return OME(
        images=images, plates=[Plate(wells=[well])], datasets=[Dataset(image_refs=refs)],
        uuid="urn:uuid:00000000-0000-0000-0000-000000000001",
    )  # fmt: skip


def test_carry_leaves_the_old_files_layout_behind() -> None:
    old = document()
    before = old.to_xml()
    new = metadata.carry(old, [0, 1, 2])
    assert old.to_xml() == before
    assert new.uuid is None
    for image in new.images:
        assert image.pixels.tiff_data_blocks == []
        assert image.pixels.metadata_only is None
        assert image.pixels.big_endian is None
        assert image.pixels.interleaved is None
        assert len(image.pixels.planes) == 4
    assert len(new.plates[0].wells[0].well_samples) == 3


def test_carry_of_some_images_keeps_what_is_true_of_them() -> None:
    new = metadata.carry(document(), [2, 0])
    assert [image.name for image in new.images] == ["image 2", "image 0"]
    assert new.plates == []
    assert [ref.id for ref in new.datasets[0].image_refs] == ["Image:5", "Image:7"]
    metadata.settle(new)
    assert [image.id for image in new.images] == ["Image:0", "Image:1"]
    assert [ref.id for ref in new.datasets[0].image_refs] == ["Image:1", "Image:0"]


def test_settle_makes_a_document_true_to_its_sizes() -> None:
    new = metadata.carry(document(), [0, 1, 2])
    new.images[1].pixels.size_c, new.images[1].pixels.size_z = 1, 1
    new.images[2].pixels.size_c = 4
    metadata.settle(new)
    names = [[c.name for c in image.pixels.channels] for image in new.images]
    assert names == [["c0", "c1"], ["c0"], ["c0", "c1", None, None]]
    planes = [[(p.the_z, p.the_c) for p in image.pixels.planes] for image in new.images]
    assert planes == [[(0, 0), (0, 1), (1, 0), (1, 1)], [(0, 0)], planes[0]]
    ids = [c.id for image in new.images for c in image.pixels.channels]
    assert ids == [
        "Channel:0:0", "Channel:0:1", "Channel:1:0",
        "Channel:2:0", "Channel:2:1", "Channel:2:2", "Channel:2:3",
    ]  # fmt: skip
    samples = new.plates[0].wells[0].well_samples
    assert [s.image_ref.id for s in samples if s.image_ref] == ["Image:0", "Image:1", "Image:2"]
    OME.model_validate(new.model_dump())


def test_narrow_shows_one_image_and_leaves_the_document() -> None:
    ome = document()
    assert [image.name for image in metadata.narrow(ome, 1).images] == ["image 1"]
    assert len(ome.images) == 3


def test_records_for_backends() -> None:
    element = Image(
        name="n",
        pixels=pixels(
            size_c=2, significant_bits=12, physical_size_x=0.5, physical_size_z=3,
            physical_size_z_unit="nm",
            channels=[
                Channel(name="a", color="#FF8000", emission_wavelength=520),
                Channel(excitation_wavelength=0.4, excitation_wavelength_unit="µm"),
            ],
        ),
    )  # fmt: skip
    levels = (Level((4, 2, 2, 6, 5), (1, 1, 1, 6, 5)),)
    image = metadata.record(element, np.dtype("u2"), levels)
    assert image.levels == levels
    assert (image.name, image.samples, image.interleaved, image.significant_bits) == (
        "n", 1, False, 12
    )  # fmt: skip
    assert image.pixel_size == PixelSize(Quantity(0.5, "µm"), None, Quantity(3.0, "nm"))
    assert [c.name for c in image.channels] == ["a", None]
    assert image.channels[0].color == (255, 128, 0, 255)
    assert image.channels[0].emission == (520, "nm")
    assert image.channels[1].color is None
    assert image.channels[1].excitation == (0.4, "µm")


def test_rgb_records_have_one_channel_of_three_samples() -> None:
    element = Image(pixels=pixels(size_c=3, channels=[Channel(samples_per_pixel=3)]))
    image = metadata.record(element, np.dtype("u1"), (Level((4, 3, 2, 6, 5), (1, 3, 1, 6, 5)),))
    assert (image.samples, image.interleaved, len(image.channels)) == (3, True, 1)
    assert image.channels[0].samples == 3
