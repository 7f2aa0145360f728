"""What runs in the browser: its size, that it stays here, and its types."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from importlib.resources import files

import pytest

pytest.importorskip("cmap")

from bfbridge.viewer.assets import MODULES, PALETTES, palettes, static_file

STATIC = files("bfbridge.viewer").joinpath("static")
NAMES = sorted(entry.name for entry in STATIC.iterdir())


def test_it_is_small() -> None:
    whole = b"".join(STATIC.joinpath(name).read_bytes() for name in NAMES)
    # What is sent: the server compresses it once.
    assert len(gzip.compress(whole, 9)) < 50_000


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = STATIC.joinpath(name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import\s+url|eval\(|new Function|innerHTML", text)


def test_every_module_is_listed_after_those_it_imports() -> None:
    assert {f"{name}.js" for name in MODULES} | {"page.js", "widget.js", "view.css"} == set(NAMES)
    known: set[str] = set()
    for name in MODULES:
        text = (static_file(f"{name}.js") or b"").decode()
        assert set(re.findall(r"^import .* from '\./(\w+)\.js';", text, re.MULTILINE)) <= known
        known.add(name)


def test_palettes() -> None:
    found = palettes()
    assert len(found["labels"]) == 255
    assert len(found["names"]) == len(found["palettes"]) == len(PALETTES)
    assert all(len(colors) == 256 for colors in found["palettes"])


def test_types() -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("tsc is not installed")
    scripts = [str(STATIC.joinpath(name)) for name in NAMES if name.endswith(".js")]
    options = "--checkJs --allowJs --noEmit --strict --target es2022 --module es2022"
    library = "--moduleResolution bundler --lib es2023,dom,dom.iterable"
    command = [tsc, *options.split(), *library.split(), *scripts]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert found.returncode == 0, found.stdout
