"""Checks of arguments: a valid value is converted, any other raises `BadArgument`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bfbridge.errors import BadArgument

__all__ = ["flag", "number", "one_of", "text_or_none", "whole"]


def flag(value: Any, name: str) -> bool:
    """Return True or False; 1 and 0 are accepted.

    Raises
    ------
    BadArgument
        `value` is not a boolean.
    """
    if value is True or value is False:
        return value
    if isinstance(value, (int, np.integer, np.bool_)) and value in (0, 1):
        return bool(value)
    raise BadArgument(f"{name}={value!r}: give True or False.")


def whole(value: Any, name: str, least: int = 0, most: int | None = None) -> int:
    """Return an integer between two bounds.

    Raises
    ------
    BadArgument
        `value` is not an integer, or is outside the bounds.
    """
    good = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not good or value < least or (most is not None and value > most):
        bounds = f"{least} or more" if most is None else f"from {least} to {most}"
        raise BadArgument(f"{name}={value!r}: give an integer, {bounds}.")
    return int(value)


def number(value: Any, name: str, *, positive: bool = False) -> float:
    """Return a finite number.

    Raises
    ------
    BadArgument
        `value` is not a number, not finite, or not above 0 with `positive`.
    """
    kinds = (int, float, np.integer, np.floating)
    good = isinstance(value, kinds) and not isinstance(value, (bool, np.bool_))
    try:
        found = float(value) if good else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or (positive and found <= 0):
        raise BadArgument(f"{name}={value!r}: give a number{' above 0' if positive else ''}.")
    return found


def one_of(value: Any, name: str, choices: Sequence[str]) -> str:
    """Return one of several texts.

    Raises
    ------
    BadArgument
        `value` is none of them.
    """
    if isinstance(value, str) and value in choices:
        return value
    raise BadArgument(f"{name}={value!r}: use one of {', '.join(choices)}.")


def text_or_none(value: Any, name: str) -> str | None:
    """Return a text, or None.

    Raises
    ------
    BadArgument
        `value` is neither.
    """
    if value is None or isinstance(value, str):
        return value
    raise BadArgument(f"{name}={value!r}: give a text, or None.")
