"""Limits: numbers, and the words when they are passed."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields

import pytest

from bfbridge.errors import LimitExceeded
from bfbridge.limits import DEFAULT_LIMITS, Limits, check, nbytes


def test_check_names_the_file_the_number_and_the_remedy() -> None:
    check(5, 5, "IFDs", "a.tif")
    with pytest.raises(LimitExceeded) as caught:
        check(1234567, 5, "number of IFDs", "a.tif, IFD 3")
    message = str(caught.value)
    assert "a.tif, IFD 3" in message
    assert "number of IFDs is 1,234,567" in message
    assert "limit of 5" in message
    assert "limits=Limits(" in message
    assert isinstance(caught.value, ValueError)


def test_sizes_do_not_overflow() -> None:
    assert nbytes((2**31, 2**31, 2**31), 8) == 2**96
    assert nbytes((), 2) == 2
    assert nbytes((5, 0), 2) == 0


def test_every_limit_is_positive_documented_and_fixed() -> None:
    for field in fields(Limits):
        assert getattr(DEFAULT_LIMITS, field.name) > 0
        assert f"\n{field.name}\n" in (inspect.getdoc(Limits) or "")
    with pytest.raises(FrozenInstanceError):
        DEFAULT_LIMITS.xml_bytes = 5  # type: ignore[misc]
