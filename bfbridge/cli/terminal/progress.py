"""Progress of conversions: bars on a terminal, plain lines in a log, nothing when quiet."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bfbridge.cli.terminal.stopping import Quiet, Stopper
from bfbridge.cli.terminal.text import say
from bfbridge.convert.execute.pace import Pace, duration

if TYPE_CHECKING:
    from bfbridge.convert.execute.run import Watcher
    from bfbridge.convert.reports.record import FileRecord

__all__ = ["watch"]

LINE_SECONDS = 30.0
LOOK_SECONDS = 10.0


@contextmanager
def watch(stopper: Stopper, *, quiet: bool) -> Iterator[Watcher]:
    """Show a batch on stderr: bars on a terminal, lines elsewhere, nothing when quiet."""
    if quiet:
        yield Quiet(stopper)
    elif sys.stderr.isatty():
        from bfbridge.cli.terminal.bars import show_bars

        with show_bars(stopper) as watcher:
            yield watcher
    else:
        yield _Lines(stopper)


class _Lines(Quiet):
    """One line for each file of a batch, and one every 30 seconds for a long file."""

    def __init__(self, stopper: Stopper) -> None:
        super().__init__(stopper)
        self._lock = threading.Lock()
        self._count = self._ended = 0
        self._pace = Pace(0)
        self._files: dict[int, tuple[str, float, float]] = {}
        self._looked = 0.0

    def looked(self, done: int, total: int) -> None:
        super().looked(done, total)
        now = time.monotonic()
        if not done:
            self._looked = now
            say(f"opening {total} files" if total else "searching for images", err=True)
        elif now - self._looked > LOOK_SECONDS and done < total:
            self._looked = now
            say(f"opened {done} of {total} files", err=True)

    def begin(self, count: int) -> None:
        self._count = count
        self._pace = Pace(count)

    def sized(self, sizes: Sequence[int]) -> None:
        self._pace.sized(sizes)

    def started(self, number: int, name: str) -> None:
        super().started(number, name)
        now = time.monotonic()
        self._pace.started(number)
        self._files[number] = (name, now, now)

    def moved(self, number: int, done: int, total: int) -> None:
        super().moved(number, done, total)
        self._pace.moved(number, done, total)
        with self._lock:
            name, begun, last = self._files.get(number, ("", 0.0, float("inf")))
            now = time.monotonic()
            if now - last < LINE_SECONDS or not total:
                return
            self._files[number] = (name, begun, now)
        rate = done / (now - begun)
        left = f", {duration((total - done) / rate)} left" if rate else ""
        say(f"{name}: {100 * done / total:.0f} %, {rate / 1e6:,.0f} MB/s{left}", err=True)

    def ended(self, number: int, record: FileRecord) -> None:
        with self._lock:
            self._ended += 1
            name = self._files.pop(number, (os.path.basename(record.source), 0.0, 0.0))[0]
            place = f"[{self._ended}/{self._count}]"
        self._pace.ended(number, converted=record.status == "done")
        if self._count < 2:
            return
        left = self._pace.left()
        more = f"; about {duration(left)} left" if left else ""
        if record.status == "failed":
            say(f"{place} FAILED: {record.failure}", err=True)
        elif record.status == "kept":
            say(f"{place} {name}: kept, complete already{more}", err=True)
        else:
            say(f"{place} {name}: done in {record.seconds:.1f} s{more}", err=True)
