"""A zarr-python store over a `Store`. Imports zarr, so it is imported on use only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)

from bfbridge.ngff.zarr_buffers import Buffer, BufferPrototype
from bfbridge_omezarr.hierarchy.store import Store as OurStore

__all__ = ["Adapter"]

_LARGEST: Final = 1 << 40


class Adapter(Store):
    """A read-only zarr-python store.

    Parameters
    ----------
    store
        The store to read.
    instead
        Keys for which other bytes than those of the store are returned.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, store: OurStore, instead: Mapping[str, bytes]) -> None:
        super().__init__(read_only=True)
        self._store = store
        self._instead = instead

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adapter) and self._store is other._store

    def __hash__(self) -> int:
        return hash(id(self._store))

    def _fetch(self, key: str, request: ByteRequest | None) -> bytes | None:
        if key in self._instead:
            return self._instead[key]
        if isinstance(request, RangeByteRequest):
            return self._store.get_range(key, request.start, request.end - request.start)
        if isinstance(request, SuffixByteRequest):
            return self._store.get_range(key, -request.suffix, request.suffix)
        if isinstance(request, OffsetByteRequest):
            return self._store.get_range(key, request.offset, _LARGEST)
        return self._store.get(key, _LARGEST)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        # Outside zarr's event loop, which must not wait for files.
        data = await asyncio.to_thread(self._fetch, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Any
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, request) for key, request in key_ranges]

    async def exists(self, key: str) -> bool:
        request = RangeByteRequest(0, 1)
        return await asyncio.to_thread(self._fetch, key, request) is not None

    async def set(self, key: str, value: Buffer) -> None:
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        raise NotImplementedError

    def list(self) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        raise NotImplementedError
