"""The worker process of isolated reading: Java runs here, and here only.

Started by `bfbridge_bioformats.isolation.workers` as ``python -m
bfbridge_bioformats.processes.worker``. Requests come on stdin and are answered on stdout, one after
the other; pixels go through shared memory. The process ends when stdin does, so it never outlives
the process it works for.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import pickle
import queue
import shutil
import signal
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Any

from bfbridge.errors import ReadFailed
from bfbridge_bioformats.isolation.ipc import Channel, SharedBlock
from bfbridge_bioformats.isolation.workers import LEFT
from bfbridge_bioformats.reader import BioFormatsReader
from bfbridge_bioformats.runtime.machine import machine

if TYPE_CHECKING:
    from bfbridge.backend import OpenOptions, Region
    from bfbridge.storage.source import Source

__all__ = ["main"]

# For files to be closed once nobody listens any more; then this process ends come what may.
_PATIENCE = 1.0


class Desk:
    """What the worker can be asked to do; the methods are the requests."""

    def __init__(self, block: SharedBlock) -> None:
        self._block = block
        self._numbers = itertools.count()
        self._files: dict[int, BioFormatsReader] = {}

    def start(self) -> str:
        """Start Java."""
        return machine.start()

    def open(self, source: Source, options: OpenOptions, folder: str) -> tuple[Any, ...]:
        """Open a file, its name relative to `folder`; return a number for it and what it is."""
        with contextlib.suppress(OSError):
            os.chdir(folder)
        file = BioFormatsReader.open_here(source, options, left=LEFT)
        number = next(self._numbers)
        self._files[number] = file
        return number, tuple(file.images), tuple(file.series), file.format

    def read(self, number: int, region: Region, size: int) -> None:
        """Fill the shared block, made `size` bytes long, with the pixels of a region."""
        file = self._files[number]
        self._block.fit(size)
        dtype = file.images[region.image].dtype
        shape = region.shape
        length = dtype.itemsize
        for axis in shape:
            length *= axis
        file.read(region, self._block.bytes[:length].view(dtype).reshape(shape))

    def ask(self, number: int, name: str, arguments: tuple[Any, ...]) -> Any:
        """Return an attribute of an open file, or what its method returns."""
        found = getattr(self._files[number], name)
        return found(*arguments) if callable(found) else found

    def nothing(self) -> None:
        """Do nothing: the request has only files to close with it."""

    def drop(self, numbers: list[int]) -> None:
        """Close files."""
        for number in numbers:
            file = self._files.pop(number, None)
            if file is not None:
                file.close()

    def close(self) -> None:
        """Close all files."""
        self.drop(list(self._files))


class Records(logging.Handler):
    """Keeps log messages, which are told where the user has set up logging."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self._kept.append((record.name, record.levelno, record.getMessage()))

    def take(self) -> list[tuple[str, int, str]]:
        """Return what was kept: (logger, level, message)."""
        kept, self._kept = self._kept, []
        return kept


def main(block_name: str, folder: str) -> None:
    """Answer requests until there are no more.

    Parameters
    ----------
    block_name
        Of the `SharedBlock` for pixels.
    folder
        For temporary files, of this process alone. Who started it removes it as well: either may be
        killed.
    """
    tempfile.tempdir = folder
    # Ctrl-C in a terminal reaches this process as well; it is for the other one to act on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(os.dup(0), os.dup(1))
    # What native code and Java print must not get between the answers.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    requests: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(channel, requests, folder), daemon=True).start()
    records = Records()
    logger = logging.getLogger("bfbridge")
    logger.addHandler(records)
    logger.propagate = False
    desk = Desk(SharedBlock(block_name))
    while (request := requests.get()) is not None:
        what, arguments, dropped, level = request
        logger.setLevel(level)
        answer = _answer(desk, what, arguments, dropped)
        try:
            channel.send(channel.pack((*answer, records.take())))
        except BrokenPipeError:
            # Nobody listens any more.
            break
    desk.close()
    shutil.rmtree(folder, ignore_errors=True)
    # Without ending Java in good order, which takes time and can only go wrong.
    os._exit(0)


def _listen(
    channel: Channel, requests: queue.SimpleQueue[tuple[Any, ...] | None], folder: str
) -> None:
    """Put requests into the queue; end the process when the other one has ended."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            requests.put(channel.receive())
    requests.put(None)
    time.sleep(_PATIENCE)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _answer(
    desk: Desk, what: str, arguments: tuple[Any, ...], dropped: list[int]
) -> tuple[bool, Any]:
    try:
        desk.drop(dropped)
        return True, getattr(desk, what)(*arguments)
    except Exception as error:  # noqa: BLE001 - it is raised in the other process
        return False, _portable(error)


def _portable(error: Exception) -> Exception:
    """Return an exception that can be told to another process."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - classes of any library
        return ReadFailed(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
