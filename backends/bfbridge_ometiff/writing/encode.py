"""Encoding of one chunk to one stored segment, and its options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bfbridge.errors import BadArgument, Unsupported
from bfbridge.ome.pixel_types import pixel_type_of
from bfbridge.runtime.arguments import flag
from bfbridge.runtime.thread_buffer import ThreadBuffer
from bfbridge.runtime.writer_options import refuse_unknown
from bfbridge.tiff.tags import COMPRESSIONS
from bfbridge_ometiff.basic_codecs import imagecodecs
from bfbridge_ometiff.codecs import encode
from bfbridge_ometiff.structure.segment_layout import DEFLATE, JPEG, JPEG2000, NONE, YCBCR

__all__ = [
    "OPTIONS",
    "Encoding",
    "EncodingOptions",
    "encoding_for",
    "settings_of",
    "tile_from_chunks",
]

Array = np.ndarray[Any, np.dtype[Any]]

# Methods that can be written, in the order of messages.
_METHODS: Final = {name: method for name, method in COMPRESSIONS.items() if method.levels}
_PREDICTABLE: Final = tuple(name for name, method in _METHODS.items() if method.predictable)
OPTIONS: Final = ("compression", "level", "predictor", "tile", "whole_tiles", "bigtiff")
_DEFAULT_TILE: Final = 1024


@dataclass(frozen=True, slots=True)
class EncodingOptions:
    """The checked options.

    Attributes
    ----------
    compression, level
        One of deflate, zstd, lzw, jpeg, jpeg2000, none; and its level.
    predictor
        "auto", or 1 (none), 2 (differences of neighbours) or 3 (floating point).
    tile
        (length, width), multiples of 16.
    whole_tiles
        Whether tiles have this size also where the image is smaller.
    bigtiff
        "auto", True or False.
    """

    compression: str
    level: int
    predictor: int | str
    tile: tuple[int, int]
    whole_tiles: bool
    bigtiff: bool | str


def settings_of(options: Mapping[str, Any]) -> EncodingOptions:
    """Check options.

    Raises
    ------
    BadArgument
        A name or value is not one of those listed in `EncodingOptions`.
    """
    refuse_unknown(options, OPTIONS, "OME-TIFF")
    compression = options.get("compression")
    compression = DEFLATE if compression is None else str(compression).lower()
    if compression not in _METHODS:
        raise BadArgument(
            f"compression={options['compression']!r}: an OME-TIFF is written with one of "
            f"{', '.join(_METHODS)}."
        )
    method = _METHODS[compression]
    allowed = method.levels
    level = options.get("level")
    if level is None:
        level = method.level
    if not isinstance(level, (int, np.integer)) or isinstance(level, bool) or level not in allowed:
        known = f"with {compression} it is a whole number from {allowed[0]} to {allowed[-1]}"
        if len(allowed) == 1:
            known = f"{compression} has no levels; leave it out"
        raise BadArgument(f"level={level!r}: {known}.")
    return EncodingOptions(
        compression,
        int(level),
        _predictor_of(options.get("predictor", "auto"), compression),
        _tile_of(options.get("tile")),
        flag(options.get("whole_tiles", False), "whole_tiles"),
        _bigtiff_of(options.get("bigtiff", "auto")),
    )


def _predictor_of(predictor: Any, compression: str) -> int | str:
    if predictor is None or (isinstance(predictor, str) and predictor == "auto"):
        return "auto"
    if isinstance(predictor, bool):
        return "auto" if predictor else 1
    if not isinstance(predictor, (int, np.integer)) or predictor not in (1, 2, 3):
        raise BadArgument(
            f"predictor={predictor!r}: it is 'auto', False or 1 for none, 2 for differences, or 3 "
            "for floating point."
        )
    if predictor != 1 and compression not in _PREDICTABLE:
        raise BadArgument(
            f"predictor={predictor}: only {', '.join(_PREDICTABLE)} take one, not {compression}."
        )
    return int(predictor)


def _tile_of(tile: Any) -> tuple[int, int]:
    if tile is None:
        return _DEFAULT_TILE, _DEFAULT_TILE
    pair = tuple(tile) if np.iterable(tile) else (tile, tile)
    if len(pair) != 2 or not all(
        isinstance(n, (int, np.integer))
        and not isinstance(n, bool)
        and 16 <= n <= 65536
        and n % 16 == 0
        for n in pair
    ):
        raise BadArgument(
            f"tile={tile!r}: a TIFF tile is a multiple of 16 from 16 to 65536, or a pair (length, "
            "width) of such."
        )
    return int(pair[0]), int(pair[1])


def tile_from_chunks(chunks: Any, tile: Any = None) -> Any:
    """Return the tile for a chunk size along the last axes of T, C, Z, Y, X.

    Raises
    ------
    BadArgument
        A chunk has several planes, unlike a TIFF tile, or `tile` is another size.
    """
    sizes = tuple(chunks) if np.iterable(chunks) else (chunks, chunks)
    whole = all(isinstance(size, (int, np.integer)) for size in sizes)
    if len(sizes) < 2 or not whole or any(size != 1 for size in sizes[:-2]):
        raise BadArgument(
            f"chunks={chunks!r}: a TIFF tile is part of one plane; give (height, width)."
        )
    found = sizes[-2:]
    if tile is not None and _tile_of(tile) != found:
        raise BadArgument(f"chunks={chunks!r} and tile={tile!r} differ. Give one of them.")
    return found


def _bigtiff_of(bigtiff: Any) -> bool | str:
    if bigtiff is None or (isinstance(bigtiff, str) and bigtiff == "auto"):
        return "auto"
    if isinstance(bigtiff, bool):
        return bigtiff
    raise BadArgument(f"bigtiff={bigtiff!r}: it is 'auto', True or False.")


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of the segments of one image.

    Attributes
    ----------
    dtype
        Type of the pixels, in native byte order, which is also the stored byte order.
    samples
        Samples per pixel, interleaved.
    compression, level
        As in `EncodingOptions`.
    predictor
        1, 2 or 3.
    tag
        Value of the Compression tag.
    """

    dtype: np.dtype[Any]
    samples: int
    compression: str
    level: int
    predictor: int
    tag: int

    @property
    def lossy(self) -> bool:
        """Whether encoding changes pixels."""
        return self.compression == JPEG or (self.compression == JPEG2000 and self.level > 0)

    @property
    def photometric(self) -> int:
        """Value of the PhotometricInterpretation tag."""
        if self.samples < 3:
            return 1
        return YCBCR if self.compression == JPEG else 2

    @property
    def subsampling(self) -> tuple[int, ...]:
        """Value of the YCbCrSubSampling tag; empty for none."""
        return (2, 1) if self.photometric == YCBCR else ()

    @property
    def tables(self) -> bytes:
        """JPEG tables that segments share: none, each segment has its own."""
        return b""

    def encode(self, pixels: Array, scratch: ThreadBuffer) -> bytes | memoryview:
        """Return the stored bytes of a whole segment.

        `pixels` are (Y, X, samples), contiguous unless predictor 2 takes their differences.
        For uncompressed segments, the result is a view of `pixels`.
        """
        return encode(self.compression, self._predicted(pixels, scratch), self.level)

    def encode_many(
        self, segments: Array, scratch: ThreadBuffer
    ) -> tuple[bytes | memoryview, Array]:
        """Return the stored bytes of whole segments, and the length of each.

        `segments` are (segment, Y, X, samples), contiguous. Each starts at an even offset (TIFF
        6.0, section 2), so a byte follows one of odd length.
        """
        # Predictors take each row by itself, so they take the segments as one high image.
        rows = segments.reshape(-1, *segments.shape[2:])
        predicted = self._predicted(rows, scratch).reshape(segments.shape)
        size = predicted[0].nbytes
        if self.compression == NONE and size % 2 == 0:
            return predicted.reshape(-1).view(np.uint8).data, np.full(len(segments), size)
        stored = [encode(self.compression, segment, self.level) for segment in predicted]
        joined = b"".join(part for data in stored for part in (data, b"\0"[: len(data) % 2]))
        return joined, np.fromiter(map(len, stored), np.int64, len(stored))

    def _predicted(self, pixels: Array, scratch: ThreadBuffer) -> Array:
        if self.predictor == 2:
            room = scratch.get(pixels.nbytes).view(self.dtype).reshape(pixels.shape)
            pixels = imagecodecs.delta_encode(pixels, axis=1, out=room)
        elif self.predictor == 3:
            pixels = imagecodecs.floatpred_encode(pixels, axis=1)
        return pixels


