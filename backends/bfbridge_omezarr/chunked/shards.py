"""Shards being written: chunks are appended when they arrive, the index after the last one.

A chunk is written to the shard's temporary file at once, so that unfinished shards use memory only
for their index. The temporary file is renamed after every chunk of the level in the shard was
written, or at the end. Format: Zarr version 3, codec ``sharding_indexed``, index at the end.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.errors import ReadFailed, WriteFailed
from bfbridge.runtime import forking
from bfbridge.runtime.descriptors import write_all
from bfbridge_omezarr.chunked.codecs import crc32c
from bfbridge_omezarr.hierarchy.files import write_failed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bfbridge_omezarr.hierarchy.files import KeyTree

__all__ = ["Shards"]

_ABSENT: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
_OPEN_FILES: Final = 64


class _Shard:
    """One shard: the position of each chunk in its temporary file."""

    def __init__(self, key: str, grid: tuple[int, ...], expected: int, temporary: str) -> None:
        self.key = key
        self.table = np.full((*grid, 2), _ABSENT, "<u8")
        self.done = np.zeros(grid, np.bool_)
        self.expected = expected
        self.temporary = temporary
        self.end = 0
        self.writing = 0
        self.fd: int | None = None
        self.created = False
        self.closed = False
        self.lock = forking.lock()

    @property
    def complete(self) -> bool:
        """Whether every chunk was written and no write is running."""
        return self.writing == 0 and int(np.count_nonzero(self.done)) == self.expected


class Shards:
    """All shards of one level.

    Parameters
    ----------
    files
        Where they are written.
    prefix
        Key of the array with the part before the grid position ("0/c/").
    grid
        Chunks per shard along each axis.
    chunks
        Chunks of the level along each axis.
    whole_only
        Whether other processes write shards of the same level. Each shard must then be written
        completely, and replaces an existing one.
    """

    def __init__(
        self,
        files: KeyTree,
        prefix: str,
        grid: tuple[int, ...],
        chunks: tuple[int, ...],
        whole_only: bool = False,
    ) -> None:
        self._files = files
        self._prefix = prefix
        self._grid = grid
        self._chunks = chunks
        self._whole_only = whole_only
        self._open: dict[tuple[int, ...], _Shard] = {}
        self._lock = forking.lock()
        self._descriptors = 0

    def write(self, index: Sequence[int], data: Any | None) -> None:
        """Store a chunk's bytes; None for a chunk of fill values, which is not stored.

        Raises
        ------
        WriteFailed
            The file system refuses.
        """
        inner = self._inner(index)
        try:
            shard = self._begin(index)
        except OSError as error:
            raise write_failed(self._files.path(self._key(index)), error) from error
        try:
            if data is not None:
                self._append(shard, inner, data)
            with shard.lock:
                if data is None:
                    shard.table[inner] = _ABSENT
                shard.done[inner] = True
        except OSError as error:
            raise write_failed(self._files.path(shard.key), error) from error
        finally:
            self._end(index, shard)

    def write_many(self, chunks: Sequence[tuple[tuple[int, ...], bytes | None]]) -> None:
        """Store the bytes of several chunks, as `write` does, with one write for each shard."""
        shards: dict[tuple[int, ...], list[tuple[tuple[int, ...], bytes | None]]] = {}
        for index, data in chunks:
            shards.setdefault(self._outer(index), []).append((index, data))
        for found in shards.values():
            first = found[0][0]
            try:
                shard = self._begin(first)
            except OSError as error:
                raise write_failed(self._files.path(self._key(first)), error) from error
            try:
                self._append_many(shard, found)
            except OSError as error:
                raise write_failed(self._files.path(shard.key), error) from error
            finally:
                self._end(first, shard)

    def _append_many(
        self, shard: _Shard, chunks: Sequence[tuple[tuple[int, ...], bytes | None]]
    ) -> None:
        joined = b"".join(data for _, data in chunks if data is not None)
        offset = self._put(shard, joined) if joined else 0
        with shard.lock:
            for index, data in chunks:
                inner = self._inner(index)
                shard.table[inner] = _ABSENT if data is None else (offset, len(data))
                shard.done[inner] = True
                offset += 0 if data is None else len(data)

    def read(self, index: Sequence[int]) -> bytes | None:
        """Return a chunk's bytes, or None if it was not written or has only fill values."""
        outer, inner = self._outer(index), self._inner(index)
        path = self._files.path(self._key(index))
        try:
            while True:
                with self._lock:
                    shard = self._open.get(outer)
                    if shard is None:
                        # Under the lock, so that no other thread reopens the file meanwhile.
                        key = self._key(index)
                        table = self._stored_table(key)
                        return None if table is None else self._read_stored(key, table[inner])
                with shard.lock:
                    if not shard.closed:
                        return _read_part(shard.temporary, shard.table[inner])
        except ReadFailed:
            raise
        except OSError as error:
            raise ReadFailed(f"{path}: cannot be read back ({error.strerror or error}).") from error

    def finish(self) -> None:
        """Complete every shard; chunks never written are marked as absent.

        Raises
        ------
        WriteFailed
            The file system refuses; or a shard is incomplete although `whole_only` was set.
        """
        with self._lock:
            shards, self._open = list(self._open.values()), {}
        if shards and self._whole_only:
            for shard in shards:
                with shard.lock:
                    self._discard(shard)
            raise WriteFailed(
                f"{self._files.path(shards[0].key)}: only {np.count_nonzero(shards[0].done)} of "
                f"its {shards[0].expected} chunks were written ({len(shards)} such shards in all). "
                "Several processes may write one store only if each writes whole shards; the "
                "pixels of these shards were not kept."
            )
        for shard in shards:
            with shard.lock:
                self._complete(shard)

    def close(self) -> None:
        """Close all files without completing them."""
        with self._lock:
            shards, self._open = list(self._open.values()), {}
        for shard in shards:
            with shard.lock:
                self._release(shard)

    def _outer(self, index: Sequence[int]) -> tuple[int, ...]:
        return tuple(i // n for i, n in zip(index, self._grid, strict=True))

    def _inner(self, index: Sequence[int]) -> tuple[int, ...]:
        return tuple(i % n for i, n in zip(index, self._grid, strict=True))

    def _key(self, index: Sequence[int]) -> str:
        return self._prefix + "/".join(map(str, self._outer(index)))

    def _begin(self, index: Sequence[int]) -> _Shard:
        """Return the shard of a chunk, with the chunk marked as being written."""
        outer = self._outer(index)
        while True:
            with self._lock:
                shard = self._open.get(outer)
                if shard is None:
                    shard = self._open[outer] = self._make(outer, self._key(index))
            with shard.lock:
                if not shard.closed:
                    shard.writing += 1
                    return shard

    def _make(self, outer: tuple[int, ...], key: str) -> _Shard:
        expected = 1
        for position, n, count in zip(outer, self._grid, self._chunks, strict=True):
            expected *= min(n, count - position * n)
        shard = _Shard(key, self._grid, expected, self._files.temporary(key))
        table = None if self._whole_only else self._stored_table(key)
        if table is not None:
            # Written before and complete: open it again, and replace the index later.
            self._files.take_back(key, shard.temporary)
            shard.created = True
            shard.table[...] = table
            shard.done[...] = True
            shard.expected = shard.done.size
            shard.end = os.path.getsize(shard.temporary)
        return shard

    def _append(self, shard: _Shard, inner: tuple[int, ...], data: Any) -> None:
        length = memoryview(data).nbytes
        offset = self._put(shard, data)
        with shard.lock:
            shard.table[inner] = offset, length

    def _put(self, shard: _Shard, data: Any) -> int:
        """Append bytes to a shard's temporary file; return their offset."""
        length = memoryview(data).nbytes
        with shard.lock:
            offset, shard.end = shard.end, shard.end + length
            fd = self._descriptor(shard)
            own = fd != shard.fd
        try:
            write_all(fd, data, offset)
        finally:
            if own:
                os.close(fd)
        return offset

    def _descriptor(self, shard: _Shard) -> int:
        """Return the shard's open file, or one for this write if too many are open."""
        if shard.fd is not None:
            return shard.fd
        if not shard.created:
            fd = self._files.create(shard.temporary)
            shard.created = True
        else:
            fd = os.open(shard.temporary, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
        if not hasattr(os, "pwrite"):
            # Without pwrite, threads share the position of a file.
            return fd
        with self._lock:
            if self._descriptors < _OPEN_FILES:
                self._descriptors += 1
                shard.fd = fd
        return fd

    def _end(self, index: Sequence[int], shard: _Shard) -> None:
        """Mark a chunk as written, and complete the shard if it was the last one."""
        with shard.lock:
            shard.writing -= 1
            if not shard.complete:
                return
            # Threads that write to it again wait here, and then open the finished file.
            shard.closed = True
            try:
                self._complete(shard)
            finally:
                with self._lock:
                    self._open.pop(self._outer(index), None)

    def _complete(self, shard: _Shard) -> None:
        """Append the index and rename the file to its final name."""
        path = self._files.path(shard.key)
        try:
            if not (shard.table[..., 0] != _ABSENT).any():
                self._release(shard)
                if shard.created:
                    os.unlink(shard.temporary)
                return
            fd = self._descriptor(shard)
            raw = shard.table.tobytes()
            try:
                write_all(fd, raw + crc32c(raw).to_bytes(4, "little"), shard.end)
            finally:
                if fd != shard.fd:
                    os.close(fd)
            self._release(shard)
            self._files.publish(shard.temporary, shard.key)
        except OSError as error:
            self._release(shard)
            raise write_failed(path, error) from error

    def _discard(self, shard: _Shard) -> None:
        self._release(shard)
        if shard.created:
            with contextlib.suppress(OSError):
                os.unlink(shard.temporary)

    def _release(self, shard: _Shard) -> None:
        fd, shard.fd = shard.fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)
            with self._lock:
                self._descriptors -= 1

    def _stored_table(self, key: str) -> Any:
        """Return the index of a completed shard, or None if there is none."""
        size = int(np.prod(self._grid)) * 16
        raw = self._files.read(key, -size - 4)
        if raw is None:
            return None
        if len(raw) != size + 4 or crc32c(raw[:size]) != int.from_bytes(raw[size:], "little"):
            raise ReadFailed(
                f"{self._files.path(key)}: the index of this shard, which was complete, is damaged "
                "(its length or CRC-32C checksum). The file was changed by another program."
            )
        return np.frombuffer(raw, "<u8", size // 8).reshape(*self._grid, 2)

    def _read_stored(self, key: str, place: NDArray[np.uint64]) -> bytes | None:
        """Return a chunk's bytes from a completed shard; None for a missing chunk."""
        if place[0] == _ABSENT:
            return None
        return self._files.read(key, int(place[0]), int(place[1]))


def _read_part(path: str, place: NDArray[np.uint64]) -> bytes | None:
    """Return the bytes at a position (offset, length) of a file; None for a missing chunk."""
    if place[0] == _ABSENT:
        return None
    with open(path, "rb") as file:
        file.seek(int(place[0]))
        return file.read(int(place[1]))
