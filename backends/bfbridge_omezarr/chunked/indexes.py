"""Indexes of shards: fetched once, cached, and discarded when the shard has been replaced.

The version of a shard is fixed when its index is first read: the index contains the positions of
chunks, so an index and chunks of two versions would give wrong pixels. Each read of a chunk returns
its version: for a local file inode, size and time of modification; for an object at a web server or
on S3 the headers of the response (ETag, Last-Modified, length), so no request is added. If a server
sends no such headers, the index is requested again after each chunk.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from operator import mod
from typing import TYPE_CHECKING, Final

import numpy as np

from bfbridge.errors import FileChanged, ReadFailed
from bfbridge.runtime import forking
from bfbridge.runtime.thread_buffer import NOT_KEPT, ThreadBuffer
from bfbridge_omezarr.chunked.codecs import crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from bfbridge_omezarr.chunked.array_metadata import ShardInfo
    from bfbridge_omezarr.hierarchy.store import Store

__all__ = ["ShardIndexes"]

MIB: Final = 1 << 20
_KEPT_INDEXES: Final = 16 * MIB
_KEPT_STAMPS: Final = 65_536
_ABSENT: Final = 0xFFFF_FFFF_FFFF_FFFF
# Chunks of a shard are read together up to this size, and if the gap between them is not larger.
_RUN: Final = 4 * MIB
_GAP: Final = 4096
_MISSING_SECONDS: Final = 5.0
"""Seconds for which a missing shard or chunk is not requested again from a server."""


class _ShardIndex:
    """One shard's index.

    Attributes
    ----------
    stamp
        Version of the index; None if unknown.
    table
        Grid x 2: offset and length of each chunk. None if there is no such shard.
    checked
        Last time at which the server showed that it is current.
    """

    __slots__ = ("checked", "stamp", "table")

    def __init__(self, stamp: object, table: NDArray[np.uint64] | None) -> None:
        self.stamp = stamp
        self.table = table
        self.checked = time.monotonic()

    @property
    def is_fresh(self) -> bool:
        """Whether the server need not be queried again."""
        return time.monotonic() - self.checked < _MISSING_SECONDS


class ShardIndexes:
    """The shards of one array. Thread-safe.

    Parameters
    ----------
    store
        The store that contains them.
    shard
        Their layout.
    most
        Longest valid chunk, in stored bytes.
    """

    def __init__(self, store: Store, shard: ShardInfo, most: int) -> None:
        self._store = store
        self._shard = shard
        self._most = most
        self._lock = forking.lock()
        self._indexes: OrderedDict[str, _ShardIndex] = OrderedDict()
        self._stamps: OrderedDict[str, object] = OrderedDict()

    def read(
        self, key: str, index: tuple[int, ...], buffer: ThreadBuffer
    ) -> bytes | memoryview | None:
        """Return the stored bytes of one chunk, or None for one that is not stored.

        Parameters
        ----------
        key
            Key of the shard.
        index
            Grid position of the chunk in the array.
        buffer
            Memory for the bytes, valid until the next call with it.

        Raises
        ------
        ReadFailed
            The shard is damaged.
        FileChanged
            It was replaced since its index was first read.
        """
        ((_, stored),) = self.read_many(key, [index], buffer)
        return stored

    def read_many(
        self, key: str, indices: Sequence[tuple[int, ...]], buffer: ThreadBuffer
    ) -> Iterator[tuple[tuple[int, ...], memoryview | bytes | None]]:
        """Yield each of several chunks of one shard with its stored bytes, as `read` returns them.

        Chunks that are not stored come first, the others in the order of the file. Neighbours are
        read together.
        """
        known = self._index(key)
        if known.table is None:
            yield from ((index, None) for index in indices)
            return
        places = []
        for index in indices:
            inner = tuple(map(mod, index, self._shard.grid))
            begin, count = known.table[inner].tolist()
            if begin == count == _ABSENT:
                self._check_absent(key, known)
                yield index, None
                continue
            if count > self._most or begin > 1 << 62:
                raise ReadFailed(
                    f"{self._where(key, index)} should have {count:,} bytes at {begin:,}; the "
                    "shard's index is damaged."
                )
            places.append((begin, count, index))
        places.sort()
        for run in _runs(places):
            origin, (begin, count, _) = run[0][0], run[-1]
            data = memoryview(self._read(key, known, origin, begin + count - origin, buffer))
            for begin, count, index in run:
                stored = data[begin - origin : begin - origin + count]
                if len(stored) != count:
                    raise ReadFailed(
                        f"{self._where(key, index)} is cut off (its {count:,} bytes at {begin:,} "
                        "are beyond the end of the shard)."
                    )
                yield index, stored

    def _where(self, key: str, index: tuple[int, ...]) -> str:
        return f"{self._store.label(key)}: the chunk at grid position {index}"

    def _read(
        self, key: str, known: _ShardIndex, begin: int, count: int, buffer: ThreadBuffer
    ) -> bytes | memoryview:
        """Return bytes of a shard, fewer at its end; raise an error if it was replaced."""
        found = self._store.read_stamped(key, begin, count, buffer)
        if found is None:
            raise self._changed(key)
        if found.stamp is None:
            self._compare(key, known)
        elif not self._store.same(found.stamp, known.stamp):
            raise self._changed(key)
        if self._store.is_remote:
            known.checked = time.monotonic()
        return found.data

    def table(self, key: str) -> NDArray[np.uint64] | None:
        """Return offset and length of each chunk of a shard; None if there is no such shard.

        Raises
        ------
        ReadFailed
            The index is damaged.
        """
        return self._fetch(key).table

    def _changed(self, key: str) -> FileChanged:
        return FileChanged(
            f"{self._store.label(key)}: this shard was replaced while the store was open, so its "
            "index and its chunks may not match. Open the store again to read the new data."
        )

    def _index(self, key: str) -> _ShardIndex:
        """Return a shard's index; it may be outdated if chunks show their version."""
        with self._lock:
            known = self._indexes.get(key)
            if known is not None:
                self._indexes.move_to_end(key)
        # A shard that is missing may be written later, and is then used.
        if known is not None and (known.table is not None or self._still_missing(key, known)):
            return known
        found = self._fetch(key)
        with self._lock:
            pinned = self._stamps.setdefault(key, found.stamp) if found.stamp is not None else None
            self._indexes[key] = found
            self._indexes.move_to_end(key)
            while len(self._indexes) > max(4, _KEPT_INDEXES // self._shard.index_bytes):
                self._indexes.popitem(last=False)
            while len(self._stamps) > _KEPT_STAMPS:
                self._stamps.popitem(last=False)
        if pinned is not None and not self._store.same(pinned, found.stamp):
            raise self._changed(key)
        return found

    def _still_missing(self, key: str, known: _ShardIndex) -> bool:
        return known.is_fresh if self._store.is_remote else self._store.is_current(key, None)

    def _check_absent(self, key: str, known: _ShardIndex) -> None:
        """Check that the index is current, if no chunk is read that would show it."""
        if not self._store.is_remote:
            if not self._store.is_current(key, known.stamp):
                raise self._changed(key)
        elif not known.is_fresh:
            self._compare(key, known)
            known.checked = time.monotonic()

    def _compare(self, key: str, known: _ShardIndex) -> None:
        """Fetch the index again; raise an error if it has changed."""
        now = self._fetch(key)
        if now.table is None or known.table is None:
            same = now.table is known.table
        elif now.stamp is None or known.stamp is None:
            same = np.array_equal(now.table, known.table)
        else:
            same = self._store.same(now.stamp, known.stamp)
        if not same:
            raise self._changed(key)

    def _fetch(self, key: str) -> _ShardIndex:
        size = self._shard.index_bytes
        found = self._store.read_stamped(key, -size if self._shard.at_end else 0, size, NOT_KEPT)
        if found is None:
            return _ShardIndex(None, None)
        raw = bytes(found.data)
        if len(raw) != size:
            raise ReadFailed(
                f"{self._store.label(key)}: the shard is cut off ({len(raw):,} bytes where its "
                f"index alone takes {size:,})."
            )
        if self._shard.checked:
            raw, stored = raw[:-4], int.from_bytes(raw[-4:], "little")
            if crc32c(raw) != stored:
                raise ReadFailed(
                    f"{self._store.label(key)}: the shard's index is damaged (its CRC-32C checksum "
                    "does not match)."
                )
        table = np.frombuffer(raw, "<u8").astype(np.uint64, copy=False)
        return _ShardIndex(found.stamp, table.reshape(*self._shard.grid, 2))


_Place = tuple[int, int, tuple[int, ...]]


def _runs(places: Sequence[_Place]) -> Iterator[Sequence[_Place]]:
    """Group chunks (offset, length, index), sorted by offset, to be read together.

    Chunks that overlap are read separately, because a decoder may change the bytes of its chunk.
    """
    run: list[_Place] = []
    for place in places:
        if run:
            end = run[-1][0] + run[-1][1]
            near = end <= place[0] <= end + _GAP
            if not near or place[0] + place[1] - run[0][0] > _RUN:
                yield run
                run = []
        run.append(place)
    if run:
        yield run
