"""The jobs of a batch: what is found in its sources, and the new file of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge import registry
from bfbridge.convert.execute.batch import plan_jobs
from bfbridge.convert.execute.run import Watcher
from bfbridge.convert.locations import Place, identity, place_of
from bfbridge.convert.plan.sources import Scan, Skipped, find_sources, name_targets, same_names
from bfbridge.convert.reports.history import History, read_history
from bfbridge.convert.reports.writer import Report, report_path
from bfbridge.errors import FileMissing, TargetExists

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend
    from bfbridge.convert.execute.jobs import Job
    from bfbridge.convert.options import ConvertOptions, RunOptions

__all__ = ["Batch", "find_batch"]


@dataclass(frozen=True)
class Batch:
    """The jobs of a batch. Nothing was written yet.

    Attributes
    ----------
    jobs
        Every source and its target; of a part, only its own.
    options
        The conversion options, with those of the new files in the form of their backend.
    report
        The report of the run, which is not started.
    history
        The content of earlier reports.
    collisions
        Names that several sources would have without the additions of `name_targets`, with the
        sources.
    """

    jobs: Sequence[Job]
    options: ConvertOptions
    report: Report
    history: History
    collisions: dict[str, list[str]]


def find_batch(
    sources: Any, target: str | os.PathLike[str], options: ConvertOptions, run: RunOptions
) -> Batch:
    """Search the sources of a batch and name the new files.

    Raises
    ------
    FileMissing
        There is no image.
    TargetExists
        The folder is a file.
    Unsupported
        The folder is at a URL, and the backend writes to disks only.
    """
    folder = place_of(target)
    writer = _writer_into(folder, run.suffix, options)
    options = options.for_writer(writer, f"x{run.suffix}")
    listed = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    watcher = run.watcher or Watcher()
    place = place_of(run.report) if run.report else report_path(folder, run.part)
    history = read_history(place, folder, options.target_storage)
    made = {identity(target) for target in history.targets if target.endswith(run.suffix)}
    report = Report(place, options.describe(), options.target_storage, history.own)
    skipped = Skipped()
    scan = Scan(options, history.scans)
    found = find_sources(
        [os.fspath(source) for source in listed], options, pattern=run.pattern,
        recursive=run.recursive, group=run.group, skipped=skipped,
        made={identity(folder), *made}, scan=scan, looked=watcher.looked,
    )  # fmt: skip
    if not found:
        raise FileMissing(_nothing_found(listed, skipped))
    targets = name_targets(found, folder, run.suffix, options.split)
    jobs = plan_jobs(found, targets, writer, run)
    report.skipped = skipped.reasons
    # One part that records the results of the search is enough for all.
    report.scan = scan.as_dict() if scan.is_new or run.part is None else None
    collisions = {
        str(folder / f"{name}{run.suffix}"): paths for name, paths in same_names(found).items()
    }
    return Batch(jobs, options, report, history, collisions)


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
