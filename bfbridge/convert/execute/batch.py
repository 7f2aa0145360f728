"""Many sources: one after the other, in several processes, or on a Dask cluster.

A source that fails is noted, and the others go on. What is complete is in the report at once, so an
interrupted batch can be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from bfbridge.convert.execute.jobs import Job, converted
from bfbridge.convert.execute.run import Run, Watcher
from bfbridge.convert.locations import Place
from bfbridge.convert.plan.request import Request
from bfbridge.convert.plan.sources import Found
from bfbridge.convert.reports.record import FileRecord
from bfbridge.convert.reports.writer import Report
from bfbridge.errors import BadArgument, BfbridgeError

__all__ = ["parse_part", "plan_jobs", "run_batch"]


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
        Job(f.path, str(target), overwrite, resume, f.error, f.error_type, f.pixel_bytes)
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
    earlier: Mapping[str, FileRecord] | None = None,
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
    earlier
        Records of earlier runs, by `FileRecord.key`; what they have complete is kept.

    Raises
    ------
    KeyboardInterrupt
        What was under way was removed; the report says what is complete.
    """
    watcher = watcher or Watcher()
    watcher.begin(len(jobs))
    watcher.sized([job.pixel_bytes for job in jobs])
    report.start()
    run = Run(jobs, request, report, watcher, earlier or {})
    try:
        if client is not None:
            from bfbridge.convert.execute.cluster import run_on_cluster

            run_on_cluster(run, client)
        elif processes > 1 and len(jobs) > 1:
            from bfbridge.convert.execute.processes import run_in_processes

            run_in_processes(run, min(processes, len(jobs)))
        else:
            for number, job in run.pending():
                run.end(number, converted(job, request, run.progress(number)))
    except BaseException:
        report.interrupted = True
        # What went wrong first is what is told.
        with suppress(BfbridgeError):
            report.finish(run.order)
        raise
    report.finish(run.order)
