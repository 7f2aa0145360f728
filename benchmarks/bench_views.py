r"""Views: dask chunks, random patches and many scenes, against peers.

    python benchmarks/bench_views.py [--side 16384] [--peers PYTHON] [--aics PYTHON] [--czi FILE]

`--peers` is the interpreter of an environment with bioio, bioio-ome-tiff, pylibCZIrw, tifffile and
zarr; `--aics` is the interpreter of one with aicsimageio (and numcodecs below 0.16). Without them
only bfbridge is measured. Each side runs warm in its own process, and the sides alternate; medians
are shown. Each run reads patches at other positions. The readers of CAREamics are represented by
the calls that they make: a read of a CziReader region, and a slice of a zarr array.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from support.harness import table

COMMON = """
import random, statistics, sys, time
path, repeats = sys.argv[1], int(sys.argv[2])
def timed(run):
    run()
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run()
        found.append(time.perf_counter() - begun)
    print(statistics.median(found))
def each(patches):
    for _ in patches:  # used and dropped, as a loader does: else new memory is what takes the time
        pass
rng = random.Random(0)
def places(height, width, count=200, edge=256):
    return [(rng.randrange(max(1, height - edge)), rng.randrange(max(1, width - edge)))
            for _ in range(count)]
"""
OUR_DASK = """
from bfbridge import BioReader
array = BioReader(path).to_dask()
"""
BIOIO_DASK = """
from bioio import BioImage
import bioio_ome_tiff
array = BioImage(path, reader=bioio_ome_tiff.Reader).dask_data
"""
AICS_DASK = """
from aicsimageio import AICSImage
array = AICSImage(path).dask_data
"""
CHUNK = "timed(lambda: array[0, 0, 0, 2048:3072, 5120:6144].compute())"
WHOLE = "timed(lambda: array.compute())"
OUR_WHOLE = """
from bfbridge import BioReader
br = BioReader(path)
timed(lambda: br[:])
"""
OUR_PATCHES = """
from bfbridge.patches import ImageStack
stack = ImageStack(path, max_workers=2)
size = stack.data_shape[-2:]
timed(lambda: each(stack.extract_patch(0, None, spot, (256, 256)) for spot in places(*size)))
"""
CZI_PATCHES = """
from pylibCZIrw.czi import CziReader
czi = CziReader(path)
box = czi.total_bounding_rectangle_no_pyramid
channels = range(czi.total_bounding_box_no_pyramid["C"][1])
timed(lambda: each(czi.read(roi=(box.x + x, box.y + y, 256, 256), plane={"C": c})
                   .astype("float32") for y, x in places(box.h, box.w) for c in channels))
"""
ZARR_PATCHES = """
import zarr
array = zarr.open(path + "/0", mode="r")
lead = (0,) * (array.ndim - 3)
timed(lambda: each(array[(*lead, slice(None), slice(y, y + 256), slice(x, x + 256))]
                   for y, x in places(*array.shape[-2:])))
"""
TIFF_PATCHES = """
import tifffile, zarr
array = zarr.open(tifffile.TiffFile(path).aszarr(), mode="r")
timed(lambda: each(array[y : y + 256, x : x + 256] for y, x in places(*array.shape[-2:])))
"""
OUR_START = """
from bfbridge.patches import CACHE_BYTES, ImageStack
def run():
    stack = ImageStack(path, max_workers=2, cache=CACHE_BYTES)
    each(stack.extract_patch(0, None, spot, (256, 256)) for spot in places(side, side))
timed(run)
"""
CAREAMICS_START = """
import numpy, tifffile
def run():
    array = tifffile.imread(path).astype("float32")
    each(array[y : y + 256, x : x + 256].copy() for y, x in places(side, side))
timed(run)
"""
OUR_SCENES = """
from bfbridge import BioReader
def run():
    with BioReader(path) as br:
        return [(view.name, view.shape) for view in br.series]
timed(run)
"""
SET_ID = """
import bfbridge, jpype
bfbridge.start()
loci = jpype.JPackage("loci")
service = loci.common.services.ServiceFactory().getInstance(
    jpype.JClass("loci.formats.services.OMEXMLService"))
def run():
    reader = loci.formats.ImageReader()
    reader.setMetadataStore(service.createOMEXMLMetadata())
    reader.setId(path)
    reader.close()
