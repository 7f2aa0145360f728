"""CZI, ND2, LIF and NDPI against the libraries for these formats, and our own path through Java.

    python benchmarks/bench_vendors.py [--side 8192] [--peers /path/to/python] [--data FOLDER]

`--peers` is the interpreter of an environment (Python 3.12) with pylibCZIrw, czifile, bioio,
bioio-czi, nd2 and liffile; pylibCZIrw writes the CZI files, so that without it ND2, LIF and NDPI
alone are measured. Each side runs in a separate process, after a warm-up, in turn; medians are
shown. CPU seconds are shown as well, because a reader that uses every core does not do less work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from support.harness import table

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.support.czis import Block, metadata_xml, write_czi  # noqa: E402
from tests.support.lifs import image_of, write_lif  # noqa: E402
from tests.support.nd2s import Nd2Channel, Nd2Loop, write_nd2  # noqa: E402
from tests.support.ndpis import Page, Slide, smooth, write_ndpi  # noqa: E402
from tests.support.webserver import serve  # noqa: E402

US = sys.executable
# JPEG-XR is written by our own test writer: pylibCZIrw reads it only.
COMPRESSIONS = {
    "uncompressed": "uncompressed:",
    "zstd": "zstd1:ExplicitLevel=1;PreProcess=HiLoByteUnpack",
    "JPEG-XR": "",
}
COMMON = """
import json, random, statistics, sys, time
path, repeats, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def report(run, warm=True):
    if warm:
        run()
    clock, cpu = [], []
    for _ in range(repeats):
        begun, worked = time.perf_counter(), time.process_time()
        run()
        clock.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - worked)
    print(json.dumps([statistics.median(clock), statistics.median(cpu)]))
rng = random.Random(0)
def places(edge=1024, count=20):  # others in every run
    return [(rng.randrange(side - edge), rng.randrange(side - edge)) for _ in range(count)]
"""
OURS = "from bfbridge import BioReader\nbr = BioReader(path, max_workers=2)\n"
JAVA = "from bfbridge import BioReader\nbr = BioReader(path, backend='bioformats', max_workers=2)\n"
OUR_WHOLE = "report(lambda: br[:])"
OUR_CROPS = "report(lambda: [br[y:y + 1024, x:x + 1024] for y, x in places()])"
PYLIB = """
from pylibCZIrw.czi import CziReader
czi = CziReader(path)
box = czi.total_bounding_rectangle
channels = range(czi.total_bounding_box["C"][1])
"""
PYLIB_WHOLE = """
import numpy
report(lambda: numpy.stack([czi.read(plane={"C": c})[..., 0] for c in channels]))
"""
PYLIB_CROPS = """
report(lambda: [czi.read(roi=(box.x + x, box.y + y, 1024, 1024), plane={"C": c})
                for y, x in places() for c in channels])
"""
CZIFILE_WHOLE = """
import czifile
def run():
    with czifile.CziFile(path) as file:
        return file.asarray(maxworkers=2)
report(run)
"""
BIOIO = """
from bioio import BioImage
import bioio_czi
"""
BIOIO_WHOLE = (
    BIOIO
    + """
def run():
    found = BioImage(path, reader=bioio_czi.Reader).data
    assert found.shape[-2:] == (side, side), found.shape
report(run)
"""
)
BIOIO_CROPS = (
    BIOIO
    + """
array = BioImage(path, reader=bioio_czi.Reader).dask_data
report(lambda: [array[0, :, 0, y:y + 1024, x:x + 1024].compute() for y, x in places()])
"""
)
ND2_WHOLE = "import nd2\nfile = nd2.ND2File(path)\nreport(lambda: file.asarray())"
LIF_WHOLE = """
import liffile
file = liffile.LifFile(path)
report(lambda: [image.asarray() for image in file.images])
"""
TIFF_WHOLE = """
import tifffile
file = tifffile.TiffFile(path)
report(lambda: file.pages[0].asarray(maxworkers=2))
"""
TIFF_CROPS = """
import tifffile, zarr
array = zarr.open(tifffile.TiffFile(path).pages[0].aszarr(maxworkers=2), mode="r")
report(lambda: [array[y:y + 1024, x:x + 1024] for y, x in places()])
"""
OUR_SERIES = """
def run():
    for view in br.series:
        view[:]
