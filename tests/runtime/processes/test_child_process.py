"""Worker processes of any kind; convert's and Java's are tested with what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bfbridge.runtime.processes.child_process import ChildProcess, NoPython

SERVER = """
import os, signal, time
from bfbridge.runtime.processes.parent_pipe import ForwardedLog, ParentPipe

def serve(folder):
    parent = ParentPipe()
    logger = ForwardedLog(lambda record: parent.answer(("log", record))).install()
    def ended():
        open(os.path.join(folder, "ended"), "w").close()
    for request in parent.requests(ended):
        print("this must not get between the answers", flush=True)
        os.system("echo nor this")
        if not isinstance(request, str):
            pass
        elif request == "log":
            logger.warning("heard %s", request)
        elif request == "sleep":
            time.sleep(60)
        elif request == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif request == "exit":
            os._exit(3)
        parent.answer(("done", request, os.environ.get("BFBRIDGE_TEST_VALUE")))
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], ChildProcess]]:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "served.py").write_text(SERVER)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    started: list[ChildProcess] = []

    def start() -> ChildProcess:
        started.append(
            ChildProcess("served:serve", (str(tmp_path),), environment={"BFBRIDGE_TEST_VALUE": "5"})
        )
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.close_requests()
        child.wait(30)
        child.close_answers()


def test_messages_arrive_whole_and_in_order(server: Callable[[], ChildProcess]) -> None:
    child = server()
    large = np.arange(3_000_000, dtype="u4")
    child.send(large)
    child.send("second")
    kind, returned, value = child.receive()
    assert (kind, value) == ("done", "5")
    np.testing.assert_array_equal(returned, large)
    assert child.receive() == ("done", "second", "5")
    assert child.is_alive()
    assert child.exit_code is None


def test_log_records_are_forwarded(server: Callable[[], ChildProcess]) -> None:
    child = server()
    child.send("log")
    assert child.receive() == ("log", ("bfbridge", 30, "heard log"))
    assert child.receive() == ("done", "log", "5")


def test_a_worker_ends_when_its_pipe_is_closed(
    server: Callable[[], ChildProcess], tmp_path: Path
) -> None:
    child = server()
    child.send("first")
    child.close_requests()
    # The request that was sent before is answered.
    assert child.receive() == ("done", "first", "5")
    child.wait(60)
    assert child.exit_code == 0
    assert child.exit_reason() == "exit code 0"
    assert (tmp_path / "ended").exists()


def test_the_end_of_a_worker_is_noticed(server: Callable[[], ChildProcess]) -> None:
    child = server()
    child.send("exit")
    with pytest.raises(EOFError, match="closed its end"):
        child.receive()
    child.wait(60)
    assert child.exit_reason() == "exit code 3"
    assert child.signal_name() is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
@pytest.mark.parametrize("patience", [0.2, None])
def test_the_signal_that_ended_a_worker_is_named(
    server: Callable[[], ChildProcess], patience: float | None
) -> None:
    child = server()
    child.send("deaf")
    child.receive()
    if patience is None:
        child.kill()
    else:
        child.terminate(patience)
    child.wait(60)
    assert child.exit_reason() == "killed by signal 9 (SIGKILL)"
    assert child.signal_name() == "SIGKILL"
    assert not child.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows kills no process this way")
def test_a_worker_notices_that_its_parent_was_killed(
    server: Callable[[], ChildProcess], tmp_path: Path
) -> None:
    code = (
        "import time; from bfbridge.runtime.processes.child_process import ChildProcess;"
        f"c = ChildProcess('served:serve', ({str(tmp_path)!r},)); c.send('a'); c.receive();"
        "c.send('sleep'); print(c.pid, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 60
    while not (tmp_path / "ended").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)


def test_a_program_without_a_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(NoPython, match=r"sys\.executable is empty"):
        ChildProcess("served:serve")
