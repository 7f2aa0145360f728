"""Acquisition settings of LIF files, as Bio-Formats reports them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge_bioformats import BioFormatsReader
from bfbridge_lif import LifReader
from tests.support.agreement import differences, document_entries, opened
from tests.support.lifs import image_of, write_lif

pytestmark = pytest.mark.java

PIXELS = np.random.default_rng(5).integers(1, 250, (2, 2, 3, 6, 8)).astype(np.uint16)


def element(tag: str, inner: str = "", /, **attributes: Any) -> str:
    written = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f"<{tag}{written}>{inner}</{tag}>"


def scanner(**values: Any) -> str:
    return "".join(
        element("ScannerSettingRecord", Identifier=name, Unit="", Variant=value)
        for name, value in values.items()
    )


def filters(*records: tuple[str, str, str, str, str]) -> str:
    """Records of (object, class, attribute, description, value)."""
    return "".join(
        element(
            "FilterSettingRecord", ObjectName=name, ClassName=kind, Attribute=attribute,
            Description=description, Variant=value, data=number, Data=number,
        )
        for number, (name, kind, attribute, description, value) in enumerate(records, 1)
    )  # fmt: skip


def attachment(name: str, inner: str = "", **attributes: Any) -> str:
    return element("Attachment", inner, Name=name, **attributes)


def agreed(tmp_path: Path, inside: str, pixels: np.ndarray = PIXELS) -> dict[str, str]:
    """Return the entries of the document after comparing them with Bio-Formats'."""
    path = write_lif(tmp_path / "a.lif", [image_of(pixels, inside=inside)])
    with opened(LifReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs) == []
        return document_entries(ours.ome_xml() or "")


def test_records_of_a_scanner(tmp_path: Path) -> None:
    records = scanner(
        SystemType="TCS SP5", CameraName="DFC", dblPinhole="6.0E-5", dblZoom="2.5",
        dblStepSize="4.0E-7", nDelayTime_s="1.5", eDirectional="1", eDirectionalY="0",
        bWFC0ExposureTime="0.25", bWFC1ExposureTime="0.5", bWFC0Gain="3", bWFC1WaveLength="561",
        bWFC1UserDefName="second", bWFC7Gain="4", unknown="x", empty=" ",
    )  # fmt: skip
    found = agreed(tmp_path, attachment("HardwareSetting", records))
    expected = {
        "/Instrument[0]/Microscope[0]@Model": "TCS SP5",
        "/Image[0]/Pixels[0]/Channel[0]/PinholeSize[0]": None,
        "/Image[0]/Pixels[0]/Channel[0]@PinholeSize": "60",
        "/Image[0]/Pixels[0]/Channel[1]@Name": "second",
        "/Image[0]/Pixels[0]@TimeIncrement": "1.5",
        "/Image[0]/Pixels[0]/Plane[0]@ExposureTime": "0.25",
    }
    assert {path: found.get(path) for path in expected} == expected


