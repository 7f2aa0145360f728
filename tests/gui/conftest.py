"""One browser for the tests of the page.

It ends with their module: while it runs, playwright occupies the event loop of this thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chromium import browser, page

__all__ = ["page"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started
