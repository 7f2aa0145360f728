"""Checksums of decoded pixels that do not depend on the order, threads or file format.

A plane is cut into tiles; the CRC-32 of each tile's pixels (row by row, little-endian) is taken;
the SHA-256 of all of them as little-endian 32-bit numbers, in the order T, C, Z, tile row, tile
column, is the image's checksum. Tiles are 1024 x 1024 where the blocks read allow it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from bfbridge.convert.plan.blocks import SIDE, BlockGrid

__all__ = ["PixelChecksum"]

Array = np.ndarray[Any, Any]


class PixelChecksum:
    """The checksum of one image, computed from blocks in any order and from any thread.

    Parameters
    ----------
    grid
        The blocks of the image.
    """

    def __init__(self, grid: BlockGrid) -> None:
        self.tile = (_tile(grid, 0), _tile(grid, 1))
        y, x, z, c, t = grid.shape
        rows, columns = -(-y // self.tile[0]), -(-x // self.tile[1])
        self._sums = np.zeros((t, c, z, rows, columns), "<u4")

    def add(self, key: tuple[slice, ...], pixels: Array) -> None:
        """Take a block, given by its key in the image; axes Y, X, Z, C, T."""
        y, x, z, c, t = key
        height, width = self.tile
        row, column = y.start // height, x.start // width
        little = pixels.dtype.newbyteorder("<")
        crc32 = _crc32()
        for index in np.ndindex(*pixels.shape[2:]):
            plane = pixels[(slice(None), slice(None), *index)]
            place = (t.start + index[2], c.start + index[1], z.start + index[0])
            for i, top in enumerate(range(0, plane.shape[0], height)):
                for j, left in enumerate(range(0, plane.shape[1], width)):
                    tile = plane[top : top + height, left : left + width]
                    self._sums[(*place, row + i, column + j)] = crc32(
                        np.ascontiguousarray(tile, little).data
                    )

    def at(self, key: tuple[slice, ...]) -> Array:
        """Return the sums of the tiles that a block covers, along T, C, Z, rows, columns."""
        y, x, z, c, t = key
        height, width = self.tile
        rows = slice(y.start // height, -(-y.stop // height))
        return self._sums[t, c, z, rows, x.start // width : -(-x.stop // width)]

    def describe(self) -> dict[str, Any]:
        """Return the checksum as the report has it."""
        return {
            "algorithm": "sha256 of crc32 of tiles",
            "tile": list(self.tile),
            "value": hashlib.sha256(self._sums.tobytes()).hexdigest(),
        }


def _crc32() -> Callable[[Any], int]:
    """Return the CRC-32 of libdeflate where it is installed: it is five times as fast as zlib."""
    try:
        from imagecodecs import deflate_crc32
    except ImportError:
        return zlib.crc32
    return deflate_crc32  # type: ignore[no-any-return]


def _tile(grid: BlockGrid, axis: int) -> int:
    step, length = grid.step[axis], grid.shape[axis]
    return SIDE if step % SIDE == 0 or step >= length else step
