"""Looking at images: pictures, virtual Zarr chunks, zarr-python over a virtual store, a server.

    python benchmarks/bench_look.py [--side 8192] [--repeats 5] [--only render chunks whole ...]
        [--peer-python PEERS/bin/python] [--large-image-python LARGE/bin/python]
        [--titiler-python TITILER/bin/python] [--folder FOLDER]

Needs bfbridge[all] and tifffile. `--peer-python` is an environment with bffile and zarr, whose
store is compared chunk by chunk; it gets the same Java and Bio-Formats jar.
`--large-image-python` is one with large-image, large-image-source-tiff and aiohttp,
`--titiler-python` one with titiler.core and uvicorn. Without these options they are omitted.

Contenders take turns; medians and ratios are shown. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support.harness import interleave, table
from support.look_server import bench_memory, bench_serve

__all__ = ["bench_memory", "bench_serve"]
SECTIONS = ("render", "chunks", "whole", "serve", "memory")
KINDS: dict[str, dict[str, Any]] = {
    "uncompressed": {},
    "deflate": {"compression": "zlib"},
    "zstd": {"compression": "zstd"},
}
CHUNK = 512
COUNT = 100


def structures(side: int) -> np.ndarray[Any, Any]:
    """Smooth structures with a camera's noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1024, 0:1024].astype(np.float32) / 97
    part = rng.poisson(400 + 300 * np.sin(x) * np.cos(y)).astype(np.uint16)
    times = -(-side // 1024)
    return np.tile(part, (times, times))[:side, :side]


def write_tiffs(folder: Path, side: int) -> None:
    import tifffile

    image = structures(side)
    for name, options in KINDS.items():
        path = folder / f"{name}.ome.tif"
        if not path.exists():
            tifffile.imwrite(path, image, tile=(256, 256), ome=True, bigtiff=True, **options)


def per_second(seconds: dict[str, list[float]], count: int) -> dict[str, str]:
    return {name: f"{count / sorted(s)[len(s) // 2]:.0f} /s" for name, s in seconds.items()}


# ---- pictures


def bench_render(folder: Path, options: argparse.Namespace) -> None:
    from bfbridge.rendering.compose import Layer, compose
    from bfbridge.rendering.encode import encode_picture

    planes = [structures(512 + i)[i:, i:] for i in range(4)]
    planes = [np.ascontiguousarray(plane[:512, :512]) for plane in planes]
    colors = ("#00ff00", "#ff00ff", "#00ffff", "#ffff00")
    layers = [Layer(100, 900, color, composite="additive") for color in colors]
    rgb = [(plane[:256, :256] >> 3).astype(np.uint8) for plane in planes[:3]]
    pure = [Layer(0, 255, color, composite="additive") for color in ("#f00", "#0f0", "#00f")]
    picture = compose(planes, layers)
    tile = compose(rgb, pure)
    runs: dict[str, Callable[[], object]] = {
        "compose 4 x uint16 512^2": lambda: compose(planes, layers),
        "compose one grey uint16 512^2": lambda: compose(planes[:1], [Layer(100, 900)]),
        "compose RGB 256^2": lambda: compose(rgb, pure),
        "JPEG of 512^2": lambda: encode_picture(picture, "jpeg"),
        "JPEG of 256^2": lambda: encode_picture(tile, "jpeg"),
        "PNG of 512^2, effort 1": lambda: encode_picture(picture, "png", 1),
        "WebP of 256^2": lambda: encode_picture(tile, "webp"),
    }
    seconds = interleave(runs, max(20, options.repeats))
    table("Pictures", seconds, "compose 4 x uint16 512^2", rate=per_second(seconds, 1))
    _render_slide(folder, options)


LARGE = """
import sys, time, random
import large_image
from large_image.constants import TILE_FORMAT_IMAGE
path, repeats = sys.argv[1:]
source = large_image.open(path, style={"icc": False, "bands": [
    {"band": 1, "palette": "#f00", "min": 0, "max": 255},
    {"band": 2, "palette": "#0f0", "min": 0, "max": 255},
    {"band": 3, "palette": "#00f", "min": 0, "max": 255}]}, encoding="JPEG", noCache=True)
places = random.Random(0).sample([(x, y) for x in range(16) for y in range(16)], 100)
for _ in range(int(repeats) + 1):
    large_image.cache_util.cachesClear()
    begun = time.perf_counter()
    for x, y in places:
        source.getTile(x, y, source.levels - 1)
    print("SECONDS", time.perf_counter() - begun, flush=True)
"""


def _render_slide(folder: Path, options: argparse.Namespace) -> None:
    """Tiles of a JPEG slide, rendered and encoded again."""
    import tifffile

    from bfbridge import BioReader
    from bfbridge.rendering.compose import Layer, compose
    from bfbridge.rendering.encode import encode_picture
    from bfbridge.virtual.pyramid import VirtualImage

    path = folder / "slide.tif"
    if not path.exists():
        part = (structures(4096) >> 2).astype(np.uint8)
        pixels = np.stack([part, part.T, part[::-1]], axis=2)
        tifffile.imwrite(path, pixels, tile=(256, 256), compression="jpeg", photometric="rgb")
    tiles = [(x, y) for x in range(16) for y in range(16)]
    places = random.Random(0).sample(tiles, COUNT)
    pure = [Layer(0, 255, color, composite="additive") for color in ("#f00", "#0f0", "#00f")]
    image = VirtualImage(BioReader(path, cache=0))

    def run() -> None:
        for x, y in places:
            start = (0, 0, 0, y * 256, x * 256)
            stop = (1, 3, 1, y * 256 + 256, x * 256 + 256)
            pixels = image.read(0, start, stop)[0, :, 0]
            encode_picture(compose(list(pixels), pure), "jpeg")

    seconds = interleave({"bfbridge, one thread": run}, options.repeats)
    if options.large_image_python:
        completed = subprocess.run(
            [options.large_image_python, "-c", LARGE, str(path), str(options.repeats)],
            capture_output=True, text=True, check=False, env=_without_path(),
        )  # fmt: skip
        lines = completed.stdout.splitlines()
        found = [float(line.split()[1]) for line in lines if "SECONDS" in line]
        if found:
            seconds["large_image, one thread"] = found[1:]
        else:
            print(f"  large_image is omitted: {completed.stderr.strip().splitlines()[-1:]}")
    ratios = table(
        f"{COUNT} rendered 256^2 tiles of a JPEG slide", seconds, "bfbridge, one thread",
        rate=per_second(seconds, COUNT),
    )  # fmt: skip
    if "large_image, one thread" in ratios:
        print(f"  {ratios['large_image, one thread']:.2f} x large_image (goal: 2)")


def _without_path() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


# ---- chunks


PEER = """
import asyncio, sys, time, random
path, jar, java, side, chunk, count, repeats = sys.argv[1:]
import jpype
jpype.startJVM(java, "-Xmx2g", classpath=[jar], convertStrings=False)
from bffile import BioFile
from zarr.core.buffer import default_buffer_prototype
file = BioFile(path).open()
chunk = int(chunk)
store = file[0].to_zarr_store(tile_size=(chunk, chunk))
order, n = random.Random(0), int(side) // chunk
prototype = default_buffer_prototype()
places = [(order.randrange(n), order.randrange(n)) for _ in range(int(count))]
async def run():
    for y, x in places:
        data = await store.get(f"c/0/0/0/{y}/{x}", prototype)
        if data is None:
            data = await store.get(f"c/{y}/{x}", prototype)
        assert data is not None and len(data) >= chunk * chunk * 2
for _ in range(int(repeats) + 1):
    begun = time.perf_counter()
    asyncio.run(run())
    print("SECONDS", time.perf_counter() - begun, flush=True)
import os
os._exit(0)
"""


def bench_chunks(folder: Path, options: argparse.Namespace) -> None:
    """Chunks of 512^2 uint16 at random, one caller: what a server adds is its own."""
    from bfbridge import BioReader

    write_tiffs(folder, options.side)
    sources: dict[str, tuple[Path | str, str | None]] = {
        name: (folder / f"{name}.ome.tif", None) for name in ("uncompressed", "deflate")
    }
    sources["through Java"] = (folder / "deflate.ome.tif", "bioformats")
    runs: dict[str, Callable[[], object]] = {}
    order, across = random.Random(0), options.side // CHUNK
    places = [(order.randrange(across), order.randrange(across)) for _ in range(COUNT)]
    for name, (path, backend) in sources.items():
        hierarchy = BioReader(path, backend=backend, cache=0).to_zarr(chunk=CHUNK).hierarchy

        def run(hierarchy: Any = hierarchy) -> None:
            for y, x in places:
                hierarchy.get(f"0/c/0/0/0/{y}/{x}")

        runs[name] = run
    seconds = interleave(runs, options.repeats)
    if options.peer_python:
        found = _bffile(folder / "deflate.ome.tif", options)
        if found:
            seconds["bffile, deflate"] = found
    ratios = table(
        f"{COUNT} virtual chunks of {CHUNK}^2", seconds, "through Java",
        rate=per_second(seconds, COUNT),
    )  # fmt: skip
    print("  to reach: uncompressed 800 /s, deflate 200 /s, through Java 100 /s; 5 x bffile")
    if "bffile, deflate" in ratios:
        native = ratios["bffile, deflate"] / ratios["deflate"]
        print(f"  bffile: {native:.1f} x natively, {ratios['bffile, deflate']:.1f} x through Java")


def _bffile(path: Path, options: argparse.Namespace) -> list[float]:
    from bfbridge_bioformats.jars.locate import find_jar
    from bfbridge_bioformats.runtime.java import find_java

    arguments = [str(path), str(find_jar().paths[0]), str(find_java().library), str(options.side)]
    arguments += [str(CHUNK), str(COUNT), str(options.repeats)]
    completed = subprocess.run(
        [options.peer_python, "-c", PEER, *arguments],
        capture_output=True, text=True, check=False, env=_without_path(),
    )  # fmt: skip
    found = [float(line.split()[1]) for line in completed.stdout.splitlines() if "SECONDS" in line]
    if not found:
        print(f"  bffile is omitted: {completed.stderr.strip().splitlines()[-1:]}")
    return found[1:]


# ---- whole images


def bench_whole(folder: Path, options: argparse.Namespace) -> None:
    """zarr-python over a virtual store against ``br[:]``, both with their own threads.

    The third run is zarr-python over the same chunks, decoded, in memory: the part of its time
    that no store can save.
    """
    import zarr

    from bfbridge import BioReader, BioWriter

    write_tiffs(folder, options.side)
    store = folder / "zarr.ome.zarr"
    if not store.exists():
        with BioWriter(store, image=structures(options.side)) as bw:
            bw[:] = structures(options.side)
    files = {name: folder / f"{name}.ome.tif" for name in KINDS} | {"OME-Zarr": store}
    for name, path in files.items():
        br = BioReader(path)
        virtual = br.to_zarr().root["0"]
        memory = zarr.create_array(
            zarr.storage.MemoryStore(), shape=virtual.shape, chunks=virtual.chunks,
            dtype=virtual.dtype, compressors=None, filters=None, fill_value=0,
        )  # fmt: skip
        memory[...] = virtual[...]
        runs: dict[str, Callable[[], object]] = {
            "br[:]": lambda br=br: br[:],  # type: ignore[misc]
            "zarr, virtual": lambda virtual=virtual: virtual[...],  # type: ignore[misc]
            "zarr, memory": lambda memory=memory: memory[...],  # type: ignore[misc]
        }
        seconds = interleave(runs, options.repeats, memory=2 * options.side**2)
        ratios = table(f"All of {options.side}^2 {name}", seconds, "br[:]")
        print(f"  {ratios['zarr, virtual']:.2f} x br[:] (goal: 1.3)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--peer-python")
    parser.add_argument("--large-image-python")
    parser.add_argument("--titiler-python")
    parser.add_argument("--folder", type=Path, help="Where files are made and kept.")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} CPUs")
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for section in options.only:
            globals()[f"bench_{section}"](folder, options)


if __name__ == "__main__":
    main()