report(run)
"""
FIRST = {
    "bfbridge": "from bfbridge import BioReader\n"
    "with BioReader({path!r}) as br: br[:1, :1, 0, 0, 0]",
    "Java": "from bfbridge import BioReader\n"
    "with BioReader({path!r}, backend='bioformats') as br: br[:1, :1, 0, 0, 0]",
}
FIRST_PEERS = {
    "czi": "from pylibCZIrw.czi import CziReader\n"
    "czi = CziReader({path!r}); b = czi.total_bounding_rectangle\n"
    "czi.read(roi=(b.x, b.y, 1, 1))",
    "nd2": "import nd2\nnd2.ND2File({path!r}).read_frame(0)[..., :1, :1]",
    "lif": "import liffile\nliffile.LifFile({path!r}).images[0].asarray()",
}
MANY = """
import sys, time
begun = time.perf_counter()
{opened}
took = time.perf_counter() - begun
peak = next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]
print(took, int(peak) / 1024)
"""
MAKE_CZI = """
import sys
import numpy as np
from pylibCZIrw.czi import create_czi
path, side, option = sys.argv[1], int(sys.argv[2]), sys.argv[3]
tile, channels = map(int, sys.argv[4:])
rng = np.random.default_rng(0)
with create_czi(path, exist_ok=True, compression_options=option) as file:
    for c in range(channels):
        for y in range(0, side, tile):
            for x in range(0, side, tile):
                level = rng.uniform(200, 900)
                pixels = rng.normal(level, level**0.5, (tile, tile, 1)) if tile > 64 else (
                    np.full((tile, tile, 1), level))
                file.write(pixels.clip(0).astype(np.uint16), location=(x, y), plane={"C": c})
