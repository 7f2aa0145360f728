r"""Images made tile by tile, and tiles of a raster in another projection, against large_image.

    python benchmarks/bench_sink.py [--tiles 1000] [--repeats 3] [--peer-python PEER/bin/python]
        [--only sink|map] [--compression gzip|blosc-lz4|default]

Needs bfbridge[omezarr,geo]. The peer is a Python with large-image, large-image-source-zarr and
large-image-source-rasterio. Each run is a process of its own, so that its peak of memory is that of
the task; contenders take turns, and medians are shown.

The sink adds tiles of 512 x 512 RGB, stained tissue in appearance, row by row, and writes an image
with all levels. Both contenders compress with deflate, level 1 (zarr-python's default compressor is
replaced in the peer's process); both with Blosc and LZ4, level 5, which is the peer's default; and
bfbridge with its own default, Blosc and Zstandard, level 1. The peer writes chunks of 512 x 512 in
one thread and reduces levels with Lanczos, which are its defaults; bfbridge reduces by the mean.
The warped tiles are 256 x 256 of Web Mercator, from a GeoTIFF of 4000 x 4000 with overviews.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

MAKE = """
import json, resource, sys, time
import numpy as np
rng = np.random.default_rng(0)
y, x = np.mgrid[0:1024, 0:1024] / 40
base = 200 + 30 * np.sin(x)[..., None] * np.cos(y)[..., None] * [1, 1.4, 0.7]
base = (base + rng.normal(0, 4, (1024, 1024, 3))).clip(0, 255).astype(np.uint8)
count, out = int(sys.argv[1]), sys.argv[2]
across = max(1, int(count ** 0.5))
def tiles():
    for n in range(count):
        a, b = (n * 37) % 512, (n * 91) % 512
        yield np.ascontiguousarray(base[a:a + 512, b:b + 512]), n % across * 512, n // across * 512
start = time.perf_counter()
"""
OURS = """
from bfbridge import BioWriter
with BioWriter(out + "/a.ome.zarr", grow=True, pyramid=True, compression={compression!r}) as bw:
    for tile, x, y in tiles():
        bw.add_tile(tile, x=x, y=y)
"""
THEIRS = """
import large_image, numcodecs, zarr
zarr.storage.default_compressor = {compressor}
sink = large_image.new()
for tile, x, y in tiles():
    sink.addTile(tile, x, y)
sink.write(out + "/a.zarr")
"""
SINKS = {
    "gzip": (("gzip", 1), "numcodecs.GZip(1)"),
    "blosc-lz4": (("blosc-lz4", 5), "numcodecs.Blosc('lz4', 5, 1)"),
    "default": ("blosc-zstd", None),
}
END = """
print(json.dumps([time.perf_counter() - start,
                  resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
RASTER = """
import numpy as np, rasterio, sys
from rasterio.enums import Resampling
y, x = np.mgrid[0:4000, 0:4000] / 90
pixels = (128 + 100 * np.sin(x) * np.cos(y)).astype(np.uint8)
grid = rasterio.Affine(10, 0, 5e5, 0, -10, 5.8e6)
with rasterio.open(sys.argv[1], "w", driver="GTiff", width=4000, height=4000, count=3,
                   dtype="uint8", crs="EPSG:32633", transform=grid, tiled=True, blockxsize=256,
                   blockysize=256, compress="deflate", photometric="RGB") as made:
    for band in (1, 2, 3):
        made.write(np.roll(pixels, 50 * band, 0), band)
    made.build_overviews([2, 4, 8], Resampling.average)
"""
MAP = """
import json, sys, time
HALF = 20037508.342789244
ZOOM = 13
WIDTH = 2 * HALF / 2**ZOOM
def inner(bounds):
    west, south, east, north = bounds
    return [(c, r) for r in range(int((HALF - north) // WIDTH) + 1, int((HALF - south) // WIDTH))
            for c in range(int((west + HALF) // WIDTH) + 1, int((east + HALF) // WIDTH))]
"""
OUR_MAP = """
from bfbridge import BioReader
br = BioReader(sys.argv[1], backend="geo")
def tile(c, r):
    box = (c * WIDTH - HALF, HALF - (r + 1) * WIDTH, (c + 1) * WIDTH - HALF, HALF - r * WIDTH)
    return br.warped(box, (256, 256))[0]
places = inner(br.bounds("EPSG:3857"))
"""
THEIR_MAP = """
import large_image_source_rasterio as source
slide = source.open(sys.argv[1], projection="EPSG:3857")
def tile(c, r):
    return slide.getTile(c, r, ZOOM, numpyAllowed="always", noCache=True)
bounds = slide.getBounds("EPSG:3857")
places = inner([bounds[k] for k in ("xmin", "ymin", "xmax", "ymax")])
"""
MAP_END = """
tile(*places[0])
start = time.perf_counter()
total = sum(int(tile(*place)[..., :3].astype("int64").sum()) for place in places)
print(json.dumps([(time.perf_counter() - start) / len(places) * 1000, total]))
"""


def run(python: str, code: str, *arguments: str) -> list[float]:
    environment = {
        k: v for k, v in os.environ.items() if python == sys.executable or k != "PYTHONPATH"
    }
    done = subprocess.run(
        [python, "-c", code, *arguments], check=True, capture_output=True, text=True,
        env=environment,
    )  # fmt: skip
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_sinks(sinks: dict[str, tuple[str, str]], tiles: int, repeats: int) -> None:
    found: dict[str, list[list[float]]] = {name: [] for name in sinks}
    for _ in range(repeats):
        for name, (python, code) in sinks.items():
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(run(python, MAKE + code + END, str(tiles), folder))
    print(f"{tiles} tiles added and written: median seconds, MiB at most")
    for name, runs in found.items():
        seconds, mebibytes = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"  {name:24}{seconds:10.1f}{mebibytes:10.0f}")


def measure_maps(maps: dict[str, tuple[str, str]], repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raster = str(Path(folder) / "raster.tif")
        run_raster = [sys.executable, "-c", RASTER, raster]
        subprocess.run(run_raster, check=True)
        times: dict[str, list[list[float]]] = {name: [] for name in maps}
        for _ in range(repeats):
            for name, (python, code) in maps.items():
                times[name].append(run(python, MAP + code + MAP_END, raster))
    if len({runs[0][1] for runs in times.values()}) > 1:
        raise SystemExit("the contenders return different pixels")
    print("warped tiles of 256 x 256: median milliseconds of each")
    for name, runs in times.items():
        print(f"  {name:24}{statistics.median(run[0] for run in runs):10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tiles", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python")
    parser.add_argument("--only", choices=("sink", "map"))
    parser.add_argument("--compression", choices=SINKS, action="append")
    given = parser.parse_args()
    sinks = {}
    for name in given.compression or SINKS:
        compression, compressor = SINKS[name]
        sinks[f"bfbridge, {name}"] = sys.executable, OURS.format(compression=compression)
        if given.peer_python and compressor:
            theirs = THEIRS.format(compressor=compressor)
            sinks[f"large_image, {name}"] = given.peer_python, theirs
    maps = {"bfbridge": (sys.executable, OUR_MAP)}
    if given.peer_python:
        maps["large_image"] = (given.peer_python, THEIR_MAP)
    if given.only != "map":
        measure_sinks(sinks, given.tiles, given.repeats)
    if given.only != "sink":
        measure_maps(maps, given.repeats)


if __name__ == "__main__":
    main()
