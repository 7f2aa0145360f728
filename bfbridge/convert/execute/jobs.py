"""One job of a batch: a source, its target, and the record of its conversion."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bfbridge.convert.copy.source import convert_file
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.reports.record import FileRecord, now, reason_of

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend
    from bfbridge.convert.plan.kept_readers import KeptReaders

__all__ = ["Job", "converted", "failed", "is_disk_full"]

_DEEPEST_CAUSE = 8
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


@dataclass(frozen=True)
class Job:
    """One source and its target.

    Attributes
    ----------
    source, target
        Path or URL that is opened, and the new file.
    writer
        The backend that writes the new file.
    overwrite, resume
        Whether an existing new file is replaced, or kept if it is complete.
    error, error_type
        Why the source cannot be opened, if the search found that it cannot.
    pixel_bytes
        Bytes of the source's pixels at full size; 0 where unknown.
    changes
        Fields of the batch's options that this source has other values for.
    reported
        Whether there is a report.
    """

    source: Any
    target: str
    writer: type[WriterBackend]
    overwrite: bool = False
    resume: bool = False
    error: str | None = None
    error_type: str | None = None
    pixel_bytes: int = 0
    changes: Mapping[str, Any] = field(default_factory=dict)
    reported: bool = True

    def options(self, common: ConvertOptions) -> ConvertOptions:
        """Return the options of this job."""
        return replace(common, **self.changes) if self.changes else common

    @property
    def name(self) -> str:
        """The source's file name, for progress."""
        return Path(str(self.source).split("?", 1)[0].rstrip("/")).name


def failed(job: Job, error: str, kind: str, options: ConvertOptions) -> FileRecord:
    """Return the record of a job that failed."""
    return FileRecord(
        source=str(job.source), target=job.target, error=error, error_type=kind,
        request=job.options(options).fingerprint, ended=now(),
    )  # fmt: skip


def converted(
    job: Job,
    options: ConvertOptions,
    progress: Callable[[int, int], None] | None,
    readers: KeptReaders | None = None,
) -> FileRecord:
    """Do one job; its failure is a record, not an exception. `readers`: see `convert_file`."""
    begun = time.perf_counter()
    try:
        return convert_file(
            job.source, job.target, job.options(options), job.writer,
            overwrite=job.overwrite, resume=job.resume, progress=progress, readers=readers,
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - the other jobs continue
        record = failed(job, reason_of(error), type(error).__name__, options)
        record.seconds = time.perf_counter() - begun
        record.stops_batch = is_disk_full(error)
        return record


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one of its causes, is a full disk."""
    cause: BaseException | None = error
    for _ in range(_DEEPEST_CAUSE):
        if cause is None:
            return False
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return True
        cause = cause.__cause__
    return False
