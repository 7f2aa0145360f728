"""The tile engine: a selection is split into stored chunks, decoded in parallel into one array."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from bfbridge.backend import ChunkGrid, ReaderBackend, Region, Shape5
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.engine.selection import Axis, Selection
from bfbridge.engine.workers import run
from bfbridge.errors import BfbridgeError, OutOfMemory, ReadFailed

__all__ = ["Axis", "Block", "LevelReader", "new_array", "plan", "plan_joined", "put", "take"]

# A chunk of a local file with cheap partial reads is cached only for parts of at most
# 1/SMALL_PART of it.
SMALL_PART = 16
_SMALL_READ = 4 << 20
"""Largest selection in bytes that one thread reads if nothing is decompressed."""
Part = tuple[int, int, Any, Any]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Block:
    """The part of a selection that lies in one chunk; axes T, C, Z, Y, X.

    Attributes
    ----------
    index
        The chunk's position in the grid; of several chunks, that of the first.
    start, stop
        The smallest box of the image that contains the selected pixels of this chunk.
    inner, outer
        Positions of the pixels in that box, and in the result: slices or arrays.
    is_joined
        Whether the block consists of several chunks.
    """

    index: Shape5
    start: Shape5
    stop: Shape5
    inner: tuple[Any, ...]
    outer: tuple[Any, ...]
    is_joined: bool = False

    @property
    def is_box(self) -> bool:
        """Whether all pixels of the box are selected, in order, into one box of the result."""
        if not _are_slices(self.inner) or not _are_slices(self.outer):
            return False
        return {inner.step for inner in self.inner} <= {None, 1}


def _parts(axis: Axis, chunk: int) -> Iterator[tuple[int, Part]]:
    """Split one axis of a selection by chunks: (chunk number, (start, stop, inner, outer))."""
    if isinstance(axis, range) and axis.step == 1:
        for number in range(axis.start // chunk, -(-axis.stop // chunk) if len(axis) else 0):
            start, stop = max(axis.start, number * chunk), min(axis.stop, (number + 1) * chunk)
            if start < stop:
                outer = slice(start - axis.start, stop - axis.start)
                yield number, (start, stop, slice(0, stop - start), outer)
        return
    indices = np.asarray(axis, dtype=np.intp)
    order = np.argsort(indices // chunk, kind="stable")
    numbers = indices[order] // chunk
    for group in np.split(order, np.flatnonzero(np.diff(numbers)) + 1):
        if len(group):
            wanted = indices[group]
            start, stop = int(wanted.min()), int(wanted.max()) + 1
            yield start // chunk, (start, stop, _as_slice(wanted - start), _as_slice(group))


def _as_slice(positions: np.ndarray[Any, np.dtype[np.intp]]) -> Any:
    """Return the slice that selects the same positions, or the array if there is none."""
    first = int(positions[0])
    if len(positions) == 1:
        return slice(first, first + 1)
    steps = np.diff(positions)
    step = int(steps[0])
    if step <= 0 or np.any(steps != step):
        return positions
    return slice(first, int(positions[-1]) + 1, None if step == 1 else step)


def plan(axes: Sequence[Axis], chunk: Shape5) -> Iterator[Block]:
    """Split a selection into one block for each chunk, in storage order.

    Parameters
    ----------
    axes
        Indices along T, C, Z, Y, X.
    chunk
        Shape of the chunk grid along the same axes.
    """
    split = [list(_parts(axis, length)) for axis, length in zip(axes, chunk, strict=True)]
    for combined in itertools.product(*split):
        yield _block(combined)


def _block(combined: Sequence[tuple[int, Part]], is_joined: bool = False) -> Block:
    index: Any
    start: Any
    stop: Any
    index, parts = zip(*combined, strict=True)
    start, stop, inner, outer = zip(*parts, strict=True)
    return Block(index, start, stop, inner, outer, is_joined)


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring chunks along one axis, all selected as a whole; or any single chunk.

    Attributes
    ----------
    joined
        Number of the first chunk, and the part that contains all chunks.
    count
        Number of chunks.
    is_whole
        Whether all pixels of the chunks are selected along this axis.
    """

    joined: tuple[int, Part]
    count: int
    is_whole: bool

    def single(self, chunk: int) -> Sequence[tuple[int, Part]]:
        """Return the chunks one by one."""
        if self.count == 1:
            return [self.joined]
        first, (start, stop, _, outer) = self.joined
        found = []
        for number in range(first, first + self.count):
            a, b = number * chunk, min((number + 1) * chunk, stop)
            place = outer.start - start
            found.append((number, (a, b, slice(0, b - a), slice(a + place, b + place))))
        return found


