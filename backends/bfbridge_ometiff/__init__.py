"""OME-TIFF and its family, read and written without Java."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bfbridge_ometiff.reader import OmeTiffReader
from bfbridge_ometiff.reading.image_size import image_size

if TYPE_CHECKING:
    from bfbridge_ometiff.append import OmeTiffWriter
    from bfbridge_ometiff.identifying import find_identifying
    from bfbridge_ometiff.validation import validate

    WRITER = OmeTiffWriter

__all__ = [
    "READER",
    "WRITER",
    "OmeTiffReader",
    "OmeTiffWriter",
    "find_identifying",
    "image_size",
    "validate",
]

READER = OmeTiffReader


def __getattr__(name: str) -> Any:
    # Imported on first use: reading needs neither the encoders nor the checks.
    if name in ("WRITER", "OmeTiffWriter"):
        from bfbridge_ometiff.append import OmeTiffWriter

        return OmeTiffWriter
    if name == "find_identifying":
        from bfbridge_ometiff.identifying import find_identifying

        return find_identifying
    if name == "validate":
        from bfbridge_ometiff.validation import validate

        return validate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
