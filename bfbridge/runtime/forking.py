"""Locks that work in a forked child, and actions that repair objects there.

`os.fork` copies one thread only. A lock that another thread held at that moment stays locked in the
child, and the data it protects may be half changed. All locks of objects that live longer than
one call are therefore made here. A child replaces them by unlocked ones, in place, so using them
costs the same as a lock of `threading`. Objects whose state spans several assignments register an
action that repairs it.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

__all__ = ["condition", "in_child", "lock", "rlock"]

_locks: weakref.WeakSet[Any] = weakref.WeakSet()
_actions: dict[int, weakref.WeakMethod[Any]] = {}


def lock() -> threading.Lock:
    """Return a new lock, which is unlocked in forked children."""
    return _registered(threading.Lock())  # type: ignore[no-any-return]


def rlock() -> Any:
    """Return a new reentrant lock, which is unlocked in forked children."""
    return _registered(threading.RLock())


def condition(of: Any = None) -> threading.Condition:
    """Return a new condition without waiters in forked children.

    Parameters
    ----------
    of
        Its lock, from this module. Default: a new reentrant lock.
    """
    return _registered(threading.Condition(of))  # type: ignore[no-any-return]


def in_child(action: Any) -> None:
    """Call a bound method in each forked child, as long as its object exists.

    It runs before the locks are unlocked, and must take none and raise nothing.
    """
    owner = id(action.__self__)
    _actions[owner] = weakref.WeakMethod(action, lambda _: _actions.pop(owner, None))


def _registered(made: Any) -> Any:
    _locks.add(made)
    return made


def _after_fork() -> None:
    for reference in list(_actions.values()):
        action = reference()
        if action is not None:
            action()
    for made in list(_locks):
        # The method that threading, logging and concurrent.futures call for their own locks.
        made._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
