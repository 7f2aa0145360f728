"""A file of any format as a read-only zarr-python store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)

from bfbridge.engine.workers import shared_pool
from bfbridge.errors import BadArgument, ReadFailed
from bfbridge.ngff.zarr_buffers import Buffer, BufferPrototype, default_buffer_prototype
from bfbridge.runtime import forking
from bfbridge.virtual.hierarchy import VirtualHierarchy
from bfbridge.virtual.pyramid import LARGEST_SIDE

if TYPE_CHECKING:
    import zarr

    from bfbridge.views import ImageView

__all__ = ["VirtualStore"]


class VirtualStore(Store):
    """A file, or one image of it, as OME-Zarr; see `ImageView.to_zarr`.

    Reads run in parallel on as many threads as the reader has workers: no lock is held while
    pixels are decoded, and the event loop is never blocked. A pickled store contains only the
    arguments to open the file. A store can be used after its reader was closed: the file is then
    opened again.

    Parameters
    ----------
    views
        Images of one file.
    version, compression, side
        As for `VirtualHierarchy`.
    """

    supports_writes: bool = False
    supports_deletes: bool = False
    supports_partial_writes: Literal[False] = False
    supports_listing: bool = True

    def __init__(
        self,
        views: Sequence[ImageView],
        version: Literal[2, 3] = 3,
        compression: Any = None,
        side: int = LARGEST_SIDE,
        *,
        stamp: Hashable = None,
    ) -> None:
        super().__init__(read_only=True)
        if stamp is not None and views[0]._file.stamp != stamp:
            raise ReadFailed(
                f"{views[0].source_name}: the file has changed since this store was made. Open it "
                "again and make a new store."
            )
        self._recipe = (version, compression, side)
        self._hierarchy = VirtualHierarchy(views, *self._recipe)
        self._lock = forking.lock()
        self._is_open = True

    # ---- attributes

    @property
    def hierarchy(self) -> VirtualHierarchy:
        """The groups, arrays and chunks, without zarr-python."""
        known = self._hierarchy
        if not known.file.closed:
            return known
        with self._lock:
            if self._hierarchy.file.closed:
                again = self._hierarchy.file.again()
                views = [view.on(again) for view in self._hierarchy.views]
                self._hierarchy = VirtualHierarchy(views, *self._recipe)
            return self._hierarchy

    @property
    def root(self) -> zarr.Group:
        """The root group, opened with zarr-python."""
        import zarr

        return zarr.open_group(self, mode="r")

    def __reduce__(self) -> tuple[Any, ...]:
        hierarchy = self.hierarchy
        return _reopened, (hierarchy.views, self._recipe, hierarchy.file.stamp)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VirtualStore):
            return NotImplemented
        return self is other or self._identity() == other._identity()

    __hash__ = None  # type: ignore[assignment]

    def _identity(self) -> tuple[Any, ...]:
        hierarchy = self.hierarchy
        stamp = hierarchy.file.stamp
        # Bytes and open files have no content stamp.
        known = id(self) if stamp is None else stamp
        return known, [view.index for view in hierarchy.views], self._recipe

    def __str__(self) -> str:
        return f"bfbridge://{self._hierarchy.file.source.name}"

    def __repr__(self) -> str:
        return f"<VirtualStore {self._hierarchy.file.source.name!r}, Zarr {self._recipe[0]}>"

    # ---- reading

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes of a document or chunk, or None; on the calling thread."""
        data = self.hierarchy.get(key)
        if data is None:
            return None
        kind = (prototype or default_buffer_prototype()).buffer
        return kind.from_array_like(_part(data, byte_range))

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes of a document or chunk, or None, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        workers = self._hierarchy.file.workers
        pool = shared_pool(f"bfbridge-virtual-{workers}", workers)
        return await loop.run_in_executor(
            pool, lambda: self.get_sync(key, prototype=prototype, byte_range=byte_range)
        )

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of several documents or chunks."""
        return list(
            await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))
        )

    async def exists(self, key: str) -> bool:
        """Return whether a document or chunk of this name exists, without reading pixels."""
        return self.hierarchy.exists(key)

    async def getsize(self, key: str) -> int:
        """Return the length of a document or chunk in bytes."""
        found = await self.get(key)
        if found is None:
            raise FileNotFoundError(key)
        return len(found)

    # ---- listing

    async def list(self) -> AsyncIterator[str]:
        """Yield all keys."""
        for key in self.hierarchy.list_keys():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield all keys that begin with `prefix`."""
        for key in self.hierarchy.list_keys(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder."""
        for name in self.hierarchy.list_dir(prefix):
            yield name

    # ---- writing, which is not supported

    def with_read_only(self, read_only: bool = False) -> VirtualStore:
        """Return this store; it cannot be made writable."""
        if not read_only:
            self._refuse()
        return self

    def _refuse(self) -> NoReturn:
        raise BadArgument(
            f"{self}: a virtual store is read-only, because it is a view of a file. Convert the "
            "file to get a store that can be changed."
        )

    async def set(self, key: str, value: Buffer) -> None:
        """Raise an error: the store is read-only."""
        self._refuse()

    def set_sync(self, key: str, value: Buffer) -> None:
        """Raise an error: the store is read-only."""
        self._refuse()

    async def set_partial_values(self, key_start_values: Any) -> None:
        """Raise an error: the store is read-only."""
        self._refuse()

    async def delete(self, key: str) -> None:
        """Raise an error: the store is read-only."""
        self._refuse()

    def delete_sync(self, key: str) -> None:
        """Raise an error: the store is read-only."""
        self._refuse()


def _part(data: bytes | memoryview, byte_range: ByteRequest | None) -> np.ndarray[Any, Any]:
    """Return the bytes of a range, without a copy."""
    whole = np.frombuffer(data, np.uint8)
    if byte_range is None:
        return whole
    if isinstance(byte_range, RangeByteRequest):
        return whole[byte_range.start : byte_range.end]
    if isinstance(byte_range, OffsetByteRequest):
        return whole[byte_range.offset :]
    if isinstance(byte_range, SuffixByteRequest):
        return whole[max(0, len(whole) - byte_range.suffix) :]
    raise BadArgument(f"{byte_range!r} is not a byte range.")


def _reopened(views: Sequence[ImageView], recipe: Any, stamp: Hashable) -> VirtualStore:
    return VirtualStore(views, *recipe, stamp=stamp)
