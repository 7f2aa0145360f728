"""OME-Zarr, read and written natively: NGFF 0.1 to 0.6, Zarr versions 2 and 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bfbridge_omezarr.append import OmeZarrWriter
from bfbridge_omezarr.reader import OmeZarrReader

if TYPE_CHECKING:
    from bfbridge_omezarr.validation import validate
    from bfbridge_omezarr.validation.identifying import find_identifying

__all__ = ["READER", "WRITER", "OmeZarrReader", "OmeZarrWriter", "find_identifying", "validate"]

READER = OmeZarrReader
WRITER = OmeZarrWriter


def __getattr__(name: str) -> Any:
    # Imported on first use: reading does not need the checks.
    if name == "find_identifying":
        from bfbridge_omezarr.validation.identifying import find_identifying

        return find_identifying
    if name == "validate":
        from bfbridge_omezarr.validation import validate

        return validate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
