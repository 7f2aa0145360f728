"""Where the keys of a Zarr store are read from: a folder, or an fsspec URL; zips.py has zip files.

A key is a relative path with "/" between its parts ("0/c/0/0/1"). Keys are checked once, where a
document names them (`join`); a folder besides refuses files that its links lead out of the store.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from bfbridge.errors import (
    Closed,
    LimitExceeded,
    MissingExtra,
    ReadFailed,
    UnreadableFile,
)

if TYPE_CHECKING:
    from bfbridge.source import Source

__all__ = ["Buffer", "FolderStore", "RemoteStore", "Store", "join", "too_long"]

MIB: Final = 1 << 20
_OPEN_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
    # A named pipe put where a chunk should be must not hang the reader.
    | getattr(os, "O_NONBLOCK", 0)
)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_CHECKED_FOLDERS: Final = 65_536


def join(base: str, path: object, where: str) -> str:
    """Return the key of `path`, as a document at the key `base` names it.

    Parameters
    ----------
    base
        Key of the group that holds the document; "" for the root.
    path
        What the document says.
    where
        The document, for messages.

    Raises
    ------
    UnreadableFile
        The path is no text, or leaves the store: it is absolute, has "..", a drive, a backslash or
        a NUL character.
    """
    if not isinstance(path, str):
        raise UnreadableFile(f"{where}: names {path!r} where the path of an array belongs.")
    parts = path.split("/")
    # A drive letter or a scheme ("C:", "file:") would be taken as absolute by some file systems.
    colon = ":" in parts[0] or (os.name == "nt" and ":" in path)
    bad = path.startswith("/") or ".." in parts or "\\" in path or "\0" in path or colon
    if bad:
        raise UnreadableFile(
            f"{where}: names the path {path!r}, which leaves the store. Only paths inside it are "
            "read; the file is damaged or hostile."
        )
    clean = [part for part in parts if part not in ("", ".")]
    return "/".join(([base] if base else []) + clean)


class Store(ABC):
    """Read access to the keys of a store, from any thread.

    Attributes
    ----------
    name
        Path or URL, for messages.
    is_remote
        Whether each key costs a request to a server.
    refusal
        The error of a key that a server would not show, where `get_many` took it as absent.
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
            There is one, and it cannot be read.
        LimitExceeded
            It is longer than `limit` bytes.
        """

    @abstractmethod
    def read(self, key: str, limit: int, buffer: Buffer) -> memoryview | None:
        """Return what `get` returns, as a view that may lie in `buffer` and be overwritten."""

    @abstractmethod
    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        """Return `length` bytes from `start` (from the end if negative), fewer at the end."""

    def read_range(
        self, key: str, start: int, length: int, buffer: Buffer
    ) -> bytes | memoryview | None:
        """Return what `get_range` returns, as a view that may lie in `buffer`, as for `read`."""
        del buffer
        return self.get_range(key, start, length)

    @abstractmethod
    def keys(self) -> Iterator[str]:
        """Every key of the store; empty where the store cannot list."""

    def stamp(self, key: str) -> object:
        """Return a value that changes when the key is written anew; None where that is unknown."""
        del key
        return None

    def get_many(self, keys: Iterable[str], limit: int) -> dict[str, bytes]:
        """Return the bytes of those keys that exist. For documents, which may well be absent."""
        found = ((key, self.get(key, limit)) for key in keys)
        return {key: data for key, data in found if data is not None}

    def label(self, key: str) -> str:
        """Return how messages name a key."""
        return f"{self.name.rstrip('/')}/{key}" if key else self.name

    @abstractmethod
    def close(self) -> None:
        """Release files. May be called twice."""


class Buffer:
    """Memory for stored bytes, kept between reads of one thread."""

    __slots__ = ("_bytes",)
    KEPT: Final = 32 * MIB

    def __init__(self) -> None:
        self._bytes = bytearray()

    def take(self, size: int) -> memoryview:
        """Return `size` bytes to write into; the view of the call before becomes invalid."""
        if size > self.KEPT:
            return memoryview(bytearray(size))
        if len(self._bytes) < size:
            self._bytes = bytearray(max(size, 2 * len(self._bytes)))
        return memoryview(self._bytes)[:size]


def too_long(label: str, size: int, limit: int) -> LimitExceeded:
    """Return the error for a key that holds more than makes sense."""
    return LimitExceeded(
        f"{label}: holds {size:,} bytes where at most {limit:,} make sense; the store is damaged "
        "or hostile."
    )


class FolderStore(Store):
    """A folder of the local file system."""

    def __init__(self, root: str, name: str, allow_outside: bool) -> None:
        self.name = name
        self._root = os.path.realpath(root)
        self._allow_outside = allow_outside
        self._inside: set[str] = set()
        # While the folder is open, no other folder can be given its number.
        self._fd = os.open(self._root, os.O_RDONLY) if os.name == "posix" else -1
        self._identity = os.stat(self._root)

    def get(self, key: str, limit: int) -> bytes | None:
        view = self.read(key, limit, Buffer())
        return None if view is None else bytes(view)

    def read(self, key: str, limit: int, buffer: Buffer) -> memoryview | None:
        fd = self._open(key)
        if fd is None:
            return None
        try:
            size = os.fstat(fd).st_size
            if size > limit:
                raise too_long(self.label(key), size, limit)
            view = buffer.take(size)
            filled = self._fill(fd, view)
            if filled != size:
                raise ReadFailed(f"{self.label(key)}: shrank while it was read.")
            return view
        except OSError as error:
            raise _failed(self.label(key), error) from error
        finally:
            os.close(fd)

    @staticmethod
    def _fill(fd: int, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            count = (
                os.readv(fd, [view[filled:]]) if hasattr(os, "readv") else _read(fd, view, filled)
            )
            if count == 0:
                break
            filled += count
        return filled

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        fd = self._open(key)
        if fd is None:
            return None
        try:
            os.lseek(fd, start, os.SEEK_END if start < 0 else os.SEEK_SET)
            parts: list[bytes] = []
            while length > 0 and (part := os.read(fd, length)):
                parts.append(part)
                length -= len(part)
            return b"".join(parts)
        except OSError as error:
            raise _failed(self.label(key), error) from error
        finally:
            os.close(fd)

    def read_range(
        self, key: str, start: int, length: int, buffer: Buffer
    ) -> bytes | memoryview | None:
        fd = self._open(key)
        if fd is None:
            return None
        try:
            os.lseek(fd, start, os.SEEK_SET)
            view = buffer.take(length)
            return view[: self._fill(fd, view)]
        except OSError as error:
            raise _failed(self.label(key), error) from error
        finally:
            os.close(fd)

    def stamp(self, key: str) -> object:
        try:
            status = os.stat(os.path.join(self._root, key))
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def keys(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self._root):
            folders.sort()
            base = os.path.relpath(folder, self._root).replace(os.sep, "/")
            for file in sorted(files):
                yield file if base == "." else f"{base}/{file}"

    def close(self) -> None:
        """Let go of the folder; files are open during reads only."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def _open(self, key: str) -> int | None:
        """Open the file of a key that lies inside the store; None if there is none.

        Raises
        ------
        ReadFailed
            Another folder stands under the store's name by now: its chunks are not this image's,
            and a chunk missing there, or removed here, is no fill value.
        """
        fd = self._open_now(key)
        # Looked at after opening, so that what was opened before lies in the store itself.
        try:
            same = os.path.samestat(self._identity, os.stat(self._root))
        except OSError:
            same = False
        if not same:
            if fd is not None:
                os.close(fd)
            raise ReadFailed(
                f"{self.label(key)}: the store was replaced or removed while it was open. Open it "
                "again to read what stands there now."
            )
        return fd

    def _open_now(self, key: str) -> int | None:
        path = os.path.join(self._root, key)
        try:
            if not self._allow_outside:
                self._check_folder(os.path.dirname(path), key)
            try:
                if not self._allow_outside and not _NOFOLLOW:
                    # Windows: where a link leads is looked up for each file.
                    path = self._resolved(path, key)
                fd = os.open(path, _OPEN_FLAGS | (0 if self._allow_outside else _NOFOLLOW))
            except OSError as error:
                # A link: O_NOFOLLOW says ELOOP (EMLINK on some BSDs).
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
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ReadFailed(f"{self.label(key)}: is no file, though one belongs there.")
        return fd

    def _check_folder(self, folder: str, key: str) -> None:
        if folder in self._inside:
            return
        self._resolved(folder, key)
        if len(self._inside) >= _CHECKED_FOLDERS:
            self._inside.clear()
        self._inside.add(folder)

    def _resolved(self, path: str, key: str) -> str:
        real = os.path.realpath(path)
        if real != self._root and not real.startswith(self._root.rstrip(os.sep) + os.sep):
            raise ReadFailed(
                f"{self.label(key)}: a link leads out of the store, to {real}. Allow it with "
                "allow_outside=True if the store may be trusted."
            )
        return real


