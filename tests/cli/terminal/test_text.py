"""Names and metadata are escaped before they are printed."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ome_types import from_xml

from bfbridge.cli.terminal.text import printable_json, printable_xml
from bfbridge.runtime.terminal import printable
from tests.support.commands import ODD, RAW, SHOWN, Run, write


@pytest.mark.skipif(
    sys.getfilesystemencoding() != "utf-8", reason="the name is made for file systems with UTF-8"
)
def test_text_is_escaped() -> None:
    assert printable(ODD) == SHOWN
    assert printable("µ 日本 é\u00a0x  y") == "µ 日本 é\u00a0x  y"
    assert printable("one\n  two\tthree\r\n") == "one two three"
    document = {"name": f"x{ODD}\U0001f600\U000e0001"}
    shown = printable_json(json.dumps(document, indent=1, ensure_ascii=False))
    assert not RAW.search(shown)
    assert json.loads(shown) == document
    xml = printable_xml('<a b="x\x9b\u202e">\x7f\n\u2028</a>')
    assert not RAW.search(xml)
    assert xml == '<a b="x&#x9B;&#x202E;">&#x7F;\n&#x2028;</a>'


@pytest.mark.java
@pytest.mark.skipif(sys.platform == "win32", reason="such names need another file system")
def test_odd_names_never_reach_a_terminal_raw(run: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "in" / ODD, name="cells\x9b[1m", channel_names=["\u202eDAPI"])
    (tmp_path / "in/\x1bcut.ome.tif").write_bytes(source.read_bytes()[:200])
    commands: list[Sequence[Any]] = [
        ("info", source), ("info", source, "--json"), ("info", tmp_path / "in"),
        ("info", tmp_path / "in", "--json"), ("info", tmp_path / ("none" + ODD)),
        ("convert", source, tmp_path / ("b" + ODD)), ("convert", source, tmp_path / ("b" + ODD)),
        ("convert", tmp_path / "in", tmp_path / "out\x1b"),
        ("convert", tmp_path / "in", tmp_path / "out\x1b", "--resume", "--quiet"),
        ("convert", source, tmp_path / "c.xyz\x1b"),
        ("convert", source, tmp_path / "x", "--z", "\x1b"),
        ("info", source, "--\x1b"), ("\x1b",),
    ]  # fmt: skip
    for command in commands:
        done = run(*command)
        assert not RAW.search(done.out + done.err), command
        assert "fault of bfbridge" not in done.err
    assert SHOWN in run("info", source).out


@pytest.mark.filterwarnings("default")
def test_warnings_of_the_library_are_escaped(
    run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def describe(*_: Any) -> dict[str, Any]:
        logging.getLogger("bfbridge.x").warning("first \x1b[2J %s", "second\nline")
        warnings.warn("third \x9b", UserWarning, stacklevel=2)
        return {"file": ""}

    monkeypatch.setattr("bfbridge.analysis.description.describe", describe)
    monkeypatch.setattr("bfbridge.cli.terminal.description.print_description", lambda *_: None)
    done = run("info", folder / "a.ome.tif")
    assert done.err == "warning: first \\x1b[2J second line\nwarning: third \\x9b\n"


def test_ome_xml_for_another_program_is_as_stored(run: Run, tmp_path: Path) -> None:
    source = write(tmp_path / "a.ome.tif", name="cells\x9b")
    done = run("info", source, "--ome-xml")
    assert "cells\x9b" in done.out
    assert from_xml(done.out.encode()).images[0].name == "cells\x9b"
