"""Zarr documents and chunks of a few bytes that claim the work of hours."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, Limits
from bfbridge.errors import BfbridgeError, LimitExceeded, ReadFailed
from bfbridge_omezarr.chunked.codecs import CodecError, decode_bytes, decoders_v2

PLAIN = {"name": "bytes", "configuration": {"endian": "little"}}


def image(path: Path, shape: list[int], chunks: list[int], **more: Any) -> Path:
    """An image of one level whose chunks are not stored; `more` goes to the array's document."""
    entry = {"axes": [{"name": n} for n in "tczyx"], "datasets": [{"path": "0"}]}
    ome = {"version": "0.5", "multiscales": [entry], **more.pop("ome", {})}
    (path / "0").mkdir(parents=True)
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (path / "zarr.json").write_text(json.dumps(group))
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": shape,
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [PLAIN],
        "attributes": {},
        **more,
    }
    (path / "0/zarr.json").write_text(json.dumps(document))
    return path


def sharded(inner: list[int]) -> dict[str, Any]:
    configuration = {"chunk_shape": inner, "codecs": [PLAIN], "index_codecs": [PLAIN]}
    return {"name": "sharding_indexed", "configuration": configuration}


class TestCounts:
    @pytest.mark.parametrize(
        ("shape", "chunks", "codecs"),
        [
            ([1, 1, 1, 1 << 20, 1 << 20], [1, 1, 1, 1, 1], [PLAIN]),
            ([1, 1, 1, 1 << 20, 1 << 20], [1, 1, 1, 1 << 10, 1 << 10], [sharded([1, 1, 1, 1, 2])]),
            ([1 << 40, 1, 1, 64, 64], [1, 1, 1, 64, 64], [PLAIN]),
            ([1, 1, 1, 1 << 40, 1 << 40], [1, 1, 1, 1 << 10, 1 << 10], [PLAIN]),
        ],
        ids=["pixels", "shards", "time", "plane"],
    )
    def test_chunks_without_end(
        self, tmp_path: Path, shape: list[int], chunks: list[int], codecs: Any
    ) -> None:
        path = image(tmp_path / "a.zarr", shape, chunks, codecs=codecs)
        with pytest.raises(LimitExceeded, match=r"number of chunks of [\d,]+ pixels is"):
            BioReader(path)

    @pytest.mark.parametrize(
        ("shape", "chunks"),
        [
            ([1, 1, 1, 100, 1000], [1, 1, 1, 1, 1]),
            ([1000, 4, 100, 512, 512], [1, 1, 1, 64, 64]),
            ([1, 3, 1, 300_000, 300_000], [1, 1, 1, 256, 256]),
            ([1, 1, 1, 20_000, 20_000], [1, 1, 1, 16, 16]),
        ],
        ids=str,
    )
    def test_large_images_are_opened(
        self, tmp_path: Path, shape: list[int], chunks: list[int]
    ) -> None:
        with BioReader(image(tmp_path / "a.zarr", shape, chunks)) as br:
            assert list(br.sizes.values()) == [shape[i] for i in (3, 4, 2, 1, 0)]
            assert not br[:5, :5, 0, 0, 0].any()

    def test_the_limit_can_be_raised(self, tmp_path: Path) -> None:
        path = image(tmp_path / "a.zarr", [1, 1, 1, 1000, 1000], [1, 1, 1, 1, 1])
        with pytest.raises(LimitExceeded, match="raise the limit"):
            BioReader(path)
        with BioReader(path, limits=Limits(directories=100_000_000)) as br:
            assert not br[:2, :2, 0, 0, 0].any()

    def test_channels(self, tmp_path: Path) -> None:
        path = image(tmp_path / "a.zarr", [1, 200_000, 1, 64, 64], [1, 1, 1, 64, 64])
        with pytest.raises(LimitExceeded, match="number of channels of one image is 200,000"):
            BioReader(path)

    @pytest.mark.parametrize(
        ("datasets", "entries", "match"),
        [(200, 1, "levels of one image is 200"), (1, 20_000, "images of one group is 20,000")],
    )
    def test_levels_and_images(
        self, tmp_path: Path, datasets: int, entries: int, match: str
    ) -> None:
        path = image(tmp_path / "a.zarr", [1, 1, 1, 64, 64], [1, 1, 1, 64, 64])
        root = json.loads((path / "zarr.json").read_text())
        (entry,) = root["attributes"]["ome"]["multiscales"]
        entry["datasets"] *= datasets
        root["attributes"]["ome"]["multiscales"] *= entries
        (path / "zarr.json").write_text(json.dumps(root))
        with pytest.raises(LimitExceeded, match=match):
            BioReader(path)


