"""Headers of JPEG XR files, whose container is laid out like a TIFF (ITU-T T.832, annex A)."""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

__all__ = ["is_jpegxr_complete", "jpegxr_size"]

_WIDTH, _HEIGHT, _STREAM, _COUNT = 0xBC80, 0xBC81, 0xBCC0, 0xBCC1
# The standard has some forty.
_MOST_TAGS: Final = 64
# OUTPUT_CLR_FMT and OUTPUT_BITDEPTH of ITU-T T.832, 8.3.
_GREY, _RGB = 0, 7
_DEPTHS: Final = {"uint8": 1, "uint16": 2, "float32": 7}


def jpegxr_size(
    data: bytes | memoryview, dtype: np.dtype[Any], samples: int
) -> tuple[int, int] | None:
    """Return the height and width that a JPEG XR file declares; None if it contradicts itself.

    It is called before decoding: the decoder takes memory for the size that the container declares,
    and a stream of another size or format makes it write beyond, or end the process.

    Parameters
    ----------
    data
        The file.
    dtype, samples
        What a pixel should be.
    """
    tags = _tags(data)
    size = tags.get(_HEIGHT, 0), tags.get(_WIDTH, 0)
    begin = tags.get(_STREAM, len(data))
    stream = bytes(data[begin : begin + 32])
    if len(stream) < 32 or not stream.startswith(b"WMPHOTO\0"):
        return None
    # ITU-T T.832, 8.3: flags, formats, then width and height less one, of 16 or 32 bits.
    tiled, windowed = bool(stream[9] & 0x80), bool(stream[10] & 0x20)
    length = 2 if stream[10] & 0x80 else 4
    width, height = struct.unpack_from(">HH" if length == 2 else ">II", stream, 12)
    colors = _GREY if samples == 1 else _RGB
    wanted = colors << 4 | _DEPTHS.get(dtype.name, 0xF)
    if (height + 1, width + 1) != size or stream[11] != wanted:
        return None
    if not tiled and not windowed:
        # 8.4: the colour format of the planes; grey, or one of the three of luma and chroma.
        planes = stream[12 + 2 * length] >> 5
        if (planes == 0) != (samples == 1) or planes > 3:
            return None
    return size


def is_jpegxr_complete(data: bytes | memoryview) -> bool:
    """Whether a JPEG XR file has all bytes of its image; the decoder makes grey of what is missing.

    A count of 0 is an image up to the end of the file (annex A.7).
    """
    tags = _tags(data)
    return _STREAM in tags and tags[_STREAM] + tags.get(_COUNT, 0) <= len(data)


def _tags(data: bytes | memoryview) -> dict[int, int]:
    """Return the numbers of a JPEG XR file's directory.

    Nothing of one that is too long: the decoder prints a line for each entry it does not know.
    """
    at = struct.unpack_from("<I", data, 4)[0] if len(data) >= 8 else 0
    count = struct.unpack_from("<H", data, at)[0] if at + 2 <= len(data) else 0
    tags: dict[int, int] = {}
    if count > _MOST_TAGS or at + 2 + 12 * count > len(data):
        return tags
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, _, value = struct.unpack_from("<HHII", data, entry)
        tags[tag] = value & 0xFFFF if kind == 3 else value
    return tags
