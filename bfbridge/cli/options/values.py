"""Values of options, read from text."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from bfbridge.errors import BadArgument

__all__ = ["pairs"]


def pairs(given: list[str] | None) -> dict[str, Any]:
    """Read NAME=VALUE; integers, true and false become Python values.

    Raises
    ------
    BadArgument
        A text is not of the form NAME=VALUE.
    """
    pairs: dict[str, Any] = {}
    for text in given or []:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise BadArgument(f"{text!r}: give NAME=VALUE.")
        pairs[name] = {"true": True, "false": False}.get(value.lower(), value)
        with suppress(ValueError):
            pairs[name] = int(value)
    return pairs
