"""Metadata that a conversion keeps to the letter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, convert

DTYPES = {"uint8": "u1", "uint16": "u2", "int32": "i4", "float": "f4"}
DATES = ("12024-01-02T03:04:05", "-0044-03-15T12:00:00Z", "2024-01-02T24:00:00")
XML = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" Name="a">'
    "<AcquisitionDate>{date}</AcquisitionDate>"
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{kind}" SignificantBits="{bits}" '
    'SizeX="30" SizeY="20" SizeZ="1" SizeC="1" SizeT="1" PhysicalSizeX="1.5" '
    'PhysicalSizeXUnit="µm" PhysicalSizeYUnit="µm" PhysicalSizeZUnit="nm" TimeIncrementUnit="s">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="1" EmissionWavelength="500" '
    'EmissionWavelengthUnit="nm" ExcitationWavelengthUnit="nm" Color="-1"/><TiffData/>'
    '<Plane TheZ="0" TheC="0" TheT="0" DeltaT="1" DeltaTUnit="s" PositionX="2" '
    'PositionXUnit="reference frame"/></Pixels></Image><StructuredAnnotations>'
    '<TimestampAnnotation ID="Annotation:0"><Value>{date}</Value></TimestampAnnotation>'
    "</StructuredAnnotations></OME>"
)
DEFAULTS = re.compile(r'(\w+Unit="[^"]*"|SignificantBits="\d+"|Color="[^"]*")')


def write(path: Path, kind: str, bits: int, date: str = DATES[0]) -> Path:
    tifffile = pytest.importorskip("tifffile")
    pixels = np.arange(600).astype(DTYPES[kind]).reshape(20, 30)
    xml = XML.format(kind=kind, bits=bits, date=date)
    tifffile.imwrite(path, pixels, description=xml.encode(), metadata=None)
    return path


def told(path: Path) -> str:
    with BioReader(path) as br:
        return br.ome_xml or ""


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("wanted", [{}, {"crop": "1,2,20,10"}, {"original_metadata": True}])
@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize(
    ("kind", "bits"), [("uint8", 8), ("uint16", 16), ("uint16", 12), ("int32", 32), ("float", 32)]
)
def test_what_equals_a_default_is_kept(
    tmp_path: Path, kind: str, bits: int, suffix: str, wanted: dict[str, Any]
) -> None:
    source = write(tmp_path / "a.ome.tif", kind, bits)
    convert(source, tmp_path / f"b{suffix}", verify=True, **wanted)
    assert set(DEFAULTS.findall(told(source))) == set(
        DEFAULTS.findall(told(tmp_path / f"b{suffix}"))
    )
    with BioReader(tmp_path / f"b{suffix}") as br:
        assert br._image.significant_bits == bits


@pytest.mark.parametrize(
    ("wanted", "bits"),
    [
        ({"dtype": "uint32"}, 12),
        ({"dtype": "float32"}, None),
        ({"dtype": "uint8", "scaling": "full"}, None),
    ],
)
def test_significant_bits_of_other_types(
    tmp_path: Path, wanted: dict[str, Any], bits: int | None
) -> None:
    source = write(tmp_path / "a.ome.tif", "uint16", 12)
    convert(source, tmp_path / "b.ome.tif", verify=True, **wanted)
    with BioReader(tmp_path / "b.ome.tif") as br:
        assert br._image.significant_bits == bits


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("date", DATES)
def test_dates_that_python_cannot_hold_are_kept(tmp_path: Path, suffix: str, date: str) -> None:
    source = write(tmp_path / "a.ome.tif", "uint16", 16, date)
    convert(source, tmp_path / f"b{suffix}")
    convert(tmp_path / f"b{suffix}", tmp_path / "c.ome.tif")
    for path in (tmp_path / f"b{suffix}", tmp_path / "c.ome.tif"):
        assert told(path).count(f">{date}<") == 2
