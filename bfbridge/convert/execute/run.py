"""A batch under way: what is left to do, what was done, and who is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from bfbridge.convert.execute.jobs import Job, failed
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.reports.history import is_unchanged, outputs_match
from bfbridge.convert.reports.record import FileRecord
from bfbridge.convert.reports.writer import Report
from bfbridge.errors import WriteFailed

__all__ = ["Run", "Watcher", "note_warnings"]

log = logging.getLogger("bfbridge")


class Watcher:
    """Is told how a batch goes; this one does nothing. Methods are called from any thread."""

    def looked(self, done: int, total: int) -> None:
        """Take how many files were looked at before the batch begins; 0 of 0 while it searches."""

    def begin(self, count: int) -> None:
        """Take the number of files."""

    def sized(self, sizes: Sequence[int]) -> None:
        """Take the bytes of pixels of each file, 0 where that is not known; after `begin`."""

    def started(self, number: int, name: str) -> None:
        """Note that a file is begun."""

    def moved(self, number: int, done: int, total: int) -> None:
        """Take the bytes of pixels of a file that are done, and in all."""

    def ended(self, number: int, record: FileRecord) -> None:
        """Take the record of a file that is done or failed."""


def note_warnings(record: FileRecord) -> None:
    """Log what a reader of the report should know."""
    for warning in record.warnings if record.status == "done" else ():
        log.warning("%s: %s", record.source, warning)


class Run:
    """The state of a batch that its ways of running share."""

    def __init__(
        self,
        jobs: Sequence[Job],
        options: ConvertOptions,
        report: Report,
        watcher: Watcher,
        earlier: Mapping[str, FileRecord],
    ) -> None:
        self.jobs = jobs
        self.options = options
        self._report = report
        self._watcher = watcher
        self._earlier = earlier
        self._order = {(str(job.source), job.target): i for i, job in enumerate(jobs)}

    def order(self, record: FileRecord) -> int:
        """Place of a record among the jobs."""
        return self._order.get((record.source, record.target), len(self.jobs))

    def pending(self) -> Iterator[tuple[int, Job]]:
        """Yield the jobs to be done; those complete, or failed at once, are noted."""
        for number, job in enumerate(self.jobs):
            if job.error is not None:
                self.end(number, failed(job, job.error, job.error_type or "", self.options))
                continue
            before = self._earlier.get(f"{job.source}\0{job.target}")
            complete = before is not None and is_unchanged(before, job, self.options)
            if before is not None and complete and self._is_proved(before):
                before.status = "kept"
                self.end(number, before)
                continue
            self._watcher.started(number, job.name)
            # A file that an earlier run made is replaced where its source or the options changed.
            ours = before is not None and not complete and outputs_match(before, job, self.options)
            yield number, replace(job, overwrite=True) if ours else job

    def _is_proved(self, record: FileRecord) -> bool:
        return not self.options.verify or all(output.verified for output in record.outputs)

    def progress(self, number: int) -> Callable[[int, int], None]:
        """Return what takes the progress of one job."""
        return lambda done, total: self._watcher.moved(number, done, total)

    def end(self, number: int, record: FileRecord) -> None:
        """Note that a job is over.

        Raises
        ------
        WriteFailed
            It failed, and every other job would fail for the same reason.
        """
        job = self.jobs[number]
        record.source, record.target = str(job.source), job.target
        note_warnings(record)
        self._watcher.ended(number, record)
        self._report.add(record)
        if record.stops_batch:
            raise WriteFailed(
                f"{record.failure} The batch was stopped, as the other files would fail as well. "
                "What is complete stays; free some space, and give the same command with "
                "resume=True (--resume)."
            )

    def failed(self, number: int, error: str, kind: str) -> FileRecord:
        """Return the record of a job that failed."""
        return failed(self.jobs[number], error, kind, self.options)
