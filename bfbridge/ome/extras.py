"""Image metadata without a place in the OME model: display settings, position, other entries.

They are stored in the OME document, as a comment annotation of the image in a separate namespace,
so every writer that receives ``br.metadata`` gets them. Writers of formats that can store them use
them; in other formats the annotation keeps them.
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
# Documents with deeper nesting are refused by the reader; real ones have about ten levels.
_DEEPEST: Final = 64
_NO_TEXT: Final = "[\ud800-\udfff]"


def find_extras(ome: OME) -> list[Extras]:
    """Return the extras in the annotations of each image; damaged annotations are ignored."""
    stored = {
        note.id: note.value for note in _comments(ome) if note.namespace == NAMESPACE and note.value
    }
    found = []
    for image in ome.images:
        texts = [stored[ref.id] for ref in image.annotation_refs if ref.id in stored]
        found.append(_parsed(texts[-1]) if texts else Extras())
    return found


def attach_extras(ome: OME, extras: Sequence[Extras]) -> None:
    """Store extras in the annotations of the images, in order, and remove all earlier ones.

    Lists of the document and of its images are replaced, not changed, so other documents that share
    these lists do not change.
    """
    from ome_types.model import AnnotationRef, CommentAnnotation, StructuredAnnotations

    old = {note.id for note in _comments(ome) if note.namespace == NAMESPACE}
    if not old and not any(extras):
        return
    notes = [note for note in _comments(ome) if note.id not in old]
    images = []
    for number, (image, entry) in enumerate(zip(ome.images, extras, strict=True)):
        refs = [ref for ref in image.annotation_refs if ref.id not in old]
        if entry:
            note = CommentAnnotation(id=f"{_ID}{number}", namespace=NAMESPACE, value=_text(entry))
            notes.append(note)
            refs.append(AnnotationRef(id=note.id))
        images.append(image.model_copy(update={"annotation_refs": refs}))
    ome.images = images
    known = ome.structured_annotations or StructuredAnnotations()
    ome.structured_annotations = known.model_copy(update={"comment_annotations": notes})


def moved(extras: Extras, channels: Sequence[int], start: Mapping[str, Quantity | None]) -> Extras:
    """Return the extras of a part of an image.

    Parameters
    ----------
    extras
        Extras of the whole image.
    channels
        Indices of the part along C (channels x samples).
    start
        Offset of the part along "x", "y", "z" and "t", for the axes along which it is cut; None if
        the pixel size is unknown.
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
    """Convert a length or a time to another unit; return None if that is impossible."""
    if quantity.unit == unit:
        return quantity.value
    for units in (LENGTHS, TIMES):
        if unit is not None and quantity.unit in units and unit in units:
            return quantity.value * float(f"{units[quantity.unit] / units[unit]:.15g}")
    return None


def clean_json(value: Any, depth: int = _DEEPEST) -> Any:
    """Return a JSON value without parts that some JSON parsers refuse.

    Numbers that are not finite become None, and half surrogate pairs are replaced. Values nested
    too deeply are left out.
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
    """Return the extras as ASCII text, which contains no character that XML forbids."""
    values = {
        "channels": list(extras.channels),
        "origin": {axis: list(place) for axis, place in extras.origin.items()},
        "other": dict(extras.other),
    }
    return json.dumps(clean_json({name: value for name, value in values.items() if value}))


def _parsed(text: str) -> Extras:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return Extras()
    if not isinstance(values, dict):
        return Extras()
    channels, origin, other = (values.get(name) for name in ("channels", "origin", "other"))
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
