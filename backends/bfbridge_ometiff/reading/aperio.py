"""Aperio SVS slides of the usual structure: a pyramid, a thumbnail, a label and a macro image.

The mapping is that of Bio-Formats' SVSReader. Focal stacks, fluorescence slides and slides with
another order of directories are left to it.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

from bfbridge.backend import Channel, Image, Level, PixelSize, Quantity
from bfbridge.errors import Unsupported
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.reading.files import OpenTiff
from bfbridge_ometiff.reading.planes import ImagePlan, PageNotes, PlaneMap
from bfbridge_ometiff.structure.jpeg_header import check_colors
from bfbridge_ometiff.structure.segment_layout import JPEG2000, SegmentLayout

__all__ = ["SUFFIX", "aperio_images"]

SUFFIX: Final = ".svs"
_PREFIX: Final = b"Aperio Image"
_MOST: Final = 64
# Keys for which SVSReader does more than this module.
_STRANGE: Final = frozenset({"TotalDepth", "OffsetZ", "Dye", "Emission Wavelength", "DisplayColor"})


def aperio_images(tiff: OpenTiff, *, thumbnail: bool = False) -> list[ImagePlan]:
    """Return a slide's images: the pyramid, the label, the macro.

    Parameters
    ----------
    tiff
        The slide.
    thumbnail
        Whether the thumbnail, which SVSReader leaves out, is one of them, the last.

    Raises
    ------
    Unsupported
        It has an unusual structure.
    """
    if tiff.tiff.walk(_MOST):
        raise Unsupported(f"an Aperio slide of more than {_MOST} directories")
    count = next(number for number in range(_MOST + 1) if not tiff.tiff.walk(number))
    extras: list[tuple[int, str]] = []
    pyramid: list[tuple[int, SegmentLayout]] = []
    for number in range(count):
        comment = tiff.directory(number).text(Tag.ImageDescription)
        if not comment.startswith(_PREFIX):
            raise Unsupported("an Aperio slide with a directory that does not state its type")
        kind = _kind(_parts(tiff, number))
        layout = tiff.layout(number)
        if layout.compression == JPEG2000:
            raise Unsupported("an Aperio slide in JPEG 2000")
        check_colors(tiff, layout)
        if kind:
            extras.append((number, kind))
        elif extras or tiff.directory(number).number(Tag.NewSubfileType):
            raise Unsupported("an Aperio slide with directories in an unusual order")
        else:
            pyramid.append((number, layout))
    if [kind for _, kind in extras] not in ([], ["label"], ["macro"], ["label", "macro"]):
        raise Unsupported("an Aperio slide with unusual associated images")
    number = pyramid[0][0]
    main = _keys(tiff, number)
    notes = PageNotes(
        _comment(tiff, number), _acquired(main), _number(main, "AppMag"), _place(main)
    )
    levels, small = _levels(pyramid)
    plans = [_plan("", "image", levels, _size(tiff, number), notes)]
    if thumbnail and small is not None:
        extras.append((small, "thumbnail"))
    for number, kind in extras:
        levels = [(number, tiff.layout(number))]
        notes = PageNotes(_comment(tiff, number), _acquired(main))
        plans.append(_plan(f"{kind} image", kind, levels, _size(tiff, number), notes))
    return plans


def _parts(tiff: OpenTiff, number: int) -> list[str]:
    """Return the parts of a directory's comment."""
    comment = tiff.directory(number).text(Tag.ImageDescription).decode("latin-1")
    lines = comment.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [part for line in lines for part in line.split("|")]


def _keys(tiff: OpenTiff, number: int) -> dict[str, str]:
    """Return the named values of a directory's comment."""
    pairs = (part.partition("=") for part in _parts(tiff, number))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _comment(tiff: OpenTiff, number: int) -> str | None:
    """Return the last part of a comment that is not a named value, as SVSReader does."""
    return next((part for part in reversed(_parts(tiff, number)) if "=" not in part), None)


