"""Scaling of conversions on a Dask cluster, and a model of larger ones.

    python benchmarks/scaling.py measure --workers 1 2 4 8 16 --json scaling.json
    python benchmarks/scaling.py model --json scaling.json --terabytes 100 --workers 1000
    python benchmarks/scaling.py plot --json scaling.json --svg docs/scaling.svg

``measure`` converts uncompressed TIFF files to OME-Zarr on a LocalCluster of processes. Each read
of a source waits 20 ms and then the time of its bytes at 50 MB/s, as simulated storage for each
stream. Reads of the client, which opens all sources before the first task starts (the search),
wait as well. The CPU time of the workers, of this process (client and scheduler), and of the
machine is measured: where all CPUs are in use, more workers do not increase the throughput.
``model`` has three parameters from these runs (seconds of waiting and of CPU time for a megabyte,
seconds of the scheduler for a task) and is checked against them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LATENCY = 0.020
RATE = 50e6
SIDE = 1024
FILES_EACH = 8
SCHEDULER_SECONDS = 1e-3
"""Time of the scheduler for a task: about 1 ms (Dask's documentation, "Managing Computation")."""


@dataclass(frozen=True)
class Model:
    """Seconds for a file, and the limits of a cluster.

    Attributes
    ----------
    wait, cpu
        Seconds for one file: waiting for the source, and CPU time.
    scheduler
        Seconds of the scheduler for each task; tasks cannot start faster.
    """

    wait: float
    cpu: float
    scheduler: float = SCHEDULER_SECONDS

    def seconds(self, files: int, workers: int, cpus: float) -> float:
        """Return the wall time of a batch: the slowest of workers, CPUs and scheduler."""
        rounds = -(-files // workers) * (self.wait + self.cpu)
        return max(rounds, files * self.cpu / cpus, files * self.scheduler)


def slow_reads() -> Callable[[], None]:
    """Delay each read of a local file in this process; return the function that ends this."""
    from bfbridge.storage import source

    kind: Any = source._LocalFile
    plain_read, plain_into = kind.read_at, kind.read_into

    def read_at(self: Any, offset: int, length: int) -> Any:
        time.sleep(LATENCY + length / RATE)
        return plain_read(self, offset, length)

    def read_into(self: Any, offset: int, memory: memoryview) -> int:
        time.sleep(LATENCY + len(memory) / RATE)
        return int(plain_into(self, offset, memory))

    def end() -> None:
        kind.read_at, kind.read_into = plain_read, plain_into

    kind.read_at, kind.read_into = read_at, read_into
    return end


def _slow() -> None:
    slow_reads()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _machine_cpu() -> float:
    """Return the CPU time of all programs since the machine was started."""
    import psutil  # a dependency of distributed

    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0) - getattr(times, "guest", 0))


