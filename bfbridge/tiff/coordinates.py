"""Recognition of GeoTIFF files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bfbridge.errors import BfbridgeError
from bfbridge.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from bfbridge.storage.source import Source

__all__ = ["has_coordinates"]

_GEO_KEYS: Final = 34735
"""The tag GeoKeyDirectory: GeoTIFF 1.1 (OGC 19-008r4), 7.1.1."""


def has_coordinates(source: Source) -> bool:
    """Return whether the first directory of the TIFF file `source` has the GeoKeyDirectory."""
    from bfbridge.tiff.directories import TiffFile

    access = source.open()
    try:
        directory = TiffFile(access, source.name, DEFAULT_LIMITS).directory(0)
        return directory is not None and _GEO_KEYS in directory
    except BfbridgeError:
        return False
    finally:
        access.close()
