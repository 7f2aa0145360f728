r"""OME-TIFF read and written by bfbridge and its peers: 16384 x 16384 uint16 and 8192 x 8192 RGB.

    python -m venv peers
    peers/bin/python -m pip install ".[ometiff]" tifffile bfio "pyvips[binary]"
    peers/bin/python benchmarks/bench_ometiff.py [--side 16384] [--repeats 5] [--only cold read]

Contenders take turns in one process, except for start-up and memory, where each is a process of its
own; medians and their ratios are shown, with the codec's own speed as the floor. Peers that are not
installed are omitted. Each table shows its goals. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
from support.harness import cold, interleave, table
from support.many_planes import bench_planes

THREADS = 2
TILE = 1024
CROPS = 200
SECTIONS = ["cold", "memory", "read", "crops", "write", "planes"]
LAZY = "bioio's dask"


def have(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def fluorescence(side: int) -> np.ndarray:
    """Smooth blobs on a background, with the noise of a camera; made 1024 rows at a time."""
    rng = np.random.default_rng(0)
    out = np.empty((side, side), np.uint16)
    spots = rng.random((400, 4)) * [side, side, 60, 3000] + [0, 0, 15, 200]
    for top in range(0, side, TILE):
        plane = np.full((TILE, side), 100.0)
        for y, x, width, height in spots:
            reach = 4 * width
            if not top - reach < y < top + TILE + reach:
                continue
            rows = slice(max(0, int(y - reach) - top), max(0, min(TILE, int(y + reach) - top)))
            columns = slice(max(0, int(x - reach)), min(side, int(x + reach)))
            yy, xx = np.mgrid[rows, columns]
            plane[rows, columns] += height * np.exp(
                -((yy + top - y) ** 2 + (xx - x) ** 2) / (2 * width**2)
            )
        out[top : top + TILE] = rng.poisson(plane)
    return out


def stained(side: int) -> np.ndarray:
    """Pink tissue with blue nuclei and some texture, uint8 RGB."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    tissue = np.sin(x / 131) * np.cos(y / 97)
    nuclei = (np.sin(x / 11) * np.sin(y / 13)) > 0.8
    out = np.empty((side, side, 3), np.uint8)
    for sample, (base, swing, dark) in enumerate([(225, 20, 100), (175, 45, 110), (205, 25, 45)]):
        plane = base + swing * tissue - dark * nuclei
        out[..., sample] = np.clip(plane + rng.normal(0, 4, (side, side)), 0, 255)
    return out


COLD = {
    "bfbridge": "from bfbridge import BioReader; BioReader({path!r}).shape",
    "tifffile + ome-types": (
        "import tifffile, ome_types; f = tifffile.TiffFile({path!r}); f.series[0].shape; "
        "ome_types.from_xml(f.ome_metadata)"
    ),
    "bfio": "from bfio import BioReader; BioReader({path!r}, backend='python').shape",
    "import numpy": "import numpy",
    "python -c pass": "pass",
}
PEAK = {
    "bfbridge": "from bfbridge import BioReader; a = BioReader({path!r}, max_workers=2)[:]",
    "tifffile": "import tifffile; a = tifffile.imread({path!r}, maxworkers=2)",
    "only an array": "import numpy; a = numpy.ones(({side}, {side}), numpy.uint16)",
}


def bench_cold(folder: Path, repeats: int) -> None:
    path = str(folder / "deflate.ome.tif")
    commands = {
        name: [sys.executable, "-c", code.format(path=path)]
        for name, code in COLD.items()
        if name != "bfio" or have("bfio")
    }
    # Installed packages are compiled already; so are all after the first of several runs.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = cold(commands, max(repeats, 7), env=env)
    table("Process to shape", {name: seconds for name, (seconds, _) in found.items()}, "bfbridge")
    print("  to reach: 200 ms, and 5 x faster than tifffile + ome-types and bfio")


def write_rgb(folder: Path, side: int) -> dict[str, Path]:
    """Write tissue with interleaved and with planar samples."""
    import tifffile

    pixels = stained(side)
    paths = {}
    for layout, axes in (("interleaved", (0, 1, 2)), ("planar", (2, 0, 1))):
        paths[layout] = folder / f"rgb-{layout}.ome.tif"
        tifffile.imwrite(
            paths[layout],
            pixels.transpose(axes),
            photometric="rgb",
            planarconfig="contig" if layout == "interleaved" else "separate",
            tile=(512, 512),
            compression="zlib",
            compressionargs={"level": 1},
            metadata={"axes": "".join("YXS"[axis] for axis in axes)},
        )
    return paths


