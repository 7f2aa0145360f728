"""OME-XML compared with the schema of OME 2016-06, and with itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from bfbridge.backend.findings import Finding
from bfbridge.errors import BfbridgeError
from bfbridge.limits import Limits
from bfbridge.ome.documents.model import model_from_xml
from bfbridge.ome.documents.repair import collected_faults

__all__ = ["check_xml"]

_NAMESPACE: Final = re.compile(r"\{http://www\.openmicroscopy\.org/[^}]*\}")
_LINE: Final = re.compile(r"^line \d+: ")
_FOLLOWING: Final = re.compile("No precomputed value available|key identity-constraint .* a node")
_REMEDY: Final = (
    "Write the file again with a program that writes valid OME-XML; `bfbridge convert` does."
)


def check_xml(xml: str, where: str, limits: Limits) -> Iterator[Finding]:
    """Yield what in a document breaks the schema, or contradicts itself.

    Documents of older schemas are converted to 2016-06 first, as ome_types does.

    Parameters
    ----------
    xml
        The document.
    where
        File that contains it.
    limits
        Limits on the document.
    """
    try:
        # This refuses document types, and documents that are too long, before lxml parses them.
        with collected_faults():
            model = model_from_xml(xml, where, limits)
    except BfbridgeError as error:
        yield Finding("error", "ome-xml", where, str(error).removeprefix(f"{where}: "), _REMEDY)
        return
    for fault in _schema_faults(xml):
        yield Finding("error", "ome-schema", f"{where}: OME-XML", fault, _REMEDY)
    for number, image in enumerate(model.images):
        pixels = image.pixels
        place = f"{where}: OME-XML image {number}"
        samples = sum(channel.samples_per_pixel or 1 for channel in pixels.channels)
        if pixels.channels and samples != pixels.size_c:
            yield Finding(
                "warning",
                "ome-channels",
                place,
                f"SizeC is {pixels.size_c}, but its {len(pixels.channels)} Channel elements have "
                f"{samples} samples",
                "Correct SizeC or SamplesPerPixel; readers differ in which of them they use.",
            )
        for plane in pixels.planes:
            sizes = (pixels.size_z, pixels.size_c, pixels.size_t)
            at = (plane.the_z, plane.the_c, plane.the_t)
            if any(place >= size for place, size in zip(at, sizes, strict=True)):
                yield Finding(
                    "warning",
                    "ome-planes",
                    place,
                    f"a Plane element describes z, c, t = {at}, outside the sizes {sizes}",
                    "Remove the element, or correct the sizes.",
                )


def _schema_faults(xml: str) -> list[str]:
    """Return one text for each violation of the schema."""
    from ome_types import validate_xml

    try:
        validate_xml(xml.encode(), warn_on_schema_update=False)
    except Exception as error:  # noqa: BLE001 - ome_types' own class is not public
        found = _NAMESPACE.sub("", str(error)).split("\n  - ")
        texts = [_LINE.sub("", text) for text in found[1:] or found]
        # libxml2 adds messages on the keys of an element whose ID it has reported.
        own = [text for text in texts if not _FOLLOWING.search(text)]
        return list(dict.fromkeys(own or texts))
    return []
