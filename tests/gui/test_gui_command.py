"""``bfbridge gui`` as a process, and `bfbridge-gui` without a terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp")
pytest.importorskip("cmap")

import bfbridge.cli
from bfbridge.cli.terminal import error_page
from bfbridge.viewer.presence import Presence


@pytest.mark.slow(ci=True)
def test_the_link_opens_and_closing_the_page_ends(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "bfbridge", "gui", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "BROWSER": "true"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        link = process.stdout.readline().strip()
        assert link.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(link, timeout=30) as reply:
            assert b"gui/static/page.js" in reply.read()
            cookie = reply.headers["Set-Cookie"].partition(";")[0]
        for what in ("open", "closed"):
            url = f"{link.removesuffix('gui')}page/{what}/abc"
            request = urllib.request.Request(url, headers={"Cookie": cookie})
            urllib.request.urlopen(request, timeout=30).close()
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_errors_without_a_terminal_are_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pages: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: pages.append(url.removeprefix("file://")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["bfbridge-gui", str(tmp_path / "<none>.tif")])
    with pytest.raises(SystemExit) as end:
        bfbridge.cli.gui()
    assert end.value.code == 1
    assert "&lt;none&gt;.tif: no such file or folder." in Path(*pages).read_text("utf-8")
    assert "no such file or folder" in capsys.readouterr().err


def _end(code: int | None) -> None:
    sys.stderr.write(f"ended with {code}")
    raise SystemExit(code)


def test_only_errors_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(error_page, "_show", shown.append)
    for code in (0, 1, 130, None):
        with pytest.raises(SystemExit), error_page.shown_errors():
            _end(code)
    assert shown == ["ended with 1"]


def test_running_conversions_are_completed_first() -> None:
    async def ended() -> list[Any]:
        busy, count = [True], []
        watch = Presence(lambda: count.append(1), grace=0.02, silence=0.2, busy=lambda: busy[0])
        watch("a", True)
        watch("a", False)
        await asyncio.sleep(0.1)
        before = len(count)
        busy[0] = False
        await asyncio.sleep(0.1)
        return [before, len(count)]

    assert asyncio.run(ended()) == [0, 1]
