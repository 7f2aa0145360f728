"""Reading and writing of one plane of uint16, in the formats that need no Java.

``BFBRIDGE_SUITE_SIDE`` sets the side of the plane (default 4096).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import bfbridge

SIDE = int(os.environ.get("BFBRIDGE_SUITE_SIDE", "4096"))


def plane() -> np.ndarray:
    """Return smooth spots with noise, as fluorescence has; the same in every run."""
    random = np.random.default_rng(7)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / 97
    signal = 900 * (np.sin(x) * np.cos(y)) ** 4 + 40
    return random.poisson(signal).astype(np.uint16)


class Formats:
    """A file of each format: all of it, crops of it, and the time to write it."""

    params = ("a.ome.tif", "a.ome.zarr")
    param_names = ("name",)
    timeout = 600

    def setup(self, name: str) -> None:
        """Write the file, and open it."""
        self.folder = tempfile.TemporaryDirectory()
        self.pixels = plane()
        self.path = Path(self.folder.name) / name
        self.target = Path(self.folder.name) / f"new-{name}"
        bfbridge.imwrite(self.path, self.pixels, pyramid=True)
        self.reader = bfbridge.BioReader(self.path, cache=0)

    def teardown(self, name: str) -> None:
        """Remove the files."""
        self.reader.close()
        self.folder.cleanup()

    def time_read(self, name: str) -> None:
        """All pixels of an open file."""
        self.reader[:]

    def time_crop(self, name: str) -> None:
        """512 x 512 pixels that touch four chunks of an open file."""
        middle = SIDE // 2
        self.reader[middle - 256 : middle + 256, middle - 256 : middle + 256]

    def time_open(self, name: str) -> None:
        """Opening, and the sizes."""
        with bfbridge.BioReader(self.path) as reader:
            assert reader.X == SIDE

    def time_write(self, name: str) -> None:
        """All pixels and lower levels, to a new file."""
        bfbridge.imwrite(self.target, self.pixels, pyramid=True, overwrite=True)

    def time_thumbnail(self, name: str) -> None:
        """A picture of 256 pixels from the lower levels."""
        self.reader.thumbnail(256)

    def peakmem_read(self, name: str) -> None:
        """Memory of a process that reads all pixels."""
        self.reader[:]

    def track_file_size(self, name: str) -> int:
        """Bytes on disk."""
        if self.path.is_file():
            return self.path.stat().st_size
        return sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())

    track_file_size.unit = "bytes"


class Start:
    """A new process."""

    def time_import(self) -> None:
        """``import bfbridge``."""
        # asv may have extended the path of its own process only.
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        subprocess.run([sys.executable, "-c", "import bfbridge"], check=True, env=env)
