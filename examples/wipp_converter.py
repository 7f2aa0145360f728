"""Convert to WIPP collections, a file per channel and time: python wipp_converter.py [SOURCE]."""

import sys
from pathlib import Path

from bfbridge import BioReader, BioWriter

DEMO = "demo&sizeX=1500&sizeY=1100&sizeZ=3&sizeC=3&sizeT=2&pixelType=uint8.fake"


def convert(source: str, folder: Path) -> None:
    with BioReader(source) as br:
        for t in range(br.T):
            for c in range(br.C):
                target = folder / f"out_c{c:03}_t{t:03}.ome.tif"
                with BioWriter(target, metadata=br.metadata, overwrite=True) as bw:
                    bw.C = 1
                    bw.T = 1
                    # Metadata of this channel instead of the first one.
                    pixels = bw.metadata.images[0].pixels
                    pixels.channels = [br.metadata.images[0].pixels.channels[c]]
                    for z in range(br.Z):
                        bw[:, :, z, 0, 0] = br[:, :, z, c, t]
                print(target)


if __name__ == "__main__":
    convert(sys.argv[1] if len(sys.argv) > 1 else DEMO, Path("wipp"))
