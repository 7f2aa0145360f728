"""One report of the reports of all parts of a batch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bfbridge.convert.locations import Place, place_of
from bfbridge.convert.reports.history import parts_in, read_history
from bfbridge.convert.reports.record import STATUSES, FileRecord
from bfbridge.convert.reports.writer import Report, report_path
from bfbridge.errors import FileMissing

__all__ = ["MergedReport", "merge_reports"]


@dataclass(frozen=True)
class MergedReport:
    """The result of `merge_reports`.

    Attributes
    ----------
    report
        Path or URL of the merged report.
    files
        The newest record of each source and target, by source.
    parts
        Number of parts of the batch; 0 if it was not divided.
    missing
        Parts without a report: they never started, or use another folder.
    unfinished
        Parts that are running, or were killed or interrupted.
    """

    report: Place
    files: tuple[FileRecord, ...]
    parts: int
    missing: tuple[int, ...]
    unfinished: tuple[int, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of files for each status."""
        return {s: sum(record.status == s for record in self.files) for s in STATUSES}

    @property
    def failed(self) -> list[FileRecord]:
        """Records of the sources that failed."""
        return [record for record in self.files if record.status == "failed"]

    @property
    def is_complete(self) -> bool:
        """Whether every part has ended and every file was converted."""
        return not (self.missing or self.unfinished or self.failed)


def merge_reports(
    folder: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None
) -> MergedReport:
    """Make one report of the reports of all parts of a batch (``part=``).

    The reports of the parts are kept. The result is written to ``bfbridge-report.json``, the report
    of an undivided batch, so that a later run with ``resume`` uses it. The command may be repeated,
    also while parts are running. If a batch was repeated with another number of parts, the files of
    all runs are in the report, and the parts of the largest number count.

    Parameters
    ----------
    folder
        The folder of the new files, a path or URL.
    storage_options
        Options of the fsspec filesystem of a URL.

    Raises
    ------
    FileMissing
        There is no report in the folder.
    WriteFailed
        The report cannot be written.
    """
    place, storage = place_of(folder), dict(storage_options or {})
    target = report_path(place)
    history = read_history(target, place, storage)
    numbers = parts_in(place, storage)
    if not history.records and not numbers:
        raise FileMissing(
            f"{place}: there are no reports of conversions in this folder. Give the folder of the "
            "new files, in which bfbridge convert writes its reports."
        )
    count = max(numbers, default=0)
    present = numbers.get(count, set())
    names = {number: report_path(place, (number, count)).name for number in sorted(present)}
    unfinished = tuple(n for n, name in names.items() if name not in history.finished)
    missing = tuple(number for number in range(1, count + 1) if number not in present)
    report = Report(target, {"merged": True}, storage)
    report.files = sorted(history.records.values(), key=lambda r: (r.source, r.target))
    report.skipped = history.skipped
    report.interrupted = bool(missing or unfinished)
    report.scan = _newest_scan(history.scans)
    report.parts = {"count": count, "missing": list(missing), "unfinished": list(unfinished)}
    report.finish()
    return MergedReport(target, tuple(report.files), count, missing, unfinished)


def _newest_scan(scans: Sequence[Any]) -> dict[str, Any] | None:
    found = [scan for scan in scans if isinstance(scan, dict)]
    return found[-1] if found else None
