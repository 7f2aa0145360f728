r"""OME-Zarr written and read by bfbridge and its peers: 16384 x 16384 uint16, Blosc-Zstandard.

    python -m venv peers
    peers/bin/python -m pip install ".[omezarr,remote]" tensorstore zarrs ome-zarr ngff-zarr \
        dask-image bfio bioio-ome-zarr "moto[s3]" flask flask-cors
    peers/bin/python benchmarks/bench_omezarr.py [--side 16384] [--repeats 5] [--only write]

Each measurement runs in a separate process, limited to two threads; imports and the generation of
the image are not counted. Contenders take turns; medians and highest peak memory are shown. Peers
that are not installed are omitted. All write chunks of 1024 x 1024 as Blosc with Zstandard level 1
and byte shuffle, where they let one choose.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

THREADS = 2
CHUNK = 1024
SHARD = 4096
LEVELS = 6


# ---- jobs: each runs alone in a process, completed by name; returns seconds


def timed(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def write_bfbridge(image: np.ndarray, out: str, **options: Any) -> float:
    # Imports are not counted, for any contender.
    import imagecodecs
    from ome_types import OME  # noqa: F401

    import bfbridge_omezarr  # noqa: F401
    from bfbridge import BioWriter

    imagecodecs.blosc_encode(b"", 1)
    y, x = image.shape

    def run() -> None:
        with BioWriter(out, max_workers=THREADS, X=x, Y=y, dtype=image.dtype, **options) as writer:
            writer[:] = image

    return timed(run)


def write_tensorstore(
    image: np.ndarray, out: str, version: str, sharded: bool = False, levels: int = 1
) -> float:
    import tensorstore

    context = tensorstore.Context({"data_copy_concurrency": {"limit": THREADS}})

    def create(path: str, shape: tuple[int, ...]) -> Any:
        spec = tensorstore_spec(path, shape, version, sharded)
        return tensorstore.open(spec, create=True, context=context).result()

    def run() -> None:
        values = image
        for level in range(levels):
            create(f"{out}/{level}", values.shape).write(values).result()
            if level + 1 < levels:
                source = tensorstore.array(values, context=context)
                values = tensorstore.downsample(source, [2, 2], "mean").read().result()

    return timed(run)


def tensorstore_spec(
    path: str, shape: tuple[int, ...], version: str, sharded: bool
) -> dict[str, Any]:
    """Open an array of those sizes; axes before the last two have chunks of 1."""
    blosc = {"cname": "zstd", "clevel": 1}
    store = {"driver": "file", "path": path}
    chunk = [1] * (len(shape) - 2) + [CHUNK, CHUNK]
    if version == "0.4":
        compressor = {"id": "blosc", **blosc, "shuffle": 1}
        metadata = {
            "shape": list(shape), "chunks": chunk, "dtype": "<u2",
            "dimension_separator": "/", "compressor": compressor,
        }  # fmt: skip
        return {"driver": "zarr", "kvstore": store, "metadata": metadata}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    blosc_v3 = {**blosc, "shuffle": "shuffle", "typesize": 2}
    codecs: list[Any] = [little, {"name": "blosc", "configuration": blosc_v3}]
    outer = chunk
    if sharded:
        # Its shards must not be larger than the array, rounded up to whole chunks.
        sizes = zip(chunk, shape, strict=True)
        outer = [c if c == 1 else min(SHARD, -(-n // c) * c) for c, n in sizes]
        index = [little, {"name": "crc32c"}]
        inner = {"chunk_shape": chunk, "codecs": codecs, "index_codecs": index}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    grid = {"name": "regular", "configuration": {"chunk_shape": outer}}
    metadata = {
        "shape": list(shape), "data_type": "uint16", "chunk_grid": grid, "codecs": codecs,
    }  # fmt: skip
    return {"driver": "zarr3", "kvstore": store, "metadata": metadata}


def limit_zarr(rust: bool) -> None:
    import zarr

    zarr.config.set({"threading.max_workers": THREADS, "async.concurrency": 2 * THREADS})
    if rust:
        import zarrs  # noqa: F401 - registers itself

        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})


def write_zarr(
    image: np.ndarray, out: str, version: str, sharded: bool = False, rust: bool = False
) -> float:
    import numcodecs
    import zarr

    limit_zarr(rust)
    compressor: Any = numcodecs.Blosc("zstd", 1, 1)
    if version != "0.4":
        compressor = zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=2)

    def run() -> None:
        array = zarr.create_array(
            out, shape=image.shape, dtype=image.dtype, chunks=(CHUNK, CHUNK),
            shards=(SHARD, SHARD) if sharded else None, compressors=compressor,
            zarr_format=2 if version == "0.4" else 3,
        )  # fmt: skip
        array[...] = image

    return timed(run)


def write_bfio(image: np.ndarray, out: str) -> float:
    from bfio import BioWriter

    y, x = image.shape

    def run() -> None:
        with BioWriter(
            out, backend="zarr", max_workers=THREADS, X=x, Y=y, dtype=image.dtype
        ) as writer:
            writer[:] = image[:, :, None, None, None]

    return timed(run)


def write_bioio(image: np.ndarray, out: str) -> float:
    import dask
    from bioio_ome_zarr.writers import OMEZarrWriter
    from zarr.codecs import BloscCodec

    dask.config.set(scheduler="threads", num_workers=THREADS)
    shapes = [tuple(-(-n >> level) for n in image.shape) for level in range(LEVELS)]

    def run() -> None:
        OMEZarrWriter(
            out, level_shapes=shapes, dtype=image.dtype, zarr_format=3,
            chunk_shape=[tuple(min(CHUNK, n) for n in shape) for shape in shapes],
            compressor=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            axes_names=["y", "x"], axes_types=["space", "space"],
        ).write_full_volume(image)  # fmt: skip

    return timed(run)


def write_ome_zarr_py(image: np.ndarray, out: str, method: str) -> float:
    import dask
    import dask.array
    import zarr
    from ome_zarr.scale import Methods
    from ome_zarr.writer import write_image

    limit_zarr(rust=False)
    dask.config.set(scheduler="threads", num_workers=THREADS)
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=2)
    options = {"chunks": (CHUNK, CHUNK), "compressors": [codec]}

    def run() -> None:
        # Blocks of whole chunks at every level: it copies pixels between blocks otherwise.
        blocks = dask.array.from_array(image, chunks=CHUNK << 1)
        group = zarr.open_group(out, mode="w", zarr_format=3)
        factors = [2**level for level in range(1, LEVELS)]
        write_image(
            blocks, group, scale_factors=factors, axes="yx", storage_options=options,
            method=Methods(method),
        )  # fmt: skip

    return timed(run)


def write_ngff_zarr(image: np.ndarray, out: str, method: str) -> float:
    import dask
    import ngff_zarr
    import zarr

    dask.config.set(scheduler="threads", num_workers=THREADS)
    limit_zarr(rust=False)
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=2)

    def run() -> None:
        one = ngff_zarr.to_ngff_image(image, dims=["y", "x"])
        factors = [2**level for level in range(1, LEVELS)]
        many = ngff_zarr.to_multiscales(
            one, scale_factors=factors, chunks=CHUNK, method=ngff_zarr.Methods(method)
        )
        ngff_zarr.to_ngff_zarr(out, many, version="0.5", compressors=[codec])

    return timed(run)


WRITERS: dict[str, dict[str, Callable[[np.ndarray, str], float]]] = {
    "0.4": {
        "bfbridge": lambda i, o: write_bfbridge(i, o, version="0.4"),
        "tensorstore": lambda i, o: write_tensorstore(i, o, "0.4"),
        "zarr-python": lambda i, o: write_zarr(i, o, "0.4"),
        "zarrs": lambda i, o: write_zarr(i, o, "0.4", rust=True),
        "bfio": write_bfio,
    },
    "0.5": {
        "bfbridge": write_bfbridge,
        "tensorstore": lambda i, o: write_tensorstore(i, o, "0.5"),
        "zarr-python": lambda i, o: write_zarr(i, o, "0.5"),
        "zarrs": lambda i, o: write_zarr(i, o, "0.5", rust=True),
    },
    "0.5 sharded": {
        "bfbridge": lambda i, o: write_bfbridge(i, o, shards=SHARD),
        "tensorstore": lambda i, o: write_tensorstore(i, o, "0.5", sharded=True),
        "zarr-python": lambda i, o: write_zarr(i, o, "0.5", sharded=True),
        "zarrs": lambda i, o: write_zarr(i, o, "0.5", sharded=True, rust=True),
    },
    "0.5 with pyramid": {
        "bfbridge": lambda i, o: write_bfbridge(i, o, pyramid=LEVELS - 1),
        "tensorstore": lambda i, o: write_tensorstore(i, o, "0.5", levels=LEVELS),
        "bioio": write_bioio,
        # Mean as bfbridge's, and the fastest of their methods.
        "ome-zarr-py mean": partial(write_ome_zarr_py, method="local_mean"),
        "ome-zarr-py": partial(write_ome_zarr_py, method="nearest"),
        "ngff-zarr mean": partial(write_ngff_zarr, method="dask_bin_shrink"),
        "ngff-zarr": partial(write_ngff_zarr, method="dask_image_nearest"),
    },
}


# ---- reading: each job gives a function of a box; the same boxes go to all


Box = tuple[slice, slice]


def reader_bfbridge(path: str) -> Callable[[Box], np.ndarray]:
    from bfbridge import BioReader

    reader = BioReader(path, max_workers=THREADS, cache=0)
    return lambda box: reader[box[0], box[1]]


def reader_tensorstore(path: str) -> Callable[[Box], np.ndarray]:
    import tensorstore

    limits = {"data_copy_concurrency": {"limit": THREADS}, "cache_pool": {"total_bytes_limit": 0}}
    store = {"driver": "file", "path": f"{path}/0"}
    array = tensorstore.open(
        {"driver": "zarr3", "kvstore": store}, context=tensorstore.Context(limits)
    ).result()
    return lambda box: array[(0, 0, 0, *box)].read().result()


def reader_zarr(path: str, rust: bool = False) -> Callable[[Box], np.ndarray]:
    import zarr

    limit_zarr(rust)
    array = zarr.open_array(f"{path}/0", mode="r")
    return lambda box: array[(0, 0, 0, *box)]


def reader_bfio(path: str) -> Callable[[Box], np.ndarray]:
    from bfio import BioReader

    reader = BioReader(Path(path), backend="zarr3", max_workers=THREADS)
    return lambda box: reader[box[0], box[1], 0, 0, 0]


READERS: dict[str, Callable[[str], Callable[[Box], np.ndarray]]] = {
    "bfbridge": reader_bfbridge,
    "tensorstore": reader_tensorstore,
    "zarr-python": reader_zarr,
    "zarrs": partial(reader_zarr, rust=True),
    "bfio": reader_bfio,
}


def read_job(name: str, path: str, size: int, count: int, image: np.ndarray) -> float:
    """Seconds for one box: the whole image, or the median of crops at random places."""
    read = READERS[name](path)
    chance = random.Random(1)
    side = image.shape[0]
    if not size:
        read((slice(0, CHUNK), slice(0, CHUNK)))
        return timed(lambda: read((slice(0, side), slice(0, side))))
    taken = []
    for _ in range(count):
        y, x = chance.randrange(side - size), chance.randrange(side - size)
        box = (slice(y, y + size), slice(x, x + size))
        begun = time.perf_counter()
        got = read(box)
        taken.append(time.perf_counter() - begun)
        if not np.array_equal(np.squeeze(got), image[box]):
            raise ValueError(f"{name} returned other pixels at {box}")
    return statistics.median(taken)


# ---- driving


def run_job(arguments: list[str]) -> None:
    if arguments[0] == "serve-s3":
        serve_s3(float(arguments[1]))
        return
    kind, name, image_path, path, *more = arguments
    image = np.load(image_path, mmap_mode=None if kind.startswith("write") else "r")
    if kind.startswith("write"):
        seconds = WRITERS[more[0]][name](image, path)
    else:
        seconds = read_job(name, path, int(more[0]), int(more[1]), image)
    peak = 0.0
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            peak = int(line.split()[1]) / 1e3
    print(json.dumps([seconds, peak]))


def measure(*arguments: str) -> tuple[float, float]:
    """Run one job in a separate process."""
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "BLOSC_NTHREADS", "RAYON_NUM_THREADS"), str(THREADS)
    )
    completed = subprocess.run(
        [sys.executable, __file__, "--job", *arguments], capture_output=True, text=True,
        check=False, env={**os.environ, **threads}, timeout=600,
    )  # fmt: skip
    if completed.returncode:
        raise RuntimeError(completed.stderr.strip().splitlines()[-1])
    seconds, peak = json.loads(completed.stdout.splitlines()[-1])
    return seconds, peak


def compare(title: str, jobs: dict[str, Callable[[], tuple[float, float]]], repeats: int) -> None:
    """Run contenders in turn; print medians and what they are against bfbridge's."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    broken: dict[str, str] = {}
    for _ in range(repeats):
        for name, job in jobs.items():
            if name in broken:
                continue
            try:
                found[name].append(job())
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                broken[name] = str(error)[:100]
    print(f"\n{title}\n  {'':16}{'median':>10}{'best':>10}{'x bfbridge':>12}{'peak MB':>10}")
    base = statistics.median(seconds for seconds, _ in found["bfbridge"])
    for name, runs in found.items():
        if name in broken:
            print(f"  {name:16} omitted: {broken[name]}")
            continue
        taken = [seconds for seconds, _ in runs]
        median, peak = statistics.median(taken), max(peak for _, peak in runs)
        unit, scale = ("s ", 1.0) if base > 0.1 else ("ms", 1e3)
        print(
            f"  {name:16}{median * scale:8.3f} {unit}{min(taken) * scale:7.3f} {unit}"
            f"{median / base:11.2f}{peak:10.0f}"
        )


