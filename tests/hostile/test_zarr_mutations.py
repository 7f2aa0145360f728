"""Stores whose documents or chunks were changed at random: pixels or a BfbridgeError, nothing else.

Some hundreds are opened in every run, thousands with ``-m slow`` (two minutes).
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorstore")
pytest.importorskip("zarr")

from bfbridge.backend import OpenOptions, Region
from bfbridge.errors import BfbridgeError
from bfbridge.storage.source import as_source
from bfbridge_omezarr import OmeZarrReader
from tests.support.peak import peak_memory
from tests.support.zarrzoo import DOCUMENTS, make

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

Json = dict[str, Any]
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def axes(names: str) -> list[Json]:
    kinds = {"t": "time", "c": "channel"}
    return [{"name": n, "type": kinds.get(n, "space"), "unit": "micrometer"} for n in names]


def multiscale(*paths: str) -> Json:
    scale: list[Json] = [
        {"type": "scale", "scale": [2.0, 2.0]},
        {"type": "translation", "translation": [0.5, 0.5]},
    ]
    return {
        "name": "image",
        "version": "0.4",
        "type": "mean",
        "axes": axes("yx"),
        "datasets": [{"path": path, "coordinateTransformations": scale} for path in paths],
        "coordinateTransformations": [{"type": "scale", "scale": [1.5, 1.5]}],
    }


def group(**ome: Any) -> Json:
    attributes = {"ome": {"version": "0.5", **ome}}
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def array_2(shape: list[int], chunks: list[int], **more: Any) -> Json:
    return {
        "zarr_format": 2,
        "shape": shape,
        "chunks": chunks,
        "dtype": "<u2",
        "compressor": {"id": "zlib", "level": 1},
        "fill_value": 0,
        "order": "C",
        "filters": [{"id": "delta", "dtype": "<u2"}],
        "dimension_separator": "/",
        **more,
    }


def array_3(*codecs: Json) -> Json:
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [12, 14],
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10, 10]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 3,
        "codecs": list(codecs),
        "attributes": {},
        "dimension_names": ["y", "x"],
    }


BLOSC = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "typesize": 2, "blocksize": 0}
PLAIN = array_3(
    {"name": "transpose", "configuration": {"order": [1, 0]}},
    LITTLE,
    {"name": "blosc", "configuration": BLOSC},
    {"name": "crc32c"},
)
SHARDED = array_3(
    {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [5, 5],
            "codecs": [LITTLE, {"name": "zstd", "configuration": {"level": 1}}],
            "index_codecs": [LITTLE, {"name": "crc32c"}],
            "index_location": "start",
        },
    }
)
FILTERED = array_3({"name": "numcodecs.delta", "configuration": {"dtype": "<u2"}}, LITTLE)
OMERO = {"channels": [{"label": "a", "color": "FF0000", "window": {"min": 0, "max": 9}}]}
SYSTEMS = [{"name": "world", "axes": axes("yx")}, {"name": "intrinsic", "axes": axes("yx")}]
NEWEST: Json = {
    "coordinateSystems": SYSTEMS,
    "datasets": [
        {
            "path": "0",
            "coordinateTransformations": [
                {
                    "type": "sequence",
                    "input": {"path": "0"},
                    "output": {"name": "intrinsic"},
                    "transformations": [{"type": "identity"}],
                }
            ],
        }
    ],
}
TO_WORLD = {"type": "identity", "input": {"path": "a", "name": "x"}, "output": {"name": "world"}}
WELLS = {"wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}], "name": "plate"}
OLD = {"zarr_format": 2}
STORES: dict[str, dict[str, Json]] = {
    "version 0.4": {
        ".zgroup": OLD,
        ".zattrs": {"multiscales": [multiscale("0", "1")], "omero": OMERO},
        "0/.zarray": array_2([12, 14], [5, 6]),
        "1/.zarray": array_2([6, 7], [5, 6], order="F", compressor=None, filters=None),
    },
    "version 0.1": {
        ".zattrs": {"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]},
        "0/.zarray": array_2([1, 2, 1, 12, 14], [1, 1, 1, 5, 6]),
    },
    "version 0.5": {
        "zarr.json": group(multiscales=[multiscale("0", "1")], omero=OMERO),
        "0/zarr.json": PLAIN,
        "1/zarr.json": SHARDED,
    },
    "filtered": {"zarr.json": group(multiscales=[multiscale("0")]), "0/zarr.json": FILTERED},
    "version 0.6": {
        "zarr.json": group(scene={"coordinateTransformations": [TO_WORLD]}),
        "a/zarr.json": group(multiscales=[NEWEST]),
        "a/0/zarr.json": PLAIN,
    },
    "plate": {
        ".zgroup": OLD,
        ".zattrs": {"plate": WELLS},
        "A/1/.zattrs": {"well": {"images": [{"path": "0", "acquisition": 0}]}},
        "A/1/0/.zattrs": {"multiscales": [multiscale("0")]},
        "A/1/0/0/.zarray": array_2([12, 14], [5, 6]),
    },
    "collection": {
        "zarr.json": group(**{"bioformats2raw.layout": 3}),
        "OME/zarr.json": group(series=["0"]),
        "0/zarr.json": group(multiscales=[multiscale("0")]),
        "0/0/zarr.json": PLAIN,
    },
    "labels": {
        "zarr.json": group(multiscales=[multiscale("0")]),
        "0/zarr.json": PLAIN,
        "labels/zarr.json": group(labels=["n"]),
        "labels/n/zarr.json": group(multiscales=[multiscale("0")]),
        "labels/n/0/zarr.json": PLAIN,
    },
    "array": {"zarr.json": PLAIN},
}
NAMES = [
    "ome", "multiscales", "axes", "path", "name", "type", "plate", "well", "omero", "labels",
    "scene", "bioformats2raw.layout", "coordinateSystems", "consolidated_metadata",
    "storage_transformers", "filters", "compressor", "must_understand", "output",
]  # fmt: skip
ODD: list[Any] = [
    None, True, False, -1, 0, 1, 2, 3, 1 << 31, 1 << 62, 1 << 63, 1 << 70, -(1 << 70), 1e308, 1.5,
    math.nan, math.inf, "", "x", "0", "..", "../x", "/etc", "\0", "\ud800", "x" * 5000, [], {},
    [None], [[]], {"a": None}, [1] * 40, list(range(3000)), "NaN", "0x7fc0", "|b1", ">u2", "O",
    "<M8", "V4", "float32", "sharding_indexed", "transpose", "bytes", "crc32c", "pickle", "delta",
    "numcodecs.pickle", "numcodecs.lz4", "gzip", "blosc", "identity", "scale", "sequence", "C:/x",
]  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = []
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, as the keys that lead to it."""
    if place:
        yield place
    if len(place) > 20:
        return
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from places(item, (*place, i))


