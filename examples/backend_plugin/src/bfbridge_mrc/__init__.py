"""MRC 2014 files, read and written: the smallest complete bfbridge backend."""

from __future__ import annotations

from bfbridge_mrc.reader import MrcReader
from bfbridge_mrc.writer import MrcWriter

__all__ = ["READER", "SUFFIXES", "WRITER"]

READER = MrcReader
WRITER = MrcWriter
SUFFIXES = (".mrc",)
