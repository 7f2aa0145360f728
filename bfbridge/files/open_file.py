"""An open file: its backend, cache and workers, shared by all views of it; pickled, a recipe."""

from __future__ import annotations

import hashlib
import os
import uuid
import weakref
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from bfbridge import registry
from bfbridge.backend import OpenOptions, ReaderBackend
from bfbridge.engine.workers import worker_count
from bfbridge.errors import BadArgument, BfbridgeError, Closed, OutOfMemory, UnreadableFile
from bfbridge.runtime import finalizers, forking
from bfbridge.storage.source import Source

__all__ = ["OpenFile"]

Array = np.ndarray[Any, Any]
T = TypeVar("T")
ANYWHERE = ("st_size", "st_mtime_ns")
"""What tells a changed file, alike on every machine of a cluster."""
HERE = (*ANYWHERE, "st_ino", "st_ctime_ns")
"""What tells it beyond doubt, on one machine."""


class _State:
    """What changes while a file is open."""

    def __init__(self) -> None:
        self.lock = forking.lock()
        self.backend: ReaderBackend | None = None
        self.finalizer: weakref.finalize[Any, Any] | None = None
        self.reason = ""
        self.closed = False
        self.known: dict[Hashable, Any] = {}
        # Unlike an id or a count, never another file's, in whatever process a shared cache is met.
        self.name = uuid.uuid4().hex
        # Of a file whose chunks are shared: what it held when it was opened.
        self.content: str | None = None


@dataclass(frozen=True)
class OpenFile:
    """A file with its backend, cache and worker count; shared by all views of it.

    Pickled, it is a recipe: the other process opens the file anew on first use, once for every
    copy of the same recipe.

    Attributes
    ----------
    shared
        Whether other readers may have the same cache.
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
        # A plain dict would travel with all the chunks in it.
        cache = {} if type(self.cache) is dict else self.cache
        return _reopen, (self.source, self.options, self.backend_name, cache, self.shared)

    def again(self) -> OpenFile:
        """Return this file while it is open, and after `close` the same file opened once more."""
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
        opened = state.backend  # read once: `close` on another thread takes it away
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
                    # What a URL holds may change unseen: readers of one share no chunks, nor
                    # do those of a file that was replaced while it was opened.
                    known = self.shared and self.source.path is not None
                    if known and _place(self.source) == before:
                        state.content = self._digest(HERE)
                opened = state.backend
        return opened

    @contextmanager
    def asked_for(self, what: str) -> Iterator[ReaderBackend]:
        """Give the open backend to a ``with`` block; what goes wrong in there is an error of ours.

        Parameters
        ----------
        what
            Is asked of the backend, for the message.

        Raises
        ------
        OutOfMemory
            Memory ran out.
        UnreadableFile
            The backend failed in another way than it should.
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
        """Why this backend reads the file."""
        _ = self.backend
        return self._state.reason

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value for a key, computing it on first use; kept as long as the file is open.

        The value must not refer to this file, which could then not be released.
        """
        known = self._state.known
        if key not in known:
            # Threads that compute it at the same time get the same value.
            known.setdefault(key, make())
        found: T = known[key]
        return found

    @property
    def workers(self) -> int:
        """Threads that read at once: as many as were asked for, or as pay."""
        options, backend = self.options, self._state.backend
        if options.workers_chosen or backend is None or not backend.waits:
            return options.max_workers
        return worker_count(None, waits=True)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._state.closed

    def close(self) -> None:
        """Release the file. May be called twice."""
        with self._state.lock:
            self._state.closed = True
            backend, self._state.backend = self._state.backend, None
            if self._state.finalizer is not None:
                self._state.finalizer.detach()
        if backend is not None:
            backend.close()

    @cached_property
    def token(self) -> Hashable:
        """What tells this file's chunks from others in its cache."""
        options = self.options
        backend = self.backend  # opened first: that settles the content
        return (
            self._state.content or self._state.name,
            # Another backend, or other options, may cut other chunks or find other pixels.
            backend.name,
            options.group_files,
            options.allow_outside,
            repr(options.backend_options),
        )

    @cached_property
    def stamp(self) -> Hashable:
        """What tells a file's present content from an older one, alike in every process.

        Of local files, all that are read, by size and time of modification; of a URL, that alone;
        None for bytes and open files.
        """
        return _place(self.source) if self.source.path is None else self._digest(ANYWHERE)

    def _digest(self, names: tuple[str, ...]) -> str:
        """Sum up all local files that are read: there may be thousands."""
        files = [os.fspath(self.source.path or ""), *self.backend.used_files]
        paths = dict.fromkeys(os.path.abspath(path) for path in files)
        told = [(path, *_told(path, names)) for path in paths]
        return hashlib.sha256(repr(told).encode("utf-8", "surrogatepass")).hexdigest()


def _told(path: str, names: tuple[str, ...]) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError:  # a name that stands for no file, such as a .fake
        return ()
    return tuple(getattr(stat, name) for name in names)


def _place(source: Source) -> Hashable:
    """Where a file is and what tells its present content; None for bytes and open files."""
    if source.path is not None:
        path = os.path.abspath(source.path)
        return (path, *_told(path, HERE))
    if source.url is not None:
        # A digest: credentials are no part of a key that other processes may see.
        options = repr(sorted(source.storage_options.items())).encode()
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
