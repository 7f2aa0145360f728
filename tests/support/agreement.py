"""What two backends say of one file, compared: records, pixels of every level, documents."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np

from bfbridge.backend import Image, OpenOptions, PixelSize, ReaderBackend, Region
from bfbridge.storage.source import as_source

__all__ = ["all_of", "differences", "document_entries", "opened"]


@contextmanager
def opened(reader: type[ReaderBackend], target: Any, **options: Any) -> Iterator[ReaderBackend]:
    """Open a file with one backend; closed at the end."""
    backend = reader.open(as_source(target), OpenOptions(**options))
    try:
        yield backend
    finally:
        backend.close()


def all_of(backend: ReaderBackend, image: int = 0, level: int = 0) -> np.ndarray[Any, Any]:
    """Read one level whole, T, C, Z, Y, X, into memory that was filled before."""
    record = backend.images[image]
    shape = record.levels[level].shape
    out = np.empty(shape, record.dtype)
    out.reshape(-1).view(np.uint8).fill(0xA5)
    backend.read(Region(image, level, (0,) * 5, shape), out)
    return out


def document_entries(xml: str) -> dict[str, str]:
    """Return every attribute and text of an OME document under its path, numbers as numbers."""
    found: dict[str, str] = {}

    def walk(element: ET.Element, path: str) -> None:
        found[path] = (element.text or "").strip()
        for name, value in element.attrib.items():
            if "schemaLocation" not in name:
                found[f"{path}@{name}"] = _plain(value)
        count: dict[str, int] = {}
        for child in element:
            name = child.tag.rpartition("}")[2]
            number = count.setdefault(name, 0)
            count[name] += 1
            walk(child, f"{path}/{name}[{number}]")

    walk(ET.fromstring(xml), "")
    return found


def _plain(value: str) -> str:
    try:
        return f"{float(value):.12g}"
    except ValueError:
        return value


def differences(
    ours: ReaderBackend,
    theirs: ReaderBackend,
    *,
    more: Collection[str] = (),
    but: Collection[str] = (),
    within: int = 0,
) -> list[str]:
    """Return what the second backend says and the first says otherwise.

    Parameters
    ----------
    ours, theirs
        The same file, opened by each.
    more
        Parts of paths of the document, and fields of records, that only the first may have.
    but
        Parts of paths, and of differences of records, that are not compared.
    within
        Largest difference of two pixels that counts as equal.
    """
    found = []
    if len(ours.images) != len(theirs.images):
        return [f"{len(ours.images)} images, not {len(theirs.images)}"]
    for number, (mine, other) in enumerate(zip(ours.images, theirs.images, strict=True)):
        told = [f"image {number}: {each}" for each in _records(mine, other, more)]
        found += [each for each in told if not any(part in each for part in but)]
        if not found:
            found += [f"image {number}: {each}" for each in _pixels(ours, theirs, number, within)]
    mine_xml, other_xml = ours.ome_xml(), theirs.ome_xml()
    assert mine_xml is not None
    assert other_xml is not None
    mine_entries, other_entries = document_entries(mine_xml), document_entries(other_xml)
    for path in sorted({*mine_entries, *other_entries}):
        left, right = mine_entries.get(path), other_entries.get(path)
        added = right is None and any(part in path for part in more)
        if left != right and not added and not any(part in path for part in but):
            found.append(f"{path}: {left!r}, not {right!r}")
    return found


def _records(ours: Image, theirs: Image, more: Collection[str]) -> Iterator[str]:
    for field in fields(Image):
        left, right = getattr(ours, field.name), getattr(theirs, field.name)
        if field.name == "levels":
            left, right = [each.shape for each in left], [each.shape for each in right]
        if field.name == "pixel_size":
            left, right = _sizes(left), _sizes(right)
        if field.name == "channels":
            left, right = (_channels(each, more) for each in (left, right))
        # Bio-Formats does not tell positions in pixels.
        unknown = field.name == "placement" and right is None
        if left != right and not unknown:
            yield f"{field.name} {left}, not {right}"


def _sizes(size: PixelSize) -> dict[str, tuple[str, str]]:
    """Lengths to twelve digits: units are converted in more than one order."""
    named = {axis: getattr(size, axis) for axis in "xyz"}
    return {axis: (f"{one.value:.12g}", one.unit) for axis, one in named.items() if one}


def _channels(channels: Collection[Any], more: Collection[str]) -> list[dict[str, Any]]:
    names = [field.name for channel in channels for field in fields(channel)]
    kept = [name for name in dict.fromkeys(names) if name not in more]
    return [{name: getattr(channel, name) for name in kept} for channel in channels]


def _pixels(ours: ReaderBackend, theirs: ReaderBackend, number: int, within: int) -> Iterator[str]:
    record = ours.images[number]
    for level in range(len(record.levels)):
        left, right = all_of(ours, number, level), all_of(theirs, number, level)
        if within:
            worst = np.abs(left.astype(int) - right).max()
            if worst > within:
                yield f"level {level}: pixels differ by up to {worst}"
        elif not np.array_equal(left, right, equal_nan=left.dtype.kind == "f"):
            wrong = np.argwhere(left != right)
            yield f"level {level}: {len(wrong)} pixels differ, the first at {wrong[0]}"
    for channel in range(len(record.channels)):
        tables = [each.lookup_table(number, channel) for each in (ours, theirs)]
        if (tables[0] is None) != (tables[1] is None) or not np.array_equal(*map(_list, tables)):
            yield f"lookup table of channel {channel}"
    if dict(ours.modulo(number)) != dict(theirs.modulo(number)):
        yield f"modulo {ours.modulo(number)}, not {theirs.modulo(number)}"


def _list(table: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    return np.empty(0) if table is None else table
