"""Leica LIF, read without Java."""

from __future__ import annotations

from .reader import LifReader

__all__ = ["READER", "WRITER", "LifReader"]

READER = LifReader
WRITER = None
