"""Plain TIFFs and ImageJ stacks, where the mapping is certainly Bio-Formats' TiffReader's.

Some forty Bio-Formats readers claim TIFFs, by tags, by words in the description or by files
beside them. Here only a file is taken that none of them can want: baseline tags alone, software
and description known to be neutral, and nothing but pictures in its folder and the one above.
Everything else stays with Bio-Formats.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from bfbridge.backend import Channel, Image, Level, PixelSize, Quantity
from bfbridge.errors import Unsupported
from bfbridge.limits import check
from bfbridge_ometiff.files import OpenTiff
from bfbridge_ometiff.ifd import Directory
from bfbridge_ometiff.jpegheader import check_colors
from bfbridge_ometiff.layout import JPEG2000, Layout
from bfbridge_ometiff.planes import ImagePlan, Notes, PlaneMap

__all__ = ["plain_images"]

_SUFFIXES: Final = (".tif", ".tiff", ".tf2", ".tf8", ".btf")
# Structure, resolution, page names, colour: tags that no vendor's reader goes by.
_TAGS: Final = frozenset(
    {
        *range(254, 260),
        *(262, 266, 269, 270, 273, 274, 277, 278, 279, 280, 281, 282, 283, 284, 285),
        *(296, 297, 305, 306, 317, 318, 319, 320, 322, 323, 324, 325, 338, 339, 340, 341),
        *(347, 529, 530, 531, 532, 34675, 50838, 50839),
    }
)
_SOFTWARE: Final = ("tifffile", "imagej", "matlab", "bfbridge", "libtiff", "pyvips", "scikit-image")
_PICTURES: Final = (*_SUFFIXES, ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".zarr", ".npy", ".md")
_MOST_SIBLINGS: Final = 20_000
_UNIT: Final = re.compile(r".*unit=(\w+)", re.ASCII | re.DOTALL)
# Names that Bio-Formats takes for micrometres, or does not know and so takes for them.
_MICRONS: Final = frozenset({"micron", "micrometer", "microns", "um"})
_KEYS: Final = ("channels", "slices", "frames", "images", "spacing")


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
        It may be some other reader's, or Bio-Formats would need to guess.
    """
    name = tiff.source.filename
    if not name.lower().endswith(_SUFFIXES):
        raise Unsupported("a TIFF without OME-XML under another suffix than TIFF's")
    if not tiff.is_local:
        raise Unsupported("a TIFF without OME-XML that is not local")
    if tiff.source.path is not None:
        _check_folder(tiff.source.path)
    numbers, layouts = _directories(tiff)
    first = tiff.directory(numbers[0])
    comment = _comment(first)
    same = all(layout.same_pixels(layouts[0]) for layout in layouts)
    if comment.startswith("ImageJ=") and same:
        sizes = _imagej(first, comment, layouts[0], len(layouts))
    elif comment and not comment.startswith('{"shape"'):
        raise Unsupported("a description that another reader may know")
    else:
        sizes = _Sizes(t=len(layouts))
    described = "" if comment.startswith("ImageJ=") else comment
    notes = Notes(described or None, _acquired(first))
    if same:
        size = _pixel_size(first, comment, sizes.spacing)
        return [_image(name, layouts[0], sizes, size, numbers, notes)]
    size = _pixel_size(first, comment, None)
    plans = []
    for index, (number, layout) in enumerate(zip(numbers, layouts, strict=True)):
        title = f"{name} #{index + 1}"
        own = (PixelSize(), Notes()) if index else (size, notes)
        plans.append(_image(title, layout, _Sizes(), own[0], [number], own[1]))
    return plans


def _acquired(directory: Directory) -> datetime | None:
    """Return the DateTime tag (TIFF 6.0: YYYY:MM:DD HH:MM:SS), or None where it is no date."""
    text = directory.text(306).decode("latin-1").strip()
    try:
        # A TIFF's time has no zone, and neither has OME's.
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        return None