def measure(workers: list[int]) -> list[dict[str, float]]:
    """Convert a batch with each number of workers."""
    import numpy as np
    from distributed import Client, LocalCluster

    from bfbridge import imwrite
    from bfbridge.convert import convert

    folder = Path(tempfile.mkdtemp(prefix="bfbridge-scaling-"))
    pixels = np.random.default_rng(0).poisson(100, (2, SIDE, SIDE)).astype(np.uint16)
    runs = []
    try:
        for count in workers:
            inside = folder / f"in{count}"
            inside.mkdir()
            for number in range(count * FILES_EACH):
                imwrite(inside / f"{number}.ome.tif", pixels, axes="CYX", compression="none")
            with (
                LocalCluster(
                    n_workers=count, threads_per_worker=1, dashboard_address=None
                ) as cluster,
                Client(cluster) as client,
            ):
                options: dict[str, Any] = {
                    "suffix": ".ome.zarr",
                    "client": client,
                    "max_workers": 1,
                }
                # Imports are not part of the measurement.
                convert(inside, folder / f"warm{count}", checksum=False, **options)
                client.run(_slow)
                before = sum(client.run(_cpu).values())
                own, machine = _cpu(), _machine_cpu()
                # This process searches the sources, in the same storage.
                end = slow_reads()
                try:
                    done = convert(inside, folder / f"out{count}", checksum=False, **options)
                finally:
                    end()
                own, machine = _cpu() - own, _machine_cpu() - machine
                cpu = sum(client.run(_cpu).values()) - before
            runs.append(
                {"workers": count, "files": count * FILES_EACH, "seconds": done.seconds, "cpu": cpu,
                 "client": own, "machine": machine, "search": done.search_seconds,
                 "megabytes": done.pixel_bytes / 1e6}
            )  # fmt: skip
            shutil.rmtree(inside)
            print(runs[-1], flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return runs


def model_of(runs: list[dict[str, float]]) -> Model:
    """Return the model of the run with one worker."""
    first = runs[0]
    cpu = first["cpu"] / first["files"]
    return Model(first["seconds"] / first["files"] - cpu, cpu)


def table(runs: list[dict[str, float]]) -> str:
    """Return measured and predicted throughput, as Markdown."""
    model, cpus = model_of(runs), os.cpu_count() or 1
    base = runs[0]["files"] / runs[0]["seconds"]
    columns = (
        "workers", "files/s", "of linear", "search, s of all", "CPUs: workers",
        "client and scheduler", "whole machine", "model, files/s",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for run in runs:
        rate = run["files"] / run["seconds"]
        guess = run["files"] / model.seconds(int(run["files"]), int(run["workers"]), cpus)
        share = rate / base / run["workers"]
        lines.append(
            f"| {run['workers']:.0f} | {rate:.1f} | {share:.2f} | "
            f"{run['search']:.1f} of {run['seconds']:.1f} | "
            f"{run['cpu'] / run['seconds']:.2f} | {run['client'] / run['seconds']:.2f} | "
            f"{run['machine'] / run['seconds']:.2f} of {cpus} | {guess:.1f} |"
        )
    return "\n".join(lines)


def extrapolate(runs: list[dict[str, float]], terabytes: float, workers: int) -> str:
    """Return the figures of a large conversion, as Markdown."""
    each = runs[0]["megabytes"] / runs[0]["files"]
    model = model_of(runs)
    columns = (
        "file", "tasks", "CPU hours", "hours", "tasks/s", "objects, chunks of 1024",
        "objects, shards of 8192", "limited by",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "| --- " * 8 + "|"]
    for megabytes in (100.0, 1_000.0, 20_000.0):
        files = int(terabytes * 1e6 / megabytes)
        scaled = Model(model.wait * megabytes / each, model.cpu * megabytes / each)
        seconds = scaled.seconds(files, workers, workers)
        chunks = terabytes * 1e12 / (1024 * 1024 * 2) * 4 / 3
        bound = "scheduler" if files * scaled.scheduler >= seconds else "workers"
        lines.append(
            f"| {megabytes / 1000:g} GB | {files:,} | {files * scaled.cpu / 3600:,.0f} | "
            f"{seconds / 3600:,.1f} | {files / seconds:,.1f} | {chunks:,.0f} | "
            f"{chunks / 64:,.0f} | {bound} |"
        )
    return "\n".join(lines)


def plot(runs: list[dict[str, float]]) -> str:
    """Return a graph of throughput against workers, as SVG."""
    model, cpus = model_of(runs), os.cpu_count() or 1
    width, height, left = 480, 300, 50
    most = max(run["workers"] for run in runs)
    base = runs[0]["files"] / runs[0]["seconds"]
    top = base * most

    def at(workers: float, rate: float) -> str:
        x, y = left + (width - left - 20) * workers / most, height - 40
        return f"{x:.1f},{y - (height - 60) * rate / top:.1f}"

    measured = " ".join(at(r["workers"], r["files"] / r["seconds"]) for r in runs)
    guessed = " ".join(
        at(r["workers"], r["files"] / model.seconds(int(r["files"]), int(r["workers"]), cpus))
        for r in runs
    )
    linear = f"{at(0, 0)} {at(most, top)}"
    lines = [
        (linear, "#999", "4 4", "linear"), (guessed, "#c60", "2 3", "model"),
        (measured, "#06c", "none", "measured"),
    ]  # fmt: skip
    drawn = "".join(
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
        f'stroke-dasharray="{dash}"/><text x="{left + 10}" y="{20 + 16 * i}" fill="{colour}">{name}'
        "</text>"
        for i, (points, colour, dash, name) in enumerate(lines)
    )
    ticks = "".join(
        f'<text x="{at(r["workers"], 0).split(",")[0]}" y="{height - 22}" text-anchor="middle">'
        f"{r['workers']:.0f}</text>"
        for r in runs
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="12"><rect width="{width}" height="{height}" '
        f'fill="white"/><path d="M{left},20V{height - 40}H{width - 20}" fill="none" '
        f'stroke="black"/>'
        f'{drawn}{ticks}<text x="{width / 2}" y="{height - 5}" text-anchor="middle">workers</text>'
        f'<text x="15" y="{height / 2}" transform="rotate(-90 15 {height / 2})" '
        'text-anchor="middle">files per second</text></svg>\n'
    )


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=["measure", "model", "plot"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--terabytes", type=float, default=100)
    parser.add_argument("--json", type=Path, default=Path("scaling.json"))
    parser.add_argument("--svg", type=Path, default=Path("scaling.svg"))
    given = parser.parse_args()
    if given.command == "measure":
        given.json.write_text(json.dumps(measure(given.workers), indent=1) + "\n")
    runs = json.loads(given.json.read_text())
    if given.command == "plot":
        given.svg.write_text(plot(runs))
    elif given.command == "measure":
        print(table(runs))
    else:
        print(extrapolate(runs, given.terabytes, given.workers[-1]))


if __name__ == "__main__":
    main()
