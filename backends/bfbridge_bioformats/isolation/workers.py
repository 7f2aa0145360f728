"""The Java worker processes of this process: started when needed and shared by its files."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.errors import (
    BadArgument,
    BfbridgeError,
    JavaNotFound,
    ReadFailed,
    TookTooLong,
)
from bfbridge.runtime import forking
from bfbridge.runtime.processes.child_process import ChildProcess, NoPython
from bfbridge_bioformats.isolation.shared_memory import SharedMemory, make_shared_memory
from bfbridge_bioformats.runtime.calls import check_wanted, current_call
from bfbridge_bioformats.runtime.settings import HEAP_VARIABLE

if TYPE_CHECKING:
    from bfbridge.backend import Region

__all__ = ["LEFT", "Worker", "WorkerGone", "Workers", "at_fork", "workers"]

LEFT = "The worker process has ended; the next read starts a new one."
_LOGGER = "bfbridge"
_EXIT_PATIENCE = 3.0
_GROWTH = 1 << 20
_CRASHES = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGTRAP"})


class WorkerGone(ReadFailed):
    """A worker died during another request, which reported it; use another worker."""


class Worker:
    """One process with its own Java. It answers one request at a time.

    Attributes
    ----------
    users
        Number of files that are open in it; counted by `Workers`.
    start_seconds
        Seconds that its start took; 0 before the start has ended.
    """

    def __init__(self, heap: int) -> None:
        name = make_shared_memory()
        self._memory = SharedMemory(name)
        # For its temporary files; this process removes it, also if the worker was killed.
        self._folder = tempfile.mkdtemp(prefix="bfbridge-")
        try:
            self._process = _start_process(name, self._memory.fd, heap, self._folder)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._lock = forking.lock()
        self._dropped: deque[int] = deque()
        self._broken = False
        self._reported = False
        self.users = 0
        self.start_seconds = 0.0

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Whether it can answer requests."""
        return not self._broken and self._process.is_alive()

    def start(self) -> None:
        """Wait until Java runs in it.

        Raises
        ------
        JavaNotFound, JarNotFound, MissingExtra
            Something is not installed.
        """
        if not self.start_seconds:
            begun = time.monotonic()
            self.ask("starting Java", "start")
            self.start_seconds = time.monotonic() - begun

    def ask(self, purpose: str, what: str, *arguments: Any) -> Any:
        """Send a request of `processes.worker.RequestHandler` and return the answer.

        Parameters
        ----------
        purpose
            The file and the operation, for messages.
        what, arguments
            The request.

        Raises
        ------
        ReadFailed
            The process ended before it answered; `WorkerGone` if it ended before the request.
        BfbridgeError
            Raised in the worker.
        """
        with self._lock:
            value = self._exchange(purpose, what, arguments)
        self._flush()
        return value

    def read(self, purpose: str, file: int, region: Region, out: np.ndarray[Any, Any]) -> None:
        """Fill `out` with a region of a file that is open in the worker."""
        with self._lock:
            if len(self._memory.bytes) < out.nbytes:
                self._memory.fit(-(-out.nbytes // _GROWTH) * _GROWTH)
            self._exchange(purpose, "read", (file, region, len(self._memory.bytes)))
            np.copyto(out, self._memory.bytes[: out.nbytes].view(out.dtype).reshape(out.shape))
        self._flush()

    def drop(self, file: int) -> None:
        """Close a file: now, or after the current request."""
        self._dropped.append(file)
        self._flush()

    def report_death(self, purpose: str) -> None:
        """Raise `ReadFailed` for a worker that has died, the first time this is called for it."""
        reported, self._reported = self._reported, True
        if not reported:
            raise ReadFailed(f"{purpose}: {self._fate('')}")

    def kill(self) -> None:
        """End the process at once; its current request is lost."""
        self._broken = self._reported = True
        self._process.kill()

    def end(self) -> None:
        """End the process, in an orderly way if it is idle, and release its resources."""
        self._broken = self._reported = True
        idle = self._lock.acquire(timeout=_EXIT_PATIENCE / 10)
        try:
            if not idle:
                self._process.kill()
            self._process.close_requests()
            self._wait()
            if idle:
                self._process.close_answers()
                self._memory.close()
        finally:
            if idle:
                self._lock.release()

    def forget(self) -> None:
        """Release the process in a forked child; it belongs to the parent."""
        self._broken = self._reported = True
        self._process.forget()
        self._memory.close()

    def _wait(self) -> None:
        self._process.wait(_EXIT_PATIENCE)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _exchange(self, purpose: str, what: str, arguments: tuple[Any, ...]) -> Any:
        """Send a request and wait for its answer. Call with the lock held."""
        dropped = [self._dropped.popleft() for _ in range(len(self._dropped))]
        level = logging.getLogger(_LOGGER).getEffectiveLevel()
        try:
            packed = self._process.messages.pack((what, arguments, dropped, level))
        except Exception as error:
            self._dropped.extend(dropped)
            raise BadArgument(
                f"{purpose}: this cannot be sent to a worker process ({error}). Give a path, a URL "
                "or bytes, and options that can be pickled, or read without isolated=True."
            ) from error
        if self._broken:
            _park_at_exit()
            raise WorkerGone(f"{purpose}: {self._fate('')}")
        current = current_call()
        if current is not None:
            # If the caller of this request stops waiting, the worker is ended.
            current.on_abandon = self.kill
            check_wanted()
        try:
            self._process.messages.send_packed(packed)
            sound, value, records = self._process.receive()
        except (EOFError, OSError) as error:
            _park_at_exit()
            self._broken = self._reported = True
            self._wait()
            raise ReadFailed(f"{purpose}: {self._fate(' during this request')}") from error
        except BaseException:
            # Interrupted: the next request would receive this answer.
            self.kill()
            raise
        finally:
            if current is not None:
                current.on_abandon = None
        for name, number, text in records:
            logging.getLogger(name).log(number, "%s", text)
        if not sound:
            if isinstance(value, TookTooLong):
                # Its thread is still running there.
                self.kill()
            raise value
        return value

    def _flush(self) -> None:
        """Close dropped files, unless a request is running, which closes them itself."""
        if self._dropped and self.is_alive() and self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(BfbridgeError):
                    self._exchange("closing files", "nothing", ())
            finally:
                self._lock.release()

    def _fate(self, when: str) -> str:
        text = (
            f"the worker process that runs Java (process {self.pid}) ended{when}: "
            f"{self._process.exit_reason()}"
        )
        name = self._process.signal_name()
        if name == "SIGKILL":
            text += ", by another process, or by the system for lack of memory"
        if name in _CRASHES:
            text += f", a crash of native code; Java's report may be in hs_err_pid{self.pid}.log"
        return f"{text}. The next read starts a new one."


def _start_process(block_name: str, block_fd: int, heap: int, folder: str) -> ChildProcess:
    try:
        return ChildProcess(
            "bfbridge_bioformats.processes.worker:main",
            (block_name, folder),
            environment={HEAP_VARIABLE: str(heap)},
            pass_fds=(block_fd,) if block_fd >= 0 else (),
        )
    except NoPython as error:
        raise JavaNotFound(f"{error}. Read without isolated=True.") from error


class Workers:
    """The worker processes of this process. There is one instance, `workers`."""

    def __init__(self) -> None:
        # Reentrant: the garbage collector may close files at any point.
        self._lock = forking.rlock()
        self._all: list[Worker] = []

    @property
    def pids(self) -> list[int]:
        """Process identifiers of the running workers."""
        with self._lock:
            return [worker.pid for worker in self._all if worker.is_alive()]

    def join(self, avoid: Collection[Worker], most: int, heap: int) -> Worker:
        """Return a worker to open a file in, and count the file; call `leave` afterwards.

        Parameters
        ----------
        avoid
            Workers that have this file open already.
        most
            Maximum number of processes. Below it, a worker with open files gets no further file.
        heap
            Java heap of a new worker, in bytes.
        """
        with self._lock:
            known = [w for w in list(self._all) if w.is_alive()]
            fit = sorted((w for w in known if w not in avoid), key=lambda w: w.users)
            if len(known) < most or not known:
                worker = fit[0] if fit and fit[0].users == 0 else Worker(heap)
            else:
                worker = fit[0] if fit else known[0]
            worker.users += 1
            if worker not in self._all:
                self._all.append(worker)
        try:
            worker.start()
        except BaseException:
            self.leave(worker, None)
            raise
        return worker

    def leave(self, worker: Worker, file: int | None) -> None:
        """Close a file in a worker; a worker without files ends."""
        with self._lock:
            worker.users -= 1
            last = worker.users <= 0
            if last and worker in self._all:
                self._all.remove(worker)
        if last:
            worker.end()
        elif file is not None:
            worker.drop(file)

    def end(self) -> None:
        """End all workers, at exit."""
        global _ending
        _ending = True
        with self._lock:
            everyone, self._all = self._all, []
        for worker in everyone:
            worker.end()

    def forget(self) -> None:
        """Start without workers in a forked child, and close its copies of the parent's pipes."""
        everyone, self._all = self._all, []
        self._lock = forking.rlock()
        for worker in everyone:
            worker.forget()


workers = Workers()
_ending = False
_at_fork: list[Callable[[], None]] = [workers.forget]


def at_fork(action: Callable[[], None]) -> None:
    """Register `action` to be called in every forked child, after its workers were released."""
    _at_fork.append(action)


def _after_fork() -> None:
    for action in _at_fork:
        action()


def _park_at_exit() -> None:
    """Block a daemon thread whose worker was ended while the interpreter exits."""
    while _ending and threading.current_thread() is not threading.main_thread():
        time.sleep(_EXIT_PATIENCE)


atexit.register(workers.end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
