"""`StoreWriter`: NGFF 0.4 (Zarr version 2) and 0.5 (Zarr version 3), sharded or not."""

from __future__ import annotations

import contextlib
import math
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from bfbridge.backend import Image, ImageSpec, Shape5, StoredAs
from bfbridge.chunked_store import ResumedWriter
from bfbridge.errors import BadArgument, BadDtype, BfbridgeError, Closed, Unsupported
from bfbridge.ngff.documents import group_documents, multiscales_without_axes, to_json
from bfbridge.ngff.hierarchy import (
    Places,
    image_attributes,
    ome_xml_of,
    place_images,
    placed,
    time_step,
)
from bfbridge.ngff.omero import Window
from bfbridge.ome.documents.model import model_from_xml, xml_from_model
from bfbridge_omezarr.chunked.joined import LARGEST
from bfbridge_omezarr.chunked.levels import LevelBuffers, LevelWriter, Windows
from bfbridge_omezarr.hierarchy.files import FileTree, tree_of
from bfbridge_omezarr.options import WRITER_OPTIONS, WriteOptions, normalized, parse_options
from bfbridge_omezarr.shared import (
    FOLDER,
    SharedPlan,
    load_plan,
    load_windows,
    plan_document,
    windows_document,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ome_types import OME

    from bfbridge.storage.source import Source
    from bfbridge_omezarr.hierarchy.files import KeyTree

__all__ = ["StoreWriter"]

Array = np.ndarray[Any, Any]
# Bytes of pixels of small chunks that are stored together.
_JOINED_BYTES: Final = 1 << 20
# Blosc stores sizes in 32 bits and uses 16 bytes for its header.
_LARGEST_CHUNK: Final = (1 << 31) - 1 - 16


class StoreWriter(ResumedWriter):
    """A new OME-Zarr store.

    A single image is at the root. Several images have the layout of bioformats2raw (``0/``, ``1/``
    and a list in ``OME``), or that of a plate, if the OME metadata contain several wells, or with
    the option ``hcs`` or ``wells``. Masks are written to ``labels`` of their image. Every array has
    the axes t, c, z, y, x; a sample of an RGB image is a channel. ``OME/METADATA.ome.xml`` contains
    the OME metadata.
    metadata is written by `finish`, the root's last.
    """

    name: ClassVar[str] = "omezarr"
    at_urls: ClassVar[bool] = True
    z_levels: ClassVar[bool] = True
    option_names: ClassVar[tuple[str, ...]] = WRITER_OPTIONS

    def __init__(
        self,
        target: Path | Source | KeyTree,
        images: Sequence[ImageSpec],
        ome: OME | None,
        options: WriteOptions,
        shared: bool = False,
        first_t: int = 0,
        places: Places | None = None,
    ) -> None:
        self._shared = shared
        self._files = tree_of(target)
        self._specs = tuple(images)
        self._ome = ome
        self._options = options
        self._places = places or place_images(images, ome, options.wells, options.hcs)
        self._levels = tuple(
            tuple(
                LevelWriter(self._files, _join(group, str(i)), spec, i, options, shared, first_t)
                for i in range(len(spec.image.levels))
            )
            for group, spec in zip(self._places.groups, images, strict=True)
        )
        self._windows = tuple(Windows(spec.image) for spec in images)
        self._workspace = LevelBuffers()
        self._open = True

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Check option names and values; see `bfbridge_omezarr.options.parse_options`."""
        parse_options(options)

    @classmethod
    def normalize_options(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options with ``level`` and ``tile`` in ``compression`` and ``chunks``."""
        found = normalized(options)
        cls.check(found)
        return found

    @classmethod
    def supports_dtype(cls, dtype: np.dtype[Any]) -> bool:
        """Whether Zarr supports this type of pixels: all of numpy's integers and floats."""
        return dtype.kind in "biufc"

    @classmethod
    def options_for_copy(
        cls, stored: StoredAs, chunk: Shape5, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return options with the chunk size and the compression of other Zarr chunks."""
        found = dict(options)
        if stored.container == "zarr" and "compression" not in found:
            found |= {"compression": stored["compression"], "chunks": chunk}
        return found

    @classmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        """Return the chunk: the option ``chunks`` or 1024 x 1024, limited to the image's size."""
        _check_dtype(image)
        parsed = parse_options(options)
        shape = image.levels[0].shape
        t, c, z, y, x = (max(1, min(n, size)) for n, size in zip(parsed.chunks, shape, strict=True))
        if image.samples > 1:
            c = min(shape[1], max(image.samples, c // image.samples * image.samples))
        return t, c, z, y, x

    @classmethod
    def encoded_bytes(cls, image: Image, block: Array, options: Mapping[str, Any]) -> int | None:
        """Return the length of the chunk of a block; 0 for one of zeros, which is not stored."""
        del image
        if not block.any():
            return 0
        chunk = np.ascontiguousarray(block)
        return memoryview(parse_options(options).compression.encode(chunk)).nbytes

    @classmethod
    def prepare(
        cls,
        target: Path | Source,
        images: Sequence[ImageSpec],
        ome: OME | None,
        options: Mapping[str, Any],
    ) -> StoreWriter:
        """Start a store at `target`, which is created with the first block.

        Raises
        ------
        Unsupported
            Zarr does not support the dtype.
        BadArgument
            An option or a fill value is invalid.
        """
        parsed = parse_options(options)
        name = getattr(target, "name", "")
        if name.lower().endswith(".ozx") and parsed.version == "0.4":
            raise BadArgument(
                f"{name}: an .ozx file has a zarr.json at its root (NGFF RFC-9), which NGFF 0.4 "
                "has not. Write version='0.5', or a .zarr.zip file."
            )
        for spec in images:
            _check_dtype(spec.image)
            _check_fill(spec)
            for level in spec.image.levels:
                size = math.prod(level.chunk) * spec.image.dtype.itemsize
                if size > _LARGEST_CHUNK:
                    raise BadArgument(
                        f"chunks={level.chunk}: a chunk of {size:,} bytes is larger than the "
                        f"{_LARGEST_CHUNK:,} bytes that its compression supports."
                    )
        # The caller gives the folder its name when it is finished.
        private = FileTree(target, private=True) if isinstance(target, os.PathLike) else target
        return cls(private, images, ome, parsed)

    @classmethod
    def can_store(cls, stored: StoredAs, image: Image, options: Mapping[str, Any]) -> bool:
        """Whether chunks with this encoding are the same as those of these options."""
        if stored.container != "zarr" or stored["dtype"] != image.dtype.name:
            return False
        wanted = parse_options({"compression": stored["compression"]}).compression
        return parse_options(options).compression == wanted

    def write_stored(self, image: int, level: int, index: Shape5, data: bytes) -> None:
        """Store an encoded chunk."""
        if not self._open:
            raise Closed(f"{self._files.root}: written after finish or abort.")
        self._levels[image][level].write_stored(index, data)

    def move_stored(self, image: int, level: int, index: Shape5, path: Path) -> bool:
        """Make a file of encoded pixels that of a chunk; not in shards."""
        if not self._open:
            raise Closed(f"{self._files.root}: written after finish or abort.")
        return self._levels[image][level].move_stored(index, str(path))

    # ---- one store, several processes

    @classmethod
    def create(
        cls,
        target: Path | Source,
        images: Sequence[ImageSpec],
        ome: OME | None,
        options: Mapping[str, Any],
    ) -> StoreWriter:
        """Start a store that several processes write; each opens it with `open_existing`.

        No locks are used: no two processes may write blocks of the same `unit`. Each process ends
        with `release`; then one of them (or a new one) calls `finish`. Until then the store has no
        metadata, and cannot be opened. Raises the errors of `prepare`.
        """
        cls.prepare(target, images, ome, options)
        xml = None if ome is None else xml_from_model(ome)
        key, document = plan_document(SharedPlan(images, options, xml))
        tree_of(target).write(key, to_json(document))
        return cls.open_existing(target)

    @classmethod
    def open_existing(cls, target: Path | Source) -> StoreWriter:
        """Join the writing of a store made with `create`, in this or another process.

        Raises
        ------
        FileMissing
            No store was created there, or it is finished.
        UnreadableFile
            Its plan is damaged.
        """
        return cls._of_plan(target, load_plan(tree_of(target)))

    @classmethod
    def _of_plan(cls, target: Path | Source, plan: SharedPlan) -> StoreWriter:
        ome = None if plan.ome_xml is None else model_from_xml(plan.ome_xml)
        return cls(target, plan.specs, ome, parse_options(plan.options), shared=True)

    @property
    def images(self) -> tuple[ImageSpec, ...]:
        """The images being written."""
        return self._specs

    def unit(self, image: int, level: int = 0) -> Shape5:
        """Smallest box (T, C, Z, Y, X) that one process must write alone: a chunk or a shard.

        Regions of different processes must start and end at multiples of it, or at the image's end.
        """
        return self._levels[image][level].unit

    def release(self) -> None:
        """End this process's part of a store made with `create`, without finishing the store.

        Raises
        ------
        WriteFailed
            A shard was written in part. It is discarded, because another process may have written
            the rest, and the two would overwrite each other.
        """
        if not self._open:
            return
        self._open = False
        self._complete()
        seen = [windows.found for windows in self._windows]
        if any(window != Window() for found in seen for window in found):
            key, document = windows_document(seen)
            self._files.write(key, to_json(document))
        self._files.close()

    def _complete(self) -> None:
        for levels in self._levels:
            for level in levels:
                level.complete()

    # ---- blocks

    def write_block(self, image: int, level: int, index: Shape5, block: Array) -> None:
        """Store the block at a grid position of a level; in any order, from any thread.

        Raises
        ------
        WriteFailed
            The file system refuses.
        BadDtype, BadArgument
            The block does not have the dtype and shape of the chunk.
        Closed
            The writer is finished or aborted.
        """
        writer = self._checked_level(image, level, index, block, _fault)
        writer.write(index, block, self._workspace)
        if level == 0:
            self._windows[image].see(index[1] * writer.level.chunk[1], block)

    def write_unit(self, image: int, level: int) -> Shape5 | None:
        """Return several small chunks, which are encoded together; those of a shard are stored so.

        At a URL, chunks without shards are written in parallel instead.
        """
        writer, grid = self._levels[image][level], self._specs[image].image.levels[level].grid
        itemsize = writer.dtype.itemsize
        sharded = writer.unit != writer.level.chunk
        if math.prod(grid.chunk) * itemsize > LARGEST or (self._files.is_remote and not sharded):
            return None
        # Images of less than 8 MiB are still divided among threads.
        size = min(_JOINED_BYTES, max(math.prod(grid.shape) * itemsize // 8, LARGEST))
        return grid.unit(size // itemsize, writer.unit if sharded else None)

    def write_joined(self, image: int, level: int, index: Shape5, block: Array) -> None:
        """Encode whole chunks together, and store those of a shard with one write."""
        writer = self._checked_level(image, level, index, block, _joined_fault)
        indices, rows = writer.chunks_of(index, block, self._workspace)
        writer.write_joined(indices, rows, self._workspace)
        if level == 0:
            chunk = writer.level.chunk
            self._windows[image].see_chunks(index[1] * chunk[1], block, chunk)

    def _checked_level(
        self,
        image: int,
        level: int,
        index: Shape5,
        block: Array,
        fault_of: Callable[[LevelWriter, Shape5, Array], BfbridgeError | None],
    ) -> LevelWriter:
        """Return the writer of a level; raise an error if it cannot write the block."""
        if not self._open:
            raise Closed(f"{self._files.root}: written after finish or abort.")
        writer = self._levels[image][level]
        fault = fault_of(writer, index, block)
        if fault is not None:
            where = f"{self._files.root}: image {image}, level {level}, chunk {tuple(index)}"
            raise type(fault)(f"{where}: {fault}")
        return writer

    def read_block(self, image: int, level: int, index: Shape5) -> Array | None:
        """Return a block written before, or None. Thread-safe.

        Raises
        ------
        ReadFailed
            Its file cannot be read back.
        """
        return self._levels[image][level].read(index)

    def trim(self, images: Sequence[ImageSpec], ome: OME | None) -> bool:
        """Reduce the arrays' shapes; chunks and shards of Zarr may extend beyond an array."""
        self._specs, self._ome = tuple(images), ome
        for spec, levels in zip(images, self._levels, strict=True):
            for level, writer in zip(spec.image.levels, levels, strict=True):
                writer.trim(level.shape)
        return True

    def _start_finish(self) -> None:
        """Mark the writer as finished; raise `Closed` if it was finished or aborted before."""
        if not self._open:
            raise Closed(f"{self._files.root}: this writer was already finished or aborted.")
        self._open = False

    def finish(self) -> None:
        """Write all metadata: arrays first, the root's last, as it makes the store readable."""
        self._start_finish()
        self._complete()
        if self._shared:
            for seen in load_windows(self._files):
                for windows, found in zip(self._windows, seen, strict=False):
                    windows.merge(found)
            self._files.remove_unfinished()
        for levels in self._levels:
            for level in levels:
                level.describe()
        documents = self._documents()
        if self._ome is not None and self._places.order:
            self._files.write(
                "OME/METADATA.ome.xml", ome_xml_of(self._ome, self._places.order).encode()
            )
        others = self._others
        for group in sorted(documents, key=lambda key: (key == "", key)):
            extra = others.get(group, {})
            version = self._options.version
            for name, document in group_documents(documents[group], version, extra):
                self._files.write(_join(group, name), to_json(document))
        if self._shared:
            self._files.remove_folder(FOLDER)
        self._files.close()

    def stored_document(self) -> OME | None:
        """Return the document of ``OME/METADATA.ome.xml``; None for stores with labels.

        Readers return its values, although the NGFF documents have some of them too: those come
        from the same images. Labels are described by NGFF alone.
        """
        ordered = self._places.order == tuple(range(len(self._specs)))
        return self._ome if ordered and not self._shared else None

    def abort(self) -> None:
        """Close all files. The caller removes the files below the target."""
        self._open = False
        for levels in self._levels:
            for level in levels:
                with contextlib.suppress(OSError):
                    level.close()
        self._files.close()

    def _documents(self) -> dict[str, Mapping[str, Any]]:
        """Attributes of every group, by key."""
        documents = dict(self._places.documents)
        for i, (group, spec) in enumerate(zip(self._places.groups, self._specs, strict=True)):
            step = time_step(spec, self._ome, i)
            windows = self._windows[i].found[: spec.image.levels[0].shape[1]]
            described = placed(spec, self._ome, i)
            found = image_attributes(group, described, windows, self._options.version, step)
            if self._options.drop_axes:
                # Of the sizes with which the arrays were started; `trim` may have reduced them.
                found = multiscales_without_axes(found, self._levels[i][0].kept)
            documents[group] = found
        return documents

    @property
    def _others(self) -> dict[str, Mapping[str, Any]]:
        """Return the attributes of groups without NGFF metadata, as in their sources."""
        extra = {
            group: spec.extras.other.get("attributes")
            for group, spec in zip(self._places.groups, self._specs, strict=True)
        }
        return {group: found for group, found in extra.items() if isinstance(found, Mapping)}


def _fault(writer: LevelWriter, index: Shape5, block: Array) -> BadDtype | BadArgument | None:
    """Return why a block cannot be written, or None."""
    if block.dtype != writer.dtype:
        return BadDtype(f"the block is {block.dtype}, the image {writer.dtype}.")
    if index not in writer.grid:
        return BadArgument(f"there are {writer.grid.counts} chunks.")
    shape = writer.grid.block_shape(index)
    return (
        None if block.shape == shape else BadArgument(f"the block is {block.shape}, not {shape}.")
    )


def _joined_fault(
    writer: LevelWriter, index: Shape5, block: Array
) -> BadDtype | BadArgument | None:
    """Return why whole chunks cannot be written, or None."""
    if block.dtype != writer.dtype:
        return BadDtype(f"the block is {block.dtype}, the image {writer.dtype}.")
    grid = writer.grid
    stop = tuple(map(operator.add, grid.origin(index), block.shape))
    whole = all(
        end == size or (end < size and end % n == 0)
        for end, size, n in zip(stop, grid.shape, grid.chunk, strict=True)
    )
    if index not in grid or not whole:
        return BadArgument(f"the block of {block.shape} has not whole chunks of {grid.chunk}.")
    return None


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name


def _check_dtype(image: Image) -> None:
    dtype = image.dtype
    if dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise Unsupported(f"OME-Zarr does not support pixels of type {dtype}")


def _check_fill(spec: ImageSpec) -> None:
    dtype = spec.image.dtype
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        value = spec.fill_value
        whole = math.isfinite(value) and value == int(value)
        if not whole or not bounds.min <= value <= bounds.max:
            raise BadArgument(f"fill_value={value}: pixels of type {dtype} cannot hold it.")
