"""Backends that keep pixels in numpy arrays: the engine alone, with no format in the way."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bfbridge.backend import (
    Channel,
    Image,
    ImageSpec,
    Level,
    OpenOptions,
    ReaderBackend,
    Region,
    Shape5,
    WriterBackend,
)
from bfbridge.files.open_file import OpenFile
from bfbridge.storage.source import Source
from bfbridge.views import ImageView


def distinct(shape: Sequence[int], dtype: Any = np.uint16) -> np.ndarray[Any, Any]:
    """Pixels that differ from all their neighbours on every axis, as far as the dtype allows."""
    values = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    return (values * 7 + 3).astype(dtype)


class MemoryReader(ReaderBackend):
    """One image held as an array along T, C, Z, Y, X."""

    name: ClassVar[str] = "memory"

    def __init__(self, pixels: np.ndarray[Any, Any], chunk: Shape5) -> None:
        self.pixels = pixels
        self.calls: list[Region] = []
        self.threads: set[int] = set()
        level = Level(pixels.shape, chunk)  # type: ignore[arg-type]
        channels = tuple(Channel(f"c{i}") for i in range(pixels.shape[1]))
        self._images = (Image("memory", (level,), pixels.dtype, channels=channels),)

    @classmethod
    def open(cls, source: Source, options: OpenOptions) -> ReaderBackend:
        raise NotImplementedError

    @property
    def images(self) -> Sequence[Image]:
        return self._images

    def read(self, region: Region, out: np.ndarray[Any, Any]) -> None:
        self.calls.append(region)
        self.threads.add(threading.get_ident())
        box = tuple(slice(a, b) for a, b in zip(region.start, region.stop, strict=True))
        out[...] = self.pixels[box]

    def ome_xml(self) -> str | None:
        return None

    def ome(self) -> Any:
        raise NotImplementedError

    @property
    def original_metadata(self) -> Mapping[str, Any]:
        return {}

    @property
    def used_files(self) -> Sequence[str]:
        return []

    def close(self) -> None:
        pass


def view_of(
    pixels: np.ndarray[Any, Any], chunk: Shape5, *, workers: int = 2, cache: Any = None
) -> ImageView:
    """A view of an array along T, C, Z, Y, X, read through the engine."""
    file = OpenFile(Source("memory", data=b""), OpenOptions(max_workers=workers), None, cache)
    file._state.backend = MemoryReader(pixels, chunk)
    return ImageView(file, 0)


class MemoryWriter(WriterBackend):
    """Keeps every chunk it is given."""

    name: ClassVar[str] = "memory"
    made: ClassVar[list[MemoryWriter]] = []
    chunk: ClassVar[Shape5] = (1, 1, 1, 16, 32)

    def __init__(self, images: Sequence[ImageSpec]) -> None:
        self.specs = images
        self.blocks: dict[tuple[int, int, Shape5], np.ndarray[Any, Any]] = {}
        self.finished = self.aborted = False
        self.writes = 0
        self._lock = threading.Lock()

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        pass

    @classmethod
    def default_chunk(cls, image: Image, options: Mapping[str, Any]) -> Shape5:
        return options.get("chunk", cls.chunk)

    @classmethod
    def prepare(
        cls, target: Path, images: Sequence[ImageSpec], ome: Any, options: Mapping[str, Any]
    ) -> WriterBackend:
        writer = cls(images)
        cls.made.append(writer)
        target.write_bytes(b"memory")
        return writer

    def write_block(
        self, image: int, level: int, index: Shape5, block: np.ndarray[Any, Any]
    ) -> None:
        with self._lock:
            self.writes += 1
            self.blocks[image, level, index] = block.copy()

    def read_block(self, image: int, level: int, index: Shape5) -> np.ndarray[Any, Any] | None:
        return self.blocks.get((image, level, index))

    def finish(self) -> None:
        self.finished = True

    def abort(self) -> None:
        self.aborted = True

    def array(self, image: int = 0, level: int = 0) -> np.ndarray[Any, Any]:
        """The level as one array along T, C, Z, Y, X."""
        spec = self.specs[image]
        record = spec.image.levels[level]
        out = np.full(record.shape, spec.fill_value, spec.image.dtype)
        for (i, n, index), block in self.blocks.items():
            if (i, n) == (image, level):
                box = tuple(
                    slice(k * c, k * c + s)
                    for k, c, s in zip(index, record.chunk, block.shape, strict=True)
                )
                out[box] = block
        return out
