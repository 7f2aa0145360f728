"""Private folders of writers: making, locking, reusing and removing them.

A folder belongs to the process that has locked the file in it. See `bfbridge.storage.atomic`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from bfbridge.errors import TargetBusy, WriteFailed
from bfbridge.runtime.descriptors import read_all, write_all
from bfbridge.storage.durable_io import clear, lock_now, special_rename

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "LOCK",
    "close_lock",
    "leave_folder",
    "names_in",
    "remove_folder",
    "renamed_spare",
    "reused_folders",
    "take_lock",
]

LOCK = ".bfbridge-lock"


def names_in(folder: Path) -> list[str]:
    """Return what a private folder contains beside its lock, by name."""
    return sorted(name for name in os.listdir(folder) if name != LOCK)


_fork_guard = threading.Lock()
_held: set[int] = set()


def _forget_locks() -> None:
    """In a forked child: close the parent's locks; the parent keeps holding them.

    Otherwise a child that outlives a killed parent would keep the target locked.
    """
    for fd in _held:
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()
    _fork_guard.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_fork_guard.acquire,
        after_in_parent=_fork_guard.release,
        after_in_child=_forget_locks,
    )


def close_lock(fd: int) -> None:
    """Release a lock."""
    with _fork_guard:
        _held.discard(fd)
        os.close(fd)


def take_lock(folder: Path, path: Path) -> int:
    """Make `folder`, or take over that of a dead writer; return the descriptor of the lock."""
    for _ in range(100):
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        try:
            fd, created = _open_lock(folder, path)
        except FileNotFoundError:
            continue  # its owner has just finished
        try:
            if not lock_now(fd, created):
                raise TargetBusy(
                    f"{path} is being written by another writer{_owner(fd)}. Wait until it is "
                    f"closed. If there is no such writer, remove {folder}."
                )
            if _is_at(fd, folder / LOCK):
                _sign(fd)
                return fd
        except BaseException:
            close_lock(fd)
            raise
        close_lock(fd)
    raise TargetBusy(f"{path} is being written by several writers in turn. Wait for them.")


def _open_lock(folder: Path, path: Path) -> tuple[int, bool]:
    """Return a descriptor of the lock file and whether this call made it."""
    if not _is_ours(folder):
        raise WriteFailed(
            f"{path} cannot be written: {folder} exists, and was not made by bfbridge. "
            "Move or remove it."
        )
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    lock = folder / LOCK
    with _fork_guard:
        try:
            fd, created = os.open(lock, flags | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            fd, created = os.open(lock, flags), False
        _held.add(fd)
    return fd, created


def _is_ours(folder: Path) -> bool:
    """Return whether a writer made the folder: not a link, and with a lock file or empty."""
    if not stat.S_ISDIR(os.lstat(folder).st_mode):
        return False
    for _ in range(5):
        names = os.listdir(folder)
        if not names or LOCK in names:
            return True
        time.sleep(0.01)  # the folder may be in the process of being made or removed
    return False


def _is_at(fd: int, path: Path) -> bool:
    """Return whether the locked file is the current one at this path, not a removed one."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _sign(fd: int) -> None:
    """Store the owner in the lock file, for messages to other writers."""
    import platform

    with contextlib.suppress(OSError):
        # Only that of a dead owner: ext4 flushes a file that was truncated when it is closed.
        if os.fstat(fd).st_size:
            os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        write_all(fd, f"process {os.getpid()} on {platform.node()}\n".encode())


def _owner(fd: int) -> str:
    with contextlib.suppress(OSError):
        os.lseek(fd, 0, os.SEEK_SET)
        note = read_all(fd, 200).decode("utf-8", "replace").strip()
        return f" ({note})" if note.startswith("process ") else ""
    return ""


def remove_folder(folder: Path, fd: int) -> None:
    """Clear and remove a private folder and release its lock, as far as possible."""
    try:
        clear(folder, LOCK)
        if sys.platform == "win32":
            close_lock(fd)
        # The lock file identifies the folder as ours: it is removed last.
        with contextlib.suppress(OSError):
            if not names_in(folder):
                (folder / LOCK).unlink()
                folder.rmdir()
    finally:
        if sys.platform != "win32":
            close_lock(fd)


class _SpareFolder:
    """The empty private folder of a finished target, with its lock, for the next target beside it.

    It keeps the name of the finished target, so that the next writer of this target removes it
    after a kill.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._held: tuple[Path, int] | None = None

    def keep(self, folder: Path, fd: int) -> bool:
        """Keep a folder; return False if the caller has to remove it."""
        # Windows does not rename a folder with an open file.
        if sys.platform == "win32" or self._held is not None or os.getpid() != self._pid:
            return False
        self._held = folder, fd
        return True

    def renamed(self, folder: Path) -> int | None:
        """Give the folder this name, if no other has it; return the descriptor of its lock."""
        if self._held is None or os.getpid() != self._pid:
            return None
        (old, fd), self._held = self._held, None
        if old == folder:
            return fd
        with contextlib.suppress(OSError):
            if old.parent == folder.parent and special_rename(old, folder, exchange=False):
                return fd
        remove_folder(old, fd)
        return None

    def drop(self) -> None:
        """Remove the folder."""
        held, self._held = self._held, None
        if held is not None and os.getpid() == self._pid:
            remove_folder(*held)


_spare: ContextVar[_SpareFolder | None] = ContextVar("bfbridge_spare_folder", default=None)


def renamed_spare(folder: Path) -> int | None:
    """Give the spare folder, if there is one, this name; return the descriptor of its lock."""
    spare = _spare.get()
    return None if spare is None else spare.renamed(folder)


def leave_folder(folder: Path, fd: int) -> None:
    """Keep the private folder of a finished target as the spare one, or remove it."""
    spare = _spare.get()
    if spare is not None:
        clear(folder, LOCK)
        with contextlib.suppress(OSError):
            if not names_in(folder) and spare.keep(folder, fd):
                return
    remove_folder(folder, fd)


@contextlib.contextmanager
def reused_folders() -> Iterator[None]:
    """Use one private folder for the targets of this block, if they follow each other.

    Making and removing a folder with a lock for each small file takes longer than writing it: ext4
    skips inodes that were freed in the last minutes one by one when it makes the next files.
    """
    spare = _SpareFolder()
    token = _spare.set(spare)
    try:
        yield
    finally:
        _spare.reset(token)
        spare.drop()
