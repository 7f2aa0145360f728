"""One level of an image that is being written: from blocks to chunk or shard files."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import Image, ImageSpec, Level, Shape5
from bfbridge.backend.chunk_grid import as_chunks, chunk_parts
from bfbridge.errors import ReadFailed
from bfbridge.ngff.documents import (
    array_document,
    kept_axes,
    shard_shape,
    to_json,
    without_axes,
)
from bfbridge.ngff.omero import Window
from bfbridge.runtime import forking
from bfbridge.runtime.thread_buffer import ThreadBuffer
from bfbridge_omezarr.chunked.codecs import CodecError, decode_bytes, decoders_of
from bfbridge_omezarr.chunked.joined import encode_many
from bfbridge_omezarr.chunked.shards import Shards

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bfbridge_omezarr.hierarchy.files import KeyTree
    from bfbridge_omezarr.options import WriteOptions

__all__ = ["LevelBuffers", "LevelWriter", "Windows"]

Array = np.ndarray[Any, Any]
_SAMPLED: Final = 8
_KEPT: Final = 64 << 20


class LevelBuffers:
    """Memory that threads keep between blocks."""

    def __init__(self) -> None:
        self._encoded = ThreadBuffer(_KEPT)
        self._chunk = ThreadBuffer(_KEPT)

    def chunk(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Return an array; that of the previous call in this thread becomes invalid."""
        size = math.prod(shape) * dtype.itemsize
        return self._chunk.get(size).view(dtype).reshape(shape)

    def buffer(self, size: int) -> memoryview:
        """Return memory for a chunk's stored bytes."""
        return self._encoded.view(size)


