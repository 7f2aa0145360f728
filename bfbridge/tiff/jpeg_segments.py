"""The marker segments of a JPEG stream: those that pixels need, and those that are metadata.

ITU-T T.81, annex B. Of the application segments only two affect how pixels are decoded, JFIF (APP0)
and Adobe (APP14); they are kept in their shortest form. All others (Exif, XMP, ICC profiles,
vendors' data), comments, and bytes after the end of the image are metadata.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["metadata_of_jpeg", "stated_rgb", "without_metadata"]

_SOI, _EOI, _SOS, _COM = 0xD8, 0xD9, 0xDA, 0xFE
_APP0, _APP14 = 0xE0, 0xEE
# Frames, Huffman and arithmetic tables, quantization tables, restart interval, number of lines.
_PIXELS: Final = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDC, 0xDD} - {0xC8})
# The end of entropy-coded data: a marker that is neither a stuffed 0xFF, a restart nor a fill byte.
_NEXT_MARKER: Final = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
_JFIF_BYTES: Final = 14
_ADOBE_BYTES: Final = 12


class _Segment(NamedTuple):
    """One marker segment: its marker, and what follows the length, with the coded data of a scan.

    Attributes
    ----------
    marker
        Second byte of the marker.
    body
        Bytes after the length.
    coded
        Entropy-coded data after the header of a scan.
    fill
        Fill bytes before the marker.
    """

    marker: int
    body: bytes
    coded: bytes = b""
    fill: int = 0


def metadata_of_jpeg(stream: bytes) -> list[str]:
    """Return the metadata in a JPEG stream, such as "APP1 (Exif), 120 bytes".

    Parameters
    ----------
    stream
        An image, or the tables of a TIFF (JPEGTables).

    Raises
    ------
    ValueError
        It is not a JPEG stream, or contains a marker that is not known.
    """
    found = []
    for segment in _segments(stream):
        if isinstance(segment, bytes):
            found.append(f"{len(segment):,} bytes after the end of the image")
            continue
        if segment.fill:
            found.append(f"{segment.fill:,} fill bytes before a marker")
        if _shortest(segment) == segment.body:
            continue
        name = "comment" if segment.marker == _COM else f"APP{segment.marker - _APP0}"
        found.append(f"{name}, {len(segment.body):,} bytes")
    return found


def without_metadata(stream: bytes) -> bytes:
    """Return a JPEG stream without its metadata; it decodes to the same pixels.

    Raises
    ------
    ValueError
        It is not a JPEG stream, or contains a marker that is not known.
    """
    parts = [b"\xff\xd8"]
    for segment in _segments(stream):
        if isinstance(segment, bytes):
            continue
        body = _shortest(segment)
        if body is not None:
            length = (len(body) + 2).to_bytes(2, "big")
            parts += [bytes((0xFF, segment.marker)), length, body, segment.coded]
    return b"".join([*parts, b"\xff\xd9"])


def _shortest(segment: _Segment) -> bytes | None:
    """Return the part of a segment that pixels need, or None."""
    marker, body = segment.marker, segment.body
    if marker in _PIXELS or marker == _SOS:
        return body
    if marker == _APP0 and body[:5] == b"JFIF\0" and len(body) >= _JFIF_BYTES:
        # Without its thumbnail.
        return body[:12] + b"\0\0"
    if marker == _APP14 and body[:5] == b"Adobe" and len(body) >= _ADOBE_BYTES:
        return body[:_ADOBE_BYTES]
    return None


def _segments(stream: bytes) -> Iterator[_Segment | bytes]:
    """Yield the segments of a stream, and last the bytes after its end, if there are any."""
    if stream[:2] != b"\xff\xd8":
        raise ValueError("it does not begin as a JPEG stream")
    position = 2
    while True:
        start = position
        while stream[position : position + 2] == b"\xff\xff":
            position += 1
        fill = position - start
        if len(stream) < position + 2 or stream[position] != 0xFF:
            raise ValueError(f"there is no marker at byte {position}")
        marker = stream[position + 1]
        if marker == _EOI:
            if rest := stream[position + 2 :].strip(b"\0"):
                yield rest
            return
        if not (marker in _PIXELS or marker in (_SOS, _COM) or _APP0 <= marker <= 0xEF):
            raise ValueError(f"the marker 0x{marker:02X} at byte {position} is not known")
        length = int.from_bytes(stream[position + 2 : position + 4], "big")
        end = position + 2 + length
        if length < 2 or end > len(stream):
            raise ValueError(f"the segment at byte {position} is cut off")
        body, position = stream[position + 4 : end], end
        coded = b""
        if marker == _SOS:
            following = _NEXT_MARKER.search(stream, end)
            if following is None:
                raise ValueError("its end is missing")
            # Fill bytes before the marker belong to the next segment.
            position = following.start()
            coded = stream[end:position]
        yield _Segment(marker, body, coded, fill)


def stated_rgb(jfif: bool, adobe: int | None, names: bytes) -> bool | None:
    """Return whether three components are RGB (False: YCbCr), or None if a header does not say.

    Parameters
    ----------
    jfif
        Whether there is a JFIF segment.
    adobe
        Transform of the Adobe segment, or None without one.
    names
        Identifiers of the components.

    Notes
    -----
    The rules are those of libjpeg's default_decompress_parms.
    """
    if len(names) != 3:
        return None
    if jfif:
        return False
    if adobe is not None:
        return adobe == 0
    return names == b"RGB" if names in (b"RGB", b"\1\2\3") else None
