"""Images of an NDPI file: the levels and focal planes of the slide, its photograph, its map.

The mapping is that of Bio-Formats' NDPIReader. The directories of a slide come first: all levels of
the first focal plane, largest first, then those of the next one. Directories of other sizes follow.
"""

from __future__ import annotations

import itertools
from typing import Any, Final, NamedTuple

import numpy as np

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import Limits, check
from bfbridge.storage.source import RandomAccess
from bfbridge.tiff.tags import Tag, refused_compression
from bfbridge_ndpi.directories import NdpiDirectory
from bfbridge_ndpi.intervals import Stream
from bfbridge_ndpi.jpeg import HEADER_BYTES, LARGEST_SIDE, JpegHeader, parse_header
from bfbridge_ndpi.planes import IntervalPlane, Plane, SegmentPlane, WholePlane
from bfbridge_ndpi.segments import JPEG, JPEGXR, NONE, read_places, read_segments
from bfbridge_ndpi.tags import NdpiTag

__all__ = ["Layout", "NdpiFile", "SlideImage", "is_hamamatsu", "read_layout"]

_RGB, _YCBCR = 2, 6
# PhotometricInterpretation: black is zero, RGB, YCbCr.
_PHOTOMETRIC: Final = frozenset({1, _RGB, _YCBCR})
# From this capture mode on, the slide has one channel of 16 bits, whatever its directories state.
_GREY_MODES: Final = 7
# NDPIReader and tifffile read this mode, one channel of 12 bits, in different ways.
_UNCLEAR_MODE: Final = 6
# Bytes that are read first of a JPEG stream.
_SHORT: Final = 2048
_MACRO, _MAP = -1.0, -2.0


class NdpiFile(NamedTuple):
    """An open file.

    Attributes
    ----------
    access
        The open file.
    name
        Its name, for messages.
    limits
        Limits on what it may declare.
    waits
        Whether reading it waits for a server.
    """

    access: RandomAccess
    name: str
    limits: Limits
    waits: bool


class SlideImage(NamedTuple):
    """One image.

    Attributes
    ----------
    levels
        Directories of each level, one for each focal plane.
    """

    levels: tuple[tuple[int, ...], ...]


class Layout(NamedTuple):
    """All images of a file, and the planes of its directories.

    Attributes
    ----------
    images
        The slide, then each other directory.
    planes
        Pixels of each directory.
    """

    images: tuple[SlideImage, ...]
    planes: tuple[Plane, ...]

    def plane(self, image: int, level: int, z: int) -> Plane:
        """Return the pixels of one focal plane."""
        return self.planes[self.images[image].levels[level][z]]


def is_hamamatsu(directories: list[NdpiDirectory]) -> bool:
    """Whether directories are those of an NDPI file, as NDPIReader.isThisType decides."""
    first = directories[0]
    return NdpiTag.Version in first and (NdpiTag.McuStarts in first or NdpiTag.PropertyMap in first)


def read_layout(file: NdpiFile, directories: list[NdpiDirectory]) -> Layout:
    """Find the images of a file, and read the headers of their pixels.

    Raises
    ------
    Unsupported
        The file has an unusual structure, compression or type of pixels.
    UnreadableFile
        It is damaged.
    LimitExceeded
        It declares more than the limits allow.
    """
    limits, name = file.limits, file.name
    sizes = [_size(directory, name) for directory in directories]
    images = _images(directories, sizes)
    check(len(images), limits.images, "number of images", name)
    check(len(images[0].levels), limits.levels, "number of levels", name)
    check(len(directories), limits.planes, "number of planes", name)
    of_slide = sum(map(len, images[0].levels))
    mode = directories[0].number(NdpiTag.CaptureMode, -1)
    if mode == _UNCLEAR_MODE:
        raise Unsupported(f"an NDPI file of capture mode {mode}")
    planes = tuple(
        _plane(
            file, directory, sizes[number],
            grey=mode >= _GREY_MODES and number < of_slide, where=f"{name}: directory {number}",
        )
        for number, directory in enumerate(directories)
    )  # fmt: skip
    first = planes[0]
    for plane in planes[:of_slide]:
        if (plane.shape[2], plane.dtype) != (first.shape[2], first.dtype):
            raise Unsupported("an NDPI file with levels of different types")
    return Layout(images, planes)


def _size(directory: NdpiDirectory, name: str) -> tuple[int, int]:
    """Return height and width."""
    size = directory.number(Tag.ImageLength), directory.number(Tag.ImageWidth)
    if min(size) < 1 or max(size) >= 1 << 31:
        raise UnreadableFile(
            f"{name}: the directory at byte {directory.offset} declares {size[1]} x {size[0]} "
            "pixels; the file is damaged."
        )
    return size


def _images(
    directories: list[NdpiDirectory], sizes: list[tuple[int, int]]
) -> tuple[SlideImage, ...]:
    """Assign directories to images, as NDPIReader.initStandardMetadata does."""
    depth = levels = 1
    lenses = [directory.quantity(NdpiTag.SourceLens) for directory in directories]
    for number in range(1, len(directories)):
        if sizes[number] == sizes[0]:
            depth += 1
        elif depth == 1:
            lens = lenses[number]
            is_last = number == len(directories) - 1
            levels += not is_last if lens is None else lens not in (_MACRO, _MAP)
    count = depth * levels
    for number in range(len(directories)):
        lens = lenses[number]
        of_slide = number < count
        if lens is not None and (lens > 0) != of_slide:
            raise Unsupported("an NDPI file with directories in an unusual order")
        if of_slide and sizes[number] != sizes[number % levels]:
            raise Unsupported("an NDPI file whose focal planes have different levels")
    ordered = all(
        height <= above[0] and width <= above[1]
        for above, (height, width) in itertools.pairwise(sizes[:levels])
    )
    if count > len(directories) or not ordered:
        raise Unsupported("an NDPI file with directories in an unusual order")
    slide = SlideImage(
        tuple(
            tuple(z * levels + level for z in range(depth))
            for level in range(levels)
        )
    )  # fmt: skip
    others = (SlideImage(((number,),)) for number in range(count, len(directories)))
    return slide, *others


