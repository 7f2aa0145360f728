"""Branches for other operating systems, with the calls of those systems simulated."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import types
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.errors import BfbridgeError
from bfbridge.runtime import systems


def pretend(monkeypatch, platform):
    """Be another system, for this module alone."""
    monkeypatch.setattr(systems, "sys", types.SimpleNamespace(platform=platform))


@pytest.fixture
def windows(monkeypatch):
    """Windows, as far as this module asks; returns its kernel32."""
    pretend(monkeypatch, "win32")
    kernel = types.SimpleNamespace()
    monkeypatch.setattr(systems, "_kernel32", lambda: kernel)
    return kernel


@pytest.fixture
def no_waiting(monkeypatch):
    """A clock that moves only by sleeping; returns how long was slept."""
    now = [0.0]
    clock = types.SimpleNamespace(
        monotonic=lambda: now[0],
        sleep=lambda seconds: now.__setitem__(0, now[0] + seconds),
    )
    monkeypatch.setattr(systems, "time", clock)
    return now


def test_memory_is_what_this_system_says():
    if not hasattr(os, "sysconf"):
        pytest.skip("Windows")
    assert systems.physical_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_memory_of_windows(windows):
    def status(pointer):
        assert pointer._obj.length == ctypes.sizeof(pointer._obj) == 64
        pointer._obj.total_physical = 48 << 30
        return 1

    windows.GlobalMemoryStatusEx = status
    assert systems.physical_memory() == 48 << 30
    windows.GlobalMemoryStatusEx = lambda pointer: 0
    assert systems.physical_memory() is None


def test_memory_where_the_system_does_not_tell(windows, monkeypatch):
    assert systems.physical_memory() is None
    pretend(monkeypatch, "plan9")
    monkeypatch.setattr(systems.os, "sysconf", lambda name: (_ for _ in ()).throw(ValueError))
    assert systems.physical_memory() is None


def test_the_heap_follows_the_memory_of_windows(windows, monkeypatch):
    from bfbridge_bioformats.runtime import settings

    monkeypatch.delenv(settings.HEAP_VARIABLE, raising=False)
    monkeypatch.setattr(settings, "_group_limits", list)
    monkeypatch.setattr(settings, "physical_memory", lambda: 16 << 30)
    assert settings.heap_bytes() == 4 << 30
    monkeypatch.setattr(settings, "physical_memory", lambda: None)
    assert settings.heap_bytes() == 1 << 30


def test_processes_of_this_system():
    assert not systems.process_is_gone(os.getpid())
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        assert systems.process_is_gone(process.pid)


@pytest.mark.parametrize(
    ("handle", "error", "code", "gone"),
    [(0, 87, 0, True), (0, 5, 0, False), (7, 0, 259, False), (7, 0, 0, True)],
)
def test_processes_of_windows_are_never_signalled(windows, monkeypatch, handle, error, code, gone):
    closed = []

    def exit_code(process, pointer):
        pointer._obj.value = code
        return 1

    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("os.kill sends Ctrl-C on Windows"))
    windows.OpenProcess = lambda access, inherit, pid: handle
    windows.GetLastError = lambda: error
    windows.GetExitCodeProcess = exit_code
    windows.CloseHandle = closed.append
    assert systems.process_is_gone(4321) is gone
    assert closed == ([handle] if handle else [])


def test_processes_known_across_restarts(windows, monkeypatch):
    class Ticks:
        restype = None

        def __call__(self):
            return 5_000_000

    windows.GetTickCount64 = Ticks()
    first = systems.process_namespace()
    assert first is not None
    assert first == systems.process_namespace()
    monkeypatch.setattr(systems, "time", types.SimpleNamespace(time=lambda: 1e6))
    assert systems.process_namespace() != first
    del windows.GetTickCount64
    assert systems.process_namespace() is None


def test_no_proc_is_not_an_error(monkeypatch):
    def refuse(*_args, **_options):
        raise FileNotFoundError(errno.ENOENT, "no /proc here")

    pretend(monkeypatch, "freebsd14")
    monkeypatch.setattr(systems.Path, "read_text", refuse)
    assert systems.process_namespace() is None


def failing(times: int, calls: list[int]):
    real = os.replace

    def replace(new, old):
        calls.append(1)
        if len(calls) <= times:
            raise PermissionError(errno.EACCES, "held by a virus scanner", str(old))
        real(new, old)

    return replace


def test_replacing_goes_on_while_windows_denies_it_100_times(
    windows, no_waiting, tmp_path, monkeypatch
):
    calls: list[int] = []
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    monkeypatch.setattr(systems.os, "replace", failing(100, calls))
    systems.replace(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
    assert len(calls) == 101


def test_replacing_ends_with_the_systems_error(windows, no_waiting, tmp_path, monkeypatch):
    monkeypatch.setattr(systems.os, "replace", failing(10**9, []))
    with pytest.raises(PermissionError, match="virus scanner"):
        systems.replace(tmp_path / "new", tmp_path / "old")
    assert 15 <= no_waiting[0] < 16


def test_replacing_elsewhere_is_not_repeated(tmp_path, monkeypatch):
    calls: list[int] = []
    pretend(monkeypatch, "linux")
    monkeypatch.setattr(systems.os, "replace", failing(1, calls))
    with pytest.raises(PermissionError):
        systems.replace(tmp_path / "new", tmp_path / "old")
    assert len(calls) == 1


@pytest.mark.parametrize("name", ["cells.ome.zarr", "cells.ome.tif"])
def test_images_are_written_where_replacing_is_denied_for_a_while(
    windows, no_waiting, tmp_path, monkeypatch, name
):
    pixels = np.arange(130 * 70, dtype=np.uint16).reshape(130, 70)
    calls: list[int] = []
    monkeypatch.setattr(systems.os, "replace", failing(3, calls))
    monkeypatch.setattr(systems, "_LONGEST_PLAIN_PATH", 10_000)  # extended paths are Windows' own
    # Shards are written under a temporary name; other files of a new store are not.
    options = {"chunks": 64, "shards": 128} if name.endswith(".zarr") else {}
    for text in ("old", "new"):  # the second one replaces the first
        with BioWriter(tmp_path / name, overwrite=True, **options) as writer:
            writer[:] = pixels if text == "new" else pixels + 1
    with BioReader(tmp_path / name) as reader:
        assert np.array_equal(np.squeeze(reader[:]), pixels)
    assert len(calls) > 3


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("CON", "CON is the name of a device"),
        ("aux.ome.tif", "AUX is the name of a device"),
        ("com1.zarr", "COM1 is the name of a device"),
        ("lpt\u00b2", "is the name of a device"),
        ("nul .txt", "NUL is the name of a device"),
        ("image.", "a dot or a space at the end"),
        ("image ", "a dot or a space at the end"),
        ("a:b", "do not have ':'"),
        ("what?", "do not have '?'"),
        ("tab\t", "do not have"),
    ],
)
def test_names_that_windows_does_not_have(name, why):
    assert why in (systems.reserved_name(name) or "")


@pytest.mark.parametrize(
    "name", ["console", "auxiliary.tif", "com10", "COM", "a.con", "Zelle 1.ome.tif"]
)
def test_names_that_windows_has(name):
    assert systems.reserved_name(name) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("C:\\short", "C:\\short"),
        ("C:\\" + "x" * 250, "\\\\?\\C:\\" + "x" * 250),
        ("\\\\server\\share\\" + "x" * 250, "\\\\?\\UNC\\server\\share\\" + "x" * 250),
        ("\\\\?\\C:\\" + "x" * 250, "\\\\?\\C:\\" + "x" * 250),
    ],
)
def test_long_paths_of_windows(windows, monkeypatch, path, expected):
    monkeypatch.setattr(systems, "Path", PureWindowsPath)
    monkeypatch.setattr(systems.os.path, "abspath", str)
    assert str(systems.long_path(PureWindowsPath(path))) == expected


def test_a_folder_keeps_room_for_the_names_in_it(windows, monkeypatch):
    monkeypatch.setattr(systems, "Path", PureWindowsPath)
    monkeypatch.setattr(systems.os.path, "abspath", str)
    path = PureWindowsPath("C:\\" + "x" * 100)
    assert systems.long_path(path, room=100) is path
    assert str(systems.long_path(path, room=160)).startswith("\\\\?\\C:")


def test_long_paths_elsewhere_are_left_as_they_are():
    path = Path("/" + "x" * 400)
    assert systems.long_path(path) is path


def test_processes_in_a_group_of_their_own(windows):
    assert systems.own_group() == {"creationflags": 0x200}
    sent = []
    systems.interrupt_group(types.SimpleNamespace(send_signal=sent.append))
    assert sent == [getattr(signal, "CTRL_BREAK_EVENT", 1)]


def test_a_worker_is_ended_in_good_order():
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(5));"
    code += "print('ready', flush=True); time.sleep(60)"
    options = systems.own_group()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, **options
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        systems.interrupt_group(process)
        assert process.wait(30) == 5
    systems.interrupt_group(process)  # it is gone: nothing happens


def test_opening_a_folder_on_windows_says_that_it_is_a_folder(tmp_path, monkeypatch):
    denied = PermissionError(errno.EACCES, "Permission denied")
    assert systems.open_failure(tmp_path / "file", denied) is denied
    assert isinstance(systems.open_failure(tmp_path, denied), IsADirectoryError)
    real = os.open

    def refuse(path, *args, **options):
        if os.path.isdir(path):
            raise denied
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises((BfbridgeError, OSError)) as caught:
        BioReader(tmp_path, backend="ometiff")
    assert "ermission" not in str(caught.value)


@pytest.mark.parametrize(
    ("platform", "variable", "data", "cache"),
    [
        ("linux", None, ".local/share/bfbridge", ".cache/bfbridge"),
        ("darwin", None, "Library/Application Support/bfbridge", "Library/Caches/bfbridge"),
        ("win32", None, "AppData/Local/bfbridge", "AppData/Local/bfbridge/cache"),
        ("win32", "LOCALAPPDATA", "here/bfbridge", "here/bfbridge/cache"),
    ],
)
def test_folders_of_the_user(tmp_path, monkeypatch, platform, variable, data, cache):
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "here"))
    monkeypatch.setattr(systems.Path, "home", lambda: tmp_path)
    pretend(monkeypatch, platform)
    assert systems.data_folder() == tmp_path / data
    assert systems.cache_folder() == tmp_path / cache
