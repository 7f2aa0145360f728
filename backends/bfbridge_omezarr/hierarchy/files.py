"""Storage for the keys of a store being written: files of a folder, or objects below a URL."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from bfbridge.errors import ReadFailed, WriteFailed
from bfbridge.runtime import forking
from bfbridge.runtime.descriptors import write_all
from bfbridge.runtime.systems import long_path, replace
from bfbridge.storage.journal import Journal
from bfbridge.storage.remote.object_store import Objects

if TYPE_CHECKING:
    from bfbridge.storage.source import Source

__all__ = ["FileTree", "JournalTree", "KeyTree", "ObjectTree", "tree_of", "write_failed"]

_ENDING: Final = ".partial"
# Maximum number of characters that a chunk's key and temporary name add to a store's folder.
_LONGEST_KEY = 160
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


class KeyTree(ABC):
    """The keys of a store that is being written. Thread-safe.

    Attributes
    ----------
    root
        Path or URL, for messages.
    is_remote
        Whether each write is a request to a server.
    """

    root: str
    is_remote: ClassVar[bool] = False

    @abstractmethod
    def path(self, key: str) -> str:
        """Return the path or URL of a key."""

    @abstractmethod
    def write(self, key: str, data: Any) -> None:
        """Write a key as a whole, so that readers never see a part of it.

        Raises
        ------
        WriteFailed
            The file system or the server refuses.
        """

    @abstractmethod
    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes | None:
        """Return a key's bytes from `start` (from the end if negative), or None without the key.

        Raises
        ------
        ReadFailed
            The key exists but cannot be read.
        """

    @abstractmethod
    def remove(self, key: str) -> None:
        """Remove a key if there is one."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Return the keys in a folder, in order; none if there is no such folder.

        Raises
        ------
        BfbridgeError
            The file system or the server refuses.
        """

    @abstractmethod
    def contains(self, key: str) -> bool:
        """Return whether a key leads to a place inside the store, also over links."""

    @abstractmethod
    def remove_folder(self, key: str) -> None:
        """Remove a folder that bfbridge created with its keys, as far as possible."""

    @abstractmethod
    def remove_unfinished(self) -> None:
        """Remove temporary files of writers that were killed."""

    # ---- files that are written in parts and then published as a key

    @abstractmethod
    def temporary(self, key: str) -> str:
        """Return an unused path for a file that will become this key."""

    @abstractmethod
    def create(self, path: str) -> int:
        """Open a new file for writing; create its folder if needed."""

    @abstractmethod
    def publish(self, temporary: str, key: str) -> None:
        """Publish a complete file as the key.

        Raises
        ------
        OSError
            The file system or the server refuses.
        """

    @abstractmethod
    def take_back(self, key: str, temporary: str) -> None:
        """Convert the key's bytes to a temporary file again, to be published later.

        Raises
        ------
        FileNotFoundError
            There is no such key.
        """

    @abstractmethod
    def close(self) -> None:
        """Remove the temporary data of this process. May be called twice."""


class FileTree(KeyTree):
    """Files of a folder, each written under a temporary name and then renamed.

    Parameters
    ----------
    root
        The folder.
    private
        Whether nobody reads the folder before it is finished, and it is discarded after an error. A
        new file is then written under its own name.
    """

    def __init__(self, root: Path, *, private: bool = False) -> None:
        self.root = os.fspath(long_path(root, room=_LONGEST_KEY))
        self._private = private
        self._serial = itertools.count()

    def path(self, key: str) -> str:
        return f"{self.root}{os.sep}{key.replace('/', os.sep)}"

    def temporary(self, key: str) -> str:
        # Beside the key's file, under a name that no reader interprets as a chunk.
        folder, name = os.path.split(self.path(key))
        unique = f"{os.getpid():x}-{threading.get_ident():x}-{next(self._serial):x}"
        return os.path.join(folder, f".{name}.{unique}{_ENDING}")

    def create(self, path: str) -> int:
        try:
            return os.open(path, _FLAGS, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return os.open(path, _FLAGS, 0o666)

    def write(self, key: str, data: Any) -> None:
        path = self.path(key)
        try:
            if self._private and self._filled(path, data):
                return
            temporary = self.temporary(key)
            self._filled(temporary, data)
            try:
                replace(temporary, path)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise write_failed(path, error) from error

    def _filled(self, path: str, data: Any) -> bool:
        """Write a new file; remove it after an error. Return False if there is one of this name."""
        try:
            fd = self.create(path)
        except FileExistsError:
            return False
        try:
            try:
                write_all(fd, data)
            finally:
                os.close(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise
        return True

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes | None:
        path = self.path(key)
        try:
            with open(path, "rb") as file:
                if start:
                    size = os.fstat(file.fileno()).st_size
                    file.seek(max(0, size + start) if start < 0 else start)
                return file.read(-1 if length is None else length)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ReadFailed(f"{path}: cannot be read back ({error.strerror or error}).") from error

    def names(self, folder: str) -> list[str]:
        try:
            return sorted(f"{folder}/{name}" for name in os.listdir(self.path(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            why = error.strerror or error
            raise ReadFailed(f"{self.path(folder)}: cannot be listed ({why}).") from error

    def publish(self, temporary: str, key: str) -> None:
        path = self.path(key)
        try:
            replace(temporary, path)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            replace(temporary, path)

    def take_back(self, key: str, temporary: str) -> None:
        replace(self.path(key), temporary)

    def close(self) -> None:
        """Do nothing: no file stays open between writes."""

    def contains(self, key: str) -> bool:
        inside = os.path.realpath(self.root)
        return os.path.realpath(self.path(key)).startswith(inside + os.sep)

    def remove_folder(self, key: str) -> None:
        shutil.rmtree(self.path(key), ignore_errors=True)

    def remove_unfinished(self) -> None:
        for folder, _, files in os.walk(self.root):
            for file in files:
                if file.startswith(".") and file.endswith(_ENDING):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(folder, file))

    def remove(self, key: str) -> None:
        path = self.path(key)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise write_failed(path, error) from error


class JournalTree(FileTree):
    """Files of a finished store, which `commit` changes all together or not at all.

    Parameters
    ----------
    root
        Path of the store. An interrupted change there is completed or reverted first.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._journal = Journal(root)
        self._new = FileTree(self._journal.folder)
        self._removed: set[str] = set()
        self._checked: set[str] = set()
        self._mutex = forking.lock()

    def write(self, key: str, data: Any) -> None:
        self._check(key)
        self._new.write(key, data)
        with self._mutex:
            self._removed.discard(key)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes | None:
        if key in self._removed:
            return None
        data = self._new.read(key, start, length)
        return super().read(key, start, length) if data is None else data

    def remove(self, key: str) -> None:
        self._check(key)
        with self._mutex:
            if os.path.lexists(self.path(key)):
                self._removed.add(key)
        self._new.remove(key)

    def temporary(self, key: str) -> str:
        self._check(key)
        return self._new.temporary(key)

    def create(self, path: str) -> int:
        return self._new.create(path)

    def publish(self, temporary: str, key: str) -> None:
        self._new.publish(temporary, key)
        with self._mutex:
            self._removed.discard(key)

    def take_back(self, key: str, temporary: str) -> None:
        try:
            self._new.take_back(key, temporary)
        except FileNotFoundError:
            # A copy of the store's file, which is unchanged until the change is committed.
            os.makedirs(os.path.dirname(temporary), exist_ok=True)
            shutil.copyfile(self.path(key), temporary)

    def commit(self, last: Sequence[str] = ()) -> None:
        """Apply the change to the store; the keys in `last` are replaced at the end.

        Raises
        ------
        WriteFailed
            The file system refuses.
        """
        self._journal.commit(sorted(self._removed), last)

    def discard(self) -> None:
        """Discard the change, unless it was committed."""
        self._journal.discard()

    def _check(self, key: str) -> None:
        folder = key.rpartition("/")[0]
        if folder not in self._checked:
            self._journal.place(key)
            if len(self._checked) >= _KEPT_FOLDERS:
                self._checked.clear()
            self._checked.add(folder)


