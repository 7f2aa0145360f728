"""Regions as tiled TIFF files."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bfbridge.writer import BioWriter

__all__ = ["write_tiled"]

Array = np.ndarray[Any, Any]
_ROWS = 1024


def write_tiled(
    size: tuple[int, int], draw: Callable[..., Array], pixel: tuple[float, float] | None, name: str
) -> Path:
    """Write a picture band by band as a tiled TIFF with a pyramid, in a temporary folder.

    Parameters
    ----------
    size
        Width and height.
    draw
        Returns rows of it, given ``rows=``: (Y, X, bands).
    pixel
        Width and height of a pixel in millimetres, or None.
    name
        What the file is called after.
    """
    width, height = size
    stem = re.sub(r"[^\w.-]+", "_", name).split(".")[0] or "region"
    path = Path(tempfile.mkdtemp(prefix="bfbridge-region-")) / f"{stem}.ome.tif"
    first = draw(rows=slice(0, min(_ROWS, height)))
    bands = first.shape[2]
    options: dict[str, Any] = {"dtype": first.dtype, "shape": (height, width, 1, bands)}
    with BioWriter(path, pyramid=True, **options) as writer:
        if bands in (3, 4):
            writer.samples_per_pixel = bands
        if pixel is not None:
            writer.physical_size_x, writer.physical_size_y = (pixel[0], "mm"), (pixel[1], "mm")
        for top in range(0, height, _ROWS):
            bottom = min(top + _ROWS, height)
            rows = first if top == 0 else draw(rows=slice(top, bottom))
            writer[top:bottom] = rows[:, :, np.newaxis]
    return path
