"""Jobs of a run: that of one source, or those of a batch, and their options.

`bfbridge.convert.conversion` runs the jobs, and `bfbridge.convert.preview` describes them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge import registry
from bfbridge.convert.execute.batch import plan_jobs
from bfbridge.convert.execute.jobs import Job
from bfbridge.convert.execute.run import Watcher
from bfbridge.convert.locations import Place, identity, place_of
from bfbridge.convert.option_values import SPLITS
from bfbridge.convert.plan.grouping import opener_for
from bfbridge.convert.plan.kept_readers import KeptReaders
from bfbridge.convert.plan.naming import axes_of_pattern, is_name_pattern
from bfbridge.convert.plan.sources import Scan, Skipped, find_sources, name_targets, same_names
from bfbridge.convert.plan.table import read_table
from bfbridge.convert.reports.history import History, read_history
from bfbridge.convert.reports.writer import Report, report_path
from bfbridge.errors import FileMissing, TargetExists

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend
    from bfbridge.convert.options import ConvertOptions, RunOptions

__all__ = ["Batch", "find_batch", "find_job"]


@dataclass(frozen=True)
class Batch:
    """The jobs of a batch. Nothing was written yet.

    Attributes
    ----------
    jobs
        Every source and its target; of a part, only its own.
    options
        The conversion options of all files, with those of the new files in the form of their
        backend. `Job.options` adds those that a table gives a single file.
    report
        The report of the run, which is not started.
    history
        The content of earlier reports.
    collisions
        Names that several sources would have without the additions of `name_targets`, with the
        sources.
    readers
        Readers of sources that the search opened.
    """

    jobs: Sequence[Job]
    options: ConvertOptions
    report: Report
    history: History
    collisions: dict[str, list[str]]
    readers: KeptReaders


def find_job(
    source: Any, target: str | os.PathLike[str], options: ConvertOptions, run: RunOptions
) -> tuple[Job, ConvertOptions]:
    """Return the job of a single source, and its options.

    Raises
    ------
    BadArgument
        An option is not valid for the new file, or the table names another source.
    """
    name = os.fspath(target)
    options = _with_names(options, name)
    writer = registry.writer_for(name, options.target_backend)
    options = _for_run(options.for_writer(writer, name), run, reported=run.report is not None)
    if run.table is not None:
        (own,) = read_table(run.table).changes([str(source)], options, writer)
        options = replace(options, **own)
    reported = run.report is not None
    return Job(source, name, writer, run.overwrite, run.resume, reported=reported), options


def _with_names(options: ConvertOptions, target: str) -> ConvertOptions:
    """Read the target's name as a pattern, if it is one."""
    name = place_of(target).name
    if not is_name_pattern(name):
        return options
    axes = {*options.split, *axes_of_pattern(name)}
    return replace(options, names=name, split=tuple(axis for axis in SPLITS if axis in axes))


def _for_run(options: ConvertOptions, run: RunOptions, *, reported: bool) -> ConvertOptions:
    """Return options of files with the defaults that depend on those of the run."""
    if options.compare_metadata is None:
        options = replace(options, compare_metadata=reported or options.certify)
    if not run.group:
        # Files of a set that are converted one by one must also be read one by one.
        options = replace(options, reader_options={"group_files": False, **options.reader_options})
    return options


def find_batch(
    sources: Any, target: str | os.PathLike[str], options: ConvertOptions, run: RunOptions
) -> Batch:
    """Search the sources of a batch and name the new files.

    Without sources, those of the table are searched.

    Raises
    ------
    BadArgument
        An option is not valid for the new files, or a row of the table names no source.
    FileMissing
        There is no image.
    TargetExists
        The folder is a file.
    Unsupported
        The folder is at a URL, and the backend writes to disks only.
    """
    folder = place_of(target)
    writer = _writer_into(folder, run.suffix, options)
    options = _for_run(options.for_writer(writer, f"x{run.suffix}"), run, reported=True)
    table = read_table(run.table or ())
    listed: list[Any] = (
        [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    ) or table.sources
    watcher = run.watcher or Watcher()
    place = place_of(run.report) if run.report else report_path(folder, run.part)
    history = read_history(place, folder, options.target_storage)
    made = {identity(target) for target in history.targets if target.endswith(run.suffix)}
    report = Report(place, options.describe(), options.target_storage, history.own)
    skipped = Skipped()
    scan = Scan(options, history.scans)
    readers = KeptReaders(options)
    try:
        found = find_sources(
            [os.fspath(source) for source in listed], options, pattern=run.pattern,
            recursive=run.recursive, group=run.group, skipped=skipped,
            made={identity(folder), *made}, scan=scan, looked=watcher.looked,
            **_openings(options, run, readers),
        )  # fmt: skip
        if not found:
            raise FileMissing(_nothing_found(listed, skipped))
        targets = name_targets(found, folder, run.suffix, options.split)
        own = None if run.table is None else table.changes([f.path for f in found], options, writer)
        jobs = plan_jobs(found, targets, writer, run, own)
    except BaseException:
        readers.close()
        raise
    report.skipped = skipped.reasons
    # One part that records the results of the search is enough for all.
    report.scan = scan.as_dict() if scan.is_new or run.part is None else None
    collisions = {
        str(folder / f"{name}{run.suffix}"): paths for name, paths in same_names(found).items()
    }
    return Batch(jobs, options, report, history, collisions, readers)


def _openings(options: ConvertOptions, run: RunOptions, readers: KeptReaders) -> dict[str, Any]:
    """Return the arguments of `find_sources` on how files are opened: here, or on a cluster."""
    if run.client is None:
        return {"opener": opener_for(options, readers)}
    from bfbridge.convert.execute.cluster import opener_on

    opener, ahead = opener_on(run.client, options)
    return {"opener": opener, "ahead": ahead}


def _nothing_found(sources: Sequence[Any], skipped: Skipped) -> str:
    path, reason = next(iter(skipped.reasons.items()), ("", ""))
    more = ""
    if path:
        more = f" {len(skipped.reasons)} files are not images; the first: {path} ({reason})"
    return f"{', '.join(map(str, sources))}: there is no image.{more}"


def _writer_into(folder: Place, suffix: str, options: ConvertOptions) -> type[WriterBackend]:
    """Return the backend that writes new files with a suffix into a folder."""
    if isinstance(folder, Path) and folder.exists() and not folder.is_dir():
        raise TargetExists(
            f"{folder}: this is a file, and a batch needs a folder. Choose another name, or a name "
            "with the suffix of an image format for a single source."
        )
    return registry.writer_for(f"{folder / '*'}{suffix}", options.target_backend)