def change(rnd: random.Random, document: Json) -> None:
    """Remove, repeat, replace or wrap something in a document."""
    *way, last = rnd.choice(list(places(document)))
    parent: Any = document
    for key in way:
        parent = parent[key]
    old, kind = parent[last], rnd.random()
    if kind < 0.2:
        del parent[last]
    elif kind < 0.27 and isinstance(parent, dict):
        parent[rnd.choice(NAMES)] = old
    elif kind < 0.35 and type(old) is int:
        parent[last] = old + rnd.choice([-1, 1, 1000, 10**9])
    elif kind < 0.45:
        parent[last] = rnd.choice([[old], [old, old], {"name": old}, str(old), nested(300)])
    else:
        # A copy, since a later change may go into it.
        parent[last] = json.loads(json.dumps(rnd.choice(ODD)))


def use(path: Path) -> None:
    """Ask for everything that a reader tells."""
    reader = OmeZarrReader.open(as_source(path), OpenOptions())
    try:
        for i, image in enumerate(reader.images[:20]):
            for k, level in enumerate(image.levels[:3]):
                corner = Region(i, k, (0,) * 5, tuple(min(n, 7) for n in level.shape))  # type: ignore[arg-type]
                reader.read(corner, np.empty(corner.shape, image.dtype))
                reader.reads_parts(i, k)
                if reader.stored_as(i, k) is not None:
                    reader.read_stored(i, k, (0,) * 5)
        assert reader.original_metadata
        if len(reader.images) < 20:
            assert reader.ome_xml()
    finally:
        reader.close()


