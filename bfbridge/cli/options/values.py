"""Values of options, read from text."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from bfbridge.errors import BadArgument

__all__ = ["pairs"]


def pairs(given: list[str] | None, *, lists: bool = False) -> dict[str, Any]:
    """Read NAME=VALUE; integers, true and false become Python values.

    Parameters
    ----------
    given
        The texts.
    lists
        Whether integers with commas (1,5,256) become a tuple.

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
            numbers = tuple(int(part) for part in (value.split(",") if lists else [value]))
            pairs[name] = numbers if len(numbers) > 1 else numbers[0]
    return pairs