"""


def run(python: str, code: str, *given: object) -> str:
    """Run a script in a process, and return what it prints last."""
    env = dict(os.environ)
    if python != US:
        env.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, "-c", code, *map(str, given)], capture_output=True, text=True, env=env, check=False
    )
    if done.returncode:
        raise RuntimeError("; ".join(done.stderr.strip().splitlines()[-1:]))
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def measure(
    title: str,
    contenders: Mapping[str, tuple[str, str]],
    path: Path,
    side: int = 0,
    repeats: int = 3,
    turns: int = 3,
) -> None:
    """Run scripts in turn, each in a separate process, and show their medians."""
    clock: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for _ in range(turns):
        for name, (python, code) in contenders.items():
            try:
                took, worked = json.loads(run(python, COMMON + code, path, repeats, side))
            except RuntimeError as error:
                print(f"  {name} failed: {error}")
                continue
            clock.setdefault(name, []).append(took)
            cpu.setdefault(name, []).append(worked)
    shown = {name: f"{np.median(values):.3f}" for name, values in cpu.items()}
    table(title, clock, next(iter(clock)), cpu=shown)


def make_czi(
    peers: str, path: Path, side: int, option: str, *, tile: int = 1024, channels: int = 2
) -> Path:
    """Write a mosaic of uint16 with pylibCZIrw."""
    if not option:
        return make_jpegxr(path, side, tile, channels)
    run(peers, MAKE_CZI, path, side, option, tile, channels)
    return path


def make_jpegxr(path: Path, side: int, tile: int, channels: int) -> Path:
    rng, blocks = np.random.default_rng(0), []
    for c in range(channels):
        for m, (i, j) in enumerate(np.ndindex(side // tile, side // tile)):
            level = rng.uniform(200, 900)
            pixels = rng.normal(level, level**0.5, (tile, tile)).clip(0).astype(np.uint16)
            at = {"C": c, "M": m}
            blocks.append(Block(pixels, x=j * tile, y=i * tile, at=at, compression="jpegxr"))
    # bioio-czi refuses files without metadata.
    return write_czi(path, blocks, metadata_xml("<Information><Image/></Information>"))


def czis(folder: Path, peers: str, side: int, repeats: int) -> None:
    """Whole reads and crops of a mosaic in every compression, and its conversion."""
    for name, option in COMPRESSIONS.items():
        path = make_czi(peers, folder / f"{name}.czi", side, option)
        size = f"{side}^2 x 2, {name}, {path.stat().st_size / 1e6:.0f} MB"
        measure(
            f"CZI {size}: the whole image",
            {
                "bfbridge": (US, OURS + OUR_WHOLE),
                "czifile": (peers, CZIFILE_WHOLE),
                "pylibCZIrw": (peers, PYLIB + PYLIB_WHOLE),
                "bioio-czi": (peers, BIOIO_WHOLE),
                "Java": (US, JAVA + OUR_WHOLE),
            },
            path, side, repeats,
        )  # fmt: skip
        measure(
            f"CZI {size}: 20 crops of 1024^2 x 2",
            {
                "bfbridge": (US, OURS + OUR_CROPS),
                "pylibCZIrw": (peers, PYLIB + PYLIB_CROPS),
                "bioio-czi": (peers, BIOIO_CROPS),
                "Java": (US, JAVA + OUR_CROPS),
            },
            path, side, repeats,
        )  # fmt: skip
        convert(folder, path)
        if name != "zstd":
            path.unlink()


def convert(folder: Path, path: Path) -> None:
    """Convert to OME-Zarr from a cold start."""
    code = "import sys, bfbridge; bfbridge.convert(sys.argv[1], sys.argv[2], overwrite=True{more})"
    ways = {"bfbridge": "", "Java": ", backend='bioformats'"}
    scripts = {name: (US, code.format(more=more)) for name, more in ways.items()}
    once(f"{path.stem} to OME-Zarr", scripts, path, folder / "out.ome.zarr")


def once(title: str, contenders: Mapping[str, tuple[str, str]], *given: object) -> None:
    """Time whole processes in turn."""
    import time

    clock: dict[str, list[float]] = {}
    for _ in range(3):
        for name, (python, code) in contenders.items():
            begun = time.perf_counter()
            try:
                run(python, code, *given)
            except RuntimeError as error:
                print(f"  {name} failed: {error}")
                continue
            clock.setdefault(name, []).append(time.perf_counter() - begun)
    table(title, clock, next(iter(clock)))


def cold(path: Path, peers: str | None) -> None:
    """From the start of a process to the first pixel."""
    shown = {name: (US, code.format(path=str(path))) for name, code in FIRST.items()}
    kind = path.suffix[1:]
    if peers:
        shown["library"] = (peers, FIRST_PEERS[kind].format(path=str(path)))
    once(f"{kind.upper()}: a cold start to the first pixel", shown)


def many(folder: Path, peers: str) -> None:
    """Open a CZI of 100 352 subblocks."""
    path = make_czi(peers, folder / "many.czi", 224 * 16, "uncompressed:", tile=16)
    ways = {
        "bfbridge": (US, f"from bfbridge import BioReader\nBioReader({str(path)!r}).shape"),
        "pylibCZIrw": (
            peers,
            f"from pylibCZIrw.czi import CziReader\nCziReader({str(path)!r}).total_bounding_box",
        ),
        "Java": (
            US, f"from bfbridge import BioReader\nBioReader({str(path)!r}, backend='java').shape",
        ),
    }  # fmt: skip
    seconds: dict[str, list[float]] = {}
    peak: dict[str, str] = {}
    for name, (python, opened) in ways.items():
        for _ in range(1 if name == "Java" else 3):
            took, memory = run(python, MANY.format(opened=opened)).split()
            seconds.setdefault(name, []).append(float(took))
            peak[name] = f"{float(memory):.0f}"
    table("CZI: opening 100,352 subblocks, with the import", seconds, "bfbridge", MB=peak)
    path.unlink()


def ranges(folder: Path, peers: str) -> None:
    """Count what opening and a crop over HTTP fetch."""
    from bfbridge import BioReader

    path = make_czi(peers, folder / "web.czi", 6144, "uncompressed:")
    with serve(folder) as web, BioReader(f"{web.url}/{path.name}") as br:
        _ = br.shape
        opened = web.sent
        br[3072:4096, 3072:4096]
        one = web.sent - opened
        br[2500:3524, 2500:3524]
        print(
            f"\nCZI of {path.stat().st_size / 1e6:.0f} MB over HTTP: opening fetches "
            f"{opened / 1e6:.3f} MB, a crop of 1024^2 x 2 (4.2 MB) that is one tile "
            f"{one / 1e6:.3f}, one over 2 x 2 tiles {(web.sent - opened - one) / 1e6:.3f}"
        )
    path.unlink()


def others(folder: Path, data: Path, peers: str | None, repeats: int) -> None:
    """ND2 and LIF: larger files of our own, and the real ones."""
    pixels = np.random.default_rng(0).integers(0, 60_000, (30, 2, 2048, 2048)).astype(np.uint16)
    interleaved = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    loops = [Nd2Loop("Z", 30)]
    two = [Nd2Channel("a"), Nd2Channel("b")]
    nd2 = [
        write_nd2(folder / "one.nd2", interleaved[..., :1], loops, two[:1]),
        write_nd2(folder / "two.nd2", interleaved, loops, two),
        write_nd2(folder / "zlib.nd2", interleaved[:8], [Nd2Loop("Z", 8)], two, compress=True),
        *sorted(data.glob("nd2/*.d/*.nd2")),
    ]
    lif = [
        write_lif(folder / "large.lif", [image_of(pixels.swapaxes(0, 1)[None])]),
        *sorted(data.glob("lif/*.d/*.lif")),
    ]
    for paths, library, code in [(nd2, "nd2", ND2_WHOLE), (lif, "liffile", LIF_WHOLE)]:
        for path in paths:
            contenders = {"bfbridge": (US, OURS + OUR_SERIES), "Java": (US, JAVA + OUR_SERIES)}
            if peers:
                contenders[library] = (peers, code)
            size = f"{path.name}, {path.stat().st_size / 1e6:.0f} MB"
            measure(f"{library}: all images of {size}", contenders, path, repeats=repeats)
    cold(nd2[0], peers)
    cold(lif[0], peers)


def slides(folder: Path, side: int, repeats: int) -> None:
    """NDPI: one level of restart intervals, with colour at full size and halved."""
    pixels = smooth(side, side)
    pixels += np.random.default_rng(0).integers(0, 12, pixels.shape, np.uint8)
    for subsampling in ("4:4:4", "4:2:0"):
        interval = 2048 // (8 if subsampling == "4:4:4" else 16)
        page = Page(pixels, interval=interval, subsampling=subsampling)
        path = write_ndpi(folder / "slide.ndpi", Slide([page, Page(smooth(400, 900), lens=-1.0)]))
        size = f"{side}^2, {subsampling}, {path.stat().st_size / 1e6:.0f} MB"
        for what, ours, theirs in (
            ("the whole level", OUR_WHOLE, TIFF_WHOLE),
            ("20 crops of 1024^2", OUR_CROPS, TIFF_CROPS),
        ):
            contenders = {
                "bfbridge": (US, OURS + ours), "tifffile": (US, theirs), "Java": (US, JAVA + ours)
            }  # fmt: skip
            measure(f"NDPI {size}: {what}", contenders, path, side, repeats, turns=2)
        path.unlink()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=8192)
    parser.add_argument("--peers", default=None)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="czi,many,web,others,slides")
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared/data")
    given = parser.parse_args(arguments)
    only = given.only.split(",")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if given.peers and "czi" in only:
            czis(folder, given.peers, given.side, given.repeats)
            cold(folder / "zstd.czi", given.peers)
        if given.peers and "many" in only:
            many(folder, given.peers)
        if given.peers and "web" in only:
            ranges(folder, given.peers)
        if "others" in only:
            others(folder, given.data, given.peers, given.repeats)
        if "slides" in only:
            slides(folder, given.side, given.repeats)


if __name__ == "__main__":
    main()