timed(run)
"""


def measure(
    title: str,
    contenders: dict[str, tuple[str, str]],
    path: Path | str,
    repeats: int,
    turns: int = 3,
) -> None:
    """Run scripts in turn, each in a separate process, and show their medians."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(turns):
        for name, (python, code) in contenders.items():
            done = subprocess.run(
                [python, "-c", COMMON + code, str(path), str(repeats)],
                capture_output=True,
                check=False,
                text=True,
                env=os.environ if python == sys.executable else {},
            )
            if done.returncode:
                print(f"  {name} failed: {done.stderr.strip().splitlines()[-1:]}")
                continue
            seconds[name].append(float(done.stdout.split()[-1]))
    seconds = {name: found for name, found in seconds.items() if found}
    table(title, seconds, next(iter(seconds)))


def make_tiff(path: Path, side: int) -> Path:
    """Write a plane of smooth signal with noise, tiles of 512, zlib."""
    import tifffile

    rng = np.random.default_rng(0)

    def tiles() -> object:
        for _ in range((side // 512) ** 2):
            level = rng.uniform(200, 900)
            yield rng.normal(level, level**0.5, (512, 512)).clip(0).astype(np.uint16)

    tifffile.imwrite(
        path, tiles(), shape=(side, side), dtype=np.uint16, tile=(512, 512), compression="zlib",
        compressionargs={"level": 1}, predictor=True, metadata={"axes": "YX"}, ome=True,
    )  # fmt: skip
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--peers", default=None)
    parser.add_argument("--aics", default=None)
    parser.add_argument("--czi", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="dask,patches,scenes")
    given = parser.parse_args()
    us, only = sys.executable, given.only.split(",")
    with tempfile.TemporaryDirectory() as folder:
        tiff = Path(folder) / "plane.ome.tif"
        if {"dask", "patches"} & set(only):
            make_tiff(tiff, given.side)
        if "dask" in only:
            chunk = {"bfbridge": (us, OUR_DASK + CHUNK)}
            whole = {"br[:]": (us, OUR_WHOLE), "bfbridge": (us, OUR_DASK + WHOLE)}
            theirs = [("bioio", given.peers, BIOIO_DASK), ("aicsimageio", given.aics, AICS_DASK)]
            for name, python, opened in theirs:
                if python:
                    chunk[name] = (python, opened + CHUNK)
                    whole[name] = (python, opened + WHOLE)
            measure(f"dask: one 1024 x 1024 chunk of {given.side} x {given.side}", chunk, tiff, 3)
            measure("dask: the whole plane", whole, tiff, given.repeats)
        if "patches" in only:
            patches(Path(folder), tiff, given.czi, given.peers, given.repeats, given.side)
        if "scenes" in only:
            fake = Path(folder) / "many&series=1000&sizeX=64&sizeY=48.fake"
            contenders = {"setId": (us, SET_ID), "bfbridge": (us, OUR_SCENES)}
            measure("names and shapes of 1000 scenes", contenders, fake, given.repeats)


def patches(
    folder: Path, tiff: Path, czi: str | None, peers: str | None, repeats: int, side: int
) -> None:
    """Random patches of 256 x 256 from three formats."""
    us = sys.executable
    store = folder / "plane.ome.zarr"
    code = "import sys, bfbridge; bfbridge.convert(sys.argv[1], sys.argv[2], pyramid=False)"
    subprocess.run([us, "-c", code, str(tiff), str(store)], check=True)
    for title, path, theirs in [
        ("OME-TIFF", tiff, ("tifffile aszarr", TIFF_PATCHES)),
        ("OME-Zarr", store, ("zarr", ZARR_PATCHES)),
        *([("CZI", Path(czi), ("pylibCZIrw", CZI_PATCHES))] if czi else []),
    ]:
        contenders = {"bfbridge": (us, OUR_PATCHES)}
        if peers:
            contenders[theirs[0]] = (peers, theirs[1])
        measure(f"200 random patches of 256 x 256, {title}", contenders, path, repeats)
    # CAREamics reads a TIFF whole, as float32, before its first patch.
    size = f"side = {side}"
    contenders = {"bfbridge": (us, size + OUR_START)}
    if peers:
        contenders["whole file first"] = (peers, size + CAREAMICS_START)
    measure("200 random patches of 256 x 256, OME-TIFF, with opening", contenders, tiff, repeats)


if __name__ == "__main__":
    main()