def _plane(
    file: NdpiFile, directory: NdpiDirectory, size: tuple[int, int], *, grey: bool, where: str
) -> Plane:
    """Return the pixels of a directory.

    Parameters
    ----------
    file, directory, size
        The open file; the directory, its height and width.
    grey
        Whether pixels have one sample of 16 bits, whatever the directory states.
    where
        File and directory, for messages.
    """
    compression = directory.number(Tag.Compression, NONE)
    photometric = directory.number(Tag.PhotometricInterpretation, 1)
    if (
        photometric not in _PHOTOMETRIC
        or Tag.JPEGTables in directory
        or Tag.SubIFDs in directory
        or directory.number(Tag.Predictor, 1) != 1
        or directory.number(Tag.FillOrder, 1) != 1
    ):
        raise Unsupported("an NDPI file with unusual tags")
    if compression == JPEG and not grey:
        return _jpeg_plane(file, directory, size, where)
    if compression not in (NONE, JPEGXR):
        raise Unsupported(refused_compression(compression) + " in an NDPI file")
    samples, dtype = (1, np.dtype(np.uint16)) if grey else _type(directory, size)
    if compression == NONE and photometric == _YCBCR and not grey:
        raise Unsupported("an NDPI file with uncompressed luma and chroma")
    if grey and compression == NONE:
        # Of 12 and 14 bits, packed or not.
        stored = sum(directory.numbers(Tag.StripByteCounts))
        if stored != 2 * size[0] * size[1]:
            raise Unsupported("an NDPI file of 16 bits whose pixels are packed")
    segments = read_segments(file.access, directory, (*size, samples), dtype, where)
    return SegmentPlane(segments, file.limits)


def _type(directory: NdpiDirectory, size: tuple[int, int]) -> tuple[int, np.dtype[Any]]:
    """Return the samples of a pixel and their type."""
    samples = directory.number(Tag.SamplesPerPixel, 1)
    bits = set(directory.numbers(Tag.BitsPerSample, (1,)))
    if samples not in (1, 3) or set(directory.numbers(Tag.SampleFormat, (1,))) != {1}:
        raise Unsupported("an NDPI file with an unusual type of pixels")
    if bits == {1} and samples == 1:
        # Maps do not state that they have 8 bits.
        length = sum(directory.numbers(Tag.StripByteCounts))
        if directory.number(Tag.Compression, NONE) == NONE and length == size[0] * size[1]:
            bits = {8}
    if bits not in ({8}, {16}):
        raise Unsupported("an NDPI file with an unusual type of pixels")
    return samples, np.dtype(np.uint8 if bits == {8} else np.uint16)


def _jpeg_plane(
    file: NdpiFile, directory: NdpiDirectory, size: tuple[int, int], where: str
) -> Plane:
    samples = directory.number(Tag.SamplesPerPixel, 1)
    bits = set(directory.numbers(Tag.BitsPerSample, (8,)))
    if bits != {8} or samples not in (1, 3):
        raise Unsupported("an NDPI file with an unusual type of pixels")
    offsets, lengths = read_places(directory, where)
    if len(offsets) != 1 or Tag.TileOffsets in directory:
        raise Unsupported("an NDPI file with several JPEG streams for one image")
    offset, length = int(offsets[0]), int(lengths[0])
    header = _read_header(file.access, offset, length, where)
    stream = Stream(file.access, directory, offset, length, header, where)
    color = _color(header, directory)
    if header.components != samples:
        raise Unsupported(
            f"an NDPI file with {header.components} samples per pixel where its tags have {samples}"
        )
    whole = (header.height, header.width)
    grid = header.grid(*size)
    fits = all(
        stored in (0, wanted, wanted & 0xFFFF) for stored, wanted in zip(whole, size, strict=True)
    )
    several = grid is not None and grid.down * grid.across > 1
    if grid is not None and several and fits:
        return IntervalPlane(stream, grid, size, color, waits=file.waits)
    # The tags of small levels may be a pixel smaller than their stream.
    larger = all(stored >= wanted for stored, wanted in zip(whole, size, strict=True))
    if not larger or max(whole) > LARGEST_SIDE:
        raise Unsupported(
            f"a JPEG stream of {whole[1]} x {whole[0]} pixels in an NDPI file where its tags have "
            f"{size[1]} x {size[0]}, or without restart markers"
        )
    return WholePlane(stream, size, color, file.limits)


def _read_header(access: RandomAccess, offset: int, length: int, where: str) -> JpegHeader:
    # Headers usually have less than a thousand bytes.
    for most in (_SHORT, HEADER_BYTES):
        head = bytes(access.read_at(offset, min(length, most)))
        header = parse_header(head, where, is_all=len(head) == length)
        if header is not None:
            return header
    raise Unsupported("a JPEG header in an NDPI file that is unusually long")


def _color(header: JpegHeader, directory: NdpiDirectory) -> str:
    """Return the colour space of a stream."""
    if header.components == 1:
        return ""
    photometric = directory.number(Tag.PhotometricInterpretation, _YCBCR)
    stated = header.is_rgb
    if photometric not in (_RGB, _YCBCR) or stated not in (None, photometric == _RGB):
        raise Unsupported("a JPEG stream in an NDPI file whose tags state another colour space")
    return "RGB" if photometric == _RGB else "YCBCR"
