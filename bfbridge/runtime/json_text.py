"""JSON with indentation, several times as fast as `json.dumps`.

CPython's C encoder writes no indentation; `json.dumps` with ``indent`` runs generators for every
value.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json.encoder import encode_basestring as _quoted
from typing import Any

__all__ = ["indented_json"]


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
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int:
        return repr(value)
    if value is None:
        return "null"
    if isinstance(value, dict):
        if not value:
            return "{}"
        inner = f"{line}  "
        items = [f"{_key(k)}: {_text(v, inner, default)}" for k, v in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{line}}}"
    if isinstance(value, (list, tuple)):
        if not value:
            return "[]"
        inner = f"{line}  "
        return f"[{inner}{f',{inner}'.join([_text(v, inner, default) for v in value])}{line}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=default is not None, default=default)


def _key(key: Any) -> str:
    # Numbers as keys become texts.
    return _quoted(key) if type(key) is str else json.dumps({key: 0}, ensure_ascii=False)[1:-4]