MEMBERS = {
    "gzip, empty": gzip.compress(b"") * 2_000_000,
    "gzip, a byte each": gzip.compress(b"x") * 1_000_000,
    "zlib, empty": zlib.compress(b"") * 2_000_000,
}


class TestStreams:
    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize("name", MEMBERS)
    def test_members_without_end(self, name: str) -> None:
        """zlib copies what follows a member, so that this took the square of their number."""
        kind = name.split(",", maxsplit=1)[0]
        # Beside another codec zlib's own streams may have members, too.
        (decoder,) = decoders_v2({"id": kind}, None, "here")
        with pytest.raises(CodecError, match="more than 100,000 members"):
            decoder.decode(MEMBERS[name], 1 << 26)

    @pytest.mark.slow(ci=True)
    @pytest.mark.parametrize("sizes", [[0], [5], [0, 7, 0], [3_000_000, 1, 200_000], [70_000] * 9])
    @pytest.mark.parametrize("padding", [0, 1, 3_000_000])
    def test_members_are_joined(self, sizes: list[int], padding: int) -> None:
        noise = np.random.default_rng(1)
        data = [noise.integers(0, 9, size).astype(np.uint8).tobytes() for size in sizes]
        stored = b"".join(map(gzip.compress, data)) + bytes(padding)
        (decoder,) = decoders_v2({"id": "gzip"}, None, "here")
        whole = b"".join(data)
        assert bytes(decoder.decode(stored, len(whole))) == whole == gzip.decompress(stored)
        out = np.empty(len(whole), np.uint8)
        if len(whole):
            decode_bytes(stored, (decoder,), out, len(whole))
            assert out.tobytes() == whole
        # What is more than wanted shows, and no more is decompressed.
        assert len(decoder.decode(stored, max(0, len(whole) - 1))) <= len(whole)

    @pytest.mark.parametrize("cut", [1, 7, 9, 1000])
    def test_a_stream_that_ends_early(self, cut: int) -> None:
        stored = gzip.compress(b"a" * 10) + gzip.compress(bytes(range(256)) * 40)
        (decoder,) = decoders_v2({"id": "gzip"}, None, "here")
        with pytest.raises((CodecError, zlib.error)):
            decoder.decode(stored[: max(len(stored) - cut, 35)], 1 << 20)

    @pytest.mark.parametrize("size", [(1 << 32) - 1, 1 << 30, "large", None])
    def test_windows_of_lzma(self, size: Any) -> None:
        config = {"id": "lzma", "format": lzma.FORMAT_RAW}
        config["filters"] = [{"id": lzma.FILTER_LZMA2, "dict_size": size}]
        (decoder,) = decoders_v2(config, None, "here")
        with pytest.raises(CodecError, match="an LZMA filter has a dictionary of"):
            decoder.decode(bytes(100), 100)

    def test_lzma_s_own_presets_are_read(self) -> None:
        data = bytes(range(256)) * 100
        for preset in (0, 6, 9 | lzma.PRESET_EXTREME):
            (decoder,) = decoders_v2({"id": "lzma"}, None, "here")
            assert decoder.decode(lzma.compress(data, preset=preset), len(data)) == data
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
        config = {"id": "lzma", "format": lzma.FORMAT_RAW, "filters": filters}
        (decoder,) = decoders_v2(config, None, "here")
        stored = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
        assert decoder.decode(stored, len(data)) == data

    @pytest.mark.slow(ci=True)
    def test_they_are_told_as_damage(self, tmp_path: Path) -> None:
        codecs = [PLAIN, {"name": "gzip", "configuration": {"level": 1}}]
        chunks = [1, 1, 1, 1 << 12, 1 << 12]
        path = image(tmp_path / "a.zarr", chunks, chunks, codecs=codecs)
        chunk = path / "0/c/0/0/0/0/0"
        chunk.parent.mkdir(parents=True)
        chunk.write_bytes(gzip.compress(b"") * 200_000)
        with BioReader(path) as br:
            with pytest.raises(ReadFailed, match=r"0/c/0/0/0/0/0.*more than 100,000 members"):
                br[:10, :10]
            with pytest.raises(BfbridgeError):
                br.thumbnail()
