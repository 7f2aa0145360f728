"""The tests are of this checkout, and not of what is installed."""

from __future__ import annotations

import importlib
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGES = {
    "bfbridge": CHECKOUT / "bfbridge",
    "bfbridge_bioformats": CHECKOUT / "backends" / "bfbridge_bioformats",
    "bfbridge_ometiff": CHECKOUT / "backends" / "bfbridge_ometiff",
    "bfbridge_omezarr": CHECKOUT / "backends" / "bfbridge_omezarr",
    "bfbridge_pictures": CHECKOUT / "backends" / "bfbridge_pictures",
}


def where(name: str) -> str:
    return str(importlib.import_module(name).__file__)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", PACKAGES)
def test_packages_come_from_the_checkout(name: str, tmp_path: Path) -> None:
    wanted = PACKAGES[name] / "__init__.py"
    assert Path(where(name)).samefile(wanted)
    code = f"import {name}; print({name}.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).samefile(wanted)


@pytest.mark.slow(ci=True)
def test_so_do_those_of_spawned_processes_and_entry_points(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert Path(pool.apply(where, ("bfbridge_ometiff",))).is_relative_to(CHECKOUT)
    code = (
        "from importlib.metadata import entry_points\n"
        "point, = entry_points(group='xarray.backends', name='bfbridge')\n"
        "import sys; print(sys.modules[point.load().__module__].__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).samefile(CHECKOUT / "bfbridge" / "integrations" / "xarray.py")
