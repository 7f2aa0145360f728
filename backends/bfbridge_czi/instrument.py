"""The OME Instrument, Experimenter and ROIs of a CZI file.

The mapping of elements to fields follows Bio-Formats' ZeissCZIReader.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any, Final

from bfbridge.backend import Quantity
from bfbridge.ome.documents.build import add, add_length, enumeration, number
from bfbridge.ome.documents.xml_tree import Element, descendants, first, first_text, text_of
from bfbridge_czi.metadata import grandchildren

__all__ = ["Instrument", "experimenter", "read_instrument", "rois"]

_LIGHTS: Final = {
    "Laser": "Laser",
    "Arc": "Arc",
    "LightEmittingDiode": "LightEmittingDiode",
    "Filament": "Filament",
}


class Instrument:
    """The Instrument element, and the parts that images refer to.

    Attributes
    ----------
    element
        The element of the OME document.
    objective
        Identifier of the objective in use, or None.
    settings
        Attributes of the detector settings of every channel.
    """

    def __init__(self) -> None:
        self.element = ET.Element("Instrument", {"ID": "Instrument:0"})
        self.objective: str | None = None
        self.settings: dict[str, str] = {}


def _maker(element: Element) -> dict[str, str | None]:
    """Return the attributes that state the manufacturer of a part."""
    made = first(element, "Manufacturer")
    names = ("Manufacturer", "Model", "SerialNumber", "LotNumber")
    return {name: first_text(made, name) for name in names}


def read_instrument(root: Element | None) -> Instrument:
    """Return the instrument of a document; empty if the document describes none."""
    instrument = Instrument()
    if root is None:
        return instrument
    information = first(root, "Information")
    described = first(information, "Instrument")
    hardware = first(root, "HardwareSetting")
    _add_microscope(instrument.element, described, hardware)
    _add_lights(instrument.element, described)
    _add_detectors(instrument, first(root, "Experiment"), described)
    _add_objectives(instrument, described, hardware)
    _add_filters(instrument.element, described)
    return instrument


def _parts(described: Element | None, name: str) -> list[Element]:
    return grandchildren(described, f"{name}s", name) or []


def _add_microscope(parent: Element, described: Element | None, hardware: Element | None) -> None:
    attributes: dict[str, str | None] = {}
    microscope = next(iter(_parts(described, "Microscope")), None)
    if microscope is not None:
        attributes = _maker(microscope)
        kind = first_text(microscope, "Type")
        attributes["Type"] = None if kind is None else enumeration("MicroscopeType", kind)
    named = first(hardware, "Microscope")
    if named is not None:
        attributes["Model"] = named.get("Name", "")
    if microscope is not None or named is not None:
        add(parent, "Microscope", **attributes)


def _add_lights(parent: Element, described: Element | None) -> None:
    for light in _parts(described, "LightSource"):
        kind = first_text(light, "LightSourceType")
        if kind in _LIGHTS:
            power = number(first_text(light, "Power"))
            element = add(parent, _LIGHTS[kind], **_maker(light))
            if power is not None:
                add_length(element, "Power", Quantity(power, "mW"))


def _identifier(text: str) -> str:
    """Return a detector's identifier in the form of OME."""
    text = re.sub(r"\s", "", text)
    return text if text.startswith("Detector:") else f"Detector:{text}"


