"""OME-XML as text, and as the classes of ome_types: quicker there and back than its own way."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from bfbridge.errors import BadArgument, MissingExtra, UnreadableFile
from bfbridge.omerepair import note_faults, parse, xml_context
from bfbridge.omexml import pixel_type_of

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import Image

__all__ = ["document_of", "model_from_xml", "without_forbidden", "xml_from_model"]

log = logging.getLogger("bfbridge")

# All but the characters of XML 1.0, section 2.2: control characters, lone surrogates, U+FFFE.
# Compiled on use: that takes longer than most imports.
_FORBIDDEN: Final = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_NAMESPACE: Final = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def model_from_xml(xml: str | bytes, name: str = "OME-XML") -> OME:
    """Return a document as `ome_types.from_xml` does, several times as fast from the second on.

    Optional values that break the OME schema are left out, with a warning in the log; within
    `bfbridge.omerepair.collected_faults` they are collected instead.

    Parameters
    ----------
    xml
        The document.
    name
        Where it lies, for the message.

    Raises
    ------
    UnreadableFile
        A required value in it is not what the OME schema allows.
    MissingExtra
        It is of a schema before 2016-06, and lxml, which turns it into one of today's, is not
        installed.
    """
    try:
        document, faults = parse(xml)
    except ImportError as error:
        raise MissingExtra(
            f"{name}: the metadata is of an OME schema before 2016-06, which takes lxml to read "
            f"({error}). Install it with: python -m pip install lxml"
        ) from error
    except ValueError as error:  # of pydantic and of xsdata
        reason = " ".join(str(error).split())[:300]
        raise UnreadableFile(
            f"{name}: the metadata break the OME schema ({reason}). Pixels and sizes can be read; "
            "the text itself is `ome_xml`."
        ) from error
    if faults and not note_faults(name, faults):
        log.warning("%s: the metadata break the OME schema; left out: %s", name, "; ".join(faults))
    return document


def document_of(images: Sequence[Image]) -> OME:
    """Return what the records of images say, as a document with metadata-only Pixels."""
    from ome_types import OME, model

    document = OME(creator="bfbridge")
    for index, image in enumerate(images):
        size_t, size_c, size_z, size_y, size_x = image.levels[0].shape
        physical: dict[str, Any] = {}
        for axis in "xyz":
            size = getattr(image.pixel_size, axis)
            if size is not None:
                physical[f"physical_size_{axis}"] = size.value
                physical[f"physical_size_{axis}_unit"] = model.UnitsLength(size.unit)
        pixels = model.Pixels(
            id=f"Pixels:{index}",
            dimension_order=model.Pixels_DimensionOrder.XYCZT,
            type=model.PixelType(pixel_type_of(image.dtype)),
            big_endian=image.byteorder == ">",
            interleaved=image.interleaved,
            significant_bits=image.significant_bits,
            size_t=size_t,
            size_c=size_c,
            size_z=size_z,
            size_y=size_y,
            size_x=size_x,
            metadata_only=model.MetadataOnly(),
            channels=[
                model.Channel(id=f"Channel:{index}:{c}", samples_per_pixel=channel.samples)
                for c, channel in enumerate(image.channels)
            ],
            **physical,
        )
        name = None if image.name is None else without_forbidden(image.name)
        document.images.append(model.Image(id=f"Image:{index}", name=name, pixels=pixels))
    return document


def without_forbidden(text: str) -> str:
    """Return a text with a space for each character that XML cannot hold, as Bio-Formats does."""
    return re.sub(_FORBIDDEN, " ", text)


def xml_from_model(ome: OME) -> str:
    """Return a document's text as `ome.to_xml` does, several times as fast from the second on.

    Raises
    ------
    BadArgument
        A text in it holds a character that XML does not allow.
    """
    from xsdata_pydantic_basemodel.bindings import SerializerConfig, XmlSerializer

    config = SerializerConfig(
        indent="  ", xml_declaration=False, ignore_unset_attributes=True,
        schema_location=f"{_NAMESPACE} {_NAMESPACE}/ome.xsd",
    )  # fmt: skip
    # Lists that were appended to do not know that they were set, and would be left out.
    ome._update_set_fields()
    serializer = XmlSerializer(config=config, context=xml_context())
    try:
        xml = str(serializer.render(ome, ns_map={None: _NAMESPACE}))
    except ValueError as error:
        # So lxml, where it is installed; without it such characters are written as they are.
        forbidden = _forbidden(ome)
        if forbidden is None:
            raise
        raise forbidden from error
    if re.search(_FORBIDDEN, xml) and (forbidden := _forbidden(ome)):
        raise forbidden
    return xml


def _forbidden(ome: OME) -> BadArgument | None:
    """Return the error for the first text that XML cannot hold."""
    text = next((text for text in _texts(ome.model_dump()) if re.search(_FORBIDDEN, text)), None)
    if text is None:
        return None
    return BadArgument(
        f"the metadata's text {text[:80]!r} holds a character that XML does not allow (a control "
        "character, half a surrogate pair, U+FFFE or U+FFFF); leave it out."
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a model dumped to Python's own types."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
