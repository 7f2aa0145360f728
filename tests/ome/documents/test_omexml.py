"""What is parsed of OME-XML, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from xml.parsers.expat import ExpatError

import numpy as np
import pytest

from bfbridge.backend import Quantity
from bfbridge.errors import (
    BadArgument,
    LimitExceeded,
    MissingExtra,
    OutOfMemory,
    UnreadableFile,
    Unsupported,
)
from bfbridge.limits import DEFAULT_LIMITS, Limits
from bfbridge.ome.documents.model import model_from_xml, without_forbidden, xml_from_model
from bfbridge.ome.documents.xml import (
    BinaryOnly,
    OmeDocument,
    TiffData,
    looks_like_ome_xml,
    parse_ome_xml,
    rgba_from_color,
)
from bfbridge.ome.pixel_types import pixel_type_of

PIXELS = (
    'ID="Pixels:0" DimensionOrder="XYZTC" Type="uint16" SizeX="7" SizeY="5" SizeZ="3" '
    'SizeC="2" SizeT="4"'
)


def document(inside: str, *, root: str = 'xmlns="http://example.org/2016-06"') -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><OME {root}>{inside}</OME>'


def image(inside: str = "", pixels: str = PIXELS) -> str:
    return f'<Image ID="Image:0" Name="n"><Pixels {pixels}>{inside}</Pixels></Image>'


def parse(xml: str | bytes, limits: Limits = DEFAULT_LIMITS) -> OmeDocument:
    return parse_ome_xml(xml, "made.ome.tif", limits)


def test_sizes_order_and_type():
    (found,) = parse(document(image())).images
    assert (found.size_x, found.size_y, found.size_z, found.size_c, found.size_t) == (7, 5, 3, 2, 4)
    assert (found.id, found.name, found.dimension_order) == ("Image:0", "n", "XYZTC")
    assert found.dtype == np.uint16
    assert (found.big_endian, found.interleaved, found.significant_bits) == (None, None, None)


def test_channels_colours_wavelengths_and_samples():
    inside = (
        '<Channel ID="a" Name="DAPI" Color="-16776961" SamplesPerPixel="3" '
        'EmissionWavelength="461" ExcitationWavelength="0.4" ExcitationWavelengthUnit="µm"/>'
        '<Channel ID="b"><LightPath/></Channel>'
    )
    (found,) = parse(document(image(inside))).images
    first, second = found.channels
    assert first.name == "DAPI"
    assert first.color == (255, 0, 0, 255)
    assert first.emission == Quantity(461.0, "nm")
    assert first.excitation == Quantity(0.4, "µm")
    assert first.samples == 3
    assert (second.name, second.color, second.samples) == (None, None, 1)
    assert found.samples_declared is False


@pytest.mark.parametrize(
    ("color", "rgba"),
    [(-1, (255, 255, 255, 255)), (0, (0, 0, 0, 0)), (16711935, (0, 255, 0, 255))],
)
def test_colour_is_a_signed_number(color, rgba):
    assert rgba_from_color(color) == rgba


def test_physical_sizes_have_default_units_and_must_be_positive():
    sizes = ' PhysicalSizeX="0.5" PhysicalSizeY="2" PhysicalSizeYUnit="nm" PhysicalSizeZ="0"'
    (found,) = parse(document(image(pixels=PIXELS + sizes))).images
    assert found.pixel_size.x == Quantity(0.5, "µm")
    assert found.pixel_size.y == Quantity(2.0, "nm")
    assert found.pixel_size.z is None


def test_tiff_data_with_and_without_files():
    inside = (
        '<TiffData IFD="4" FirstZ="1" FirstC="2" FirstT="3" PlaneCount="5">'
        '<UUID FileName="b.ome.tif"> urn:uuid:1 </UUID></TiffData><TiffData/>'
    )
    (found,) = parse(document(image(inside))).images
    assert found.tiff_data == (
        TiffData(4, 1, 2, 3, 5, "b.ome.tif", "urn:uuid:1"),
        TiffData(None, 0, 0, 0, None, None, None),
    )


def test_prefixes_and_annotations_are_passed_over():
    xml = (
        '<o:OME xmlns:o="x" UUID="urn:uuid:2"><o:StructuredAnnotations><o:Image ID="no">'
        "<o:Pixels/></o:Image></o:StructuredAnnotations>"
        + image().replace("<", "<o:").replace("<o:/", "</o:")
        + "</o:OME>"
    )
    found = parse(xml)
    assert [each.id for each in found.images] == ["Image:0"]
    assert found.uuid == "urn:uuid:2"


def test_channels_of_older_schemas():
    xml = document(
        '<Image ID="i"><LogicalChannel ID="l" Name="old" EmWave="520" SamplesPerPixel="1"/>'
        f"<Pixels {PIXELS.replace('Type=', 'PixelType=').replace('uint16', 'Uint16')}/></Image>"
    )
    (found,) = parse(xml).images
    assert [c.name for c in found.channels] == ["old"]
    assert found.channels[0].emission == Quantity(520.0, "nm")
    assert found.pixel_type == "uint16"


def test_binary_only():
    found = parse(document('<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:uuid:3"/>'))
    assert found.binary_only == BinaryOnly("a.companion.ome", "urn:uuid:3")
    assert found.images == ()


def test_bytes_that_are_not_utf8_are_latin1():
    xml = document(image(pixels=PIXELS + ' PhysicalSizeX="1" PhysicalSizeXUnit="µm"'))
    (found,) = parse(xml.encode("latin-1")).images
    assert found.pixel_size.x == Quantity(1.0, "µm")


def test_an_image_without_pixels_is_no_image():
    assert parse(document('<Image ID="Image:0"/>' + image())).images[0].size_x == 7


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (PIXELS.replace('SizeX="7"', ""), "no Pixels/@SizeX"),
        (PIXELS.replace('SizeX="7"', 'SizeX="0"'), "SizeX='0' should be above 0"),
        (PIXELS.replace('SizeX="7"', 'SizeX="-3"'), "SizeX"),
        (PIXELS.replace('SizeX="7"', f'SizeX="{"9" * 5000}"'), "SizeX"),
        (PIXELS.replace('SizeX="7"', 'SizeX="4294967296"'), "2147483647"),
        (PIXELS.replace("XYZTC", "XYZZC"), "DimensionOrder"),
        (PIXELS.replace("uint16", "int64"), "Type='int64'"),
    ],
)
def test_wrong_pixels_are_named(wrong, message):
    with pytest.raises(UnreadableFile, match=message) as caught:
        parse(document(image(pixels=wrong)))
    assert "made.ome.tif" in str(caught.value)


@pytest.mark.parametrize("value", ["x", "-1", "4294967296"])
def test_wrong_tiff_data_is_named(value):
    with pytest.raises(UnreadableFile, match="TiffData"):
        parse(document(image(f'<TiffData IFD="{value}"/>')))


def test_several_pixels_are_left_to_bioformats():
    with pytest.raises(Unsupported, match="several Pixels"):
        parse(document(f"<Image><Pixels {PIXELS}/><Pixels {PIXELS}/></Image>"))


@pytest.mark.parametrize(
    "prologue",
    [
        '<!DOCTYPE OME SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE OME [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE OME [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p"> %p;]>',
        '<!DOCTYPE OME [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
    ],
)
def test_document_types_are_refused(prologue):
    with pytest.raises(UnreadableFile, match="document type or entity"):
        parse(prologue + document(image()).partition("?>")[2])


def test_broken_xml_says_so_and_keeps_the_cause():
    with pytest.raises(UnreadableFile, match="not well formed") as caught:
        parse(document(image())[:-9])
    assert isinstance(caught.value.__cause__, ExpatError)


def test_limits_on_length_and_depth():
    with pytest.raises(LimitExceeded, match="length"):
        parse(document(image()), Limits(xml_bytes=50))
    with pytest.raises(LimitExceeded, match="depth"):
        parse(document("<a>" * 300 + "</a>" * 300))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<?xml version="1.0"?><!-- c --><OME xmlns="x">', True),
        (b'\xef\xbb\xbf<o:OME xmlns:o="x"/>', True),
        ("<OMEX/>", False),
        ("ImageJ=1.53", False),
        ("see <OME>", False),
        ("", False),
    ],
)
def test_looks_like_ome_xml(text, expected):
    assert looks_like_ome_xml(text) is expected


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("u2", "uint16"), (">f4", "float"), ("c16", "double-complex"), ("?", "uint8"), ("i8", None)],
)
def test_pixel_type_of(dtype, name):
    assert pixel_type_of(np.dtype(dtype)) == name


def many_planes(count):
    data = "".join(
        f'<TiffData FirstC="0" FirstT="{i}" FirstZ="0" IFD="{i}" PlaneCount="1">'
        f'<UUID FileName="a.ome.tif">urn:uuid:496a8b77-8a19-4f8e-9f5e-2b0d1e0b3a11</UUID>'
        "</TiffData>"
        for i in range(count)
    )
    planes = "".join(
        f'<Plane DeltaT="0.1" ExposureTime="0.1" PositionX="0.0" PositionXUnit="µm" TheC="0" '
        f'TheT="{i}" TheZ="0"/>'
        for i in range(count)
    )
    return document(image(data + planes, PIXELS.replace('SizeT="4"', f'SizeT="{count}"')))


def test_the_time_to_parse_is_proportional_to_the_length():
    """Of 4 MB and of 16 MB: with quadratic time, the longer one would take 16 times as long."""
    taken = []
    for count in (15_000, 60_000):
        xml = many_planes(count)
        begun = time.thread_time()
        (found,) = parse(xml).images
        taken.append(time.thread_time() - begun)
        assert [each.ifd for each in found.tiff_data] == list(range(count))
    assert len(xml) > 15e6
    assert taken[1] < 10 * taken[0]


def test_the_model_is_read_and_written_as_ome_types_does() -> None:
    from ome_types import from_xml, model

    first = model.Image(
        id="Image:0", name="<a> & ü",
        pixels=model.Pixels(
            id="Pixels:0", dimension_order="XYZCT", type="uint16", size_x=3, size_y=4, size_z=1,
            size_c=1, size_t=1, physical_size_x=0.5, metadata_only=True,
        ),
    )  # fmt: skip
    ome = model.OME(creator="me", images=[first])
    ome.images[0].pixels.channels.append(model.Channel(id="Channel:0:0", color="#00FF0080"))
    ome.structured_annotations = model.StructuredAnnotations(
        map_annotations=[model.MapAnnotation(id="Annotation:0", value={"k": "v"})],
        xml_annotations=[model.XMLAnnotation(id="Annotation:1", value="<Value><x>1</x></Value>")],
    )
    for _ in range(2):
        text = xml_from_model(ome)
        assert text == ome.to_xml()
        assert "Channel:0:0" in text
        assert model_from_xml(text) == from_xml(text)
        assert model_from_xml(text).images[0].name == "<a> & ü"


@pytest.mark.parametrize("lxml", [True, False])
@pytest.mark.parametrize("bad", ["\0", "\x1b", "\ud800", "\ufffe", "\x0b"])
def test_characters_that_xml_forbids_are_named(
    bad: str, lxml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With lxml, which no install brings, and with Python's own writer, which lets all by."""
    from ome_types import model
    from xsdata.formats.dataclass.serializers.writers import XmlEventWriter
    from xsdata_pydantic_basemodel import bindings

    if not lxml:
        plain = partial(bindings.XmlSerializer, writer=XmlEventWriter)
        monkeypatch.setattr(bindings, "XmlSerializer", plain)

    pixels = model.Pixels(
        id="Pixels:0", dimension_order="XYZCT", type="uint16", size_x=3, size_y=4, size_z=1,
        size_c=1, size_t=1, metadata_only=True,
        channels=[model.Channel(id="Channel:0:0", name=f"DAPI{bad}")],
    )  # fmt: skip
    ome = model.OME(images=[model.Image(id="Image:0", pixels=pixels)])
    with pytest.raises(BadArgument, match=r"text 'DAPI.*' contains a character that XML does not"):
        xml_from_model(ome)
    pixels.channels[0].name = without_forbidden(pixels.channels[0].name)
    assert model_from_xml(xml_from_model(ome)).images[0].pixels.channels[0].name == "DAPI "


