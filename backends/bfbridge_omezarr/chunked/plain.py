"""Conversion of records of the backend contract to JSON and back.

The fields of a record are found by introspection, so that an added field is included without a
change here. A value that JSON does not have is an object with one key that names its type.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from bfbridge.backend import (
    Channel,
    Extras,
    Image,
    ImageSpec,
    Level,
    PixelSize,
    Placement,
    Quantity,
    StoredAs,
)

__all__ = ["from_plain", "to_plain"]

_RECORDS: Final[Mapping[str, Any]] = {
    kind.__name__: kind
    for kind in (
        Channel,
        Extras,
        Image,
        ImageSpec,
        Level,
        PixelSize,
        Placement,
        Quantity,
        StoredAs,
    )
}


def to_plain(value: Any) -> Any:
    """Return a record, or a value in one, as JSON values.

    Raises
    ------
    TypeError
        It contains a value that no record has.
    """
    if isinstance(value, np.generic):
        value = value.item()
    kind = type(value).__name__
    if dataclasses.is_dataclass(value) and kind in _RECORDS:
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {kind: {name: to_plain(item) for name, item in fields.items()}}
    if isinstance(value, (Quantity, Placement)):
        return {kind: {name: to_plain(item) for name, item in value._asdict().items()}}
    if isinstance(value, (tuple, list)):
        return {kind: [to_plain(item) for item in value]}
    if isinstance(value, Mapping):
        return {"dict": [[to_plain(key), to_plain(item)] for key, item in value.items()]}
    if isinstance(value, np.dtype):
        return {"dtype": value.newbyteorder("<").str}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, complex):
        return {"complex": [to_plain(value.real), to_plain(value.imag)]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{value!r:.60} is not a value of a record")


def from_plain(plain: Any) -> Any:
    """Return the record that `to_plain` converted.

    Raises
    ------
    ValueError, TypeError, KeyError
        The input does not come from `to_plain`.
    """
    if not isinstance(plain, dict):
        return plain
    ((kind, inner),) = plain.items()
    if kind in _RECORDS:
        return _RECORDS[kind](**{name: from_plain(item) for name, item in inner.items()})
    makers: dict[str, Callable[[], Any]] = {
        "tuple": lambda: tuple(map(from_plain, inner)),
        "list": lambda: list(map(from_plain, inner)),
        "dict": lambda: {from_plain(key): from_plain(item) for key, item in inner},
        "dtype": lambda: np.dtype(inner).newbyteorder("="),
        "bytes": lambda: base64.b64decode(inner, validate=True),
        "complex": lambda: complex(*map(from_plain, inner)),
        "float": lambda: float(inner),
    }
    return makers[kind]()
