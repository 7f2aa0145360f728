"""Files changed at random, each opened in a process of its own that is ended after a while.

Every outcome is to be pixels or a BfbridgeError: neither another error, nor a crash, nor a hang.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bfbridge.errors import BfbridgeError
from bfbridge.ome.metadata import new_document

__all__ = ["check"]

# Seconds for one file: a hundred times what the slowest takes.
PATIENCE = 30
Read = Callable[[Path], None]
Change = Callable[[bytes, random.Random], bytes]


def _outcome(read: Read, path: Path) -> str:
    """What becomes of a file: "" for pixels or an error of ours."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        words = ""
        try:
            read(path)
        except BfbridgeError:
            pass
        except BaseException:  # noqa: BLE001 - the parent tells
            words = traceback.format_exc()[-2000:]
        os.write(send, words.encode())
        os._exit(0)
    os.close(send)
    try:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                with os.fdopen(receive, "rb", closefd=False) as said:
                    return said.read().decode() or (f"died with {status}" if status else "")
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"took more than {PATIENCE} s"
    finally:
        os.close(receive)


def _faults(
    read: Read, change: Change, sources: Sequence[Path], numbers: range, folder: Path
) -> list[str]:
    """What goes wrong, for each file that goes wrong."""
    wrong = []
    # Made here, and not by every child.
    new_document()
    for number in numbers:
        source = sources[number % len(sources)]
        path = folder / source.name
        path.write_bytes(change(source.read_bytes(), random.Random(number)))
        words = _outcome(read, path)
        path.unlink()
        if words:
            wrong.append(f"{number}, {source.name}: {words}")
    return wrong


def check(
    read: Read, change: Change, sources: Sequence[Path], numbers: range, folder: Path
) -> None:
    """Change files at random and read them; fail with the numbers of those that go wrong.

    Parameters
    ----------
    read
        Opens and reads a file; a function of a module, as is `change`.
    change
        Returns the bytes of a file, changed: the same for the same random numbers.
    sources, numbers
        Sound files, which take turns, and the seeds.
    folder
        Where the changed files are written, one at a time.
    """
    # From a process without Java and other threads, which forks leave in an unknown state.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        wrong = pool.submit(_faults, read, change, sources, numbers, folder).result()
    assert not wrong, "\n".join(wrong[:5])
