"""Decoding of stored segments: decompression, unpacking, prediction, byte order.

imagecodecs decompresses; every result is compared with the declared size, because some of its
decoders return less without an error if the data is truncated.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np

from bfbridge.runtime.thread_buffer import ThreadBuffer
from bfbridge.tiff.header import LONG, SHORT
from bfbridge.tiff.jpegxr import is_jpegxr_complete, jpegxr_size
from bfbridge.tiff.tags import BYTE_STREAMS, COMPRESSIONS, Tag
from bfbridge_ometiff.basic_codecs import imagecodecs
from bfbridge_ometiff.structure.jpeg_header import jpeg2000_size
from bfbridge_ometiff.structure.segment_layout import (
    DEFLATE,
    JPEG,
    JPEG2000,
    JPEGXL,
    JPEGXR,
    LERC,
    LZMA,
    LZW,
    NONE,
    PACKBITS,
    PNG,
    WEBP,
    YCBCR,
    ZSTD,
    DamagedSegment,
    SegmentLayout,
)

__all__ = ["KEPT_BYTES", "decode_into", "encode"]

Array = np.ndarray[Any, np.dtype[Any]]

_NATIVE = "<" if sys.byteorder == "little" else ">"
# Longest memory that a thread keeps for decoding.
KEPT_BYTES = 16 << 20
# For fewer bytes than these, wrapping a strip in a TIFF takes longer than libtiff's decoder saves.
_FRAMED_FROM = 16 << 10
# EOI of JPEG, EOC of JPEG 2000: compressed data does not contain it. Padding may follow.
_END, _TAIL = b"\xff\xd9", 1 << 16
# SOS of JPEG. Progressive images have about ten; thousands of small scans would take hours.
_SCAN, _MOST_SCANS = b"\xff\xda", 500
_LERC_HEAD = 4096
_STRIP = struct.Struct("<4sIH" + 9 * "HHII" + "I")


_framed = ThreadBuffer(KEPT_BYTES)


def decode_into(
    layout: SegmentLayout,
    data: bytes | memoryview,
    rows: int,
    corner: tuple[int, int],
    out: Array,
    scratch: ThreadBuffer,
) -> None:
    """Decode a part of one segment.

    Parameters
    ----------
    layout
        Layout of the directory that contains the segment.
    data
        The segment as stored.
    rows
        Rows of the segment.
    corner
        Row and column of the requested part in the segment.
    out
        Filled with the part, shape (Y, X, samples), native byte order, any strides.
    scratch
        Buffer of the reader.

    Raises
    ------
    DamagedSegment
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
    except DamagedSegment:
        raise
    except (RuntimeError, ValueError, TypeError, MemoryError, OverflowError, IndexError) as error:
        raise DamagedSegment(f"its {layout.compression} data does not decode ({error})") from error


