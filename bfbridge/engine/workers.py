"""Threads: their number, and the distribution of the jobs of a request among them.

One thread pool serves the process. The thread that requests pixels works too: it runs jobs together
with at most ``workers - 1`` helpers. So a single chunk is decoded without a change of thread,
nested requests cannot deadlock, and the memory in use is limited to workers x chunk.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from bfbridge.errors import BadArgument
from bfbridge.runtime import forking
from bfbridge.runtime.interrupts import checkpoint, deferred

__all__ = [
    "Background",
    "available_cpus",
    "prefetch",
    "run",
    "shared_pool",
    "worker_count",
]

MAX_THREADS = 64
# Concurrent requests to a server: above about 16 the connection or the server is the limit.
WAITING_WORKERS = 16
T = TypeVar("T")


def available_cpus() -> int:
    """Return the number of CPUs of this process: its affinity, limited by the cgroup quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, math.ceil(quota)) if quota else count)


def worker_count(max_workers: int | None, *, waits: bool = False) -> int:
    """Return the number of threads; for None, the CPUs that this process may use.

    Parameters
    ----------
    max_workers
        The argument of the caller.
    waits
        Whether the threads mostly wait for a server; then None is at least `WAITING_WORKERS`.

    Raises
    ------
    BadArgument
        `max_workers` is not an integer of 1 or more.
    """
    if max_workers is None:
        return max(available_cpus(), WAITING_WORKERS if waits else 1)
    if isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1:
        raise BadArgument(f"max_workers={max_workers!r}: give a number of threads, 1 or more.")
    return max_workers


@cache
def _cgroup_quota() -> float | None:
    """Return the CPUs that the cgroup (v2, then v1) allows, or None without a limit."""
    with suppress(OSError, ValueError):
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        limit = (folder / "cpu.cfs_quota_us").read_text()
        period = (folder / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    return None


_pools: dict[str, ThreadPoolExecutor] = {}
_pool_lock = forking.lock()


def shared_pool(purpose: str = "bfbridge", size: int = MAX_THREADS) -> ThreadPoolExecutor:
    """Return this process's thread pool for a purpose, created on first use with `size` threads."""
    with _pool_lock:
        if purpose not in _pools:
            _pools[purpose] = ThreadPoolExecutor(size, thread_name_prefix=purpose)
        return _pools[purpose]


def _forget_pool() -> None:
    # Threads do not survive a fork: the child makes new pools on first use.
    global _pools
    _pools = {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


class _SharedJobs:
    """An iterator of jobs that several threads take from; it ends at the first error."""

    def __init__(self, jobs: Iterable[Callable[[], object]]) -> None:
        self._jobs = iter(jobs)
        self._lock = forking.lock()
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Callable[[], object]]:
        return self

    def __next__(self) -> Callable[[], object]:
        checkpoint()
        with self._lock:
            if self.error is not None:
                raise StopIteration
            try:
                return next(self._jobs)
            except StopIteration:
                raise
            except BaseException as error:  # noqa: BLE001 - raised by `run`
                self.error = error
                raise StopIteration from None

    def fail(self, error: BaseException) -> None:
        """Store the first error; `run` raises it."""
        with self._lock:
            self.error = self.error or error

    def work(self) -> None:
        """Run jobs until there are none left."""
        for job in self:
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - raised by `run`
                self.fail(error)


def run(jobs: Iterable[Callable[[], object]], workers: int) -> None:
    """Run jobs on the calling thread and up to ``workers - 1`` pool threads.

    Jobs are taken from the iterable as threads become free. After the first error no further job is
    started; the error is raised when the running jobs have ended.
    """
    jobs = iter(jobs)
    first = list(itertools.islice(jobs, 2))
    if workers < 2 or len(first) < 2:
        for job in itertools.chain(first, jobs):
            job()
        return
    shared = _SharedJobs(itertools.chain(first, jobs))
    helpers: list[Future[None]] = []
    try:
        # An exception from a signal handler would leave the locks of the pool held.
        with deferred():
            try:
                # At interpreter exit no thread can be started: this thread does all the work.
                with suppress(RuntimeError):
                    count = min(workers, MAX_THREADS) - 1
                    helpers.extend(shared_pool().submit(shared.work) for _ in range(count))
                # As `_SharedJobs.work`, but with one frame less between a read and its codec.
                for job in shared:
                    try:
                        job()
                    except BaseException as error:  # noqa: BLE001 - raised below
                        shared.fail(error)
            except BaseException as error:
                # Ctrl-C between two jobs: the helpers must not take further jobs either.
                shared.error = shared.error or error
                raise
            finally:
                for helper in helpers:
                    if not helper.cancel():
                        helper.result()
        if shared.error is not None:
            raise shared.error
    finally:
        # These frames are part of the error's traceback, which would keep all of it alive.
        shared.error = None


def prefetch(jobs: Iterable[Callable[[], T]], depth: int) -> Iterator[T]:
    """Yield each job's result, in order, while up to `depth` of the next ones run ahead.

    Leaving the loop early cancels jobs that have not started.
    """
    jobs = iter(jobs)
    ahead: deque[Future[T]] = deque()
    try:
        with deferred():
            for job in itertools.islice(jobs, depth):
                ahead.append(shared_pool().submit(job))
        while ahead:
            with deferred():
                result = ahead.popleft().result()
                for job in itertools.islice(jobs, 1):
                    ahead.append(shared_pool().submit(job))
            yield result
    finally:
        with deferred():
            for future in ahead:
                future.cancel()


class Background:
    """Jobs that run while the caller prepares the next: at most `limit` at once.

    The next `submit` or `wait` raises an error, once.

    They use separate threads: a job of `run` may wait here for a free place, and if jobs of `run`
    occupied every thread, none would become free.
    """

    def __init__(self, limit: int) -> None:
        self._slots = threading.Semaphore(limit)
        self._lock = forking.lock()
        self._pending: set[Future[Any]] = set()
        self._error: BaseException | None = None

    def submit(self, job: Callable[[], object]) -> None:
        """Start a job, waiting for a free place."""
        self._raise_error()
        self._slots.acquire()
        try:
            future = shared_pool("bfbridge-background").submit(job)
        except RuntimeError:
            # The interpreter is ending, and no thread can be started.
            self._slots.release()
            job()
            return
        with self._lock:
            self._pending.add(future)
        future.add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        self._settle(future)
        self._slots.release()

    def _settle(self, future: Future[Any]) -> None:
        """Record the end of a job, once: `wait` may come before or after the future's callback."""
        error = future.exception()
        with self._lock:
            if future in self._pending:
                self._pending.remove(future)
                self._error = self._error or error

    def wait(self) -> None:
        """Wait until every job has ended; raise the first error."""
        while True:
            with self._lock:
                future = next(iter(self._pending), None)
            if future is None:
                break
            self._settle(future)
        self._raise_error()

    def drain(self) -> None:
        """Wait until every job has ended, in any case; errors are ignored."""
        while True:
            with suppress(BaseException):
                self.wait()
                return

    def _raise_error(self) -> None:
        with self._lock:
            error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            error = None  # as in `run`
