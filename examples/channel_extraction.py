"""Copy one channel to a new file: python channel_extraction.py [SOURCE [CHANNEL]]."""

import sys

from bfbridge import BioReader, BioWriter

DEMO = "demo&sizeX=1200&sizeY=900&sizeZ=3&sizeC=4&pixelType=uint16.fake"


def extract(source: str, channel: int, target: str) -> None:
    with BioReader(source) as br, BioWriter(target, metadata=br.metadata, overwrite=True) as bw:
        bw.C = 1
        # Metadata of this channel instead of the first one: name, colour, wavelengths.
        pixels = bw.metadata.images[0].pixels
        pixels.channels = [br.metadata.images[0].pixels.channels[channel]]
        for z in range(br.Z):
            for t in range(br.T):
                bw[:, :, z, 0, t] = br[:, :, z, channel, t]
    print(f"channel {channel} of {source} -> {target}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    extract(
        arguments[0] if arguments else DEMO,
        int(arguments[1]) if len(arguments) > 1 else 1,
        "channel.ome.zarr",
    )
