"""GIF (GIF89a specification): palette indices; frames along T, composed as displayed.

Like Bio-Formats' GIFReader, it returns uint8 indices with one lookup table, if the palettes of all
frames fit into one table of 256 colours; otherwise pixels are RGB.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

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

_EXTENSION, _IMAGE, _TRAILER, _PADDING = 0x21, 0x2C, 0x3B, 0x00
_GRAPHIC_CONTROL = 0xF9
_DISPOSALS = {2: Disposal.BACKGROUND, 3: Disposal.PREVIOUS}
_COLORS = 256


@dataclass(frozen=True, slots=True)
class _GifFrame:
    """One image of the file.

    Attributes
    ----------
    left, top, width, height
        Position and size on the screen.
    interlaced
        Whether rows are stored in four passes.
    palette
        The frame's own colours, or the file's.
    transparent
        Index of pixels that are not drawn, or None.
    disposal
        How its area changes after it was shown.
    offset, length
        Position of its LZW data, including the code size and the blocks' lengths.
    """

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    transparent: int | None
    disposal: Disposal
    offset: int
    length: int


@dataclass
class _Screen:
    """The file's structure."""

    width: int
    height: int
    palette: bytes | None
    background: int
    frames: list[_GifFrame]
    colors: int


def open_picture(file: PictureFile) -> Picture:
    """Return a GIF file as a picture.

    Raises
    ------
    DamagedPicture
        It is truncated, or violates the format.
    """
    screen = _read_structure(file)
    frames = screen.frames
    tables = _one_table(frames)
    samples = 1 if tables is not None else 3
    shape = (screen.height, screen.width, samples)
    image = describe(file, shape, np.uint8, frames=len(frames))
    for frame in frames:
        check_decoded(file, (frame.height, frame.width), 1, frame.length)
    check_decoded(file, shape, 1, file.access.size)
    composer = _GifComposer(file, screen, tables)
    keep = kept_planes(screen.width * screen.height * samples, file.options.max_workers)
    last = frames[-1]
    composer.planes = DecodedPlanes(
        image,
        {
            "Block size": 0,
            "Global lookup table size": screen.colors,
            "Interlace": last.interlaced,
            "Transparency index": last.transparent or 0,
            "Use transparency": last.transparent is not None,
        },
        table=None if tables is None else tables.shared,
        plane=composer.plane,
        keep=keep,
    )
    return composer.planes


def _read_structure(file: PictureFile) -> _Screen:
    """Read the blocks of the file up to its trailer."""
    cursor = Cursor(file.access, 6)
    width, height, flags, background, _ = cursor.unpack("<HHBBB")
    palette = _palette(cursor, flags)
    screen = _Screen(width, height, palette, background, [], 2 << (flags & 7))
    transparent: int | None = None
    disposal = Disposal.NONE
    while True:
        kind = cursor.byte()
        if kind == _EXTENSION:
            label = cursor.byte()
            if label == _GRAPHIC_CONTROL:
                size, packed, _, index = cursor.unpack("<BBHB")
                if size != 4:
                    raise DamagedPicture(f"a graphic control extension has {size} bytes, not 4")
                transparent = index if packed & 1 else None
                disposal = _DISPOSALS.get(packed >> 2 & 7, Disposal.NONE)
            _skip_blocks(cursor)
        elif kind == _IMAGE:
            frame = _read_frame(cursor, screen, transparent, disposal)
            screen.frames.append(frame)
            check(len(screen.frames), file.limits.directories, "number of frames", file.name)
            transparent, disposal = None, Disposal.NONE
        elif kind == _TRAILER:
            break
        elif kind != _PADDING:
            raise DamagedPicture(
                f"byte {cursor.position - 1:,} should start a block, and is {kind:#04x}"
            )
    if not screen.frames:
        raise DamagedPicture("it contains no image")
    return screen


def _read_frame(
    cursor: Cursor, screen: _Screen, transparent: int | None, disposal: Disposal
) -> _GifFrame:
    left, top, width, height, flags = cursor.unpack("<HHHHB")
    where = f"image {len(screen.frames)}"
    if left + width > screen.width or top + height > screen.height or not width or not height:
        raise DamagedPicture(
            f"{where} has {width} x {height} pixels at {left}, {top}, which is outside the "
            f"screen of {screen.width} x {screen.height}"
        )
    palette = _palette(cursor, flags) or screen.palette
    if palette is None:
        raise DamagedPicture(f"{where} has no colour table")
    offset = cursor.position
    cursor.skip(1)
    _skip_blocks(cursor)
    return _GifFrame(
        left, top, width, height, bool(flags & 0x40), palette, transparent, disposal,
        offset, cursor.position - offset,
    )  # fmt: skip


