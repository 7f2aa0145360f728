"""Nikon ND2, read without Java."""

from __future__ import annotations

from bfbridge_nd2.reader import Nd2Reader

__all__ = ["READER", "WRITER", "Nd2Reader"]

READER = Nd2Reader
WRITER = None