def test_characters_that_xml_allows_are_kept() -> None:
    from ome_types import model

    text = "\t\n\r <&>\"' µ 日本 😀 \x7f\x85\u2028\ufffd"
    assert without_forbidden(text) == text
    ome = model.OME(creator=text)
    assert model_from_xml(xml_from_model(ome)).creator == text


def test_metadata_that_break_the_schema_name_the_value_and_the_way_out():
    schema = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    xml = document(image(pixels=PIXELS.replace('DimensionOrder="XYZTC"', "")), root=schema)
    with pytest.raises(
        UnreadableFile, match="a.tif: the metadata break the OME schema .*DimensionOrder.*ome_xml"
    ):
        model_from_xml(xml, "a.tif")


OME = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
SOUND = document(image(), root=OME)


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (SOUND.replace("<Image ", '<Image xmlns:a="no uri[]" '), "are not well-formed XML"),
        (SOUND.replace('Name="n"', f'Name="{"n" * 11_000_000}"'), "are not well-formed XML"),
        (SOUND[:-9], "are not well-formed XML"),
        ("", "are not well-formed XML"),
        (document(f"{'<a>' * 300}{'</a>' * 300}", root=OME), "are not well-formed XML"),
        (f"<!-- -- >\n<?x?><!DOCTYPE OME>{SOUND}", "are not well-formed XML"),
        (SOUND.replace("<OME", "<!DOCTYPE OME [<!ENTITY a 'b'>]><OME"), "have a document type"),
        (f"<!-- --><!DOCTYPE OME>{SOUND.partition('?>')[2]}", "have a document type"),
        (f"<Project {OME}/>", "have the root element Project instead of OME"),
        (f"<Color {OME}>1</Color>", "break the OME schema"),
        ("<OME/>", "break the OME schema"),
        (SOUND.replace("uint16", "uint17"), "break the OME schema"),
    ],
)  # fmt: skip
def test_documents_that_no_model_can_be_made_of(xml: str, reason: str) -> None:
    """lxml raises SyntaxError, pydantic and xsdata ValueError: all of them are ours."""
    with pytest.raises(UnreadableFile, match=rf"^a\.tif: the metadata {reason}"):
        model_from_xml(xml, "a.tif")


