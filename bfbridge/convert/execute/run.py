"""The state of a running batch: pending jobs, records, and the watcher that is notified."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bfbridge.convert.execute.jobs import Job, failed
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.reports.history import is_unchanged, outputs_match
from bfbridge.convert.reports.record import FileRecord
from bfbridge.convert.reports.writer import Report
from bfbridge.errors import WriteFailed

if TYPE_CHECKING:
    from bfbridge.convert.plan.kept_readers import KeptReaders

__all__ = ["Run", "Watcher", "note_warnings"]

log = logging.getLogger("bfbridge")


class Watcher:
    """Base class of progress displays; its methods do nothing. They are called from any thread."""

    def looked(self, done: int, total: int) -> None:
        """Receive the number of files opened by the search; 0 of 0 while folders are listed."""

    def begin(self, count: int) -> None:
        """Receive the number of files."""

    def sized(self, sizes: Sequence[int]) -> None:
        """Receive the bytes of pixels of each file, 0 where unknown; after `begin`."""

    def started(self, number: int, name: str) -> None:
        """Receive the number and name of a file whose conversion starts."""

    def moved(self, number: int, done: int, total: int) -> None:
        """Receive the bytes of pixels of a file that are done, and the total."""

    def ended(self, number: int, record: FileRecord) -> None:
        """Receive the record of a file that is done or failed."""


def note_warnings(record: FileRecord) -> None:
    """Log the warnings of a record."""
    for warning in record.warnings if record.status == "done" else ():
        log.warning("%s: %s", record.source, warning)


class Run:
    """The state of a batch that all executors use.

    Attributes
    ----------
    jobs, options
        The sources and their targets, and the conversion options.
    readers
        Readers of the sources that this process has opened already.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        options: ConvertOptions,
        report: Report,
        watcher: Watcher,
        earlier: Mapping[str, FileRecord],
        readers: KeptReaders | None = None,
    ) -> None:
        self.jobs = jobs
        self.readers = readers
        self.options = options
        self._report = report
        self._watcher = watcher
        self._earlier = earlier
        self._order = {(str(job.source), job.target): i for i, job in enumerate(jobs)}

    def order(self, record: FileRecord) -> int:
        """Position of a record among the jobs."""
        return self._order.get((record.source, record.target), len(self.jobs))

    def pending(self) -> Iterator[tuple[int, Job]]:
        """Yield the jobs to do; those that are complete or cannot be opened are recorded."""
        for number, job in enumerate(self.jobs):
            if job.error is not None:
                self.end(number, failed(job, job.error, job.error_type or "", self.options))
                continue
            options = job.options(self.options)
            before = self._earlier.get(f"{job.source}\0{job.target}")
            complete = before is not None and is_unchanged(before, job, options)
            if before is not None and complete and self._is_checked(before):
                before.status = "kept"
                self.end(number, before)
                continue
            self._watcher.started(number, job.name)
            # A file that an earlier run made is replaced where its source or the options changed.
            ours = before is not None and not complete and outputs_match(before, job, options)
            yield number, replace(job, overwrite=True) if ours else job

    def _is_checked(self, record: FileRecord) -> bool:
        """Whether the new files were verified and certified, as far as that is requested."""
        outputs, options = record.outputs, self.options
        return (not options.verify or all(output.verified for output in outputs)) and (
            not options.certify or all(os.path.isfile(output.crate or "") for output in outputs)
        )

    def progress(self, number: int) -> Callable[[int, int], None]:
        """Return the progress function of one job."""
        return lambda done, total: self._watcher.moved(number, done, total)

    def end(self, number: int, record: FileRecord) -> None:
        """Record the end of a job.

        Raises
        ------
        WriteFailed
            It failed for a reason that every other job would meet.
        """
        job = self.jobs[number]
        record.source, record.target = str(job.source), job.target
        note_warnings(record)
        self._watcher.ended(number, record)
        self._report.add(record)
        if record.stops_batch:
            raise WriteFailed(
                f"{record.failure} The batch was stopped, because the other files would also fail. "
                "Complete files are kept; free some space, and repeat the same command with "
                "resume=True (--resume)."
            )

    def failed(self, number: int, error: str, kind: str) -> FileRecord:
        """Return the record of a job that failed."""
        return failed(self.jobs[number], error, kind, self.options)
