"""Parts of Blosc chunks: only the blocks that a crop meets are decoded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

numcodecs = pytest.importorskip("numcodecs")

from bfbridge import BioReader, BioWriter  # noqa: E402
from bfbridge.errors import ReadFailed  # noqa: E402
from bfbridge_omezarr.chunked.codecs import CodecError, decode_part, decoders_v2  # noqa: E402

BLOSC = decoders_v2({"id": "blosc"}, None, "")


def pixels(dtype: str, count: int) -> np.ndarray[Any, Any]:
    """Values that compress, and are all over their type."""
    values = np.random.default_rng(0).poisson(200, count) * 3 + np.arange(count) // 97
    return values.astype(dtype)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("dtype", ["u1", "<u2", "<f4", "<f8", "<c16"])
@pytest.mark.parametrize("shuffle", [0, 1, 2])
@pytest.mark.parametrize("name", ["zstd", "lz4", "lz4hc", "blosclz", "zlib"])
def test_any_span_of_any_chunk(name: str, shuffle: int, dtype: str) -> None:
    # The last block is shorter than the others.
    values = pixels(dtype, 200_011)
    stored = numcodecs.Blosc(name, 1, shuffle, blocksize=8192).encode(values)
    expected = values.view(np.uint8)
    chance = np.random.default_rng(1)
    size = int.from_bytes(stored[8:12], "little")  # Blosc rounds what is wished for
    assert size < expected.nbytes
    ends = [0, 1, size - 1, size, size + 1, expected.nbytes - 1, expected.nbytes]
    spans = [(0, 1), (0, expected.nbytes), (expected.nbytes - 1, expected.nbytes), (size, 2 * size)]
    spans += [tuple(sorted(chance.choice([*ends, *chance.integers(0, expected.nbytes, 4)], 2)))
              for _ in range(20)]  # fmt: skip
    for low, high in spans:
        if low == high:
            continue
        out = np.full(expected.nbytes, 171, np.uint8)
        for given in (stored, bytearray(stored)):
            decode_part(given, BLOSC, out, 1 << 30, range(int(low), int(high)))
            np.testing.assert_array_equal(out[low:high], expected[low:high])


def test_only_what_is_met_is_decoded() -> None:
    values = pixels("<u2", 1 << 16)
    stored = numcodecs.Blosc("zstd", 1, 1, blocksize=1 << 14).encode(values)
    out = np.full(values.nbytes, 171, np.uint8)
    decode_part(stored, BLOSC, out, 1 << 30, range(20_000, 40_000))
    assert (out[: 1 << 14] == 171).all()
    assert (out[3 << 14 :] == 171).all()


def test_chunks_that_do_not_compress() -> None:
    values = np.random.default_rng(0).integers(0, 256, 50_000).astype("u1")
    stored = numcodecs.Blosc("lz4", 1, 0, blocksize=8192).encode(values)
    out = np.zeros(values.nbytes, np.uint8)
    decode_part(stored, BLOSC, out, 1 << 30, range(10_000, 20_000))
    np.testing.assert_array_equal(out[10_000:20_000], values[10_000:20_000])


def test_damage_is_an_error_whatever_it_hits() -> None:
    values = pixels("<u2", 30_011)
    stored = bytes(numcodecs.Blosc("zstd", 1, 1, blocksize=8192).encode(values))
    expected = values.view(np.uint8)
    chance = np.random.default_rng(2)
    out = np.empty(expected.nbytes, np.uint8)
    wrong = 0
    for trial in range(400):
        damaged = bytearray(stored)
        # The header and the list of blocks above all.
        place = int(chance.integers(0, 16 + 4 * 8 if trial % 2 else len(stored)))
        damaged[place] ^= int(chance.integers(1, 256))
        if trial % 5 == 0:
            damaged = damaged[: int(chance.integers(0, len(stored)))]
        try:
            decode_part(damaged, BLOSC, out, 1 << 30, range(20_000, 40_000))
        except CodecError:
            wrong += 1
    assert wrong > 150


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("axes", [(1, 1), (3, 2)], ids=["planes", "blocks"])
@pytest.mark.parametrize("shards", [None, (1, 3, 4, 512, 512)])
def test_crops_of_a_store(tmp_path: Path, axes: tuple[int, int], shards: Any) -> None:
    shape = (700, 900, 4, 3)
    values = pixels("u2", math.prod(shape)).reshape(shape)
    path = tmp_path / "a.zarr"
    chunks = (1, *axes, 256, 256)
    with BioWriter(path, image=values, chunks=chunks, shards=shards) as bw:
        bw[:] = values
    chance = np.random.default_rng(3)
    with BioReader(path, cache=0) as br:
        for _ in range(60):
            box = tuple(slice(a, a + int(chance.integers(1, n - a + 1)))
                        for n in shape for a in [int(chance.integers(0, n))])  # fmt: skip
            expected = values[box]
            np.testing.assert_array_equal(br[box].reshape(expected.shape), expected)


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    values = pixels("u2", 600 * 600).reshape(600, 600)
    path = tmp_path / "a.zarr"
    with BioWriter(path, image=values, chunks=600) as bw:
        bw[:] = values
    chunk = path / "0/c/0/0/0/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-2000])
    with BioReader(path, cache=0) as br, pytest.raises(ReadFailed, match=r"c/0/0/0/0/0.*damaged"):
        br[500:, :100]


def test_a_chunk_is_kept_when_it_is_met_again(tmp_path: Path) -> None:
    values = pixels("u2", 512 * 512).reshape(512, 512)
    path = tmp_path / "a.zarr"
    with BioWriter(path, image=values, chunks=256) as bw:
        bw[:] = values
    with BioReader(path) as br:
        cache = br._file.cache
        boxes = (
            (0, np.s_[10:90, 20:200]),
            (0, np.s_[10:90, 20:200]),  # large parts of a chunk are read again
            (0, np.s_[10:90, 20:30]),
            (1, np.s_[5:60, 7:9]),
            (1, np.s_[300:, 300:]),
        )
        for kept, box in boxes:
            np.testing.assert_array_equal(br[box], values[box])
            assert len(cache) == kept
        (path / "0/c/0/0/0/0/0").unlink()
        np.testing.assert_array_equal(br[90:99, :256], values[90:99, :256])
