"""Reading pictures in tests, and values to write them with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.errors import UnreadableFile

_RNG = np.random.default_rng(12)


def values(shape: tuple[int, ...], most: int = 256, dtype: Any = np.uint8) -> np.ndarray:
    """Random values from 0 on, below `most`."""
    return _RNG.integers(0, most, shape).astype(dtype)


def read(data: bytes, name: str) -> np.ndarray:
    """All planes as (T, Y, X, samples)."""
    with BioReader(data, name=name) as br:
        assert br.backend == "pictures", br.backend_reason
        array: np.ndarray = br.read(keepdims=True).transpose(4, 0, 1, 3, 2)[..., 0]
        return array


def shown(data: bytes, name: str) -> np.ndarray:
    """All planes as (T, Y, X, RGB), through the lookup table where there is one."""
    with BioReader(data, name=name) as br:
        table = br.lookup_table()
    pixels = read(data, name)
    return pixels if table is None else table.T[pixels[..., 0]]


def refused(data: bytes, name: str, match: str) -> None:
    """Have a file refused, for a reason."""
    with pytest.raises(UnreadableFile, match=match), BioReader(data, name=name) as br:
        br[:]
