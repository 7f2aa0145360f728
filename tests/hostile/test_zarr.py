"""Damaged and hostile OME-Zarr stores: each ends in a BfbridgeError, fast and in little memory."""

from __future__ import annotations

import bz2
import gzip
import http.server
import io
import json
import lzma
import os
import random
import struct
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bfbridge.backend import OpenOptions, Region
from bfbridge.errors import (
    BfbridgeError,
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.storage.source import as_source
from bfbridge_omezarr import OmeZarrReader
from tests.support.peak import peak_memory

MIB = 1 << 20
SHAPE = (40, 50)
CHUNKS = (20, 25)
VALUES = (np.arange(40 * 50).reshape(SHAPE) * 31).astype(np.uint16)


def open_reader(path: Any, **options: Any) -> OmeZarrReader:
    return OmeZarrReader.open(as_source(path), OpenOptions(**options))


def read_all(reader: OmeZarrReader) -> np.ndarray[Any, Any]:
    image = reader.images[0]
    out = np.empty(image.levels[0].shape, image.dtype)
    reader.read(Region(0, 0, (0,) * 5, image.levels[0].shape), out)
    return out


def read_corner(reader: OmeZarrReader, size: int = 4) -> None:
    image = reader.images[0]
    reader.read(
        Region(0, 0, (0,) * 5, (1, 1, 1, size, size)), np.empty((1, 1, 1, size, size), image.dtype)
    )


@contextmanager
def frugal(seconds: float = 5, megabytes: int = 256) -> Iterator[None]:
    """Fail if what is inside takes longer, or more memory."""
    with peak_memory() as peak:
        began = time.perf_counter()
        yield
        spent = time.perf_counter() - began
    assert spent < seconds
    assert peak.nbytes < megabytes * MIB, f"{peak.nbytes:,} bytes"


def document(path: Path, name: str, value: Any) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(value if isinstance(value, str) else json.dumps(value))


def multiscales(*paths: str, **more: Any) -> dict[str, Any]:
    axes = [{"name": n, "type": "space"} for n in "yx"]
    entry = {"version": "0.4", "axes": axes, "datasets": [{"path": p} for p in paths]}
    return {"multiscales": [entry], **more}


def array_v2(**changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": list(SHAPE),
        "chunks": list(CHUNKS),
        "dtype": "<u2",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
        **changes,
    }


def store_v2(path: Path, encode: Callable[[bytes], bytes] = bytes, **changes: Any) -> Path:
    """A small valid store of version 2, except for what is changed."""
    document(path, ".zgroup", {"zarr_format": 2})
    document(path, ".zattrs", multiscales("0"))
    document(path / "0", ".zarray", array_v2(**changes))
    for i in range(2):
        for j in range(2):
            block = VALUES[20 * i : 20 * i + 20, 25 * j : 25 * j + 25]
            chunk = path / f"0/{i}/{j}"
            chunk.parent.mkdir(exist_ok=True)
            chunk.write_bytes(encode(block.tobytes()))
    return path


def array_v3(codecs: list[Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(SHAPE),
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(CHUNKS)}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": codecs or [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
        **changes,
    }


def store_v3(path: Path, codecs: list[Any] | None = None, **changes: Any) -> Path:
    ome = {"ome": {**multiscales("0"), "version": "0.5"}}
    document(path, "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": ome})
    document(path / "0", "zarr.json", array_v3(codecs, **changes))
    return path


def sharding(inner: list[int] | None = None, **changes: Any) -> list[Any]:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    return [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": inner or [10, 25],
                "codecs": [little],
                "index_codecs": [little, {"name": "crc32c"}],
                **changes,
            },
        }
    ]


def sharded(
    path: Path, table: list[tuple[int, int]], data: bytes = b"", crc: int | None = None
) -> Path:
    """A store whose first shard (two chunks of 10 x 25) is as given."""
    from bfbridge_omezarr.chunked.codecs import crc32c

    store_v3(path, sharding())
    raw = struct.pack("<4Q", *(n for pair in table for n in pair))
    checksum = crc32c(raw) if crc is None else crc
    shard = path / "0/c/0/0"
    shard.parent.mkdir(parents=True)
    shard.write_bytes(data + raw + struct.pack("<I", checksum))
    return path


