"""Which parts of one OME document are missing, or different, in another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from xml.etree import ElementTree as ET

from bfbridge.ome.documents.model import xml_from_model

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["Difference", "compare_documents", "keeps_values", "values_of"]

_STORAGE: Final = frozenset(
    {"Image/Pixels/BinData", "Image/Pixels/TiffData", "Image/Pixels/MetadataOnly", "BinaryOnly"}
    | {"Image/Pixels@BigEndian", "Image/Pixels@Interleaved", "@UUID", "@Creator"}
)
"""Elements that describe the storage of a file; a new file has its own."""
_STORAGE_FIELDS: Final = {
    "OME": frozenset({"uuid", "creator", "binary_only"}),
    "Pixels": frozenset(
        {"bin_data_blocks", "tiff_data_blocks", "metadata_only", "big_endian", "interleaved"}
    ),
}
"""The same as fields of the classes of ome_types."""
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


def keeps_values(before: OME, after: OME) -> bool:
    """Return whether the document `after` certainly has all values of the document `before`.

    Much faster than `compare_documents`: both are compared element by element, and nothing is
    written as XML. False if values differ, and also if the elements of a list are in another order
    or more were added, of which `compare_documents` knows whether that is a loss.
    """
    return _keeps(before, after, _own_ids(before), _own_ids(after))


def _own_ids(ome: OME) -> frozenset[str]:
    notes = ome.structured_annotations
    lists = [] if notes is None else [value for value in vars(notes).values() if value]
    return frozenset(
        note.id for notes in lists for note in notes if (note.namespace or "").startswith(_OWN)
    )


def _keeps(before: Any, after: Any, own: frozenset[str], other: frozenset[str]) -> bool:
    """Whether an element has the values of another, apart from IDs and the storage of pixels."""
    if before is after:
        return True
    kind = type(before)
    if kind is not type(after):
        return False
    if kind is list:
        if own or other:
            before = [item for item in before if getattr(item, "id", None) not in own]
            after = [item for item in after if getattr(item, "id", None) not in other]
        return len(before) == len(after) and all(
            _keeps(old, new, own, other) for old, new in zip(before, after, strict=True)
        )
    if getattr(kind, "model_fields", None) is None:
        return bool(before == after) and _written(before) == _written(after)
    stored = _STORAGE_FIELDS.get(kind.__name__, frozenset())
    # Fields that are not set are not written.
    unset = before.model_fields_set - after.model_fields_set
    new = vars(after)
    for name, value in vars(before).items():
        if value is None or name == "id" or name in stored:
            continue
        if name in unset and value != []:
            return False
        if not _keeps(value, new[name], own, other):
            return False
    return True


def _written(value: Any) -> str | None:
    """Return the text of a date: dates that are equal may be written in different ways."""
    return str(getattr(value, "text", value)) if isinstance(value, datetime) else None


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
