"""`--help` at 80 columns, other names of options, and shell completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from bfbridge.cli.app import app
from bfbridge.cli.help import aliases

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"


def process(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **variables}
    return subprocess.run(
        [sys.executable, "-m", "bfbridge", *arguments],
        env=environment, capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["info", "convert", "render", "serve", "formats", "doctor"])
def test_no_option_is_cut_off_at_80_columns(name):
    shown = process(name, "--help").stdout
    assert "\u2026" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for param in COMMANDS[name].params:
        if param.param_type_name == "option":
            assert re.search(rf"{re.escape(param.opts[0])}\b", shown), param.opts[0]


def test_other_names_are_on_one_page_and_not_in_the_table():
    page = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(--[\w-]+)` \| (.*) \|$", page, re.MULTILINE))
    known = {}
    for command in COMMANDS.values():
        known |= aliases(command)
    assert {name: re.findall(r"`(\S+)`", others) for name, others in rows.items()} == known
    shown = process("convert", "--help").stdout
    for others in known.values():
        for name in others:
            assert not re.search(rf"{name}(?![\w-])", shown), name


def test_aliases_still_work_after_the_help(capsys):
    before = {id(p): list(p.opts) for c in COMMANDS.values() for p in c.params}
    with pytest.raises(SystemExit):
        COMMANDS["convert"].main(["--help"], prog_name="convert")
    capsys.readouterr()
    assert {id(p): list(p.opts) for c in COMMANDS.values() for p in c.params} == before


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_of_the_shell(shell):
    words = "bfbridge conv"
    variables = {"_BFBRIDGE_COMPLETE": f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": "1"}
    variables["_TYPER_COMPLETE_ARGS"] = words
    code = "from bfbridge.cli.app import app; app(prog_name='bfbridge')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "convert" in done.stdout
    assert "render" not in done.stdout