class ObjectTree(KeyTree):
    """Objects below a URL; files that are written in parts are in a local temporary folder."""

    is_remote: ClassVar[bool] = True

    def __init__(self, source: Source) -> None:
        self._objects = Objects(source)
        self.root = self._objects.name
        self._lock = forking.lock()
        self._serial = itertools.count()
        self._local: tempfile.TemporaryDirectory[str] | None = None

    def path(self, key: str) -> str:
        return self._objects.label(key)

    def write(self, key: str, data: Any) -> None:
        self._objects.put(key, data)

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes | None:
        stop = None if length is None or start < 0 else start + length
        data = self._objects.get(key, start or None, stop)
        return None if data is None else data[:length]

    def remove(self, key: str) -> None:
        self._objects.remove([key])

    def commit(self, last: Sequence[str] = ()) -> None:
        """Do nothing: objects are written at their final place."""

    def discard(self) -> None:
        """Do nothing: the writer removes what it added."""

    def remove_from(self, folder: str, first: int) -> None:
        """Remove the folders of a folder whose names are numbers, from `first` on."""
        for child in self._objects.children(folder):
            name = child.rsplit("/", 1)[-1]
            if name.isascii() and name.isdigit() and int(name) >= first:
                self._objects.remove(self._objects.keys(child))

    def names(self, folder: str) -> list[str]:
        return self._objects.keys(folder)

    def contains(self, key: str) -> bool:
        return True

    def remove_folder(self, key: str) -> None:
        with contextlib.suppress(WriteFailed):
            self._objects.remove(self._objects.keys(key))

    def remove_unfinished(self) -> None:
        """Do nothing: objects have no temporary names."""

    def temporary(self, key: str) -> str:
        with self._lock:
            if self._local is None:
                self._local = tempfile.TemporaryDirectory(prefix="bfbridge-shards-")
            return os.path.join(self._local.name, str(next(self._serial)))

    def create(self, path: str) -> int:
        return os.open(path, _FLAGS, 0o600)

    def publish(self, temporary: str, key: str) -> None:
        self._objects.put_file(temporary, key)
        os.unlink(temporary)

    def take_back(self, key: str, temporary: str) -> None:
        data = self._objects.get(key)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path(key))
        Path(temporary).write_bytes(data)

    def close(self) -> None:
        with self._lock:
            local, self._local = self._local, None
        if local is not None:
            local.cleanup()


def tree_of(target: str | os.PathLike[str] | Source | KeyTree) -> KeyTree:
    """Return the storage of a store: a folder, objects below a URL, or the given tree."""
    if isinstance(target, KeyTree):
        return target
    if isinstance(target, (str, os.PathLike)):
        return FileTree(Path(target))
    return FileTree(target.path) if target.path is not None else ObjectTree(target)
