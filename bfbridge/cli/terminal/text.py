"""Text for a terminal. Names and metadata come from files, and may contain control characters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from bfbridge.runtime.terminal import printable

__all__ = [
    "LogLines",
    "printable_json",
    "printable_xml",
    "say",
    "show_error",
    "shown_by",
    "silenced",
    "warn",
]

_show: Callable[[str], None] | None = None


def printable_json(text: str) -> str:
    """Return a JSON document without characters that a terminal would interpret."""
    return "".join(
        ch if ch.isprintable() or ch == "\n" else "".join(f"\\u{unit:04x}" for unit in _utf16(ch))
        for ch in text
    )


def _utf16(ch: str) -> list[int]:
    data = ch.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]


def printable_xml(text: str) -> str:
    """Return an XML document without characters that a terminal would interpret."""
    return "".join(ch if ch.isprintable() or ch in "\n\t" else f"&#x{ord(ch):X};" for ch in text)


def say(text: str, *, err: bool = False) -> None:
    """Print one line."""
    typer.echo(printable(text), err=err)


def show_error(text: str) -> None:
    """Print an error on stderr."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, highlight=False).print(
        Text.assemble(("error: ", "bold red"), printable(text)), soft_wrap=True
    )


def warn(text: str) -> None:
    """Print a warning on stderr, above the progress bars."""
    line = printable(f"warning: {text}")
    if _show is None:
        typer.echo(line, err=True)
    else:
        _show(line)


@contextmanager
def shown_by(show: Callable[[str], None]) -> Iterator[None]:
    """Print warnings with a function while the block runs."""
    global _show
    before, _show = _show, show
    try:
        yield
    finally:
        _show = before


@contextmanager
def silenced() -> Iterator[None]:
    """Print no warnings while the block runs."""
    with shown_by(lambda line: None):
        yield


class LogLines(logging.Handler):
    """Prints warnings that the library logs, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        warn(record.getMessage())
