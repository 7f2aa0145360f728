"""Files that Bio-Formats misreads, laid out so that it reads them rightly."""

from __future__ import annotations

from bfbridge.limits import Limits
from bfbridge.storage.source import RandomAccess
from bfbridge_bioformats.files import dicom, sif

__all__ = ["corrected", "may_need_correction"]


def may_need_correction(head: bytes) -> bool:
    """Whether a file that begins so, with 132 bytes at least, is of a format that is looked at."""
    return head[128:132] == b"DICM" or head.startswith(sif.MAGIC)


def corrected(access: RandomAccess, name: str, limits: Limits) -> RandomAccess | None:
    """Return a file as Bio-Formats reads it rightly, or None where that is so already.

    Raises
    ------
    UnreadableFile, Unsupported
        It is damaged, or cannot be mended.
    """
    for correct in (dicom.corrected, sif.corrected):
        found = correct(access, name, limits)
        if found is not None:
            return found
    return None
