"""Small files of cellSens: a VSI with its folder of ETS files, as CellSensReader reads them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["write_vsi"]

_EXTENDED, _INLINE = 0x10000000, 0x40000000
_VOLUME, _PROPERTIES, _RECT, _PAIR, _SCALE = 0, 1, 259, 260, 2019
_FRAME, _EXTERNAL_FILE, _HAS_EXTERNAL_FILE, _BOUNDARY, _NAME = 2002, 2018, 20005, 2053, 2030
_TEXT = 8192


def write_vsi(
    path: Path, stacks: Sequence[Any], macro: Any, flags: Sequence[int] | None = None
) -> Path:
    """Write a VSI whose images are in ETS files, and its macro image in the file itself.

    Parameters
    ----------
    path
        Of the new .vsi file.
    stacks
        Pixels of each ETS file: Y, X of uint8.
    macro
        Pixels of the macro image: Y, X of uint8.
    flags
        Whether each image says that it has an external file. Default: all do.
    """
    flags = [1] * len(stacks) if flags is None else flags
    frames = [_frame(*both) for both in zip(stacks, flags, strict=True)]
    tree = _volume(frames)
    height, width = macro.shape
    ifd, data = 8 + len(tree), 8 + len(tree) + 256
    entries = [
        (256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, data),
        (277, 3, 1), (278, 4, height), (279, 4, macro.size),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries))
    for tag, kind, value in entries:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    directory += bytes(256 - len(directory))
    path.write_bytes(
        struct.pack("<2sHI", b"II", 42, ifd) + tree + directory + np.uint8(macro).tobytes()
    )
    for number, pixels in enumerate(stacks):
        folder = path.parent / f"_{path.stem}_" / f"stack{number}"
        folder.mkdir(parents=True)
        (folder / "frame_t.ets").write_bytes(_ets(np.uint8(pixels)))
    return path


def _volume(tags: Sequence[tuple[int, int, bytes, int]]) -> bytes:
    """Return a volume: its header, and its tags as (type, number, data, inline value)."""
    body = b""
    for kind, tag, data, value in tags:
        following = 24 + len(body) + 16 + len(data)
        body += struct.pack("<IIII", kind, tag, following, value or len(data)) + data
    return struct.pack("<hhiqii", 24, 21321, 1, 24, len(tags), 0) + body


def _frame(pixels: Any, flag: int) -> tuple[int, int, bytes, int]:
    height, width = np.shape(pixels)
    inner = [
        (_INLINE, _HAS_EXTERNAL_FILE, b"", flag),
        (_RECT, _BOUNDARY, struct.pack("<4i", 0, 0, width, height), 0),
        (_PAIR, _SCALE, struct.pack("<2d", 0.5, 0.25), 0),
        (_TEXT, _NAME, f"{width} wide".encode("utf-16-le"), 0),
    ]
    properties = (_EXTENDED | _PROPERTIES, _EXTERNAL_FILE, _volume(inner), 0)
    return (_EXTENDED | _VOLUME, _FRAME, _volume([properties]), 0)


def _ets(pixels: Any, tile: int = 16) -> bytes:
    """Return an ETS file of uncompressed tiles."""
    height, width = pixels.shape
    padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile), np.uint8)
    padded[:height, :width] = pixels
    where = [(x, y) for y in range(padded.shape[0] // tile) for x in range(padded.shape[1] // tile)]
    begin = 64 + 228
    index, body, first = b"", b"", begin + 28 * len(where)
    for x, y in where:
        data = padded[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile].tobytes()
        index += struct.pack("<iiiqii", 0, x, y, first + len(body), len(data), 0)
        body += data
    header = struct.pack("<4siiiqiiqii", b"SIS", 64, 2, 2, 64, 228, 0, begin, len(where), 0)
    details = struct.pack("<4s9i", b"ETS", 1, 2, 1, 1, 0, 100, tile, tile, 1)
    return header.ljust(64, b"\0") + details.ljust(228, b"\0") + index + body
