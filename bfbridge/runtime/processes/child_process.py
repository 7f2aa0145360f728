"""A worker process, on the side of the process that starts it.

Workers are plain Python commands that communicate over pipes. They need no ``if __name__ ==
"__main__"`` in a script, and they also work in a notebook.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any, cast

from bfbridge.runtime import systems
from bfbridge.runtime.processes.ipc import MessagePipe

__all__ = ["ChildProcess", "NoPython"]


class NoPython(Exception):
    """No process can be started, because the path of Python is unknown."""

    def __init__(self) -> None:
        super().__init__(
            "worker processes are started with this program's Python, but sys.executable is empty"
        )


class ChildProcess:
    """One worker process and its messages.

    A worker ends when its pipe is closed, and therefore also when this process dies.

    Parameters
    ----------
    function
        Function that the worker runs, as "package.module:function". It must first make a
        `bfbridge.runtime.processes.parent_pipe.ParentPipe`.
    arguments
        Arguments of the function.
    environment
        Variables that are set in the worker unless they are set in this process.
    pass_fds
        File descriptors that the worker inherits. Not on Windows.
    own_group
        Whether Ctrl-C in a terminal reaches this process only.

    Attributes
    ----------
    messages
        Messages to and from the worker.

    Raises
    ------
    NoPython
        `sys.executable` is empty, as in some programs that embed Python.
    """

    def __init__(
        self,
        function: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        own_group: bool = False,
    ) -> None:
        if not sys.executable:
            raise NoPython
        module, _, name = function.partition(":")
        # The worker must import the same modules, also from a checkout. An empty entry means the
        # current folder.
        folders = [folder or os.getcwd() for folder in sys.path]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONSAFEPATH": "1"}
        # Python's fault handler and a JVM use the same signals.
        variables.pop("PYTHONFAULTHANDLER", None)
        for variable, value in (environment or {}).items():
            variables.setdefault(variable, value)
        code = f"import sys; from {module} import {name}; {name}(*sys.argv[1:])"
        self._own_group = own_group
        self._process = subprocess.Popen(  # noqa: S603 - this Python, and this library's code
            [sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=variables,
            pass_fds=pass_fds,
            **(systems.own_group() if own_group else {}),
        )
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        self.messages = MessagePipe(self._answers.fileno(), self._requests.fileno())

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal; None until `is_alive` or `wait` saw the end."""
        return self._process.returncode

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def terminate(self, patience: float) -> None:
        """Ask the process to clean up and exit; kill it after `patience` seconds."""
        if self._own_group:
            systems.interrupt_group(self._process)
        else:
            self._process.terminate()
        self.wait(patience)

    def wait(self, patience: float) -> None:
        """Wait for the end of the process; kill it after `patience` seconds."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close_requests(self) -> None:
        """Tell the worker that there are no more requests; it ends after the current one."""
        _close(self._requests)

    def close_answers(self) -> None:
        """Release the worker's answers. Call after the process has ended."""
        _close(self._answers)

    def forget(self) -> None:
        """Release the process in a forked child: it belongs to the parent."""
        self.close_requests()
        self.close_answers()
        # It is not a child of this process, so it cannot be waited for.
        self._process.returncode = 0

    def exit_reason(self) -> str:
        """Return why the process ended, for messages: "exit code 3" or "killed by signal 9 (...)".

        On lack of memory the system kills processes with SIGKILL.
        """
        code = self.exit_code
        if code is None or code >= 0:
            return f"exit code {code}"
        return f"killed by signal {-code} ({self.signal_name() or 'no name'})"

    def signal_name(self) -> str | None:
        """Return the name of the signal that ended the process, or None."""
        code = self.exit_code
        if code is None or code >= 0:
            return None
        try:
            return signal.Signals(-code).name
        except ValueError:
            return None

    def send(self, message: Any) -> None:
        """Send a request; see `MessagePipe.send`."""
        self.messages.send(message)

    def receive(self) -> Any:
        """Wait for an answer; see `MessagePipe.receive`."""
        return self.messages.receive()


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError):
        pipe.close()
