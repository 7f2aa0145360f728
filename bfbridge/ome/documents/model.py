"""OME-XML to and from the classes of ome_types, faster than the functions of ome_types."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from bfbridge.errors import BadArgument, MissingExtra, OutOfMemory, UnreadableFile
from bfbridge.limits import DEFAULT_LIMITS, Limits
from bfbridge.ome.documents.quick_binding import serialize_quickly
from bfbridge.ome.documents.repair import note_faults, parse
from bfbridge.ome.documents.xml import document_text
from bfbridge.ome.documents.xsdata_binding import link_references, serialize
from bfbridge.ome.pixel_types import pixel_type_of

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import Image, Quantity

__all__ = [
    "copied",
    "document_of",
    "model_from_xml",
    "pixels_fields",
    "without_forbidden",
    "xml_from_model",
]

log = logging.getLogger("bfbridge")

# All characters except those of XML 1.0, section 2.2: control characters, lone surrogates, U+FFFE.
# Compiled on first use, because that takes longer than most imports.
_FORBIDDEN: Final = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
# Values that are not copied.
_VALUES: Final = frozenset({str, int, float, bool, bytes})
_DECLARATION: Final = re.compile(r"<\?xml\s[^>]*\?>")
# Markup allowed before a document type: the declaration, comments, processing instructions.
_PROLOGUE: Final = re.compile(r"(?:\ufeff|\s|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)


def model_from_xml(xml: str | bytes, name: str = "OME-XML", limits: Limits = DEFAULT_LIMITS) -> OME:
    """Return a document as `ome_types.from_xml` does, several times as fast after the first call.

    Optional values that break the OME schema are left out, with a warning in the log; within
    `bfbridge.ome.documents.repair.collected_faults` the warnings are collected instead.

    Parameters
    ----------
    xml
        The document; bytes are decoded as UTF-8, or as Latin-1 if they are not valid UTF-8.
    name
        File that contains the document, for the message.
    limits
        Its `xml_bytes` and `elements` bound the document.

    Raises
    ------
    UnreadableFile
        It is not well-formed XML, has a document type, or a required value is not valid in the OME
        schema.
    LimitExceeded
        It is longer, or has more elements, than the limits allow.
    OutOfMemory
        There is not enough memory for its objects.
    MissingExtra
        A package that is needed is not installed.
    """
    from ome_types import OME

    text = document_text(xml, name, limits).lstrip("\ufeff \t\r\n")
    # The declaration may name the encoding of the file, but the text is decoded already.
    text = _DECLARATION.sub("", text, count=1)
    _refuse_document_type(text, name)
    # As bytes: ome_types reads the file of that name if the text is also a file name.
    data = text.encode("utf-8", "replace")
    try:
        found, faults = parse(data)
    except MemoryError as error:
        raise OutOfMemory(
            f"{name}: there is not enough memory for the objects of its metadata, a text of "
            f"{len(data):,} bytes. The text itself is `ome_xml`."
        ) from error
    except ImportError as error:
        raise MissingExtra(
            f"{name}: its metadata need a package that is not installed ({error}). Install it "
            "with: python -m pip install lxml"
        ) from error
    except Exception as error:
        # SyntaxError of lxml, ValueError of pydantic and xsdata. Other errors that a damaged
        # document causes in them are not documented.
        syntax = error.__cause__ if isinstance(error.__cause__, SyntaxError) else error
        wrong = (
            "are not well-formed XML" if isinstance(syntax, SyntaxError) else "break the OME schema"
        )
        reason = " ".join(str(syntax).split())[:300] or type(error).__name__
        raise _unusable(name, f"{wrong} ({reason})") from error
    if not isinstance(found, OME):
        raise _unusable(name, f"have the root element {type(found).__name__} instead of OME")
    if faults and not note_faults(name, faults):
        log.warning("%s: the metadata break the OME schema; left out: %s", name, "; ".join(faults))
    return found


def _unusable(name: str, why: str) -> UnreadableFile:
    return UnreadableFile(
        f"{name}: the metadata {why}. Pixels and sizes can be read; the text itself is `ome_xml`."
    )


def _refuse_document_type(xml: str, name: str) -> None:
    """Raise for a document type, which can load other documents or grow without limit."""
    prologue = _PROLOGUE.match(xml)
    if prologue is not None and xml.startswith("<!DOCTYPE", prologue.end()):
        raise UnreadableFile(
            f"{name}: the metadata have a document type. OME-XML never needs one, and it can be an "
            "attack; the metadata are not read."
        )


def pixels_fields(image: Image) -> dict[str, Any]:
    """Return the attributes of Pixels that the record of an image has: sizes, byte order, bits."""
    t, c, z, y, x = image.levels[0].shape
    found: dict[str, Any] = {
        "size_t": t,
        "size_c": c,
        "size_z": z,
        "size_y": y,
        "size_x": x,
        "big_endian": image.byteorder == ">",
        "significant_bits": image.significant_bits,
    }
    for axis in "xyz":
        size: Quantity | None = getattr(image.pixel_size, axis)
        # The schema allows positive sizes only; some formats store 0 for unknown sizes.
        if size is not None and size.value > 0:
            found[f"physical_size_{axis}"] = size.value
            found[f"physical_size_{axis}_unit"] = size.unit
    return found


def document_of(images: Sequence[Image]) -> OME:
    """Return a document for the records of images, with metadata-only Pixels."""
    from ome_types import OME, model

    document = OME(creator="bfbridge")
    for index, image in enumerate(images):
        pixels = model.Pixels(
            id=f"Pixels:{index}",
            dimension_order=model.Pixels_DimensionOrder.XYCZT,
            type=model.PixelType(pixel_type_of(image.dtype)),
            interleaved=image.interleaved,
            metadata_only=model.MetadataOnly(),
            channels=[
                model.Channel(id=f"Channel:{index}:{c}", samples_per_pixel=channel.samples)
                for c, channel in enumerate(image.channels)
            ],
            **pixels_fields(image),
        )
        name = None if image.name is None else without_forbidden(image.name)
        document.images.append(model.Image(id=f"Image:{index}", name=name, pixels=pixels))
    return document


def without_forbidden(text: str) -> str:
    """Replace characters that XML forbids by spaces, as Bio-Formats does."""
    return re.sub(_FORBIDDEN, " ", text)


def xml_from_model(ome: OME) -> str:
    """Return a document's text as `ome.to_xml` does, several times as fast after the first call.

    Raises
    ------
    BadArgument
        A text in it contains a character that XML does not allow.
    """
    try:
        xml = serialize_quickly(ome) or serialize(ome)
    except ValueError as error:
        # lxml raises this, if installed; without lxml such characters are written unchanged.
        forbidden = _forbidden(ome)
        if forbidden is None:
            raise
        raise forbidden from error
    if re.search(_FORBIDDEN, xml) and (forbidden := _forbidden(ome)):
        raise forbidden
    return xml


def copied(ome: OME) -> OME:
    """Return ``ome.model_copy(deep=True)``, several times as fast."""
    from ome_types.model import Color, Reference
    from pydantic import BaseModel

    values, linked = (Enum, datetime, Color), False

    def copy_of(value: Any) -> Any:
        nonlocal linked
        kind = type(value)
        if value is None or kind in _VALUES or isinstance(value, values):
            return value
        if kind is list:
            return [copy_of(item) for item in value]
        if not isinstance(value, BaseModel):
            return deepcopy(value)
        linked = linked or isinstance(value, Reference)
        new = value.model_copy()
        fields = vars(new)
        for name, inner in fields.items():
            fields[name] = copy_of(inner)
        return new

    found: OME = copy_of(ome)
    if linked:
        link_references(found)
    return found


def _forbidden(ome: OME) -> BadArgument | None:
    """Return the error for the first text that XML does not allow."""
    text = next((text for text in _texts(ome.model_dump()) if re.search(_FORBIDDEN, text)), None)
    if text is None:
        return None
    return BadArgument(
        f"the metadata's text {text[:80]!r} contains a character that XML does not allow (a "
        "control character, half a surrogate pair, U+FFFE or U+FFFF). Remove it."
    )


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a model that was dumped to Python types."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
