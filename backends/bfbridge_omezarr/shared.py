"""The plan of a store that several processes write: what each process needs to write its part.

It is in ``.bfbridge-shared`` inside the store until the store is finished. Each process also writes
there the range of values it has written, for the display window.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from bfbridge.backend import ImageSpec
from bfbridge.errors import FileMissing, ReadFailed, UnreadableFile
from bfbridge.ngff.omero import Window
from bfbridge_omezarr.chunked.plain import from_plain, to_plain

if TYPE_CHECKING:
    from bfbridge_omezarr.hierarchy.files import KeyTree

__all__ = [
    "FOLDER",
    "AddedArrays",
    "SharedPlan",
    "load_plan",
    "load_windows",
    "plan_document",
    "windows_document",
]

FOLDER: Final = ".bfbridge-shared"
_PLAN: Final = f"{FOLDER}/plan.json"
_FORMAT: Final = 2


@dataclass(frozen=True, slots=True)
class AddedArrays:
    """The arrays of the lower levels that an image of a finished store gets.

    Attributes
    ----------
    image
        Number of the image among those of the reader.
    group, entry
        Key of its group, and number of its entry in ``multiscales``.
    paths
        Paths of all levels' arrays in the group, full size first.
    axes
        Which of T, C, Z, Y, X each axis of the arrays is.
    options
        Options of the writer for the new arrays.
    """

    image: int
    group: str
    entry: int
    paths: Sequence[str]
    axes: Sequence[int]
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SharedPlan:
    """What several processes write.

    Attributes
    ----------
    specs
        The images.
    options
        Options of the writer.
    ome_xml
        OME metadata of a new store, or None.
    added
        For each image, the arrays of its new levels, if these are added to a finished store; empty
        for a new store.
    """

    specs: Sequence[ImageSpec]
    options: Mapping[str, Any]
    ome_xml: str | None
    added: Sequence[AddedArrays] = ()


def plan_document(plan: SharedPlan) -> tuple[str, dict[str, Any]]:
    """Return key and content of the plan."""
    return _PLAN, {
        "format": _FORMAT,
        "options": dict(plan.options),
        "images": to_plain(tuple(plan.specs)),
        "ome_xml": plan.ome_xml,
        "added": [asdict(arrays) for arrays in plan.added],
    }


def load_plan(files: KeyTree) -> SharedPlan:
    """Return the plan of a store.

    Raises
    ------
    FileMissing
        There is no plan: no store was created there, or it is finished.
    UnreadableFile
        The plan is damaged, or from another version of bfbridge.
    """
    path = files.path(_PLAN)
    data = files.read(_PLAN)
    if data is None:
        raise FileMissing(
            f"{files.root}: no store is being written there by several processes: it was not "
            "created, or is finished already."
        )
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT:
            raise UnreadableFile(
                f"{path}: this plan has format {document['format']!r}; this bfbridge reads "
                f"{_FORMAT}. Use one version of bfbridge in all processes."
            )
        specs = from_plain(document["images"])
        if not all(isinstance(spec, ImageSpec) for spec in specs):
            raise TypeError("its images are not a tuple of ImageSpec")
        added = [AddedArrays(**arrays) for arrays in document.get("added", ())]
        return SharedPlan(specs, dict(document["options"]), document["ome_xml"], added)
    except UnreadableFile:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UnreadableFile(f"{path}: the plan cannot be read ({error!r}).") from error


def windows_document(windows: Sequence[Sequence[Window]]) -> tuple[str, dict[str, Any]]:
    """Return key and content of the display windows of one process, for each image and channel."""
    owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    seen = [[[window.low, window.high] for window in image] for image in windows]
    return f"{FOLDER}/seen-{owner}.json", {"windows": seen}


def load_windows(files: KeyTree) -> Iterator[list[list[Window]]]:
    """Yield the display windows of each process. Damaged ones are skipped as not essential."""
    for key in files.names(FOLDER):
        if not key.startswith(f"{FOLDER}/seen-"):
            continue
        try:
            found = json.loads(files.read(key) or b"{}")["windows"]
            yield [[Window(*pair) for pair in image] for image in found]
        except (ReadFailed, ValueError, KeyError, TypeError):
            continue
