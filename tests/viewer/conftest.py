"""One browser for all tests of the viewer: it takes a second to start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chromium import Page, browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture
def page(chromium: Any) -> Iterator[Page]:
    opened = Page(chromium)
    yield opened
    errors = opened.errors
    opened.close()
    assert errors == []
