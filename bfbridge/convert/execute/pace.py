"""The estimated remaining time of a batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

__all__ = ["Pace", "duration"]

OVERHEAD = 8 << 20
"""Overhead of a file, as the bytes of pixels that are converted in the same time."""
LEAST_SECONDS = 3.0
LEAST_PART = 0.01
"""Shortest time, and smallest share of all pixels, before an estimate is shown."""


class Pace:
    """Estimates the remaining time. Methods may be called from any thread.

    The weight of a file is its number of pixels. Files that failed or were kept are not part of the
    measured rate.

    Parameters
    ----------
    count
        Number of files.
    """

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._weights = [float(OVERHEAD)] * count
        self._open = set(range(count))
        self._parts: dict[int, float] = {}
        self._done = 0.0
        self._begun: float | None = None

    def sized(self, sizes: Sequence[int]) -> None:
        """Set the bytes of pixels of each file; 0 where they are unknown."""
        known = [size for size in sizes if size]
        usual = sum(known) / len(known) if known else 0.0
        with self._lock:
            self._weights = [float(OVERHEAD + (size or usual)) for size in sizes]

    def started(self, number: int) -> None:
        """Record the start of a file."""
        with self._lock:
            if self._begun is None:
                self._begun = time.monotonic()
            self._parts[number] = 0.0

    def moved(self, number: int, done: int, total: int) -> None:
        """Record the progress of a file."""
        with self._lock:
            if number in self._parts and total:
                self._parts[number] = min(1.0, done / total)

    def ended(self, number: int, *, converted: bool) -> None:
        """Record the end of a file."""
        with self._lock:
            self._parts.pop(number, None)
            self._open.discard(number)
            if converted:
                self._done += self._weights[number]

    def fraction(self) -> float:
        """Return the share of the pixels that is done, 0 to 1, with files that failed."""
        with self._lock:
            whole = sum(self._weights)
            running = sum(self._weights[n] * part for n, part in self._parts.items())
            return 1 - (sum(self._weights[n] for n in self._open) - running) / max(whole, 1.0)

    def left(self) -> float | None:
        """Return the remaining seconds; None while they cannot be estimated."""
        with self._lock:
            if not self._open:
                return 0.0
            if self._begun is None:
                return None
            spent = time.monotonic() - self._begun
            running = sum(self._weights[n] * part for n, part in self._parts.items())
            done = self._done + running
            if spent < LEAST_SECONDS or done < LEAST_PART * sum(self._weights):
                return None
            return (sum(self._weights[n] for n in self._open) - running) * spent / done


def duration(seconds: float) -> str:
    """Return a duration as text, rounded to two digits.

    >>> duration(8.2), duration(140), duration(7500)
    ('8 s', '2 min', '2 h 5 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
