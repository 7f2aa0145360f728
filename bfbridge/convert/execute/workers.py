"""Processes that convert files, each with its own Java and its own memory."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from bfbridge.convert.options import ConvertOptions
from bfbridge.convert.reports.record import FileRecord
from bfbridge.runtime.processes.child_process import ChildProcess, NoPython
from bfbridge.runtime.processes.parent_pipe import ForwardedLog, ParentPipe

if TYPE_CHECKING:
    from bfbridge.convert.execute.jobs import Job

__all__ = ["WorkerDied", "WorkerProcess", "serve"]

SERVE = "bfbridge.convert.execute.workers:serve"
PROGRESS_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 20.0


class WorkerDied(Exception):
    """A worker ended without an answer: killed, out of memory, or crashed."""


class WorkerProcess:
    """One worker process. It starts on first use, and again after it died.

    Parameters
    ----------
    stop
        Ends the worker's conversion and the worker when it is set.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._process: ChildProcess | None = None

    def convert(
        self, job: Job, options: ConvertOptions, progress: Callable[[int, int], None]
    ) -> FileRecord:
        """Do one job in the worker.

        Raises
        ------
        WorkerDied
            The worker ended before it answered.
        """
        process = self.start()
        try:
            process.send((job, options))
            while True:
                kind, message = process.receive()
                if kind == "done":
                    return message  # type: ignore[no-any-return]
                if kind == "log":
                    name, level, text = message
                    logging.getLogger(name).log(level, "%s", text)
                else:
                    progress(*message)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._died(process) from error

    def start(self) -> ChildProcess:
        """Start the process if it does not run, and return it when it is ready for a job.

        Raises
        ------
        WorkerDied
            It ended before it was ready.
        """
        if self._process is None:
            try:
                # Ctrl-C in a terminal reaches only the parent, which decides.
                self._process = process = ChildProcess(SERVE, own_group=True)
            except NoPython as error:
                raise WorkerDied(f"{error}.") from error
            threading.Thread(target=self._watch, args=(process,), daemon=True).start()
            try:
                process.receive()
            except (EOFError, OSError, pickle.UnpicklingError) as error:
                raise self._died(process) from error
        return self._process

    def _died(self, process: ChildProcess) -> WorkerDied:
        process.wait(PATIENCE_SECONDS)
        self._process = None
        process.close_requests()
        process.close_answers()
        if self._stop.is_set():
            return WorkerDied("the batch was stopped.")
        advice = ""
        if process.signal_name() == "SIGKILL":
            # The system kills what uses too much memory; users and schedulers use other signals.
            advice = (
                " If the memory was not enough, use fewer jobs= (--jobs), or lower memory= "
                "(--memory)."
            )
        return WorkerDied(f"a process that converts files ended: {process.exit_reason()}.{advice}")

    def _watch(self, process: ChildProcess) -> None:
        """End the worker when the batch is stopped."""
        while process.is_alive():
            if self._stop.wait(0.2):
                process.terminate(PATIENCE_SECONDS)
                return

    def close(self) -> None:
        """End the worker."""
        process, self._process = self._process, None
        if process is None:
            return
        process.close_requests()
        if self._stop.is_set():
            process.terminate(PATIENCE_SECONDS)
        process.wait(PATIENCE_SECONDS)
        process.close_answers()


def _pass_on_log(tell: Callable[[str, Any], None]) -> None:
    """Send log records and Python's warnings to the process that shows the progress."""
    logger = ForwardedLog(lambda record: tell("log", record)).install()
    warnings.showwarning = lambda message, *_, **__: logger.warning("%s", message)


def serve() -> None:
    """Do jobs until there are no more. The worker process runs this function."""
    # Output of libraries and of Java goes to standard error.
    parent = ParentPipe(output=2)
    stopped = threading.Event()
    for name in ("SIGTERM", "SIGBREAK"):  # the second is Windows'
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: stopped.set())
    from bfbridge.convert.execute.jobs import converted

    last = 0.0

    def tell(kind: str, message: Any) -> None:
        parent.answer((kind, message))

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
    # The pipe also ends when the parent dies: a conversion then stops and removes its files.
    for job, options in parent.requests(ended=stopped.set):
        with suppress(BrokenPipeError):
            try:
                tell("done", converted(job, options, progress))
            except KeyboardInterrupt:
                raise SystemExit(143) from None
