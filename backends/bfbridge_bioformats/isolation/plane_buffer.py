"""Blocks of a file being written, stored on disk until whole planes are complete."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bfbridge.backend import ImageSpec, Level, Shape5
from bfbridge.errors import BadArgument, WriteFailed
from bfbridge.runtime import forking
from bfbridge.runtime.descriptors import read_all, write_all

__all__ = ["PlaneBuffer"]

Array = np.ndarray[Any, Any]


class PlaneBuffer:
    """A temporary file with one slot for each block of each level of each image.

    It is written and read at offsets, never mapped: a full disk is an error and not a signal.

    Parameters
    ----------
    path
        Path of the file, in the writer's private folder.
    images
        The images to write.
    """

    def __init__(self, path: Path, images: Sequence[ImageSpec]) -> None:
        self._path = path
        self._images = images
        self._lock = forking.lock()
        self._written: set[int] = set()
        self._starts: dict[tuple[int, int], int] = {}
        end = 0
        for number, spec in enumerate(images):
            for level, record in enumerate(spec.image.levels):
                self._starts[number, level] = end
                end += len(record.grid) * self._slot(spec, record)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0))

    def write(self, image: int, level: int, index: Shape5, block: Array) -> None:
        """Store a block; it replaces an earlier one."""
        offset, _ = self._place(image, level, index)
        data = memoryview(np.ascontiguousarray(block).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        try:
            with self._seeking():
                write_all(self._fd, data, offset)
        except OSError as error:
            raise WriteFailed(
                f"{self._path}: a block cannot be written to this temporary file "
                f"({error.strerror or error})."
            ) from error
        with self._lock:
            self._written.add(offset)

    def read(self, image: int, level: int, index: Shape5) -> Array | None:
        """Return a block, or None if it was never written."""
        offset, shape = self._place(image, level, index)
        with self._lock:
            if offset not in self._written:
                return None
        dtype = self._images[image].image.dtype
        length = prod(shape) * dtype.itemsize
        try:
            with self._seeking():
                data = read_all(self._fd, length, offset)
        except OSError as error:
            raise WriteFailed(
                f"{self._path}: a block cannot be read from this temporary file "
                f"({error.strerror or error})."
            ) from error
        if len(data) != length:
            raise WriteFailed(f"{self._path}: another program truncated this temporary file.")
        return np.frombuffer(data, dtype).reshape(shape)

    def plane(self, image: int, level: int, t: int, channel: int, z: int) -> Array:
        """Return one plane as samples x Y x X; missing blocks have the fill value."""
        spec = self._images[image]
        record = spec.image.levels[level]
        samples = spec.image.samples
        _, _, _, size_y, size_x = record.shape
        step_t, step_c, step_z, step_y, step_x = record.chunk
        out = np.full((samples, size_y, size_x), spec.fill_value, spec.image.dtype)
        for sample in range(samples):
            c = channel * samples + sample
            for y in range(0, size_y, step_y):
                for x in range(0, size_x, step_x):
                    index = (t // step_t, c // step_c, z // step_z, y // step_y, x // step_x)
                    block = self.read(image, level, index)
                    if block is not None:
                        values = block[t % step_t, c % step_c, z % step_z]
                        out[sample, y : y + step_y, x : x + step_x] = values
        return out

    def close(self) -> None:
        """Remove the temporary file. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _place(self, image: int, level: int, index: Shape5) -> tuple[int, Shape5]:
        """Offset of a block's slot, and the block's shape, cropped at the edge."""
        spec = self._images[image]
        record = spec.image.levels[level]
        grid = record.grid
        if index not in grid:
            raise BadArgument(f"chunk {index} is outside the grid {grid.counts} (T, C, Z, Y, X).")
        offset = self._starts[image, level] + grid.number(index) * self._slot(spec, record)
        return offset, grid.block_shape(index)

    @staticmethod
    def _slot(spec: ImageSpec, record: Level) -> int:
        return prod(record.chunk) * spec.image.dtype.itemsize

    def _seeking(self) -> AbstractContextManager[Any]:
        """Lock the position of the file where writing uses it (Windows)."""
        return nullcontext() if hasattr(os, "pwrite") else self._lock
