"""Zarr arrays of random make: what zarr-python and tensorstore can write, in every combination."""

from __future__ import annotations

import contextlib
import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import tensorstore
import zarr
from zarr import codecs

__all__ = ["Exhibit", "make", "seen_by"]

Array = np.ndarray[Any, Any]
SIZES = {"t": 3, "c": 4, "z": 5, "y": 23, "x": 29}
DTYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "c8", "c16", "?"]
CNAMES = ["lz4", "lz4hc", "zstd", "zlib", "blosclz"]
DOCUMENTS = ("zarr.json", ".zarray", ".zattrs")


@dataclass(frozen=True)
class Exhibit:
    """One image: its axes, the version of Zarr, and who wrote it how, for messages."""

    axes: str
    zarr_format: int
    told: str


def make(seed: int, path: Path) -> Exhibit | None:
    """Write an image, some chunks of it missing; None where the writer refuses the combination."""
    rnd = random.Random(seed)
    writer = rnd.choice(["zarr 2", "zarr 3", "tensorstore 2", "tensorstore 3", "tensorstore 3"])
    zarr_format = int(writer[-1])
    axes = [*rnd.sample("tcz", rnd.randrange(4)), "y", "x"]
    rnd.shuffle(axes)
    if rnd.random() < 0.5:
        axes.sort(key="tczyx".index)
    shape = [SIZES[axis] for axis in axes]
    chunks = [rnd.choice([1, 2, n, n + 3] if n < 10 else [5, 8, 13, n, n + 5]) for n in shape]
    dtype = np.dtype(rnd.choice(DTYPES))
    if zarr_format == 2 and rnd.random() < 0.4:
        dtype = dtype.newbyteorder(">")
    values = _values(rnd, shape, dtype)
    path.mkdir(parents=True)
    _group(path, axes, zarr_format)
    write = {
        "zarr 2": _zarr_python_2,
        "zarr 3": _zarr_python_3,
        "tensorstore 2": _tensorstore_2,
        "tensorstore 3": _tensorstore_3,
    }[writer]
    try:
        settings = write(rnd, str(path / "0"), values, chunks)
    except ValueError:
        return None
    files = [p for p in sorted((path / "0").rglob("*")) if p.is_file() and p.name not in DOCUMENTS]
    for file in rnd.sample(files, min(len(files), rnd.choice([0, 0, 1, 2]))):
        file.unlink()
    told = f"{writer}: {''.join(axes)} {shape} in {chunks}, {dtype.str}, {settings}"
    return Exhibit("".join(axes), zarr_format, told)


def seen_by(path: Path, exhibit: Exhibit) -> dict[str, Array]:
    """The array T, C, Z, Y, X as zarr-python and tensorstore read it, where they do."""
    found: dict[str, Array] = {}
    driver = "zarr" if exhibit.zarr_format == 2 else "zarr3"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path / "0")}}
    # It reads no shards of transposed arrays.
    with contextlib.suppress(ValueError):
        found["zarr-python"] = np.asarray(zarr.open_array(str(path / "0"), mode="r")[...])
    # It has fewer codecs.
    with contextlib.suppress(ValueError):
        found["tensorstore"] = np.asarray(tensorstore.open(spec).result().read().result())
    order = [exhibit.axes.index(axis) for axis in "tczyx" if axis in exhibit.axes]
    shape = [SIZES[axis] if axis in exhibit.axes else 1 for axis in "tczyx"]
    for name, array in found.items():
        native = array.astype(array.dtype.newbyteorder("="))
        native = native.view(np.uint8) if native.dtype == np.bool_ else native
        found[name] = native.transpose(order).reshape(shape)
    return found


def _values(rnd: random.Random, shape: list[int], dtype: np.dtype[Any]) -> Array:
    numbers = np.random.default_rng(rnd.randrange(1 << 30))
    if dtype.kind == "b":
        return numbers.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        native = dtype.newbyteorder("=")
        return numbers.integers(bounds.min, bounds.max, shape, native, endpoint=True).astype(dtype)
    values = numbers.normal(size=shape) * 100
    for step, odd in ((17, np.nan), (19, -0.0), (23, np.inf)):
        values.reshape(-1)[::step] = odd
    if dtype.kind == "c":
        return (values + 1j * numbers.normal(size=shape)).astype(dtype)
    return values.astype(dtype)