def test_the_sound_stores_are_sound(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_all(open_reader(store_v2(tmp_path / "2")))[0, 0, 0], VALUES)
    data = VALUES[:20, :25].tobytes()
    path = sharded(tmp_path / "3", [(0, 500), (500, 500)], data)
    np.testing.assert_array_equal(read_all(open_reader(path))[0, 0, 0, :20, :25], VALUES[:20, :25])


# ---- paths that leave the store

ESCAPES = [
    "../secret",
    "a/../../secret",
    "/etc",
    "..",
    "C:/secret",
    "file:/etc",
    "..\\secret",
    "0\0",
    7,
    None,
    "~/../..",
]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("carrier", ["dataset", "series", "well", "field", "label"])
def test_paths_that_leave_the_store(tmp_path: Path, carrier: str, escape: Any) -> None:
    store_v2(tmp_path / "secret")
    path = tmp_path / "a.zarr"
    group = {"zarr_format": 2}
    document(path, ".zgroup", group)
    if carrier == "dataset":
        document(path, ".zattrs", multiscales(escape))
    elif carrier == "series":
        document(path, ".zattrs", {"bioformats2raw.layout": 3})
        document(path / "OME", ".zgroup", group)
        document(path / "OME", ".zattrs", {"series": [escape]})
    elif carrier == "well":
        document(path, ".zattrs", {"plate": {"wells": [{"path": escape}]}})
    elif carrier == "field":
        document(path, ".zattrs", {"plate": {"wells": [{"path": "A/1"}]}})
        document(path / "A/1", ".zgroup", group)
        document(path / "A/1", ".zattrs", {"well": {"images": [{"path": escape}]}})
    else:
        store_v2(path)
        document(path / "labels", ".zgroup", group)
        document(path / "labels", ".zattrs", {"labels": [escape]})
    with frugal(), pytest.raises(UnreadableFile, match="a.zarr|labels"):
        open_reader(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("place", ["0/1/1", "0/1", "0", "0/.zarray", ".zattrs"])
@pytest.mark.parametrize("nofollow", [True, False])
def test_links_out_of_the_store(
    tmp_path: Path, place: str, nofollow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not nofollow:
        monkeypatch.setattr("bfbridge_omezarr.hierarchy.store._NOFOLLOW", 0)
    path = store_v2(tmp_path / "a.zarr")
    outside = tmp_path / "outside"
    (path / place).rename(outside)
    (path / place).symlink_to(outside)
    with pytest.raises(ReadFailed, match="leads out of the store"):
        read_all(open_reader(path))
    allowed = open_reader(path, allow_outside=True)
    np.testing.assert_array_equal(read_all(allowed)[0, 0, 0], VALUES)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("place", ["0/1/1", "0/1", "0"])
def test_links_inside_the_store_and_to_the_store(tmp_path: Path, place: str) -> None:
    path = store_v2(tmp_path / "a.zarr")
    (path / place).rename(path / "elsewhere")
    (path / place).symlink_to(path / "elsewhere")
    (tmp_path / "link.zarr").symlink_to(path)
    for start in (path, tmp_path / "link.zarr"):
        np.testing.assert_array_equal(read_all(open_reader(start))[0, 0, 0], VALUES)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_does_not_hang_and_is_no_fill_value(tmp_path: Path) -> None:
    path = store_v2(tmp_path / "a.zarr")
    (path / "0/1/1").unlink()
    os.mkfifo(path / "0/1/1")
    with frugal(), pytest.raises(ReadFailed, match="0/1/1: this is not a regular file"):
        read_all(open_reader(path))
    (path / "0/1/1").unlink()
    (path / "0/1/1").mkdir()
    with pytest.raises(ReadFailed, match="0/1/1: this is not a regular file"):
        read_all(open_reader(path))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_chunk_is_no_fill_value(tmp_path: Path) -> None:
    path = store_v2(tmp_path / "a.zarr")
    (path / "0/1/1").chmod(0)
    with pytest.raises(ReadFailed, match="0/1/1"):
        read_all(open_reader(path))


# ---- sizes


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [-1, 5]}, {"shape": [1 << 70, 5]}, {"shape": [4.5, 5]}, {"shape": "40"},
        {"shape": []}, {"shape": [40, 50, 60]}, {"shape": [True, 50]}, {"shape": [0, 50]},
        {"chunks": [0, 25]}, {"chunks": [20]}, {"chunks": [-20, 25]}, {"chunks": None},
        {"dtype": "<q9"}, {"dtype": 5}, {"dtype": "|O"}, {"dtype": "<M8[ns]"}, {"dtype": "|S5"},
        {"dtype": [["a", "<u2"]]}, {"dtype": "<f16"}, {"order": "Q"}, {"dimension_separator": "x"},
        {"fill_value": "zero"}, {"fill_value": -1}, {"fill_value": [1, 2]}, {"fill_value": 1 << 80},
        {"fill_value": {}}, {"compressor": 5}, {"compressor": {"id": 5}}, {"compressor": {}},
        {"filters": [5]}, {"filters": 5}, {"compressor": {"id": "nonsense"}},
        {"compressor": {"id": "pickle"}}, {"filters": [{"id": "pickle"}]},
        {"shape": [1] * 33, "chunks": [1] * 33},
    ],
)  # fmt: skip
def test_senseless_array_documents_of_version_2(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = store_v2(tmp_path / "a.zarr", **changes)
    with frugal(), pytest.raises(BfbridgeError):
        read_all(open_reader(path))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "changes",
    [
        {"zarr_format": 4}, {"node_type": "tree"}, {"data_type": "string"}, {"data_type": 5},
        {"data_type": "r99999999999"}, {"shape": [1 << 70, 5]}, {"chunk_grid": None},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [20]}}},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [0, 1]}}},
        {"chunk_grid": {"name": "odd"}}, {"chunk_key_encoding": {"name": "odd"}}, {"codecs": []},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "../"}}},
        {"codecs": [{"name": "odd"}]}, {"codecs": [5]}, {"codecs": "bytes"}, {"attributes": 5},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "middle"}}]},
        {"codecs": [{"name": "transpose", "configuration": {"order": [0, 0]}}, {"name": "bytes"}]},
        {"codecs": [{"name": "transpose", "configuration": {"order": [5, 1]}}, {"name": "bytes"}]},
        {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]}, {"fill_value": "0xzz"},
        {"codecs": sharding([3, 3])}, {"codecs": sharding([0, 1])}, {"codecs": sharding([20])},
        {"codecs": sharding(index_location="middle")}, {"codecs": sharding(index_codecs=5)},
        {"codecs": sharding(codecs=[])},
    ],
)  # fmt: skip
def test_senseless_array_documents_of_version_3(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = store_v3(tmp_path / "a.zarr")
    document(path / "0", "zarr.json", {**array_v3(), **changes})
    with frugal(), pytest.raises(BfbridgeError):
        read_all(open_reader(path))


def test_huge_images_open_and_take_no_memory(tmp_path: Path) -> None:
    path = store_v2(tmp_path / "a.zarr", shape=[40_000, 50_000])
    with frugal():
        reader = open_reader(path)
        assert reader.images[0].levels[0].shape == (1, 1, 1, 40_000, 50_000)
        read_corner(reader)


def test_huge_chunks_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    with frugal(), pytest.raises(LimitExceeded, match="bytes of one decoded chunk"):
        open_reader(store_v2(tmp_path / "2", shape=[1 << 31] * 2, chunks=[1 << 31] * 2))
    shape = [1 << 16, 1 << 16]
    grid = {"name": "regular", "configuration": {"chunk_shape": shape}}
    with frugal(), pytest.raises(LimitExceeded, match="bytes of one shard's index"):
        open_reader(store_v3(tmp_path / "3", sharding([1, 1]), shape=shape, chunk_grid=grid))


def test_millions_of_channels_are_refused(tmp_path: Path) -> None:
    path = store_v2(tmp_path / "a.zarr", shape=[1 << 31, 5, 5], chunks=[1, 500, 500])
    attributes = multiscales("0")
    attributes["multiscales"][0]["axes"].insert(0, {"name": "c", "type": "channel"})
    document(path, ".zattrs", attributes)
    with frugal(), pytest.raises(LimitExceeded, match="number of channels"):
        open_reader(path)


# ---- expansion


def blosc_of(size: int) -> bytes:
    """A whole Blosc chunk of so many zeros."""
    import imagecodecs

    return bytes(imagecodecs.blosc_encode(np.zeros(size, np.uint8), 9, compressor="zstd"))


def bombs(size: int) -> list[tuple[dict[str, Any], Callable[[], bytes]]]:
    import imagecodecs

    zeros = bytes(MIB)

    def repeated(compressor: Any) -> bytes:
        return b"".join(compressor.compress(zeros) for _ in range(size // MIB)) + compressor.flush()

    return [
        ({"id": "zlib"}, lambda: repeated(zlib.compressobj(9))),
        ({"id": "gzip"}, lambda: repeated(zlib.compressobj(9, wbits=31))),
        ({"id": "bz2"}, lambda: repeated(bz2.BZ2Compressor(9))),
        ({"id": "lzma", "format": 1, "filters": None}, lambda: repeated(lzma.LZMACompressor())),
        ({"id": "zstd"}, lambda: bytes(imagecodecs.zstd_encode(np.zeros(size, np.uint8), 1))),
        (
            {"id": "lz4"},
            lambda: bytes(imagecodecs.lz4_encode(np.zeros(size, np.uint8), header=True)),
        ),
        ({"id": "blosc"}, lambda: blosc_of(size)),
    ]


BOMBS = bombs(64 * MIB)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(("compressor", "make"), BOMBS, ids=[c["id"] for c, _ in BOMBS])
def test_chunks_that_expand_beyond_their_size(
    tmp_path: Path, compressor: dict[str, Any], make: Callable[[], bytes]
) -> None:
    path = store_v2(tmp_path / "a.zarr", compressor=compressor)
    data = make()
    (path / "0/0/0").write_bytes(data)
    # The first of two codecs is limited too.
    twice = store_v2(tmp_path / "b.zarr", compressor=compressor, filters=[{"id": "zlib"}])
    (twice / "0/0/0").write_bytes(data)
    for bomb in (path, twice):
        with frugal(megabytes=16), pytest.raises((ReadFailed, LimitExceeded), match="0/0/0"):
            read_corner(open_reader(bomb))


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
PACKED = {
    "gzip": {"level": 1},
    "zstd": {"level": 1, "checksum": False},
    "blosc": {"cname": "zstd", "clevel": 1, "shuffle": "noshuffle", "typesize": 2, "blocksize": 0},
    "numcodecs.bz2": {"level": 1},
    "numcodecs.zlib": {"level": 1},
}


@pytest.mark.slow(ci=True)
@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed`")
@pytest.mark.parametrize("inside", ["after a filter", "in shards of shards"])
@pytest.mark.parametrize("name", PACKED)
def test_chunks_that_expand_in_arrays_that_zarr_python_reads(
    tmp_path: Path, name: str, inside: str
) -> None:
    codec = {"name": name, "configuration": PACKED[name]}
    filtered = [{"name": "numcodecs.delta", "configuration": {"dtype": "<u2"}}, LITTLE, codec]
    nested = sharding(list(CHUNKS), codecs=sharding(list(CHUNKS), codecs=[LITTLE, codec]))
    path = store_v3(tmp_path / "a.zarr", filtered if inside == "after a filter" else nested)
    array = zarr.open_array(str(path / "0"), mode="r+")
    array[...] = VALUES
    np.testing.assert_array_equal(read_all(open_reader(path))[0, 0, 0], VALUES)
    made = {compressor["id"]: make for compressor, make in bombs(64 * MIB)}
    bomb = made[name.removeprefix("numcodecs.")]()
    chunk = path / "0/c/0/0"
    if inside != "after a filter":
        from bfbridge_omezarr.chunked.codecs import crc32c

        for _ in range(2):
            table = struct.pack("<2Q", 0, len(bomb))
            bomb += table + struct.pack("<I", crc32c(table))
    chunk.write_bytes(bomb)
    del bomb
    with frugal(megabytes=16), pytest.raises((ReadFailed, LimitExceeded), match="a.zarr/0"):
        read_corner(open_reader(path))


def test_huge_chunk_from_almost_nothing(tmp_path: Path) -> None:
    size = 1600 * MIB
    path = store_v2(
        tmp_path / "a.zarr",
        shape=[size, 2],
        chunks=[size, 1],
        dtype="|u1",
        compressor={"id": "blosc"},
    )
    (path / "0/0/0").write_bytes(
        struct.pack("<4B3I", 2, 1, 1, 1, size, 1 << 20, 49_000) + bytes(48_984)
    )
    with frugal(megabytes=32), pytest.raises(LimitExceeded, match="0/0/0.*ratio"):
        read_corner(open_reader(path), 1)


def test_file_much_longer_than_its_chunk(tmp_path: Path) -> None:
    path = store_v2(tmp_path / "a.zarr", compressor={"id": "zlib"})
    with open(path / "0/0/0", "wb") as file:
        file.truncate(1 << 40)
    with frugal(megabytes=32), pytest.raises(LimitExceeded, match="0/0/0"):
        read_corner(open_reader(path))


def test_pickled_pixels_are_never_loaded(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    for number, changes in enumerate(
        (
            {"compressor": {"id": "pickle"}},
            {"filters": [{"id": "pickle"}]},
            {"dtype": "|O", "filters": [{"id": "pickle"}]},
        )
    ):
        path = store_v2(tmp_path / f"{number}.zarr", lambda _: code, **changes)
        with pytest.raises(Unsupported):
            read_all(open_reader(path))
    codecs = [{"name": "bytes"}, {"name": "numcodecs.pickle", "configuration": {}}]
    path = store_v3(tmp_path / "3.zarr", codecs)
    (path / "0/c/0").mkdir(parents=True)
    (path / "0/c/0/0").write_bytes(code)
    with pytest.raises(BfbridgeError):
        read_all(open_reader(path))
    assert not canary.exists()


# ---- documents


def deep_json(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (deep_json(300), "nesting"),
        (deep_json(2_000_000), "nested|number of JSON values"),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "nested"),
        ('{"a":[' + "0," * 3_000_000 + "0]}", "number of JSON values"),
        ('{"a":[' + "[]," * 3_000_000 + "0]}", "number of JSON values"),
        ('{"a":' + "9" * 1_000_000 + "}", "no JSON"),
        ("[]", "not an object"), ("null", "not an object"), ("", "no JSON"), ("{", "no JSON"),
        ("\udcff\udcfe", "no JSON"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", [".zattrs", "zarr.json", "0/.zarray"])
def test_hostile_json(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = store_v2(tmp_path / "a.zarr")
    (path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with frugal(), pytest.raises(BfbridgeError, match=message):
        open_reader(path)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "attributes",
    [
        {"multiscales": 5}, {"multiscales": []}, {"multiscales": [5]}, {"multiscales": [{}]},
        {"multiscales": [{"datasets": []}]}, {"multiscales": [{"datasets": [5]}]},
        {"multiscales": [{"datasets": [{"path": "0"}], "axes": 5}]},
        {"multiscales": [{"datasets": [{"path": "0"}], "axes": [5, 6]}]},
        {"multiscales": [{"datasets": [{"path": "0"}], "axes": ["x", "x"]}]},
        {"multiscales": [{"datasets": [{"path": "0"}], "axes": ["z", "y", "x"]}]},
        {"multiscales": [{"datasets": [{"path": "0"}], "axes": ["z", "x"]}]},
        {"multiscales": [{"datasets": [{"path": ""}]}]},
        {"multiscales": [{"datasets": [{"path": "0/0"}]}]},
        {"plate": {}}, {"plate": {"wells": 5}}, {"plate": {"wells": [5]}}, {"well": {"images": 5}},
        {"plate": {"wells": [{"path": ""}]}}, {"plate": {"wells": [{"path": "A/1"}]}},
        {"well": {"images": [5]}}, {"labels": ["0"]}, {"bioformats2raw.layout": 3},
        {"well": {"images": [{"path": ""}]}}, {"labels": [5]}, {"labels": []}, {"ome": 5},
        {"ome": {"multiscales": 5}},
        {"plate": {"wells": [{"path": "0"}] * 50_000}},
        {"plate": {"wells": [{"path": str(n)} for n in range(200_000)]}},
        multiscales(*map(str, range(200_000))),
        {"multiscales": multiscales("0")["multiscales"] * 120_000},
    ],
)  # fmt: skip
def test_senseless_groups(tmp_path: Path, attributes: dict[str, Any]) -> None:
    path = store_v2(tmp_path / "a.zarr")
    document(path, ".zattrs", attributes)
    with frugal(10), pytest.raises(BfbridgeError):
        open_reader(path)


ODD: list[Any] = [5, "x", [], {}, [5], None, 1e999, "NaN", -1, {"a": 1}, [[[]]], True, 10**400]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:20])
def test_senseless_descriptions_cost_metadata_and_not_pixels(tmp_path: Path, odd: Any) -> None:
    attributes = multiscales("0", omero={"channels": odd})
    entry = attributes["multiscales"][0]
    entry["datasets"][0]["coordinateTransformations"] = odd
    entry["coordinateTransformations"] = [odd, {"type": "scale", "scale": odd}]
    entry["name"], entry["version"] = odd, odd
    entry["axes"][0]["unit"] = odd
    path = store_v2(tmp_path / "a.zarr")
    document(path, ".zattrs", attributes)
    channel = {"label": odd, "color": odd, "window": {"start": 0, "end": odd}}
    for omero in (odd, {"channels": [channel]}):
        attributes["omero"] = omero
        reader = open_reader(path)
        np.testing.assert_array_equal(read_all(reader)[0, 0, 0], VALUES)
        assert len(reader.ome().images) == 1


def payloads(url: str, secret: Path) -> list[str]:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    return [
        f'<!DOCTYPE OME SYSTEM "{url}/dtd"><OME/>',
        f'<!DOCTYPE OME [<!ENTITY x SYSTEM "{url}/http">]><OME>&x;</OME>',
        f'<!DOCTYPE OME [<!ENTITY x SYSTEM "{secret.as_uri()}">]><OME>&x;</OME>',
        f'<!DOCTYPE OME [<!ENTITY % x SYSTEM "{url}/parameter">%x;]><OME/>',
        f'<!DOCTYPE OME [<!ENTITY l0 "ha">{laughs}]><OME>&l11;</OME>',
    ]


@pytest.mark.slow(ci=True)
def test_xml_reaches_for_nothing(tmp_path: Path) -> None:
    hits: list[str] = []

    class Canary(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Canary)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        secret = tmp_path / "secret"
        secret.write_text("secret")
        path = store_v2(tmp_path / "a.zarr")
        for payload in payloads(f"http://127.0.0.1:{server.server_port}", secret):
            document(path / "OME", "METADATA.ome.xml", payload)
            with frugal(1, 100), pytest.raises(BfbridgeError, match="METADATA.ome.xml"):
                open_reader(path)
    finally:
        server.shutdown()
        server.server_close()
    assert hits == []


# ---- damaged chunks


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(("compressor", "make"), bombs(1000), ids=[c["id"] for c, _ in BOMBS])
def test_damaged_chunks(
    tmp_path: Path, compressor: dict[str, Any], make: Callable[[], bytes]
) -> None:
    del make
    import numcodecs

    codec = numcodecs.get_codec(compressor)
    path = store_v2(
        tmp_path / "a.zarr", lambda raw: bytes(codec.encode(raw)), compressor=compressor
    )
    np.testing.assert_array_equal(read_all(open_reader(path))[0, 0, 0], VALUES)
    good = (path / "0/1/0").read_bytes()
    reader = open_reader(path)
    short = bytes(codec.encode(VALUES[:10, :25].tobytes()))
    long = bytes(codec.encode(VALUES[:30, :25].tobytes()))
    for bad in (b"", good[:1], good[: len(good) // 2], good[:-1], b"\xff" * len(good), short, long):
        (path / "0/1/0").write_bytes(bad)
        with frugal(), pytest.raises(ReadFailed, match="a.zarr/0/1/0"):
            read_all(reader)


def test_uncompressed_chunks_of_another_length(tmp_path: Path) -> None:
    path = store_v2(tmp_path / "a.zarr")
    good = (path / "0/1/0").read_bytes()
    for bad in (b"", good[:-1], good[:500], good + b"x"):
        (path / "0/1/0").write_bytes(bad)
        with pytest.raises((ReadFailed, LimitExceeded), match="a.zarr/0/1/0"):
            read_all(open_reader(path))


ABSENT = (1 << 64) - 1


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("table", "crc", "message"),
    [
        ([(0, 500), (500, 500)], 5, "checksum"),
        ([(0, 500), (1 << 40, 500)], None, "cut off"),
        ([(0, 500), (1 << 63, 500)], None, "damaged"),
        ([(0, 500), (ABSENT - 1, 500)], None, "damaged"),
        ([(0, 500), (500, ABSENT - 5)], None, "damaged"),
        ([(0, 500), (500, 1 << 40)], None, "damaged"),
        ([(0, 500), (500, 499)], None, "damaged"),
        ([(0, 500), (500, 0)], None, "damaged"),
        ([(0, 500), (ABSENT, 500)], None, "damaged"),
        ([(0, 500), (900, 500)], None, "cut off|damaged"),
    ],
)
def test_damaged_shards(
    tmp_path: Path, table: list[tuple[int, int]], crc: int | None, message: str
) -> None:
    path = sharded(tmp_path / "a.zarr", table, VALUES[:20, :25].tobytes(), crc)
    with frugal(), pytest.raises((ReadFailed, LimitExceeded), match=f"0/c/0/0.*{message}"):
        read_all(open_reader(path))


def test_shards_that_are_cut_off(tmp_path: Path) -> None:
    path = sharded(tmp_path / "a.zarr", [(0, 500), (500, 500)], VALUES[:20, :25].tobytes())
    good = (path / "0/c/0/0").read_bytes()
    for length in (0, 1, 35, len(good) - 1):
        (path / "0/c/0/0").write_bytes(good[:length])
        with pytest.raises(ReadFailed, match="0/c/0/0"):
            read_all(open_reader(path))


@pytest.mark.slow(ci=True)
def test_mutated_stores(tmp_path: Path) -> None:
    """Bytes changed at random, anywhere: an error of ours, or pixels; never anything else."""
    import numcodecs

    codec = numcodecs.Blosc("zstd", 1)
    path = store_v2(
        tmp_path / "2.zarr", lambda raw: bytes(codec.encode(raw)), compressor=codec.get_config()
    )
    shard = sharded(tmp_path / "3.zarr", [(0, 500), (500, 500)], VALUES[:20, :25].tobytes())
    files = [(p, p.read_bytes()) for root in (path, shard) for p in root.rglob("*") if p.is_file()]
    chance = random.Random(20)
    failed = 0
    for _ in range(600):
        file, good = chance.choice(files)
        bad = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            kind, place = chance.random(), chance.randrange(len(bad))
            if kind < 0.5:
                bad[place] = chance.randrange(256)
            elif kind < 0.7:
                bad[place] = ord(chance.choice('0123456789[]{}",:-e'))
            elif kind < 0.85:
                del bad[place : place + chance.randint(1, 9)]
            else:
                bad[place:place] = bytes(chance.randrange(256) for _ in range(3))
            bad = bad or bytearray(b"0")
        file.write_bytes(bad)
        began = time.perf_counter()
        try:
            reader = open_reader(path if path in file.parents else shard)
            if max(reader.images[0].levels[0].shape) < 5000:
                read_all(reader)
        except BfbridgeError:
            failed += 1
        finally:
            file.write_bytes(good)
        assert time.perf_counter() - began < 10
    assert failed > 200


# ---- zip files


def zipped(
    path: Path, change: Callable[[zipfile.ZipFile], None] | None = None, **more: Any
) -> Path:
    store = store_v2(path.with_suffix(".zarr"), **more)
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(store.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(store).as_posix())
        if change:
            change(archive)
    return path


def test_zip_entries_outside_are_never_touched(tmp_path: Path) -> None:
    def add(archive: zipfile.ZipFile) -> None:
        archive.writestr("../evil", b"x")
        archive.writestr("/evil", b"x")

    path = zipped(tmp_path / "a.zip", add)
    np.testing.assert_array_equal(read_all(open_reader(path))[0, 0, 0], VALUES)
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.slow(ci=True)
def test_zip_bombs(tmp_path: Path) -> None:
    def add(archive: zipfile.ZipFile) -> None:
        with archive.open(zipfile.ZipInfo("0/0/2"), "w"):
            pass
        info = zipfile.ZipInfo("0/9/9")
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w") as file:
            for _ in range(600):
                file.write(bytes(MIB))

    path = zipped(tmp_path / "a.zip", add, shape=[200, 500], compressor={"id": "zlib"})
    region = Region(0, 0, (0, 0, 0, 190, 230), (1, 1, 1, 192, 232))
    with frugal(megabytes=64), pytest.raises(LimitExceeded, match="0/9/9"):
        open_reader(path).read(region, np.empty(region.shape, np.uint16))
    # The same with a size that lies.
    data = bytearray(path.read_bytes())
    for place in range(len(data) - 4):
        if data[place : place + 4] == struct.pack("<I", 600 * MIB):
            data[place : place + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    with frugal(megabytes=64), pytest.raises(ReadFailed, match="0/9/9"):
        open_reader(path).read(region, np.empty(region.shape, np.uint16))


@pytest.mark.slow(ci=True)
def test_damaged_zip_files(tmp_path: Path) -> None:
    good = zipped(tmp_path / "a.zip").read_bytes()
    chance = random.Random(4)
    damaged = [good[: len(good) * k // 10] for k in range(1, 10)]
    for _ in range(150):
        bad = bytearray(good)
        bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        damaged.append(bytes(bad))
    for number, data in enumerate(damaged):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        try:
            with frugal():
                pixels = read_all(open_reader(path))[0, 0, 0]
        except BfbridgeError:
            continue
        # What opens has the right pixels: every entry has a checksum. (A fill value or shape that
        # changed has one too.)
        np.testing.assert_array_equal(pixels, VALUES)


def test_what_is_no_zip_file(tmp_path: Path) -> None:
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("hello.txt", "hello")
    (tmp_path / "empty.zip").write_bytes(empty.getvalue())
    (tmp_path / "junk.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "gzip.zip").write_bytes(gzip.compress(b"x"))
    for name in ("text", "empty", "junk", "gzip"):
        with pytest.raises((Unsupported, UnreadableFile)):
            open_reader(tmp_path / f"{name}.zip")