def _target_of(
    layout: SegmentLayout, rows: int, corner: tuple[int, int], out: Array
) -> Array | None:
    """Return the bytes of `out` if a segment can be decompressed directly into them."""
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
    layout: SegmentLayout,
    flat: Array,
    rows: int,
    corner: tuple[int, int],
    out: Array,
    *,
    placed: bool,
) -> None:
    """Convert decompressed bytes to pixels: unpack, undo the predictor, select.

    Parameters
    ----------
    layout, rows, corner, out
        As for `decode_into`.
    flat
        The decompressed bytes.
    placed
        Whether they share the memory of `out`.
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
        # Bytes are stored most significant first for both byte orders (TIFF technical note 3).
        decoded = imagecodecs.floatpred_decode(part.view(layout.dtype), axis=-2)
        out[...] = decoded[:, x : x + out.shape[1]]
    elif not placed:
        out[...] = part[:, x : x + out.shape[1]]
    if layout.inverted:
        np.invert(out, out=out)


def _undo_difference(layout: SegmentLayout, part: Array, x: int, out: Array) -> None:
    """Undo predictor 2 on whole rows, and copy the requested columns into `out`."""
    if layout.byteorder != _NATIVE and part.itemsize > 1:
        part = part.byteswap(inplace=True).view(layout.dtype)
    if part.shape == out.shape:
        imagecodecs.delta_decode(part, axis=1, out=out)
    else:
        columns = x + out.shape[1]
        imagecodecs.delta_decode(part[:, :columns], axis=1, out=part[:, :columns])
        out[...] = part[:, x:columns]


def _stream(
    layout: SegmentLayout,
    data: bytes | memoryview,
    length: int,
    target: Array | None,
    scratch: ThreadBuffer,
) -> Array:
    """Return `length` decompressed bytes, in `target` if one is given."""
    if layout.compression == NONE:
        if len(data) < length:
            raise DamagedSegment(f"{len(data)} bytes are stored where its pixels need {length}")
        flat = np.frombuffer(data, np.uint8, length)
        if target is None and layout.predictor == 1:
            return flat
        if target is None:
            target = scratch.get(length)
        target[...] = flat
        return target
    decode = _STREAM_DECODERS[layout.compression]
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
        raise DamagedSegment(f"it decompresses to {found} bytes where its pixels need {length}")
    return target


def _lzw(data: bytes | memoryview, *, out: Array) -> Any:
    """Decompress LZW into `out`; return the decompressed bytes.

    libtiff's decoder takes little more than half the time of imagecodecs' own, but accepts whole
    files only: the segment is wrapped in a TIFF of one strip with one row of bytes.
    """
    length, stored = len(out), len(data)
    if length < _FRAMED_FROM or max(length, stored) >= 1 << 31 or not imagecodecs.TIFF.available:
        return imagecodecs.lzw_decode(data, out=out)
    frame = _framed.get(_STRIP.size + stored)
    entries = (
        *(Tag.ImageWidth, LONG, 1, length),
        *(Tag.ImageLength, LONG, 1, 1),
        *(Tag.BitsPerSample, SHORT, 1, 8),
        *(Tag.Compression, SHORT, 1, COMPRESSIONS[LZW].tags[0]),
        *(Tag.PhotometricInterpretation, SHORT, 1, 1),
        *(Tag.StripOffsets, LONG, 1, _STRIP.size),
        *(Tag.SamplesPerPixel, SHORT, 1, 1),
        *(Tag.RowsPerStrip, LONG, 1, 1),
        *(Tag.StripByteCounts, LONG, 1, stored),
    )
    head = _STRIP.pack(b"II*\0", 8, 9, *entries, 0)
    frame[: _STRIP.size] = np.frombuffer(head, np.uint8)
    frame[_STRIP.size :] = np.frombuffer(data, np.uint8)
    try:
        return imagecodecs.tiff_decode(frame, index=0, out=out.reshape(1, length)).reshape(-1)
    except RuntimeError:
        # imagecodecs' decoder reports damaged data, as for small segments.
        return imagecodecs.lzw_decode(data, out=out)


def _unpack(
    layout: SegmentLayout, flat: Array, rows: int, corner: tuple[int, int], out: Array
) -> None:
    """Unpack samples of less than 8, or of 9 to 15 bits."""
    samples, width = layout.segment_samples, layout.tile_width
    pixels = imagecodecs.packints_decode(
        flat.tobytes(), layout.dtype, layout.bits, runlen=width * samples
    )
    if pixels.size < rows * width * samples:
        raise DamagedSegment(f"it unpacks to {pixels.size} samples, not {rows * width * samples}")
    pixels = pixels[: rows * width * samples].reshape(rows, width, samples)
    y, x = corner
    out[...] = pixels[y : y + out.shape[0], x : x + out.shape[1]]
    if layout.inverted:
        np.subtract((1 << layout.bits) - 1, out, out=out, casting="unsafe")


def _decode_image(
    layout: SegmentLayout, data: bytes | memoryview, rows: int, corner: tuple[int, int], out: Array
) -> Array:
    """Decode a segment that is a complete image; shape (Y, X, samples), or `out` itself."""
    _check_stream(layout, data)
    decode = _IMAGE_DECODERS[layout.compression]
    width, samples = layout.tile_width, layout.segment_samples
    whole = corner == (0, 0) and out.shape == (rows, width, samples)
    if whole and out.flags.c_contiguous and rows == layout.tile_length:
        decode(layout, data, _face(out))
        return out
    # Decoders compare the size that a stream declares with the array before they allocate memory.
    # The last strip may be stored at full length.
    lengths = dict.fromkeys((rows, layout.tile_length))
    errors: list[ValueError] = []
    for length in lengths:
        pixels = np.empty((length, width, samples), layout.dtype)
        try:
            decode(layout, data, _face(pixels))
        except ValueError as error:
            errors.append(error)
        else:
            return pixels
    raise errors[0]


def _face(pixels: Array) -> Array:
    """Return pixels of one sample without the sample axis, as decoders return them."""
    return pixels if pixels.shape[2] > 1 else pixels[:, :, 0]


def _check_stream(layout: SegmentLayout, data: bytes | memoryview) -> None:
    """Refuse damaged streams that the decoders accept."""
    compression = layout.compression
    if compression not in (JPEG, JPEG2000):
        return
    if _END not in bytes(data[-_TAIL:]):
        # Their decoders fill missing data with grey, without an error.
        raise DamagedSegment(f"its {compression} data has no end; it is truncated or damaged")
    if compression == JPEG:
        scans = bytes(data).count(_SCAN)
        if scans > _MOST_SCANS:
            raise DamagedSegment(
                f"its jpeg data has {scans:,} scans, which would take too long to decode"
            )
        return
    size = jpeg2000_size(data)
    wanted = (layout.tile_width, layout.segment_samples)
    if size is not None and (size[0] > layout.tile_length or size[1:] != wanted):
        raise DamagedSegment(
            f"its jpeg2000 image has shape {size}, not {(layout.tile_length, *wanted)}"
        )


def _decode_jpeg(layout: SegmentLayout, data: bytes | memoryview, out: Array) -> None:
    colors: dict[str, str] = {}
    if layout.segment_samples == 3:
        stored = "YCBCR" if layout.photometric == YCBCR else "RGB"
        colors = {"colorspace": stored, "outcolorspace": "RGB"}
    imagecodecs.jpeg8_decode(data, tables=layout.tables or None, out=out, **colors)


def _decode_jpeg2000(layout: SegmentLayout, data: bytes | memoryview, out: Array) -> None:
    del layout
    imagecodecs.jpeg2k_decode(data, numthreads=1, out=out)


def _decode_jpegxl(layout: SegmentLayout, data: bytes | memoryview, out: Array) -> None:
    del layout
    imagecodecs.jpegxl_decode(data, numthreads=1, out=out)


def _decode_jpegxr(layout: SegmentLayout, data: bytes | memoryview, out: Array) -> None:
    declared = jpegxr_size(data, layout.dtype, layout.segment_samples)
    if declared != out.shape[:2]:
        raise ValueError(f"its JPEG XR headers declare {declared}, not {out.shape[:2]}")
    if not is_jpegxr_complete(data):
        raise DamagedSegment("its jpegxr data is truncated or damaged")
    imagecodecs.jpegxr_decode(data, out=out)


def _decode_png(layout: SegmentLayout, data: bytes | memoryview, out: Array) -> None:
    del layout
    imagecodecs.png_decode(data, out=out)


def _decode_webp(layout: SegmentLayout, data: bytes | memoryview, out: Array) -> None:
    imagecodecs.webp_decode(data, hasalpha=layout.segment_samples == 4, out=out)


def _decode_lerc(layout: SegmentLayout, data: bytes | memoryview, out: Array) -> None:
    if layout.extra_compression:
        # LERC data of noise is a little longer than the pixels.
        stored = np.empty(out.nbytes + out.nbytes // 8 + _LERC_HEAD, np.uint8)
        name = "zlib_decode" if layout.extra_compression == 1 else "zstd_decode"
        data = getattr(imagecodecs, name)(data, out=stored)
    imagecodecs.lerc_decode(data, out=out)


@cache
def _isal_compress() -> Callable[[Any, int], bytes] | None:
    """Return ISA-L's compressor, which only writers import; not every platform has a wheel."""
    try:
        from isal.isal_zlib import compress
    except ImportError:
        # imagecodecs' encoder writes the same format.
        return None
    return compress


