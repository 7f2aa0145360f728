"""Add asv's results of a release to `history.json`, the public record of all releases.

    asv run --config benchmarks/asv.conf.json v1.2.0^!
    python benchmarks/history.py 1.2.0 benchmarks/.asv/results/MACHINE/RESULT.json

The file holds one entry for each release and machine: its date, Python, processor, and the median
of every benchmark with its unit. A release that is added again is replaced.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

__all__ = ["HISTORY", "add_release", "read_result"]

HISTORY = Path(__file__).with_name("history.json")
UNITS = {"time": "seconds", "peakmem": "bytes", "track": "bytes"}


def read_result(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the values of asv's result file (version 2) by name, one for each parameter."""
    columns = result["result_columns"]
    found = {}
    for name, row in result["results"].items():
        entry = dict(zip(columns, row, strict=False))
        values = entry.get("result")
        if values is None:
            # The benchmark failed.
            continue
        combinations = list(product(*(entry.get("params") or [])))
        kind = name.rpartition(".")[2].partition("_")[0]
        for value, combination in zip(values, combinations, strict=True):
            if value is not None and value == value:  # noqa: PLR0124 - NaN is a skipped benchmark
                label = "".join(f"[{part.strip(chr(39))}]" for part in combination)
                found[f"{name}{label}"] = {"value": value, "unit": UNITS[kind]}
    return dict(sorted(found.items()))


def add_release(history: dict[str, Any], release: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return the history with the results of a release, in order of dates."""
    machine = result["params"]
    date = datetime.fromtimestamp(result["date"] / 1000, UTC).date().isoformat()
    entry = {
        "release": release,
        "commit": result["commit_hash"],
        "date": date,
        "python": result["python"],
        "machine": {key: machine.get(key, "") for key in ("arch", "cpu", "num_cpu", "os", "ram")},
        "results": read_result(result),
    }
    same = (entry["release"], entry["machine"])
    others = [one for one in history["releases"] if (one["release"], one["machine"]) != same]
    releases = sorted([*others, entry], key=lambda one: (one["date"], one["release"]))
    return {"version": 1, "releases": releases}


if __name__ == "__main__":
    known = json.loads(HISTORY.read_text(encoding="utf-8"))
    added = add_release(known, sys.argv[1], json.loads(Path(sys.argv[2]).read_text("utf-8")))
    HISTORY.write_text(json.dumps(added, indent=1, sort_keys=True) + "\n", encoding="utf-8")
