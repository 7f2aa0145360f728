"""The IIIF community's validator, level 2.

Slow. Needs the package iiif-validator-ng (Python 3.12) in an environment of its own; the
environment variable IIIF_VALIDATOR names its program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

for module in ("aiohttp", "cmap", "imagecodecs"):
    pytest.importorskip(module)

from tests.support.liveserver import live  # noqa: E402 - after looking for its packages

PROGRAM = Path(os.environ.get("IIIF_VALIDATOR", "/nowhere"))
PICTURES = list(PROGRAM.parent.parent.glob("lib/*/site-packages/iiif_validator/*image.png"))
# The specification says otherwise (4.2): "!w,h" is at most as large as the region, not an error,
# and "^max" is enlarged to the greatest size that the server allows.
DIFFERENT = {"size_noup", "size_up"}


@pytest.mark.slow
@pytest.mark.skipif(not PICTURES, reason="IIIF_VALIDATOR names no program")
def test_the_validator_finds_level_2(tmp_path: Path) -> None:
    shutil.copy(PICTURES[0], tmp_path / "squares.png")
    with live(tmp_path, cors=("*",)) as server:
        done = subprocess.run(
            [PROGRAM, "--validation-id", "squares.png", f"{server.url}/iiif/3"],
            capture_output=True, text=True, timeout=300, check=False,
            env={**os.environ, "COLUMNS": "500"},
        )  # fmt: skip
    assert "LEVEL_2" in done.stdout
    passed = re.search(r"✓ (\d+)", done.stdout)
    assert passed, done.stdout
    assert int(passed[1]) >= 100
    failed = set(re.findall(r"✗ [^\n]*\[(\w+)\]", done.stdout))
    assert failed <= DIFFERENT, done.stdout
