"""Progress as people expect it: bars on a terminal, plain lines in a log, nothing when quiet."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from bfbridge.cli.stopping import Quiet, Stopper

if TYPE_CHECKING:
    from bfbridge.convert.record import FileRecord
    from bfbridge.convert.run import Watcher

__all__ = ["watch"]

LINE_SECONDS = 30.0


@contextmanager
def watch(stopper: Stopper, *, quiet: bool) -> Iterator[Watcher]:
    """Show a batch on stderr: bars on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        yield Quiet(stopper)
    elif sys.stderr.isatty():
        from bfbridge.cli.bars import show_bars

        with show_bars(stopper) as watcher:
            yield watcher
    else:
        yield _Lines(stopper)


class _Lines(Quiet):
    """One line for each file of a batch, and one every half minute of a long file."""

    def __init__(self, stopper: Stopper) -> None:
        super().__init__(stopper)
        self._lock = threading.Lock()
        self._count = self._ended = 0
        self._begun = time.monotonic()
        self._files: dict[int, tuple[str, float, float]] = {}

    def begin(self, count: int) -> None:
        self._count = count

    def started(self, number: int, name: str) -> None:
        super().started(number, name)
        now = time.monotonic()
        self._files[number] = (name, now, now)

    def moved(self, number: int, done: int, total: int) -> None:
        super().moved(number, done, total)
        with self._lock:
            name, begun, last = self._files.get(number, ("", 0.0, float("inf")))
            now = time.monotonic()
            if now - last < LINE_SECONDS or not total:
                return
            self._files[number] = (name, begun, now)
        rate = done / (now - begun)
        left = (total - done) / rate if rate else float("inf")
        typer.echo(
            f"{name}: {100 * done / total:.0f} %, {rate / 1e6:,.0f} MB/s, {left:,.0f} s left",
            err=True,
        )

    def ended(self, number: int, record: FileRecord) -> None:
        with self._lock:
            self._ended += 1
            name = self._files.pop(number, (os.path.basename(record.source), 0.0, 0.0))[0]
            if self._count < 2:
                return
            spent = time.monotonic() - self._begun
            left = spent / self._ended * (self._count - self._ended)
            told = {"kept": "kept, complete already", "failed": "FAILED"}.get(
                record.status, f"done in {record.seconds:.1f} s"
            )
            typer.echo(
                f"[{self._ended}/{self._count}] {name}: {told}; {left:,.0f} s left", err=True
            )
