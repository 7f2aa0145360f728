"""Codecs of Zarr chunks: from names in a document to functions on bytes.

Decoders write into memory of the chunk's size, so that a stream that decompresses to more is an
error and does not allocate memory. Fast decoders come from imagecodecs (which releases the GIL),
others from the standard library or numcodecs and its registry. Codecs that create Python objects
from a file's bytes (such as pickle) are refused by name.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import imagecodecs
import numpy as np

from bfbridge.errors import UnreadableFile, Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bfbridge.ngff.compression import Compression

__all__ = [
    "ChunkDecoder",
    "CodecError",
    "crc32c",
    "decode_bytes",
    "decode_part",
    "decoders_of",
    "decoders_v2",
    "decoders_v3",
]

Bytes = bytes | bytearray | memoryview
# Format version, compressor version, flags, width of a value; then three sizes in bytes.
_BLOSC_HEADER: Final = struct.Struct("<BBBBIII")
_BLOSC_COPIED: Final = 2
# Most members of a gzip stream: pigz and bgzip write members of 64 KiB and more.
_MOST_MEMBERS: Final = 100_000
_FIRST_PIECE: Final = 512
_LARGEST_PIECE: Final = 1 << 20
_LARGEST_WINDOW: Final = 512 << 20
"""Most memory for LZMA's dictionary: its presets use 65 MiB at most."""


class CodecError(Exception):
    """Stored bytes cannot be decoded; the caller adds the chunk and the file."""


@dataclass(frozen=True, slots=True)
class ChunkDecoder:
    """One bytes-to-bytes codec.

    Attributes
    ----------
    name
        Name in the document.
    into
        ``into(stored, out)`` decodes into `out`, a flat uint8 array, and returns the decoded
        length; None for codecs that cannot.
    decode
        ``decode(stored, most)`` returns about `most` bytes at most, for codecs before another.
    """

    name: str
    into: Callable[[Bytes, NDArray[np.uint8]], int] | None
    decode: Callable[[Bytes, int], Bytes]


def crc32c(data: Bytes) -> int:
    """Return the CRC-32C checksum of `data`."""
    import google_crc32c

    return int(google_crc32c.value(bytes(data)))


def _length(result: Any) -> int:
    return int(memoryview(result).nbytes)


def _blosc_into(stored: Bytes, out: NDArray[np.uint8]) -> int:
    view = memoryview(stored)
    if len(view) < 16:
        raise CodecError("a Blosc chunk of less than 16 bytes")
    declared = int.from_bytes(view[4:8], "little")
    if declared != out.nbytes:
        raise CodecError(f"Blosc header declares {declared:,} bytes, not {out.nbytes:,}")
    compressed = int.from_bytes(view[12:16], "little")
    if compressed > len(view):
        raise CodecError(f"Blosc header declares {compressed:,} stored bytes of {len(view):,}")
    return _length(imagecodecs.blosc_decode(view, numthreads=1, out=out))


