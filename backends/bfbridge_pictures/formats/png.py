"""PNG (PNG specification, 3rd edition) and animated PNG, whose frames are along T.

Like Bio-Formats' APNGReader, it returns the stored samples: palette indices with a lookup table,
grey values of fewer than 8 bits unscaled, alpha as a further sample.
"""

from __future__ import annotations

import logging
import struct
import zlib
from dataclasses import dataclass, field
from typing import Final

import imagecodecs
import numpy as np

from bfbridge.limits import check
from bfbridge_pictures.cursor import Cursor, DamagedPicture
from bfbridge_pictures.formats.frames import Box, Composer, Disposal, kept_planes
from bfbridge_pictures.picture import (
    Array,
    DecodedPlanes,
    Picture,
    PictureFile,
    check_decoded,
    describe,
    palette_table,
)

__all__ = ["open_picture"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _INDEXED, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_SAMPLES: Final = {_GREY: 1, _RGB: 3, _INDEXED: 1, _GREY_ALPHA: 2, _RGB_ALPHA: 4}
_DEPTHS: Final = {
    _GREY: (1, 2, 4, 8, 16), _INDEXED: (1, 2, 4, 8),
    _RGB: (8, 16), _GREY_ALPHA: (8, 16), _RGB_ALPHA: (8, 16),
}  # fmt: skip
# Deflate compresses at most 1032 bytes into one (zlib's technical details); plus a filter byte.
_MOST_DEFLATED: Final = 1033
_OPAQUE: Final = 255


@dataclass(frozen=True, slots=True)
class _PngHeader:
    """The chunk IHDR."""

    width: int
    height: int
    depth: int
    kind: int
    interlace: int

    @property
    def samples(self) -> int:
        """Samples of a pixel."""
        return _SAMPLES[self.kind]

    def packed_bytes(self, width: int, height: int) -> int:
        """Return the bytes of a frame before compression, without filter bytes."""
        return height * -(-width * self.samples * self.depth // 8)


@dataclass(slots=True)
class _PngFrame:
    """One image: its position on the canvas, and its data chunks.

    Attributes
    ----------
    box
        Left, top, width, height.
    disposal
        How its area changes after it was shown.
    over
        Whether it is blended with the pixels below.
    chunks
        Offset, length and CRC type of each data chunk, without sequence numbers.
    """

    box: tuple[int, int, int, int]
    disposal: Disposal = Disposal.NONE
    over: bool = False
    chunks: list[tuple[int, int, bytes]] = field(default_factory=list)


@dataclass
class _Structure:
    """The values of all chunks."""

    header: _PngHeader
    frames: list[_PngFrame]
    palette: bytes | None = None
    transparency: bytes | None = None
    plays: int | None = None


def open_picture(file: PictureFile) -> Picture:
    """Return a PNG file as a picture.

    Raises
    ------
    DamagedPicture
        It is truncated, or violates the format.
    """
    found = _Walk(file).structure()
    header = found.header
    shape = (header.height, header.width, header.samples)
    dtype = np.uint16 if header.depth == 16 else np.uint8
    frames = found.frames
    image = describe(file, shape, dtype, frames=len(frames), bits=header.depth, order=">")
    for number, frame in enumerate(frames):
        stored = sum(length for _, length, _ in frame.chunks)
        _, _, width, height = frame.box
        check_decoded(file, (height, width, header.samples), dtype().itemsize, stored)
        if header.packed_bytes(width, height) > stored * _MOST_DEFLATED:
            raise DamagedPicture(
                f"frame {number} of {width} x {height} pixels cannot be encoded in {stored:,} bytes"
            )
    table = None
    if header.kind == _INDEXED:
        if found.palette is None:
            raise DamagedPicture("its pixels are indices, and there is no palette (PLTE)")
        table = palette_table(found.palette)
    check_decoded(file, shape, dtype().itemsize, file.access.size)
    composer = _PngComposer(file, found, image.dtype)
    nbytes = header.height * header.width * header.samples * image.dtype.itemsize
    composer.planes = DecodedPlanes(
        image,
        {} if found.plays is None else {"Loop count": found.plays},
        table=table,
        plane=composer.plane if len(frames) > 1 else composer.only,
        keep=kept_planes(nbytes, file.options.max_workers) if len(frames) > 1 else 1,
    )
    return composer.planes


class _Walk:
    """Reads all chunks once."""

    def __init__(self, file: PictureFile) -> None:
        self._file = file
        self._cursor = Cursor(file.access, len(_SIGNATURE))
        self._default = _PngFrame((0, 0, 0, 0))
        self._animation: list[_PngFrame] = []
        self._declared = 0
        self._sequence = 0

    def structure(self) -> _Structure:
        """Read up to the chunk IEND."""
        length, name = self._cursor.unpack(">I4s")
        if name != b"IHDR" or length != 13:
            raise DamagedPicture("its first chunk is not a header (IHDR)")
        header = _header(self._body(length, name))
        found = _Structure(header, [])
        self._default.box = (0, 0, header.width, header.height)
        while True:
            length, name = self._cursor.unpack(">I4s")
            if name == b"IEND":
                self._body(length, name)
                break
            self._chunk(name, length, found)
        if not self._default.chunks:
            raise DamagedPicture("it contains no pixels (IDAT)")
        found.frames = self._finish()
        return found

    def _chunk(self, name: bytes, length: int, found: _Structure) -> None:
        """Process one chunk."""
        if name == b"IDAT":
            self._data(self._default, name, length)
        elif name == b"fdAT":
            self._count(self._file.bytes_at(self._cursor.position, 4))
            if not self._animation:
                raise DamagedPicture("a frame's data (fdAT) come before its control (fcTL)")
            self._data(self._animation[-1], name, length)
        elif name == b"fcTL":
            self._control(self._body(length, name), found.header)
        elif name == b"acTL":
            body = self._body(length, name)
            if length != 8 or self._default.chunks:
                raise DamagedPicture(
                    "its animation control (acTL) is wrong, or not before the pixels"
                )
            self._declared, found.plays = struct.unpack(">II", body)
        elif name == b"PLTE":
            found.palette = self._body(length, name)
        elif name == b"tRNS":
            found.transparency = self._body(length, name)
        else:
            self._cursor.skip(length + 4)

    def _body(self, length: int, name: bytes) -> bytes:
        """Return a chunk's content after comparing its checksum."""
        check(length, self._file.limits.tag_bytes, "length of a chunk", self._file.name)
        body = self._cursor.read(length)
        (crc,) = self._cursor.unpack(">I")
        if zlib.crc32(body, zlib.crc32(name)) != crc:
            raise DamagedPicture(f"the checksum of its chunk {name.decode('latin-1')!r} is wrong")
        return body

    def _data(self, frame: _PngFrame, name: bytes, length: int) -> None:
        frame.chunks.append((self._cursor.position, length, name))
        check(len(frame.chunks), self._file.limits.directories, "chunks", self._file.name)
        self._cursor.skip(length + 4)

    def _count(self, number: bytes) -> None:
        """Compare a sequence number with the expected one."""
        if number != struct.pack(">I", self._sequence):
            raise DamagedPicture("its frames are not in sequence, or one is missing")
        self._sequence += 1

    def _control(self, body: bytes, header: _PngHeader) -> None:
        """Start a frame."""
        if len(body) != 26:
            raise DamagedPicture(f"a frame control (fcTL) has {len(body)} bytes, not 26")
        self._count(body[:4])
        width, height, left, top, _, _, dispose, blend = struct.unpack(">IIIIHHBB", body[4:])
        inside = left + width <= header.width and top + height <= header.height
        if not (inside and width and height and dispose <= 2 and blend <= 1):
            raise DamagedPicture(
                f"frame {len(self._animation)} has {width} x {height} pixels at {left}, {top}, "
                f"disposal {dispose} and blending {blend}, which the image of {header.width} x "
                f"{header.height} does not allow"
            )
        frame = _PngFrame((left, top, width, height), Disposal(dispose), blend == 1)
        if not self._default.chunks:
            # The default image is the first frame as well.
            if self._animation or frame.box != self._default.box:
                raise DamagedPicture(
                    "the control of its first frame does not describe the whole image"
                )
            frame.chunks = self._default.chunks
        self._animation.append(frame)
        check(len(self._animation), self._file.limits.directories, "frames", self._file.name)

    def _finish(self) -> list[_PngFrame]:
        """Return the frames that are shown."""
        if not self._declared:
            return [self._default]
        if len(self._animation) != self._declared or not all(f.chunks for f in self._animation):
            raise DamagedPicture(
                f"it declares {self._declared} frames, and {len(self._animation)} are present"
            )
        return self._animation


def _header(body: bytes) -> _PngHeader:
    width, height, depth, kind, compression, filters, interlace = struct.unpack(">IIBBBBB", body)
    if depth not in _DEPTHS.get(kind, ()) or compression or filters or interlace > 1:
        raise DamagedPicture(
            f"its header has {depth} bits of colour type {kind}, compression {compression}, filter "
            f"{filters} and interlace {interlace}, which PNG does not have"
        )
    if not (0 < width < 1 << 31 and 0 < height < 1 << 31):
        raise DamagedPicture(f"it declares {width} x {height} pixels")
    return _PngHeader(width, height, depth, kind, interlace)


class _PngComposer(Composer):
    """The frames of one file (APNG specification, "Frame Control Chunk")."""

    def __init__(self, file: PictureFile, found: _Structure, dtype: np.dtype[np.generic]) -> None:
        super().__init__()
        self._file = file
        self._found = found
        self._dtype = dtype
        self._key = self._transparent_pixel()

    def only(self, level: int, number: int) -> Array:
        """Return the only frame of a picture that is not an animation."""
        del level
        return self._decode(self._found.frames[number])

    def _transparent_pixel(self) -> Array | None:
        """Return the samples that mean "transparent" in pixels without alpha, or None.

        Raises
        ------
        DamagedPicture
            The blended frames cannot be expressed in their pixel type.
        """
        header, stored = self._found.header, self._found.transparency
        if len(self._found.frames) == 1 or header.kind in (_GREY_ALPHA, _RGB_ALPHA):
            return None
        if header.kind == _INDEXED:
            return np.array([self._transparent_index(stored or b"")], self._dtype)
        if stored is None:
            return None
        if len(stored) != 2 * header.samples:
            raise DamagedPicture(f"its transparent colour (tRNS) has {len(stored)} bytes")
        return np.frombuffer(stored, ">u2").astype(self._dtype)

    def _transparent_index(self, alphas: bytes) -> int:
        """Return the palette index of empty areas: a transparent colour, or black."""
        frames = self._found.frames
        if any(frame.over for frame in frames[1:]) and set(alphas) - {0, _OPAQUE}:
            raise DamagedPicture(
                "its frames are blended to colours that are not in its palette; convert it to "
                "RGBA with other software"
            )
        palette = self._found.palette or b""
        colors = [palette[i : i + 3] for i in range(0, len(palette), 3)]
        if 0 in alphas:
            return alphas.index(0)
        if bytes(3) in colors:
            return colors.index(bytes(3))
        if any(frame.disposal is Disposal.BACKGROUND for frame in frames[:-1]):
            raise DamagedPicture(
                "its frames are cleared, but its palette has no transparent colour; convert it "
                "to RGBA with other software"
            )
        return 0

    def blank(self) -> Array:
        """Return transparent black; for pixels without alpha, their transparent colour, or 0."""
        header = self._found.header
        canvas = np.zeros((header.height, header.width, header.samples), self._dtype)
        if self._key is not None:
            canvas[...] = self._key
        return canvas

    def draw(self, number: int, canvas: Array) -> None:
        """Decode a frame and draw it."""
        frame = self._found.frames[number]
        pixels = self._decode(frame)
        target = canvas[self.box(number)]
        # The first frame is drawn on an empty canvas.
        if number == 0 or not frame.over:
            target[...] = pixels
        elif self._found.header.kind in (_GREY_ALPHA, _RGB_ALPHA):
            _blend(target, pixels)
        else:
            np.copyto(target, pixels, where=self._opaque(pixels))

    def _opaque(self, pixels: Array) -> Array:
        """Return which pixels without alpha hide the pixels below, shape (Y, X, 1)."""
        stored = self._found.transparency
        if self._found.header.kind == _INDEXED and stored is not None:
            table = np.full(256, _OPAQUE, np.uint8)
            table[: len(stored)] = np.frombuffer(stored[:256], np.uint8)
            shown: Array = table[pixels] == _OPAQUE
            return shown
        if self._key is None:
            return np.ones((*pixels.shape[:2], 1), np.bool_)
        differs: Array = (pixels != self._key).any(axis=2, keepdims=True)
        return differs

    def _decode(self, frame: _PngFrame) -> Array:
        """Return a frame's samples, which libpng decodes as a separate file.

        Indices are decoded as grey values, which libpng returns unchanged.
        """
        header = self._found.header
        _, _, width, height = frame.box
        kind = _GREY if header.kind == _INDEXED else header.kind
        ihdr = struct.pack(">IIBBBBB", width, height, header.depth, kind, 0, 0, header.interlace)
        data = b"".join(self._chunk(*chunk) for chunk in frame.chunks)
        alone = b"".join(
            (_SIGNATURE, _packed(b"IHDR", ihdr), _packed(b"IDAT", data), _packed(b"IEND", b""))
        )
        if header.interlace:
            logging.getLogger("imagecodecs").addFilter(_is_news)
        pixels: Array = imagecodecs.png_decode(alone)
        if header.depth < 8:
            # libpng scales grey values to 8 bits.
            pixels //= 255 // ((1 << header.depth) - 1)
        return pixels.reshape(height, width, header.samples)

    def _chunk(self, offset: int, length: int, name: bytes) -> bytes:
        body = self._file.bytes_at(offset, length + 4)
        data = body[:length]
        if zlib.crc32(data, zlib.crc32(name)) != int.from_bytes(body[length:], "big"):
            raise DamagedPicture(f"the checksum of its data at byte {offset:,} is wrong")
        return data[4:] if name == b"fdAT" else data

    def box(self, number: int) -> Box:
        """Rows and columns of a frame."""
        left, top, width, height = self._found.frames[number].box
        return slice(top, top + height), slice(left, left + width)

    def disposal(self, number: int) -> Disposal:
        """Return the stored disposal; before the first frame there is nothing to restore."""
        kind = self._found.frames[number].disposal
        return Disposal.BACKGROUND if number == 0 and kind is Disposal.PREVIOUS else kind

    def covers(self, number: int) -> bool:
        """Whether a frame replaces the whole canvas."""
        frame, header = self._found.frames[number], self._found.header
        whole = frame.box == (0, 0, header.width, header.height)
        return whole and not frame.over


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a message of imagecodecs reports more than an interlaced image."""
    return "Interlace handling" not in record.getMessage()


def _packed(name: bytes, body: bytes) -> bytes:
    """Return a chunk."""
    crc = zlib.crc32(body, zlib.crc32(name))
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)


def _blend(target: Array, pixels: Array) -> None:
    """Draw pixels with alpha over others (PNG specification, "Alpha channel processing")."""
    most = np.iinfo(pixels.dtype).max
    above = pixels[..., -1:].astype(np.int64)
    below = target[..., -1:].astype(np.int64)
    # Weights of both, times the square of the maximum.
    weight, rest = above * most, (most - above) * below
    total = weight + rest
    mixed = pixels[..., :-1] * weight + target[..., :-1] * rest
    shown = np.maximum(total, 1)
    target[..., :-1] = np.where(total > 0, (mixed + shown // 2) // shown, 0)
    target[..., -1:] = (total + most // 2) // most
