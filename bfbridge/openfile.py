"""An open file: its backend, cache and workers, shared by all views of it; pickled, a recipe."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Hashable, MutableMapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from bfbridge import registry
from bfbridge.backend import OpenOptions, ReaderBackend
from bfbridge.errors import BadArgument, Closed
from bfbridge.source import Source
from bfbridge.tiles import worker_count

__all__ = ["OpenFile"]

Array = np.ndarray[Any, Any]

_numbers = itertools.count()


class _State:
    """What changes while a file is open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.backend: ReaderBackend | None = None
        self.reason = ""
        self.closed = False
        # Unlike an id, never given to another file while a shared cache still has our chunks.
        self.number = next(_numbers)


@dataclass(frozen=True)
class OpenFile:
    """A file with its backend, cache and worker count; shared by all views of it.

    Pickled, it is a recipe: the other process opens the file anew on first use, once for every
    copy of the same recipe.
    """

    source: Source
    options: OpenOptions
    backend_name: str | None = None
    cache: MutableMapping[Hashable, Array] | None = None
    _state: _State = field(default_factory=_State, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.source.file is not None:
            raise BadArgument(
                f"{self.source.name}: a reader of an open file cannot be pickled; open the image "
                "by path or URL instead."
            )
        # A plain dict would travel with all the chunks in it.
        cache = {} if type(self.cache) is dict else self.cache
        return _reopen, (self.source, self.options, self.backend_name, cache)

    def again(self) -> OpenFile:
        """Return this file while it is open, and after `close` the same file opened once more."""
        if not self.closed:
            return self
        return _reopen(self.source, self.options, self.backend_name, self.cache)

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
                    state.backend, state.reason = registry.open_reader(
                        self.source, self.options, self.backend_name
                    )
                    # Not at exit: Java ends its readers itself, after threads that still read.
                    weakref.finalize(self, state.backend.close).atexit = False
                opened = state.backend
        return opened

    @property
    def reason(self) -> str:
        """Why this backend reads the file."""
        _ = self.backend
        return self._state.reason

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
        if backend is not None:
            backend.close()

    @cached_property
    def token(self) -> Hashable:
        """What tells this file's chunks from others in a shared cache."""
        options = self.options
        return (
            self._state.number if (stamp := _stamp(self.source)) is None else stamp,
            # Another backend, or other options, may cut other chunks or find other pixels.
            self.backend.name,
            options.group_files,
            options.allow_outside,
            repr(options.backend_options),
        )


def _stamp(source: Source) -> Hashable:
    """What tells a file's present content from an older one; None for bytes and open files."""
    if source.path is not None and source.path.exists():
        stat = os.stat(source.path)
        times = stat.st_mtime_ns, stat.st_ctime_ns
        return (str(source.path.resolve()), stat.st_ino, *times, stat.st_size)
    if source.path is not None:
        return str(source.path)
    if source.url is not None:
        import hashlib

        # A digest: credentials are no part of a key that other processes may see.
        options = repr(sorted(source.storage_options.items())).encode()
        return (source.url, hashlib.sha256(options).hexdigest())
    return None


_reopened: weakref.WeakValueDictionary[Hashable, OpenFile] = weakref.WeakValueDictionary()
_reopened_lock = threading.Lock()


def _reopen(
    source: Source,
    options: OpenOptions,
    backend_name: str | None,
    cache: MutableMapping[Hashable, Array] | None,
) -> OpenFile:
    """Return this process's open file for a pickled recipe."""
    stamp = _stamp(source)
    key = None if stamp is None else (stamp, backend_name, repr(options))
    with _reopened_lock:
        known = None if key is None else _reopened.get(key)
        if known is not None and not known.closed:
            return known
        file = OpenFile(source, options, backend_name, cache)
        if key is not None:
            _reopened[key] = file
        return file
