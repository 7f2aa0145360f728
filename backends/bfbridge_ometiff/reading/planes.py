"""Which directory of which file contains each plane of an OME image.

Follows Bio-Formats' OMETiffReader.initFile where its result is unique. Where it guesses (planes
counted from 1, planes without a directory in a file with enough directories), `Unsupported` is
raised, and Bio-Formats reads the file. If metadata contradict themselves or the file,
`UnreadableFile` is raised: Bio-Formats would return black or misplaced planes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bfbridge.backend import Image
from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge.ome.documents.xml import OmeImage, TiffData

__all__ = [
    "ABSENT",
    "ImagePlan",
    "PageNotes",
    "PlaneMap",
    "Samples",
    "contradiction",
    "map_planes",
    "samples_of",
]

# Most planes that are named repeatedly if TiffData with and without PlaneCount are mixed.
_MOST_FILLED = 50_000_000
_TANGLED = "has TiffData with and without PlaneCount that name its planes again and again"

ABSENT = -1
"""File number of a plane that no file contains."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The structure of an image's C axis.

    Attributes
    ----------
    channels, per_pixel
        Their product is the size of C.
    adjusted
        Whether the number of samples comes from the directory and not from the XML; the next
        image depends on it, as in OMETiffReader.
    """

    channels: int
    per_pixel: int
    adjusted: bool


def samples_of(image: OmeImage, stored: int, index: int, *, adjusted: bool) -> Samples:
    """Compare the samples that an Image declares with those in its file's first directory.

    Parameters
    ----------
    image, index
        The image and its position in the document.
    stored
        SamplesPerPixel of the first directory of the opened file.
    adjusted
        Value of the previous image.

    Raises
    ------
    Unsupported
        Bio-Formats would compute a C that is not channels times samples.
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
    """The positions of the planes of one image.

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

    @property
    def strides(self) -> tuple[int, int, int]:
        """Distance of consecutive planes along Z, channels and T."""
        return self._z, self._c, self._t

    def index(self, z: int, c: int, t: int) -> int:
        """Return the position of a plane in DimensionOrder."""
        return z * self._z + c * self._c + t * self._t

    def where(self, z: int, c: int, t: int) -> tuple[int, int]:
        """Return a plane's file (or `ABSENT`) and the directory in it."""
        index = self.index(z, c, t)
        return self.files[index], self.ifds[index]


@dataclass(frozen=True, slots=True)
class PageNotes:
    """Metadata of an image in a file without OME-XML.

    Attributes
    ----------
    description
        Free text, or None.
    acquired
        Acquisition date in the file's local time, or None.
    magnification
        Magnification of the objective, or None.
    position
        Position of the plane along x and y, in mm, or None.
    """

    description: str | None = None
    acquired: datetime | None = None
    magnification: float | None = None
    position: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One image and the positions of its planes.

    Attributes
    ----------
    image, planes
        The record, and the file and directory of each plane.
    levels
        If lower resolutions are directories of the main chain: the directory of each level, for an
        image of one plane. Empty if they are SubIFDs.
    notes
        Metadata for the OME document of the image.
    """

    image: Image
    planes: PlaneMap
    levels: tuple[int, ...] = ()
    notes: PageNotes = PageNotes()


def contradiction(where: str, index: int, what: str) -> UnreadableFile:
    """Return the error for contradicting metadata; `what` describes image `index`."""
    return UnreadableFile(
        f"{where}: image {index} of its OME-XML {what}. The file is damaged, or was changed "
        "without its metadata."
    )


def map_planes(
    image: OmeImage, index: int, channels: int, file_of: Callable[[TiffData], int], where: str
) -> PlaneMap:
    """Evaluate an image's TiffData elements.

    Parameters
    ----------
    image, index
        The image and its position in the document.
    channels
        Planes along C; a plane contains all samples.
    file_of
        Returns the number of the file that a TiffData refers to.
    where
        The file with the document, for messages.

    Raises
    ------
    Unsupported
        The elements have another meaning.
    UnreadableFile
        They do not fit the image's size.
    """
    sizes = (image.size_z, channels, image.size_t)
    planes = PlaneMap(image.dimension_order, sizes)
    files, ifds = planes.files, planes.ifds
    total = len(files)
    for data in image.tiff_data:
        if data.first_z >= sizes[0] or data.first_c >= sizes[1] or data.first_t >= sizes[2]:
            if _counts_from_one(image, sizes):
                raise Unsupported(f"image {index} counts its planes from 1")
            raise contradiction(where, index, "has a TiffData outside the image's size")
        if data.plane_count == 0:
            raise Unsupported(f"image {index} has a TiffData of no planes")
        start = planes.index(data.first_z, data.first_c, data.first_t)
        count = data.plane_count or 1
        if start + count > total:
            raise contradiction(where, index, "has a TiffData of more planes than it has itself")
        number, first = file_of(data), data.ifd or 0
        for step in range(count):
            files[start + step] = number
            ifds[start + step] = first + step
    counted = {data.plane_count is not None for data in image.tiff_data}
    if counted == {False}:
        _fill_down(planes)
    elif len(counted) > 1:
        _fill_in_order(planes, image.tiff_data, file_of, contradiction(where, index, _TANGLED))
    return planes


def _counts_from_one(image: OmeImage, sizes: tuple[int, int, int]) -> bool:
    """Whether OMETiffReader counts planes from 1, and all TiffData fit that."""
    firsts = zip(*((d.first_z, d.first_c, d.first_t) for d in image.tiff_data), strict=True)
    return all(
        max(first) < size or (min(first) >= 1 and max(first) == size)
        for first, size in zip(firsts, sizes, strict=True)
    )


def _fill_in_order(
    planes: PlaneMap,
    tiff_data: Sequence[TiffData],
    file_of: Callable[[TiffData], int],
    tangled: UnreadableFile,
) -> None:
    """Evaluate TiffData with and without PlaneCount one by one, as OMETiffReader does.

    An element without a count also describes the following planes, up to the next one that was
    named before; later elements may name those planes again.
    """
    files, ifds = planes.files, planes.ifds
    named = bytearray(len(files))
    files[:] = [ABSENT] * len(files)
    steps = 0
    for data in tiff_data:
        start = planes.index(data.first_z, data.first_c, data.first_t)
        number, first = file_of(data), data.ifd or 0
        stop = end = start + (data.plane_count or 1)
        if data.plane_count is None:
            found = named.find(1, stop)
            end = len(files) if found < 0 else found
        named[start:stop] = b"\1" * (stop - start)
        files[start:end] = [number] * (end - start)
        ifds[start:end] = range(first, first + end - start)
        steps += end - start
        if steps > _MOST_FILLED:
            raise tangled


def _fill_down(planes: PlaneMap) -> None:
    """Assign following directories to planes between named ones, as OMETiffReader does."""
    files, ifds = planes.files, planes.ifds
    for position in range(1, len(files)):
        if files[position] == ABSENT and files[position - 1] != ABSENT:
            files[position] = files[position - 1]
            ifds[position] = ifds[position - 1] + 1
