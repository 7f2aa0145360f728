"""What the face costs above the backend: crops, whole reads, and opening large metadata.

    python benchmarks/bench_face.py

Needs bfbridge[ometiff] and tifffile. Prints ratios and their goals.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from support.harness import interleave, table

from bfbridge import BioReader, BioWriter
from bfbridge.backend import Region

SIDE = 8192
CROPS = 40


def realistic(side: int) -> np.ndarray:
    """Smooth blobs with Poisson noise, as a fluorescence camera gives them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / 97
    smooth = 400 + 300 * np.sin(x) * np.cos(y)
    return rng.poisson(smooth).astype(np.uint16)


def crops(path: Path) -> None:
    rng = random.Random(0)
    places = [(rng.randrange(SIDE // 1024), rng.randrange(SIDE // 1024)) for _ in range(CROPS)]
    with BioReader(path, max_workers=1, cache=0) as br:
        backend = br._file.backend
        out = np.empty((1, 1, 1, 1024, 1024), br.dtype)

        def through_face() -> None:
            for i, j in places:
                br[i * 1024 : (i + 1) * 1024, j * 1024 : (j + 1) * 1024, 0, 0, 0]

        def through_backend() -> None:
            for i, j in places:
                start = (0, 0, 0, i * 1024, j * 1024)
                stop = (1, 1, 1, (i + 1) * 1024, (j + 1) * 1024)
                backend.read(Region(0, 0, start, stop), out)

        seconds = interleave({"BioReader": through_face, "backend": through_backend}, 9)
    ratios = table(f"{CROPS} aligned crops of 1024 x 1024, one worker", seconds, "backend")
    print(f"  overhead {100 * (ratios['BioReader'] - 1):.1f} % (goal: under 10 %)")


PEAK = """
import sys
import numpy as np
from bfbridge import BioReader
from support.harness import peak_mb
with BioReader(sys.argv[1], cache=0) as br:
    br[:64, :64]
    def peak():
        return peak_mb() * 1e6
    before = peak()
    array = br[:]
    print((peak() - before) / array.nbytes)
"""


def peak(path: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", PEAK, str(path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
    )  # fmt: skip
    print(f"\nbr[:] takes {float(completed.stdout):.2f} x the array (goal: at most 1.15)")


OPEN = """
import sys, time
from bfbridge import BioReader
begun = time.perf_counter()
with BioReader(sys.argv[1]) as br:
    br.shape, br.dtype, br.channel_names
print(time.perf_counter() - begun, "ome_types" in sys.modules)
"""


def large_metadata(folder: Path) -> None:
    """A file whose OME-XML has 20 MB, as plane by plane positions and times make it."""
    import tifffile

    path = folder / "large.ome.tif"
    planes = "".join(
        f'<Plane TheZ="{i}" TheC="0" TheT="0" DeltaT="{i * 0.1:.6f}" PositionX="{i * 1.5:.4f}" '
        f'PositionY="{i * 2.5:.4f}" PositionZ="{i * 0.3:.4f}" ExposureTime="0.05"/>'
        for i in range(150_000)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/'
        'OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        'Type="uint8" SizeX="64" SizeY="48" SizeZ="1" SizeC="1" SizeT="1">'
        '<Channel ID="Channel:0:0" '
        f'SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/>{planes}</Pixels></Image></OME>'
    )
    tifffile.imwrite(
        path, np.zeros((48, 64), np.uint8), description=xml, metadata=None, tile=(16, 16)
    )
    took = []
    for _ in range(5):
        completed = subprocess.run(
            [sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True
        )
        seconds, built = completed.stdout.split()
        if built == "True":
            raise RuntimeError("opening a file built an ome_types object")
        took.append(float(seconds))
    megabytes = len(xml) / 1e6
    print(f"\n{megabytes:.0f} MB of OME-XML: open to shape {sorted(took)[2]:.2f} s (goal: 0.5)")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "tiled.ome.tif"
        pixels = realistic(SIDE)
        with BioWriter(path, image=pixels) as bw:
            bw[:] = pixels
        crops(path)
        peak(path)
        large_metadata(folder)


if __name__ == "__main__":
    main()
