"""The OME document of an NDPI file: the fields that Bio-Formats' NDPIReader fills."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Final

from bfbridge.backend import Image, Quantity
from bfbridge.ome.documents.build import (
    add,
    add_channel,
    add_length,
    add_pixels,
    add_text,
    text_of_document,
)
from bfbridge.ome.documents.xml_tree import Element
from bfbridge_ndpi.directories import NdpiDirectory
from bfbridge_ndpi.layout import Layout
from bfbridge_ndpi.settings import NdpiSettings, acquired_of
from bfbridge_ndpi.tags import NdpiTag

__all__ = ["document_xml"]

_INSTRUMENT: Final = "Instrument:0"
_OBJECTIVE: Final = "Objective:0:0"
_POSITIONS: Final = (
    ("PositionX", NdpiTag.XPosition),
    ("PositionY", NdpiTag.YPosition),
    ("PositionZ", NdpiTag.ZPosition),
)


def document_xml(
    directories: Sequence[NdpiDirectory],
    layout: Layout,
    settings: NdpiSettings,
    images: Sequence[Image],
) -> str:
    """Return the OME-XML of all images."""
    instrument = ET.Element("Instrument", {"ID": _INSTRUMENT})
    if settings.model is not None:
        add(instrument, "Microscope", Model=settings.model)
    add(instrument, "Objective", ID=_OBJECTIVE, NominalMagnification=settings.magnification)
    elements = [instrument]
    for index, image in enumerate(images):
        levels = layout.images[index].levels
        element = ET.Element("Image", {"ID": f"Image:{index}", "Name": image.name or ""})
        add_text(element, "AcquisitionDate", acquired_of(directories[levels[0][0]]))
        if index == 0:
            add_text(element, "Description", settings.serial_number)
        add(element, "InstrumentRef", ID=_INSTRUMENT)
        add(element, "ObjectiveSettings", ID=_OBJECTIVE)
        pixels = add_pixels(element, index, image, "XYCZT", image.significant_bits)
        add(add_channel(pixels, index, 0, image.channels[0]), "LightPath")
        add(pixels, "MetadataOnly")
        if index == 0:
            _add_planes(pixels, [directories[number] for number in levels[0]])
        elements.append(element)
    return text_of_document(elements)


def _add_planes(pixels: Element, directories: Sequence[NdpiDirectory]) -> None:
    """Append a Plane for each focal plane whose directory has a position."""
    for z, directory in enumerate(directories):
        places = {name: directory.quantity(tag) for name, tag in _POSITIONS}
        if any(place is not None for place in places.values()):
            plane = add(pixels, "Plane", TheZ=z, TheC=0, TheT=0)
            for name, place in places.items():
                add_length(plane, name, None if place is None else Quantity(float(place), "nm"))