def bench_peak_rgb(folder: Path, side: int) -> None:
    """Peak memory of processes that read RGB, as a multiple of that of the array alone."""
    made = "import numpy; a = numpy.ones(({side}, {side}, 3), numpy.uint8)"
    for layout, path in write_rgb(folder, side).items():
        codes = {**PEAK, "only an array": made}
        found = cold(
            {
                name: [sys.executable, "-c", code.format(path=str(path), side=side)]
                for name, code in codes.items()
            }
        )
        alone = found["only an array"][1]
        ratios = {name: f"{peak / alone:.2f}" for name, (_, peak) in found.items()}
        seconds = {name: seconds for name, (seconds, _) in found.items()}
        table(f"Whole read, RGB, {layout}", seconds, "bfbridge", **{"peak / array": ratios})


def bench_peak(folder: Path, side: int) -> None:
    """Peak memory of processes that read the whole image."""
    path = str(folder / "deflate.ome.tif")
    commands = {
        name: [sys.executable, "-c", code.format(path=path, side=side)]
        for name, code in PEAK.items()
    }
    found = cold(commands, 2, env=dict(os.environ))
    peaks = {name: f"{peak:.0f}" for name, (_, peak) in found.items()}
    seconds = {name: taken for name, (taken, _) in found.items()}
    title = f"Process that reads {side}^2 uint16, deflate, {side * side * 2 / 1e6:.0f} MB"
    table(title, seconds, "bfbridge", **{"peak MB": peaks})
    print(f"  to reach: 1.1 x the array of {side * side * 2 / 1e6:.0f} MB above the interpreter")


def one_strip(stored: bytes) -> bytes:
    """Return an LZW tile as a TIFF file: libtiff has the fastest decoder, but only for files."""
    import imagecodecs
    import tifffile

    pixels = np.frombuffer(imagecodecs.lzw_decode(stored), np.uint16).reshape(TILE, TILE)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, compression="lzw", rowsperstrip=TILE, metadata=None)
    return file.getvalue()


def codec_of(path: Path) -> tuple[list[bytes], Callable[..., object], list[np.ndarray]]:
    """A file's tiles as stored, what decodes one of them, and a place for each thread's."""
    import imagecodecs
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        whole = path.read_bytes()
        stored = [
            whole[offset : offset + count]
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
        kind, tables = int(page.compression), page.jpegtables
        shape = (TILE, TILE, *page.shape[2:])
        rooms = [np.empty(shape, page.dtype) for _ in range(THREADS)]
    if kind == 5:
        stored = [one_strip(data) for data in stored]

    def copy(data: bytes, out: np.ndarray) -> None:
        out[...] = np.frombuffer(data, out.dtype).reshape(out.shape)

    def jpeg(data: bytes, out: np.ndarray) -> None:
        colors = {"colorspace": "YCBCR", "outcolorspace": "RGB"}
        imagecodecs.jpeg8_decode(data, tables=tables, out=out, **colors)

    decode = {
        1: copy,
        5: imagecodecs.tiff_decode,
        7: jpeg,
        8: imagecodecs.deflate_decode,
        50000: imagecodecs.zstd_decode,
    }[kind]
    if kind in (8, 50000):
        rooms = [room.reshape(-1).view(np.uint8) for room in rooms]
    return stored, decode, rooms


def floor(path: Path, *, copied: bool) -> Callable[[], object]:
    """Every tile through the codec on two threads: nothing can read faster.

    `copied` puts the pixels where they belong in a new array, which an answer has to be.
    """
    stored, decode, rooms = codec_of(path)
    across = math.isqrt(len(stored))
    shape = (TILE, TILE, 3) if "jpeg" in path.name else (TILE, TILE)
    dtype = np.uint8 if "jpeg" in path.name else np.uint16

    def share(thread: int, out: np.ndarray | None) -> None:
        pixels = rooms[thread].reshape(-1).view(dtype).reshape(shape)
        for number in range(thread, len(stored), THREADS):
            decode(stored[number], out=rooms[thread])
            if out is not None:
                y, x = (TILE * at for at in divmod(number, across))
                out[y : y + TILE, x : x + TILE] = pixels

    def run() -> None:
        out = np.empty((across * TILE, across * TILE, *shape[2:]), dtype) if copied else None
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(share, range(THREADS), [out] * THREADS))

    return run


