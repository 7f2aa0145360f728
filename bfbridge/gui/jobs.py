"""The conversions of a window: a queue, one conversion at a time, in a thread."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from bfbridge.convert import convert
from bfbridge.convert.execute.pace import Pace, duration
from bfbridge.convert.execute.run import Watcher
from bfbridge.convert.reports.record import FileRecord, reason_of
from bfbridge.errors import BadArgument, BatchFailed
from bfbridge.runtime import forking

if TYPE_CHECKING:
    from bfbridge.gui.formats import Order

__all__ = ["Job", "Queue"]

log = logging.getLogger("bfbridge.gui")
_MOST_SHOWN: Final = 50
"""Largest number of files and errors of one conversion that the page shows."""
_JOIN_SECONDS: Final = 30.0


class _Cancelled(KeyboardInterrupt):
    """Ends a conversion like Ctrl-C: a batch would record an `Exception` and continue."""


class Job(Watcher):
    """One conversion: what was ordered, how far it is, and what came of it.

    Parameters
    ----------
    number
        Identifies it.
    order
        What to convert.

    Attributes
    ----------
    number, order
        As the parameters.
    state
        "waiting", "running", "done", "failed" or "cancelled".
    """

    def __init__(self, number: int, order: Order) -> None:
        self.number = number
        self.order = order
        self.state = "waiting"
        self._lock = forking.lock()
        self._cancelled = False
        self._pace = Pace(1)
        self._files = 1
        self._phase = ""
        self._current: dict[int, str] = {}
        self._bytes: dict[int, int] = {}
        self._begun = self._seconds = 0.0
        self._records: dict[str, FileRecord] = {}
        self._error: str | None = None
        self._error_type: str | None = None
        self._report: str | None = None
        self._unverified: str | None = None

    # ---- in the thread of the queue

    def run(self) -> None:
        """Convert, and set the state."""
        with self._lock:
            if self._cancelled:
                return
            self.state, self._begun = "running", time.monotonic()
        before = self._target_stamp()
        try:
            self._convert()
            state = "failed" if self._failures() else "done"
        except _Cancelled:
            state = "cancelled"
        except Exception as error:
            if not isinstance(error, BatchFailed):
                log.debug("a conversion failed", exc_info=True)
                self._error, self._error_type = reason_of(error), type(error).__name__
            state = "failed"
        with self._lock:
            if state != "done" and self._target_stamp() not in (None, before):
                self._unverified = self.order.target
            self._seconds = time.monotonic() - self._begun
            self._current.clear()
            self.state = state

    def _target_stamp(self) -> tuple[int, int] | None:
        """Return what changes when the new file of a single source appears; None without one."""
        if not self.order.is_single:
            return None
        try:
            status = os.stat(self.order.target)
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def _convert(self) -> None:
        order, more = self.order, {}
        if order.is_single:
            # A batch compares the metadata for its report.
            more = {"compare_metadata": True}
        try:
            done = convert(order.source, order.target, watcher=self, **order.arguments, **more)
        except BatchFailed as error:
            self._keep(error.conversion.files)
            self._report = str(error.conversion.report)
            raise
        self._keep(done.files)
        self._report = None if done.report is None else str(done.report)

    def _keep(self, records: Sequence[FileRecord]) -> None:
        with self._lock:
            self._records |= {record.key: record for record in records}

    def _failures(self) -> list[FileRecord]:
        return [record for record in self._records.values() if record.status == "failed"]

    # ---- called by the conversion, from any thread

    def _check(self) -> None:
        if self._cancelled:
            raise _Cancelled

    def looked(self, done: int, total: int) -> None:
        """Receive the number of files opened by the search."""
        self._check()
        self._phase = f"Opening files: {done} of {total}" if total else "Searching for images"

    def begin(self, count: int) -> None:
        """Receive the number of files."""
        self._phase = ""
        self._files, self._pace = count, Pace(count)

    def sized(self, sizes: Sequence[int]) -> None:
        """Receive the bytes of pixels of each file."""
        self._pace.sized(sizes)

    def started(self, number: int, name: str) -> None:
        """Receive the name of a file whose conversion starts."""
        self._check()
        self._pace.started(number)
        with self._lock:
            self._current[number] = name

    def moved(self, number: int, done: int, total: int) -> None:
        """Receive the bytes of pixels of a file that are done."""
        self._check()
        self._pace.moved(number, done, total)
        with self._lock:
            self._bytes[number] = done

    def ended(self, number: int, record: FileRecord) -> None:
        """Receive the record of a file."""
        self._pace.ended(number, converted=record.status == "done")
        self._keep([record])
        with self._lock:
            self._current.pop(number, None)

    # ---- called by the server

    def cancel(self) -> None:
        """End the conversion at its next step; unfinished files are removed."""
        with self._lock:
            self._cancelled = True
            if self.state == "waiting":
                self.state = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state not in ("waiting", "running")

    def complete(self) -> list[Any]:
        """Return the records of new files that are complete, at most as many as are shown."""
        with self._lock:
            records = [record for record in self._records.values() if record.is_complete]
        return list(itertools.islice((o for r in records for o in r.outputs), _MOST_SHOWN))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain data."""
        result = self._result()
        with self._lock:
            running = self.state == "running"
            seconds = time.monotonic() - self._begun if running else self._seconds
            moved = sum(self._bytes.values())
            left = self._pace.left() if running else None
            return {
                "number": self.number,
                "state": self.state,
                "cancelling": running and self._cancelled,
                "sources": list(self.order.sources[:_MOST_SHOWN]),
                "count": len(self.order.sources),
                "target": self.order.target,
                "phase": self._phase,
                "current": next(reversed(self._current.values()), ""),
                "files": self._files,
                "fraction": 1.0 if self.state == "done" else self._pace.fraction(),
                "bytes": moved,
                "speed": moved / seconds if seconds > 1 else None,
                "left": None if left is None else duration(left),
                "seconds": duration(seconds),
                **result,
            }

    def _result(self) -> dict[str, Any]:
        """Return what came of the files that have ended."""
        outputs = self.complete()
        with self._lock:
            records = list(self._records.values())
            failed = [record for record in records if record.status == "failed"]
            warnings = [
                f"{record.source}: {text}" for record in records for text in record.warnings
            ]
            return {
                "ended": len(records),
                "failed": len(failed),
                "failures": [
                    {"error": r.failure, "type": r.error_type} for r in failed[:_MOST_SHOWN]
                ],
                "warnings": warnings[:_MOST_SHOWN],
                "outputs": [
                    {
                        "target": output.target,
                        "images": len(output.images),
                        "bytes": output.file_bytes,
                        "verified": output.verified,
                        "lost": output.lost,
                    }
                    for output in outputs
                ],
                "error": self._error,
                "error_type": self._error_type,
                "unverified": self._unverified,
                "report": self._report,
            }


