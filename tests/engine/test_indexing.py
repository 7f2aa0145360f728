"""Keys and ranges: what is refused, and with which words; what is chosen is in tests/property."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bfbridge.engine.selection import (
    fit_axes,
    parse_key,
    parse_ranges,
    split_new_axes,
    spread,
    trim,
)
from bfbridge.errors import BadSelection, BfbridgeError
from tests.support.engine import expected
from tests.support.memory import distinct

SHAPE = (50, 70, 4, 3, 2)
ARRAY = distinct(SHAPE, np.uint32)


@pytest.mark.parametrize(
    ("shape", "trimmed"),
    [
        ((1, 1, 1, 1, 1), (1, 1)),
        ((9, 1, 1, 1, 1), (9, 1)),
        ((9, 8, 1, 3, 1), (9, 8, 1, 3)),
        ((9, 8, 1, 1, 2), (9, 8, 1, 1, 2)),
        ((0, 8, 1, 1, 1), (0, 8)),
        ((9, 8, 0, 1, 1), (9, 8, 0)),
    ],
)
def test_trailing_ones_are_dropped(shape: tuple[int, ...], trimmed: tuple[int, ...]) -> None:
    assert trim(shape) == trimmed


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        (np.s_[:40, :30, :1, 0, 0], (40, 30)),  # bfio's own examples
        (np.s_[5, 6], (1, 1, 4, 3, 2)),
        (np.s_[...], SHAPE),
        (np.s_[()], SHAPE),
        (np.s_[-1], (1, 70, 4, 3, 2)),
        (np.s_[:-1], (49, 70, 4, 3, 2)),
        (np.s_[..., 0], (50, 70, 4, 3)),
        (np.s_[..., 0, 1], (50, 70, 4)),
        (np.s_[3, ..., 1], (1, 70, 4, 3)),
        (np.s_[100:], (0, 70, 4, 3, 2)),
        (np.s_[40:1000], (10, 70, 4, 3, 2)),
        (np.s_[::-2, [3, 3, 1]], (25, 3, 4, 3, 2)),
        (np.s_[:, :, :, [0, 2]], (50, 70, 4, 2, 2)),
        ([4, 1], (2, 70, 4, 3, 2)),
        (np.s_[:, :, :, :, []], (50, 70, 4, 3, 0)),
    ],
)
def test_shapes(key: Any, shape: tuple[int, ...]) -> None:
    selection = parse_key(key, SHAPE)
    assert trim(selection.shape) == shape == expected(ARRAY, key).shape
    chosen = ARRAY[np.ix_(*(np.array(list(axis), np.intp) for axis in selection.axes))]
    np.testing.assert_array_equal(chosen.reshape(shape), expected(ARRAY, key))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (50, "axis Y: index 50 is outside the image, whose Y is 50"),
        (-51, "axis Y: index -51 is outside the image"),
        (np.s_[:, 70], "axis X: index 70"),
        (np.s_[0, 0, 4], "axis Z: index 4"),
        (np.s_[..., 3, 0], "axis C: index 3"),
        (np.s_[..., 2], "axis T: index 2"),
        (np.s_[..., [0, 2]], "axis T: index 2"),
        (np.s_[..., [0, -4], 0], "axis C: index -4"),
        (None, "axis Y: None is not an index. Accepted are integers, slices"),
        (np.s_[0, None], "axis X: None"),
        (True, "axis Y: True"),
        (np.True_, "True"),
        (1.0, "axis Y: 1.0"),
        (np.float32(1), "axis Y"),
        ("Y", "axis Y: 'Y'"),
        (1j, "axis Y: 1j"),
        ({0}, r"axis Y: \{0\}"),
        (np.s_[..., ...], "only one Ellipsis"),
        ((0,) * 6, "too many indices: 6 were given"),
        ((..., *(0,) * 6), "too many indices"),
        (np.zeros(SHAPE, bool), r"axis Y: a boolean mask with 5 dimensions.*br\[...\]\[mask\]"),
        ([True, False], "axis Y: a boolean mask of 2 values .* whose Y is 50"),
        (np.s_[:, np.ones(50, bool)], "axis X: a boolean mask of 50 values .* whose X is 70"),
        ([0.5], "axis Y: an array of float64"),
        (np.zeros((2, 2), int), "2 dimension"),
        ([[0], [1, 2]], "axis Y"),
        ([2**70], "axis Y"),
        (slice(0.5), "axis Y: .* is not a slice of integers"),
        (slice(None, None, 0), "axis Y: .*zero"),
        (slice("a", "b"), "axis Y"),
    ],
)
def test_what_is_refused(key: Any, words: str) -> None:
    with pytest.raises(BadSelection, match=words) as caught:
        parse_key(key, SHAPE)
    assert isinstance(caught.value, IndexError)
    assert isinstance(caught.value, BfbridgeError)


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"X": (0, 71)}, r"axis X: \(0, 71\) is not a range inside the image, whose X is 70"),
        ({"X": (-1, 5)}, "axis X"),
        ({"Y": (5, 5)}, "axis Y"),
        ({"Y": [9, 3]}, "axis Y"),
        ({"Z": (0, 1.5)}, "axis Z: .* two integers"),
        ({"C": [3]}, "axis C: index 3"),
        ({"T": 2}, "axis T: index 2"),
        ({"C": "1"}, "axis C: '1'"),
    ],
)
def test_ranges_that_are_refused(ranges: Any, words: str) -> None:
    with pytest.raises(BadSelection, match=words):
        parse_ranges(SHAPE, **ranges)


def test_two_numbers_are_a_range_on_space_and_positions_on_channels_and_time() -> None:
    axes = parse_ranges(SHAPE, X=(0, 5), Y=[1, 4], Z=(0, 2), C=[0, 2], T=(0, 1)).axes
    assert [list(axis) for axis in axes] == [[1, 2, 3], [0, 1, 2, 3, 4], [0, 1], [0, 2], [0, 1]]


def test_masks_of_one_axis_choose_positions() -> None:
    rows, columns = np.arange(50) % 3 == 0, np.arange(70) > 60
    selection = parse_key((rows, columns, [False, True, True, False]), SHAPE)
    chosen = ARRAY[np.ix_(*(np.array(list(axis), np.intp) for axis in selection.axes))]
    np.testing.assert_array_equal(chosen, ARRAY[rows][:, columns][:, :, 1:3])
    assert parse_ranges(SHAPE, Y=rows).shape == (17, 70, 4, 3, 2)
    assert parse_key(np.zeros(50, bool), SHAPE).shape == (0, 70, 4, 3, 2)


@pytest.mark.parametrize(
    ("key", "rest", "places"),
    [
        (None, (), (0,)),
        (np.s_[None, 1], (1,), (0,)),
        (np.s_[1, None, 2], (1, 2), (1,)),
        (np.s_[:, :, None], (slice(None), slice(None)), (2,)),
        (np.s_[..., None], (...,), (5,)),
        (np.s_[..., 0, None, 1], (..., 0, 1), (4,)),
        (np.s_[None, ..., None, None], (...,), (0, 5, 5)),
        (np.s_[1, 2], (1, 2), ()),
    ],
)
def test_new_axes_are_told_apart(key: Any, rest: Any, places: tuple[int, ...]) -> None:
    assert split_new_axes(key) == (rest, places)


def test_new_axes_and_two_ellipses() -> None:
    with pytest.raises(BadSelection, match="only one Ellipsis"):
        split_new_axes(np.s_[..., None, ...])


def test_arguments_are_not_modified() -> None:
    listed, array = [2, 0], np.array([-1, 3])
    parse_ranges(SHAPE, C=listed, Y=array)
    parse_key((array, slice(None), slice(None), listed), SHAPE)
    assert listed == [2, 0]
    assert array.tolist() == [-1, 3]


def fitted(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return spread(array, fit_axes(array.shape, shape), shape)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ((10, 20), (10, 20, 1, 1, 1)),
        ((1, 1, 10, 20), (10, 20, 1, 1, 1)),
        ((20,), (10, 20, 1, 1, 1)),
        ((10, 1), (10, 20, 1, 1, 1)),
        ((1,), (10, 20, 4, 3, 2)),
        ((10, 20, 1, 3), (10, 20, 1, 3, 1)),
        ((3,), (10, 20, 1, 3, 1)),
        ((4, 1, 1), (10, 20, 4, 3, 2)),
    ],
)
def test_values_broadcast_as_in_numpy(value: tuple[int, ...], shape: tuple[int, ...]) -> None:
    array = distinct(value)
    got = fitted(array, shape)
    wanted = np.zeros(trim(shape), array.dtype)
    wanted[...] = array
    assert got.shape == shape
    np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)
    assert np.shares_memory(got, array)


@pytest.mark.parametrize("value", [(10, 20, 1), (10, 20, 1, 1, 1), (1, 10, 20, 1)])
def test_axes_of_length_1_may_stand_around_values(value: tuple[int, ...]) -> None:
    array = distinct(value)
    np.testing.assert_array_equal(fitted(array, (10, 20, 1, 1, 1)), array.reshape(10, 20, 1, 1, 1))


@pytest.mark.parametrize("value", [(10,), (20, 10), (10, 20, 2), (2, 10, 20), (0, 20), (10, 20, 0)])
def test_values_that_do_not_fit(value: tuple[int, ...]) -> None:
    with pytest.raises(BadSelection, match=r"do not fit a selection of shape \(10, 20, 1, 1, 1\)"):
        fitted(np.zeros(value), (10, 20, 1, 1, 1))
