"""Processes that convert files, each with its own Java and its own memory.

They are started as plain Python commands that communicate through pipes, so that scripts need no
``if __name__ == "__main__"``, and notebooks work.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.reports.record import FileRecord
from bfbridge.runtime.systems import interrupt_group, own_group

if TYPE_CHECKING:
    from bfbridge.convert.execute.jobs import Job

__all__ = ["WorkerDied", "WorkerProcess", "serve"]

BOOT = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from bfbridge.convert.execute.workers import serve; serve()"
)
PROGRESS_SECONDS = 0.1
END_SECONDS = 20.0


class WorkerDied(Exception):
    """A worker ended without a result: killed, out of memory, or crashed."""


class WorkerProcess:
    """One worker, started on first use and again after it died.

    Parameters
    ----------
    stop
        When set, the worker ends its current job.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None

    def convert(
        self, job: Job, options: ConvertOptions, progress: Callable[[int, int], None]
    ) -> FileRecord:
        """Do one job in the worker.

        Raises
        ------
        WorkerDied
            The worker ended before it returned a result.
        """
        process = self.start()
        try:
            _send(process, (job, options))
            while True:
                kind, told = _answer(process)
                if kind == "done":
                    return told  # type: ignore[no-any-return]
                if kind == "log":
                    name, level, text = told
                    logging.getLogger(name).log(level, "%s", text)
                else:
                    progress(*told)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._died(process) from error

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process if it does not run, and return it when it is ready for a job.

        Raises
        ------
        WorkerDied
            It ended before it was ready.
        """
        if self._process is None:
            # A process group of its own: Ctrl-C on the terminal reaches only the parent.
            self._process = process = subprocess.Popen(  # noqa: S603 - this Python, and our own code
                [sys.executable, "-c", BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                **own_group(),
            )  # fmt: skip
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()
            try:
                _send(process, sys.path)
                _answer(process)
            except (EOFError, OSError, pickle.UnpicklingError) as error:
                raise self._died(process) from error
        return self._process

    def _died(self, process: subprocess.Popen[bytes]) -> WorkerDied:
        code = process.wait()
        self._process = None
        _close_pipes(process)
        if self._stop.is_set():
            return WorkerDied("the batch was stopped.")
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        # The system sends SIGKILL if memory runs out; users and schedulers send other signals.
        advice = (
            " If the memory was not enough, use fewer jobs= (--jobs), or lower memory= (--memory)."
        )
        killed = code == -getattr(signal, "SIGKILL", 9)
        return WorkerDied(f"a process that converts files ended ({how}).{advice if killed else ''}")

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """End the worker when the batch is stopped."""
        while process.poll() is None:
            if self._stop.wait(0.2):
                _end(process)
                return

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(OSError):
            if process.stdin is not None:
                # The worker ends when it has read all jobs.
                process.stdin.close()
        if self._stop.is_set():
            _end(process)
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _close_pipes(process)


def _send(process: subprocess.Popen[bytes], told: Any) -> None:
    assert process.stdin is not None  # noqa: S101 - it was started with a pipe
    pickle.dump(told, process.stdin)
    process.stdin.flush()


def _answer(process: subprocess.Popen[bytes]) -> Any:
    assert process.stdout is not None  # noqa: S101 - it was started with a pipe
    return pickle.load(process.stdout)  # noqa: S301 - our own process


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        # The other end of the pipe is closed; buffered data is discarded.
        with suppress(OSError):
            if pipe is not None:
                pipe.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a worker to end, so that it removes its unfinished files; kill it after a while."""
    interrupt_group(process)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _pass_on_log(tell: Callable[[str, Any], None]) -> None:
    """Send log records and Python's warnings to the parent, which shows the progress."""

    class Passed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # The parent may have ended.
            with suppress(OSError):
                tell("log", (record.name, record.levelno, record.getMessage()))

    logger = logging.getLogger("bfbridge")
    logger.addHandler(Passed())
    logger.propagate = False
    warnings.showwarning = lambda message, *_, **__: logger.warning("%s", message)


def serve() -> None:
    """Do jobs from stdin until it ends: the main function of a worker."""
    from bfbridge.convert.execute.jobs import converted

    # Output of libraries and Java must not mix with the results.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    stopped = threading.Event()
    for name in ("SIGTERM", "SIGBREAK"):  # the second is Windows'
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stopped.set())
    lock = threading.Lock()
    last = 0.0

    def tell(kind: str, told: Any) -> None:
        with lock:
            pickle.dump((kind, told), answers)
            answers.flush()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if stopped.is_set():
            raise KeyboardInterrupt
        now = time.monotonic()
        if now - last >= PROGRESS_SECONDS:
            last = now
            tell("progress", (done, total))

    _pass_on_log(tell)
    tell("ready", None)
    while True:
        try:
            job, options = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
        except EOFError:
            return
        with suppress(BrokenPipeError):
            try:
                tell("done", converted(job, options, progress))
            except KeyboardInterrupt:
                raise SystemExit(143) from None
