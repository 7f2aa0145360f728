"""The modules of the window: that they stay here, and the order of the list.

tests/viewer/test_viewer_source.py checks their types.
"""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

from bfbridge.gui.page import FILES, MODULES, SHARED, gui_file

STATIC = files("bfbridge.gui").joinpath("static")
NAMES = sorted(entry.name for entry in STATIC.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = STATIC.joinpath(name).read_text("utf-8")
    assert not re.search(r"https?://|@import\s+url|eval\(|new Function|innerHTML", text)


def test_every_module_is_listed_after_those_it_imports() -> None:
    assert {*FILES, "types.js"} == set(NAMES)
    known = {f"../../viewer/static/{name}" for name in SHARED}
    for name in MODULES:
        text = (gui_file(f"{name}.js") or b"").decode()
        assert "/**" not in text
        assert set(re.findall(r"^import .* from '(.*)';", text, re.MULTILINE)) <= known
        known.add(f"./{name}.js")
