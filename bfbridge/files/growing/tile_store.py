"""`TileStore`: tiles, in any order and from any thread or process, assembled to encoded chunks.

Chunks that are incomplete stay in memory, within a budget; the least recently used are moved to
their files with a mask of the pixels that were written. Once a store is shared by several
processes, every tile is merged into the files at once, and a lock per group of chunks excludes the
others.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bfbridge.engine.casting import cast, checked, checked_number
from bfbridge.engine.open_chunks import OpenChunk, OpenChunks
from bfbridge.engine.workers import Background, run
from bfbridge.errors import BadArgument, BadDtype, Closed, WriteFailed
from bfbridge.files.growing.chunk_files import ChunkFiles, ChunkIndex, StoredChunk
from bfbridge.ngff.compression import parse_compression
from bfbridge.runtime import forking
from bfbridge.storage.durable_io import lock_now

__all__ = ["StorePlan", "TileStore", "promoted"]

Array = np.ndarray[Any, Any]
MOST: Final = 1 << 40
"""Greatest distance of a tile from the origin, along any axis."""
_STATE: Final = "state.json"
_GROUPS: Final = 64
_PATIENCE: Final = 120.0
_LEAST_CHUNK, _MOST_CHUNK, _CHUNK = 64, 2048, 512


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Settings of a store, the same in every process.

    Attributes
    ----------
    name
        Name of the image, for messages.
    compression
        As `bfbridge.ngff.compression.parse_compression` takes it.
    fill_value
        Value of pixels that are never written.
    memory
        Bytes of incomplete chunks in memory.
    workers
        Chunks encoded at once.
    dtype
        Type of the pixels if it is fixed; None: that of all tiles.
    chunk
        Height and width of a chunk; None: those of the first tile, if they suit.
    supported
        Names of the dtypes that the format of the image stores; none: all.
    """

    name: str
    compression: tuple[str, int]
    fill_value: float = 0
    memory: int = 256 << 20
    workers: int = 1
    dtype: str | None = None
    chunk: tuple[int, int] | None = None
    supported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _State:
    """Properties that the first tile defines, and the dtype of all tiles until now."""

    samples: int
    dtype: str
    chunk: tuple[int, int]


