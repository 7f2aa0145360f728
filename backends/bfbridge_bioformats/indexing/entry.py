"""One entry of the index: plain JSON, checked against a schema when it is read."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from bfbridge.backend import Modulo
from bfbridge_bioformats.indexing.dependencies import Dependencies

__all__ = ["MOST_BYTES", "Entry", "Facts", "decode", "encode"]

MOST_BYTES: Final = 256 << 20
"""Length of the longest entry, not compressed."""


@dataclass(frozen=True)
class Facts:
    """What a Java reader says of a file that it has opened.

    Attributes
    ----------
    format
        Name of the format.
    described
        The description of each series, for `bfbridge_bioformats.readers.records.images_from`.
    xml
        The OME-XML, or None if the metadata cannot be expressed as XML.
    original
        The format's own metadata, or None if it was not read.
    modulo
        The further axes of each series that has any.
    used
        Every file of the data set, the main one first.
    looked_up
        Absolute names that were looked up while the file was opened.
    tree
        Real paths of the folders that the files of the data set are in; None for any folders.
    """

    format: str
    described: Sequence[Any]
    xml: str | None
    original: Mapping[str, Any] | None
    modulo: Mapping[int, Mapping[str, Modulo]]
    used: Sequence[str]
    looked_up: Sequence[str] = ()
    tree: Sequence[str] | None = None


@dataclass(frozen=True)
class Entry:
    """The facts about a file, and the state of the files that they hold for.

    Attributes
    ----------
    identity
        The file and everything else that decides what Bio-Formats says of it.
    facts
        As found; without `looked_up` and `tree`.
    dependencies
        The state in which the facts were found.
    """

    identity: Sequence[Any]
    facts: Facts
    dependencies: Dependencies


class _AnyOf:
    """A schema for values that one of several schemas fits."""

    def __init__(self, *schemas: Any) -> None:
        self.schemas = schemas


class _MapTo:
    """A schema for objects with any keys, whose values one schema fits."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema


# A type, a list of any length ([schema]), a list with these items (a tuple), an object with these
# keys (a dict), or one of the classes above.
_NUMBER = _AnyOf(int, float)
_TEXT = _AnyOf(str, None)
_QUANTITY = _AnyOf(None, (_NUMBER, str))
_SERIES = {
    "name": _TEXT,
    "type": int,
    "little": bool,
    "samples": int,
    "bits": int,
    "thumbnail": bool,
    "order": str,
    "pixel_size": (_QUANTITY, _QUANTITY, _QUANTITY),
    "channels": [(_TEXT, _AnyOf(None, (int, int, int, int)), _QUANTITY, _QUANTITY)],
    "levels": [(int, int, int, int, int, int, int, bool)],
}
_MODULO = {
    "type": str,
    "start": _NUMBER,
    "step": _NUMBER,
    "end": _NUMBER,
    "unit": _TEXT,
    "labels": [str],
    "length": int,
    "fastest": _AnyOf(bool, None),
}
_SCHEMA = {
    "identity": [_AnyOf(str, int, bool, None)],
    "format": str,
    # A series that is like the previous one has a name only.
    "described": [_AnyOf({"name": _TEXT}, _SERIES)],
    "xml": _TEXT,
    "original": _AnyOf(None, _MapTo(_AnyOf(str, int, float, bool, None))),
    "modulo": _MapTo(_MapTo(_MODULO)),
    "used": [str],
    "files": _MapTo((int, int)),
    "folders": _MapTo((bool, str)),
    "missing": [str],
}


def encode(entry: Entry) -> bytes | None:
    """Return an entry as compressed JSON, or None if it is too long, or not JSON."""
    facts, state = entry.facts, entry.dependencies
    modulo = {
        str(number): {axis: asdict(found) for axis, found in axes.items()}
        for number, axes in facts.modulo.items()
    }
    content = {
        "identity": entry.identity,
        "format": facts.format,
        "described": facts.described,
        "xml": facts.xml,
        "original": facts.original,
        "modulo": modulo,
        "used": facts.used,
        "files": state.files,
        "folders": state.folders,
        "missing": state.missing,
    }
    try:
        text = json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError):
        return None
    # zlib's checksum detects damage.
    return zlib.compress(text, 1) if len(text) <= MOST_BYTES else None


def decode(data: bytes) -> Entry | None:
    """Return an entry, or None if it is damaged, too long, or does not fit the schema."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MOST_BYTES)
        if not unpacker.eof:
            return None
        content = json.loads(text.decode("utf-8", "surrogatepass"))
        return _entry(content) if _fits(content, _SCHEMA) else None
    except (zlib.error, ValueError, RecursionError):
        return None


def _entry(content: dict[str, Any]) -> Entry | None:
    described = content["described"]
    # The first series cannot be like the one before it.
    if not described or len(described[0]) == 1 or not content["used"]:
        return None
    if any(series.get("samples", 1) < 1 for series in described):
        return None
    modulo = {
        int(number): {
            axis: Modulo(**{**found, "labels": tuple(found["labels"])})
            for axis, found in axes.items()
        }
        for number, axes in content["modulo"].items()
    }
    facts = Facts(
        content["format"], described, content["xml"], content["original"], modulo,
        content["used"],
    )  # fmt: skip
    state = Dependencies(content["files"], content["folders"], content["missing"])
    return Entry(content["identity"], facts, state)


def _fits(value: Any, schema: Any) -> bool:
    """Whether a value of JSON fits a schema."""
    if isinstance(schema, _AnyOf):
        return any(_fits(value, each) for each in schema.schemas)
    if isinstance(schema, _MapTo):
        return type(value) is dict and all(_fits(each, schema.schema) for each in value.values())
    if isinstance(schema, dict):
        return (
            type(value) is dict
            and value.keys() == schema.keys()
            and all(_fits(value[key], each) for key, each in schema.items())
        )
    if isinstance(schema, list):
        return type(value) is list and all(_fits(each, schema[0]) for each in value)
    if isinstance(schema, tuple):
        return (
            type(value) is list
            and len(value) == len(schema)
            and all(_fits(each, own) for each, own in zip(value, schema, strict=True))
        )
    return value is None if schema is None else type(value) is schema
