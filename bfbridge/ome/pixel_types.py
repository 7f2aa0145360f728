"""Pixel types of the OME schema (PixelType, 2016-06) and the dtypes that store them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

__all__ = ["PIXEL_TYPES", "dtype_of", "ome_pixel_type", "pixel_type_of"]

PIXEL_TYPES: Final[Mapping[str, np.dtype[np.generic]]] = {
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "complex": np.dtype(np.complex64),
    "double-complex": np.dtype(np.complex128),
    "bit": np.dtype(np.uint8),
}
"""OME pixel types and the dtypes of their pixels, in native byte order; a bit is one uint8."""

_NAMES: Final[Mapping[np.dtype[np.generic], str]] = {
    dtype: name for name, dtype in PIXEL_TYPES.items() if name != "bit"
}


def ome_pixel_type(dtype: np.dtype[np.generic]) -> str | None:
    """Return the OME pixel type of a dtype of any byte order, or None if OME has none."""
    return _NAMES.get(dtype.newbyteorder("="))


def pixel_type_of(dtype: np.dtype[np.generic]) -> str | None:
    """Return the OME pixel type in which a dtype is written, or None (int64, float16, text).

    As `ome_pixel_type`, with uint8 for bool.
    """
    return ome_pixel_type(np.dtype(np.uint8) if dtype == np.dtype(bool) else dtype)


def dtype_of(pixel_type: str) -> np.dtype[np.generic]:
    """Return the dtype of the pixels of an OME pixel type; KeyError for another text."""
    return PIXEL_TYPES[pixel_type]
