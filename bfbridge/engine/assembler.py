"""Assembly of regions, in any order, to finished chunks and their pyramid, in one pass.

Each level keeps only its unfinished chunks. A finished chunk is passed to the backend at once and,
reduced, to the next smaller level, which is assembled in the same way. When unfinished chunks
exceed a memory budget, the least recently used are moved to a scratch file.
"""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bfbridge.backend import ImageSpec, Level, Shape5, WriterBackend
from bfbridge.engine.open_chunks import OpenChunk, OpenChunks
from bfbridge.engine.pyramid import Step, reduce_block
from bfbridge.engine.tiles import Axis, Block, plan, plan_joined, put
from bfbridge.runtime import forking

__all__ = ["LevelAssembler", "UnfinishedChunks", "level_assemblers"]

Array = np.ndarray[Any, Any]
Later = Callable[[Callable[[], None]], None]
# Chunks up to this many bytes are encoded in less time than another thread needs to start.
SMALL_CHUNK = 1 << 13
# The only chunk of a level: the caller has no other one to prepare meanwhile.
SMALL_LEVEL = 1 << 18


class _LevelChunk(OpenChunk):
    """An open chunk that may be in the file of `UnfinishedChunks`.

    Attributes
    ----------
    missing
        Number of pixels that are not written yet.
    place
        Its position in the file, or None.
    """

    __slots__ = ("missing", "place")

    def __init__(self) -> None:
        super().__init__()
        self.missing = 0
        self.place: int | None = None