def bench_read(folder: Path, side: int, repeats: int) -> None:
    import tifffile

    from bfbridge import BioReader

    goals = {"deflate": 1.8, "zstd": 1.8, "lzw": 1.8, "none": 3.0, "jpeg": 1.0}
    for compression, goal in goals.items():
        path = folder / f"{compression}.ome.tif"

        def ours(path: Path = path) -> object:
            with BioReader(path, max_workers=THREADS) as br:
                return br[:]

        contenders: dict[str, Callable[[], object]] = {
            "bfbridge": ours,
            "tifffile, 2 workers": lambda path=path: tifffile.imread(path, maxworkers=THREADS),
            "codec alone, 2 threads": floor(path, copied=False),
            "codec and copy, 2 threads": floor(path, copied=True),
        }
        if compression != "jpeg" and have("bfio"):
            import bfio

            def peer(path: Path = path) -> object:
                with bfio.BioReader(path, backend="python", max_workers=THREADS) as br:
                    return br[:]

            contenders["bfio, 2 workers"] = peer
        seconds = interleave(contenders, repeats, memory=3 * side * side)
        table(f"Whole read, {compression}", seconds, "bfbridge")
        print(f"  to reach: tifffile at {goal}, bfio at 1.4, the codec above {1 / 1.15:.2f}")


def places(side: int, size: int, step: int) -> list[tuple[int, int]]:
    """Corners of crops: any, or on a grid; those of neighbours walk through four tiles."""
    rng = random.Random(0)
    if size == step < TILE:
        inside = [(y, x) for y in range(0, TILE, size) for x in range(0, TILE, size)]
        tiles = [(y, x) for y in (0, 2 * TILE) for x in (TILE, 3 * TILE)]
        return [(a + y, b + x) for a, b in tiles for y, x in inside]
    most = (side - size) // step + 1
    return [(rng.randrange(most) * step, rng.randrange(most) * step) for _ in range(CROPS)]


def bench_crops(folder: Path, side: int) -> None:
    import tifffile
    import zarr

    from bfbridge import BioReader

    path = folder / "deflate.ome.tif"
    stored, decode, rooms = codec_of(path)
    with ExitStack() as stack:
        br = stack.enter_context(BioReader(path, max_workers=THREADS))
        array = zarr.open(stack.enter_context(tifffile.imread(path, aszarr=True)), mode="r")
        array = array if isinstance(array, zarr.Array) else array["0"]
        corner = (0,) * (array.ndim - 2)
        contenders: dict[str, Callable[[int, int, int], object]] = {
            "bfbridge": lambda y, x, n: br[y : y + n, x : x + n],
            "tifffile's zarr store": lambda y, x, n: array[
                (*corner, slice(y, y + n), slice(x, x + n))
            ],
        }
        if have("bfio"):
            import bfio

            peer = stack.enter_context(bfio.BioReader(path, backend="python", max_workers=THREADS))
            contenders["bfio, 2 workers"] = lambda y, x, n: peer[y : y + n, x : x + n]
        if have("bioio_ome_tiff"):
            import bioio_ome_tiff

            lazy = bioio_ome_tiff.Reader(path).get_image_dask_data("YX")
            contenders[LAZY] = lambda y, x, n: lazy[y : y + n, x : x + n].compute()
        alone = {
            "one tile's decode": lambda y, x, _: decode(
                stored[y // TILE * (side // TILE) + x // TILE], out=rooms[0]
            )
        }
        for what, size, step in (
            ("aligned", TILE, TILE),
            ("random", TILE, 1),
            ("random", 256, 1),
            ("neighbouring", 256, 256),
        ):
            chosen = contenders | (alone if what == "aligned" else {})
            seconds: dict[str, list[float]] = {name: [] for name in chosen}
            for number, (y, x) in enumerate(places(side, size, step)):
                for name, run in chosen.items():
                    if name == LAZY and number > 1:
                        continue
                    begun = time.perf_counter()
                    run(y, x, size)
                    seconds[name].append(time.perf_counter() - begun)
            table(f"{what} crops of {size} x {size}, deflate", seconds, "bfbridge")
            mine = sorted(seconds["bfbridge"])
            ratio = mine[int(0.99 * len(mine))] / statistics.median(mine)
            print(f"  p99 / p50 {ratio:.2f} (goal: 2, but where p50 is a kept tile)")
            print("  to reach: zarr store at 1.6, bfio at 1 (neighbours: 5), bioio at 100")


def tiles_of(image: np.ndarray) -> list[np.ndarray]:
    across = range(0, image.shape[0], TILE)
    return [np.ascontiguousarray(image[y : y + TILE, x : x + TILE]) for y in across for x in across]


def encoding_floor(tiles: list[np.ndarray], compression: str) -> Callable[[], object]:
    """Every tile through predictor and codec on two threads, the bytes thrown away."""
    import imagecodecs

    encode = {"deflate": imagecodecs.deflate_encode, "zstd": imagecodecs.zstd_encode}[compression]
    rooms = [np.empty_like(tiles[0]) for _ in range(THREADS)]

    def share(thread: int) -> None:
        for tile in tiles[thread::THREADS]:
            imagecodecs.delta_encode(tile, axis=1, out=rooms[thread])
            encode(rooms[thread].reshape(-1).view(np.uint8), 1)

    def run() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(share, range(THREADS)))

    return run


