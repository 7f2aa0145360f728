"""Calls into Java on separate threads, so that their callers can be interrupted and can time out.

A thread inside Java cannot be interrupted: Ctrl-C takes effect when Java returns, a decoder in an
endless loop never returns, and an exception between two steps of a pool would corrupt its state.
Therefore callers wait, and other threads do the work.
"""

from __future__ import annotations

import math
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import numpy as np

from bfbridge.errors import ReadFailed, TookTooLong
from bfbridge.runtime import forking

__all__ = [
    "Activity",
    "Bounds",
    "Call",
    "call",
    "check_wanted",
    "current_call",
    "finish_here",
]

T = TypeVar("T")

# This prefix makes `bfbridge_bioformats.runtime.machine` keep the threads attached to Java.
_NAME: Final = "bfbridge-java"
_MOST_IDLE: Final = 8
# Number of times that the idle time is tested within its limit.
_LOOKS: Final = 8
# Python notices a signal that comes just before a wait, or to another thread, after the wait.
_LONGEST_WAIT: Final = 0.5
_local = threading.local()


class Activity:
    """Counts what calls read of a file, to distinguish a running call from one that hangs."""

    def __init__(self) -> None:
        self._counter: np.ndarray[Any, np.dtype[np.int64]] = np.zeros(1, np.int64)

    def use(self, counter: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Count in an array of one number, in which other code counts too."""
        counter[0] = self._counter[0] + 1
        self._counter = counter

    def note(self) -> None:
        """Count one step."""
        self._counter[0] += 1

    def count(self) -> int:
        """Return the count."""
        return int(self._counter[0])


class Bounds:
    """Limits on the duration of a call.

    Attributes
    ----------
    activity, idle
        The call ends with an error if nothing was counted for this many seconds.
    timeout
        The call ends with an error after this many seconds; None: no limit.
    left
        What happens to the work after that, for messages.
    """

    __slots__ = ("activity", "idle", "left", "timeout")

    def __init__(
        self,
        activity: Activity,
        idle: float = math.inf,
        timeout: float | None = None,
        left: str = "",
    ) -> None:
        self.activity = activity
        self.idle = idle
        self.timeout = timeout
        self.left = left


_UNBOUND: Final = Bounds(Activity())


class Call(Generic[T]):
    """One action, executed on another thread.

    Attributes
    ----------
    abandoned
        Whether its caller has stopped waiting.
    ended
        Whether it has ended.
    on_abandon
        Called when the caller stops waiting; None does nothing.
    """

    __slots__ = ("_action", "_done", "_error", "_result", "abandoned", "ended", "on_abandon")

    def __init__(self, action: Callable[[], T]) -> None:
        self._action = action
        self._done = threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._result: T | None = None
        self.abandoned = False
        self.ended = False
        self.on_abandon: Callable[[], object] | None = None

    def work(self) -> None:
        """Execute it, and wake the caller."""
        _local.call = self
        try:
            self._result = self._action()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            _local.call = None
            self.ended = True
            self._done.release()

    def wait(self, seconds: float) -> bool:
        """Wait for its end; return whether it has ended."""
        # An interrupt may come after the lock was acquired.
        return self.ended or self._done.acquire(timeout=seconds)

    def result(self) -> T:
        """Return its result, or raise its exception."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # The traceback refers to this frame.
                del error
        return self._result  # type: ignore[return-value]

    def abandon(self) -> None:
        """Stop waiting for it."""
        self.abandoned = True
        if self.on_abandon is not None:
            self.on_abandon()


class _Threads:
    """Threads that execute calls. At least one waits for the next call, so none has to be started.

    Callers put calls into a queue, an operation that cannot be interrupted half-way; the threads,
    which are never interrupted, do everything else.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call[Any]] = queue.SimpleQueue()
        self._lock = forking.lock()
        self._waiting = 0
        self._started = False

    def put(self, call: Call[Any]) -> None:
        """Execute a call on one of the threads."""
        self._calls.put(call)
        if not self._started:
            self._start()
            self._started = True

    def _start(self) -> None:
        threading.Thread(target=self._serve, name=_NAME, daemon=True).start()

    def _serve(self) -> None:
        with self._lock:
            self._waiting += 1
        while True:
            call = self._calls.get()
            with self._lock:
                self._waiting -= 1
                alone = self._waiting == 0
            if alone:
                self._start()
            call.work()
            # Only the caller keeps the result.
            del call
            with self._lock:
                if self._waiting >= _MOST_IDLE:
                    return
                self._waiting += 1


_threads = _Threads()
_here = False


def call(
    action: Callable[[], T],
    name: str,
    what: object,
    bounds: Bounds = _UNBOUND,
    patience: float = 0.0,
) -> T:
    """Execute an action on another thread, and wait for it.

    Parameters
    ----------
    action
        Function to call.
    name, what
        The file and the operation, for messages.
    bounds
        Limits on its duration.
    patience
        Seconds for which an interrupted caller still waits, for actions that must not continue.

    Raises
    ------
    TookTooLong
        A limit was reached. The action continues.
    """
    if _here or current_call() is not None:
        return action()
    todo = Call(action)
    try:
        _threads.put(todo)
        _wait(todo, name, what, bounds)
    except BaseException:
        todo.abandon()
        if patience:
            todo.wait(patience)
        raise
    return todo.result()


def current_call() -> Call[Any] | None:
    """Return the call that this thread executes; None on other threads."""
    return getattr(_local, "call", None)


def check_wanted() -> None:
    """Raise an error, which is not shown, if the caller of this thread's call has stopped waiting.

    Call it between the steps of long actions.
    """
    current = current_call()
    if current is not None and current.abandoned:
        raise ReadFailed("the caller has stopped waiting")


def finish_here() -> None:
    """From now on, execute everything on the calling threads, because the interpreter exits."""
    global _here
    _here = True


def _wait(todo: Call[Any], name: str, what: object, bounds: Bounds) -> None:
    timeout = bounds.timeout
    begun = seen_at = time.monotonic()
    deadline = math.inf if timeout is None else begun + timeout
    seen = bounds.activity.count()
    step = min(bounds.idle / _LOOKS, _LONGEST_WAIT)
    while not todo.wait(max(min(step, deadline - time.monotonic()), 0.0)):
        now = time.monotonic()
        if now >= deadline:
            raise TookTooLong(
                f"{name}: {what}: this took longer than the {timeout:g} seconds of timeout=. "
                f"{bounds.left}"
            )
        count = bounds.activity.count()
        if count != seen:
            seen, seen_at = count, now
        elif now - seen_at >= bounds.idle:
            raise TookTooLong(
                f"{name}: {what}: Java has read nothing of the file for {bounds.idle:g} seconds "
                "and has not ended; the file is probably damaged. If it is correct, raise "
                "the limit with BioReader(..., limits=Limits(idle_seconds=...)). "
                f"{bounds.left}"
            )


def _forget_threads() -> None:
    """Start new threads in a forked child when needed; the parent's threads do not exist there."""
    global _threads
    _threads = _Threads()
    _local.call = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
