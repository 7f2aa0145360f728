"""The browser of the tests in this folder."""

from __future__ import annotations

from tests.support.chromium import chromium, page

__all__ = ["chromium", "page"]