def bench_write(folder: Path, image: np.ndarray, repeats: int) -> None:
    import tifffile

    from bfbridge import BioWriter

    five = image[:, :, None, None, None]
    tiles = tiles_of(image)
    for compression, goal in (("deflate", 1.2), ("zstd", 1.3), ("none", 1.0)):
        files = {}

        def ours(path: Path, compression: str = compression) -> None:
            options = {"compression": compression, "overwrite": True, "max_workers": THREADS}
            level = {} if compression == "none" else {"level": 1}
            with BioWriter(path, image=five, **options, **level) as bw:
                bw[:] = five

        def peer(path: Path, predictor: bool, compression: str = compression) -> None:
            tifffile.imwrite(
                path,
                image,
                tile=(TILE, TILE),
                compression={"deflate": "zlib", "none": None}.get(compression, compression),
                compressionargs={} if compression == "none" else {"level": 1},
                predictor=predictor,
                maxworkers=THREADS,
                ome=True,
                metadata={"axes": "YX"},
            )

        def bfio_peer(path: Path) -> None:
            import bfio

            path.unlink(missing_ok=True)
            with bfio.BioWriter(path, backend="python", max_workers=THREADS) as bw:
                bw.X, bw.Y, bw.dtype = image.shape[1], image.shape[0], image.dtype
                bw[:] = five

        kinds: dict[str, Callable[[Path], None]] = {"bfbridge": ours}
        if compression == "none":
            kinds["tifffile, 2 workers"] = partial(peer, predictor=False)
        else:
            kinds["tifffile, predictor"] = partial(peer, predictor=True)
            kinds["tifffile, no predictor"] = partial(peer, predictor=False)
        if compression == "deflate" and have("bfio"):
            kinds["bfio (level 6)"] = bfio_peer
        contenders: dict[str, Callable[[], object]] = {}
        for number, (name, kind) in enumerate(kinds.items()):
            files[name] = folder / f"w{number}.ome.tif"
            contenders[name] = partial(kind, files[name])
        if compression != "none":
            contenders["libdeflate" if compression == "deflate" else compression] = encoding_floor(
                tiles, compression
            )
        seconds = interleave(contenders, repeats)
        sizes = {name: f"{path.stat().st_size / 1e6:.0f}" for name, path in files.items()}
        table(f"Whole write, {compression}", seconds, "bfbridge", MB=sizes)
        print(f"  to reach: tifffile at {goal}, bfio at 2; the codec is shown on 2 threads, alone")
        for path in files.values():
            path.unlink()
    bench_pyramid(folder, image, repeats)
    bench_memory(folder, image)


TILEWISE = """
import numpy as np
from bfbridge import BioWriter
tiles = np.load({tiles!r}, mmap_mode="r")
with BioWriter({path!r}, X={side}, Y={side}, dtype=np.uint16, pyramid=True, max_workers=2,
               overwrite=True) as bw:
    for number in range(({side} // 1024) ** 2):
        y, x = (1024 * at for at in divmod(number, {side} // 1024))
        bw[y : y + 1024, x : x + 1024] = tiles[number % len(tiles)]
"""


