"""The graphs and tables of docs/performance.md, and the recorded run that they are made from."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scaling
from benchmarks.graphs import documents
from benchmarks.support.bars import TIMES, bars, ratios

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def table(title: str = "CZI <a> & b", **medians: float) -> dict[str, Any]:
    rows = {name: {"median": value} for name, value in medians.items()}
    return {"title": title, "command": "python x.py", "against": "bfbridge", "rows": rows}


def drawn(text: str) -> tuple[list[str], dict[str, list[ET.Element]]]:
    """Return the texts of a graph, and its bars by class."""
    root = ET.fromstring(text)
    kinds: dict[str, list[ET.Element]] = {}
    for rect in root.iter(f"{SVG}rect"):
        kinds.setdefault(rect.get("class", ""), []).append(rect)
    return ["".join(each.itertext()) for each in root.iter(f"{SVG}text")], kinds


def test_bars_are_on_one_logarithmic_scale():
    text = bars("Time", [table(bfbridge=2.0, slow=8.0, fast=1.0), table("b", bfbridge=3, x=6)])
    words, kinds = drawn(text)
    assert {"CZI <a> & b", "b", "slow", "fast", "x"} <= set(words)
    assert {f"4.00{TIMES}", f"0.50{TIMES}", f"2.00{TIMES}"} <= set(words)
    assert "bfbridge" not in words, "the contender at 1 is the line"
    slow, x = (float(rect.get("width", "")) for rect in kinds["longer"])
    (fast,) = (float(rect.get("width", "")) for rect in kinds["shorter"])
    assert slow == pytest.approx(2 * x, abs=0.2)
    assert fast == pytest.approx(x, abs=0.2)
    base = float(kinds["longer"][0].get("x", ""))
    assert float(kinds["shorter"][0].get("x", "")) + fast == pytest.approx(base, abs=0.2)


@pytest.mark.parametrize("ratio", [0.003, 0.05, 0.99, 1.0, 1.01, 41, 900.0, 1e5])
def test_bars_are_inside_the_graph(ratio: float):
    words, kinds = drawn(bars("Time", [table(bfbridge=2.0, other=2 * ratio)]))
    for rect in kinds.get("longer", []) + kinds.get("shorter", []):
        start, width = float(rect.get("x", "")), float(rect.get("width", ""))
        assert 192 + 52 <= start <= start + width <= 720 - 52
    marks = [float(word[:-1]) for word in words if re.fullmatch(rf"[\d.e+-]+{TIMES}", word)]
    assert min(marks) <= ratio <= max(marks)


def test_ratios_are_those_of_the_medians():
    assert ratios(table(bfbridge=0.5, other=2.0)) == {"bfbridge": 1.0, "other": 4.0}
    memory = {"against": "bfbridge", "rows": {"bfbridge": {"peak MB": "83"}}}
    assert ratios(memory) == {}


def test_slower_measurements_are_listed():
    rows = table("nd2: x", bfbridge=2.0, nd2=1.0, Java=1.0, other=3.0)
    rows["rows"]["bfbridge"]["cpu"], rows["rows"]["other"]["cpu"] = "4.0", "1.0"
    rows["rows"]["bfbridge"]["peak MB"] = "70"
    report = {"date": "d", "machine": {"cpus": 2, "processor": "p", "system": "s"},
              "versions": {}, "tables": [rows], "omitted": {"peer": "missing"}}  # fmt: skip
    made = documents(report)
    slower = made["benchmarks/results/slower.md"].splitlines()[2:]
    assert [line.split(" | ")[1:] for line in slower] == [
        ["nd2", "0.50", " |"], ["other", "1.50", "0.25 |"],
    ]  # fmt: skip
    assert "| nd2: x | bfbridge | 1.00 | 1.00 | 70 |" in made["benchmarks/results/ratios.md"]
    assert "- peer: missing" in made["benchmarks/results/about.md"]


def test_the_page_shows_the_recorded_run():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"`(benchmarks/results/[\d-]+\.json)`", page)
    report = json.loads((ROOT / name).read_text(encoding="utf-8"))
    for path, text in documents(report).items():
        found = (ROOT / path).read_text(encoding="utf-8")
        assert found == text, f"python benchmarks/graphs.py {name}"
        assert path in page or path.removeprefix("docs/") in page


def test_the_page_shows_the_recorded_scaling():
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8")
    runs = json.loads((ROOT / "benchmarks/results/scaling.json").read_text(encoding="utf-8"))
    assert [run["workers"] for run in runs] == [1, 2, 4, 8, 16]
    for path, text in scaling.documents(runs, 100, 1000).items():
        found = (ROOT / path).read_text(encoding="utf-8")
        assert found == text, f"{path}: make it with the command `page` of scaling.py"
        assert path in page or path.removeprefix("docs/") in page


def test_the_model_of_scaling():
    run = {"workers": 1, "files": 4, "seconds": 13, "search": 1, "cpu": 1, "cpus": 2, "client": 0,
           "machine": 1, "megabytes": 40}  # fmt: skip
    model = scaling.model_of([run])
    assert model == scaling.Model(wait=2.75, cpu=0.25, search=0.25)
    assert model.seconds(4, 1, 2) == 13
    assert model.seconds(1600, 1600, 2) == 400 + 200, "two CPUs are full"
    assert model.seconds(8000, 8000, 8000) == 2000 + 8, "the scheduler starts 1,000 tasks a second"
