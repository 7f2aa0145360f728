"""Web Mercator tiles of rio-tiler, with which those of the server are compared.

``python -m tests.support.riotilermaps OUT.json PYTHON`` asks the rio-tiler of that Python (an
environment with rio-tiler) and stores what `tests/geotiff/test_large_image_maps.py` compares with:
red, green, blue and alpha of every 51st pixel of each tile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.largeimagemaps import make_raster

__all__ = ["STEP"]

STEP = 51
"""Pixels between those that are stored, from the first one on."""

_SCRIPT = """
import json, sys
from rio_tiler.io import Reader
step, told = int(sys.argv[2]), {}
with Reader(sys.argv[1]) as reader:
    for z, x, y in ((14, 8876, 5768), (12, 2219, 1442), (11, 1109, 721)):
        for method in ("nearest", "bilinear"):
            tile = reader.tile(
                x, y, z, tilesize=256, reproject_method=method, resampling_method=method
            )
            pixels = [*tile.data, tile.mask]
            told[f"{z}/{x}/{y} {method}"] = [p[::step, ::step].tolist() for p in pixels]
print(json.dumps(told))
"""


def main() -> None:
    """Ask rio-tiler, and store its answers."""
    out, python = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        raster = Path(folder) / "raster.tif"
        make_raster(raster)
        found = subprocess.run(
            [python, "-c", _SCRIPT, str(raster), str(STEP)], check=True, capture_output=True
        )
    told = json.loads(found.stdout)
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(told[key])}" for key in told)
    Path(out).write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
