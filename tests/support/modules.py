"""ES modules of the pages, checked by TypeScript."""

from __future__ import annotations

import shutil
import subprocess

import pytest

__all__ = ["check_types"]


def check_types(scripts: list[str]) -> None:
    """Check the types in the comments of modules; skip the test where tsc is not installed."""
    tsc = shutil.which("tsc")
    if tsc is None:
        pytest.skip("tsc is not installed")
    options = "--checkJs --allowJs --noEmit --strict --target es2022 --module es2022"
    library = "--moduleResolution bundler --lib es2023,dom,dom.iterable"
    command = [tsc, *options.split(), *library.split(), *scripts]
    found = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert found.returncode == 0, found.stdout
