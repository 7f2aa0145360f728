"""Read an image in overlapping tiles: python tile_iteration.py [SOURCE]."""

import sys

import numpy as np

from bfbridge import BioReader

DEMO = "demo&sizeX=2000&sizeY=1500&sizeZ=2&pixelType=uint16.fake"


def brightest(source: str) -> None:
    with BioReader(source) as br:
        best = max(br.tiles(512, overlap=64), key=lambda tile: float(tile.pixels.mean()))
        print(f"brightest tile: y {best.y}, x {best.x}, z {best.z}: {best.pixels.mean():.1f}")

        # Batches of tiles of equal size, for a model; tiles at the edge are padded with zeros.
        sums = [batch.pixels.sum(dtype=np.uint64) for batch in br.tiles(256, batch=16)]
        assert sum(int(s) for s in sums) == int(br[:].sum(dtype=np.uint64))

        # The same with the interface of bfio: tiles of the first plane, with their ranges.
        count = sum(len(tiles) for tiles, _ in br([256, 256], [200, 200]))
        print(f"{count} tiles of 256 x 256, one every 200 pixels")


if __name__ == "__main__":
    brightest(sys.argv[1] if len(sys.argv) > 1 else DEMO)
