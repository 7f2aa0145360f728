"""One stored segment to pixels: decompression, unpacking, prediction, byte order.

imagecodecs does the decompression; every result is compared with the size declared, because some
of its decoders end early without an error where the data does.
"""

from __future__ import annotations

import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np

from bfbridge_ometiff.structure.jpeg_header import jpeg2000_size
from bfbridge_ometiff.structure.layout import (
    BYTE_STREAMS,
    DEFLATE,
    JPEG,
    JPEG2000,
    JPEGXL,
    LZW,
    NONE,
    PACKBITS,
    WEBP,
    ZSTD,
    Layout,
)

__all__ = ["Damaged", "Scratch", "decode_into"]

Array = np.ndarray[Any, np.dtype[Any]]

_NATIVE = "<" if sys.byteorder == "little" else ">"
_KEEP = 16 << 20
_DECODERS = {
    DEFLATE: "deflate_decode",
    PACKBITS: "packbits_decode",
    ZSTD: "zstd_decode",
}
# Making a TIFF of one strip takes longer than libtiff saves on fewer bytes than these.
_FRAMED_FROM = 16 << 10
# EOI of JPEG, EOC of JPEG 2000: compressed data holds it nowhere else. Padding may follow.
_END, _TAIL = b"\xff\xd9", 1 << 16
# SOS of JPEG. Progressive images have some ten; thousands of a few bytes take hours.
_SCAN, _MOST_SCANS = b"\xff\xda", 500
_LERC_HEAD = 4096
_STRIP = struct.Struct("<4sIH" + 9 * "HHII" + "I")


class Damaged(Exception):
    """A segment does not decode to the pixels declared; the caller adds the place."""


class Scratch(threading.local):
    """Memory that each thread decodes into, kept from segment to segment.

    A fresh array costs a page fault every 4 KiB, which takes longer than decoding an uncompressed
    segment.
    """

    def __init__(self) -> None:
        self._held: Array = np.empty(0, np.uint8)

    def get(self, length: int) -> Array:
        """Return `length` bytes of memory, valid until this thread asks again."""
        if length > _KEEP:
            return np.empty(length, np.uint8)
        if len(self._held) < length:
            # Rounded up, so that segments a little longer than the last ones find warm memory too.
            self._held = np.empty(1 << (length - 1).bit_length(), np.uint8)
        return self._held[:length]


_framed = Scratch()


def decode_into(
    layout: Layout,
    data: bytes | memoryview,
    rows: int,
    corner: tuple[int, int],
    out: Array,
    scratch: Scratch,
) -> None:
    """Decode a part of one segment.

    Parameters
    ----------
    layout
        Of the directory the segment belongs to.
    data
        The segment as stored.
    rows
        That the segment holds.
    corner
        Row and column, inside the segment, of the part wanted.
    out
        Filled with the part, shape (Y, X, samples), native byte order, any strides.
    scratch
        Of the reader.

    Raises
    ------
    Damaged
        The data does not decode, or to another size than declared.
    """
    try:
        if layout.reversed_bits:
            data = imagecodecs.bitorder_decode(bytes(data))
        if layout.compression in BYTE_STREAMS:
            length = rows * layout.row_bytes
            target = _target_of(layout, rows, corner, out)
            flat = _stream(layout, data, length, target, scratch)
            _arrange(layout, flat, rows, corner, out, placed=target is not None)
        else:
            pixels = _decode_image(layout, data, rows, corner, out)
            if pixels is out:
                return
            y, x = corner
            out[...] = pixels[y : y + out.shape[0], x : x + out.shape[1]]
    except Damaged:
        raise
    except (RuntimeError, ValueError, TypeError, MemoryError, OverflowError, IndexError) as error:
        raise Damaged(f"its {layout.compression} data does not decode ({error})") from error


def _target_of(layout: Layout, rows: int, corner: tuple[int, int], out: Array) -> Array | None:
    """Return the bytes of `out` if a segment can be decompressed straight into them."""
    whole = corner == (0, 0) and out.shape == (rows, layout.tile_width, layout.segment_samples)
    direct = (
        whole
        and not layout.packed
        and layout.predictor != 3
        and out.flags.c_contiguous
        and (layout.byteorder == _NATIVE or out.itemsize == 1)
    )
    return out.reshape(-1).view(np.uint8) if direct else None


