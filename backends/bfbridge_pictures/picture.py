"""The common interface of all picture formats: one image, its metadata, and rows of pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import prod
from typing import Any, Literal

import numpy as np

from bfbridge.backend import Channel, Image, Level, OpenOptions, PixelSize
from bfbridge.errors import BfbridgeError, OutOfMemory
from bfbridge.limits import Limits, check
from bfbridge.runtime import forking
from bfbridge.storage.source import RandomAccess
from bfbridge_pictures.cursor import DamagedPicture

__all__ = [
    "Array",
    "DecodedPlanes",
    "Picture",
    "PictureFile",
    "RawRows",
    "check_decoded",
    "describe",
    "palette_table",
]

Array = np.ndarray[Any, np.dtype[Any]]

# Below this size the compression ratio is not checked.
_RATIO_FREE = 64 << 20
_BAND = 1 << 20


@dataclass(frozen=True, slots=True)
class PictureFile:
    """The input of a picture format's module.

    Attributes
    ----------
    name
        Last part of the file name, which becomes the image's name, as in Bio-Formats.
    access
        The open file.
    options
        The options of `ReaderBackend.open`.
    """

    name: str
    access: RandomAccess
    options: OpenOptions

    @property
    def limits(self) -> Limits:
        """Limits on what the file declares."""
        return self.options.limits

    def bytes_at(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes.

        Raises
        ------
        DamagedPicture
            The file ends before that.
        """
        data = bytes(self.access.read_at(offset, length)) if length else b""
        if len(data) < length:
            raise DamagedPicture(
                f"the file is cut short: {length:,} bytes are needed at byte {offset:,}, and the "
                f"file has {self.access.size:,} bytes"
            )
        return data


@dataclass
class Picture(ABC):
    """One open picture. Its pixels have one channel of one or more samples, and one z.

    Attributes
    ----------
    image
        The record.
    original
        The format's own metadata, with Bio-Formats' names.
    table
        Colours of the pixel values, 3 x values, if these are indices.
    description
        Description for the OME document.
    """

    image: Image
    original: Mapping[str, Any] = field(default_factory=dict)
    table: Array | None = None
    description: str | None = None

    reads_parts = False

    @abstractmethod
    def rows(self, level: int, t: int, start: int, stop: int) -> Array:
        """Return rows of one plane, shape (Y, X, samples). Thread-safe.

        Raises
        ------
        DamagedPicture
            They cannot be decoded.
        """

    def metadata(self) -> Mapping[str, Any]:
        """Return the format's own metadata."""
        return self.original

    def acquired(self) -> datetime | None:
        """Return the acquisition time for the OME document, or None."""
        return None

    def forget(self) -> None:  # noqa: B027 - most pictures keep no pixels
        """Release decoded pixels."""


@dataclass
class RawRows(Picture):
    """Uncompressed rows, each with the same number of bytes.

    Attributes
    ----------
    access
        The open file.
    offset, stride
        Position of the pixels, and bytes between consecutive stored rows.
    decode
        Function from stored rows, as (Y, `stride`) of uint8, to pixels (Y, X, samples).
    upward
        Whether the bottom row is stored first.
    """

    access: RandomAccess = field(kw_only=True)
    offset: int = field(kw_only=True)
    stride: int = field(kw_only=True)
    decode: Callable[[Array], Array] = field(kw_only=True)
    upward: bool = field(default=False, kw_only=True)

    reads_parts = True

    def rows(self, level: int, t: int, start: int, stop: int) -> Array:
        """Read and decode the bytes of these rows alone."""
        del level, t
        if self.upward:
            height = self.image.levels[0].shape[3]
            start, stop = height - stop, height - start
        wanted = (stop - start) * self.stride
        data = bytes(self.access.read_at(self.offset + start * self.stride, wanted))
        # The padding of the last row may be missing; the format's module has checked the rest.
        stored = np.frombuffer(data.ljust(wanted, b"\0"), np.uint8).reshape(-1, self.stride)
        pixels = self.decode(stored)
        return pixels[::-1] if self.upward else pixels


