"""OME-XML that breaks the schema: what is optional and wrong is left out, and told."""

from __future__ import annotations

import copy
import logging
import pickle
from datetime import datetime

import pytest

from bfbridge.errors import UnreadableFile
from bfbridge.ome.documents.model import model_from_xml, xml_from_model
from bfbridge.ome.documents.repair import collected_faults
from bfbridge.ome.documents.xsdata_binding import SchemaDate

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def document(
    image: str = "", attributes: str = "", pixels: str = "", annotations: str = "", count: int = 1
) -> str:
    """OME-XML with something put into the first image, its Pixels, or the annotations."""
    images = "".join(
        f'<Image ID="Image:{i}" Name="number {i}">{image if i == 0 else ""}'
        f'<Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint16" SizeX="7" SizeY="5" '
        f'SizeZ="1" SizeC="1" SizeT="1" {attributes if i == 0 else ""}>'
        f'<Channel ID="Channel:{i}:0" SamplesPerPixel="1"/><TiffData/>'
        f"{pixels if i == 0 else ''}</Pixels></Image>"
        for i in range(count)
    )
    notes = f"<StructuredAnnotations>{annotations}</StructuredAnnotations>" if annotations else ""
    return f'<OME xmlns="{OME}">{images}{notes}</OME>'


@pytest.mark.parametrize(
    ("parts", "told", "gone"),
    [
        (
            {"image": "<AcquisitionDate>%(DEFAULT_NOW)s</AcquisitionDate>"},
            "Image:0: AcquisitionDate='%(DEFAULT_NOW)s' is not a date and time",
            "AcquisitionDate",
        ),
        # pydantic by itself takes this for seconds since 1970.
        (
            {"image": "<AcquisitionDate>12345678</AcquisitionDate>"},
            "Image:0: AcquisitionDate='12345678' is not a date and time",
            "AcquisitionDate",
        ),
        (
            {"attributes": 'TimeIncrement="soon"'},
            "Pixels:0: TimeIncrement='soon' is not valid",
            "TimeIncrement",
        ),
        (
            {"pixels": '<Plane TheZ="0" TheC="0" TheT="0" PositionX="1" PositionXUnit="furlong"/>'},
            "Plane: PositionXUnit='furlong' is not one of the values that the schema allows",
            "furlong",
        ),
        (
            {"pixels": '<Plane TheZ="first" TheC="0" TheT="0"/>'},
            "Plane: TheZ='first' is not valid",
            "<Plane",
        ),
        (
            {"pixels": "<Foo/><Foo/>"},
            "Pixels/Foo is not an element of the schema (2 left out)",
            "Foo",
        ),
        (
            {"annotations": '<LongAnnotation ID="Annotation:0"><Value>x</Value></LongAnnotation>'},
            "Annotation:0: Value='x' is not valid",
            "LongAnnotation",
        ),
    ],
)
def test_what_is_optional_and_wrong_is_left_out_and_told(
    caplog: pytest.LogCaptureFixture, parts: dict[str, str], told: str, gone: str
) -> None:
    text = document(**parts)
    with caplog.at_level(logging.WARNING, "bfbridge"):
        ome = model_from_xml(text, "a.ome.tif")
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(f"a.ome.tif: the metadata break the OME schema; left out: {told}")
    assert ome.images[0].name == "number 0"
    assert ome.images[0].pixels.channels[0].id == "Channel:0:0"
    assert gone not in xml_from_model(ome)
    caplog.clear()
    with collected_faults() as faults:
        model_from_xml(text, "a.ome.tif")
        model_from_xml(text, "a.ome.tif")
    assert [fault[: len(told) + 11] for fault in faults] == [f"a.ome.tif: {told}"]
    assert not caplog.records


def test_a_sound_document_is_the_same_as_ome_types_makes_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from ome_types import from_xml

    text = document("<AcquisitionDate>2020-01-02T03:04:05</AcquisitionDate>", count=2)
    assert model_from_xml(text) == from_xml(text)
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (document().replace('SizeX="7"', 'SizeX="a"'), "SizeX='a' is not valid"),
        (document().replace('SizeX="7"', ""), "SizeX is missing"),
        # Left out, it would make image 1 number 0.
        (document(count=2).replace('SizeX="7"', "", 1), "Pixels:0: SizeX is missing"),
    ],
)
def test_what_is_required_is_not_left_out(text: str, reason: str) -> None:
    with pytest.raises(UnreadableFile, match="a.ome.tif: the metadata break the OME schema") as e:
        model_from_xml(text, "a.ome.tif")
    assert reason in str(e.value)


@pytest.mark.parametrize(
    "date",
    [
        "12024-01-02T03:04:05", "-0044-03-15T03:04:05Z", "0000-01-02T03:04:05",
        "2024-01-02T24:00:00", "2024-01-02T03:04:05.123456789+02:00",
    ],
)  # fmt: skip
def test_dates_that_python_cannot_hold_stay_as_they_are(date: str) -> None:
    text = document(
        image=f"<AcquisitionDate>{date}</AcquisitionDate>",
        annotations='<TimestampAnnotation ID="Annotation:0"><Value>'
        f"{date}</Value></TimestampAnnotation>",
    )
    ome = pickle.loads(pickle.dumps(copy.deepcopy(model_from_xml(text))))
    acquired = ome.images[0].acquisition_date
    assert isinstance(acquired, SchemaDate)
    assert acquired.text == date
    written = xml_from_model(ome)
    assert f"<AcquisitionDate>{date}<" in written
    assert f"<Value>{date}<" in written
    assert ome.to_xml().count(date) == 2


def test_dates_are_those_of_ome_types_where_it_can_hold_them() -> None:
    dates = {
        "2024-01-02T03:04:05.25": datetime.fromisoformat("2024-01-02T03:04:05.25"),
        "2024-01-02 03:04:05": datetime.fromisoformat("2024-01-02T03:04:05"),
    }
    for stored, expected in dates.items():
        ome = model_from_xml(document(f"<AcquisitionDate>{stored}</AcquisitionDate>"))
        assert type(ome.images[0].acquisition_date) is datetime
        assert ome.images[0].acquisition_date == expected


def test_faults_of_large_documents_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unknown element costs an attempt; a list of every fault would be as long as the file."""
    planes = "".join(f'<Plane TheZ="0" TheC="0" TheT="{t}" DeltaT="x{t}"/>' for t in range(300))
    ome = model_from_xml(document(pixels=planes), "a.tif")
    assert len(ome.images[0].pixels.planes) == 300
    with collected_faults() as faults:
        model_from_xml(document(pixels=planes), "a.tif")
    assert len(faults) == 101
    assert faults[-1] == "a.tif: 200 more faults"
    unknown = "".join(f"<Unknown{n}/>" for n in range(4))
    model_from_xml(document(pixels=unknown), "a.tif")
    monkeypatch.setattr("bfbridge.ome.documents.repair._MOST_PARSED", 20)
    with pytest.raises(UnreadableFile, match="Unknown property"):
        model_from_xml(document(pixels=unknown), "a.tif")
