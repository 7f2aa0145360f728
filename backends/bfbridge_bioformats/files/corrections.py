"""Files that Bio-Formats reads incorrectly, rearranged so that it reads them correctly."""

from __future__ import annotations

from bfbridge.limits import Limits
from bfbridge.storage.source import RandomAccess
from bfbridge_bioformats.files import dicom, sif

__all__ = ["corrected", "may_need_correction"]


def may_need_correction(head: bytes) -> bool:
    """Whether a file with this start (at least 132 bytes) has a format that may need correction."""
    return head[128:132] == b"DICM" or head.startswith(sif.MAGIC)


def corrected(access: RandomAccess, name: str, limits: Limits) -> RandomAccess | None:
    """Return a file in a form that Bio-Formats reads correctly, or None if it needs no correction.

    Raises
    ------
    UnreadableFile, Unsupported
        It is damaged, or cannot be corrected.
    """
    for correct in (dicom.corrected, sif.corrected):
        found = correct(access, name, limits)
        if found is not None:
            return found
    return None
