"""Reads microscopy files through Bio-Formats, in a Java virtual machine inside this process.

Importing it starts nothing: Java starts when the first file is opened, or by `start`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .archive import CachedFile, cached_files, clear_cache
    from .inventory import Check, Format, diagnose, formats
    from .jar import fetch_jar, find_jar, lookup_report, pinned_version
    from .jvm import start
    from .reader import BioFormatsReader
    from .writer import BioFormatsWriter, writable_suffixes

    READER: type[BioFormatsReader]
    WRITER: type[BioFormatsWriter]

__all__ = [
    "READER",
    "WRITER",
    "BioFormatsReader",
    "BioFormatsWriter",
    "CachedFile",
    "Check",
    "Format",
    "cached_files",
    "clear_cache",
    "diagnose",
    "fetch_jar",
    "find_jar",
    "formats",
    "lookup_report",
    "pinned_version",
    "start",
    "writable_suffixes",
]

# Imported on use: who reads a file needs a third of it.
_WHERE = {
    "READER": ("reader", "BioFormatsReader"),
    "WRITER": ("writer", "BioFormatsWriter"),
    "BioFormatsReader": ("reader", "BioFormatsReader"),
    "BioFormatsWriter": ("writer", "BioFormatsWriter"),
    "CachedFile": ("archive", "CachedFile"),
    "Check": ("inventory", "Check"),
    "Format": ("inventory", "Format"),
    "cached_files": ("archive", "cached_files"),
    "clear_cache": ("archive", "clear_cache"),
    "diagnose": ("inventory", "diagnose"),
    "fetch_jar": ("jar", "fetch_jar"),
    "find_jar": ("jar", "find_jar"),
    "formats": ("inventory", "formats"),
    "lookup_report": ("jar", "lookup_report"),
    "pinned_version": ("jar", "pinned_version"),
    "start": ("jvm", "start"),
    "writable_suffixes": ("writer", "writable_suffixes"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _WHERE[name]
    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