def bench_memory(folder: Path, image: np.ndarray, side: int = 32768) -> None:
    """Peak memory of a process that writes tile after tile, with a pyramid."""
    path, tiles = folder / "w.ome.tif", folder / "tiles.npy"
    np.save(tiles, np.stack(tiles_of(image[: 4 * TILE, : 4 * TILE])))
    code = TILEWISE.format(tiles=str(tiles), path=str(path), side=side)
    found = cold({"bfbridge": [sys.executable, "-c", code]}, 1, env=dict(os.environ))
    seconds, peak = found["bfbridge"]
    print(f"\nTile by tile, {side} x {side} with pyramid: {seconds[0]:.1f} s, peak {peak:.0f} MB")
    print("  to reach: 400 MB")
    path.unlink()


def bench_pyramid(folder: Path, image: np.ndarray, repeats: int) -> None:
    import tifffile

    from bfbridge import BioWriter

    five = image[:, :, None, None, None]
    levels = max(0, (image.shape[0] // TILE).bit_length() - 1)

    def ours() -> None:
        options = {"compression": "deflate", "level": 1, "max_workers": THREADS}
        with BioWriter(
            folder / "w.ome.tif", image=five, pyramid=levels + 1, overwrite=True, **options
        ) as bw:
            bw[:] = five

    def recipe() -> None:
        options = {
            "tile": (TILE, TILE),
            "compression": "zlib",
            "compressionargs": {"level": 1},
            "predictor": True,
            "maxworkers": THREADS,
        }
        with tifffile.TiffWriter(folder / "t.ome.tif", ome=True) as writer:
            writer.write(image, subifds=levels, metadata={"axes": "YX"}, **options)
            level = image
            for _ in range(levels):
                y, x = level.shape
                level = level.reshape(y // 2, 2, x // 2, 2).mean((1, 3)).astype(image.dtype)
                writer.write(level, subfiletype=1, **options)

    def libvips() -> None:
        import pyvips

        pyvips.cache_set_max(0)
        pyvips.Image.new_from_array(image).tiffsave(
            str(folder / "v.tif"),
            tile=True,
            tile_width=TILE,
            tile_height=TILE,
            compression="deflate",
            level=1,
            predictor="horizontal",
            pyramid=True,
            subifd=True,
            bigtiff=True,
        )

    contenders: dict[str, Callable[[], object]] = {"bfbridge": ours, "tifffile's recipe": recipe}
    if have("pyvips"):
        # pyvips has the number of threads from the environment, as it is loaded.
        os.environ["VIPS_CONCURRENCY"] = str(THREADS)
        contenders["libvips"] = libvips
    seconds = interleave(contenders, max(2, repeats // 2))
    table(f"Whole write, deflate, {levels} lower levels", seconds, "bfbridge")
    print("  to reach: tifffile's recipe at 1.8, libvips at 2.5")


def make_files(folder: Path, image: np.ndarray) -> None:
    import tifffile

    for compression in ("deflate", "zstd", "lzw", "none"):
        tifffile.imwrite(
            folder / f"{compression}.ome.tif",
            image[np.newaxis, np.newaxis, np.newaxis],
            tile=(TILE, TILE),
            compression={"deflate": "zlib", "none": None}.get(compression, compression),
            compressionargs={"level": 1} if compression in ("deflate", "zstd") else {},
            maxworkers=THREADS,
            # Of two axes tifffile makes XYCZT, which bfio refuses.
            metadata={"axes": "TCZYX"},
        )
    tifffile.imwrite(
        folder / "jpeg.ome.tif",
        stained(image.shape[0] // 2),
        tile=(TILE, TILE),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 90},
        maxworkers=THREADS,
        metadata={"axes": "YXS"},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--files", type=Path, help="keep the files to read in this folder")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=SECTIONS)
    chosen = parser.parse_args()
    only = chosen.only or SECTIONS
    with tempfile.TemporaryDirectory() as name:
        folder = chosen.files or Path(name)
        if not (folder / "jpeg.ome.tif").exists() and set(only) != {"planes"}:
            make_files(folder, fluorescence(chosen.side))
        if "cold" in only:
            bench_cold(folder, chosen.repeats)
        if "memory" in only:
            bench_peak(folder, chosen.side)
            bench_peak_rgb(folder, chosen.side // 2)
        if "read" in only:
            bench_read(folder, chosen.side, chosen.repeats)
        if "crops" in only:
            bench_crops(folder, chosen.side)
        if "write" in only:
            bench_write(folder, fluorescence(chosen.side), chosen.repeats)
        if "planes" in only:
            bench_planes(folder, chosen.repeats, THREADS)


if __name__ == "__main__":
    main()
