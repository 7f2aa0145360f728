"""Checks of an OME-TIFF data set: directories, segments, OME-XML, planes, pyramids."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend.findings import COPY_AGAIN, Finding
from bfbridge.errors import BfbridgeError, LimitExceeded, Unsupported
from bfbridge.ome.checks.validation import check_xml
from bfbridge.tiff.tags import Tag
from bfbridge_ometiff.reading.dataset import Dataset, open_dataset
from bfbridge_ometiff.reading.files import OpenTiff
from bfbridge_ometiff.reading.planes import ABSENT
from bfbridge_ometiff.structure.segment_layout import SegmentLayout, layout_of

if TYPE_CHECKING:
    from bfbridge.backend import Image, OpenOptions
    from bfbridge.storage.source import Source
    from bfbridge.tiff.directories import Directory

__all__ = ["validate"]

Pairs = np.ndarray[Any, np.dtype[Any]]
_HEADER: Final = 8
_REWRITE: Final = "Write the file again, for example with `bfbridge convert`."
_MOST_LEVELS: Final = 100


def validate(source: Source, options: OpenOptions) -> Iterator[Finding]:
    """Yield what is wrong in the structure of an OME-TIFF, of its other files and of its OME-XML.

    Parameters
    ----------
    source
        The file, any file of a set, or a companion metadata file.
    options
        `limits` and `allow_outside` are used.
    """
    try:
        dataset = open_dataset(source, options)
    except Unsupported as error:
        dataset = None
        yield Finding(
            "note",
            "tiff-other-reader",
            source.name,
            f"it is read through Bio-Formats: {error}; its planes are not checked here",
        )
    except BfbridgeError as error:
        dataset = None
        yield Finding("error", "tiff-open", source.name, _without(error, source.name), COPY_AGAIN)
    if dataset is None:
        yield from _check_alone(source, options)
        return
    try:
        if dataset.xml is not None:
            yield from check_xml(dataset.xml, source.name, options.limits)
        yield from _check_planes(dataset)
        numbers = sorted({n for plan in dataset.plans for n in plan.planes.files} - {ABSENT})
        for number in numbers or [dataset.first_file]:
            try:
                with dataset.files.opened(number) as tiff:
                    yield from _check_structure(tiff)
            except BfbridgeError as error:
                name = dataset.files.names[number]
                yield Finding("error", "tiff-file", name, _without(error, name), COPY_AGAIN)
    finally:
        dataset.files.close()


def _without(error: BfbridgeError, name: str) -> str:
    return str(error).removeprefix(f"{name}: ")


def _check_alone(source: Source, options: OpenOptions) -> Iterator[Finding]:
    """Check the structure of a file that this backend does not open."""
    if source.head(4)[:2] not in (b"II", b"MM"):
        return
    try:
        tiff = OpenTiff(source, options.limits)
    except BfbridgeError as error:
        yield Finding("error", "tiff-header", source.name, _without(error, source.name), COPY_AGAIN)
        return
    with closing(tiff):
        yield from _check_structure(tiff)


# ---- directories


def _check_structure(tiff: OpenTiff) -> Iterator[Finding]:
    """Check every directory of one file, its lower resolutions, and where their segments are."""
    try:
        count = tiff.tiff.count()
    except BfbridgeError as error:
        yield Finding(
            "error", "tiff-directories", tiff.name, _without(error, tiff.name), COPY_AGAIN
        )
        count = tiff.tiff.walked
    used: list[Pairs] = []
    for number in range(count):
        where = f"{tiff.name}: directory {number}"
        try:
            directory = tiff.directory(number)
            below = directory.numbers(Tag.SubIFDs)[:_MOST_LEVELS]
        except BfbridgeError as error:
            yield Finding("error", "tiff-directory", where, _without(error, tiff.name), COPY_AGAIN)
            continue
        yield from _check_order(tiff, number, where)
        full = yield from _check_directory(tiff, directory, where, used)
        yield from _check_levels(tiff, below, full, where, used)
    yield from _check_overlaps(tiff, used)


def _check_order(tiff: OpenTiff, number: int, where: str) -> Iterator[Finding]:
    tags = tiff.tiff.tags_of(tiff.tiff.block(number))
    if tags != sorted(tags):
        yield Finding(
            "warning",
            "tiff-tag-order",
            where,
            "its tags are not in ascending order, as TIFF 6.0 requires; some readers miss tags",
            _REWRITE,
        )
    twice = sorted({tag for tag in tags if tags.count(tag) > 1})
    if twice:
        yield Finding(
            "error",
            "tiff-tag-twice",
            where,
            f"tags {', '.join(map(str, twice))} occur more than once; readers differ in which "
            "value they use",
            _REWRITE,
        )


def _check_directory(
    tiff: OpenTiff, directory: Directory, where: str, used: list[Pairs]
) -> Generator[Finding, None, SegmentLayout | None]:
    """Check one directory; return its layout, or None if it has none that can be checked."""
    try:
        layout = layout_of(directory, tiff.tiff.header.byteorder, where)
    except Unsupported as error:
        yield Finding("note", "tiff-unchecked", where, f"its segments are not checked: {error}")
        return None
    except BfbridgeError as error:
        code = "tiff-limit" if isinstance(error, LimitExceeded) else "tiff-directory"
        message = _without(error, where).removeprefix(f"{tiff.name}: ")
        yield Finding("error", code, where, message, COPY_AGAIN)
        return None
    yield from _check_segments(tiff, layout, where, used)
    return layout


def _check_segments(
    tiff: OpenTiff, layout: SegmentLayout, where: str, used: list[Pairs]
) -> Iterator[Finding]:
    """Compare the positions of a directory's segments with the size of the file."""
    what = "tile" if layout.tiled else "strip"
    wanted = layout.across * layout.down * (layout.samples if layout.planar else 1)
    offsets = layout.offsets[:wanted].astype(np.uint64)
    counts = layout.counts[:wanted].astype(np.uint64)
    size = np.uint64(tiff.size)
    outside = (offsets > size) | (counts > size - np.minimum(offsets, size))
    for number in np.flatnonzero(outside)[:1]:
        more = f", and {outside.sum() - 1:,} more are" if outside.sum() > 1 else ""
        yield Finding(
            "error",
            "tiff-offsets",
            f"{where}, {what} {number}",
            f"its {counts[number]:,} bytes at {offsets[number]:,} are outside the file of "
            f"{tiff.size:,} bytes{more}: the file is truncated or damaged",
            COPY_AGAIN,
        )
    inside = (offsets < _HEADER) & (counts > 0)
    for number in np.flatnonzero(inside)[:1]:
        yield Finding(
            "error",
            "tiff-offsets",
            f"{where}, {what} {number}",
            f"its {counts[number]:,} bytes at {offsets[number]:,} overlap the header of the file",
            _REWRITE,
        )
    empty = int((counts == 0).sum())
    if empty:
        yield Finding(
            "warning",
            "tiff-empty",
            where,
            f"{empty:,} of its {wanted:,} {what}s have no bytes: bfbridge and libtiff read them as "
            "zeros, other readers may not",
            "If pixels are missing, copy or write the file again; otherwise write it with a "
            "program that stores every tile.",
        )
    good = ~(outside | inside) & (counts > 0)
    used.append(np.stack([offsets[good], counts[good]], axis=1))
    if layout.compression == "none" and not layout.packed:
        yield from _check_lengths(layout, counts, good, where, what)


