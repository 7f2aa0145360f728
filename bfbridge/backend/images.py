"""Records that describe the images of a file, and boxes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from bfbridge.backend.chunk_grid import AXES, ChunkGrid, Shape5

__all__ = [
    "Channel",
    "Image",
    "Level",
    "Modulo",
    "PixelSize",
    "Placement",
    "Quantity",
    "Region",
    "Role",
]

Role = Literal["image", "label", "macro", "thumbnail"]


class Quantity(NamedTuple):
    """A number `value` with its `unit`, as OME writes units ("µm", "nm", "pixel")."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Physical size of one pixel along `x`, `y` and `z`; None if unknown."""

    x: Quantity | None = None
    y: Quantity | None = None
    z: Quantity | None = None


class Placement(NamedTuple):
    """Position of an image in the pixel coordinates that the images of a file share.

    Attributes
    ----------
    scene
        Number of the scene that the image is, or is a tile of.
    y, x
        Of its first pixel, in pixels of full size; they may be negative.
    """

    scene: int
    y: int
    x: int


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of an image; an RGB channel has three samples.

    Attributes
    ----------
    name
        Name as stored, or None.
    color
        (red, green, blue, alpha), 0 to 255 each, or None.
    emission, excitation
        Wavelengths with their units, or None.
    samples
        Number of samples of a pixel of this channel.
    window
        Lowest and highest value of the display range as stored, or None.
    active
        Whether the channel is visible when the image is opened.
    """

    name: str | None = None
    color: tuple[int, int, int, int] | None = None
    emission: Quantity | None = None
    excitation: Quantity | None = None
    samples: int = 1
    window: tuple[float, float] | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of an image.

    Attributes
    ----------
    shape
        Sizes along T, C (channels x samples), Z, Y, X.
    chunk
        Stored block (TIFF tile or strip, Zarr chunk, the Java reader's preferred block), along the
        same axes. Requests aligned to it decode no chunk twice.
    shard
        Block that is stored as one object, of several chunks; None if each chunk is one.
    """

    shape: Shape5
    chunk: Shape5
    shard: Shape5 | None = field(default=None, compare=False)

    @property
    def grid(self) -> ChunkGrid:
        """The chunks of the level: their number, and the box of each."""
        return ChunkGrid(self.shape, self.chunk)


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a file: an OME Image, a Bio-Formats series, a scene.

    Attributes
    ----------
    name
        Name as stored, or None.
    levels
        Resolutions, full size first; never empty.
    dtype
        Dtype of the pixels, in native byte order.
    byteorder
        As stored: "<" or ">".
    samples
        Samples per pixel; C of every level is channels x samples.
    interleaved
        Whether the samples of a pixel are adjacent in the stored chunk.
    pixel_size, channels
        Physical size and channel records; ``len(channels) * samples == levels[0].shape[1]``.
    role
        Purpose of the image; all roles except "image" are listed as associated images.
    label_of
        For a label image whose values are numbers of objects: the number of the image with these
        objects, or None if that image is not in the file.
    photo
        Whether a label image is a photograph of a slide's label, whose values are intensities.
    significant_bits
        Number of bits of each value that contain information (12 for a 12-bit camera in uint16).
    time_step
        Time between two time points, or None; the OME document may contain more.
    placement
        Position of the image relative to the other images of the file; None if the format does not
        store it in pixels.
    """

    name: str | None
    levels: tuple[Level, ...]
    dtype: np.dtype[Any]
    byteorder: Literal["<", ">"] = "<"
    samples: int = 1
    interleaved: bool = False
    pixel_size: PixelSize = field(default_factory=PixelSize)
    channels: tuple[Channel, ...] = ()
    role: Role = "image"
    significant_bits: int | None = None
    label_of: int | None = None
    photo: bool = False
    time_step: Quantity | None = None
    placement: Placement | None = None

    @property
    def is_mask(self) -> bool:
        """Whether the values are numbers of objects, as in NGFF's label images.

        Such values are never averaged: a mean of two numbers is the number of another object.
        """
        return (
            self.role == "label"
            and not self.photo
            and self.samples == 1
            and self.dtype.kind in "biu"
        )


@dataclass(frozen=True, slots=True)
class Region:
    """A box of one `level` of one `image`: from `start` to before `stop` along T, C, Z, Y, X."""

    image: int
    level: int
    start: Shape5
    stop: Shape5

    @property
    def shape(self) -> Shape5:
        """Lengths along T, C, Z, Y, X."""
        t, c, z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return t, c, z, y, x

    def __str__(self) -> str:
        ranges = ", ".join(
            f"{axis.lower()} {a}" if b == a + 1 else f"{axis.lower()} {a}:{b}"
            for axis, a, b in zip(AXES, self.start, self.stop, strict=True)
        )
        return f"image {self.image}, level {self.level}, {ranges}"


@dataclass(frozen=True, slots=True)
class Modulo:
    """A further axis inside Z, C or T (lifetime, angle, lambda ...), as in loci.formats.Modulo.

    Attributes
    ----------
    type
        Quantity of the axis: "lifetime", "angle", "phase", "tile", "lambda".
    start, step, end
        First value, step and last value, in `unit`.
    unit
        Unit of the values, or None.
    labels
        Values that are not numbers.
    length
        Number of values. The size of Z, C or T is a multiple of it.
    fastest
        Whether this axis varies faster than the rest of Z, C or T; None if that is not known.
    """

    type: str
    start: float
    step: float
    end: float
    unit: str | None
    labels: tuple[str, ...]
    length: int
    fastest: bool | None = True
