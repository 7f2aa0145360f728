"""Forked children of a test, each with a deadline."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

PATIENCE = 60


class Child:
    """A forked child that calls `action` and reports what it returns or raises.

    Parameters
    ----------
    action
        Called in the child; what it returns is reported as text.
    """

    def __init__(self, action: Callable[[], object]) -> None:
        self._answer, send = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                told = str(action())
            except BaseException as error:  # noqa: BLE001 whatever it is, it is the answer
                told = f"{type(error).__name__}: {error}"
            os.write(send, told.encode()[:60_000])
            os._exit(0)
        os.close(send)

    def answer(self) -> str:
        """Return what the child reported; "hung" for one that had to be killed."""
        told, deadline = b"", time.monotonic() + PATIENCE
        while select.select([self._answer], [], [], max(0, deadline - time.monotonic()))[0]:
            part = os.read(self._answer, 65536)
            if not part:
                break
            told += part
        else:
            os.kill(self._pid, signal.SIGKILL)
            told = b"hung"
        os.waitpid(self._pid, 0)
        os.close(self._answer)
        return told.decode()
