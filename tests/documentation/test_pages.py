"""Every code block of the documentation runs; the site names only what is there."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml

import bfbridge

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Blocks of text show output, or commands that install something.
KINDS = {"python", "sh", "text"}


def name(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def blocks(path: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def run_command(line: str, folder: Path) -> None:
    program, *arguments = shlex.split(line)
    assert program == "bfbridge", line
    done = subprocess.run(
        [sys.executable, "-m", "bfbridge", *arguments],
        cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def stale_engine() -> bool:
    """Whether the environment has metadata of another bfbridge than the one that is tested."""
    found = entry_points(group="xarray.backends", name="bfbridge")
    return any(importlib.util.find_spec(each.module) is None for each in found)


@pytest.mark.java
@pytest.mark.parametrize("path", [p for p in PAGES if blocks(p)], ids=name)
def test_blocks_run_in_order(path, tmp_path, monkeypatch):
    if 'engine="bfbridge"' in path.read_text(encoding="utf-8") and stale_engine():
        pytest.skip("the entry point of xarray is of another bfbridge: install this one")
    if path.name == "bioio.md":
        pytest.importorskip("bioio", reason="the extra `test` installs it")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    namespace: dict[str, object] = {"__name__": "page"}
    for number, (kind, text) in enumerate(blocks(path)):
        assert kind in KINDS, f"block {number} of {name(path)} is of the kind {kind!r}"
        if kind == "python":
            with warnings.catch_warnings():
                # Blocks are short: files that they leave open are closed with the namespace.
                warnings.simplefilter("ignore", ResourceWarning)
                exec(compile(text, f"{name(path)} block {number}", "exec"), namespace)
        elif kind == "sh":
            for line in text.splitlines():
                run_command(line, tmp_path)
        else:
            runs = [line for line in text.splitlines() if line.startswith("bfbridge ")]
            assert runs == [], "commands of bfbridge are in blocks of the kind sh, which are run"


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r":\s+([\w/-]+\.md)$", text, re.MULTILINE))
    generated = {"command-line-options.md", "formats.md"}
    assert listed == {name(path) for path in PAGES} | generated


def test_pages_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == bfbridge.__version__
    assert not os.path.isabs((DOCS / "index.md").relative_to(ROOT))


def test_the_reference_has_every_public_name():
    text = "\n".join(p.read_text(encoding="utf-8") for p in (DOCS / "reference").glob("*.md"))
    named = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    for each in bfbridge.__all__:
        if each in ("__version__", "JAR_VERSION"):
            continue
        where = bfbridge._WHERE.get(each)
        paths = {f"bfbridge.{each}", f"{where}.{each}", where, "bfbridge.errors"}
        assert named & paths, f"{each} is not in the reference"
