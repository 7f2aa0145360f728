"""Writing the files of a store: each under a temporary name, then renamed."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import threading
from typing import TYPE_CHECKING, Any, Final

from bfbridge.errors import WriteFailed

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileTree", "write_all", "write_failed"]

_ENDING: Final = ".partial"
_KEPT_FOLDERS: Final = 65_536
_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
)


def write_failed(path: str, error: OSError) -> WriteFailed:
    """Return the error for a file that cannot be written."""
    failed = WriteFailed(
        f"{path}: cannot be written ({error.strerror or error}). Nothing under the final name was "
        "changed."
    )
    failed.errno = error.errno
    return failed


def write_all(fd: int, data: Any, offset: int | None = None) -> None:
    """Write all of `data` at the file's position, or at `offset`."""
    view = memoryview(data).cast("B")
    if offset is not None and not hasattr(os, "pwrite"):
        os.lseek(fd, offset, os.SEEK_SET)
        offset = None
    while view:
        if offset is None:
            count = os.write(fd, view)
        else:
            count = os.pwrite(fd, view, offset)
            offset += count
        view = view[count:]


class FileTree:
    """The files of a store that is being written. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self.root = os.fspath(root)
        self._folders: set[str] = set()
        self._serial = itertools.count()

    def path(self, key: str) -> str:
        """Return the path of a key."""
        return os.path.join(self.root, *key.split("/"))

    def temporary(self, key: str) -> str:
        """Return a free name beside a key's file, which no reader takes for a chunk."""
        folder, name = os.path.split(self.path(key))
        unique = f"{os.getpid():x}-{threading.get_ident():x}-{next(self._serial):x}"
        return os.path.join(folder, f".{name}.{unique}{_ENDING}")

    def create(self, path: str) -> int:
        """Open a new file for writing, making its folder if need be."""
        folder = os.path.dirname(path)
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            if len(self._folders) >= _KEPT_FOLDERS:
                self._folders.clear()
            self._folders.add(folder)
        return os.open(path, _FLAGS, 0o666)

    def write(self, key: str, data: Any) -> None:
        """Write a whole file, so that no reader ever sees a part of it.

        Raises
        ------
        WriteFailed
            The file system refuses.
        """
        path, temporary = self.path(key), self.temporary(key)
        try:
            fd = self.create(temporary)
            try:
                write_all(fd, data)
            finally:
                os.close(fd)
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise write_failed(path, error) from error

    def remove_folder(self, key: str) -> None:
        """Remove a folder of ours with its files, as far as that can be done."""
        shutil.rmtree(self.path(key), ignore_errors=True)

    def remove_unfinished(self) -> None:
        """Remove what writers that were killed left behind under temporary names."""
        for folder, _, files in os.walk(self.root):
            for file in files:
                if file.startswith(".") and file.endswith(_ENDING):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(folder, file))

    def remove(self, key: str) -> None:
        """Remove a file if there is one."""
        path = self.path(key)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise write_failed(path, error) from error
