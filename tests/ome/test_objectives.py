"""Magnifications read from OME-XML without ome_types."""

from __future__ import annotations

import pytest

from bfbridge.errors import UnreadableFile
from bfbridge.ome.documents.model import model_from_xml
from bfbridge.ome.objectives import magnifications_in, magnifications_of

HEAD = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
PIXELS = (
    '<Pixels ID="Pixels:{0}" DimensionOrder="XYCZT" Type="uint8" SizeX="2" SizeY="3" SizeZ="1" '
    'SizeC="1" SizeT="1"><MetadataOnly/></Pixels>'
)


def document(objectives: str, *settings: str) -> str:
    images = "".join(
        f'<Image ID="Image:{i}">{text}{PIXELS.format(i)}</Image>' for i, text in enumerate(settings)
    )
    return f'{HEAD}<Instrument ID="Instrument:0">{objectives}</Instrument>{images}</OME>'


TEN = '<Objective ID="Objective:0" NominalMagnification="10"/>'
CALIBRATED = '<Objective ID="Objective:1" CalibratedMagnification="39.5"/>'
UNKNOWN = '<Objective ID="Objective:2"/>'


@pytest.mark.parametrize(
    ("xml", "wanted"),
    [
        (document(TEN, "", ""), (10, 10)),
        (document(TEN + CALIBRATED, '<ObjectiveSettings ID="Objective:1"/>', ""), (39.5, None)),
        (document(TEN + UNKNOWN, '<ObjectiveSettings ID="Objective:2"/>'), (None,)),
        (document(TEN, '<ObjectiveSettings ID="Objective:7"/>'), (None,)),
        (document("", "", ""), (None, None)),
        ('<?xml version="1.0" encoding="UTF-8"?>\n' + document(TEN, ""), (10,)),
    ],
)
@pytest.mark.filterwarnings("ignore:Reference to unknown ID")
def test_magnifications_are_those_of_the_model(xml: str, wanted: tuple[float | None, ...]) -> None:
    assert magnifications_in(xml) == wanted
    assert magnifications_of(model_from_xml(xml)) == wanted


def test_a_prefix_changes_nothing() -> None:
    xml = document(TEN, "").replace("</", "</o:").replace("<O", "<o:O").replace("<I", "<o:I")
    assert magnifications_in(
        xml.replace("xmlns=", "xmlns:o=").replace("<P", "<o:P").replace("<M", "<o:M")
    ) == (10,)


@pytest.mark.parametrize("xml", ["<OME><Image></OME>", "<!DOCTYPE a []><OME/>"])
def test_text_that_is_no_ome_xml_is_an_error(xml: str) -> None:
    with pytest.raises(UnreadableFile, match=r"well-formed|document type"):
        magnifications_in(xml)
