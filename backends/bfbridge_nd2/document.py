"""The OME document of an ND2 file: the fields that Bio-Formats' ND2Reader fills, and some more."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Final

from bfbridge.backend import Image
from bfbridge.ome.documents.build import (
    add,
    add_channel,
    add_length,
    add_pixels,
    add_text,
    text_of_document,
)
from bfbridge.ome.documents.xml_tree import Element
from bfbridge_nd2.layout import Nd2Frames
from bfbridge_nd2.settings import FrameNotes, Nd2Settings, quantity

__all__ = ["document_xml"]

_INSTRUMENT, _DETECTOR, _OBJECTIVE = "Instrument:0", "Detector:0:0", "Objective:0:0"
# ND2Reader reports no immersion and no correction for these files.
_OTHER: Final = "Other"


def document_xml(
    frames: Nd2Frames, settings: Nd2Settings, notes: FrameNotes, images: Sequence[Image]
) -> str:
    """Return the OME-XML of all images."""
    instrument = ET.Element("Instrument", {"ID": _INSTRUMENT})
    add(instrument, "Detector", ID=_DETECTOR, Model=settings.camera, Type=_OTHER)
    add(
        instrument, "Objective", ID=_OBJECTIVE, Model=settings.objective, Correction=_OTHER,
        Immersion=_OTHER, LensNA=settings.aperture,
        CalibratedMagnification=settings.magnification,
    )  # fmt: skip
    made = [_image(frames, settings, notes, index, image) for index, image in enumerate(images)]
    return text_of_document([instrument, *made])


def _image(
    frames: Nd2Frames, settings: Nd2Settings, notes: FrameNotes, index: int, image: Image
) -> Element:
    element = ET.Element("Image", {"ID": f"Image:{index}", "Name": image.name or ""})
    add_text(element, "AcquisitionDate", settings.acquired)
    add(element, "InstrumentRef", ID=_INSTRUMENT)
    add(element, "ObjectiveSettings", ID=_OBJECTIVE, RefractiveIndex=settings.refractive_index)
    if index < len(settings.positions) and settings.positions[index]:
        add(element, "StageLabel", Name=settings.positions[index])
    order = "XYCZT" if len(image.channels) > 1 else "XYZCT"
    pixels = add_pixels(element, index, image, order, image.significant_bits)
    for position, channel in enumerate(settings.channels):
        node = add_channel(pixels, index, position, image.channels[position])
        add_length(node, "PinholeSize", quantity(channel.pinhole, "µm"))
        add(node, "DetectorSettings", ID=_DETECTOR)
        add(node, "LightPath")
    add(pixels, "MetadataOnly")
    for t in range(frames.length("T")):
        for z in range(frames.length("Z")):
            number = frames.number(index, z, t)
            noted = _noted(notes, number)
            for c, channel in enumerate(settings.channels):
                plane = add(pixels, "Plane", TheZ=z, TheC=c, TheT=t)
                for name, value, unit in noted:
                    plane.set(name, value)
                    plane.set(f"{name}Unit", unit)
                add_length(plane, "ExposureTime", quantity(channel.exposure, "s"))
    return element


def _noted(notes: FrameNotes, number: int) -> list[tuple[str, str, str]]:
    """Return names, values and units of the values of a frame."""
    entries: tuple[tuple[str, Sequence[float] | None, str], ...] = (
        ("DeltaT", notes.times, "s"), ("PositionX", notes.x, "µm"), ("PositionY", notes.y, "µm"),
        ("PositionZ", notes.z, "µm"),
    )  # fmt: skip
    return [
        (name, str(values[number]), unit) for name, values, unit in entries if values is not None
    ]
