"""Bio-Formats for bfbridge: jars that bfbridge finds by importing this package.

The jars are a work of the Open Microscopy Environment and its contributors under GPL-2.0-or-later;
``NOTICE.md`` and ``SOURCE.md`` in the distribution's licence folder have the details.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["JARS", "PINS"]

JARS = Path(__file__).resolve().parent / "jars"
"""Folder of the jars."""

PINS = JARS / "pins.toml"
"""Version, names, sizes and SHA-256 hashes of the jars."""
