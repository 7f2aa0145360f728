"""ND2 metadata as flat entries, named as in Bio-Formats' ND2Reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bfbridge.ome.documents.xml_tree import Element

__all__ = ["original_entries"]


def original_entries(levels: Iterable[Any], variants: Iterable[Element]) -> dict[str, Any]:
    """Return every value under its name.

    Parameters
    ----------
    levels
        Decoded chunks. If a name occurs several times, the last value is kept.
    variants
        Chunks of XML, whose values are texts.

    Returns
    -------
    dict
        Including the lines of descriptions, "name: value"; names that occur in several descriptions
        are numbered.
    """
    found: dict[str, Any] = {}
    lines: dict[str, list[str]] = {}
    for level in levels:
        for name, value in _values("", level):
            found[name] = value
            if name.startswith("TextInfoItem") and isinstance(value, str):
                for line in value.splitlines():
                    key, colon, rest = line.partition(":")
                    if colon and key.strip():
                        lines.setdefault(key.strip(), []).append(rest.strip())
    for variant in variants:
        for element in variant.iter():
            value = element.get("value")
            if value is not None and element.tag != "no_name":
                found[element.tag] = value
    for key, texts in lines.items():
        for number, text in enumerate(texts, 1):
            found[key if len(texts) == 1 else f"{key} #{number}"] = text
    return found


def _values(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _values(key, below)
    elif isinstance(value, list):
        for below in value:
            yield from _values(name, below)
    elif name and not isinstance(value, bytes):
        yield name, value
