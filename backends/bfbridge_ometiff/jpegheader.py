"""What the header of a JPEG stream says about its colours, compared with what the TIFF says.

TIFF leaves colour to PhotometricInterpretation (TIFF technical note 2); Java's ImageIO, and so
Bio-Formats, goes by the stream: Adobe marker, JFIF marker, component names. Where the two disagree
nobody knows what the writer meant.
"""

from __future__ import annotations

from bfbridge.errors import Unsupported
from bfbridge_ometiff.files import OpenTiff
from bfbridge_ometiff.layout import JPEG, Layout

__all__ = ["check_colors", "stream_is_rgb"]

_PEEK = 4096
_APP0, _APP14, _START_OF_SCAN = 0xE0, 0xEE, 0xDA
# Start of frame, of the kinds that are not tables (JPEG, table B.1).
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})


def stream_is_rgb(data: bytes) -> bool | None:
    """Return whether a JPEG stream's three components are RGB, or None where nothing says.

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
    if len(names) != 3:
        return None
    if jfif:
        return False
    if adobe is not None:
        return adobe == 0
    if names in (b"RGB", b"\1\2\3"):
        return names == b"RGB"
    # Colour stored at half size is no RGB; scanners leave full size RGB unmarked.
    return len(set(factors)) == 1


def check_colors(tiff: OpenTiff, layout: Layout) -> None:
    """Look at the first JPEG segment of a colour image.

    Raises
    ------
    Unsupported
        The stream says one colour space and the TIFF another.
    """
    if layout.compression != JPEG or layout.segment_samples != 3:
        return
    for offset, count in zip(layout.offsets.tolist(), layout.counts.tolist(), strict=False):
        if not count or offset + count > tiff.size:
            continue
        data = bytes(tiff.read(offset, min(count, _PEEK), None))
        rgb = stream_is_rgb(data)
        if rgb is not None and rgb != (layout.photometric == 2):
            raise Unsupported("JPEG whose stream and PhotometricInterpretation disagree on colour")
        return
