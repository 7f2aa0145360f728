r"""Conversion by bfbridge, against its own floors and against peers.

    python benchmarks/bench_convert.py [--side 16384] [--repeats 3] [--only zarr,tiff,stack,...]
        [--peers FOLDER ...] [--data FOLDER]

Every measurement but those called "warm" is a cold process: the command as a user types it, imports
counted. Contenders take turns; medians and the highest peak memory are shown. Two lower bounds are
shown with each conversion: decoding the source alone, and encoding and writing the target alone,
each with all CPUs. A third bound is the sum of their CPU seconds, divided by
the number of CPUs.

Peers (ngff-zarr, bioio-conversion, eubi-bridge, ome-zarr, large-image-converter, pyvips-binary,
bfconvert) run where they are installed: on PATH, or in the environments whose bin folders are named
with --peers. --data is a folder with vendor files of which `java` converts the CZI and LIF ones.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from support.harness import cold, table

CLI = [sys.executable, "-c", "from bfbridge.cli import main; main()", "convert", "--quiet"]
DECODE = """
import sys
from functools import partial
from bfbridge import BioReader
from bfbridge.convert.plan.blocks import plan_grid
from bfbridge.engine.workers import available_cpus, run
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
from bfbridge.engine.workers import available_cpus, run
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
WARM = """
import json, os, statistics, sys, time
from functools import partial
import numpy as np
from bfbridge import BioReader, BioWriter, convert
from bfbridge.convert.plan.blocks import plan_grid
from bfbridge.engine.workers import available_cpus, run
source, folder, repeats = sys.argv[1], sys.argv[2], int(sys.argv[3])
target, own = f"{folder}/warm.ome.zarr", f"{folder}/own.ome.zarr"
with BioReader(source) as br:
    shape, dtype, chunks = tuple(br.sizes.values()), br.dtype, br.chunks
    pixels = br.read(keepdims=True)
grid = list(plan_grid(shape, chunks, (1024, 1024, 1, 1, 1), dtype.itemsize, 1, 64 << 20))
document = None
def read():
    global document
    with BioReader(source, cache=0) as br:
        document = br.metadata
        run((partial(br.__getitem__, key) for key in grid), available_cpus())
def write():
    y, x, z, c, t = shape
    with BioWriter(own, X=x, Y=y, Z=z, C=c, T=t, dtype=dtype, pyramid=True, overwrite=True,
                   metadata=document) as bw:
        run((partial(bw.__setitem__, key, pixels[key]) for key in grid), available_cpus())
def both():
    convert(source, target, series=0, overwrite=True)
found = {}
for turn in range(repeats + 1):
    for name, do in (("convert", both), ("read alone", read), ("write alone", write)):
        wall, cpu = time.perf_counter(), time.process_time()
        do()
        if turn:
            found.setdefault(name, []).append(
                (time.perf_counter() - wall, time.process_time() - cpu))
print(json.dumps(found))
"""
COPY = """
import json, shutil, sys, time
from pathlib import Path
from bfbridge import convert
source, target, repeats = sys.argv[1], sys.argv[2] + ".ome.tif", int(sys.argv[3])
found = {}
for turn in range(repeats + 1):
    for name, options in (("copied", {}),
                          ("encoded again", {"recompress": True, "compression": sys.argv[4]})):
        # To a new file: removing an old one takes as long as copying it.
        Path(target).unlink(missing_ok=True)
        wall, cpu = time.perf_counter(), time.process_time()
        convert(source, target, **options)
        if turn:
            found.setdefault(name, []).append(
                (time.perf_counter() - wall, time.process_time() - cpu))
print(json.dumps(found))
"""
VIPS = """
import sys, pyvips
image = pyvips.Image.new_from_file(sys.argv[1], access="sequential")
image.tiffsave(sys.argv[2], tile=True, tile_width=1024, tile_height=1024, pyramid=True,
               subifd=True, bigtiff=True, compression="deflate", predictor="horizontal")
"""
OME_ZARR = """
import shutil, sys, tifffile
from ome_zarr.writer import write_image
import zarr
shutil.rmtree(sys.argv[2], ignore_errors=True)
pixels = tifffile.imread(sys.argv[1])
axes = "tczyx"[-pixels.ndim:]
write_image(pixels, zarr.open_group(sys.argv[2], mode="w"), axes=axes)
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
    path.parent.mkdir(exist_ok=True)
    with BioWriter(path, X=x, Y=y, Z=z, C=c, T=t, dtype=np.uint16, **options) as bw:
        for number, index in enumerate(np.ndindex(t, c, z, -(-y // 1024), -(-x // 1024))):
            n, m, k, i, j = index
            top, left = i * 1024, j * 1024
            height, width = min(1024, y - top), min(1024, x - left)
            tile = np.roll(base, number * 37, axis=1)[:height, :width]
            bw[top : top + height, left : left + width, k, m, n] = tile
    return path


def make_slide(path: Path, side: int) -> Path:
    """Write a slide as scanners do: RGB in JPEG tiles of 240, and two lower levels."""
    from bfbridge import BioWriter

    grey = (cells(1200, 1200) >> 4).clip(0, 255).astype(np.uint8)
    tile = np.stack([grey, np.roll(grey, 40, 0), 255 - grey], -1)[:, :, None]
    with BioWriter(
        path, X=side, Y=side, C=3, samples_per_pixel=3, dtype=np.uint8, tile=240,
        compression="jpeg", pyramid=[4, 16],
    ) as bw:  # fmt: skip
        for top in range(0, side, 1200):
            for left in range(0, side, 1200):
                height, width = min(1200, side - top), min(1200, side - left)
                bw[top : top + height, left : left + width] = tile[:height, :width]
    return path


def python_with(module: str) -> str | None:
    """Return an interpreter on PATH that has a module."""
    for folder in os.environ["PATH"].split(os.pathsep):
        python = Path(folder) / "python"
        if python.is_file():
            done = subprocess.run(
                [python, "-c", f"import {module}"], capture_output=True, check=False
            )
            if done.returncode == 0:
                return str(python)
    return None


def peers(source: Path, target: Path, kind: str) -> dict[str, list[str]]:
    """Commands of the peers that are installed, for one conversion."""
    folder = target.parent
    if kind == "zarr":
        known = {
            "ngff-zarr": ["ngff-zarr", "-i", str(source), "-o", str(target)],
            "bioio-convert": [
                "bioio-convert",
                str(source),
                "--destination",
                str(folder / "bioio"),
                "--num-levels",
                "6",
            ],
            "eubi-bridge": ["eubi", "to_zarr", str(source), str(folder / "eubi")],
        }
        scripts = {"ome-zarr-py": ("ome_zarr", OME_ZARR)}
    else:
        known = {
            "large-image-converter": [
                "large_image_converter",
                "--overwrite",
                "--tile",
                "1024",
                "--compression",
                "deflate",
                "--predictor",
                "horizontal",
                str(source),
                str(target),
            ],
            "bfconvert": [
                "bfconvert",
                "-overwrite",
                "-tilex",
                "1024",
                "-tiley",
                "1024",
                "-compression",
                "zlib",
                "-pyramid-resolutions",
                "6",
                "-pyramid-scale",
                "2",
                str(source),
                str(target),
            ],
        }
        scripts = {"libvips": ("pyvips", VIPS)}
    found = {name: command for name, command in known.items() if shutil.which(command[0])}
    for name, (module, script) in scripts.items():
        python = python_with(module)
        if python is not None:
            found[name] = [python, "-c", script, str(source), str(target)]
    return found


def timed(commands: dict[str, list[str]], folder: Path) -> dict[str, tuple[list[float], float]]:
    """Measure each peer once, because peers are much slower; report those that fail."""
    found = {}
    for name, command in commands.items():
        # Some peers append to existing files, others refuse to replace them.
        for left in folder.glob("peer*"), folder.glob("bioio"), folder.glob("eubi"):
            for path in left:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            found |= cold({name: command}, 1)
        except RuntimeError as error:
            print(f"omitted: {name}: {str(error).strip().splitlines()[-1][:150]}")
    return found


def one(
    folder: Path, title: str, source: Path, shape: tuple[int, ...], kind: str, n: int, *more: str
) -> None:
    """Measure one conversion with its floors and peers, and print the table."""
    suffix = ".ome.zarr" if kind == "zarr" else ".ome.tif"
    np.save(folder / "tile.npy", cells(1024, 1024))
    sizes = ",".join(map(str, shape))
    target = folder / f"made{suffix}"
    commands = {
        "bfbridge": [*CLI, "--overwrite", *more, str(source), str(target)],
        "decode alone": [sys.executable, "-c", DECODE, str(source)],
        "encode, write alone": [
            sys.executable, "-c", ENCODE, str(folder / "tile.npy"), str(folder / f"own{suffix}"),
            sizes,
        ],
    }  # fmt: skip
    cpu: dict[str, list[float]] = {}
    measured = cold(commands, n, cpu=cpu)
    if source.exists():
        measured |= timed(peers(source, folder / f"peer{suffix}", kind), folder)
    start = cold({"start": [sys.executable, "-c", "from bfbridge import BioWriter"]}, n)["start"]
    floors = ("decode alone", "encode, write alone")
    both = sum(statistics.median(cpu[name]) for name in floors) - statistics.median(start[0])
    seconds = {name: took for name, (took, _) in measured.items()}
    seconds[f"CPU of both / {os.cpu_count()} CPUs"] = [both / (os.cpu_count() or 1)]
    peak = {name: f"{peak:,.0f}" for name, (_, peak) in measured.items()}
    table(title, seconds, "bfbridge", **{"peak MB": peak})


def copied(folder: Path, title: str, source: Path, n: int) -> None:
    """Measure copying of encoded tiles against decoding and encoding them, imports not counted."""
    compression = "jpeg" if "slide" in source.name else "deflate"
    done = subprocess.run(
        [sys.executable, "-c", COPY, str(source), str(folder / "copy"), str(n), compression],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    worked = {
        name: f"{statistics.median(cpu for _, cpu in runs):.2f}" for name, runs in found.items()
    }
    seconds = {name: [wall for wall, _ in runs] for name, runs in found.items()}
    table(f"warm: {title}", seconds, "copied", **{"CPU s": worked})


def tiffs(folder: Path, count: int, side: int) -> list[str]:
    """Write the files of a batch, and return what the batch is called with."""
    for i in range(count):
        make(folder / f"{i:03d}.ome.tif", (side, side, 1, 1, 1))
    return [str(folder)]


def waiting(count: int, planes: int) -> list[str]:
    """Return names of synthetic files, read through Java, of which every plane takes 0.1 s."""
    sizes = f"sizeX=512&sizeY=512&sizeZ={planes}&pixelType=uint16&sleepOpenBytes=100"
    return [f"{i}&{sizes}.fake" for i in range(count)]


def many(folder: Path, title: str, sources: list[str], n: int) -> None:
    """Measure a batch with one and with two processes, with all CPUs and with one thread each."""
    common = [*CLI, "--overwrite", "--suffix", ".ome.zarr", *sources, f"{folder / 'm'}/"]
    commands = {
        f"--jobs {jobs}{name}": [*common, "--jobs", str(jobs), *more]
        for name, jobs, more in (
            (", all CPUs", 1, []),
            (", all CPUs", 2, []),
            (", 1 thread", 1, ["--max-workers", "1"]),
        )
    }
    measured = cold(commands, n)
    seconds = {name: took for name, (took, _) in measured.items()}
    table(title, seconds, "--jobs 2, all CPUs")


def small(folder: Path, count: int, n: int) -> None:
    """Measure a batch of small files in one process: most of the time goes to their metadata."""
    sources = tiffs(folder / "small", count, 128)
    commands = {
        f"to {suffix}": [*CLI, "--overwrite", "--suffix", suffix, "--jobs", "1", *sources,
                         f"{folder / 's'}{suffix}/"]
        for suffix in (".ome.zarr", ".ome.tif")
    }  # fmt: skip
    worked: dict[str, list[float]] = {}
    measured = cold(commands, n, cpu=worked)
    seconds = {name: took for name, (took, _) in measured.items()}
    each = {name: f"{statistics.median(taken) / count * 1e3:.1f}" for name, taken in worked.items()}
    table(f"{count:,} files of 128², one job", seconds, "to .ome.zarr", **{"CPU ms/file": each})
    print("  to reach: 3 ms a file")


def warm(folder: Path, title: str, source: Path, n: int) -> None:
    """Measure conversion through Java in a process that has begun, against its two halves.

    Of small files most of the time goes to their metadata, which each half has its part of.
    """
    done = subprocess.run(
        [sys.executable, "-c", WARM, str(source), str(folder), str(n)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    seconds = {name: [wall for wall, _ in runs] for name, runs in found.items()}
    halves = ("read alone", "write alone")
    both = sum(statistics.median(cpu for _, cpu in found[name]) for name in halves)
    seconds[f"CPU of both / {os.cpu_count()} CPUs"] = [both / (os.cpu_count() or 1)]
    table(f"warm: {title}", seconds, "convert")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--only", default="zarr,tiff,stack,copy,slide,java,real,many,small,jobs,waiting"
    )
    parser.add_argument("--peers", type=Path, nargs="*", default=[])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data")
    asked = parser.parse_args()
    folders = [*map(str, asked.peers), os.environ["PATH"]]
    os.environ["PATH"] = os.pathsep.join(folders)
    side, n = asked.side, asked.repeats
    plane, stack = (side, side, 1, 1, 1), (1024, 1024, 20, 3, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fake = folder / f"f&sizeX={side}&sizeY={side}&pixelType=uint16.fake"
        chosen = asked.only.split(",")
        source = folder / "plane.ome.tif"
        if {"zarr", "tiff", "copy"} & set(chosen):
            make(source, plane)
        runs: dict[str, Callable[[], object]] = {
            "zarr": lambda: one(folder, f"{side}² to Zarr", source, plane, "zarr", n),
            "tiff": lambda: one(folder, f"{side}² to TIFF, tiles encoded again", source, plane,
                                "tiff", n, "--recompress", "--compression", "deflate"),
            "stack": lambda: one(folder, "T3 C3 Z20 to Zarr", make(folder / "stack.ome.tif", stack),
                                 stack, "zarr", n),
            "copy": lambda: (
                copied(folder, f"{side}² without levels", source, n),
                copied(folder, f"{side}² with levels",
                       make(folder / "levels.ome.tif", plane, pyramid=True), n)),
            "slide": lambda: copied(folder, f"JPEG slide of {side}²",
                                    make_slide(folder / "slide.ome.tif", side), n),
            "java": lambda: warm(folder, f"{side}² .fake to Zarr", fake, n),
            "real": lambda: [
                warm(folder, path.name, path, 3 * n)
                for path in sorted(asked.data.glob("*/*/*"))
                if path.suffix in (".czi", ".lif") and "_fails" not in path.parts],
            "many": lambda: many(folder, "200 files of 256²", tiffs(folder / "many", 200, 256), n),
            "small": lambda: small(folder, 2000, n),
            "jobs": lambda: many(folder, f"4 files of {side // 2}²",
                                 tiffs(folder / "jobs", 4, side // 2), n),
            "waiting": lambda: many(folder, "4 files that wait, 16 s each on one thread",
                                    waiting(4, 160), 1),
        }  # fmt: skip
        for kind in chosen:
            runs[kind]()


if __name__ == "__main__":
    main()
