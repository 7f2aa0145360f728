"""JPEG streams of whole levels: their headers, and how restart intervals divide their pixels.

ITU-T T.81. A level is one stream. A restart marker follows every so many MCUs (minimum coded units:
blocks of 8 x 8 pixels, or of 16 x 8 and 16 x 16 with subsampled colour), so that decoding can begin
at each of them. A number of whole intervals that form a rectangle becomes a stream of its own: the
tables of the level, its frame header with another size, and the intervals with restart markers that
are numbered from 0 again.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from bfbridge.errors import UnreadableFile
from bfbridge.tiff.jpeg_segments import stated_rgb

__all__ = ["EOI", "HEADER_BYTES", "LARGEST_SIDE", "RST0", "Grid", "JpegHeader", "parse_header"]

HEADER_BYTES: Final = 1 << 17
"""Longest header that is read."""
LARGEST_SIDE: Final = 65500
"""Largest width and height that libjpeg decodes."""
RST0: Final = 0xD0
"""First of the eight restart markers."""
EOI: Final = 0xD9
"""End of the image."""
_BLOCK: Final = 8
_SOI, _SOS, _DRI, _APP0, _APP14 = 0xD8, 0xDA, 0xDD, 0xE0, 0xEE
# Frames of Huffman-coded, sequential images; those of all other processes.
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_OTHER_FRAMES: Final = frozenset({*range(0xC2, 0xD0)} - {0xC4, 0xC8, 0xCC})


class Grid(NamedTuple):
    """Restart intervals of a level: `down` x `across` of them, of `height` x `width` pixels each.

    Intervals are numbered row by row. Those at the right and lower edge may contain fewer pixels.
    """

    down: int
    across: int
    height: int
    width: int


class JpegHeader(NamedTuple):
    """Everything before the entropy-coded data of a stream.

    Attributes
    ----------
    data
        The bytes, up to the first coded one.
    size_at
        Position of the height in `data`, which the width follows, 16 bits each.
    height, width
        The size as stored; 0 for sides above 65535.
    components
        Samples per pixel.
    mcu_height, mcu_width
        Pixels of an MCU.
    interval
        MCUs between two restart markers; 0 without any.
    is_sequential
        Whether it is Huffman-coded, of 8 bits, with all components in one scan.
    is_rgb
        Whether the stream states that its components are red, green and blue, or luma and chroma;
        None if it does not.
    """

    data: bytes
    size_at: int
    height: int
    width: int
    components: int
    mcu_height: int
    mcu_width: int
    interval: int
    is_sequential: bool
    is_rgb: bool | None

    def resized(self, height: int, width: int) -> bytes:
        """Return the header for an image of another size."""
        at = self.size_at
        return self.data[:at] + struct.pack(">HH", height, width) + self.data[at + 4 :]

    def grid(self, height: int, width: int) -> Grid | None:
        """Return how the restart intervals divide a level of this size.

        None if they do not form rectangles that can be decoded.
        """
        if not self.interval or not self.is_sequential:
            return None
        across = -(-width // self.mcu_width)
        down = -(-height // self.mcu_height)
        if across % self.interval == 0:
            grid = Grid(
                down, across // self.interval, self.mcu_height, self.interval * self.mcu_width
            )
        elif self.interval % across == 0:
            rows = min(self.interval // across, down)
            grid = Grid(-(-down // rows), 1, rows * self.mcu_height, width)
        else:
            return None
        sides = min(grid.height, height), min(grid.width, width)
        return grid if max(sides) <= LARGEST_SIDE else None


def parse_header(stream: bytes, where: str, *, is_all: bool) -> JpegHeader | None:
    """Parse the header at the beginning of a stream; return None if it needs more bytes.

    Parameters
    ----------
    stream
        The first bytes of the stream.
    where
        File and position, for messages.
    is_all
        Whether the stream has no more bytes.

    Raises
    ------
    UnreadableFile
        It is not a JPEG stream, or is damaged.
    """
    if stream[:2] != bytes((0xFF, _SOI)):
        raise UnreadableFile(f"{where} is not a JPEG stream; the file is damaged.")
    position = 2
    frame: tuple[int, int] | None = None
    interval = 0
    jfif, adobe = False, None
    while position + 4 <= len(stream):
        if stream[position] != 0xFF:
            raise UnreadableFile(
                f"{where}: there is no marker at byte {position} of its JPEG header; the file is "
                "damaged."
            )
        marker = stream[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        body = stream[position + 4 : position + 2 + length]
        if length < 2 or (position + 2 + length > len(stream)):
            break
        if marker == _DRI and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        elif marker == _APP0 and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == _APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker in _SEQUENTIAL or marker in _OTHER_FRAMES:
            frame = position, marker
        elif marker == _SOS:
            return _header(
                stream[: position + 2 + length], frame, body, interval, (jfif, adobe), where
            )
        position += 2 + length
    if not is_all:
        return None
    raise UnreadableFile(f"{where}: its JPEG header is cut off; the file is damaged.")


def _header(
    data: bytes,
    frame: tuple[int, int] | None,
    scan: bytes,
    interval: int,
    color: tuple[bool, int | None],
    where: str,
) -> JpegHeader:
    """Return the record of a header.

    Parameters
    ----------
    data
        The header.
    frame
        Position and marker of the frame header.
    scan
        Header of the first scan.
    interval
        MCUs between two restart markers.
    color
        Whether there is a JFIF marker, and the colour transform of an Adobe marker.
    where
        File and position, for messages.
    """
    broken = UnreadableFile(f"{where}: its JPEG frame header is damaged.")
    if frame is None:
        raise broken
    position, marker = frame
    body = data[position + 4 :]
    if len(body) < 6:
        raise broken
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    parts = body[6 : 6 + 3 * components]
    factors = [(factor >> 4, factor & 15) for factor in parts[1::3]]
    if not components or len(factors) != components or min(map(min, factors)) < 1:
        raise broken
    # The single component of a scan is stored block by block, whatever its factors (A.2.2).
    across, down = (1, 1) if components == 1 else map(max, zip(*factors, strict=True))
    return JpegHeader(
        data,
        position + 5,
        height,
        width,
        components,
        _BLOCK * down,
        _BLOCK * across,
        interval,
        marker in _SEQUENTIAL and bits == 8 and scan[:1] == bytes((components,)),
        stated_rgb(*color, parts[::3]),
    )
