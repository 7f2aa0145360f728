"""Decoding of subblock data: decompression, byte order of samples, order of red and blue.

imagecodecs decompresses; every result is compared with the declared size.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

import imagecodecs
import numpy as np

from bfbridge.runtime.thread_buffer import ThreadBuffer
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
_WIDTH, _HEIGHT, _STREAM = 0xBC80, 0xBC81, 0xBCC0
# The standard defines about forty.
_MOST_TAGS: Final = 64
# OUTPUT_CLR_FMT and OUTPUT_BITDEPTH of ITU-T T.832, 8.3.
_JPEGXR_GREY, _JPEGXR_RGB = 0, 7
_JPEGXR_DEPTHS: Final = {"uint8": 1, "uint16": 2, "float32": 7}


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
    size = _jpegxr_size(data, kind)
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


def _jpegxr_size(data: memoryview, kind: PixelKind) -> tuple[int, int] | None:
    """Return the height and width that a JPEG-XR file declares; None if it contradicts itself.

    Checked before decoding: the decoder allocates memory for the size that the container declares;
    a stream of another size or format makes it write outside that memory, or end the process.

    Parameters
    ----------
    data
        The file.
    kind
        Expected type of a pixel.
    """
    tags = _jpegxr_tags(data)
    size = tags.get(_HEIGHT, 0), tags.get(_WIDTH, 0)
    begin = tags.get(_STREAM, len(data))
    stream = bytes(data[begin : begin + 32])
    if len(stream) < 32 or not stream.startswith(b"WMPHOTO\0"):
        return None
    # ITU-T T.832, 8.3: flags, formats, then width and height minus one, of 16 or 32 bits.
    tiled, windowed = bool(stream[9] & 0x80), bool(stream[10] & 0x20)
    length = 2 if stream[10] & 0x80 else 4
    width, height = struct.unpack_from(">HH" if length == 2 else ">II", stream, 12)
    colors = _JPEGXR_GREY if kind.samples == 1 else _JPEGXR_RGB
    wanted = colors << 4 | _JPEGXR_DEPTHS.get(kind.dtype.name, 0xF)
    if (height + 1, width + 1) != size or stream[11] != wanted:
        return None
    if not tiled and not windowed:
        # 8.4: the colour format of the planes: grey, or one of three formats of luma and chroma.
        planes = stream[12 + 2 * length] >> 5
        if (planes == 0) != (kind.samples == 1) or planes > 3:
            return None
    return size


def _jpegxr_tags(data: memoryview) -> dict[int, int]:
    """Return the numbers of a JPEG-XR file's directory (ITU-T T.832, annex A).

    Empty for a directory that is too long: the decoder prints a line for each unknown entry.
    """
    at = struct.unpack_from("<I", data, 4)[0] if len(data) >= 8 else 0
    count = struct.unpack_from("<H", data, at)[0] if at + 2 <= len(data) else 0
    tags: dict[int, int] = {}
    if count > _MOST_TAGS or at + 2 + 12 * count > len(data):
        return tags
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, _, value = struct.unpack_from("<HHII", data, entry)
        tags[tag] = value & 0xFFFF if kind == 3 else value
    return tags


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
