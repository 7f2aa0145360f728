r"""Zarr with small chunks: whole reads and whole writes of 4096 x 4096 uint16, plain and sharded.

    python -m venv peers
    peers/bin/python -m pip install ".[omezarr]" tensorstore zarrs
    peers/bin/python benchmarks/bench_small_chunks.py [--chunk 64] [--repeats 7]

One process per measurement, limited to two threads; contenders take turns. All read the same store,
written by bfbridge, and compare it with the image once; all write Blosc with Zstandard level 1 and
byte shuffle. Shards have 1024 x 1024 pixels.
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
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from support.harness import peak_mb, table

THREADS = 2
SIDE = 4096
SHARD = 1024
Read = Callable[[], Any]


def picture() -> np.ndarray:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    smooth = 400 + 300 * np.sin(x / 97) * np.cos(y / 71)
    return rng.poisson(smooth).astype(np.uint16)


# ---- reading: each returns a function that reads the whole image


def read_bfbridge(path: str) -> Read:
    from bfbridge import BioReader

    reader = BioReader(path, max_workers=THREADS, cache=0)
    return lambda: reader[:]


def read_tensorstore(path: str) -> Read:
    import tensorstore

    limits = {"data_copy_concurrency": {"limit": THREADS}, "cache_pool": {"total_bytes_limit": 0}}
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/0"}}
    array = tensorstore.open(spec, context=tensorstore.Context(limits)).result()
    return lambda: array.read().result()


def limit_zarr(rust: bool) -> None:
    import zarr

    zarr.config.set({"threading.max_workers": THREADS, "async.concurrency": 2 * THREADS})
    if rust:
        import zarrs  # noqa: F401 - registers itself

        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})


def read_zarr(path: str, rust: bool = False) -> Read:
    import zarr

    limit_zarr(rust)
    array = zarr.open_array(f"{path}/0", mode="r")
    return lambda: array[...]


# ---- writing: each returns a function that writes the image to a new store


def write_bfbridge(image: np.ndarray, out: str, chunk: int, shard: int | None) -> Read:
    import imagecodecs
    from ome_types import OME  # noqa: F401

    import bfbridge_omezarr  # noqa: F401
    from bfbridge import BioWriter

    imagecodecs.blosc_encode(b"", 1)

    def run() -> None:
        options: dict[str, Any] = {"chunks": (chunk, chunk)}
        if shard:
            options["shards"] = shard
        with BioWriter(
            out, max_workers=THREADS, X=SIDE, Y=SIDE, dtype=image.dtype, **options
        ) as writer:
            writer[:] = image

    return run


def write_tensorstore(image: np.ndarray, out: str, chunk: int, shard: int | None) -> Read:
    import tensorstore

    context = tensorstore.Context({"data_copy_concurrency": {"limit": THREADS}})
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    blosc = {"cname": "zstd", "clevel": 1, "shuffle": "shuffle", "typesize": 2}
    codecs: list[Any] = [little, {"name": "blosc", "configuration": blosc}]
    if shard:
        index = [little, {"name": "crc32c"}]
        inner = {"chunk_shape": [chunk, chunk], "codecs": codecs, "index_codecs": index}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    grid = {"name": "regular", "configuration": {"chunk_shape": [shard or chunk] * 2}}
    metadata = {
        "shape": list(image.shape), "data_type": "uint16", "chunk_grid": grid, "codecs": codecs,
    }  # fmt: skip
    store = {"driver": "file", "path": f"{out}/0"}
    spec = {"driver": "zarr3", "kvstore": store, "metadata": metadata}

    def run() -> None:
        tensorstore.open(spec, create=True, context=context).result().write(image).result()

    return run


def write_zarr(
    image: np.ndarray, out: str, chunk: int, shard: int | None, rust: bool = False
) -> Read:
    import zarr

    limit_zarr(rust)
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=2)

    def run() -> None:
        array = zarr.create_array(
            out, shape=image.shape, dtype=image.dtype, chunks=(chunk, chunk),
            shards=(shard, shard) if shard else None, compressors=codec, zarr_format=3,
        )  # fmt: skip
        array[...] = image

    return run


READERS: dict[str, Callable[..., Read]] = {
    "bfbridge": read_bfbridge,
    "tensorstore": read_tensorstore,
    "zarr-python": read_zarr,
    "zarrs": lambda path: read_zarr(path, rust=True),
}
WRITERS: dict[str, Callable[..., Read]] = {
    "bfbridge": write_bfbridge,
    "tensorstore": write_tensorstore,
    "zarr-python": write_zarr,
    "zarrs": lambda *args: write_zarr(*args, rust=True),
}


def child(job: str, name: str, folder: str, chunk: int, shard: int | None) -> dict[str, float]:
    """Return wall and processor seconds of one warm run."""
    image = np.load(f"{folder}/image.npy")
    if job == "read":
        run = READERS[name](f"{folder}/{chunk}-{shard}.ome.zarr")
        if not np.array_equal(np.squeeze(run()), image):
            raise ValueError(f"{name} returned other pixels")
    else:
        out = f"{folder}/{name}-{os.getpid()}.ome.zarr"
        run = WRITERS[name](image, out, chunk, shard)
        image.copy()
    used, begun = os.times(), time.perf_counter()
    run()
    seconds, now = time.perf_counter() - begun, os.times()
    if job == "write":
        shutil.rmtree(out)
    cpu = now.user + now.system - used.user - used.system
    return {"wall": seconds, "cpu": cpu, "peak_mb": peak_mb()}


def measure(folder: str, job: str, chunk: int, shard: int | None, repeats: int) -> None:
    """Print the table of one job."""
    names = list(READERS if job == "read" else WRITERS)
    wall: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    peak: dict[str, str] = {}
    for _ in range(repeats):
        for name in list(names):
            command = [sys.executable, __file__, "--child", job, name, folder, str(chunk)]
            command.append(str(shard or 0))
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                names.remove(name)
                print(f"  {name}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            wall.setdefault(name, []).append(found["wall"])
            cpu.setdefault(name, []).append(found["cpu"])
            peak[name] = f"{found['peak_mb']:.0f}"
    title = f"{job} {SIDE}^2 uint16 in {chunk}^2 chunks" + (f", {shard}^2 shards" if shard else "")
    used = {name: f"{statistics.median(values) * 1e3:.0f}" for name, values in cpu.items()}
    table(title, wall, "bfbridge", cpu_ms=used, peak_mb=peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunk", type=int, nargs="*", default=[64, 256])
    parser.add_argument("--jobs", nargs="*", default=["read", "write"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        job, name, folder, chunk, shard = args.child
        print(json.dumps(child(job, name, folder, int(chunk), int(shard) or None)))
        return
    with tempfile.TemporaryDirectory() as folder:
        image = picture()
        np.save(f"{folder}/image.npy", image)
        for chunk in args.chunk:
            for shard in (None, SHARD):
                out = f"{folder}/{chunk}-{shard}.ome.zarr"
                write_bfbridge(image, out, chunk, shard)()
                for job in args.jobs:
                    measure(folder, job, chunk, shard, args.repeats)


if __name__ == "__main__":
    main()
