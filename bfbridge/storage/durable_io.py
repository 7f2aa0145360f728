"""File operations of operating systems: locks, renames, flushes, and the names of other files.

Functions of file names and descriptors. They raise the system's ``OSError``; the caller,
`bfbridge.storage.atomic`, knows the operation and builds the message.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from bfbridge.runtime.systems import replace
from bfbridge.storage.journal import FOLDER

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = [
    "SHARED_FOLDER",
    "ZARR_MARKS",
    "clear",
    "flush",
    "flush_folder",
    "flush_tree",
    "foreign_file",
    "foreign_key",
    "lock_now",
    "removed_if_empty",
    "rename_new",
    "replace_at_once",
    "special_rename",
]

# A folder with one of these files is a Zarr group or array.
ZARR_MARKS = frozenset({"zarr.json", ".zgroup", ".zattrs", ".zarray"})

# The plan of what several processes write into a store.
SHARED_FOLDER = ".bfbridge-shared"
_OWN_FOLDERS = (FOLDER, SHARED_FOLDER)

# Other files of a store outside its groups and arrays: chunks of an array at the root ("0/1",
# "0.1", "c/0/1"), copies of documents, OME-XML, and files that desktops and network disks create.
_UNFINISHED = re.compile(r"\..+\.partial")
_CHUNK_PART = re.compile(r"c|c?\.?\d+(\.\d+)*")
_IN_STORES = re.compile(
    r"\.zmetadata|METADATA\.ome\.xml|\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|\.nfs.*|\.bfbridge-.*"
)

# msvcrt locks also refuse reads, so the locked byte lies beyond the owner's note.
WINDOWS_LOCKED_BYTE = 1 << 30

# Errors of a kernel or file system that lacks an operation, not of an operation that fails.
NOT_OFFERED = frozenset(
    {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.ENOLCK}
)


def lock_now(fd: int, created: bool) -> bool:
    """Lock a file, or return False at once.

    Where the file system has no locks, the process that made the file is its owner. This is the
    safe choice: the folder of a dead owner then has to be removed by hand.
    """
    try:
        if sys.platform == "win32":
            os.lseek(fd, WINDOWS_LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        return created
    return True


def clear(folder: Path, kept: str) -> None:
    """Remove everything in a folder except the name `kept`, as far as possible."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name == kept:
                continue
            entry = folder / name
            if entry.is_dir() and not entry.is_symlink():
                _unmark(entry)
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    entry.unlink()


def _unmark(store: Path) -> None:
    """Remove the documents of a Zarr store, so that it cannot be opened while it is deleted."""
    for root, folders, files in os.walk(store):
        marks = ZARR_MARKS.intersection(files)
        for name in marks:
            Path(root, name).unlink()
        if not marks:
            folders.clear()  # chunks only


def foreign_key(keys: Iterable[str]) -> str:
    """Return one of a store's keys (relative paths of files) that does not belong to it, or "".

    Everything inside a group or an array below the root counts as part of it.
    """
    keys = list(keys)
    split = [key.split("/") for key in keys]
    nodes = {tuple(parts[:-1]) for parts in split if len(parts) > 1 and parts[-1] in ZARR_MARKS}
    for key, parts in zip(keys, split, strict=True):
        if parts[-1] in ZARR_MARKS or _IN_STORES.fullmatch(parts[-1]):
            continue
        if parts[0] in _OWN_FOLDERS or _UNFINISHED.fullmatch(parts[-1]):
            continue
        if any(tuple(parts[:n]) in nodes for n in range(1, len(parts))):
            continue
        if not all(_CHUNK_PART.fullmatch(part) for part in parts):
            return key
    return ""


def foreign_file(store: Path) -> str:
    """Return a file in a store's folder that does not belong to it, or ""; see `foreign_key`."""
    return foreign_key(_outer_files(store))


def _outer_files(store: Path) -> Iterator[str]:
    """Yield the files of a folder; of groups and arrays below it, only their documents."""
    for root, folders, files in os.walk(store):
        base = os.path.relpath(root, store).replace(os.sep, "/")
        marks = ZARR_MARKS.intersection(files) if base != "." else set()
        if marks:
            folders.clear()
        for name in marks or files:
            yield name if base == "." else f"{base}/{name}"


def removed_if_empty(folder: Path) -> bool:
    """Remove a folder if it is empty; return whether it is gone."""
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def replace_at_once(new: Path, old: Path) -> bool:
    """Replace `old` by `new` in one step; return False, with nothing done, if not supported."""
    old_mode = os.lstat(old).st_mode
    if stat.S_ISREG(old_mode) and not new.is_dir():
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                new.chmod(stat.S_IMODE(old_mode))
        replace(new, old)
        return True
    return special_rename(new, old, exchange=True)


def rename_new(source: Path, destination: Path) -> None:
    """Rename; raise `FileExistsError` if the new name exists."""
    if os.name == "nt":
        source.rename(destination)  # never replaces on Windows
        return
    if special_rename(source, destination, exchange=False):
        return
    if source.is_dir() and not source.is_symlink():
        try:
            source.rename(destination)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise FileExistsError(errno.EEXIST, "the name is taken", destination) from error
            raise
        return
    try:
        os.link(source, destination, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        # Neither exclusive renames nor hard links (exFAT, some network disks): check, then move.
        if os.path.lexists(destination):
            raise FileExistsError(errno.EEXIST, "the name is taken", destination) from error
        source.rename(destination)
    else:
        source.unlink()


def special_rename(source: Path, destination: Path, *, exchange: bool) -> bool:
    """Exchange two names, or rename without replacing, as one step of the kernel.

    Returns False, with nothing done, where kernel, C library or file system do not offer it.

    Notes
    -----
    Linux: renameat2(2), RENAME_NOREPLACE 1, RENAME_EXCHANGE 2. macOS: renamex_np(2), RENAME_SWAP 2,
    RENAME_EXCL 4.
    """
    import ctypes

    try:
        libc = _libc()
        names = os.fsencode(source), os.fsencode(destination)
        if sys.platform == "darwin":
            failed = libc.renamex_np(*names, ctypes.c_uint(2 if exchange else 4))
        else:
            here = ctypes.c_int(-100)  # AT_FDCWD
            flags = ctypes.c_uint(2 if exchange else 1)
            failed = libc.renameat2(here, names[0], here, names[1], flags)
    except (AttributeError, OSError, TypeError):
        return False
    if not failed:
        return True
    code = ctypes.get_errno()
    if code in NOT_OFFERED:
        return False
    raise OSError(code, os.strerror(code), os.fspath(destination))


@cache
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)


def flush(fd: int) -> None:
    """Write a file's bytes to the disk; on macOS fsync stops at the cache of the drive."""
    if sys.platform == "darwin":
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable, if the system can flush folders."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        flush(fd)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
    finally:
        os.close(fd)


def flush_tree(folder: Path) -> None:
    """Make every file and name below `folder` durable."""

    def refuse(error: OSError) -> None:
        raise error

    for root, _, files in os.walk(folder, topdown=False, onerror=refuse):
        for name in files:
            flags = (os.O_RDWR if os.name == "nt" else os.O_RDONLY) | getattr(os, "O_NOFOLLOW", 0)
            fd = os.open(Path(root, name), flags)
            try:
                flush(fd)
            finally:
                os.close(fd)
        flush_folder(Path(root))
