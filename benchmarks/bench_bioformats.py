r"""Files read through Bio-Formats: parallel reads, Java's own rate, start-up, isolation, opening.

    python benchmarks/bench_bioformats.py [--side 16384] [--repeats 5] [--only read cold ...]
        [--data FOLDER] [--peer-python PEERS/bin/python]

Needs bfbridge[bioformats,ometiff] and tifffile. Peers (bfio[bioformats] and bffile) are installed
in a separate environment, whose Python is given; both are started with the same Java and the same
Bio-Formats jar as bfbridge, so that no Maven is needed and code is compared, not versions. Without
it they are omitted. `--data` is a folder of real files with its manifest.json.

Contenders take turns; medians and ratios are shown. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from support.harness import cold, interleave, table

TILE = 1024
SECTIONS = ("parallel", "read", "isolated", "cold", "open", "reopen")
SET_OF_FILES = 500
FAKE = "fake&sizeX={side}&sizeY={side}&pixelType=uint16.fake"


def write_tiffs(folder: Path, side: int, compressions: tuple[str, ...]) -> None:
    """Write tiled TIFFs of smooth structures with a camera's noise."""
    import tifffile

    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / 97
    image = rng.poisson(400 + 300 * np.sin(x) * np.cos(y)).astype(np.uint16)
    for name in compressions:
        path = folder / f"{name}.tif"
        if not path.exists():
            tifffile.imwrite(path, image, tile=(TILE, TILE), compression=name, bigtiff=True)


def whole(path: Path | str, workers: int, isolated: bool = False) -> Callable[[], object]:
    """Return a read of the whole image through the public face, the file opened before."""
    from bfbridge import BioReader

    br = BioReader(path, workers, backend="bioformats", cache=0, isolated=isolated)
    return lambda: br[:]


def raw(path: Path | str) -> Callable[[], object]:
    """Return a decode of the whole image by openBytes into one reused array, without a copy.

    In the same Java, and in the same blocks, in the same order, as BioReader reads it.
    """
    from bfbridge import BioReader
    from bfbridge_bioformats.runtime.machine import machine

    with BioReader(path, 1, backend="bioformats", isolated=False) as br:
        height, width = br.chunks[:2]
        size_y, size_x = br.shape[:2]
        itemsize = br.dtype.itemsize
    with machine.attached():
        reader = machine.type("loci.formats.ImageReader")()
        reader.setId(str(path))
        buffer = machine.new_bytes(itemsize * height * width)
    blocks = [
        (x, y, min(width, size_x - x), min(height, size_y - y))
        for y in range(0, size_y, height)
        for x in range(0, size_x, width)
    ]

    def run() -> None:
        with machine.attached():
            for block in blocks:
                reader.openBytes(0, buffer, *block)

    return run


def bench_parallel(folder: Path, options: argparse.Namespace) -> None:
    side = options.side // 2
    write_tiffs(folder, side, ("zlib", "lzw", "zstd"))
    for name in ("zlib", "lzw", "zstd", "fake"):
        path = FAKE.format(side=side) if name == "fake" else folder / f"{name}.tif"
        runs = {"1 worker": whole(path, 1), "2 workers": whole(path, 2)}
        seconds = interleave(runs, options.repeats, memory=2 * side * side)
        ratios = table(f"All of {name}, br[:]", seconds, "2 workers")
        print(f"  2 workers {ratios['1 worker']:.2f} x as fast as 1 (goal: 1.8 x)")


PEER = """
import sys, time
which, path, jar, java, repeats = sys.argv[1:]
import jpype
jpype.startJVM(java, "-Xmx2g", classpath=[jar], convertStrings=False)
begun = time.perf_counter()
if which == "bfio":
    from bfio import BioReader
    reader = BioReader(path, backend="bioformats")
    run = lambda: reader[:]
else:
    from bffile import BioFile
    reader = BioFile(path).open()
    run = lambda: reader.read_plane()
array = run()
checksum = int(array.sum(dtype="u8"))
for _ in range(int(repeats)):
    begun = time.perf_counter()
    run()
    print("SECONDS", time.perf_counter() - begun, checksum, flush=True)
import os
os._exit(0)
"""


def peer(options: argparse.Namespace, which: str, path: Path, sum_: int) -> list[float]:
    """Return the seconds of a peer's reads of the same file, in a separate process."""
    from bfbridge_bioformats.jars.locate import find_jar
    from bfbridge_bioformats.runtime.java import find_java

    arguments = [which, str(path), str(find_jar().paths[0]), str(find_java().library)]
    done = subprocess.run(
        [options.peer_python, "-c", PEER, *arguments, str(options.repeats)],
        capture_output=True,
        text=True,
        check=False,
        env={name: v for name, v in os.environ.items() if name != "PYTHONPATH"},
    )
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    if not found:
        print(f"  {which} is omitted, it failed: {done.stderr.strip().splitlines()[-1:]}")
    elif int(found[0][1]) != sum_:
        print(f"  {which} reads other pixels")
    return [float(seconds) for seconds, _ in found]


