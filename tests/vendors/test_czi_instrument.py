"""Instruments, users, stage positions and drawings of CZI files, as Bio-Formats reports them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge_bioformats import BioFormatsReader
from bfbridge_czi import CziReader
from tests.support.agreement import differences, document_entries, opened
from tests.support.czis import Block, metadata_xml, write_czi

pytestmark = pytest.mark.java

PIXELS = np.arange(1, 9 * 8 + 1, dtype=np.uint16).reshape(9, 8)
MAKER = (
    "<Manufacturer><Manufacturer>Zeiss</Manufacturer><Model>{model}</Model>"
    "<SerialNumber>S-{model}</SerialNumber><LotNumber>7</LotNumber></Manufacturer>"
)


def maker(model: str) -> str:
    return MAKER.format(model=model)


INSTRUMENT = f"""<Instrument>
<Microscopes><Microscope Id="Microscope:1">{maker("Axio")}<Type>Inverted</Type></Microscope>
</Microscopes><LightSources>
<LightSource Id="LightSource:1">{maker("Argon")}<Power>25.5</Power>
<LightSourceType>Laser</LightSourceType></LightSource>
<LightSource Id="LightSource:2">{maker("Lamp")}<LightSourceType>Arc</LightSourceType>
</LightSource><LightSource Id="LightSource:3"><LightSourceType>Moon</LightSourceType>
</LightSource></LightSources><Detectors>
<Detector Id="Detector:1">{maker("PMT1")}<Gain>1.5</Gain><Offset>0.25</Offset><Zoom>2,2</Zoom>
<AmplificationGain>3</AmplificationGain><Type>PMT</Type></Detector>
<Detector Id="Camera 2">{maker("Cam2")}<Type>EMCCD</Type></Detector></Detectors><Objectives>
<Objective Id="Objective:1">{maker("Apochromat")}<Correction>PlanApo</Correction>
<Immersion>Oil</Immersion><LensNA>1.4</LensNA><NominalMagnification>63</NominalMagnification>
<CalibratedMagnification>62.9</CalibratedMagnification><WorkingDistance>190.5</WorkingDistance>
<Iris>true</Iris></Objective></Objectives><FilterSets>
<FilterSet Id="FilterSet:1">{maker("Set49")}<DichroicRef Id="Dichroic:1"/>
<ExcitationFilters><ExcitationFilterRef Id="Filter:1"/></ExcitationFilters>
<EmissionFilters><EmissionFilterRef Id="Filter:2"/></EmissionFilters></FilterSet></FilterSets>
<Filters><Filter Id="Filter:1">{maker("Ex")}<Type>BandPass</Type><FilterWheel>Wheel A</FilterWheel>
<TransmittanceRange><CutIn>335</CutIn><CutOut>383</CutOut><CutInTolerance>1</CutInTolerance>
<CutOutTolerance>2</CutOutTolerance><Transmittance>0.9</Transmittance></TransmittanceRange></Filter>
<Filter Id="Filter:2">{maker("Em")}</Filter></Filters>
<Dichroics><Dichroic Id="Dichroic:1">{maker("Mirror")}</Dichroic></Dichroics></Instrument>"""
IMAGE = """<Image><ObjectiveSettings><CorrectionCollar>0.17</CorrectionCollar><Medium>Oil</Medium>
<RefractiveIndex>1.518</RefractiveIndex></ObjectiveSettings>
<Dimensions><Channels><Channel Id="Channel:0" Name="A"><DetectorSettings>
<Binning>2,2</Binning><Detector Id="Detector:1"/></DetectorSettings><AcquisitionMode>
WideField</AcquisitionMode><IlluminationType>Epifluorescence</IlluminationType>
<ExcitationWavelength>353</ExcitationWavelength><EmissionWavelength>465</EmissionWavelength>
<PinholeSizeAiry>1</PinholeSizeAiry></Channel></Channels></Dimensions></Image>"""
USER = """<User><Email>a@example.org</Email><FirstName>Ada</FirstName><Institution>Institute
</Institution><LastName>L</LastName><MiddleName>K</MiddleName><UserName>ada</UserName></User>"""
DOCUMENT = """<Document><Description>two lines
of text</Description><UserName>someone</UserName></Document>"""
ENVIRONMENT = """<Environment><Temperature>37</Temperature><AirPressure>1013</AirPressure>
<Humidity>0.5</Humidity><CO2Percent>0.05</CO2Percent></Environment>"""


DISPLAY = """<DisplaySetting><Channels><Channel Name="Dye"><Color>#FF00FF00</Color>
<DyeName>DAPI</DyeName><DyeMaxEmission>461.5</DyeMaxEmission></Channel></Channels></DisplaySetting>"""


def shape(kind: str, text: str = "", **geometry: Any) -> str:
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in geometry.items())
    label = f"<TextElements><TextElement><Text>{text}</Text></TextElement></TextElements>"
    return f"<{kind}><Geometry>{inner}</Geometry>{label if text else ''}</{kind}>"


LINE = {"X1": 1, "Y1": 2, "X2": 3.5, "Y2": 4}
BOX = {"Left": 1, "Top": 2, "Width": 3, "Height": 4}
ROUND = {"CenterX": 4, "CenterY": 5, "Radius": 1.5}
POINTS = {"Points": "1,2 3,4 5,0"}
SHAPES = [
    shape("Line", "a line", **LINE),
    shape("OpenArrow", **LINE),
    shape("Cross", Length=4, CenterX=3, CenterY=5),
    shape("Rectangle", "box", **BOX),
    shape("Ellipse", CenterX=4, CenterY=5, RadiusX=2, RadiusY=1),
    *(shape(kind, **ROUND) for kind in ("Circle", "InOutCircle", "OutInCircle", "PointsCircle")),
    *(
        shape(kind, **POINTS)
        for kind in ("Polygon", "Polyline", "OpenPolyline", "ClosedPolyline", "Bezier")
    ),
    *(shape(kind, **BOX) for kind in ("RectRoi", "TextBox", "Text")),
]


def agreed(tmp_path: Path, *parts: str, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the entries of the document after comparing them with Bio-Formats'."""
    path = write_czi(tmp_path / "a.czi", [Block(PIXELS, at={"C": 0})], metadata_xml("".join(parts)))
    with opened(CziReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs, but=but) == []
        return document_entries(ours.ome_xml() or "")


