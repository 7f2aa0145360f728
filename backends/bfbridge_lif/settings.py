"""Acquisition settings of the images of a LIF file: channels, lasers, filters, times, positions.

The mapping of attributes to fields follows Bio-Formats' LIFReader. Where that fails because of a
missing attribute or an invalid number, the field is omitted here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bfbridge.backend import Quantity
from bfbridge.ome.documents.xml_tree import Element, descendants, first, text_of
from bfbridge_lif.images import LifLayout

__all__ = ["COLORS", "LifRegion", "LifSettings", "loose_number", "prune_masters", "read_settings"]

_MICRONS: Final = 1_000_000
_NUMBER: Final = re.compile(r"\s*(-?(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)")

COLORS: Final = {
    "red": (255, 0, 0, 255), "green": (0, 255, 0, 255), "blue": (0, 0, 255, 255),
    "cyan": (0, 255, 255, 255), "magenta": (255, 0, 255, 255), "yellow": (255, 255, 0, 255),
}  # fmt: skip
"""Colours of the lookup tables that LIFReader knows by name; all others are white."""


@dataclass(slots=True)
class LifRegion:
    """A region of interest as stored; the unit of positions is a millionth of a pixel."""

    kind: int = 0
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    shift: tuple[float, float] = (0.0, 0.0)
    scale: tuple[float, float] = (0.0, 0.0)
    width: int = 0
    text: str | None = None
    name: str | None = None
    font_size: str | None = None


@dataclass(slots=True)
class LifSettings:
    """The settings of one image; lists are along channels unless stated otherwise.

    Attributes
    ----------
    stamps
        Seconds since 1601 of each plane, or None if there are none.
    lasers, intensities
        Wavelengths in nm, and the percentage of power not used, of each laser of each setting.
    laser_active, bleaching
        For each setting.
    cut_in, cut_out
        Limits of the detection bands, in nm.
    active_detectors
        For all detectors.
    rois_twice
        Whether regions of interest are described in two places.
    """

    description: str | None = None
    microscope: str | None = None
    serial_number: str | None = None
    objective: str | None = None
    lens_na: float | None = None
    magnification: float | None = None
    immersion: str | None = None
    correction: str | None = None
    refractive_index: float | None = None
    pinhole: float | None = None
    zoom: float | None = None
    z_step: float | None = None
    t_step: float | None = None
    flip_x: bool = False
    flip_y: bool = False
    swap_xy: bool = False
    x: Quantity | None = None
    y: Quantity | None = None
    z: Quantity | None = None
    channel_names: list[str | None] | None = None
    exposures: list[float | None] | None = None
    gains: list[float | None] | None = None
    offsets: list[float | None] | None = None
    excitations: list[float | None] | None = None
    detectors: list[str | None] | None = None
    detector_names: dict[int, str] | None = None
    active_detectors: list[bool] | None = None
    cut_in: list[float] | None = None
    cut_out: list[float] | None = None
    filters: list[str] | None = None
    stamps: list[float | None] | None = None
    acquired: float = 0.0
    lasers: list[float] | None = None
    intensities: list[float] = field(default_factory=list)
    laser_active: list[bool] = field(default_factory=list)
    bleaching: list[bool] = field(default_factory=list)
    drawings: list[LifRegion | None] = field(default_factory=list)
    rois_twice: bool = False
    reverse: dict[str, bool] = field(default_factory=dict)


def loose_number(text: str | None) -> float | None:
    """Return the number at the start of a text, as DataTools.parseDouble; None if there is none."""
    found = _NUMBER.match((text or "").replace(",", ".").upper())
    value = math.inf if found is None else float(found[1])
    return value if math.isfinite(value) else None


def prune_masters(root: Element) -> None:
    """Remove the summaries of sequential scans from a document, as LIFReader does.

    It iterates over a list while removing from it, so every second summary remains.
    """
    parents = {child: parent for parent in root.iter() for child in parent}
    for master in list(descendants(root, "LDM_Block_Sequential_Master"))[::2]:
        parents[master].remove(master)


def _all(root: Element, name: str) -> list[Element]:
    return list(descendants(root, name))


def _attachments(image: Element, name: str) -> list[Element]:
    return [found for found in descendants(image, "Attachment") if found.get("Name") == name]


def read_settings(
    image: Element,
    layout: LifLayout,
    field_places: list[tuple[Quantity | None, Quantity | None]],
    index: int,
) -> LifSettings:
    """Read the settings of an image.

    Parameters
    ----------
    image, layout
        The element, after `prune_masters`, and the layout of its pixels.
    field_places
        Positions of the previous fields, one for each series; those of this image are appended.
    index
        Number of the image.
    """  # fmt: skip
    settings = LifSettings()
    if layout.pixel_size[2] is not None:
        settings.z_step = abs(layout.pixel_size[2])
    _read_places(image, settings, field_places, index)
    _read_scanner(image, settings, layout.sizes[3])
    _read_filters(image, settings)
    _read_stamps(image, settings, layout.sizes[2] * layout.sizes[3] * layout.sizes[4])
    _read_lasers(image, settings)
    _read_drawings(image, settings, layout)
    _read_detectors(image, settings, layout.sizes[3])
    comments = _all(image, "User-Comment")
    if comments and settings.description is None:
        settings.description = text_of(comments[0])
    return settings


def _read_places(
    image: Element,
    settings: LifSettings,
    places: list[tuple[Quantity | None, Quantity | None]],
    index: int,
) -> None:
    """Append the stage positions of the fields of an image."""
    if not _all(image, "Attachment"):
        return
    for attachment in _attachments(image, "ContextDescription"):
        settings.description = attachment.get("Content", "")
    scans = _attachments(image, "TileScanInfo")
    for scan in scans:
        for tile in descendants(scan, "Tile"):
            places += [(None, None)] * (index - len(places))
            places.append((_metres(tile.get("PosX")), _metres(tile.get("PosY"))))
    if scans:
        return
    hardware = _attachments(image, "HardwareSetting")
    confocal = _all(hardware[0], "ATLConfocalSettingDefinition") if hardware else []
    if not confocal:
        places.append((None, None))
    for setting in confocal:
        x, y = _metres(setting.get("StagePosX")), _metres(setting.get("StagePosY"))
        if x is not None or y is not None:
            places.append((x, y))


def _metres(text: str | None) -> Quantity | None:
    value = loose_number(text)
    return None if value is None else Quantity(value, "m")


def _read_scanner(image: Element, settings: LifSettings, channels: int) -> None:
    records = _all(image, "ScannerSettingRecord")
    confocal: list[Element] = []
    for attachment in _attachments(image, "HardwareSetting"):
        confocal = _all(attachment, "ATLConfocalSettingDefinition")
    if not _all(image, "Attachment") or not (records or confocal):
        return
    settings.exposures = [None] * channels
    settings.gains = [None] * channels
    settings.offsets = [None] * channels
    settings.excitations = [None] * channels
    settings.channel_names = [None] * channels
    settings.detectors = []
    for record in records:
        value = record.get("Variant", "")
        if value.strip():
            _read_scanner_record(record.get("Identifier", ""), value, settings, channels)
    for setting in confocal:
        _read_confocal(setting, settings)


def _read_scanner_record(name: str, value: str, settings: LifSettings, channels: int) -> None:
    number = loose_number(value)
    if name == "SystemType":
        settings.microscope = value
    elif name == "CameraName":
        _list(settings.detectors).append(value)
    elif name in ("eDirectional", "eDirectionalY"):
        axis = "Y" if name.endswith("Y") else "X"
        settings.reverse[f"Reverse {axis} orientation"] = value.strip() == "1"
    elif name.find("WFC") == 1:
        digits = re.sub(r"\D", "", name)
        channel = int(digits) if digits and len(digits) < 10 else 0
        if channel < channels:
            _read_camera_record(name, value, settings, channel)
    elif number is not None:
        if name == "dblPinhole":
            settings.pinhole = number * _MICRONS
        elif name == "dblZoom":
            settings.zoom = number
        elif name == "dblStepSize":
            settings.z_step = number * _MICRONS
        elif name == "nDelayTime_s":
            settings.t_step = number


def _list(values: list[str | None] | None) -> list[str | None]:
    return [] if values is None else values


def _read_camera_record(name: str, value: str, settings: LifSettings, channel: int) -> None:
    number = loose_number(value)
    if name.endswith("ExposureTime") and settings.exposures is not None:
        settings.exposures[channel] = number
    elif name.endswith("Gain") and settings.gains is not None:
        settings.gains[channel] = number
    elif name.endswith("WaveLength") and settings.excitations is not None:
        if number is not None and number > 0:
            settings.excitations[channel] = number
    # The first spelling is Leica's.
    elif name.endswith(("UesrDefName", "UserDefName")) and value != "None":
        names = _list(settings.channel_names)
        if not (names[channel] or "").strip():
            names[channel] = value


def _read_confocal(setting: Element, settings: LifSettings) -> None:
    pinhole, zoom = loose_number(setting.get("Pinhole")), loose_number(setting.get("Zoom"))
    if pinhole is not None:
        settings.pinhole = pinhole * _MICRONS
    if zoom is not None:
        settings.zoom = zoom
    objective = setting.get("ObjectiveName", "").strip()
    if objective:
        settings.objective = objective
    for name, attribute, key in (
        ("FlipX", "flip_x", "Reverse X orientation"),
        ("FlipY", "flip_y", "Reverse Y orientation"),
        ("SwapXY", "swap_xy", "Swap XY orientation"),
    ):
        value = setting.get(name, "").strip()
        if value:
            setattr(settings, attribute, value == "1")
            settings.reverse[key] = value == "1"


def _read_filters(image: Element, settings: LifSettings) -> None:
    records = _all(image, "FilterSettingRecord")
    if not records:
        return
    settings.active_detectors = []
    settings.cut_in, settings.cut_out, settings.filters = [], [], []
    settings.detector_names = {}
    stains = 0
    for record in records:
        attribute, kind = record.get("Attribute", ""), record.get("ClassName", "")
        variant, name = record.get("Variant", ""), record.get("ObjectName", "")
        value = loose_number(variant)
        if attribute in _SIMPLE:
            if value is not None:
                setattr(settings, _SIMPLE[attribute], value)
        elif attribute == "OrderNumber":
            settings.serial_number = variant.strip() or settings.serial_number
        elif kind == "CDetectionUnit":
            if attribute == "State":
                _read_detector_state(record, name, variant, settings)
        elif attribute == "Objective":
            _read_objective(variant, settings)
        elif attribute in ("XPos", "YPos", "ZPos"):
            if value is not None:
                setattr(settings, attribute[0].lower(), Quantity(value, "reference frame"))
        elif kind == "CSpectrophotometerUnit":
            stains += _read_spectrometer(record, name, settings, stains)


_SIMPLE: Final = {"NumericalAperture": "lens_na", "RefractionIndex": "refractive_index"}


def _read_detector_state(record: Element, name: str, variant: str, settings: LifSettings) -> None:
    data = record.get("data") or record.get("Data") or "0"
    try:
        channel = int(data)
    except ValueError:
        return
    # LIFReader counts channels from 1 here.
    if channel < 1 or settings.detector_names is None or settings.active_detectors is None:
        return
    settings.detector_names[channel] = name
    settings.active_detectors.append(variant.strip() == "Active")


def _read_objective(text: str, settings: LifSettings) -> None:
    """Read "HCX PL APO 63x1.4 OIL CS": model, magnification x aperture, immersion, correction."""
    tokens = text.split(" ")
    tokens = [token for token in tokens if token]
    place = next((n for n, token in enumerate(tokens) if "x" in token), None)
    if place is None:
        return
    magnification, _, aperture = tokens[place].partition("x")
    settings.lens_na = loose_number(aperture) if aperture.strip() else settings.lens_na
    if magnification.strip():
        settings.magnification = loose_number(magnification)
    after = tokens[place + 1 :]
    settings.immersion = after[0] if after else "Other"
    settings.correction = after[1] if len(after) > 1 else "Other"
    settings.objective = " ".join(tokens[:place])


def _read_spectrometer(record: Element, name: str, settings: LifSettings, stains: int) -> int:
    """Set a limit of a band or the stain of a channel; return the number of stains."""
    variant = record.get("Variant", "")
    description = record.get("Description", "")
    value = loose_number(variant)
    if description.endswith("(left)"):
        if settings.filters is not None:
            settings.filters.append(name)
        if value is not None and value > 0 and settings.cut_in is not None:
            settings.cut_in.append(value)
    elif description.endswith("(right)"):
        if value is not None and value > 0 and settings.cut_out is not None:
            settings.cut_out.append(value)
    elif record.get("Attribute") == "Stain":
        names = _list(settings.channel_names)
        if stains < len(names):
            names[stains] = variant
            return 1
    return 0


def _read_stamps(image: Element, settings: LifSettings, planes: int) -> None:
    stamp_list = first(image, "TimeStampList")
    if stamp_list is None:
        return
    stamps: list[float | None]
    if stamp_list.get("NumberOfTimeStamps"):
        texts = text_of(stamp_list).rstrip(" ").split(" ")
        stamps = [_hexadecimal(text) for text in texts[:planes]]
    else:
        stamps = [_ticks(node) for node in _all(image, "TimeStamp")[:planes]]
        if not stamps:
            settings.stamps = [None] * planes
            return
    settings.stamps = stamps + [None] * (planes - len(stamps))
    settings.acquired = stamps[0] or 0.0


def _hexadecimal(text: str) -> float | None:
    text = text.strip()
    try:
        return _seconds(int(text[:-8] or "0", 16), int(text[-8:] or "0", 16))
    except ValueError:
        return None


def _ticks(node: Element) -> float | None:
    try:
        high, low = (int(node.get(name) or "0") for name in ("HighInteger", "LowInteger"))
    except ValueError:
        return None
    return _seconds(high, low)


def _seconds(high: int, low: int) -> float:
    """Return a number of 100 ns units as seconds, truncated to milliseconds."""
    return ((high & 0xFFFFFFFF) << 32 | low & 0xFFFFFFFF) // 10_000 / 1000


def _read_lasers(image: Element, settings: LifSettings) -> None:
    """Set wavelengths and intensities of all lasers in all settings."""
    parents = {child: parent for parent in image.iter() for child in parent}
    base = 0
    for beams in descendants(image, "AotfList"):
        lines = _all(beams, "LaserLineSetting")
        if settings.lasers is None:
            settings.lasers = []
        if not lines:
            return
        above = parents[parents[beams]].tag if parents[beams] in parents else ""
        summary = above.endswith(("Sequential_Master", "Attachment"))
        settings.bleaching.append(above.endswith("FRAP_Master"))
        for line in lines:
            if not summary:
                _read_laser_line(line, settings, base)
        base += len(settings.lasers)


def _read_laser_line(line: Element, settings: LifSettings, base: int) -> None:
    lasers = settings.lasers
    index = int(loose_number(line.get("LineIndex")) or 0)
    qualifier = int(loose_number(line.get("Qualifier")) or 0)
    index += 2 - int(qualifier / 10)
    if lasers is None or not 0 <= index < _MOST_LASERS:
        return
    lasers += [0.0] * (index + 1 - len(lasers))
    lasers[index] = loose_number(line.get("LaserLine")) or 0.0
    intensity = 100.0 - (loose_number(line.get("IntensityDev")) or 0.0)
    if base + index < len(settings.intensities):
        settings.intensities[base + index] = intensity
    else:
        settings.intensities.append(intensity)


_MOST_LASERS: Final = 1024


def _read_drawings(image: Element, settings: LifSettings, layout: LifLayout) -> None:
    annotations = _all(image, "Annotation")
    if annotations:
        settings.drawings = [_annotation(node) for node in annotations]
        settings.rois_twice = any(settings.drawings) and bool(_all(image, "ROI"))
        return
    holder = first(first(image, "ROI"), "Children")
    for element in () if holder is None else descendants(holder, "Element"):
        settings.drawings.append(_single_roi(element, layout))


def _annotation(node: Element) -> LifRegion | None:
    vertices = _all(node, "Vertex")
    if not vertices:
        return None
    return LifRegion(
        kind=int(loose_number(node.get("type")) or 0),
        x=_numbers(vertices, "x"),
        y=_numbers(vertices, "y"),
        shift=_pair(node, "transTransX", "transTransY"),
        scale=_pair(node, "transScalingX", "transScalingY"),
        width=int(loose_number(node.get("linewidth")) or 0),
        text=node.get("text", ""),
        name=node.get("name", ""),
        font_size=node.get("fontSize", ""),
    )


def _numbers(nodes: Sequence[Element], name: str) -> list[float]:
    return [value for node in nodes if (value := loose_number(node.get(name))) is not None]


def _pair(node: Element | None, x: str, y: str) -> tuple[float, float]:
    if node is None:
        return 0.0, 0.0
    return loose_number(node.get(x)) or 0.0, loose_number(node.get(y)) or 0.0


def _single_roi(element: Element, layout: LifLayout) -> LifRegion | None:
    roi = first(element, "ROISingle")
    transformation = None if roi is None else first(roi, "Transformation")
    if roi is None or transformation is None:
        return None
    size_x, size_y = layout.pixel_size[0] or 1.0, layout.pixel_size[1] or 1.0
    vertices = _all(roi, "P")
    shift = _pair(first(transformation, "Translation"), "X", "Y")
    return LifRegion(
        kind=int(loose_number(roi.get("RoiType")) or 0),
        x=[x / size_x for x in _numbers(vertices, "X")],
        y=[y / size_y for y in _numbers(vertices, "Y")],
        shift=(shift[0] / size_x, shift[1] / size_y),
        scale=_pair(first(transformation, "Scaling"), "XScale", "YScale"),
        name=element.get("Name", ""),
    )


def _read_detectors(image: Element, settings: LifSettings, channels: int) -> None:
    """Set bands, gains and dyes of the active detectors."""
    parents = {child: parent for parent in image.iter() for child in parent}
    definitions = _all(image, "ATLConfocalSettingDefinition")
    if not definitions:
        return
    dyes: list[str] = []
    following = 0
    for definition in definitions:
        summary = parents[definition].tag.endswith("Master")
        detectors = _all(definition, "Detector")
        if not detectors:
            return
        bands = [] if summary else _all(definition, "MultiBand")
        active = [node for node in detectors if node.get("IsActive") == "1"]
        for detector in active:
            following = _read_detector(detector, bands, dyes, settings, channels, following,
                                       summary=summary)  # fmt: skip
        if not summary:
            settings.laser_active.append(len(active) > 0)
    names = settings.channel_names
    if names is not None:
        for channel in range(channels):
            dye = channel + len(dyes) - channels
            if 0 <= dye < len(dyes) and not (names[channel] or "").strip():
                names[channel] = dyes[dye]


def _read_detector(
    detector: Element,
    bands: Sequence[Element],
    dyes: list[str],
    settings: LifSettings,
    channels: int,
    following: int,
    *,
    summary: bool,
) -> int:
    """Read an active detector; return the number of the next channel."""
    number = int(loose_number(detector.get("Channel")) or 0)
    if settings.detector_names is not None and settings.detectors is not None:
        settings.detectors.append(settings.detector_names.get(number))
    band = next((node for node in bands if loose_number(node.get("Channel")) == number), None)
    if band is None:
        dyes.append("")
    else:
        dye = band.get("DyeName", "")
        if dye not in dyes:
            dyes.append(dye)
        _read_band(band, settings)
    if not summary:
        following = 0 if number < following else following
        if following < channels:
            if settings.gains is not None:
                settings.gains[following] = loose_number(detector.get("Gain"))
            if settings.offsets is not None:
                settings.offsets[following] = loose_number(detector.get("Offset"))
        following += 1
    if settings.active_detectors is not None:
        settings.active_detectors.append(True)
    return following


def _read_band(band: Element, settings: LifSettings) -> None:
    for name, attribute in (("LeftWorld", "cut_in"), ("RightWorld", "cut_out")):
        value = loose_number(band.get(name))
        if value is not None and value >= 1:
            limits = getattr(settings, attribute)
            if limits is None:
                limits = []
                setattr(settings, attribute, limits)
            limits.append(float(int(value + 0.5)))
