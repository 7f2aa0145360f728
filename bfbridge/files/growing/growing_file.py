"""`GrowingFile`: a new file whose sizes are those of its tiles, known when it is closed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bfbridge.backend import Channel, Image, Level, Shape5, WriterBackend
from bfbridge.engine.casting import as_pixels
from bfbridge.engine.lazy_pixels import LazyPixels
from bfbridge.engine.pyramid import factors_of, plan_levels
from bfbridge.engine.selection import Selection
from bfbridge.errors import BadArgument, BadDtype, Closed, IncompleteImage
from bfbridge.files.growing.associated import add_associated, whole_image
from bfbridge.files.growing.delivery import (
    Box,
    Layout,
    add_windows,
    deliver,
    extent_of,
    layout_of,
    plan_copy,
    sizes_of,
)
from bfbridge.files.growing.named_axes import NamedAxes, annotate
from bfbridge.files.growing.tile_store import MOST, StorePlan, TileStore
from bfbridge.files.writing.image_plans import WritePlan
from bfbridge.files.writing.new_file import NewFile
from bfbridge.files.writing.write_errors import Target, reported
from bfbridge.files.writing.writes import Writes
from bfbridge.ngff.compression import parse_compression
from bfbridge.ome import metadata
from bfbridge.runtime.arguments import whole

if TYPE_CHECKING:
    from ome_types import OME

    from bfbridge.backend import Role
    from bfbridge.files.growing.chunk_files import StoredChunk

__all__ = ["GrowingFile", "checked_crop", "checked_least", "checked_tile"]

Array = np.ndarray[Any, Any]
_COMPRESSION = ("blosc-zstd", 1)
_DTYPES = (
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
# Ends with the suffix of private folders, which are not moved to the target.
_FOLDER = ".bfbridge-partial"


class GrowingFile(NewFile):
    """A file to which tiles are added; until `close` it is a plan and a `TileStore`.

    Parameters
    ----------
    target, backend, ome, wanted
        As for `NewFile`.
    axes
        Named axes; see `NamedAxes`.

    Attributes
    ----------
    crop
        Part of the plane that becomes the image; None: all tiles.
    least
        Least height and width.
    associated
        Pixels (Y, X, samples) of further images, by role: "label", "macro" or "thumbnail".
    """

    def __init__(
        self,
        target: Target,
        backend: type[WriterBackend],
        ome: OME,
        wanted: WritePlan,
        axes: Mapping[str, Any] | None = None,
    ) -> None:
        # Half for tiles, half for the lower levels that are made from them.
        super().__init__(target, backend, ome, replace(wanted, memory=wanted.memory // 2))
        if len(ome.images) != 1:
            raise BadArgument(
                f"{self.name}: grow=True writes one image, and metadata has {len(ome.images)}."
            )
        self.axes = NamedAxes(axes, self.name)
        self._check_pyramid()
        self.crop: Box | None = None
        self.least = (1, 1)
        self.associated: dict[Role, Array] = {}
        self._store: TileStore | None = None
        self._tile_writes = Writes()
        self._is_planned = self._is_lent = False
        # Of this process' tiles: first row and column, row and column behind the last; sizes along
        # t, c, z and the named axes.
        self._reach = [0, 0, 1, 1]
        self._most = [1] * (3 + len(self.axes))

    def _check_pyramid(self) -> None:
        """Raise errors of the levels now, and not when all tiles have been added."""
        wanted, options = self.wanted.pyramid, self.wanted.backend_options
        big: Shape5 = (1, 1, 1, 1 << 20, 1 << 20)
        image = Image(None, (Level(big, big),), np.dtype(np.uint8), channels=(Channel(),))
        chunk = self.backend.default_chunk(image, options)
        plan_levels(big, chunk, factors_of(wanted, big[3], big[4]))

    # ---- tiles

    def add_tile(
        self, frame: tuple[int, ...], y: int, x: int, tile: Array, mask: Array | None
    ) -> None:
        """Add a tile; the arguments are those of `TileStore.add`."""
        self.target.check_owner()
        with self._tile_writes.one(self._admit_tile):
            try:
                with reported(self.target):
                    self.store.add(frame, y, x, tile, mask)
                self._see(frame, y, x, tile)
            except (BadArgument, BadDtype):
                raise  # before the first pixel of this tile was written
            except BaseException as error:
                self._failure = self._failure or str(error) or type(error).__name__
                raise

    def _see(self, frame: tuple[int, ...], y: int, x: int, tile: Array) -> None:
        with self._lock:
            top, left, bottom, right = self._reach
            height, width = tile.shape[:2]
            self._reach = [
                min(top, y),
                min(left, x),
                max(bottom, y + height),
                max(right, x + width),
            ]
            self._most = [max(n, place + 1) for n, place in zip(self._most, frame, strict=True)]

    def _admit_tile(self) -> None:
        with self._lock:
            if self.closed or self._tile_writes.closing:
                raise Closed(f"{self.name}: the writer is closed.")
            self._refuse_failed()

    @property
    def store(self) -> TileStore:
        """The tiles; made with the first one, when dtype and options are fixed."""
        with self._lock:
            if self._store is None:
                folder = tempfile.mkdtemp(prefix="tiles-", suffix=_FOLDER, dir=self.target.folder)
                self._store = TileStore(Path(folder), self._store_plan())
            return self._store

    def _store_plan(self) -> StorePlan:
        options = self.wanted.backend_options
        try:
            found = parse_compression(options.get("compression", _COMPRESSION))
            compression = found.name, found.level
        except BadArgument:
            compression = _COMPRESSION  # of another container; pixels are encoded again at the end
        dtype = self.plans.dtype(0).str if self.plans.is_typed(0) else None
        return StorePlan(
            self.name, compression, self.wanted.fill_value, self.wanted.memory,
            self.wanted.workers, dtype, _chunk_of(options),
            tuple(name for name in _DTYPES if self.backend.supports_dtype(np.dtype(name))),
        )  # fmt: skip

    def adopt_tiles(self, store: TileStore) -> None:
        """Take the tiles of a store, which stays as it is."""
        self._store, self._is_lent = store, True

    def share(self) -> TileStore:
        """Let other processes add tiles; return the store, whose folder and plan they need."""
        self.target.check_owner()
        with self._tile_writes.one(self._admit_tile), reported(self.target):
            self.store.share()
            return self.store

    # ---- what NewFile would answer from its plan

    def dtype(self, index: int) -> np.dtype[Any]:
        """Return the dtype of the image: that of all tiles until now, if none is fixed."""
        store = None if self._is_planned or self.closed else self._store
        return (None if store is None else store.dtype) or super().dtype(index)

    def shape5(self, index: int) -> tuple[int, int, int, int, int]:
        """Return the sizes along Y, X, Z, C, T: those that this process' tiles need until now."""
        if self._is_planned or self.closed:
            return super().shape5(index)
        top, left, bottom, right = self._reach
        crop, sized = self.crop, self.plans.sizes_set(index)
        height, width = (bottom - top, right - left) if crop is None else crop[2:]
        layout = sizes_of(self._most, {}, self.axes.lengths)
        samples = 1 if self._store is None else self._store.samples or 1
        return (
            max(height, self.least[0], sized.get("Y", 1)),
            max(width, self.least[1], sized.get("X", 1)),
            max(layout.z, sized.get("Z", 1)),
            max(layout.c * samples, sized.get("C", 1)),
            max(layout.t, sized.get("T", 1)),
        )

    def chunk5(self, index: int) -> tuple[int, int, int, int, int]:
        """Return the chunk along Y, X, Z, C, T; the plan stays open."""
        if self._writer is not None:
            return super().chunk5(index)
        store = self._store
        if store is None or store.chunk is None or store.samples is None:
            raise BadArgument(f"{self.name}: the chunk is not known before the first tile.")
        return *store.chunk, 1, store.samples, 1

    def write(self, index: int, selection: Selection, pixels: Any) -> None:
        """Refuse: regions are those of an image of known size."""
        raise self._only_tiles()

    def _only_tiles(self) -> BadArgument:
        return BadArgument(
            f"{self.name}: an image with grow=True has no size yet; write to it with "
            "add_tile(array, y=, x=)."
        )

    def create_shared(self, backend: Any, path: Any) -> None:
        """Refuse: other processes get a pickled copy of the writer."""
        raise BadArgument(
            f"{self.name}: an image with grow=True is not started with BioWriter.create. Pass the "
            "BioWriter to the other processes; they add tiles to its image."
        )

    def write_block(self, selection: Selection, pixels: Array) -> None:
        """Write a part of the image whose size is known now."""
        super().write(0, selection, pixels)

    # ---- the end

    def close(self, *, require_complete: bool = False) -> None:
        """Finish the file; see `NewFile.close`."""
        self.target.check_owner()
        if self.closed:
            return
        try:
            self._tile_writes.stop()
            self._refuse_failed()
            with reported(self.target):
                self._deliver(require_complete=require_complete)
                self._remove_tiles()
        except BaseException:
            self.abort()
            raise
        super().close()

    def _deliver(self, *, require_complete: bool) -> None:
        store, chunks = self._store, []
        if store is not None:
            store.flush()
            chunks = store.chunks()
        if store is None or not chunks:
            raise IncompleteImage(
                f"{self.name}: no tile was added, so no file was created: call add_tile(array, "
                "y=, x=) before the writer is closed."
            )
        box = self._box(chunks)
        inside = [chunk for chunk in chunks if box.meets(chunk)]
        if not inside:
            raise IncompleteImage(
                f"{self.name}: no pixel was written in crop={_shown(box)}; all tiles are in "
                f"{_shown(extent_of(chunks))} (y, x, height, width)."
            )
        layout = self._settle_plan(store, inside, box)
        if require_complete:
            self._refuse_holes(store, inside, box, layout)
        copied = plan_copy(store, self, box, self.plans.dtype(0))
        if copied:
            add_windows(self.ome, inside, layout, store.samples or 1)
        numbers = [add_associated(self.plans, *each) for each in self.associated.items()]
        self.start()
        for number, pixels in zip(numbers, self.associated.values(), strict=True):
            super().write(number, whole_image(pixels), pixels[:, :, np.newaxis, :, np.newaxis])
        deliver(store, inside, self, box, layout, copied=copied, keep=self._is_lent)

    def _box(self, chunks: Sequence[StoredChunk]) -> Box:
        box = extent_of(chunks) if self.crop is None else self.crop
        sized = self.plans.sizes_set(0)
        height = max(box.height, self.least[0], sized.get("Y", 1))
        width = max(box.width, self.least[1], sized.get("X", 1))
        return Box(box.y, box.x, height, width)

    def _settle_plan(self, store: TileStore, chunks: Sequence[StoredChunk], box: Box) -> Layout:
        """Set sizes, dtype, samples and named axes of the document."""
        samples = store.samples or 1
        names = self.plans.names_set(0)
        sized = self.plans.sizes_set(0)
        inside = dict(zip("TZC", (max(1, n) for n in self.axes.lengths), strict=False))
        least = {
            axis: -(-size // (inside.get(axis, 1) * (samples if axis == "C" else 1)))
            for axis, size in {**sized, "C": max(sized.get("C", 1), names * samples)}.items()
            if axis in "TCZ"
        }
        layout = layout_of(chunks, least, self.axes.lengths)
        if samples > 1 and layout.named[2:] > (1,):
            raise BadArgument(
                f"{self.name}: a third named axis is stored in C, which has {samples} samples per "
                "pixel. Use two named axes for RGB images."
            )
        dtype = np.dtype(store.plan.dtype) if store.plan.dtype else None
        for chunk in chunks:
            dtype = chunk.dtype if dtype is None else np.promote_types(dtype, chunk.dtype)
        self.plans.set_dtype(0, metadata.writable_dtype(dtype))
        sizes = {
            "Y": box.height, "X": box.width, "Z": layout.z, "C": layout.c * samples, "T": layout.t,
        }  # fmt: skip
        for axis, size in sizes.items():
            self.plans.set_size(0, axis, size)
        for channel in self.pixels(0).channels:
            channel.samples_per_pixel = samples
        self._is_planned = True
        if len(self.axes):
            annotate(self.ome, self.axes.modulo(layout.named))
        return layout

    def _refuse_holes(
        self, store: TileStore, chunks: Sequence[StoredChunk], box: Box, layout: Layout
    ) -> None:
        planes = layout.t * layout.c * layout.z
        count = 0
        for chunk in chunks:
            if box.contains(chunk):
                count += chunk.written
                continue
            found = store.files.read(chunk.index)
            if found is not None:
                top, left = (
                    chunk.index.row * chunk.shape[1] - box.y,
                    chunk.index.column * chunk.shape[2] - box.x,
                )
                rows = slice(max(0, -top), max(0, box.height - top))
                columns = slice(max(0, -left), max(0, box.width - left))
                marks = np.ones(chunk.shape[1:], bool) if found[1] is None else found[1]
                count += int(np.count_nonzero(marks[rows, columns]))
        if count < planes * box.height * box.width:
            raise IncompleteImage(
                f"{self.name}: {planes * box.height * box.width - count:,} pixels are in no tile, "
                "and close(require_complete=True) requires all. The file was not created."
            )

    def abort(self) -> None:
        """Remove the unfinished file and the tiles."""
        if self.target.owned and not self.closed:
            self._tile_writes.stop()
            if self._store is not None:
                self._store.drain()
            self._remove_tiles()
        super().abort()

    def _remove_tiles(self) -> None:
        if self._store is not None and not self._is_lent:
            shutil.rmtree(self._store.folder, ignore_errors=True)


def _chunk_of(options: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return height and width of the chunks that the options ask for."""
    for name in ("chunks", "tile"):
        value = options.get(name)
        if isinstance(value, (int, np.integer)):
            return int(value), int(value)
        if isinstance(value, (tuple, list)) and len(value) >= 2:
            return int(value[-2]), int(value[-1])
    return None


def checked_tile(array: Any, mask: Any, name: str) -> tuple[Array, Array | None]:
    """Return a tile of shape (Y, X, samples) and its mask.

    Raises
    ------
    BadArgument
        The array does not have 2 or 3 axes, or the mask not the shape of the tile.
    """
    found = as_pixels(array, name)
    pixels = _computed(found) if isinstance(found, LazyPixels) else found
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3 or 0 in pixels.shape:
        raise BadArgument(
            f"{name}: a tile has the shape (Y, X) or (Y, X, samples), not {np.shape(array)}. "
            "Give planes of z, c and t one by one."
        )
    if pixels.dtype == np.bool_:
        pixels = pixels.view(np.uint8)
    dtype = metadata.writable_dtype(pixels.dtype)
    pixels = pixels.astype(dtype.newbyteorder("="), copy=False)
    if mask is None:
        return pixels, None
    marks = np.asarray(mask)
    if marks.ndim == 3 and marks.shape[2] == 1:
        marks = marks[:, :, 0]
    if marks.shape != pixels.shape[:2] or marks.dtype.kind not in "biu":
        raise BadArgument(
            f"{name}: mask has the shape {marks.shape} and the dtype {marks.dtype}; give booleans "
            f"of the shape of the tile, {pixels.shape[:2]}."
        )
    return pixels, marks.astype(bool)


def _computed(lazy: LazyPixels) -> Array:
    """Return a lazy array as an array; trailing axes of length 1 of five are dropped."""
    out = np.empty(lazy.shape, lazy.dtype)
    for batch in lazy.batches(1 << 62):
        for start, part in batch:
            out[tuple(slice(a, a + n) for a, n in zip(start, part.shape, strict=True))] = part
    return out[:, :, 0, :, 0] if out.ndim == 5 and out.shape[2] == out.shape[4] == 1 else out


def checked_crop(value: Any, name: str) -> Box | None:
    """Return a box given as (y, x, height, width), in the coordinates of the tiles."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) != 4:
        raise BadArgument(f"{name}: crop={value!r:.80}: give (y, x, height, width).")
    y, x = (whole(n, f"{name}: crop", -MOST, MOST) for n in value[:2])
    height, width = (whole(n, f"{name}: crop: height and width", 1, MOST) for n in value[2:])
    return Box(y, x, height, width)


def checked_least(value: Any, name: str) -> tuple[int, int]:
    """Return the least height and width, given as a pair or None."""
    if value is None:
        return 1, 1
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise BadArgument(f"{name}: min_size={value!r:.80}: give (height, width).")
    height, width = (whole(n, f"{name}: min_size", 1, MOST) for n in value)
    return height, width


def _shown(box: Box) -> tuple[int, ...]:
    return tuple(box)