def _add_detectors(
    instrument: Instrument, experiment: Element | None, described: Element | None
) -> None:
    block = first(first(experiment, "ExperimentBlocks"), "AcquisitionBlock")
    found: list[dict[str, Any]] = []
    camera = first_text(first(block, "AcquisitionModeSetup"), "SelectedCamera")
    for index, detector in enumerate(_parts(block, "Detector")):
        model = detector.get("Id", "")
        found.append({"ID": f"Detector:0:{index}", "Model": model})
        binning = first_text(detector, "Binning")
        if binning is not None and model == camera:
            instrument.settings["ID"] = f"Detector:0:{index}"
            instrument.settings["Binning"] = _binning(binning)
    gains = [
        first_text(detector, "Voltage")
        for group in _all(first(block, "MultiTrackSetup"), "Detectors")
        for detector in descendants(group, "Detector")
    ]
    known: list[str] = []
    for detector in _parts(described, "Detector"):
        identifier = _identifier(detector.get("Id", ""))
        if identifier in known:
            continue
        known.append(identifier)
        position = len(known) - 1
        if position >= len(found):
            found.append({})
        found[position] |= {"ID": identifier, **_maker(detector)}
        found[position] |= _detector_values(detector, position, gains)
    for attributes in found:
        add(instrument.element, "Detector", **attributes)


def _all(root: Element | None, name: str) -> Iterator[Element]:
    return iter(()) if root is None else descendants(root, name)


def _detector_values(
    detector: Element, position: int, gains: list[str | None]
) -> dict[str, float | str]:
    values: dict[str, float | str] = {}
    gain = first_text(detector, "Gain")
    if gain:
        found = gain if position == 0 or position >= len(gains) else gains[position]
        values["Gain"] = number(found) or 0.0
    zoom = (first_text(detector, "Zoom") or "").partition(",")[0]
    for name, text in (
        ("Offset", first_text(detector, "Offset")),
        ("Zoom", zoom),
        ("AmplificationGain", first_text(detector, "AmplificationGain")),
    ):
        value = number(text)
        if value is not None:
            values[name] = value
    kind = first_text(detector, "Type")
    if kind:
        values["Type"] = enumeration("DetectorType", kind)
    return values


def _binning(text: str) -> str:
    return enumeration("Binning", text.replace(",", "x"))


def _add_objectives(
    instrument: Instrument, described: Element | None, hardware: Element | None
) -> None:
    found: list[dict[str, Any]] = []
    for objective in _parts(described, "Objective"):
        found.append(_objective(objective))
        if instrument.objective is None:
            instrument.objective = found[-1]["ID"]
    changer = first(hardware, "ObjectiveChanger")
    if changer is not None:
        objectives = list(descendants(changer, "Objective"))
        chosen = number(first_text(changer, "Position"))
        for index, objective in enumerate(objectives):
            identifier = f"Objective:0:{index}"
            only = len(objectives) == 1 and instrument.objective is not None
            if index + 1 == chosen or only:
                instrument.objective = identifier
            if index >= len(found):
                found.append({})
            found[index] |= {"ID": identifier, **_changer_objective(objective)}
    for attributes in found:
        distance = attributes.pop("WorkingDistance", None)
        element = add(instrument.element, "Objective", **attributes)
        add_length(element, "WorkingDistance", distance)


def _objective(objective: Element) -> dict[str, Any]:
    attributes: dict[str, Any] = {"ID": objective.get("Id", ""), **_maker(objective)}
    correction = first_text(objective, "Correction")
    if correction is not None:
        attributes["Correction"] = enumeration("Correction", correction)
    attributes["Immersion"] = enumeration("Immersion", first_text(objective, "Immersion"))
    magnification = first_text(objective, "NominalMagnification")
    if magnification is None:
        magnification = first_text(objective, "Magnification")
    iris = first_text(objective, "Iris")
    return attributes | {
        "LensNA": number(first_text(objective, "LensNA")),
        "NominalMagnification": number(magnification),
        "CalibratedMagnification": number(first_text(objective, "CalibratedMagnification")),
        "WorkingDistance": _microns(first_text(objective, "WorkingDistance")),
        "Iris": None if iris is None else iris.lower() == "true",
    }


def _changer_objective(objective: Element) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "Model": objective.get("Model", ""),
        "SerialNumber": objective.get("UniqueName", ""),
        "Immersion": enumeration("Immersion", first_text(objective, "Immersions")),
        "Correction": "Other",
    }
    described = {
        "NominalMagnification": number(first_text(objective, "Magnification")),
        "LensNA": number(first_text(objective, "NumericalAperture")),
        "WorkingDistance": _microns(first_text(objective, "WorkingDistance")),
    }
    return attributes | {name: value for name, value in described.items() if value is not None}


