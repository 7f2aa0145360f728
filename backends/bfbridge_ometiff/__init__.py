"""OME-TIFF and its family, read and written without Java."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bfbridge_ometiff.reader import OmeTiffReader
from bfbridge_ometiff.reading.image_size import image_size

if TYPE_CHECKING:
    from bfbridge_ometiff.writer import OmeTiffWriter

    WRITER = OmeTiffWriter

__all__ = ["READER", "WRITER", "OmeTiffReader", "OmeTiffWriter", "image_size"]

READER = OmeTiffReader


def __getattr__(name: str) -> Any:
    # Imported on first use: reading does not need the encoders.
    if name in ("WRITER", "OmeTiffWriter"):
        from bfbridge_ometiff.writer import OmeTiffWriter

        return OmeTiffWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
