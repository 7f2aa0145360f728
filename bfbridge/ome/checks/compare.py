"""Which parts of one OME document are missing, or different, in another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from bfbridge.ome.documents.model import xml_from_model

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["Difference", "compare_documents", "values_of"]

_STORAGE: Final = frozenset(
    {"Image/Pixels/BinData", "Image/Pixels/TiffData", "Image/Pixels/MetadataOnly", "BinaryOnly"}
    | {"Image/Pixels@BigEndian", "Image/Pixels@Interleaved", "@UUID", "@Creator"}
)
"""Elements that describe the storage of a file; a new file has its own."""
_OWN: Final = "bfbridge/"
"""Prefix of the namespaces of annotations that bfbridge adds."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One element or attribute of which not all values are in the other document.

    Attributes
    ----------
    path
        Elements below OME, and an attribute: "Image/Pixels/Plane@DeltaT".
    count, total
        Number of values that are missing, and of all values.
    changed
        Whether the other document has as many other values; otherwise they are missing.
    """

    path: str
    count: int
    total: int
    changed: bool

    def __str__(self) -> str:
        how = "changed" if self.changed else "lost"
        return f"{self.path}: {self.count} of {self.total} {how}"


def values_of(ome: OME) -> dict[str, Counter[str]]:
    """Return the values of every element and attribute of a document, by path.

    IDs and references are left out, because writers number them anew; so are the parts that
    describe the storage of pixels.
    """
    found: dict[str, Counter[str]] = {}
    root = ET.fromstring(xml_from_model(ome))  # noqa: S314 - the text was made here
    own = _own_annotations(root)
    for path, value in _walk(root, "", own):
        if path not in _STORAGE:
            found.setdefault(path, Counter())[value] += 1
    return found


def compare_documents(before: OME, after: OME) -> list[Difference]:
    """Return what the document `after` does not have of the document `before`, by path."""
    old, new = values_of(before), values_of(after)
    found = []
    for path, values in sorted(old.items()):
        missing = (values - new.get(path, Counter())).total()
        if missing:
            total = values.total()
            changed = new.get(path, Counter()).total() >= total
            found.append(Difference(path, missing, total, changed))
    return found


def _own_annotations(root: ET.Element) -> frozenset[str]:
    return frozenset(
        element.get("ID", "")
        for element in root.iter()
        if element.get("Namespace", "").startswith(_OWN)
    )


def _walk(element: ET.Element, path: str, own: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield (path, value) of an element's text, attributes and descendants."""
    for name, value in element.attrib.items():
        if name != "ID" and not name.startswith("{"):
            yield f"{path}@{name}", _plain(value)
    text = (element.text or "").strip()
    empty = not element.attrib and not len(element) and path != "StructuredAnnotations"
    if path and (text or empty):
        yield path, _plain(text)
    for child in element:
        tag = child.tag.rsplit("}", 1)[-1]
        if child.get("ID") in own:
            continue
        inner = f"{path}/{tag}" if path else tag
        if inner in _STORAGE:
            continue
        if tag.endswith(("Ref", "Settings")) and child.get("ID"):
            yield inner, ""
        yield from _walk(child, inner, own)


def _plain(value: Any) -> str:
    """Return a value with numbers in one form: "1", "1.0" and "1e0" are equal."""
    try:
        number = float(value)
    except ValueError:
        return str(value)
    return f"{number:.9g}" if math.isfinite(number) else str(value)
