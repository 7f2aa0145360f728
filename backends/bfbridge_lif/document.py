"""The OME document of a LIF file: the fields that Bio-Formats' LIFReader fills."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from bfbridge.backend import Image, Quantity
from bfbridge.ome.documents.build import (
    add,
    add_channel,
    add_length,
    add_pixels,
    add_text,
    enumeration,
    text_of_document,
    wavelength,
)
from bfbridge.ome.documents.xml_tree import Element
from bfbridge_lif.images import LifLayout
from bfbridge_lif.settings import COLORS, LifRegion, LifSettings

__all__ = ["Series", "document_xml", "excitations"]

# Windows counts from 1601-01-01; the time is the microscope's local time, without a zone.
_EPOCH: Final = datetime(1601, 1, 1)  # noqa: DTZ001
_LATEST: Final = 250_000_000_000
_WHITE: Final = (255, 255, 255, 255)
_MICRONS: Final = 1_000_000
_POLYGON, _SHAPES_OF_TWO_CORNERS, _LINES = 32, (512, 16), (8192, 2, 256)


class Series(NamedTuple):
    """One image for users: a tile of an image of the document."""

    layout: LifLayout
    settings: LifSettings
    tile: int
    place: tuple[Quantity | None, Quantity | None]


class LaserLine(NamedTuple):
    """The laser of a channel: number, percentage of power not used, wavelength in nm."""

    laser: int
    attenuation: float
    wavelength: float


def document_xml(series: Sequence[Series], images: Sequence[Image]) -> str:
    """Return the OME-XML of all images."""
    instruments: list[Element] = []
    elements: list[Element] = []
    rois: list[Element] = []
    # LIFReader writes it once for the whole file.
    from_corner = any(one.settings.rois_twice for one in series)
    for index, (one, image) in enumerate(zip(series, images, strict=True)):
        parts = _Parts(index, one, image, from_corner=from_corner)
        instruments.append(parts.instrument())
        element, drawn = parts.image(len(rois))
        elements.append(element)
        rois += drawn
    return text_of_document([*instruments, *elements, *rois])


def excitations(settings: LifSettings, channels: int) -> list[Quantity | None]:
    """Return the excitation wavelength of each channel, in nm."""
    lines = _laser_lines(settings, channels)
    found = []
    for channel in range(channels):
        nanometres = settings.excitations[channel] if settings.excitations else None
        if nanometres is None or nanometres <= 1:
            nanometres = lines[channel].wavelength if channel in lines else None
        found.append(wavelength(nanometres))
    return found


def _lasers(settings: LifSettings) -> list[float]:
    return [emitted for emitted in settings.lasers or () if emitted]


def _laser_lines(settings: LifSettings, channels: int) -> dict[int, LaserLine]:
    """Return the laser of each channel that has one, as in LIFReader.initMetadata."""
    lasers = _lasers(settings)
    if not lasers:
        return {}
    size = len(lasers)
    valid = [n for n, held in enumerate(settings.intensities) if held < 100]
    ignored = {n // size for n in range(len(settings.intensities))} - {n // size for n in valid}
    dropped = set()
    for place, number in enumerate(valid):
        if place < len(settings.laser_active) and not settings.laser_active[place]:
            dropped.add(number)
        # With two lasers at once, it is unknown which of them belongs to a channel.
        if place + 1 < len(valid) and valid[place + 1] // size == number // size:
            dropped |= {number, valid[place + 1]}
            ignored.add(place)
    names = settings.channel_names
    named = any(names or ()) and all(settings.bleaching)
    found: dict[int, LaserLine] = {}
    channel = 0
    for number in valid:
        if number in dropped:
            continue
        while channel in ignored:
            channel += 1
        while named and names is not None and channel < channels and not names[channel]:
            channel += 1
        if channel < channels:
            laser = number % size
            found[channel] = LaserLine(laser, settings.intensities[number] / 100, lasers[laser])
        channel += 1
    return found


class _Parts:
    """The elements of one image."""

    def __init__(self, index: int, series: Series, image: Image, *, from_corner: bool) -> None:
        self._index = index
        self._series = series
        self._settings = series.settings
        self._image = image
        self._from_corner = from_corner
        self._channels = len(image.channels)
        self._lines = _laser_lines(self._settings, self._channels)
        settings = self._settings
        self._cut_in = list(settings.cut_in or ())
        filters = settings.filters
        if filters is not None and len(self._cut_in) >= 2 * len(filters):
            self._cut_in = self._cut_in[: len(filters)]
        self._detector_of, self._filter_of, self._filter_count = self._assign()

    # ---- detectors and filters of channels

    def _assign(self) -> tuple[dict[int, int], dict[int, int], int]:
        """Return the detector and the filter of each channel, and the number of filters."""
        settings, channels = self._settings, self._channels
        active = settings.active_detectors
        detectors = settings.detectors
        filters = len(settings.filters or ())
        first = 0 if active is None else len(active) - channels
        detector, filter_, filter_detector = first, 0, 0
        if active is not None and len(active) > max(len(self._cut_in), 1) and all(active[-2:]):
            filter_detector = len(active) - len(self._cut_in)
            if len(self._cut_in) > filters:
                filter_detector += filters
                filter_ += filters
        detector_of, filter_of = {}, {}
        count = len(self._cut_in) if settings.cut_in and settings.filters is not None else 0
        for channel in range(channels):
            if active is not None:
                while 0 <= detector < len(active) and not active[detector]:
                    detector += 1
                known = detectors is not None and detector - first < len(detectors)
                if known and detector < len(active):
                    detector_of[channel] = detector - first
                    detector += 1
            if self._color(channel) == _WHITE:
                continue
            all_samples = self._series.layout.shape[1]
            if detector - first != all_samples and settings.cut_in is not None:
                while detector >= len(self._cut_in) and filter_detector < first:
                    filter_detector, filter_ = filter_detector + 1, filter_ + 1
            while active and filter_detector < len(active) and not active[filter_detector]:
                filter_detector, filter_ = filter_detector + 1, filter_ + 1
            filter_of[channel] = filter_
            filter_detector, filter_ = filter_detector + 1, filter_ + 1
            count = max(count, filter_)
        return detector_of, filter_of, count

    def _color(self, channel: int) -> tuple[int, int, int, int]:
        luts = self._series.layout.luts
        return COLORS.get(luts[channel].lower(), _WHITE) if channel < len(luts) else _WHITE

    # ---- instrument

    def instrument(self) -> Element:
        """Return the Instrument of the image."""
        settings, index = self._settings, self._index
        element = ET.Element("Instrument", {"ID": f"Instrument:{index}"})
        add(element, "Microscope", Model=settings.microscope, Type="Other")
        for number, emitted in enumerate(_lasers(settings)):
            laser = add(
                element, "Laser", ID=f"LightSource:{index}:{number}", Type="Other",
                LaserMedium="Other",
            )  # fmt: skip
            if emitted > 0:
                add_length(laser, "Wavelength", Quantity(emitted, "nm"))
        self._add_detectors(element)
        add(
            element, "Objective", ID=f"Objective:{index}:0", LensNA=settings.lens_na,
            SerialNumber=settings.serial_number, NominalMagnification=settings.magnification,
            Immersion=enumeration("Immersion", settings.immersion),
            Correction=enumeration("Correction", settings.correction), Model=settings.objective,
        )  # fmt: skip
        filters = settings.filters
        for number in range(self._filter_count):
            known = filters is not None and settings.cut_in is not None
            model = filters[number] if known and filters and number < len(filters) else None
            filter_ = add(element, "Filter", ID=f"Filter:{index}:{number}", Model=model)
            if known and number < len(self._cut_in):
                limits = add(filter_, "TransmittanceRange")
                add_length(limits, "CutIn", Quantity(self._cut_in[number], "nm"))
                if number < len(settings.cut_out or ()):
                    add_length(limits, "CutOut", Quantity((settings.cut_out or ())[number], "nm"))
        return element

    def _add_detectors(self, parent: Element) -> None:
        settings, channels = self._settings, self._channels
        active = settings.active_detectors
        shown = (settings.detectors or [])[-channels:]
        offsets = iter(settings.offsets or ())
        for number, model in enumerate(shown):
            place = -1 if active is None else len(active) - channels + number
            offset = None
            if active is not None and 0 <= place < len(active) and active[place]:
                offset = next(offsets, None)
            add(
                parent, "Detector", ID=f"Detector:{self._index}:{number}", Model=model,
                Zoom=settings.zoom, Type="PMT", Offset=offset,
            )  # fmt: skip

    # ---- image

    def image(self, first_roi: int) -> tuple[Element, list[Element]]:
        """Return the Image and its ROIs, numbered from `first_roi`."""
        settings, index, image = self._settings, self._index, self._image
        element = ET.Element("Image", {"ID": f"Image:{index}", "Name": image.name or ""})
        if 0 < settings.acquired < _LATEST:
            moment = _EPOCH + timedelta(seconds=int(settings.acquired))
            add_text(element, "AcquisitionDate", moment.isoformat(timespec="seconds"))
        add_text(element, "Description", settings.description)
        add(element, "InstrumentRef", ID=f"Instrument:{index}")
        add(
            element, "ObjectiveSettings", ID=f"Objective:{index}:0",
            RefractiveIndex=settings.refractive_index,
        )  # fmt: skip
        order = self._series.layout.order
        pixels = add_pixels(element, index, image, order, 8 * image.dtype.itemsize)
        if settings.t_step is not None:
            add_length(pixels, "TimeIncrement", Quantity(settings.t_step, "s"))
        for channel in range(self._channels):
            self._add_channel(pixels, channel)
        add(pixels, "MetadataOnly")
        self._add_planes(pixels)
        drawn: list[Element] = []
        for drawing in settings.drawings:
            if drawing is not None and drawing.x and drawing.y:
                number = first_roi + len(drawn)
                add(element, "ROIRef", ID=f"ROI:{number}")
                drawn.append(self._roi(drawing, number))
        return element, drawn

    def _add_channel(self, pixels: Element, channel: int) -> None:
        settings, index = self._settings, self._index
        element = add_channel(pixels, index, channel, self._image.channels[channel])
        if settings.pinhole is not None:
            add_length(element, "PinholeSize", Quantity(settings.pinhole, "µm"))
        line = self._lines.get(channel)
        if line is not None:
            add(
                element, "LightSourceSettings", ID=f"LightSource:{index}:{line.laser}",
                Attenuation=line.attenuation,
            )  # fmt: skip
        if channel in self._detector_of:
            add(
                element, "DetectorSettings", ID=f"Detector:{index}:{self._detector_of[channel]}",
                Offset=_at(settings.offsets, channel), Gain=_at(settings.gains, channel),
            )  # fmt: skip
        path = add(element, "LightPath")
        if channel in self._filter_of:
            add(path, "EmissionFilterRef", ID=f"Filter:{index}:{self._filter_of[channel]}")

    def _add_planes(self, pixels: Element) -> None:
        settings, layout = self._settings, self._series.layout
        x, y = self._place()
        first = None if settings.stamps is None else settings.stamps[0]
        for number, (z, c, t) in enumerate(_counted(layout)):
            plane = add(pixels, "Plane", TheZ=z, TheC=c, TheT=t)
            stamp = _at(settings.stamps, number)
            if stamp is not None:
                if first == settings.acquired:
                    stamp -= settings.acquired
                elif stamp == settings.acquired and number:
                    stamp = first
                add_length(plane, "DeltaT", None if stamp is None else Quantity(stamp, "s"))
            exposure = _at(settings.exposures, c)
            if exposure is not None:
                add_length(plane, "ExposureTime", Quantity(exposure, "s"))
            for axis, place in (("X", x), ("Y", y), ("Z", settings.z)):
                add_length(plane, f"Position{axis}", place)

    def _place(self) -> tuple[Quantity | None, Quantity | None]:
        settings = self._settings
        x, y = self._series.place
        x, y = x or settings.x, y or settings.y
        if settings.swap_xy:
            x, y = y, x
        return _flipped(x, settings.flip_x), _flipped(y, settings.flip_y)

    def _roi(self, drawing: LifRegion, number: int) -> Element:
        roi = ET.Element("ROI", {"ID": f"ROI:{number}"})
        union = add(roi, "Union")
        xs = [x * _MICRONS for x in drawing.x]
        ys = [y * _MICRONS for y in drawing.y]
        text = drawing.name if drawing.text is None else drawing.text
        label = add(
            union, "Label", ID=f"Shape:{number}:0", Text=text, X=xs[0], Y=ys[0],
            StrokeWidth=float(drawing.width), StrokeWidthUnit="pixel",
        )  # fmt: skip
        size = (drawing.font_size or "").partition(".")[0]
        if size.isdecimal():
            add_length(label, "FontSize", Quantity(int(size), "pt"))
        middle_x, middle_y = drawing.shift[0] * _MICRONS, drawing.shift[1] * _MICRONS
        if self._from_corner:
            middle_x, middle_y = middle_x - 2 * xs[0], middle_y - 2 * ys[0]
        else:
            width, height = self._series.layout.sizes[:2]
            middle_x, middle_y = middle_x + width // 2 - 1, middle_y + height // 2 - 1
        shape: tuple[str, dict[str, Any]] | None = None
        if drawing.kind == _POLYGON:
            points = " ".join(
                f"{x * drawing.scale[0] + middle_x},{y * drawing.scale[1] + middle_y}"
                for x, y in zip(xs, ys, strict=False)
            )
            shape = "Polygon", {"Points": points}
        elif drawing.kind in _SHAPES_OF_TWO_CORNERS:
            half_x, half_y = abs(xs[0]), abs(ys[0])
            corner = {"X": middle_x - half_x, "Y": middle_y - half_y}
            shape = "Rectangle", {**corner, "Width": 2 * half_x, "Height": 2 * half_y}
        elif drawing.kind in _LINES and len(xs) > 1 and len(ys) > 1:
            ends = {"X1": middle_x + xs[0], "Y1": middle_y + ys[0]}
            shape = "Line", {**ends, "X2": middle_x + xs[1], "Y2": middle_y + ys[1]}
        if shape is not None:
            add(union, shape[0], ID=f"Shape:{number}:1", **shape[1])
        return roi


def _counted(layout: LifLayout) -> list[tuple[int, int, int]]:
    """Return Z, channel and T of every plane, in the order of plane numbers."""
    sizes = dict(zip("ZCT", layout.sizes[2:], strict=True))
    places: list[dict[str, int]] = [{}]
    for axis in reversed(layout.order[2:]):
        places = [{**place, axis: n} for place in places for n in range(sizes[axis])]
    return [(place["Z"], place["C"], place["T"]) for place in places]


def _at(values: Sequence[float | None] | None, index: int) -> float | None:
    return values[index] if values is not None and index < len(values) else None


def _flipped(place: Quantity | None, flip: bool) -> Quantity | None:
    return Quantity(-place.value, place.unit) if flip and place is not None else place
