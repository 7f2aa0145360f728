"""`OmeZarrWriter`: NGFF 0.4 (Zarr version 2) and 0.5 (Zarr version 3), sharded or not."""

from __future__ import annotations

import contextlib
import json
import math
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from bfbridge.backend import Image, ImageSpec, Level, Quantity, Shape5, WriterBackend
from bfbridge.errors import BadArgument, BadDtype, Closed, ReadFailed, Unsupported
from bfbridge_omezarr.codecs import CodecError, decode_bytes
from bfbridge_omezarr.files import FileTree
from bfbridge_omezarr.metadata import (
    Window,
    array_document,
    group_documents,
    label_attributes,
    multiscale_attributes,
)
from bfbridge_omezarr.options import WriteOptions, parse_options
from bfbridge_omezarr.shards import Shards

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["OmeZarrWriter"]

# Blosc stores sizes in 32 bits and keeps 16 bytes for its header.
_LARGEST_CHUNK: Final = (1 << 31) - 1 - 16
_SAMPLED: Final = 8
Array = np.ndarray[Any, Any]


class _Workspace(threading.local):
    """Memory that one thread keeps between blocks."""

    def __init__(self) -> None:
        self.encoded = bytearray()
        self._chunk = np.empty(0, np.uint8)

    def chunk(self, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Return an array; that of the call before becomes invalid."""
        size = math.prod(shape) * dtype.itemsize
        if self._chunk.nbytes < size:
            self._chunk = np.empty(size, np.uint8)
        return self._chunk[:size].view(dtype).reshape(shape)

    def buffer(self, size: int) -> bytearray:
        """Return room for a chunk's stored bytes."""
        if len(self.encoded) < size:
            self.encoded = bytearray(size)
        return self.encoded


class _LevelWriter:
    """One array that is being written."""

    def __init__(
        self, files: FileTree, key: str, spec: ImageSpec, level: int, options: WriteOptions
    ) -> None:
        image = spec.image
        self.level = _cut_chunk(image.levels[level])
        self.dtype = image.dtype
        self.document = array_document(self.level, image.dtype, spec.fill_value, options)
        self.key = key
        self._files = files
        self._fill = np.array(spec.fill_value).astype(image.dtype)[()]
        self._fill_bytes = self._fill.tobytes()
        self._compression = options.compression
        self._decoders = options.compression.decoders
        self._prefix = f"{key}/" if options.version == "0.4" else f"{key}/c/"
        self.counts = tuple(
            -(-size // chunk)
            for size, chunk in zip(self.level.shape, self.level.chunk, strict=True)
        )
        grid = options.shard_grid(self.level)
        self._shards = None if grid is None else Shards(files, self._prefix, grid, self.counts)
        self._skipped: set[Shape5] = set()
        self._lock = threading.Lock()

    def block_shape(self, index: Shape5) -> Shape5:
        """Return the shape of the block at a grid position, cropped at the image's edge."""
        t, c, z, y, x = (
            min(chunk, size - i * chunk)
            for i, chunk, size in zip(index, self.level.chunk, self.level.shape, strict=True)
        )
        return t, c, z, y, x

    def write(self, index: Shape5, block: Array, workspace: _Workspace) -> None:
        """Encode and store a block."""
        if self._is_fill(block):
            self._skip(index)
            return
        if block.shape != self.level.chunk or not block.flags.c_contiguous:
            chunk = workspace.chunk(self.level.chunk, self.dtype)
            if block.shape != self.level.chunk:
                chunk[...] = self._fill
            chunk[tuple(slice(n) for n in block.shape)] = block
        else:
            chunk = block
        if not self.dtype.newbyteorder("<").isnative and self.dtype.itemsize > 1:
            chunk = chunk.byteswap()
        # What compressed chunks may take at most: 16 bytes of Blosc's header, 0.4 % for Zstandard.
        room = workspace.buffer(chunk.nbytes + chunk.nbytes // 128 + 1024)
        stored = self._compression.encode(chunk, room)
        if self._shards is not None:
            self._shards.write(index, stored)
        else:
            self._files.write(self._prefix + "/".join(map(str, index)), stored)
        if index in self._skipped:
            with self._lock:
                self._skipped.discard(index)

    def read(self, index: Shape5) -> Array | None:
        """Return a block written before, or None."""
        key = self._prefix + "/".join(map(str, index))
        shape = self.block_shape(index)
        if index in self._skipped:
            return np.full(shape, self._fill, self.dtype)
        if self._shards is not None:
            stored = self._shards.read(index)
        else:
            try:
                stored = Path(self._files.path(key)).read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise ReadFailed(f"{self._files.path(key)}: {error}.") from error
        if stored is None:
            return None
        chunk = np.empty(self.level.chunk, self.dtype)
        try:
            flat = chunk.reshape(-1).view(np.uint8)
            decode_bytes(stored, self._decoders, flat, 2 * flat.nbytes)
        except CodecError as error:
            raise ReadFailed(
                f"{self._files.path(key)}: a chunk just written is damaged: {error}."
            ) from error
        if not self.dtype.newbyteorder("<").isnative and self.dtype.itemsize > 1:
            chunk = chunk.byteswap()
        return chunk[tuple(slice(n) for n in shape)]

    def finish(self) -> None:
        """Complete what is open, then write the array's document."""
        if self._shards is not None:
            self._shards.finish()
        name, document = self.document
        self._files.write(f"{self.key}/{name}", _json(document))

    def close(self) -> None:
        """Close files without completing them."""
        if self._shards is not None:
            self._shards.close()

    def _is_fill(self, block: Array) -> bool:
        """Whether a block holds the fill value only, bit by bit (-0.0 is not 0.0)."""
        if block[(0,) * 5].tobytes() != self._fill_bytes:
            return False
        if block[(-1,) * 5].tobytes() != self._fill_bytes:
            return False
        kind = {1: np.uint8, 2: np.uint16, 4: np.uint32}.get(self.dtype.itemsize, np.uint64)
        bits = np.ascontiguousarray(block).reshape(-1).view(kind)
        fill = np.frombuffer(self._fill_bytes, kind)
        return bool((bits.reshape(-1, len(fill)) == fill).all())

    def _skip(self, index: Shape5) -> None:
        """Leave a chunk out, as the array's fill value says the same; drop what was there."""
        if self._shards is not None:
            self._shards.write(index, None)
        else:
            self._files.remove(self._prefix + "/".join(map(str, index)))
        with self._lock:
            self._skipped.add(index)


def _cut_chunk(level: Level) -> Level:
    """Return a level with its chunk cut to its size: the same grid, and less to store."""
    t, c, z, y, x = (min(n, size) for n, size in zip(level.chunk, level.shape, strict=True))
    return Level(level.shape, (t, c, z, y, x))


class _Windows:
    """Lowest and highest value of each channel, from a sample of every block of level 0."""

    def __init__(self, image: Image) -> None:
        self._active = image.dtype.kind in "iuf"
        self._found = [Window() for _ in range(image.levels[0].shape[1])]
        self._lock = threading.Lock()

    def see(self, first_channel: int, block: Array) -> None:
        """Take note of a block's values."""
        if not self._active:
            return
        sample = block[..., ::_SAMPLED, ::_SAMPLED]
        for offset in range(block.shape[1]):
            values = sample[:, offset]
            low, high = float(values.min()), float(values.max())
            if not (math.isfinite(low) and math.isfinite(high)):
                continue
            with self._lock:
                known = self._found[first_channel + offset]
                self._found[first_channel + offset] = Window(
                    low if known.low is None else min(low, known.low),
                    high if known.high is None else max(high, known.high),
                )

    @property
    def found(self) -> tuple[Window, ...]:
        """One window for each channel."""
        return tuple(self._found)


class OmeZarrWriter(WriterBackend):
    """A new OME-Zarr store.

    One image lies at the root; several are laid out as bioformats2raw does (``0/``, ``1/`` and a
    list in ``OME``). Images of role "label" go to ``labels`` of the first image. Every array has
    the axes t, c, z, y, x; a sample of an RGB image is a channel. ``OME/METADATA.ome.xml`` holds
    the OME metadata. All metadata is written by `finish`, the root's last.
    """

    name: ClassVar[str] = "omezarr"

    def __init__(
        self, target: Path, images: Sequence[ImageSpec], ome: OME | None, options: WriteOptions
    ) -> None:
        self._files = FileTree(target)
        self._specs = tuple(images)
        self._ome = ome
        self._options = options
        self._groups = _place(images)
        self._levels = tuple(
            tuple(
                _LevelWriter(self._files, _join(group, str(i)), spec, i, options)
                for i in range(len(spec.image.levels))
            )
            for group, spec in zip(self._groups, images, strict=True)
        )
        self._windows = tuple(_Windows(spec.image) for spec in images)
        self._workspace = _Workspace()
        self._open = True

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Check option names and values; see `bfbridge_omezarr.options.parse_options`."""
        parse_options(options)

    @classmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        """Return the chunk: the option ``chunks`` or 1024 x 1024, cut to the image's size."""
        _check_dtype(image)
        parsed = parse_options(options)
        shape = image.levels[0].shape
        t, c, z, y, x = (max(1, min(n, size)) for n, size in zip(parsed.chunks, shape, strict=True))
        if image.samples > 1:
            c = min(shape[1], max(image.samples, c // image.samples * image.samples))
        return t, c, z, y, x

    @classmethod
    def prepare(
        cls,
        target: Path,
        images: Sequence[ImageSpec],
        ome: OME | None,
        options: Mapping[str, Any],
    ) -> OmeZarrWriter:
        """Start a store at `target`, which is made with the first block.

        Raises
        ------
        Unsupported
            A dtype that Zarr has not, or labels that are no integers.
        BadArgument
            An option or a fill value that makes no sense.
        """
        parsed = parse_options(options)
        for spec in images:
            _check_dtype(spec.image)
            _check_fill(spec)
            for level in spec.image.levels:
                size = math.prod(level.chunk) * spec.image.dtype.itemsize
                if size > _LARGEST_CHUNK:
                    raise BadArgument(
                        f"chunks={level.chunk}: a chunk of {size:,} bytes is above the "
                        f"{_LARGEST_CHUNK:,} that its compression can hold."
                    )
        return cls(Path(target), images, ome, parsed)

    def write_block(self, image: int, level: int, index: Shape5, block: Array) -> None:
        """Store the block at a grid position of a level, in any order, from any thread.

        Raises
        ------
        WriteFailed
            The file system refuses.
        BadDtype, BadArgument
            The block is not what the level holds there.
        Closed
            The writer is finished or aborted.
        """
        if not self._open:
            raise Closed(f"{self._files.root}: written after finish or abort.")
        writer = self._levels[image][level]
        where = f"{self._files.root}: image {image}, level {level}, chunk {tuple(index)}"
        if block.dtype != writer.dtype:
            raise BadDtype(f"{where}: the block is {block.dtype}, the image {writer.dtype}.")
        if any(not 0 <= i < n for i, n in zip(index, writer.counts, strict=True)):
            raise BadArgument(f"{where}: there are {writer.counts} chunks.")
        if block.shape != writer.block_shape(index):
            raise BadArgument(
                f"{where}: the block is {block.shape}, not {writer.block_shape(index)}."
            )
        writer.write(index, block, self._workspace)
        if level == 0:
            self._windows[image].see(index[1] * writer.level.chunk[1], block)

    def read_block(self, image: int, level: int, index: Shape5) -> Array | None:
        """Return a block written before, or None. Thread-safe.

        Raises
        ------
        ReadFailed
            Its file cannot be read back.
        """
        return self._levels[image][level].read(index)

    def finish(self) -> None:
        """Write all metadata: arrays first, the root's last, as it makes the store an image."""
        if not self._open:
            raise Closed(f"{self._files.root}: finished or aborted before.")
        self._open = False
        for levels in self._levels:
            for level in levels:
                level.finish()
        documents = self._documents()
        if self._ome is not None:
            self._files.write("OME/METADATA.ome.xml", _xml(self._ome, self._specs).encode())
        for group in sorted(documents, key=lambda key: (key == "", key)):
            for name, document in group_documents(documents[group], self._options):
                self._files.write(_join(group, name), _json(document))

    def abort(self) -> None:
        """Close all files. What lies under the target is the caller's to remove."""
        self._open = False
        for levels in self._levels:
            for level in levels:
                with contextlib.suppress(OSError):
                    level.close()

    def _documents(self) -> dict[str, dict[str, Any]]:
        """Attributes of every group, by key."""
        documents: dict[str, dict[str, Any]] = {"OME": {}, "": {}}
        series: list[str] = []
        labels: dict[str, list[str]] = {}
        for i, (group, spec) in enumerate(zip(self._groups, self._specs, strict=True)):
            attributes = multiscale_attributes(
                spec, self._windows[i].found, self._options, self._time_step(i)
            )
            if spec.image.role == "label":
                parent, name = group.rsplit("/", 1)
                labels.setdefault(parent, []).append(name)
                attributes |= label_attributes(self._options, "../../")
            else:
                series.append(group)
            documents[group] = attributes
        for parent, names in labels.items():
            documents[parent] = {"labels": names}
        if series and series != [""]:
            documents[""] = {"bioformats2raw.layout": 3}
            documents["OME"] = {"series": series}
        return documents

    def _time_step(self, image: int) -> Quantity | None:
        if self._ome is None or image >= len(self._ome.images):
            return None
        pixels = self._ome.images[image].pixels
        if not pixels.time_increment:
            return None
        return Quantity(pixels.time_increment, pixels.time_increment_unit.value)


def _xml(ome: OME, specs: Sequence[ImageSpec]) -> str:
    """Return the OME document of all images but labels, pointing to no other file's pixels."""
    from ome_types.model import MetadataOnly

    ome = ome.model_copy(deep=True)
    ome.images = [
        image for image, spec in zip(ome.images, specs, strict=True) if spec.image.role != "label"
    ]
    for image in ome.images:
        image.pixels.tiff_data_blocks = []
        image.pixels.bin_data_blocks = []
        image.pixels.metadata_only = MetadataOnly()
    return str(ome.to_xml())


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name


def _place(specs: Sequence[ImageSpec]) -> list[str]:
    """Return the group of each image: the root for a single one, else 0, 1 and so on.

    Labels belong to the first image, under their own name or, without one, their number.
    """
    count = sum(spec.image.role != "label" for spec in specs)
    first = "" if count == 1 else "0"
    groups: list[str] = []
    place = 0
    for i, spec in enumerate(specs):
        if spec.image.role == "label" and count:
            name = re.sub(r"[^\w.-]+", "_", (spec.image.name or "").split("/")[-1]).strip("._")
            key = _join(first, f"labels/{name or i}")
            groups.append(key if key not in groups else f"{key}_{i}")
        else:
            groups.append(first if count == 1 else str(place))
            place += 1
    return groups


def _check_dtype(image: Image) -> None:
    dtype = image.dtype
    if dtype.kind not in "biufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8):
        raise Unsupported(f"OME-Zarr holds no pixels of type {dtype}")
    if image.role == "label" and dtype.kind not in "biu":
        raise Unsupported(f"labels are whole numbers in OME-Zarr, not {dtype}")


def _check_fill(spec: ImageSpec) -> None:
    dtype = spec.image.dtype
    if dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        value = spec.fill_value
        whole = math.isfinite(value) and value == int(value)
        if not whole or not bounds.min <= value <= bounds.max:
            raise BadArgument(f"fill_value={value}: pixels of type {dtype} cannot hold it.")