def _encode_deflate(pixels: Array, level: int) -> bytes:
    """Compress to the zlib format.

    Level 1 uses ISA-L's level 2: two thirds of libdeflate's time for 1 to 2 % more bytes. ISA-L's
    levels 1 and 3 are 10 % faster for 2 to 4 % more, and 10 % slower for 1 to 3 % more.
    """
    compress = _isal_compress() if level == 1 else None
    if compress is not None:
        return compress(_bytes_of(pixels), 2)
    stored: bytes = imagecodecs.deflate_encode(_bytes_of(pixels), level)
    return stored


def _encode_zstd(pixels: Array, level: int) -> bytes:
    stored: bytes = imagecodecs.zstd_encode(_bytes_of(pixels), level)
    return stored


def _encode_lzw(pixels: Array, level: int) -> bytes:
    del level
    stored: bytes = imagecodecs.lzw_encode(_bytes_of(pixels))
    return stored


def _encode_none(pixels: Array, level: int) -> memoryview:
    del level
    return _bytes_of(pixels).data


def _encode_jpeg(pixels: Array, level: int) -> bytes:
    # 4:2:2, as slide scanners write. Bio-Formats shows wrong colours for 4:4:4: it interprets
    # YCbCrSubSampling (1, 1) as YCbCr that the decoder did not convert.
    stored: bytes
    if pixels.shape[2] == 3:
        stored = imagecodecs.jpeg8_encode(
            pixels, level, colorspace="RGB", outcolorspace="YCBCR", subsampling="422"
        )
    else:
        stored = imagecodecs.jpeg8_encode(pixels[:, :, 0], level)
    return stored


