"""Active writes: which threads are writing, and whether a write was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bfbridge.runtime import forking

__all__ = ["Writes"]


class _Write:
    """One write. Its lock is held from start to end, also if it fails."""

    __slots__ = ("begun", "lock", "whole")

    def __init__(self) -> None:
        self.lock = forking.lock()
        self.begun = self.whole = False

    @property
    def was_left(self) -> bool:
        # In this order: another thread may start or end the write in between.
        return self.begun and not self.lock.locked() and not self.whole


class Writes:
    """The writes of one file, from any thread.

    A write that an exception ended stays in the list. So the file is not finished without it, even
    if an interrupt prevented the handlers of that exception from running.
    """

    def __init__(self) -> None:
        self._all: list[_Write] = []
        self.closing = False

    @contextmanager
    def one(self, admit: Callable[[], None]) -> Iterator[None]:
        """Make `stop` wait while a write is active.

        Parameters
        ----------
        admit
            Raises if the write is refused; then nothing was changed.
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
        """Refuse new writes, and wait for those that are active in other threads."""
        self.closing = True
        for write in tuple(self._all):
            with write.lock:
                pass

    @property
    def was_interrupted(self) -> bool:
        """Whether an exception ended a write."""
        return any(write.was_left for write in tuple(self._all))
