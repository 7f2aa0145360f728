"""Conversions on a Dask cluster whose workers are killed: the same pixels, and nothing left."""

from __future__ import annotations

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
    regions.LEVEL_PIXELS = 1 << 20
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


def files(folder: Path) -> list[str]:
    """Return the names of all files, except reports."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path.relative_to(folder).as_posix() for path in paths if "report" not in path.name]


def assert_same_pixels(one: Path, other: Path) -> None:
    """Compare all levels of two images."""
    with BioReader(one) as first, BioReader(other) as second:
        assert [a.shape for a in first.levels] == [b.shape for b in second.levels]
        for a, b in zip(first.levels, second.levels, strict=True):
            np.testing.assert_array_equal(a[:], b[:])


@pytest.mark.slow
def test_one_image_has_the_same_pixels_when_workers_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pixels = np.random.default_rng(3).integers(0, 60000, (2, 1, 1300, 1500), np.uint16)
    imwrite(tmp_path / "big.ome.tif", pixels, axes="CZYX")
    options = {"shards": 512, "chunks": 256, "version": "0.5"}
    out, calm = tmp_path / "out", tmp_path / "calm.ome.zarr"
    convert(tmp_path / "big.ome.tif", calm, **options)
    shown = run(tmp_path, tmp_path / "big.ome.tif", out / "b.ome.zarr", 0.2, verify=True, **options)
    assert shown == "['done'] True\n"
    assert_same_pixels(out / "b.ome.zarr", calm)
    assert files(out / "b.ome.zarr") == files(calm)
    assert [path.name for path in out.iterdir()] == ["b.ome.zarr"]


@pytest.mark.slow
def test_a_batch_has_the_same_pixels_when_workers_are_killed(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 60000, (2, 300, 400), np.uint16)
        imwrite(tmp_path / f"in/{number:02}.ome.tif", pixels, axes="CYX")
    for suffix in (".ome.zarr", ".ome.tif"):
        alone, out = tmp_path / f"alone{suffix}", tmp_path / f"out{suffix}"
        convert(tmp_path / "in", alone, suffix=suffix)
        shown = run(tmp_path, tmp_path / "in", out, 0.2, suffix=suffix, verify=True)
        assert shown.startswith(str(["done"] * 6))
        assert files(out) == files(alone)
        for number in range(6):
            assert_same_pixels(out / f"{number:02}{suffix}", alone / f"{number:02}{suffix}")
