"""Raw tiles: the pixel values of several channels in one reply."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bfbridge.rendering.contrast import real
from bfbridge.rendering.plan import Plane
from bfbridge.serve.replies import Reply
from bfbridge.virtual.boxes import Box, read_box

if TYPE_CHECKING:
    from bfbridge.serve.files.served_file import ServedFile

__all__ = ["raw_dtype", "raw_headers", "raw_tile"]


def raw_dtype(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """Return the dtype of raw tiles: that of the image; for complex pixels, of the magnitude."""
    return np.empty(0, dtype).real.dtype if dtype.kind == "c" else dtype


def raw_headers(dtype: np.dtype[np.generic], shape: Sequence[int]) -> dict[str, str]:
    """Return the headers that state dtype and shape."""
    return {
        "X-Bfbridge-Dtype": raw_dtype(dtype).name,
        "X-Bfbridge-Shape": ",".join(map(str, shape)),
    }


def raw_tile(
    served: ServedFile, series: int, level: int, box: Box, channels: Sequence[int], z: int, t: int
) -> Reply:
    """Return a box of several channels: C, Y, X in C order, little-endian.

    Parameters
    ----------
    served, series
        The image.
    level, box
        As for `read_box`.
    channels
        Numbers along C (channels x samples), in the order of the reply.
    z, t
        The plane.
    """
    image = served.image(series)
    planes = tuple(Plane(c, z, t) for c in channels)
    found = read_box(image, level, box, planes)
    pixels = np.stack([real(found[plane]) for plane in planes])
    if sys.byteorder == "big" and pixels.dtype.itemsize > 1:
        pixels = pixels.byteswap()
    headers = raw_headers(image.dtype, pixels.shape)
    body = np.ascontiguousarray(pixels).data.cast("B")
    return Reply(body, "application/octet-stream", headers)
