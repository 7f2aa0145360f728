"""Records of earlier runs, from the reports in a folder.

Reports are untrusted input: an entry that is not a record, or a record of files that are missing
or have changed, counts as not done.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge.convert import url_folders as remote
from bfbridge.convert.locations import (
    Place,
    Storage,
    exists,
    identity,
    is_report,
    is_url,
    place_of,
    stored_bytes,
)
from bfbridge.convert.reports.record import FileRecord, stamp
from bfbridge.convert.reports.writer import journal_of
from bfbridge.errors import BfbridgeError
from bfbridge.storage.source import as_source

if TYPE_CHECKING:
    from bfbridge.convert.execute.jobs import Job
    from bfbridge.convert.options import ConvertOptions

__all__ = ["History", "is_unchanged", "outputs_match", "parts_in", "read_history"]

log = logging.getLogger("bfbridge")


@dataclass
class History:
    """The content of the reports of a folder.

    Attributes
    ----------
    records
        The newest record of each source and target, by `FileRecord.key`: of its files that are
        complete, or else of the last failure.
    own
        The same, of the report that the new run will replace.
    scans
        Results of searches; see `bfbridge.convert.plan.grouping.Scan`.
    skipped
        Files that were not converted, with the reason.
    finished
        Names of the reports of runs that were neither killed nor interrupted.
    """

    records: dict[str, FileRecord] = field(default_factory=dict)
    own: dict[str, FileRecord] = field(default_factory=dict)
    scans: list[Any] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)

    @property
    def targets(self) -> Iterator[str]:
        """Every new file that a report names."""
        for record in self.records.values():
            yield from (output.target for output in record.outputs)


def read_history(report: Place, folder: Place | None, storage: Storage) -> History:
    """Read the reports that concern a run.

    Parameters
    ----------
    report
        Where the run's own report goes; an earlier one may be there.
    folder
        The folder of the new files, whose reports are read as well (those of all parts); or None.
    storage
        Storage options of URLs.
    """
    history = History()
    others = [] if folder is None else _reports_in(folder, storage)
    rest = [
        record
        for place in others
        if str(place) != str(report)
        for record in _records_of(place, storage, history)
    ]
    own = _records_of(report, storage, history)
    for records, found in ((own, history.own), ([*rest, *own], history.records)):
        for record in sorted(records, key=lambda record: record.ended):
            before = found.get(record.key)
            if before is None or record.is_complete or not before.is_complete:
                found[record.key] = record
    return history


def _reports_in(folder: Place, storage: Storage) -> list[Place]:
    """Return the reports in a folder; none where it cannot be listed."""
    names: Iterable[str] = ()
    if isinstance(folder, Path):
        with suppress(OSError):
            names = os.listdir(folder)
    else:
        with suppress(BfbridgeError):
            names = remote.listed(str(folder), storage)
    # A killed run may have left its lines and no document.
    whole = {name.removesuffix(".lines") for name in names if is_report(name)}
    return [folder / name for name in sorted(whole)]


def parts_in(folder: Place, storage: Storage) -> dict[int, set[int]]:
    """Return the parts of which there are reports in a folder, for each number of parts."""
    found: dict[int, set[int]] = {}
    for place in _reports_in(folder, storage):
        part = re.search(r"\.part-(\d+)-of-(\d+)\.json$", place.name)
        if part is not None:
            found.setdefault(int(part.group(2)), set()).add(int(part.group(1)))
    return found


def _records_of(report: Place, storage: Storage, history: History) -> list[FileRecord]:
    """Return the records of one report and of its lines; the rest is added to `history`."""
    scans = history.scans
    entries: list[Any] = []
    stored = _read(report, storage)
    document = {} if stored is None else _parsed(stored)
    if isinstance(document, dict):
        scans.append(document.get("scan"))
        for name in ("earlier", "files"):
            listed = document.get(name, [])
            entries += listed if isinstance(listed, list) else [listed]
    else:
        log.warning(
            "%s: this is not a report of bfbridge, or a damaged one; it is ignored.", report
        )
    journal = journal_of(report)
    data = b"" if journal is None else _read(journal, storage) or b""
    lines = [_parsed(line) for line in data.splitlines() if line]
    if isinstance(document, dict):
        skipped = document.get("skipped")
        history.skipped.update(skipped if isinstance(skipped, dict) else {})
        # Lines exist until the run has ended.
        if stored is not None and document.get("interrupted") is False and not data:
            history.finished.add(report.name)
    scans += [line["scan"] for line in lines if isinstance(line, dict) and "scan" in line]
    entries += [line for line in lines if not (isinstance(line, dict) and "scan" in line)]
    records, wrong = [], []
    for entry in entries:
        try:
            records.append(FileRecord.from_json(entry))
        except (ValueError, RecursionError) as error:
            wrong.append(str(error))
    # A kill may cut one line.
    if len(wrong) > min(1, len(lines)):
        log.warning(
            "%s: %d of its entries are not records (%s); their files count as not converted.",
            report, len(wrong), wrong[0],
        )  # fmt: skip
    return records


def _read(place: Place, storage: Storage) -> bytes | None:
    try:
        if isinstance(place, Path):
            return place.read_bytes()
        source = as_source(place, storage)
        if not source.exists():
            return None
        access = source.open()
        try:
            return bytes(access.read_at(0, access.size))
        finally:
            access.close()
    except (OSError, BfbridgeError):
        return None


def _parsed(data: bytes) -> Any:
    """Return parsed JSON; None for text that is not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def is_unchanged(record: FileRecord, job: Job, options: ConvertOptions) -> bool:
    """Whether the new files of a record are complete and made from the present source.

    Parameters
    ----------
    record
        A record from a report.
    job
        The source and target that it was found for.
    options
        The conversion options.
    """
    if record.request != options.fingerprint or not record.inputs:
        return False
    paths, source = [entry["path"] for entry in record.inputs], str(job.source)
    # A report sends no requests to servers that the source has nothing to do with.
    if any(is_url(path) for path in paths) and not is_url(source):
        return False
    # A report may contain invalid paths, which cannot be those of kept files.
    with suppress(OSError, ValueError, BfbridgeError):
        return (
            identity(source) in {identity(path) for path in paths}
            and stamp(paths, options.source_storage) == record.inputs
            and outputs_match(record, job, options, missing=False)
        )
    return False


def outputs_match(
    record: FileRecord, job: Job, options: ConvertOptions, *, missing: bool = True
) -> bool:
    """Whether the files under the names of a record are those it describes.

    Parameters
    ----------
    record, job, options
        As of `is_unchanged`.
    missing
        Whether they may also be missing.
    """
    if not record.is_complete:
        return False
    with suppress(OSError, ValueError, BfbridgeError):
        folder, storage = _folder_of(job.target), options.target_storage
        for output in record.outputs:
            place = place_of(output.target)
            if _folder_of(place) != folder:
                return False
            there = exists(place, storage)
            if not there and not missing:
                return False
            if there and stored_bytes(place, storage) != output.file_bytes:
                return False
        return True
    return False


def _folder_of(target: str | Place) -> str:
    return os.path.dirname(identity(target))