def _check_lengths(
    layout: SegmentLayout, counts: Pairs, good: Pairs, where: str, what: str
) -> Iterator[Finding]:
    """Compare the lengths of uncompressed segments with the size of their pixels."""
    rows = np.array([layout.rows_of(i) for i in range(layout.down)], np.uint64)
    need = np.repeat(rows, layout.across) * np.uint64(layout.row_bytes)
    need = np.tile(need, layout.samples if layout.planar else 1)
    short = good & (counts < need)
    for number in np.flatnonzero(short)[:1]:
        yield Finding(
            "error",
            "tiff-lengths",
            f"{where}, {what} {number}",
            f"it has {counts[number]:,} bytes, but its pixels need {need[number]:,}",
            COPY_AGAIN,
        )


def _check_overlaps(tiff: OpenTiff, used: list[Pairs]) -> Iterator[Finding]:
    """Find segments that share a part of their bytes; whole segments may be shared."""
    found = np.unique(np.concatenate(used), axis=0) if used else np.empty((0, 2), np.uint64)
    if len(found) < 2:
        return
    ends = np.maximum.accumulate(found[:, 0] + found[:, 1])
    overlaps = found[1:, 0] < ends[:-1]
    for number in np.flatnonzero(overlaps)[:1]:
        yield Finding(
            "error",
            "tiff-overlap",
            tiff.name,
            f"{overlaps.sum():,} tiles or strips share a part of their bytes with another one; the "
            f"first at byte {found[number + 1, 0]:,}: an offset or length is wrong",
            COPY_AGAIN,
        )


# ---- pyramids


