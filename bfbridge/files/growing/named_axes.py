"""Further axes of a growing image, such as a stain or a dose: folded into T, Z and C.

OME allows one further axis inside each of T, Z and C, which runs faster than it (Modulo
annotations, "6D, 7D and 8D storage" of the OME model documentation). The first named axis is in T,
the second in Z, the third in C.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import Modulo
from bfbridge.errors import BadArgument
from bfbridge.ome.documents.build import modulo_annotations, text_of_document
from bfbridge.ome.documents.model import model_from_xml
from bfbridge.runtime.arguments import whole

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["PARENTS", "NamedAxes", "annotate"]

PARENTS: Final = "TZC"
_MODULO: Final = "openmicroscopy.org/omero/dimension/modulo"
_RESERVED: Final = ("x", "y", "z", "c", "t", "s", "array", "mask")


@dataclass(slots=True)
class _Axis:
    name: str
    values: list[Any] = field(default_factory=list)
    unit: str | None = None


class NamedAxes:
    """The named axes of one image.

    Parameters
    ----------
    given
        For each axis its values (texts or numbers), a pair of values and their unit, its length, or
        None for positions that are numbered from 0.
    name
        Name of the file, for messages.

    Raises
    ------
    BadArgument
        There are more than three axes, or a name or values make no sense.
    """

    def __init__(self, given: Mapping[str, Any] | None, name: str) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise BadArgument(
                f'{name}: axes={given!r:.80}: give a dictionary, such as {{"stain": ["H", "E"]}}.'
            )
        self._where = name
        self._axes = [self._parsed(key, value) for key, value in (given or {}).items()]
        if len(self._axes) > len(PARENTS):
            raise BadArgument(
                f"{name}: axes= has {len(self._axes)} axes. OME stores three besides X, Y, Z, C "
                "and T: one in each of T, Z and C."
            )

    def __len__(self) -> int:
        return len(self._axes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order in which they are folded."""
        return tuple(axis.name for axis in self._axes)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of values of each axis as given; 0 if they are counted."""
        return tuple(len(axis.values) for axis in self._axes)

    def _parsed(self, key: Any, value: Any) -> _Axis:
        where = f"{self._where}: axes"
        if not isinstance(key, str) or not key.isidentifier() or key.lower() in _RESERVED:
            raise BadArgument(
                f"{where}: {key!r} cannot be the name of an axis: give an identifier other than "
                f"{', '.join(_RESERVED)}."
            )
        if value is None:
            return _Axis(key)
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            return _Axis(key, list(range(whole(value, f"{where}: {key}", 1))))
        unit = None
        if (
            isinstance(value, (tuple, list))
            and len(value) == 2
            and isinstance(value[0], (list, tuple, np.ndarray))
        ):
            value, unit = value
        if unit is not None and not isinstance(unit, str):
            raise BadArgument(f"{where}: {key}: the unit {unit!r:.80} is not a text.")
        listed = list(value) if np.iterable(value) else []
        values = [item.item() if isinstance(item, np.generic) else item for item in listed]
        texts = all(isinstance(item, str) for item in values)
        numbers = all(
            isinstance(item, (int, float)) and np.isfinite(item) and not isinstance(item, bool)
            for item in values
        )
        if isinstance(value, str) or not values or not (texts or numbers):
            raise BadArgument(
                f"{where}: {key}={value!r:.80}: give a list of texts, or of numbers, or a pair of "
                'a list and a unit, such as ([0.1, 1], "mg").'
            )
        if len(set(values)) != len(values):
            raise BadArgument(f"{where}: {key}={value!r:.80} has the same value twice.")
        return _Axis(key, values, unit)

    def positions(self, given: Mapping[str, Any]) -> tuple[int, ...]:
        """Return the position along each axis: its number, or one of the texts of the axis.

        Raises
        ------
        BadArgument
            There is no such axis or value.
        """
        unknown = set(given) - set(self.names)
        if unknown:
            known = f": {', '.join(self.names)}" if self._axes else ""
            raise BadArgument(
                f"{self._where}: there is no axis {min(unknown)!r}; the named axes are those of "
                f"BioWriter(path, grow=True, axes={{...}}){known}."
            )
        return tuple(self._position(axis, given.get(axis.name, 0)) for axis in self._axes)

    def _position(self, axis: _Axis, value: Any) -> int:
        if isinstance(value, str):
            if value not in axis.values:
                raise BadArgument(
                    f"{self._where}: {axis.name}={value!r}: its values are {axis.values!r:.80}."
                )
            return axis.values.index(value)
        most = len(axis.values) - 1 if axis.values else None
        return whole(value, f"{self._where}: {axis.name}", 0, most)

    def modulo(self, lengths: Sequence[int]) -> dict[str, Modulo]:
        """Return the descriptions of axes of these lengths, by "T", "Z" or "C"."""
        return {
            parent: _described(axis, length)
            for parent, axis, length in zip(PARENTS, self._axes, lengths, strict=False)
            if length > 1
        }


def _described(axis: _Axis, length: int) -> Modulo:
    """Return the description: labels, unless the values are numbers at equal distances."""
    values = axis.values or list(range(length))
    if all(isinstance(value, (int, float)) for value in values):
        start, end = float(values[0]), float(values[-1])
        step = float(f"{(end - start) / (length - 1):.12g}")
        if step and np.allclose(values, start + step * np.arange(length), rtol=1e-9, atol=0):
            return Modulo(axis.name, start, step, end, axis.unit, (), length)
    labels = tuple(str(value) for value in values)
    return Modulo(axis.name, 0.0, 1.0, length - 1.0, axis.unit, labels, length)


def annotate(ome: OME, modulo: Mapping[str, Modulo]) -> None:
    """Describe axes inside T, Z and C of the only image of a document, replacing earlier ones."""
    notes = ome.structured_annotations
    known = [] if notes is None else list(notes.xml_annotations)
    old = {note.id for note in known if note.namespace == _MODULO}
    if not modulo and not old:
        return
    from ome_types.model import AnnotationRef, StructuredAnnotations

    element = ET.Element("Image", {"ID": "Image:0"})
    sizes = {f"Size{axis}": "1" for axis in "XYZCT"}
    ET.SubElement(
        element, "Pixels", {"ID": "Pixels:0", "DimensionOrder": "XYZCT", "Type": "uint8", **sizes}
    )
    made = model_from_xml(text_of_document([element, *modulo_annotations({element: modulo})]))
    new = [] if made.structured_annotations is None else made.structured_annotations.xml_annotations
    for number, note in enumerate(new):
        note.id = f"Annotation:bfbridge:axis:{number}"
    kept = [note for note in known if note.id not in old]
    ome.structured_annotations = (notes or StructuredAnnotations()).model_copy(
        update={"xml_annotations": [*kept, *new]}
    )
    image = ome.images[0]
    image.annotation_refs = [
        *(ref for ref in image.annotation_refs if ref.id not in old),
        *(AnnotationRef(id=note.id) for note in new),
    ]
