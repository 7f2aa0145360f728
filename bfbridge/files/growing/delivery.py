"""From the chunks of a growing image to those of a new file.

Where the grids of both agree, encoded chunks are copied, and decoded only for the lower levels.
Otherwise the pixels are divided again. Chunks without pixels are left out in both cases.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from bfbridge.backend import Extras, Level
from bfbridge.engine.pyramid import factors_of
from bfbridge.engine.selection import Selection
from bfbridge.engine.workers import run
from bfbridge.files.growing.chunk_files import ChunkIndex, StoredChunk
from bfbridge.files.growing.named_axes import PARENTS
from bfbridge.ome.extras import attach_extras, find_extras

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.files.growing.growing_file import GrowingFile
    from bfbridge.files.growing.tile_store import TileStore

__all__ = [
    "Box",
    "Layout",
    "add_windows",
    "deliver",
    "extent_of",
    "layout_of",
    "plan_copy",
    "sizes_of",
]

Array = np.ndarray[Any, Any]
_DECODED: Final = 16
"""Chunks kept decoded while pixels are divided again; a new chunk needs four of them."""


class Box(NamedTuple):
    """The part of the plane that becomes the image: first row and column, height, width."""

    y: int
    x: int
    height: int
    width: int

    def contains(self, chunk: StoredChunk) -> bool:
        """Return whether all pixels of a chunk that were written are in the box."""
        top, bottom, left, right = place_of(chunk)
        return (
            self.y <= top
            and bottom <= self.y + self.height
            and self.x <= left
            and right <= self.x + self.width
        )

    def meets(self, chunk: StoredChunk) -> bool:
        """Return whether a pixel of the chunk's written box is in this box."""
        top, bottom, left, right = place_of(chunk)
        return (
            top < self.y + self.height
            and bottom > self.y
            and left < self.x + self.width
            and right > self.x
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of the new image, and the plane of each frame.

    Attributes
    ----------
    t, c, z
        Sizes; `c` counts channels without samples.
    named
        Lengths of the named axes, which are in T, Z and C.
    """

    t: int
    c: int
    z: int
    named: tuple[int, ...]

    def plane(self, frame: Sequence[int]) -> tuple[int, int, int]:
        """Return T, channel and Z of a frame; a named axis runs faster than the one it is in."""
        t, c, z = frame[:3]
        places = {"T": t, "C": c, "Z": z}
        for parent, length, position in zip(PARENTS, self.named, frame[3:], strict=False):
            places[parent] = places[parent] * length + position
        return places["T"], places["C"], places["Z"]


def place_of(chunk: StoredChunk) -> tuple[int, int, int, int]:
    """Return first row, row behind the last, and the same for columns, that a chunk contains."""
    y, x = chunk.index.row * chunk.shape[1], chunk.index.column * chunk.shape[2]
    top, bottom, left, right = chunk.box
    return y + top, y + bottom, x + left, x + right


def extent_of(chunks: Sequence[StoredChunk]) -> Box:
    """Return the smallest box with all pixels and, unless some lie before it, the origin."""
    places = np.array([place_of(chunk) for chunk in chunks], np.int64).reshape(-1, 4)
    y, x = min(0, int(places[:, 0].min())), min(0, int(places[:, 2].min()))
    return Box(y, x, int(places[:, 1].max()) - y, int(places[:, 3].max()) - x)


def layout_of(
    chunks: Sequence[StoredChunk], least: Mapping[str, int], lengths: Sequence[int]
) -> Layout:
    """Return the sizes along T, C, Z and the named axes.

    Parameters
    ----------
    chunks
        All chunks.
    least
        Least sizes along "T", "C" and "Z", without named axes.
    lengths
        Lengths of the named axes as given; 0 where positions are counted.
    """
    frames = np.array([chunk.index.frame for chunk in chunks], np.int64)
    return sizes_of((frames.max(axis=0) + 1).tolist(), least, lengths)


def sizes_of(most: Sequence[int], least: Mapping[str, int], lengths: Sequence[int]) -> Layout:
    """Return the sizes of an image whose frames have less than `most` along each axis."""
    t, c, z = (max(n, least.get(axis, 1)) for n, axis in zip(most, "TCZ", strict=False))
    named = tuple(max(n, given) for n, given in zip(most[3:], lengths, strict=True))
    inside = dict(zip(PARENTS, named, strict=False))
    return Layout(t * inside.get("T", 1), c * inside.get("C", 1), z * inside.get("Z", 1), named)


def add_windows(ome: OME, chunks: Sequence[StoredChunk], layout: Layout, samples: int) -> None:
    """Add the display window of each channel, from values seen, to a document that has none."""
    channels = layout.c
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    for chunk in chunks:
        channel = layout.plane(chunk.index.frame)[1]
        low[channel] = np.fmin(low[channel], chunk.low)
        high[channel] = np.fmax(high[channel], chunk.high)
    extras = find_extras(ome)
    known = list(extras[0].channels)
    known += [{}] * (channels * samples - len(known))
    for number in range(channels * samples):
        start, end = float(low[number // samples]), float(high[number // samples])
        if start < end and "window" not in known[number]:
            known[number] = {**known[number], "window": {"start": start, "end": end}}
    extras[0] = Extras(tuple(known), extras[0].origin, extras[0].other)
    attach_extras(ome, extras)


def plan_copy(store: TileStore, file: GrowingFile, box: Box, dtype: np.dtype[Any]) -> bool:
    """Plan that encoded chunks are copied, if the new file can have the same grid and encoding."""
    chunk, samples = store.chunk, store.samples
    if chunk is None or samples is None or sys.byteorder == "big":
        return False
    aligned = all(start % side == 0 for start, side in zip(box[:2], chunk, strict=True))
    # A chunk that is larger than the image would be stored with other sides.
    if not aligned or box.height < chunk[0] or box.width < chunk[1]:
        return False
    if not _has_plain_chunks(file.wanted.backend_options):
        return False
    steps = factors_of(file.wanted.pyramid, box.height, box.width)
    if any(side % step for side in chunk for step in steps):
        return False
    y, x, z, c, t = file.shape5(0)
    stored = store.files.compression.stored_as(dtype)
    level = Level((t, c, z, y, x), (1, samples, 1, *chunk))
    return file.plan_copy(0, [level], [stored])


def _has_plain_chunks(options: Mapping[str, Any]) -> bool:
    """Return whether chunks contain one plane."""
    wanted = options.get("chunks")
    return not isinstance(wanted, (tuple, list)) or all(n == 1 for n in wanted[:-2])


def deliver(
    store: TileStore,
    chunks: Sequence[StoredChunk],
    file: GrowingFile,
    box: Box,
    layout: Layout,
    *,
    copied: bool,
    keep: bool,
) -> None:
    """Write the chunks of a store to a new file.

    Parameters
    ----------
    store, chunks
        The store, and those of its chunks that meet `box`.
    file
        The new file, whose plan is complete.
    box, layout
        What becomes the image.
    copied
        Whether encoded chunks are copied, as `plan_copy` planned.
    keep
        Whether chunks that were copied stay in the store.
    """
    dtype = file.dtype(0)
    rest = list(chunks)
    if copied:
        rest = [c for c in chunks if not (c.dtype == dtype and box.contains(c))]
        others = {c.index for c in rest}
        whole = [c for c in chunks if c.index not in others]
        lower = file.wanted.pyramid is not False
        run(
            (
                partial(_copy, store, file, chunk, box, layout, lower=lower, keep=keep)
                for chunk in _near_each_other(whole, lambda chunk: chunk.index)
            ),
            file.wanted.workers,
        )
    if rest:
        _divide_again(store, rest, file, box, layout)


def _copy(
    store: TileStore,
    file: GrowingFile,
    chunk: StoredChunk,
    box: Box,
    layout: Layout,
    *,
    lower: bool,
    keep: bool,
) -> None:
    index, sides = chunk.index, chunk.shape[1:]
    t, c, z = layout.plane(index.frame)
    place = (t, c, z, index.row - box.y // sides[0], index.column - box.x // sides[1])
    pixels = None
    if lower:
        found = store.files.read(index)
        if found is not None:
            planes = found[0][np.newaxis, :, np.newaxis]
            # At the right and bottom edge the chunk is larger than the image.
            grid = file.shape5(0)
            height = min(sides[0], grid[0] - place[3] * sides[0])
            width = min(sides[1], grid[1] - place[4] * sides[1])
            pixels = planes[..., :height, :width]
    data = store.files.stored(index) if keep else store.files.take(chunk)
    file.write_stored(0, 0, place, data, pixels)


def _divide_again(
    store: TileStore, chunks: Sequence[StoredChunk], file: GrowingFile, box: Box, layout: Layout
) -> None:
    """Write pixels whose chunks differ from those of the new file."""
    known = {chunk.index for chunk in chunks}
    sides = (chunks[0].shape[1], chunks[0].shape[2])
    new = file.chunk5(0)[:2]
    targets: dict[tuple[tuple[int, ...], int, int], None] = {}
    for chunk in chunks:
        top, bottom, left, right = place_of(chunk)
        rows = range(max(0, top - box.y) // new[0], -(-min(box.height, bottom - box.y) // new[0]))
        columns = range(max(0, left - box.x) // new[1], -(-min(box.width, right - box.x) // new[1]))
        for row in rows:
            for column in columns:
                targets[chunk.index.frame, row, column] = None

    @lru_cache(maxsize=_DECODED)
    def read(index: ChunkIndex) -> tuple[Array, Array | None] | None:
        return store.files.read(index) if index in known else None

    def write(frame: tuple[int, ...], row: int, column: int) -> None:
        y, x = row * new[0], column * new[1]
        height, width = min(new[0], box.height - y), min(new[1], box.width - x)
        part = Box(box.y + y, box.x + x, height, width)
        pixels = _assembled(read, frame, part, sides, file)
        t, c, z = layout.plane(frame)
        samples = pixels.shape[0]
        selection = Selection(
            (
                range(y, y + height), range(x, x + width), range(z, z + 1),
                range(c * samples, (c + 1) * samples), range(t, t + 1),
            )
        )  # fmt: skip
        values = pixels.transpose(1, 2, 0)[:, :, np.newaxis, :, np.newaxis]
        file.write_block(selection, values)

    places = (ChunkIndex(*target) for target in targets)
    ordered = _near_each_other(places, lambda target: target)
    run((partial(write, *target) for target in ordered), file.wanted.workers)


def _assembled(
    read: Any, frame: tuple[int, ...], part: Box, sides: tuple[int, int], file: GrowingFile
) -> Array:
    """Return the pixels of a box of one frame, shape (samples, Y, X)."""
    out: Array | None = None
    for row in range(part.y // sides[0], -(-(part.y + part.height) // sides[0])):
        for column in range(part.x // sides[1], -(-(part.x + part.width) // sides[1])):
            found = read(ChunkIndex(frame, row, column))
            if found is None:
                continue
            pixels, written = found
            if out is None:
                shape = (pixels.shape[0], part.height, part.width)
                out = np.full(shape, file.wanted.fill_value, file.dtype(0))
            top, left = row * sides[0] - part.y, column * sides[1] - part.x
            rows = slice(max(0, top), min(part.height, top + sides[0]))
            columns = slice(max(0, left), min(part.width, left + sides[1]))
            inner = (
                slice(rows.start - top, rows.stop - top),
                slice(columns.start - left, columns.stop - left),
            )
            marks = True if written is None else written[inner]
            np.copyto(out[:, rows, columns], pixels[(slice(None), *inner)], where=marks)
    if out is None:
        raise AssertionError("a target without pixels")
    return out


def _near_each_other(items: Any, place: Any) -> Iterator[Any]:
    """Yield items so that neighbours in the plane are near each other: in the order of Morton.

    Chunks of lower levels are then complete soon, and few are unfinished at any time.
    """

    def key(item: Any) -> tuple[Any, ...]:
        frame, *at = place(item)
        row, column = (n + (1 << 40) for n in at)
        return frame, _interleaved(row) << 1 | _interleaved(column)

    return iter(sorted(items, key=key))


def _interleaved(number: int) -> int:
    """Return a number with a zero before each of its bits."""
    return int(bin(number)[2:], 4)
