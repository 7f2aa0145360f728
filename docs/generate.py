"""Make what the pages show from the library itself: pictures and the table of formats.

Called by .ci/docs. Writes docs/images/*.png and docs/formats.md; uses no network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import bfbridge
from bfbridge.registry import find

DOCS = Path(__file__).resolve().parent
FIRST = "cells&sizeX=512&sizeY=384&sizeZ=3&sizeC=2&pixelType=uint16.fake"
NATIVE = {
    "OME-TIFF": "`ometiff`",
    "Tagged Image File Format": "`ometiff`, where the meaning is certain",
    "Zeiss CZI": "",
    "Animated PNG": "`pictures`",
    "JPEG": "`pictures`",
    "JPEG-2000": "`pictures`",
    "Graphics Interchange Format": "`pictures`",
    "Windows Bitmap": "`pictures`",
    "Truevision Targa": "`pictures`",
    "Portable Any Map": "`pictures`",
    "Aperio SVS": "`ometiff`, where the meaning is certain",
}


def cells() -> np.ndarray:
    """Round cells with bright nuclei, two channels: shape (2, 384, 512), uint16."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:384, :512].astype(np.float32)
    image = np.zeros((2, 384, 512), np.float32)
    for _ in range(28):
        cy, cx, r = rng.uniform(10, 374), rng.uniform(10, 502), rng.uniform(14, 30)
        d = np.hypot(y - cy, (x - cx) * rng.uniform(0.8, 1.2))
        image[0] += 2600 * np.exp(-((d / (0.45 * r)) ** 4))
        image[1] += 1500 * np.exp(-((d / r) ** 4)) * rng.uniform(0.5, 1)
    image += rng.normal(150, 25, image.shape)
    return np.clip(image, 0, 4095).astype(np.uint16)


def pictures() -> None:
    """Write docs/images."""
    folder = DOCS / "images"
    folder.mkdir(exist_ok=True)
    with bfbridge.BioReader(FIRST) as br:
        (folder / "first.png").write_bytes(br.render(format="png"))
    array = cells()
    target = folder / "cells.ome.tif"
    bfbridge.imwrite(
        target, array, axes="CYX", pixel_size=0.5, channel_names=["nuclei", "cells"], overwrite=True
    )
    with bfbridge.BioReader(target) as br:
        (folder / "cells.png").write_bytes(br.render(format="png"))
    target.unlink()


def formats() -> None:
    """Write docs/formats.md, asked of the jar that is installed."""
    module = find("bioformats").load()
    known = sorted(module.formats(), key=lambda each: each.name.lower())
    intro = (
        f"Bio-Formats {module.start()} reads {len(known)} formats. `bfbridge formats` asks the jar "
        "in use. The `omezarr` backend reads and writes OME-Zarr besides; every other format "
        "of a native backend is marked. The content of a file decides which backend reads it, not "
        "its name."
    )
    lines = [
        "# Formats",
        "",
        intro,
        "",
        "| format | suffixes | read natively by | Bio-Formats writes |",
        "| --- | --- | --- | --- |",
    ]
    for each in known:
        suffixes = " ".join(f"`{suffix}`" for suffix in each.suffixes)
        writes = " ".join(f"`{suffix}`" for suffix in each.writes)
        title = each.name.replace("|", "\\|")
        lines.append(f"| {title} | {suffixes} | {NATIVE.get(each.name, '')} | {writes} |")
    (DOCS / "formats.md").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    pictures()
    formats()
