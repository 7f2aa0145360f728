"""Opens and reads files with the Bio-Formats backend itself, past the choice of a backend."""

from __future__ import annotations

from typing import Any

import numpy as np

import bfbridge_bioformats
from bfbridge.backend import OpenOptions, ReaderBackend, Region
from bfbridge.storage.source import as_source


def open_(target: Any, name: str | None = None, **options: Any) -> ReaderBackend:
    """Open a path, bytes or an open file; `options` are those of `OpenOptions`."""
    return bfbridge_bioformats.READER.open(as_source(target, name=name), OpenOptions(**options))


def read(target: Any, name: str | None = None, **options: Any) -> np.ndarray[Any, Any]:
    """Open a file and return all pixels of its first image, (T, C, Z, Y, X)."""
    reader = open_(target, name, **options)
    try:
        image = reader.images[0]
        shape = image.levels[0].shape
        out = np.empty(shape, image.dtype)
        reader.read(Region(0, 0, (0,) * 5, shape), out)
        return out
    finally:
        reader.close()