def _runs(axis: Axis, chunk: int, unit: int, size: int) -> Iterator[_Run]:
    """Group the parts of one axis to runs that do not extend over multiples of `unit`."""
    if not (isinstance(axis, range) and axis.step == 1):
        for single in _parts(axis, chunk):
            # An index that is repeated has an array of positions.
            inner = single[1][2]
            yield _Run(single, 1, chunk == 1 and isinstance(inner, slice))
        return
    start, end = axis.start, axis.stop
    while start < end:
        number = start // chunk
        stop = min(end, (number + 1) * chunk)
        is_whole = start == number * chunk and stop in ((number + 1) * chunk, size)
        if is_whole:
            last = min(end, (start // unit + 1) * unit)
            stop = last if last == size else max(stop, last // chunk * chunk)
        part = start, stop, slice(0, stop - start), slice(start - axis.start, stop - axis.start)
        yield _Run((number, part), -(-stop // chunk) - number, is_whole)
        start = stop


def plan_joined(axes: Sequence[Axis], grid: ChunkGrid, unit: Shape5) -> Iterator[Block]:
    """Split a selection like `plan`, but join neighbouring chunks that are selected as a whole.

    Parameters
    ----------
    axes
        Indices along T, C, Z, Y, X.
    grid
        The chunks.
    unit
        Largest joined block: multiples of the chunk along the same axes.
    """
    split = [
        list(_runs(axis, chunk, length, size))
        for axis, chunk, length, size in zip(axes, grid.chunk, unit, grid.shape, strict=True)
    ]
    for box in itertools.product(*split):
        if all(part.is_whole for part in box):
            count = math.prod(part.count for part in box)
            yield _block([part.joined for part in box], is_joined=count > 1)
            continue
        for combined in itertools.product(*map(_Run.single, box, grid.chunk)):
            yield _block(combined)


def _are_slices(selectors: tuple[Any, ...]) -> bool:
    return set(map(type, selectors)) == {slice}


def take(array: Array, selectors: tuple[Any, ...]) -> Array:
    """Select orthogonally along every axis; a view if all selectors are slices."""
    if _are_slices(selectors):
        view: Array = array[selectors]
        return view
    return array[_orthogonal(array.shape, selectors)]


def put(array: Array, selectors: tuple[Any, ...], values: Array) -> None:
    """Assign orthogonally along every axis."""
    if _are_slices(selectors):
        array[selectors] = values
    else:
        array[_orthogonal(array.shape, selectors)] = values


def _orthogonal(shape: tuple[int, ...], selectors: tuple[Any, ...]) -> tuple[Array, ...]:
    return np.ix_(
        *(
            np.arange(length)[selector] if isinstance(selector, slice) else selector
            for selector, length in zip(selectors, shape, strict=True)
        )
    )


def new_array(make: Callable[..., Array], shape: Sequence[int], dtype: Any, name: str) -> Array:
    """Make an array for pixels with `numpy.empty` or `numpy.zeros`.

    Raises
    ------
    OutOfMemory
        There is not enough memory.
    """
    try:
        return make(shape, dtype)
    # ValueError: more bytes than can be addressed.
    except (MemoryError, ValueError, OverflowError) as error:
        wanted = math.prod(int(n) for n in shape) * np.dtype(dtype).itemsize
        raise OutOfMemory(
            f"{name}: {wanted / 2**30:,.1f} GiB are needed for an array of shape {tuple(shape)}. "
            "Read smaller regions or fewer pixels."
        ) from error


@dataclass(frozen=True, slots=True)
class LevelReader:
    """Reads selections of one level of an open image.

    Attributes
    ----------
    backend, image, level
        The open file, and the numbers of the image and of its resolution.
    workers
        Threads that decode at once.
    cache, token
        Cache for decoded chunks or None, and the key of this file's chunks in it.
    name
        Name of the file, for messages.
    planar
        Whether the samples of a pixel are separate planes in memory even where the file stores
        them interleaved.
    """

    backend: ReaderBackend
    image: int
    level: int
    workers: int
    cache: MutableMapping[Hashable, Array] | None = None
    token: Hashable = None
    name: str = ""
    planar: bool = False

    def load(self, selection: Selection) -> Array:
        """Read a selection into a new array.

        Parameters
        ----------
        selection
            Indices along Y, X, Z, C, T.

        Returns
        -------
        numpy.ndarray
            Axes Y, X, Z, C, T, in the image's dtype. Samples are adjacent in memory if they are
            stored so and all of them are read; otherwise Y and X are the fastest axes.

        Raises
        ------
        ReadFailed
            A chunk cannot be read.
        OutOfMemory
            There is not enough memory.
        """
        out = self._empty(selection.shape)
        if selection.size:
            try:
                run(self._jobs(selection.tczyx(), out), self._threads(out))
            except MemoryError as error:
                if isinstance(error, OutOfMemory):
                    raise
                raise OutOfMemory(
                    f"{self.name}: memory ran out while reading. Read smaller regions, or use "
                    "fewer workers."
                ) from error
        return out.transpose(3, 4, 2, 1, 0)

    def fill(self, axes: Sequence[Axis], out: Array) -> None:
        """Read a selection into an array.

        Parameters
        ----------
        axes
            Indices along T, C, Z, Y, X.
        out
            Array of the selection's shape along T, C, Z, Y, X, in the image's dtype; any strides.

        Raises
        ------
        ReadFailed
            A chunk cannot be read; the content of `out` is then undefined.
        """
        run(self._jobs(axes, out), self._threads(out))

    def _threads(self, out: Array) -> int:
        """Return the number of threads for a selection.

        Small reads without decompression hold the GIL for most of their time: two threads that wait
        for each other take twice as long as one.
        """
        backend = self.backend
        if self.workers < 2 or out.nbytes > _SMALL_READ or backend.waits:
            return self.workers
        return self.workers if backend.decodes(self.image, self.level) else 1

    def _jobs(self, axes: Sequence[Axis], out: Array) -> Iterator[Callable[[], None]]:
        """Yield jobs that read the blocks which are not in the cache; copy the others."""
        grid = self.backend.images[self.image].levels[self.level].grid
        unit = self.backend.read_unit(self.image, self.level)
        joined = unit != grid.chunk
        blocks = plan_joined(axes, grid, unit) if joined else plan(axes, grid.chunk)
        partial = itertools.count()
        for block in blocks:
            job = _BlockRead(self, grid, axes, partial, block, out)
            # The thread that takes the next job copies from the cache: waking another is slower.
            if job.from_cache():
                next(partial)
            else:
                yield job

    def _empty(self, shape: Sequence[int]) -> Array:
        """Return an array along T, C, Z, Y, X, laid out in memory as the file stores pixels."""
        y, x, z, c, t = shape
        image = self.backend.images[self.image]
        all_samples = c == image.samples == image.levels[0].shape[1]
        if image.interleaved and not self.planar and all_samples:
            pixels = new_array(np.empty, (t, z, y, x, c), image.dtype, self.name)
            return pixels.transpose(0, 4, 1, 2, 3)
        return new_array(np.empty, (t, c, z, y, x), image.dtype, self.name)


class _BlockRead:
    """Job that reads one block of a selection into the result.

    `partial` counts the chunks of the selection of which parts are read.
    """

    __slots__ = ("_axes", "_block", "_grid", "_level", "_out", "_partial")

    def __init__(
        self,
        level: LevelReader,
        grid: ChunkGrid,
        axes: Sequence[Axis],
        partial: Iterator[int],
        block: Block,
        out: Array,
    ) -> None:
        self._level = level
        self._grid = grid
        self._axes = axes
        self._partial = partial
        self._block = block
        self._out = out

    def from_cache(self) -> bool:
        """Copy the block from the cache; return False if its chunk is not there."""
        cache = self._level.cache
        if cache is None or self._block.is_joined:
            return False
        try:
            chunk = cache[self._key]
        except KeyError:
            return False
        self._put(chunk)
        return True

    def __call__(self) -> None:
        level, block = self._level, self._block
        whole = self._caches_chunk()
        with self._turn(whole):
            if whole and isinstance(level.cache, ChunkCache) and self.from_cache():
                return  # another thread decoded the chunk in the meantime
            region, pixels = self._request(whole)
            try:
                level.backend.read(region, pixels)
            except (BfbridgeError, MemoryError):
                raise
            except Exception as error:
                # An error of another type is a defect of a backend: convert it to ours.
                raise ReadFailed(
                    f"{level.name}: {region}: the {level.backend.name} backend failed with "
                    f"{type(error).__name__}: {error}. Please report this as a fault of bfbridge."
                ) from error
            if whole and level.cache is not None:
                pixels.flags.writeable = False
                level.cache[self._key] = pixels
        if whole:
            self._put(pixels)
        elif not block.is_box:
            put(self._out, block.outer, take(pixels, block.inner))

    @property
    def _key(self) -> Hashable:
        level = self._level
        return (level.token, level.image, level.level, self._block.index)

    @property
    def _nbytes(self) -> int:
        """Bytes of the selected box."""
        lengths = (b - a for a, b in zip(self._block.start, self._block.stop, strict=True))
        return int(math.prod(lengths) * self._out.dtype.itemsize)

    def _put(self, chunk: Array) -> None:
        """Copy the selected pixels of a whole chunk into the result."""
        block = self._block
        origin = self._grid.origin(block.index)
        offset = tuple(
            slice(a - corner, b - corner)
            for a, b, corner in zip(block.start, block.stop, origin, strict=True)
        )
        put(self._out, block.outer, take(chunk[offset], block.inner))

    def _request(self, whole: bool) -> tuple[Region, Array]:
        """Return the region for the backend to read, and the array to read it into."""
        level, block = self._level, self._block
        if whole:
            start, stop = self._grid.box(block.index)
            region = Region(level.image, level.level, start, stop)
            # In the memory order of the result: samples are not reordered for each crop.
            return region, np.empty_like(self._out, shape=region.shape)
        region = Region(level.image, level.level, block.start, block.stop)
        if block.is_box:
            return region, self._out[block.outer]
        return region, np.empty(region.shape, self._out.dtype)

    def _turn(self, whole: bool) -> AbstractContextManager[None]:
        """Return a context in which no other thread decodes the same chunk for the cache."""
        cache = self._level.cache
        if whole and isinstance(cache, ChunkCache):
            return cache.fetching(self._key)
        return nullcontext()

    def _caches_chunk(self) -> bool:
        """Whether the whole chunk is read into the cache: a part is selected, and it fits."""
        level, block, cache = self._level, self._block, self._level.cache
        if cache is None or block.is_joined:
            return False
        nbytes = math.prod(self._grid.block_shape(block.index)) * self._out.dtype.itemsize
        kept = getattr(cache, "max_bytes", math.inf) / nbytes
        if (block.start, block.stop) == self._grid.box(block.index) or kept < 2:
            return False
        # If a request needs more chunks than the cache holds, later ones would evict the first, and
        # the next slice, which needs the first one first, would find none of them.
        if next(self._partial) >= kept:
            return False
        # Random crops rarely meet a chunk twice: a chunk that is cheap to read in part is cached
        # only on the second request, and that of a local file only for parts so small that the
        # call costs more than the pixels.
        if isinstance(cache, ChunkCache) and level.backend.reads_parts(level.image, level.level):
            share = nbytes // max(self._nbytes, 1)
            is_small = level.backend.waits or share >= SMALL_PART
            return is_small and cache.met(self._key) and _count(self._axes, self._grid) <= kept
        return True


def _count(axes: Sequence[Axis], grid: ChunkGrid) -> int:
    """Return an upper bound of the number of chunks that a selection needs."""
    count = 1
    for axis, chunk in zip(axes, grid.chunk, strict=True):
        ends = (axis[0], axis[-1]) if isinstance(axis, range) else (np.min(axis), np.max(axis))
        count *= min(len(axis), int(max(ends)) // chunk - int(min(ends)) // chunk + 1)
    return count
