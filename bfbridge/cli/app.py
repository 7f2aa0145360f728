"""The command ``bfbridge``: its options, and what happens to errors and signals."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated, Any

import typer

import bfbridge
from bfbridge.cli.lazy_group import LazyGroup
from bfbridge.cli.terminal.text import LogLines, show_error, warn
from bfbridge.errors import BfbridgeError

__all__ = ["app", "run_app"]

app = typer.Typer(
    name="bfbridge",
    cls=LazyGroup,
    help="One reader and one writer for every microscopy image.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
            f"{type(error).__name__}: {error}. This is a defect of bfbridge; run again with "
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
    """Exit after arguments that click refuses; show the help if there were none."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(message, err=True)
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
