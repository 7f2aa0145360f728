"""Save a PNG of every image of a file: python thumbnails.py [SOURCE]."""

import sys

import numpy as np
from PIL import Image

from bfbridge import BioReader

DEMO = "demo&sizeX=1600&sizeY=1200&series=2&resolutions=4&pixelType=uint16.fake"


def thumbnails(source: str) -> None:
    with BioReader(source) as br:
        for view in br.series:
            small = view.levels[-1]
            plane = small[:, :, small.sizes["Z"] // 2, 0, 0].astype(np.float32)
            low, high = float(plane.min()), float(plane.max())
            grey = (plane - low) * (255 / max(high - low, 1))
            image = Image.fromarray(grey.astype(np.uint8))
            image.thumbnail((256, 256))
            image.save(f"series{view.index}.png")
            print(f"series{view.index}.png: {image.width} x {image.height}")


if __name__ == "__main__":
    thumbnails(sys.argv[1] if len(sys.argv) > 1 else DEMO)
