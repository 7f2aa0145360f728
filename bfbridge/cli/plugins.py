"""Backends of other distributions, loaded to find out which of them work."""

from __future__ import annotations

from bfbridge.errors import BfbridgeError
from bfbridge.registry import Entry, third_party

__all__ = ["load_plugins"]


def load_plugins() -> list[tuple[Entry, str]]:
    """Load the backends of other distributions; return each with its error, "" for none."""
    found = []
    for entry in third_party():
        try:
            entry.load()
            found.append((entry, ""))
        except BfbridgeError as error:
            found.append((entry, str(error)))
    return found
