"""`bfbridge.ome.documents.quick_binding` returns what xsdata returns, or nothing."""

from __future__ import annotations

import pytest
from ome_types import OME, model

from bfbridge.ome.documents import repair
from bfbridge.ome.documents.model import copied
from bfbridge.ome.documents.quick_binding import parse_quickly, serialize_quickly
from bfbridge.ome.documents.xsdata_binding import NAMESPACE, serialize

UUID = "urn:uuid:00000000-1111-2222-3333-444444444444"
PIXELS = (
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="3" SizeY="4" SizeZ="1" '
    'SizeC="2" SizeT="1" PhysicalSizeX="1e-7" PhysicalSizeXUnit="m" PhysicalSizeY="0.5" '
    'Interleaved=" 0 " BigEndian="true" TimeIncrement="2">{}</Pixels>'
)
CHANNEL = '<Channel ID="Channel:0:0" Name="a&amp;b &lt;&quot;&#10;&#9;µ" Color="-16776961"/>'
EVERYTHING = (
    '<Experimenter ID="Experimenter:0" FirstName="Ada"/><Instrument ID="Instrument:0">'
    '<Microscope Type="Inverted"/><Laser ID="LightSource:0" Power="3"><Pump ID="LightSource:0"/>'
    '</Laser><Objective ID="Objective:0" NominalMagnification="40" Immersion="Oil"/></Instrument>'
    '<Image ID="Image:0" Name=""><AcquisitionDate>2024-01-02T03:04:05.5Z</AcquisitionDate>'
    '<Description> two\n lines &amp; more </Description><ExperimenterRef ID="Experimenter:0"/>'
    '<InstrumentRef ID="Instrument:0"/><ObjectiveSettings ID="Objective:0" RefractiveIndex="1.5"/>'
    + PIXELS.format(
        CHANNEL + '<Channel ID="Channel:0:1" SamplesPerPixel="1" EmissionWavelength="520.5"/>'
        '<TiffData IFD="0" PlaneCount="1"><UUID FileName="a.tif">' + UUID + "</UUID></TiffData>"
        '<Plane TheZ="0" TheC="0" TheT="0" DeltaT="0.1" PositionX="-3" PositionXUnit="mm"/>'
    )
    + '<ROIRef ID="ROI:0"/><AnnotationRef ID="Annotation:0"/></Image><StructuredAnnotations>'
    '<MapAnnotation ID="Annotation:0" Namespace="n"><Value><M K="k">v</M><M K="e"/></Value>'
    '</MapAnnotation><LongAnnotation ID="Annotation:1"><Value>7</Value></LongAnnotation>'
    '</StructuredAnnotations><ROI ID="ROI:0"><Union><Polygon ID="Shape:0" Points="1,2 3,4" '
    'FillColor="255"/><Rectangle ID="Shape:1" X="1" Y="2.5" Width="3" Height="4" TheZ="0"/>'
    "</Union></ROI>"
)


def document(content: str, attributes: str = "") -> bytes:
    return f'<OME xmlns="{NAMESPACE}"{attributes}>{content}</OME>'.encode()


def image(pixels: str, more: str = "") -> str:
    return f'<Image ID="Image:0">{PIXELS.format(pixels)}{more}</Image>'


def slowly(xml: bytes, monkeypatch: pytest.MonkeyPatch) -> OME:
    with monkeypatch.context() as patched:
        patched.setattr(repair, "parse_quickly", lambda xml: None)
        return repair.parse(xml)[0]


@pytest.mark.parametrize(
    "xml",
    [
        document(""),
        document(image("<MetadataOnly/>"), f' Creator="x &amp; y" UUID="{UUID}"'),
        document(f"<!-- a comment -->{image('<?a b?><TiffData/><!-- more -->')}"),
        document(EVERYTHING),
        document(image(CHANNEL), ' xmlns:x="http://www.w3.org/2001/XMLSchema-instance" '
                 f'x:schemaLocation="{NAMESPACE} ome.xsd"'),
        b'<a:OME xmlns:a="' + NAMESPACE.encode() + b'"><a:Dataset ID="Dataset:3"/></a:OME>',
    ],
)  # fmt: skip
def test_ordinary_documents(xml: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    found, wanted = parse_quickly(xml), slowly(xml, monkeypatch)
    assert found is not None
    # References compare what they refer to, and so each other, without end.
    assert found.model_dump() == wanted.model_dump()
    text = serialize(wanted)
    assert serialize(found) == serialize_quickly(found) == serialize_quickly(wanted) == text
    assert serialize_quickly(copied(found)) == text
    for image in found.images:
        if image.instrument_ref is not None:
            assert image.instrument_ref.ref is found.instruments[0]
            twin = copied(found)
            assert twin.images[0].instrument_ref.ref is twin.instruments[0]


@pytest.mark.parametrize(
    "xml",
    [
        document(image("<Odd/>")),
        document(image("<TiffData/>"), ' Odd="1"'),
        document(image('<TiffData IFD="one"/>')),
        document(image('<TiffData IFD="-1"/>')),
        document(image('<Channel ID="Channel:0:0" AcquisitionMode="Odd"/>')),
        document(image("<MetadataOnly/><MetadataOnly/>")),
        document(image("<MetadataOnly/>", "<AcquisitionDate>yesterday</AcquisitionDate>")),
        document(image("<MetadataOnly/>", "<Description>a<!-- b -->c</Description>")[:-9]
                 + '<Description x="1"/></Image>'),
        document(
            '<StructuredAnnotations><XMLAnnotation ID="Annotation:0"><Value><a/></Value>'
            "</XMLAnnotation></StructuredAnnotations>"
        ),
        document("").replace(b"2016-06", b"2015-01"),
        document("", ' xmlns:a="no uri[]"'),
        document("<Image>"),
        b"<OME/>",
    ],
)  # fmt: skip
def test_other_documents_are_left_to_xsdata(xml: bytes) -> None:
    assert parse_quickly(xml) is None


def test_other_values_are_left_to_xsdata() -> None:
    plane = model.Plane(the_z=0, the_c=0, the_t=0, delta_t=float("nan"))
    pixels = model.Pixels(
        dimension_order="XYZCT", type="uint8", size_x=1, size_y=1, size_z=1, size_c=1, size_t=1,
        metadata_only=model.MetadataOnly(), planes=[plane],
    )  # fmt: skip
    ome = OME(images=[model.Image(pixels=pixels)])
    assert serialize_quickly(ome) is None
    assert 'DeltaT="NaN"' in serialize(ome)
    note = model.XMLAnnotation(id="Annotation:0", value="<a>b</a>")
    assert serialize_quickly(OME(structured_annotations=[note])) is None
    # xsdata takes such a text for a qualified name.
    assert serialize_quickly(OME(creator="{a}b")) is None


def test_a_copy_shares_nothing_that_can_change(monkeypatch: pytest.MonkeyPatch) -> None:
    ome = slowly(document(EVERYTHING), monkeypatch)
    before = serialize(ome)
    twin = copied(ome)
    twin.images[0].name = "new"
    twin.images[0].pixels.channels[0].name = "new"
    twin.images[0].pixels.planes.clear()
    twin.structured_annotations.map_annotations[0].value.ms[0].value = "new"
    twin.rois[0].union[0].id = "Shape:9"
    assert serialize(ome) == before
    assert twin.images[0].instrument_ref.ref is twin.instruments[0]
