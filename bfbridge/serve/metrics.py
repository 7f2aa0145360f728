"""Counters of a server, which all worker processes share, in the text format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator, MutableSequence
from contextlib import contextmanager
from typing import Final

__all__ = ["CELLS", "Metrics"]

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the latency histogram, in seconds."""
_COUNTERS: Final = {
    "abandoned": "Requests whose client disconnected before the reply.",
    "dropped": "Jobs that were dropped before their start, because no request waited.",
    "wasted": "Jobs that were completed although no request waited.",
    "computed": "Jobs that were completed.",
    "joined": "Requests that waited for the job of another request.",
    "refused": "Requests refused because too many were waiting.",
    "cache_hits": "Replies from the cache.",
    "cache_misses": "Replies that were computed.",
    "not_modified": "Replies with status 304.",
    "files_opened": "Files opened.",
    "files_failed": "Files that could not be opened.",
    "sent_bytes": "Bytes of bodies sent.",
}
_GAUGES: Final = {
    "requests_active": "Requests that are running.",
    "open_files": "Open files.",
    "cache_bytes": "Size of the cache in bytes.",
    "queued": "Jobs that wait.",
}
_STATUSES: Final = ("2xx", "3xx", "4xx", "5xx")
_NAMES: Final = (
    *_COUNTERS, *_GAUGES, *(f"status_{s}" for s in _STATUSES),
    *(f"latency_{limit}" for limit in BUCKETS), "latency_sum", "latency_count",
)  # fmt: skip
_PLACES: Final = {name: place for place, name in enumerate(_NAMES)}
CELLS: Final = len(_NAMES)
"""Number of counters of one process."""


class Metrics:
    """Counters of one worker, and the sums of all workers.

    Parameters
    ----------
    cells
        `CELLS` numbers for each worker, shared by all of them. Default: of this process alone.
    worker
        Number of this worker. A process changes its own counters only, so no lock is needed.
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
        """Return the sum of a counter over all workers."""
        return sum(self._cells[_PLACES[name] :: CELLS])

    @contextmanager
    def active(self) -> Iterator[None]:
        """Count a request while it runs."""
        self.add("requests_active")
        try:
            yield
        finally:
            self.add("requests_active", -1)

    def answered(self, status: int, begun: float) -> None:
        """Count a reply.

        Parameters
        ----------
        status
            Status code of HTTP.
        begun
            Time of the request, from `time.perf_counter`.
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
        """Return all counters in the text format of Prometheus, version 0.0.4."""
        lines: list[str] = []
        for kind, known in (("counter", _COUNTERS), ("gauge", _GAUGES)):
            for name, meaning in known.items():
                shown = f"bfbridge_{name}_total" if kind == "counter" else f"bfbridge_{name}"
                lines += [f"# HELP {shown} {meaning}", f"# TYPE {shown} {kind}"]
                lines.append(f"{shown} {self.get(name):.17g}")
        shown = "bfbridge_requests_total"
        lines += [f"# HELP {shown} Replies by status.", f"# TYPE {shown} counter"]
        lines += [f'{shown}{{status="{s}"}} {self.get(f"status_{s}"):.17g}' for s in _STATUSES]
        return "\n".join([*lines, *self._histogram(), ""])

    def _histogram(self) -> list[str]:
        shown = "bfbridge_request_seconds"
        lines = [f"# HELP {shown} Time to reply.", f"# TYPE {shown} histogram"]
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
