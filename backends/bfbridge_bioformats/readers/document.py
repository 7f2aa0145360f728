"""Metadata as documents: OME-XML from the store, OME without XML, the format's own entries."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Image, Modulo
from bfbridge.ome.pixel_types import pixel_type_of
from bfbridge.runtime import forking
from bfbridge_bioformats.runtime.machine import machine

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge_bioformats.readers.pool import JavaReader

__all__ = [
    "Modulo",
    "from_records",
    "from_xml",
    "lookup_table",
    "modulo",
    "ome_document",
    "original_metadata",
    "xml_of",
]

log = logging.getLogger("bfbridge")

# Python's warning filters are shared by all threads.
_warnings_lock = forking.lock()

_IMPOSSIBLE_SIZE = re.compile(r'\sPhysicalSize[XYZ]="(?:-[^"]*|0|0\.0+|NaN|-?Infinity)"')

# Characters that XML 1.0 cannot contain. Compiled on use: that takes longer than most imports.
_NOT_XML = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"


def xml_of(store: Any) -> str | None:
    """Return a bfbridge.Store as OME-XML, or None if it cannot be expressed as XML."""
    try:
        xml = store.xml()
    except machine.type("java.lang.Exception"):
        return None
    return None if xml is None else machine.text(xml)


def ome_document(xml: str | None, images: Sequence[Image], series: Sequence[int]) -> OME:
    """Return the metadata of all images, from OME-XML or, without valid XML, from the records.

    Parameters
    ----------
    xml
        The OME-XML of `xml_of`.
    images
        The records.
    series
        Bio-Formats' series number of each image.
    """
    parsed = None if xml is None else from_xml(xml, series)
    return from_records(images) if parsed is None else parsed


def from_xml(xml: str, series: Sequence[int]) -> OME | None:
    """Return the document, with its images in the order of `series`.

    Bio-Formats copies values from files that the OME schema does not allow (a pixel size of -1).
    Sizes that are not positive are omitted; None if the rest is invalid too.
    """
    ome = _parse(xml) or _parse(_IMPOSSIBLE_SIZE.sub("", xml))
    if ome is not None and len(ome.images) == len(series):
        ome.images = [ome.images[number] for number in series]
    return ome


def _parse(xml: str) -> OME | None:
    from bfbridge.errors import UnreadableFile
    from bfbridge.ome.documents.model import model_from_xml

    with _warnings_lock, warnings.catch_warnings():
        # Invalid identifiers are replaced, with a warning for each.
        warnings.simplefilter("ignore")
        try:
            return model_from_xml(xml)
        except UnreadableFile as error:
            log.debug("%s", error)
            return None


def from_records(images: Sequence[Image]) -> OME:
    """Return the records as a document."""
    from ome_types import OME
    from ome_types.model import Image as OmeImage

    return OME(
        images=[
            OmeImage(id=f"Image:{n}", name=_clean(image.name), pixels=_pixels(n, image))
            for n, image in enumerate(images)
        ]
    )


def _pixels(number: int, image: Image) -> Any:
    from ome_types.model import Channel, Pixels, Pixels_DimensionOrder, PixelType, TiffData

    from bfbridge.ome.documents.model import pixels_fields

    channels = [
        Channel(
            id=f"Channel:{number}:{n}", name=_clean(channel.name), samples_per_pixel=channel.samples
        )
        for n, channel in enumerate(image.channels)
    ]
    return Pixels(
        id=f"Pixels:{number}",
        dimension_order=Pixels_DimensionOrder.XYCZT,
        type=PixelType(pixel_type_of(image.dtype)),
        channels=channels,
        tiff_data_blocks=[TiffData()],
        **pixels_fields(image),
    )


def _clean(text: str | None) -> str | None:
    return None if text is None else re.sub(_NOT_XML, "", text)


def original_metadata(reader: JavaReader) -> dict[str, Any]:
    """Return global entries, then each series' under "Series N key" where there are several."""
    java = reader.java
    found = _entries(java.getGlobalMetadata())
    count = int(java.getSeriesCount())
    for number in range(count):
        reader.go_to(number, 0)
        for key, value in _entries(java.getSeriesMetadata()).items():
            found.setdefault(key if count == 1 else f"Series {number} {key}", value)
    return dict(sorted(found.items()))


def _entries(table: Any) -> dict[str, Any]:
    return {machine.text(entry.getKey()): _value(entry.getValue()) for entry in table.entrySet()}


def modulo(reader: JavaReader, series: int) -> dict[str, Modulo]:
    """Return the axes ("Z", "C", "T") of a series that contain another axis, with details."""
    reader.go_to(series, 0)
    java = reader.java
    axes = {"Z": java.getModuloZ(), "C": java.getModuloC(), "T": java.getModuloT()}
    sizes = {"Z": java.getSizeZ(), "C": java.getSizeC(), "T": java.getSizeT()}
    described = {
        axis: Modulo(
            type=str(found.type),
            start=float(found.start),
            step=float(found.step),
            end=float(found.end),
            unit=None if found.unit is None else str(found.unit),
            labels=tuple(str(label) for label in found.labels or ()),
            length=int(found.length()),
        )
        for axis, found in axes.items()
        if found is not None and int(found.length()) > 1
    }
    if not described:
        return {}
    from bfbridge.ome.modulo import is_fastest

    # ZeissCZIReader numbers phases, illuminations and rotations slower than T, C and Z.
    czi = str(java.getFormat()) == "Zeiss CZI"
    return {
        axis: replace(found, fastest=False if czi else is_fastest(found, int(sizes[axis])))
        for axis, found in described.items()
    }


def lookup_table(reader: JavaReader, series: int, plane: int) -> np.ndarray[Any, Any] | None:
    """Return red, green and blue of every value, as 3 x 256 uint8 or 3 x 65536 uint16, or None."""
    reader.go_to(series, 0)
    java = reader.java
    if not java.isIndexed():
        return None
    # Some readers know the table of a plane only after reading from the plane.
    java.openBytes(plane, 0, 0, 1, 1)
    table = java.get8BitLookupTable()
    if table is not None:
        return np.array([np.asarray(row).view(np.uint8) for row in table])
    table = java.get16BitLookupTable()
    if table is not None:
        return np.array([np.asarray(row).view(np.uint16) for row in table])
    return None


def _value(value: Any) -> Any:
    """Return a Java value as a Python value."""
    if value is None:
        return None
    if isinstance(value, machine.type("java.lang.Boolean")):
        return bool(value.booleanValue())
    if isinstance(value, (machine.type("java.lang.Double"), machine.type("java.lang.Float"))):
        return float(value)
    if isinstance(value, machine.type("java.lang.Number")):
        return int(value.longValue())
    return machine.text(value.toString())
