"""A batch under way: what is left to do, what was done, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from bfbridge.convert.jobs import Job, failed
from bfbridge.convert.record import FileRecord
from bfbridge.convert.report import Report, unchanged
from bfbridge.convert.request import Request

__all__ = ["Run", "Watcher"]


class Watcher:
    """Is told how a batch goes; this one does nothing. Methods are called from any thread."""

    def begin(self, count: int) -> None:
        """Take the number of files."""

    def started(self, number: int, name: str) -> None:
        """Note that a file is begun."""

    def moved(self, number: int, done: int, total: int) -> None:
        """Take the bytes of pixels of a file that are done, and in all."""

    def ended(self, number: int, record: FileRecord) -> None:
        """Take the record of a file that is done or failed."""


class Run:
    """The state of a batch that its ways of running share."""

    def __init__(
        self,
        jobs: Sequence[Job],
        request: Request,
        report: Report,
        watcher: Watcher,
        earlier: dict[str, FileRecord],
    ) -> None:
        self.jobs = jobs
        self.request = request
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
                self.end(number, failed(job, job.error, job.error_type or "", self.request))
                continue
            before = self._earlier.get(f"{job.source}\0{job.target}")
            complete = before is not None and self._is_complete(before)
            if before is not None and complete and self._is_proved(before):
                before.status = "kept"
                self.end(number, before)
                continue
            self._watcher.started(number, job.name)
            # The file is ours where its source or the options have changed since.
            ours = before is not None and bool(before.outputs) and not complete
            yield number, replace(job, overwrite=True) if ours else job

    def _is_complete(self, record: FileRecord) -> bool:
        return (
            record.status in ("done", "kept")
            and record.request == self.request.fingerprint
            and unchanged(record, self.request)
        )

    def _is_proved(self, record: FileRecord) -> bool:
        return not self.request.verify or all(output.verified for output in record.outputs)

    def progress(self, number: int) -> Callable[[int, int], None]:
        """Return what takes the progress of one job."""
        return lambda done, total: self._watcher.moved(number, done, total)

    def end(self, number: int, record: FileRecord) -> None:
        """Note that a job is over."""
        job = self.jobs[number]
        record.source, record.target = str(job.source), job.target
        self._report.add(record)
        self._watcher.ended(number, record)

    def failed(self, number: int, error: str, kind: str) -> FileRecord:
        """Return the record of a job that failed."""
        return failed(self.jobs[number], error, kind, self.request)

    def keep_the_rest(self) -> None:
        """Keep what an earlier run has of jobs that this one did not come to."""
        told = {self.order(record) for record in self._report.files}
        for number, job in enumerate(self.jobs):
            before = self._earlier.get(f"{job.source}\0{job.target}")
            if number not in told and before is not None:
                self._report.files.append(before)
