"""`--help` at 80 columns, the modules it imports, other names of options, and shell completion."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from bfbridge.cli.app import app
from bfbridge.cli.lazy_group import SUMMARIES
from bfbridge.cli.options.conversion import ConvertHelp
from bfbridge.cli.options.help import aliases
from bfbridge.convert.options import PANELS

COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
PAGE = Path(__file__).parents[3] / "docs" / "command-line.md"
MOST_LINES = 100
# Packages that the list of commands does without.
HEAVY = {
    "numpy", "rich", "pydantic", "ome_types", "asyncio", "urllib.request",
    "bfbridge.cli.commands", "bfbridge.convert", "bfbridge.reader", "bfbridge.registry",
    "bfbridge.rendering", "bfbridge.serve", "bfbridge.viewer",
}  # fmt: skip


def process(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **variables}
    return subprocess.run(
        [sys.executable, "-m", "bfbridge", *arguments],
        env=environment, capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip


def every_command() -> Iterator[tuple[str, ...]]:
    for name, command in COMMANDS.items():
        yield (name,)
        for inner in getattr(command, "commands", {}):
            yield name, inner


@pytest.fixture(scope="module")
def shown() -> dict[tuple[str, ...], str]:
    """The help of each command at 80 columns."""
    code = (
        "import json, sys; from bfbridge.cli.app import app\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    app([*arguments, '--help'], prog_name='bfbridge', standalone_mode=False)\n"
        "    print('\\f', end='')\n"
    )
    commands = list(every_command())
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        env={**os.environ, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"},
        capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    return dict(zip(commands, done.stdout.split("\f"), strict=False))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", list(every_command()), ids=" ".join)
def test_help_fits_two_screens_and_80_columns(name, shown):
    text = shown[name]
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("\n") <= MOST_LINES
    assert not re.search(r"<\w|x[<>]=", text), "types and ranges of Python"
    command = COMMANDS[name[0]]
    for param in (command if len(name) == 1 else command.commands[name[1]]).params:
        if param.param_type_name == "option":
            long = next(n for n in param.opts if n.startswith("--"))
            assert re.search(rf"{re.escape(long)}(?![\w-])", text), long
            if name != ("convert",) or long not in ConvertHelp.brief:
                assert param.help.split()[0] in text


def test_options_of_convert_are_grouped(shown):
    text = shown["convert",]
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings == [*PANELS, "Options"]
    assert text.startswith("Usage: bfbridge convert [OPTIONS] IN... OUT\n")
    words = re.sub(r"\s+", " ", text)
    assert "Also: --swap, --flip-stage, --autostitch/--no-autostitch, --split-rgb," in words
    assert "--help-all Show this message with the descriptions of all options." in words
    assert "-c, --compression CODEC Compression such as zstd" in words
    assert "-j, --jobs N Processes; they are started if" in words
    assert "leaves CPUs idle. [default: 1]" in words


def test_help_all_describes_every_option_of_convert(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        COMMANDS["convert"].main(["--help-all"], prog_name="bfbridge convert")
    text = capsys.readouterr().out
    assert "Also:" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert re.findall(r"^(\S.*):$", text, re.MULTILINE) == [*PANELS, "Options"]
    words = re.sub(r"\s+", " ", text)
    names = set()
    for param in COMMANDS["convert"].params:
        if param.param_type_name == "option":
            long = next(n for n in param.opts if n.startswith("--"))
            names.add(long)
            assert re.search(rf"^ .*{long}(?![\w-])", text, re.MULTILINE), long
            assert param.help in words
    assert names >= ConvertHelp.brief


def test_the_help_of_all_commands_lists_their_summaries():
    text = process("--help").stdout
    assert max(map(len, text.splitlines())) <= 80
    for name, summary in SUMMARIES.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", text, re.MULTILINE)


def test_summaries_are_those_of_the_commands():
    assert {name: c.help.splitlines()[0] for name, c in COMMANDS.items()} == dict(SUMMARIES)


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_no_command(argument):
    code = (
        "import sys; from bfbridge.cli.app import app\n"
        f"app([{argument!r}], prog_name='bfbridge', standalone_mode=False)\n"
        "print('\\f', *sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.partition("\f")[2].split())
    assert "bfbridge.cli.lazy_group" in loaded
    assert loaded & HEAVY == set()


def test_a_command_imports_no_other_command():
    code = (
        "import sys; from bfbridge.cli.app import app\n"
        "app(['info', '--help'], prog_name='bfbridge', standalone_mode=False)\n"
        "print('\\f', *sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.partition("\f")[2].split()
    commands = [name for name in loaded if name.startswith("bfbridge.cli.commands.")]
    assert commands == ["bfbridge.cli.commands.info"]


def test_a_mistyped_command_is_suggested():
    done = subprocess.run(
        [sys.executable, "-m", "bfbridge", "convrt"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "No such command 'convrt'. Did you mean 'convert'?" in done.stderr


def test_other_names_are_on_one_page_and_not_in_the_table(shown):
    page = PAGE.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(--[\w-]+)` \| (.*) \|$", page, re.MULTILINE))
    known = {}
    for command in COMMANDS.values():
        known |= aliases(command)
    assert {name: re.findall(r"`(\S+)`", others) for name, others in rows.items()} == known
    for others in known.values():
        for name in others:
            assert not re.search(rf"{name}(?![\w-])", shown["convert",]), name


def test_aliases_still_work_after_the_help(capsys):
    before = {id(p): list(p.opts) for c in COMMANDS.values() for p in c.params}
    with pytest.raises(SystemExit):
        COMMANDS["convert"].main(["--help"], prog_name="convert")
    capsys.readouterr()
    assert {id(p): list(p.opts) for c in COMMANDS.values() for p in c.params} == before


@pytest.mark.slow(ci=True)
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
