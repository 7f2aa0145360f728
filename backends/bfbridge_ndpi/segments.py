"""Strips and tiles of a directory, uncompressed or in JPEG XR."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from bfbridge.errors import ReadFailed, UnreadableFile, Unsupported
from bfbridge.storage.source import RandomAccess
from bfbridge.tiff.directories import truncated
from bfbridge.tiff.tags import Tag
from bfbridge_ndpi.directories import NdpiDirectory
from bfbridge_ndpi.tags import NdpiTag

__all__ = ["JPEG", "JPEGXR", "NONE", "Segments", "read_places", "read_segments"]

NONE: Final = 1
JPEG: Final = 7
JPEGXR: Final = 22610
"""Values of the Compression tag."""


class Segments(NamedTuple):
    """Segments of a directory, and the pixels that they contain.

    Attributes
    ----------
    access
        The open file.
    shape
        Height, width and samples of the image.
    dtype, stored
        Type of a sample in native byte order, and as stored.
    compression
        `NONE` or `JPEGXR`.
    size
        Height and width of a segment.
    offsets, lengths
        Position of each segment in the file.
    tiled
        Whether segments at the lower edge are stored at full height.
    where
        File and directory, for messages.
    """

    access: RandomAccess
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    compression: int
    size: tuple[int, int]
    offsets: np.ndarray[Any, np.dtype[np.int64]]
    lengths: np.ndarray[Any, np.dtype[np.int64]]
    tiled: bool
    where: str

    @property
    def down(self) -> int:
        """Number of segments along Y."""
        return -(-self.shape[0] // self.size[0])

    @property
    def across(self) -> int:
        """Number of segments along X."""
        return -(-self.shape[1] // self.size[1])

    def size_of(self, row: int) -> tuple[int, int]:
        """Return the height and width of a segment in a row of segments."""
        height, width = self.size
        return (height if self.tiled else min(height, self.shape[0] - row * height)), width

    def read(self, row: int, column: int) -> tuple[bytes | memoryview, str]:
        """Return a segment as it is stored, and its name for messages.

        Raises
        ------
        ReadFailed
            It is not in the file.
        """
        number = row * self.across + column
        offset, length = int(self.offsets[number]), int(self.lengths[number])
        where = f"{self.where}, segment {number}"
        data = self.access.read_at(offset, length)
        if len(data) != length:
            raise ReadFailed(f"{where}: the file is cut short.")
        return data, where


def read_places(
    directory: NdpiDirectory, where: str
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the offsets and lengths of the strips or tiles of a directory.

    Raises
    ------
    UnreadableFile
        There are none, or they are not in the file.
    """
    tiled = Tag.TileOffsets in directory
    tags = (
        (Tag.TileOffsets, Tag.TileByteCounts) if tiled else (Tag.StripOffsets, Tag.StripByteCounts)
    )
    offsets = directory.wide_array(tags[0], NdpiTag.OffsetHighBytes)
    lengths = directory.wide_array(tags[1], NdpiTag.ByteCountHighBytes)
    if offsets is None or lengths is None or len(offsets) != len(lengths) or not len(offsets):
        raise UnreadableFile(
            f"{where} has no positions of its pixels, or not as many lengths; the file is damaged."
        )
    wrong = (offsets < 0) | (lengths < 0) | (offsets > directory.file_size - lengths)
    if wrong.any():
        number = int(wrong.argmax())
        raise truncated(
            where,
            f"segment {number}",
            int(offsets[number]),
            int(lengths[number]),
            directory.file_size,
        )
    return offsets, lengths


def read_segments(
    access: RandomAccess,
    directory: NdpiDirectory,
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    where: str,
) -> Segments:
    """Return the segments of a directory that is uncompressed or in JPEG XR.

    Raises
    ------
    UnreadableFile
        A segment is not in the file, or their number does not fit the size of the image.
    Unsupported
        The samples of a pixel are not adjacent.
    """
    height, width, samples = shape
    if samples > 1 and directory.number(Tag.PlanarConfiguration, 1) != 1:
        raise Unsupported("an NDPI file with separate planes of samples")
    tiled = Tag.TileOffsets in directory
    if tiled:
        size = directory.number(Tag.TileLength), directory.number(Tag.TileWidth)
    else:
        size = min(directory.number(Tag.RowsPerStrip, height), height), width
    if min(size) < 1:
        raise UnreadableFile(f"{where} has strips or tiles without pixels; the file is damaged.")
    offsets, lengths = read_places(directory, where)
    found = Segments(
        access, shape, dtype, dtype.newbyteorder("<"), directory.number(Tag.Compression, NONE),
        size, offsets, lengths, tiled, where,
    )  # fmt: skip
    if len(offsets) != found.down * found.across:
        raise UnreadableFile(
            f"{where} has {len(offsets):,} strips or tiles where its size needs "
            f"{found.down * found.across:,}; the file is damaged."
        )
    return found