def _microns(text: str | None) -> Quantity | None:
    value = number(text)
    return None if value is None else Quantity(value, "µm")


def _add_filters(parent: Element, described: Element | None) -> None:
    for filter_set in _parts(described, "FilterSet"):
        _add_filter_set(parent, filter_set)
    for filter_ in _parts(described, "Filter"):
        kind = first_text(filter_, "Type")
        element = add(
            parent, "Filter", ID=filter_.get("Id", ""), **_maker(filter_),
            Type=None if kind is None else enumeration("FilterType", kind),
            FilterWheel=first_text(filter_, "FilterWheel"),
        )  # fmt: skip
        _add_transmittance(element, first(filter_, "TransmittanceRange"))
    for dichroic in _parts(described, "Dichroic"):
        add(parent, "Dichroic", ID=dichroic.get("Id", ""), **_maker(dichroic))


def _add_filter_set(parent: Element, filter_set: Element) -> None:
    dichroic = first_text(filter_set, "DichroicRef")
    if not dichroic:
        reference = first(filter_set, "DichroicRef")
        dichroic = None if reference is None else reference.get("Id", "")
    element = add(parent, "FilterSet", ID=filter_set.get("Id", ""), **_maker(filter_set))
    for kind in ("Excitation", "Emission"):
        references = grandchildren(filter_set, f"{kind}Filters", f"{kind}FilterRef")
        if references is None:
            references = list(descendants(filter_set, f"{kind}FilterRef"))
        if kind == "Emission" and dichroic:
            add(element, "DichroicRef", ID=dichroic)
        for reference in references:
            identifier = text_of(reference) or reference.get("Id", "")
            if identifier:
                add(element, f"{kind}FilterRef", ID=identifier)


def _add_transmittance(parent: Element, described: Element | None) -> None:
    values = {
        "CutIn": _above_zero(first_text(described, "CutIn")),
        "CutOut": _above_zero(first_text(described, "CutOut")),
        "CutInTolerance": number(first_text(described, "CutInTolerance")),
        "CutOutTolerance": number(first_text(described, "CutOutTolerance")),
    }
    transmittance = number(first_text(described, "Transmittance"))
    if transmittance is None and not any(value is not None for value in values.values()):
        return
    element = add(parent, "TransmittanceRange", Transmittance=transmittance)
    for name, value in values.items():
        add_length(element, name, None if value is None else Quantity(value, "nm"))


def _above_zero(text: str | None) -> float | None:
    value = number(text)
    return value if value is not None and value > 0 else None


def experimenter(root: Element | None) -> Element:
    """Return the user of a document as an OME Experimenter."""
    information = None if root is None else first(root, "Information")
    user = first(information, "User")
    name = first_text(user, "UserName")
    if name is None:
        name = first_text(first(information, "Document"), "UserName")
    element = ET.Element("Experimenter", {"ID": "Experimenter:0"})
    for attribute in ("Email", "FirstName", "Institution", "LastName", "MiddleName"):
        value = first_text(user, attribute)
        if value is not None:
            element.set(attribute, value)
    if name is not None:
        element.set("UserName", name)
    return element


# ---- regions of interest


def rois(root: Element | None) -> list[Element]:
    """Return the drawings of a document as OME ROIs, one for each layer that has drawings."""
    found: list[Element] = []
    layers = None if root is None else first(root, "Layers")
    for layer in _all(layers, "Layer"):
        index = len(found)
        roi = ET.Element("ROI", {"ID": f"ROI:{index}", "Name": layer.get("Name", "")})
        union = ET.Element("Union")
        elements = first(layer, "Elements")
        if elements is None:
            continue
        for shape, (tag, attributes) in enumerate(_shapes(elements)):
            add(union, tag, ID=f"Shape:{index}:{shape}", **attributes)
        if not len(union):
            continue
        roi.append(union)
        usage = first_text(layer, "Usage")
        if usage is not None:
            add(roi, "Description").text = usage
        found.append(roi)
    return found