def _arrange(
    layout: Layout, flat: Array, rows: int, corner: tuple[int, int], out: Array, *, placed: bool
) -> None:
    """Make pixels of decompressed bytes: unpack, undo the predictor, select.

    Parameters
    ----------
    layout, rows, corner, out
        As for `decode_into`.
    flat
        The decompressed bytes.
    placed
        Whether they are those of `out`.
    """
    y, x = corner
    if layout.packed:
        _unpack(layout, flat, rows, corner, out)
        return
    stored = layout.dtype.newbyteorder("<" if layout.byteorder == "<" else ">")
    pixels = flat.view(stored).reshape(rows, layout.tile_width, layout.segment_samples)
    part = pixels[y : y + out.shape[0]]
    if layout.predictor == 2:
        _undo_difference(layout, part, x, out)
    elif layout.predictor == 3:
        # Bytes are stored most significant first whatever the byte order (TIFF technical note 3).
        decoded = imagecodecs.floatpred_decode(part.view(layout.dtype), axis=-2)
        out[...] = decoded[:, x : x + out.shape[1]]
    elif not placed:
        out[...] = part[:, x : x + out.shape[1]]
    if layout.inverted:
        np.invert(out, out=out)


def _undo_difference(layout: Layout, part: Array, x: int, out: Array) -> None:
    """Undo predictor 2 on whole rows, and put the columns wanted into `out`."""
    if layout.byteorder != _NATIVE and part.itemsize > 1:
        part = part.byteswap(inplace=True).view(layout.dtype)
    if part.shape == out.shape:
        imagecodecs.delta_decode(part, axis=1, out=out)
    else:
        columns = x + out.shape[1]
        imagecodecs.delta_decode(part[:, :columns], axis=1, out=part[:, :columns])
        out[...] = part[:, x:columns]


def _stream(
    layout: Layout, data: bytes | memoryview, length: int, target: Array | None, scratch: Scratch
) -> Array:
    """Return `length` decompressed bytes, in `target` where that is given."""
    if layout.compression == NONE:
        if len(data) < length:
            raise Damaged(f"{len(data)} bytes are stored where its pixels need {length}")
        flat = np.frombuffer(data, np.uint8, length)
        if target is None and layout.predictor == 1:
            return flat
        if target is None:
            target = scratch.get(length)
        target[...] = flat
        return target
    decode = _lzw if layout.compression == LZW else _decoder(layout.compression)
    if target is None:
        target = scratch.get(length)
    try:
        found = len(decode(data, out=target))
    except RuntimeError:
        if layout.tiled or length >= layout.tile_length * layout.row_bytes:
            raise
        # Some writers store the last strip at full length.
        longer = np.empty(layout.tile_length * layout.row_bytes, np.uint8)
        found = len(decode(data, out=longer))
        target[...] = longer[:length]
    if found < length:
        raise Damaged(f"it decompresses to {found} bytes where its pixels need {length}")
    return target


def _decoder(compression: str) -> Callable[..., Any]:
    decode: Callable[..., Any] = getattr(imagecodecs, _DECODERS[compression])
    return decode


def _lzw(data: bytes | memoryview, *, out: Array) -> Any:
    """Decompress LZW into `out`; return what was decompressed.

    libtiff's decoder takes a little more than half the time of imagecodecs' own, but is reached
    through whole files only: the segment is framed as a TIFF of one strip, one row of bytes.
    """
    length, stored = len(out), len(data)
    if length < _FRAMED_FROM or max(length, stored) >= 1 << 31 or not imagecodecs.TIFF.available:
        return imagecodecs.lzw_decode(data, out=out)
    frame = _framed.get(_STRIP.size + stored)
    entries = (
        *(256, 4, 1, length),
        *(257, 4, 1, 1),
        *(258, 3, 1, 8),
        *(259, 3, 1, 5),
        *(262, 3, 1, 1),
        *(273, 4, 1, _STRIP.size),
        *(277, 3, 1, 1),
        *(278, 4, 1, 1),
        *(279, 4, 1, stored),
    )
    head = _STRIP.pack(b"II*\0", 8, 9, *entries, 0)
    frame[: _STRIP.size] = np.frombuffer(head, np.uint8)
    frame[_STRIP.size :] = np.frombuffer(data, np.uint8)
    try:
        return imagecodecs.tiff_decode(frame, index=0, out=out.reshape(1, length)).reshape(-1)
    except RuntimeError:
        # The verdict on damaged data is imagecodecs', as for small segments.
        return imagecodecs.lzw_decode(data, out=out)


