"""Pixels stored uncompressed, row after row, read into arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bfbridge.errors import ReadFailed
from bfbridge.storage.source import RandomAccess, fetch

__all__ = ["RUN_BYTES", "Rows"]

# Rows are read in runs of about this many bytes.
RUN_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Rows:
    """Layout of uncompressed rows of pixels in a file.

    Attributes
    ----------
    row
        Bytes from the start of one row to the start of the next.
    dtype
        Dtype of a component, with its byte order.
    components
        Number of components of a pixel, stored one after the other.
    """

    row: int
    dtype: np.dtype[Any]
    components: int

    @property
    def pixel(self) -> int:
        """Bytes of one pixel."""
        return self.components * self.dtype.itemsize

    def read(self, access: RandomAccess, offset: int, first: int, out: Any, where: str) -> None:
        """Fill an array from a file.

        Parameters
        ----------
        access
            The open file.
        offset
            Position in the file of the first pixel that is read.
        first
            The first of the components that are read.
        out
            Array of shape (Y, X, components). If its memory layout is that of the file, it is
            filled without a copy.
        where
            File and plane, for messages.

        Raises
        ------
        ReadFailed
            The file ends before the last row.
        """
        height, width = out.shape[:2]
        whole = self.row == width * self.pixel and self.components == 1
        direct = whole and out.flags.c_contiguous and self.dtype.isnative
        step = height if direct else max(RUN_BYTES // self.row, 1)
        for begin in range(0, height, step):
            part = out[begin : begin + step]
            length = self.length(*part.shape[:2])
            memory = part.reshape(-1).view(np.uint8).data if direct else None
            data = memoryview(fetch(access, offset + begin * self.row, length, memory))
            if len(data) != length:
                raise ReadFailed(f"{where}: the file is cut short.")
            if memory is None or data.obj is not memory.obj:
                self.put(data, first, part)

    def length(self, height: int, width: int) -> int:
        """Return the number of bytes from the first pixel of a region to its last."""
        return (height - 1) * self.row + width * self.pixel

    def put(self, data: bytes | memoryview, first: int, out: Any) -> None:
        """Copy pixels from stored rows into an array of shape (Y, X, components).

        Parameters
        ----------
        data
            Stored bytes, from the first pixel on.
        first
            The first of the components that are copied.
        out
            The array.
        """
        height, width, components = out.shape
        strides = (self.row, self.pixel, self.dtype.itemsize)
        shape = (height, width, self.components)
        pixels = np.ndarray(shape, self.dtype, np.frombuffer(data, np.uint8), 0, strides)
        # Copying whole planes is faster than copying components of single pixels.
        for number in range(components):
            out[:, :, number] = pixels[:, :, first + number]
