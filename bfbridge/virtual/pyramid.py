"""An image as a pyramid of exact halves: stored levels where they fit, others computed on demand.

Level k has the sides of full size divided by 2**k, rounded up. A stored level is used if its sides
are these, or one less, because whole-slide scanners round down; the last row or column is then
computed from the next finer level. A computed pixel is the mean of 2 x 2 pixels
(`bfbridge.engine.pyramid`), or the first of them for labels and indexed images.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bfbridge.backend import ChunkGrid, Image, Level, Region, Shape5
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.engine.pyramid import SMALLEST, factors_of, plan_levels, reduce_block
from bfbridge.engine.tiles import LevelReader
from bfbridge.errors import BadArgument, BadSelection, BfbridgeError
from bfbridge.ngff.compression import Compression, parse_compression
from bfbridge.rendering.plan import is_indexed
from bfbridge.runtime import forking
from bfbridge.virtual.pyramid_cache import ChunkFiles, files_of

if TYPE_CHECKING:
    from bfbridge.backend import StoredAs
    from bfbridge.views import ImageView

__all__ = ["LARGEST_SIDE", "Pyramid", "VirtualImage", "VirtualLevel", "check_side"]

Array = np.ndarray[Any, Any]
SIDES: Final = (512, 1024)
"""Sides that chunks may have."""
LARGEST_SIDE: Final = 1024
_MADE_CACHE: Final = 64 << 20
_MOST_SAMPLES: Final = 4
_MOST_PLANES: Final = 1024
"""Maximum number of planes of a level that are inspected for a common encoding of chunks."""


@dataclass(frozen=True, slots=True)
class VirtualLevel:
    """One level of a virtual pyramid.

    Attributes
    ----------
    shape, chunk
        Along T, C, Z, Y, X.
    stored
        Number of the file's level that contains it, or None for a computed level.
    held
        Rows and columns that the stored level has: those of `shape`, or one less.
    compression
        Compression of the file's own chunks, where they can be passed through undecoded.
    """

    shape: Shape5
    chunk: Shape5
    stored: int | None
    held: tuple[int, int] = (0, 0)
    compression: Compression | None = None

    @property
    def grid(self) -> ChunkGrid:
        """The level's chunks."""
        return ChunkGrid(self.shape, self.chunk)

    @property
    def counts(self) -> Shape5:
        """Chunks along each axis."""
        return self.grid.counts

    def box(self, index: Shape5) -> tuple[Shape5, Shape5]:
        """Return start and stop of a chunk, cut at the level's edge.

        Raises
        ------
        BadSelection
            The chunk does not exist.
        """
        grid = self.grid
        if tuple(index) not in grid:
            raise BadSelection(f"there is no chunk {index}; the grid has {grid.counts} chunks.")
        return grid.box(index)


def _five(values: Any) -> Shape5:
    t, c, z, y, x = values
    return t, c, z, y, x


