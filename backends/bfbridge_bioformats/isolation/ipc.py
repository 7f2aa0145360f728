"""What a process and its Java worker talk through: messages on pipes, pixels in shared memory."""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import sys
import tempfile
import uuid
from typing import Any

import numpy as np

from bfbridge.storage.durable_io import write_all

__all__ = ["Channel", "SharedBlock", "make_block_name"]

_LENGTH = struct.Struct(">Q")


class Channel:
    """Pickled messages, each after its length, on two file descriptors.

    Both ends are bfbridge's own processes, so that unpickling is safe.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    @staticmethod
    def pack(message: Any) -> bytes:
        """Return a message as `send` takes it."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        return _LENGTH.pack(len(data)) + data

    def send(self, packed: bytes) -> None:
        """Send a packed message; BrokenPipeError where nobody listens any more."""
        write_all(self._outgoing, packed)

    def receive(self) -> Any:
        """Wait for a message; EOFError where the other process has ended."""
        (length,) = _LENGTH.unpack(self._take(_LENGTH.size))
        return pickle.loads(self._take(length))  # noqa: S301 - see the class

    def _take(self, length: int) -> bytearray:
        data = bytearray(length)
        rest = memoryview(data)
        while rest:
            done = os.readv(self._incoming, [rest]) if hasattr(os, "readv") else self._fill(rest)
            if not done:
                raise EOFError("the other process has closed its end of the pipe")
            rest = rest[done:]
        return data

    def _fill(self, rest: memoryview) -> int:
        part = os.read(self._incoming, min(len(rest), 1 << 20))
        rest[: len(part)] = part
        return len(part)


def make_block_name() -> str:
    """Make a new shared block; return the name that `SharedBlock` opens in both processes.

    It has no entry in any folder where the system allows that, so nothing can be left behind.
    """
    if sys.platform == "win32":
        return f"bfbridge-{uuid.uuid4().hex}"
    if hasattr(os, "memfd_create"):
        return str(os.memfd_create("bfbridge"))
    with tempfile.TemporaryFile(prefix="bfbridge-") as file:
        return str(os.dup(file.fileno()))


class SharedBlock:
    """Memory that two processes see.

    Parameters
    ----------
    name
        From `make_block_name`: a file descriptor's number, or on Windows the name of a mapping.

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
        """Make `bytes` this long; the other process does the same before it looks."""
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
