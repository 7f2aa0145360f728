"""Which request is computed next: equal ones once, abandoned ones never, the newest first.

Everything here runs on the event loop; only the work itself runs on threads. Viewers and Zarr
clients have a queue each, which take turns. A viewer's newest request is the one that its user
looks at, so it comes first; Zarr clients need all they ask for and are served in order.
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
    """Work that one or several requests wait for."""

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
        How many pieces of work run at once.
    queue
        Most that wait, for each lane. Beyond that the oldest of the viewers' is refused, or the
        newest of the Zarr clients'.
    metrics
        Counts what happens.
    """

    def __init__(self, pool: Executor, threads: int, queue: int, metrics: Metrics) -> None:
        self._pool = pool
        self._threads = threads
        self._most = queue
        self._metrics = metrics
        self._jobs: dict[Hashable, _Job] = {}
        # In order of arrival. Dictionaries, as abandoned ones are taken out of the middle.
        self._queues: dict[Lane, dict[_Job, None]] = {lane: {} for lane in LANES}
        self._turn: deque[Lane] = deque(LANES)
        self._running = 0

    async def run(self, key: Hashable, work: Callable[[], T], lane: Lane) -> T:
        """Return the result of work, computed once for all that ask for the same key meanwhile.

        If all of them are cancelled before it has started, it never does.

        Parameters
        ----------
        key
            What tells the work from other work.
        work
            Runs on a thread.
        lane
            Which queue it waits in.

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
        """How many pieces of work wait."""
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
        self._start_next()
        return job

    def _forget(self, job: _Job) -> None:
        self._queues[job.lane].pop(job, None)
        if self._jobs.get(job.key) is job:
            del self._jobs[job.key]

    def _leave(self, job: _Job) -> None:
        """Drop work that nobody waits for any more, unless it runs."""
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
            self._running += 1
            running = asyncio.get_running_loop().run_in_executor(self._pool, job.work)
            running.add_done_callback(lambda done, job=job: self._done(job, done))  # type: ignore[misc]

    def _take(self) -> _Job | None:
        for _ in LANES:
            lane = self._turn[0]
            self._turn.rotate()
            queue = self._queues[lane]
            if queue:
                if lane == "viewer":
                    return queue.popitem()[0]
                first = next(iter(queue))
                del queue[first]
                return first
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
                # Nobody may be waiting: asyncio would log that it was never looked at.
                job.future.exception()
            else:
                job.future.set_result(done.result())
        self._start_next()


def _busy() -> Refused:
    return Refused(503, "too many requests are waiting; try again", retry_after=1)
