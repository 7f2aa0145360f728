"""Many sources: one after the other, in several processes, or on a Dask cluster.

A source that fails is noted, and the others go on. What is complete is in the report at once, so an
interrupted batch can be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bfbridge.convert.jobs import Job, converted, failed
from bfbridge.convert.places import Place
from bfbridge.convert.record import FileRecord
from bfbridge.convert.report import Report, unchanged
from bfbridge.convert.request import Request
from bfbridge.convert.sources import Found
from bfbridge.errors import BadArgument, BfbridgeError

__all__ = ["Run", "Watcher", "parse_part", "plan_jobs", "run_batch"]


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


def parse_part(value: str | tuple[int, int] | None) -> tuple[int, int] | None:
    """Read "2/8": the second of eight parts of a batch.

    Raises
    ------
    BadArgument
        Not two numbers, or a part that does not exist.
    """
    if value is None:
        return None
    try:
        number, count = (int(n) for n in (value.split("/") if isinstance(value, str) else value))
    except ValueError:
        number = count = 0
    if not 1 <= number <= count:
        raise BadArgument(f"part={value!r}: give i/n with i from 1 to n, such as 1/8.")
    return number, count


def plan_jobs(
    found: Sequence[Found],
    targets: Sequence[Place],
    *,
    overwrite: bool,
    resume: bool,
    part: tuple[int, int] | None,
) -> list[Job]:
    """Pair sources with targets; of a part, every n-th, so that parts are of about equal work."""
    jobs = [
        Job(f.path, str(target), overwrite, resume, f.error, f.error_type)
        for f, target in zip(found, targets, strict=True)
    ]
    return jobs if part is None else jobs[part[0] - 1 :: part[1]]


def run_batch(
    jobs: Sequence[Job],
    request: Request,
    report: Report,
    *,
    processes: int = 1,
    client: Any = None,
    watcher: Watcher | None = None,
    resume: bool = False,
) -> None:
    """Do every job, noting each in the report.

    Parameters
    ----------
    jobs
        What is to be done.
    request
        How, the same for all.
    report
        Gets a record for every job. It is finished here, also after an interruption.
    processes
        Files converted at once, each in a process of its own, if more than 1.
    client
        A Dask client, instead of processes of this machine.
    watcher
        Is told how it goes.
    resume
        Whether complete work that the report has of an earlier run is kept.

    Raises
    ------
    KeyboardInterrupt
        What was under way was removed; the report says what is complete.
    """
    watcher = watcher or Watcher()
    watcher.begin(len(jobs))
    earlier = report.earlier() if resume else {}
    report.start(keep=resume)
    run = Run(jobs, request, report, watcher, earlier)
    try:
        if client is not None:
            from bfbridge.convert.cluster import run_on_cluster

            run_on_cluster(run, client)
        elif processes > 1 and len(jobs) > 1:
            from bfbridge.convert.processes import run_in_processes

            run_in_processes(run, min(processes, len(jobs)))
        else:
            for number, job in run.pending():
                run.end(number, converted(job, request, run.progress(number)))
    except BaseException:
        report.interrupted = True
        run.keep_the_rest()
        # What went wrong first is what is told.
        with suppress(BfbridgeError):
            report.finish(run.order)
        raise
    report.finish(run.order)


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
