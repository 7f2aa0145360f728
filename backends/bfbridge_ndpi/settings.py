"""What an NDPI file states about the slide and the scanner."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from bfbridge.backend import PixelSize, Quantity
from bfbridge.ome.documents.build import number, physical_size
from bfbridge.tiff.tags import Tag
from bfbridge_ndpi.directories import NdpiDirectory
from bfbridge_ndpi.tags import NdpiTag

__all__ = ["NdpiSettings", "acquired_of", "original_entries", "pixel_size_of", "read_settings"]

# BaseTiffReader.DATE_FORMATS, in its order.
_DATES: Final = (
    "%Y:%m:%d %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%Y%m%d %H:%M:%S",
    "%Y/%m/%d %H:%M:%S",
)
_MICRONS: Final = {2: 25400, 3: 10000}
# NDPIReader.getCaptureMode.
_MODES: Final = {
    0: "Brightfield",
    1: "Fluorescence",
    2: "Fluorescence with brightfield focusing",
    4: "36 bit color fluorescence",
    5: "36 bit color fluorescence with brightfield focusing",
    6: "12 bit mono fluorescence",
    7: "12 bit mono fluorescence with brightfield focusing",
    13: "14 bit mono fluorescence",
    14: "14 bit mono fluorescence with brightfield focusing",
    16: "14 bit mono brightfield",
    17: "16 bit mono fluorescence",
    18: "16 bit mono fluorescence with brightfield focusing",
}
# Names of original metadata in NDPIReader.
_NAMES: Final = {
    NdpiTag.Version: "NDP.image version",
    NdpiTag.SourceLens: "Magnification",
    NdpiTag.XPosition: "Slide center X (nm)",
    NdpiTag.YPosition: "Slide center Y (nm)",
    NdpiTag.ZPosition: "Slide center Z (nm)",
    NdpiTag.TissueIndex: "Tissue index",
    NdpiTag.Reference: "Reference",
    NdpiTag.FilterSetName: "Filter set name",
    NdpiTag.ExposureRatio: "Exposure ratio",
    NdpiTag.RedMultiplier: "Gain multiplier (red)",
    NdpiTag.GreenMultiplier: "Gain multiplier (green)",
    NdpiTag.BlueMultiplier: "Gain multiplier (blue)",
    NdpiTag.SerialNumber: "Scanner serial number",
    NdpiTag.JpegQuality: "JPEG quality",
    NdpiTag.RefocusInterval: "Refocus interval (minutes)",
    NdpiTag.FocusOffset: "Focus offset (nm)",
    NdpiTag.FirmwareVersion: "Scanner firmware version",
    NdpiTag.LabelObscured: "Label obscured",
    NdpiTag.Wavelength: "Emission wavelength",
    NdpiTag.LampAge: "Lamp age (hours)",
    NdpiTag.ExposureTime: "Exposure time (microseconds)",
    NdpiTag.FocusTime: "Focus time (seconds)",
    NdpiTag.ScanTime: "Scan time (seconds)",
    NdpiTag.WriteTime: "File write time (seconds)",
    NdpiTag.FullyAutoFocus: "Fully automatic focus",
    NdpiTag.DefaultGamma: "Default gamma correction",
}
_TIFF_NAMES: Final = {"Make": "Instrument Make", "Model": "Instrument Model"}
# Lower halves of numbers of 64 bits.
_POSITIONS: Final = frozenset({"StripOffsets", "StripByteCounts", "TileOffsets", "TileByteCounts"})


class NdpiSettings(NamedTuple):
    """Settings of the scanner.

    Attributes
    ----------
    magnification
        Nominal magnification of the objective, or None.
    model, serial_number
        Of the scanner, or None.
    channel
        Name of the channel, or None.
    properties
        The lines "name=value" of the property map.
    """

    magnification: float | None
    model: str | None
    serial_number: str | None
    channel: str | None
    properties: dict[str, str]


def read_settings(directory: NdpiDirectory) -> NdpiSettings:
    """Return the settings in the first directory, as NDPIReader finds them."""
    properties = {}
    for line in (directory.label(NdpiTag.PropertyMap) or "").split("\n"):
        name, equals, value = line.partition("=")
        if equals:
            properties[name.strip()] = value.strip()
    magnification = directory.quantity(NdpiTag.SourceLens)
    if magnification is None:
        magnification = number(properties.get("Objective.Lens.Magnificant"))
    return NdpiSettings(
        magnification if magnification is not None and math.isfinite(magnification) else None,
        properties.get("Product"),
        properties.get("NDP.S/N"),
        directory.label(NdpiTag.FilterSetName),
        properties,
    )


def pixel_size_of(directory: NdpiDirectory) -> PixelSize:
    """Return the size of a pixel from the resolution tags, as IFD.getXResolution computes it."""
    microns = _MICRONS.get(directory.number(Tag.ResolutionUnit, 1), 1)
    across, down = (_length(directory, tag, microns) for tag in (Tag.XResolution, Tag.YResolution))
    return PixelSize(across, down)


def _length(directory: NdpiDirectory, tag: int, microns: int) -> Quantity | None:
    value = directory.quantity(tag)
    if value is None or not value > 0:
        return None
    return physical_size(1 / value * microns)


def acquired_of(directory: NdpiDirectory) -> datetime | None:
    """Return the DateTime tag as a time in UTC, as OME states times; None without a valid one."""
    text = (directory.label(Tag.DateTime) or "").strip()
    for form in _DATES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def original_entries(directory: NdpiDirectory, settings: NdpiSettings) -> dict[str, Any]:
    """Return tags and properties of the first directory, with the names that NDPIReader has.

    Tags of TIFF have the names of their specification.
    """
    named = directory.named_values()
    found = {
        _TIFF_NAMES.get(name, name): value for name, value in named.items()
        if not name.isdecimal() and name not in _POSITIONS
    }  # fmt: skip
    found.update(settings.properties)
    for tag, name in _NAMES.items():
        if str(int(tag)) in named:
            found[name] = named[str(int(tag))]
    found["Capture mode"] = _MODES.get(directory.number(NdpiTag.CaptureMode, -1), "unknown")
    return found
