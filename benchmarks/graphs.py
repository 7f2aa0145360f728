"""Make the graphs and tables of docs/performance.md from a recorded run of the benchmarks.

    python benchmarks/graphs.py benchmarks/results/2026-11-22.json

The file is one that run.py wrote. Graphs are written to docs/graphs/, and tables to
benchmarks/results/, from where the page includes them. They contain ratios and memory; absolute
times are valid for one machine only.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

try:
    from support.bars import TIMES, bars, ratios
except ModuleNotFoundError:  # imported from the repository's folder
    from benchmarks.support.bars import TIMES, bars, ratios

__all__ = ["documents"]

HERE = Path(__file__).resolve().parent
# File: heading, and how the titles of its tables begin.
GRAPHS = {
    "czi": ("CZI, time relative to bfbridge", ("CZI ",)),
    "nd2-lif": ("ND2 and LIF, time relative to bfbridge", ("nd2:", "liffile:")),
    "zarr": ("Virtual stores and rendered tiles, time", ("All of ", "100 rendered")),
}
OWN = ("bfbridge", "bfbridge, Bio-Formats")
"""Contenders of the vendors' formats that are bfbridge: its native reader, and Bio-Formats."""
FLOORS = (
    "codec ", "only an array", "import numpy", "python -c pass", "one tile's decode",
    "decode alone", "encode, write alone", "CPU of both", "later slices",
)  # fmt: skip
"""How the names of lower bounds begin, which are no libraries."""
MEMORY = "peak MB"


def documents(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of every file by its path in the repository.

    Parameters
    ----------
    report
        The content of a ``benchmarks.json``.
    """
    tables = [_named(table) for table in report["tables"]]
    files = {}
    for name, (heading, titles) in GRAPHS.items():
        drawn = [table for table in tables if table["title"].startswith(titles)]
        if drawn:
            files[f"docs/graphs/{name}.svg"] = bars(heading, drawn)
    files["benchmarks/results/about.md"] = _about(report)
    files["benchmarks/results/ratios.md"] = _ratios(tables)
    files["benchmarks/results/slower.md"] = _slower(tables)
    return files


def _named(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table with the names that the page uses."""
    rows = {OWN[1] if name == "Java" else name: row for name, row in table["rows"].items()}
    title = table["title"].replace("^2", "²").replace(" x ", f" {TIMES} ")
    return {**table, "title": title, "rows": rows}


def _about(report: Mapping[str, Any]) -> str:
    """Return the machine and the versions."""
    machine, versions = report["machine"], report["versions"]
    recorded = (
        f"Recorded on {report['date']} on an idle machine with {machine['cpus']} CPUs "
        f"({machine['processor']}, {machine['system']}), files in the page cache. Versions:"
    )
    lines = [
        recorded,
        "",
        ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
        "Not in this record:",
        "",
        *(f"- {name}: {reason}" for name, reason in report["omitted"].items()),
    ]
    return "\n".join(lines) + "\n"


def _ratios(tables: list[Mapping[str, Any]]) -> str:
    """Return all ratios, with those of CPU time and the memory where they were measured."""
    heads = ["measurement", "contender", "time", "CPU time", MEMORY]
    kept = [head for head in heads if head != MEMORY or _has_memory(tables)]
    lines: list[str] = []
    command = None
    for table in tables:
        if table["command"] != command:
            command = table["command"]
            lines += ["", f"`{command}`", "", f"| {' | '.join(kept)} |", "| --- " * len(kept) + "|"]
        rows, work = table["rows"], _work(table)
        time = ratios(table)
        for name in sorted(rows, key=lambda name: time.get(name, 0)):
            values = {
                "measurement": table["title"], "contender": name,
                "time": f"{time[name]:.2f}" if name in time else "",
                "CPU time": f"{work[name]:.2f}" if name in work else "",
                MEMORY: str(rows[name].get(MEMORY) or ""),
            }  # fmt: skip
            lines.append(f"| {' | '.join(values[head] for head in kept)} |")
    return "\n".join(lines).lstrip() + "\n"


def _slower(tables: list[Mapping[str, Any]]) -> str:
    """Return the measurements in which another library takes less time, or less CPU time."""
    lines = [
        "| measurement | library | its time, of bfbridge's | its CPU time, of bfbridge's |",
        "| --- | --- | --- | --- |",
    ]
    for table in tables:
        if table["against"] != OWN[0]:
            continue
        work = _work(table)
        for name, ratio in sorted(ratios(table).items(), key=lambda item: item[1]):
            if name.startswith((*OWN, *FLOORS)):
                continue
            if min(ratio, work.get(name, 1)) < 1:
                share = f"{work[name]:.2f}" if name in work else ""
                lines.append(f"| {table['title']} | {name} | {ratio:.2f} | {share} |")
    return "\n".join(lines) + "\n"


def _has_memory(tables: list[Mapping[str, Any]]) -> bool:
    return any(row.get(MEMORY) for table in tables for row in table["rows"].values())


def _work(table: Mapping[str, Any]) -> dict[str, float]:
    """Return the CPU time of each contender relative to that of ``table["against"]``."""
    rows = table["rows"].items()
    seconds = {name: float(row["cpu"]) for name, row in rows if row.get("cpu")}
    base = seconds.get(table["against"], 0)
    # Below 10 ms, the three digits that are recorded do not make a ratio.
    return {name: value / base for name, value in seconds.items()} if base >= 0.01 else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("results", type=Path)
    given = parser.parse_args()
    report = json.loads(given.results.read_text(encoding="utf-8"))
    for name, text in documents(report).items():
        path = HERE.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    main()
