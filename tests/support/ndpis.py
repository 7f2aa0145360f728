"""Small NDPI files, for there is no library that writes them.

What comes out is read by tifffile and Bio-Formats in the tests that use it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import imagecodecs
import numpy as np
from PIL import Image

__all__ = [
    "LABEL",
    "UNLIKE",
    "Page",
    "Slide",
    "assembled",
    "interval_places",
    "jpeg_of",
    "ndpi_bytes",
    "slide_of",
    "smooth",
    "write_ndpi",
]

Array = np.ndarray[Any, Any]
SHORT, LONG, RATIONAL, ASCII, FLOAT, SLONG = 3, 4, 5, 2, 11, 9
_SIZES: Final = {SHORT: 2, LONG: 4, RATIONAL: 8, ASCII: 1, FLOAT: 4, SLONG: 4}
_CODES: Final = {SHORT: "H", LONG: "I", FLOAT: "f", SLONG: "i"}
_PROPERTIES: Final = (
    "NDP.S/N=680057\r\nProduct=NanoZoomer\r\nCalibration.Result.Date=16 Sep 2020\r\n;comment\r\n"
)
LABEL: Final = "S10533009"
UNLIKE: Final = (
    "interleaved", "Interleaved", "image 1: pixel_size", "image 2: pixel_size",
    "/Image[1]/Pixels[0]@PhysicalSize", "/Image[2]/Pixels[0]@PhysicalSize",
)  # fmt: skip
"""How Bio-Formats arranges samples in memory, and what it takes from levels of the slide for the
macro image and the map."""


@dataclass
class Page:
    """One directory.

    Attributes
    ----------
    pixels
        (Y, X) or (Y, X, samples).
    lens
        Magnification; None leaves the tag out.
    z
        Offset of the focal plane in nm.
    compression
        "jpeg", "jpegxr" or "none".
    interval
        MCUs between restart markers; 0 for none.
    subsampling
        Pillow's "4:4:4", "4:2:2" or "4:2:0".
    strip
        Rows of a strip where it is not JPEG.
    marked
        Whether the positions of restart intervals are stored.
    stream
        A JPEG stream to store in place of the pixels.
    size
        Height and width of the tags; None for that of the pixels.
    more
        Further tags, or other values: field type, and values or text. None leaves a tag out.
    """

    pixels: Array
    lens: float | None = 20.0
    z: int = 0
    compression: str = "jpeg"
    interval: int = 0
    subsampling: str = "4:4:4"
    strip: int = 0
    marked: bool = True
    stream: bytes = b""
    size: tuple[int, int] | None = None
    more: Mapping[int, tuple[int, Any] | None] = field(default_factory=dict)

    def segments(self) -> list[bytes]:
        """Return the strips."""
        if self.stream:
            return [self.stream]
        if self.compression == "jpeg":
            return [jpeg_of(self.pixels, self.interval, self.subsampling)]
        rows = self.strip or len(self.pixels)
        strips = [self.pixels[n : n + rows] for n in range(0, len(self.pixels), rows)]
        if self.compression == "none":
            return [strip.astype(strip.dtype.newbyteorder("<")).tobytes() for strip in strips]
        return [bytes(imagecodecs.jpegxr_encode(np.ascontiguousarray(s))) for s in strips]


@dataclass
class Slide:
    """A whole file: its directories, and the tags of each of them."""

    pages: Sequence[Page]
    mode: int = 0
    properties: str = _PROPERTIES


def smooth(height: int, width: int, samples: int = 3, seed: int = 0) -> Array:
    """Return pixels that JPEG stores well and that differ everywhere: (Y, X, samples)."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = [
        127 + 60 * np.sin(x / (7 + n) + seed) + 60 * np.cos(y / (5 + 2 * n) + x / 31)
        for n in range(samples)
    ]
    return np.stack(waves, -1).astype(np.uint8)


def jpeg_of(pixels: Array, interval: int, subsampling: str = "4:4:4") -> bytes:
    """Return a JPEG stream with a restart marker after each `interval` MCUs."""
    out = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(
        out, "JPEG", quality=90, subsampling=subsampling, restart_marker_blocks=interval
    )
    return out.getvalue()


