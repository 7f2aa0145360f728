"""The data of one subblock to pixels: decompression, byte order of samples, red and blue.

imagecodecs does the decompression; every result is compared with the size declared.
"""

from __future__ import annotations

import threading
from typing import Any, Final, NamedTuple

import imagecodecs
import numpy as np

from bfbridge.tiff.jpegxr import jpegxr_size
from bfbridge_czi.layout import JPEGXR, UNCOMPRESSED, ZSTD1, PixelKind

__all__ = ["Damaged", "Decoded", "Scratch", "decode", "put_pixels", "rows_and_columns"]

Array = np.ndarray[Any, np.dtype[Any]]

_KEEP: Final = 32 << 20
_BAND: Final = 128 << 10
_JPEGXR_MAGIC: Final = b"II\xbc"


class Damaged(Exception):
    """A subblock does not decode to the pixels declared; the caller adds the place."""


class Scratch(threading.local):
    """Memory that each thread decodes into, kept from block to block.

    Fresh memory costs a page fault every 4 KiB, which takes longer than copying pixels.
    """

    def __init__(self) -> None:
        self._held: Array = np.empty(0, np.uint8)

    def get(self, length: int) -> Array:
        """Return `length` bytes of memory, valid until this thread asks again."""
        if length > _KEEP:
            return np.empty(length, np.uint8)
        if len(self._held) < length:
            self._held = np.empty(1 << (length - 1).bit_length(), np.uint8)
        return self._held[:length]

    def view(self, length: int) -> memoryview:
        """Return the same memory as a buffer."""
        return self.get(length).data


_decoded = Scratch()


class Decoded(NamedTuple):
    """Pixels of a subblock, and what is left to do with them.

    Attributes
    ----------
    pixels
        Shape (Y, X, samples), or (2, Y, X, samples) where `split`.
    swapped
        Whether red and blue are still to be exchanged.
    split
        Whether they are bytes still, all low ones before all high ones.
    """

    pixels: Array
    swapped: bool
    split: bool

    def part(self, row: int, column: int, rows: int, columns: int) -> Decoded:
        """Return up to so many rows and columns from a corner."""
        box = (slice(row, row + rows), slice(column, column + columns))
        inside = (slice(None), *box) if self.split else box
        return Decoded(self.pixels[inside], self.swapped, self.split)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.pixels.shape[1:3] if self.split else self.pixels.shape[:2]
        return rows, columns


def decode(
    compression: int,
    data: Any,
    kind: PixelKind,
    shape: tuple[int, int],
    out: Array | None = None,
) -> Decoded:
    """Decompress the data of a subblock.

    Parameters
    ----------
    compression
        Its code in the format.
    data
        As stored.
    kind, shape
        What a pixel is, and the rows and columns that are declared.
    out
        C-contiguous memory for the pixels, used where that saves a copy: the pixels returned are
        then in it. Else they are valid until this thread decodes again.

    Raises
    ------
    Damaged
        It does not decode, or not to the size declared.
    """
    try:
        if compression == JPEGXR:
            return _jpegxr(data, kind, shape)
        if compression == UNCOMPRESSED:
            flat, split = np.frombuffer(data, np.uint8), False
        else:
            target = None if out is None else out.reshape(-1).view(np.uint8)
            flat, split = _stream(compression, data, kind, shape, target)
    except Damaged:
        raise
    except (RuntimeError, ValueError, TypeError, OverflowError, IndexError) as error:
        raise Damaged(f"its data does not decode ({error})") from error
    rows, columns = rows_and_columns(len(flat), kind, shape)
    flat = flat[: rows * columns * kind.samples * kind.dtype.itemsize]
    swapped = kind.samples > 1
    if split:
        return Decoded(flat.reshape(2, rows, columns, kind.samples), swapped, True)
    return Decoded(flat.view(kind.dtype).reshape(rows, columns, kind.samples), swapped, False)