@dataclass
class DecodedPlanes(Picture):
    """A picture whose planes are decoded as a whole. The most recent planes are kept for crops.

    Attributes
    ----------
    plane
        Function from (level, t) to pixels (Y, X, samples). One thread at a time calls it.
    keep
        How many planes are kept.
    """

    plane: Callable[[int, int], Array] = field(kw_only=True)
    keep: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        self._lock = forking.lock()
        self._kept: OrderedDict[tuple[int, int], Array] = OrderedDict()

    def rows(self, level: int, t: int, start: int, stop: int) -> Array:
        """Decode the plane, unless it is kept, and return its rows."""
        with self._lock:
            found = self._kept.get((level, t))
            if found is None:
                found = self._decoded(level, t)
                self.hold(level, t, found)
            self._kept.move_to_end((level, t))
            return found[start:stop]

    def _decoded(self, level: int, t: int) -> Array:
        try:
            return self.plane(level, t)
        except (BfbridgeError, DamagedPicture):
            raise
        except MemoryError as error:
            size = prod(self.image.levels[level].shape[1:]) * self.image.dtype.itemsize
            raise OutOfMemory(f"not enough memory to decode {size:,} bytes of pixels.") from error
        except Exception as error:
            # Codecs raise exceptions of any type for damaged data.
            raise DamagedPicture(f"its data do not decode ({error})") from error

    def hold(self, level: int, t: int, pixels: Array) -> None:
        """Keep a plane that was decoded while decoding another one."""
        wanted = (*self.image.levels[level].shape[3:], self.image.samples)
        if pixels.shape != wanted or pixels.dtype != self.image.dtype:
            raise DamagedPicture(
                f"it decodes to {pixels.dtype} pixels of shape {pixels.shape}, not to "
                f"{self.image.dtype} of shape {wanted} (Y, X, samples)"
            )
        self._kept[level, t] = pixels
        while len(self._kept) > self.keep:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        """Release the planes that are kept."""
        with self._lock:
            self._kept.clear()


def describe(
    file: PictureFile,
    shape: tuple[int, int, int],
    dtype: Any,
    *,
    frames: int = 1,
    bits: int | None = None,
    order: Literal["<", ">"] = "<",
    interleaved: bool = True,
    pixel_size: PixelSize | None = None,
    sizes: tuple[tuple[int, int], ...] = (),
    band: int | None = None,
) -> Image:
    """Return the record of a picture.

    Parameters
    ----------
    file
        The file, for the image's name.
    shape
        Rows, columns and samples.
    dtype
        Type of a sample.
    frames
        Number of planes along T.
    bits
        Significant bits; None for all bits of the dtype.
    order, interleaved, pixel_size
        As in `bfbridge.backend.Image`.
    sizes
        Rows and columns of the lower levels.
    band
        Rows of a chunk; None for all.

    Raises
    ------
    DamagedPicture
        A size is not positive.
    """
    height, width, samples = shape
    if min(height, width, samples, frames) < 1:
        raise DamagedPicture(f"it declares {width} x {height} pixels of {samples} samples")
    dtype = np.dtype(dtype)
    levels = tuple(
        Level(
            shape=(frames, samples, 1, y, x),
            chunk=(1, samples, 1, min(band or y, y), x),
        )
        for y, x in ((height, width), *sizes)
    )
    return Image(
        name=file.name,
        levels=levels,
        dtype=dtype,
        byteorder=order,
        samples=samples,
        interleaved=interleaved and samples > 1,
        pixel_size=pixel_size or PixelSize(),
        channels=(Channel(samples=samples),),
        significant_bits=8 * dtype.itemsize if bits is None else bits,
    )


def band_of(stride: int) -> int:
    """Return how many rows of raw pixels make a chunk of about 1 MiB."""
    return max(_BAND // max(stride, 1), 1)


def check_decoded(file: PictureFile, shape: tuple[int, ...], itemsize: int, stored: int) -> None:
    """Compare the declared size of a plane with the limits, before memory is allocated.

    Parameters
    ----------
    file
        The file.
    shape
        Shape of the decoded array.
    itemsize
        Bytes of each of its values.
    stored
        Bytes of the encoded plane.

    Raises
    ------
    LimitExceeded
        It is larger than `Limits.chunk_bytes`, or more than `Limits.chunk_ratio` times as large
        as the encoded plane.
    """
    size = prod(shape) * itemsize
    check(size, file.limits.chunk_bytes, "decoded size of a plane in bytes", file.name)
    if size > _RATIO_FREE:
        most = max(stored, 1) * file.limits.chunk_ratio
        check(size, most, f"decoded size of {stored:,} stored bytes", file.name)


def palette_table(colors: bytes, *, entry: int = 3, order: str = "RGB", length: int = 256) -> Array:
    """Return stored colours as a lookup table of shape (3, `length`); missing ones are black.

    Parameters
    ----------
    colors
        The stored colours.
    entry
        Bytes of one colour.
    order
        Order of red, green and blue in a colour.
    length
        Number of colours of the table.
    """
    table = np.zeros((3, length), np.uint8)
    found = np.frombuffer(colors, np.uint8, len(colors) // entry * entry).reshape(-1, entry)
    found = found[:length]
    for row, letter in enumerate("RGB"):
        table[row, : len(found)] = found[:, order.index(letter)]
    return table
