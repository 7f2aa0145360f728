"""JPEG (ITU-T T.81) of 8 or 12 bits: grey, colour as RGB, CMYK converted to RGB.

Like Bio-Formats' JPEGReader, it returns one or three samples, and does not rotate the picture as
Exif states. JPEG has no checksums: changed bytes of pixels cannot be detected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import imagecodecs
import numpy as np

from bfbridge_pictures.cursor import Cursor, DamagedPicture
from bfbridge_pictures.formats import exif
from bfbridge_pictures.picture import (
    Array,
    DecodedPlanes,
    Picture,
    PictureFile,
    check_decoded,
    describe,
)

__all__ = ["open_picture"]

_START, _END, _SCAN, _APP1 = 0xD8, 0xD9, 0xDA, 0xE1
# Frames that libjpeg-turbo decodes: baseline, extended, progressive; also with arithmetic coding.
_FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_OTHER_FRAMES: Final = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_EXIF: Final = b"Exif\0\0"
# A marker, except a byte of pixels (FF00) and a restart.
_MARKER: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_STEP: Final = 1 << 20
# Most scans of a progressive file; a decoder processes all pixels in each scan.
_MOST_SCANS: Final = 256
# Every 8 x 8 block needs at least one bit of the file.
_MOST_BLOCK: Final = 8 * 64 * 4


@dataclass(slots=True)
class _JpegFacts:
    """The values of the segments."""

    width: int = 0
    height: int = 0
    components: int = 0
    precision: int = 0
    exif: tuple[int, int] | None = None
    end: int = 0


def open_picture(file: PictureFile) -> Picture:
    """Return a JPEG file as a picture.

    Raises
    ------
    DamagedPicture
        It is truncated, or of an unsupported kind.
    """
    facts = _read_segments(file)
    samples = 1 if facts.components == 1 else 3
    shape = (facts.height, facts.width, samples)
    dtype = np.dtype(np.uint8 if facts.precision == 8 else np.uint16)
    image = describe(file, shape, dtype, bits=facts.precision, order=">", interleaved=False)
    decoded = (facts.height, facts.width, facts.components)
    check_decoded(file, decoded, dtype.itemsize, facts.end)
    if facts.height * facts.width > facts.end * _MOST_BLOCK:
        raise DamagedPicture(
            f"{facts.width} x {facts.height} pixels cannot be encoded in {facts.end:,} bytes"
        )
    return _Jpeg(image, plane=lambda level, t: _decode(file, facts), file=file, place=facts.exif)


@dataclass
class _Jpeg(DecodedPlanes):
    """A JPEG picture, whose Exif data are parsed when they are needed."""

    file: PictureFile = field(kw_only=True)
    place: tuple[int, int] | None = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._tags: Mapping[str, Any] | None = None

    def metadata(self) -> Mapping[str, Any]:
        """Exif tags by name."""
        if self._tags is None:
            found = None if self.place is None else exif.tags(self.file.bytes_at(*self.place))
            self._tags = found or {}
        return self._tags

    def acquired(self) -> datetime | None:
        """Return Exif's DateTimeOriginal, as in Bio-Formats."""
        return exif.time(self.metadata().get("DateTimeOriginal"))


def _read_segments(file: PictureFile) -> _JpegFacts:
    """Read the segments, and the scans between them, up to the end of the image."""
    cursor = Cursor(file.access, 2)
    facts = _JpegFacts()
    scans = 0
    while True:
        marker = _marker(cursor)
        if marker == _END:
            break
        if marker in _ALONE:
            continue
        (length,) = cursor.unpack(">H")
        if length < 2:
            raise DamagedPicture(f"segment {marker:#04x} has a length of {length} bytes")
        start = cursor.position
        if marker in _FRAMES:
            _read_frame(cursor, length, facts)
        elif marker in _OTHER_FRAMES:
            raise DamagedPicture(
                f"lossless and hierarchical JPEG (SOF{marker - 0xC0}) are not supported; "
                "convert it with other software"
            )
        elif marker == _APP1 and facts.exif is None and cursor.peek(6) == _EXIF:
            facts.exif = (start + 6, max(length - 8, 0))
        cursor.position = start
        cursor.skip(length - 2)
        if marker == _SCAN:
            scans += 1
        if scans > _MOST_SCANS:
            raise DamagedPicture(f"it has more than {_MOST_SCANS} scans")
    facts.end = cursor.position
    if not facts.width or not scans:
        raise DamagedPicture("it contains no image")
    return facts


def _marker(cursor: Cursor) -> int:
    """Return the next marker's second byte; bytes before it are skipped, as in libjpeg."""
    _skip_to_marker(cursor)
    return cursor.read(2)[1]


def _read_frame(cursor: Cursor, length: int, facts: _JpegFacts) -> None:
    if facts.width:
        raise DamagedPicture("it has two frames")
    if length < 8:
        raise DamagedPicture("its frame header is too short")
    facts.precision, facts.height, facts.width, facts.components = cursor.unpack(">BHHB")
    if facts.precision not in (8, 12) or facts.components not in (1, 3, 4):
        raise DamagedPicture(
            f"{facts.components} components of {facts.precision} bits are not supported"
        )
    if not facts.width or not facts.height:
        raise DamagedPicture(f"it declares {facts.width} x {facts.height} pixels")


def _skip_to_marker(cursor: Cursor) -> None:
    """Move to the next marker; after a scan, this is the marker that ends it."""
    while True:
        data = cursor.peek(min(_STEP, cursor.size - cursor.position))
        found = _MARKER.search(data)
        if found is not None:
            cursor.position += found.start()
            return
        if len(data) < 2 or cursor.position + len(data) >= cursor.size:
            raise DamagedPicture("the file is cut short: its end marker is missing")
        cursor.position += len(data) - 1


def _decode(file: PictureFile, facts: _JpegFacts) -> Array:
    pixels: Array = imagecodecs.jpeg8_decode(file.bytes_at(0, facts.end))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if facts.components != 4:
        return pixels
    # Adobe's convention, which all writers use: stored values are inverted.
    most = (1 << facts.precision) - 1
    ink = pixels.astype(np.uint32)
    mixed = (ink[..., :3] * ink[..., 3:] + most // 2) // most
    return mixed.astype(pixels.dtype)
