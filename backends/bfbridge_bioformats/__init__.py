"""Reads microscopy files through Bio-Formats, in a Java virtual machine inside this process.

Importing it does not start Java. Java starts when the first file is opened, or by `start`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bfbridge_bioformats.indexing.index import index_at
    from bfbridge_bioformats.jars.locate import fetch_jar, find_jar, lookup_report, pinned_version
    from bfbridge_bioformats.reader import BioFormatsReader
    from bfbridge_bioformats.readers.inventory import Check, Format, diagnose, formats
    from bfbridge_bioformats.runtime.cds_archive import CachedFile, cached_files, clear_cache
    from bfbridge_bioformats.runtime.machine import start
    from bfbridge_bioformats.writer import BioFormatsWriter, writable_suffixes

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
    "index_at",
    "lookup_report",
    "pinned_version",
    "start",
    "writable_suffixes",
]

# Imported on first use: reading a file needs a third of the modules.
_WHERE = {
    "READER": ("reader", "BioFormatsReader"),
    "WRITER": ("writer", "BioFormatsWriter"),
    "BioFormatsReader": ("reader", "BioFormatsReader"),
    "BioFormatsWriter": ("writer", "BioFormatsWriter"),
    "CachedFile": ("runtime.cds_archive", "CachedFile"),
    "Check": ("readers.inventory", "Check"),
    "Format": ("readers.inventory", "Format"),
    "cached_files": ("runtime.cds_archive", "cached_files"),
    "clear_cache": ("runtime.cds_archive", "clear_cache"),
    "diagnose": ("readers.inventory", "diagnose"),
    "fetch_jar": ("jars.locate", "fetch_jar"),
    "find_jar": ("jars.locate", "find_jar"),
    "formats": ("readers.inventory", "formats"),
    "index_at": ("indexing.index", "index_at"),
    "lookup_report": ("jars.locate", "lookup_report"),
    "pinned_version": ("jars.locate", "pinned_version"),
    "start": ("runtime.machine", "start"),
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
