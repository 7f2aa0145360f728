"""Bars on a terminal: one for the batch, and one for each file under way."""

from __future__ import annotations

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

from bfbridge.cli.stopping import Quiet

if TYPE_CHECKING:
    from bfbridge.cli.stopping import Stopper
    from bfbridge.convert.record import FileRecord

__all__ = ["show_bars"]


@contextmanager
def show_bars(stopper: Stopper) -> Iterator[Quiet]:
    """Show bars on stderr while the block runs; they go when it ends."""
    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True) as bars:
        yield _Bars(stopper, bars, console)


class _Bars(Quiet):
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
            self._console.print(f"failed: {record.source}", markup=False)
