"""The commands."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from typing import Annotated, Any

import typer

import bfbridge
from bfbridge.cli.cache import cache_app
from bfbridge.cli.convert import convert
from bfbridge.cli.help import ShortHelp
from bfbridge.cli.info import info
from bfbridge.cli.render import render
from bfbridge.cli.serve import serve
from bfbridge.cli.text import LogLines, printable_json, say, show_error, warn
from bfbridge.cli.view import view
from bfbridge.errors import BfbridgeError
from bfbridge.runtime.terminal import printable

__all__ = ["run_app"]

app = typer.Typer(
    name="bfbridge",
    help="One reader and one writer for every microscopy image.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
jar_app = typer.Typer(help="The Bio-Formats jar.", no_args_is_help=True)
app.add_typer(jar_app, name="jar")
app.add_typer(cache_app, name="cache")
app.command(cls=ShortHelp)(info)
app.command(cls=ShortHelp)(convert)
app.command(cls=ShortHelp)(render)
app.command(cls=ShortHelp)(serve)
app.command(cls=ShortHelp)(view)


def run_app() -> None:
    """Run the command line and exit with its code."""
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
        _fail("interrupted; unfinished files were removed.", 130)
    except BrokenPipeError:
        # The reader of the output has ended; Python must not report an error when it flushes.
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
            "--debug and report the output."
        )
    finally:
        log.removeHandler(lines)
    raise SystemExit(code or 0)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """Show a warning as one line, without the source line that raised it."""
    warn(str(message))


def _fail(message: str, code: int = 1) -> None:
    show_error(message)
    raise SystemExit(code)


def _refuse(error: Any) -> None:
    """Exit after arguments that click refuses; without arguments it has shown the help."""
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
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
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

    from bfbridge.cli.doctor import plugins
    from bfbridge.registry import find, preferred, read_suffixes, written_suffixes

    known = find("bioformats").load().formats()
    third_parties = plugins()
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "name": f.name,
                "reader": f.reader,
                "suffixes": list(f.suffixes),
                "domains": list(f.domains),
                "writes": list(f.writes),
            }
            for f in known
        ]
        rows += [
            {
                "plugin": entry.name,
                "module": entry.module,
                "brought_by": entry.distribution,
                "suffixes": list(read_suffixes(entry)),
                "writes": list(written_suffixes(entry)),
            }
            | ({"error": wrong} if wrong else {})
            for entry, wrong in third_parties
        ]
        typer.echo(printable_json(json.dumps(rows, indent=2, ensure_ascii=False)))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("format", "suffixes", "written"):
        table.add_column(column, overflow="fold")
    for f in sorted(known, key=lambda f: f.name.lower()):
        table.add_row(Text(f.name), Text(" ".join(f.suffixes)), Text(" ".join(f.writes)))
    for entry, _ in third_parties:
        read, written = read_suffixes(entry), written_suffixes(entry)
        if read or written:
            name = f"{entry.name} (plug-in)"
            table.add_row(*(Text(printable(t)) for t in (name, " ".join(read), " ".join(written))))
    console = Console(highlight=False)
    console.print(table)
    suffixes = {suffix for f in known for suffix in f.suffixes}
    console.print(
        f"\n{len(known)} formats with {len(suffixes)} suffixes through Bio-Formats; OME-TIFF and "
        "OME-Zarr are read and written natively."
    )
    first = preferred()
    for entry, wrong in third_parties:
        use = "used before the backends of bfbridge" if entry in first else "used for other formats"
        told = wrong or f"plug-in {entry.name}, of {entry.distribution}: {use}"
        console.print(Text(printable(told), style="red" if wrong else ""), soft_wrap=True)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for a report.")] = False,
) -> None:
    """Check the installation, and show how to install what is missing."""
    from bfbridge.cli.doctor import examine, show

    report = examine()
    if as_json:
        typer.echo(printable_json(json.dumps(report, indent=2, ensure_ascii=False)))
    else:
        show(report)
    if not report["healthy"]:
        raise typer.Exit(1)


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