def open_changed_documents(seeds: range, folder: Path) -> tuple[int, int]:
    """How many changed stores were read, and how many refused."""
    read = refused = 0
    for seed in seeds:
        rnd = random.Random(seed)
        documents = json.loads(json.dumps(rnd.choice(list(STORES.values()))))
        name = rnd.choice(list(documents))
        for _ in range(rnd.choice([1, 1, 1, 2, 3])):
            if documents[name]:
                change(rnd, documents[name])
        path = folder / f"{seed}.zarr"
        for key, document in documents.items():
            (path / key).parent.mkdir(parents=True, exist_ok=True)
            (path / key).write_text(json.dumps(document))
        try:
            use(path)
            read += 1
        except BfbridgeError as error:
            assert str(error)  # noqa: PT017 - what is not a BfbridgeError fails the test as it is
            refused += 1
        shutil.rmtree(path)
    return read, refused


def spoil(rnd: random.Random, good: bytes) -> bytes:
    """Flip bits, cut, lengthen or replace a chunk."""
    data = bytearray(good)
    kind = rnd.randrange(6)
    if kind <= 1:
        for _ in range(rnd.choice([1, 1, 3])):
            data[rnd.randrange(min(len(data), rnd.choice([16, 64, 1 << 30])))] ^= (
                1 << rnd.randrange(8)
            )
    elif kind == 2:
        del data[rnd.randrange(len(data)) :]
    elif kind == 3:
        data += rnd.randbytes(rnd.choice([1, 20, 1000]))
    elif kind == 4:
        data[:] = rnd.randbytes(len(data))
    else:
        start = rnd.randrange(len(data))
        data[start : start + 4] = rnd.choice([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"])
    return bytes(data)


def open_changed_chunks(seeds: range, folder: Path) -> tuple[int, int]:
    read = refused = 0
    for seed in seeds:
        rnd = random.Random(seed)
        path = folder / f"{seed}.zarr"
        if make(seed, path) is None:
            continue
        files = [p for p in sorted((path / "0").rglob("*")) if p.is_file()]
        files = [p for p in files if p.name not in DOCUMENTS and p.stat().st_size]
        file = rnd.choice(files) if files else None
        good = file.read_bytes() if file is not None else b""
        for _ in range(8 if file is not None else 0):
            file.write_bytes(spoil(rnd, good))
            try:
                use(path)
                read += 1
            except BfbridgeError as error:
                assert str(error)  # noqa: PT017 - as above
                refused += 1
        shutil.rmtree(path)
    return read, refused


@pytest.mark.slow(ci=True)
def test_changed_documents(tmp_path: Path) -> None:
    with peak_memory() as peak:
        read, refused = open_changed_documents(range(300), tmp_path)
    assert read > 50
    assert refused > 50
    assert peak.nbytes < 256 << 20


@pytest.mark.slow(ci=True)
def test_changed_chunks(tmp_path: Path) -> None:
    with peak_memory() as peak:
        read, refused = open_changed_chunks(range(30), tmp_path)
    assert read > 10
    assert refused > 50
    assert peak.nbytes < 256 << 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_changed_documents(tmp_path: Path) -> None:
    read, refused = open_changed_documents(range(300, 4000), tmp_path)
    assert min(read, refused) > 1000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_changed_chunks(tmp_path: Path) -> None:
    read, refused = open_changed_chunks(range(30, 600), tmp_path)
    assert min(read, refused) > 500
