"""Conversion: every image of a file, block by block, into OME-TIFF, OME-Zarr or another format.

Reading, reducing, encoding and writing overlap: each worker reads one block of the source, along the
source's own chunk grid, and hands it to the writer. Memory is bounded by workers x block, whatever the
size of the image.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

from bfbridge.errors import BadArgument
from bfbridge.pyramid import Pyramid
from bfbridge.reader import BioReader
from bfbridge.tiles import run
from bfbridge.views import ImageView
from bfbridge.writer import BioWriter, ImageWriter

__all__ = ["Conversion", "convert"]

BLOCK_BYTES = 32 << 20
"""Largest block read at once by one worker, unless one chunk of the source is larger."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a conversion did.

    Attributes
    ----------
    source, target
        Where from and where to.
    images
        How many images were written.
    pixel_bytes
        Bytes of decoded pixels written, lower levels not counted.
    seconds
        Wall time from opening the source to the target standing under its name.
    """

    source: str
    target: str
    images: int
    pixel_bytes: int
    seconds: float


def convert(
    source: Any,
    target: str | os.PathLike[str],
    *,
    series: int | str | Sequence[int] | None = None,
    overwrite: bool = False,
    pyramid: Pyramid = True,
    downsample: str = "mean",
    max_workers: int | None = None,
    backend: str | None = None,
    target_backend: str | None = None,
    progress: Progress | None = None,
    reader_options: dict[str, Any] | None = None,
    **options: Any,
) -> Conversion:
    """Convert an image file.

    Parameters
    ----------
    source
        Whatever `BioReader` takes.
    target
        Path whose suffix chooses the format.
    series
        Number or name of one image, or numbers of several. Default: all of them.
    overwrite
        Whether a target that exists may be replaced.
    pyramid, downsample
        Lower levels, as `BioWriter` has them. Default: halving until both sides are at most 512.
    max_workers
        Threads. Default: the CPUs this process may use.
    backend, target_backend
        Backend that reads, and backend that writes. Default: chosen by content and by suffix.
    progress
        Called with (bytes of pixels done, bytes in all) after every block, from any thread.
    reader_options
        More keyword arguments of `BioReader`.
    **options
        Options of the writer's backend: compression, level, tile, chunks, ...

    Returns
    -------
    Conversion
        What was done.

    Raises
    ------
    BfbridgeError
        Reading or writing failed; the target's name holds what it held before.
    """
    begun = time.perf_counter()
    with BioReader(
        source, max_workers=max_workers, backend=backend, cache=0, **(reader_options or {})
    ) as br:
        views = _chosen(br, series)
        if not views:
            raise BadArgument(f"series={series!r}: no image is chosen.")
        numbers = [view.index for view in views]
        with BioWriter(
            target,
            max_workers=br.max_workers,
            backend=target_backend,
            metadata=_narrowed(br, numbers),
            series="all",
            overwrite=overwrite,
            pyramid=pyramid,
            downsample=downsample,
            **options,
        ) as bw:
            for view, image in zip(views, bw.series, strict=True):
                _prepare(view, image)
            total = sum(prod(view.sizes.values()) * view.dtype.itemsize for view in views)
            _copy(views, bw, br.max_workers, _Counter(total, progress))
    seconds = time.perf_counter() - begun
    return Conversion(br.source_name, os.fspath(target), len(views), total, seconds)


def _chosen(br: BioReader, series: int | str | Sequence[int] | None) -> list[ImageView]:
    if series is None:
        return list(br.series)
    if isinstance(series, (int, str)):
        return [br.series[series]]
    return [br.series[number] for number in series]


def _narrowed(br: BioReader, numbers: Sequence[int]) -> Any:
    """Return the source's document with the chosen images only."""
    ome = br.ome.model_copy()
    ome.images = [br.ome.images[number] for number in numbers]
    return ome


def _prepare(view: ImageView, image: ImageWriter) -> None:
    """Make the new image's plan true to the pixels that will be written."""
    image.shape = tuple(view.sizes.values())
    image.dtype = view.dtype
    image.samples_per_pixel = view.samples_per_pixel


class _Counter:
    """Adds up bytes from all threads and tells whoever wants to know."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._done = 0
        self._progress = progress
        self._lock = threading.Lock()
        self.add(0)

    def add(self, count: int) -> None:
        if self._progress is not None:
            with self._lock:
                self._done += count
                self._progress(self._done, self._total)


def _copy(views: Sequence[ImageView], bw: BioWriter, workers: int, counter: _Counter) -> None:
    def jobs() -> Iterator[Callable[[], None]]:
        for view, image in zip(views, bw.series, strict=True):
            for key in blocks(view):
                yield partial(_copy_block, view, image, key, counter)

    run(jobs(), workers)


def _copy_block(
    view: ImageView, image: ImageWriter, key: tuple[slice, ...], counter: _Counter
) -> None:
    pixels = view[key]
    image[key] = pixels
    counter.add(pixels.nbytes)


def blocks(view: ImageView, limit: int = BLOCK_BYTES) -> Iterator[tuple[slice, ...]]:
    """Return the keys (Y, X, Z, C, T) of blocks that cover an image, decoding nothing twice.

    A block is a whole number of the source's chunks, about 1024 x 1024 pixels or one full-width band of
    strips, and at most `limit` bytes unless one chunk is larger.
    """
    shape = tuple(view.sizes.values())
    sizes = [min(chunk, length) for chunk, length in zip(view.chunks, shape, strict=True)]
    for axis in (1, 0):
        wanted = 1024 if sizes[axis] < shape[axis] else sizes[axis]
        sizes[axis] *= max(1, -(-wanted // sizes[axis]))
    for axis in (2, 3, 4):
        if prod(sizes) * view.dtype.itemsize > limit:
            sizes[axis] = min(sizes[axis], view.samples_per_pixel if axis == 3 else 1)
    grids = [range(0, length, step) for length, step in zip(shape, sizes, strict=True)]
    y, x, z, c, t = grids
    for t0, c0, z0, y0, x0 in itertools.product(t, c, z, y, x):
        starts = (y0, x0, z0, c0, t0)
        yield tuple(
            slice(a, min(a + n, length)) for a, n, length in zip(starts, sizes, shape, strict=True)
        )
