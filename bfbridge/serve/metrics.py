"""Counters of a server, in the text format of Prometheus; all worker processes share them."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from typing import Final

__all__ = ["CELLS", "Metrics"]

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Seconds."""
_COUNTERS: Final = {
    "abandoned": "Requests whose client left before the answer.",
    "dropped": "Pieces of work that were never started, as nobody waited any more.",
    "wasted": "Pieces of work that were completed while nobody waited any more.",
    "computed": "Pieces of work that were completed.",
    "joined": "Requests that waited for work already asked for by another.",
    "refused": "Requests refused because too many were waiting.",
    "cache_hits": "Replies from the cache.",
    "cache_misses": "Replies that had to be computed.",
    "not_modified": "Requests answered with 304.",
    "files_opened": "Files opened.",
    "files_failed": "Files that could not be opened.",
    "sent_bytes": "Bytes of bodies sent.",
}
_GAUGES: Final = {
    "requests_active": "Requests that are being answered.",
    "open_files": "Files that are open.",
    "cache_bytes": "Bytes of the cache.",
    "queued": "Pieces of work that wait.",
}
_STATUSES: Final = ("2xx", "3xx", "4xx", "5xx")
_NAMES: Final = (
    *_COUNTERS, *_GAUGES, *(f"status_{s}" for s in _STATUSES),
    *(f"latency_{limit}" for limit in BUCKETS), "latency_sum", "latency_count",
)  # fmt: skip
_PLACES: Final = {name: place for place, name in enumerate(_NAMES)}
CELLS: Final = len(_NAMES)
"""Numbers that one process counts in."""


class Metrics:
    """Counts for one worker; renders the sums of all.

    Parameters
    ----------
    cells
        `CELLS` numbers for each worker, shared by all of them. Default: of this process alone.
    worker
        Which of them this is. Each process changes its own numbers only, so that no lock is needed.
    """

    def __init__(self, cells: MutableSequence[float] | None = None, worker: int = 0) -> None:
        self._cells: MutableSequence[float] = [0.0] * CELLS if cells is None else cells
        self._first = worker * CELLS

    def add(self, name: str, value: float = 1) -> None:
        """Add to a counter, or to a gauge."""
        self._cells[self._first + _PLACES[name]] += value

    def set(self, name: str, value: float) -> None:
        """Set a gauge."""
        self._cells[self._first + _PLACES[name]] = value

    def get(self, name: str) -> float:
        """Return a number, summed over all workers."""
        return sum(self._cells[_PLACES[name] :: CELLS])

    @contextmanager
    def active(self) -> Iterator[None]:
        """Count a request that is being answered."""
        self.add("requests_active")
        try:
            yield
        finally:
            self.add("requests_active", -1)

    def answered(self, status: int, begun: float) -> None:
        """Count an answer.

        Parameters
        ----------
        status
            Of HTTP.
        begun
            When the request came, by `time.perf_counter`.
        """
        seconds = time.perf_counter() - begun
        self.add(f"status_{min(max(status // 100, 2), 5)}xx")
        self.add("latency_sum", seconds)
        self.add("latency_count")
        for limit in BUCKETS:
            if seconds <= limit:
                self.add(f"latency_{limit}")
                break

    def as_text(self) -> str:
        """Return all numbers in the text format of Prometheus, version 0.0.4."""
        lines: list[str] = []
        for kind, known in (("counter", _COUNTERS), ("gauge", _GAUGES)):
            for name, meaning in known.items():
                shown = f"bfbridge_{name}_total" if kind == "counter" else f"bfbridge_{name}"
                lines += [f"# HELP {shown} {meaning}", f"# TYPE {shown} {kind}"]
                lines.append(f"{shown} {self.get(name):.17g}")
        shown = "bfbridge_requests_total"
        lines += [f"# HELP {shown} Answers by status.", f"# TYPE {shown} counter"]
        lines += [f'{shown}{{status="{s}"}} {self.get(f"status_{s}"):.17g}' for s in _STATUSES]
        return "\n".join([*lines, *self._histogram(), ""])

    def _histogram(self) -> list[str]:
        shown = "bfbridge_request_seconds"
        lines = [f"# HELP {shown} Time to answer.", f"# TYPE {shown} histogram"]
        below = 0.0
        for limit in BUCKETS:
            below += self.get(f"latency_{limit}")
            lines.append(f'{shown}_bucket{{le="{limit}"}} {below:.17g}')
        count = self.get("latency_count")
        lines.append(f'{shown}_bucket{{le="+Inf"}} {count:.17g}')
        return [
            *lines,
            f"{shown}_sum {self.get('latency_sum'):.17g}",
            f"{shown}_count {count:.17g}",
        ]
