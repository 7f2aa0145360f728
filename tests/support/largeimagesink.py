"""An image made tile by tile by large_image's sink and by that of `bfbridge.large_image`.

``python -m tests.support.largeimagesink OUT.json PYTHON`` runs `CODE` with the large_image of that
Python (large-image, large-image-source-zarr) and stores what `tests/integrations` compares with.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["CODE"]

CODE = """
import numpy as np

def shown(source):
    meta = source.getMetadata()
    frames = [source.getRegion(format="numpy", frame=n)[0] for n in range(source.frames)]
    return {
        **{key: meta[key] for key in ("sizeX", "sizeY", "levels", "bandCount")},
        "dtype": str(meta["dtype"]), "mm": meta["mm_x"] or None, "frames": source.frames,
        "names": meta.get("channels"), "range": meta.get("IndexRange"),
        # Differ for any change of a value or place.
        "digests": [
            int((f.astype(np.int64) * (np.arange(f.size).reshape(f.shape) % 9973)).sum())
            for f in frames
        ],
    }

def made(large_image, folder, suffix):
    found, rng = {}, np.random.default_rng(0)
    source = large_image.new()
    for number in range(12):
        height, width = (int(n) for n in rng.integers(20, 700, 2))
        y, x = (int(n) for n in rng.integers(0, 900, 2))
        tile = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
        mask = rng.random((height, width)) < 0.5 if number % 2 else None
        source.addTile(tile, x, y, mask=mask)
    source.mm_x = source.mm_y = 0.0005
    found["unsaved"] = shown(source)
    source.write(f"{folder}/whole{suffix}", lossy=False)
    source.crop = (10, 20, 300, 400)
    source.write(f"{folder}/crop{suffix}", lossy=False)
    source.crop = None
    source.minWidth, source.minHeight = 2000, 1800
    source.write(f"{folder}/least{suffix}", lossy=False)
    source = large_image.new()
    for z in range(2):
        for c in range(3):
            tile = rng.integers(0, 60000, (300, 200)).astype(np.uint16)
            source.addTile(tile[:, :, None], x=100 * z, y=5 * c, z=z, c=c)
    source.channelNames = ["red", "green", "blue"]
    source.write(f"{folder}/frames{suffix}")
    for name in ("whole", "crop", "least", "frames"):
        found[name] = shown(large_image.open(f"{folder}/{name}{suffix}"))
    return found
"""


def main() -> None:
    """Ask large_image, and store its answers."""
    out, python = sys.argv[1:]
    run = (
        "import json, sys, large_image\n"
        "print(json.dumps(made(large_image, sys.argv[1], sys.argv[2])))"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = subprocess.run(
            [python, "-c", f"{CODE}\n{run}", folder, ".zarr.zip"], check=True, capture_output=True
        )
    Path(out).write_bytes(found.stdout)


if __name__ == "__main__":
    main()
