"""ZEISS CZI, read without Java."""

from __future__ import annotations

from bfbridge_czi.reader import CziReader

__all__ = ["READER", "WRITER", "CziReader"]

READER = CziReader
WRITER = None