def _read(fd: int, view: memoryview, filled: int) -> int:
    data = os.read(fd, len(view) - filled)
    view[filled : filled + len(data)] = data
    return len(data)


def _failed(label: str, error: OSError) -> ReadFailed:
    if isinstance(error, ReadFailed):
        return error
    return ReadFailed(f"{label}: cannot be read ({error.strerror or error}).")


def _forbidden(error: Exception) -> bool:
    return isinstance(error, PermissionError) or getattr(error, "status", None) == 403


class RemoteStore(Store):
    """An fsspec URL. Each call is a request of its own, so concurrency is the number of callers."""

    is_remote = True

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._fs = source.filesystem()
        url = source.url or ""
        base, query, rest = url.partition("?")
        self._root = str(self._fs._strip_protocol(base)).rstrip("/")
        # A web server would take a "#" or "?" in a key for the end of the path.
        self._quotes = "http" in self._fs.protocol
        self._query = query + rest
        self._lock = threading.Lock()
        self._closed = False

    def get(self, key: str, limit: int) -> bytes | None:
        try:
            # One byte above the limit shows what is too long, without fetching all of it.
            data: bytes = self._fs.cat_file(self._path(key), start=0, end=limit + 1)
        except (FileNotFoundError, KeyError):
            return None
        except Exception as error:
            raise self._failed(key, error) from error
        if len(data) > limit:
            raise too_long(self.label(key), len(data), limit)
        return data

    def read(self, key: str, limit: int, buffer: Buffer) -> memoryview | None:
        del buffer
        data = self.get(key, limit)
        return None if data is None else memoryview(data)

    def get_range(self, key: str, start: int, length: int) -> bytes | None:
        path = self._path(key)
        try:
            if start < 0:
                data: bytes = self._fs.cat_file(path, start=start, end=None)
                # Some servers answer a suffix range with the whole object.
                return data[start : start + length or None]
            data = self._fs.cat_file(path, start=start, end=start + length)
        except (FileNotFoundError, KeyError):
            return None
        except Exception as error:
            raise self._failed(key, error) from error
        if len(data) > length:
            raise ReadFailed(f"{self.label(key)}: the server ignores byte ranges.")
        return data

    def get_many(self, keys: Iterable[str], limit: int) -> dict[str, bytes]:
        wanted = list(keys)
        found: dict[str, bytes] = {}
        for key, answer in zip(wanted, self._answers(wanted, limit), strict=True):
            if isinstance(answer, (FileNotFoundError, KeyError)):
                continue
            if isinstance(answer, Exception):
                failed = self._failed(key, answer)
                if not _forbidden(answer) or not isinstance(failed, ReadFailed):
                    raise failed from answer
                # Servers that do not list their objects say so of those that are not there.
                self.refusal = failed
                continue
            if len(answer) > limit:
                raise too_long(self.label(key), len(answer), limit)
            found[key] = answer
        return found

    def _answers(self, keys: list[str], limit: int) -> list[bytes | Exception]:
        """Return the bytes of each key, or the error, all asked for at once where that can be."""
        paths = [self._path(key) for key in keys]
        try:
            if getattr(self._fs, "async_impl", False) and len(keys) > 1:
                return list(self._fs.cat_ranges(paths, 0, limit + 1, on_error="return"))
        except Exception as error:
            raise self._failed("", error) from error
        answers: list[bytes | Exception] = []
        for path in paths:
            try:
                answers.append(self._fs.cat_file(path, start=0, end=limit + 1))
            except Exception as error:  # noqa: BLE001 - each file system has its own
                answers.append(error)
        return answers

    def keys(self) -> Iterator[str]:
        try:
            files = sorted(self._fs.find(self._root))
        except Exception:  # noqa: BLE001 - each file system has its own
            # Plain web servers cannot list; what was asked for by name is all there is to tell.
            return
        for file in files:
            if file.startswith(self._root + "/"):
                yield file[len(self._root) + 1 :]

    def close(self) -> None:
        self._closed = True

    def _path(self, key: str) -> str:
        if self._closed:
            raise Closed(f"{self.name}: read after close().")
        name = quote(key) if self._quotes else key
        path = f"{self._root}/{name}" if key else self._root
        return path + self._query

    def _failed(self, key: str, error: Exception) -> Exception:
        if isinstance(error, ImportError):
            return MissingExtra(f"{self.name}: {error}.")
        why = f"{type(error).__name__}: {error}"
        more = ""
        if _forbidden(error):
            more = " Servers that do not list what they hold say the same of what is not there."
        return ReadFailed(f"{self.label(key)}: cannot be fetched ({why}).{more}")
