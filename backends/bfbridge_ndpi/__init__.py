"""Hamamatsu NDPI, read without Java."""

from __future__ import annotations

from bfbridge_ndpi.reader import NdpiReader

__all__ = ["READER", "WRITER", "NdpiReader"]

READER = NdpiReader
WRITER = None
