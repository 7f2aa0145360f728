"""Checks of stored chunks: their names, lengths, and the indexes of shards. No chunk is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Final

import numpy as np

from bfbridge.backend.findings import COPY_AGAIN, Finding, Severity
from bfbridge.errors import BfbridgeError
from bfbridge_omezarr.chunked.indexes import ShardIndexes

if TYPE_CHECKING:
    from bfbridge.limits import Limits
    from bfbridge_omezarr.chunked.array_metadata import ArrayInfo
    from bfbridge_omezarr.hierarchy.store import Store

__all__ = ["ChunkChecker"]

_DOCUMENTS: Final = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})
_NUMBERS: Final = re.compile(r"\d+(?:[/.]\d+)*")


class ChunkChecker:
    """Compares the keys of a store with the chunks of its arrays.

    Parameters
    ----------
    store, limits
        The store, and limits on what it declares.
    arrays
        Arrays of images and labels, by key.
    """

    def __init__(self, store: Store, arrays: Mapping[str, ArrayInfo], limits: Limits) -> None:
        self._store = store
        self._arrays = arrays
        self._limits = limits

    def check(self) -> Iterator[Finding]:
        """Check all keys."""
        if self._store.is_remote:
            yield Finding(
                "note",
                "zarr-chunks",
                self._store.name,
                "a store at a URL is not listed: chunks are checked by decoding them only",
            )
            return
        counts = dict.fromkeys(self._arrays, 0)
        for key in self._store.keys():
            owner = self._owner(key)
            name = key[len(owner) + 1 :] if owner else key
            if owner is None or name in _DOCUMENTS:
                continue
            if self._is_chunk(self._arrays[owner], name):
                counts[owner] += 1
                yield from self._chunk(self._arrays[owner], key)
            else:
                yield Finding(
                    "warning",
                    "zarr-stray",
                    self._store.label(key),
                    "this is not one of the array's chunks",
                    "Remove the file, if no program needs it.",
                )
        for key, info in self._arrays.items():
            yield from self._missing(key, info, counts[key])

    def _owner(self, key: str) -> str | None:
        """Return the key of the array that a key belongs to."""
        if "" in self._arrays:
            return ""
        folder = key
        while "/" in folder:
            folder = folder.rpartition("/")[0]
            if folder in self._arrays:
                return folder
        return None

    @staticmethod
    def _is_chunk(info: ArrayInfo, name: str) -> bool:
        """Whether the name of a file is that of a chunk or shard in the array's grid."""
        outer = info.chunks if info.shard is None else info.shard.shape
        grid = [-(-size // length) for size, length in zip(info.shape, outer, strict=True)]
        plain = name.removeprefix(info.prefix)
        if not info.direct:
            return True
        index = [int(n) for n in re.split("[/.]", plain)] if _NUMBERS.fullmatch(plain) else []
        return len(index) == len(grid) and all(i < n for i, n in zip(index, grid, strict=True))

    def _chunk(self, info: ArrayInfo, key: str) -> Iterator[Finding]:
        where = self._store.label(key)
        size = self._store.size(key) or 0
        if size == 0:
            yield Finding("error", "zarr-chunk", where, "this chunk is empty", COPY_AGAIN)
        elif info.shard is not None:
            yield from self._shard(info, key, size)
        elif info.direct and not info.decoders and size != info.chunk_bytes:
            yield Finding(
                "error",
                "zarr-chunk",
                where,
                f"this chunk has {size:,} bytes; without compression it has {info.chunk_bytes:,}",
                COPY_AGAIN,
            )

    def _shard(self, info: ArrayInfo, key: str, size: int) -> Iterator[Finding]:
        if info.shard is None:
            return
        where = self._store.label(key)
        try:
            table = ShardIndexes(self._store, info.shard, 2 * info.chunk_bytes).table(key)
        except BfbridgeError as error:
            yield Finding(
                "error", "zarr-shard", where, str(error).removeprefix(f"{where}: "), COPY_AGAIN
            )
            return
        if table is None:
            return
        flat = table.reshape(-1, 2)
        stored = flat[(flat != np.iinfo(np.uint64).max).any(axis=1)]
        bound = np.uint64(size)
        outside = (stored[:, 0] > bound) | (stored[:, 1] > bound - np.minimum(stored[:, 0], bound))
        if outside.any():
            yield Finding(
                "error",
                "zarr-shard",
                where,
                f"{outside.sum()} of its {len(stored)} chunks are outside its {size:,} bytes",
                COPY_AGAIN,
            )

    def _missing(self, key: str, info: ArrayInfo, count: int) -> Iterator[Finding]:
        outer = info.chunks if info.shard is None else info.shard.shape
        total = prod(-(-size // n) for size, n in zip(info.shape, outer, strict=True))
        if count >= total:
            return
        what = "chunks" if info.shard is None else "shards"
        text = (
            f"{total - count:,} of its {total:,} {what} are not stored: they are read as the fill "
            f"value {info.fill}"
        )
        remedy = "If pixels are missing, copy or write the store again; programs omit chunks of "
        remedy += "fill values."
        severity: Severity = "note" if count else "warning"
        yield Finding(severity, "zarr-absent", self._store.label(key), text, remedy)
