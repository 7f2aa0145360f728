"""The worker's connection to the process that started it."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from bfbridge.runtime.processes.ipc import MessagePipe

__all__ = ["ForwardedLog", "ParentPipe"]

_LOGGER = "bfbridge"


class ParentPipe:
    """Requests from the parent process, and answers to it.

    It takes over the standard input and output of the process, so text that native code, Java or
    libraries print cannot get between the answers.

    Parameters
    ----------
    output
        File descriptor that replaces standard output; None discards what is printed.
    """

    def __init__(self, output: int | None = None) -> None:
        self._messages = MessagePipe(os.dup(0), os.dup(1))
        self._lock = threading.Lock()
        self._requests: queue.SimpleQueue[tuple[Any] | None] = queue.SimpleQueue()
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere if output is None else output, 1)
        os.close(nowhere)

    def requests(self, ended: Callable[[], None]) -> Iterator[Any]:
        """Yield requests until the parent closes the pipe or dies.

        Parameters
        ----------
        ended
            Called in another thread when there are no more requests, also during a request.
        """
        threading.Thread(target=self._listen, args=(ended,), daemon=True).start()
        while (request := self._requests.get()) is not None:
            yield request[0]

    def _listen(self, ended: Callable[[], None]) -> None:
        with contextlib.suppress(EOFError, OSError):
            while True:
                self._requests.put((self._messages.receive(),))
        self._requests.put(None)
        ended()

    def answer(self, message: Any) -> None:
        """Send a message to the parent, from any thread; BrokenPipeError if it has died."""
        packed = self._messages.pack(message)
        with self._lock:
            self._messages.send_packed(packed)


class ForwardedLog(logging.Handler):
    """Forwards this library's log records as (logger, level, message), and shows none here.

    Parameters
    ----------
    forward
        Function that receives a record; called from any thread.
    """

    def __init__(self, forward: Callable[[tuple[str, int, str]], object]) -> None:
        super().__init__()
        self._forward = forward

    def install(self) -> logging.Logger:
        """Handle all records of the library; return its logger."""
        logger = logging.getLogger(_LOGGER)
        logger.addHandler(self)
        logger.propagate = False
        return logger

    def emit(self, record: logging.LogRecord) -> None:
        """Forward a record, unless the parent has died."""
        with contextlib.suppress(OSError):
            self._forward((record.name, record.levelno, record.getMessage()))
