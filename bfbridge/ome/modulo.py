"""Modulo annotations of OME-XML: a further axis inside Z, C or T.

See "6D, 7D and 8D storage" of the OME model documentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from bfbridge.backend import Modulo
from bfbridge.limits import Limits
from bfbridge.ome.documents.xml_tree import Element, parse_tree

__all__ = ["is_fastest", "stored_modulo"]

_NAMESPACE: Final = "openmicroscopy.org/omero/dimension/modulo"
_OF_CZI: Final = ("phase", "rotation", "angle", "illumination", "other")


def is_fastest(found: Modulo, size: int) -> bool | None:
    """Return whether the further axis runs faster than the one it is in; None if it is not known.

    It does in OME's specification. Bio-Formats' ZeissCZIReader lets it run slower, and gives the
    distance of two values in planes as step; such a description is also found in files converted
    from CZI.

    Parameters
    ----------
    found
        The description.
    size
        Size of Z, C or T.
    """
    outer = size // found.length if found.length else 0
    looks_like_czi = (
        found.type.lower() in _OF_CZI
        and not found.unit
        and not found.labels
        and found.start == 0
        and outer > 1
        and found.step == outer
    )
    return None if looks_like_czi else True


def stored_modulo(
    text: str | None, index: int, sizes: Mapping[str, int], where: str, limits: Limits
) -> dict[str, Modulo]:
    """Return the annotations of one image of an OME-XML document, by "Z", "C" or "T".

    Parameters
    ----------
    text
        The document, or None.
    index
        Number of the image.
    sizes
        Sizes of the image, by axis.
    where, limits
        For `parse_tree`.
    """
    if text is None or _NAMESPACE not in text:
        return {}
    root = parse_tree(text, where, limits)
    images = list(_all_named(root, "Image"))
    if index >= len(images):
        return {}
    image = images[index]
    wanted = {ref.get("ID") for ref in _all_named(image, "AnnotationRef")}
    found: dict[str, Modulo] = {}
    for note in _all_named(root, "XMLAnnotation"):
        if note.get("Namespace") != _NAMESPACE or note.get("ID") not in wanted:
            continue
        for axis in "ZCT":
            for element in _all_named(note, f"ModuloAlong{axis}"):
                described = _described(element)
                if described.length > 1:
                    fastest = is_fastest(described, sizes[axis])
                    found[axis] = replace(described, fastest=fastest)
    return found


def _all_named(root: Element, name: str) -> Iterator[Element]:
    """Yield every descendant of this name, in any namespace."""
    return root.iterfind(f".//{{*}}{name}")


def _described(element: Element) -> Modulo:
    labels = tuple((label.text or "").strip() for label in _all_named(element, "Label"))
    start, step, end = (
        _number(element.get(name), default)
        for name, default in (("Start", 0.0), ("Step", 1.0), ("End", 0.0))
    )
    # As loci.formats.Modulo.length.
    length = len(labels) or (round((end - start) / step) + 1 if step else 1)
    kind = element.get("Type") or "other"
    if kind == "other":
        kind = element.get("TypeDescription") or kind
    return Modulo(kind, start, step, end, element.get("Unit") or None, labels, length)


def _number(text: str | None, default: float) -> float:
    try:
        return default if text is None else float(text)
    except ValueError:
        return default
