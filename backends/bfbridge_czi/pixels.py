"""Reading a box of one plane: which tiles are visible in it, decoding, and placing of pixels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from bfbridge.errors import LimitExceeded, UnreadableFile
from bfbridge.runtime import forking
from bfbridge.runtime.thread_buffer import ThreadBuffer
from bfbridge.storage.source import fetch
from bfbridge_czi.codecs import (
    KEPT_BYTES,
    DamagedSubblock,
    Decoded,
    decode_subblock,
    put_pixels,
    rows_and_columns,
)
from bfbridge_czi.layout import UNCOMPRESSED, PixelKind, SubblockTiles
from bfbridge_czi.segments import CziFile, SubblockHeader

__all__ = ["BlockCache", "TileReader"]

Array = np.ndarray[Any, np.dtype[Any]]

_stored = ThreadBuffer(KEPT_BYTES)

# Rows of uncompressed pixels are read in runs of about this many bytes.
_RUN: Final = 4 << 20
# Below this size, the ratio of stored to decoded bytes is not checked: a constant tile is small.
_SMALL: Final = 64 << 20
# Smallest chunk of levels with small tiles: each chunk costs a job of the tile engine.
_LEAST_SIDE: Final = 512
# With more tiles in a box, tiles are drawn over each other and not cut to the visible parts.
_MANY: Final = 64
# Usual bytes of a subblock in addition to its pixels: header, metadata, attachments.
_BESIDE: Final = 64 << 10
_MOST_CELLS: Final = 1 << 20
# Cells of all planes are numbered with 64 bits.
_MOST_NUMBERS: Final = 1 << 62


class Box(NamedTuple):
    """Half-open ranges of rows and columns."""

    top: int
    bottom: int
    left: int
    right: int


class _Piece(NamedTuple):
    """A part of a block from a row and column, and its target: shape (Y, X, samples)."""

    row: int
    column: int
    target: Array


class BlockCache:
    """Cache of decoded subblocks that are part of several chunks; least recently used are dropped.

    If several threads need one subblock, the first decodes it and the others wait.

    Parameters
    ----------
    max_bytes
        Maximum number of bytes of pixels.
    """

    def __init__(self, max_bytes: int) -> None:
        self._most = max_bytes
        self._held = 0
        self._lock = forking.lock()
        self._pixels: OrderedDict[int, Array] = OrderedDict()
        self._busy: dict[int, Any] = {}
        forking.in_child(self._reset)

    def _reset(self) -> None:
        # Another thread of the parent may have been changing it.
        self._held = 0
        self._pixels, self._busy = OrderedDict(), {}

    def get(self, block: int, make: Callable[[], Array]) -> Array:
        """Return the pixels of a block, which are decoded once."""
        with self._lock:
            busy = self._busy.setdefault(block, forking.lock())
        with busy:
            with self._lock:
                found = self._pixels.get(block)
                if found is not None:
                    self._pixels.move_to_end(block)
                    return found
            pixels = make()
            with self._lock:
                self._pixels[block] = pixels
                self._held += pixels.nbytes
                while self._held > self._most and self._pixels:
                    self._held -= self._pixels.popitem(last=False)[1].nbytes
                self._busy.pop(block, None)
            return pixels


class TileReader:
    """Reads boxes of the planes of one level. All threads of a reader share it.

    Parameters
    ----------
    file, kind, tiles
        The file, the type of a pixel, and the tiles of the level.
    fill
        Value of each byte of pixels without a tile.
    cache
        Cache of the file.

    Attributes
    ----------
    chunk
        Rows and columns of chunks in which the level is read fastest: the spacing of its tiles.
    reads_parts
        Whether a part of a tile is faster to read than the whole tile.
    samples
        Samples per pixel.
    """

    def __init__(
        self, file: CziFile, kind: PixelKind, tiles: SubblockTiles, fill: int, cache: BlockCache
    ) -> None:
        self._file = file
        self._kind = kind
        self._tiles = tiles
        self._fill = np.frombuffer(bytes([fill]) * kind.dtype.itemsize, kind.dtype)[0]
        self._cache = cache
        self._headers: dict[int, SubblockHeader] = {}
        self._index: _TileIndex | None = None
        self._lock = forking.lock()
        self.samples = kind.samples
        self.reads_parts = bool(np.all(file.blocks.compression[tiles.block] == UNCOMPRESSED))
        self.chunk = self._best_chunk()

    def _best_chunk(self) -> tuple[int, int]:
        tiles = self._tiles
        rows = min(_pitch(tiles.top, tiles.rows), tiles.height)
        columns = min(_pitch(tiles.left, tiles.columns), tiles.width)
        row_bytes = columns * self._kind.samples * self._kind.dtype.itemsize
        if self.reads_parts and rows * row_bytes > 2 * _RUN:
            rows = max(_RUN // row_bytes, 1)
        return rows, columns

    def read(self, plane: int, top: int, left: int, out: Array) -> None:
        """Fill `out`, of shape (Y, X, samples), with a box of a plane.

        Raises
        ------
        DamagedSubblock
            A subblock cannot be read; the message names it.
        LimitExceeded
            It is larger than the limits allow.
        """
        box = Box(top, top + out.shape[0], left, left + out.shape[1])
        found = self._overlapping(plane, box)
        if len(found) > _MANY:
            out[...] = self._fill
            for tile in found.tolist():
                part = _common(self._box(tile), box)
                if part is not None:
                    self._paint(tile, box, [part], out)
            return
        bare = [box]
        shown: list[tuple[int, list[Box]]] = []
        for tile in reversed(found.tolist()):
            within = self._box(tile)
            parts = [common for rest in bare if (common := _common(rest, within)) is not None]
            if parts:
                shown.append((tile, parts))
                bare = [piece for rest in bare for piece in _without(rest, within)]
            if not bare:
                break
        for rest in bare:
            out[rest.top - top : rest.bottom - top, rest.left - left : rest.right - left] = (
                self._fill
            )
        for tile, parts in shown:
            self._paint(tile, box, parts, out)

    def _box(self, tile: int) -> Box:
        """Return the position of a tile in the level."""
        tiles = self._tiles
        top, left = int(tiles.top[tile]), int(tiles.left[tile])
        bottom, right = top + int(tiles.rows[tile]), left + int(tiles.columns[tile])
        return Box(max(top, 0), min(bottom, tiles.height), max(left, 0), min(right, tiles.width))

    def _overlapping(self, plane: int, box: Box) -> Array:
        """Return the tiles of a plane that overlap a box, in drawing order."""
        with self._lock:
            if self._index is None:
                self._index = _TileIndex(self._tiles, self.chunk)
        return self._index.overlapping(plane, box)

    def _paint(self, tile: int, box: Box, parts: list[Box], out: Array) -> None:
        """Copy the visible parts of a tile into the result."""
        tiles = self._tiles
        block = int(tiles.block[tile])
        shape = int(tiles.rows[tile]), int(tiles.columns[tile])
        top, left = int(tiles.top[tile]), int(tiles.left[tile])
        pieces = [
            _Piece(
                part.top - top,
                part.left - left,
                out[
                    part.top - box.top : part.bottom - box.top,
                    part.left - box.left : part.right - box.left,
                ],
            )
            for part in parts
        ]
        whole = self._box(tile)
        try:
            if self._file.blocks.compression[block] == UNCOMPRESSED:
                for piece in pieces:
                    self._read_rows(block, shape, piece)
                return
            self._check_size(block, shape)
            if _common(whole, box) == whole:
                self._decode(block, shape, pieces)
                return
            pixels = self._cache.get(block, lambda: self._decoded(block, shape))
            for piece in pieces:
                rows, columns = piece.target.shape[:2]
                piece.target[...] = pixels[
                    piece.row : piece.row + rows, piece.column : piece.column + columns
                ]
        except (DamagedSubblock, UnreadableFile) as error:
            position = int(self._file.blocks.position[block])
            raise DamagedSubblock(
                f"subblock at byte {position:,}: {str(error).rstrip('.')}"
            ) from error

    def _check_size(self, block: int, shape: tuple[int, int]) -> None:
        length = self._length(shape)
        room, limits = int(self._file.rooms[block]), self._file.limits
        if length > limits.chunk_bytes or (length > _SMALL and length > room * limits.chunk_ratio):
            raise LimitExceeded(
                f"the subblock at byte {int(self._file.blocks.position[block]):,} would grow from "
                f"{room:,} to {length:,} bytes, more than the limits allow"
            )

    def _length(self, shape: tuple[int, int]) -> int:
        return shape[0] * shape[1] * self._kind.samples * self._kind.dtype.itemsize

    def _decoded(self, block: int, shape: tuple[int, int]) -> Array:
        """Return all pixels of a block, shape (Y, X, samples)."""
        pixels = np.empty((*shape, self._kind.samples), self._kind.dtype)
        self._decode(block, shape, [_Piece(0, 0, pixels)])
        return pixels

    def _decode(self, block: int, shape: tuple[int, int], pieces: list[_Piece]) -> None:
        """Decompress a block, and copy pieces of it into the result."""
        data = self._compressed(block, shape)
        compression = int(self._file.blocks.compression[block])
        target = pieces[0].target
        whole = len(pieces) == 1 and target.shape == (*shape, 1) and target.flags.c_contiguous
        decoded = decode_subblock(compression, data, self._kind, shape, target if whole else None)
        if whole and np.may_share_memory(decoded.pixels, target) and decoded.size == shape:
            return
        for piece in pieces:
            rows, columns = piece.target.shape[:2]
            part = decoded.part(piece.row, piece.column, rows, columns)
            put_pixels(part, self._cut(piece.target, *part.size))

    def _cut(self, target: Array, rows: int, columns: int) -> Array:
        """Return the part of a result that a tile covers; missing pixels take the fill value."""
        if target.shape[:2] == (rows, columns):
            return target
        target[rows:] = self._fill
        target[:, columns:] = self._fill
        return target[:rows, :columns]

    def _compressed(self, block: int, shape: tuple[int, int]) -> memoryview:
        """Return the data of a compressed block, with its header in one read if possible."""
        position = int(self._file.blocks.position[block])
        first = min(int(self._file.rooms[block]), self._length(shape) + _BESIDE)
        head = memoryview(fetch(self._file.access, position, first, _stored.view(first)))
        header = self._file.subblock(block, head)
        begin = header.data - position
        if begin + header.data_size <= len(head):
            return head[begin : begin + header.data_size]
        return self._fetch(header.data, header.data_size, _stored.view(header.data_size))

    def _fetch(self, offset: int, length: int, memory: memoryview) -> memoryview:
        data = memoryview(fetch(self._file.access, offset, length, memory))
        if len(data) != length:
            raise DamagedSubblock("it is cut short; the file is truncated")
        return data

    def _header(self, block: int) -> SubblockHeader:
        header = self._headers.get(block)
        if header is None:
            head = self._file.access.read_at(int(self._file.blocks.position[block]), 80)
            header = self._headers[block] = self._file.subblock(block, head)
        return header

    def _read_rows(self, block: int, shape: tuple[int, int], piece: _Piece) -> None:
        """Read a part of an uncompressed block: only the requested rows."""
        header = self._header(block)
        found = min(header.data_size, self._length(shape))
        rows, columns = rows_and_columns(found, self._kind, shape)
        row, column, target = piece
        target = self._cut(
            target,
            min(len(target), max(rows - row, 0)),
            min(target.shape[1], max(columns - column, 0)),
        )
        if not target.size:
            return
        pixel = self._length((1, 1))
        whole = target.shape[1:] == (columns, 1) and target.flags.c_contiguous
        step = len(target) if whole else max(_RUN // (columns * pixel), 1)
        for begin in range(0, len(target), step):
            part = target[begin : begin + step]
            length = ((len(part) - 1) * columns + part.shape[1]) * pixel
            offset = header.data + ((row + begin) * columns + column) * pixel
            memory = part.reshape(-1).view(np.uint8).data if whole else _stored.view(length)
            data = self._fetch(offset, length, memory)
            if data.obj is not memory.obj or not whole:
                self._put_rows(data, part, columns * pixel)

    def _put_rows(self, data: memoryview, part: Array, row_bytes: int) -> None:
        """Copy pixels from rows of `row_bytes` bytes; the last row may be incomplete."""
        dtype, samples = self._kind
        flat = np.frombuffer(data, dtype)
        strides = (row_bytes, samples * dtype.itemsize, dtype.itemsize)
        pixels = np.lib.stride_tricks.as_strided(flat, part.shape, strides, writeable=False)
        put_pixels(Decoded(pixels, samples > 1, False), part)


def _pitch(starts: Array, lengths: Array) -> int:
    """Return the distance of most consecutive tiles; for small tiles, a multiple of it."""
    length = int(np.median(lengths))
    steps = np.diff(np.unique(starts))
    steps = steps[steps > length // 2]
    pitch = int(np.median(steps)) if len(steps) else length
    pitch = min(pitch, length)
    return pitch * max(_LEAST_SIDE // pitch, 1)


def _common(one: Box, other: Box) -> Box | None:
    """Return the intersection of two boxes, or None."""
    top, bottom = max(one.top, other.top), min(one.bottom, other.bottom)
    left, right = max(one.left, other.left), min(one.right, other.right)
    return Box(top, bottom, left, right) if top < bottom and left < right else None


def _without(box: Box, taken: Box) -> Iterator[Box]:
    """Yield the parts of a box outside another box, as boxes."""
    common = _common(box, taken)
    if common is None:
        yield box
        return
    if box.top < common.top:
        yield Box(box.top, common.top, box.left, box.right)
    if common.bottom < box.bottom:
        yield Box(common.bottom, box.bottom, box.left, box.right)
    if box.left < common.left:
        yield Box(common.top, common.bottom, box.left, common.left)
    if common.right < box.right:
        yield Box(common.top, common.bottom, common.right, box.right)


class _TileIndex:
    """Which tiles overlap which cells of a grid over the planes of a level."""

    def __init__(self, tiles: SubblockTiles, cell: tuple[int, int]) -> None:
        rows, columns = cell
        # Larger cells if a tile is far larger than most, as in a hostile file.
        while np.sum((tiles.rows / rows + 2) * (tiles.columns / columns + 2)) > (
            _MOST_CELLS + 16 * len(tiles.plane)
        ):
            rows, columns = 2 * rows, 2 * columns
        self._cell = cell = (rows, columns)
        self._down = -(-tiles.height // rows)
        self._across = -(-tiles.width // columns)
        planes = int(tiles.plane.max()) + 1
        if planes * self._down * self._across > _MOST_NUMBERS:
            raise DamagedSubblock(
                f"{planes:,} planes of {tiles.width:,} x {tiles.height:,} pixels are more than "
                "can be numbered; the file is damaged"
            )
        first_row = np.clip(tiles.top // cell[0], 0, self._down - 1)
        last_row = np.clip((tiles.top + tiles.rows - 1) // cell[0], 0, self._down - 1)
        first_column = np.clip(tiles.left // cell[1], 0, self._across - 1)
        last_column = np.clip((tiles.left + tiles.columns - 1) // cell[1], 0, self._across - 1)
        across = last_column - first_column + 1
        count = (last_row - first_row + 1) * across
        tile = np.repeat(np.arange(len(count)), count)
        within = np.arange(len(tile)) - np.repeat(np.cumsum(count) - count, count)
        row = first_row[tile] + within // across[tile]
        column = first_column[tile] + within % across[tile]
        cells = (tiles.plane[tile] * self._down + row) * self._across + column
        order = np.argsort(cells, kind="stable")
        self._cells, self._of = cells[order], tile[order]

    def overlapping(self, plane: int, box: Box) -> Array:
        """Return the tiles that share a cell with a box, in their order."""
        first, last = box.left // self._cell[1], (box.right - 1) // self._cell[1]
        found = []
        for row in range(box.top // self._cell[0], (box.bottom - 1) // self._cell[0] + 1):
            base = (plane * self._down + row) * self._across
            begin, end = np.searchsorted(self._cells, [base + first, base + last + 1])
            found.append(self._of[begin:end])
        return found[0] if len(found) == 1 and first == last else np.unique(np.concatenate(found))
