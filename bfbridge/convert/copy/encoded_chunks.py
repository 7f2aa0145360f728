"""The copy of encoded chunks, if codec, chunk and samples of source and target are equal.

This is much faster than decoding and encoding, and JPEG tiles do not lose quality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Level, Shape5, StoredAs

if TYPE_CHECKING:
    from bfbridge.backend import WriterBackend
    from bfbridge.convert.options import ConvertOptions
    from bfbridge.convert.plan.pieces import Piece
    from bfbridge.convert.plan.scaling import Scaling
    from bfbridge.views import ImageView
    from bfbridge.writer import ImageWriter

__all__ = ["EncodedCopy", "copied_options", "keeps_chunks", "level_of", "plan_encoded"]

# With any of these options, the chunks differ from those of the source.
_CHUNK_OPTIONS = frozenset({"chunks", "tile", "shards"})


def keeps_chunks(options: ConvertOptions) -> bool:
    """Whether the options of a conversion permit copying chunks unchanged."""
    return not (
        options.recompress
        or options.levels.may_reduce_z
        or _CHUNK_OPTIONS & set(options.target_options)
    )


def copied_options(
    view: ImageView, options: ConvertOptions, writer: type[WriterBackend]
) -> Mapping[str, Any]:
    """Return the target options under which the writer stores the source's chunks unchanged."""
    given = options.target_options
    stored = view.stored_as if keeps_chunks(options) else None
    if stored is None:
        return given
    y, x, z, c, t = view.chunks
    return writer.options_for_copy(stored, (t, c, z, y, x), given)


def plan_encoded(
    piece: Piece, view: ImageView, scaling: Scaling, image: ImageWriter, options: ConvertOptions
) -> EncodedCopy | None:
    """Plan to copy an image's chunks unchanged; return None where that is not possible."""
    if not keeps_chunks(options) or not piece.whole or scaling.changes:
        return None
    levels = list(view.levels) if options.levels.is_default else [view]
    found = [level.stored_as for level in levels]
    if found[0] is None:
        return None
    if None in found:
        levels, found = levels[:1], found[:1]
    records = [level_of(level) for level in levels]
    if not image.plan_copy(records, found):
        return None
    return EncodedCopy(levels, records, found, image, options)


def level_of(view: ImageView) -> Level:
    """Return the size and chunk of a view of one level, along T, C, Z, Y, X."""
    y, x, z, c, t = view.chunks
    height, width, depth, channels, times = view.sizes.values()
    return Level((times, channels, depth, height, width), (t, c, z, y, x))


class EncodedCopy:
    """Copies the encoded chunks of one image unchanged.

    Parameters
    ----------
    views, levels, stored
        The levels that are copied, their grids, and how their chunks are encoded.
    image
        The new image.
    options
        The conversion options; they state whether lower levels are computed if the source has none.
    """

    def __init__(
        self,
        views: list[ImageView],
        levels: list[Level],
        stored: list[StoredAs | None],
        image: ImageWriter,
        options: ConvertOptions,
    ) -> None:
        self._views = views
        self._levels = levels
        self._stored = stored
        self._image = image
        shape, size = levels[0].shape[2:], views[0].physical_pixel_size
        self._decodes = len(levels) == 1 and bool(options.levels.steps(shape, size))

    def jobs(self, count: Callable[[int], None]) -> Iterator[Callable[[], None]]:
        """Jobs that together copy the image; each calls `count` with its bytes of pixels."""
        for number, level in enumerate(self._levels):
            grid = (-(-n // c) for n, c in zip(level.shape, level.chunk, strict=True))
            for place in np.ndindex(*grid):
                yield partial(self._copy, number, place, count)

    def _copy(self, number: int, place: Shape5, count: Callable[[int], None]) -> None:
        view, level = self._views[number], self._levels[number]
        data = view.read_stored(place)
        box = [
            slice(i * n, min((i + 1) * n, size))
            for i, n, size in zip(place, level.chunk, level.shape, strict=True)
        ]
        if data is not None:
            pixels = None
            if self._decodes:
                t, c, z, y, x = box
                pixels = view.read(x, y, z, c, t, keepdims=True).transpose(4, 3, 2, 0, 1)
            self._image.write_stored(number, place, data, pixels)
        if number == 0:
            count(prod(part.stop - part.start for part in box) * view.dtype.itemsize)

    def describe(self) -> dict[str, Any]:
        """Return the record of the copy."""
        first = self._stored[0]
        return {
            "levels": len(self._levels),
            "compression": None if first is None else first["compression"],
        }