def _palette(cursor: Cursor, flags: int) -> bytes | None:
    """Return the following colour table, according to the flags before it."""
    return cursor.read(3 * (2 << (flags & 7))) if flags & 0x80 else None


def _skip_blocks(cursor: Cursor) -> None:
    while length := cursor.byte():
        cursor.skip(length)


class _Tables:
    """One lookup table for all frames, and the conversion of each palette's indices."""

    def __init__(self, first: bytes) -> None:
        self._first = first
        self._colors = [first[i : i + 3] for i in range(0, len(first), 3)]
        self._places = {color: i for i, color in reversed(list(enumerate(self._colors)))}
        self._maps: dict[bytes, Array | None] = {first: None}

    def add(self, palette: bytes) -> bool:
        """Add a palette's colours; return whether they fit."""
        if palette in self._maps:
            return True
        places = np.zeros(_COLORS, np.uint8)
        for number, start in enumerate(range(0, len(palette), 3)):
            color = palette[start : start + 3]
            # Equal colours have equal numbers: most palettes differ in a few colours.
            same = self._colors[number : number + 1] == [color]
            place = number if same else self._places.setdefault(color, len(self._colors))
            if place == len(self._colors):
                self._colors.append(color)
            if place >= _COLORS:
                return False
            places[number] = place
        self._maps[palette] = places
        return True

    @property
    def shared(self) -> Array:
        """The table, 3 x 256."""
        return palette_table(b"".join(self._colors))

    def indices(self, pixels: Array, palette: bytes) -> Array:
        """Return indices into a frame's palette as indices into the table."""
        places = self._maps[palette]
        return pixels if places is None else places[pixels]


def _one_table(frames: list[_GifFrame]) -> _Tables | None:
    """Return one table for all frames, or None if they have more than 256 colours."""
    tables = _Tables(frames[0].palette)
    return tables if all(tables.add(frame.palette) for frame in frames) else None


class _GifComposer(Composer):
    """The frames of one file, drawn as indices or as RGB."""

    def __init__(self, file: PictureFile, screen: _Screen, tables: _Tables | None) -> None:
        super().__init__()
        self._file = file
        self._screen = screen
        self._tables = tables
        self._colors: dict[bytes, Array] = {}

    def blank(self) -> Array:
        """Return the empty screen: transparent, or the background colour."""
        screen, first = self._screen, self._screen.frames[0]
        fill: Any = screen.background if first.palette == screen.palette else 0
        if first.transparent is not None:
            fill = first.transparent
        if self._tables is None:
            fill = palette_table(first.palette)[:, fill]
        samples = 1 if self._tables is not None else 3
        return np.full((screen.height, screen.width, samples), fill, np.uint8)

    def draw(self, number: int, canvas: Array) -> None:
        """Decode a frame, and draw its pixels that are not transparent."""
        frame = self._screen.frames[number]
        pixels = self._decode(frame)
        if self._tables is not None:
            drawn = self._tables.indices(pixels, frame.palette)[:, :, np.newaxis]
        else:
            if frame.palette not in self._colors:
                self._colors[frame.palette] = palette_table(frame.palette).T.copy()
            drawn = self._colors[frame.palette][pixels]
        target = canvas[self.box(number)]
        if frame.transparent is None:
            target[...] = drawn
        else:
            np.copyto(target, drawn, where=(pixels != frame.transparent)[:, :, np.newaxis])

    def _decode(self, frame: _GifFrame) -> Array:
        """Return a frame's indices, which giflib decodes as a separate file."""
        data = self._file.bytes_at(frame.offset, frame.length)
        size = struct.pack("<HH", frame.width, frame.height)
        alone = b"".join(
            (
                b"GIF89a", size, b"\xf7\0\0", bytes(3 * _COLORS),
                b",\0\0\0\0", size, b"\x40" if frame.interlaced else b"\0", data, b";",
            )
        )  # fmt: skip
        pixels: Array = imagecodecs.gif_decode(alone, index=0, asrgb=False)
        return pixels.reshape(frame.height, frame.width)

    def box(self, number: int) -> Box:
        """Rows and columns of a frame."""
        frame = self._screen.frames[number]
        return (
            slice(frame.top, frame.top + frame.height),
            slice(frame.left, frame.left + frame.width),
        )

    def disposal(self, number: int) -> Disposal:
        """Return the stored disposal of a frame."""
        return self._screen.frames[number].disposal

    def covers(self, number: int) -> bool:
        """Whether a frame fills the screen and has no transparent index."""
        frame, screen = self._screen.frames[number], self._screen
        whole = (frame.width, frame.height) == (screen.width, screen.height)
        return whole and frame.transparent is None
