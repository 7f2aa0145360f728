"""XML documents of vendors as element trees, limited in size and depth.

Document types and entities are refused, so nothing outside a document is loaded and nothing inside
it can expand.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Final

from bfbridge.errors import UnreadableFile
from bfbridge.limits import Limits, check

__all__ = ["Element", "descendants", "first", "first_text", "parse_tree", "text_of"]

Element = ET.Element

# Characters that XML 1.0, section 2.2, forbids in every encoding read here.
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
# Elements of these documents take a tenth of the memory of the objects of an OME document.
_SMALLER: Final = 10
_DECLARATION: Final = re.compile(r"^\s*<\?xml[^>]*\?>")


def parse_tree(text: str, where: str, limits: Limits) -> Element:
    """Parse an XML document.

    Parameters
    ----------
    text
        The document; control characters that XML forbids are read as spaces.
    where
        Name of the document and its file, for messages.
    limits
        Its `xml_bytes`, `xml_depth` and ten times its `elements` limit the document.

    Raises
    ------
    UnreadableFile
        It is not well formed, or has a document type.
    LimitExceeded
        It is longer or deeper, or has more elements, than the limits allow.
    """
    check(len(text), limits.xml_bytes, "length of the XML in characters", where)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UnreadableFile(
            f"{where} has a document type or entity declaration. Image metadata never need one, "
            "and it can be an attack; the metadata are not read."
        )
    elements = text.count("<") - text.count("</")
    check(elements, _SMALLER * limits.elements, "number of XML elements", where)
    # The text is decoded: the encoding in its declaration is no longer true.
    text = _CONTROL.sub(" ", _DECLARATION.sub("", text, count=1).strip())
    try:
        root = ET.fromstring(text)  # noqa: S314 - entities are refused above
    except (ET.ParseError, ValueError) as error:
        raise UnreadableFile(f"{where} is not well-formed XML ({error}).") from error
    _check_depth(root, where, limits)
    return root


def _check_depth(root: Element, where: str, limits: Limits) -> None:
    depth, level = 1, [root]
    while level:
        check(depth, limits.xml_depth, "nesting depth of the XML", where)
        level = [child for element in level for child in element]
        depth += 1


def first(root: Element | None, name: str) -> Element | None:
    """Return the first descendant of this name in document order, or None."""
    return None if root is None else next(descendants(root, name), None)


def descendants(root: Element, name: str) -> Iterator[Element]:
    """Yield every descendant of this name in document order, as DOM's getElementsByTagName."""
    return (element for element in root.iter(name) if element is not root)


def text_of(element: Element) -> str:
    """Return all text inside an element, as DOM's getTextContent."""
    return "".join(element.itertext())


def first_text(root: Element | None, name: str) -> str | None:
    """Return the text of the first descendant of this name, or None."""
    found = first(root, name)
    return None if found is None else text_of(found)
