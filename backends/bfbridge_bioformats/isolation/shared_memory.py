"""Memory shared with a Java worker process, for the pixels that it reads."""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
import uuid
from typing import Any

import numpy as np

__all__ = ["SharedMemory", "make_shared_memory"]


def make_shared_memory() -> str:
    """Allocate memory to share; return the name that `SharedMemory` opens in both processes.

    Where the system allows it, the memory has no entry in any folder, so that nothing remains when
    a process is killed.
    """
    if sys.platform == "win32":
        return f"bfbridge-{uuid.uuid4().hex}"
    if hasattr(os, "memfd_create"):
        return str(os.memfd_create("bfbridge"))
    with tempfile.TemporaryFile(prefix="bfbridge-") as file:
        return str(os.dup(file.fileno()))


class SharedMemory:
    """Memory that two processes map.

    Parameters
    ----------
    name
        From `make_shared_memory`: a file descriptor's number, or on Windows the name of a mapping.

    Attributes
    ----------
    bytes
        The memory, as uint8.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.fd = int(name) if sys.platform != "win32" else -1
        if self.fd >= 0:
            os.set_inheritable(self.fd, False)
        self.bytes: np.ndarray[Any, np.dtype[np.uint8]] = np.empty(0, np.uint8)

    def fit(self, size: int) -> None:
        """Set the length of `bytes`; the other process does the same before it reads them."""
        if size == len(self.bytes):
            return
        if sys.platform == "win32":
            mapped = mmap.mmap(-1, size, tagname=f"{self._name}-{size}")
        else:
            if os.fstat(self.fd).st_size < size:
                os.ftruncate(self.fd, size)
            mapped = mmap.mmap(self.fd, size)
        self.bytes = np.frombuffer(mapped, np.uint8)

    def close(self) -> None:
        """Release the memory in this process."""
        self.bytes = np.empty(0, np.uint8)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
