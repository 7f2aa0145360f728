"""JSON with indentation equals that of the standard library."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from bfbridge.runtime.json_text import indented_json

VALUES: Any = [
    {}, [], (), "", "a\"b\\c\n\x01é\u2028\ud800", 0, -7, 10**30, 1.5, 1e300, True, False, None,
    {"a": {"b": [], "c": {}, "d": [1, [2, [3, {"e": None}]]]}, "f": ("x", 2.0)},
    {1: "int", 2.5: "float", False: "bool", None: "none"},
    OrderedDict(b=1, a=[True, {"deep": [{}]}]),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
def test_it_is_that_of_json(value: Any) -> None:
    assert indented_json(value) == json.dumps(value, indent=2, ensure_ascii=False)


def test_other_values() -> None:
    value = {"path": Path("a"), "set": [{1}], "nan": float("nan")}
    wanted = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    assert indented_json(value, str) == wanted
    with pytest.raises(TypeError):
        indented_json({"path": Path("a")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        indented_json([float("inf")])
