"""The colour space in the header of a JPEG stream, compared with that in the TIFF.

TIFF defines colour by PhotometricInterpretation (TIFF technical note 2); Java's ImageIO, and so
Bio-Formats, uses the stream: Adobe marker, JFIF marker, component names. If the two differ, the
intention of the writer is unknown.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from bfbridge.errors import Unsupported
from bfbridge.tiff.jpeg_segments import stated_rgb
from bfbridge_ometiff.structure.segment_layout import JPEG, SegmentLayout

if TYPE_CHECKING:
    from bfbridge_ometiff.reading.files import OpenTiff

__all__ = ["check_colors", "jpeg2000_size", "stream_is_rgb"]

_PEEK = 4096
_APP0, _APP14, _START_OF_SCAN = 0xE0, 0xEE, 0xDA
# Start-of-frame markers, without those of tables (JPEG, table B.1).
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def stream_is_rgb(data: bytes) -> bool | None:
    """Return whether a JPEG stream's three components are RGB, or None if it is not stated.

    The rules are those of libjpeg's default_decompress_parms, with ImageIO's for components of
    unknown names.
    """
    position = 2
    jfif, adobe, names, factors = False, None, b"", b""
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker in (0xFF, 0xD8):
            position += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        if marker == _APP0 and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == _APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            adobe = body[11]
        elif marker in _FRAMES:
            names, factors = body[6::3][:3], body[7::3][:3]
        if marker == _START_OF_SCAN:
            break
        position += 2 + length
    stated = stated_rgb(jfif, adobe, names)
    if stated is not None or len(names) != 3:
        return stated
    # Subsampled colour is not RGB; scanners do not mark RGB at full size.
    return len(set(factors)) == 1


def jpeg2000_size(data: bytes | memoryview) -> tuple[int, int, int] | None:
    """Return (height, width, components) that a JPEG 2000 stream declares, or None if it has none.

    The stream is a codestream (ITU-T T.800, annex A.5.1) or inside a JP2 file (annex I).
    """
    start = 0
    if bytes(data[4:8]) == b"jP  ":
        while bytes(data[start + 4 : start + 8]) not in (b"jp2c", b""):
            length = int.from_bytes(data[start : start + 4], "big")
            if length == 1:
                length = int.from_bytes(data[start + 8 : start + 16], "big")
            if length < 8:
                return None
            start += length
        start += 16 if int.from_bytes(data[start : start + 4], "big") == 1 else 8
    head = bytes(data[start : start + 42])
    if len(head) < 42 or head[:4] != b"\xff\x4f\xff\x51":
        return None
    right, bottom, left, top = struct.unpack_from(">4I", head, 8)
    return bottom - top, right - left, struct.unpack_from(">H", head, 40)[0]


def check_colors(tiff: OpenTiff, layout: SegmentLayout) -> None:
    """Check the first JPEG segment of a colour image.

    Raises
    ------
    Unsupported
        The stream declares one colour space and the TIFF another.
    """
    if layout.compression != JPEG or layout.segment_samples != 3:
        return
    number = min(len(layout.offsets), len(layout.counts))
    offsets, counts = layout.offsets[:number], layout.counts[:number]
    stored = np.flatnonzero((counts > 0) & (counts <= tiff.size))
    ends = np.uint64(tiff.size) - counts[stored].astype(np.uint64)
    inside = stored[offsets[stored].astype(np.uint64) <= ends]
    if not len(inside):
        return
    offset, count = int(offsets[inside[0]]), int(counts[inside[0]])
    rgb = stream_is_rgb(bytes(tiff.read(offset, min(count, _PEEK), None)))
    if rgb is not None and rgb != (layout.photometric == 2):
        raise Unsupported("JPEG whose stream and PhotometricInterpretation disagree on colour")