def test_the_parts_of_an_instrument(tmp_path: Path) -> None:
    found = agreed(
        tmp_path, "<Information>", INSTRUMENT, IMAGE, USER, DOCUMENT, ENVIRONMENT,
        "</Information>", DISPLAY,
    )  # fmt: skip
    expected = {
        "/Instrument[0]/Microscope[0]@Type": "Inverted",
        "/Instrument[0]/Microscope[0]@Model": "Axio",
        "/Instrument[0]/Objective[0]@LensNA": "1.4",
        "/Instrument[0]/Objective[0]@Immersion": "Oil",
        "/Instrument[0]/Objective[0]@WorkingDistance": "190.5",
        "/Instrument[0]/Detector[0]@Gain": "1.5",
        "/Instrument[0]/Detector[1]@Type": "EMCCD",
        "/Instrument[0]/Filter[0]/TransmittanceRange[0]@CutIn": "335",
        "/Instrument[0]/FilterSet[0]/DichroicRef[0]@ID": "Dichroic:1",
        "/Instrument[0]/Laser[0]@Model": "Argon",
        "/Instrument[0]/Arc[0]@Model": "Lamp",
        "/Image[0]/ObjectiveSettings[0]@Medium": "Oil",
        "/Image[0]/ImagingEnvironment[0]@Temperature": "37",
        "/Image[0]/Pixels[0]/Channel[0]@Fluor": "DAPI",
        "/Image[0]/Pixels[0]/Channel[0]@EmissionWavelength": "461.5",
        "/Image[0]/Pixels[0]/Channel[0]/DetectorSettings[0]@Binning": "2x2",
        "/Experimenter[0]@UserName": "ada",
        "/Experimenter[0]@LastName": "L",
    }
    assert {path: found.get(path) for path in expected} == expected