def _check_folder(path: Path) -> None:
    """Refuse a folder with files that could make the TIFF part of another format."""
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        try:
            with os.scandir(folder) as entries:
                seen = list(itertools.islice(entries, _MOST_SIBLINGS + 1))
        except OSError as error:
            raise Unsupported(f"a folder that cannot be listed ({error.strerror})") from error
        if len(seen) > _MOST_SIBLINGS:
            raise Unsupported("a folder of many files, which may be a data set")
        for entry in seen:
            harmless = entry.name.startswith(".") or entry.name.lower().endswith(_PICTURES)
            if not harmless and not entry.is_dir():
                raise Unsupported(f"a TIFF beside {entry.name!r}, which may describe it")


def _directories(tiff: OpenTiff) -> tuple[list[int], list[Layout]]:
    """Return the numbers and layouts of all directories but thumbnails."""
    count = 0
    while tiff.tiff.walk(count):
        count += 1
    directories = [tiff.directory(number) for number in range(count)]
    for directory in directories:
        other = set(directory.entries) - _TAGS
        if other:
            raise Unsupported(f"a TIFF with tag {min(other)}, which another reader may know")
    skipped = set(tiff.tiff.skipped) if count > 1 else set()
    numbers = [number for number in range(count) if number not in skipped]
    if not numbers:
        raise Unsupported("a TIFF of thumbnails only")
    software = directories[0].text(305).decode("latin-1").strip().lower()
    if software and not software.startswith(_SOFTWARE):
        raise Unsupported("software that another reader may know")
    layouts = [tiff.layout(number) for number in numbers]
    for layout in layouts:
        if layout.compression == JPEG2000:
            raise Unsupported("JPEG 2000 outside OME-TIFF, which has resolutions of its own")
        check_colors(tiff, layout)
    kinds = {(layout.width, layout.length, layout.dtype) for layout in layouts}
    if len(kinds) == 1 and len({(layout.samples, layout.photometric) for layout in layouts}) > 1:
        raise Unsupported("planes of one size with different samples")
    last = directories[-1].text(270)
    if last.startswith(b"ImageJ=") and not directories[0].text(270).startswith(b"ImageJ="):
        raise Unsupported("an ImageJ description on its last page only")
    return numbers, layouts


def _comment(directory: Directory) -> str:
    text = directory.text(270)
    if b"\0" in text:
        raise Unsupported("a description of several parts")
    return text.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").rstrip()


def _imagej(directory: Directory, comment: str, layout: Layout, count: int) -> _Sizes:
    """Return the sizes that an ImageJ description gives (TiffReader.parseCommentImageJ)."""
    for line in _info_lines(directory):
        if line.startswith(_KEYS):
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


def _info_lines(directory: Directory) -> list[str]:
    """Return the lines that Bio-Formats sees in ImageJ's binary metadata (tag 50839)."""
    data = directory.raw(50839)
    if not data:
        return []
    control = set(range(1, 32)) | set(range(127, 160))
    text = "".join("\n" if byte in control else chr(byte) for byte in data if byte)
    return text.split("\n")


def _pixel_size(directory: Directory, comment: str, spacing: float | None) -> PixelSize:
    """Return pixel sizes as BaseTiffReader.initMetadataStore works them out."""
    unit = directory.number(296, -1)
    if unit != 3:
        named = _UNIT.match(comment)
        if named and named.group(1).lower() not in _MICRONS:
            raise Unsupported(f"resolution in {named.group(1)!r}")
    factor = {2: 25400, 3: 10000}.get(unit, 1)
    across, down = (_length(directory, tag, factor) for tag in (282, 283))
    depth = None if not spacing else Quantity(abs(spacing), "µm")
    return PixelSize(across, down, depth)


def _length(directory: Directory, tag: int, factor: int) -> Quantity | None:
    if tag not in directory:
        return None
    if directory.entries[tag].kind != 5:
        raise Unsupported("a resolution that is no fraction")
    value = directory.value(tag)
    if not isinstance(value, float) or not value > 0:
        return None
    size = 1 / value * factor
    if not 1e-6 < size < 1e12:
        raise Unsupported("a resolution out of all bounds")
    return Quantity(size, "µm")


def _image(
    name: str,
    layout: Layout,
    sizes: _Sizes,
    pixel_size: PixelSize,
    numbers: list[int],
    notes: Notes,
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