class Queue:
    """Conversions in the order in which they were added. May be used from any thread."""

    def __init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._waiting: deque[Job] = deque()
        self._numbers = itertools.count(1)
        self._changed = forking.condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def add(self, order: Order) -> Job:
        """Add a conversion, and start it if no other is running."""
        with self._changed:
            job = Job(next(self._numbers), order)
            self._jobs[job.number] = job
            self._waiting.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="bfbridge-gui", daemon=True)
                self._thread.start()
            self._changed.notify()
            return job

    def __getitem__(self, number: Any) -> Job:
        """Return a conversion by its number.

        Raises
        ------
        BadArgument
            There is none of this number.
        """
        job = self._jobs.get(number) if type(number) is int else None
        if job is None:
            raise BadArgument(f"there is no conversion {number!r:.40}.")
        return job

    def __iter__(self) -> Any:
        return iter(list(self._jobs.values()))

    @property
    def busy(self) -> bool:
        """Whether a conversion is waiting or running."""
        return any(not job.is_over for job in self)

    def clear(self) -> None:
        """Forget the conversions that have ended."""
        with self._changed:
            self._jobs = {number: job for number, job in self._jobs.items() if not job.is_over}

    def close(self) -> None:
        """Cancel all conversions, and wait until the unfinished files are removed."""
        with self._changed:
            self._closed = True
            for job in self._jobs.values():
                job.cancel()
            self._changed.notify()
        if self._thread is not None:
            # Java may not return; what is left then is removed by the next writer of the file.
            self._thread.join(_JOIN_SECONDS)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                job = self._waiting.popleft()
            job.run()
