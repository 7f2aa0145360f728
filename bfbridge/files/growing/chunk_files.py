"""Files of the chunks of a growing image: encoded pixels, and which of them were written.

A chunk has the shape (samples, Y, X). Its file is ``<frame>/<row>.<column>`` in a private folder;
rows and columns of the grid may be negative. The encoded pixels come first, so that the file can
become that of a finished chunk. Nothing but this module reads these files.
"""

from __future__ import annotations

import contextlib
import os
import struct
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from bfbridge.errors import ReadFailed

if TYPE_CHECKING:
    from bfbridge.ngff.compression import Compression

__all__ = ["ChunkFiles", "ChunkIndex", "StoredChunk"]

Array = np.ndarray[Any, Any]
# At the end of a file. Dtype, samples, Y, X; first and last row and column that were written,
# pixels written; least and greatest value; bytes of the mask (0: all pixels were written).
_HEADER: Final = struct.Struct("<4s8sIIIIIIIQddQ")
_MAGIC: Final = b"BFT1"
_SAMPLED: Final = 8


class ChunkIndex(NamedTuple):
    """Place of a chunk: `frame` (t, c, z, and positions on named axes), grid `row` and `column`."""

    frame: tuple[int, ...]
    row: int
    column: int


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """Metadata of a chunk that is not decoded.

    Attributes
    ----------
    index
        Its place.
    dtype, shape
        Of its pixels; the shape is (samples, Y, X).
    box
        First row, row behind the last, first column, column behind the last that were written,
        counted from the chunk's corner.
    written
        Number of pixels that were written.
    low, high
        Least and greatest value of a sample of its pixels; NaN if there is none.
    mask_bytes
        Length of its mask; 0 if every pixel was written.
    """

    index: ChunkIndex
    dtype: np.dtype[Any]
    shape: tuple[int, int, int]
    box: tuple[int, int, int, int]
    written: int
    low: float
    high: float
    mask_bytes: int


class ChunkFiles:
    """The files of one growing image.

    Parameters
    ----------
    folder
        Private folder, which exists.
    compression
        Encoding of the pixels.
    """

    def __init__(self, folder: Path, compression: Compression) -> None:
        self.folder = folder
        self.compression = compression
        self._made: set[tuple[int, ...]] = set()

    def _path(self, index: ChunkIndex) -> Path:
        frame = ".".join(map(str, index.frame))
        return self.folder / frame / f"{index.row}.{index.column}"

    def write(
        self, index: ChunkIndex, pixels: Array, written: Array | None, *, whole: bool = False
    ) -> None:
        """Store a chunk.

        Parameters
        ----------
        index
            Its place.
        pixels
            Shape (samples, Y, X), contiguous.
        written
            Shape (Y, X), True where a pixel was written; None for all.
        whole
            Whether another process sees the old file or the new one, and nothing in between.
        """
        mask = b"" if written is None else zlib.compress(np.packbits(written).tobytes(), 1)
        box, count = _extent(pixels.shape[1:], written)
        header = _HEADER.pack(
            _MAGIC, pixels.dtype.str.encode(), *pixels.shape, *box, count,
            *_range_of(pixels, written), len(mask),
        )  # fmt: skip
        data = self.compression.encode(pixels)
        path = self._path(index)
        if index.frame not in self._made:
            path.parent.mkdir(exist_ok=True)
            self._made.add(index.frame)
        target = path.with_name(f"new-{uuid.uuid4().hex}") if whole else path
        try:
            with target.open("wb") as file:
                file.write(data)
                file.write(mask)
                file.write(header)
            if whole:
                target.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                target.unlink()
            raise

    def read(self, index: ChunkIndex) -> tuple[Array, Array | None] | None:
        """Return the pixels of a chunk and its mask, or None if it was never stored.

        Raises
        ------
        ReadFailed
            The file is damaged.
        """
        try:
            data = self._path(index).read_bytes()
        except FileNotFoundError:
            return None
        info = self._parsed(index, data[-_HEADER.size :])
        end = len(data) - _HEADER.size
        start = end - info.mask_bytes
        try:
            pixels = self.compression.decode(memoryview(data)[:start], info.dtype, info.shape)
            written = None
            if info.mask_bytes:
                bits = np.frombuffer(zlib.decompress(data[start:end]), np.uint8)
                rows, columns = info.shape[1:]
                written = np.unpackbits(bits, count=rows * columns).reshape(rows, columns)
                written = written.astype(bool)
        except Exception as error:
            raise self._damaged(index, error) from error
        return pixels, written

    def stored(self, index: ChunkIndex) -> bytes:
        """Return the encoded pixels of a chunk."""
        data = self._path(index).read_bytes()
        mask = self._parsed(index, data[-_HEADER.size :]).mask_bytes
        return data[: len(data) - _HEADER.size - mask]

    def take(self, chunk: StoredChunk) -> Path:
        """Reduce the file of a chunk to its encoded pixels, and return its path.

        The store no longer has the chunk.
        """
        path = self._path(chunk.index)
        os.truncate(path, path.stat().st_size - _HEADER.size - chunk.mask_bytes)
        return path

    def __iter__(self) -> Iterator[StoredChunk]:
        """Yield what is known of each chunk, in no order."""
        for folder in sorted(self.folder.iterdir()):
            if not folder.is_dir() or not folder.name[:1].isdigit():
                continue
            frame = tuple(map(int, folder.name.split(".")))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("new-"):
                        continue  # of a process that was killed
                    row, column = map(int, entry.name.split("."))
                    index = ChunkIndex(frame, row, column)
                    with open(entry.path, "rb", buffering=0) as file:
                        file.seek(max(0, entry.stat().st_size - _HEADER.size))
                        yield self._parsed(index, file.read(_HEADER.size))

    def _parsed(self, index: ChunkIndex, data: bytes) -> StoredChunk:
        try:
            fields = _HEADER.unpack_from(data)
            if fields[0] != _MAGIC:
                raise ValueError("no header")
            dtype = np.dtype(fields[1].rstrip(b"\0").decode())
        except Exception as error:
            raise self._damaged(index, error) from error
        return StoredChunk(
            index, dtype, fields[2:5], fields[5:9], fields[9], fields[10], fields[11], fields[12]
        )

    def _damaged(self, index: ChunkIndex, error: Exception) -> ReadFailed:
        return ReadFailed(f"{self._path(index)}: a chunk just written is damaged: {error}.")


def _extent(sides: tuple[int, ...], written: Array | None) -> tuple[tuple[int, int, int, int], int]:
    """Return the box of the pixels that were written, and their number."""
    if written is None:
        return (0, sides[0], 0, sides[1]), sides[0] * sides[1]
    rows, columns = np.flatnonzero(written.any(axis=1)), np.flatnonzero(written.any(axis=0))
    if not len(rows):
        return (0, 0, 0, 0), 0
    box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return box, int(np.count_nonzero(written))


def _range_of(pixels: Array, written: Array | None) -> tuple[float, float]:
    """Return the least and the greatest of a sample of the values that were written."""
    if pixels.dtype.kind not in "iuf":
        return np.nan, np.nan
    values = pixels[:, ::_SAMPLED, ::_SAMPLED]
    if written is not None:
        values = pixels[:, written][:, :: _SAMPLED * _SAMPLED]
    if pixels.dtype.kind == "f":
        values = values[np.isfinite(values)]
    if not values.size:
        return np.nan, np.nan
    return float(values.min()), float(values.max())