QUICK = "bfbridge.ome.documents.repair.parse_quickly"


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), RecursionError("deep")])
@pytest.mark.parametrize("parser", ["ome_types.from_xml", QUICK])
def test_other_failures_of_the_parser_are_ours_too(
    parser: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QUICK, lambda xml: None)
    monkeypatch.setattr(parser, raiser(error))
    with pytest.raises(UnreadableFile, match="break the OME schema") as caught:
        model_from_xml(SOUND, "a.tif")
    assert caught.value.__cause__ is error


def raiser(error: BaseException) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def test_too_little_memory_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QUICK, raiser(MemoryError()))
    with pytest.raises(OutOfMemory, match=r"a\.tif: there is not enough memory"):
        model_from_xml(SOUND, "a.tif")
    monkeypatch.setattr(QUICK, lambda xml: None)
    monkeypatch.setattr("ome_types.from_xml", raiser(MemoryError()))
    with pytest.raises(OutOfMemory, match=r"a\.tif: there is not enough memory"):
        model_from_xml(SOUND, "a.tif")
    monkeypatch.setattr("ome_types.from_xml", raiser(ImportError("lxml is required")))
    with pytest.raises(MissingExtra, match=r"a\.tif: .*pip install lxml"):
        model_from_xml(SOUND, "a.tif")


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "UTF-16", "ascii"])
def test_a_text_may_declare_the_encoding_that_it_had(encoding: str) -> None:
    xml = SOUND.replace("UTF-8", encoding).replace('"n"', '"µm ü"')
    assert model_from_xml(xml).images[0].name == "µm ü"
    assert model_from_xml(xml.encode("latin-1")).images[0].name == "µm ü"
    assert model_from_xml("\ufeff \n" + xml).images[0].name == "µm ü"


