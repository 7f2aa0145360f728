"""Progress as people expect it: bars on a terminal, plain lines in a log, nothing when quiet."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from bfbridge.convert.batch import Watcher

if TYPE_CHECKING:
    from bfbridge.convert.record import FileRecord

__all__ = ["Stopper", "watch"]

LINE_SECONDS = 30.0


class Stopper:
    """Turns a signal into an orderly end: the next progress call raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self, number: int, frame: object) -> None:
        """Take a signal."""
        del frame
        if self.signal is not None:
            # Asked twice: do not wait for the block under way.
            raise KeyboardInterrupt
        self.signal = number

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if a signal has come."""
        if self.signal is not None:
            raise KeyboardInterrupt


@contextmanager
def watch(stopper: Stopper, *, quiet: bool) -> Iterator[Watcher]:
    """Show a batch on stderr: bars on a terminal, lines elsewhere, nothing when quiet."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield _Quiet(stopper)
    elif console.is_terminal:
        with Progress(console=console, transient=True) as bars:
            yield _Bars(stopper, bars, console)
    else:
        yield _Lines(stopper, console)


class _Quiet(Watcher):
    def __init__(self, stopper: Stopper) -> None:
        self._stopper = stopper

    def started(self, number: int, name: str) -> None:
        self._stopper.check()

    def moved(self, number: int, done: int, total: int) -> None:
        self._stopper.check()


class _Bars(_Quiet):
    """One bar for the batch, and one for each file under way."""

    def __init__(self, stopper: Stopper, bars: Progress, console: Console) -> None:
        super().__init__(stopper)
        self._bars = bars
        self._console = console
        self._files: dict[int, TaskID] = {}
        self._batch: TaskID | None = None
        bars.columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
            TransferSpeedColumn(), TimeRemainingColumn(),
        )  # fmt: skip

    def begin(self, count: int) -> None:
        """Take the number of files."""
        if count > 1:
            self._bars.columns = (
                TextColumn("{task.description}"), BarColumn(),
                MofNCompleteColumn() if count > 1 else DownloadColumn(),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            )  # fmt: skip
            self._batch = self._bars.add_task("all files", total=count, rate="")

    def started(self, number: int, name: str) -> None:
        super().started(number, name)
        self._files[number] = self._bars.add_task(escape(name), total=None, rate="")

    def moved(self, number: int, done: int, total: int) -> None:
        super().moved(number, done, total)
        task = self._files.get(number)
        if task is not None:
            speed = self._bars.tasks[0].speed if self._batch is None else None
            rate = f"{speed / 1e6:,.0f} MB/s" if speed else ""
            unit = 1 if self._batch is None else 1e6
            self._bars.update(task, completed=done / unit, total=total / unit, rate=rate)

    def ended(self, number: int, record: FileRecord) -> None:
        task = self._files.pop(number, None)
        if task is not None:
            self._bars.remove_task(task)
        if self._batch is not None:
            self._bars.advance(self._batch)
        if record.status == "failed" and self._batch is not None:
            self._console.print(f"failed: {record.source}: {record.error}", markup=False)


class _Lines(_Quiet):
    """One line for each file of a batch, and one every half minute of a long file."""

    def __init__(self, stopper: Stopper, console: Console) -> None:
        super().__init__(stopper)
        self._console = console
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
        self._console.print(
            f"{name}: {100 * done / total:.0f} %, {rate / 1e6:,.0f} MB/s, {left:,.0f} s left",
            markup=False,
        )

    def ended(self, number: int, record: FileRecord) -> None:
        with self._lock:
            self._ended += 1
            name = self._files.pop(number, (record.source, 0.0, 0.0))[0]
            if self._count < 2:
                return
            spent = time.monotonic() - self._begun
            left = spent / self._ended * (self._count - self._ended)
            told = {"kept": "kept, complete already", "failed": f"FAILED: {record.error}"}.get(
                record.status, f"done in {record.seconds:.1f} s"
            )
            self._console.print(
                f"[{self._ended}/{self._count}] {name}: {told}; {left:,.0f} s left", markup=False
            )
