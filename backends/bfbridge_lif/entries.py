"""The XML of a LIF file as flat entries, named as in Bio-Formats' LIFReader."""

from __future__ import annotations

from typing import Any, Final

from bfbridge.ome.documents.xml_tree import Element, descendants, text_of
from bfbridge_lif.settings import LifSettings

__all__ = ["original_entries"]

_PASSED: Final = ("Element", "Attachment", "LMSDataContainerHeader")
_HALVES: Final = ("HighInteger", "LowInteger")


def original_entries(image: Element, settings: LifSettings, name: str) -> dict[str, Any]:
    """Return every attribute of an image under its path; repeated attributes are numbered."""
    found = _Entries()
    for key, flag in settings.reverse.items():
        found.values[key] = [flag]
    found.add(image, [], [0] * _DEEPEST, -1)
    for number, comment in enumerate(descendants(image, "User-Comment")):
        found.values[f"User-Comment[{number}]"] = [text_of(comment)]
    found.values["Image name"] = [name]
    return found.flat()


_DEEPEST: Final = 300


class _Entries:
    """Values by key."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}

    def add(self, element: Element, path: list[str], counts: list[int], depth: int) -> None:
        """Add an element and its descendants; `counts` numbers the names in the path."""
        if depth > -1:
            counts[depth] = 0
        below = 0
        named = bool(element.attrib) and element.tag not in _PASSED
        if named:
            path = [*path, element.tag]
            below = len(path)
            key = "".join(f"{tag} #{counts[n]}|" for n, tag in enumerate(path))
            self._add_attributes(element, key)
        for child in element:
            self.add(child, path, counts, below)
        if below > 0:
            counts[below - 1] += 1

    def _add_attributes(self, element: Element, key: str) -> None:
        suffix = element.get("Identifier") or ""
        value = element.get("Variant", "")
        if not suffix.strip():
            suffix = element.get("Description", "")
        if suffix and value and suffix not in _HALVES:
            self.values.setdefault(key + suffix, []).append(value)
            return
        for attribute, text in element.attrib.items():
            if attribute not in _HALVES:
                self.values[key + attribute] = [text]

    def flat(self) -> dict[str, Any]:
        """Number the values of keys with several values."""
        found: dict[str, Any] = {}
        for key, values in self.values.items():
            digits = len(str(len(values)))
            for index, value in enumerate(values, 1):
                single = len(values) == 1
                found[key.strip() if single else f"{key.strip()} #{index:0{digits}d}"] = value
        return found
