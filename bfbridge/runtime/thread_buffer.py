"""Memory that each thread reuses for reading and decoding."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

__all__ = ["ThreadBuffer"]


class ThreadBuffer(threading.local):
    """A buffer that each thread reuses, so that most calls allocate no memory.

    A new array costs a page fault every 4 KiB, which takes longer than copying pixels.

    Parameters
    ----------
    keep
        Longest buffer that is kept, in bytes. Longer buffers are allocated for each call.
    """

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._held: np.ndarray[Any, np.dtype[np.uint8]] = np.empty(0, np.uint8)

    def get(self, length: int) -> np.ndarray[Any, np.dtype[Any]]:
        """Return `length` bytes of memory, valid until the next call in this thread."""
        if length > self._keep:
            return np.empty(length, np.uint8)
        if len(self._held) < length:
            # Rounded up, so that slightly longer segments also fit into the same memory.
            self._held = np.empty(1 << (length - 1).bit_length(), np.uint8)
        return self._held[:length]

    def view(self, length: int) -> memoryview:
        """Return the same memory as a buffer."""
        return self.get(length).data
