"""`bfbridge convert --dry-run`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bfbridge import imwrite
from bfbridge.convert import plan_conversion
from tests.support.commands import ARRAY, Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image and a damaged one."""
    (tmp_path / "in").mkdir()
    imwrite(tmp_path / "in/a.ome.tif", ARRAY, axes="YXZCT")
    (tmp_path / "in/bad.tif").write_bytes(b"II*\0\xff\xff\xff\xff")
    return tmp_path / "in"


@pytest.mark.java
def test_the_command_prints_the_plan(run: Run, folder: Path, tmp_path: Path) -> None:
    given = ("convert", folder, tmp_path / "out", "--suffix", ".ome.zarr", "--dry-run")
    done = run(*given)
    assert done.code == 1, "a source would fail"
    assert "read by ometiff" in done.out
    assert f"would fail: {folder / 'bad.tif'}" in done.err
    plan = json.loads(run(*given, "--json").out)
    expected = plan_conversion(folder, tmp_path / "out", suffix=".ome.zarr").as_dict()
    free = plan.pop("free_bytes"), expected.pop("free_bytes")
    assert min(free) > 0
    assert plan == json.loads(json.dumps(expected))
    assert not (tmp_path / "out").exists()
    good = ("convert", folder / "a.ome.tif", tmp_path / "b.ome.tif")
    assert run(*good, "--dry-run").code == 0
    assert run(*good, "--json").code == 2
