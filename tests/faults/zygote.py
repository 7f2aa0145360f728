"""A process that has everything imported and makes a fresh child for each fault to be tried.

Run as a script: it reads one JSON order a line, forks, lets the child write an image while the
fault strikes, and answers with one JSON line. A child costs milliseconds instead of the second that
importing takes, so hundreds of faults fit into a minute.

Faults are put under Python's own file calls, which is where bfbridge's writers write.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# Calls that change what is on the disk. An injected error makes them fail without effect.
CALLS = (
    "write", "writev", "pwrite", "pwritev", "sendfile", "copy_file_range",
    "ftruncate", "truncate", "posix_fallocate", "fsync", "fdatasync",
    "mkdir", "rename", "replace", "link", "symlink", "chmod", "unlink", "remove", "rmdir",
)  # fmt: skip
# A kill loses nothing that was written. That files are flushed is seen in the counted calls.
os.fsync = lambda fd: os.fstat(fd) and None
WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Injector:
    """Counts every call that changes the disk, below one folder or on an open file, and strikes.

    Parameters
    ----------
    strike
        Called with the number of the call, from 1, and its name, before the call is made.
    """

    def __init__(self, strike: Callable[[int, str], None]) -> None:
        self._strike = strike
        self._lock = threading.Lock()
        self.names: list[str] = []

    def hit(self, name: str) -> None:
        with self._lock:
            self.names.append(name)
            number = len(self.names)
        self._strike(number, name)

    def install(self) -> None:
        """Replace the calls, for the rest of this process's life."""
        for name in CALLS:
            if hasattr(os, name):
                setattr(os, name, self._counted(name, getattr(os, name)))
        # The kernel's special renames are called through ctypes, which no other hook sees.
        filesystem = importlib.import_module("bfbridge.storage.durable_io")
        filesystem.special_rename = self._counted("renameat2", filesystem.special_rename)
        os_open, io_open, hit = os.open, io.open, self.hit

        def open_descriptor(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & WRITING_FLAGS:
                hit("open")
            return os_open(path, flags, *args, **kwargs)

        class File(io.FileIO):
            def write(self, data: Any) -> Any:
                hit("write")
                return super().write(data)

            def truncate(self, size: Any = None) -> int:
                hit("truncate")
                return super().truncate(size)

        def open_file(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not set(mode) & set("wax+"):
                return io_open(file, mode, *args, **kwargs)
            if not isinstance(file, int):
                hit("open")
            if "b" not in mode:
                raise AssertionError("image writers write bytes")
            given = dict(zip(("buffering", "encoding", "errors", "newline"), args, strict=False))
            options = {**given, **kwargs}
            raw = File(
                file,
                mode.replace("b", ""),
                options.get("closefd", True),
                options.get("opener"),
            )
            if options.get("buffering", -1) == 0:
                return raw
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        os.open = open_descriptor  # type: ignore[assignment]
        io.open = open_file
        import builtins

        builtins.open = open_file

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.hit(name)
            return real(*args, **kwargs)

        return call


def pixels(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Y, X, Z, C, T pixels that all differ, from other seeds' too; no codec shrinks them."""
    values = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(seed * 100_000_000)
    # Each step is a bijection of the 32-bit numbers.
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        values ^= values >> np.uint32(shift)
        values *= np.uint32(factor)
    values ^= values >> np.uint32(16)
    return values.reshape(shape)


def writer_options(order: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `BioWriter` for a new file that an order names."""
    return {
        "max_workers": order.get("workers", 2),
        "overwrite": order.get("overwrite", False),
        "durable": order.get("durable", False),
        **order.get("options", {}),
    }


def write_image(path: str, order: dict[str, Any], ready: Callable[[], None]) -> None:
    """Write the ordered image in strips that do not meet the grid of chunks."""
    from bfbridge import BioWriter

    shape = tuple(order["shape"])
    array = pixels(shape, order["seed"])
    with BioWriter(path, shape=shape, dtype=array.dtype, **writer_options(order)) as writer:
        ready()
        step = order.get("step", 100)
        for y in range(0, shape[0], step):
            writer[y : y + step] = array[y : y + step]


def naive_write(path: str, order: dict[str, Any], ready: Callable[[], None]) -> None:
    """Write as most programs do, to show that the harness detects failures."""
    data = pixels(tuple(order["shape"]), order["seed"]).tobytes()
    ready()
    with open(path, "wb") as file:
        for start in range(0, len(data), 65536):
            file.write(data[start : start + 65536])
            file.flush()


def append_image(path: str, order: dict[str, Any], ready: Callable[[], None]) -> None:
    """Change a finished store in place, by strips that do not meet the grid of chunks.

    With more time points than it has, these are added, and the others left alone.
    """
    from bfbridge import BioWriter

    shape, first = tuple(order["shape"]), order.get("first_t", 0)
    array = pixels(shape, order["seed"])
    y, x = order["blank"]
    array[y:, :x] = 0
    with BioWriter(path, max_workers=order.get("workers", 2), append=True, T=shape[4]) as writer:
        ready()
        step = order.get("step", 50)
        for y in range(0, shape[0], step):
            writer[y : y + step, ..., first:] = array[y : y + step, ..., first:]


def grow_image(path: str, order: dict[str, Any], ready: Callable[[], None]) -> None:
    """Write the ordered image as tiles at negative positions, with little memory for them."""
    from bfbridge import BioWriter

    shape = tuple(order["shape"])
    array = pixels(shape, order["seed"])
    with BioWriter(
        path, grow=True, pyramid=True, smallest=64, memory=1 << 16, **writer_options(order)
    ) as writer:
        ready()
        step = order.get("step", 100)
        for t in range(shape[4]):
            for y in range(0, shape[0], step):
                writer.add_tile(array[y : y + step, :, 0, 0, t], y=y - shape[0], t=t)


WRITERS = {
    "append": append_image,
    "bfbridge": write_image,
    "grow": grow_image,
    "naive": naive_write,
}


def strike_for(order: dict[str, Any]) -> Callable[[int, str], None]:
    """Return what happens at each call: nothing, or at the n-th a kill or an error."""
    n = order.get("n", 0)
    number = order.get("errno")
    lasting = order.get("lasting", False)

    def strike(at: int, name: str) -> None:
        if not (at == n or (lasting and n and at > n)):
            return
        if number is None:
            os.kill(os.getpid(), signal.SIGKILL)
        if lasting and name in ("unlink", "remove", "rmdir"):
            return  # a full disk lets files go
        raise OSError(number, os.strerror(number))

    return strike


def child(order: dict[str, Any], report: int, real_write: Callable[..., int]) -> None:
    """Write the image, then tell how it went."""
    injector = Injector(strike_for(order))
    if order.get("count", True):
        injector.install()
    threads = threading.active_count()
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    answer: dict[str, Any] = {"status": "written"}
    begun = time.monotonic()

    def ready() -> None:
        nonlocal begun
        begun = time.monotonic()
        real_write(report, b"R")

    try:
        WRITERS[order.get("writer", "bfbridge")](order["path"], order, ready)
    except BaseException as error:  # noqa: BLE001 whatever it is, it is the answer
        from bfbridge.errors import BfbridgeError

        answer = {
            "status": "raised",
            "type": type(error).__name__,
            "ours": isinstance(error, BfbridgeError),
            "message": str(error),
            "trace": traceback.format_exc(),
        }
    answer["seconds"] = time.monotonic() - begun
    answer["calls"] = injector.names
    if order.get("modules"):
        answer["modules"] = sorted(sys.modules)
    if Path("/proc/self/fd").is_dir():
        answer["descriptors"] = len(os.listdir("/proc/self/fd")) - descriptors
    answer["threads"] = threading.active_count() - threads
    real_write(report, json.dumps(answer).encode())


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Fork a child for one order; kill it if the order requires it."""
    receive, send = os.pipe()
    real_write = os.write
    pid = os.fork()
    if not pid:
        os.close(receive)
        with contextlib.suppress(BaseException):
            child(order, send, real_write)
        os._exit(0)
    os.close(send)
    if "delay" in order:
        first = os.read(receive, 1)
        if first == b"R":
            time.sleep(order["delay"])
        os.kill(pid, order.get("signal", signal.SIGKILL))
    text = b""
    while part := os.read(receive, 65536):
        text += part
    os.close(receive)
    _, status = os.waitpid(pid, 0)
    try:
        answer = json.loads(text.lstrip(b"R"))
    except ValueError:
        answer = {"status": "killed" if os.WIFSIGNALED(status) else "silent"}
    return answer


def import_what_writing_needs() -> None:
    """Import now what a first write imports on use, so that no child has to.

    The first write happens in a child: this process must never have threads, which a fork would
    lose.
    """
    importlib.import_module("bfbridge.writer")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".ome.tif", ".ome.zarr"):
            order = {"path": f"{folder}/image{suffix}", "shape": [300, 300], "seed": 0}
            answer = run({**order, "modules": True, "count": False})
            for name in answer.get("modules", ()):
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)


def serve() -> None:
    """Take orders until the input ends."""
    import_what_writing_needs()
    print("ready", flush=True)  # noqa: T201 the protocol
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)  # noqa: T201 the protocol


if __name__ == "__main__":
    serve()
