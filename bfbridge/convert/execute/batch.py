"""A batch: jobs planned from sources and targets, converted by an executor, and reported.

A source that fails is recorded, and the others are converted. Complete files are in the report at
once, so that an interrupted batch can be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bfbridge.convert.execute.choose import choose_executor
from bfbridge.convert.execute.jobs import Job
from bfbridge.convert.execute.run import Run, Watcher
from bfbridge.convert.locations import Place
from bfbridge.convert.options import ConvertOptions, RunOptions
from bfbridge.convert.plan.sources import Found
from bfbridge.convert.reports.record import FileRecord
from bfbridge.convert.reports.writer import Report
from bfbridge.errors import BfbridgeError

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend
    from bfbridge.convert.plan.kept_readers import KeptReaders

__all__ = ["plan_jobs", "run_batch"]


def plan_jobs(
    found: Sequence[Found],
    targets: Sequence[Place],
    writer: type[WriterBackend],
    options: RunOptions,
    changes: Sequence[Mapping[str, Any]] | None = None,
) -> list[Job]:
    """Pair sources with targets; a part has every n-th of them, so that parts take equal time.

    Parameters
    ----------
    found, targets, writer, options
        The sources, their targets, the backend that writes them, and the options of the run.
    changes
        For each source, the fields of the conversion options that it has other values for.
    """
    jobs = [
        Job(
            f.path, str(target), writer, options.overwrite, options.resume, f.error,
            f.error_type, f.pixel_bytes, own,
        )
        for f, target, own in zip(found, targets, changes or [{}] * len(found), strict=True)
    ]  # fmt: skip
    return jobs if options.part is None else jobs[options.part[0] - 1 :: options.part[1]]


def run_batch(
    jobs: Sequence[Job],
    options: ConvertOptions,
    run_options: RunOptions,
    report: Report,
    earlier: Mapping[str, FileRecord] | None = None,
    readers: KeptReaders | None = None,
) -> None:
    """Do every job, and record each in the report.

    Parameters
    ----------
    jobs
        The sources and their targets.
    options, run_options
        The conversion options; the same for all jobs.
    report
        Gets a record for every job. It is finished here, also after an interruption.
    earlier
        Records of earlier runs, by `FileRecord.key`; their complete files are kept.
    readers
        Readers of the search. They are closed here.

    Raises
    ------
    KeyboardInterrupt
        Unfinished files were removed; the report lists the complete ones.
    """
    watcher = run_options.watcher or Watcher()
    run = Run(jobs, options, report, watcher, earlier or {}, readers)
    try:
        watcher.begin(len(jobs))
        watcher.sized([job.pixel_bytes for job in jobs])
        report.start()
        try:
            choose_executor(run_options, len(jobs)).run(run)
        except BaseException:
            report.interrupted = True
            # The first error is the one that is raised.
            with suppress(BfbridgeError):
                report.finish(run.order)
            raise
        report.finish(run.order)
    finally:
        if readers is not None:
            readers.close()
