"""Documents of Zarr arrays, against zarr-python, and with values that are not valid."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from bfbridge.errors import LimitExceeded, UnreadableFile, Unsupported  # noqa: E402
from bfbridge.limits import DEFAULT_LIMITS  # noqa: E402
from bfbridge_omezarr.chunked.array_metadata import ArrayInfo, parse_array  # noqa: E402

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


def v2(**changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 2, "shape": [4, 6], "chunks": [2, 3], "dtype": "<u2", "compressor": None,
        "fill_value": 0, "order": "C", "filters": None,
    } | changes  # fmt: skip


def v3(**changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 3, "node_type": "array", "shape": [4, 6], "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 3]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [BYTES],
    } | changes  # fmt: skip


def parsed(document: dict[str, Any]) -> ArrayInfo:
    # As it is stored: with what JSON makes of it.
    stored = json.loads(json.dumps(document))
    return parse_array("0", stored, document["zarr_format"], DEFAULT_LIMITS, "a.zarr/0")


def sharding(**changes: Any) -> list[dict[str, Any]]:
    index = [BYTES, {"name": "crc32c"}]
    configuration = {"chunk_shape": [1, 3], "codecs": [BYTES], "index_codecs": index} | changes
    return [{"name": "sharding_indexed", "configuration": configuration}]


# ---- fill values


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("uint8", 255), ("uint16", 7), ("int64", -(2**63)), ("uint64", 2**64 - 1), ("bool", True),
        ("float32", 0.1), ("float64", "NaN"), ("float32", "Infinity"), ("float64", "-Infinity"),
        ("float32", "0x7fc00001"), ("float16", "0x7e00"), ("float64", -0.0),
        ("complex64", [1.5, "NaN"]), ("complex128", ["-Infinity", 0.1]),
    ],
)  # fmt: skip
def test_fill_values_of_version_3(tmp_path: Path, dtype: str, fill: Any) -> None:
    document = v3(data_type=dtype, fill_value=fill)
    (tmp_path / "zarr.json").write_text(json.dumps(document | {"attributes": {}}))
    # No chunk is stored.
    expected = zarr.open_array(str(tmp_path), mode="r")[0, :1]
    found = np.asarray(parsed(document).fill)
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("dtype", "fill", "expected"),
    [
        ("<u2", "7", 7),
        ("<u8", "18446744073709551615", 2**64 - 1),
        ("<i8", "9007199254740993", 2**53 + 1),
        ("<i8", "-9007199254740993", -(2**53) - 1),
        ("<u1", "7.0", 7),
        ("<f4", "0.5", 0.5),
        ("<f8", "Infinity", np.inf),
        ("<i4", None, 0),
        ("|b1", True, 1),
        (">u2", 258, 258),
    ],
)
def test_fill_values_of_version_2(dtype: str, fill: Any, expected: Any) -> None:
    found = parsed(v2(dtype=dtype, fill_value=fill)).fill
    assert found == expected
    assert found.dtype.isnative


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("<u2", -1), ("<u2", 65536), ("<u2", 1.5), ("<u2", "x"), ("<u2", "NaN"), ("<u2", "1e3x"),
        ("<u2", [1]), ("<u2", {}), ("<f4", []), ("<f4", "0x7fc000010"), ("<f8", "0xzz"),
        ("<c8", [1]), ("<c8", [1, 2, 3]), ("<c8", ["x", 1]), ("<i8", 1e300), ("<f4", [1, 2]),
        ("<f4", {}), ("<u2", 10**400), ("<u2", "9" * 30),
    ],
)  # fmt: skip
def test_fill_values_that_are_not_of_the_type(dtype: str, fill: Any) -> None:
    with pytest.raises(UnreadableFile, match=r"a\.zarr/0: the fill value .* is invalid for"):
        parsed(v2(dtype=dtype, fill_value=fill))


# ---- layouts


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "orders", [[[2, 0, 1]], [[1, 2, 0], [0, 2, 1]], ["F"], ["C", [2, 1, 0]], []], ids=str
)
def test_axes_of_stored_chunks(tmp_path: Path, orders: list[Any]) -> None:
    transposes = [{"name": "transpose", "configuration": {"order": order}} for order in orders]
    document = v3(
        shape=[4, 6, 10], codecs=[*transposes, BYTES],
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [2, 3, 5]}},
    )  # fmt: skip
    info = parsed(document)
    values = np.arange(240, dtype="<u2").reshape(4, 6, 10)
    known = {"F": [2, 1, 0], "C": [0, 1, 2]}
    for transpose in transposes:
        order = transpose["configuration"]["order"]
        transpose["configuration"]["order"] = known.get(str(order), order)
    (tmp_path / "zarr.json").write_text(json.dumps(document | {"attributes": {}}))
    zarr.open_array(str(tmp_path), mode="r+")[...] = values
    stored = np.frombuffer((tmp_path / "c/0/0/0").read_bytes(), info.dtype)
    shape = [info.chunks[axis] for axis in info.order]
    found = stored.reshape(shape).transpose(np.argsort(info.order))
    np.testing.assert_array_equal(found, values[:2, :3, :5])


def test_keys_of_chunks_and_shards() -> None:
    assert parsed(v2()).chunk_key((1, 2)) == "0/1.2"
    assert parsed(v2(dimension_separator="/")).chunk_key((1, 2)) == "0/1/2"
    assert parsed(v2()).chunk_key((1, 2), "/") == "0/1/2"
    assert parsed(v3()).chunk_key((1, 2)) == "0/c/1/2"
    encoding = {"name": "default", "configuration": {"separator": "."}}
    assert parsed(v3(chunk_key_encoding=encoding)).chunk_key((1, 2)) == "0/c.1.2"
    assert parsed(v3(chunk_key_encoding={"name": "v2"})).chunk_key((1, 2)) == "0/1.2"
    assert parsed(v3(chunk_key_encoding="default")).outer_key((1, 1)) == "0/c/1/1"
    info = parsed(v3(codecs=sharding(index_location="start")))
    assert info.shard is not None
    assert (info.chunks, info.shard.shape, info.shard.grid) == ((1, 3), (2, 3), (2, 1))
    assert (info.shard.at_end, info.shard.index_bytes, info.shard.checked) == (False, 36, True)
    assert info.outer_key((3, 1)) == "0/c/1/1"
    document = v3()
    root = parse_array("", document, 3, DEFAULT_LIMITS, "a.zarr")
    assert root.chunk_key((1, 2)) == "c/1/2"


def test_names_of_dimensions_that_are_not_valid_are_left_out() -> None:
    assert parsed(v3(dimension_names=["y", None])).dimension_names == ("y", None)
    for names in (["y"], "yx", [1, 2], None):
        assert parsed(v3(dimension_names=names)).dimension_names is None


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk_grid": {"name": "rectilinear"}},
        {"chunk_key_encoding": {"name": "odd"}},
        {"storage_transformers": [{"name": "odd"}]},
        {"codecs": [{"name": "odd"}]},
        {"codecs": [BYTES, {"name": "nonsense"}]},
        {"codecs": []},
        {"codecs": [*sharding(), {"name": "crc32c"}]},
        {"codecs": sharding(index_codecs=[{"name": "bytes", "configuration": {"endian": "big"}}])},
    ],
    ids=str,
)
def test_arrays_that_zarr_python_reads(changes: dict[str, Any]) -> None:
    info = parsed(v3(**changes))
    assert not info.direct
    assert info.document is not None
    assert info.shape == (4, 6)
    assert info.chunks == ((4, 6) if changes.get("chunk_grid") else (2, 3))


# ---- documents that are not valid


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (v2(shape="4"), "shape is '4', not a list of sizes"),
        (v2(shape=[4, -1]), "shape has -1, which is no size"),
        (v2(shape=[4, True]), "shape has True, which is no size"),
        (v2(chunks=[0, 1]), "chunks has 0, which is no size"),
        (v2(shape=[1] * 33, chunks=[1] * 33), "shape has 33 axes"),
        (v2(chunks=[2]), "the shape has 2 axes, but chunks has 1"),
        (v2(dtype="<q9"), "'<q9' is no data type"),
        (v2(order="Q"), "order is 'Q', neither 'C' nor 'F'"),
        (v2(dimension_separator="x"), "dimension_separator is 'x'"),
        (v2(compressor=5), "names no codec where one belongs: 5"),
        ({"zarr_format": 2}, "is no valid Zarr array document (KeyError: 'shape')"),
        (v3(chunk_grid=5), "5 has no name where one belongs"),
        (v3(codecs=[{"name": "bytes", "configuration": 5}]), "has no name where one belongs"),
        (v3(codecs=5), "is no valid Zarr array document (TypeError: "),
        (v3(codecs=[{"name": "bytes", "configuration": {"endian": "middle"}}]), "endian is 'mid"),
        (
            v3(chunk_key_encoding={"name": "default", "configuration": {"separator": "../"}}),
            "the separator of chunk keys is '../'",
        ),
        (
            v3(codecs=[{"name": "transpose", "configuration": {"order": [0, 0]}}, BYTES]),
            "transpose order [0, 0] is invalid",
        ),
        (v3(codecs=sharding(chunk_shape=[2, 2])), "shards of [2, 3] are no whole number of chunks"),
        (v3(codecs=sharding(chunk_shape=[1])), "the shape has 2 axes, but chunk_shape of the"),
        (v3(codecs=sharding(index_location="middle")), "index_location is 'middle'"),
        (
            v3(chunk_grid={"name": "odd", "configuration": 5}),
            "has no name where one belongs",
        ),
    ],
)
def test_documents_that_are_not_valid(document: dict[str, Any], message: str) -> None:
    with pytest.raises(UnreadableFile, match=re.escape(message)) as caught:
        parsed(document)
    assert str(caught.value).startswith("a.zarr/0: ")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (v2(dtype="|S4"), "pixels of type '|S4'"),
        (v2(dtype="<f16"), "pixels of type '<f16'"),
        (v2(dtype=[["a", "<u2"]]), "pixels of the structured type [['a', '<u2']]"),
        (v3(data_type="string"), "pixels of type 'string'"),
        (v3(data_type={"name": "odd"}), "pixels of type {'name': 'odd'}"),
    ],
)
def test_types_that_are_not_pixels(document: dict[str, Any], message: str) -> None:
    with pytest.raises(Unsupported, match=re.escape(message)):
        parsed(document)


def test_sizes_are_limited() -> None:
    with pytest.raises(LimitExceeded, match="bytes of one decoded chunk"):
        parsed(v2(shape=[1 << 40] * 2, chunks=[1 << 30] * 2))
    with pytest.raises(LimitExceeded, match="number of chunks of 1 pixels"):
        parsed(v2(shape=[1 << 20] * 2, chunks=[1, 1]))
    grid = {"name": "regular", "configuration": {"chunk_shape": [1 << 16] * 2}}
    with pytest.raises(LimitExceeded, match="bytes of one shard's index"):
        parsed(v3(chunk_grid=grid, codecs=sharding(chunk_shape=[1, 1])))