def _encode_jpeg2000(pixels: Array, level: int) -> bytes:
    # No colour transform: with it, Bio-Formats' decoder returns wrong pixels for very different
    # colours, and images of stained tissue are no larger without it.
    stored: bytes = imagecodecs.jpeg2k_encode(
        np.ascontiguousarray(_face(pixels)),
        level or None,
        codecformat="J2K",
        reversible=not level,
        mct=False,
        numthreads=1,
    )
    return stored


def _bytes_of(pixels: Array) -> Array:
    return pixels.reshape(-1).view(np.uint8)


def encode(compression: str, pixels: Array, level: int) -> bytes | memoryview:
    """Return the stored bytes of a whole segment.

    Parameters
    ----------
    compression
        Name of a method in `bfbridge.tiff.tags.COMPRESSIONS` that has levels.
    pixels
        (Y, X, samples), contiguous, after prediction. Uncompressed, the result is a view of them.
    level
        One of the method's levels.
    """
    return _ENCODERS[compression](pixels, level)


# Methods that return byte streams; they decode into `out` and return the decoded bytes.
_STREAM_DECODERS: Final[dict[str, Callable[..., Any]]] = {
    DEFLATE: imagecodecs.deflate_decode,
    LZMA: imagecodecs.lzma_decode,
    LZW: _lzw,
    PACKBITS: imagecodecs.packbits_decode,
    ZSTD: imagecodecs.zstd_decode,
}
# Methods that return images. They raise ValueError if a stream does not fit `out`.
_IMAGE_DECODERS: Final[dict[str, Callable[[SegmentLayout, bytes | memoryview, Array], None]]] = {
    JPEG: _decode_jpeg,
    JPEG2000: _decode_jpeg2000,
    JPEGXL: _decode_jpegxl,
    JPEGXR: _decode_jpegxr,
    LERC: _decode_lerc,
    PNG: _decode_png,
    WEBP: _decode_webp,
}
_ENCODERS: Final[dict[str, Callable[[Array, int], bytes | memoryview]]] = {
    DEFLATE: _encode_deflate,
    JPEG: _encode_jpeg,
    JPEG2000: _encode_jpeg2000,
    LZW: _encode_lzw,
    NONE: _encode_none,
    ZSTD: _encode_zstd,
}
