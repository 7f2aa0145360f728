"""Storage of a directory's pixels: sizes, sample type, segments, compression.

A `SegmentLayout` describes a directory that this backend decodes exactly as Bio-Formats' TiffParser
does. For others, `layout_of` raises `Unsupported` with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.limits import check
from bfbridge.tiff.directories import Directory
from bfbridge.tiff.tags import (
    BYTE_STREAMS,
    COMPRESSION_OF_TAG,
    COMPRESSIONS,
    Tag,
    refused_compression,
)

__all__ = ["SegmentLayout", "check_samples", "layout_of"]

NONE, LZW, JPEG, DEFLATE, PACKBITS, ZSTD = "none", "lzw", "jpeg", "deflate", "packbits", "zstd"
JPEG2000, JPEGXL, WEBP, LERC = "jpeg2000", "jpegxl", "webp", "lerc"
JPEGXR, LZMA, PNG = "jpegxr", "lzma", "png"

_WHITE_IS_ZERO, BLACK_IS_ZERO, _RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_FORMATS: Final = {1: "u", 2: "i", 3: "f", 4: "u", 6: "c"}
_BAND_BYTES: Final = 1 << 20
_MOST_SAMPLES: Final = 4096


class DamagedSegment(Exception):
    """A segment does not decode to the declared pixels; the caller adds the position."""


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """The storage of the pixels of one directory.

    Attributes
    ----------
    width, length
        Size of the image, in pixels.
    tile_width, tile_length
        Size of a segment; a strip is as wide as the image.
    tiled
        Whether segments are tiles; the last strip may be shorter, the last tile may not.
    samples
        Samples per pixel.
    planar
        Whether each sample has separate segments.
    dtype
        Type of the returned pixels, in native byte order.
    byteorder
        "<" or ">", the byte order of stored samples.
    bits
        Stored bits per sample; samples are packed if it is below the size of the dtype.
    compression, predictor, photometric
        As stored.
    inverted
        Whether 0 is stored as white; returned pixels have 0 as black, as in Bio-Formats.
    reversed_bits
        Whether the lowest bit of each stored byte comes first (FillOrder 2).
    offsets, counts
        Position and length of each segment, row by row, then sample by sample if planar.
    tables
        JPEG tables that all segments share, or empty.
    extra_compression
        LERC's second compression: 0 none, 1 deflate, 2 zstd.
    compression_tag, subsampling
        Value of the Compression tag, and of YCbCrSubSampling (empty without one).
    """

    width: int
    length: int
    tile_width: int
    tile_length: int
    tiled: bool
    samples: int
    planar: bool
    dtype: np.dtype[Any]
    byteorder: str
    bits: int
    compression: str
    predictor: int
    photometric: int
    inverted: bool
    reversed_bits: bool
    offsets: np.ndarray[Any, np.dtype[Any]]
    counts: np.ndarray[Any, np.dtype[Any]]
    tables: bytes
    extra_compression: int
    compression_tag: int
    subsampling: tuple[int, ...]

    @property
    def across(self) -> int:
        """Number of segments in a row."""
        return -(-self.width // self.tile_width)

    @property
    def down(self) -> int:
        """Number of segments in a column."""
        return -(-self.length // self.tile_length)

    @property
    def segment_samples(self) -> int:
        """Samples per pixel in one segment."""
        return 1 if self.planar else self.samples

    @property
    def packed(self) -> bool:
        """Whether samples are narrower than the dtype and must be unpacked."""
        return self.bits != self.dtype.itemsize * 8

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The dtype in the file's byte order."""
        return self.dtype.newbyteorder("<" if self.byteorder == "<" else ">")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of a decoded byte stream; each row starts at a whole byte."""
        return -(-self.tile_width * self.segment_samples * self.bits // 8)

    def rows_of(self, row: int) -> int:
        """Return the number of rows of segments in segment row `row`."""
        if self.tiled:
            return self.tile_length
        return min(self.tile_length, self.length - row * self.tile_length)

    @property
    def addressable(self) -> bool:
        """Whether single rows of a segment can be read from the file."""
        plain = self.compression == NONE and self.predictor == 1
        return plain and not self.packed and not self.reversed_bits

    @property
    def band(self) -> tuple[int, int]:
        """Rows and columns of the blocks in which reading is efficient.

        A tile, or a band of consecutive whole strips of about a megabyte; rows of an uncompressed
        strip can be read separately.
        """
        if self.tiled:
            return self.tile_length, self.tile_width
        row = max(1, self.width * self.segment_samples * self.dtype.itemsize)
        wanted = max(1, _BAND_BYTES // row)
        if self.addressable and self.tile_length > wanted:
            return wanted, self.width
        strips = max(1, wanted // self.tile_length)
        return min(self.length, strips * self.tile_length), self.width

    def same_pixels(self, other: SegmentLayout) -> bool:
        """Whether planes of both can belong to one image."""
        return (self.width, self.length, self.samples, self.dtype) == (
            other.width,
            other.length,
            other.samples,
            other.dtype,
        )


def layout_of(directory: Directory, byteorder: str, where: str) -> SegmentLayout:
    """Check a directory's entries and return its layout.

    Raises
    ------
    Unsupported
        It is stored in a form that this backend does not decode.
    UnreadableFile, LimitExceeded
        It contradicts itself, or declares more than the limits allow.
    """
    width, length = directory.number(Tag.ImageWidth), directory.number(Tag.ImageLength)
    _between(width, "ImageWidth", where)
    _between(length, "ImageLength", where)
    samples = directory.number(Tag.SamplesPerPixel, 1)
    check_samples(samples, where)
    # TIFF 6.0, Compression (page 30): the default is 1, no compression.
    number = directory.number(Tag.Compression, 1)
    method = COMPRESSION_OF_TAG.get(number)
    if method is None:
        raise Unsupported(refused_compression(number))
    compression = method.name
    dtype, bits = _sample_type(directory, compression, samples)
    planar = samples > 1 and _is_planar(directory)
    tiled = Tag.TileWidth in directory and Tag.StripOffsets not in directory
    if tiled:
        tile_width, tile_length = directory.number(Tag.TileWidth), directory.number(Tag.TileLength)
        _between(tile_width, "TileWidth", where)
        _between(tile_length, "TileLength", where)
    else:
        rows = directory.numbers(Tag.RowsPerStrip, (length,))
        if len(set(rows)) > 1 or rows[0] < 1:
            raise Unsupported("strips of different lengths")
        tile_width, tile_length = width, min(rows[0], length)
    if method.samples and (1 if planar else samples) not in method.samples:
        raise Unsupported(f"{compression} with {samples} samples a pixel")
    photometric, inverted = _photometric(directory, compression, samples, dtype)
    wanted = -(-width // tile_width) * -(-length // tile_length) * (samples if planar else 1)
    layout = SegmentLayout(
        width=width,
        length=length,
        tile_width=tile_width,
        tile_length=tile_length,
        tiled=tiled,
        samples=samples,
        planar=planar,
        dtype=dtype,
        byteorder=byteorder,
        bits=bits,
        compression=compression,
        predictor=_predictor(directory, compression, dtype, bits),
        photometric=photometric,
        inverted=inverted,
        reversed_bits=_is_reversed(directory, compression),
        offsets=_segments(directory, Tag.TileOffsets if tiled else Tag.StripOffsets, wanted, where),
        counts=_segments(
            directory, Tag.TileByteCounts if tiled else Tag.StripByteCounts, wanted, where
        ),
        tables=directory.raw(Tag.JPEGTables) if compression == JPEG else b"",
        extra_compression=_lerc_extra(directory) if compression == LERC else 0,
        compression_tag=number,
        subsampling=directory.numbers(Tag.YCbCrSubSampling),
    )
    _check_segments(layout, wanted, directory, where)
    return layout


def check_samples(samples: int, where: str) -> None:
    """Raise `UnreadableFile` if a pixel has no samples, or more than real files have.

    The field allows up to 65535, for each of which other readers make a channel with metadata.
    """
    if not 1 <= samples <= _MOST_SAMPLES:
        raise UnreadableFile(f"{where}: SamplesPerPixel is {samples:,}; the file is damaged.")


def _is_planar(directory: Directory) -> bool:
    planes = directory.number(Tag.PlanarConfiguration, 1)
    if planes not in (1, 2):
        raise Unsupported(f"PlanarConfiguration {planes}")
    return planes == 2


def _between(value: int, name: str, where: str) -> None:
    if not 1 <= value < 1 << 31:
        raise UnreadableFile(
            f"{where}: {name} is {value}, which should be from 1 to 2147483647; it is damaged."
        )


def _sample_type(directory: Directory, compression: str, samples: int) -> tuple[np.dtype[Any], int]:
    """Return the dtype of pixels and the stored bits per sample."""
    stored = directory.numbers(Tag.BitsPerSample)
    if len(stored) not in (1, samples) and (stored or samples > 1):
        # Many writers store one number for all samples; any other count is an error.
        raise Unsupported(f"BitsPerSample of {len(stored)} samples where a pixel has {samples}")
    depths = set(stored or (1,))
    formats = set(directory.numbers(Tag.SampleFormat, (1,)))
    if len(depths) > 1 or len(formats) > 1:
        raise Unsupported("samples of different types in one pixel")
    bits, kind = depths.pop(), _FORMATS.get(formats.pop())
    if kind is None:
        raise Unsupported("an unknown SampleFormat")
    if not COMPRESSIONS[compression].stores(f"{kind}{bits}"):
        raise Unsupported(f"{compression} with samples of {bits} bits")
    whole = {"u": (8, 16, 32), "i": (8, 16, 32), "f": (32, 64), "c": (64, 128)}[kind]
    if bits in whole:
        return np.dtype(f"{kind}{bits // 8}"), bits
    if kind == "u" and 0 < bits < 16 and compression in BYTE_STREAMS:
        return np.dtype("u1" if bits < 8 else "u2"), bits
    raise Unsupported(f"samples of {bits} bits with SampleFormat kind {kind!r}")


def _photometric(
    directory: Directory, compression: str, samples: int, dtype: np.dtype[Any]
) -> tuple[int, bool]:
    """Return the photometric interpretation, and whether pixels must be inverted."""
    photometric = directory.number(Tag.PhotometricInterpretation, -1)
    if photometric == _WHITE_IS_ZERO:
        # Bio-Formats inverts all except JPEG (TiffParser.unpackBytes).
        if dtype.kind not in "ui" or compression not in BYTE_STREAMS:
            raise Unsupported("WhiteIsZero pixels that are not plain integers")
        return photometric, True
    if photometric == PALETTE and samples > 1:
        raise Unsupported("palette pixels with several samples")
    if photometric == YCBCR and (compression not in (JPEG, WEBP, JPEGXL) or samples != 3):
        raise Unsupported("YCbCr pixels outside JPEG")
    if photometric not in (BLACK_IS_ZERO, _RGB, PALETTE, YCBCR):
        raise Unsupported(f"PhotometricInterpretation {photometric}")
    return photometric, False


def _is_reversed(directory: Directory, compression: str) -> bool:
    order = directory.number(Tag.FillOrder, 1)
    if order != 1 and (order != 2 or compression not in BYTE_STREAMS):
        raise Unsupported(f"FillOrder {order} with {compression} compression")
    return order == 2


def _predictor(directory: Directory, compression: str, dtype: np.dtype[Any], bits: int) -> int:
    predictor = directory.number(Tag.Predictor, 1)
    if predictor == 1:
        return 1
    if not COMPRESSIONS[compression].predictable:
        raise Unsupported(f"Predictor {predictor} with {compression} compression")
    fits = dtype.kind in "ui" if predictor == 2 else dtype.kind == "f"
    if predictor not in (2, 3) or not fits or bits != dtype.itemsize * 8:
        raise Unsupported(f"Predictor {predictor} with {bits} bits of {dtype}")
    return predictor


def _segments(
    directory: Directory, tag: int, wanted: int, where: str
) -> np.ndarray[Any, np.dtype[Any]]:
    """Return the positions or lengths of the declared segments; further values are ignored."""
    values = directory.array(tag, wanted)
    if values is None:
        raise Unsupported(f"no tag {tag}: the positions of its segments are not stored")
    if values.dtype.kind != "u":
        raise UnreadableFile(f"{where}: tag {tag} has a signed type; the file is damaged.")
    return values


def _check_segments(layout: SegmentLayout, wanted: int, directory: Directory, where: str) -> None:
    """Compare the declared segments with those stored, and with the limits."""
    limits = directory.limits
    decoded = layout.tile_width * layout.tile_length * layout.segment_samples
    decoded *= layout.dtype.itemsize
    if not layout.addressable:
        check(decoded, limits.chunk_bytes, "decoded size of a segment in bytes", where)
    have = min(len(layout.offsets), len(layout.counts))
    if have < wanted:
        raise UnreadableFile(
            f"{where}: its {layout.width} x {layout.length} pixels need {wanted:,} segments, but "
            f"{have:,} are stored; the file is damaged."
        )


def _lerc_extra(directory: Directory) -> int:
    extra = directory.numbers(Tag.LercParameters, (0, 0))
    if len(extra) < 2 or extra[1] not in (0, 1, 2):
        raise Unsupported("LERC with an unknown second compression")
    return extra[1]