def realistic(side: int) -> np.ndarray:
    """Smooth blobs with Poisson noise, as a fluorescence camera gives them."""
    chance = np.random.default_rng(0)
    image = np.empty((side, side), np.uint16)
    for top in range(0, side, 1024):
        y, x = np.mgrid[top : top + 1024, :side].astype(np.float32)
        smooth = 150 + 100 * np.sin(x / 97) * np.cos(y / 131) + 50 * np.sin((x + y) / 41)
        image[top : top + 1024] = chance.poisson(smooth)
    return image


def bench_write(folder: Path, image: str, repeats: int) -> None:
    for layout, contenders in WRITERS.items():
        jobs = {}
        for name in contenders:

            def job(name: str = name, layout: str = layout) -> tuple[float, float]:
                target = folder / "out.ome.zarr"
                shutil.rmtree(target, ignore_errors=True)
                try:
                    return measure("write", name, image, str(target), layout)
                finally:
                    shutil.rmtree(target, ignore_errors=True)

            jobs[name] = job
        compare(f"write {layout}", jobs, repeats)


def bench_read(folder: Path, image: str, repeats: int) -> None:
    from ome_types import OME  # noqa: F401 - the package is needed to open what is made here

    pixels = np.load(image, mmap_mode="r")
    for layout in ("unsharded", "sharded"):
        store = folder / f"{layout}.ome.zarr"
        # Written by tensorstore, so that no contender reads what it likes best.
        write_tensorstore(pixels[None, None, None], str(store), "0.5", sharded=layout == "sharded")
        kinds = {"t": "time", "c": "channel"}
        axes = [{"name": n, "type": kinds.get(n, "space")} for n in "tczyx"]
        scale = [{"type": "scale", "scale": [1.0] * 5}]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
        (store / "zarr.json").write_text(
            json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}})
        )
        for size, count in ((0, 1), (1024, 40), (256, 100)):
            jobs = {
                name: lambda name=name, size=size, count=count, store=store: measure(
                    "read", name, image, str(store), str(size), str(count)
                )
                for name in READERS
            }
            what = f"crops of {size} x {size}" if size else "whole"
            compare(f"read {layout}, {what}", jobs, repeats)
        shutil.rmtree(store)


