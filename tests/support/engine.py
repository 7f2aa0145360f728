"""The tile engine against numpy: keys, values, and what lower levels should hold."""

from __future__ import annotations

from collections import Counter
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from bfbridge.engine.selection import trim
from bfbridge.files.writing.image_plans import WritePlan
from bfbridge.files.writing.new_file import NewFile
from bfbridge.ome import metadata
from bfbridge.storage.atomic import AtomicTarget
from bfbridge.writer import BioWriter, ImageWriter
from tests.support.memory import MemoryWriter

Array = np.ndarray[Any, Any]


def memory_writer(
    folder: Path, name: str = "image", backend: Any = MemoryWriter, **wanted: Any
) -> BioWriter:
    """A `BioWriter` whose chunks end in `MemoryWriter.made[-1]`."""
    target = AtomicTarget(folder / name, overwrite=True)
    writer = BioWriter.__new__(BioWriter)
    file = NewFile(target, backend, metadata.new_document(), WritePlan(**wanted))
    ImageWriter.__init__(writer, file, 0)
    return writer


def written(writer: BioWriter) -> MemoryWriter:
    """The backend that a `memory_writer` filled."""
    backend = writer._file._writer
    assert isinstance(backend, MemoryWriter)
    return backend


def face(stored: Array) -> Array:
    """T, C, Z, Y, X to Y, X, Z, C, T."""
    return stored.transpose(3, 4, 2, 1, 0)


def positions(key: Any, shape: tuple[int, ...]) -> list[Array]:
    """What numpy selects with a key along each of five axes, taken orthogonally."""
    items = list(key) if isinstance(key, tuple) else [key]
    if not any(item is Ellipsis for item in items):
        items.append(Ellipsis)
    at = next(i for i, item in enumerate(items) if item is Ellipsis)
    items[at : at + 1] = [slice(None)] * (5 - len(items) + 1)
    chosen = []
    for item, length in zip(items, shape, strict=True):
        index = np.array(item, np.intp) if isinstance(item, (list, range)) else item
        chosen.append(np.atleast_1d(np.arange(length)[index]))
    return chosen


def expected(array: Array, key: Any) -> Array:
    """What ``br[key]`` should give of an array along Y, X, Z, C, T."""
    taken = array[np.ix_(*positions(key, array.shape))]
    return taken.reshape(trim(taken.shape))


def assign(array: Array, key: Any, value: Any) -> None:
    """Do to an array what ``bw[key] = value`` should do; of repeated positions the last wins."""
    chosen = positions(key, array.shape)
    shape = tuple(len(p) for p in chosen)
    spread = np.broadcast_to(value, trim(shape)).reshape(shape)
    last = [{int(p): i for i, p in enumerate(axis)} for axis in chosen]
    into = np.ix_(*(np.array(list(axis), np.intp) for axis in last))
    array[into] = spread[np.ix_(*(np.array(list(axis.values()), np.intp) for axis in last))]


def smaller(level: Array, factor: int, method: str) -> Array:
    """The next lower level, window by window, in plain Python integers; Y and X are last."""
    height, width = ceil(level.shape[-2] / factor), ceil(level.shape[-1] / factor)
    out = np.empty((*level.shape[:-2], height, width), level.dtype)
    for place in np.ndindex(out.shape):
        y, x = place[-2] * factor, place[-1] * factor
        window = level[(*place[:-2], slice(y, y + factor), slice(x, x + factor))]
        out[place] = _one(window.ravel().tolist(), method, level.dtype)
    return out


def _one(values: list[Any], method: str, dtype: np.dtype[Any]) -> Any:
    if method == "nearest":
        return values[0]
    if method == "mode":
        counts = Counter(values)
        most = max(counts.values())
        return min((v for v, n in counts.items() if n == most), key=lambda v: (v.real, v.imag))
    if dtype.kind in "iu":
        # floor(mean + 1/2) without leaving the integers
        return (2 * sum(values) + len(values)) // (2 * len(values))
    return sum(values) / len(values)


# ---- random keys

NUMPY_INTS = (np.int8, np.int16, np.uint8, np.int64, np.intp)


def axis_keys(length: int) -> st.SearchStrategy[Any]:
    """Everything that selects along one axis."""
    inside = st.integers(-length, length - 1)
    bound = st.none() | st.integers(-2 * length - 1, 2 * length + 1)
    step = st.none() | st.integers(-length - 1, length + 1).filter(bool)
    lists = st.lists(inside, max_size=6)
    return st.one_of(
        inside,
        st.builds(lambda i, kind: kind(i), st.integers(0, length - 1), st.sampled_from(NUMPY_INTS)),
        st.builds(slice, bound, bound, step),
        st.just(slice(None)),
        lists,
        lists.map(lambda values: np.array(values, np.intp)),
        lists.filter(bool).map(lambda values: np.array(values, np.int8)),
        st.builds(range, *[st.integers(0, length - 1)] * 2),
        st.integers(0, length - 1).map(np.array),
        st.lists(st.booleans(), min_size=length, max_size=length).map(np.array),
    )


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """A key for an image of this shape (Y, X, Z, C, T)."""
    before = draw(st.integers(0, 5))
    ellipsis = draw(st.booleans())
    after = draw(st.integers(0, 5 - before)) if ellipsis else 0
    items: list[Any] = [draw(axis_keys(n)) for n in shape[:before]]
    if ellipsis:
        items.append(Ellipsis)
        items.extend(draw(axis_keys(n)) for n in shape[5 - after :])
    if len(items) == 1 and draw(st.booleans()):
        return items[0]
    return tuple(items)


@st.composite
def values(draw: st.DrawFn, shape: tuple[int, ...], dtype: Any) -> Array:
    """Pixels that broadcast to what a key selects: whole, or with axes left out or of length 1."""
    target = list(trim(shape))
    kept = draw(st.integers(0, len(target)))
    sizes = [1 if draw(st.integers(0, 4)) == 0 else n for n in target[len(target) - kept :]]
    seed = draw(st.integers(0, 2**16))
    return np.random.default_rng(seed).integers(1, 250, sizes).astype(dtype)


def shapes(limit: tuple[int, ...] = (9, 11, 4, 3, 2)) -> st.SearchStrategy[tuple[int, ...]]:
    """Sizes along Y, X, Z, C, T."""
    return st.tuples(*(st.integers(1, n) for n in limit))


def chunks(limit: tuple[int, ...] = (2, 2, 3, 6, 8)) -> st.SearchStrategy[tuple[int, ...]]:
    """Chunk shapes along T, C, Z, Y, X."""
    return st.tuples(*(st.integers(1, n) for n in limit))
