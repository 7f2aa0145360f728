"""zarr-python's compressors with a limit on decompressed size; imports zarr, so used lazily.

zarr-python's own compressors decompress a stream to its end, whatever its length: a few kilobytes
can use all memory. These have other names, so that no other array in the process uses them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import cache
from math import prod
from typing import Any, Final

from zarr.registry import get_codec_class, register_codec

from bfbridge_omezarr.chunked.codecs import CodecError, decoders_v3

__all__ = ["with_bounds"]

_PREFIX: Final = "bfbridge."
_NAMES: Final = frozenset(
    ["blosc", "gzip", "zstd"]
    + [f"numcodecs.{n}" for n in ("blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd")]
)
# Bytes of shards in addition to their pixels, and bytes that codecs add.
_MORE: Final = 1 << 20


def with_bounds(value: Any) -> Any:
    """Return an array's document in which its compressors have the names of the limited ones."""
    if isinstance(value, list):
        return [with_bounds(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    changed = {key: with_bounds(item) for key, item in value.items() if key != "attributes"}
    name = changed.get("name")
    if isinstance(name, str) and name in _NAMES:
        _register(name)
        changed["name"] = _PREFIX + name
    return changed


@cache
def _register(name: str) -> None:
    base: Any = get_codec_class(name)

    class Bounded(base):  # type: ignore[misc]
        @classmethod
        def from_dict(cls, data: Mapping[str, Any]) -> Any:
            return super().from_dict({**data, "name": name})

        async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
            (decoder,) = decoders_v3([(name, self.to_dict().get("configuration") or {})])
            dtype = chunk_spec.dtype
            # Before zarr 3.1 it is a numpy dtype.
            native = dtype.to_native_dtype() if hasattr(dtype, "to_native_dtype") else dtype
            most = 2 * prod(chunk_spec.shape) * native.itemsize + _MORE
            stored = chunk_bytes.to_bytes()
            data = bytes(await asyncio.to_thread(decoder.decode, stored, most))
            if len(data) > most:
                raise CodecError(f"{name} decompresses to more than {most:,} bytes")
            return chunk_spec.prototype.buffer.from_bytes(data)

    register_codec(_PREFIX + name, Bounded)
