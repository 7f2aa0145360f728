"""Encoding of pixels as chunks of a Zarr array."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bfbridge.ngff.compression import Compression

__all__ = ["encode_chunk", "is_zero"]

Array = np.ndarray[Any, Any]


def encode_chunk(
    pixels: Array, shape: Sequence[int], compression: Compression
) -> memoryview | None:
    """Encode a chunk.

    Parameters
    ----------
    pixels
        Contiguous array; smaller than `shape` at the edge of the array.
    shape
        Shape of a whole chunk; missing pixels are zeros.
    compression
        Compression of the array.

    Returns
    -------
    memoryview or None
        Little-endian values in C order, compressed; None if every bit is 0, because such chunks
        are not stored.
    """
    if is_zero(pixels):
        return None
    if pixels.shape != tuple(shape):
        whole = np.zeros(shape, pixels.dtype)
        whole[tuple(slice(n) for n in pixels.shape)] = pixels
        pixels = whole
    if sys.byteorder == "big" and pixels.dtype.itemsize > 1:
        pixels = pixels.byteswap()
    return memoryview(compression.encode(np.ascontiguousarray(pixels))).cast("B")


def is_zero(pixels: Array) -> bool:
    """Return whether every bit of an array is 0; -0.0 has a bit that is not."""
    if not pixels.size:
        return True
    # The first pixel of most chunks is not zero.
    if pixels[(0,) * pixels.ndim].tobytes().strip(b"\0"):
        return False
    flat = np.ascontiguousarray(pixels).reshape(-1)
    width = flat.dtype.itemsize
    return not flat.view({1: np.uint8, 2: np.uint16, 4: np.uint32}.get(width, np.uint64)).any()
