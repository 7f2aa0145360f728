"""Decoding of subblock data: decompression, byte order of samples, order of red and blue.

imagecodecs decompresses; every result is compared with the declared size.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import imagecodecs
import numpy as np

from bfbridge.runtime.thread_buffer import ThreadBuffer
from bfbridge.tiff.jpegxr import jpegxr_size
from bfbridge_czi.layout import JPEGXR, UNCOMPRESSED, ZSTD1, PixelKind

__all__ = [
    "KEPT_BYTES",
    "DamagedSubblock",
    "Decoded",
    "decode_subblock",
    "put_pixels",
    "rows_and_columns",
]

Array = np.ndarray[Any, np.dtype[Any]]

# Longest memory that a thread keeps for decoding.
KEPT_BYTES: Final = 32 << 20
_BAND: Final = 128 << 10
_JPEGXR_MAGIC: Final = b"II\xbc"


class DamagedSubblock(Exception):
    """A subblock does not decode to the declared pixels; the caller adds the position."""


_decoded = ThreadBuffer(KEPT_BYTES)


class Decoded(NamedTuple):
    """Pixels of a subblock, and the remaining steps.

    Attributes
    ----------
    pixels
        Shape (Y, X, samples), or (2, Y, X, samples) where `split`.
    swapped
        Whether red and blue must still be exchanged.
    split
        Whether they are still bytes, with all low bytes before all high bytes.
    """

    pixels: Array
    swapped: bool
    split: bool

    def part(self, row: int, column: int, rows: int, columns: int) -> Decoded:
        """Return the pixels from a corner, limited to these numbers of rows and columns."""
        box = (slice(row, row + rows), slice(column, column + columns))
        inside = (slice(None), *box) if self.split else box
        return Decoded(self.pixels[inside], self.swapped, self.split)

    @property
    def size(self) -> tuple[int, int]:
        """Return the numbers of rows and columns."""
        rows, columns = self.pixels.shape[1:3] if self.split else self.pixels.shape[:2]
        return rows, columns


def decode_subblock(
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
        Compression code of the format.
    data
        As stored.
    kind, shape
        Type of a pixel, and the declared numbers of rows and columns.
    out
        C-contiguous memory for the pixels, used if it saves a copy: the returned pixels then share
        it. Otherwise they are valid until this thread decodes again.

    Raises
    ------
    DamagedSubblock
        The data does not decode, or not to the declared size.
    """
    try:
        if compression == JPEGXR:
            return _jpegxr(data, kind, shape)
        if compression == UNCOMPRESSED:
            flat, split = np.frombuffer(data, np.uint8), False
        else:
            target = None if out is None else out.reshape(-1).view(np.uint8)
            flat, split = _stream(compression, data, kind, shape, target)
    except DamagedSubblock:
        raise
    except (RuntimeError, ValueError, TypeError, OverflowError, IndexError) as error:
        raise DamagedSubblock(f"its data does not decode ({error})") from error
    rows, columns = rows_and_columns(len(flat), kind, shape)
    flat = flat[: rows * columns * kind.samples * kind.dtype.itemsize]
    swapped = kind.samples > 1
    if split:
        return Decoded(flat.reshape(2, rows, columns, kind.samples), swapped, True)
    return Decoded(flat.view(kind.dtype).reshape(rows, columns, kind.samples), swapped, False)


def rows_and_columns(found: int, kind: PixelKind, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the rows and columns of `found` bytes of pixels.

    At the edges of pyramid levels, ZEN rounds up in the directory and down in the pixels.

    Raises
    ------
    DamagedSubblock
        They are neither the declared numbers nor one less.
    """
    pixel = kind.samples * kind.dtype.itemsize
    rows, columns = shape
    for candidate in (shape, (rows, columns - 1), (rows - 1, columns), (rows - 1, columns - 1)):
        if found == candidate[0] * candidate[1] * pixel > 0:
            return candidate
    raise DamagedSubblock(
        f"it contains {found:,} bytes where its {columns} x {rows} pixels need "
        f"{rows * columns * pixel:,}"
    )


def _stream(
    compression: int, data: Any, kind: PixelKind, shape: tuple[int, int], target: Array | None
) -> tuple[Array, bool]:
    """Decompress a byte stream; return it, and whether low and high bytes are separated."""
    length = shape[0] * shape[1] * kind.samples * kind.dtype.itemsize
    split, begin = False, 0
    if compression == ZSTD1:
        begin, split = _zstd1_header(bytes(data[:16]))
        if split and kind.dtype.itemsize != 2:
            raise DamagedSubblock("its bytes are split like 16-bit values, but they are not 16-bit")
    if target is None or split:
        target = _decoded.get(length)
    found = imagecodecs.zstd_decode(data[begin:], out=target)
    return target[: len(found)], split


def _zstd1_header(head: bytes) -> tuple[int, bool]:
    """Return the length of the header before a zstd1 stream, and whether bytes are separated.

    The header has its length, then chunks of a number and a payload; bit 0 of the byte in chunk 1
    states whether low and high bytes are separated (libCZI, CZstd1Decoder). Lengths below 128 take
    one byte.
    """
    if not head or head[0] & 0x80:
        raise DamagedSubblock("its zstd header is damaged")
    size = head[0]
    if size == 1:
        return 1, False
    if size == 3 and len(head) > 2 and head[1] == 1:
        return 3, bool(head[2] & 1)
    raise DamagedSubblock("its zstd header is damaged, or of an unknown kind")


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
        raise DamagedSubblock(f"its JPEG-XR headers do not declare {columns} x {rows} pixels")
    pixels = imagecodecs.jpegxr_decode(data)
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.shape != (*size, kind.samples):
        raise DamagedSubblock(
            f"its JPEG-XR image has shape {pixels.shape}, not {(*size, kind.samples)}"
        )
    if pixels.dtype != kind.dtype:
        raise DamagedSubblock(f"its JPEG-XR image contains {pixels.dtype}, not {kind.dtype}")
    # The decoder returns red, green, blue.
    return Decoded(pixels, False, False)


def put_pixels(decoded: Decoded, out: Array) -> None:
    """Copy pixels into a result of the same shape (Y, X, samples), with any strides."""
    pixels, swapped, split = decoded
    # In bands that fit into the processor's cache: samples and bytes are copied separately.
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
