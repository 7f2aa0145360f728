"""Save a PNG of every image of a file: python thumbnails.py [SOURCE]."""

import sys
from pathlib import Path

from bfbridge import BioReader

DEMO = "demo&sizeX=1600&sizeY=1200&sizeC=2&series=2&resolutions=4&pixelType=uint16.fake"


def thumbnails(source: str) -> None:
    with BioReader(source) as br:
        for view in br.series:
            target = Path(f"series{view.index}.png")
            target.write_bytes(view.render(max_size=256, format="png"))
            print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    thumbnails(sys.argv[1] if len(sys.argv) > 1 else DEMO)