def assembled(blocks: Sequence[Array], order: Array) -> bytes:
    """Return a JPEG stream of any size, made of few different restart intervals.

    Parameters
    ----------
    blocks
        Pixels of the intervals: 8 rows, a multiple of 8 columns, three samples.
    order
        Number of the block at each place, shape (rows, columns) of intervals.
    """
    width = blocks[0].shape[1]
    coded = []
    for block in blocks:
        stream = jpeg_of(block, width // 8)
        begin = interval_places(stream)[0]
        head, data = stream[:begin], stream[begin:-2]
        coded.append(data)
    down, across = order.shape
    at = head.index(b"\xff\xc0") + 5
    sides = [side if side < 1 << 16 else 0 for side in (8 * down, width * across)]
    parts = [head[:at] + struct.pack(">HH", *sides) + head[at + 4 :]]
    for number, block in enumerate(order.ravel()):
        parts += [coded[block], bytes((0xFF, 0xD0 + number % 8))]
    parts[-1] = b"\xff\xd9"
    return b"".join(parts)


def interval_places(stream: bytes) -> list[int]:
    """Return where each restart interval begins in a stream."""
    at = 2
    while stream[at + 1] != 0xDA:
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    places = [at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")]
    coded = np.frombuffer(stream, np.uint8)
    found = np.flatnonzero((coded[:-1] == 0xFF) & (coded[1:] >= 0xD0) & (coded[1:] < 0xD8))
    return places + (found[found > places[0]] + 2).tolist()


def slide_of(
    pixels: Array, levels: int = 3, *, macro: bool = True, depth: int = 1, **options: Any
) -> Slide:
    """Return a slide: levels of half the size each, focal planes, the macro image and the map."""
    pages = []
    for z in range(depth):
        plane = np.roll(pixels, 3 * z, axis=1)
        pages += [
            Page(
                np.ascontiguousarray(plane[:: 1 << level, :: 1 << level]),
                lens=20.0 / (1 << level), z=1000 * (z - depth // 2), **options,
            )
            for level in range(levels)
        ]  # fmt: skip
    if macro:
        pages.append(Page(smooth(204, 595, seed=9), lens=-1.0))
        pages.append(Page(smooth(97, 283, 1), lens=-2.0, compression="none"))
    return Slide(pages)


def _tags(slide: Slide, page: Page, places: list[int], lengths: list[int]) -> dict[int, Any]:
    height, width = page.size or page.pixels.shape[:2]
    samples = 1 if page.pixels.squeeze().ndim == 2 else page.pixels.shape[2]
    photometric = 1 if samples == 1 else 6 if page.compression == "jpeg" else 2
    codes = {"jpeg": 7, "jpegxr": 22610, "none": 1}
    tags: dict[int, Any] = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8 * page.pixels.dtype.itemsize] * samples),
        259: (SHORT, [codes[page.compression]]),
        262: (SHORT, [photometric]),
        271: (ASCII, "Hamamatsu"),
        272: (ASCII, "NanoZoomer"),
        273: (LONG, places),
        277: (SHORT, [samples]),
        278: (LONG, [page.strip or height]),
        279: (LONG, lengths),
        282: (RATIONAL, [(int(2200 * abs(page.lens or 1)), 1)]),
        283: (RATIONAL, [(int(2210 * abs(page.lens or 1)), 1)]),
        284: (SHORT, [1]),
        296: (SHORT, [3]),
        305: (ASCII, "NDP.scan"),
        306: (ASCII, "2020:04:02 10:25:21"),
        65420: (LONG, [1]),
        65421: None if page.lens is None else (FLOAT, [page.lens]),
        65422: (SLONG, [-1_500_000]),
        65423: (SLONG, [2_500_001]),
        65424: (SLONG, [page.z]),
        65427: (ASCII, LABEL),
        65441: (LONG, [slide.mode]),
        65442: (ASCII, "680057"),
        65449: (ASCII, slide.properties),
    }  # fmt: skip
    return tags


class _Writer:
    """Writes one file, from a position on."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file = file
        self._at = start

    def put(self, data: bytes) -> int:
        """Write bytes; return where."""
        at = self._at
        self._file.seek(at)
        self._file.write(data)
        self._at += len(data) + len(data) % 2
        return at

    def page(self, slide: Slide, page: Page) -> int:
        """Write a directory with its pixels; return where its link to the next one is."""
        segments = page.segments()
        places = [self.put(segment) for segment in segments]
        tags = _tags(slide, page, places, [len(segment) for segment in segments])
        if page.compression == "jpeg" and (page.interval or page.stream) and page.marked:
            starts = interval_places(segments[0])
            if len(starts) > 1:
                # Bio-Formats does not read a single one.
                tags[65426] = (LONG, starts)
        tags.update(page.more)
        entries = []
        for tag, value in sorted(tags.items()):
            if value is not None:
                entries.append(self._entry(tag, *value))
        if len(segments) > 1 and places[0] >> 32:
            entries.append(self._entry(65324, LONG, [place >> 32 for place in places]))
            entries.append(self._entry(65325, LONG, [0] * len(places)))
            entries.sort()
        at = self.put(struct.pack("<H", len(entries)) + b"".join(low for *_, low, _ in entries))
        self._at = at + 2 + 12 * len(entries)
        link = self.put(bytes(8))
        self.put(b"".join(high for *_, high in entries))
        self.start = at
        return link

    def _entry(self, tag: int, kind: int, values: Any) -> tuple[int, bytes, bytes]:
        if kind == ASCII:
            data, count = values.encode() + b"\0", len(values) + 1
        else:
            count = len(values)
            if kind == RATIONAL:
                data = b"".join(struct.pack("<II", *pair) for pair in values)
            elif kind == LONG:
                data = b"".join(struct.pack("<I", value & 0xFFFFFFFF) for value in values)
            else:
                data = struct.pack(f"<{count}{_CODES[kind]}", *values)
        high = values[0] >> 32 if kind == LONG and count == 1 else 0
        if len(data) > 4 or kind == ASCII:
            at = self.put(data)
            data, high = struct.pack("<I", at & 0xFFFFFFFF), at >> 32
        low = struct.pack("<HHI", tag, kind, count) + data.ljust(4, b"\0")
        return tag, low, struct.pack("<I", high)


def _write(file: BinaryIO, slide: Slide, start: int) -> None:
    writer = _Writer(file, max(start, 12))
    file.write(b"II*\0" + bytes(8))
    link = 4
    for page in slide.pages:
        following = writer.page(slide, page)
        file.seek(link)
        file.write(struct.pack("<Q", writer.start))
        link = following


def ndpi_bytes(slide: Slide) -> bytes:
    """Return a slide as a file in memory."""
    file = io.BytesIO()
    _write(file, slide, 0)
    return file.getvalue()


def write_ndpi(path: Path, slide: Slide, start: int = 0) -> Path:
    """Write a slide; everything but the header begins at byte `start`, after a hole."""
    with path.open("wb") as file:
        _write(file, slide, start)
    return path
