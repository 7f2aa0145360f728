"""Make what the pages show from the library itself: pictures and the table of formats.

Called by .ci/docs. Writes docs/images/*.png and docs/formats.md; uses no network.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

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


def arrange(rows: list[list[np.ndarray]], gap: int = 8) -> np.ndarray:
    """Arrange pictures (Y, X, 4) in rows, aligned at the top left, on a transparent background."""
    lines = []
    for row in rows:
        height = max(each.shape[0] for each in row)
        padded = [np.pad(each, ((0, height - len(each)), (0, gap), (0, 0))) for each in row]
        lines.append(np.concatenate(padded, axis=1))
    width = max(each.shape[1] for each in lines)
    lines = [np.pad(each, ((0, gap), (0, width - each.shape[1]), (0, 0))) for each in lines]
    return np.concatenate(lines)


def frame(
    picture: np.ndarray, start: tuple[int, int], stop: tuple[int, int], color: tuple[int, ...]
) -> None:
    """Draw the edge of a box of rows and columns, two pixels wide."""
    (top, left), (bottom, right) = start, stop
    for rows in (slice(top, top + 2), slice(bottom - 2, bottom)):
        picture[rows, left:right] = color
    for columns in (slice(left, left + 2), slice(right - 2, right)):
        picture[top:bottom, columns] = color


def chunks(br: bfbridge.BioReader) -> np.ndarray:
    """Render an image with its chunks, those that a crop decodes, and the crop."""
    picture = br.render(z=1)
    height, width = br.chunks[:2]
    crop = (slice(100, 230), slice(200, 300))
    for y in range(0, br.Y, height):
        for x in range(0, br.X, width):
            stop = min(y + height, br.Y), min(x + width, br.X)
            met = y < crop[0].stop and crop[0].start < stop[0]
            if met and x < crop[1].stop and crop[1].start < stop[1]:
                part = picture[y : stop[0], x : stop[1], :3]
                part[:] = part // 2 + np.array((90, 70, 0), np.uint8)
            frame(picture, (y, x), stop, (150, 150, 150, 255))
    frame(picture, (crop[0].start, crop[1].start), (crop[0].stop, crop[1].stop), (255, 60, 60, 255))
    return picture


def concepts(folder: Path) -> None:
    """Write the pictures of the page on concepts: axes, levels, chunks, samples."""
    planes = cells()
    stack = np.stack([planes // 4, planes, planes // 2], axis=1)
    target = folder / "concepts.ome.tif"
    bfbridge.imwrite(target, stack, axes="CZYX", pixel_size=0.5, pyramid=2, tile=128)
    with bfbridge.BioReader(target) as br:
        axes = [
            [br.render([c], z=z, max_size=240, text=f"C {c}, Z {z}") for z in range(br.Z)]
            for c in range(br.C)
        ]
        levels = [each.render(z=1, text=f"level {each.level}") for each in br.series[0].levels]
        made = {"axes": arrange(axes), "levels": arrange([levels]), "chunks": chunks(br)}
        color = br.render(z=1, max_size=240)[..., :3]
    target.unlink()
    bfbridge.imwrite(target, color, axes="YXS")
    with bfbridge.BioReader(target) as br:
        samples = br.asarray("YXS")
        row = [br.render()]
        for sample in range(br.samples_per_pixel):
            alone = np.zeros_like(row[0])
            alone[..., sample] = samples[..., sample]
            alone[..., 3] = 255
            row.append(alone)
        made["samples"] = arrange([row])
    target.unlink()
    for name, picture in made.items():
        Image.fromarray(picture).save(folder / f"{name}.png", optimize=True)


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
    concepts(folder)


def formats() -> None:
    """Write docs/formats.md from the formats of the installed jar."""
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