class LevelWriter:
    """One array that is being written.

    Parameters
    ----------
    files, key
        The store, and the key of the array in it.
    spec, level
        The image, and which of its levels the array is.
    options, shared, first_t
        As for `bfbridge_omezarr.writer.StoreWriter`.
    axes
        Which of T, C, Z, Y, X the array has; None: those that the options name.
    """

    def __init__(
        self,
        files: KeyTree,
        key: str,
        spec: ImageSpec,
        level: int,
        options: WriteOptions,
        shared: bool,
        first_t: int = 0,
        axes: Sequence[int] | None = None,
    ) -> None:
        image = spec.image
        self.level = _cut_chunk(image.levels[level])
        self.dtype = image.dtype
        grid = options.shard_grid(self.level)
        name, document = array_document(
            self.level, image.dtype, options.version, options.compression,
            fill=spec.fill_value, shards=grid,
        )  # fmt: skip
        # An axis is written in every level, also where a lower level has length 1.
        every = kept_axes(image.levels[0].shape) if options.drop_axes else range(5)
        self.kept = tuple(every if axes is None else axes)
        self.document = name, without_axes(document, self.kept)
        self.key = key
        self._files = files
        self._swapped = image.dtype.itemsize > 1 and not image.dtype.newbyteorder("<").isnative
        self._fill = np.array(spec.fill_value).astype(image.dtype)[()]
        self._fill_bytes = self._fill.tobytes()
        self._compression = options.compression
        self._decoders = decoders_of(options.compression)
        self.prefix = f"{key}/" if options.version == "0.4" else f"{key}/c/"
        self.grid = self.level.grid
        self.unit = self.level.chunk if grid is None else shard_shape(self.level, grid)
        self._shards: Shards | None = None
        if grid is not None:
            counts = (first_t + self.grid.counts[0], *self.grid.counts[1:])
            self._shards = Shards(
                files, self.prefix, self._along(grid), self._along(counts), whole_only=shared
            )
        # Blocks of an extension count from 0; its chunks follow the existing ones.
        self._first_t = first_t
        self._skipped: set[Shape5] = set()
        self._lock = forking.lock()

    def write(self, index: Shape5, block: Array, workspace: LevelBuffers) -> None:
        """Encode and store a block."""
        if self._is_fill(block):
            self._skip(index)
            return
        self.write_stored(index, self._encoded(block, workspace))

    def chunks_of(
        self, index: Shape5, block: Array, workspace: LevelBuffers
    ) -> tuple[list[Shape5], Array]:
        """Return the grid positions of neighbouring whole chunks, that at `index` first, and rows.

        Each row has the pixels of one chunk. Those at the edge of the image are filled up. The rows
        are valid until the next call in this thread.
        """
        chunk = self.level.chunk
        counts = [-(-size // n) for size, n in zip(block.shape, chunk, strict=True)]
        indices: Any = itertools.product(
            *(range(first, first + n) for first, n in zip(index, counts, strict=True))
        )
        box = [n * count for n, count in zip(chunk, counts, strict=True)]
        if list(block.shape) != box:
            padded = np.full(box, self._fill, self.dtype)
            padded[tuple(map(slice, block.shape))] = block
            block = padded
        chunks = workspace.chunk((*counts, *chunk), self.dtype)
        chunks[...] = as_chunks(block, chunk)
        return list(indices), chunks.reshape(math.prod(counts), -1)

    def write_joined(self, indices: Sequence[Shape5], rows: Array, workspace: LevelBuffers) -> None:
        """Encode and store the chunks of `chunks_of`, those of a shard with one write."""
        empty = self._are_fill(rows)
        kept = rows[~empty] if empty.any() else rows
        if self._swapped:
            kept = kept.byteswap()
        encoded = iter(encode_many(kept, self._compression, _room(kept.nbytes, workspace)))
        stored = {
            index: None if skipped else next(encoded)
            for index, skipped in zip(indices, empty.tolist(), strict=True)
        }
        if self._shards is None:
            for found, data in stored.items():
                self._skip(found) if data is None else self.write_stored(found, data)
            return
        self._shards.write_many([(self._place(found), data) for found, data in stored.items()])
        with self._lock:
            self._skipped.difference_update(stored)
            self._skipped.update(found for found, data in stored.items() if data is None)

    def _encoded(self, block: Array, workspace: LevelBuffers) -> Any:
        """Return the stored bytes of a block, valid until the next one of this thread."""
        if block.shape != self.level.chunk or not block.flags.c_contiguous:
            chunk = workspace.chunk(self.level.chunk, self.dtype)
            if block.shape != self.level.chunk:
                chunk[...] = self._fill
            chunk[tuple(slice(n) for n in block.shape)] = block
        else:
            chunk = block
        if self._swapped:
            chunk = chunk.byteswap()
        return self._compression.encode(chunk, _room(chunk.nbytes, workspace))

    def write_stored(self, index: Shape5, stored: Any) -> None:
        """Store an encoded block."""
        if self._shards is not None:
            self._shards.write(self._place(index), stored)
        else:
            self._files.write(self._key(index), stored)
        if index in self._skipped:
            with self._lock:
                self._skipped.discard(index)

    def move_stored(self, index: Shape5, path: str) -> bool:
        """Make a file that of an encoded block, if blocks have files of their own."""
        if self._shards is not None:
            return False
        self._files.publish(path, self._key(index))
        with self._lock:
            self._skipped.discard(index)
        return True

    def read(self, index: Shape5) -> Array | None:
        """Return a block written before, or None."""
        key = self._key(index)
        shape = self.grid.block_shape(index)
        if index in self._skipped:
            return np.full(shape, self._fill, self.dtype)
        if self._shards is not None:
            stored = self._shards.read(self._place(index))
        else:
            stored = self._files.read(key)
        if stored is None:
            return None
        chunk = np.empty(self.level.chunk, self.dtype)
        try:
            flat = chunk.reshape(-1).view(np.uint8)
            decode_bytes(stored, self._decoders, flat, 2 * flat.nbytes)
        except CodecError as error:
            raise ReadFailed(
                f"{self._files.path(key)}: a chunk just written is damaged: {error}."
            ) from error
        if self._swapped:
            chunk = chunk.byteswap()
        return chunk[tuple(slice(n) for n in shape)]

    def complete(self) -> None:
        """Complete open shards."""
        if self._shards is not None:
            self._shards.finish()

    def trim(self, shape: Shape5) -> None:
        """Reduce the shape of the array; its chunks stay as they are."""
        self.document[1]["shape"] = list(self._along(shape))

    def describe(self) -> None:
        """Write the array's document."""
        name, document = self.document
        self._files.write(f"{self.key}/{name}", to_json(document))

    def close(self) -> None:
        """Close files without completing them."""
        if self._shards is not None:
            self._shards.close()

    def _place(self, index: Shape5) -> tuple[int, ...]:
        return self._along((index[0] + self._first_t, *index[1:]))

    def _along(self, values: Sequence[int]) -> tuple[int, ...]:
        """Return the values of the axes that are written."""
        return tuple(values[place] for place in self.kept)

    def _key(self, index: Shape5) -> str:
        return self.prefix + "/".join(map(str, self._place(index)))

    def _is_fill(self, block: Array) -> bool:
        """Whether a block contains only the fill value, compared bit by bit (-0.0 is not 0.0)."""
        if block[(0,) * 5].tobytes() != self._fill_bytes:
            return False
        if block[(-1,) * 5].tobytes() != self._fill_bytes:
            return False
        return bool(self._are_fill(np.ascontiguousarray(block).reshape(1, -1))[0])

    def _are_fill(self, rows: Array) -> NDArray[np.bool_]:
        """Whether each row of pixels contains only the fill value, as `_is_fill`."""
        kind = {1: np.uint8, 2: np.uint16, 4: np.uint32}.get(self.dtype.itemsize, np.uint64)
        fill = np.frombuffer(self._fill_bytes, kind)
        bits = rows.view(kind).reshape(len(rows), -1, len(fill))
        found: NDArray[np.bool_] = (bits[:, (0, -1)] == fill).all((1, 2))
        for place in np.flatnonzero(found):
            found[place] = (bits[place] == fill).all()
        return found

    def _skip(self, index: Shape5) -> None:
        """Omit a chunk of fill values, and remove a stored one."""
        if self._shards is not None:
            self._shards.write(self._place(index), None)
        else:
            self._files.remove(self._key(index))
        with self._lock:
            self._skipped.add(index)


def _room(size: int, workspace: LevelBuffers) -> memoryview:
    """Return memory for the stored bytes of `size` bytes of pixels."""
    # Upper limit of compressed chunks: 16 bytes of Blosc's header, 0.4 % for Zstandard.
    return workspace.buffer(size + size // 128 + 1024)


def _cut_chunk(level: Level) -> Level:
    """Return a level with its chunk limited to its size: the same grid, and less to store."""
    return Level(level.shape, level.grid.block_shape((0, 0, 0, 0, 0)))


def _extremes(values: Array) -> Window:
    """Return the lowest and highest finite value."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        values = values[np.isfinite(values)]
        if not values.size:
            return Window()
        low, high = float(values.min()), float(values.max())
    return Window(low, high)


class Windows:
    """Lowest and highest value of each channel, from a sample of every block of level 0.

    Blocks whose sample has one value only are searched completely.
    """

    def __init__(self, image: Image) -> None:
        self._active = image.dtype.kind in "iuf"
        self._found = [Window() for _ in range(image.levels[0].shape[1])]
        self._lock = forking.lock()

    def see(self, first_channel: int, block: Array) -> None:
        """Include a block's values."""
        if not self._active:
            return
        for offset in range(block.shape[1]):
            seen = _extremes(block[:, offset, :, ::_SAMPLED, ::_SAMPLED])
            if seen.low == seen.high:
                # Of sparse images, as masks and localizations are, a sample may miss all objects.
                seen = _extremes(block[:, offset])
            self._include(first_channel + offset, seen)

    def see_chunks(self, first_channel: int, block: Array, chunk: Shape5) -> None:
        """Include the values of neighbouring whole chunks, as `see` does for each of them."""
        whole = not any(size % n for size, n in zip(block.shape, chunk, strict=True))
        if not self._active or block.dtype.kind == "f" or chunk[1] > 1 or not whole:
            for _, _, part in chunk_parts((0,) * 5, block.shape, chunk):
                self.see(first_channel + part[1].start, block[part])
            return
        chunks = as_chunks(block, chunk)
        samples = chunks[..., ::_SAMPLED, ::_SAMPLED]
        pixels = tuple(range(5, 10))
        low, high = samples.min(pixels), samples.max(pixels)
        for index in np.argwhere(low == high):
            low[tuple(index)], high[tuple(index)] = (
                chunks[tuple(index)].min(),
                chunks[tuple(index)].max(),
            )
        for channel in range(block.shape[1]):
            seen = Window(float(low[:, channel].min()), float(high[:, channel].max()))
            self._include(first_channel + channel, seen)

    def _include(self, channel: int, seen: Window) -> None:
        if not self._found[channel].contains(seen):
            with self._lock:
                self._found[channel] = self._found[channel].joined(seen)

    def merge(self, seen: Sequence[Window]) -> None:
        """Include the values from another process."""
        with self._lock:
            for i, window in enumerate(seen[: len(self._found)]):
                self._found[i] = self._found[i].joined(window)

    @property
    def found(self) -> tuple[Window, ...]:
        """Return one window for each channel."""
        return tuple(self._found)
