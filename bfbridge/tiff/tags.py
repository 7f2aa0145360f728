"""Tags and compressions of TIFF: the only tables of their numbers and names."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = [
    "BYTE_STREAMS",
    "COMPRESSIONS",
    "COMPRESSION_OF_TAG",
    "OLD_JPEG",
    "Compression",
    "Tag",
    "refused_compression",
    "tag_name",
]


class Tag(IntEnum):
    """Tags by the names that their specifications use.

    TIFF 6.0, TIFF technical notes 1 to 3, XMP, GeoTIFF, Exif, ImageJ and LERC.
    """

    NewSubfileType = 254
    SubfileType = 255
    ImageWidth = 256
    ImageLength = 257
    BitsPerSample = 258
    Compression = 259
    PhotometricInterpretation = 262
    FillOrder = 266
    DocumentName = 269
    ImageDescription = 270
    Make = 271
    Model = 272
    StripOffsets = 273
    Orientation = 274
    SamplesPerPixel = 277
    RowsPerStrip = 278
    StripByteCounts = 279
    MinSampleValue = 280
    MaxSampleValue = 281
    XResolution = 282
    YResolution = 283
    PlanarConfiguration = 284
    PageName = 285
    XPosition = 286
    YPosition = 287
    ResolutionUnit = 296
    PageNumber = 297
    Software = 305
    DateTime = 306
    Artist = 315
    HostComputer = 316
    Predictor = 317
    WhitePoint = 318
    PrimaryChromaticities = 319
    ColorMap = 320
    TileWidth = 322
    TileLength = 323
    TileOffsets = 324
    TileByteCounts = 325
    SubIFDs = 330
    ExtraSamples = 338
    SampleFormat = 339
    SMinSampleValue = 340
    SMaxSampleValue = 341
    JPEGTables = 347
    YCbCrCoefficients = 529
    YCbCrSubSampling = 530
    YCbCrPositioning = 531
    ReferenceBlackWhite = 532
    XMP = 700
    Copyright = 33432
    ModelPixelScale = 33550
    ExifIFD = 34665
    InterColorProfile = 34675
    LercParameters = 50674
    IJMetadataByteCounts = 50838
    IJMetadata = 50839


_NAMES: Final[Mapping[int, str]] = {int(tag): tag.name for tag in Tag}


def tag_name(number: int) -> str:
    """Return the name of a tag, or its number as text for an unknown tag."""
    return _NAMES.get(number, str(number))


class Compression(NamedTuple):
    """One compression method of TIFF, and the samples it can store.

    A new method is one entry in `COMPRESSIONS`, and a decoder and an encoder in
    `bfbridge_ometiff.codecs`.

    Attributes
    ----------
    name
        Value of the option ``compression``.
    tags
        Values of the Compression tag. The first one is written.
    dtypes
        Sample types that it can store, as kind and bits ("u8"); empty for all.
    samples
        Numbers of samples per pixel that can be read; empty for all.
    byte_stream
        Whether a segment is a compressed stream of bytes. Otherwise it is a complete image.
    predictable
        Whether the Predictor tag may be used with it.
    levels, level
        Levels that the writer accepts, and its default; no levels for a method that is only read.
    written_samples
        Samples per pixel that can be written; empty for the same as `samples`.
    """

    name: str
    tags: tuple[int, ...]
    dtypes: tuple[str, ...] = ()
    samples: tuple[int, ...] = ()
    byte_stream: bool = False
    predictable: bool = False
    levels: range = range(0)
    level: int = 0
    written_samples: tuple[int, ...] = ()

    def stores(self, dtype: str) -> bool:
        """Return whether the method can store samples of a kind and number of bits ("u8")."""
        return not self.dtypes or dtype in self.dtypes


# Deflate level 6 is five times slower than level 1 and saves 4 %. A JPEG level is a quality. A
# JPEG 2000 level is a peak signal-to-noise ratio in dB; 0 is lossless. Messages list the methods in
# this order.
_ALL: Final = (
    Compression(
        "deflate", (8, 32946, 50013), byte_stream=True, predictable=True, levels=range(13), level=1
    ),
    Compression(
        "zstd", (50000, 34926), byte_stream=True, predictable=True, levels=range(-7, 23), level=1
    ),
    Compression("lzw", (5,), byte_stream=True, predictable=True, levels=range(1)),
    Compression("jpeg", (7, 34892), dtypes=("u8",), samples=(1, 3), levels=range(1, 101), level=90),
    Compression(
        "jpeg2000",
        (33005, 33003, 33004, 34712),
        dtypes=("u8", "u16", "i8", "i16"),
        levels=range(101),
        written_samples=(1, 2, 3, 4),
    ),
    Compression("none", (1, 0), byte_stream=True, levels=range(1)),
    Compression("packbits", (32773,), byte_stream=True),
    Compression("lzma", (34925,), byte_stream=True, predictable=True),
    Compression("lerc", (34887,)),
    Compression("webp", (50001, 34927), dtypes=("u8",), samples=(3, 4)),
    Compression("jpegxl", (50002, 52546), dtypes=("u8", "u16", "f32")),
    Compression("jpegxr", (34934, 22610), dtypes=("u8", "u16", "f32"), samples=(1, 3)),
    Compression("png", (34933,), dtypes=("u8", "u16"), samples=(1, 2, 3, 4)),
)

COMPRESSIONS: Final[Mapping[str, Compression]] = MappingProxyType(
    {method.name: method for method in _ALL}
)
"""All methods by name."""

COMPRESSION_OF_TAG: Final[Mapping[int, Compression]] = MappingProxyType(
    {number: method for method in _ALL for number in method.tags}
)
"""All methods by the values of the Compression tag."""

BYTE_STREAMS: Final = frozenset(method.name for method in _ALL if method.byte_stream)
"""Names of the methods that compress streams of bytes."""

_TIFFCP: Final = "libtiff's `tiffcp -c lzw old.tif new.tif` converts it"
_MAKER: Final = "convert it with the program of its maker"
_NOT_DECODED: Final[Mapping[int, str]] = MappingProxyType(
    {
        2: f"CCITT run lengths; {_TIFFCP}",
        3: f"CCITT T.4, Group 3; {_TIFFCP}",
        4: f"CCITT T.6, Group 4; {_TIFFCP}",
        6: "JPEG of TIFF 6.0",
        32766: "NeXT",
        32771: "CCITT run lengths in words",
        32809: "ThunderScan",
        32909: "PixarLog",
        33007: "JPEG of other writers",
        34661: "JBIG",
        34676: "SGI LogLuv",
        34677: "SGI LogLuv of 24 bits",
        48124: f"Jetraw; {_MAKER}",
        65000: f"EER of electron counting; {_MAKER}",
        65001: f"EER of electron counting; {_MAKER}",
        65002: f"EER of electron counting; {_MAKER}",
    }
)


def refused_compression(number: int) -> str:
    """Return the text of an error: a Compression tag that is not decoded, its name, what to do."""
    known = _NOT_DECODED.get(number)
    return f"TIFF compression {number}" + (f" ({known})" if known else "")


OLD_JPEG: Final = 6
"""Compression tag of JPEG in TIFF 6.0, where other tags contain the position of the data."""
