"""Lower levels against plain Python: odd sizes, every dtype, rounding, ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bfbridge.backend import Level
from bfbridge.engine.pyramid import factors_of, plan_levels, reduce_block
from bfbridge.errors import BadArgument
from tests.support.engine import smaller

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float32", "float64", "complex64", "complex128"]


def noise(shape: tuple[int, ...], dtype: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        block = rng.integers(limits.min, limits.max, shape, kind, endpoint=True)
        block[..., :3, :4] = limits.max
        block[..., -3:, -4:] = limits.min
        return block
    block = rng.normal(size=shape).astype(dtype)
    if kind.kind == "c":
        block += 1j * rng.normal(size=shape).astype(block.real.dtype)
    return block


@pytest.mark.parametrize("size", [(8, 12), (7, 12), (8, 11), (7, 9), (1, 1), (1, 5), (13, 1)])
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_of_integers_is_exact_and_rounds_halves_up(
    dtype: str, factor: int, size: tuple[int, int]
) -> None:
    block = noise((2, 3, *size), dtype)
    got = reduce_block(block, factor, "mean")
    assert got.dtype == block.dtype
    np.testing.assert_array_equal(got, smaller(block, factor, "mean"))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int64", "uint64"])
def test_halves_are_rounded_up_also_below_zero(dtype: str) -> None:
    block = np.array([[0, 1], [0, 1]], dtype)
    assert reduce_block(block, 2, "mean").tolist() == [[1]]
    if np.dtype(dtype).kind == "i":
        assert reduce_block(np.array([[-1, 0], [-1, 0]], dtype), 2, "mean").tolist() == [[0]]
        assert reduce_block(np.array([[-2, -1], [-1, -2]], dtype), 2, "mean").tolist() == [[-1]]
        assert reduce_block(np.array([[-2, -2], [-1, -2]], dtype), 2, "mean").tolist() == [[-2]]


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 5)])
@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_mean_of_floats(dtype: str, factor: int, size: tuple[int, int]) -> None:
    block = noise((2, *size), dtype)
    got = reduce_block(block, factor, "mean")
    assert got.dtype == block.dtype
    np.testing.assert_allclose(got, smaller(block, factor, "mean"), rtol=1e-6, atol=1e-7)


def test_mean_of_large_float32_stays_finite() -> None:
    top = float(np.finfo(np.float32).max)
    assert reduce_block(np.full((2, 2), top, np.float32), 2, "mean").tolist() == [[top]]


def test_nan_spreads_only_in_its_window() -> None:
    block = np.arange(16, dtype=np.float32).reshape(4, 4)
    block[0, 0] = np.nan
    got = reduce_block(block, 2, "mean")
    assert np.isnan(got).tolist() == [[True, False], [False, False]]
    assert got[1, 1] == 12.5


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (1, 5), (5, 1)])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_mode_is_the_most_frequent_and_of_equals_the_smallest(
    factor: int, size: tuple[int, int]
) -> None:
    labels = np.random.default_rng(3).integers(0, 4, (2, 2, *size), np.int64)
    labels[labels == 3] = -(2**62)
    got = reduce_block(labels, factor, "mode")
    np.testing.assert_array_equal(got, smaller(labels, factor, "mode"))
    assert got.dtype == labels.dtype


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_nearest_takes_the_first_pixel_of_a_window(factor: int) -> None:
    block = noise((2, 7, 9), "uint16")
    np.testing.assert_array_equal(
        reduce_block(block, factor, "nearest"), smaller(block, factor, "nearest")
    )


@pytest.mark.parametrize("method", ["mean", "nearest", "mode"])
def test_strides_do_not_matter(method: str) -> None:
    block = noise((9, 8, 3, 2), "uint16").transpose(3, 2, 0, 1)[:, ::-1, :, ::-1]
    np.testing.assert_array_equal(reduce_block(block, 2, method), smaller(block, 2, method))


@pytest.mark.parametrize(
    ("pyramid", "size", "steps"),
    [
        (False, (5000, 5000), []),
        (0, (5000, 5000), []),
        (True, (512, 512), []),
        (True, (513, 10), [2]),
        (True, (10, 4097), [2, 2, 2, 2]),
        (True, (4096, 100), [2, 2, 2]),
        (3, (10, 10), [2, 2, 2]),
        (np.int64(1), (10, 10), [2]),
        ((2, 4, 8), (99, 99), [2, 2, 2]),
        ([3, 12], (99, 99), [3, 4]),
        ((), (99, 99), []),
    ],
)
def test_factors(pyramid: Any, size: tuple[int, int], steps: list[int]) -> None:
    assert factors_of(pyramid, *size) == steps


@pytest.mark.parametrize("pyramid", [-1, (1, 2), (2, 2), (2, 3), (4, 2), [2.0], "4", 2.5, None])
def test_wrong_factors_are_refused(pyramid: Any) -> None:
    with pytest.raises(BadArgument, match="pyramid"):
        factors_of(pyramid, 100, 100)


def test_levels_are_rounded_up() -> None:
    levels = plan_levels((2, 3, 4, 101, 67), (1, 1, 1, 32, 48), [2, 2])
    assert levels == (
        Level((2, 3, 4, 101, 67), (1, 1, 1, 32, 48)),
        Level((2, 3, 4, 51, 34), (1, 1, 1, 32, 48)),
        Level((2, 3, 4, 26, 17), (1, 1, 1, 32, 48)),
    )


def test_windows_must_not_cross_chunks() -> None:
    with pytest.raises(BadArgument, match=r"\(1, 3, 3\) along Z.* multiples .* 1 x 32 x 48"):
        plan_levels((1, 1, 1, 101, 67), (1, 1, 1, 32, 48), [3])
    # One chunk holds the whole side: nothing is crossed.
    assert plan_levels((1, 1, 1, 31, 67), (1, 1, 1, 32, 48), [3])[1].shape[3:] == (11, 23)
