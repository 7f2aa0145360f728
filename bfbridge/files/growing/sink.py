"""The part of `BioWriter` that adds tiles, and what another process has of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bfbridge.errors import BadArgument, Closed
from bfbridge.files.growing.growing_file import (
    GrowingFile,
    checked_crop,
    checked_least,
    checked_tile,
)
from bfbridge.files.growing.named_axes import NamedAxes
from bfbridge.files.growing.tile_store import MOST, StorePlan, TileStore
from bfbridge.runtime.arguments import whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bfbridge.files.writing.new_file import NewFile

__all__ = ["TilePart", "TileSink"]


class TileSink:
    """Tiles of an image that grows, and the part of the plane that becomes the image."""

    _file: NewFile

    @property
    def _growing(self) -> GrowingFile:
        file = self._file
        if not isinstance(file, GrowingFile):
            raise BadArgument(
                f"{file.name}: tiles are added to images that grow: BioWriter(path, grow=True). "
                "Write regions of an image of known size with bw[...] = array."
            )
        return file

    @property
    def _is_growing(self) -> bool:
        return isinstance(self._file, GrowingFile)

    def _part(self) -> tuple[Any, ...]:
        """Return what another process adds tiles with, as `__reduce__` does."""
        file = self._growing
        store = file.share()
        return TilePart, (store.folder, store.plan, file.axes)

    def add_tile(
        self,
        array: Any,
        *,
        x: int = 0,
        y: int = 0,
        z: int = 0,
        c: int = 0,
        t: int = 0,
        mask: Any = None,
        **named: int | str,
    ) -> None:
        """Add a tile to an image made with ``grow=True``; in any order, from any thread.

        Where tiles overlap, the last one wins. A tile is copied before this method returns.

        Parameters
        ----------
        array
            Shape (Y, X), or (Y, X, samples) for RGB.
        x, y
            Position of its first pixel, in pixels of full size; may be negative.
        z, c, t
            Its plane; `c` is a channel, and does not count samples.
        mask
            Shape (Y, X): pixels that are False or 0 are not written.
        **named
            Position on each named axis: a number, or one of the axis' texts. Default 0.

        Raises
        ------
        BadArgument
            The tile has other samples than the first one, or there is no such axis.
        BadDtype
            No type holds its values and those of the tiles before, or its values are not those of
            the dtype that was set.
        WriteFailed
            The file system refuses to write, now or for an earlier tile.
        """
        file = self._growing
        frame = _frame(file.axes, file.name, t, c, z, named)
        where = _place(file.name, y, x)
        file.add_tile(frame, *where, *checked_tile(array, mask, file.name))

    @property
    def crop(self) -> tuple[int, int, int, int] | None:
        """Part of the plane that becomes the image: y, x, height, width; None for all tiles.

        In the coordinates of the tiles. It can be set until `close`.
        """
        found = self._growing.crop
        return None if found is None else (found.y, found.x, found.height, found.width)

    @crop.setter
    def crop(self, value: Any) -> None:
        file = self._growing
        file.edit("crop")
        file.crop = checked_crop(value, file.name)

    @property
    def min_size(self) -> tuple[int, int]:
        """Least height and width of the image. It can be set until `close`."""
        return self._growing.least

    @min_size.setter
    def min_size(self, value: Any) -> None:
        file = self._growing
        file.edit("min_size")
        file.least = checked_least(value, file.name)


class TilePart:
    """A `BioWriter` with ``grow=True`` in another process: it adds tiles, and nothing else.

    It is what unpickling such a writer returns. Its tiles are in the image when `add_tile` ends;
    the process that made the writer closes it.

    Parameters
    ----------
    folder, plan
        The store of the tiles.
    axes
        The named axes.
    """

    def __init__(self, folder: Path, plan: StorePlan, axes: NamedAxes) -> None:
        self._store = TileStore(folder, plan, shared=True)
        self._axes = axes
        self._closed = False

    def __reduce__(self) -> tuple[Any, ...]:
        return TilePart, (self._store.folder, self._store.plan, self._axes)

    def add_tile(
        self,
        array: Any,
        *,
        x: int = 0,
        y: int = 0,
        z: int = 0,
        c: int = 0,
        t: int = 0,
        mask: Any = None,
        **named: int | str,
    ) -> None:
        """Add a tile; see `BioWriter.add_tile`.

        Raises
        ------
        Closed
            This part, or the writer, is closed.
        """
        name = self._store.plan.name
        if self._closed:
            raise Closed(f"{name}: this part of the image is closed.")
        frame = _frame(self._axes, name, t, c, z, named)
        where = _place(name, y, x)
        self._store.add(frame, *where, *checked_tile(array, mask, name))

    def close(self) -> None:
        """End this part."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _frame(
    axes: NamedAxes, name: str, t: int, c: int, z: int, named: Mapping[str, Any]
) -> tuple[int, ...]:
    planes = (whole(n, f"{name}: {axis}", 0, 1 << 31) for axis, n in (("t", t), ("c", c), ("z", z)))
    return *planes, *axes.positions(named)


def _place(name: str, y: int, x: int) -> tuple[int, int]:
    return whole(y, f"{name}: y", -MOST, MOST), whole(x, f"{name}: x", -MOST, MOST)