def _check_levels(
    tiff: OpenTiff,
    below: tuple[int, ...],
    full: SegmentLayout | None,
    where: str,
    used: list[Pairs],
) -> Iterator[Finding]:
    """Check the lower resolutions of a directory: each smaller, of the same kind of pixels."""
    before = full
    for number, offset in enumerate(below):
        place = f"{where}, lower resolution {number}"
        try:
            directory = tiff.tiff.directory_at(offset)
        except BfbridgeError as error:
            yield Finding("error", "tiff-pyramid", place, _without(error, tiff.name), COPY_AGAIN)
            continue
        if directory.number(Tag.NewSubfileType) != 1:
            yield Finding(
                "warning",
                "tiff-pyramid",
                place,
                "NewSubfileType is not 1 (reduced resolution), as OME-TIFF requires",
                _REWRITE,
            )
        level = yield from _check_directory(tiff, directory, place, used)
        if level is not None and before is not None and full is not None:
            yield from _compare_levels(full, before, level, place)
        before = level or before


def _compare_levels(
    full: SegmentLayout, before: SegmentLayout, level: SegmentLayout, place: str
) -> Iterator[Finding]:
    sizes = f"{level.width} x {level.length}"
    if (level.samples, level.dtype) != (full.samples, full.dtype):
        yield Finding(
            "error",
            "tiff-pyramid",
            place,
            f"its pixels are {level.samples} x {level.dtype}, those of the full size "
            f"{full.samples} x {full.dtype}",
            _REWRITE,
        )
    smaller = level.width < before.width or level.length < before.length
    if not smaller or level.width > before.width or level.length > before.length:
        yield Finding(
            "error",
            "tiff-pyramid",
            place,
            f"its size {sizes} is not below that of the level before it, {before.width} x "
            f"{before.length}",
            _REWRITE,
        )
        return
    across, down = full.width / level.width, full.length / level.length
    # Each side may have been rounded up or down by one pixel.
    rounding = across / level.width + down / level.length
    if abs(across - down) > rounding + 0.01 * max(across, down):
        yield Finding(
            "warning",
            "tiff-pyramid",
            place,
            f"its size {sizes} has another ratio of sides than the full size, {full.width} x "
            f"{full.length}: it is displayed distorted",
            _REWRITE,
        )


# ---- planes


def _check_planes(dataset: Dataset) -> Iterator[Finding]:
    """Check that the directory of every plane exists, and has the pixels of its image."""
    for number, plan in enumerate(dataset.plans):
        image = plan.image
        sizes = (
            image.levels[0].shape[0],
            image.levels[0].shape[1] // image.samples,
            image.levels[0].shape[2],
        )
        absent = 0
        for t, c, z in itertools.product(*map(range, sizes)):
            file, ifd = plan.planes.where(z, c, t)
            if file == ABSENT:
                absent += 1
                continue
            name = dataset.files.names[file]
            where = f"{name}: image {number}, plane z {z}, c {c}, t {t}"
            try:
                with dataset.files.opened(file) as tiff:
                    problem = _plane_problem(tiff, plan.levels, ifd, image)
            except BfbridgeError as error:
                problem = _without(error, name)
            if problem:
                yield Finding("error", "tiff-plane", where, problem, COPY_AGAIN)
        if absent:
            yield Finding(
                "warning",
                "tiff-absent",
                f"{dataset.used_files[0]}: image {number}",
                f"no file contains {absent:,} of its {len(plan.planes.files):,} planes: they are "
                "read as zeros",
                "If they were acquired, find the missing files; otherwise nothing is lost.",
            )


def _plane_problem(tiff: OpenTiff, chain: tuple[int, ...], ifd: int, image: Image) -> str:
    """Return what differs between the directories of a plane and its image; or nothing."""
    levels = image.levels
    for level, record in enumerate(levels):
        layout = tiff.layout(chain[level]) if chain else tiff.layout(ifd, level - 1)
        length, width = record.shape[3:]
        if (layout.width, layout.length, layout.samples, layout.dtype) != (
            width,
            length,
            image.samples,
            image.dtype,
        ):
            return (
                f"level {level} in directory {ifd} has {layout.width} x {layout.length} pixels of "
                f"{layout.samples} x {layout.dtype}, where the image has {width} x {length} of "
                f"{image.samples} x {image.dtype}"
            )
    below = 0 if chain else len(tiff.directory(ifd).numbers(Tag.SubIFDs))
    if below + 1 > len(levels) and not chain:
        return f"directory {ifd} has {below} lower resolutions, the image {len(levels) - 1}"
    return ""
