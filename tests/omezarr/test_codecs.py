"""Codecs of Zarr chunks, against numcodecs and the standard library."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from typing import Any

import numpy as np
import pytest

numcodecs = pytest.importorskip("numcodecs")

from bfbridge.errors import UnreadableFile, Unsupported  # noqa: E402
from bfbridge.ngff.compression import parse_compression  # noqa: E402
from bfbridge_omezarr.chunked.codecs import (  # noqa: E402
    ChunkDecoder,
    CodecError,
    crc32c,
    decode_bytes,
    decoders_of,
    decoders_v2,
    decoders_v3,
)

VALUES = (np.arange(5000) // 7 * 31).astype("<u2")
RAW = VALUES.tobytes()
DELTA = {"id": "delta", "dtype": "<u2"}
LZMA2 = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 16}]
CODECS: list[dict[str, Any]] = [
    {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 1, "blocksize": 1024},
    {"id": "zstd", "level": 1},
    {"id": "lz4"},
    {"id": "gzip", "level": 1},
    {"id": "zlib", "level": 1},
    {"id": "bz2", "level": 1},
    {"id": "lzma"},
    {"id": "lzma", "format": lzma.FORMAT_ALONE},
    {"id": "lzma", "format": lzma.FORMAT_RAW, "filters": LZMA2, "check": -1},
    {"id": "fletcher32"},
    {"id": "crc32"},
]
codecs = pytest.mark.parametrize("config", CODECS, ids=[str(config) for config in CODECS])


def encoded(config: dict[str, Any], data: Any = VALUES) -> bytes:
    return bytes(numcodecs.get_codec(config).encode(data))


def decoded(
    stored: bytes, decoders: tuple[ChunkDecoder, ...], size: int = len(RAW), most: int = 1 << 20
) -> bytes:
    # The decoders write all of their memory.
    out = np.full(size, 171, np.uint8)
    decode_bytes(stored, decoders, out, most)
    return out.tobytes()


@codecs
def test_chunks_of_numcodecs_are_decoded_alone_and_before_another_codec(
    config: dict[str, Any],
) -> None:
    assert decoded(encoded(config), decoders_v2(config, None, "")) == RAW
    # The filter is applied first when writing, so that the compressor is decoded first.
    stored = encoded(config, np.ascontiguousarray(numcodecs.get_codec(DELTA).encode(VALUES)))
    assert decoded(stored, decoders_v2(config, [DELTA], "")) == RAW
    within = encoded(config, encoded({"id": "zlib"}))
    assert decoded(within, decoders_v2(config, [{"id": "zlib"}], "")) == RAW
    twice = decoders_v3([("numcodecs.zlib", {}), (config["id"], config), ("crc32c", {})])
    assert decoded(within + crc32c(within).to_bytes(4, "little"), twice) == RAW


@codecs
def test_chunks_that_decode_to_another_length_or_not_at_all_are_errors(
    config: dict[str, Any],
) -> None:
    stored, decoders = encoded(config), decoders_v2(config, None, "")
    pair = decoders_v2(config, [{"id": "zlib"}], "")
    within = encoded(config, encoded({"id": "zlib"}))
    for size in (len(RAW) - 2, len(RAW) + 2):
        with pytest.raises(CodecError):
            decoded(stored, decoders, size)
    for cut in (0, 1, 7, len(stored) // 2):
        with pytest.raises(CodecError):
            decoded(stored[:cut], decoders)
        with pytest.raises(CodecError):
            decoded(within[: min(cut, len(within) // 2)], pair)


@pytest.mark.parametrize("wbits", [15, 31])
def test_streams_of_several_members_and_padding(wbits: int) -> None:
    def pack(data: bytes) -> bytes:
        member = zlib.compressobj(1, wbits=wbits)
        return member.compress(data) + member.flush()

    # Incompressible: members longer than the pieces in which input is passed to zlib.
    noise = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8).tobytes()
    name = "gzip" if wbits == 31 else "zlib"
    inner = zlib.compress(noise, 0)
    for split in (1, 700, 20_000):
        stored = pack(inner[:split]) + bytes(5) + pack(inner[split:]) + bytes(600)
        pair = decoders_v2({"id": name}, [{"id": "zlib"}], "")
        assert decoded(stored, pair, len(noise)) == noise
        if wbits == 31:
            # As the only codec: libdeflate's result is that of the first member.
            alone = decoders_v2({"id": name}, None, "")
            assert decoded(stored, alone, len(inner)) == inner == gzip.decompress(stored)
        with pytest.raises(CodecError, match="the stream ends early"):
            decoded(stored[:-610], pair, len(noise))


def test_the_number_of_members_is_limited() -> None:
    empty = gzip.compress(b"")
    with pytest.raises(CodecError, match="a stream of more than 100,000 members"):
        decoded(empty * 100_001, decoders_v2({"id": "gzip"}, None, ""))


@pytest.mark.parametrize(
    ("config", "stored", "message"),
    [
        ({"id": "blosc"}, b"\2\1\1\2", "a Blosc chunk of less than 16 bytes"),
        ({"id": "zlib"}, b"no zlib stream", "^zlib: "),
        ({"id": "bz2"}, bz2.compress(RAW)[:-1], "the stream ends early"),
        ({"id": "lzma"}, lzma.compress(RAW)[:-1], "the stream ends early"),
        ({"id": "crc32"}, b"\0\0\0\0" + RAW, "^crc32: "),
    ],
)
def test_messages_about_damaged_chunks(config: dict[str, Any], stored: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decoded(stored, decoders_v2(config, None, ""))


def test_headers_of_blosc_chunks_are_checked_before_memory_is_allocated() -> None:
    stored = bytearray(encoded(CODECS[0]))
    alone, pair = decoders_v2({"id": "blosc"}, None, ""), [{"id": "zlib"}]
    with pytest.raises(CodecError, match="declares 10,000 bytes, not 9,998"):
        decoded(bytes(stored), alone, len(RAW) - 2)
    with pytest.raises(CodecError, match="declares 10,000 bytes, more than 9,999"):
        decoded(bytes(stored), decoders_v2({"id": "blosc"}, pair, ""), most=9_999)
    stored[12:16] = (len(stored) + 1).to_bytes(4, "little")
    with pytest.raises(CodecError, match=rf"{len(stored) + 1:,} stored bytes of {len(stored):,}"):
        decoded(bytes(stored), alone)


@pytest.mark.parametrize("position", [0, 2000, -1])
def test_checksums_are_compared(position: int) -> None:
    stored = bytearray(RAW + crc32c(RAW).to_bytes(4, "little"))
    decoders = decoders_v3([("crc32c", {})])
    assert decoded(bytes(stored), decoders) == RAW
    stored[position] ^= 1
    with pytest.raises(CodecError, match="the CRC-32C checksum does not match"):
        decoded(bytes(stored), decoders)
    with pytest.raises(CodecError, match="the CRC-32C checksum does not match"):
        decoded(b"\0\0\0", decoders)


def test_dictionaries_of_lzma_are_limited() -> None:
    filters = [{"id": lzma.FILTER_DELTA, "dist": 2}, LZMA2[0] | {"dict_size": 1 << 30}]
    config = {"id": "lzma", "format": lzma.FORMAT_RAW, "filters": filters}
    with pytest.raises(CodecError, match="a dictionary of 1073741824 bytes; 536,870,912 are"):
        decoded(b"x", decoders_v2(config, None, ""))
    filters[1]["dict_size"] = "70"
    with pytest.raises(CodecError, match="a dictionary of '70' bytes"):
        decoded(b"x", decoders_v2(config, None, ""))
    # In other formats the size is in the stream.
    large = {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}
    stored = lzma.compress(RAW, filters=[large])
    with pytest.raises(CodecError, match="(?i)memory"):
        decoded(stored, decoders_v2({"id": "lzma"}, None, ""))


@pytest.mark.parametrize("name", ["pickle", "json2", "vlen-utf8"])
def test_codecs_for_objects_are_refused(name: str) -> None:
    message = f"the codec '{name}', which is for objects and not for pixels"
    with pytest.raises(Unsupported, match=message):
        decoders_v2({"id": name}, None, "")
    with pytest.raises(Unsupported, match=message):
        decoders_v3([(f"numcodecs.{name}", {})])


def test_unknown_codecs_and_settings_are_named() -> None:
    with pytest.raises(Unsupported, match="the codec 'nonsense', which is not installed here"):
        decoders_v2({"id": "nonsense"}, None, "")
    with pytest.raises(Unsupported, match=r"the codec 'delta'.*TypeError.*wrong"):
        decoders_v2(None, [DELTA | {"wrong": 1}], "")
    for wrong in ({}, {"id": 5}, "zlib"):
        with pytest.raises(UnreadableFile, match=r"^a/\.zarray: names no codec where one belongs"):
            decoders_v2(None, [wrong], "a/.zarray")  # type: ignore[list-item]


def test_a_chunk_without_codecs_has_the_length_of_its_memory() -> None:
    assert decoded(RAW, ()) == RAW
    with pytest.raises(CodecError, match="decodes to 10,000 bytes, not 9,999"):
        decoded(RAW, (), 9_999)


@pytest.mark.parametrize("name", ["none", "zstd", "gzip", "blosc-zstd", "blosc-lz4"])
def test_chunks_of_new_stores_are_read_back(name: str) -> None:
    compression = parse_compression(name)
    stored = bytes(compression.encode(VALUES))
    assert decoded(stored, decoders_of(compression)) == RAW
