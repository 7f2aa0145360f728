"""OME-Zarr, read and written natively: NGFF 0.1 to 0.6, Zarr versions 2 and 3."""

from __future__ import annotations

from bfbridge_omezarr.append import OmeZarrWriter
from bfbridge_omezarr.reader import OmeZarrReader

__all__ = ["READER", "WRITER", "OmeZarrReader", "OmeZarrWriter"]

READER = OmeZarrReader
WRITER = OmeZarrWriter
