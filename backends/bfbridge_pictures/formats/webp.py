"""WebP (RFC 9649): RGB, with alpha as a fourth sample; frames of animations are along T.

Bio-Formats does not read it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
import numpy as np

from bfbridge.errors import Unsupported
from bfbridge.limits import check
from bfbridge_pictures.cursor import Cursor, DamagedPicture
from bfbridge_pictures.formats.frames import kept_planes
from bfbridge_pictures.picture import (
    Array,
    DecodedPlanes,
    Picture,
    PictureFile,
    check_decoded,
    describe,
)

__all__ = ["open_picture"]

_ALPHA: Final = 0x10
_LOSSY_START: Final = b"\x9d\x01\x2a"
_LOSSLESS_START: Final = 0x2F


@dataclass(slots=True)
class _WebpFacts:
    """The values of the chunks; `frames` is their number in an animation, `end` the file's end."""

    width: int = 0
    height: int = 0
    alpha: bool = False
    frames: int = 0
    end: int = 0


def open_picture(file: PictureFile) -> Picture:
    """Return a WebP file as a picture.

    Raises
    ------
    Unsupported
        It is another RIFF file.
    DamagedPicture
        It is truncated, or violates the format.
    """
    facts = _read_structure(file)
    samples = 4 if facts.alpha else 3
    shape = (facts.height, facts.width, samples)
    image = describe(file, shape, np.uint8, frames=max(facts.frames, 1))
    check_decoded(file, shape, 1, facts.end)
    if facts.frames:
        drawing = _Animation(file, facts, samples)
        drawing.planes = DecodedPlanes(
            image, plane=drawing.plane, keep=kept_planes(
                facts.height * facts.width * samples, file.options.max_workers
            ),
        )  # fmt: skip
        return drawing.planes

    def plane(level: int, t: int) -> Array:
        del level, t
        data = file.bytes_at(0, facts.end)
        pixels: Array = imagecodecs.webp_decode(data, hasalpha=facts.alpha)
        return pixels

    return DecodedPlanes(image, plane=plane)


def _read_structure(file: PictureFile) -> _WebpFacts:
    cursor = Cursor(file.access)
    mark, length, form = cursor.unpack("<4sI4s")
    if mark != b"RIFF" or form != b"WEBP":
        raise Unsupported("a RIFF file that is not WebP")
    facts = _WebpFacts(end=8 + length)
    if facts.end > file.access.size:
        raise DamagedPicture(
            f"the file is cut short: it should end at byte {facts.end:,}, and has "
            f"{file.access.size:,} bytes"
        )
    extended = still = False
    while cursor.position + 8 <= facts.end:
        name, size = cursor.unpack("<4sI")
        start = cursor.position
        if name == b"VP8X":
            extended = True
            flags, width, height = cursor.unpack("<B3x3s3s")
            facts.width, facts.height = (1 + int.from_bytes(n, "little") for n in (width, height))
            facts.alpha = bool(flags & _ALPHA)
        elif name in (b"VP8 ", b"VP8L"):
            still = True
            if not extended:
                _still(cursor, name, facts)
        elif name == b"ANMF":
            facts.frames += 1
            check(facts.frames, file.limits.directories, "number of frames", file.name)
        cursor.position = start
        cursor.skip(size + size % 2 if start + size < facts.end else size)
    if not still and not facts.frames:
        raise DamagedPicture("it contains no image")
    return facts


def _still(cursor: Cursor, name: bytes, facts: _WebpFacts) -> None:
    """Read the sizes of an image without an extended header."""
    if name == b"VP8L":
        start, bits = cursor.unpack("<BI")
        if start != _LOSSLESS_START:
            raise DamagedPicture("its lossless image has no start marker")
        facts.width, facts.height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        facts.alpha = bool(bits >> 28 & 1)
        return
    _, start, width, height = cursor.unpack("<3s3sHH")
    if start != _LOSSY_START:
        raise DamagedPicture("its lossy image has no start marker")
    facts.width, facts.height = width & 0x3FFF, height & 0x3FFF


class _Animation:
    """Frames composed by libwebp through Pillow, which decodes them in order."""

    planes: DecodedPlanes

    def __init__(self, file: PictureFile, facts: _WebpFacts, samples: int) -> None:
        self._file = file
        self._facts = facts
        self._mode = "RGBA" if samples == 4 else "RGB"
        self._image: Any = None
        self._at = -1

    def plane(self, level: int, number: int) -> Array:
        """Return a frame as displayed."""
        from PIL import Image

        if self._image is None or number < self._at:
            data = self._file.bytes_at(0, self._facts.end)
            try:
                self._image = Image.open(io.BytesIO(data), formats=["WEBP"])
            except Image.DecompressionBombError as error:
                raise DamagedPicture(str(error)) from error
            self._at = -1
            if self._image.n_frames != self._facts.frames:
                raise DamagedPicture(f"only {self._image.n_frames} of its frames can be decoded")
        for step in range(self._at + 1, number + 1):
            self._image.seek(step)
            pixels = np.asarray(self._image.convert(self._mode))
            self.planes.hold(level, step, pixels)
            self._at = step
        return pixels
