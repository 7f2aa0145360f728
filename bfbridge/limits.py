"""Limits on what a file may declare, checked before memory is allocated.

A hostile or damaged file can declare any number. Each backend compares declared numbers with these
limits, and with the size of the file, before it allocates memory.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod
from typing import TYPE_CHECKING

from bfbridge.errors import LimitExceeded
from bfbridge.runtime.arguments import number, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DEFAULT_LIMITS", "Limits", "check"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper limits on the memory and work that one file may cause.

    Attributes
    ----------
    xml_bytes
        Longest metadata document (OME-XML, zarr.json, .zattrs) that is parsed, in bytes.
    xml_depth
        Maximum nesting of XML elements or JSON objects.
    elements
        Maximum number of XML elements of a metadata document. `ome` makes an object of each, which
        takes about 50 microseconds and 2 kB.
    images
        Maximum number of images (series) of one file. A plate of 1536 wells with 25 fields has
        38,400.
    channels
        Maximum number of channels of all images of one file together. One image may have a fifth
        of them.
    planes
        Maximum number of planes (Z x channels x T) of all images of one file together.
    levels
        Maximum number of resolutions of one image.
    directories
        Maximum number of image directories (TIFF IFDs) or arrays read in one file.
    tag_bytes
        Longest array of values in one header entry (TileOffsets of a large image), in bytes.
    chunk_bytes
        Largest decoded chunk, in bytes.
    chunk_ratio
        Maximum ratio of decoded to stored bytes of a chunk. Deflate cannot exceed 1032.
    unpacked_bytes
        Maximum size of a file unpacked from a ``.gz``, ``.bz2`` or ``.zip`` file, in bytes. It is
        unpacked to a temporary file.
    idle_seconds
        Maximum time that Java may work on one request without reading a byte of the file, in
        seconds: decoders can loop forever in damaged bytes that they have already read.
    """

    xml_bytes: int = 512 * MIB
    xml_depth: int = 256
    elements: int = 1_000_000
    images: int = 50_000
    channels: int = 500_000
    planes: int = 1_000_000
    levels: int = 100
    directories: int = 1_000_000
    tag_bytes: int = 512 * MIB
    chunk_bytes: int = 2048 * MIB
    chunk_ratio: int = 20_000
    unpacked_bytes: int = 16 * 1024 * MIB
    idle_seconds: float = 600.0

    @property
    def image_channels(self) -> int:
        """Maximum number of channels of one image: each channel is a record with metadata."""
        return self.channels // 5

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises
        ------
        BadArgument
            A value is not an integer of 0 or more; `idle_seconds` may be any number above 0.
        """
        for limit in fields(self):
            value = getattr(self, limit.name)
            if limit.name == "idle_seconds":
                number(value, limit.name, positive=True)
            else:
                whole(value, limit.name)


DEFAULT_LIMITS = Limits()


def check(value: int, limit: int, what: str, where: str) -> None:
    """Raise `LimitExceeded` if `value` is above `limit`.

    Parameters
    ----------
    value, limit
        The declared number and the maximum.
    what
        Description of the number, with its unit, for the message ("OME-XML length in bytes").
    where
        File, and position in it.
    """
    if value > limit:
        raise LimitExceeded(
            f"{where}: {what} is {value:,}, above the limit of {limit:,}; the file is damaged or "
            "hostile. If it is valid, raise the limit with BioReader(..., limits=Limits(...))."
        )


def nbytes(shape: Sequence[int], itemsize: int) -> int:
    """Return the bytes of an array of this shape, computed without overflow."""
    return prod(int(n) for n in shape) * itemsize
