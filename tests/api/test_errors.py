"""The tree of errors is the one that the docstring draws."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from bfbridge import errors
from bfbridge.errors import BfbridgeError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception)
}


def drawn() -> dict[str, tuple[str, str | None]]:
    """Name: (parent, Python's kind) as the module's docstring draws them."""
    tree: dict[str, tuple[str, str | None]] = {}
    path: list[str] = []
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        found = re.match(r"^    ([│ ]*)(?:├── |└── )?([A-Z]\w+)(?: +\((\w+)\))?", line)
        if not found or (not found[3] and found[2] != "BfbridgeError"):
            continue
        depth = 0 if found[2] == "BfbridgeError" else len(found[1]) // 4 + 1
        del path[depth:]
        if path:
            tree[found[2]] = (path[-1], found[3])
        path.append(found[2])
    return tree


def test_the_drawing_and_the_classes_are_the_same() -> None:
    assert set(drawn()) | {"BfbridgeError"} == set(CLASSES)
    for name, (parent, kind) in drawn().items():
        assert CLASSES[parent] in CLASSES[name].__bases__, name
        assert kind is not None
        wanted = getattr(__import__("builtins"), kind)
        assert issubclass(CLASSES[name], wanted), f"{name} is no {kind}"


def test_all_is_complete_and_sorted() -> None:
    assert set(errors.__all__) == set(CLASSES)
    assert errors.__all__ == sorted(errors.__all__)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_each_keeps_its_message_and_can_be_pickled(name: str) -> None:
    error = CLASSES[name]("slide.czi: why, and what to do.")
    assert isinstance(error, BfbridgeError)
    assert str(error) == "slide.czi: why, and what to do."
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert CLASSES[name].__doc__
