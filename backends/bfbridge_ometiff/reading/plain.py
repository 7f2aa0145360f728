"""Plain TIFFs and ImageJ stacks for which Bio-Formats certainly uses TiffReader.

About forty Bio-Formats readers accept TIFFs, by tags, by words in the description or by files
beside them. This module accepts only files that none of them reads: baseline tags only, known
neutral software and description, and no file beside it that any reader looks for. Other files
are left to Bio-Formats.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from bfbridge.backend import Channel, Image, Level, PixelSize, Quantity
from bfbridge.errors import Unsupported
from bfbridge.limits import check
from bfbridge.tiff.directories import Directory, TiffFile
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.reading.files import OpenTiff
from bfbridge_ometiff.reading.neighbours import companion_of
from bfbridge_ometiff.reading.planes import ImagePlan, PageNotes, PlaneMap
from bfbridge_ometiff.structure.jpeg_header import check_colors
from bfbridge_ometiff.structure.segment_layout import JPEG, JPEG2000, SegmentLayout

__all__ = ["plain_images"]

_SUFFIXES: Final = (".tif", ".tiff", ".tf2", ".tf8", ".btf")
# Tags of structure and colour; their values are compared from page to page.
_DESCRIBING: Final = frozenset(
    {
        Tag.NewSubfileType,
        Tag.SubfileType,
        Tag.ImageWidth,
        Tag.ImageLength,
        Tag.BitsPerSample,
        Tag.Compression,
        Tag.PhotometricInterpretation,
        Tag.FillOrder,
        Tag.SamplesPerPixel,
        Tag.RowsPerStrip,
        Tag.PlanarConfiguration,
        Tag.Predictor,
        Tag.TileWidth,
        Tag.TileLength,
        Tag.SampleFormat,
        Tag.YCbCrSubSampling,
        Tag.LercParameters,
    }
)
# All tags that a plain TIFF may have: no vendor's reader tests for them.
_TAGS: Final = _DESCRIBING | {
    Tag.DocumentName,
    Tag.ImageDescription,
    Tag.StripOffsets,
    Tag.Orientation,
    Tag.StripByteCounts,
    Tag.MinSampleValue,
    Tag.MaxSampleValue,
    Tag.XResolution,
    Tag.YResolution,
    Tag.PageName,
    Tag.ResolutionUnit,
    Tag.PageNumber,
    Tag.Software,
    Tag.DateTime,
    Tag.WhitePoint,
    Tag.PrimaryChromaticities,
    Tag.ColorMap,
    Tag.TileOffsets,
    Tag.TileByteCounts,
    Tag.ExtraSamples,
    Tag.SMinSampleValue,
    Tag.SMaxSampleValue,
    Tag.JPEGTables,
    Tag.YCbCrCoefficients,
    Tag.YCbCrPositioning,
    Tag.ReferenceBlackWhite,
    Tag.InterColorProfile,
    Tag.IJMetadataByteCounts,
    Tag.IJMetadata,
}
# Offsets of pixels, their range and the page's name may differ between pages.
_FREE: Final = frozenset(
    {
        Tag.StripOffsets,
        Tag.StripByteCounts,
        Tag.MinSampleValue,
        Tag.MaxSampleValue,
        Tag.XResolution,
        Tag.YResolution,
        Tag.PageName,
        Tag.PageNumber,
        Tag.TileOffsets,
        Tag.TileByteCounts,
        Tag.SMinSampleValue,
        Tag.SMaxSampleValue,
    }
)
_TEXTS: Final = frozenset(
    {Tag.DocumentName, Tag.ImageDescription, Tag.PageName, Tag.Software, Tag.DateTime}
)
_SOFTWARE: Final = ("tifffile", "imagej", "matlab", "bfbridge", "libtiff", "pyvips", "scikit-image")
_UNIT: Final = re.compile(r".*unit=(\w+)", re.ASCII | re.DOTALL)
# Names that Bio-Formats reads as micrometres; unknown names are micrometres too.
_MICRONS: Final = frozenset({"micron", "micrometer", "microns", "um"})
# Control characters end a line.
_LINES: Final = bytes(10 if 1 <= n < 32 or 127 <= n < 160 else n for n in range(256))
_KEYS: Final = ("channels", "slices", "frames", "images", "spacing")
_SIZE_LINE: Final = re.compile(rb"^(?:" + "|".join(_KEYS).encode() + rb")", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Sizes:
    z: int = 1
    channels: int = 1
    t: int = 1
    spacing: float | None = None


def plain_images(tiff: OpenTiff) -> list[ImagePlan]:
    """Return the images of a plain TIFF or ImageJ stack.

    Raises
    ------
    Unsupported
        Another reader may read it, or Bio-Formats would need to guess.
    """
    name = tiff.source.filename
    if not name.lower().endswith(_SUFFIXES):
        raise Unsupported("a TIFF without OME-XML under another suffix than TIFF's")
    if not tiff.is_local:
        raise Unsupported("a TIFF without OME-XML that is not local")
    if tiff.source.path is not None:
        found = companion_of(tiff.source.path)
        if found is not None:
            raise Unsupported(f"a TIFF beside {found[0].name!r}, as in {found[1]}'s data sets")
    numbers, same = _directories(tiff)
    first, layout = tiff.directory(numbers[0]), tiff.layout(numbers[0])
    comment = _comment(first)
    if comment.startswith("ImageJ=") and same:
        sizes = _imagej(first, comment, layout, len(numbers))
    elif comment and not comment.startswith('{"shape"'):
        raise Unsupported("a description that another reader may know")
    else:
        sizes = _Sizes(t=len(numbers))
    described = "" if comment.startswith("ImageJ=") else comment
    notes = PageNotes(described or None, _acquired(first))
    if same:
        size = _pixel_size(first, comment, sizes.spacing)
        return [_image(name, layout, sizes, size, numbers, notes)]
    check(len(numbers), tiff.tiff.limits.images, "number of images", name)
    size = _pixel_size(first, comment, None)
    plans = []
    for index, number in enumerate(numbers):
        title = f"{name} #{index + 1}"
        own = (PixelSize(), PageNotes()) if index else (size, notes)
        plans.append(_image(title, tiff.layout(number), _Sizes(), own[0], [number], own[1]))
    return plans


def _acquired(directory: Directory) -> datetime | None:
    """Return the DateTime tag (TIFF 6.0: YYYY:MM:DD HH:MM:SS), or None if it is not a date."""
    text = directory.text(Tag.DateTime).decode("latin-1").strip()
    try:
        # A TIFF's time has no zone, and OME's time neither.
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        return None


class _Pattern:
    """The form of a directory's entries if they are equivalent to those of another directory.

    Stacks may have 100 000 pages that differ only in the offsets of their pixels: their entries are
    then not parsed one by one.

    Parameters
    ----------
    tiff, block
        The file, and the stored entries.
    directory
        The parsed directory.
    """

    def __init__(self, tiff: TiffFile, block: bytes, directory: Directory) -> None:
        size, inline = tiff.header.entry_bytes, tiff.header.offset_bytes
        self.usable = not any(
            tag in directory and directory.length(tag) > inline for tag in _DESCRIBING
        )
        stored = np.frombuffer(block, np.uint8).reshape(-1, size)
        matters = np.ones(stored.shape, bool)
        for row, tag in enumerate(tiff.tags_of(block)):
            if tag in _FREE or (tag in directory and directory.length(tag) > inline):
                matters[row, size - inline :] = False
            if tag in _TEXTS:
                matters[row, 4:] = False
        self._matters = matters.ravel()
        self._values = stored.ravel()[self._matters]

    def fits(self, block: bytes) -> bool:
        """Whether a directory with these entries is equivalent."""
        stored = np.frombuffer(block, np.uint8)
        if not self.usable or len(stored) != len(self._matters):
            return False
        return bool((stored[self._matters] == self._values).all())


def _directories(tiff: OpenTiff) -> tuple[list[int], bool]:
    """Return the numbers of all directories except thumbnails, and whether they are equivalent."""
    count = tiff.tiff.count()
    skipped = set(tiff.tiff.skipped) if count > 1 else set()
    numbers = [number for number in range(count) if number not in skipped]
    if not numbers:
        raise Unsupported("a TIFF of thumbnails only")
    pattern: _Pattern | None = None
    first: SegmentLayout | None = None
    same = True
    kinds: set[tuple[object, ...]] = set()
    makes: set[tuple[int, int]] = set()
    for number in range(count):
        block = tiff.tiff.block(number)
        if pattern is not None and number not in skipped and pattern.fits(block):
            continue
        other = set(tiff.tiff.tags_of(block)) - _TAGS
        if other:
            raise Unsupported(f"a TIFF with tag {min(other)}, which another reader may know")
        if number in skipped:
            continue
        layout = _checked_layout(tiff, number)
        first = first or layout
        same = same and layout.same_pixels(first)
        kinds.add((layout.width, layout.length, layout.dtype))
        makes.add((layout.samples, layout.photometric))
        pattern = _Pattern(tiff.tiff, block, tiff.directory(number)) if _is_simple(layout) else None
    if len(kinds) == 1 and len(makes) > 1:
        raise Unsupported("planes of one size with different samples")
    _check_software(tiff, count)
    return numbers, same


def _checked_layout(tiff: OpenTiff, number: int) -> SegmentLayout:
    layout = tiff.layout(number)
    if layout.compression == JPEG2000:
        raise Unsupported("JPEG 2000 outside OME-TIFF, which has its own resolutions")
    check_colors(tiff, layout)
    return layout


def _is_simple(layout: SegmentLayout) -> bool:
    """Whether the entries alone define a directory, without reading its pixels."""
    return layout.compression != JPEG


def _check_software(tiff: OpenTiff, count: int) -> None:
    first, last = tiff.directory(0), tiff.directory(count - 1)
    software = first.text(Tag.Software).decode("latin-1").strip().lower()
    if first.text(Tag.DocumentName).startswith(b"CHANNEL"):
        raise Unsupported("a document name as in TCSReader's files")
    if software and not software.startswith(_SOFTWARE):
        raise Unsupported("software that another reader may know")
    if last.text(Tag.ImageDescription).startswith(b"ImageJ=") and not first.text(
        Tag.ImageDescription
    ).startswith(b"ImageJ="):
        raise Unsupported("an ImageJ description on its last page only")


def _comment(directory: Directory) -> str:
    text = directory.text(Tag.ImageDescription)
    if b"\0" in text:
        raise Unsupported("a description of several parts")
    return text.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").rstrip()


def _imagej(directory: Directory, comment: str, layout: SegmentLayout, count: int) -> _Sizes:
    """Return the sizes in an ImageJ description (TiffReader.parseCommentImageJ)."""
    # Bio-Formats also reads ImageJ's binary metadata (tag IJMetadata) as lines of such values.
    if _SIZE_LINE.search(directory.raw(Tag.IJMetadata).translate(_LINES, b"\0")):
        raise Unsupported("ImageJ metadata that repeats a size")
    found: dict[str, str] = {}
    for line in comment.split("\n"):
        key, equals, value = line.partition("=")
        if line.startswith(_KEYS):
            if not equals or key not in _KEYS:
                raise Unsupported("an unusual ImageJ description")
            found[key] = value
    if not all(value.isdecimal() for key, value in found.items() if key != "spacing"):
        raise Unsupported("an ImageJ description with damaged numbers")
    try:
        channels, z, t = (int(found.get(key, 1)) for key in ("channels", "slices", "frames"))
        spacing = float(found["spacing"]) if "spacing" in found else None
    except ValueError as error:
        raise Unsupported("an ImageJ description with damaged numbers") from error
    color = layout.samples > 1
    if min(channels, z, t) < 1 or (color and channels != 1):
        raise Unsupported("an ImageJ description with unusual channels")
    if color and z * t == 1:
        t = count
    if z * t * channels != count:
        raise Unsupported(f"an ImageJ stack of {z * t * channels} planes in {count} directories")
    return _Sizes(z, channels, t, spacing)


def _pixel_size(directory: Directory, comment: str, spacing: float | None) -> PixelSize:
    """Return pixel sizes as computed by BaseTiffReader.initMetadataStore."""
    unit = directory.number(Tag.ResolutionUnit, -1)
    if unit != 3:
        named = _UNIT.match(comment)
        if named and named.group(1).lower() not in _MICRONS:
            raise Unsupported(f"resolution in {named.group(1)!r}")
    factor = {2: 25400, 3: 10000}.get(unit, 1)
    across, down = (_length(directory, tag, factor) for tag in (Tag.XResolution, Tag.YResolution))
    depth = None if not spacing else Quantity(abs(spacing), "µm")
    return PixelSize(across, down, depth)


def _length(directory: Directory, tag: int, factor: int) -> Quantity | None:
    if tag not in directory:
        return None
    if directory.entries[tag].kind != 5:
        raise Unsupported("a resolution that is not a fraction")
    value = directory.value(tag)
    if not isinstance(value, float) or not value > 0:
        return None
    size = 1 / value * factor
    if not 1e-6 < size < 1e12:
        raise Unsupported("a resolution outside the usual range")
    return Quantity(size, "µm")


def _image(
    name: str,
    layout: SegmentLayout,
    sizes: _Sizes,
    pixel_size: PixelSize,
    numbers: list[int],
    notes: PageNotes,
) -> ImagePlan:
    check(len(numbers), 1 << 31, "number of planes", name)
    planes = PlaneMap("XYCZT", (sizes.z, sizes.channels, sizes.t))
    planes.files[:] = [0] * len(numbers)
    planes.ifds[:] = numbers
    total = sizes.channels * layout.samples
    image = Image(
        name=name,
        levels=(
            Level(
                shape=(sizes.t, total, sizes.z, layout.length, layout.width),
                chunk=(1, layout.segment_samples, 1, *layout.band),
            ),
        ),
        dtype=layout.dtype,
        byteorder="<" if layout.byteorder == "<" else ">",
        samples=layout.samples,
        interleaved=layout.samples > 1 and not layout.planar,
        pixel_size=pixel_size,
        channels=(Channel(samples=layout.samples),) * sizes.channels,
        significant_bits=layout.bits if layout.packed else None,
    )
    return ImagePlan(image, planes, notes=notes)
