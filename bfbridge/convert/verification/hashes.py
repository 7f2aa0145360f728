"""SHA-256 of files, of folders, and of the pixels of an image, however they are stored."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import partial
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from bfbridge.engine.workers import run
from bfbridge.errors import FileMissing, ReadFailed
from bfbridge.views import ImageView

__all__ = ["PIXEL_HASH", "TILE", "hash_path", "hash_pixels"]

TILE: Final = 1024
"""Side of the tiles whose hashes make that of an image."""
PIXEL_HASH: Final = (
    "SHA-256 of the SHA-256 values (32 bytes each) of all tiles of 1024 x 1024 pixels, in the "
    "order T, C, Z, row of tiles, column of tiles. A tile is a part of one plane, row by row, "
    "cropped at the edge of the image; values are little-endian, complex ones as real and "
    "imaginary part. C counts channels x samples, the sample fastest."
)
"""How `hash_pixels` orders the pixels."""
_BLOCK: Final = 1 << 20


def hash_path(path: str | os.PathLike[str]) -> tuple[str, int]:
    """Return the SHA-256 of a file, or of a folder, and its bytes.

    That of a folder is the SHA-256 of a text with a line for each file, sorted by the bytes of its
    path: the SHA-256 of the file, two spaces, the path from the folder with "/", a line feed. This
    is the output of ``sha256sum``.

    Raises
    ------
    FileMissing
        There is no file.
    ReadFailed
        A file cannot be read.
    """
    place = Path(path)
    if not place.is_dir():
        return _hash_file(place)
    listed = []
    total = 0
    for folder, _, names in os.walk(place):
        for name in names:
            inner = Path(folder, name)
            digest, size = _hash_file(inner)
            total += size
            relative = os.fsencode(inner.relative_to(place).as_posix())
            listed.append((relative, digest))
    whole = hashlib.sha256()
    for relative, digest in sorted(listed):
        whole.update(digest.encode() + b"  " + relative + b"\n")
    return whole.hexdigest(), total


def _hash_file(path: Path) -> tuple[str, int]:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return digest.hexdigest(), file.tell()
    except FileNotFoundError as error:
        raise FileMissing(f"{path}: no such file.") from error
    except OSError as error:
        raise ReadFailed(f"{path}: cannot be read ({error.strerror or error}).") from error


def hash_pixels(view: ImageView, workers: int, memory: int) -> str:
    """Return the hash of all pixels of one level of an image; see `PIXEL_HASH`.

    Parameters
    ----------
    view
        The level.
    workers
        Threads.
    memory
        Bytes of pixels held at once; one tile for each thread is the least.
    """
    y, x, z, c, t = view.sizes.values()
    sums = np.zeros((t, c, z, -(-y // TILE), -(-x // TILE), 32), np.uint8)
    run(
        (partial(_hash_block, view, key, sums) for key in _blocks(view, memory // max(1, workers))),
        workers,
    )
    return hashlib.sha256(sums.tobytes()).hexdigest()


def _blocks(view: ImageView, limit: int) -> Iterator[tuple[slice, ...]]:
    """Yield keys of blocks of whole tiles, along the chunks of the image within the memory."""
    shape = tuple(view.sizes.values())
    samples = view.samples_per_pixel
    step = [min(TILE, shape[0]), min(TILE, shape[1]), 1, samples, 1]
    values = max(1, limit // view.dtype.itemsize)
    for axis, wanted in (
        (1, shape[1]),
        (2, view.chunks[2]),
        (3, view.chunks[3]),
        (4, view.chunks[4]),
    ):
        unit = step[axis]
        room = values // prod(step)
        step[axis] = max(unit, min(-(-min(wanted, shape[axis]) // unit), room) * unit)
    grids = [range(0, n, s) for n, s in zip(shape, step, strict=True)]
    for start_t in grids[4]:
        for start_c in grids[3]:
            for start_z in grids[2]:
                for top in grids[0]:
                    for left in grids[1]:
                        start = (top, left, start_z, start_c, start_t)
                        yield tuple(
                            slice(a, min(a + s, n))
                            for a, s, n in zip(start, step, shape, strict=True)
                        )


def _hash_block(
    view: ImageView, key: tuple[slice, ...], sums: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> None:
    y, x, z, c, t = key
    pixels = view.read(X=x, Y=y, Z=z, C=c, T=t, keepdims=True)
    little = pixels.dtype.newbyteorder("<")
    for index in np.ndindex(*pixels.shape[2:]):
        plane = pixels[(slice(None), slice(None), *index)]
        place = (t.start + index[2], c.start + index[1], z.start + index[0], y.start // TILE)
        for left in range(0, plane.shape[1], TILE):
            tile = np.ascontiguousarray(plane[:, left : left + TILE], little)
            digest = hashlib.sha256(tile.data).digest()
            sums[(*place, (x.start + left) // TILE)] = np.frombuffer(digest, np.uint8)
