"""Memory for the pixels of one block: Java's array, and a numpy array that Java can write to."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from bfbridge.runtime import forking
from bfbridge_bioformats.runtime.machine import machine

__all__ = ["LARGEST_KEPT", "Buffers", "Windows", "windows"]

LARGEST_KEPT: Final = 64 << 20
"""Bytes of unused windows that are kept, and of the largest buffer that a reader keeps."""
_SMALLEST: Final = 1 << 16


class Window:
    """A numpy array, and Java's view of it.

    Attributes
    ----------
    memory
        uint8, one dimension.
    java
        A direct ByteBuffer over `memory`.
    """

    __slots__ = ("java", "memory")

    def __init__(self, length: int) -> None:
        self.memory = np.empty(length, np.uint8)
        self.java = machine.window(self.memory)


class Windows:
    """Windows of closed readers, for the next readers of the process.

    The memory of a window is not freed before Java collects the ByteBuffer, and Java collects
    garbage when its own heap is full. Without reuse, a loop that opens files would hold as many
    megabytes outside the heap as inside.
    """

    def __init__(self) -> None:
        self._free: dict[int, list[Window]] = {}
        self._bytes = 0
        self._lock = forking.lock()

    def take(self, length: int) -> Window:
        """Return a window of `length` bytes or more."""
        capacity = max(_SMALLEST, 1 << (length - 1).bit_length())
        if capacity > LARGEST_KEPT:
            return Window(length)
        with self._lock:
            free = self._free.get(capacity)
            if free:
                self._bytes -= capacity
                return free.pop()
        return Window(capacity)

    def give(self, window: Window) -> None:
        """Keep a window that is no longer used."""
        capacity = len(window.memory)
        with self._lock:
            if capacity & (capacity - 1) == 0 and self._bytes + capacity <= LARGEST_KEPT:
                self._free.setdefault(capacity, []).append(window)
                self._bytes += capacity


windows: Final = Windows()


class Buffers:
    """Memory for one block.

    Attributes
    ----------
    java
        The byte[] that openBytes fills.
    raw
        uint8, the copy of the pixels.
    """

    __slots__ = ("_window", "java", "raw")

    def __init__(self, length: int) -> None:
        self.java = machine.new_bytes(length)
        self._window = windows.take(length)
        self.raw = self._window.memory[:length]

    def fill(self, filled: Any) -> None:
        """Copy a byte[], which need not be `java`, to `raw`."""
        window = self._window.java
        window.clear()
        window.put(filled, 0, len(self.raw))

    def release(self) -> None:
        """End the use of `raw`, which another reader may overwrite from now on."""
        windows.give(self._window)