def bench_read(folder: Path, options: argparse.Namespace) -> None:
    write_tiffs(folder, options.side, ("zlib",))
    path = folder / "zlib.tif"
    one, two = whole(path, 1), whole(path, 2)
    runs = {"openBytes alone": raw(path), "1 worker": one, "2 workers": two}
    seconds = interleave(runs, options.repeats, memory=2 * options.side**2)
    if options.peer_python:
        total = int(np.asarray(one()).sum(dtype="u8"))
        for which in ("bfio", "bffile"):
            found = peer(options, which, path, total)
            if found:
                seconds[which] = found
    ratios = table(f"All of {options.side} x {options.side} zlib", seconds, "1 worker")
    print(
        f"  1 worker has {ratios['openBytes alone']:.2f} x Java's own rate (goal: 0.95), "
        f"2 workers {1 / ratios['2 workers']:.2f} x that of 1"
    )
    for which in {"bfio", "bffile"} & set(ratios):
        two_times = ratios[which] / ratios["2 workers"]
        print(
            f"  against {which}: 1 worker {ratios[which]:.2f} x (goal: 1.5), "
            f"2 workers {two_times:.2f} x (2.5)"
        )


def bench_isolated(folder: Path, options: argparse.Namespace) -> None:
    from bfbridge import BioReader

    side = max(options.side // 2, 4 * TILE)
    write_tiffs(folder, side, ("zlib",))
    for name, path in (("zlib", folder / "zlib.tif"), ("fake", FAKE.format(side=side))):
        readers = {
            kind: BioReader(path, 1, backend="bioformats", cache=0, isolated=kind == "isolated")
            for kind in ("same process", "isolated")
        }
        places = [(y, x) for y in range(0, 4096, TILE) for x in range(0, 4096, TILE)]

        def tiles(reader: Any, places: list[tuple[int, int]] = places) -> None:
            for y, x in places:
                reader[y : y + TILE, x : x + TILE, 0, 0, 0]

        runs = {kind: lambda reader=reader: tiles(reader) for kind, reader in readers.items()}
        seconds = interleave(runs, options.repeats)
        table(f"{len(places)} tiles of 1024 x 1024 of {name}", seconds, "same process")
        medians = {kind: statistics.median(values) for kind, values in seconds.items()}
        more = (medians["isolated"] - medians["same process"]) / len(places)
        print(f"  isolation costs {more * 1e3:.2f} ms a tile")
        for reader in readers.values():
            reader.close()
    runs = {f"{n} worker(s)": whole(folder / "zlib.tif", n, isolated=True) for n in (1, 2)}
    for run in runs.values():
        run()  # a second process is started once waiting has cost as much
    ratios = table("All of zlib, isolated", interleave(runs, options.repeats), "2 worker(s)")
    print(f"  2 processes {ratios['1 worker(s)']:.2f} x as fast as 1")


COLD = (
    "from bfbridge import BioReader; "
    "BioReader({path!r}, backend='bioformats', isolated={isolated})[:64, :64, 0, 0, 0]"
)
# Without the start and the end of Python, and of Java's last threads.
TIMED = "import time; begun = time.perf_counter(); {cold}; print(time.perf_counter() - begun)"
COLD_BFIO = (
    "import jpype; jpype.startJVM({java!r}, classpath=[{jar!r}], convertStrings=False); "
    "from bfio import BioReader; BioReader({path!r}, backend='bioformats')[:64, :64, 0, 0, 0]"
)


def bench_cold(folder: Path, options: argparse.Namespace) -> None:
    import tifffile

    from bfbridge_bioformats.jars.locate import find_jar
    from bfbridge_bioformats.runtime.java import find_java

    path = folder / "small.ome.tif"
    tifffile.imwrite(path, np.arange(512 * 512, dtype=np.uint16).reshape(512, 512), ome=True)
    places = {"path": str(path), "java": str(find_java().library), "jar": str(find_jar().paths[0])}
    program = [sys.executable, "-c", COLD.format(**places, isolated=False)]
    isolated = [sys.executable, "-c", COLD.format(**places, isolated=True)]
    commands = {
        "with archive": ["env", "BFBRIDGE_ARCHIVE=1", *program],
        "without archive": ["env", "BFBRIDGE_ARCHIVE=0", *program],
        "isolated, with archive": ["env", "BFBRIDGE_ARCHIVE=1", *isolated],
    }
    if options.peer_python:
        bfio = [options.peer_python, "-c", COLD_BFIO.format(**places)]
        commands["bfio, its Java given"] = ["env", "-u", "PYTHONPATH", *bfio]
    cold({"makes the archive": commands["with archive"]}, 1)
    time.sleep(options.archive_wait)
    found = cold(commands, max(options.repeats, 5))
    seconds = {name: taken for name, (taken, _) in found.items()}
    ratios = table("Whole process that reads a corner", seconds, "with archive")
    if "bfio, its Java given" in ratios:
        print(f"  bfio takes {ratios['bfio, its Java given']:.2f} x as long")
    timed = TIMED.format(cold=COLD.format(**places, isolated=False))
    runs = {"with archive": "1", "without archive": "0"}
    inside: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(max(options.repeats, 5)):
        for name, switch in runs.items():
            inside[name].append(import_to_pixels(timed, switch))
    table("Import to first pixels", inside, "with archive")
    print("  to reach: 420 ms with the archive, 750 ms without")


def import_to_pixels(program: str, archive: str) -> float:
    """Return the seconds that a program prints; bytecode is compiled before."""
    environment = {**os.environ, "BFBRIDGE_ARCHIVE": archive}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def bench_open(folder: Path, options: argparse.Namespace) -> None:
    del folder
    if options.data is None:
        print("\nOpening real files is skipped: give --data")
        return
    from bfbridge import BioReader
    from bfbridge_bioformats.runtime.machine import machine

    entries = json.loads((options.data / "manifest.json").read_text(encoding="utf-8"))["entries"]
    files = [
        options.data / entry["file"]
        for entry in entries
        if entry["expect"] == "opens" and (options.data / entry["file"]).is_file()
    ]
    files = files[:: max(len(files) // 20, 1)][:20]

    def ours() -> None:
        for file in files:
            with BioReader(file, 1, backend="bioformats", isolated=False) as br:
                assert br.shape

    def java() -> None:
        with machine.attached():
            for file in files:
                reader = machine.type("loci.formats.ImageReader")()
                reader.setMetadataStore(
                    machine.type("loci.formats.MetadataTools").createOMEXMLMetadata()
                )
                reader.setId(str(file))
                reader.close()

    seconds = interleave({"BioReader": ours, "setId alone": java}, options.repeats)
    ratios = table(f"Open to shape of {len(files)} real files", seconds, "setId alone")
    print(f"  {100 * (ratios['BioReader'] - 1):+.0f} % (goal: +10 %)")


TO_SHAPE = (
    "from bfbridge import BioReader; "
    "br = BioReader({path!r}, backend='bioformats', index={index!r}); assert br.shape"
)


def write_set(folder: Path, count: int) -> Path:
    """Write single planes and the pattern that Bio-Formats groups them by; return the pattern."""
    import tifffile

    data = folder / "set"
    data.mkdir()
    for number in range(count):
        plane = np.full((64, 64), number, np.uint16)
        tifffile.imwrite(data / f"plane_{number:04}.tif", plane)
    pattern = data / "set.pattern"
    pattern.write_text(f"plane_<0000-{count - 1:04}>.tif")
    # Files that were modified within the last minute are not indexed.
    for path in (*data.iterdir(), data, folder):
        os.utime(path, (1e9, 1e9))
    return pattern


def bench_reopen(folder: Path, options: argparse.Namespace) -> None:
    from bfbridge import BioReader

    path = write_set(folder, SET_OF_FILES)
    with tempfile.TemporaryDirectory() as place:

        def shape(index: str | bool, pixel: bool = False) -> None:
            with BioReader(path, 1, backend="bioformats", isolated=False, index=index) as br:
                assert br.shape[2] == SET_OF_FILES
                if pixel:
                    assert br[0, 0, 7, 0, 0] == 7

        shape(place)
        with BioReader(path, 1, backend="bioformats", isolated=False, index=place) as br:
            assert "from the index" in br.backend_reason, br.backend_reason
        runs = {
            "opened": lambda: shape(False),
            "from the index": lambda: shape(place),
            "opened, and a pixel": lambda: shape(False, pixel=True),
            "from the index, and a pixel": lambda: shape(place, pixel=True),
        }
        title = f"Open to shape of {SET_OF_FILES} files of one set, Java running"
        ratios = table(title, interleave(runs, options.repeats), "from the index")
        print(f"  {ratios['opened']:.0f} x as fast with the index")
        commands = {
            name: [sys.executable, "-c", TO_SHAPE.format(path=str(path), index=index)]
            for name, index in (("opened", False), ("from the index", place))
        }
        found = cold(commands, max(options.repeats, 5))
        seconds = {name: taken for name, (taken, _) in found.items()}
        ratios = table("Whole process to shape", seconds, "from the index")
        print(f"  {ratios['opened']:.1f} x as fast with the index")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--peer-python")
    parser.add_argument(
        "--archive-wait", type=float, default=20.0, help="seconds for the archive to be made"
    )
    options = parser.parse_args()
    for section in options.only:
        # Each section uses a separate folder, which is removed before the next one.
        with tempfile.TemporaryDirectory() as folder:
            globals()[f"bench_{section}"](Path(folder), options)


if __name__ == "__main__":
    main()
