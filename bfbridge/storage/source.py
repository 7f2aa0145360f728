"""Sources of bytes: a path, a URL, an open binary file, or bytes in memory.

A `Source` names one file or folder and opens it for reads at any offset from any thread. Backends
read through it, so each of them supports all four kinds.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, runtime_checkable
from urllib.parse import unquote

from bfbridge.errors import (
    INSTALL,
    BadArgument,
    BfbridgeError,
    Closed,
    FileChanged,
    FileMissing,
    MissingExtra,
    UnreadableFile,
)
from bfbridge.runtime import forking
from bfbridge.runtime.descriptors import fill_at, read_all
from bfbridge.runtime.systems import encoding_problem, open_failure
from bfbridge.storage.file_object import FileObject
from bfbridge.storage.remote.retries import retried
from bfbridge.storage.remote.url_chain import UrlChain, behind_cache, cached_copy
from bfbridge.storage.stamp import FileStamp

__all__ = ["ProcessFilesystem", "RandomAccess", "Source", "as_source", "fetch", "path_or_url"]

LOCAL_SCHEMES = ("file:/", "local:/")


@runtime_checkable
class RandomAccess(Protocol):
    """An open file that can be read at any offset, from any thread."""

    size: int

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """Return exactly `length` bytes from `offset`; fewer only at the end of the file.

        Raises
        ------
        UnreadableFile
            The file system or the server refuses to read.
        FileChanged
            A local file was changed after it was opened.
        """

    def close(self) -> None:
        """Release the file. May be called twice."""


@dataclass(frozen=True)
class Source:
    """A file, folder, URL, open file or byte string to read from.

    Attributes
    ----------
    name
        Name for messages and suffixes: the path, the URL, or the name given with bytes.
    path
        The local path, or None.
    url
        The fsspec URL, or None.
    data
        The bytes, or None.
    file
        The open binary file, or None. It is not closed by bfbridge, and cannot be pickled.
    storage_options
        Arguments of the fsspec filesystem. They may be credentials: never shown in messages.
    """

    name: str
    path: Path | None = None
    url: str | None = None
    data: bytes | memoryview | None = field(default=None, repr=False)
    file: IO[bytes] | None = field(default=None, repr=False)
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def filename(self) -> str:
        """Last part of the name."""
        if self.path is not None:
            return self.path.name
        name = self.name if self.url is None else UrlChain.of(self.url).link
        return PurePosixPath(name.split("?", 1)[0].rstrip("/")).name

    @property
    def is_local(self) -> bool:
        """Whether this is a path of the local file system."""
        return self.path is not None

    def __reduce__(self) -> tuple[Any, ...]:
        data = None if self.data is None else bytes(self.data)
        return type(self), (
            self.name, self.path, self.url, data, self.file, self.storage_options
        )  # fmt: skip

    def exists(self) -> bool:
        """Return whether there is a file or folder."""
        if self.path is not None:
            return os.path.exists(self.path)
        if self.url is not None:
            try:
                # Not exists(): over HTTP that asks for the whole file.
                filesystem, path = self.located()
                retried(partial(behind_cache(filesystem).info, path), self.name)
            except FileNotFoundError as error:
                self._check_answered(error)
                return False
            except BfbridgeError:
                raise
            except Exception as error:
                raise self._unreachable(error) from error
        return True

    def _check_answered(self, missing: FileNotFoundError) -> None:
        """Raise if a file seems to be missing only because the server did not answer.

        fsspec reports every HTTP failure as a missing file. No answer (OSError), a server error
        (500 and above) or a request for credentials (401) does not mean that; 403 does for some
        servers.
        """
        cause = missing.__cause__
        status = getattr(cause, "status", 0)
        silent = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
        if silent or status in (401, 408, 425, 429) or status >= 500:
            raise self._unreachable(cause) from missing

    def _unreachable(self, why: object) -> UnreadableFile:
        return UnreadableFile(f"{self.name}: cannot be reached ({why}).")

    def is_dir(self) -> bool:
        """Return whether this is a folder."""
        if self.path is not None:
            return self.path.is_dir()
        if self.url is not None:
            return self._url_is_dir()
        return False

    def _url_is_dir(self) -> bool:
        filesystem, path = self.located()
        filesystem = behind_cache(filesystem)
        try:
            info = retried(partial(filesystem.info, path), self.name)
        except FileNotFoundError as error:
            self._check_answered(error)
            return False
        except Exception as error:
            raise self._unreachable(error) from error
        if "mimetype" not in info:
            return bool(info.get("type") == "directory")
        # Over HTTP, isdir() fetches the whole answer to look for links: call it for pages only.
        is_page = str(info["mimetype"]).startswith("text/html")
        return is_page and bool(filesystem.isdir(path))

    def filesystem(self) -> Any:
        """Return the fsspec filesystem of a URL; see `located`."""
        return self.located()[0]

    def located(self) -> tuple[Any, str]:
        """Return the fsspec filesystem of a URL, and the path in it.

        Listings that it keeps of folders above the URL are dropped: they may be old.

        Raises
        ------
        MissingExtra
            fsspec, or the package for this protocol, is not installed.
        BadArgument
            The protocol does not exist, or `storage_options` do not fit it.
        UnreadableFile
            The archive of a chained URL cannot be opened.
        """
        try:
            import fsspec

            filesystem, path = fsspec.core.url_to_fs(self.url, **self.storage_options)
            filesystem.invalidate_cache(path)
            return filesystem, str(path)
        except ImportError as error:
            raise MissingExtra(
                f"{self.name}: reading this URL needs a package that is not installed ({error}). "
                f"Install it with: {INSTALL}"
            ) from error
        except (ValueError, TypeError) as error:
            raise BadArgument(f"{self.name}: no filesystem for this URL ({error}).") from error
        except Exception as error:  # from the filesystem of a chained URL
            raise self._unreachable(error) from error

    def open(self) -> RandomAccess:
        """Open for reading at any offset.

        Raises
        ------
        FileMissing
            The file does not exist.
        UnreadableFile
            It is a folder, or cannot be read.
        """
        if self.path is not None:
            return _open_path(self.path)
        if self.url is not None:
            return self._open_url()
        if self.data is not None:
            return _Bytes(self.data)
        if self.file is None:
            raise BadArgument(f"{self.name}: this source has nothing to read from.")
        return FileObject(self.file, self.name)

    def _open_url(self) -> RandomAccess:
        try:
            copy = cached_copy(*self.located())
        except FileNotFoundError as error:
            raise FileMissing(f"{self.name}: no such file.") from error
        except BfbridgeError:
            raise
        except Exception as error:
            raise self._unreachable(error) from error
        return _RemoteFile(self) if copy is None else _open_path(Path(copy))

    def head(self, length: int = 4096) -> bytes:
        """Return the first bytes of the file; empty for a folder."""
        if self.is_dir():
            return b""
        access = self.open()
        try:
            return bytes(access.read_at(0, min(length, access.size)))
        finally:
            access.close()

    def sibling(self, name: str) -> Source:
        """Return the source named `name` relative to this one's folder.

        Raises
        ------
        FileMissing
            Bytes and open files have no folder.
        """
        if self.path is not None:
            # Always a path, also if the name looks like a URL.
            path = self.path.parent / name
            return Source(name=str(path), path=path)
        if self.url is not None:
            url = UrlChain.of(self.url).beside(name)
            return Source(name=url, url=url, storage_options=self.storage_options)
        raise FileMissing(
            f"{self.name}: it names a companion file, {name!r}, but was given as bytes or an open "
            "file, which have no folder. Open it by path or URL."
        )

    def child(self, name: str) -> Source:
        """Return the source named `name` inside this folder."""
        if self.path is not None:
            return Source(name=str(self.path / name), path=self.path / name)
        if self.url is not None:
            url = UrlChain.of(self.url).inside(name)
            return Source(name=url, url=url, storage_options=self.storage_options)
        raise BadArgument(f"{self.name}: bytes and open files have no folders inside.")


def path_or_url(target: str | os.PathLike[str]) -> Path | str:
    """Return the path or URL that a user gave: a local path, or the text of a URL.

    Every path and URL that a caller passes goes through this function. ``~`` and ``~user`` are
    expanded. A ``file:`` URL is a local path with percent-encoded characters (RFC 8089), and so is
    fsspec's ``local://``. A file whose name contains such codes literally is found too, because
    fsspec does not encode them.

    Parameters
    ----------
    target
        A path, or a URL that fsspec understands.

    Raises
    ------
    BadArgument
        `target` is empty, no path, has a NUL character, or cannot be encoded as a file name.
    """
    try:
        text = os.fspath(target)
        if not isinstance(text, str):
            raise TypeError
    except TypeError:
        raise BadArgument(
            f"cannot use {type(target).__name__} as a path; give a path or a URL."
        ) from None
    if not text:
        raise BadArgument("the path is empty; give the path or URL of an image.")
    is_local_url = text.lower().startswith(LOCAL_SCHEMES) and "::" not in text
    if not is_local_url and ("://" in text or "::" in text):
        return text
    if "\0" in text:
        raise BadArgument(f"{text!r}: a path cannot hold a NUL character.")
    if (problem := encoding_problem(text)) is not None:
        raise BadArgument(problem)
    if is_local_url:
        return _path_of_url(text)
    path = Path(text)
    with contextlib.suppress(RuntimeError):  # no such user: "~" is part of the name
        path = path.expanduser()
    return path


def _path_of_url(url: str) -> Path:
    """Return the local path of a ``file:`` or ``local:`` URL."""
    rest = url.partition(":")[2]
    if rest.startswith("//"):
        rest = rest[2:]
        if rest.lower().startswith("localhost/"):
            rest = rest[len("localhost") :]
    if not rest.strip("/"):
        raise BadArgument(f"{url!r} names no file; give its path: file:///folder/name.")
    if os.name == "nt" and re.match(r"/[A-Za-z]:", rest):
        rest = rest[1:]
    decoded = unquote(rest, errors="surrogateescape")
    if "\0" in decoded:
        raise BadArgument(f"{url!r}: a path cannot hold a NUL character.")
    literal = decoded != rest and not os.path.lexists(decoded) and os.path.lexists(rest)
    return Path(rest if literal else decoded)


def as_source(
    target: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Source,
    storage_options: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Source:
    """Make a `Source` from any input that `BioReader` accepts.

    Parameters
    ----------
    target
        A path or URL as `path_or_url` takes it, bytes, or an open binary file with ``seek``.
    storage_options
        Arguments of the fsspec filesystem of a URL.
    name
        For bytes and files without a name: a file name whose suffix suggests the format.

    Raises
    ------
    BadArgument
        `target` is none of these.
    """
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise BadArgument(
            f"storage_options={storage_options!r}: give a mapping of names to values."
        )
    if isinstance(target, Source):
        return target
    if isinstance(target, (bytes, bytearray, memoryview)):
        return Source(name=name or "<bytes>", data=memoryview(target).toreadonly().cast("B"))
    if isinstance(target, (str, os.PathLike)):
        place = path_or_url(target)
        if isinstance(place, str):
            return Source(name=place, url=place, storage_options=dict(storage_options or {}))
        return Source(name=str(place), path=place)
    if hasattr(target, "read") and hasattr(target, "seek"):
        shown = name or getattr(target, "name", None) or "<open file>"
        return Source(name=str(shown), file=target)
    raise BadArgument(
        f"cannot read from {type(target).__name__}; give a path, a URL, bytes, or an open binary "
        "file."
    )


def fetch(
    access: RandomAccess, offset: int, length: int, memory: memoryview | None = None
) -> bytes | memoryview:
    """Return `length` bytes from `offset`; fewer only at the end of the file.

    Parameters
    ----------
    access, offset, length
        Where to read, and how many bytes.
    memory
        A buffer of at least `length` bytes. It is filled and returned if that saves a copy: new
        memory costs a page fault every 4 KiB.
    """
    if memory is not None and isinstance(access, _LocalFile) and hasattr(os, "preadv"):
        return memory[: access.read_into(offset, memory[:length])]
    return access.read_at(offset, length)


def _open_path(path: Path) -> RandomAccess:
    try:
        return _LocalFile(path)
    except FileNotFoundError as error:
        raise FileMissing(f"{path}: no such file.") from error
    except IsADirectoryError as error:
        raise UnreadableFile(f"{path}: this is a folder, not a file.") from error
    except UnreadableFile:
        raise
    except OSError as error:
        raise UnreadableFile(f"{path}: cannot be opened ({error.strerror or error}).") from error


class _LocalFile:
    """A file descriptor read with pread, so that threads need no lock.

    Attributes
    ----------
    size
        Size in bytes.
    stamp
        Stamp of the file when it was opened; each read compares the file with it.
    """

    def __init__(self, path: Path) -> None:
        self._name = str(path)
        self._lock = forking.lock()
        self._seek_lock = forking.lock()
        self._readers = 0
        self._closed = False
        forking.in_child(self._forget_others)
        # Opening a pipe would block until another process writes to it.
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            self._fd = os.open(path, flags)
        except OSError as error:
            raise open_failure(path, error) from None
        try:
            if os.path.isdir(path):
                raise IsADirectoryError(path)
            status = os.fstat(self._fd)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableFile(
                    f"{path}: this is a pipe, device or socket, not a file. Copy its content to a "
                    "file, or pass the bytes."
                )
            self.stamp = FileStamp.of_status(status)
            self.size = status.st_size
        except BaseException:
            # Once only: the number may belong to another file when __del__ runs.
            self.close()
            raise

    def _forget_others(self) -> None:
        # Reads of other threads of the parent never end in the child.
        self._readers = 0

    def fileno(self) -> int:
        """Return the descriptor, for `bfbridge.runtime.descriptors.fill_at` and for memory maps."""
        return self._fd

    def read_at(self, offset: int, length: int) -> bytes:
        with self._reading(offset, length):
            return self._read_all(offset, length)

    def read_into(self, offset: int, memory: memoryview) -> int:
        """Fill `memory` with the bytes from `offset`; return how many bytes were read."""
        with self._reading(offset, len(memory)):
            return fill_at(self._fd, memory, offset)

    @contextlib.contextmanager
    def _reading(self, offset: int, length: int) -> Iterator[None]:
        """Keep the descriptor open, check the stamp, and name the bytes in errors."""
        with self._lock:
            if self._closed:
                raise Closed(f"{self._name}: read after close().")
            self._readers += 1
        try:
            yield
            self.stamp.check(self._fd, self._name)
        except FileChanged:
            raise
        except OSError as error:
            raise UnreadableFile(
                f"{self._name}: bytes {offset}-{offset + length} cannot be read "
                f"({error.strerror or error})."
            ) from error
        finally:
            with self._lock:
                self._readers -= 1
                self._close_unused()

    def _read_all(self, offset: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            return read_all(self._fd, length, offset)
        with self._seek_lock:
            return read_all(self._fd, length, offset)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._close_unused()

    def _close_unused(self) -> None:
        # Not during a read of another thread: the number may be reused for another file at once.
        if self._closed and not self._readers and self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


class _Bytes:
    """Bytes in memory."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._view = memoryview(data)
        self.size = self._view.nbytes

    def read_at(self, offset: int, length: int) -> memoryview:
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Do nothing: the bytes belong to the caller."""


class ProcessFilesystem:
    """The fsspec filesystem of a URL; a forked child gets a new one.

    fsspec filesystems answer requests on a thread, which a child does not have.

    `path` is that of the URL in the filesystem.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._made, self.path = source.located()
        forking.in_child(self._forget)

    def _forget(self) -> None:
        self._made = None

    @property
    def here(self) -> Any:
        """Return the filesystem for this process."""
        if self._made is None:
            self._made = self._source.filesystem()
        return self._made


