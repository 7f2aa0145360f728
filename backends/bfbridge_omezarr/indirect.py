"""Arrays that zarr-python reads: other chunk grids, codecs around shards, codecs of third parties.

zarr-python gets its bytes from the same store as everything else, so the bounds on paths hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.errors import BfbridgeError, MissingExtra, ReadFailed, Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bfbridge_omezarr.arrays import ArrayInfo
    from bfbridge_omezarr.store import Store

__all__ = ["IndirectReader"]

_LARGEST = 1 << 40


class IndirectReader:
    """One array, read through zarr-python."""

    def __init__(self, info: ArrayInfo, store: Store) -> None:
        try:
            import zarr
        except ImportError as error:
            raise MissingExtra(
                f"{store.label(info.key)}: this array needs the package zarr. Install it with: "
                "python -m pip install 'bfbridge[omezarr]'"
            ) from error
        self._where = store.label(info.key)
        try:
            self._array: Any = zarr.open_array(
                _adapter(store), path=info.key, mode="r", zarr_format=3
            )
        except BfbridgeError:
            raise
        except Exception as error:
            raise Unsupported(
                f"zarr-python does not open {self._where} ({type(error).__name__}: {error})"
            ) from error

    def read(self, start: Sequence[int], stop: Sequence[int], out: NDArray[Any]) -> None:
        """Fill `out` with a box, in the array's own axis order."""
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        try:
            values = np.asarray(self._array[box])
        except BfbridgeError:
            raise
        except Exception as error:
            raise ReadFailed(
                f"{self._where}: region {box} cannot be decoded ({type(error).__name__}: {error})."
            ) from error
        out[...] = values.view(np.uint8) if values.dtype == np.bool_ else values


def _adapter(store: Store) -> Any:
    """Return a zarr-python store over one of ours. Made on use: its base class is zarr's."""
    from zarr.abc.store import (
        ByteRequest,
        OffsetByteRequest,
        RangeByteRequest,
        SuffixByteRequest,
    )
    from zarr.abc.store import Store as ZarrStore
    from zarr.core.buffer import Buffer, BufferPrototype

    def fetch(key: str, request: ByteRequest | None) -> bytes | None:
        if isinstance(request, RangeByteRequest):
            return store.get_range(key, request.start, request.end - request.start)
        if isinstance(request, SuffixByteRequest):
            return store.get_range(key, -request.suffix, request.suffix)
        if isinstance(request, OffsetByteRequest):
            return store.get_range(key, request.offset, _LARGEST)
        return store.get(key, _LARGEST)

    class Adapter(ZarrStore):
        supports_writes = False
        supports_deletes = False
        supports_listing = False

        def __init__(self) -> None:
            super().__init__(read_only=True)

        def __eq__(self, other: object) -> bool:
            return self is other

        async def get(
            self,
            key: str,
            prototype: BufferPrototype,
            byte_range: ByteRequest | None = None,
        ) -> Buffer | None:
            # Off zarr's event loop, which must not wait for files.
            data = await asyncio.to_thread(fetch, key, byte_range)
            return None if data is None else prototype.buffer.from_bytes(data)

        async def get_partial_values(self, prototype: Any, key_ranges: Any) -> list[Any]:
            return [await self.get(key, prototype, request) for key, request in key_ranges]

        async def exists(self, key: str) -> bool:
            return await asyncio.to_thread(fetch, key, RangeByteRequest(0, 1)) is not None

        async def set(self, key: str, value: Any) -> None:
            raise NotImplementedError

        async def delete(self, key: str) -> None:
            raise NotImplementedError

        async def list(self) -> AsyncIterator[str]:
            for key in store.keys():
                yield key

        async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
            for key in store.keys():
                if key.startswith(prefix):
                    yield key

        async def list_dir(self, prefix: str) -> AsyncIterator[str]:
            base = prefix.rstrip("/") + "/" if prefix else ""
            inside = {key[len(base) :].split("/")[0] for key in store.keys() if key.startswith(base)}
            for name in sorted(inside):
                yield name

    return Adapter()
