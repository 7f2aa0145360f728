"""The worker process of isolated reading, the only process that then runs Java.

`bfbridge_bioformats.isolation.workers` starts it. Requests are answered one after the other; pixels
are returned in shared memory. The process ends when its pipe is closed, so it never outlives its
parent.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import shutil
import signal
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from bfbridge.errors import ReadFailed
from bfbridge.runtime.processes.parent_pipe import ForwardedLog, ParentPipe
from bfbridge_bioformats.isolation.shared_memory import SharedMemory
from bfbridge_bioformats.isolation.workers import LEFT
from bfbridge_bioformats.reader import BioFormatsReader
from bfbridge_bioformats.runtime.machine import machine

if TYPE_CHECKING:
    from bfbridge.backend import OpenOptions, Region
    from bfbridge.storage.source import Source

__all__ = ["main"]

# Seconds for closing files after the parent has ended; then this process ends in any case.
_PATIENCE = 1.0


class RequestHandler:
    """Answers requests; each method is one kind of request."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory
        self._numbers = itertools.count()
        self._files: dict[int, BioFormatsReader] = {}

    def start(self) -> str:
        """Start Java."""
        return machine.start()

    def open(self, source: Source, options: OpenOptions, folder: str) -> tuple[Any, ...]:
        """Open a file by its name relative to `folder`; return number, images, series, format."""
        with contextlib.suppress(OSError):
            os.chdir(folder)
        file = BioFormatsReader.open_here(source, options, left=LEFT)
        number = next(self._numbers)
        self._files[number] = file
        return number, tuple(file.images), tuple(file.series), file.format

    def read(self, number: int, region: Region, size: int) -> None:
        """Fill the shared memory, made `size` bytes long, with the pixels of a region."""
        file = self._files[number]
        self._memory.fit(size)
        dtype = file.images[region.image].dtype
        shape = region.shape
        length = dtype.itemsize
        for axis in shape:
            length *= axis
        file.read(region, self._memory.bytes[:length].view(dtype).reshape(shape))

    def ask(self, number: int, name: str, arguments: tuple[Any, ...]) -> Any:
        """Return an attribute of an open file, or what its method returns."""
        found = getattr(self._files[number], name)
        return found(*arguments) if callable(found) else found

    def nothing(self) -> None:
        """Do nothing: the request only carries files to close."""

    def drop(self, numbers: list[int]) -> None:
        """Close files."""
        for number in numbers:
            file = self._files.pop(number, None)
            if file is not None:
                file.close()

    def close(self) -> None:
        """Close all files."""
        self.drop(list(self._files))


def main(memory_name: str, folder: str) -> None:
    """Answer requests until there are no more.

    Parameters
    ----------
    memory_name
        Of the `SharedMemory` for pixels.
    folder
        For temporary files of this process. The parent removes it as well, since either process may
        be killed.
    """
    parent = ParentPipe()
    tempfile.tempdir = folder
    # Ctrl-C in a terminal reaches this process as well; the parent decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    records: list[tuple[str, int, str]] = []
    logger = ForwardedLog(records.append).install()
    handler = RequestHandler(SharedMemory(memory_name))
    for what, arguments, dropped, level in parent.requests(ended=partial(_exit_soon, folder)):
        logger.setLevel(level)
        answer = _answer(handler, what, arguments, dropped)
        logged = records[:]
        del records[: len(logged)]
        try:
            parent.answer((*answer, logged))
        except BrokenPipeError:
            # The parent has died.
            break
    handler.close()
    shutil.rmtree(folder, ignore_errors=True)
    # Ending Java in an orderly way takes time and may fail.
    os._exit(0)


def _exit_soon(folder: str) -> None:
    """End the process even if a request or the closing of files does not end."""
    time.sleep(_PATIENCE)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _answer(
    handler: RequestHandler, what: str, arguments: tuple[Any, ...], dropped: list[int]
) -> tuple[bool, Any]:
    try:
        handler.drop(dropped)
        return True, getattr(handler, what)(*arguments)
    except Exception as error:  # noqa: BLE001 - it is raised in the other process
        return False, _portable(error)


def _portable(error: Exception) -> Exception:
    """Return an exception that can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # noqa: BLE001 - classes of any library
        return ReadFailed(f"{type(error).__name__}: {error}")
    return error