def rows_and_columns(found: int, kind: PixelKind, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns that `found` bytes of pixels are.

    At the edges of pyramids ZEN rounds up in the directory and down in the pixels.

    Raises
    ------
    Damaged
        They are neither those declared nor one less.
    """
    pixel = kind.samples * kind.dtype.itemsize
    rows, columns = shape
    for candidate in (shape, (rows, columns - 1), (rows - 1, columns), (rows - 1, columns - 1)):
        if found == candidate[0] * candidate[1] * pixel > 0:
            return candidate
    raise Damaged(
        f"it holds {found:,} bytes where its {columns} x {rows} pixels need "
        f"{rows * columns * pixel:,}"
    )


def _stream(
    compression: int, data: Any, kind: PixelKind, shape: tuple[int, int], target: Array | None
) -> tuple[Array, bool]:
    """Decompress a stream of bytes; return them, and whether low and high bytes lie apart."""
    length = shape[0] * shape[1] * kind.samples * kind.dtype.itemsize
    split, begin = False, 0
    if compression == ZSTD1:
        begin, split = _zstd1_header(bytes(data[:16]))
        if split and kind.dtype.itemsize != 2:
            raise Damaged("its bytes are split as those of 16-bit values, which it has not")
    if target is None or split:
        target = _decoded.get(length)
    found = imagecodecs.zstd_decode(data[begin:], out=target)
    return target[: len(found)], split


def _zstd1_header(head: bytes) -> tuple[int, bool]:
    """Read what precedes a zstd1 stream: its length, and whether low and high bytes lie apart.

    The length of the header, then chunks of a number and a payload; chunk 1 has a byte of which
    bit 0 tells of low and high bytes (libCZI, CZstd1Decoder). Lengths below 128 take one byte.
    """
    if not head or head[0] & 0x80:
        raise Damaged("its zstd header is damaged")
    size = head[0]
    if size == 1:
        return 1, False
    if size == 3 and len(head) > 2 and head[1] == 1:
        return 3, bool(head[2] & 1)
    raise Damaged("its zstd header is damaged, or of a kind not known")


def _jpegxr(data: Any, kind: PixelKind, shape: tuple[int, int]) -> Decoded:
    rows, columns = shape
    if bytes(data[:3]) != _JPEGXR_MAGIC:
        # Some writers mark uncompressed pixels as JPEG-XR.
        flat = np.frombuffer(data, np.uint8)
        rows, columns = rows_and_columns(len(flat), kind, shape)
        pixels = flat.view(kind.dtype).reshape(rows, columns, kind.samples)
        return Decoded(pixels, kind.samples > 1, False)
    size = jpegxr_size(data, kind.dtype, kind.samples)
    if size is None or size[0] not in (rows, rows - 1) or size[1] not in (columns, columns - 1):
        raise Damaged(f"its JPEG-XR headers do not tell of {columns} x {rows} pixels")
    pixels = imagecodecs.jpegxr_decode(data)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.shape != (*size, kind.samples):
        raise Damaged(f"its JPEG-XR image has shape {pixels.shape}, not {(*size, kind.samples)}")
    if pixels.dtype != kind.dtype:
        raise Damaged(f"its JPEG-XR image holds {pixels.dtype}, not {kind.dtype}")
    # The decoder gives red, green, blue.
    return Decoded(pixels, False, False)


def put_pixels(decoded: Decoded, out: Array) -> None:
    """Copy pixels into a result of the same shape (Y, X, samples), of any strides."""
    pixels, swapped, split = decoded
    # In bands that stay in the processor's cache: samples and bytes are copied one by one.
    step = max(_BAND // max(out.shape[1] * out.shape[2] * out.itemsize, 1), 1)
    if not (swapped or split):
        step = max(len(out), 1)
    for row in range(0, len(out), step):
        band = out[row : row + step]
        if split:
            band[...] = pixels[1, row : row + step]
            band <<= 8
            band |= pixels[0, row : row + step]
            stored = band[:, :, 0].copy() if swapped else None
            if stored is not None:
                band[:, :, 0] = band[:, :, 2]
                band[:, :, 2] = stored
        else:
            stored = pixels[row : row + step]
            band[...] = stored
            if swapped:
                band[:, :, 0] = stored[:, :, 2]
                band[:, :, 2] = stored[:, :, 0]
