"""Pictures written by code of the tests' own, in combinations that encoders do not make.

Each maker takes the values that a picture stores, so that a test knows the expected pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Array = np.ndarray

GREY, RGB, INDEXED, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
SAMPLES = {GREY: 1, RGB: 3, INDEXED: 1, GREY_ALPHA: 2, RGBA: 4}
KEEP, BACKGROUND, PREVIOUS = 0, 1, 2


@dataclass
class Frame:
    """One frame of an animation.

    Attributes
    ----------
    pixels
        Values as stored: (Y, X) indices, or (Y, X, samples).
    left, top
        Where it is drawn.
    disposal
        KEEP, BACKGROUND or PREVIOUS.
    over
        PNG: whether it is blended.
    transparent
        GIF: the index that is not drawn.
    palette
        GIF: its own colours, (n, 3).
    interlaced
        GIF: whether rows are stored in four passes.
    """

    pixels: Array
    left: int = 0
    top: int = 0
    disposal: int = KEEP
    over: bool = False
    transparent: int | None = None
    palette: Array | None = None
    interlaced: bool = False
    extra: bytes = field(default=b"", repr=False)


# ---- GIF


def lzw(values: bytes, bits: int, *, clear: bool = True) -> bytes:
    """Pack indices as GIF does, with the code size before and the blocks' lengths in them.

    Parameters
    ----------
    values
        Indices.
    bits
        Of an index: the code size that is stored.
    clear
        Whether the table is cleared when it is full, or used as it is up to the end.
    """
    start, end = 1 << bits, (1 << bits) + 1
    table = {bytes([i]): i for i in range(start)}
    size, following = bits + 1, end + 1
    packed, held, count = bytearray(), 0, 0

    def put(code: int) -> None:
        nonlocal held, count
        held |= code << count
        count += size
        while count >= 8:
            packed.append(held & 255)
            held >>= 8
            count -= 8

    put(start)
    known = b""
    for value in values:
        longer = known + bytes([value])
        if longer in table:
            known = longer
            continue
        put(table[known])
        known = bytes([value])
        if following < 4096:
            table[longer] = following
            if following == 1 << size and size < 12:
                size += 1
            following += 1
        elif clear:
            put(start)
            table = {bytes([i]): i for i in range(start)}
            size, following = bits + 1, end + 1
    if known:
        put(table[known])
    put(end)
    packed.append(held & 255)
    return bytes([bits]) + blocks(bytes(packed))


def blocks(data: bytes) -> bytes:
    """Cut data into GIF's blocks of 255 bytes."""
    parts = [data[i : i + 255] for i in range(0, len(data), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


def gif(
    shape: tuple[int, int],
    frames: Sequence[Frame],
    palette: Array | None = None,
    *,
    background: int = 0,
    clear: bool = True,
) -> bytes:
    """Make a GIF file with a screen of `shape` (Y, X)."""
    flags = 0 if palette is None else 0x80 | _color_bits(palette) - 1
    parts = [b"GIF89a", struct.pack("<HHBBB", shape[1], shape[0], flags, background, 0)]
    parts.append(b"" if palette is None else _colors(palette))
    for frame in frames:
        kind = {KEEP: 1, BACKGROUND: 2, PREVIOUS: 3}[frame.disposal]
        packed = kind << 2 | (frame.transparent is not None)
        parts.append(b"!\xf9\x04" + struct.pack("<BHB", packed, 5, frame.transparent or 0) + b"\0")
        height, width = frame.pixels.shape
        own = 0 if frame.palette is None else 0x80 | _color_bits(frame.palette) - 1
        own |= 0x40 if frame.interlaced else 0
        parts.append(b"," + struct.pack("<HHHHB", frame.left, frame.top, width, height, own))
        parts.append(b"" if frame.palette is None else _colors(frame.palette))
        rows = np.arange(height)
        if frame.interlaced:
            rows = np.r_[rows[::8], rows[4::8], rows[2::4], rows[1::2]]
        parts.append(lzw(frame.pixels[rows].astype(np.uint8).tobytes(), 8, clear=clear))
        parts.append(frame.extra)
    return b"".join([*parts, b";"])


def _color_bits(palette: Array) -> int:
    return max(int(len(palette) - 1).bit_length(), 1)


def _colors(palette: Array) -> bytes:
    return palette.astype(np.uint8).tobytes().ljust(3 << _color_bits(palette), b"\0")


def gif_shown(
    shape: tuple[int, int], frames: Sequence[Frame], palette: Array | None = None
) -> Array:
    """Return what a GIF shows as (T, Y, X, 4): red, green, blue, and whether anything is there."""
    shown, canvas = [], np.zeros((*shape, 4), np.uint8)
    for frame in frames:
        height, width = frame.pixels.shape
        colors = frame.palette if frame.palette is not None else palette
        before = canvas.copy()
        for y in range(height):
            for x in range(width):
                value = int(frame.pixels[y, x])
                if value != frame.transparent:
                    canvas[frame.top + y, frame.left + x] = (*colors[value], 255)
        shown.append(canvas.copy())
        box = np.s_[frame.top : frame.top + height, frame.left : frame.left + width]
        if frame.disposal == BACKGROUND:
            canvas[box] = 0
        elif frame.disposal == PREVIOUS:
            canvas[box] = before[box]
    return np.stack(shown)


# ---- PNG


def chunk(name: bytes, body: bytes) -> bytes:
    """Make a PNG chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    frames: Sequence[Frame],
    kind: int,
    depth: int,
    *,
    palette: Array | None = None,
    transparency: bytes | None = None,
    interlaced: bool = False,
    hidden: Array | None = None,
) -> bytes:
    """Make a PNG file, animated if there are several frames.

    Parameters
    ----------
    frames
        The first is the whole image.
    kind, depth
        Colour type, and bits of a sample.
    palette, transparency
        Chunks PLTE and tRNS.
    interlaced
        Whether pixels are stored in seven passes.
    hidden
        Pixels of a default image that is no part of the animation.
    """
    height, width = frames[0].pixels.shape[:2]
    parts = [b"\x89PNG\r\n\x1a\n"]
    parts.append(
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced))
    )
    animated = len(frames) > 1 or hidden is not None
    if animated:
        parts.append(chunk(b"acTL", struct.pack(">II", len(frames), 3)))
    if palette is not None:
        parts.append(chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    if transparency is not None:
        parts.append(chunk(b"tRNS", transparency))
    number = 0
    if hidden is not None:
        parts.append(chunk(b"IDAT", _deflated(hidden, kind, depth, interlaced=interlaced)))
    for index, frame in enumerate(frames):
        y, x = frame.pixels.shape[:2]
        if animated:
            body = struct.pack(
                ">IIIIIHHBB", number, x, y, frame.left, frame.top, 1, 10, frame.disposal,
                frame.over,
            )  # fmt: skip
            parts.append(chunk(b"fcTL", body))
            number += 1
        data = _deflated(frame.pixels, kind, depth, interlaced=interlaced)
        if index == 0 and hidden is None:
            # Several chunks, as encoders make them.
            parts += [chunk(b"IDAT", data[:7]), chunk(b"IDAT", data[7:])]
        else:
            parts.append(chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
    return b"".join([*parts, chunk(b"IEND", b"")])


def _deflated(pixels: Array, kind: int, depth: int, *, interlaced: bool) -> bytes:
    pixels = pixels.reshape(*pixels.shape[:2], SAMPLES[kind])
    passes = [pixels]
    if interlaced:
        steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
        passes = [pixels[y::dy, x::dx] for y, x, dy, dx in (*steps, (1, 0, 2, 1))]
    rows = [_row(row, depth) for part in passes if part.size for row in part]
    return zlib.compress(b"".join(b"\0" + row for row in rows))


def _row(row: Array, depth: int) -> bytes:
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
    return np.packbits(bits.reshape(-1)).tobytes()


# ---- BMP


def bmp(
    rows: bytes,
    shape: tuple[int, int],
    bits: int,
    *,
    header: int = 40,
    compression: int = 0,
    palette: Array | None = None,
    masks: Sequence[int] = (),
    downward: bool = False,
    resolution: tuple[int, int] = (2835, 3000),
) -> bytes:
    """Make a BMP file of rows as they are stored."""
    height, width = shape
    colors = b""
    if palette is not None:
        colors = b"".join(
            bytes((*color[::-1], *((0,) if header > 12 else ()))) for color in palette.tolist()
        )
    if header == 12:
        second = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        second = struct.pack(
            "<IiiHHIIiiII", header, width, -height if downward else height, 1, bits, compression,
            len(rows), *resolution, 0 if palette is None else len(palette), 0,
        )  # fmt: skip
        second = (second + b"".join(struct.pack("<I", mask) for mask in masks)).ljust(header, b"\0")
    offset = 14 + len(second) + len(colors)
    first = b"BM" + struct.pack("<IHHI", offset + len(rows), 0, 0, offset)
    return first + second + colors + rows


def bmp_rows(pixels: Array, bits: int) -> bytes:
    """Return rows of a BMP file, bottom first, padded: values of `bits` bits, or (Y, X, bytes)."""
    if bits < 8:
        packed = [_row(row, bits) for row in pixels[::-1]]
    else:
        packed = [row.tobytes() for row in pixels[::-1]]
    return b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in packed)


# ---- Targa


def tga(
    pixels: Array,
    kind: int,
    depth: int,
    *,
    packets: Sequence[tuple[int, bool]] = (),
    palette: Array | None = None,
    origin: int = 0,
    flags: int = 0,
    name: bytes = b"",
) -> bytes:
    """Make a Targa file.

    Parameters
    ----------
    pixels
        (Y, X, bytes of a pixel), in the order they are stored in.
    kind
        1 to 3, or 9 to 11 for run-length packets.
    packets
        Length of each packet in turn, and whether it is a run; a run stores its first pixel only.
    palette
        Colour map, (n, 3).
    origin
        Index of its first colour.
    flags
        Orientation and alpha bits.
    """
    height, width, size = pixels.shape
    colors = b"" if palette is None else palette[:, ::-1].astype(np.uint8).tobytes()
    count = 0 if palette is None else len(palette)
    header = struct.pack(
        "<BBBHHBHHHHBB", len(name), palette is not None, kind, origin, count, 24 if count else 0,
        0, 0, width, height, depth, flags,
    )  # fmt: skip
    flat = pixels.reshape(-1, size)
    if kind < 8:
        return header + name + colors + flat.tobytes()
    parts, at = [], 0
    for length, run in packets:
        part = flat[at : at + length]
        stored = part[:1] if run else part
        parts.append(bytes([length - 1 | (0x80 if run else 0)]) + stored.tobytes())
        at += length
    return header + name + colors + b"".join(parts)
