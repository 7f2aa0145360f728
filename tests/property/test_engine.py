"""The engine against numpy: thousands of keys, with no format in the way."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bfbridge.engine.chunk_cache import ChunkCache
from tests.support.effort import examples
from tests.support.engine import (
    assign,
    chunks,
    expected,
    face,
    keys,
    memory_writer,
    positions,
    shapes,
    smaller,
    values,
    written,
)
from tests.support.memory import MemoryWriter, distinct, view_of

DTYPES = [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64, np.float32, np.float64]


@pytest.mark.slow(ci=True)
@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_reading_equals_numpy(data: st.DataObject) -> None:
    shape = data.draw(shapes(), "shape (YXZCT)")
    stored = distinct((shape[4], shape[3], shape[2], shape[0], shape[1]))
    cache = data.draw(st.sampled_from([None, 0, 700, 1 << 20]), "cache")
    view = view_of(
        stored,
        data.draw(chunks(), "chunk (TCZYX)"),  # type: ignore[arg-type]
        workers=data.draw(st.sampled_from([1, 2]), "workers"),
        cache=ChunkCache(cache) if cache else ({} if cache == 0 else None),
    )
    for _ in range(3):
        key = data.draw(keys(shape), "key")
        for _ in range(2):  # the second time from what the cache holds
            got = view[key]
            wanted = expected(face(stored), key)
            assert got.shape == wanted.shape
            assert got.dtype == stored.dtype
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.slow(ci=True)
@settings(max_examples=examples(100), deadline=None)
@given(data=st.data())
def test_read_with_ranges_equals_numpy(data: st.DataObject) -> None:
    shape = data.draw(shapes(), "shape (YXZCT)")
    array = face(distinct((shape[4], shape[3], shape[2], shape[0], shape[1])))
    view = view_of(array.transpose(4, 3, 2, 0, 1), data.draw(chunks()))  # type: ignore[arg-type]
    given_, selected = {}, []
    for axis, length in zip("YXZCT", shape, strict=True):
        a = data.draw(st.integers(0, length - 1))
        b = data.draw(st.integers(a + 1, length))
        kind = data.draw(st.sampled_from(["all", "one", "pair", "slice", "list"]))
        listed = data.draw(st.lists(st.integers(0, length - 1), min_size=3, max_size=5))
        pair: Any = (a, b) if axis in "YXZ" else tuple(range(a, b))
        given_[axis] = {
            "all": None, "one": a, "pair": pair, "slice": slice(a, b), "list": listed
        }[kind]  # fmt: skip
        chosen = {
            "all": range(length), "one": [a], "pair": range(a, b), "slice": range(a, b),
            "list": listed,
        }[kind]  # fmt: skip
        selected.append(np.array(chosen, np.intp))
    got = view.read(**given_, keepdims=True)
    np.testing.assert_array_equal(got, array[np.ix_(*selected)])
    assert got.ndim == 5


@pytest.mark.slow(ci=True)
@settings(max_examples=examples(100), deadline=None)
@given(data=st.data())
def test_writing_equals_numpy(data: st.DataObject) -> None:
    shape = data.draw(shapes(), "shape (YXZCT)")
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES), "dtype"))
    factor = data.draw(st.sampled_from([0, 2, 3, 4]), "factor")
    method = data.draw(st.sampled_from(["mean", "nearest", "mode"]), "method")
    t, c, z, y, x = data.draw(chunks(), "chunk (TCZYX)")
    chunk = (t, c, z, y * max(1, factor), x * max(1, factor))
    fill = data.draw(st.sampled_from([0, 7]), "fill value")
    array = np.full(shape, fill, dtype)
    with tempfile.TemporaryDirectory() as folder:
        writer = memory_writer(
            Path(folder),
            workers=data.draw(st.sampled_from([1, 2]), "workers"),
            pyramid=[factor] if factor else False,
            downsample=method,
            fill_value=fill,
            memory=data.draw(st.sampled_from([0, 200, 1 << 20]), "memory"),
            backend_options={"chunk": chunk},
        )
        writer.shape, writer.dtype = shape, dtype
        for _ in range(data.draw(st.integers(1, 6), "writes")):
            key = data.draw(keys(shape), "key")
            value = data.draw(values(tuple(map(len, positions(key, shape))), dtype), "value")
            writer[key] = value
            assign(array, key, value)
        writer[:1, :1] = array[:1, :1]  # a writer that wrote no pixel makes no file
        writer.close()
    made = written(writer)
    assert made.finished
    assert not made.aborted
    stored = array.transpose(4, 3, 2, 0, 1)
    np.testing.assert_array_equal(made.array(), stored)
    if factor:
        np.testing.assert_array_equal(made.array(level=1), smaller(stored, factor, method))


@pytest.mark.slow(ci=True)
@settings(max_examples=examples(40), deadline=None)
@given(data=st.data())
def test_every_chunk_is_handed_over_once_when_tiles_do_not_overlap(data: st.DataObject) -> None:
    shape = data.draw(shapes((40, 30, 2, 2, 1)), "shape")
    step = data.draw(st.integers(3, 17)), data.draw(st.integers(3, 17))
    array = face(distinct((shape[4], shape[3], shape[2], shape[0], shape[1])))
    corners = [(y, x) for y in range(0, shape[0], step[0]) for x in range(0, shape[1], step[1])]
    with tempfile.TemporaryDirectory() as folder:
        writer = memory_writer(
            Path(folder), workers=2, memory=data.draw(st.sampled_from([0, 1 << 20])), pyramid=1
        )
        writer.shape, writer.dtype = shape, "uint16"
        for y, x in data.draw(st.permutations(corners), "order"):
            writer[y : y + step[0], x : x + step[1]] = array[y : y + step[0], x : x + step[1]]
        writer.close(require_complete=True)
    made = written(writer)
    np.testing.assert_array_equal(face(made.array()), array)
    assert made.writes == len(made.blocks)
    grid = MemoryWriter.chunk
    assert all(np.less_equal(block.shape, grid).all() for block in made.blocks.values())
