"""`bfbridge doctor`, `jar` and `formats`, and commands where Java or the jar is missing."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest

import bfbridge
from bfbridge import BioReader
from tests.support.commands import ARRAY, Run, failed, process, text_czi


@pytest.mark.java
def test_without_a_jar(tmp_path: Path) -> None:
    path = text_czi(tmp_path)
    done = process("info", path, BFBRIDGE_JAR=str(tmp_path / "missing.jar"))
    failed(done, "missing.jar")
    done = process("doctor", BFBRIDGE_JAR=str(tmp_path / "missing.jar"))
    assert done.code == 1
    assert done.err == ""
    assert "FAILED" in done.out
    assert "missing.jar" in done.out
    failed(process("jar", "path", BFBRIDGE_JAR=str(tmp_path / "missing.jar")), "missing.jar")


@pytest.mark.slow(ci=True)
def test_without_java(tmp_path: Path) -> None:
    path = text_czi(tmp_path)
    done = process("info", path, BFBRIDGE_JAVA=str(tmp_path / "no-java"))
    failed(done, "no Java runtime found", "no-java", 'pip install "bfbridge[all]"')
    done = process("doctor", BFBRIDGE_JAVA=str(tmp_path / "no-java"))
    assert done.code == 1
    assert "no Java runtime found" in done.out
    assert "pip install" in done.out


@pytest.mark.slow(ci=True)
def test_an_unknown_suffix_without_java(image: Path, tmp_path: Path) -> None:
    missing = {"BFBRIDGE_JAR": str(tmp_path / "no.jar"), "BFBRIDGE_JAVA": str(tmp_path / "none")}
    for suffix in (".jp2", ".xyz"):
        done = process("convert", image, tmp_path / f"b{suffix}", **missing)
        failed(done, f"b{suffix}: no writer for this suffix", ".ome.tif", ".zarr", str(tmp_path))


@pytest.mark.slow(ci=True)
def test_native_formats_need_neither(image: Path, tmp_path: Path) -> None:
    done = process(
        "convert", image, tmp_path / "b.ome.zarr", "--quiet",
        BFBRIDGE_JAR=str(tmp_path / "missing.jar"), BFBRIDGE_JAVA=str(tmp_path / "no-java"),
    )  # fmt: skip
    assert (done.code, done.out, done.err) == (0, "", "")
    with BioReader(tmp_path / "b.ome.zarr") as br:
        np.testing.assert_array_equal(br[...], ARRAY)


@pytest.mark.java
def test_doctor_as_json_names_what_a_bug_report_needs(run: Run) -> None:
    done = run("doctor", "--json")
    report = json.loads(done.out)
    assert done.code == 0
    assert report["healthy"] is True
    assert report["bfbridge"] == bfbridge.__version__
    assert report["python"] == platform.python_version()
    assert report["packages"]["numpy"] == np.__version__
    assert {check["ok"] for check in report["checks"]} == {True}
    assert any(check["name"] == "bioformats: Bio-Formats starts" for check in report["checks"])
    assert [step["outcome"] for step in report["lookup"]].count("used") == 1


@pytest.mark.java
def test_doctor_where_all_is_well(run: Run) -> None:
    done = run("doctor")
    assert (done.code, done.err) == (0, ""), done.out
    assert "FAILED" not in done.out
    for word in (f"bfbridge {bfbridge.__version__}", "numpy", "omezarr", "ometiff", "bioformats"):
        assert word in done.out


def test_jar_path(run: Run) -> None:
    done = run("jar", "path")
    assert (done.code, done.err) == (0, "")
    assert all(Path(line).is_file() for line in done.out.split("\n")[:-1])


# ---- formats, help, versions, mistakes


@pytest.mark.java
def test_formats(run: Run) -> None:
    done = run("formats")
    assert (done.code, done.err) == (0, "")
    assert "Zeiss CZI" in done.out
    done = run("formats", "--json")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)
    assert len(rows) > 100
    czi = next(row for row in rows if "czi" in [s.lstrip(".") for s in row["suffixes"]])
    assert set(czi) == {"name", "reader", "suffixes", "domains", "writes"}
