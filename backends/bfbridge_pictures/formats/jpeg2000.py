"""JPEG 2000 (ITU-T T.800): bare code streams and JP2 files, with their resolutions as levels.

Like Bio-Formats' JPEG2000Reader, it returns components as samples, palette indices with a lookup
table, and a level for each resolution, with sizes rounded down; if a size is rounded up in the
file, the last row or column is omitted. OpenJPEG decodes the pixels: whole images through
imagecodecs, lower resolutions through Pillow, which can request them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import imagecodecs
import numpy as np

from bfbridge.errors import Unsupported
from bfbridge_pictures.cursor import Cursor, DamagedPicture
from bfbridge_pictures.picture import (
    Array,
    DecodedPlanes,
    Picture,
    PictureFile,
    check_decoded,
    describe,
)

__all__ = ["open_picture"]

_SOC, _SIZ, _COD, _COM, _SOT = 0xFF4F, 0xFF51, 0xFF52, 0xFF64, 0xFF90
_BARE, _END = b"\xff\x4f", b"\xff\xd9"
_SYCC: Final = 18
_JPX: Final = b"jpx "
_MOST_BOXES: Final = 10_000
_MOST_PARTS: Final = 1 << 20
# OpenJPEG stores every value as an int32.
_DECODED_VALUE: Final = 4
_MODES: Final = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(slots=True)
class _CodeStream:
    """The main header of a code stream.

    Attributes
    ----------
    offset, length
        Position of the stream in the file.
    width, height, components
        Size and components of the image.
    tiles
        Number of tiles.
    depth, signed
        Depth and sign of the first component.
    plain
        Whether all components have the same depth and size.
    shifted
        Whether the image does not start at the origin of its grid.
    resolutions
        Number of lower resolutions.
    comments
        As stored.
    """

    offset: int
    length: int = 0
    width: int = 0
    height: int = 0
    components: int = 0
    tiles: int = 0
    depth: int = 0
    signed: bool = False
    plain: bool = True
    shifted: bool = False
    resolutions: int = 0
    comments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Boxes:
    """The boxes around a code stream.

    Attributes
    ----------
    table
        Colours of the palette, (3, values), and the component that contains the indices.
    order
        For each returned sample, its component.
    sycc
        Whether components are luma and chroma.
    """

    table: Array | None = None
    order: tuple[int, ...] | None = None
    sycc: bool = False
    stream: tuple[int, int] | None = None
    brand: bytes = b""


def open_picture(file: PictureFile) -> Picture:
    """Return a JPEG 2000 file as a picture.

    Raises
    ------
    Unsupported
        It is a JPX file, or has resolutions that OpenJPEG cannot decode separately.
    DamagedPicture
        It is truncated, or violates the format.
    """
    cursor = Cursor(file.access)
    boxes = _Boxes(stream=(0, file.access.size))
    if cursor.peek(2) != _BARE:
        boxes = _read_boxes(file)
    if boxes.stream is None:
        raise DamagedPicture("it contains no code stream")
    stream = _read_stream(file, *boxes.stream)
    if not stream.plain and (stream.components != 3 or boxes.table is not None):
        raise DamagedPicture(
            "its components differ in size or depth, which is not supported; convert it with other "
            "software"
        )
    dtype = _dtype(stream)
    shape = (stream.height, stream.width, stream.components)
    check_decoded(file, shape, _DECODED_VALUE, stream.length)
    sizes = _level_sizes(stream) if _can_reduce(stream) else ()
    image = describe(file, shape, dtype, bits=8 * dtype.itemsize, order=">", sizes=sizes)
    decoder = _Jpeg2000Decoder(file, stream, boxes)
    table = boxes.table if stream.components == 1 else None
    return DecodedPlanes(
        image, _comments(stream.comments), table, plane=decoder.plane, keep=len(image.levels)
    )


def _read_boxes(file: PictureFile) -> _Boxes:
    """Read the boxes (annex I) up to the first code stream."""
    cursor = Cursor(file.access)
    found = _Boxes()
    end = cursor.size
    inner_end = 0
    for _ in range(_MOST_BOXES):
        if cursor.position >= end:
            break
        start = cursor.position
        length, kind = cursor.unpack(">I4s")
        if length == 1:
            (length,) = cursor.unpack(">Q")
        stop = end if length == 0 else start + length
        if stop > end or stop < cursor.position:
            raise DamagedPicture(
                f"the file is cut short: its box {kind.decode('latin-1')!r} should end at byte "
                f"{stop:,}, and the file has {end:,} bytes"
            )
        if kind == b"jp2c":
            found.stream = (cursor.position, stop - cursor.position)
            break
        if kind == b"jp2h":
            # Its inner boxes are read like outer ones.
            inner_end = stop
            continue
        if start < inner_end or kind == b"ftyp":
            _read_box(kind, cursor.read(min(stop - cursor.position, 1 << 20)), found)
        cursor.position = stop
    if found.brand == _JPX:
        raise Unsupported("a JPX file, which may contain several images")
    return found


def _read_box(kind: bytes, body: bytes, found: _Boxes) -> None:
    """Read one box of the header."""
    try:
        if kind == b"ftyp":
            found.brand = body[:4]
        elif kind == b"colr" and body[0] == 1:
            found.sycc = struct.unpack_from(">I", body, 3)[0] == _SYCC
        elif kind == b"pclr":
            found.table = _palette(body)
        elif kind == b"cdef":
            found.order = _channel_order(body)
    except (struct.error, IndexError, ValueError) as error:
        raise DamagedPicture(f"its box {kind.decode('latin-1')!r} is damaged") from error


def _palette(body: bytes) -> Array:
    """Return the colours of a palette box (annex I.5.3.4); grey for one column."""
    entries, columns = struct.unpack_from(">HB", body)
    depths = [(depth & 0x7F) + 1 for depth in body[3 : 3 + columns]]
    wide = np.dtype([(str(i), ">u2" if d > 8 else "u1") for i, d in enumerate(depths)])
    stored = np.frombuffer(body, wide, entries, 3 + columns)
    kind = np.uint8 if max(depths) <= 8 else np.uint16
    rows = [stored[str(i)].astype(kind) for i in range(columns)]
    return np.stack(rows[:3] if columns >= 3 else rows[:1] * 3)


def _channel_order(body: bytes) -> tuple[int, ...] | None:
    """Return the components in the order of their colours (annex I.5.3.6)."""
    (count,) = struct.unpack_from(">H", body)
    entries = [struct.unpack_from(">HHH", body, 2 + 6 * i) for i in range(count)]
    order = list(range(count))
    for channel, kind, place in entries:
        if kind == 0 and 0 < place <= count and channel < count:
            order[place - 1] = channel
    return tuple(order) if sorted(order) == list(range(count)) else None


def _read_stream(file: PictureFile, offset: int, length: int) -> _CodeStream:
    """Read the main header (annex A), and the tile-parts up to the end."""
    cursor = Cursor(file.access, offset)
    found = _CodeStream(offset)
    if cursor.unpack(">H") != (_SOC,):
        raise DamagedPicture("its code stream has no start marker")
    for _ in range(_MOST_BOXES):
        start = cursor.position
        marker, size = cursor.unpack(">HH")
        if marker == _SOT:
            cursor.position = start
            if not found.width:
                raise DamagedPicture("its code stream has no sizes (SIZ)")
            found.length = _end_of_parts(cursor, offset + length, found.tiles) - offset
            return found
        body = Cursor(file.access, cursor.position)
        if marker == _SIZ:
            _read_sizes(body, size, found)
        elif marker == _COD:
            found.resolutions = body.read(6)[5]
        elif marker == _COM and size > 4:
            found.comments.append(body.read(size - 2)[2:].decode("latin-1"))
        if size < 2:
            raise DamagedPicture(f"a segment of its code stream has a length of {size} bytes")
        cursor.skip(size - 2)
    raise DamagedPicture("its code stream has no end of segments")


def _read_sizes(cursor: Cursor, size: int, found: _CodeStream) -> None:
    """Read the segment SIZ (annex A.5.1)."""
    _, right, bottom, left, top = cursor.unpack(">HIIII")
    tile_width, tile_height, tile_left, tile_top = cursor.unpack(">IIII")
    (found.components,) = cursor.unpack(">H")
    if right <= left or bottom <= top or not found.components:
        raise DamagedPicture(f"it declares {right - left} x {bottom - top} pixels")
    if size < 38 + 3 * found.components:
        raise DamagedPicture("its segment of sizes (SIZ) is too short for its components")
    if not tile_width or not tile_height:
        raise DamagedPicture("its tiles have no size")
    found.tiles = -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height)
    found.width, found.height = right - left, bottom - top
    parts = [cursor.unpack(">BBB") for _ in range(found.components)]
    depth, across, down = parts[0]
    found.depth, found.signed = (depth & 0x7F) + 1, bool(depth & 0x80)
    if not all(part[1] and part[2] for part in parts):
        raise DamagedPicture("a component's sampling is 0")
    found.plain = (across, down) == (1, 1) and len(set(parts)) == 1
    found.shifted = bool(left or top)


def _end_of_parts(cursor: Cursor, end: int, tiles: int) -> int:
    """Read the tile-parts, and return the end of the code stream."""
    # Remaining parts of each tile found; one if the number is not stored.
    missing: dict[int, int] = {}
    for _ in range(_MOST_PARTS):
        start = cursor.position
        mark = cursor.peek(2) if start < end else b""
        if mark == _END:
            return start + 2
        if len(mark) < 2:
            # Some writers omit the end marker.
            if len(missing) == tiles and not any(missing.values()):
                return start
            raise DamagedPicture("the file is cut short: its end marker is missing")
        marker, size, tile, length, _, count = cursor.unpack(">HHHIBB")
        if marker != _SOT or size != 10:
            raise DamagedPicture(f"a part of its code stream should start at byte {start:,}")
        missing[tile] = max(missing.get(tile, count or 1) - bool(count), 0)
        if length == 0:
            # Up to the end of the code stream.
            if Cursor(cursor.access, end - 2).peek(2) != _END:
                raise DamagedPicture("the file is cut short: its end marker is missing")
            return end
        if length < 12 or start + length > end:
            raise DamagedPicture(
                f"the file is cut short: a part of its code stream should end at byte "
                f"{start + length:,}, and it ends at byte {end:,}"
            )
        cursor.position = start + length
    raise DamagedPicture(f"its code stream has more than {_MOST_PARTS:,} parts")


def _dtype(stream: _CodeStream) -> np.dtype[Any]:
    """Return the type of a depth, as in JPEG2000MetadataParser.convertPixelType."""
    if stream.depth > 32:
        raise DamagedPicture(f"its components have {stream.depth} bits, which is not supported")
    bits = 8 if stream.depth <= 8 else 16 if stream.depth <= 16 else 32
    return np.dtype(f"{'int' if stream.signed else 'uint'}{bits}")


def _can_reduce(stream: _CodeStream) -> bool:
    """Whether Pillow can decode lower resolutions without losing bits."""
    if not stream.plain or stream.shifted:
        return False
    if stream.components == 1:
        return stream.depth <= 16
    return stream.components in _MODES and stream.depth <= 8 and not stream.signed


def _level_sizes(stream: _CodeStream) -> tuple[tuple[int, int], ...]:
    """Return rows and columns of the lower resolutions, as in JPEG2000Reader.initFile."""
    return tuple(
        (max(stream.height >> level, 1), max(stream.width >> level, 1))
        for level in range(1, min(stream.resolutions, 32) + 1)
    )


def _comments(texts: Sequence[str]) -> dict[str, Any]:
    """Return comments as in Bio-Formats: "name=value", or numbered if there are several."""
    found: dict[str, Any] = {}
    others = [text for text in texts if "=" not in text]
    for text in texts:
        if "=" in text:
            name, _, value = text.partition("=")
            found[name] = value
    for number, text in enumerate(others, 1):
        found["Comment" if len(others) == 1 else f"Comment #{number}"] = text
    return found


class _Jpeg2000Decoder:
    """Decodes the code stream alone, so that palettes and colour profiles do not change values."""

    def __init__(self, file: PictureFile, stream: _CodeStream, boxes: _Boxes) -> None:
        self._file = file
        self._stream = stream
        self._boxes = boxes

    def plane(self, level: int, t: int) -> Array:
        """Return one resolution, shape (Y, X, samples)."""
        del t
        stream = self._stream
        data = self._file.bytes_at(stream.offset, stream.length)
        if not data.endswith(_END):
            data += _END
        if self._boxes.sycc and stream.plain and stream.components == 3:
            data = _as_sycc(stream, data)
        if level:
            pixels = self._reduced(data, level)
        else:
            threads = self._file.options.max_workers
            pixels = imagecodecs.jpeg2k_decode(data, numthreads=threads)
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        order = self._boxes.order
        if order is None or len(order) != stream.components or list(order) == sorted(order):
            return pixels
        return pixels[..., list(order)]

    def _reduced(self, data: bytes, level: int) -> Array:
        """Decode a lower resolution, and crop it to the declared size."""
        stream = self._stream
        wide = stream.components == 1 and stream.depth > 8
        mode = "I;16" if wide else _MODES[stream.components]
        # The image's edges on the grid of this resolution.
        size = tuple(-(-n >> level) for n in (stream.width, stream.height))
        pixels = decode_reduced(data, mode, size, level)
        shift = (16 if wide else 8) - stream.depth
        pixels = pixels >> shift
        if stream.signed:
            pixels = pixels.astype(np.int32) - (1 << (stream.depth - 1))
        height, width = max(stream.height >> level, 1), max(stream.width >> level, 1)
        return pixels[:height, :width].astype(_dtype(stream))


def decode_reduced(data: bytes, mode: str, size: Any, level: int) -> Array:
    """Decode a lower resolution of a code stream with Pillow's OpenJPEG decoder."""
    from PIL import ImageFile

    class Reduced(ImageFile.ImageFile):
        """Pillow's own class rounds sizes in a way that fails for some images."""

        format = "JPEG2000"

        def _open(self) -> None:
            self._mode = mode
            self._size = size
            kind = "j2k" if data.startswith(_BARE) else "jp2"
            tile: Any = ("jpeg2k", (0, 0, *size), 0, (kind, level, 0, -1, len(data)))
            self.tile = [tile]

    image = Reduced(io.BytesIO(data))
    image.load()
    return np.asarray(image)


def _as_sycc(stream: _CodeStream, data: bytes) -> bytes:
    """Wrap a code stream of luma and chroma in a JP2 file, so that OpenJPEG converts it."""
    depth = stream.depth - 1 | (0x80 if stream.signed else 0)
    ihdr = struct.pack(">IIHBBBB", stream.height, stream.width, stream.components, depth, 7, 0, 0)
    colr = struct.pack(">BBBI", 1, 0, 0, _SYCC)
    return b"".join(
        (
            _box(b"jP  ", b"\r\n\x87\n"),
            _box(b"ftyp", b"jp2 \0\0\0\0jp2 "),
            _box(b"jp2h", _box(b"ihdr", ihdr) + _box(b"colr", colr)),
            _box(b"jp2c", data),
        )
    )


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body
