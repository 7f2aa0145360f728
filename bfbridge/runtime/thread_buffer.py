"""Memory that each thread reuses for reading and decoding."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np

from bfbridge.runtime import forking

__all__ = ["NOT_KEPT", "ThreadBuffer"]

KEPT_IN_ALL = 512 << 20
"""Most bytes that the large buffers of all threads keep together."""
LARGE = 1 << 20
"""Buffers up to this size are not counted."""
Array = np.ndarray[Any, np.dtype[np.uint8]]

_lock = forking.lock()
_large: weakref.WeakValueDictionary[int, Array] = weakref.WeakValueDictionary()


def _kept(length: int, replaced: Array) -> Array | None:
    """Return a new buffer for a thread to keep, or None if all threads keep enough."""
    # Rounded up, so that slightly longer segments also fit into the same memory.
    size = 1 << (length - 1).bit_length()
    if size <= LARGE:
        return np.empty(size, np.uint8)
    with _lock:
        total = sum(array.nbytes for array in _large.values() if array is not replaced)
        if total + size > KEPT_IN_ALL:
            return None
        held = np.empty(size, np.uint8)
        _large[id(held)] = held
        return held


class ThreadBuffer(threading.local):
    """A buffer that each thread reuses, so that most calls allocate no memory.

    A new array costs a page fault every 4 KiB, which takes longer than copying pixels. The large
    buffers of a process keep at most `KEPT_IN_ALL` bytes: beyond that, memory is allocated for each
    call.

    Parameters
    ----------
    keep
        Longest buffer that is kept, in bytes. Longer buffers are allocated for each call.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._held: Array = np.empty(0, np.uint8)

    def get(self, length: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Return `length` bytes of memory, valid until the next call in this thread."""
        if length > len(self._held):
            held = _kept(length, self._held) if length <= self._keep else None
            if held is None:
                return np.empty(length, np.uint8)
            self._held = held
        return self._held[:length]

    def view(self, length: int) -> memoryview:
        """Return the same memory as a buffer."""
        return self.get(length).data


NOT_KEPT = ThreadBuffer(0)
"""New memory for each call, for data that are read once."""