class UnfinishedChunks:
    """Unfinished chunks within a memory budget; the others are in a file without a name.

    Parameters
    ----------
    folder
        Folder for the file, which is created when it is needed.
    budget
        Bytes of unfinished chunks kept in memory.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder = folder
        self._budget = budget
        self._lock = forking.lock()
        self._recent: OrderedDict[int, _LevelChunk] = OrderedDict()
        self._held = 0
        self._file: Any = None
        self._end = 0
        self._free: dict[int, list[int]] = {}

    def touch(self, chunk: _LevelChunk) -> None:
        """Record that an unfinished chunk was used; move others to the file if memory is short."""
        with self._lock:
            if id(chunk) not in self._recent:
                self._held += chunk.nbytes
            self._recent[id(chunk)] = chunk
            self._recent.move_to_end(id(chunk))
            while self._held > self._budget and len(self._recent) > 1:
                if not self._spill_one(chunk):
                    break

    def drop(self, chunk: _LevelChunk, length: int) -> None:
        """Forget a finished chunk, of `length` bytes in the file; the caller holds its lock."""
        with self._lock:
            if self._recent.pop(id(chunk), None) is not None:
                self._held -= chunk.nbytes
            if chunk.place is not None:
                self._free.setdefault(length, []).append(chunk.place)
                chunk.place = None

    def restore(self, chunk: _LevelChunk, shape: Shape5, dtype: np.dtype[Any]) -> None:
        """Read a chunk back from the file; the caller holds its lock."""
        if chunk.place is None:
            return
        size = prod(shape)
        with self._lock:
            self._file.seek(chunk.place)
            pixels = self._file.read(size * dtype.itemsize)
            marks = self._file.read(-(-size // 8))
            self._free.setdefault(len(pixels) + len(marks), []).append(chunk.place)
        chunk.array = np.frombuffer(pixels, dtype).reshape(shape).copy()
        bits = np.unpackbits(np.frombuffer(marks, np.uint8), count=size)
        chunk.written = bits.reshape(shape).astype(bool)
        chunk.place = None

    def _spill_one(self, keep: _LevelChunk) -> bool:
        for key, victim in self._recent.items():
            if victim is keep or not victim.lock.acquire(blocking=False):
                continue
            try:
                if victim.array is None or victim.written is None:
                    continue
                data = victim.array.tobytes() + np.packbits(victim.written).tobytes()
                victim.place = self._write(data)
                self._held -= victim.nbytes
                victim.array = victim.written = None
                del self._recent[key]
                return True
            finally:
                victim.lock.release()
        return False

    def _write(self, data: bytes) -> int:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - see `close`
        free = self._free.get(len(data))
        place = free.pop() if free else self._end
        self._file.seek(place)
        self._file.write(data)
        self._end = max(self._end, place + len(data))
        return place

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class LevelAssembler:
    """Chunks of one level, written in any order from any thread.

    Parameters
    ----------
    writer, image, number
        Destination of finished chunks: the backend, and the numbers of the image and level.
    spec
        The image, with its levels, fill value and downsampling method.
    above, step
        The next smaller level, or None, and the factors between the two along Z, Y, X.
    scratch
        Storage for unfinished chunks.
    stored
        Whether the file has chunks already, or fill values for them: regions change them in place.
    """

    def __init__(
        self,
        writer: WriterBackend,
        image: int,
        number: int,
        spec: ImageSpec,
        above: LevelAssembler | None,
        step: Step,
        unfinished: UnfinishedChunks,
        stored: bool = False,
    ) -> None:
        self._writer = writer
        self._image = image
        self._number = number
        self._spec = spec
        self._level: Level = spec.image.levels[number]
        self._above = above
        self._step = step
        self._waiting = unfinished
        self._open: OpenChunks[Shape5, _LevelChunk] = OpenChunks(_LevelChunk)
        self._grid = self._level.grid
        self._unit = writer.write_unit(image, number)
        nbytes = prod(self._grid.chunk) * spec.image.dtype.itemsize
        single = prod(self._grid.counts) == 1
        self._small = nbytes <= (SMALL_LEVEL if single else SMALL_CHUNK)
        self._done = np.full(self._grid.counts, stored)

    def blocks(self, axes: Sequence[Axis]) -> Iterator[Block]:
        """Split a selection (indices along T, C, Z, Y, X) into blocks for `write`."""
        if self._unit is None:
            return plan(axes, self._grid.chunk)
        return plan_joined(axes, self._grid, self._unit)

    def write(self, block: Block, values: Array, later: Later | None = None) -> None:
        """Write the part of a region that lies in one chunk, or neighbouring whole chunks.

        Parameters
        ----------
        block
            The chunk, and the pixels in it; one of `blocks`.
        values
            The pixels, along T, C, Z, Y, X, in native order and the image's dtype. Not kept.
        later
            Runs a job in another thread. A chunk that became complete is then encoded there, unless
            it is small, and further writes to the same chunk wait for it, so that they keep their
            order.
        """
        if block.is_joined:
            self._write_joined(block, values, later)
            return
        later = None if self._small else later
        chunk = self._open.claim(block.index)
        try:
            shape = self._grid.block_shape(block.index)
            if block.is_box and values.shape == shape:
                pixels = values.copy() if later else values
            else:
                self._fill_in(chunk, block, shape, values)
                if chunk.missing or chunk.array is None:
                    self._waiting.touch(chunk)
                    chunk.lock.release()
                    return
                pixels = chunk.array
            job = partial(self._finish_and_release, block.index, chunk, pixels)
        except BaseException:
            chunk.lock.release()
            raise
        _start(job, chunk, later)

    def _write_joined(self, block: Block, values: Array, later: Later | None) -> None:
        """Write whole chunks with one call, unless a part of one of them is written already."""
        indices = list(self._grid.overlapping(block.start, block.stop))
        chunk = self._open.claim_closed(indices)
        if chunk is None:
            axes = list(map(range, block.start, block.stop))
            for part in plan(axes, self._grid.chunk):
                self.write(part, values[part.outer])
            return
        try:
            pixels = values.copy() if later else values
            job = partial(self._finish_joined, indices, chunk, pixels)
        except BaseException:
            chunk.lock.release()
            raise
        _start(job, chunk, later)

    def _finish_joined(self, indices: Sequence[Shape5], chunk: _LevelChunk, pixels: Array) -> None:
        first, last = indices[0], indices[-1]
        try:
            self._writer.write_joined(self._image, self._number, first, pixels)
            self.pass_up(first, pixels)
            self._done[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = True
            self._open.remove(indices, chunk)
        finally:
            chunk.lock.release()

    def _finish_and_release(self, index: Shape5, chunk: _LevelChunk, pixels: Array) -> None:
        try:
            self._finish(index, chunk, pixels)
        finally:
            chunk.lock.release()

    def _fill_in(
        self,
        chunk: _LevelChunk,
        block: Block,
        shape: Shape5,
        values: Array,
    ) -> None:
        dtype = self._spec.image.dtype
        self._waiting.restore(chunk, shape, dtype)
        if chunk.array is None:
            stored = None
            if self._done[block.index]:
                stored = self._writer.read_block(self._image, self._number, block.index)
            if stored is None:
                chunk.array = np.full(shape, self._spec.fill_value, dtype)
            else:
                chunk.array = np.array(stored)
            if not self._done[block.index]:
                chunk.written = np.zeros(shape, bool)
                chunk.missing = chunk.array.size
        offset = tuple(
            slice(a - corner, b - corner)
            for a, b, corner in zip(
                block.start, block.stop, self._grid.origin(block.index), strict=True
            )
        )
        put(chunk.array[offset], block.inner, values)
        if chunk.written is not None:
            marks = chunk.written[offset]
            before = np.count_nonzero(marks)
            put(marks, block.inner, np.ones(values.shape, bool))
            chunk.missing -= int(np.count_nonzero(marks) - before)

    def _finish(self, index: Shape5, chunk: _LevelChunk, pixels: Array) -> None:
        """Pass a complete chunk to the backend and the next level; the caller holds its lock."""
        self._writer.write_block(self._image, self._number, index, pixels)
        # Before the chunk is forgotten: a later write to it must also reach the next level later.
        self.pass_up(index, pixels)
        self._done[index] = True
        self._waiting.drop(chunk, pixels.nbytes + -(-pixels.size // 8))
        self._open.remove([index], chunk)

    def pass_up(self, index: Shape5, pixels: Array) -> None:
        """Reduce a chunk, or whole chunks from `index` on, and pass it to the next level."""
        above = self._above
        if above is None:
            return
        smaller = reduce_block(pixels, self._step, self._spec.downsample)
        t, c, *corner = self._grid.origin(index)
        start = [t, c, *(a // f for a, f in zip(corner, self._step, strict=True))]
        axes = [range(a, a + n) for a, n in zip(start, smaller.shape, strict=True)]
        for block in above.blocks(axes):
            above.write(block, smaller[block.outer])

    @property
    def is_complete(self) -> bool:
        """Whether every chunk is finished."""
        return bool(self._done.all())

    @property
    def unfinished(self) -> list[Shape5]:
        """Return the grid positions of the chunks that are partly written."""
        return sorted(self._open.indices())

    def written_planes(self) -> tuple[Array, Array]:
        """Return for each plane (T, C, Z) whether any, and whether every pixel was written."""
        sizes, steps = self._level.shape[:3], self._level.chunk[:3]
        present = self._done.copy()
        pending = self.unfinished
        for index in pending:
            present[index] = True
        touched = _repeated(np.asarray(self._done.any(axis=(3, 4))), steps, sizes)
        complete = _repeated(np.asarray(present.all(axis=(3, 4))), steps, sizes)
        for index in pending:
            box = tuple(
                slice(at, at + step)
                for at, step in zip(self._grid.origin(index), steps, strict=False)
            )
            chunk = self._open.claim(index)
            try:
                self._waiting.restore(chunk, self._grid.block_shape(index), self._spec.image.dtype)
                if chunk.written is not None:
                    touched[box] |= chunk.written.any(axis=(3, 4))
                    complete[box] &= chunk.written.all(axis=(3, 4))
                elif not self._done[index]:
                    complete[box] = False
                if chunk.array is not None:
                    self._waiting.touch(chunk)
            finally:
                chunk.lock.release()
        return touched, complete

    def rebuild(self) -> Iterator[Callable[[], None]]:
        """Yield jobs that pass every stored chunk to the next smaller level."""
        for index in np.ndindex(self._done.shape):
            yield partial(self._rebuild_one, index)

    def _rebuild_one(self, index: Shape5) -> None:
        stored = self._writer.read_block(self._image, self._number, index)
        if stored is not None:
            self.pass_up(index, stored)

    def leftovers(self) -> Iterator[Callable[[], None]]:
        """Yield jobs that finish the unfinished chunks; missing pixels get the fill value."""
        for index in self.unfinished:
            yield partial(self._finish_unfinished, index)

    def _finish_unfinished(self, index: Shape5) -> None:
        chunk = self._open.claim(index)
        try:
            self._waiting.restore(chunk, self._grid.block_shape(index), self._spec.image.dtype)
            if chunk.array is not None:
                self._finish(index, chunk, chunk.array)
        finally:
            chunk.lock.release()


def _start(job: Callable[[], None], chunk: _LevelChunk, later: Later | None) -> None:
    """Run a job that releases the lock of a chunk, or let `later` run it."""
    if later is None:
        job()
        return
    try:
        later(job)
    except BaseException:
        chunk.lock.release()
        raise


def _repeated(blocks: Array, steps: Sequence[int], sizes: Sequence[int]) -> Array:
    """Return a value for each position, from one for each block of `steps` positions."""
    for axis, (step, size) in enumerate(zip(steps, sizes, strict=True)):
        blocks = blocks.repeat(step, axis=axis).take(range(size), axis=axis)
    return blocks


def level_assemblers(
    writer: WriterBackend,
    image: int,
    spec: ImageSpec,
    steps: Sequence[Step],
    unfinished: UnfinishedChunks,
    *,
    stored: bool = False,
) -> tuple[LevelAssembler, ...]:
    """Return an assembler for each level of one image, full size first.

    Regions at full size are written to the first one; each one passes its chunks to the next.

    Parameters
    ----------
    writer, image, spec
        The backend, the number of the image, and its description.
    steps
        For each lower level that is computed, the factors along Z, Y, X between it and the level
        before it.
    unfinished
        Storage for unfinished chunks.
    stored
        As for `LevelAssembler`.
    """
    found: list[LevelAssembler] = []
    lower = None
    for number, step in reversed(list(enumerate((*steps, (1, 1, 1))))):
        lower = LevelAssembler(writer, image, number, spec, lower, step, unfinished, stored)
        found.insert(0, lower)
    return tuple(found)