def test_the_hardware_settings_of_an_experiment(tmp_path: Path) -> None:
    """Without a description of the instrument: the objective changer and the cameras."""
    hardware = """<HardwareSetting><Microscope Name="Axio Observer"/><ObjectiveChanger>
<Position>2</Position><Objective Model="A-Plan" UniqueName="421"><Magnification>10</Magnification>
<NumericalAperture>0.25</NumericalAperture><Immersions>Air</Immersions></Objective>
<Objective Model="Plan-Apo" UniqueName="422"><Magnification>40</Magnification>
<NumericalAperture>0.95</NumericalAperture><WorkingDistance>250</WorkingDistance></Objective>
</ObjectiveChanger></HardwareSetting>"""
    experiment = """<Experiment><ExperimentBlocks><AcquisitionBlock><AcquisitionModeSetup>
<SelectedCamera>Axiocam</SelectedCamera></AcquisitionModeSetup><Detectors>
<Detector Id="Other"><Binning>1,1</Binning></Detector>
<Detector Id="Axiocam"><Binning>4,4</Binning></Detector></Detectors>
<MultiTrackSetup><Track><Channel><ExposureTime>0.5</ExposureTime><EMGain>7</EMGain></Channel>
<Detectors><Detector><Voltage>650</Voltage></Detector></Detectors></Track></MultiTrackSetup>
</AcquisitionBlock></ExperimentBlocks></Experiment>"""
    found = agreed(tmp_path, experiment, hardware, "<Information>", DOCUMENT, "</Information>")
    expected = {
        "/Instrument[0]/Microscope[0]@Model": "Axio Observer",
        "/Instrument[0]/Objective[1]@NominalMagnification": "40",
        "/Image[0]/ObjectiveSettings[0]@ID": "Objective:0:1",
        "/Instrument[0]/Detector[1]@Model": "Axiocam",
        "/Image[0]/Pixels[0]/Channel[0]/DetectorSettings[0]@Binning": "4x4",
        "/Experimenter[0]@UserName": "someone",
    }
    assert {path: found.get(path) for path in expected} == expected


def test_drawings_are_regions_in_the_order_of_bioformats(tmp_path: Path) -> None:
    def layer(name: str, shapes: str, usage: str = "") -> str:
        return f'<Layer Name="{name}">{usage}<Elements>{shapes}</Elements></Layer>'

    layers = (
        layer("all", "".join(SHAPES), "<Usage>Measurement</Usage>")
        + '<Layer Name="without elements"/>'
        + layer("one", shape("Rectangle", **BOX))
    )
    found = agreed(tmp_path, f"<Layers>{layers}</Layers>")
    assert found["/ROI[0]/Description[0]"] == "Measurement"
    assert found["/ROI[1]/Union[0]/Rectangle[0]@Height"] == "4"
    tags = [
        path.split("/")[3].partition("[")[0]
        for path in found
        if path.startswith("/ROI[0]/Union[0]/") and path.endswith("@ID")
    ]
    counts = {tag: tags.count(tag) for tag in tags}
    assert counts == {"Line": 4, "Rectangle": 4, "Ellipse": 5, "Polygon": 3, "Polyline": 2}
    assert [found[f"/ROI[0]/Union[0]/Line[2]@{name}"] for name in ("X1", "X2", "Y1")] == [
        "1", "5", "5",
    ]  # fmt: skip


def scenes(tmp_path: Path, count: int, *parts: str, notes: str = "") -> list[dict[str, str]]:
    """Return the attributes of the planes of scenes, after comparing with Bio-Formats."""
    blocks = [
        Block(PIXELS + n, x=20 * n, at={"C": 0, "T": t, "S": n}, metadata=notes)
        for n in range(count)
        for t in range(2)
    ]
    path = write_czi(tmp_path / "a.czi", blocks, metadata_xml("".join(parts)))
    with opened(CziReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs) == []
        assert len(ours.images) == count
        found = document_entries(ours.ome_xml() or "")
    start = "/Image[{}]/Pixels[0]/Plane[0]@"
    return [
        {path.rpartition("@")[2]: found[path] for path in found if path.startswith(start.format(n))}
        for n in range(count)
    ]


