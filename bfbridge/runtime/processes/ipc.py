"""Messages between a process and its workers: pickles on pipes, each after its length."""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any, Final

from bfbridge.runtime.descriptors import write_all

__all__ = ["MessagePipe"]

_LENGTH: Final = struct.Struct(">Q")
_PART: Final = 1 << 20


class MessagePipe:
    """Pickled messages on two file descriptors.

    Both ends are processes of this library, so that unpickling is safe.

    Parameters
    ----------
    incoming, outgoing
        File descriptors. They are not closed here.
    """

    def __init__(self, incoming: int, outgoing: int) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    @staticmethod
    def pack(message: Any) -> bytes:
        """Return a message as `send_packed` takes it."""
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        return _LENGTH.pack(len(data)) + data

    def send(self, message: Any) -> None:
        """Pickle a message and send it; see `send_packed`."""
        self.send_packed(self.pack(message))

    def send_packed(self, packed: bytes) -> None:
        """Send a packed message.

        Raises
        ------
        BrokenPipeError
            The other process has closed its end.
        """
        write_all(self._outgoing, packed)

    def receive(self) -> Any:
        """Wait for a message and return it.

        Raises
        ------
        EOFError
            The other process has closed its end, or has ended.
        """
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
        part = os.read(self._incoming, min(len(rest), _PART))
        rest[: len(part)] = part
        return len(part)
