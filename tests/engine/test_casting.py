"""Values that an image's dtype can hold, and those that it cannot, against conversion by Python."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bfbridge.engine.casting import cast, checked
from bfbridge.errors import BadDtype

INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
FLOATS = ["f4", "f8", "c8", "c16"]
BITS = (0, 7, 8, 15, 16, 24, 25, 31, 32, 53, 54, 63, 64)


def edges(dtype: str) -> list[int]:
    """Integers near powers of two, and odd multiples of them, that the dtype holds."""
    info = np.iinfo(dtype)
    near = {m * 2**n + d for n in BITS for d in (-1, 0, 1) for m in (1, -1, 5)}
    return sorted(v for v in near if info.min <= v <= info.max)


def holds(dtype: str, value: int) -> bool:
    """Whether a dtype holds an integer exactly."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        return int(np.iinfo(kind).min) <= value <= int(np.iinfo(kind).max)
    with np.errstate(over="ignore"):
        stored = np.array(value, np.longdouble).astype(kind)
    real = float(stored.real)
    return math.isfinite(real) and int(real) == value


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_integers_are_stored_exactly_or_refused(dtype: str) -> None:
    kind = np.dtype(dtype)
    for given in INTEGERS:
        for value in edges(given):
            array = np.array([0, value], given)
            for written in (array, array[1]):
                if holds(dtype, value):
                    stored = cast(checked(written, kind, "a"), kind)
                    assert int(np.atleast_1d(stored)[-1].real) == value
                else:
                    with pytest.raises(BadDtype, match=rf"^a: .*{value}"):
                        checked(written, kind, "a")


@pytest.mark.parametrize("given", ["f8", "c16"])
@pytest.mark.parametrize("dtype", ["f4", "c8"])
def test_floats_may_be_rounded_but_not_to_infinity(given: str, dtype: str) -> None:
    kind = np.dtype(dtype)
    if np.dtype(given).kind == "c" and kind.kind == "f":
        with pytest.raises(BadDtype, match=r"values of complex128 cannot be written .* float32"):
            checked(np.zeros(2, given), kind, "a")
        return
    good = np.array([0.1, -1e38, np.nan, np.inf, -np.inf], given)
    stored = cast(checked(good, kind, "a"), kind)
    np.testing.assert_array_equal(stored, good.astype(kind))
    assert checked(np.empty(0, given), kind, "a").size == 0
    for bad in (1e39, -1e39):
        for values in (np.array([bad, np.nan, 1], given), np.array(bad, given)):
            with pytest.raises(BadDtype, match=r"a: .*1e\+39"):
                checked(values, kind, "a")
    if given == "c16" and dtype == "c8":
        with pytest.raises(BadDtype, match=r"the value 1e\+39 \(complex128\) cannot be stored"):
            checked(np.array([1 + 1e39j, 0]), kind, "a")


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(1.5, "u1"), (256, "u1"), (-1, "u2"), (2**53 + 1, "f8"), (1j, "f8"), (10**400, "f8"),
     (np.array([1.0]), "u1"), (np.array(["1"]), "u1")],
)  # fmt: skip
def test_what_an_image_cannot_hold(value: object, dtype: str) -> None:
    with pytest.raises(BadDtype, match=r"^a: "):
        checked(value, np.dtype(dtype), "a")


def test_truth_values_are_zero_and_one() -> None:
    for value in (True, np.True_, np.array([True, False])):
        stored = cast(checked(value, np.dtype("u1"), "a"), np.dtype("u1"))
        assert np.atleast_1d(stored)[0] == 1
    assert checked(np.array([True, False]), np.dtype("f4"), "a").tolist() == [1, 0]