class Pyramid:
    """The levels of an image, without their pixels.

    Attributes
    ----------
    view
        The image at full size.
    levels
        Full size first.
    method
        How a level is computed from the next finer level: "mean" or "nearest".
    """

    def __init__(
        self, view: ImageView, levels: Sequence[VirtualLevel], method: str = "mean"
    ) -> None:
        self.view = view.levels[0]
        self.levels = tuple(levels)
        self.method = method

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the pixels."""
        return self.view.dtype

    @property
    def record(self) -> Image:
        """Record of the image with these levels, as in the backend contract."""
        levels = tuple(Level(level.shape, level.chunk) for level in self.levels)
        return replace(self.view._image, levels=levels)

    @property
    def is_complete(self) -> bool:
        """Whether the file stores all levels."""
        return all(level.stored is not None for level in self.levels)


class VirtualImage(Pyramid):
    """An image as a pyramid whose chunks can be read. All methods are thread-safe.

    The last level's sides are at most 512.

    Parameters
    ----------
    view
        The image; all its levels are inspected.
    side
        Of chunks along Y and X: 512 or 1024. 512 suits viewers; 1024 is faster for programs that
        read whole images. Chunks that are passed through undecoded keep their own size.
    cache
        Cache for computed chunks. Default: the reader's cache, otherwise one of 64 MiB.
    files
        Storage for computed chunks. Default: the user's cache folder for large images.
    """

    def __init__(
        self,
        view: ImageView,
        side: int = LARGEST_SIDE,
        cache: MutableMapping[Hashable, Array] | None = None,
        files: ChunkFiles | None = None,
    ) -> None:
        check_side(side)
        self._file = view._file
        self._side = side
        nearest = view.is_mask or view.dtype == np.bool_ or is_indexed(view)
        super().__init__(view, self._plan(view), "nearest" if nearest else "mean")
        self._cache = cache if cache is not None else self._file.cache
        if self._cache is None:
            self._cache = ChunkCache(_MADE_CACHE)
        self._files = files
        if files is None and not self.is_complete:
            self._files = files_of(self.view, self.method)
        self._active = 0
        self._lock = forking.lock()

    # ---- levels

    def _plan(self, view: ImageView) -> list[VirtualLevel]:
        image = view._image
        shape = image.levels[0].shape
        samples = image.samples if image.samples <= _MOST_SAMPLES else 1
        chunk = (1, samples, 1, self._side, self._side)
        found = []
        planned = plan_levels(shape, chunk, factors_of(True, *shape[3:]))
        for number, level in enumerate(planned):
            cut = level.grid.block_shape((0,) * 5)
            fitting = _fitting(image, level.shape, number)
            if fitting is None:
                found.append(VirtualLevel(level.shape, cut, None))
                continue
            held = image.levels[fitting].shape
            here = VirtualLevel(level.shape, cut, fitting, (held[3], held[4]))
            found.append(self._passing(view, here, image.levels[fitting]))
        return found

    def _passing(self, view: ImageView, level: VirtualLevel, stored: Level) -> VirtualLevel:
        """Return the level with the file's own chunks if they can be passed through undecoded."""
        if level.stored is None or stored.shape != level.shape:
            return level
        sides = zip(stored.chunk[3:], level.shape[3:], strict=True)
        handy = all(n in SIDES or n == size <= LARGEST_SIDE for n, size in sides)
        same_planes = stored.chunk[:3] == level.chunk[:3]
        if not handy or not same_planes or np.prod(level.shape[:3]) > _MOST_PLANES:
            return level
        try:
            encoded = self._file.backend.stored_as(view.index, level.stored)
        except BfbridgeError:
            # A later read of the pixels raises the error, with its position.
            return level
        compression = _as_zarr(encoded, view.dtype)
        if compression is None:
            return level
        return replace(level, chunk=stored.chunk, compression=compression)

    def boxes_to_read(self, number: int, index: Shape5) -> int:
        """Return the number of stored boxes read for a chunk; 0 if it is in memory or on disk."""
        level = self.levels[number]
        if level.stored is not None:
            return 1
        if self._known(number, index) is not None:
            return 0
        if self.levels[number - 1].stored is not None:
            return 1
        return sum(self.boxes_to_read(number - 1, child) for child in self._children(number, index))

    # ---- pixels

    def chunk(self, number: int, index: Shape5) -> Array:
        """Return the pixels of a chunk.

        Parameters
        ----------
        number
            Number of the level.
        index
            Position in the level's grid, along T, C, Z, Y, X.

        Returns
        -------
        numpy.ndarray
            T, C, Z, Y, X, contiguous, cropped at the level's edge; must not be changed.

        Raises
        ------
        BadSelection
            The level or chunk does not exist.
        ReadFailed
            The pixels cannot be read.
        """
        level = self._level(number)
        start, stop = level.box(index)
        with self._worker() as workers:
            if level.stored is not None:
                return self._box(number, start, stop, workers)
            return self._made(number, index, workers)

    def read(self, number: int, start: Shape5, stop: Shape5) -> Array:
        """Return the pixels of a box of a level; of a computed level, assembled from chunks.

        Raises
        ------
        BadSelection
            The box is empty or extends beyond the level.
        """
        level = self._level(number)
        sound = all(0 <= a < b <= n for a, b, n in zip(start, stop, level.shape, strict=True))
        if not sound:
            raise BadSelection(f"{start} to {stop} is not inside a level of shape {level.shape}.")
        if level.stored is not None:
            with self._worker() as workers:
                return self._box(number, start, stop, workers)
        out = np.empty(Region(0, 0, start, stop).shape, self.dtype)
        for index, inside, target in level.grid.parts(start, stop):
            out[target] = self.chunk(number, _five(index))[inside]
        return out

    def read_stored(self, number: int, index: Shape5) -> bytes | None:
        """Return the encoded bytes of a chunk of a level with `compression`; None for zeros.

        Raises
        ------
        BadSelection
            The chunk does not exist, or the level has no `compression`.
        """
        level = self._level(number)
        if level.compression is None or level.stored is None:
            raise BadSelection(f"chunks of level {number} cannot be passed through undecoded.")
        level.box(index)
        return self._file.backend.read_stored(self.view.index, level.stored, index)

    def _level(self, number: int) -> VirtualLevel:
        if not 0 <= number < len(self.levels):
            raise BadSelection(
                f"{self.view.source_name}: there is no level {number}; it has {len(self.levels)}."
            )
        return self.levels[number]

    @contextmanager
    def _worker(self) -> Iterator[int]:
        """Yield the number of threads for one read: the reader's workers / active reads."""
        with self._lock:
            self._active += 1
            active = self._active
        try:
            yield max(1, self._file.workers // active)
        finally:
            with self._lock:
                self._active -= 1

    def _box(self, number: int, start: Shape5, stop: Shape5, workers: int) -> Array:
        """Read a box of a stored level; compute a missing edge from the next finer level."""
        level = self.levels[number]
        out = np.empty(Region(0, 0, start, stop).shape, self.dtype)
        rows, columns = level.held
        held = _five((*stop[:3], min(stop[3], rows), min(stop[4], columns)))
        if all(a < b for a, b in zip(start, held, strict=True)):
            part = tuple(slice(b - a) for a, b in zip(start, held, strict=True))
            self._fill(level.stored or 0, start, held, out[part], workers)
        if stop[3] > rows:
            top = max(start[3], rows)
            out[..., top - start[3] :, :] = self._reduced(
                number, _five((*start[:3], top, start[4])), stop, workers
            )
        if stop[4] > columns and held[3] > start[3]:
            left = max(start[4], columns)
            out[..., : held[3] - start[3], left - start[4] :] = self._reduced(
                number, _five((*start[:4], left)), _five((*stop[:3], held[3], stop[4])), workers
            )
        return out

    def _fill(self, stored: int, start: Shape5, stop: Shape5, out: Array, workers: int) -> None:
        """Fill `out` with a box of one of the file's own levels."""
        file = self._file
        reader = LevelReader(
            backend=file.backend,
            image=self.view.index,
            level=stored,
            workers=workers,
            cache=file.cache,
            token=file.token if file.cache is not None else None,
            name=file.source.name,
        )
        reader.fill([range(a, b) for a, b in zip(start, stop, strict=True)], out)

    def _reduced(self, number: int, start: Shape5, stop: Shape5, workers: int) -> Array:
        """Compute a box of a level from the next finer level, without caching."""
        below = self.levels[number - 1]
        first, last = _doubled(start, stop, below.shape)
        read = self._box if below.stored is not None else self._reduced
        return reduce_block(read(number - 1, first, last, workers), 2, self.method)

    def build(self, t: int = 0, c: int = 0, z: int = 0) -> Iterator[tuple[int, int]]:
        """Compute and store the missing levels of one plane of a large image.

        Parameters
        ----------
        t, c, z
            Position of the chunks along T, C, Z.

        Yields
        ------
        (done, total)
            After each chunk of the finest stored-on-disk level. Leaving the loop stops the work;
            a later call continues it.
        """
        kept = [i for i, level in enumerate(self.levels) if level.stored is None]
        kept = [i for i in kept if self._is_kept(i)]
        if not kept:
            return
        rows, columns = self.levels[kept[0]].counts[3:]
        for done, (y, x) in enumerate(product(range(rows), range(columns)), start=1):
            self.chunk(kept[0], (t, c, z, y, x))
            yield done, rows * columns
        for y, x in product(*map(range, self.levels[-1].counts[3:])):
            self.chunk(len(self.levels) - 1, (t, c, z, y, x))

    # ---- computed chunks

    def _made(self, number: int, index: Shape5, workers: int) -> Array:
        found = self._known(number, index)
        if found is not None:
            return found
        level, below = self.levels[number], self.levels[number - 1]
        start, stop = level.box(index)
        if below.stored is not None:
            pixels = np.ascontiguousarray(self._reduced(number, start, stop, workers))
        else:
            pixels = np.empty(Region(0, 0, start, stop).shape, self.dtype)
            for child in self._children(number, index):
                first, last = below.box(child)
                # Chunks of the finer level begin at even positions, so windows do not cross them.
                rows, columns = (
                    slice(f // 2 - a, -(-e // 2) - a)
                    for f, e, a in zip(first[3:], last[3:], start[3:], strict=True)
                )
                below_pixels = self._made(number - 1, child, workers)
                pixels[..., rows, columns] = reduce_block(below_pixels, 2, self.method)
        self._keep(number, index, pixels)
        return pixels

    def _children(self, number: int, index: Shape5) -> list[Shape5]:
        """Return the chunks of the next finer level that a computed chunk needs."""
        level, below = self.levels[number], self.levels[number - 1]
        start, stop = level.box(index)
        first, last = _doubled(start, stop, below.shape)
        return list(below.grid.overlapping(first, last))

    def _key(self, number: int, index: Shape5) -> Hashable:
        return (self._file.token, "virtual", self.view.index, self._side, number, index)

    def _known(self, number: int, index: Shape5) -> Array | None:
        """Return a computed chunk from memory or disk, or None."""
        cache = self._cache
        if cache is not None:
            found = cache.get(self._key(number, index))
            if found is not None:
                return found
        if self._files is None or not self._is_kept(number):
            return None
        start, stop = self.levels[number].box(index)
        shape = Region(0, 0, start, stop).shape
        kept = self._files.load(self._file_name(number), index, shape, self.dtype)
        if kept is not None and cache is not None:
            cache[self._key(number, index)] = kept
        return kept

    def _is_kept(self, number: int) -> bool:
        """Return whether a computed level is stored on disk: only if it needs more than one box."""
        return self.levels[number - 1].stored is None

    def _file_name(self, number: int) -> str:
        return f"{self._side}-{number}"

    def _keep(self, number: int, index: Shape5, pixels: Array) -> None:
        pixels.flags.writeable = False
        if self._cache is not None:
            self._cache[self._key(number, index)] = pixels
        if self._files is not None and self._is_kept(number):
            self._files.save(self._file_name(number), index, pixels)


def _doubled(start: Shape5, stop: Shape5, shape: Shape5) -> tuple[Shape5, Shape5]:
    """Return the box of the next finer level for a box."""
    first = (*start[:3], 2 * start[3], 2 * start[4])
    last = (*stop[:3], min(2 * stop[3], shape[3]), min(2 * stop[4], shape[4]))
    return _five(first), _five(last)


def check_side(side: int) -> None:
    """Raise `BadArgument` unless `side` is a valid side of virtual chunks."""
    if isinstance(side, bool) or side not in SIDES:
        raise BadArgument(f"chunk={side!r}: use 512 or 1024, the sides of virtual chunks.")


def _fitting(image: Image, shape: Shape5, number: int) -> int | None:
    """Return the stored level that equals level `number` of the pyramid, or None."""
    if number == 0:
        return 0
    for stored, level in enumerate(image.levels[1:], start=1):
        sides = zip(level.shape[3:], shape[3:], strict=True)
        near = all(0 <= wanted - have <= 1 and have > 0 for have, wanted in sides)
        # For tiny levels, one pixel less may mean another factor.
        exact = level.shape[3:] == shape[3:]
        if level.shape[:3] == shape[:3] and near and (exact or min(shape[3:]) > SMALLEST // 8):
            return stored
    return None


def _as_zarr(stored: StoredAs | None, dtype: np.dtype[Any]) -> Compression | None:
    """Return the compression of stored chunks in Zarr's terms, or None if Zarr has none."""
    if stored is None or stored["dtype"] != dtype.name:
        return None
    if stored.container == "zarr":
        return parse_compression(stored["compression"])
    if stored.container == "tiff" and stored["samples"] == 1 and stored["predictor"] == 1:
        name = stored["compression"]
        return parse_compression(name) if name in ("none", "zstd") else None
    return None
