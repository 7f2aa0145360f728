"""An open file: backend, cache and workers, shared by all views. Pickling stores how to open it."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from bfbridge import registry
from bfbridge.backend import OpenOptions, ReaderBackend
from bfbridge.engine.workers import worker_count
from bfbridge.errors import BadArgument, BfbridgeError, Closed, OutOfMemory, UnreadableFile
from bfbridge.runtime import finalizers, forking
from bfbridge.runtime.cached_property import cached_property
from bfbridge.storage.source import Source

__all__ = ["OpenFile"]

Array = np.ndarray[Any, Any]
T = TypeVar("T")
PORTABLE = ("st_size", "st_mtime_ns")
"""Attributes of a file that show a change and are equal on all machines of a cluster."""
LOCAL = (*PORTABLE, "st_ino", "st_ctime_ns")
"""Attributes of a file that show any change, on one machine."""


class _State:
    """State that changes while a file is open."""

    def __init__(self) -> None:
        self.lock = forking.lock()
        self.backend: ReaderBackend | None = None
        self.finalizer: weakref.finalize[Any, Any] | None = None
        self.reason = ""
        self.closed = False
        self.known: dict[Hashable, Any] = {}
        # Unlike an id or a counter, unique in all processes that may share the cache.
        self.name = os.urandom(16).hex()
        # Stamp of a file whose chunks are shared, taken when it was opened.
        self.content: str | None = None


@dataclass(frozen=True)
class OpenFile:
    """A file with its backend, cache and worker count; shared by all views of it.

    A pickled copy stores how to open the file. Another process opens it on first use, once for all
    copies.

    Attributes
    ----------
    shared
        Whether other readers may use the same cache.
    """

    source: Source
    options: OpenOptions
    backend_name: str | None = None
    cache: MutableMapping[Hashable, Array] | None = None
    shared: bool = False
    _state: _State = field(default_factory=_State, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source.file is not None:
            raise BadArgument(
                f"{self.source.name}: a reader of an open file cannot be pickled; open the image "
                "by path or URL instead."
            )
        # A plain dict would be pickled with all its chunks.
        cache = {} if type(self.cache) is dict else self.cache
        return _reopen, (self.source, self.options, self.backend_name, cache, self.shared)

    def again(self) -> OpenFile:
        """Return this file if it is open; otherwise the same file, opened again."""
        if not self.closed:
            return self
        return _reopen(self.source, self.options, self.backend_name, self.cache, self.shared)

    @property
    def backend(self) -> ReaderBackend:
        """The open backend.

        Raises
        ------
        Closed
            After `close`.
        """
        state = self._state
        opened = state.backend  # read once: `close` in another thread may remove it
        if opened is None:
            with state.lock:
                if state.closed:
                    raise Closed(f"{self.source.name}: the reader is closed.")
                if state.backend is None:
                    before = _place(self.source)
                    state.backend, state.reason = registry.open_reader(
                        self.source, self.options, self.backend_name
                    )
                    state.finalizer = finalizers.finalize(self, state.backend.close)
                    # The content of a URL may change without notice, and so may a file while it is
                    # being opened: such readers share no chunks.
                    known = self.shared and self.source.path is not None
                    if known and _place(self.source) == before:
                        state.content = self._digest(LOCAL)
                opened = state.backend
        return opened

    @contextmanager
    def reading(self, what: str) -> Iterator[ReaderBackend]:
        """Yield the open backend; convert errors in the ``with`` block to bfbridge's errors.

        Parameters
        ----------
        what
            What is read, for the message.

        Raises
        ------
        OutOfMemory
            Not enough memory.
        UnreadableFile
            The backend raised an error that is not a `BfbridgeError`.
        """
        backend = self.backend
        try:
            yield backend
        except BfbridgeError:
            raise
        except MemoryError as error:
            raise OutOfMemory(
                f"{self.source.name}: memory ran out while its {what} was read."
            ) from error
        except Exception as error:
            raise UnreadableFile(
                f"{self.source.name}: its {what} cannot be read: the {backend.name} backend failed "
                f"with {type(error).__name__}: {error}. Please report this as a fault of bfbridge."
            ) from error

    @property
    def reason(self) -> str:
        """Why this backend was chosen."""
        _ = self.backend
        return self._state.reason

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key; it is computed on first use and kept while the file is open.

        The value must not refer to this file: such a reference would prevent its release.
        """
        known = self._state.known
        if key not in known:
            # Threads that compute it at the same time all return the same value.
            known.setdefault(key, make())
        found: T = known[key]
        return found

    @property
    def workers(self) -> int:
        """Number of threads that read: as requested, or as many as make reading faster."""
        options, backend = self.options, self._state.backend
        if options.workers_chosen or backend is None or not backend.waits:
            return options.max_workers
        return worker_count(None, waits=True)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._state.closed

    def release(self) -> bool:
        """Close the files until `resume`, if the backend can; see `ReaderBackend.release`."""
        backend = self._state.backend
        return backend is not None and backend.release()

    def resume(self) -> bool:
        """Open the files again; return False if one may have changed since `release`."""
        backend = self._state.backend
        return backend is not None and backend.resume()

    def close(self) -> None:
        """Release the file. May be called twice."""
        with self._state.lock:
            self._state.closed = True
            backend, self._state.backend = self._state.backend, None
            if self._state.finalizer is not None:
                self._state.finalizer.detach()
        if self.cache is not None and not self.shared:
            # The reader may be kept, or be part of a cycle that Python collects much later.
            self.cache.clear()
        if backend is not None:
            backend.close()

    @cached_property
    def token(self) -> Hashable:
        """Key that identifies this file's chunks in its cache."""
        options = self.options
        backend = self.backend  # opening the file fixes its stamp
        return (
            self._state.content or self._state.name,
            # Another backend or other options may give other chunks or other pixels.
            backend.name,
            options.group_files,
            options.allow_outside,
            repr(options.backend_options),
        )

    @cached_property
    def stamp(self) -> Hashable:
        """Key that identifies the current content of the file, equal in every process.

        For local files: path, size and modification time of all files that are read. For a URL: the
        URL. None for bytes and open files.
        """
        return _place(self.source) if self.source.path is None else self._digest(PORTABLE)

    def _digest(self, names: tuple[str, ...]) -> str:
        """Return a digest of all local files that are read: there may be thousands."""
        files = [os.fspath(self.source.path or ""), *self.backend.used_files]
        paths = dict.fromkeys(os.path.abspath(path) for path in files)
        attributes = [(path, *_attributes(path, names)) for path in paths]
        import hashlib

        return hashlib.sha256(repr(attributes).encode("utf-8", "surrogatepass")).hexdigest()