def _shapes(elements: Element) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the shapes of a layer in ZeissCZIReader's order, by type."""
    for kind, tag, make in _KINDS:
        for shape in descendants(elements, kind):
            if make is _cross:
                yield from ((tag, attributes) for attributes in _cross(shape))
            elif (attributes := make(shape)) is not None:
                yield tag, {**attributes, **_label(shape)}
    for event in descendants(elements, "Events"):
        for point in (first_text(first(event, "Geometry"), "Points") or "").split(" "):
            place = point.split(",")
            if len(place) == 2:
                yield "Point", {"X": number(place[0]), "Y": number(place[1])}


def _values(shape: Element, *names: str) -> dict[str, float | None]:
    geometry = first(shape, "Geometry")
    return {name: number(first_text(geometry, name)) for name in names}


def _label(shape: Element) -> dict[str, str | None]:
    return {"Text": first_text(first(shape, "TextElements"), "Text")}


def _line(shape: Element) -> dict[str, Any]:
    return _values(shape, "X1", "Y1", "X2", "Y2")


def _ellipse(shape: Element) -> dict[str, Any]:
    x, y = _values(shape, "CenterX", "CenterY").values()
    return {**_values(shape, "RadiusX", "RadiusY"), "X": x, "Y": y}


def _circle(shape: Element) -> dict[str, Any]:
    x, y, radius = _values(shape, "CenterX", "CenterY", "Radius").values()
    return {"RadiusX": radius, "RadiusY": radius, "X": x, "Y": y}


def _points(shape: Element) -> dict[str, Any]:
    return {"Points": first_text(first(shape, "Geometry"), "Points")}


def _rectangle(shape: Element) -> dict[str, Any] | None:
    left, top, width, height = _values(shape, "Left", "Top", "Width", "Height").values()
    if None in (left, top, width, height):
        return None
    return {"X": left, "Y": top, "Width": width, "Height": height}


def _cross(shape: Element) -> Iterator[dict[str, Any]]:
    """Yield the two lines of a cross."""
    length, x, y = _values(shape, "Length", "CenterX", "CenterY").values()
    half = None if length is None else length / 2
    level: dict[str, Any] = {}
    upright: dict[str, Any] = {}
    if half is not None and x is not None:
        level |= {"X1": x - half, "X2": x + half}
        upright |= {"X1": x, "X2": x}
    if half is not None and y is not None:
        level |= {"Y1": y, "Y2": y}
        upright |= {"Y1": y - half, "Y2": y + half}
    yield {**level, **_label(shape)}
    yield {**upright, **_label(shape)}


_KINDS: Final[tuple[tuple[str, str, Callable[[Element], Any]], ...]] = (
    ("Line", "Line", _line),
    ("OpenArrow", "Line", _line),
    ("Cross", "Line", _cross),
    ("Rectangle", "Rectangle", _rectangle),
    ("Ellipse", "Ellipse", _ellipse),
    ("Circle", "Ellipse", _circle),
    ("InOutCircle", "Ellipse", _circle),
    ("OutInCircle", "Ellipse", _circle),
    ("PointsCircle", "Ellipse", _circle),
    ("Polygon", "Polygon", _points),
    ("Polyline", "Polyline", _points),
    ("OpenPolyline", "Polyline", _points),
    ("ClosedPolyline", "Polygon", _points),
    ("Bezier", "Polygon", _points),
    ("RectRoi", "Rectangle", _rectangle),
    ("TextBox", "Rectangle", _rectangle),
    ("Text", "Rectangle", _rectangle),
)
"""ZEN's drawings, the OME shape of each, and the function that makes its attributes."""
