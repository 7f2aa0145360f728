"""Storage from which the keys of a Zarr store are read: a folder; see remote.py and zips.py.

A key is a relative path with "/" between its parts ("0/c/0/0/1"). Keys in documents are checked
once (`join`); a folder also refuses files outside the store that its links point to.
"""

from __future__ import annotations

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from bfbridge.errors import FileChanged, LimitExceeded, ReadFailed, UnreadableFile
from bfbridge.runtime.thread_buffer import NOT_KEPT, ThreadBuffer
from bfbridge.storage.journal import FOLDER, pending_of
from bfbridge.storage.stamp import FileStamp

__all__ = ["FolderStore", "Stamped", "Store", "join", "too_long"]

MIB: Final = 1 << 20
_OPEN_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    # Opening a named pipe in the place of a chunk must not block the reader.
    | getattr(os, "O_NONBLOCK", 0)
)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_CHECKED_FOLDERS: Final = 65_536


def join(base: str, path: object, where: str) -> str:
    """Return the key of `path`, as a document at the key `base` names it.

    Parameters
    ----------
    base
        Key of the group that contains the document; "" for the root.
    path
        The path in the document.
    where
        The document, for messages.

    Raises
    ------
    UnreadableFile
        The path is not text, or is outside the store: it is absolute, has "..", a drive, a
        backslash or a NUL character.
    """
    if not isinstance(path, str):
        raise UnreadableFile(f"{where}: names {path!r} where the path of an array is required.")
    parts = path.split("/")
    # Some file systems interpret a drive letter or a scheme ("C:", "file:") as absolute.
    colon = ":" in parts[0] or (os.name == "nt" and ":" in path)
    bad = path.startswith("/") or ".." in parts or "\\" in path or "\0" in path or colon
    if bad:
        raise UnreadableFile(
            f"{where}: names the path {path!r}, which is outside the store. Only paths in it are "
            "read; the file is damaged or hostile."
        )
    clean = [part for part in parts if part not in ("", ".")]
    return "/".join(([base] if base else []) + clean)


class Stamped(NamedTuple):
    """Bytes of a key.

    Attributes
    ----------
    data
        The bytes.
    stamp
        Version of the bytes, as from `Store.stamp`; None if unknown.
    """

    data: bytes | memoryview
    stamp: object


class Store(ABC):
    """Read access to the keys of a store, from any thread.

    Attributes
    ----------
    name
        Path or URL, for messages.
    is_remote
        Whether each key needs a request to a server.
    refusal
        The error of a key to which a server refused access, if `get_many` treated it as missing.
    """

    name: str
    is_remote: bool = False
    refusal: ReadFailed | None = None

    @abstractmethod
    def get(self, key: str, limit: int) -> bytes | None:
        """Return the bytes of a key, or None if there is no such key.

        Raises
        ------
        ReadFailed
            The key exists but cannot be read.
        LimitExceeded
            It is longer than `limit` bytes.
        """

    def read(self, key: str, limit: int, buffer: ThreadBuffer) -> memoryview | None:
        """Return what `get` returns, as a view; it may use `buffer`, which is overwritten later."""
        del buffer
        data = self.get(key, limit)
        return None if data is None else memoryview(data)

    def read_many(self, keys: Iterable[str], limit: int) -> list[bytes | memoryview | None]:
        """Return what `get` returns for each of several keys."""
        return [self.get(key, limit) for key in keys]

    @abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        """Return `length` bytes from `start` (from the end if negative), fewer at the end."""

    @abstractmethod
    def read_stamped(
        self, key: str, start: int, length: int, buffer: ThreadBuffer
    ) -> Stamped | None:
        """Return the result of `get_range` with its stamp; it may use `buffer`, as in `read`."""

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """Yield every key of the store; none if the store cannot list."""

    def size(self, key: str) -> int | None:
        """Return the length of a key in bytes; None without the key and at URLs."""
        del key
        return None

    def stamp(self, key: str) -> object:
        """Return a value that changes when a key is rewritten; None without the key and at URLs."""
        del key
        return None

    def same(self, one: object, other: object) -> bool:
        """Whether two stamps of a key are of one version."""
        return one == other

    def is_current(self, key: str, stamp: object) -> bool:
        """Whether a key still has the version of a stamp."""
        return self.same(self.stamp(key), stamp)

    def get_many(self, keys: Iterable[str], limit: int) -> dict[str, Stamped]:
        """Return the content of those keys that exist. For documents, which are often absent."""
        found = ((key, self._get_stamped(key, limit)) for key in keys)
        return {key: stamped for key, stamped in found if stamped is not None}

    def _get_stamped(self, key: str, limit: int) -> Stamped | None:
        data = self.get(key, limit)
        return None if data is None else Stamped(data, None)

    def label(self, key: str) -> str:
        """Return the name of a key for messages."""
        return f"{self.name.rstrip('/')}/{key}" if key else self.name

    @abstractmethod
    def close(self) -> None:
        """Release files. May be called twice."""


