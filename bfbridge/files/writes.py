"""Writes under way: which threads are at it, and whether one of them was left without an end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bfbridge.runtime import forking

__all__ = ["Writes"]


class _Write:
    """One write. Its lock is held from its begin to its end, however it ends."""

    __slots__ = ("begun", "lock", "whole")

    def __init__(self) -> None:
        self.lock = forking.lock()
        self.begun = self.whole = False

    @property
    def was_left(self) -> bool:
        # In this order, as another thread may begin or end the write meanwhile.
        return self.begun and not self.lock.locked() and not self.whole


class Writes:
    """The writes of one file, from any thread.

    A write that was left by an exception stays on the list, so that the file is not finished
    without it, even if an interrupt kept every handler of that exception from running.
    """

    def __init__(self) -> None:
        self._all: list[_Write] = []
        self.closing = False

    @contextmanager
    def one(self, admit: Callable[[], None]) -> Iterator[None]:
        """Hold `stop` back for the time of a write.

        Parameters
        ----------
        admit
            Raises if the write is refused; nothing was changed then.
        """
        write = _Write()
        self._all.append(write)
        with write.lock:
            try:
                admit()
            except BaseException:
                self._all.remove(write)
                raise
            write.begun = True
            yield
            write.whole = True
        self._all.remove(write)

    def stop(self) -> None:
        """Have new writes refused, and wait for those under way on other threads."""
        self.closing = True
        for write in tuple(self._all):
            with write.lock:
                pass

    @property
    def one_was_left(self) -> bool:
        """Whether a write was left by an exception."""
        return any(write.was_left for write in tuple(self._all))