def _acquired(keys: dict[str, str]) -> datetime | None:
    text = f"{keys.get('Date', '')} {keys.get('Time', '')}"
    try:
        # The scanner's local time; OME times have no zone either.
        return datetime.strptime(text, "%m/%d/%y %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        return None


def _number(keys: dict[str, str], key: str) -> float | None:
    try:
        value = float(keys.get(key, ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _place(keys: dict[str, str]) -> tuple[float, float] | None:
    left, top = _number(keys, "Left"), _number(keys, "Top")
    return None if left is None or top is None else (left, top)


def _kind(parts: list[str]) -> str:
    """Return "label", "macro" or "" for an image of the pyramid."""
    found = set()
    for part in parts:
        key, equals, _ = part.partition("=")
        if equals:
            if key.strip() in _STRANGE:
                raise Unsupported("an Aperio focal stack or fluorescence slide")
        else:
            found |= {kind for kind in ("label", "macro") if kind in part.lower()}
    if len(found) > 1:
        raise Unsupported("an Aperio slide with an image that is label and macro at once")
    return found.pop() if found else ""


def _levels(
    pyramid: list[tuple[int, SegmentLayout]],
) -> tuple[list[tuple[int, SegmentLayout]], int | None]:
    """Return the pyramid by size, and the directory of the thumbnail, which is in strips."""
    if not pyramid or not pyramid[0][1].tiled:
        raise Unsupported("an Aperio slide without tiles")
    levels = sorted(pyramid, key=lambda level: -level[1].width)
    widths = [layout.width for _, layout in levels]
    if levels[0][0] != pyramid[0][0] or len(set(widths)) != len(widths):
        raise Unsupported("an Aperio slide with directories in an unusual order")
    thumbnail = None if levels[-1][1].tiled else levels.pop()[0]
    first = levels[0][1]
    for _, layout in levels:
        if not layout.tiled or (layout.samples, layout.dtype) != (first.samples, first.dtype):
            raise Unsupported("an Aperio slide with levels of different kinds")
    return levels, thumbnail


def _size(tiff: OpenTiff, number: int) -> PixelSize:
    """Return the microns per pixel in a comment."""
    pairs = (part.partition("=") for part in _parts(tiff, number))
    sizes = {value.strip() for key, equals, value in pairs if equals and key.strip() == "MPP"}
    if not sizes:
        # SVSReader then uses the resolution tags, which scanners omit.
        if Tag.XResolution in tiff.directory(number):
            raise Unsupported("an Aperio slide with resolution tags instead of MPP")
        return PixelSize()
    try:
        (microns,) = (float(size) for size in sizes)
    except ValueError as error:
        raise Unsupported("an Aperio slide with unclear MPP") from error
    if not (math.isfinite(microns) and microns > 1e-6):
        raise Unsupported("an Aperio slide with unclear MPP")
    size = Quantity(microns, "µm")
    return PixelSize(size, size)


def _plan(
    name: str, role: str, levels: list[tuple[int, SegmentLayout]], size: PixelSize, notes: PageNotes
) -> ImagePlan:
    first = levels[0][1]
    planes = PlaneMap("XYCZT", (1, 1, 1))
    planes.files[:], planes.ifds[:] = [0], [levels[0][0]]
    image = Image(
        name=name,
        levels=tuple(
            Level(
                shape=(1, first.samples, 1, layout.length, layout.width),
                chunk=(1, layout.segment_samples, 1, *layout.band),
            )
            for _, layout in levels
        ),
        dtype=first.dtype,
        byteorder="<" if first.byteorder == "<" else ">",
        samples=first.samples,
        interleaved=first.samples > 1 and not first.planar,
        pixel_size=size,
        channels=(Channel(samples=first.samples),),
        role=role,  # type: ignore[arg-type]
        photo=role == "label",
    )
    return ImagePlan(image, planes, tuple(number for number, _ in levels), notes)
