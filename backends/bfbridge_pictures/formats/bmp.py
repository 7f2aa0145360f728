"""BMP (Microsoft, "Bitmap Storage"): all header versions; uncompressed, with masks, or run lengths.

The samples are those of Bio-Formats' BMPReader: palette indices, and 32 bits as four samples. This
reader also has the lookup table of 1 and 4 bits, and 16 bits as RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bfbridge.backend import PixelSize, Quantity
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
    palette_table,
)

__all__ = ["open_picture"]

_CORE: Final = 12
_HEADERS: Final = (_CORE, 16, 40, 52, 56, 64, 108, 124)
_RAW, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 0, 1, 2, 3, 6
_COMPRESSIONS: Final = {
    _RAW: "None",
    _RLE8: "8 bit run length encoding",
    _RLE4: "4 bit run length encoding",
    _MASKS: "RGB bitmap with mask",
    _ALPHA_MASKS: "RGB bitmap with mask",
}
_RLE_BITS: Final = {_RLE8: 8, _RLE4: 4}
# Red, green, blue if no masks are stored.
_DEFAULT_MASKS: Final = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}


@dataclass(frozen=True, slots=True)
class _BmpHeader:
    """The values of the two headers."""

    file_size: int
    offset: int
    width: int
    height: int
    upward: bool
    planes: int
    bits: int
    compression: int
    resolution: tuple[int, int]
    masks: tuple[int, int, int]
    palette: bytes
    entry: int

    @property
    def indexed(self) -> bool:
        """Whether pixels are indices."""
        return self.bits <= 8

    @property
    def stride(self) -> int:
        """Bytes of a row with its padding."""
        return (self.width * self.bits + 31) // 32 * 4


def open_picture(file: PictureFile) -> Picture:
    """Return a BMP file as a picture.

    Raises
    ------
    DamagedPicture
        It is truncated, or of an unsupported kind.
    """
    header = _read_header(file)
    samples = {16: 3, 24: 3, 32: 4}.get(header.bits, 1)
    shape = (header.height, header.width, samples)
    raw = header.compression not in _RLE_BITS
    image = describe(
        file,
        shape,
        np.uint8,
        pixel_size=_pixel_size(header.resolution),
        band=band_of(header.stride) if raw else None,
    )
    table = None
    if header.indexed:
        table = palette_table(header.palette, entry=header.entry, order="BGR")
    details: dict[str, Any] = {
        "Magic identifier": "BM",
        "File size (in bytes)": header.file_size,
        "Color planes": header.planes,
        "Indexed color": header.indexed,
        "Image width": header.width,
        "Image height": header.height,
        "Bits per pixel": header.bits if samples == 1 else 8,
        "Compression type": _COMPRESSIONS[header.compression],
        "X resolution": header.resolution[0],
        "Y resolution": header.resolution[1],
    }
    if not raw:
        return DecodedPlanes(image, details, table, plane=_run_lengths(file, header))
    # Some writers omit the padding of the last row.
    padding = header.stride - -(-header.width * header.bits // 8)
    end = header.offset + header.stride * header.height - padding
    if end > file.access.size:
        raise DamagedPicture(
            f"the file is cut short: its pixels should end at byte {end:,}, and the file has "
            f"{file.access.size:,} bytes"
        )
    return RawRows(
        image, details, table,
        access=file.access, offset=header.offset, stride=header.stride, upward=header.upward,
        decode=_decoder(header),
    )  # fmt: skip


def _read_header(file: PictureFile) -> _BmpHeader:
    cursor = Cursor(file.access, 2)
    file_size, _, offset, size = cursor.unpack("<IIII")
    if size not in _HEADERS:
        raise DamagedPicture(f"its header has {size} bytes, which no version of BMP has")
    if size == _CORE:
        width, height, planes, bits = cursor.unpack("<HHHH")
        compression, across, down, used = 0, 0, 0, 0
    else:
        width, height, planes, bits = cursor.unpack("<iiHH")
        compression, across, down, used = 0, 0, 0, 0
        if size > 16:
            compression, _, across, down, used, _ = cursor.unpack("<IIiiII")
    _check_kind(size, bits, compression)
    masks = _DEFAULT_MASKS.get(bits, (0, 0, 0))
    if compression in (_MASKS, _ALPHA_MASKS):
        # They follow the header of 40 bytes; in later versions they are part of the header.
        masks = cursor.unpack("<III")
    elif compression == _RAW and size >= 52:
        cursor.skip(12)
    cursor.position = max(14 + size, cursor.position)
    entry = 3 if size == _CORE else 4
    palette = b""
    if bits <= 8:
        count = min(used or 1 << bits, 1 << bits)
        palette = cursor.read(min(count * entry, max(offset - cursor.position, 0)))
    if width < 1 or height == 0:
        raise DamagedPicture(f"it declares {width} x {height} pixels")
    return _BmpHeader(
        file_size, offset, width, abs(height), height > 0, planes, bits, compression,
        (across, down), masks, palette, entry,
    )  # fmt: skip


def _check_kind(size: int, bits: int, compression: int) -> None:
    """Refuse unknown combinations, and those with another meaning in OS/2."""
    kinds = {
        _RAW: (1, 4, 8, 16, 24, 32),
        _RLE8: (8,),
        _RLE4: (4,),
        _MASKS: (16, 32) if size != 64 else (),
        _ALPHA_MASKS: (16, 32),
    }
    if bits not in kinds.get(compression, ()):
        raise DamagedPicture(
            f"it has {bits} bits per pixel with compression {compression}, which is not supported; "
            "convert it with other software"
        )


def _pixel_size(resolution: tuple[int, int]) -> PixelSize:
    """Return pixel sizes from pixels per metre."""
    x, y = (Quantity(1e6 / n, "µm") if n > 0 else None for n in resolution)
    return PixelSize(x, y)


def _decoder(header: _BmpHeader) -> Callable[[Array], Array]:
    """Return the function that converts stored rows to pixels."""
    width = header.width
    if header.bits < 8:
        most = (1 << header.bits) - 1
        shifts = np.arange(8 - header.bits, -1, -header.bits, dtype=np.uint8)

        def unpack(rows: Array) -> Array:
            parts = (rows[:, :, np.newaxis] >> shifts) & most
            return parts.reshape(len(rows), -1)[:, :width, np.newaxis]

        return unpack
    if header.bits == 8:
        return lambda rows: rows[:, :width, np.newaxis]
    if header.bits == 24:
        return lambda rows: rows[:, : 3 * width].reshape(len(rows), width, 3)[..., ::-1]
    if header.bits == 32:
        order = _byte_order(header.masks)
        return lambda rows: rows.reshape(len(rows), width, 4)[..., order]
    return _from_masks(header)


def _byte_order(masks: tuple[int, int, int]) -> list[int]:
    """Return which bytes of a pixel are red, green, blue, and which one remains."""
    places = {0xFF << 8 * place: place for place in range(4)}
    found = [places.get(mask, -1) for mask in masks]
    if -1 in found or len(set(found)) != 3:
        raise DamagedPicture("its colours do not have 8 bits each; convert it with other software")
    return [*found, *({0, 1, 2, 3} - set(found))]


def _from_masks(header: _BmpHeader) -> Callable[[Array], Array]:
    """Return the function that converts 16-bit pixels to RGB of 8 bits."""
    parts = []
    for mask in header.masks:
        shift = (mask & -mask).bit_length() - 1 if mask else 0
        most = mask >> shift
        # Consecutive bits; a colour has at most 256 values.
        if not 0 < most < 256 or most & (most + 1):
            raise DamagedPicture(
                "its colour masks are not supported; convert it with other software"
            )
        values = np.arange(most + 1)
        parts.append((mask, shift, ((values * 255 + most // 2) // most).astype(np.uint8)))

    def unpack(rows: Array) -> Array:
        pixels = rows.view("<u2")[:, : header.width]
        colors = [scale[(pixels & mask) >> shift] for mask, shift, scale in parts]
        return np.stack(colors, axis=-1)

    return unpack


def _run_lengths(file: PictureFile, header: _BmpHeader) -> Callable[[int, int], Array]:
    """Return the function that decodes a run-length image, whose rows go upward."""
    if not header.upward:
        raise DamagedPicture("its rows go downward and are compressed, which BMP does not allow")
    stored = file.access.size - header.offset
    check_decoded(file, (header.height, header.width), 1, stored)

    def plane(level: int, t: int) -> Array:
        del level, t
        data = file.bytes_at(header.offset, stored)
        # Skipped pixels have index 0.
        canvas = np.zeros((header.height, header.width), np.uint8)
        for x, y, values in _runs(data, header):
            if x + len(values) > header.width or y >= header.height:
                raise DamagedPicture(
                    f"its run lengths leave the image at x {x}, y {y} from the bottom"
                )
            canvas[y, x : x + len(values)] = values
        return canvas[::-1, :, np.newaxis]

    return plane


def _runs(data: bytes, header: _BmpHeader) -> Iterator[tuple[int, int, Array]]:
    """Yield column, row from the bottom, and indices of each run.

    Raises
    ------
    DamagedPicture
        The data ends before the end marker.
    """
    bits = _RLE_BITS[header.compression]
    x = y = at = 0
    while at + 2 <= len(data):
        count, value = data[at], data[at + 1]
        at += 2
        if count:
            yield x, y, _indices(bytes([value]) * count, bits, count)
            x += count
        elif value == 0:
            x, y = 0, y + 1
            if y >= header.height:
                return
        elif value == 1:
            return
        elif value == 2:
            if at + 2 > len(data):
                break
            x, y = x + data[at], y + data[at + 1]
            at += 2
        else:
            length = -(-value * bits // 8)
            yield x, y, _indices(data[at : at + length], bits, value)
            x += value
            at += length + length % 2
    raise DamagedPicture("the file is cut short: its run lengths have no end marker")


def _indices(stored: bytes, bits: int, count: int) -> Array:
    found = np.frombuffer(stored, np.uint8)
    if bits == 4:
        found = np.stack((found >> 4, found & 15), axis=-1).reshape(-1)
    if len(found) < count:
        raise DamagedPicture("the file is cut short: a run of pixels is incomplete")
    return found[:count]
