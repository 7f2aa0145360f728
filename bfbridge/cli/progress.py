"""Progress as people expect it: a bar on a terminal, plain lines in a log, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

__all__ = ["follow"]

LINE_SECONDS = 30.0


@contextmanager
def follow(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show the progress of one file on stderr; yields what takes (bytes done, bytes in all)."""
    console = Console(stderr=True, highlight=False)
    if quiet:
        yield None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(),
            TransferSpeedColumn(), TimeRemainingColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console, transient=True) as bars:
            task = bars.add_task(name, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
    else:
        yield _lines(console, name)


def _lines(console: Console, name: str) -> Callable[[int, int], None]:
    begun = last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < LINE_SECONDS or not total:
            return
        last = now
        rate = done / (now - begun)
        left = (total - done) / rate if rate else float("inf")
        console.print(
            f"{name}: {100 * done / total:.0f} %, {rate / 1e6:,.0f} MB/s, {left:,.0f} s left"
        )

    return tell
