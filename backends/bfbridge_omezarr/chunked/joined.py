"""Several small chunks decoded or encoded with one call of the codec.

The codec then releases the GIL once for all of them: threads that exchange it for each chunk of a
few kilobytes need more time than a single thread.

A Blosc chunk (chunk format, version 2) has a header of 16 bytes, the position of each block, and
the blocks. A chunk of a single block can become one block of a longer Blosc chunk, and a block of a
longer one a chunk. Frames of Zstandard that follow each other are decoded as one (RFC 8878).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import imagecodecs
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bfbridge.ngff.compression import Compression

__all__ = ["CODECS", "LARGEST", "Codec", "decode_many", "encode_many", "joins"]

LARGEST: Final = 1 << 18
"""Largest chunk in bytes that is worth joining: decoding it takes much longer than a call."""
# Version, compressor version, flags, width of a value; sizes decoded, of a block, and stored; then
# position and length of the only block.
_SINGLE: Final = struct.Struct("<4sIIIII")
_HEADER: Final = struct.Struct("<4sIII")
_VERSION: Final = 2
_COPIED: Final = 0x02
_UNSPLIT: Final = 0x10
_FIRST: Final = 20
"""Position of the block of a chunk that has only one."""
_POSITION: Final = _FIRST.to_bytes(4, "little")
_ZSTD: Final = 0xFD2FB528.to_bytes(4, "little")
_SIZE_BYTES: Final = {0x20: 1, 0x40: 2, 0x60: 2, 0x80: 4, 0xA0: 4, 0xC0: 8, 0xE0: 8}
"""Length of the decoded size in the header of a Zstandard frame, by the upper bits of its flags."""
Bytes = bytes | memoryview


class Codec(NamedTuple):
    """How chunks of a codec are joined.

    Attributes
    ----------
    kind
        ``kind(stored, size)`` returns a value that is equal for chunks that can be joined, or None
        for one that is damaged, has another size than `size`, or cannot be joined.
    join
        ``join(chunks, size)`` returns the joined bytes of chunks of equal kind.
    decode
        ``decode(joined, out)`` decodes them, and returns an object of the decoded length.
    """

    kind: Callable[[Bytes, int], bytes | None]
    join: Callable[[Sequence[Any], int], bytes]
    decode: Callable[..., Any]


def _kind_of_blosc(stored: Bytes, size: int) -> bytes | None:
    """Return the first bytes of a chunk of one block.

    The length of the block must be that of the chunk, so that no decoder reads beyond it.
    """
    if len(stored) < _SINGLE.size:
        return None
    kind: bytes
    kind, decoded, block, length, first, count = _SINGLE.unpack_from(stored)
    is_single = decoded == block == size and first == _FIRST and length == len(stored)
    if not is_single or count != length - _FIRST - 4:
        return None
    return kind if kind[0] == _VERSION and kind[2] & (_UNSPLIT | _COPIED) == _UNSPLIT else None


def _join_blosc(chunks: Sequence[Any], size: int) -> bytes:
    count = len(chunks)
    lengths = np.fromiter(map(len, chunks), np.int64, count) - _FIRST
    ends = np.cumsum(lengths) + _HEADER.size + 4 * count
    header = _HEADER.pack(bytes(chunks[0][:4]), size * count, size, int(ends[-1]))
    places = (ends - lengths).astype("<u4").tobytes()
    return b"".join([header, places, *(memoryview(stored)[_FIRST:] for stored in chunks)])


def _kind_of_zstd(stored: Bytes, size: int) -> bytes | None:
    """Return the flags of a frame that contains its decoded size, and no dictionary."""
    if len(stored) < 14 or stored[:4] != _ZSTD or stored[4] & 3:
        return None
    flags = stored[4] & 0xE0
    length = _SIZE_BYTES.get(flags, 0)
    start = 5 if flags & 0x20 else 6
    decoded = int.from_bytes(stored[start : start + length], "little") + 256 * (length == 2)
    return bytes([flags]) if length and decoded == size else None


def _join_zstd(chunks: Sequence[Any], size: int) -> bytes:
    del size
    return b"".join(chunks)


def _decode_blosc(stored: bytes, out: NDArray[np.uint8]) -> Any:
    return imagecodecs.blosc_decode(stored, numthreads=1, out=out)


def _decode_zstd(stored: bytes, out: NDArray[np.uint8]) -> Any:
    return imagecodecs.zstd_decode(stored, out=out)


CODECS: Final[Mapping[str, Codec]] = {
    "blosc": Codec(_kind_of_blosc, _join_blosc, _decode_blosc),
    "zstd": Codec(_kind_of_zstd, _join_zstd, _decode_zstd),
}


def decode_many(codec: Codec, chunks: Sequence[Bytes | None], out: NDArray[np.uint8]) -> list[bool]:
    """Decode neighbouring chunks together, as far as they can be joined.

    Parameters
    ----------
    codec
        One of `CODECS`.
    chunks
        The stored bytes of each chunk, or None.
    out
        One row for each chunk, of its decoded size. Contiguous.

    Returns
    -------
    list of bool
        Whether each row was decoded. The other rows are undefined: their chunks cannot be joined,
        or one of them is damaged.
    """
    size = out.shape[1]
    done: list[bool] = []
    kinds = (None if stored is None else codec.kind(stored, size) for stored in chunks)
    for kind, run in groupby(kinds):
        start = len(done)
        stop = start + sum(1 for _ in run)
        decoded = 0
        if kind is not None and stop - start > 1:
            target = out[start:stop].reshape(-1)
            # The caller decodes chunk by chunk after an error, to find the damaged one.
            with suppress(RuntimeError, ValueError):
                result = codec.decode(codec.join(chunks[start:stop], size), target)
                decoded = memoryview(result).nbytes
        done += [decoded == size * (stop - start)] * (stop - start)
    return done


def joins(compression: Compression, size: int) -> bool:
    """Whether `encode_many` encodes chunks of `size` bytes together."""
    return compression.name == "blosc-zstd" and size <= min(LARGEST, compression.block_bytes)


def encode_many(chunks: NDArray[Any], compression: Compression, buffer: memoryview) -> list[bytes]:
    """Return the stored bytes of each row of an array, as `Compression.encode` returns them.

    `buffer` has room for all of them.
    """
    size = chunks.shape[1] * chunks.itemsize
    if len(chunks) > 1 and joins(compression, size):
        joined = compression.encode(chunks, buffer, size)
        found = _cut(memoryview(joined), size)
        if found is not None:
            return found
    return [bytes(compression.encode(chunk, buffer)) for chunk in chunks]


def _cut(joined: memoryview, size: int) -> list[bytes] | None:
    """Return the blocks of a Blosc chunk as chunks of `size` bytes; None if it has no blocks.

    Data that cannot be compressed are stored without blocks.
    """
    kind, decoded, block, length = _HEADER.unpack_from(joined)
    if kind[2] & _COPIED or block != size:
        return None
    places = struct.unpack_from(f"<{decoded // size}I", joined, _HEADER.size)
    return [
        b"".join(
            [_HEADER.pack(kind, size, size, end - begin + _FIRST), _POSITION, joined[begin:end]]
        )
        for begin, end in pairwise((*places, length))
    ]