def bench_memory(folder: Path) -> None:
    """Peak memory of writing 32768 x 32768 tile by tile, with a pyramid."""
    code = (
        "import sys, numpy as np; from bfbridge import BioWriter\n"
        "tile = np.random.default_rng(0).poisson(200, (1024, 1024)).astype('u2'); n = 32768\n"
        "with BioWriter(sys.argv[1], X=n, Y=n, dtype='u2', pyramid=True, max_workers=2) as w:\n"
        "    for y in range(0, n, 1024):\n"
        "        for x in range(0, n, 1024): w[y:y+1024, x:x+1024] = tile\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(int(s.split()[1]) for s in lines if s.startswith('VmHWM')) / 1e3)\n"
    )
    target = folder / "large.ome.zarr"
    completed = subprocess.run(
        [sys.executable, "-c", code, str(target)], capture_output=True, text=True, check=True
    )
    shutil.rmtree(target)
    peak = float(completed.stdout)
    print(f"\n32768 x 32768 tile by tile with pyramid: peak {peak:.0f} MB (at most 400)")


def serve_s3(delay: float) -> None:
    """Run a local S3 whose every answer takes `delay` seconds longer; its port is printed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log(self, *args: Any) -> None:
            pass

    s3 = DomainDispatcherApplication(create_backend_app)

    def slow(environ: Any, start_response: Any) -> Any:
        time.sleep(delay)
        return s3(environ, start_response)

    server = make_server("127.0.0.1", 0, slow, threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)
    server.serve_forever()


def bench_latency(repeats: int, delay: float = 0.02) -> None:
    """Read from a local S3 whose every answer takes 20 ms longer, one chunk at a time or not."""
    try:
        import s3fs
    except ImportError:
        print("\nlocal S3: omitted, s3fs is not installed")
        return
    from bfbridge import BioReader, BioWriter

    command = [sys.executable, __file__, "--job", "serve-s3", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = (server.stdout.readline() if server.stdout else "").strip()
            if not port:
                print("\nlocal S3: omitted, moto did not start")
                return
            options = {
                "key": "somebody",
                "secret": "hush-hush",
                "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"},
            }
            s3fs.S3FileSystem(**options).mkdir("bench")
            url, image = "s3://bench/far.ome.zarr", realistic(4096)
            writer = BioWriter(url, image=image, chunks=512, storage_options=options)
            written = timed(lambda: _write_and_close(writer, image))
            taken: dict[int | None, list[float]] = {1: [], None: []}
            for _ in range(repeats):
                for workers, found in taken.items():
                    with BioReader(
                        url, max_workers=workers, cache=0, storage_options=options
                    ) as reader:
                        reader[:8, :8]
                        begun = time.perf_counter()
                        pixels = reader[:]
                        found.append(time.perf_counter() - begun)
                    if not np.array_equal(pixels, image):
                        raise ValueError("other pixels were read")
        finally:
            server.kill()
    one, many = (statistics.median(found) for found in taken.values())
    print(
        f"\n64 chunks in a local S3 at {delay * 1e3:.0f} ms each: written in {written:.2f} s; one "
        f"at a time {one:.2f} s, as bfbridge does {many:.2f} s, {one / many:.1f} x (goal: 5 x)"
    )


def bench_slices(folder: Path, count: int = 6) -> None:
    """XZ slices of 256 planes in chunks of depth 1, one after another in one reader."""
    from support.harness import table

    from bfbridge import BioReader, BioWriter

    plane, path = realistic(1024), folder / "stack.ome.zarr"
    sizes: dict[str, Any] = {"X": 1024, "Y": 1024, "Z": 256, "dtype": plane.dtype}
    with BioWriter(path, chunks=(1, 1, 1, 1024, 1024), **sizes) as bw:
        for z in range(256):
            bw[:, :, z : z + 1] = np.roll(plane, 4 * z)[:, :, None]
    seconds: dict[str, list[float]] = {"first slice": [], "second slice": [], "later slices": []}
    for _ in range(3):
        with BioReader(path, max_workers=2, cache=None) as br:
            took = [timed(lambda y=y: br[y : y + 1, :, :]) for y in range(512, 512 + count)]
        seconds["first slice"].append(took[0])
        seconds["second slice"].append(took[1])
        seconds["later slices"] += took[2:]
    table("XZ slices of 256 x 1024^2, chunks of depth 1", seconds, "first slice")


def _write_and_close(writer: Any, image: np.ndarray) -> None:
    with writer:
        writer[:] = image


def main() -> None:
    if sys.argv[1:2] == ["--job"]:
        run_job(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("write", "read", "slices", "memory", "latency"))
    parser.add_argument("--without", nargs="*", default=(), help="peers to omit (slow ones)")
    parser.add_argument("--folder", help="for scratch files; as fast a disk as there is")
    chosen = parser.parse_args()
    for jobs in (*WRITERS.values(), READERS):
        for peer in chosen.without:
            jobs.pop(peer, None)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        image = folder / "image.npy"
        if chosen.only in (None, "write", "read"):
            np.save(image, realistic(chosen.side))
        if chosen.only in (None, "write"):
            bench_write(folder, str(image), chosen.repeats)
        if chosen.only in (None, "read"):
            bench_read(folder, str(image), chosen.repeats)
        if chosen.only in (None, "slices"):
            bench_slices(folder)
        if chosen.only in (None, "memory"):
            bench_memory(folder)
        if chosen.only in (None, "latency"):
            bench_latency(chosen.repeats)


if __name__ == "__main__":
    main()