def _blosc_part(stored: Bytes, out: NDArray[np.uint8], low: int, high: int) -> None:
    """Decode the blocks of a Blosc chunk that contain its bytes `low` to `high`, into their places.

    Blosc compresses blocks of equal size separately; a list of their positions follows its header.
    A header with a range of consecutive blocks and their part of the list forms a valid chunk
    (Blosc chunk format, version 2).
    """
    view = memoryview(stored)
    version = flags = declared = size = compressed = 0
    if len(view) >= _BLOSC_HEADER.size:
        version, _, flags, _, declared, size, compressed = _BLOSC_HEADER.unpack_from(view)
    sound = version == 2 and declared == out.nbytes and 0 < size <= declared
    if not sound or compressed != len(view) or flags & _BLOSC_COPIED:
        _blosc_into(stored, out)
        return
    # The last block may be shorter than the others, but a chunk may not.
    first, last = min(low // size, declared // size - 1), -(-high // size)
    count = -(-declared // size)
    if last - first == count or 16 + 4 * count > len(view):
        _blosc_into(stored, out)
        return
    begin, end = first * size, min(last * size, declared)
    part = view if not view.readonly else memoryview(bytearray(view))
    part[4:8] = (end - begin).to_bytes(4, "little")
    part[16 : 16 + 4 * (last - first)] = bytes(part[16 + 4 * first : 16 + 4 * last])
    done = _length(imagecodecs.blosc_decode(part, numthreads=1, out=out[begin:end]))
    if done != end - begin:
        raise CodecError(f"blocks decode to {done:,} bytes, not {end - begin:,}")


def _blosc(stored: Bytes, most: int) -> Bytes:
    declared = int.from_bytes(memoryview(stored)[4:8], "little")
    if declared > most:
        raise CodecError(f"Blosc header declares {declared:,} bytes, more than {most:,}")
    out = np.empty(declared, np.uint8)
    _blosc_into(stored, out)
    return out.data


def _zstd_into(stored: Bytes, out: NDArray[np.uint8]) -> int:
    return _length(imagecodecs.zstd_decode(stored, out=out))


def _lz4_into(stored: Bytes, out: NDArray[np.uint8]) -> int:
    return _length(imagecodecs.lz4_decode(stored, header=True, out=out))


def _inflate(wbits: int) -> Callable[[Bytes, int], Bytes]:
    """Return a decoder for streams of one or more members, as gzip allows."""

    def decode(stored: Bytes, most: int) -> Bytes:
        view = memoryview(stored)
        parts: list[bytes] = []
        place, left = 0, most + 1
        for _ in range(_MOST_MEMBERS):
            if place >= len(view) or left <= 0:
                return b"".join(parts)
            place, found = _member(view, place, left, wbits)
            parts += found
            left -= sum(map(len, found))
        raise CodecError(f"a stream of more than {_MOST_MEMBERS:,} members")

    return decode


def _member(view: memoryview, place: int, most: int, wbits: int) -> tuple[int, list[bytes]]:
    """Decompress the member at `place`; return the position of the next member, and the data.

    The input is passed in pieces, because zlib copies unused input.
    """
    member = zlib.decompressobj(wbits)
    parts: list[bytes] = []
    left, size = most, _FIRST_PIECE
    while not member.eof and left > 0:
        if place >= len(view) and not member.unconsumed_tail:
            raise CodecError("the stream ends early")
        piece = member.unconsumed_tail
        if not piece:
            piece = bytes(view[place : place + size])
            place, size = place + len(piece), min(2 * size, _LARGEST_PIECE)
        part = member.decompress(piece, left)
        parts.append(part)
        left -= len(part)
    place -= len(member.unused_data)
    # Zeros after the last member are padding (the gzip program ignores them too).
    while place < len(view) and not view[place]:
        zeros = bytes(view[place : place + _LARGEST_PIECE])
        place += len(zeros) - len(zeros.lstrip(b"\0"))
    return place, parts


_gunzip = _inflate(31)
_unzlib = _inflate(15)


def _gzip_into(stored: Bytes, out: NDArray[np.uint8]) -> int:
    try:
        count = _length(imagecodecs.gzip_decode(stored, out=out))
    except (RuntimeError, ValueError):
        count = 0
    if count != out.nbytes:
        # libdeflate reads one member only; zlib reads several, or reports the error.
        count = _copy(_gunzip(stored, out.nbytes), out)
    return count


def _zlib_into(stored: Bytes, out: NDArray[np.uint8]) -> int:
    return _length(imagecodecs.deflate_decode(stored, out=out))


def _copy(data: Bytes, out: NDArray[np.uint8]) -> int:
    view = np.frombuffer(data, np.uint8)
    if view.nbytes != out.nbytes:
        raise CodecError(f"decodes to {view.nbytes:,} bytes, not {out.nbytes:,}")
    out[:] = view
    return view.nbytes


def _bounded(into: Callable[[Bytes, NDArray[np.uint8]], int]) -> Callable[[Bytes, int], Bytes]:
    """Return a decoder for data of unknown size, based on one that fills memory."""

    def decode(stored: Bytes, most: int) -> Bytes:
        out = np.empty(most, np.uint8)
        return out[: into(stored, out)].data

    return decode


def _bz2(stored: Bytes, most: int) -> Bytes:
    return _ended(bz2.BZ2Decompressor(), stored, most)


def _ended(stream: bz2.BZ2Decompressor | lzma.LZMADecompressor, stored: Bytes, most: int) -> bytes:
    """Decompress to the end of a stream, where its checksum is."""
    data = stream.decompress(bytes(stored), most + 1)
    if not stream.eof and len(data) <= most:
        raise CodecError("the stream ends early")
    return data


def _lzma(config: Mapping[str, Any]) -> Callable[[Bytes, int], Bytes]:
    form, filters = int(config.get("format", 1)), config.get("filters")
    raw = form == lzma.FORMAT_RAW

    def decode(stored: Bytes, most: int) -> Bytes:
        if raw:
            for size in (f.get("dict_size", 0) for f in filters or [] if isinstance(f, dict)):
                if not isinstance(size, int) or size > _LARGEST_WINDOW:
                    raise CodecError(
                        f"an LZMA filter has a dictionary of {size!r:.40} bytes; "
                        f"{_LARGEST_WINDOW:,} are allowed"
                    )
            return _ended(lzma.LZMADecompressor(form, filters=filters), stored, most)
        return _ended(lzma.LZMADecompressor(form, memlimit=_LARGEST_WINDOW), stored, most)

    return decode


def _checked_crc32c(stored: Bytes, most: int) -> Bytes:
    del most
    view = memoryview(stored)
    if len(view) < 4 or crc32c(view[:-4]) != int.from_bytes(view[-4:], "little"):
        raise CodecError("the CRC-32C checksum does not match")
    return view[:-4]


_FIXED: Final[Mapping[str, ChunkDecoder]] = {
    "blosc": ChunkDecoder("blosc", _blosc_into, _blosc),
    "zstd": ChunkDecoder("zstd", _zstd_into, _bounded(_zstd_into)),
    "lz4": ChunkDecoder("lz4", _lz4_into, _bounded(_lz4_into)),
    "gzip": ChunkDecoder("gzip", _gzip_into, _gunzip),
    "zlib": ChunkDecoder("zlib", _zlib_into, _unzlib),
    "bz2": ChunkDecoder("bz2", None, _bz2),
}

# These create Python objects, which pixels never need; pickle executes code from its data.
_REFUSED: Final = frozenset(
    {
        "base64",
        "categorize",
        "json2",
        "msgpack2",
        "pickle",
        "vlen-array",
        "vlen-bytes",
        "vlen-utf8",
    }
)


def _numcodecs(name: str, config: Mapping[str, Any]) -> ChunkDecoder:
    if name in _REFUSED:
        raise Unsupported(f"the codec {name!r}, which is for objects and not for pixels")
    try:
        import numcodecs

        codec = numcodecs.get_codec({**config, "id": name})
    except Exception as error:
        raise Unsupported(
            f"the codec {name!r}, which is not installed here ({type(error).__name__}: {error})"
        ) from error

    def decode(stored: Bytes, most: int) -> Bytes:
        del most
        return np.ascontiguousarray(codec.decode(bytes(stored))).reshape(-1).view(np.uint8).data

    return ChunkDecoder(name, None, decode)


def _make(name: str, config: Mapping[str, Any]) -> ChunkDecoder:
    if name == "lzma":
        return ChunkDecoder(name, None, _lzma(config))
    return _FIXED.get(name) or _numcodecs(name, config)


def decoders_v2(
    compressor: Mapping[str, Any] | None, filters: Sequence[Mapping[str, Any]] | None, where: str
) -> tuple[ChunkDecoder, ...]:
    """Return the decoders of a Zarr v2 array, in the order of their application.

    Raises
    ------
    Unsupported
        A codec is unknown.
    UnreadableFile
        An entry is not a codec.
    """
    named = ([] if compressor is None else [compressor]) + list(reversed(filters or []))
    decoders = []
    for config in named:
        if not isinstance(config, dict) or not isinstance(config.get("id"), str):
            raise UnreadableFile(f"{where}: names no codec where one belongs: {config!r:.100}.")
        decoders.append(_make(config["id"], config))
    return tuple(decoders)


def decoders_v3(codecs: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[ChunkDecoder, ...]:
    """Return the decoders of bytes-to-bytes codecs, which are given in writing order.

    Raises
    ------
    Unsupported
        A codec is unknown.
    """
    decoders = []
    for name, config in reversed(codecs):
        if name == "crc32c":
            decoders.append(ChunkDecoder(name, None, _checked_crc32c))
            continue
        decoders.append(_make(name.removeprefix("numcodecs."), config))
    return tuple(decoders)


def decoders_of(compression: Compression) -> tuple[ChunkDecoder, ...]:
    """Return the function that reads chunks of a new store back."""
    identifier = compression.name.split("-")[0]
    return () if compression.name == "none" else decoders_v2({"id": identifier}, None, "")


def decode_bytes(
    stored: Bytes, decoders: Sequence[ChunkDecoder], out: NDArray[np.uint8], most: int
) -> None:
    """Decode stored bytes into `out`, exactly.

    Parameters
    ----------
    stored
        The stored chunk.
    decoders
        In the order of their application.
    out
        Flat, contiguous memory of the decoded chunk's size.
    most
        Most bytes of intermediate data between two codecs.

    Raises
    ------
    CodecError
        The bytes are damaged, or decode to another size.
    """
    decode_part(stored, decoders, out, most, None)


def decode_part(
    stored: Bytes,
    decoders: Sequence[ChunkDecoder],
    out: NDArray[np.uint8],
    most: int,
    span: range | None,
) -> None:
    """Decode at least the bytes `span` of a chunk into their places in `out`; None for all.

    Otherwise like `decode_bytes`; `stored` may be changed. Bytes outside `span` are undefined.
    """
    data = stored
    try:
        for decoder in decoders[:-1]:
            data = decoder.decode(data, most)
        last = decoders[-1] if decoders else None
        if last is not None and last.into is not None and len(data):
            if span is not None and last.into is _blosc_into and len(decoders) == 1:
                _blosc_part(data, out, span.start, span.stop)
                return
            count = last.into(data, out)
            if count != out.nbytes:
                raise CodecError(f"decodes to {count:,} bytes, not {out.nbytes:,}")
        else:
            _copy(last.decode(data, out.nbytes) if last else data, out)
    except (CodecError, MemoryError):
        raise
    except Exception as error:
        raise CodecError(
            f"{last_name(decoders)}: {error}" if str(error) else repr(error)
        ) from error


def last_name(decoders: Sequence[ChunkDecoder]) -> str:
    """Return the codecs' names, for messages."""
    return " + ".join(decoder.name for decoder in decoders) or "no codec"
