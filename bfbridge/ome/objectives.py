"""Magnifications stated in OME-XML, without the classes of ome_types, which are slow to import."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

from bfbridge.errors import UnreadableFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ome_types import OME

__all__ = ["magnifications_in", "magnifications_of"]


@lru_cache(maxsize=1)
def magnifications_in(xml: str) -> tuple[float | None, ...]:
    """Return the nominal magnification of the objective of each Image; None if unknown.

    An Image without ObjectiveSettings has the only Objective of the document. If an objective has
    no nominal magnification, the calibrated one is returned.

    Raises
    ------
    UnreadableFile
        The text is not well-formed, or has a document type.
    """
    objectives: list[tuple[str | None, float | None]] = []
    wanted: list[str | None] = []
    path: list[str] = []

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name == "Image" and len(path) == 1:
            wanted.append(None)
        elif name == "ObjectiveSettings" and path[-1:] == ["Image"] and wanted:
            wanted[-1] = attributes.get("ID")
        elif name == "Objective" and path[-1:] == ["Instrument"]:
            value = _number(attributes, "NominalMagnification")
            value = value or _number(attributes, "CalibratedMagnification")
            objectives.append((attributes.get("ID"), value))
        path.append(name)

    def end(_: str) -> None:
        path.pop()

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(xml.lstrip("\ufeff \t\r\n").encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise UnreadableFile(f"the OME-XML is not well-formed ({error}).") from error
    return _of_images(wanted, objectives)


def magnifications_of(ome: OME) -> tuple[float | None, ...]:
    """Return what `magnifications_in` returns, of a document of ome_types."""
    objectives = [
        (objective.id, objective.nominal_magnification or objective.calibrated_magnification)
        for instrument in ome.instruments
        for objective in instrument.objectives
    ]
    settings = [image.objective_settings for image in ome.images]
    return _of_images([None if each is None else each.id for each in settings], objectives)


def _of_images(
    wanted: Sequence[str | None], objectives: Sequence[tuple[str | None, float | None]]
) -> tuple[float | None, ...]:
    # The first objective of an ID counts.
    known = dict(reversed(objectives))
    only = objectives[0][1] if len(objectives) == 1 else None
    return tuple(only if identity is None else known.get(identity) for identity in wanted)


def _number(attributes: Mapping[str, str], name: str) -> float | None:
    try:
        return float(attributes[name])
    except (KeyError, ValueError):
        return None


def _refuse(*_: object) -> NoReturn:
    raise UnreadableFile("the OME-XML has a document type, which it never needs.")