def test_records_of_filters(tmp_path: Path) -> None:
    records = filters(
        ("PMT 1", "CDetectionUnit", "State", "", "Active"),
        ("PMT 2", "CDetectionUnit", "State", "", "Active"),
        ("Turret", "CTurret", "NumericalAperture", "", "1.4"),
        ("Turret", "CTurret", "RefractionIndex", "", "1.518"),
        ("Turret", "CTurret", "OrderNumber", "", "506192"),
        ("Turret", "CTurret", "Objective", "", "HCX PL APO 63x1.3 GLYC CS"),
        ("Stage", "CXYZStage", "XPos", "", "12.5"),
        ("Stage", "CXYZStage", "YPos", "", "7"),
        ("Stage", "CXYZStage", "ZPos", "", "0.5"),
        ("SP 1", "CSpectrophotometerUnit", "Wavelength", "Wavelength (left)", "500"),
        ("SP 1", "CSpectrophotometerUnit", "Wavelength", "Wavelength (right)", "550"),
        ("SP 1", "CSpectrophotometerUnit", "Stain", "", "FITC"),
        ("SP 2", "CSpectrophotometerUnit", "Wavelength", "Wavelength (left)", "600"),
        ("SP 2", "CSpectrophotometerUnit", "Wavelength", "Wavelength (right)", "650"),
        ("SP 2", "CSpectrophotometerUnit", "Stain", "", "Cy3"),
    )
    hardware = attachment("HardwareSetting", scanner(SystemType="TCS") + records)
    found = agreed(tmp_path, hardware)
    expected = {
        "/Instrument[0]/Objective[0]@Model": "HCX PL APO",
        "/Instrument[0]/Objective[0]@NominalMagnification": "63",
        "/Instrument[0]/Objective[0]@LensNA": "1.3",
        "/Instrument[0]/Objective[0]@SerialNumber": "506192",
        "/Image[0]/ObjectiveSettings[0]@RefractiveIndex": "1.518",
        "/Instrument[0]/Filter[0]@Model": "SP 1",
        "/Instrument[0]/Filter[1]/TransmittanceRange[0]@CutOut": "650",
        "/Image[0]/Pixels[0]/Channel[0]@Name": "FITC",
        "/Image[0]/Pixels[0]/Channel[1]@Name": "Cy3",
        "/Image[0]/Pixels[0]/Plane[0]@PositionX": "12.5",
    }
    assert {path: found.get(path) for path in expected} == expected


def confocal(**attributes: Any) -> str:
    detectors = element(
        "DetectorList",
        element("Detector", Channel=1, IsActive=1, Gain=700.5, Offset=-1.5)
        + element("Detector", Channel=2, IsActive=0, Gain=1, Offset=1)
        + element("Detector", Channel=3, IsActive=1, Gain=800, Offset=0.5),
    )
    bands = element(
        "Spectro",
        element("MultiBand", Channel=1, LeftWorld=498.4, RightWorld=551.6, DyeName="FITC")
        + element("MultiBand", Channel=3, LeftWorld=600, RightWorld=650, DyeName="Cy3"),
    )
    lines = element(
        "AotfList",
        element(
            "Aotf",
            element("LaserLineSetting", LaserLine=488, IntensityDev=20, LineIndex=0, Qualifier=20)
            + element("LaserLineSetting", LaserLine=561, IntensityDev=0, LineIndex=1, Qualifier=20),
        ),
    )
    return element("ATLConfocalSettingDefinition", detectors + bands + lines, **attributes)


def test_settings_of_a_confocal_microscope(tmp_path: Path) -> None:
    setting = confocal(
        Pinhole="1.0E-4", Zoom="3", ObjectiveName="HC PL APO", FlipX="1", FlipY="0", SwapXY="1",
        StagePosX="0.002", StagePosY="0.003",
    )  # fmt: skip
    found = agreed(tmp_path, attachment("HardwareSetting", setting))
    expected = {
        "/Instrument[0]/Objective[0]@Model": "HC PL APO",
        "/Image[0]/Pixels[0]/Channel[0]@PinholeSize": "100",
        "/Image[0]/Pixels[0]/Channel[0]@Name": "FITC",
        "/Image[0]/Pixels[0]/Channel[1]@Name": "Cy3",
        # The axes are exchanged, then X is mirrored.
        "/Image[0]/Pixels[0]/Plane[0]@PositionX": "-0.003",
        "/Image[0]/Pixels[0]/Plane[0]@PositionY": "0.002",
    }
    assert {path: found.get(path) for path in expected} == expected


def test_sequential_scans(tmp_path: Path) -> None:
    """Summaries of all scans are left out; each scan has its detectors and lasers."""
    scans = element(
        "LDM_Block_Sequential",
        element("LDM_Block_Sequential_Master", confocal(Pinhole="2.0E-4"))
        + element("LDM_Block_Sequential_List", confocal(Pinhole="1.0E-4") + confocal(Zoom="2")),
    )
    found = agreed(tmp_path, attachment("HardwareSetting", scans))
    assert found["/Instrument[0]/Laser[1]@Wavelength"] == "561"


