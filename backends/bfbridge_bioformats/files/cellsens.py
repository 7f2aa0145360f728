"""Completeness of cellSens data sets: a VSI and the ETS files of its images."""

from __future__ import annotations

from typing import Any, Final

from bfbridge.backend import OpenOptions
from bfbridge.errors import UnreadableFile

__all__ = ["check_all_stacks"]

_READER: Final = "CellSensReader"
_ALLOWS_MISSING: Final = "cellsens.fail_on_missing_ets"
_HAS_FILE: Final = "External file present"


def check_all_stacks(java: Any, name: str, options: OpenOptions) -> None:
    """Refuse a VSI whose images are in more ETS files than were found.

    CellSensReader reads the others, with names and sizes by their position among those found, or
    only the macro image. It can raise an error if there is no ETS file at all, but not by default,
    and only if the last image of the VSI has one.

    Parameters
    ----------
    java
        An open Bio-Formats reader of any format.
    name
        Name of the file, for the message.
    options
        A file may be incomplete if ``cellsens.fail_on_missing_ets`` is False.

    Raises
    ------
    UnreadableFile
        ETS files are missing.
    """
    if str(java.getClass().getSimpleName()) != _READER:
        return
    allowed = options.backend_options.get(_ALLOWS_MISSING)
    if allowed is not None and str(allowed).lower() == "false":
        return
    wanted = sum(_has_file(described) for described in _value(java, "pyramids"))
    parts = [str(file).replace("\\", "/").rpartition("/")[2] for file in java.getUsedFiles()]
    found = sum(part.startswith("frame_") and part.lower().endswith(".ets") for part in parts)
    if found < wanted:
        stem = name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
        raise UnreadableFile(
            f"{name}: the pixels of its {wanted} images are in .ets files, of which {found} were "
            f"found. Put the complete folder _{stem}_ beside the file. What there is can be read "
            f'with backend="bioformats", options={{{_ALLOWS_MISSING!r}: False}}.'
        )


def _has_file(described: Any) -> bool:
    """Return whether a VSI says that the pixels of an image are in another file."""
    values = _value(described, "originalMetadata")
    return any(
        str(entry.getKey()).endswith(_HAS_FILE) and "1" in str(entry.getValue())
        for entry in values.entrySet()
    )


def _value(owner: Any, name: str) -> Any:
    """Return the value of a field that is not public."""
    field = owner.getClass().getDeclaredField(name)
    field.setAccessible(True)
    return field.get(owner)