def _unpack(layout: Layout, flat: Array, rows: int, corner: tuple[int, int], out: Array) -> None:
    """Unpack samples of less than 8, or of 9 to 15 bits."""
    samples, width = layout.segment_samples, layout.tile_width
    pixels = imagecodecs.packints_decode(
        flat.tobytes(), layout.dtype, layout.bits, runlen=width * samples
    )
    if pixels.size < rows * width * samples:
        raise Damaged(f"it unpacks to {pixels.size} samples, not {rows * width * samples}")
    pixels = pixels[: rows * width * samples].reshape(rows, width, samples)
    y, x = corner
    out[...] = pixels[y : y + out.shape[0], x : x + out.shape[1]]
    if layout.inverted:
        np.subtract((1 << layout.bits) - 1, out, out=out, casting="unsafe")


def _decode_image(
    layout: Layout, data: bytes | memoryview, rows: int, corner: tuple[int, int], out: Array
) -> Array:
    """Decode a segment that is an image of its own; shape (Y, X, samples), or `out` itself."""
    _check_stream(layout, data)
    decode = _image_decoder(layout)
    width, samples = layout.tile_width, layout.segment_samples
    whole = corner == (0, 0) and out.shape == (rows, width, samples)
    if whole and out.flags.c_contiguous and rows == layout.tile_length:
        decode(data, _face(out))
        return out
    # Decoders compare the size that a stream declares with the array that they are given, before
    # they take memory for it. The last strip may be stored at full length.
    lengths = dict.fromkeys((rows, layout.tile_length))
    errors: list[ValueError] = []
    for length in lengths:
        pixels = np.empty((length, width, samples), layout.dtype)
        try:
            decode(data, _face(pixels))
        except ValueError as error:
            errors.append(error)
        else:
            return pixels
    raise errors[0]


def _face(pixels: Array) -> Array:
    """Return pixels of one sample without the axis of samples, as decoders have them."""
    return pixels if pixels.shape[2] > 1 else pixels[:, :, 0]


def _check_stream(layout: Layout, data: bytes | memoryview) -> None:
    """Refuse streams that their decoders would not."""
    compression = layout.compression
    if compression not in (JPEG, JPEG2000):
        return
    if _END not in bytes(data[-_TAIL:]):
        # Their decoders make grey of what is missing, without an error.
        raise Damaged(f"its {compression} data has no end; it is truncated or damaged")
    if compression == JPEG:
        scans = bytes(data).count(_SCAN)
        if scans > _MOST_SCANS:
            raise Damaged(f"its jpeg data has {scans:,} scans, which decoding would never end")
        return
    size = jpeg2000_size(data)
    wanted = (layout.tile_width, layout.segment_samples)
    if size is not None and (size[0] > layout.tile_length or size[1:] != wanted):
        raise Damaged(f"its jpeg2000 image has shape {size}, not {(layout.tile_length, *wanted)}")


def _image_decoder(layout: Layout) -> Callable[[bytes | memoryview, Array], object]:
    """Return what decodes a stream into an array, and raises ValueError where it does not fit."""
    if layout.compression == JPEG:
        colors: dict[str, str] = {}
        if layout.segment_samples == 3:
            stored = "YCBCR" if layout.photometric == 6 else "RGB"
            colors = {"colorspace": stored, "outcolorspace": "RGB"}
        tables = layout.tables or None
        return lambda data, out: imagecodecs.jpeg8_decode(data, tables=tables, out=out, **colors)
    if layout.compression == JPEG2000:
        return lambda data, out: imagecodecs.jpeg2k_decode(data, numthreads=1, out=out)
    if layout.compression == JPEGXL:
        return lambda data, out: imagecodecs.jpegxl_decode(data, numthreads=1, out=out)
    if layout.compression == WEBP:
        alpha = layout.segment_samples == 4
        return lambda data, out: imagecodecs.webp_decode(data, hasalpha=alpha, out=out)
    return lambda data, out: _decode_lerc(layout, data, out)


def _decode_lerc(layout: Layout, data: bytes | memoryview, out: Array) -> None:
    if layout.extra_compression:
        # LERC of noise is a little longer than the pixels.
        stored = np.empty(out.nbytes + out.nbytes // 8 + _LERC_HEAD, np.uint8)
        name = "zlib_decode" if layout.extra_compression == 1 else "zstd_decode"
        data = getattr(imagecodecs, name)(data, out=stored)
    imagecodecs.lerc_decode(data, out=out)