TICKS = 132_223_104_000_000_000  # 2020-01-01 in 100 ns since 1601


@pytest.mark.parametrize("kind", ["words", "elements", "few", "spoiled"])
def test_times_of_planes(kind: str, tmp_path: Path) -> None:
    count = 5 if kind == "few" else 12
    ticks = [TICKS + n * 2_500_000 for n in range(count)]
    if kind == "elements":
        stamps = "".join(
            element("TimeStamp", HighInteger=tick >> 32, LowInteger=tick & 0xFFFFFFFF)
            for tick in ticks
        )
        inside = element("TimeStampList", stamps)
    else:
        texts = [f"{tick:x}" for tick in ticks]
        if kind == "spoiled":
            texts[3] = "1d5c03"
        inside = element("TimeStampList", " ".join(texts), NumberOfTimeStamps=count)
    found = agreed(tmp_path, inside)
    assert found["/Image[0]/AcquisitionDate[0]"] == "2020-01-01T00:00:00"
    stamps_of = [found.get(f"/Image[0]/Pixels[0]/Plane[{n}]@DeltaT") for n in range(12)]
    known = [2, 4, 11] if kind in ("words", "elements") else [2, 4]
    assert [stamps_of[n] for n in known] == [f"{0.25 * n:.12g}" for n in known]
    if kind == "few":
        assert stamps_of[5:] == [None] * 7


def test_positions_of_tiles_and_descriptions(tmp_path: Path) -> None:
    tiles = "".join(
        element("Tile", FieldX=n, FieldY=0, PosX=0.001 * n, PosY=0.002) for n in range(1, 2)
    )
    inside = (
        attachment("ContextDescription", Content="what was seen")
        + attachment("TileScanInfo", tiles)
        + element("User-Comment", "a comment")
    )
    found = agreed(tmp_path, inside)
    assert found["/Image[0]/Description[0]"] == "what was seen"
    assert found["/Image[0]/Pixels[0]/Plane[0]@PositionX"] == "0.001"


def test_a_comment_is_the_description(tmp_path: Path) -> None:
    found = agreed(tmp_path, element("User-Comment", "a comment"))
    assert found["/Image[0]/Description[0]"] == "a comment"


@pytest.mark.parametrize("kind", [32, 512, 16, 8192, 2, 256, 1])
def test_drawings(kind: int, tmp_path: Path) -> None:
    vertices = "".join(
        element("Vertex", x=f"{x}E-6", y=f"{y}E-6") for x, y in ((-2, -1), (2.5, 1), (0, 3))
    )
    annotation = element(
        "Annotation", vertices, type=kind, transTransX="1E-6", transTransY="2E-6",
        transScalingX=2, transScalingY=3, linewidth=2, text="here", name="ROI 1", fontSize="12.0",
    )  # fmt: skip
    found = agreed(tmp_path, annotation + element("Annotation", type=1))
    assert found["/ROI[0]/Union[0]/Label[0]@Text"] == "here"
    start = "/ROI[0]/Union[0]/"
    shapes = {path.removeprefix(start).partition("@")[0] for path in found if start in path}
    expected = {32: "Polygon[0]", 512: "Rectangle[0]", 16: "Rectangle[0]", 1: None}
    named = expected.get(kind, "Line[0]")
    assert shapes == {"Label[0]"} | ({named} if named else set())


def test_drawings_of_newer_files(tmp_path: Path) -> None:
    points = element("P", X="1E-6", Y="2E-6") + element("P", X="3E-6", Y="4E-6")
    single = element(
        "ROISingle",
        points
        + element(
            "Transformation",
            element("Scaling", XScale=1, YScale=1) + element("Translation", X="1E-6", Y="0"),
        ),
        RoiType=512,
    )
    inside = element(
        "ROI", element("Children", element("Element", element("Data", single), Name="first"))
    )
    found = agreed(tmp_path, inside)
    assert found["/ROI[0]/Union[0]/Label[0]@Text"] == "first"
    assert "/ROI[0]/Union[0]/Rectangle[0]@Width" in found
