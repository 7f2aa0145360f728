"""Endurance tests are collected only for an expression of `-m` that names them."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore these tests unless they are requested: they take an hour."""
    del collection_path
    return None if "endurance" in (config.getoption("markexpr") or "") else True
