"""What runs in the browser: its size, that it stays here, and its types."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from importlib.resources import files

import pytest

pytest.importorskip("cmap")

from bfbridge.viewer.assets import MODULES, PALETTES, PARTS, palettes, static_file

STATIC = files("bfbridge.viewer").joinpath("static")
NAMES = sorted(entry.name for entry in STATIC.iterdir())


def served(name: str) -> str:
    content = static_file(f"{name}.js")
    assert content is not None
    return content.decode()


def test_it_is_small() -> None:
    shown = "".join(served(name) for name in (*MODULES, "page"))
    assert len(shown.encode()) < 80_000
    whole = b"".join(STATIC.joinpath(name).read_bytes() for name in NAMES)
    assert len(gzip.compress(whole, 9)) < 50_000


def test_comments_are_left_out() -> None:
    for name in (*MODULES, *PARTS, "page", "widget"):
        source = STATIC.joinpath(f"{name}.js").read_text("utf-8")
        assert not re.search(r"/\*\*|^ *//", served(name), re.MULTILINE)
        # The numbers of lines in a browser's console are those of the file.
        assert served(name).count("\n") == source.count("\n")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    text = STATIC.joinpath(name).read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import\s+url|eval\(|new Function|innerHTML", text)


def test_every_module_is_listed_after_those_it_imports() -> None:
    listed = (*MODULES, *PARTS)
    others = {"page.js", "widget.js", "types.js", "view.css"}
    assert {f"{name}.js" for name in listed} | others == set(NAMES)
    known: set[str] = set()
    for name in listed:
        imported = re.findall(r"^import .* from '\./(\w+)\.js';", served(name), re.MULTILINE)
        assert set(imported) <= known
        known.add(name)


def test_parts_are_imported_when_they_are_used() -> None:
    later = {
        part
        for name in (*MODULES, *PARTS, "page")
        for part in re.findall(r"\bimport\('\./(\w+)\.js'\)", served(name))
    }
    assert later == set(PARTS)


def test_palettes() -> None:
    found = palettes()
    assert len(found["labels"]) == 255
    assert len(found["names"]) == len(found["palettes"]) == len(PALETTES)
    assert all(len(colors) == 256 for colors in found["palettes"])


def test_types() -> None:
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("tsc is not installed")
    # One run for both pages: the window of `bfbridge gui` uses modules of the viewer.
    folders = (STATIC, files("bfbridge.gui").joinpath("static"))
    scripts = [str(f) for folder in folders for f in folder.iterdir() if f.name.endswith(".js")]
    options = "--checkJs --allowJs --noEmit --strict --target es2022 --module es2022"
    library = "--moduleResolution bundler --lib es2023,dom,dom.iterable"
    command = [tsc, *options.split(), *library.split(), *scripts]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert found.returncode == 0, found.stdout
