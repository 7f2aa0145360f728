"""Conversions on an existing Dask cluster: one task for each file, or for each region of one file.

A task whose worker was lost is run again by another worker. This is safe, because a new file gets
its name only when it is complete; the next writer of the same file removes what the lost worker
left.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from bfbridge.convert.execute.executor import Executor
from bfbridge.convert.execute.jobs import Job, converted
from bfbridge.convert.execute.regions import convert_on_cluster
from bfbridge.convert.execute.run import Run
from bfbridge.convert.execute.tasks import check_client, options_on_worker, run_tasks, submitted
from bfbridge.convert.locations import anywhere
from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.plan.grouping import AHEAD, Opened, opener_for
from bfbridge.convert.reports.record import FileRecord
from bfbridge.errors import BfbridgeError

__all__ = ["ClusterExecutor", "opener_on"]

PROGRESS_SECONDS = 1.0
STARTED = -1
MOST_OPENINGS = 256
"""Files that a search opens at once on a cluster; each has a thread here that waits."""


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
        check_client(client)
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
        topic = f"bfbridge-{uuid.uuid4().hex}"
        numbers: list[int] = []

        def tasks() -> Iterator[tuple[int, Job, ConvertOptions, str]]:
            for number, job in run.pending():
                numbers.append(number)
                yield number, job, run.options, topic

        def moved(event: tuple[float, tuple[int, int, int]]) -> None:
            number, done, total = event[1]
            if done != STARTED:
                run.progress(number)(done, total)

        self._client.subscribe_topic(topic, moved)
        try:
            for order, record in run_tasks(self._client, _convert, tasks()):
                number = numbers[order]
                if isinstance(record, BaseException):
                    reason = f"the cluster did not complete this file: {record}"
                    run.end(number, run.failed(number, reason, type(record).__name__))
                else:
                    run.end(number, record)
        finally:
            self._client.unsubscribe_topic(topic)


def _convert(
    number: int, job: Job, options: ConvertOptions, topic: str, again: bool = False
) -> FileRecord:
    """Do one job on a worker.

    A task that is repeated after its worker was lost may find its own file complete. Then the
    worker was lost before it returned the record, and resuming makes the record again.
    """
    import distributed

    cluster: Any = distributed
    worker, own = cluster.get_worker(), options_on_worker(options)
    reported = 0.0
    worker.log_event(topic, (number, STARTED, 0))

    def progress(done: int, total: int) -> None:
        nonlocal reported
        now = time.monotonic()
        if now - reported >= PROGRESS_SECONDS:
            reported = now
            worker.log_event(topic, (number, done, total))

    record = converted(job, own, progress)
    if record.error_type == "TargetExists" and (again or _is_repeated(topic, number)):
        record = converted(replace(job, resume=True), own, progress)
    return record


def _is_repeated(topic: str, number: int) -> bool:
    """Whether this task ran before: on a worker that was lost while it ran, or with its result."""
    import distributed

    # Its functions carry no types.
    cluster: Any = distributed
    key = cluster.get_worker().get_current_task()
    ask = cluster.get_client().run_on_scheduler
    return bool(ask(_ran_before, key=key, topic=topic, number=number))


def _ran_before(dask_scheduler: Any, key: str, topic: str, number: int) -> bool:
    task = dask_scheduler.tasks.get(key)
    events = [event for _, event in dask_scheduler.get_events(topic) if event[0] == number]
    starts = sum(event[1] == STARTED for event in events)
    return starts > 1 or (task is not None and bool(task.suspicious))


def opener_on(client: Any, options: ConvertOptions) -> tuple[Callable[[str], Opened], int]:
    """Return a function that opens a file on a worker, and the number to open at once.

    A search of many files mostly waits for storage, and opening takes CPU time: on the workers both
    grow with the cluster.

    Parameters
    ----------
    client
        A ``distributed.Client``.
    options
        How files are opened.

    Raises
    ------
    MissingExtra, BadArgument
        `client` cannot be used; see `check_client`.
    """
    check_client(client)

    def opened(path: str) -> Opened:
        try:
            found: Opened = submitted(client, _open, anywhere(path), options).result()
        except BfbridgeError:
            raise
        except Exception:  # noqa: BLE001 - the worker was lost: this process gives the reason
            return opener_for(options)(path)
        return found

    threads = sum(client.nthreads().values())
    return opened, max(AHEAD, min(MOST_OPENINGS, 2 * threads))


def _open(path: str, options: ConvertOptions) -> Opened:
    """Open a file; runs on a worker."""
    return opener_for(options)(path)
