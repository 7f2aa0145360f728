"""The interface of executors, and the simplest one: one file after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from bfbridge.convert.copy.source import convert_file
from bfbridge.convert.execute.jobs import converted

if TYPE_CHECKING:
    from bfbridge.convert.execute.jobs import Job
    from bfbridge.convert.execute.run import Run
    from bfbridge.convert.options import ConvertOptions
    from bfbridge.convert.reports.record import FileRecord

__all__ = ["Executor", "SerialExecutor"]


class Executor(ABC):
    """Converts one file, or the files of a batch."""

    @abstractmethod
    def convert(
        self, job: Job, options: ConvertOptions, progress: Callable[[int, int], None] | None
    ) -> FileRecord:
        """Convert the only source of a run.

        Raises
        ------
        BfbridgeError
            The conversion failed.
        """

    @abstractmethod
    def run(self, run: Run) -> None:
        """Convert the pending jobs of a batch; the failure of one does not end the others."""


class SerialExecutor(Executor):
    """Converts files one after the other in this process."""

    def convert(
        self, job: Job, options: ConvertOptions, progress: Callable[[int, int], None] | None
    ) -> FileRecord:
        """Convert one source; see `Executor.convert`."""
        return convert_file(
            job.source, job.target, options, job.writer,
            overwrite=job.overwrite, resume=job.resume, reported=job.reported, progress=progress,
        )  # fmt: skip

    def run(self, run: Run) -> None:
        """Convert the jobs in order."""
        for number, job in run.pending():
            run.end(number, converted(job, run.options, run.progress(number), run.readers))
