"""How long a batch will take: what is left, at the rate of what was converted."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

__all__ = ["Pace", "duration"]

OVERHEAD = 8 << 20
"""Bytes of pixels that take about as long as opening a file and finishing another."""
LEAST_SECONDS = 3.0
LEAST_PART = 0.01
"""Least seconds, and least part of all pixels, before a rate is shown."""


class Pace:
    """Estimates the time that is left. Methods may be called from any thread.

    Files count by their pixels. Those that were complete already, or failed, are not counted in the
    rate at which others are converted.

    Parameters
    ----------
    count
        How many files.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._weights = [float(OVERHEAD)] * count
        self._open = set(range(count))
        self._parts: dict[int, float] = {}
        self._done = 0.0
        self._begun: float | None = None

    def sized(self, sizes: Sequence[int]) -> None:
        """Take the bytes of pixels of each file, 0 where that is not known."""
        known = [size for size in sizes if size]
        usual = sum(known) / len(known) if known else 0.0
        with self._lock:
            self._weights = [float(OVERHEAD + (size or usual)) for size in sizes]

    def started(self, number: int) -> None:
        """Note that a file is begun."""
        with self._lock:
            if self._begun is None:
                self._begun = time.monotonic()
            self._parts[number] = 0.0

    def moved(self, number: int, done: int, total: int) -> None:
        """Take how much of a file is done."""
        with self._lock:
            if number in self._parts and total:
                self._parts[number] = min(1.0, done / total)

    def ended(self, number: int, *, converted: bool) -> None:
        """Note that a file is over."""
        with self._lock:
            self._parts.pop(number, None)
            self._open.discard(number)
            if converted:
                self._done += self._weights[number]

    def left(self) -> float | None:
        """Seconds that are left; None while they cannot be estimated."""
        with self._lock:
            if not self._open:
                return 0.0
            if self._begun is None:
                return None
            spent = time.monotonic() - self._begun
            under_way = sum(self._weights[n] * part for n, part in self._parts.items())
            done = self._done + under_way
            if spent < LEAST_SECONDS or done < LEAST_PART * sum(self._weights):
                return None
            return (sum(self._weights[n] for n in self._open) - under_way) * spent / done


def duration(seconds: float) -> str:
    """Say how long something takes, to two digits.

    >>> duration(8.2), duration(140), duration(7500)
    ('8 s', '2 min', '2 h 5 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