def too_long(label: str, size: int, limit: int) -> LimitExceeded:
    """Return the error for a key that is too long."""
    return LimitExceeded(
        f"{label}: has {size:,} bytes, more than the {limit:,} allowed; the store is damaged "
        "or hostile."
    )


class FolderStore(Store):
    """A folder of the local file system."""

    def __init__(self, root: str, name: str, allow_outside: bool) -> None:
        self.name = name
        self._root = os.path.realpath(root)
        self._allow_outside = allow_outside
        self._inside: set[str] = set()
        # While the folder is open, no other folder can have its inode number.
        self._fd = os.open(self._root, os.O_RDONLY) if os.name == "posix" else -1
        self._identity = os.stat(self._root)
        self._pending = pending_of(self._root)

    def get(self, key: str, limit: int) -> bytes | None:
        view = self.read(key, limit, NOT_KEPT)
        return None if view is None else bytes(view)

    def read(self, key: str, limit: int, buffer: ThreadBuffer) -> memoryview | None:
        found = self._read_whole(key, limit, buffer)
        return None if found is None else found[0]

    def read_many(self, keys: Iterable[str], limit: int) -> list[bytes | memoryview | None]:
        found: list[bytes | memoryview | None] = []
        for key in keys:
            opened = self._open_now(key)
            found.append(opened and self._read_opened(key, opened, limit, NOT_KEPT))
        self._check_root()
        return found

    def _get_stamped(self, key: str, limit: int) -> Stamped | None:
        found = self._read_whole(key, limit, NOT_KEPT)
        return None if found is None else Stamped(bytes(found[0]), FileStamp.of_status(found[1]))

    def _read_whole(
        self, key: str, limit: int, buffer: ThreadBuffer
    ) -> tuple[memoryview, os.stat_result] | None:
        opened = self._open(key)
        if opened is None:
            return None
        return self._read_opened(key, opened, limit, buffer), opened[1]

    def _read_opened(
        self, key: str, opened: tuple[int, os.stat_result], limit: int, buffer: ThreadBuffer
    ) -> memoryview:
        """Read an open file to its end, and close it."""
        fd, before = opened
        try:
            size = before.st_size
            if size > limit:
                raise too_long(self.label(key), size, limit)
            view = buffer.view(size)
            filled = self._fill(fd, view)
            after = os.fstat(fd)
            if (filled, after.st_mtime_ns) != (after.st_size, before.st_mtime_ns):
                raise FileChanged(
                    f"{self.label(key)}: the file was written to while it was read, so its bytes "
                    "may not belong together. Read it again when it is complete."
                )
            return view
        except OSError as error:
            raise _failed(self.label(key), error) from error
        finally:
            os.close(fd)

    @staticmethod
    def _fill(fd: int, view: memoryview) -> int:
        filled = os.readv(fd, [view]) if hasattr(os, "readv") else 0
        while filled < len(view):
            count = (
                os.readv(fd, [view[filled:]]) if hasattr(os, "readv") else _read(fd, view, filled)
            )
            if count == 0:
                break
            filled += count
        return filled

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        found = self.read_stamped(key, start, length, NOT_KEPT)
        return None if found is None else bytes(found.data)

    def read_stamped(
        self, key: str, start: int, length: int, buffer: ThreadBuffer
    ) -> Stamped | None:
        opened = self._open(key)
        if opened is None:
            return None
        fd, status = opened
        try:
            size = status.st_size
            begin = max(0, size + start) if start < 0 else start
            os.lseek(fd, begin, os.SEEK_SET)
            view = buffer.view(max(0, min(length, size - begin)))
            filled = self._fill(fd, view)
            # Taken after reading, so that a later change is detected.
            return Stamped(view[:filled], FileStamp.of(fd))
        except OSError as error:
            raise _failed(self.label(key), error) from error
        finally:
            os.close(fd)

    def size(self, key: str) -> int | None:
        try:
            return os.stat(self._path_of(key)).st_size
        except OSError:
            return None

    def stamp(self, key: str) -> object:
        try:
            return FileStamp.of(self._path_of(key))
        except OSError:
            return None

    def _path_of(self, key: str) -> str:
        if self._pending is not None:
            if key in self._pending.removed:
                return os.path.join(self._pending.folder, key)
            changed = os.path.join(self._pending.folder, key)
            if os.path.lexists(changed):
                return changed
        return f"{self._root}{os.sep}{key}"

    def is_current(self, key: str, stamp: object) -> bool:
        # Called after each read, so it creates no stamp if nothing has changed.
        try:
            now = os.stat(self._path_of(key))
        except OSError:
            return stamp is None
        if not isinstance(stamp, FileStamp):
            return False
        size, time, _, inode = stamp
        if now.st_mtime_ns == time and now.st_size == size and now.st_ino == inode:
            return True
        return FileStamp.of_status(now) == stamp

    def keys(self) -> Iterator[str]:
        if self._pending is None:
            yield from _keys_below(self._root)
            return
        found = {*_keys_below(self._root), *_keys_below(self._pending.folder)}
        yield from sorted(found - self._pending.removed)

    def close(self) -> None:
        """Close the folder; files are open during reads only."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        # Names of modules are None at interpreter shutdown: contextlib cannot be used here.
        try:  # noqa: SIM105
            self.close()
        except Exception:  # noqa: BLE001, S110 - no caller can handle an error here
            pass

    def _open(self, key: str) -> tuple[int, os.stat_result] | None:
        """Open the file of a key inside the store, and return its status; None without the key.

        Raises
        ------
        ReadFailed
            It cannot be opened.
        FileChanged
            Another folder now has the store's name: its chunks belong to another image, and a
            missing chunk does not mean the fill value.
        """
        opened = self._open_now(key)
        try:
            self._check_root(key)
        except FileChanged:
            if opened is not None:
                os.close(opened[0])
            raise
        return opened

    def _check_root(self, key: str = "") -> None:
        """Raise an error if the folder is another one than at first.

        Called after opening a file, so that a file opened before is inside this store.
        """
        try:
            same = os.path.samestat(self._identity, os.stat(self._root))
        except OSError:
            same = False
        if not same:
            raise FileChanged(
                f"{self.label(key)}: the store was replaced or removed while it was open. Open it "
                "again to read its new data."
            )

    def _open_now(self, key: str) -> tuple[int, os.stat_result] | None:
        if self._pending is None:
            return self._open_path(f"{self._root}{os.sep}{key}", key)
        # The change may have been applied meanwhile: keys that left the journal are in the store.
        if key in self._pending.removed:
            return self._open_path(os.path.join(self._pending.folder, key), key)
        changed = self._open_path(os.path.join(self._pending.folder, key), key)
        return changed or self._open_path(os.path.join(self._root, key), key)

    def _open_path(self, path: str, key: str) -> tuple[int, os.stat_result] | None:
        try:
            if not self._allow_outside:
                self._check_folder(os.path.dirname(path), key)
            try:
                if not self._allow_outside and not _NOFOLLOW:
                    # Windows: the target of a link is resolved for each file.
                    path = self._resolved(path, key)
                fd = os.open(path, _OPEN_FLAGS | (0 if self._allow_outside else _NOFOLLOW))
            except OSError as error:
                # A link: O_NOFOLLOW gives ELOOP (EMLINK on some BSDs).
                if error.errno not in (errno.ELOOP, errno.EMLINK):
                    raise
                fd = os.open(self._resolved(path, key), _OPEN_FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:
            raise ReadFailed(f"{self.label(key)!r}: cannot be a file name ({error}).") from error
        except OSError as error:
            if isinstance(error, ReadFailed):
                raise
            raise _failed(self.label(key), error) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise ReadFailed(f"{self.label(key)}: this is not a regular file.")
        return fd, status

    def _check_folder(self, folder: str, key: str) -> None:
        if folder in self._inside:
            return
        if not self._is_plain_folder(folder):
            self._resolved(folder, key)
        if len(self._inside) >= _CHECKED_FOLDERS:
            self._inside.clear()
        self._inside.add(folder)

    def _is_plain_folder(self, folder: str) -> bool:
        """Whether a folder is no link, and in one that is inside the store."""
        # Windows has other kinds of links.
        if os.name != "posix" or os.path.dirname(folder) not in self._inside:
            return False
        return stat.S_ISDIR(os.lstat(folder).st_mode)

    def _resolved(self, path: str, key: str) -> str:
        real = os.path.realpath(path)
        if real != self._root and not real.startswith(self._root.rstrip(os.sep) + os.sep):
            raise ReadFailed(
                f"{self.label(key)}: a link leads out of the store, to {real}. Allow it with "
                "allow_outside=True if the store may be trusted."
            )
        return real


def _keys_below(root: str) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name != FOLDER)
        base = os.path.relpath(folder, root).replace(os.sep, "/")
        for file in sorted(files):
            yield file if base == "." else f"{base}/{file}"


def _read(fd: int, view: memoryview, filled: int) -> int:
    data = os.read(fd, len(view) - filled)
    view[filled : filled + len(data)] = data
    return len(data)


def _failed(label: str, error: OSError) -> ReadFailed:
    if isinstance(error, ReadFailed):
        return error
    return ReadFailed(f"{label}: cannot be read ({error.strerror or error}).")
