"""Progress: the estimated time, lines of a log, and bars."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bfbridge.cli.terminal import progress
from bfbridge.cli.terminal.bars import show_bars
from bfbridge.cli.terminal.stopping import Stopper
from bfbridge.convert.execute import pace
from bfbridge.convert.execute.pace import Pace, duration
from bfbridge.convert.reports.record import FileRecord
from tests.support.commands import write


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_the_time_that_is_left(clock: list[float]) -> None:
    files = Pace(5)
    big, small = 992 << 20, 92 << 20
    files.sized([big, small, small, small, 0])
    assert files.left() is None
    files.ended(0, converted=False)  # was complete already
    files.started(1)
    clock[0] = 10.0
    files.ended(1, converted=True)
    # 100 MiB in 10 s; of the last file the usual size is taken, 317 MiB.
    assert files.left() == pytest.approx(10 + 10 + 32.5)
    files.started(2)
    files.moved(2, 50, 100)
    clock[0] = 15.0
    assert files.left() == pytest.approx(5 + 10 + 32.5)
    for number in (2, 3, 4):
        files.ended(number, converted=True)
    assert files.left() == 0


def test_nothing_is_told_of_the_time_before_it_is_known(clock: list[float]) -> None:
    files = Pace(2)
    files.sized([1 << 40, 1 << 40])
    files.started(0)
    files.moved(0, 1, 1000)
    clock[0] = 60.0
    assert files.left() is None, "a thousandth tells nothing"
    files.moved(0, 1, 10)
    clock[0] = 2.0
    assert files.left() is None, "two seconds tell nothing"
    clock[0] = 10.0
    assert files.left() == pytest.approx(190)


def test_durations() -> None:
    assert [duration(s) for s in (0.2, 8.4, 99, 100, 5900, 7500)] == [
        "0 s", "8 s", "99 s", "2 min", "98 min", "2 h 5 min",
    ]  # fmt: skip


# ---- lines and bars


def test_lines_of_a_batch(
    capsys: pytest.CaptureFixture[str], clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.watch(Stopper(), quiet=False) as watcher:
        watcher.looked(0, 0)
        watcher.looked(0, 300)
        for done in range(1, 300):
            clock[0] += 0.125
            watcher.looked(done, 300)
        watcher.looked(300, 300)
        watcher.begin(4)
        watcher.sized([92 << 20] * 4)
        watcher.ended(0, FileRecord("in/k.tif", "k.ome.tif", "kept"))
        watcher.started(1, "a.tif")
        clock[0] += 10
        watcher.ended(1, FileRecord("in/a.tif", "a.ome.tif", "done", seconds=10.0))
        error = "in/b.tif: is\ndamaged."
        watcher.started(2, "b.tif")
        watcher.ended(2, FileRecord("in/b.tif", "b.ome.tif", error=error))
        watcher.started(3, "c.tif")
        watcher.moved(3, 1, 4)
        clock[0] += 40
        watcher.moved(3, 2, 4)
    assert capsys.readouterr().err.splitlines() == [
        "searching for images",
        "opening 300 files",
        "opened 81 of 300 files",
        "opened 162 of 300 files",
        "opened 243 of 300 files",
        "[1/4] k.tif: kept, complete already",
        "[2/4] a.tif: done in 10.0 s; about 20 s left",
        "[3/4] FAILED: in/b.tif: is damaged.",
        "c.tif: 50 %, 0 MB/s, 40 s left",
    ]


@pytest.mark.parametrize(("columns", "searched"), [(100, "opening files"), (40, "opening")])
def test_bars_of_a_batch(
    columns: int, searched: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws as on a terminal
    stopper = Stopper()
    states = []

    def drawn() -> list[str]:
        watcher._bars.refresh()
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
        states.append(plain)
        return [" ".join(line.split()) for line in re.split(r"[\r\n]+", plain) if line.strip()]

    with show_bars(stopper) as watcher:
        watcher.looked(0, 0)
        watcher.looked(3, 9)
        assert re.fullmatch(rf"{searched} [━╸╺ ]+ 3/9", drawn()[-1])
        watcher.begin(2)
        watcher.sized([92 << 20] * 2)
        watcher.started(0, "a.tif")
        watcher.started(1, "b" * 200 + ".tif")
        watcher.moved(0, 1, 4)
        watcher.moved(7, 1, 4)  # no bar: it has ended
        lines = drawn()[-3:]
        assert re.fullmatch(r"all files [━╸╺ ]+ 0/2", lines[0])
        assert re.match(r"a\.tif [━╸╺ ]+ 25 %", lines[1])
        assert re.match(r"b+…b+\.tif ", lines[2])
        error = "in/a.tif: is damaged."
        watcher.ended(0, FileRecord("in/a.tif", "a.ome.tif", error=error))
        lines = drawn()
        assert "FAILED: in/a.tif: is damaged." in lines
        assert re.fullmatch(r"all files [━╸╺ ]+ 1/2", lines[-2])
        stopper(signal.SIGINT, None)
        with pytest.raises(KeyboardInterrupt):
            watcher.moved(1, 1, 4)
    assert all(len(line) < columns for state in states for line in re.split(r"[\r\n]+", state))


def on_a_terminal(columns: int, *arguments: Any) -> tuple[str, str, int]:
    """Run a command whose stderr is a terminal of so many columns."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(
        [sys.executable, "-m", "bfbridge", *map(str, arguments)], stderr=theirs,
        stdout=subprocess.PIPE, env={**environment, "TERM": "xterm"},
    ) as command:  # fmt: skip
        os.close(theirs)
        shown = b""
        # Linux ends a terminal without a writer by an error.
        with suppress(OSError):
            while data := os.read(ours, 4096):
                shown += data
        os.close(ours)
        output, _ = command.communicate(timeout=60)
    return shown.decode(), output.decode(), command.returncode


@pytest.mark.slow(ci=True)
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("columns", [80, 40])
def test_long_names_leave_room_for_the_bar(tmp_path: Path, columns: int) -> None:
    long = "a_very_long_name_of_an_experiment_" * 5
    for number in range(3):
        write(tmp_path / f"in/{long}{number}.ome.tif")
    (tmp_path / "in/cut.ome.tif").write_bytes(b"II*\0" + b"x" * 100)
    shown, output, code = on_a_terminal(columns, "convert", tmp_path / "in", tmp_path / "out")
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    lines = [line for line in re.split(r"[\r\n]+", plain) if "━" in line]
    assert any(line.startswith("all files") for line in lines)
    names = [line for line in lines if "…" in line]
    assert names
    for line in lines:
        assert line.count("━") >= 4
        assert len(line) < columns, "the ^C of a terminal would begin a new line"
    assert f"FAILED: {tmp_path}/in/cut.ome.tif: " in plain
    assert code == 1
    assert output.endswith("\n3 converted, 1 failed\n")
