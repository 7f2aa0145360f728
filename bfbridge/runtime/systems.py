"""Differences between operating systems: memory, processes, names, renames, folders.

Functions decide by ``sys.platform`` when they are called, so that tests can simulate the others.
Locks, exclusive renames and flushes are in :mod:`bfbridge.storage.durable_io`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

__all__ = [
    "cache_folder",
    "data_folder",
    "encoding_problem",
    "folded_name",
    "interrupt_group",
    "long_path",
    "open_failure",
    "own_group",
    "physical_memory",
    "process_is_gone",
    "process_namespace",
    "replace",
    "reserved_name",
    "unusable_name",
]

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_RESERVED = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{device}{digit}" for device in ("COM", "LPT") for digit in "123456789\u00b9\u00b2\u00b3"]
)
_LONGEST_PLAIN_PATH = 247  # MAX_PATH of folders: 260, less a name of the form 8.3

# Windows refuses to replace a file that a virus scanner or an indexer holds for a moment.
_PATIENCE = 15.0
_LONGEST_PAUSE = 0.1

_NO_SUCH_PROCESS = 87  # ERROR_INVALID_PARAMETER, from OpenProcess
_QUERY_LIMITED = 0x1000
_STILL_ACTIVE = 259


def _system() -> str:
    # Type checkers treat sys.platform as a constant, and other branches as dead code.
    return sys.platform


def physical_memory() -> int | None:
    """Return the bytes of memory of the machine; None if the system does not report them."""
    if _system() == "win32":
        return _windows_memory()
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _kernel32() -> Any:
    import ctypes

    # Through getattr: only Windows has it, and type checkers run elsewhere.
    return getattr(ctypes, "WinDLL")("kernel32", use_last_error=True)  # noqa: B009


def _windows_memory() -> int | None:
    import ctypes

    class Status(ctypes.Structure):
        """MEMORYSTATUSEX of sysinfoapi.h."""

        _fields_ = (
            ("length", ctypes.c_uint32),
            ("load", ctypes.c_uint32),
            ("total_physical", ctypes.c_uint64),
            *((f"other{n}", ctypes.c_uint64) for n in range(6)),
        )

    status = Status()
    status.length = ctypes.sizeof(status)
    try:
        if not _kernel32().GlobalMemoryStatusEx(ctypes.byref(status)):
            return None
    except (AttributeError, OSError):
        return None
    return int(status.total_physical)


def process_is_gone(pid: int) -> bool:
    """Return whether no process of this machine has this number; False if that is unknown."""
    if _system() == "win32":
        return _windows_process_is_gone(pid)  # os.kill(pid, 0) sends Ctrl-C there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _windows_process_is_gone(pid: int) -> bool:
    import ctypes

    try:
        kernel = _kernel32()
        handle = kernel.OpenProcess(_QUERY_LIMITED, False, pid)
        if not handle:
            return bool(kernel.GetLastError() == _NO_SUCH_PROCESS)
        try:
            code = ctypes.c_uint32()
            known = kernel.GetExitCodeProcess(handle, ctypes.byref(code))
            return bool(known) and code.value != _STILL_ACTIVE
        finally:
            kernel.CloseHandle(handle)
    except (AttributeError, OSError):
        return False


def process_namespace() -> str | None:
    """Return an identifier shared by processes that see each other's numbers; None if unknown.

    Linux: the boot and the PID namespace. macOS and Windows: the machine and the time it was
    started, to which process numbers belong.
    """
    if _system() in ("darwin", "win32"):
        started = _boot_time()
        return None if started is None else f"{_machine_name()} {started}"
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return None


def _machine_name() -> str:
    import platform

    return platform.node()


def _boot_time() -> str | None:
    """Return when the machine was started: macOS' kern.bootsessionuuid, Windows' boot minute."""
    import ctypes

    try:
        if _system() == "darwin":
            size = ctypes.c_size_t(64)
            text = ctypes.create_string_buffer(size.value)
            libc = ctypes.CDLL(None)
            if libc.sysctlbyname(b"kern.bootsessionuuid", text, ctypes.byref(size), None, 0):
                return None
            return text.value.decode("ascii", "replace") or None
        kernel = _kernel32()
        kernel.GetTickCount64.restype = ctypes.c_uint64
        # The clock may be adjusted: round to ten minutes. A changed value only leaves a lock file.
        return str(round((time.time() - kernel.GetTickCount64() / 1000) / 600))
    except (AttributeError, OSError):
        return None


def replace(new: str | Path, old: str | Path) -> None:
    """`os.replace`; on Windows, again for some seconds while another program holds a file.

    Raises
    ------
    OSError
        The error of the system.
    """
    if _system() != "win32":
        os.replace(new, old)
        return
    patiently(lambda: os.replace(new, old))


def patiently(action: Callable[[], None]) -> None:
    """Repeat an action while the system denies it, for at most 15 seconds."""
    deadline = time.monotonic() + _PATIENCE
    pause = 0.005
    while True:
        try:
            action()
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        else:
            return


def reserved_name(name: str) -> str | None:
    """Return why Windows cannot have a file of this name; None if it can.

    Parameters
    ----------
    name : str
        The last part of a path.
    """
    stem = name.partition(".")[0].rstrip(" ").upper()
    if stem in _RESERVED:
        return f"{stem} is the name of a device on Windows"
    if name.rstrip(". ") != name and name not in (".", ".."):
        return "Windows removes a dot or a space at the end of a name"
    bad = sorted({c for c in name if c in '<>:"/\\|?*' or ord(c) < 32})
    if bad:
        return f"names on Windows do not have {' '.join(map(repr, bad))}"
    return None


def unusable_name(name: str) -> str | None:
    """Return why this system cannot have a file of this name; None if it can."""
    return reserved_name(name) if _system() == "win32" else None


def folded_name(name: str) -> str:
    """Return what is equal for names that some file system takes for the same name.

    Windows and macOS ignore the case of letters by default, and macOS also the difference between
    a composed letter and the letter with its combining mark (Unicode's forms NFC and NFD).
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def encoding_problem(name: str) -> str | None:
    """Return why a file name cannot be encoded for the file system, or None if it can."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return (
            f"{name!a}: file names are encoded as {sys.getfilesystemencoding()} here, which lacks "
            "some of these characters. Set PYTHONUTF8=1, or a locale with UTF-8."
        )
    return None


def long_path(path: Path, room: int = 0) -> Path:
    r"""Return a path by which Windows opens files whose names have 260 characters and more.

    There, a long absolute path gets the prefix ``\\?\``; shorter ones, and all paths elsewhere, are
    returned as they are. `room` characters are kept for names in the folder `path`.
    """
    if _system() != "win32":
        return path
    text = os.path.abspath(path)
    if len(text) + room <= _LONGEST_PLAIN_PATH or text.startswith("\\\\?\\"):
        return path
    if text.startswith("\\\\"):
        return Path("\\\\?\\UNC" + text[1:])
    return Path("\\\\?\\" + text)


def own_group() -> dict[str, Any]:
    """Return arguments of `subprocess.Popen` that keep Ctrl-C from reaching the process."""
    if _system() == "win32":
        # subprocess.CREATE_NEW_PROCESS_GROUP; importing subprocess would take 7 ms of every start.
        return {"creationflags": 0x200}
    return {"start_new_session": True}


def interrupt_group(process: subprocess.Popen[Any]) -> None:
    """Ask a process started with `own_group` to clean up and exit; no error if it has ended.

    SIGTERM; on Windows, where that ends a process at once, Ctrl-Break (SIGBREAK).
    """
    number = getattr(signal, "CTRL_BREAK_EVENT", 1) if _system() == "win32" else signal.SIGTERM
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def open_failure(path: str | Path, error: OSError) -> OSError:
    """Return the error for a path that cannot be opened: Windows denies permission for folders."""
    if isinstance(error, PermissionError) and os.path.isdir(path):
        return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return error


def cache_folder() -> Path:
    """Return the folder for data that can be recomputed: ``bfbridge`` in the system's cache folder.

    ``$XDG_CACHE_HOME`` or ``~/.cache``; ``~/Library/Caches`` on macOS; ``%LOCALAPPDATA%`` on
    Windows. The folder is not created here.
    """
    if _system() == "darwin":
        return Path.home() / "Library" / "Caches" / "bfbridge"
    if _system() == "win32":
        return _local_app_data() / "bfbridge" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bfbridge"


def data_folder() -> Path:
    """Return the folder for data that the user requested, such as a downloaded jar.

    ``$XDG_DATA_HOME`` or ``~/.local/share``; ``~/Library/Application Support`` on macOS;
    ``%LOCALAPPDATA%`` on Windows. The folder is not created here.
    """
    if _system() == "darwin":
        return Path.home() / "Library" / "Application Support" / "bfbridge"
    if _system() == "win32":
        return _local_app_data() / "bfbridge"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "bfbridge"


def _local_app_data() -> Path:
    return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
