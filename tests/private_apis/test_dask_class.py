"""What `bfbridge.analysis.dask_class` relies on in dask."""

from __future__ import annotations

from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest

from bfbridge.analysis.dask_class import image_array

PIXELS = np.arange(5 * 7, dtype="u2").reshape(5, 7)


class Lazy:
    shape, dtype, ndim = PIXELS.shape, PIXELS.dtype, 2

    def __init__(self) -> None:
        self.read: list[Any] = []

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        self.read.append(key)
        return PIXELS[key]


def made() -> tuple[Lazy, da.Array]:
    lazy = Lazy()
    plain = da.from_array(lazy, chunks=(2, 3), meta=np.empty((0, 0), "u2"))
    lazy.read.clear()
    return lazy, image_array(plain, lazy)


def test_a_whole_image_is_one_read() -> None:
    lazy, array = made()
    assert isinstance(array, da.Array)
    np.testing.assert_array_equal(array.compute(), PIXELS)
    assert lazy.read == [...]


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_other_computations_read_chunks(scheduler: str) -> None:
    lazy, array = made()
    np.testing.assert_array_equal(array.compute(scheduler=scheduler), PIXELS)
    assert ... not in lazy.read
    assert len(lazy.read) == 9
    with dask.config.set(scheduler=scheduler, num_workers=1):
        np.testing.assert_array_equal(made()[1].compute(), PIXELS)


def test_derived_arrays_are_computed_by_dask() -> None:
    _, array = made()
    np.testing.assert_array_equal((array[1:4, 2:] + 1).compute(), PIXELS[1:4, 2:] + 1)
    assert int(array.sum().compute()) == int(PIXELS.sum())
    array[0, 0] = 99
    assert int(array.compute()[0, 0]) == 99
