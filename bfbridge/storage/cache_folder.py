"""Folders of data that can be recomputed: limited in size, private, shared by processes."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

from bfbridge.runtime import forking

__all__ = ["MARK", "CacheFolder", "is_private"]

MARK: Final = "used"
"""In an entry that is a folder, the file whose modification time is the last use of the entry."""


class CacheFolder:
    """A folder of limited size, whose least recently used entries are removed first.

    Entries are folders, or files with a suffix; nothing else in the folder is counted or removed.
    The last use of a file is its modification time; that of a folder is the modification time of
    its `MARK`. Thread-safe; processes may share it.

    Parameters
    ----------
    folder
        Created by `make`, readable by its user only.
    max_bytes
        Maximum size.
    suffix
        Suffix of the entries, also within the names of unfinished files; None: entries are folders.
    """

    def __init__(self, folder: Path, max_bytes: int, suffix: str | None = None) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._suffix = suffix
        self._lock = forking.lock()
        self._size: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all entries."""
        return sum(size for size, _ in self._entries().values())

    def make(self) -> None:
        """Create the folder. Other users may not be allowed to read the files it is about.

        Raises
        ------
        OSError
            The system refuses.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def clear(self) -> int:
        """Remove all entries; return the number of bytes removed."""
        with self._lock:
            self._size = None
            entries = self._entries()
            for entry in entries:
                _remove(entry)
            return sum(size for size, _ in entries.values())

    def make_room(self, wanted: int, kept: Path) -> bool:
        """Reserve space for bytes that will be written; return whether they fit.

        Parameters
        ----------
        wanted
            Number of bytes.
        kept
            The entry that is being written; it is kept.
        """
        with self._lock:
            if self._size is None:
                self._size = self.nbytes
            if self._size + wanted > self.max_bytes:
                self._shrink(wanted, kept)
            if self._size + wanted > self.max_bytes:
                return False
            self._size += wanted
            return True

    def _shrink(self, wanted: int, kept: Path) -> None:
        """Remove the least recently used entries until there is space."""
        entries = self._entries()
        size = sum(count for count, _ in entries.values())
        for entry, (count, _) in sorted(entries.items(), key=lambda item: item[1][1]):
            if size + wanted <= self.max_bytes:
                break
            if entry != kept:
                _remove(entry)
                size -= count
        self._size = size

    def _entries(self) -> dict[Path, tuple[int, float]]:
        """Return the size and time of last use of each entry."""
        found: dict[Path, tuple[int, float]] = {}
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.folder):
                with contextlib.suppress(OSError):
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if self._suffix is None and is_folder:
                        found[Path(entry.path)] = (_size_of(entry.path), _used(entry.path))
                    elif self._suffix is not None and not is_folder and self._suffix in entry.name:
                        status = entry.stat(follow_symlinks=False)
                        found[Path(entry.path)] = (status.st_size, status.st_mtime)
        return found


def is_private(*paths: Path) -> bool:
    """Return whether all paths exist, belong to this user, and nobody else may write to them.

    On Windows, where permissions are inherited from the user's own folder, whether they exist.
    """
    try:
        statuses = [path.stat() for path in paths]
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return True
    owner = os.geteuid()
    return all(status.st_uid == owner and not status.st_mode & 0o022 for status in statuses)


def _remove(entry: Path) -> None:
    try:
        entry.unlink()
    except OSError:
        shutil.rmtree(entry, ignore_errors=True)


def _size_of(folder: str) -> int:
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total


def _used(folder: str) -> float:
    try:
        return os.stat(os.path.join(folder, MARK)).st_mtime
    except OSError:
        return 0.0
