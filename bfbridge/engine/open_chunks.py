"""Chunks that are being assembled: one record for each, used by one thread at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from bfbridge.runtime import forking

__all__ = ["OpenChunk", "OpenChunks"]

Array = np.ndarray[Any, Any]
Index = TypeVar("Index", bound=Hashable)


class OpenChunk:
    """A chunk with pixels that are missing.

    Attributes
    ----------
    lock
        Held by the thread that uses the record.
    array
        The pixels; None before the first write.
    written
        True for the pixels that were written; None if that is all of them.
    gone
        Whether the chunk is finished, and its record no longer used.
    """

    __slots__ = ("array", "gone", "lock", "written")

    def __init__(self) -> None:
        self.lock = forking.lock()
        self.array: Array | None = None
        self.written: Array | None = None
        self.gone = False

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the chunk uses."""
        array, written = self.array, self.written
        return (0 if array is None else array.nbytes) + (0 if written is None else written.nbytes)


Chunk = TypeVar("Chunk", bound=OpenChunk)


class OpenChunks(Generic[Index, Chunk]):
    """The records of open chunks, by the index of the chunk.

    Parameters
    ----------
    new
        Makes a record.
    """

    def __init__(self, new: Callable[[], Chunk]) -> None:
        self._new = new
        self._lock = forking.lock()
        self._records: dict[Index, Chunk] = {}

    def claim(self, index: Index) -> Chunk:
        """Return the record of a chunk, with its lock held; a new one if there is none."""
        while True:
            with self._lock:
                chunk = self._records.get(index)
                if chunk is None:
                    chunk = self._records[index] = self._new()
            chunk.lock.acquire()
            if not chunk.gone:
                return chunk
            chunk.lock.release()

    def claim_closed(self, indices: Sequence[Index]) -> Chunk | None:
        """Return one record for chunks of which none is open, with its lock held; else None."""
        chunk = self._new()
        chunk.lock.acquire()
        with self._lock:
            if not self._records.keys().isdisjoint(indices):
                return None
            self._records.update(dict.fromkeys(indices, chunk))
        return chunk

    def remove(self, indices: Sequence[Index], chunk: Chunk) -> None:
        """Remove the record of finished chunks; the caller holds its lock."""
        chunk.gone = True
        chunk.array = chunk.written = None
        with self._lock:
            for index in indices:
                del self._records[index]

    def indices(self) -> list[Index]:
        """Return the indices of the open chunks."""
        with self._lock:
            return list(self._records)
