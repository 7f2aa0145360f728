"""Blocks of a file being written, kept on disk until whole planes can be made of them."""

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
from bfbridge.errors import WriteFailed
from bfbridge.runtime import forking
from bfbridge.storage.durable_io import read_all, write_all

__all__ = ["PlaneBuffer"]

Array = np.ndarray[Any, Any]


class PlaneBuffer:
    """A scratch file with one slot for each block of each level of each image.

    Written and read at offsets, never mapped: a full disk is then an error and not a signal.

    Parameters
    ----------
    path
        Of the scratch file, in the writer's private folder.
    images
        What is being written.
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
                end += prod(_counts(record)) * self._slot(spec, record)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0))

    def write(self, image: int, level: int, index: Shape5, block: Array) -> None:
        """Store a block, in the place of an earlier one."""
        offset, _ = self._place(image, level, index)
        data = memoryview(np.ascontiguousarray(block).reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        try:
            with self._seeking():
                write_all(self._fd, data, offset)
        except OSError as error:
            raise WriteFailed(
                f"{self._path}: a block cannot be kept in this scratch file "
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
                f"{self._path}: a block cannot be read back from this scratch file "
                f"({error.strerror or error})."
            ) from error
        if len(data) != length:
            raise WriteFailed(f"{self._path}: this scratch file was cut short by someone.")
        return np.frombuffer(data, dtype).reshape(shape)

    def plane(self, image: int, level: int, t: int, channel: int, z: int) -> Array:
        """Return samples x Y x X of one plane; what was never written has the fill value."""
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
        """Remove the scratch file. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _place(self, image: int, level: int, index: Shape5) -> tuple[int, Shape5]:
        """Offset of a block's slot, and the block's shape, cropped at the edge."""
        spec = self._images[image]
        record = spec.image.levels[level]
        number = int(np.ravel_multi_index(index, _counts(record)))
        t, c, z, y, x = (
            min(step, size - at * step)
            for at, step, size in zip(index, record.chunk, record.shape, strict=True)
        )
        offset = self._starts[image, level] + number * self._slot(spec, record)
        return offset, (t, c, z, y, x)

    @staticmethod
    def _slot(spec: ImageSpec, record: Level) -> int:
        return prod(record.chunk) * spec.image.dtype.itemsize

    def _seeking(self) -> AbstractContextManager[Any]:
        """Keep other threads from the file's position where a write needs it (Windows)."""
        return nullcontext() if hasattr(os, "pwrite") else self._lock


def _counts(record: Level) -> tuple[int, ...]:
    return tuple(-(-n // step) for n, step in zip(record.shape, record.chunk, strict=True))