def test_a_text_is_never_taken_for_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text(SOUND)
    with pytest.raises(UnreadableFile, match="not well-formed"):
        model_from_xml("secret")


def test_elements_are_counted_before_anything_is_parsed() -> None:
    many = document(image("<Plane/>" * 50), root=OME)
    for read in (partial(parse_ome_xml, many, "a.tif"), partial(model_from_xml, many, "a.tif")):
        with pytest.raises(LimitExceeded, match=r"a\.tif: number of OME-XML elements is 54"):
            read(limits=Limits(elements=53))
        with pytest.raises(LimitExceeded, match=r"a\.tif: OME-XML length"):
            read(limits=Limits(xml_bytes=100))


@pytest.mark.parametrize(
    ("inside", "limits", "what"),
    [
        (image() * 3, Limits(images=2), "number of images is 3"),
        (image("<Channel/><Channel/>") * 2, Limits(channels=3), "number of channels is 4"),
        ("<Image><LogicalChannel/><LogicalChannel/></Image>", Limits(channels=1), "channels is 2"),
        (image("<TiffData/>" * 2) * 2, Limits(planes=3), "number of planes mapped is 4"),
        (image('<TiffData PlaneCount="9"/>' * 2), Limits(planes=17), "planes mapped is 18"),
    ],
)
def test_what_a_document_lists_is_counted_while_it_is_parsed(
    inside: str, limits: Limits, what: str
) -> None:
    parse(document(inside))
    with pytest.raises(LimitExceeded, match=what):
        parse(document(inside), limits)


@pytest.mark.parametrize("value", ["red", "", "1e3", "9" * 5000])
def test_what_pixels_do_not_need_may_be_wrong(value: str) -> None:
    (found,) = parse(
        document(image(f'<Channel Color="{value}"/>', f'{PIXELS} SignificantBits="{value}"'))
    ).images
    assert found.channels[0].color is None
    assert found.significant_bits is None
    (found,) = parse(document(image(pixels=f'{PIXELS} SignificantBits="0"'))).images
    assert found.significant_bits is None
