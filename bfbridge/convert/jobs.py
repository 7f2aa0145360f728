"""One job of a batch: a source, its target, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bfbridge.convert.record import FileRecord
from bfbridge.convert.request import Request
from bfbridge.convert.single import convert_file

__all__ = ["Job", "converted", "failed"]


@dataclass(frozen=True)
class Job:
    """One source and its target.

    Attributes
    ----------
    source, target
        What is opened, and the new file.
    overwrite, resume
        What is done if the new file exists.
    error, error_type
        Why the source cannot be opened, where the search found that out.
    """

    source: Any
    target: str
    overwrite: bool = False
    resume: bool = False
    error: str | None = None
    error_type: str | None = None

    @property
    def name(self) -> str:
        """The source's file name, for progress."""
        return Path(str(self.source).split("?", 1)[0].rstrip("/")).name


def failed(job: Job, error: str, kind: str, request: Request) -> FileRecord:
    """Return the record of a job that failed."""
    return FileRecord(
        source=str(job.source), target=job.target, error=error, error_type=kind,
        request=request.fingerprint,
    )  # fmt: skip


def converted(
    job: Job, request: Request, progress: Callable[[int, int], None] | None
) -> FileRecord:
    """Do one job; its failure is a record, not an exception."""
    begun = time.perf_counter()
    try:
        return convert_file(
            job.source, job.target, request,
            overwrite=job.overwrite, resume=job.resume, progress=progress,
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
        record = failed(job, str(error), type(error).__name__, request)
        record.seconds = time.perf_counter() - begun
        return record
