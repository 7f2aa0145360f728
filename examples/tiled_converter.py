"""Convert an image to tiled OME-TIFF, tile by tile: python tiled_converter.py [SOURCE [TARGET]]."""

import sys

from bfbridge import BioReader, BioWriter

DEMO = "demo&sizeX=2500&sizeY=1800&sizeZ=2&sizeC=2&pixelType=uint16.fake"


def convert(source: str, target: str) -> None:
    tile = 1024
    with (
        BioReader(source) as br,
        BioWriter(target, metadata=br.metadata, overwrite=True) as bw,
    ):
        for t in range(br.T):
            for c in range(br.C):
                for z in range(br.Z):
                    for y in range(0, br.Y, tile):
                        for x in range(0, br.X, tile):
                            box = (slice(y, y + tile), slice(x, x + tile), z, c, t)
                            bw[box] = br[box]
        print(f"{source} -> {target}: {br.shape} {br.dtype}, read by {br.backend}")


if __name__ == "__main__":
    given = sys.argv[1:]
    source = given[0] if given else DEMO
    convert(source, given[1] if len(given) > 1 else "converted.ome.tif")