def test_stage_positions_of_groups(tmp_path: Path) -> None:
    groups = "".join(
        f'<PositionGroup><TilesX>1</TilesX><TilesY>1</TilesY><Position X="{n + 0.5}" Y="2" Z="3"/>'
        "</PositionGroup>"
        for n in range(2)
    )
    found = scenes(
        tmp_path, 2, "<Experiment><ExperimentBlocks><AcquisitionBlock><TilesSetup><PositionGroups>",
        groups, "</PositionGroups></TilesSetup></AcquisitionBlock></ExperimentBlocks></Experiment>",
        "<Information><Image><AcquisitionDateAndTime>2020-01-02T03:04:05.5Z"
        "</AcquisitionDateAndTime><Dimensions><T><Positions><Interval><Increment>2.5</Increment>"
        "</Interval></Positions></T></Dimensions></Image></Information>",
    )  # fmt: skip
    assert [(plane["PositionX"], plane["PositionXUnit"]) for plane in found] == [
        ("0.5", "m"), ("1.5", "m"),
    ]  # fmt: skip


def test_stage_positions_of_a_plate(tmp_path: Path) -> None:
    wells = "".join(
        f'<SingleTileRegionArray Name="A{n + 1}"><TemplateShapeId>A{n + 1}</TemplateShapeId>'
        f'<SingleTileRegion Name="P1"><X>{100 * n + 50}</X><Y>7</Y><Z>1</Z></SingleTileRegion>'
        "</SingleTileRegionArray>"
        for n in range(2)
    )
    found = scenes(
        tmp_path, 2, "<Experiment><ExperimentBlocks><AcquisitionBlock><RegionsSetup><SampleHolder>",
        "<Template><ShapeRows>2</ShapeRows><ShapeColumns>3</ShapeColumns></Template>", wells,
        "</SampleHolder></RegionsSetup></AcquisitionBlock></ExperimentBlocks></Experiment>",
    )  # fmt: skip
    assert [plane["PositionX"] for plane in found] == ["50", "150"]


def test_positions_and_times_of_tiles(tmp_path: Path) -> None:
    notes = """<METADATA><Tags><StageXPosition>1.5</StageXPosition>
<StageYPosition>2.5</StageYPosition><FocusPosition>3</FocusPosition>
<AcquisitionTime>2020-01-02T03:04:06.25Z</AcquisitionTime><ExposureTime>40</ExposureTime>
</Tags></METADATA>"""
    (plane,) = scenes(
        tmp_path, 1, "<Information><Image><AcquisitionDateAndTime>2020-01-02T03:04:05.5Z"
        "</AcquisitionDateAndTime></Image></Information>", notes=notes,
    )  # fmt: skip
    assert (plane["PositionX"], plane["PositionY"]) == ("1.5", "2.5")
    assert float(plane["DeltaT"]) == 0.75


def image_xml(dimensions: str) -> str:
    return f"<Information><Image><Dimensions>{dimensions}</Dimensions></Image></Information>"


def test_stage_positions_of_stitched_scenes(tmp_path: Path) -> None:
    """Each scene has a centre, and no positions of tiles."""
    experiment = "<Experiment><ExperimentBlocks/></Experiment>"
    centres = "".join(
        f"<Scene><CenterPosition>{x},{x + 1}</CenterPosition></Scene>" for x in (10.5, 20)
    )
    found = scenes(tmp_path, 2, experiment, image_xml(f"<S><Scenes>{centres}</Scenes></S>"))
    assert [(plane["PositionX"], plane["PositionY"]) for plane in found] == [
        ("10.5", "11.5"), ("20", "21"),
    ]  # fmt: skip


def test_entries_have_the_names_of_bioformats(tmp_path: Path) -> None:
    parts = (
        "<Information><Image><SizeX>8</SizeX><Notes>a<B>b</B></Notes></Image>",
        '<Tags><Tag Id="1">x</Tag><Tag Id="2">y</Tag></Tags></Information>',
        DISPLAY, DISPLAY.replace("DAPI", "GFP"),
    )  # fmt: skip
    path = write_czi(tmp_path / "a.czi", [Block(PIXELS, at={"C": 0})], metadata_xml("".join(parts)))
    with opened(CziReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        found, expected = dict(ours.original_metadata), dict(theirs.original_metadata)
    assert {key: value for key, value in found.items() if expected.get(key) != value} == {}
    assert found["Information|Tag #1"] == "x"
    assert found["Information|Tag|Id #2"] == "2"
    assert found["DisplaySetting|Channel|DyeName"] == "GFP"
    assert "Information|Image|Notes" not in found
