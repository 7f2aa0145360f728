"""Reads microscopy files through Bio-Formats, in a Java virtual machine inside this process.

Importing it starts nothing: Java starts when the first file is opened, or by `start`.
"""

from __future__ import annotations

from .inventory import Check, Format, diagnose, formats
from .jar import fetch_jar, find_jar, lookup_report, pinned_version
from .jvm import start
from .reader import BioFormatsReader
from .writer import BioFormatsWriter, writable_suffixes

__all__ = [
    "READER",
    "WRITER",
    "Check",
    "Format",
    "diagnose",
    "fetch_jar",
    "find_jar",
    "formats",
    "lookup_report",
    "pinned_version",
    "start",
    "writable_suffixes",
]

READER = BioFormatsReader
WRITER = BioFormatsWriter
