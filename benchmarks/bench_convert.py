r"""Conversion by bfbridge, against its own floors and against peers.

    python benchmarks/bench_convert.py [--side 16384] [--repeats 3] [--only zarr,tiff,java]

Every measurement is a cold process: the command as a user types it, imports counted. Contenders
take turns; medians and the highest peak memory are shown. Two floors stand beside each conversion:
decoding the source alone, and encoding and writing the target alone, with as many threads.

Peers run where their command is on PATH (ngff-zarr, bioio-convert, eubi, bfconvert, vips); they
may live in environments of their own. The report's checksums are computed, as they are by default.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import cold, table

CLI = [sys.executable, "-c", "from bfbridge.cli import main; main()", "convert", "--quiet"]
DECODE = """
import sys
from functools import partial
from bfbridge import BioReader
from bfbridge.convert.blocks import plan_grid
from bfbridge.tiles import available_cpus, run
with BioReader(sys.argv[1], cache=0) as br:
    shape = tuple(br.sizes.values())
    grid = plan_grid(shape, br.chunks, (1024, 1024, 1, 1, 1), br.dtype.itemsize, 1, 64 << 20)
    run((partial(br.__getitem__, key) for key in grid), available_cpus())
"""
ENCODE = """
import sys
from functools import partial
import numpy as np
from bfbridge import BioWriter
from bfbridge.tiles import available_cpus, run
y, x, z, c, t = map(int, sys.argv[3].split(","))
tile = np.load(sys.argv[1])
with BioWriter(sys.argv[2], X=x, Y=y, Z=z, C=c, T=t, dtype=tile.dtype, pyramid=True,
               overwrite=True) as bw:
    keys = [(slice(i, min(i + 1024, y)), slice(j, min(j + 1024, x)), k, m, n)
            for n in range(t) for m in range(c) for k in range(z)
            for i in range(0, y, 1024) for j in range(0, x, 1024)]
    def put(key):
        a, b = key[0].stop - key[0].start, key[1].stop - key[1].start
        bw[key] = tile[:a, :b]
    run((partial(put, key) for key in keys), available_cpus())
"""


def cells(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return something like fluorescence: smooth blobs with Poisson noise, uint16."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    signal = np.full((height, width), 120.0)
    for _ in range(40):
        cy, cx, size = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(20, 90)
        signal += rng.uniform(200, 3000) * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * size**2))
    return rng.poisson(signal).astype(np.uint16)


def make(path: Path, shape: tuple[int, ...], **options: object) -> Path:
    """Write a source whose every tile is a shifted copy of the same cells."""
    from bfbridge import BioWriter

    base = cells(1024, 1024)
    y, x, z, c, t = shape
    with BioWriter(path, X=x, Y=y, Z=z, C=c, T=t, dtype=np.uint16, **options) as bw:
        for number, index in enumerate(np.ndindex(t, c, z, -(-y // 1024), -(-x // 1024))):
            n, m, k, i, j = index
            top, left = i * 1024, j * 1024
            height, width = min(1024, y - top), min(1024, x - left)
            tile = np.roll(base, number * 37, axis=1)[:height, :width]
            bw[top : top + height, left : left + width, k, m, n] = tile
    return path


def peers(source: Path, target: Path, kind: str) -> dict[str, list[str]]:
    """Commands of the peers that are installed, for one conversion."""
    known = {
        "zarr": {
            "ngff-zarr": ["ngff-zarr", "-i", str(source), "-o", str(target)],
            "bioio-convert": [
                "bioio-convert", str(source), "--destination", str(target.parent), "-n",
                target.name, "--overwrite",
            ],
            "eubi": ["eubi", "to_zarr", str(source), str(target.parent / "eubi")],
        },
        "tiff": {
            "vips": [
                "vips", "tiffsave", str(source), str(target), "--tile", "--tile-width=1024",
                "--tile-height=1024", "--pyramid", "--subifd", "--bigtiff",
                "--compression=deflate",
            ],
            "bfconvert": [
                "bfconvert", "-overwrite", "-tilex", "1024", "-tiley", "1024", "-compression",
                "zlib", "-pyramid-resolutions", "6", "-pyramid-scale", "2", str(source),
                str(target),
            ],
        },
    }  # fmt: skip
    return {
        name: command
        for name, command in known[kind].items()
        if shutil.which(command[0]) is not None
    }


def one(folder: Path, title: str, source: Path, shape: tuple[int, ...], kind: str, n: int) -> None:
    """Measure one conversion with its floors and peers, and print the table."""
    suffix = ".ome.zarr" if kind == "zarr" else ".ome.tif"
    np.save(folder / "tile.npy", cells(1024, 1024))
    sizes = ",".join(map(str, shape))
    target = folder / f"made{suffix}"
    commands = {
        "bfbridge": [*CLI, "--overwrite", str(source), str(target)],
        "decode alone": [sys.executable, "-c", DECODE, str(source)],
        "encode, write alone": [
            sys.executable, "-c", ENCODE, str(folder / "tile.npy"), str(folder / f"own{suffix}"),
            sizes,
        ],
    }  # fmt: skip
    if source.exists():
        commands |= peers(source, folder / f"peer{suffix}", kind)
    measured = cold(commands, n)
    table(
        title,
        {name: seconds for name, (seconds, _) in measured.items()},
        "bfbridge",
        **{"peak MB": {name: f"{peak:,.0f}" for name, (_, peak) in measured.items()}},
    )


def many(folder: Path, title: str, count: int, side: int, n: int) -> None:
    """Measure a batch with one and with two processes."""
    for i in range(count):
        (folder / title).mkdir(exist_ok=True)
        make(folder / title / f"{i:03d}.ome.tif", (side, side, 1, 1, 1))
    out = folder / "many"
    commands = {
        f"--jobs {jobs}": [
            *CLI, "--overwrite", "--jobs", str(jobs), "--max-workers", str(jobs),
            "--suffix", ".ome.zarr", str(folder / title), str(out),
        ]
        for jobs in (1, 2)
    }  # fmt: skip
    measured = cold(commands, n)
    table(title, {name: seconds for name, (seconds, _) in measured.items()}, "--jobs 2")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="zarr,tiff,stack,many,java")
    asked = parser.parse_args()
    side, n = asked.side, asked.repeats
    chosen = asked.only.split(",")
    plane, stack = (side, side, 1, 1, 1), (1024, 1024, 20, 3, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs: dict[str, Callable[[], None]] = {}
        if {"zarr", "tiff"} & set(chosen):
            source = make(folder / "plane.ome.tif", plane)
            runs["zarr"] = lambda: one(folder, f"{side}² to Zarr", source, plane, "zarr", n)
            runs["tiff"] = lambda: one(folder, f"{side}² to TIFF", source, plane, "tiff", n)
        if "stack" in chosen:
            deep = make(folder / "stack.ome.tif", stack)
            runs["stack"] = lambda: one(folder, "T3 C3 Z20 to Zarr", deep, stack, "zarr", n)
        fake = folder / f"f&sizeX={side}&sizeY={side}&pixelType=uint16.fake"
        runs["java"] = lambda: one(folder, f"{side}² .fake to Zarr", fake, plane, "zarr", n)
        runs["many"] = lambda: (
            many(folder, "200 files of 256²", 200, 256, n),
            many(folder, f"4 files of {side // 4}²", 4, side // 4, n),
        )[0]
        for kind in chosen:
            runs[kind]()


if __name__ == "__main__":
    main()
