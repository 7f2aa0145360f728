"""Parts of a batch: those of a Slurm array, and the merged report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, convert, imwrite
from bfbridge.convert import merge_reports
from bfbridge.convert.option_values import parse_part
from bfbridge.convert.reports.writer import REPORT_NAME
from bfbridge.errors import BadArgument, BatchFailed, FileMissing

SCRIPT = Path(__file__).parents[2] / "examples/slurm_array.sh"
COUNT = 5


def image(number: int) -> Any:
    return (np.arange(600, dtype=np.uint16) + 1000 * number).reshape(20, 30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images."""
    for number in range(COUNT):
        imwrite(tmp_path / f"in/{number}.ome.tif", image(number), axes="YX")
    return tmp_path / "in"


def array_task(number: int, first: int = 1, last: int = 2, step: int = 1) -> dict[str, str]:
    """Return the variables that Slurm sets for a task of an array."""
    values = {
        "ID": number, "MIN": first, "MAX": last, "STEP": step, "COUNT": (last - first) // step + 1,
    }  # fmt: skip
    return {f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in values.items()}


def use(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for key in ("ID", "MIN", "MAX", "STEP", "COUNT"):
        monkeypatch.delenv(f"SLURM_ARRAY_TASK_{key}", raising=False)
    for key, value in variables.items():
        monkeypatch.setenv(key, value)


def test_the_part_is_that_of_the_array_task(monkeypatch: pytest.MonkeyPatch) -> None:
    for task, part in (
        (array_task(1, 1, 8), (1, 8)),
        (array_task(8, 1, 8), (8, 8)),
        (array_task(0, 0, 3), (1, 4)),
        (array_task(9, 1, 13, 4), (3, 4)),
    ):
        use(monkeypatch, task)
        assert parse_part("slurm") == part
    use(monkeypatch, {})
    with pytest.raises(BadArgument, match="SLURM_ARRAY_TASK_ID is not set"):
        parse_part("slurm")
    # --array=1,3,7 has no step.
    use(monkeypatch, array_task(3, 1, 7) | {"SLURM_ARRAY_TASK_COUNT": "3"})
    with pytest.raises(BadArgument, match="not a range"):
        parse_part("slurm")
    use(monkeypatch, array_task(3, 1, 7) | {"SLURM_ARRAY_TASK_MAX": "x"})
    with pytest.raises(BadArgument, match="'x'"):
        parse_part("slurm")


def test_reports_of_parts_become_one(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(FileMissing, match="no reports"):
        merge_reports(tmp_path)
    for number in (1, 3):
        convert(folder, out, part=(number, 3))
    merged = merge_reports(out)
    assert (merged.parts, merged.missing, merged.unfinished) == (3, (2,), ())
    assert not merged.is_complete
    convert(folder, out, part=(2, 3))
    # A killed task leaves its lines.
    report = out / "bfbridge-report.part-2-of-3.json"
    lines = report.with_name(f"{report.name}.lines")
    document = json.loads(report.read_text())
    lines.write_text("".join(json.dumps(entry) + "\n" for entry in document["files"]))
    report.unlink()
    assert merge_reports(out).unfinished == (2,)
    convert(folder, out, part=(2, 3), resume=True)
    merged = merge_reports(out)
    assert merged.is_complete
    assert merged.counts == {"done": COUNT, "kept": 0, "failed": 0}
    told = json.loads((out / REPORT_NAME).read_text())
    assert told["parts"] == {"count": 3, "missing": [], "unfinished": []}
    assert [Path(entry["source"]).name[0] for entry in told["files"]] == list("01234")
    assert len(list(out.glob("*.part-*"))) == 3, "reports of the parts are kept"
    done = convert(folder, out, resume=True)
    assert [record.status for record in done.files] == ["kept"] * COUNT


def test_the_newest_record_of_a_file_counts(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "0.ome.tif").mkdir(parents=True)
    for number in (1, 2):
        with pytest.raises(BatchFailed) if number == 1 else nullcontext():
            convert(folder, out, part=(number, 2))
    merged = merge_reports(out)
    assert [Path(record.source).name for record in merged.failed] == ["0.ome.tif"]
    (out / "0.ome.tif").rmdir()
    convert(folder, out, part=(1, 2), resume=True)
    assert merge_reports(out).is_complete


@pytest.mark.slow(ci=True)
def test_the_example_for_slurm(folder: Path, tmp_path: Path) -> None:
    out, tools = tmp_path / "out", tmp_path / "bin"
    tools.mkdir()
    command = tools / "bfbridge"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bfbridge "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    def run(number: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(SCRIPT), str(folder), str(out), ".ome.tif"],
            env=environment | array_task(number, 0, 1) | {"SLURM_CPUS_PER_TASK": "2"},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip

    assert run(0).returncode == 0
    done = run(1)
    assert done.returncode == 0, done.stderr
    report = subprocess.run(
        [str(command), "report", str(out)], capture_output=True, text=True, check=False
    )
    assert (report.returncode, report.stderr) == (0, "")
    assert report.stdout == f"{out / REPORT_NAME}: {COUNT} done from 2 parts\n"
    for number in range(COUNT):
        with BioReader(out / f"{number}.ome.tif") as br:
            np.testing.assert_array_equal(br[:], image(number))