class TileStore:
    """Tiles of one image, in a private folder.

    Parameters
    ----------
    folder
        The folder, which exists and belongs to the store.
    plan
        Settings.
    shared
        Whether other processes write to the folder too.
    """

    def __init__(self, folder: Path, plan: StorePlan, *, shared: bool = False) -> None:
        self.folder, self.plan = folder, plan
        self.shared = shared
        self.files = ChunkFiles(folder, parse_compression(plan.compression))
        self._state: _State | None = None
        self._lock = forking.lock()
        self._state_lock = forking.lock()
        self._open: OpenChunks[ChunkIndex, OpenChunk] = OpenChunks(OpenChunk)
        # With the bytes that were counted: those of a chunk change when it is complete.
        self._recent: OrderedDict[ChunkIndex, tuple[OpenChunk, int]] = OrderedDict()
        self._held = 0
        self._on_disk: set[ChunkIndex] = set()
        self._background = Background(2 * plan.workers)

    # ---- properties that the first tile defines

    @property
    def samples(self) -> int | None:
        """Samples of a pixel; None before the first tile."""
        state = self._known()
        return None if state is None else state.samples

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """Type that holds the pixels of all tiles until now; None before the first tile."""
        state = self._known()
        return None if state is None else np.dtype(state.dtype)

    @property
    def chunk(self) -> tuple[int, int] | None:
        """Height and width of a chunk; None before the first tile."""
        state = self._known()
        return None if state is None else state.chunk

    def _known(self) -> _State | None:
        if self.shared:
            with self._state_lock:
                self._state = self._load_state()
        return self._state

    def _load_state(self) -> _State | None:
        try:
            found = json.loads((self.folder / _STATE).read_text())
        except FileNotFoundError:
            self._check_folder()
            return None
        return _State(found["samples"], found["dtype"], (found["chunk"][0], found["chunk"][1]))

    def _check_folder(self) -> None:
        if not self.folder.is_dir():
            raise Closed(
                f"{self.plan.name}: the BioWriter that made this image has closed it, so no tile "
                "can be added."
            )

    def _settle(self, tile: Array) -> _State:
        """Return the state with a tile: samples and chunk of the first, a dtype that holds all."""
        known = self._state
        samples = tile.shape[2]
        if known is not None and known.samples == samples and known.dtype == tile.dtype.str:
            return known
        with self._state_lock, self.excluding(_STATE):
            if self.shared:
                self._state = self._load_state()
            known = self._state
            wanted = tile.dtype if self.plan.dtype is None else np.dtype(self.plan.dtype)
            if known is None:
                found = _State(samples, wanted.str, self.plan.chunk or _chunk_for(tile))
            elif known.samples != samples:
                raise BadArgument(
                    f"{self.plan.name}: this tile has {samples} sample(s) per pixel, and the first "
                    f"one had {known.samples}. All tiles of an image have the same number; "
                    "channels are added with c=."
                )
            else:
                wide = promoted(np.dtype(known.dtype), wanted, self.plan.name)
                found = _State(samples, wide.str, known.chunk)
            self._check_dtype(np.dtype(found.dtype), tile.dtype)
            checked_number(self.plan.fill_value, np.dtype(found.dtype), self.plan.name)
            if self.shared and found != known:
                self._save_state(found)
            self._state = found
            return found

    def _check_dtype(self, wanted: np.dtype[Any], given: np.dtype[Any]) -> None:
        known = self.plan.supported
        if known and wanted.name not in known:
            raise BadDtype(
                f"{self.plan.name}: with this tile of {given} the pixels are {wanted}, which this "
                f"format does not store; it stores {', '.join(known)}."
            )

    def _save_state(self, state: _State) -> None:
        new = self.folder / f"{_STATE}.new"
        new.write_text(json.dumps(asdict(state)))
        new.replace(self.folder / _STATE)

    # ---- tiles

    def add(self, frame: tuple[int, ...], y: int, x: int, tile: Array, mask: Array | None) -> None:
        """Write a tile.

        Parameters
        ----------
        frame
            Position along t, c, z and the named axes.
        y, x
            Position of its first pixel; may be negative.
        tile
            Shape (Y, X, samples), native byte order.
        mask
            Shape (Y, X), True for pixels that are written; None for all.

        Raises
        ------
        BadArgument
            It has other samples than the first tile.
        BadDtype
            No type holds its values and those of the tiles before.
        """
        if self.plan.dtype is not None:
            fixed = np.dtype(self.plan.dtype)
            tile = cast(checked(tile, fixed, self.plan.name), fixed)
        state = self._settle(tile)
        rows, columns = state.chunk
        height, width = tile.shape[:2]
        for row in range(y // rows, -(-(y + height) // rows)):
            for column in range(x // columns, -(-(x + width) // columns)):
                top, left = y - row * rows, x - column * columns
                inner = slice(max(0, top), min(rows, top + height))
                inner_x = slice(max(0, left), min(columns, left + width))
                outer = (
                    slice(inner.start - top, inner.stop - top),
                    slice(inner_x.start - left, inner_x.stop - left),
                )
                marks = None if mask is None else mask[outer]
                if marks is not None and not marks.any():
                    continue
                index = ChunkIndex(frame, row, column)
                self._put(index, state, (inner, inner_x), tile[outer].transpose(2, 0, 1), marks)

    def _put(
        self,
        index: ChunkIndex,
        state: _State,
        box: tuple[slice, slice],
        values: Array,
        marks: Array | None,
    ) -> None:
        whole = values.shape[1:] == state.chunk and (marks is None or bool(marks.all()))
        dtype = np.dtype(state.dtype)
        if self.shared:
            with self.excluding(_group_of(index)):
                chunk = OpenChunk()
                if whole:
                    chunk.array = np.array(values, dtype, order="C")
                else:
                    self._fill_in(chunk, index, state, box, values, marks)
                self._write(index, chunk)
            return
        chunk = self._open.claim(index)
        try:
            if whole:
                self._forget(index)
                chunk.array, chunk.written = np.array(values, dtype, order="C"), None
            else:
                self._fill_in(chunk, index, state, box, values, marks)
                if chunk.written is not None:
                    self._touch(index, chunk)
                    chunk.lock.release()
                    return
                self._forget(index)
            self._background.submit(partial(self._write_and_release, index, chunk))
        except BaseException:
            chunk.lock.release()
            raise

    def _fill_in(
        self,
        chunk: OpenChunk,
        index: ChunkIndex,
        state: _State,
        box: tuple[slice, slice],
        values: Array,
        marks: Array | None,
    ) -> None:
        """Write a part of a chunk; the caller holds its lock. `chunk.written` is None if whole."""
        dtype = np.dtype(state.dtype)
        if chunk.array is None:
            found = self.files.read(index) if self.shared or index in self._on_disk else None
            if found is None:
                chunk.array = np.full((state.samples, *state.chunk), self.plan.fill_value, dtype)
                chunk.written = np.zeros(state.chunk, bool)
            else:
                chunk.array, chunk.written = np.array(found[0]), found[1]
        if chunk.array.dtype != dtype:
            wide = np.promote_types(chunk.array.dtype, dtype)
            chunk.array = chunk.array.astype(wide, copy=False)
        part = chunk.array[(slice(None), *box)]
        if marks is None:
            part[...] = values
        else:
            np.copyto(part, values, where=marks)
        if chunk.written is not None:
            chunk.written[box] |= True if marks is None else marks
            if chunk.written.all():
                chunk.written = None

    def _touch(self, index: ChunkIndex, chunk: OpenChunk) -> None:
        """Record that a chunk was used; move others to files if memory is short."""
        with self._lock:
            self._drop(index)
            self._recent[index] = chunk, chunk.nbytes
            self._held += chunk.nbytes
        while self._held > self.plan.memory:
            victim = self._oldest(chunk)
            if victim is None:
                return
            place, old = victim
            self._write_and_release(place, old)

    def _oldest(self, keep: OpenChunk) -> tuple[ChunkIndex, OpenChunk] | None:
        """Return the least recently used chunk whose lock is free, with its lock held."""
        with self._lock:
            for index, (chunk, _) in self._recent.items():
                if chunk is not keep and chunk.lock.acquire(blocking=False):
                    self._drop(index)
                    return index, chunk
        return None

    def _forget(self, index: ChunkIndex) -> None:
        with self._lock:
            self._drop(index)

    def _drop(self, index: ChunkIndex) -> None:
        self._held -= self._recent.pop(index, (None, 0))[1]

    def _write_and_release(self, index: ChunkIndex, chunk: OpenChunk) -> None:
        try:
            self._write(index, chunk)
            with self._lock:
                self._on_disk.add(index)
            self._open.remove([index], chunk)
        finally:
            chunk.lock.release()

    def _write(self, index: ChunkIndex, chunk: OpenChunk) -> None:
        if chunk.array is not None:
            self.files.write(index, chunk.array, chunk.written, whole=self.shared)

    # ---- several processes

    @contextlib.contextmanager
    def excluding(self, group: str) -> Iterator[None]:
        """Exclude other processes from a group of chunks, once the store is shared."""
        if not self.shared:
            yield
            return
        path = self.folder / f"lock-{group}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            self._check_folder()
            raise
        try:
            end, pause = time.monotonic() + _PATIENCE, 0.0005
            while not lock_now(fd, created=False):
                if time.monotonic() > end:
                    raise WriteFailed(
                        f"{self.plan.name}: no lock on {path} within {_PATIENCE:.0f} s. The file "
                        "system may not support locks: add the tiles from one process."
                    )
                time.sleep(pause)
                pause = min(0.01, 2 * pause)
            yield
        finally:
            os.close(fd)  # releases the lock

    def share(self) -> None:
        """Let other processes write too: from now on every tile is in the files when `add` ends."""
        with self._state_lock:
            if self.shared:
                return
            self.flush()
            if self._state is not None:
                self._save_state(self._state)
            self.shared = True

    # ---- the end

    def flush(self) -> None:
        """Write all chunks to their files.

        Raises
        ------
        WriteFailed, OSError
            The file system refuses to write, now or for an earlier tile.
        """
        self._background.wait()
        jobs = (partial(self._flush_one, index) for index in sorted(self._open.indices()))
        run(jobs, self.plan.workers)

    def _flush_one(self, index: ChunkIndex) -> None:
        chunk = self._open.claim(index)
        self._forget(index)
        self._write_and_release(index, chunk)

    def chunks(self) -> list[StoredChunk]:
        """Return what is known of each chunk with pixels, after `flush`."""
        return [chunk for chunk in self.files if chunk.written]

    def drain(self) -> None:
        """Wait for chunks that are being encoded, and ignore their errors."""
        self._background.drain()


def _group_of(index: ChunkIndex) -> str:
    number = sum(n * prime for n, prime in zip(index.frame, (7, 31, 127, 8191, 3, 5), strict=False))
    return str((number + index.row * 13 + index.column) % _GROUPS)


def _chunk_for(tile: Array) -> tuple[int, int]:
    """Return the chunk of an image from its first tile: the tile, if other programs like it."""
    height, width = tile.shape[:2]
    suits = all(_LEAST_CHUNK <= n <= _MOST_CHUNK and n % 16 == 0 for n in (height, width))
    return (height, width) if suits else (_CHUNK, _CHUNK)


def promoted(have: np.dtype[Any], new: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return the smallest type that holds all values of two types.

    Raises
    ------
    BadDtype
        There is none: for example, float64 does not hold every value of int64.
    """
    wide = np.promote_types(have, new)
    longs = any(dtype.kind in "iu" and dtype.itemsize == 8 for dtype in (have, new))
    if longs and wide.kind not in "iu":
        raise BadDtype(
            f"{name}: no type of pixels holds the values of this tile ({new}) and those of the "
            f"tiles before ({have}). Convert one of them (array.astype(...))."
        )
    return wide
