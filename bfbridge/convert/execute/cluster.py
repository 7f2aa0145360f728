"""A batch on a Dask cluster that exists already: one task for each file.

A worker that is lost takes its task to another one. That is safe, as a new file has its name only
when it is complete; what the lost worker left is cleared by the next writer of the same file.
"""

from __future__ import annotations

from typing import Any

from bfbridge.convert.plan.request import Request
from bfbridge.convert.reports.record import FileRecord
from bfbridge.errors import BadArgument, MissingExtra

__all__ = ["run_on_cluster"]

RETRIES = 5


def run_on_cluster(run: Any, client: Any) -> None:
    """Do the jobs of a batch on a cluster's workers.

    Parameters
    ----------
    run
        The batch; see `bfbridge.convert.execute.batch`.
    client
        A ``distributed.Client``. Its workers see the same paths as this process.

    Raises
    ------
    MissingExtra
        Dask's distributed scheduler is not installed.
    BadArgument
        `client` is not such a client.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtra(
            "a Dask cluster needs Dask's distributed scheduler. Install it with: python -m pip "
            "install 'dask[distributed]'"
        ) from error
    if not isinstance(client, distributed.Client):
        raise BadArgument(f"client= is a {type(client).__name__}; give a distributed.Client.")
    cluster: Any = distributed
    workers: Any = client
    futures = {
        # Not pure: the same file is converted again when it is asked for again.
        workers.submit(_convert, job, run.request, pure=False, retries=RETRIES): number
        for number, job in run.pending()
    }
    try:
        for future in cluster.as_completed(list(futures)):
            number = futures[future]
            failure = future.exception()
            if failure is None:
                run.end(number, future.result())
            else:
                told = f"the cluster gave up on this file: {failure}"
                run.end(number, run.failed(number, told, type(failure).__name__))
    except BaseException:
        workers.cancel(list(futures))
        raise


def _convert(job: Any, request: Request) -> FileRecord:
    """Do one job on a worker.

    A task that is run again after its worker was lost may find its own new file complete: then
    the worker was lost between the file and the answer, and the file is made anew.
    """
    from dataclasses import replace

    from bfbridge.convert.execute.jobs import converted

    record = converted(job, request, None)
    if record.error_type == "TargetExists" and _is_repeated():
        record = converted(replace(job, resume=True), request, None)
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
