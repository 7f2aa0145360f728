"""JSON with indentation, several times as fast as `json.dumps`.

CPython's C encoder writes no indentation; `json.dumps` with ``indent`` runs generators for every
value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring as _quoted
from math import isfinite
from typing import Any, Final

__all__ = ["indented_json"]

_NAMES: Final = {None: "null", True: "true", False: "false"}


def indented_json(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """Return what ``json.dumps(value, indent=2, ensure_ascii=False)`` returns.

    Parameters
    ----------
    value
        The values that `json.dumps` takes.
    default
        Converts other values to these, as in `json.dumps`. Without it, they are an error, and so
        are NaN and infinities, which JSON lacks.

    Raises
    ------
    TypeError, ValueError
        A value that JSON cannot have.
    """
    return _text(value, "\n", default)


def _text(value: Any, line: str, default: Callable[[Any], Any] | None) -> str:
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = f"{line}  "
        items = [
            f"{_quoted(k) if type(k) is str else _key(k)}: "
            f"{_quoted(v) if type(v) is str else _text(v, inner, default)}"
            for k, v in value.items()
        ]
        return f"{{{inner}{f',{inner}'.join(items)}{line}}}"
    if isinstance(value, (list, tuple)):
        if not value:
            return "[]"
        inner = f"{line}  "
        items = [repr(v) if type(v) is int else _text(v, inner, default) for v in value]
        return f"[{inner}{f',{inner}'.join(items)}{line}]"
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int or (kind is float and isfinite(value)):
        return repr(value)
    if value is None or kind is bool:
        return _NAMES[value]
    return json.dumps(value, ensure_ascii=False, allow_nan=default is not None, default=default)


def _key(key: Any) -> str:
    """Return a key that is no text as one: numbers become texts."""
    return json.dumps({key: 0}, ensure_ascii=False)[1:-4]
