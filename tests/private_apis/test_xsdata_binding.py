"""What `bfbridge.ome.documents.xsdata_binding` relies on in ome_types and xsdata."""

from __future__ import annotations

from datetime import datetime

from ome_types import OME, from_xml, model

from bfbridge.ome.documents.model import model_from_xml, xml_from_model
from bfbridge.ome.documents.xsdata_binding import SchemaDate, serialize, xml_context

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def document(date: str) -> str:
    return (
        f'<OME xmlns="{NAMESPACE}"><Image ID="Image:0"><AcquisitionDate>{date}</AcquisitionDate>'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="3" SizeY="4" SizeZ="1" '
        'SizeC="1" SizeT="1"><MetadataOnly/></Pixels></Image></OME>'
    )


def test_the_context_is_made_once() -> None:
    assert xml_context() is xml_context()


def test_dates_are_read_by_our_converter() -> None:
    plain = model_from_xml(document("2024-01-02T03:04:05")).images[0].acquisition_date
    assert plain == datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 - as stored
    late = model_from_xml(document("12024-01-02T03:04:05")).images[0].acquisition_date
    assert isinstance(late, SchemaDate)
    assert late.year == 9999
    assert "12024-01-02T03:04:05" in serialize(model_from_xml(document("12024-01-02T03:04:05")))


def test_lists_that_were_appended_to_are_written() -> None:
    ome = OME(creator="x")
    ome.images.append(model_from_xml(document("2024-01-02T03:04:05")).images[0])
    channel = model.Channel(id="Channel:0:0", name="DAPI")
    assert ome.images[0].pixels is not None
    ome.images[0].pixels.channels.append(channel)
    again = from_xml(xml_from_model(ome))
    assert again.images[0].pixels.channels[0].name == "DAPI"
    assert (again.images[0].pixels.size_x, again.images[0].pixels.size_y) == (3, 4)


def test_what_is_written_is_what_ome_types_writes() -> None:
    ome = model_from_xml(document("2024-01-02T03:04:05"))
    assert from_xml(serialize(ome)) == from_xml(ome.to_xml())
    assert f'xmlns="{NAMESPACE}"' in serialize(ome)


def test_fields_with_values_are_marked_as_ome_types_does() -> None:
    note = model.MapAnnotation(id="Annotation:1", value={"a": "b"})
    ome = OME(structured_annotations=[note])
    ome.images.append(model_from_xml(document("2024-01-02T03:04:05")).images[0])
    pixels = ome.images[0].pixels
    pixels.channels.append(model.Channel(id="Channel:0:0"))
    pixels.planes.append(model.Plane(the_z=0, the_c=0, the_t=0))
    pixels.channels[0].annotation_refs.append(model.AnnotationRef(id="Annotation:1"))
    expected = ome.model_copy(deep=True)
    expected._update_set_fields()
    serialize(ome)
    parts = [
        (one, one.images[0], one.images[0].pixels, one.images[0].pixels.channels[0])
        for one in (ome, expected)
    ]
    assert [part.model_fields_set for part in parts[0]] == [
        part.model_fields_set for part in parts[1]
    ]
    assert {"channels", "planes"} <= pixels.model_fields_set
