"""A cache of decoded chunks, limited in bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from bfbridge.runtime import forking
from bfbridge.runtime.interrupts import deferred

__all__ = ["ChunkCache"]

MET_CHUNKS = 1024
Array = np.ndarray[Any, Any]


class ChunkCache(MutableMapping[Hashable, Array]):
    """Decoded chunks; beyond `max_bytes` the least recently used are removed. Thread-safe.

    Parameters
    ----------
    max_bytes
        Maximum number of bytes of pixels.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._lock = forking.lock()
        self._chunks: OrderedDict[Hashable, Array] = OrderedDict()
        self._met: OrderedDict[Hashable, None] = OrderedDict()
        self._coming: dict[Hashable, threading.Event] = {}
        forking.in_child(self._recount)

    def _recount(self) -> None:
        # Another thread of the parent may have been between changing the chunks and the sum.
        self.nbytes = sum(chunk.nbytes for chunk in self._chunks.values())
        # Chunks that other threads of the parent were decoding never arrive in the child.
        self._coming.clear()

    def met(self, key: Hashable) -> bool:
        """Record that a chunk is requested; return whether it was requested before, recently."""
        with self._lock:
            before = key in self._met
            self._met[key] = None
            self._met.move_to_end(key)
            if len(self._met) > MET_CHUNKS:
                self._met.popitem(last=False)
            return before

    @contextmanager
    def fetching(self, key: Hashable) -> Iterator[None]:
        """Let one thread at a time decode a chunk; others that need the same chunk wait here.

        The caller then checks the cache again. If the first thread failed, or the chunk was evicted
        already, each waiting thread decodes it.
        """
        with self._lock:
            coming = self._coming.get(key)
            if coming is None:
                mine = self._coming[key] = threading.Event()
        if coming is not None:
            coming.wait()
            yield
            return
        try:
            yield
        finally:
            with self._lock:
                del self._coming[key]
            mine.set()

    def __getitem__(self, key: Hashable) -> Array:
        with self._lock:
            chunk = self._chunks[key]
            self._chunks.move_to_end(key)
            return chunk

    def __setitem__(self, key: Hashable, chunk: Array) -> None:
        with deferred(), self._lock:
            old = self._chunks.pop(key, None)
            self.nbytes += chunk.nbytes - (0 if old is None else old.nbytes)
            self._chunks[key] = chunk
            while self.nbytes > self.max_bytes and self._chunks:
                self.nbytes -= self._chunks.popitem(last=False)[1].nbytes

    def __delitem__(self, key: Hashable) -> None:
        with deferred(), self._lock:
            self.nbytes -= self._chunks.pop(key).nbytes

    def clear(self) -> None:
        """Remove all chunks."""
        with deferred(), self._lock:
            self._chunks.clear()
            self.nbytes = 0

    def __iter__(self) -> Iterator[Hashable]:
        with self._lock:
            return iter(list(self._chunks))

    def __len__(self) -> int:
        return len(self._chunks)

    def __reduce__(self) -> tuple[type[ChunkCache], tuple[int]]:
        return type(self), (self.max_bytes,)
