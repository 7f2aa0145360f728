"""From the XML of a LIF file to images: sizes, and the position of each plane.

The rules are those of Bio-Formats' LIFReader where they are unique: which axis becomes Z or T,
tiles as separate images, the order of planes. Planes are located by the distances in bytes that the
document states for every axis.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from bfbridge.backend import Shape5
from bfbridge.errors import Unsupported
from bfbridge.limits import Limits, check
from bfbridge.ome.documents.xml_tree import Element, descendants, first
from bfbridge.storage.rows import Rows
from bfbridge_lif.container import MemoryBlock

__all__ = ["LifLayout", "find_images", "name_of", "read_layout"]

_X, _Y, _Z, _T, _TILE = 1, 2, 3, 4, 10
_MICRONS: Final = 1_000_000
_TYPES: Final[dict[tuple[int, int], np.dtype[Any]]] = {
    (1, 0): np.dtype(np.uint8),
    (2, 0): np.dtype(np.uint16),
    (4, 1): np.dtype(np.float32),
    (8, 1): np.dtype(np.float64),
}
"""Bytes and DataType (0: integer, 1: floating point) of a ChannelDescription."""


class LifAxis(NamedTuple):
    """An axis of the stored pixels: its length, and the bytes between consecutive positions."""

    step: int
    length: int


@dataclass(frozen=True, slots=True)
class LifLayout:
    """One image of the document: one or more tiles of equal size.

    Attributes
    ----------
    sizes
        X, Y, Z, channels, T.
    samples
        Samples per pixel; those of RGB are stored as blue, green, red.
    dtype
        Type of a sample.
    order
        Order in which Bio-Formats counts planes, such as "XYCZT".
    row
        Bytes from one row to the next.
    planes
        The axes except X, Y and the tiles, fastest first.
    tiles
        Number of tiles, and the distance of consecutive tiles in bytes.
    block
        The block of the pixels.
    pixel_size
        Along X, Y, Z in µm, or None.
    luts
        Colour names of the channels.
    """

    sizes: tuple[int, int, int, int, int]
    samples: int
    dtype: np.dtype[Any]
    order: str
    row: int
    planes: tuple[LifAxis, ...]
    tiles: LifAxis
    block: MemoryBlock
    pixel_size: tuple[float | None, float | None, float | None]
    luts: tuple[str, ...]

    @property
    def shape(self) -> Shape5:
        """Sizes along T, C (channels x samples), Z, Y, X."""
        x, y, z, c, t = self.sizes
        return t, c * self.samples, z, y, x

    @property
    def row_bytes(self) -> int:
        """Bytes of the pixels of a row."""
        return self.sizes[0] * self.samples * self.dtype.itemsize

    @property
    def rows(self) -> Rows:
        """The layout of the rows of pixels."""
        return Rows(self.row, self.dtype.newbyteorder("<"), self.samples)

    @property
    def stacked(self) -> str:
        """The axis, "Z" or "T", whose planes follow each other without gaps; otherwise ""."""
        first = next((axis for axis in self.planes if axis.length > 1), None)
        longer = next((axis for axis in self.order[2:] if self._length(axis) > 1), "")
        if self.row != self.row_bytes or first is None or longer not in ("Z", "T"):
            return ""
        return longer if first == (self.sizes[1] * self.row, self._length(longer)) else ""

    def _length(self, axis: str) -> int:
        return self.sizes["XYZCT".index(axis)]

    def plane_number(self, z: int, channel: int, t: int) -> int:
        """Return the number of a plane in Bio-Formats."""
        place = {"Z": (z, self.sizes[2]), "C": (channel, self.sizes[3]), "T": (t, self.sizes[4])}
        number, step = 0, 1
        for axis in self.order[2:]:
            index, length = place[axis]
            number += index * step
            step *= length
        return number

    def offset(self, tile: int, number: int) -> int:
        """Return the position of a plane, in bytes of its block."""
        at = tile * self.tiles.step
        for step, length in self.planes:
            number, index = divmod(number, length)
            at += index * step
        return at


def find_images(root: Element) -> list[tuple[Element, list[Element]]]:
    """Return each Image of the document, with its ancestors, innermost first.

    Images that a processing step refers to are omitted, as in LIFReader.translateMetadata.

    Raises
    ------
    Unsupported
        An image is inside another image.
    """
    parents = {child: parent for parent in root.iter() for child in parent}
    found = []
    for image in descendants(root, "Image"):
        above: list[Element] = []
        element = image
        while element in parents:
            element = parents[element]
            above.append(element)
        if len(above) > 1 and above[1].tag != "ProcessingHistory":
            if any(one.tag == "Image" for one in above):
                raise Unsupported("a LIF file with images inside images")
            found.append((image, above))
    return found


def name_of(above: Sequence[Element]) -> str:
    """Return the name of an image: the names of its folders, except the outermost."""
    names = [element.get("Name", "") for element in above if element.tag == "Element"]
    return "/".join(reversed(names[:-1])).strip()


def read_layout(
    image: Element,
    above: Sequence[Element],
    blocks: Mapping[str, MemoryBlock],
    limits: Limits,
    where: str,
) -> LifLayout:
    """Return the layout of the pixels of an Image element.

    Parameters
    ----------
    image, above
        The element and its ancestors.
    blocks
        Blocks of the file.
    limits, where
        Limits on what the file declares, and the file name for messages.

    Raises
    ------
    Unsupported
        It is of a kind that is left to Bio-Formats.
    LimitExceeded
        It has more planes than the limits allow.
    """
    description = first(image, "ImageDescription")
    channels = _children(description, "Channels", "ChannelDescription")
    axes = _LifAxes(_children(description, "Dimensions", "DimensionDescription"))
    samples, dtype = _kind(channels, axes.pixel)
    count = len(channels) or 1
    steps = [_whole(channel.get("BytesInc")) for channel in channels]
    if samples == 3:
        if count != 3 or steps != [dtype.itemsize * n for n in range(3)]:
            raise Unsupported("a LIF colour image with an unusual structure")
        count = 1
    elif count > 1:
        axes.add("C", _even_step(steps), count)
    sizes = axes.sizes(count)
    planes = tuple(sorted(axes.planes))
    if math.prod(axis.length for axis in planes) != math.prod(sizes[2:]):
        raise Unsupported("a LIF image of unclear axes")
    total = math.prod(sizes[2:]) * axes.tiles.length
    check(total, limits.directories, "number of planes of an image", where)
    layout = LifLayout(
        sizes=sizes,
        samples=samples,
        dtype=dtype,
        order=axes.order(samples),
        row=axes.row,
        planes=planes,
        tiles=axes.tiles,
        block=_block(above, blocks),
        pixel_size=(axes.lengths.get("X"), axes.lengths.get("Y"), axes.lengths.get("Z")),
        luts=tuple(channel.get("LUTName", "") for channel in channels),
    )
    _check_layout(layout)
    return layout


def _children(root: Element | None, parent: str, name: str) -> list[Element]:
    found = first(root, parent)
    if found is None:
        raise Unsupported(f"a LIF image without {parent}")
    return list(descendants(found, name))


def _whole(text: str | None) -> int:
    if text is None or not text.strip():
        return 0
    try:
        value = int(text) if len(text) < 40 else -1
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 62:
        raise Unsupported(f"a LIF image with the number {text[:40]!r} in its description")
    return value


def _kind(channels: Sequence[Element], pixel: int) -> tuple[int, np.dtype[Any]]:
    """Return the samples per pixel and their type; LIFReader reads 3 bytes per pixel as RGB."""
    samples = 3 if pixel % 3 == 0 else 1
    kinds = {_whole(channel.get("DataType")) for channel in channels} or {0}
    dtype = _TYPES.get((pixel // samples, kinds.pop())) if len(kinds) == 1 else None
    if dtype is None or not pixel:
        raise Unsupported(f"a LIF image with pixels of {pixel} bytes of an unusual type")
    return samples, dtype


def _even_step(steps: Sequence[int]) -> int:
    step = steps[1] - steps[0]
    if step <= 0 or any(b - a != step for a, b in itertools.pairwise(steps)) or steps[0]:
        raise Unsupported("a LIF image whose channels have uneven distances")
    return step


def _block(above: Sequence[Element], blocks: Mapping[str, MemoryBlock]) -> MemoryBlock:
    """Return the block that the parent element of an image names."""
    memory = above[1].find("Memory")
    name = None if memory is None else memory.get("MemoryBlockID")
    if name is None or name not in blocks:
        raise Unsupported("a LIF image without a block of pixels")
    return blocks[name]


def _check_layout(layout: LifLayout) -> None:
    """Refuse rows that overlap, and images whose block is smaller than the first plane."""
    first_plane = (layout.sizes[1] - 1) * layout.row + layout.row_bytes
    if layout.row < layout.row_bytes or first_plane > layout.block.size:
        raise Unsupported("a LIF image that does not fit its block of pixels")


class _LifAxes:
    """The axes of an image; LIFReader.translateImageNodes defines the role of each."""

    def __init__(self, dimensions: Sequence[Element]) -> None:
        self._sizes = dict.fromkeys("XYZT", 0)
        self._named: dict[int, str] = {}
        self.planes: list[LifAxis] = []
        self.tiles = LifAxis(0, 1)
        self.pixel = self.row = 0
        self.lengths: dict[str, float | None] = {}
        extras = 1
        for dimension in dimensions:
            kind = _whole(dimension.get("DimID"))
            length, step = (_whole(dimension.get(n)) for n in ("NumberOfElements", "BytesInc"))
            size = _spacing(dimension, length)
            if kind == _X:
                self._sizes["X"], self.pixel = length, step
                self.lengths["X"] = size
            elif kind in (_Y, _Z, _T):
                self._place(kind, length, step, size)
            elif kind == _TILE:
                if self.tiles.length > 1:
                    raise Unsupported("a LIF image with two axes of tiles")
                self.tiles = LifAxis(step, max(length, 1))
            else:
                extras *= length
                self.planes.append(LifAxis(step, length))
        if extras > 1:
            if self._sizes["Z"] == 1:
                self._sizes["Z"] = extras
            else:
                self._sizes["T"] = (self._sizes["T"] or 1) * extras

    def _place(self, kind: int, length: int, step: int, size: float) -> None:
        """Assign a role to an axis: in scans without Y, Z or T takes the role of Y."""
        sizes = self._sizes
        role = {_Y: "Y", _Z: "Z", _T: "T"}[kind]
        if not sizes["Y"]:
            sizes["Y"], self.row = length, step
            self.lengths["Y"] = size
            if kind != _Y:
                sizes[role] = 1
            return
        if kind == _Y:
            if sizes["Z"] == 1:
                role = "Z"
            elif sizes["T"] == 1:
                role = "T"
            else:
                raise Unsupported("a LIF image with two axes Y")
        sizes[role] = length
        if role == "Z":
            self.lengths["Z"] = size
        self.add(role, step, length)

    def add(self, role: str, step: int, length: int) -> None:
        """Add an axis of planes."""
        self.planes.append(LifAxis(step, length))
        if step > 0 and (role != "C" or step not in self._named):
            self._named[step] = role

    def sizes(self, channels: int) -> tuple[int, int, int, int, int]:
        """Return the lengths of X, Y, Z, channels, T; 1 for an axis that is missing."""
        x, y, z, t = (max(size, 1) for size in self._sizes.values())
        return x, y, z, channels, t

    def order(self, samples: int) -> str:
        """Return Bio-Formats' dimension order: by distance in bytes, then Z, C, T."""
        order = "XY" + ("C" if samples > 1 else "")
        for step in sorted(self._named):
            if self._named[step] not in order:
                order += self._named[step]
        return order + "".join(axis for axis in "ZCT" if axis not in order)


def _spacing(dimension: Element, length: int) -> float:
    """Return the distance of two pixels, in µm if the unit is a length."""
    text = (dimension.get("Length") or "").strip()
    try:
        total = float(text) if text else 0.0
    except ValueError:
        total = 0.0
    size = total / (length - 1) if length > 1 else 0.0
    unit = dimension.get("Unit", "")
    if unit == "Ks":
        size /= 1000
    elif unit == "m":
        size *= _MICRONS
    return size
