"""Conversions on an existing Dask cluster: one task for each file, or for each region of one file.

A task whose worker was lost is run again by another worker. This is safe, because a new file gets
its name only when it is complete; the next writer of the same file removes what the lost worker
left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bfbridge.convert.execute.executor import Executor
from bfbridge.convert.execute.jobs import Job, converted
from bfbridge.convert.execute.regions import convert_on_cluster
from bfbridge.convert.execute.run import Run
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.reports.record import FileRecord
from bfbridge.errors import BadArgument, MissingExtra

__all__ = ["ClusterExecutor"]

RETRIES = 5


class ClusterExecutor(Executor):
    """Converts on the workers of a cluster, which see the same paths as this process.

    Parameters
    ----------
    client
        A ``distributed.Client``.

    Raises
    ------
    MissingExtra
        Dask's distributed scheduler is not installed.
    BadArgument
        `client` is not such a client.
    """

    def __init__(self, client: Any) -> None:
        try:
            import distributed
        except ImportError as error:
            raise MissingExtra(
                "a Dask cluster needs Dask's distributed scheduler. Install it with: python -m pip "
                "install 'dask[distributed]'"
            ) from error
        if not isinstance(client, distributed.Client):
            raise BadArgument(f"client= is a {type(client).__name__}; give a distributed.Client.")
        # Its functions carry no types.
        self._distributed: Any = distributed
        self._client: Any = client

    def convert(
        self, job: Job, options: ConvertOptions, progress: Callable[[int, int], None] | None
    ) -> FileRecord:
        """Convert one source; its regions are distributed to the workers."""
        return convert_on_cluster(
            job.source, job.target, options, job.writer, self._client,
            overwrite=job.overwrite, resume=job.resume, progress=progress,
        )  # fmt: skip

    def run(self, run: Run) -> None:
        """Convert each file in one task."""
        futures = {
            # Not pure: a repeated call converts the same file again.
            self._client.submit(_convert, job, run.options, pure=False, retries=RETRIES): number
            for number, job in run.pending()
        }
        try:
            for future in self._distributed.as_completed(list(futures)):
                number = futures[future]
                failure = future.exception()
                if failure is None:
                    run.end(number, future.result())
                else:
                    reason = f"the cluster did not complete this file: {failure}"
                    run.end(number, run.failed(number, reason, type(failure).__name__))
        except BaseException:
            self._client.cancel(list(futures))
            raise


def _convert(job: Job, options: ConvertOptions) -> FileRecord:
    """Do one job on a worker.

    A task that is repeated after its worker was lost may find its own file complete. Then the
    worker was lost before it returned the record, and resuming makes the record again.
    """
    record = converted(job, options, None)
    if record.error_type == "TargetExists" and _is_repeated():
        record = converted(replace(job, resume=True), options, None)
    return record


def _is_repeated() -> bool:
    """Whether a task of this key was already given to another worker."""
    import distributed

    # Its functions carry no types.
    cluster: Any = distributed
    key = cluster.get_worker().get_current_task()
    return bool(cluster.get_client().run_on_scheduler(_suspicious, key=key))


def _suspicious(dask_scheduler: Any, key: str) -> int:
    task = dask_scheduler.tasks.get(key)
    return 0 if task is None else int(task.suspicious)
