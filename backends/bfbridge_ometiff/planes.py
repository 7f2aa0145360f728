"""Which directory of which file holds each plane of an OME image.

Follows Bio-Formats' OMETiffReader.initFile wherever that has one answer; where it guesses
(planes counted from 1, planes without a directory, counts that disagree), the answer here is
`Unsupported`, and Bio-Formats does its own guessing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bfbridge.backend import Image
from bfbridge.errors import Unsupported
from bfbridge.omexml import OmeImage, TiffData

__all__ = ["ABSENT", "ImagePlan", "Notes", "PlaneMap", "Samples", "map_planes", "samples_of"]

ABSENT = -1
"""Number of the file that holds a plane which no file holds."""


@dataclass(frozen=True, slots=True)
class Samples:
    """How an image's C axis is made up.

    Attributes
    ----------
    channels, per_pixel
        Their product is the size of C.
    adjusted
        Whether the directory was believed where the XML says otherwise; the next image depends on
        it, as in OMETiffReader.
    """

    channels: int
    per_pixel: int
    adjusted: bool


def samples_of(image: OmeImage, stored: int, index: int, *, adjusted: bool) -> Samples:
    """Reconcile the samples an Image declares with those its file's first directory has.

    Parameters
    ----------
    image, index
        The image and its position in the document.
    stored
        SamplesPerPixel of the first directory of the file that was opened.
    adjusted
        Of the image before.

    Raises
    ------
    Unsupported
        Bio-Formats would arrive at a C that is not channels times samples.
    """
    declared = image.channels[0].samples if image.channels and image.samples_declared else -1
    samples = declared
    if adjusted or (declared != stored and (index == 0 or declared < 0)):
        samples = stored
        adjusted = len(image.channels) > 1
    else:
        adjusted = False
    channels = image.size_c
    if not adjusted:
        channels = max(1, channels // samples)
    if channels * samples != image.size_c:
        channels = image.size_c
    total = image.size_c
    unrelated = total % samples and samples % total
    if unrelated or total == 1 or adjusted:
        total *= samples
    if channels * samples != total or (adjusted and stored > 1):
        raise Unsupported(
            f"image {index} declares {image.size_c} channels in {len(image.channels)} Channel "
            f"elements, which does not fit its {stored} samples a pixel"
        )
    return Samples(channels, samples, adjusted)


class PlaneMap:
    """Where the planes of one image are.

    Parameters
    ----------
    order
        The image's DimensionOrder.
    sizes
        Along Z, channels (of all samples) and T.
    """

    def __init__(self, order: str, sizes: tuple[int, int, int]) -> None:
        self.sizes = sizes
        count = sizes[0] * sizes[1] * sizes[2]
        self.files: list[int] = [ABSENT] * count
        self.ifds: list[int] = [0] * count
        stride = 1
        strides = {}
        for axis in order[2:]:
            strides[axis] = stride
            stride *= sizes["ZCT".index(axis)]
        self._z, self._c, self._t = strides["Z"], strides["C"], strides["T"]

    def index(self, z: int, c: int, t: int) -> int:
        """Return the position of a plane in DimensionOrder."""
        return z * self._z + c * self._c + t * self._t

    def where(self, z: int, c: int, t: int) -> tuple[int, int]:
        """Return a plane's file (or `ABSENT`) and the directory in it."""
        index = self.index(z, c, t)
        return self.files[index], self.ifds[index]


@dataclass(frozen=True, slots=True)
class Notes:
    """What a file without OME-XML says about an image beyond its pixels.

    Attributes
    ----------
    description
        Free text, or None.
    acquired
        When, in the file's own time, or None.
    magnification
        Of the objective, or None.
    position
        Of the plane along x and y, in mm, or None.
    """

    description: str | None = None
    acquired: datetime | None = None
    magnification: float | None = None
    position: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One image and where its planes are.

    Attributes
    ----------
    image, planes
        The record, and the file and directory of each plane.
    levels
        Where lower resolutions are directories of the main chain: the directory of each level, of
        an image of one plane. Empty where they are SubIFDs.
    notes
        For the OME document that is made for the image.
    """

    image: Image
    planes: PlaneMap
    levels: tuple[int, ...] = ()
    notes: Notes = Notes()


def map_planes(
    image: OmeImage, index: int, channels: int, file_of: Callable[[TiffData], int]
) -> PlaneMap:
    """Follow an image's TiffData elements.

    Parameters
    ----------
    image, index
        The image and its position in the document.
    channels
        Of all samples: planes along C.
    file_of
        Returns the number of the file that a TiffData is about.

    Raises
    ------
    Unsupported
        The elements do not fit the image's size.
    """
    sizes = (image.size_z, channels, image.size_t)
    planes = PlaneMap(image.dimension_order, sizes)
    files, ifds = planes.files, planes.ifds
    total = len(files)
    for data in image.tiff_data:
        if data.first_z >= sizes[0] or data.first_c >= sizes[1] or data.first_t >= sizes[2]:
            raise Unsupported(f"image {index} has a TiffData outside the image's size")
        if data.plane_count == 0:
            raise Unsupported(f"image {index} has a TiffData of no planes")
        start = planes.index(data.first_z, data.first_c, data.first_t)
        count = data.plane_count or 1
        if start + count > total:
            raise Unsupported(f"image {index} has a TiffData of more planes than the image")
        number, first = file_of(data), data.ifd or 0
        for step in range(count):
            files[start + step] = number
            ifds[start + step] = first + step
    counted = {data.plane_count is not None for data in image.tiff_data}
    if len(counted) > 1:
        raise Unsupported(f"image {index} has TiffData with and without PlaneCount")
    if counted == {False}:
        _fill_down(planes)
    return planes


def _fill_down(planes: PlaneMap) -> None:
    """Give planes between the ones named the directories that follow, as OMETiffReader does."""
    files, ifds = planes.files, planes.ifds
    for position in range(1, len(files)):
        if files[position] == ABSENT and files[position - 1] != ABSENT:
            files[position] = files[position - 1]
            ifds[position] = ifds[position - 1] + 1
