"""Tasks on a Dask cluster: a bounded number at a time, and repeated if their worker is lost.

Dask gives up a task when several workers were lost while it was assigned to them
(``distributed.scheduler.allowed-failures``), although most such tasks did not cause the loss. It is
then submitted again, a limited number of times.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from bfbridge.errors import BadArgument, MissingExtra, WriteFailed

if TYPE_CHECKING:
    from bfbridge.convert.options import ConvertOptions

__all__ = ["check_client", "options_on_worker", "raised", "run_tasks", "submitted"]

LOSSES: Final = 10
"""Number of times that a task is submitted again after Dask has abandoned it."""
AHEAD: Final = 4
"""Tasks at the scheduler for each thread of the cluster."""
LEAST_AHEAD: Final = 16
RETRIES: Final = 5
END_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 5.0


def check_client(client: Any) -> None:
    """Raise an error if a client is not that of a Dask cluster.

    Raises
    ------
    MissingExtra
        Dask's distributed scheduler is not installed.
    BadArgument
        It is not a ``distributed.Client``.
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


def run_tasks(
    client: Any, function: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[int, Any]]:
    """Run a function on the workers; yield (number, result or exception) of each call.

    Only a few tasks for each thread are at the scheduler, so that its memory does not grow with
    their number. If the caller ends early, waiting tasks are cancelled, and those that run are
    waited for, because they write files.

    Parameters
    ----------
    client
        A ``distributed.Client``.
    function
        Called on a worker, with the keyword argument ``again``: whether Dask gave up the same task
        before. A repeated call must have the same effect as one call.
    arguments
        Positional arguments of each call.

    Raises
    ------
    WriteFailed
        The connection to the scheduler was lost.
    """
    import distributed

    cluster: Any = distributed  # its functions carry no types
    pending = enumerate(arguments)
    running: dict[Any, tuple[int, tuple[Any, ...]]] = {}
    losses: dict[int, int] = {}
    # Results are fetched at once, before their workers are lost too.
    ended = cluster.as_completed(with_results=True, raise_errors=False)

    def submit(number: int, given: tuple[Any, ...]) -> None:
        again = number in losses
        future = submitted(client, _called, function, given, again=again)
        running[future] = number, given
        ended.add(future)

    ahead, looked = LEAST_AHEAD, -float("inf")

    def fill() -> None:
        nonlocal ahead, looked
        now = time.monotonic()
        if now - looked >= LOOK_SECONDS:
            # Clusters grow and shrink.
            ahead, looked = max(LEAST_AHEAD, AHEAD * sum(client.nthreads().values())), now
        while len(running) < ahead:
            following = next(pending, None)
            if following is None:
                return
            submit(*following)

    try:
        fill()
        for future, outcome in ended:
            number, given = running.pop(future)
            result = outcome.value if isinstance(outcome, _Returned) else _failure(outcome)
            if isinstance(result, cluster.KilledWorker):
                losses[number] = losses.get(number, 0) + 1
                if losses[number] <= LOSSES:
                    submit(number, given)
                    continue
            yield number, result
            del future
            fill()
    except BaseException:
        # The first error is the one that is raised. Without a scheduler nothing can be cancelled.
        if client.status == "running":
            with suppress(Exception):
                _end(client, list(running))
        raise


def _end(client: Any, futures: Sequence[Any]) -> None:
    """Cancel tasks, and wait for those that run: they would write files that the caller removes."""
    keys = {future.key for future in futures}
    client.cancel(list(futures))
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        if not any(client.run(_executing, keys, on_error="ignore").values()):
            return
        time.sleep(0.1)


def _executing(keys: set[str], dask_worker: Any) -> int:
    """Return how many of the tasks a worker executes, cancelled ones included."""
    return len(keys & {task.key for task in dask_worker.state.executing})


def submitted(client: Any, function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """Return the future of one call on a worker."""
    # Not pure: a repeated call converts the same file again.
    key = _key(given[0] if function is _called else function)
    return client.submit(function, *given, **named, key=key, pure=False, retries=RETRIES)


def raised(result: Any) -> Any:
    """Return the result of a task; raise it if it is an exception."""
    if isinstance(result, BaseException):
        raise result
    return result


@dataclass(frozen=True)
class _Returned:
    """The result of a task, in contrast to the description of its failure."""

    value: Any


def _called(function: Callable[..., Any], given: tuple[Any, ...], *, again: bool) -> _Returned:
    return _Returned(function(*given, again=again))


def _key(function: Callable[..., Any]) -> str:
    """Return the key of a task, whose first part the dashboard shows."""
    return f"bfbridge{function.__name__}-{uuid.uuid4().hex}"


def _failure(outcome: Any) -> BaseException:
    """Return why a task failed.

    Parameters
    ----------
    outcome
        Type, exception and traceback; or an exception if the task was cancelled.

    Raises
    ------
    WriteFailed
        It was cancelled, as all are when the scheduler ends.
    """
    if isinstance(outcome, BaseException):
        raise WriteFailed(
            "the Dask scheduler ended, or the connection to it was lost. Complete files are kept. "
            "Start the cluster again, and repeat the same command with resume=True (--resume)."
        ) from outcome
    failure: BaseException = outcome[1]
    return failure


def options_on_worker(options: ConvertOptions) -> ConvertOptions:
    """Return the options of one of the tasks that a worker runs at the same time.

    A worker has as many tasks as threads. They share its CPUs and ``memory``.
    """
    import distributed

    cluster: Any = distributed
    tasks = max(1, cluster.get_worker().state.nthreads)
    return replace(
        options,
        max_workers=max(1, options.workers // tasks),
        memory=max(16 << 20, options.memory_bytes // tasks),
    )
