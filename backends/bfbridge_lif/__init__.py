"""Leica LIF, read without Java."""

from __future__ import annotations

from bfbridge_lif.reader import LifReader

__all__ = ["READER", "WRITER", "LifReader"]

READER = LifReader
WRITER = None