class _RemoteFile:
    """A URL read by byte ranges through fsspec, one request per call."""

    def __init__(self, source: Source) -> None:
        self._name = source.name
        self._filesystem = ProcessFilesystem(source)
        self._path = self._filesystem.path
        try:
            size = retried(lambda: self._filesystem.here.size(self._path), source.name)
        except FileNotFoundError as error:
            raise FileMissing(f"{source.name}: no such file.") from error
        except Exception as error:
            raise UnreadableFile(f"{source.name}: cannot be reached ({error}).") from error
        if size is None:
            raise UnreadableFile(
                f"{source.name}: the server does not report the size of the file, so parts of it "
                "cannot be requested. Download it first."
            )
        self.size = int(size)

    def read_at(self, offset: int, length: int) -> bytes:
        end = min(offset + length, self.size)
        if end <= offset:
            return b""
        data = self._fetch(offset, end)
        while len(data) < end - offset:
            part = self._fetch(offset + len(data), end)
            if not part:
                raise UnreadableFile(
                    f"{self._name}: the server reports a size of {self.size:,} bytes, but returns "
                    f"no bytes from {offset + len(data):,} on. Try again, or download the file "
                    "first."
                )
            data += part
        return data

    def _fetch(self, start: int, end: int) -> bytes:
        """Request the bytes from `start` to `end`; a server may return fewer."""
        try:
            data: bytes = retried(
                lambda: self._filesystem.here.cat_file(self._path, start=start, end=end), self._name
            )
        except Exception as error:
            raise UnreadableFile(
                f"{self._name}: bytes {start}-{end} cannot be read ({error})."
            ) from error
        if len(data) > end - start:
            raise UnreadableFile(
                f"{self._name}: the server ignores byte ranges; download the file first."
            )
        return data

    def close(self) -> None:
        """Do nothing: requests are independent of each other."""