def encoding_for(dtype: np.dtype[Any], samples: int, settings: EncodingOptions) -> Encoding:
    """Choose the encoding of an image's segments.

    Raises
    ------
    Unsupported
        OME-TIFF, or the requested compression, cannot store the pixels.
    BadArgument
        The requested predictor does not fit the pixels.
    """
    dtype = np.dtype(np.uint8) if dtype == np.dtype(bool) else dtype.newbyteorder("=")
    compression = settings.compression
    if pixel_type_of(dtype) is None:
        raise Unsupported(
            f"OME-TIFF has no pixel type for {dtype}; convert to one of int8, uint8, int16, "
            "uint16, int32, uint32, float32, float64, complex64 or complex128, or write OME-Zarr"
        )
    method = _METHODS[compression]
    allowed = method.written_samples or method.samples
    fits = method.stores(f"{dtype.kind}{dtype.itemsize * 8}")
    if not fits or (allowed and samples not in allowed):
        types = ", ".join(map(_dtype_name, method.dtypes))
        raise Unsupported(
            f"{compression} stores samples of the types {types} and "
            f"{' or '.join(map(str, allowed)) or 'any number of'} samples per pixel, not {dtype} "
            f"with {samples}; choose another compression"
        )
    predictor = settings.predictor
    if predictor == "auto":
        # Bio-Formats cannot read predictor 3, so floating point has none unless requested.
        predictor = 2 if compression in _PREDICTABLE and dtype.kind in "ui" else 1
    suits = {1: True, 2: dtype.kind in "ui", 3: dtype.kind == "f"}[int(predictor)]
    if not suits:
        raise BadArgument(f"predictor={predictor} does not fit {dtype} pixels.")
    return Encoding(dtype, samples, compression, settings.level, int(predictor), method.tags[0])


def _dtype_name(code: str) -> str:
    return np.dtype(f"{code[0]}{int(code[1:]) // 8}").name
