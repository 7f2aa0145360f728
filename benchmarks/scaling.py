"""Scaling of conversions on a Dask cluster, and a model of larger ones.

    python benchmarks/scaling.py measure --workers 1 2 4 8 16 --json scaling.json
    python benchmarks/scaling.py model --json scaling.json --terabytes 100 --workers 1000
    python benchmarks/scaling.py page --json scaling.json --terabytes 100 --workers 1000

``measure`` converts uncompressed TIFF files of 17 MB, in tiles of 256 x 256, to OME-Zarr (LZ4, with
lower levels) on a LocalCluster of processes. Each read of a source, that of a tile too, waits 20 ms
and then the time of its bytes at 50 MB/s, as simulated storage for each stream. Reads of the
client, which opens all sources before the first task starts (the search), wait as well. The CPU
time of the workers, of this process (client and scheduler), and of the machine is measured: where
all CPUs are in use, more workers do not increase the throughput.
``page`` makes the graph and the tables of docs/performance.md from the file of a run.
``model`` has four parameters: from the run with one worker, the seconds of waiting and of CPU time
for a megabyte; from the run with most workers, the seconds of the search for a file; and 1 ms of
the scheduler for a task. The tables compare it with all runs.
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
SIDE, TILE = 2048, 256
FILES_EACH = 4
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "5s",
}
"""Options of Dask: a worker that waits uses 4 % of a CPU with the defaults, and 1 % with these."""
SCHEDULER_SECONDS = 1e-3
"""Time of the scheduler for a task: about 1 ms (Dask's documentation, "Managing Computation")."""


CHUNK, CHUNKS_PER_SHARD = 1024, 64
HOUR, GET, PUT = 0.05, 4e-7, 5e-6
"""Prices in dollars, as examples: an hour of a worker, and requests to object storage."""


@dataclass(frozen=True)
class Model:
    """Seconds for a file, and the limits of a cluster.

    Attributes
    ----------
    wait, cpu
        Seconds for one file: waiting for the source, and CPU time.
    search
        Seconds for one file before the first task starts.
    scheduler
        Seconds of the scheduler for each task; tasks cannot start faster.
    """

    wait: float
    cpu: float
    search: float = 0.0
    scheduler: float = SCHEDULER_SECONDS

    def seconds(self, files: int, workers: int, cpus: float) -> float:
        """Return the wall time of a batch: the search, then the slowest of three."""
        rounds = -(-files // workers) * (self.wait + self.cpu)
        slowest = max(rounds, files * self.cpu / cpus, files * self.scheduler)
        return files * self.search + slowest


def slow_reads() -> Callable[[], None]:
    """Delay each read of a local file in this process; return the function that ends this."""
    from bfbridge.storage import source

    kind: Any = source._LocalFile
    plain_read, plain_into, fileno = kind.read_at, kind.read_into, kind.fileno

    def read_at(self: Any, offset: int, length: int) -> Any:
        time.sleep(LATENCY + length / RATE)
        return plain_read(self, offset, length)

    def read_into(self: Any, offset: int, memory: memoryview) -> int:
        time.sleep(LATENCY + len(memory) / RATE)
        return int(plain_into(self, offset, memory))

    def end() -> None:
        kind.read_at, kind.read_into, kind.fileno = plain_read, plain_into, fileno

    kind.read_at, kind.read_into = read_at, read_into
    # Without a descriptor, readers of TIFF read with these functions only.
    del kind.fileno
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
    import dask
    import numpy as np
    from distributed import Client, LocalCluster

    from bfbridge import imwrite
    from bfbridge.convert import convert

    folder = Path(tempfile.mkdtemp(prefix="bfbridge-scaling-"))
    pixels = np.random.default_rng(0).poisson(100, (2, SIDE, SIDE)).astype(np.uint16)
    runs = []
    dask.config.set(QUIET)
    try:
        imwrite(folder / "source.ome.tif", pixels, axes="CYX", compression="none", tile=TILE)
        for count in workers:
            inside = folder / f"in{count}"
            inside.mkdir()
            for number in range(count * FILES_EACH):
                os.link(folder / "source.ome.tif", inside / f"{number}.ome.tif")
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
                    "compression": "blosc-lz4",
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
                 "cpus": os.cpu_count() or 1,
                 "client": own, "machine": machine, "search": done.search_seconds,
                 "megabytes": done.pixel_bytes / 1e6}
            )  # fmt: skip
            for name in ("in", "warm", "out"):
                shutil.rmtree(folder / f"{name}{count}")
            print(runs[-1], flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return runs


def model_of(runs: list[dict[str, float]]) -> Model:
    """Return the model of the runs, the first of which has one worker."""
    first, last = runs[0], runs[-1]
    cpu = first["cpu"] / first["files"]
    each = (first["seconds"] - first["search"]) / first["files"]
    return Model(each - cpu, cpu, last["search"] / last["files"])


def table(runs: list[dict[str, float]]) -> str:
    """Return measured and predicted throughput, as Markdown."""
    model, cpus = model_of(runs), int(runs[0]["cpus"])
    base = runs[0]["files"] / runs[0]["seconds"]
    columns = (
        "workers", "files/s", "of linear", "search, s of all", "CPUs: workers",
        "client and scheduler", "whole machine", "CPU in use", "model, files/s",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    for run in runs:
        rate = run["files"] / run["seconds"]
        guess = run["files"] / model.seconds(int(run["files"]), int(run["workers"]), cpus)
        share = rate / base / run["workers"]
        lines.append(
            f"| {run['workers']:.0f} | {rate:.2f} | {share:.2f} | "
            f"{run['search']:.1f} of {run['seconds']:.1f} | "
            f"{run['cpu'] / run['seconds']:.2f} | {run['client'] / run['seconds']:.2f} | "
            f"{run['machine'] / run['seconds']:.2f} of {cpus} | "
            f"{run['machine'] / run['seconds'] / cpus:.0%} | {guess:.2f} |"
        )
    return "\n".join(lines)


def extrapolate(runs: list[dict[str, float]], terabytes: float, workers: int) -> str:
    """Return the figures of a large conversion, as Markdown.

    Each worker has a CPU. Requests are one for each tile of the sources and each object written.
    """
    each = runs[0]["megabytes"] / runs[0]["files"]
    model = model_of(runs)
    columns = (
        "size of a file", "tasks", "search, hours", "hours in all", "scheduler in use",
        "requests/s", "cost, chunks", "cost, shards", "limited by",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    total = terabytes * 1e12
    tiles, chunks = total / (TILE * TILE * 2), total / (CHUNK * CHUNK * 2) * 4 / 3
    for megabytes in (1, 10, 100, 1_000, 20_000):
        files = int(terabytes * 1e6 / megabytes)
        times = (model.wait * megabytes / each, model.cpu * megabytes / each)
        scaled = Model(*times, model.search)
        seconds = scaled.seconds(files, workers, workers)
        search = files * scaled.search
        busy = files * scaled.scheduler / (seconds - search)
        costs = [
            workers * seconds / 3600 * HOUR + tiles * GET + max(objects, files) * PUT
            for objects in (chunks, chunks / CHUNKS_PER_SHARD)
        ]
        lines.append(
            f"| {megabytes:,} MB | {files:,} | {search / 3600:,.1f} | {seconds / 3600:,.1f} | "
            f"{busy:.0%} | {(tiles + chunks) / (seconds - search):,.0f} | ${costs[0]:,.0f} | "
            f"${costs[1]:,.0f} | {_limit(search, busy, seconds)} |"
        )
    return "\n".join(lines)


def _limit(search: float, busy: float, seconds: float) -> str:
    if search > seconds / 2:
        return "search: use parts"
    return "scheduler" if busy > 0.99 else "workers"


def plot(runs: list[dict[str, float]]) -> str:
    """Return a graph of throughput against workers, as SVG."""
    model, cpus = model_of(runs), int(runs[0]["cpus"])
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


def documents(runs: list[dict[str, float]], terabytes: float, workers: int) -> dict[str, str]:
    """Return the graph and the tables of docs/performance.md, by their paths."""
    return {
        "docs/graphs/scaling.svg": plot(runs),
        "benchmarks/results/scaling.md": table(runs) + "\n",
        "benchmarks/results/scaling-model.md": extrapolate(runs, terabytes, workers) + "\n",
    }


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("command", choices=["measure", "model", "page"])
    parser.add_argument("--workers", type=int, nargs="+")
    parser.add_argument("--terabytes", type=float, default=100)
    parser.add_argument("--json", type=Path, default=Path("scaling.json"))
    given = parser.parse_args()
    if given.command == "measure":
        runs = measure(given.workers or [1, 2, 4, 8, 16])
        given.json.write_text(json.dumps(runs, indent=1) + "\n")
        print(table(runs))
        return
    runs = json.loads(given.json.read_text())
    workers = (given.workers or [1000])[-1]
    if given.command == "model":
        print(extrapolate(runs, given.terabytes, workers))
        return
    root = Path(__file__).parent.parent
    for path, text in documents(runs, given.terabytes, workers).items():
        (root / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
