"""Conversions on a Dask cluster whose workers are killed: the same bytes, and nothing left."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, convert, imwrite

CHAOS = """
import os, random, signal, sys
from pathlib import Path
import dask
from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import WorkerPlugin
import bfbridge.convert.execute.levels as levels
import bfbridge.convert.execute.regions as regions
from bfbridge.convert import Watcher, convert

class Chaos(WorkerPlugin):
    '''Kills its worker when one of five tasks starts, or a moment later.'''
    def __init__(self, seed, share):
        self.seed, self.share = seed, share
    def setup(self, worker):
        self.random = random.Random(f"{self.seed} {os.getpid()}")
    def transition(self, key, start, finish, **more):
        if finish == "executing" and self.random.random() < self.share:
            import threading, time
            delay = self.random.choice([0, 0.02, 0.1])
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

class Seen(Watcher):
    moves = 0
    def moved(self, number, done, total):
        Seen.moves += 1

if __name__ == "__main__":
    regions.REGION_BYTES = 2 << 20
    levels.LEVEL_PIXELS = 1 << 20
    source, target, share, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    options = eval(sys.argv[5])
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, silence_logs=50,
                      dashboard_address=None) as cluster, Client(cluster) as client:
        if share:
            client.register_plugin(Chaos(seed, share))
        done = convert(source, target, client=client, watcher=Seen(), **options)
        print([record.status for record in done.files], Seen.moves > 0)
"""


def run(tmp_path: Path, source: Path, target: Path, share: float, **options: Any) -> str:
    """Convert on two workers, which are killed during this share of their tasks."""
    script = tmp_path / "chaos.py"
    script.write_text(CHAOS)
    done = subprocess.run(
        [sys.executable, str(script), str(source), str(target), str(share), "7", repr(options)],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files by their names, except those of reports.

    Each OME-TIFF file has a UUID of its own, as the OME data model requires; it is left out.
    """
    paths = [path for path in folder.rglob("*") if path.is_file() and "report" not in path.name]
    return {
        path.relative_to(folder).as_posix(): re.sub(rb"urn:uuid:[0-9a-f-]{36}", b"", data)
        if (data := path.read_bytes())[:2] == b"II"
        else data
        for path in paths
    }


def assert_same_bytes(one: Path, other: Path) -> None:
    """Compare all files of two folders."""
    first, second = contents(one), contents(other)
    assert sorted(first) == sorted(second)
    assert [name for name, data in first.items() if data != second[name]] == []


def assert_same_pixels(one: Path, other: Path) -> None:
    """Compare all levels of two images."""
    with BioReader(one) as first, BioReader(other) as second:
        assert [a.shape for a in first.levels] == [b.shape for b in second.levels]
        for a, b in zip(first.levels, second.levels, strict=True):
            np.testing.assert_array_equal(a[:], b[:])


@pytest.mark.slow
@pytest.mark.parametrize("layout", [{"chunks": 256}, {"shards": 512, "chunks": 256}], ids=str)
def test_one_image_has_the_same_bytes_when_workers_are_killed(
    tmp_path: Path, layout: dict[str, int]
) -> None:
    pytest.importorskip("distributed")
    pixels = np.random.default_rng(3).integers(0, 60000, (2, 1, 1300, 1500), np.uint16)
    source = tmp_path / "big.ome.tif"
    imwrite(source, pixels, axes="CZYX")
    out, alone = tmp_path / "out", tmp_path / "alone.ome.zarr"
    for name, share in (("calm", 0.0), ("killed", 0.2)):
        shown = run(
            tmp_path, source, out / f"{name}.ome.zarr", share, verify=True, version="0.5", **layout
        )
        assert shown == "['done'] True\n"
    assert sorted(path.name for path in out.iterdir()) == ["calm.ome.zarr", "killed.ome.zarr"]
    assert_same_bytes(out / "killed.ome.zarr", out / "calm.ome.zarr")
    convert(source, alone, version="0.5", **layout)
    assert_same_pixels(out / "killed.ome.zarr", alone)
    if "shards" not in layout:
        # The order of chunks in a shard depends on the threads that write it.
        assert_same_bytes(out / "killed.ome.zarr", alone)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_a_batch_has_the_same_bytes_when_workers_are_killed(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("distributed")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 60000, (2, 300, 400), np.uint16)
        imwrite(tmp_path / f"in/{number:02}.ome.tif", pixels, axes="CYX")
    alone, out = tmp_path / "alone", tmp_path / "out"
    # With one thread for each file, tiles of a TIFF are written in order.
    convert(tmp_path / "in", alone, suffix=suffix, max_workers=1)
    shown = run(tmp_path, tmp_path / "in", out, 0.2, suffix=suffix, verify=True, max_workers=1)
    # A file is kept if its worker was lost between the end of the file and that of the task.
    assert set(eval(shown.removesuffix(" True\n"))) <= {"done", "kept"}
    assert_same_bytes(out, alone)


RESTARTED = """
import subprocess, sys
from pathlib import Path
from distributed import Client
from bfbridge.convert import Watcher, convert
from bfbridge.errors import WriteFailed

def start(file):
    Path(file).unlink(missing_ok=True)
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--scheduler-file", file,
               "--port", "0", "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", file,
              "--nthreads", "1", "--no-dashboard", "--death-timeout", "60"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [subprocess.Popen(c, **quiet) for c in (command, worker)]

def end(processes):
    for process in processes:
        process.kill()
        process.wait()

class Killing(Watcher):
    def __init__(self, scheduler):
        self.scheduler, self.count = scheduler, 0
    def ended(self, number, record):
        self.count += 1
        if self.count == 2:
            self.scheduler.kill()

if __name__ == "__main__":
    source, target, file = sys.argv[1:]
    options = {"suffix": ".ome.zarr", "max_workers": 1, "verify": True}
    processes = start(file)
    try:
        client = Client(scheduler_file=file, timeout=60)
        try:
            convert(source, target, client=client, watcher=Killing(processes[0]), **options)
        except WriteFailed as error:
            print("--resume" in str(error))
        end(processes)
        processes = start(file)
        with Client(scheduler_file=file, timeout=60) as again:
            done = convert(source, target, client=again, resume=True, **options)
            print(sorted({record.status for record in done.files}))
    finally:
        end(processes)
"""


@pytest.mark.slow
def test_a_batch_resumes_with_a_new_scheduler(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    for number in range(24):
        pixels = np.random.default_rng(number).integers(0, 60000, (2, 300, 400), np.uint16)
        imwrite(tmp_path / f"in/{number:02}.ome.tif", pixels, axes="CYX")
    script = tmp_path / "restarted.py"
    script.write_text(RESTARTED)
    done = subprocess.run(
        [sys.executable, str(script), "in", "out", str(tmp_path / "scheduler.json")],
        capture_output=True, text=True, timeout=250, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == "True\n['done', 'kept']\n"
    convert(tmp_path / "in", tmp_path / "alone", suffix=".ome.zarr", max_workers=1)
    assert_same_bytes(tmp_path / "out", tmp_path / "alone")