def _fill(rnd: random.Random, dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "b":
        return rnd.choice([True, False])
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        return rnd.choice([0, bounds.min, bounds.max, 7])
    if dtype.kind == "c":
        return rnd.choice([0j, 1 + 2j, complex(math.nan, 0), complex(0, math.inf)])
    return rnd.choice([0.0, -0.0, math.nan, math.inf, -math.inf, 1.5, 0.1])


def _json(fill: Any) -> Any:
    if isinstance(fill, complex):
        return [_json(fill.real), _json(fill.imag)]
    if isinstance(fill, float) and not math.isfinite(fill):
        return "NaN" if math.isnan(fill) else "Infinity" if fill > 0 else "-Infinity"
    return fill


def _group(path: Path, axes: list[str], zarr_format: int) -> None:
    kinds = {"t": "time", "c": "channel"}
    scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
    entry = {
        "axes": [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    if zarr_format == 2:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps({"multiscales": [{**entry, "version": "0.4"}]}))
        return
    ome = {"ome": {"version": "0.5", "multiscales": [entry]}}
    group = {"zarr_format": 3, "node_type": "group", "attributes": ome}
    (path / "zarr.json").write_text(json.dumps(group))


def _zarr_python_2(rnd: random.Random, place: str, values: Array, chunks: list[int]) -> str:
    raw = [{"id": 3, "dist": 2}, {"id": 0x21, "preset": 1}]
    compressor = rnd.choice(
        [
            None,
            numcodecs.Zlib(rnd.randrange(10)),
            numcodecs.GZip(rnd.randrange(10)),
            numcodecs.BZ2(1),
            numcodecs.LZMA(),
            numcodecs.LZMA(format=2, preset=1),
            numcodecs.LZMA(format=3, filters=raw),
            numcodecs.LZ4(),
            numcodecs.Zstd(rnd.choice([-5, 1, 22])),
            numcodecs.Zstd(3, checksum=True),
            *(
                numcodecs.Blosc(cname, rnd.randrange(10), shuffle, rnd.choice([0, 64, 256, 1000]))
                for cname in CNAMES
                for shuffle in (-1, 0, 1, 2)
            ),
        ]
    )
    dtype = values.dtype
    width, text = dtype.itemsize, dtype.str
    filters: list[Any] = [None]
    if dtype.kind in "iu":
        filters += [
            [numcodecs.Delta(text)], [numcodecs.FixedScaleOffset(0, 1, text)],
            [numcodecs.Shuffle(width)], [numcodecs.CRC32()], [numcodecs.Adler32()],
            [numcodecs.CRC32C()], [numcodecs.Fletcher32()], [numcodecs.JenkinsLookup3()],
            [numcodecs.Delta(text), numcodecs.Shuffle(width)],
        ]  # fmt: skip
        if width < 8:
            filters += [[numcodecs.AsType("i8", text)], [numcodecs.Delta(text, "i8")]]
    elif dtype.kind == "f" and width > 2:
        filters += [[numcodecs.AsType("f8", text)], [numcodecs.Quantize(2, text)]]
        filters += [[numcodecs.BitRound(5)]] if dtype.isnative else []
    elif dtype.kind == "b":
        filters.append([numcodecs.PackBits()])
    chosen, fill = rnd.choice(filters), _fill(rnd, dtype)
    zarr.create_array(
        place,
        data=values,
        chunks=tuple(chunks),
        zarr_format=2,
        fill_value=fill,
        filters=chosen,
        compressors=compressor,
        order=rnd.choice("CF"),
        chunk_key_encoding={"name": "v2", "separator": rnd.choice("./")},
        config={"write_empty_chunks": rnd.random() < 0.5},
    )
    return f"fill {fill}, {compressor}, filters {chosen}"


def _zarr_python_3(rnd: random.Random, place: str, values: Array, chunks: list[int]) -> str:
    shuffle = rnd.choice(["noshuffle", "shuffle", "bitshuffle"])
    compressors = rnd.choice(
        [
            None,
            codecs.BloscCodec(cname=rnd.choice(CNAMES), clevel=rnd.randrange(10), shuffle=shuffle),
            codecs.GzipCodec(level=5),
            codecs.ZstdCodec(level=1, checksum=True),
            [codecs.ZstdCodec(), codecs.Crc32cCodec()],
            codecs.Crc32cCodec(),
        ]
    )
    shards = tuple(n * rnd.choice([1, 2, 3]) for n in chunks) if rnd.random() < 0.4 else None
    order = rnd.sample(range(values.ndim), values.ndim)
    fill = _fill(rnd, values.dtype)
    endian = rnd.choice(["little", "big"])
    zarr.create_array(
        place,
        data=values,
        chunks=tuple(chunks),
        shards=shards,
        zarr_format=3,
        fill_value=fill,
        filters=codecs.TransposeCodec(order=tuple(order)) if rnd.random() < 0.3 else "auto",
        compressors=compressors,
        serializer=codecs.BytesCodec(endian=endian) if values.dtype.itemsize > 1 else "auto",
        chunk_key_encoding={
            "name": rnd.choice(["default", "v2"]),
            "separator": rnd.choice("./"),
        },
        config={"write_empty_chunks": rnd.random() < 0.5},
    )
    return f"fill {fill}, {compressors}, shards {shards}, {endian}, order {order}"


def _tensorstore_2(rnd: random.Random, place: str, values: Array, chunks: list[int]) -> str:
    blosc = {"id": "blosc", "cname": rnd.choice(CNAMES), "clevel": 4}
    metadata = {
        "dtype": values.dtype.str,
        "shape": values.shape,
        "chunks": chunks,
        "compressor": rnd.choice(
            [
                None,
                {"id": "zlib", "level": 3},
                {"id": "gzip", "level": 1},
                {"id": "bz2", "level": 1},
                {"id": "zstd", "level": 2},
                *({**blosc, "shuffle": shuffle} for shuffle in (-1, 0, 1, 2)),
            ]
        ),
        "order": rnd.choice("CF"),
        "fill_value": _json(_fill(rnd, values.dtype)),
        "dimension_separator": rnd.choice("./"),
        "filters": None,
    }
    return _write_with_tensorstore(rnd, "zarr", place, values, metadata)


def _tensorstore_3(rnd: random.Random, place: str, values: Array, chunks: list[int]) -> str:
    metadata = {
        "shape": values.shape,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "data_type": values.dtype.name,
        "codecs": _codecs(rnd, chunks, values.dtype, depth=0),
        "chunk_key_encoding": {
            "name": rnd.choice(["default", "v2"]),
            "configuration": {"separator": rnd.choice("./")},
        },
        "fill_value": _json(_fill(rnd, values.dtype)),
    }
    return _write_with_tensorstore(rnd, "zarr3", place, values, metadata)


def _write_with_tensorstore(
    rnd: random.Random, driver: str, place: str, values: Array, metadata: dict[str, Any]
) -> str:
    spec = {
        "driver": driver,
        "metadata": metadata,
        "kvstore": {"driver": "file", "path": place},
        "create": True,
        "store_data_equal_to_fill_value": rnd.random() < 0.5,
    }
    tensorstore.open(spec).result().write(values).result()
    return str(metadata)


def _codecs(
    rnd: random.Random, chunks: list[int], dtype: np.dtype[Any], depth: int
) -> list[dict[str, Any]]:
    """A chain of codecs; shards may hold shards, transposed or not, and have any kind of index."""
    chain: list[dict[str, Any]] = []

    def add(name: str, **configuration: Any) -> None:
        chain.append({"name": name, "configuration": configuration})

    if rnd.random() < 0.3:
        order = rnd.sample(range(len(chunks)), len(chunks))
        add("transpose", order=order)
        chunks = [chunks[axis] for axis in order]
    if depth < 2 and rnd.random() < 0.4:
        inner = [
            rnd.choice([n for n in range(1, size + 1) if size % n == 0 and size // n <= 6])
            for size in chunks
        ]
        endian = rnd.choice(["little", "little", "big"])
        index: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": endian}}]
        add(
            "sharding_indexed",
            chunk_shape=inner,
            codecs=_codecs(rnd, inner, dtype, depth + 1),
            index_codecs=index + [{"name": "crc32c"}] * rnd.choice([0, 1, 1]),
            index_location=rnd.choice(["start", "end"]),
        )
        return chain
    add("bytes", endian=rnd.choice(["little", "big"]))
    compression = rnd.random()
    if compression < 0.2:
        add("gzip", level=rnd.randrange(10))
    elif compression < 0.4:
        add("zstd", level=rnd.choice([1, 5, -3]), checksum=rnd.random() < 0.5)
    elif compression < 0.75:
        add(
            "blosc",
            cname=rnd.choice(CNAMES),
            clevel=rnd.randrange(10),
            shuffle=rnd.choice(["noshuffle", "shuffle", "bitshuffle"]),
            typesize=dtype.itemsize,
            blocksize=rnd.choice([0, 64, 300]),
        )
    if rnd.random() < 0.3:
        chain.append({"name": "crc32c"})
    if rnd.random() < 0.1:
        add("gzip", level=1)
    return chain
