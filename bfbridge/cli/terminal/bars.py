"""Progress bars on a terminal: one for the batch, and one for each running file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from bfbridge.cli.terminal.stopping import Quiet
from bfbridge.cli.terminal.text import shown_by
from bfbridge.convert.execute.pace import Pace, duration
from bfbridge.runtime.terminal import printable

if TYPE_CHECKING:
    from bfbridge.cli.terminal.stopping import Stopper
    from bfbridge.convert.reports.record import FileRecord

__all__ = ["show_bars"]

WIDE = 60
"""Smallest width of a terminal, in columns, on which rates are shown next to the bars."""
WIDEST = 26
"""Width of the text next to a bar, in columns."""


@contextmanager
def show_bars(stopper: Stopper) -> Iterator[Quiet]:
    """Show bars on stderr while the block runs, and remove them when it ends."""
    console = Console(stderr=True, highlight=False)

    def show(line: str) -> None:
        console.print(Text(line), soft_wrap=True)

    # Bars are narrower than the terminal, so that an echoed ^C does not start a new line.
    free = console.width - _name_width(console) - (WIDEST if _is_wide(console) else 9) - 5
    columns = (
        _Name(),
        BarColumn(bar_width=max(4, min(40, free))),
        TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console, transient=True) as bars, shown_by(show):
        yield _Bars(stopper, bars, console)


def _is_wide(console: Console) -> bool:
    return console.width >= WIDE


def _name_width(console: Console) -> int:
    """Return the width of a name in columns: a third of the terminal."""
    return max(8, console.width // 3)


class _Name(ProgressColumn):
    """The name of a file, shortened in its middle to at most a third of the terminal."""

    def __init__(self) -> None:
        super().__init__(table_column=Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        """Return the name."""
        name, width = task.description, task.fields["width"]
        if len(name) > width:
            name = f"{name[: (width - 1) // 2]}…{name[len(name) - width // 2 :]}"
        return Text(name)


class _Bars(Quiet):
    """One bar for the search or the batch, and one for each running file."""

    def __init__(self, stopper: Stopper, bars: Progress, console: Console) -> None:
        super().__init__(stopper)
        self._bars = bars
        self._console = console
        self._files: dict[int, TaskID] = {}
        self._search: TaskID | None = None
        self._batch: TaskID | None = None
        self._count = self._ended = 0
        self._pace = Pace(0)

    def _add(self, name: str) -> TaskID:
        width = _name_width(self._console)
        return self._bars.add_task(printable(name), total=None, text="", width=width)

    def looked(self, done: int, total: int) -> None:
        super().looked(done, total)
        if self._search is None:
            self._search = self._add("searching")
        if total:
            what = "opening files" if _is_wide(self._console) else "opening"
            self._bars.update(
                self._search, description=what, completed=done, total=total,
                text=f"{done}/{total}",
            )  # fmt: skip

    def begin(self, count: int) -> None:
        """Set the number of files."""
        if self._search is not None:
            self._bars.remove_task(self._search)
        self._count, self._pace = count, Pace(count)
        if count > 1:
            self._batch = self._add("all files")
            self._bars.update(self._batch, total=count, text=f"0/{count}")

    def sized(self, sizes: Sequence[int]) -> None:
        self._pace.sized(sizes)

    def started(self, number: int, name: str) -> None:
        super().started(number, name)
        self._pace.started(number)
        self._files[number] = self._add(name)

    def moved(self, number: int, done: int, total: int) -> None:
        super().moved(number, done, total)
        self._pace.moved(number, done, total)
        bar = self._files.get(number)
        if bar is None:
            return
        task = next(task for task in self._bars.tasks if task.id == bar)
        text = f"{100 * done / total:.0f} %" if total else ""
        if _is_wide(self._console) and task.speed:
            text += f" {task.speed / 1e6:,.0f} MB/s"
            if self._batch is None:
                text += f" {duration(task.time_remaining or 0)} left"
        self._bars.update(bar, completed=done, total=total, text=text)
        self._update_batch()

    def ended(self, number: int, record: FileRecord) -> None:
        task = self._files.pop(number, None)
        if task is not None:
            self._bars.remove_task(task)
        self._ended += 1
        self._pace.ended(number, converted=record.status == "done")
        self._update_batch()
        if record.status == "failed" and self._batch is not None:
            self._console.print(Text(printable(f"FAILED: {record.failure}")), soft_wrap=True)

    def _update_batch(self) -> None:
        if self._batch is None:
            return
        text = f"{self._ended}/{self._count}"
        left = self._pace.left()
        if _is_wide(self._console) and left:
            text += f" about {duration(left)} left"
        self._bars.update(self._batch, completed=self._ended, text=text)
