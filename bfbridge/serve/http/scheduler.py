"""The order of computation: equal requests once, abandoned requests never, newest and oldest.

The scheduler runs in the event loop, the work in threads. Viewers and Zarr clients have one queue
each; the scheduler takes work from them alternately. Of the requests of viewers, the newest and
the oldest are computed alternately: the newest is what its user looks at now, and without the
oldest a request could wait as long as new ones arrive. Zarr clients need all chunks that they
request, in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Any, Final, Literal, TypeVar

from bfbridge.serve.metrics import Metrics
from bfbridge.serve.replies import Refused

__all__ = ["Lane", "Scheduler"]

Lane = Literal["viewer", "zarr"]
T = TypeVar("T")
LANES: Final[tuple[Lane, ...]] = ("viewer", "zarr")


class _Job:
    """Work for which one or several requests wait."""

    __slots__ = ("future", "key", "lane", "started", "waiting", "work")

    def __init__(
        self, key: Hashable, work: Callable[[], Any], lane: Lane, future: asyncio.Future[Any]
    ) -> None:
        self.key = key
        self.work = work
        self.lane = lane
        self.future = future
        self.waiting = 0
        self.started = False


class Scheduler:
    """Runs work on threads, at most `threads` at once.

    Parameters
    ----------
    pool
        The threads.
    threads
        Largest number of jobs that run at once.
    queue
        Largest number of waiting jobs in each lane. Beyond it, the oldest job of viewers or the
        newest job of Zarr clients is refused.
    metrics
        The counters.
    """

    def __init__(self, pool: Executor, threads: int, queue: int, metrics: Metrics) -> None:
        self._pool = pool
        self._threads = threads
        self._most = queue
        self._metrics = metrics
        self._jobs: dict[Hashable, _Job] = {}
        # In order of arrival. Dictionaries, because abandoned jobs are removed from the middle.
        self._queues: dict[Lane, dict[_Job, None]] = {lane: {} for lane in LANES}
        self._turn: deque[Lane] = deque(LANES)
        self._newest_next = True
        self._running = 0

    async def run(self, key: Hashable, work: Callable[[], T], lane: Lane) -> T:
        """Return the result of work, computed once for all requests with the same key.

        If all of them are cancelled before the work starts, it is dropped.

        Parameters
        ----------
        key
            Identifies the work.
        work
            Runs in a thread.
        lane
            The queue.

        Raises
        ------
        Refused
            Too many requests wait (503).
        """
        job = self._jobs.get(key)
        if job is None:
            job = self._enqueue(key, work, lane)
        else:
            self._metrics.add("joined")
        job.waiting += 1
        try:
            # Shielded: others may wait for the same work.
            return await asyncio.shield(job.future)
        except asyncio.CancelledError:
            self._metrics.add("abandoned")
            raise
        finally:
            job.waiting -= 1
            if not job.waiting and not job.future.done():
                self._leave(job)

    @property
    def waiting(self) -> int:
        """Number of waiting jobs."""
        return sum(len(queue) for queue in self._queues.values())

    def _enqueue(self, key: Hashable, work: Callable[[], Any], lane: Lane) -> _Job:
        queue = self._queues[lane]
        if len(queue) >= self._most:
            self._metrics.add("refused")
            if lane == "zarr":
                raise _busy()
            oldest = next(iter(queue))
            self._forget(oldest)
            oldest.future.set_exception(_busy())
        job = _Job(key, work, lane, asyncio.get_running_loop().create_future())
        self._jobs[key] = job
        queue[job] = None
        self._metrics.add("queued")
        self._start_next()
        return job

    def _forget(self, job: _Job) -> None:
        if job in self._queues[job.lane]:
            del self._queues[job.lane][job]
            self._metrics.add("queued", -1)
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]

    def _leave(self, job: _Job) -> None:
        """Drop a job for which no request waits, unless it runs."""
        if not job.started:
            self._forget(job)
            job.future.cancel()
            self._metrics.add("dropped")

    def _start_next(self) -> None:
        while self._running < self._threads:
            job = self._take()
            if job is None:
                return
            job.started = True
            self._metrics.add("queued", -1)
            self._running += 1
            running = asyncio.get_running_loop().run_in_executor(self._pool, job.work)
            running.add_done_callback(lambda done, job=job: self._done(job, done))  # type: ignore[misc]

    def _take(self) -> _Job | None:
        for _ in LANES:
            lane = self._turn[0]
            self._turn.rotate()
            queue = self._queues[lane]
            if queue:
                newest = lane == "viewer" and self._newest_next
                job = next(reversed(queue)) if newest else next(iter(queue))
                del queue[job]
                if lane == "viewer" and queue:
                    self._newest_next = not self._newest_next
                return job
        return None

    def _done(self, job: _Job, done: asyncio.Future[Any]) -> None:
        self._running -= 1
        self._metrics.add("computed")
        if not job.waiting:
            self._metrics.add("wasted")
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]
        if not job.future.cancelled() and not job.future.done():
            if done.cancelled():
                job.future.cancel()
            elif (error := done.exception()) is not None:
                job.future.set_exception(error)
                # If no request waits, asyncio would log that the exception was never retrieved.
                job.future.exception()
            else:
                job.future.set_result(done.result())
        self._start_next()


def _busy() -> Refused:
    return Refused(503, "too many requests are waiting; try again", retry_after=1)
