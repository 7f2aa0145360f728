"""Reading regions of a Zarr array: fetch a chunk, decode it, copy the requested part.

All work is done on the caller's thread; the engine calls it from many. Each thread keeps one buffer
for stored bytes and one for a decoded chunk, so that repeated reads allocate no memory.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend.chunk_grid import ChunkPart, as_chunks, chunk_parts, chunk_ranges
from bfbridge.errors import BfbridgeError, LimitExceeded, OutOfMemory, ReadFailed
from bfbridge.runtime.thread_buffer import NOT_KEPT, ThreadBuffer
from bfbridge_omezarr.chunked.codecs import CodecError, decode_part
from bfbridge_omezarr.chunked.indexes import ShardIndexes
from bfbridge_omezarr.chunked.joined import CODECS, LARGEST, decode_many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from bfbridge.limits import Limits
    from bfbridge_omezarr.chunked.array_metadata import ArrayInfo
    from bfbridge_omezarr.chunked.joined import Codec
    from bfbridge_omezarr.hierarchy.store import Store

__all__ = ["RATIO_FREE_BYTES", "Workspace", "ZarrArrayReader"]

MIB: Final = 1 << 20
RATIO_FREE_BYTES: Final = 128 * MIB
"""Chunks up to this size may have any compression ratio: 2 MiB of zeros are 77 bytes in Zstandard,
a higher ratio than that of a decompression bomb. This number limits their memory."""
_KEPT_STORED: Final = 32 * MIB
_KEPT_SCRATCH: Final = 64 * MIB
_LARGEST_BOX: Final = 4 * MIB
"""Most decoded bytes of chunks that are decoded together."""


_StoredPart = tuple[ChunkPart, str, bytes | memoryview | None]


class Workspace:
    """Memory that threads keep between reads of one file."""

    def __init__(self) -> None:
        self.stored = ThreadBuffer(_KEPT_STORED)
        self.scratch = ThreadBuffer(_KEPT_SCRATCH)
        self.joined = ThreadBuffer(_LARGEST_BOX)


class ZarrArrayReader:
    """One array, read in regions from any thread.

    Parameters
    ----------
    info
        The array.
    store
        The store that contains it.
    limits
        Limits on the memory of a chunk.
    workspace
        Buffers shared by the arrays of a file.
    """

    def __init__(self, info: ArrayInfo, store: Store, limits: Limits, workspace: Workspace) -> None:
        self._info = info
        self._store = store
        self._limits = limits
        self._workspace = workspace
        size = info.chunk_bytes
        # No supported codec makes a chunk much longer; a longer chunk is damaged.
        self._stored_limit = 2 * size + MIB if info.decoders else size
        self._most = 2 * size + MIB
        inverse = np.argsort(info.order) if info.order else ()
        self._inverse = tuple(int(axis) for axis in inverse)
        self._straight = self._inverse == tuple(range(len(info.shape)))
        self._stored_shape = tuple(info.chunks[axis] for axis in info.order)
        single = info.decoders[0].name if len(info.decoders) == 1 and size <= LARGEST else ""
        self._joined_codec = CODECS.get(single)
        self._native = info.dtype.isnative or info.dtype.itemsize == 1
        self._indexes = (
            None if info.shard is None else ShardIndexes(store, info.shard, self._stored_limit)
        )

    def read(self, start: Sequence[int], stop: Sequence[int], out: NDArray[Any]) -> None:
        """Fill `out` with the box `start` to `stop`, in the array's own axis order.

        Raises
        ------
        ReadFailed
            A chunk is damaged or cannot be read.
        LimitExceeded
            A chunk declares more memory than the limits allow.
        """
        info, codec = self._info, self._joined_codec
        parts: Iterable[_StoredPart]
        if codec is not None and self._has_several(start, stop):
            parts = self._read_joined(codec, start, stop, out)
        else:
            parts = self._stored_parts(start, stop)
        for (index, inside, target), key, stored in parts:
            if stored is None:
                out[target] = info.fill
                continue
            part = out[target]
            try:
                flat, span = self._memory(stored, inside, part)
                if info.decoders or span is None:
                    decode_part(stored, info.decoders, flat, self._most, span)
                if span is not None:
                    self._copy(flat, inside, part)
            except (CodecError, LimitExceeded, MemoryError) as error:
                raise self._failure(error, key, index) from error

    def _has_several(self, start: Sequence[int], stop: Sequence[int]) -> bool:
        """Whether a box consists of several whole chunks, and not too many for the memory."""
        count = 1
        for a, b, n, size in zip(start, stop, self._info.chunks, self._info.shape, strict=True):
            if a % n or (b % n and b != size):
                return False
            count *= -(-(b - a) // n)
        return 1 < count <= _LARGEST_BOX // self._info.chunk_bytes

    def _read_joined(
        self, codec: Codec, start: Sequence[int], stop: Sequence[int], out: NDArray[Any]
    ) -> list[_StoredPart]:
        """Decode the chunks of a box of whole chunks that are stored alike together.

        Returns
        -------
        list
            The parts of `out` that are not filled, as `_stored_parts` yields them.
        """
        info = self._info
        numbers = chunk_ranges(start, stop, info.chunks)
        indices = list(itertools.product(*numbers))
        stored = self._stored_many(indices)
        flat = self._workspace.joined.get(len(indices) * info.chunk_bytes)
        rows = flat.reshape(len(indices), info.chunk_bytes)
        done = decode_many(codec, stored, rows)
        whole = any(done) and not any(b % n for b, n in zip(stop, info.chunks, strict=True))
        if whole:
            self._put(flat, [len(axis) for axis in numbers], out)
        left: list[_StoredPart] = []
        if whole and all(done):
            return left
        for place, part in enumerate(chunk_parts(start, stop, info.chunks)):
            if not done[place]:
                left.append((part, info.outer_key(part[0]), stored[place]))
            elif not whole:
                self._copy(rows[place], part[1], out[part[2]])
        return left

    def _stored_many(self, indices: Sequence[tuple[int, ...]]) -> list[bytes | memoryview | None]:
        """Return the stored bytes of each of several small chunks, or None for a missing one."""
        info = self._info
        if self._indexes is None:
            found = self._store.read_many(map(info.chunk_key, indices), self._stored_limit)
            if info.separator_given or None not in found:
                return found
            return [
                self.stored(index) if data is None else data
                for index, data in zip(indices, found, strict=True)
            ]
        shards: dict[str, list[tuple[int, ...]]] = {}
        for index in indices:
            shards.setdefault(info.outer_key(index), []).append(index)
        known: dict[tuple[int, ...], bytes | memoryview | None] = {}
        for key, wanted in shards.items():
            known.update(self._indexes.read_many(key, wanted, NOT_KEPT))
        return [known[index] for index in indices]

    def _put(self, flat: NDArray[np.uint8], counts: Sequence[int], out: NDArray[Any]) -> None:
        """Copy decoded chunks, the last axis of the grid fastest, to their places in a box."""
        rank = len(counts)
        chunks = flat.view(self._info.dtype).reshape(*counts, *self._stored_shape)
        order = [*range(rank), *(rank + axis for axis in self._inverse or range(rank))]
        as_chunks(out, self._info.chunks)[...] = chunks.transpose(order)

    def _stored_parts(self, start: Sequence[int], stop: Sequence[int]) -> Iterator[_StoredPart]:
        """Yield the part of a box in each chunk, with the chunk's key and stored bytes.

        The bytes are valid until the next part. Chunks of a shard come in the order of the file.
        """
        info = self._info
        parts = chunk_parts(start, stop, info.chunks)
        if self._indexes is None:
            for part in parts:
                key = info.outer_key(part[0])
                yield part, key, self._read_stored(key, part[0])
            return
        shards: dict[str, dict[tuple[int, ...], ChunkPart]] = {}
        for part in parts:
            shards.setdefault(info.outer_key(part[0]), {})[part[0]] = part
        for key, wanted in shards.items():
            found = self._indexes.read_many(key, list(wanted), self._workspace.stored)
            for index, stored in found:
                yield wanted[index], key, stored

    def stored(self, index: tuple[int, ...]) -> bytes | None:
        """Return the stored bytes of a chunk, or None for a chunk that is not stored.

        Raises
        ------
        ReadFailed
            A shard's index is damaged.
        """
        found = self._read_stored(self._info.outer_key(index), index)
        return None if found is None else bytes(found)

    def _failure(self, error: Exception, key: str, index: tuple[int, ...]) -> BfbridgeError:
        """Return the error for a chunk that cannot be decoded."""
        where, which = self._store.label(key), f"the chunk at grid position {index}"
        if isinstance(error, LimitExceeded):
            return LimitExceeded(f"{where}: {which} {error}")
        if isinstance(error, MemoryError):
            return OutOfMemory(
                f"{where}: no memory for a chunk of {self._info.chunk_bytes:,} bytes."
            )
        return ReadFailed(f"{where}: {which} is damaged: {error}.")

    def _memory(
        self, stored: bytes | memoryview, inside: tuple[slice, ...], out: NDArray[Any]
    ) -> tuple[NDArray[np.uint8], range | None]:
        """Return the memory to decode a chunk into, and the bytes of it that are needed.

        The bytes are None if the chunk is decoded directly into `out`. For a chunk without
        encoding, the memory is `stored`.
        """
        info = self._info
        size = info.chunk_bytes
        if size > RATIO_FREE_BYTES and size > len(stored) * self._limits.chunk_ratio:
            raise LimitExceeded(
                f"claims {size:,} bytes from {len(stored):,} stored, above the ratio of "
                f"{self._limits.chunk_ratio:,}; the file is damaged or hostile. If it is sound, "
                "raise the limit with BioReader(..., limits=Limits(...))."
            )
        whole = out.shape == info.chunks
        if whole and self._straight and self._native and out.flags.c_contiguous:
            return out.reshape(-1).view(np.uint8), None
        if info.decoders:
            return self._workspace.scratch.get(size), self._span(inside)
        flat = np.frombuffer(stored, np.uint8)
        if flat.nbytes != size:
            raise CodecError(f"holds {flat.nbytes:,} bytes, not {size:,}")
        return flat, self._span(inside)

    def _copy(self, flat: NDArray[np.uint8], inside: tuple[slice, ...], out: NDArray[Any]) -> None:
        """Copy the part `inside` of a decoded chunk."""
        chunk = flat.view(self._info.dtype).reshape(self._stored_shape)
        if not self._straight:
            chunk = chunk.transpose(self._inverse)
        out[...] = chunk[inside]

    def _span(self, inside: tuple[slice, ...]) -> range:
        """Return the bytes of a decoded chunk from the first to the last requested one."""
        first = last = 0
        for axis, length in zip(self._info.order, self._stored_shape, strict=True):
            first = first * length + inside[axis].start
            last = last * length + inside[axis].stop - 1
        return range(first * self._info.dtype.itemsize, (last + 1) * self._info.dtype.itemsize)

    def _read_stored(self, key: str, index: tuple[int, ...]) -> bytes | memoryview | None:
        """Return the stored bytes of a chunk, which is one key or a part of a shard."""
        if self._indexes is not None:
            return self._indexes.read(key, index, self._workspace.stored)
        stored = self._store.read(key, self._stored_limit, self._workspace.stored)
        if stored is None and not self._info.separator_given:
            key = self._info.chunk_key(index, "/")
            stored = self._store.read(key, self._stored_limit, self._workspace.stored)
        return stored
