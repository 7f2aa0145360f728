"""Calls into Java on threads of our own, so that their callers can be interrupted, and leave.

A thread inside Java cannot be interrupted: Ctrl-C is noticed when Java returns, a decoder that goes
round in damaged bytes never does, and an exception raised between two steps of a pool leaves it out
of order. So callers wait, and other threads work.
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

# Named so that `bfbridge_bioformats.runtime.machine` keeps them attached to Java.
_NAME: Final = "bfbridge-java"
_MOST_IDLE: Final = 8
# A limit of idle time is looked at so often while it passes.
_LOOKS: Final = 8
_LONGEST_WAIT: Final = 60.0
_local = threading.local()


class Activity:
    """Counts what calls read of a file: one that goes on can be told from one that hangs."""

    def __init__(self) -> None:
        self._counter: np.ndarray[Any, np.dtype[np.int64]] = np.zeros(1, np.int64)

    def use(self, counter: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Count on in an array of one number, which others count up as well."""
        counter[0] = self._counter[0] + 1
        self._counter = counter

    def note(self) -> None:
        """Count one step."""
        self._counter[0] += 1

    def count(self) -> int:
        """Return what was counted."""
        return int(self._counter[0])


class Bounds:
    """How long a call may take.

    Attributes
    ----------
    activity, idle
        It ends with an error where nothing was counted for so many seconds.
    timeout
        It ends with an error after so many seconds; None: never.
    left
        What becomes of the work then, for messages.
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
    """One action, to be done on another thread.

    Attributes
    ----------
    abandoned
        Whether its caller does not wait for it any more.
    on_abandon
        Called when the caller leaves; None does nothing.
    """

    __slots__ = ("_action", "_done", "_error", "_result", "abandoned", "on_abandon")

    def __init__(self, action: Callable[[], T]) -> None:
        self._action = action
        self._done = threading.Lock()
        self._done.acquire()
        self._error: BaseException | None = None
        self._result: T | None = None
        self.abandoned = False
        self.on_abandon: Callable[[], object] | None = None

    def work(self) -> None:
        """Do it, and let the caller go on."""
        _local.call = self
        try:
            self._result = self._action()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error
        finally:
            _local.call = None
            self._done.release()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of it; return whether it has ended."""
        return self._done.acquire(timeout=seconds)

    def result(self) -> T:
        """Return what it returned, or raise what it raised."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # The traceback leads to this frame.
                del error
        return self._result  # type: ignore[return-value]

    def abandon(self) -> None:
        """Leave it to itself."""
        self.abandoned = True
        if self.on_abandon is not None:
            self.on_abandon()


class _Threads:
    """Threads that work on calls. One at least waits for the next, so that none has to be started.

    Callers put calls into a queue, which cannot be interrupted half-way; all else is done by the
    threads themselves, which are never interrupted.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call[Any]] = queue.SimpleQueue()
        self._lock = forking.lock()
        self._waiting = 0
        self._started = False

    def put(self, call: Call[Any]) -> None:
        """Have a call worked on."""
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
            # What it returned is the caller's alone.
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
    """Do something on a thread of ours, and wait for it.

    Parameters
    ----------
    action
        What to do.
    name, what
        The file and what is done with it, for messages.
    bounds
        How long it may take.
    patience
        Seconds that a caller who is interrupted still waits, for what must not go on beside others.

    Raises
    ------
    TookTooLong
        A bound was reached. The action goes on by itself.
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
    """Return the call that this thread works on; None on other threads."""
    return getattr(_local, "call", None)


def check_wanted() -> None:
    """Raise an error, which goes nowhere, if the caller of this thread's call does not wait for it.

    To be asked between the steps of what takes long.
    """
    current = current_call()
    if current is not None and current.abandoned:
        raise ReadFailed("nobody waits for this any more")


def finish_here() -> None:
    """From now on do everything on the threads that ask for it: the interpreter ends."""
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
                "and has not come to an end; the file is probably damaged. If it is sound, raise "
                "the limit with BioReader(..., limits=Limits(idle_seconds=...)). "
                f"{bounds.left}"
            )


def _forget_threads() -> None:
    """Make new threads in a forked child, on need: those of the parent are not there."""
    global _threads
    _threads = _Threads()
    _local.call = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
