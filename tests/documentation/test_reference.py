"""Every stable name has a numpy docstring, which documents its parameters."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import zlib
from pathlib import Path

import pytest

import bfbridge

ROOT = Path(__file__).parents[2]
# Modules for users: each parameter is in a section "Parameters". The others are the contract of
# backends, where a parameter that many methods share is described once.
CONTRACT = tuple(
    f"bfbridge.{name}" for name in ("backend", "registry", "testing", "aics", "large_image")
)
# Made by the library: their attributes are documented, not the arguments of their constructors.
MADE = {"bfbridge.large_image.Tile", "bfbridge.large_image.TileIterator"}
SECTION = re.compile(
    r"^(?:Parameters|Attributes)\n-+\n(.*?)(?=^[A-Z][^\n]*\n-{3,}$|\Z)", re.MULTILINE | re.DOTALL
)


def check_script():
    spec = importlib.util.spec_from_file_location("check", ROOT / "docs" / "check_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def check(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return check_script()


def stable_objects():
    """Yield (name, object, docstring of the owner) of each stable name and its public members."""
    for path in sorted(check_script().stable_names()):
        module, _, name = path.rpartition(".")
        if name in vars(bfbridge).get("__all__", ()) and module == "bfbridge":
            each = getattr(bfbridge, name)
        elif path.count(".") == 1:
            each = importlib.import_module(path)
        else:
            each = getattr(importlib.import_module(module), name)
        if inspect.isclass(each) or inspect.isroutine(each) or inspect.ismodule(each):
            yield path, each, ""
        if inspect.isclass(each):
            for member, value in vars(each).items():
                function = getattr(value, "__func__", value)
                public = not member.startswith(("_", "test_"))
                if public and (inspect.isfunction(function) or isinstance(value, property)):
                    yield f"{path}.{member}", function, each.__doc__


def parameters(each):
    if inspect.ismodule(each) or isinstance(each, property):
        return set()
    if inspect.isclass(each) and issubclass(each, BaseException):
        return set()
    try:
        names = inspect.signature(each).parameters
    except ValueError:
        return set()
    return {name for name in names if name not in ("self", "cls") and not name.startswith("_")}


def in_sections(text):
    found = set()
    for section in SECTION.findall(inspect.cleandoc(text)):
        for line in section.splitlines():
            if line and not line[0].isspace():
                found |= {name.strip().lstrip("*") for name in line.split(":")[0].split(",")}
    return found


@pytest.mark.parametrize(
    ("path", "each", "owner"),
    [pytest.param(*found, id=found[0]) for found in stable_objects()],
)
def test_a_stable_name_is_documented(path, each, owner):
    text = inspect.getdoc(each) or ""
    assert text, f"{path} has no docstring"
    assert "\n" not in text.split("\n\n")[0], f"the summary of {path} is longer than a line"
    known = in_sections(text)
    if path.startswith(CONTRACT):
        module = importlib.import_module(".".join(path.split(".")[:2]))
        known |= set(re.findall(r"`(\w+)`", "".join((text, owner or "", module.__doc__))))
    if path in MADE:
        return
    assert parameters(each) - known == set(), f"{path}: parameters without a description"


def inventory(names):
    header = b"# Sphinx inventory version 2\n# Project: x\n# Version: 0\n# zlib\n"
    lines = "".join(f"{name} py:class 1 reference/#$ -\n" for name in names)
    return header + zlib.compress(lines.encode())


def test_a_site_without_a_stable_name_is_refused(check, tmp_path):
    names = check.stable_names()
    assert {"bfbridge.imread", "bfbridge.backend.ChunkGrid", "bfbridge.wipp.main"} <= names
    (tmp_path / "objects.inv").write_bytes(inventory(names))
    check.main(str(tmp_path))
    (tmp_path / "objects.inv").write_bytes(inventory(names - {"bfbridge.errors.Closed"}))
    with pytest.raises(SystemExit, match="the reference lacks: bfbridge.errors.Closed"):
        check.main(str(tmp_path))


def test_the_stable_modules_are_those_of_the_page(check):
    page = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`bfbridge\.(\w+)`", page)) - {"__all__", "engine"}
    assert named == set(check.MODULES)
