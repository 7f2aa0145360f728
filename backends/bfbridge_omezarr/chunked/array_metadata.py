"""Zarr array metadata, versions 2 and 3, checked and converted to one record.

Sources: the Zarr storage specification version 2 (``.zarray``), the Zarr core specification
version 3 (``zarr.json``), and its ``sharding_indexed`` codec.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bfbridge.errors import BfbridgeError, UnreadableFile, Unsupported
from bfbridge.limits import check, nbytes
from bfbridge_omezarr.chunked.codecs import ChunkDecoder, decoders_v2, decoders_v3

if TYPE_CHECKING:
    from bfbridge.limits import Limits

__all__ = ["ArrayInfo", "NotDirect", "ShardInfo", "parse_array"]

_V3_DTYPES: Final[Mapping[str, str]] = {
    "bool": "|u1",
    **{
        f"{kind}{bits}": f"{kind[0]}{bits // 8}"
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    },
    "float16": "f2",
    "float32": "f4",
    "float64": "f8",
    "complex64": "c8",
    "complex128": "c16",
}
_SPECIAL: Final = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_WHOLE: Final = re.compile("-?[0-9]{1,20}")
_LARGEST_SIZE: Final = 1 << 62
_FEW_CHUNKS: Final = 10


class NotDirect(Exception):
    """A valid array that zarr-python must read; the message is the reason."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """The layout of one shard.

    Attributes
    ----------
    shape
        Shape of the shard, in elements.
    grid
        Chunks of the shard along each axis.
    at_end
        Whether the index is at the end of the shard.
    index_bytes
        Stored size of the index.
    checked
        Whether a CRC-32C follows the index.
    """

    shape: tuple[int, ...]
    grid: tuple[int, ...]
    at_end: bool
    index_bytes: int
    checked: bool


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """One Zarr array.

    Attributes
    ----------
    key
        Key of the array in its store.
    shape, chunks
        In the array's own axis order; `chunks` are the inner ones of a sharded array.
    dtype
        Stored type, including byte order; bool is read as uint8.
    fill
        Value of missing chunks.
    decoders
        Decoders from stored bytes to the bytes of a chunk.
    order
        Array axis of each axis of the stored chunk (Zarr v3's transpose; order "F").
    separator, prefix
        Parts of chunk keys.
    separator_given
        Whether the document defines the separator. The default of version 2 is ".", but stores with
        "/" are older than the key (early bioformats2raw, zarr's NestedDirectoryStore).
    shard
        None unless sharded.
    dimension_names
        As stored, or None.
    direct
        Whether `bfbridge_omezarr.chunked.chunks` reads it; otherwise zarr-python does.
    document
        The stored document of an array that zarr-python reads.
    """

    key: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    fill: Any
    decoders: tuple[ChunkDecoder, ...] = ()
    order: tuple[int, ...] = ()
    separator: Literal["/", "."] = "/"
    prefix: str = ""
    separator_given: bool = True
    shard: ShardInfo | None = None
    dimension_names: tuple[str | None, ...] | None = None
    direct: bool = True
    document: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return prod(self.chunks) * self.dtype.itemsize

    def outer_key(self, index: Sequence[int]) -> str:
        """Return the key of the stored unit: the chunk, or the shard that contains it."""
        if self.shard is None:
            return self.chunk_key(index)
        return self.chunk_key([i // n for i, n in zip(index, self.shard.grid, strict=True)])

    def chunk_key(self, index: Sequence[int], separator: str | None = None) -> str:
        """Return the key of a chunk (of a shard, if sharded)."""
        name = (separator or self.separator).join(map(str, index))
        return f"{self.key}/{self.prefix}{name}" if self.key else self.prefix + name


def parse_array(
    key: str, document: Mapping[str, Any], zarr_format: int, limits: Limits, where: str
) -> ArrayInfo:
    """Check an array's document.

    Parameters
    ----------
    key
        Key of the array.
    document
        The parsed ``.zarray`` or ``zarr.json``.
    zarr_format
        2 or 3.
    limits
        Limits on chunks.
    where
        The document, for messages.

    Raises
    ------
    UnreadableFile
        The document is not a valid array document.
    Unsupported
        Its data type or a codec is not supported.
    LimitExceeded
        Its chunks are larger than the limits allow.
    """
    try:
        info = (_parse_v2 if zarr_format == 2 else _parse_v3)(key, document, limits, where)
    except BfbridgeError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UnreadableFile(
            f"{where}: is no valid Zarr array document ({type(error).__name__}: {error})."
        ) from error
    check(info.chunk_bytes, limits.chunk_bytes, "bytes of one decoded chunk", where)
    _check_count(info, limits, where)
    return info


def _check_count(info: ArrayInfo, limits: Limits, where: str) -> None:
    """Refuse arrays with too many chunks for their size.

    Each chunk of a region is looked up in the file system, whether it is stored or not. A document
    of 300 bytes can declare any number of chunks, so that reading a small plane takes minutes.
    """
    count = prod(-(-size // chunk) for size, chunk in zip(info.shape, info.chunks, strict=True))
    most = max(limits.directories // _FEW_CHUNKS, prod(info.chunks) * limits.directories // 100)
    check(count, most, f"number of chunks of {prod(info.chunks):,} pixels", where)


def _sizes(value: Any, what: str, where: str, least: int = 0) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise UnreadableFile(f"{where}: {what} is {value!r:.60}, not a list of sizes.")
    for size in value:
        if type(size) is not int or not least <= size <= _LARGEST_SIZE:
            raise UnreadableFile(f"{where}: {what} has {size!r:.60}, which is no size.")
    if len(value) > 32:
        raise UnreadableFile(f"{where}: {what} has {len(value)} axes.")
    return tuple(value)


def _same_length(shape: tuple[int, ...], other: tuple[int, ...], what: str, where: str) -> None:
    if len(shape) != len(other):
        raise UnreadableFile(
            f"{where}: the shape has {len(shape)} axes, but {what} has {len(other)}."
        )


def _fill(value: Any, dtype: np.dtype[Any], where: str) -> Any:
    """Return a fill value as a scalar; in JSON, strings represent values that are not numbers."""
    native = dtype.newbyteorder("=")
    if value is None:
        # Version 2 does not define the value of missing chunks in this case; zarr-python uses zero.
        return native.type(0)
    try:
        if native.kind == "c" and isinstance(value, list):
            part = np.dtype(f"f{native.itemsize // 2}")
            real, imaginary = (_fill(v, part, where) for v in value)
            return native.type(complex(real, imaginary))
        if isinstance(value, str):
            if value.lower().startswith("0x") and native.kind in "fc":
                raw = int(value, 16).to_bytes(native.itemsize, "little")
                return np.frombuffer(raw, native.newbyteorder("<"))[0].astype(native)
            # Some writers of version 2 store integers as text ("0"); a float holds 53 bits of them.
            whole = native.kind in "iu" and _WHOLE.fullmatch(value)
            value = _SPECIAL[value] if value in _SPECIAL else (int if whole else float)(value)
        if not isinstance(value, (int, float)):
            raise TypeError(value)
        if native.kind in "iu":
            if value != int(value):
                raise ValueError(value)
            return np.array([int(value)], native)[0]
        return native.type(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise UnreadableFile(
            f"{where}: the fill value {value!r:.60} is invalid for {native} pixels."
        ) from error


def _parse_v2(key: str, document: Mapping[str, Any], limits: Limits, where: str) -> ArrayInfo:
    del limits
    shape = _sizes(document["shape"], "shape", where)
    chunks = _sizes(document["chunks"], "chunks", where, least=1)
    _same_length(shape, chunks, "chunks", where)
    dtype = _dtype_v2(document["dtype"], where)
    order = document.get("order", "C")
    if order not in ("C", "F"):
        raise UnreadableFile(f"{where}: order is {order!r:.20}, neither 'C' nor 'F'.")
    separator = document.get("dimension_separator")
    if separator not in (None, "/", "."):
        raise UnreadableFile(f"{where}: dimension_separator is {separator!r:.20}.")
    axes = range(len(shape))
    return ArrayInfo(
        key=key,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill=_fill(document.get("fill_value"), dtype, where),
        decoders=decoders_v2(document.get("compressor"), document.get("filters"), where),
        order=tuple(axes if order == "C" else reversed(axes)),
        separator="/" if separator == "/" else ".",
        separator_given=separator is not None,
    )


def _dtype_v2(text: Any, where: str) -> np.dtype[Any]:
    if not isinstance(text, str):
        raise Unsupported(f"pixels of the structured type {text!r:.60}")
    try:
        dtype = np.dtype(text)
    except (TypeError, ValueError) as error:
        raise UnreadableFile(f"{where}: {text!r:.60} is no data type.") from error
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "iufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise Unsupported(f"pixels of type {text!r:.60}")
    return dtype


def _named(entry: Any, where: str) -> tuple[str, Mapping[str, Any]]:
    """Return name and configuration of a Zarr v3 extension point."""
    if isinstance(entry, str):
        return entry, {}
    if isinstance(entry, dict) and isinstance(entry.get("name"), str):
        configuration = entry.get("configuration") or {}
        if isinstance(configuration, dict):
            return entry["name"], configuration
    raise UnreadableFile(f"{where}: {entry!r:.100} has no name where one belongs.")


def _parse_v3(key: str, document: Mapping[str, Any], limits: Limits, where: str) -> ArrayInfo:
    shape = _sizes(document["shape"], "shape", where)
    type_name = document["data_type"]
    if not isinstance(type_name, str) or type_name not in _V3_DTYPES:
        raise Unsupported(f"pixels of type {type_name!r:.60}")
    dtype = np.dtype(_V3_DTYPES[type_name])
    fill = _fill(document.get("fill_value"), dtype, where)
    names = _names(document.get("dimension_names"), len(shape))
    try:
        chunks, separator, prefix = _grid_v3(document, shape, where)
        codecs = [_named(entry, where) for entry in document["codecs"]]
        shard, chunks, codecs = _sharding(codecs, chunks, limits, where)
        order, stored, decoders = _codecs_v3(codecs, dtype, len(shape), where)
    except NotDirect:
        return _indirect(key, document, shape, dtype, fill, names, where)
    return ArrayInfo(
        key=key,
        shape=shape,
        chunks=chunks,
        dtype=stored,
        fill=fill,
        decoders=decoders,
        order=order,
        separator=separator,
        prefix=prefix,
        shard=shard,
        dimension_names=names,
    )


def _names(value: Any, count: int) -> tuple[str | None, ...] | None:
    """Return the names of the axes, or None if they are invalid."""
    if not isinstance(value, list) or len(value) != count:
        return None
    return tuple(value) if all(n is None or isinstance(n, str) for n in value) else None


def _indirect(
    key: str,
    document: Mapping[str, Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    fill: Any,
    names: tuple[str | None, ...] | None,
    where: str,
) -> ArrayInfo:
    """Describe an array that zarr-python reads; its chunks are those of the document, if stated."""
    name, grid = _named(document["chunk_grid"], where)
    chunks = shape
    if name == "regular":
        chunks = _sizes(grid["chunk_shape"], "chunk_shape", where, least=1)
        _same_length(shape, chunks, "chunk_shape", where)
    return ArrayInfo(
        key=key,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill=fill,
        order=tuple(range(len(shape))),
        dimension_names=names,
        direct=False,
        document=document,
    )


def _grid_v3(
    document: Mapping[str, Any], shape: tuple[int, ...], where: str
) -> tuple[tuple[int, ...], Literal["/", "."], str]:
    name, grid = _named(document["chunk_grid"], where)
    if name != "regular" or document.get("storage_transformers"):
        raise NotDirect(f"chunk grid {name!r}")
    chunks = _sizes(grid["chunk_shape"], "chunk_shape", where, least=1)
    _same_length(shape, chunks, "chunk_shape", where)
    encoding, keys = _named(document["chunk_key_encoding"], where)
    if encoding not in ("default", "v2"):
        raise NotDirect(f"chunk key encoding {encoding!r}")
    separator = keys.get("separator", "/" if encoding == "default" else ".")
    if separator not in ("/", "."):
        raise UnreadableFile(f"{where}: the separator of chunk keys is {separator!r:.20}.")
    return chunks, separator, f"c{separator}" if encoding == "default" else ""


Codecs = list[tuple[str, Mapping[str, Any]]]


def _sharding(
    codecs: Codecs, chunks: tuple[int, ...], limits: Limits, where: str
) -> tuple[ShardInfo | None, tuple[int, ...], Codecs]:
    """Return the shard, the inner chunks and their codecs; unchanged without sharding."""
    if all(name != "sharding_indexed" for name, _ in codecs):
        return None, chunks, codecs
    if len(codecs) > 1:
        raise NotDirect("codecs around sharding")
    config = codecs[0][1]
    inner = _sizes(config["chunk_shape"], "chunk_shape of the shards", where, least=1)
    _same_length(chunks, inner, "chunk_shape of the shards", where)
    if any(outer % size for outer, size in zip(chunks, inner, strict=True)):
        raise UnreadableFile(
            f"{where}: shards of {list(chunks)} are no whole number of chunks of {list(inner)}."
        )
    grid = tuple(outer // size for outer, size in zip(chunks, inner, strict=True))
    check(nbytes(grid, 16), limits.tag_bytes, "bytes of one shard's index", where)
    index = [_named(entry, where) for entry in config["index_codecs"]]
    names = [name for name, _ in index]
    if names not in (["bytes"], ["bytes", "crc32c"]) or index[0][1].get("endian") != "little":
        raise NotDirect(f"shard index codecs {names}")
    location = config.get("index_location", "end")
    if location not in ("start", "end"):
        raise UnreadableFile(f"{where}: index_location is {location!r:.20}.")
    checked = len(names) == 2
    size = prod(grid) * 16 + 4 * checked
    shard = ShardInfo(chunks, grid, location == "end", size, checked)
    return shard, inner, [_named(entry, where) for entry in config["codecs"]]


def _codecs_v3(
    codecs: Codecs, dtype: np.dtype[Any], ndim: int, where: str
) -> tuple[tuple[int, ...], np.dtype[Any], tuple[ChunkDecoder, ...]]:
    """Return axis order, stored dtype and decoders of a codec chain.

    The chain is array to array (transpose), then array to bytes (bytes), then bytes to bytes.
    """
    order = tuple(range(ndim))
    place = 0
    while place < len(codecs) and codecs[place][0] == "transpose":
        permutation = codecs[place][1]["order"]
        if permutation in ("C", "F"):
            permutation = list(range(ndim))[:: 1 if permutation == "C" else -1]
        if sorted(permutation) != list(range(ndim)):
            raise UnreadableFile(f"{where}: transpose order {permutation!r:.60} is invalid.")
        order = tuple(order[axis] for axis in permutation)
        place += 1
    if place == len(codecs) or codecs[place][0] not in ("bytes", "endian"):
        name = codecs[place][0] if place < len(codecs) else "none"
        raise NotDirect(f"array-to-bytes codec {name!r}")
    endian = codecs[place][1].get("endian", "little")
    if endian not in ("little", "big"):
        raise UnreadableFile(f"{where}: endian is {endian!r:.20}.")
    stored = dtype.newbyteorder("<" if endian == "little" else ">")
    try:
        return order, stored, decoders_v3(codecs[place + 1 :])
    except Unsupported as error:
        raise NotDirect(str(error)) from error