def _attributes(path: str, names: tuple[str, ...]) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError:  # a name without a file, such as a .fake
        return ()
    return tuple(getattr(stat, name) for name in names)


def _place(source: Source) -> Hashable:
    """Return place and content key of a source; None for bytes and open files."""
    if source.path is not None:
        path = os.path.abspath(source.path)
        return (path, *_attributes(path, LOCAL))
    if source.url is not None:
        # A digest, because other processes may see the key, and it must not show credentials.
        options = repr(sorted(source.storage_options.items())).encode()
        import hashlib

        return (source.url, hashlib.sha256(options).hexdigest())
    return None


_reopened: weakref.WeakValueDictionary[Hashable, OpenFile] = weakref.WeakValueDictionary()
_reopened_lock = forking.lock()


def _reopen(
    source: Source,
    options: OpenOptions,
    backend_name: str | None,
    cache: MutableMapping[Hashable, Array] | None,
    shared: bool,
) -> OpenFile:
    """Return this process's open file for a pickled recipe."""
    place = _place(source)
    key = None if place is None else (place, backend_name, repr(options))
    with _reopened_lock:
        known = None if key is None else _reopened.get(key)
        if known is not None and not known.closed:
            return known
        file = OpenFile(source, options, backend_name, cache, shared)
        if key is not None:
            _reopened[key] = file
        return file
