"""What a file says of an image and the OME model has no place for: display, placement, the rest.

It travels with the OME document, as a comment annotation of the image in a namespace of its own, so
it reaches every writer that is given ``br.metadata``. Writers of formats that have a place for it
take it from there; in other formats the annotation keeps it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from bfbridge.backend import Extras, Quantity
from bfbridge.ome.units import LENGTHS, TIMES

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["NAMESPACE", "attach_extras", "clean_json", "convert_unit", "find_extras", "moved"]

NAMESPACE: Final = "bfbridge/extras"
_ID: Final = "Annotation:bfbridge:extras:"
# Documents nested deeper are refused where they are read; real ones have some ten levels.
_DEEPEST: Final = 64
_NO_TEXT: Final = "[\ud800-\udfff]"


def find_extras(ome: OME) -> list[Extras]:
    """Return what the document's annotations say of each image; nothing for damaged ones."""
    stored = {
        note.id: note.value for note in _comments(ome) if note.namespace == NAMESPACE and note.value
    }
    found = []
    for image in ome.images:
        texts = [stored[ref.id] for ref in image.annotation_refs if ref.id in stored]
        found.append(_parsed(texts[-1]) if texts else Extras())
    return found


def attach_extras(ome: OME, extras: Sequence[Extras]) -> None:
    """Make the document's annotations say this of its images, in order, and nothing else.

    Lists of the document and of its images are replaced and not changed, so that documents that
    share them stay as they are.
    """
    from ome_types.model import AnnotationRef, CommentAnnotation, StructuredAnnotations

    old = {note.id for note in _comments(ome) if note.namespace == NAMESPACE}
    if not old and not any(extras):
        return
    notes = [note for note in _comments(ome) if note.id not in old]
    images = []
    for number, (image, told) in enumerate(zip(ome.images, extras, strict=True)):
        refs = [ref for ref in image.annotation_refs if ref.id not in old]
        if told:
            note = CommentAnnotation(id=f"{_ID}{number}", namespace=NAMESPACE, value=_text(told))
            notes.append(note)
            refs.append(AnnotationRef(id=note.id))
        images.append(image.model_copy(update={"annotation_refs": refs}))
    ome.images = images
    known = ome.structured_annotations or StructuredAnnotations()
    ome.structured_annotations = known.model_copy(update={"comment_annotations": notes})


def moved(extras: Extras, channels: Sequence[int], start: Mapping[str, Quantity | None]) -> Extras:
    """Return what is true of a part of an image.

    Parameters
    ----------
    extras
        Of the whole image.
    channels
        Which channels (x samples) are taken.
    start
        How far along "x", "y", "z" and "t" the part begins, for the axes along which it is cut;
        None where a pixel has no size.
    """
    taken = tuple(extras.channels[c] for c in channels if c < len(extras.channels))
    origin = {}
    for axis, place in extras.origin.items():
        step = start.get(axis, Quantity(0, place.unit))
        value = None if step is None else convert_unit(step, place.unit)
        if value is not None:
            origin[axis] = Quantity(place.value + value, place.unit)
    return replace(extras, channels=taken, origin=origin)


def convert_unit(quantity: Quantity, unit: str | None) -> float | None:
    """Express a length or a time in another unit; None where that cannot be done."""
    if quantity.unit == unit:
        return quantity.value
    for units in (LENGTHS, TIMES):
        if unit is not None and quantity.unit in units and unit in units:
            return quantity.value * float(f"{units[quantity.unit] / units[unit]:.15g}")
    return None


def clean_json(value: Any, depth: int = _DEEPEST) -> Any:
    """Return a value of a JSON document as every reader of JSON takes it.

    Numbers that are not finite become None, and half surrogate pairs are marked. What is nested
    too deeply is left out.
    """
    if isinstance(value, str):
        return re.sub(_NO_TEXT, "\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        if depth == 0:
            return {}
        return {clean_json(str(key)): clean_json(item, depth - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean_json(item, depth - 1) for item in value] if depth else []
    return value


def _comments(ome: OME) -> list[Any]:
    notes = ome.structured_annotations
    return [] if notes is None else list(notes.comment_annotations)


def _text(extras: Extras) -> str:
    """Return ASCII text, which holds no character that XML does not allow."""
    told = {
        "channels": list(extras.channels),
        "origin": {axis: list(place) for axis, place in extras.origin.items()},
        "other": dict(extras.other),
    }
    return json.dumps(clean_json({name: value for name, value in told.items() if value}))


def _parsed(text: str) -> Extras:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return Extras()
    if not isinstance(told, dict):
        return Extras()
    channels, origin, other = (told.get(name) for name in ("channels", "origin", "other"))
    return Extras(
        channels=tuple(
            clean_json(channel) if isinstance(channel, dict) else {}
            for channel in (channels if isinstance(channels, list) else [])
        ),
        origin={
            axis: Quantity(float(place[0]), place[1])
            for axis, place in (origin if isinstance(origin, dict) else {}).items()
            if axis in ("x", "y", "z", "t") and _is_quantity(place)
        },
        other=clean_json(other) if isinstance(other, dict) else {},
    )


def _is_quantity(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], str):
        return False
    number = value[0]
    whole = isinstance(number, (int, float)) and not isinstance(number, bool)
    return whole and abs(number) < 1e300
