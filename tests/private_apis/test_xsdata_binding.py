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
