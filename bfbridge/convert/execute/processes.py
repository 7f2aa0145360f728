"""A batch in several processes of this machine; each file is converted by one of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from bfbridge.convert.execute.executor import SerialExecutor
from bfbridge.convert.execute.jobs import Job, converted, failed
from bfbridge.convert.execute.workers import WorkerDied, WorkerProcess
from bfbridge.engine.workers import available_cpus

if TYPE_CHECKING:
    from bfbridge.convert.execute.run import Run
    from bfbridge.convert.options import ConvertOptions

__all__ = ["ProcessExecutor", "share_of"]

log = logging.getLogger("bfbridge")

# A process takes half a second of CPU time for imports before its first file.
WORTH_SECONDS = 5.0
IDLE_CPUS = 0.5
LOOK_SECONDS = 0.25


def share_of(options: ConvertOptions, processes: int) -> ConvertOptions:
    """Return the options of one of several processes, with its share of threads and memory.

    By default all processes together have two threads for each CPU, because threads also wait for
    disks.
    """
    cpus = available_cpus()
    workers = min(cpus, -(-2 * cpus // processes))
    if options.max_workers is not None:
        workers = max(1, options.max_workers // processes)
    memory = max(16 << 20, options.memory_bytes // processes)
    return replace(options, max_workers=workers, memory=memory)


class ProcessExecutor(SerialExecutor):
    """Converts files in several processes; one that dies costs only the file it converted.

    This process converts files itself, with all CPUs, until the others are ready. They are started
    only if it leaves CPUs idle, and if the remaining files take longer than the start.

    Parameters
    ----------
    processes
        Number of processes, 2 or more.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes

    def run(self, run: Run) -> None:
        """Convert the jobs; the result of each is recorded by the thread of its process."""
        shared = share_of(run.options, self._processes)
        batch = _Batch(run, shared, self._processes)
        threads = [
            threading.Thread(target=batch.serve, daemon=True) for _ in range(self._processes)
        ]
        try:
            for thread in threads:
                thread.start()
            batch.work(replace(run.options, memory=shared.memory))
            for thread in threads:
                while thread.is_alive():
                    # On some systems Ctrl-C does not interrupt a join without a timeout.
                    thread.join(0.2)
        except BaseException:
            batch.stop.set()
            for thread in threads:
                thread.join()
            raise
        if batch.errors:
            raise batch.errors[0]


class _Stopped(BaseException):
    """Ends this process's file because the batch was ended in another thread."""


class _Batch:
    """Jobs that several threads take, and the state that the threads share."""

    def __init__(self, run: Run, options: ConvertOptions, processes: int) -> None:
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self._run = run
        self._options = options
        self._missing = processes
        self._pending = run.pending()
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._taken = 0
        self._done = 0.0

    def _take(self) -> tuple[int, Job] | None:
        with self._lock:
            taken = None if self.stop.is_set() else next(self._pending, None)
            self._taken = len(self._run.jobs) if taken is None else taken[0] + 1
            return taken

    def work(self, options: ConvertOptions) -> None:
        """Do jobs in this process until the others are ready, or there are none."""
        while self._missing and (taken := self._take()) is not None:
            number, job = taken
            finished, tell = self._done, self._run.progress(number)

            def progress(
                done: int, total: int, finished: float = finished,
                tell: Callable[[int, int], None] = tell,
            ) -> None:  # fmt: skip
                if self.stop.is_set():
                    raise _Stopped
                self._done = finished + done / max(1, total)
                tell(done, total)

            try:
                record = converted(job, options, progress, self._run.readers)
            except _Stopped:
                return
            self._done = finished + 1
            self._run.end(number, record)

    def _waits_until_worth_it(self) -> bool:
        """Return True when more processes would help; False when no job is left for them."""
        cpus = available_cpus()
        # The imports for the first file are not representative.
        self.stop.wait(LOOK_SECONDS)
        before = time.monotonic(), time.process_time()
        while not self.stop.wait(LOOK_SECONDS):
            left = len(self._run.jobs) - self._taken
            if not left:
                return False
            now = time.monotonic(), time.process_time()
            busy = (now[1] - before[1]) / (now[0] - before[0])
            before = now
            seconds_left = (now[0] - self._begun) * left / max(self._done, 1e-9)
            if seconds_left > WORTH_SECONDS and cpus - busy > IDLE_CPUS:
                return True
        return False

    def serve(self) -> None:
        """Give jobs to one worker until there are none, or the batch is stopped."""
        worker = WorkerProcess(self.stop)
        try:
            if not self._waits_until_worth_it():
                return
            try:
                worker.start()
            except WorkerDied as error:
                if not self.stop.is_set():
                    log.warning("%s", error)
                return
            with self._lock:
                self._missing -= 1
            while (taken := self._take()) is not None:
                number, job = taken
                try:
                    record = worker.convert(job, self._options, self._run.progress(number))
                except WorkerDied as error:
                    record = failed(job, str(error), "WorkerDied", self._options)
                if record.status == "done" or not self.stop.is_set():
                    self._run.end(number, record)
        except BaseException as error:  # noqa: BLE001 - raised by the main thread
            self.errors.append(error)
            self.stop.set()
        finally:
            worker.close()
