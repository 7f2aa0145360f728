"""The benchmark suite that asv runs for releases, and the record of its results."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"bench_{Path(name).stem}", ROOT / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def suite() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BFBRIDGE_SUITE_SIDE", "600")
        return load("suite/images.py")


def test_the_configuration_names_the_suite() -> None:
    told = json.loads((ROOT / "asv.conf.json").read_text())
    assert (told["project"], told["version"]) == ("bfbridge", 1)
    assert (ROOT / told["benchmark_dir"] / "__init__.py").exists()
    assert (ROOT / told["repo"] / "pyproject.toml").exists()
    # With the wheels of all dependencies asv cannot decide which to install.
    assert "--no-deps" in told["build_command"][0]
    assert "{wheel_file}" in told["install_command"][0]


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_every_benchmark_runs(suite: Any, name: str) -> None:
    formats = suite.Formats()
    assert name in formats.params
    formats.setup(name)
    try:
        ran = 0
        for label, method in inspect.getmembers(formats, inspect.ismethod):
            if label.startswith(("time_", "peakmem_", "track_")):
                result = method(name)
                assert (result or 0) > 10_000 if label.startswith("track_") else result is None
                ran += 1
        assert ran >= 7
    finally:
        formats.teardown(name)
    suite.Start().time_import()


def result(date: int, commit: str, value: float) -> dict[str, Any]:
    """Return a result file as asv 0.6 writes it."""
    return {
        "version": 2, "commit_hash": commit, "date": date, "python": "3.13",
        "params": {"arch": "x86_64", "cpu": "a", "num_cpu": "2", "os": "Linux", "ram": "8"},
        "result_columns": ["result", "params", "version"],
        "results": {
            "images.Formats.time_read": [[value, math.nan], [["'a.ome.tif'", "'a.ome.zarr'"]], "1"],
            "images.Formats.peakmem_read": [[5, None], [["'a.ome.tif'", "'a.ome.zarr'"]], "1"],
            "images.Start.time_import": [[0.25], [], "1"],
            "images.Start.time_failed": [None, [], "1"],
        },
    }  # fmt: skip


def test_releases_are_added_in_order_and_replaced() -> None:
    history = load("history.py")
    known = {"version": 1, "releases": []}
    second = history.add_release(known, "0.2.0", result(1_700_000_000_000, "b", 2.0))
    both = history.add_release(second, "0.1.0", result(1_600_000_000_000, "a", 3.0))
    assert [one["release"] for one in both["releases"]] == ["0.1.0", "0.2.0"]
    assert both["releases"][0]["results"] == {
        "images.Formats.peakmem_read[a.ome.tif]": {"value": 5, "unit": "bytes"},
        "images.Formats.time_read[a.ome.tif]": {"value": 3.0, "unit": "seconds"},
        "images.Start.time_import": {"value": 0.25, "unit": "seconds"},
    }
    again = history.add_release(both, "0.2.0", result(1_700_000_000_000, "c", 1.0))
    assert [one["commit"] for one in again["releases"]] == ["a", "c"]
    assert again["releases"][0] == both["releases"][0]


def test_the_record_is_valid() -> None:
    told = json.loads((ROOT / "history.json").read_text())
    assert told["version"] == 1
    for one in told["releases"]:
        assert one.keys() == {"release", "commit", "date", "python", "machine", "results"}
        assert one["results"]
        assert {entry["unit"] for entry in one["results"].values()} <= {"seconds", "bytes"}
    order = [(one["date"], one["release"]) for one in told["releases"]]
    assert order == sorted(order)
