"""Targa (Truevision TGA File Format Specification 2.0), uncompressed or in run-length packets.

Like Bio-Formats' TargaReader, it returns true colour as three samples, which are not scaled if they
have 5 bits, and palette indices with a lookup table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from bfbridge_pictures.cursor import Cursor, DamagedPicture
from bfbridge_pictures.picture import (
    Array,
    DecodedPlanes,
    Picture,
    PictureFile,
    RawRows,
    band_of,
    check_decoded,
    describe,
)

__all__ = ["open_picture"]

_INDEXED, _COLOR, _GREY, _PACKED = 1, 2, 3, 8
# Supported bits per pixel of each type; alpha is omitted, as in Bio-Formats.
_DEPTHS: Final = {_INDEXED: (8,), _COLOR: (15, 16, 24, 32), _GREY: (8, 16)}
_HEADER: Final = "<BBBHHBHHHHBB"
_RUN: Final = 0x80
# Pixels that are decompressed at once.
_BATCH: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class _TgaHeader:
    """The 18 bytes at the beginning, and the position of the data."""

    kind: int
    packed: bool
    has_map: bool
    map_origin: int
    map_length: int
    map_bits: int
    width: int
    height: int
    depth: int
    orientation: int
    identification: bytes
    colors: bytes
    offset: int

    @property
    def pixel(self) -> int:
        """Bytes of a pixel."""
        return -(-self.depth // 8)


def open_picture(file: PictureFile) -> Picture:
    """Return a Targa file as a picture.

    Raises
    ------
    DamagedPicture
        It is truncated, or of an unsupported kind.
    """
    header = _read_header(file)
    samples = 3 if header.kind == _COLOR else 1
    shape = (header.height, header.width, samples)
    stride = header.width * header.pixel
    image = describe(
        file,
        shape,
        np.uint8,
        bits=5 if header.depth in (15, 16) and samples == 3 else 8,
        band=None if header.packed else band_of(stride),
    )
    text = header.identification.decode("latin-1").rstrip("\0 ")
    details = {
        "Color map present": header.has_map,
        "Image type": header.kind + _PACKED * header.packed,
        "Color map origin": header.map_origin,
        "Color map length": header.map_length,
        "Bits per color map entry": header.map_bits,
        "Image width": header.width,
        "Image height": header.height,
        "Bits per pixel": header.depth,
        "Identification": text,
        "Image orientation": header.orientation,
        "Pixel offset": header.offset,
    }
    table = _table(header) if header.kind == _INDEXED else None
    decode = _decoder(header)
    upward = not header.orientation & 2
    if not header.packed:
        end = header.offset + stride * header.height
        if end > file.access.size:
            raise DamagedPicture(
                f"the file is cut short: its pixels should end at byte {end:,}, and the file has "
                f"{file.access.size:,} bytes"
            )
        return RawRows(
            image, details, table, text or None,
            access=file.access, offset=header.offset, stride=stride, upward=upward, decode=decode,
        )  # fmt: skip
    stored = file.access.size - header.offset
    check_decoded(file, (header.height, stride), 1, stored)

    def plane(level: int, t: int) -> Array:
        del level, t
        data = file.bytes_at(header.offset, stored)
        pixels = _unpack(data, header.width * header.height, header.pixel)
        rows = decode(pixels.reshape(header.height, stride))
        return rows[::-1] if upward else rows

    return DecodedPlanes(image, details, table, text or None, plane=plane)


def _read_header(file: PictureFile) -> _TgaHeader:
    cursor = Cursor(file.access)
    (
        name_length, map_kind, kind, origin, length, map_bits, _, _, width, height, depth, flags,
    ) = cursor.unpack(_HEADER)  # fmt: skip
    base = kind & ~_PACKED
    if depth not in _DEPTHS.get(base, ()) or map_kind > 1 or flags & 0xC0:
        raise DamagedPicture(
            f"it has pixels of {depth} bits of type {kind}, with a colour map of type {map_kind} "
            f"and flags {flags:#04x}, which is not supported; convert it with other software"
        )
    if base == _INDEXED and (map_kind != 1 or map_bits not in (15, 16, 24, 32)):
        raise DamagedPicture(
            f"its pixels are indices into a colour map of {length} colours of {map_bits} bits, "
            "which is not supported"
        )
    identification = cursor.read(name_length)
    # Other types may also have a map, which does not affect their pixels.
    colors = cursor.read(length * -(-map_bits // 8)) if map_kind == 1 else b""
    return _TgaHeader(
        base, kind != base, map_kind == 1, origin, length, map_bits, width, height, depth,
        flags >> 4 & 3, identification, colors, cursor.position,
    )  # fmt: skip


def _table(header: _TgaHeader) -> Array:
    """Return the colours, (3, values); colours before the first stored one are black."""
    entry = -(-header.map_bits // 8)
    stored = np.frombuffer(header.colors, np.uint8).reshape(-1, entry)
    rows = _five_bits(stored) if entry == 2 else stored[:, 2::-1]
    table = np.zeros((3, header.map_origin + header.map_length), np.uint8)
    table[:, header.map_origin :] = rows.T
    return table


def _decoder(header: _TgaHeader) -> Callable[[Array], Array]:
    """Return the function that converts rows of stored pixels to samples."""
    size = header.pixel
    mirrored = bool(header.orientation & 1)

    def decode(rows: Array) -> Array:
        stored = rows.reshape(len(rows), header.width, size)
        if header.kind != _COLOR:
            pixels = stored[:, :, :1]
        else:
            pixels = _five_bits(stored) if size == 2 else stored[:, :, 2::-1]
        return pixels[:, ::-1] if mirrored else pixels

    return decode


def _five_bits(stored: Array) -> Array:
    """Return red, green and blue of 5 bits each, from two bytes along the last axis."""
    low, high = stored[..., 0], stored[..., 1]
    return np.stack((high >> 2 & 31, (high & 3) << 3 | low >> 5, low & 31), axis=-1)


def _unpack(data: bytes, wanted: int, size: int) -> Array:
    """Return `wanted` pixels of `size` bytes from run-length packets.

    Raises
    ------
    DamagedPicture
        The packets contain fewer pixels.
    """
    stored = np.frombuffer(data, np.uint8)
    pixels = np.empty((wanted, size), np.uint8)
    at = found = 0
    while found < wanted:
        # Position of each packet's first pixel, its number of pixels, and the step between them.
        starts, counts, steps = [], [], []
        first = found
        while found < wanted and found - first < _BATCH and at < len(data):
            run = data[at] & _RUN
            count = min((data[at] & 0x7F) + 1, wanted - found)
            starts.append(at + 1)
            counts.append(count)
            steps.append(0 if run else size)
            at += 1 + (1 if run else count) * size
            found += count
        if at > len(data) or found == first:
            raise DamagedPicture(
                f"the file is cut short: {found:,} of {wanted:,} pixels are present"
            )
        number = np.arange(found - first) - np.repeat(np.cumsum(counts) - counts, counts)
        places = np.repeat(starts, counts) + number * np.repeat(steps, counts)
        for offset in range(size):
            pixels[first:found, offset] = stored[places + offset]
    return pixels
