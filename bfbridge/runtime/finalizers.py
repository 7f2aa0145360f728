"""Finalizers that never block: another thread releases objects that were not closed.

The garbage collector runs finalizers on any thread, in the middle of any code: also on a thread
that encodes a chunk, or one that holds a lock. A finalizer that waited for a thread or a lock there
could wait for itself. Finalizers therefore only put their work in a queue and start a thread; both
`queue.SimpleQueue.put` and `_thread.start_new_thread` may be called anywhere.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import threading
import weakref
from _thread import start_new_thread
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Task", "finalize", "hand_over", "settle", "watch"]

log = logging.getLogger("bfbridge")


class Task:
    """Work that releases an object. It is done once, by another thread.

    Parameters
    ----------
    action
        The work. Errors that it raises are logged.
    owner
        The object; its finalizer hands the work over. None if that has happened.
    path
        The file that the work finishes.
    """

    def __init__(
        self, action: Callable[[], object], owner: object = None, path: str | None = None
    ) -> None:
        self._action = action
        self._owner = None if owner is None else weakref.ref(owner)
        self._done = threading.Lock()
        self._done.acquire(blocking=False)
        self.path = path
        self.is_queued = False

    @property
    def is_due(self) -> bool:
        """Whether an interrupt prevented the finalizer of the owner from handing the work over."""
        return not self.is_queued and self._owner is not None and self._owner() is None

    def hand_over(self) -> None:
        """Do the work in another thread. May be called from a finalizer; never blocks."""
        self.is_queued = True
        if _ended:
            self.run()
            return
        _tasks.put(self)
        with suppress(RuntimeError):  # no thread can be started: the next one does it, or the exit
            start_new_thread(_launch, ())

    def run(self) -> None:
        """Do the work in this thread."""
        action, self._action = self._action, _nothing
        if action is _nothing:
            return
        try:
            action()
        except BaseException as error:
            # While the interpreter is shutting down, modules are incomplete and errors are
            # expected.
            level = logging.DEBUG if _ended else logging.ERROR
            log.log(level, "an object that was not closed could not be released: %s", error)
            log.debug("the traceback of this error", exc_info=True)
        finally:
            self.forget()
            self._done.release()

    def wait(self) -> None:
        """Wait until the work is done."""
        with self._done:
            pass

    def forget(self) -> None:
        """Mark the work as done."""
        self._action = _nothing
        with suppress(ValueError):
            _watched.remove(self)


def _nothing() -> None:
    """Do nothing; replaces work that was done."""


_tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
_watched: list[Task] = []
_busy = threading.Lock()
_worker: threading.Thread | None = None
_ended = False


def hand_over(action: Callable[[], object]) -> None:
    """Run an action in another thread. May be called from a finalizer; never blocks."""
    Task(action).hand_over()


def watch(owner: object, action: Callable[[], object], path: str) -> Task:
    """Return the work that releases an object; it is done at exit at the latest, unless forgotten.

    Parameters
    ----------
    owner
        The object. Its finalizer hands the work over. If an interrupt prevents that, `settle` does.
    action
        The work; it does not refer to the owner.
    path
        The file that the work finishes: `settle` waits for it.
    """
    task = Task(action, owner, path)
    _watched.append(task)
    run_before_later_handlers()
    return task


def run_before_later_handlers() -> None:
    """At exit, do the work of watched objects before handlers registered until now (Java)."""
    # `atexit` calls the last function first.
    atexit.unregister(_run_watched)
    atexit.register(_run_watched)


def finalize(
    owner: object, action: Callable[..., object], *arguments: Any
) -> weakref.finalize[Any, Any]:
    """Run ``action(*arguments)`` in another thread when `owner` is collected; not at exit."""
    finalizer = weakref.finalize(owner, _hand_over, action, arguments)
    finalizer.atexit = False
    return finalizer


def _hand_over(action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    hand_over(lambda: action(*arguments))


def settle(path: str | os.PathLike[str]) -> None:
    """Wait until other threads have finished files at a path.

    Parameters
    ----------
    path
        The file, or a file inside it.
    """
    if not _watched or threading.current_thread() is _worker:
        return
    wanted = os.path.realpath(path)
    for task in tuple(_watched):
        if task.is_due:
            task.hand_over()
        own = os.path.realpath(task.path or "")
        if task.is_queued and (wanted + os.sep).startswith(own.rstrip(os.sep) + os.sep):
            task.wait()


# ---- the thread


def _work() -> None:
    """Do the queued work, unless another thread does."""
    while not _tasks.empty() and _busy.acquire(blocking=False):
        try:
            _empty()
        finally:
            _busy.release()


def _empty() -> None:
    with suppress(queue.Empty):
        while True:
            _tasks.get_nowait().run()


def _launch() -> None:
    # A thread of `threading` waits for its own start, so a finalizer cannot start one itself.
    global _worker
    with suppress(RuntimeError):  # the interpreter is ending
        _worker = threading.Thread(target=_work, name="bfbridge-finalizer", daemon=True)
        _worker.start()


def _end() -> None:
    """Do all queued work, at exit."""
    global _ended
    _ended = True
    with _busy:
        _empty()


def _run_watched() -> None:
    for task in tuple(_watched):
        task.run()


def _reset_after_fork() -> None:
    # Threads do not survive a fork, and the queued work belongs to the parent.
    global _tasks, _busy
    _tasks, _busy = queue.SimpleQueue(), threading.Lock()
    _watched.clear()


# Before the threads of the pools end, and before the handler of Java, which `atexit` runs later.
with suppress(RuntimeError):  # the interpreter is ending already
    getattr(threading, "_register_atexit", atexit.register)(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
