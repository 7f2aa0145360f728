"""Write an image by one of several methods; the caller kills this process at some moment.

Run as ``python writers.py METHOD TARGET SOURCE``. A line is printed when writing begins. The same
image is written elsewhere before, so that the modules are imported and a kill meets the writing.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bfbridge import BioReader, BioWriter, convert, imwrite

OLD = np.random.default_rng(1).integers(0, 60_000, (2, 700, 600), np.uint16)
NEW = OLD[:, ::-1].copy()


def tiles(target: str, source: str) -> None:
    """Write tile by tile, with lower levels."""
    with (
        BioReader(source) as br,
        BioWriter(target, metadata=br.metadata, pyramid=2, tile=128, overwrite=True) as bw,
    ):
        for tile in br.tiles(200):
            bw[tile.key] = tile.pixels


def array(target: str, source: str) -> None:
    """Write an array in one call."""
    del source
    imwrite(target, NEW, axes="CYX", overwrite=True, tile=128)


def conversion(target: str, source: str) -> None:
    """Convert a file."""
    convert(source, target, overwrite=True, tile=128, pyramid=1, recompress=True)


def durable(target: str, source: str) -> None:
    """Convert a file, and flush it to the disk."""
    convert(source, target, overwrite=True, tile=128, durable=True, recompress=True)


def change(target: str, source: str) -> None:
    """Replace all pixels of the store that is there."""
    del source
    with BioWriter(target, append=True) as bw:
        bw[:] = NEW.transpose(1, 2, 0)[:, :, None, :, None]


METHODS: dict[str, Callable[[str, str], None]] = {
    f.__name__: f for f in (tiles, array, conversion, durable, change)
}


def pixels(path: Any) -> Any:
    """Return the pixels of a file with axes C, Y, X."""
    with BioReader(path) as br:
        return br.read(keepdims=True)[:, :, 0, :, 0].transpose(2, 0, 1)


def warm_up(method: str, target: str, source: str) -> None:
    """Write to a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder, Path(target).name))
        if method == "change":
            imwrite(place, OLD, axes="CYX", tile=128)
        METHODS[method](place, source)


if __name__ == "__main__":
    warm_up(*sys.argv[1:])
    print("begun", flush=True)  # noqa: T201 - the protocol
    METHODS[sys.argv[1]](sys.argv[2], sys.argv[3])
