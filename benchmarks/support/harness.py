"""Functions for all benchmarks: interleaved runs, medians, peak memory, and a table of ratios.

Machines are shared and noisy, so times are not compared across runs: contenders take turns, each
several times, and the result is the ratio of their medians.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["cold", "interleave", "peak_mb", "table"]

# Installed peers have stored bytecode; without it, cold starts of this checkout compile it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def interleave(
    contenders: Mapping[str, Callable[[], object]], repeats: int = 5, memory: int = 0
) -> dict[str, list[float]]:
    """Run every contender once unmeasured, then `repeats` times in turn; return their seconds.

    With `memory`, each run finds as many bytes that were in use a moment ago. A virtual machine
    fetches memory that lay idle for seconds from its host, at a second a gigabyte and more: that
    would be counted for the next contender.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(repeats):
        for name, run in contenders.items():
            np.empty(memory, np.uint8).fill(0)
            begun = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begun)
    return seconds


def cold(
    commands: Mapping[str, Sequence[str]],
    repeats: int = 5,
    env: Mapping[str, str] | None = None,
    cpu: dict[str, list[float]] | None = None,
) -> dict[str, tuple[list[float], float]]:
    """Run commands as processes in turn; return their seconds and highest peak memory in MB.

    `cpu` gets the processor seconds of each run: what two floors that use all CPUs add up to.
    """
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peaks = dict.fromkeys(commands, 0.0)
    for _ in range(repeats):
        for name, command in commands.items():
            took, peak, worked = _measured(command, env)
            seconds[name].append(took)
            peaks[name] = max(peaks[name], peak)
            if cpu is not None:
                cpu.setdefault(name, []).append(worked)
    return {name: (seconds[name], peaks[name]) for name in commands}


_WATCHER = """
import json, resource, subprocess, sys, time
begun = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
took = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
peak, cpu = used.ru_maxrss * 1024 / 1e6, used.ru_utime + used.ru_stime
print(json.dumps([took, peak, cpu, done.returncode, done.stderr[-2000:].decode(errors="replace")]))
"""


def _measured(command: Sequence[str], env: Mapping[str, str] | None) -> tuple[float, float, float]:
    completed = subprocess.run(
        [sys.executable, "-c", _WATCHER, *command], capture_output=True, check=True, env=env
    )
    took, peak, cpu, code, stderr = json.loads(completed.stdout)
    if code:
        raise RuntimeError(f"{' '.join(command)} failed ({code}):\n{stderr}")
    return took, peak, cpu


def peak_mb() -> float:
    """Highest memory of this process so far, in MB."""
    # Not ru_maxrss, which a process inherits from the one that started it.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def table(
    title: str, seconds: Mapping[str, Sequence[float]], against: str, **columns: Mapping[str, Any]
) -> dict[str, float]:
    """Print medians and their ratio to `against`; return how many times faster `against` is."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = medians[against]
    _record(title, seconds, against, columns)
    print(f"\n{title}")
    heads = "".join(f"{name:>12}" for name in columns)
    print(f"  {'':36}{'median ms':>12}{'min ms':>10}{'x ' + against[:8]:>12}{heads}")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        extra = "".join(f"{values.get(name, ''):>12}" for values in columns.values())
        low = min(seconds[name])
        print(f"  {name:36}{median * 1e3:12.2f}{low * 1e3:10.2f}{median / base:12.2f}{extra}")
    return {name: median / base for name, median in medians.items()}


def _record(
    title: str,
    seconds: Mapping[str, Sequence[float]],
    against: str,
    columns: Mapping[str, Mapping[str, Any]],
) -> None:
    """Append a table to the file that run.py names, one JSON object in each line."""
    path = os.environ.get("BFBRIDGE_BENCHMARK_ROWS")
    if path is None:
        return
    rows = {
        name: {
            "seconds": list(values),
            "median": statistics.median(values),
            **{column: found.get(name) for column, found in columns.items()},
        }
        for name, values in seconds.items()
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps({"title": title, "against": against, "rows": rows}) + "\n")
