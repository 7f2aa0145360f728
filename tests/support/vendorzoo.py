"""CZI, LIF, ND2 and NDPI files of many makes, each made from a number.

The same number makes the same file. What Bio-Formats is known to read wrongly (DESIGN.md) is not
made here: the tests of each backend look at that.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.support import lifs
from tests.support.czis import Block, metadata_xml, write_czi
from tests.support.lifs import Dimension, LifImage, write_lif
from tests.support.nd2s import Nd2Channel, Nd2Loop, write_nd2
from tests.support.ndpis import Page, Slide, slide_of, smooth, write_ndpi

__all__ = ["ZOO", "Maker"]

Array = np.ndarray[Any, Any]
Maker = Callable[[int, Path], Path]
# Of an axis that is not Z, C or T a mosaic is left to Bio-Formats where it makes images.
_EXTRA: Final = "BHIRV"
_CZI_XML: Final = metadata_xml(
    "<Information><Image><SizeX>1</SizeX><Dimensions><Channels>"
    '<Channel Id="Channel:0" Name="ab"/></Channels></Dimensions></Image></Information>'
    '<Scaling><Items><Distance Id="X"><Value>1e-7</Value></Distance></Items></Scaling>'
    '<DisplaySetting><Channels><Channel Name="x"><Color>#FF00FF33</Color></Channel></Channels>'
    "</DisplaySetting>"
)


class _CziShape:
    """What one CZI file is made of."""

    def __init__(self, rng: random.Random) -> None:
        self.dtype = rng.choice(["u1", "u2", "f4", "u1", "u2", "u4", "f8"])
        self.samples = 1 if self.dtype in ("u4", "f8") else rng.choice([1, 1, 1, 3])
        codecs = ["none", "none", "zstd0", "zstd1"]
        codecs += ["zstd1hilo"] * (self.dtype == "u2") + ["jpegxr"] * (self.dtype in ("u1", "u2"))
        self.codec = rng.choice(codecs)
        self.levels = rng.choice([0, 0, 0, 1, 2])
        self.width, self.height = (rng.randint(20, 60) // 4 * 4 for _ in "xy")
        self.mosaic = rng.choice([None, None, (1, 2), (2, 2), (2, 3)])
        self.overlap = rng.choice([0, 4, 8])
        lengths = dict.fromkeys(_EXTRA, 1)
        if rng.random() < 0.35 and self.samples == 1:
            lengths[rng.choice("HIR" if self.mosaic else _EXTRA)] = rng.choice([2, 3])
        lengths |= {"T": rng.choice([1, 1, 2, 3]), "Z": rng.choice([1, 1, 2])}
        lengths |= {"C": rng.choice([1, 1, 2]), "S": rng.choice([1, 1, 2, 3])}
        if self.mosaic and self.mosaic[0] * self.mosaic[1] == lengths["S"]:
            # Bio-Formats takes such scenes for one.
            lengths["S"] = 1
        axes = list(lengths.items())
        rng.shuffle(axes)
        self.axes = axes
        self.order = rng.choice(["CZTSBHIRVM", "MZCTSBHIRV", "ZCTHBVISRM"])
        self.used = {axis for axis, length in axes if length > 1 or rng.random() < 0.5}
        self.numbered = bool(self.mosaic) or rng.random() < 0.7

    @property
    def tiles(self) -> list[tuple[int, int]]:
        rows, columns = self.mosaic or (1, 1)
        return list(np.ndindex(rows, columns))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a plane."""
        row, column = self.tiles[-1]
        height, width = self.height - self.overlap, self.width - self.overlap
        return row * height + self.height, column * width + self.width


def czi(number: int, folder: Path) -> Path:
    """Write a CZI file with every kind of subblock."""
    rng, noise = random.Random(number), np.random.default_rng(number)
    shape = _CziShape(rng)

    def block(height: int, width: int, **more: Any) -> Block:
        size = (height, width, 3)[: 2 + (shape.samples > 1)]
        # Bio-Formats cannot read parts of JPEG-XR tiles that are no smaller than their pixels.
        pixels = noise.integers(0, 9 if shape.codec == "jpegxr" else 250, size)
        return Block(pixels.astype(shape.dtype), compression=shape.codec, **more)

    blocks = []
    for values in itertools.product(*[range(length) for _, length in shape.axes]):
        at = dict(zip([axis for axis, _ in shape.axes], values, strict=True))
        left = 1000 * at["S"]
        for m, (i, j) in enumerate(shape.tiles):
            y, x = i * (shape.height - shape.overlap), j * (shape.width - shape.overlap)
            wanted = shape.used | ({"M"} if shape.numbered else set())
            place = {a: m if a == "M" else at[a] for a in shape.order if a in wanted}
            tags = (
                f"<METADATA><Tags><StageXPosition>{m}</StageXPosition><AcquisitionTime>2020-01-01"
                f"T00:00:{len(blocks) % 60:02d}.5Z</AcquisitionTime></Tags></METADATA>"
            )
            tags = tags if rng.random() < 0.5 else ""
            blocks.append(
                block(shape.height, shape.width, x=left + x, y=7 + y, at=place, metadata=tags)
            )
        height, width = shape.size
        place = {a: at[a] for a in shape.order if a in shape.used}
        for level in range(1, shape.levels + 1):
            factor = 2**level
            blocks.append(
                block(height // factor, width // factor, x=left, y=7, at=place, scale=factor)
            )
    return write_czi(folder / "made.czi", blocks, _CZI_XML if rng.random() < 0.7 else "")


def czi_by_libczi(number: int, folder: Path) -> Path:
    """Write a CZI file with pylibCZIrw: mosaics at random places, scenes, Z, T, C."""
    from pylibCZIrw import czi as libczi

    rng, noise = random.Random(number), np.random.default_rng(number)
    path = folder / f"made{number}.czi"
    dtype = rng.choice(["u1", "u2", "f4"])
    samples = 1 if dtype == "f4" else rng.choice([1, 1, 3])
    option = rng.choice(
        ["uncompressed:", "zstd0:ExplicitLevel=2", "zstd1:ExplicitLevel=2",
         "zstd1:ExplicitLevel=2;PreProcess=HiLoByteUnpack"]
    )  # fmt: skip
    scenes = rng.choice([1, 1, 2, 3])
    tiles = rng.choice([n for n in (1, 2, 4, 5) if n != scenes or n == 1])
    lengths = [rng.choice([1, 1, 2, 3]) for _ in "TZC"]
    size = rng.randint(20, 60), rng.randint(20, 60)
    places = [(rng.randint(0, 3) * 13, rng.randint(0, 3) * 17) for _ in range(tiles)]
    places[0] = (0, 0)
    with libczi.create_czi(str(path), exist_ok=True, compression_options=option) as file:
        for t, z, c, s in np.ndindex(*lengths, scenes):
            for x, y in places:
                pixels = noise.integers(0, 250, (*size, samples)).astype(dtype)
                file.write(
                    pixels, location=(x + 1000 * s, y), plane={"T": t, "Z": z, "C": c}, scene=s
                )
        if rng.random() < 0.7:
            file.write_metadata(
                "made", channel_names={c: f"channel {c}" for c in range(lengths[2])},
                scale_x=1e-7, scale_y=2e-7, scale_z=3e-7,
            )  # fmt: skip
    return path


def lif(number: int, folder: Path) -> Path:
    """Write a LIF file of a few images with their axes in any order."""
    rng, noise = random.Random(number), np.random.default_rng(number)
    images = [_lif_image(rng, noise, n) for n in range(rng.choice([1, 1, 2, 3]))]
    return write_lif(folder / "made.lif", images, wide=rng.random() < 0.8)


def _lif_image(rng: random.Random, noise: np.random.Generator, number: int) -> LifImage:
    dtype = rng.choice(["u1", "u2", "u1", "f4"])
    colour = rng.random() < 0.2 and dtype != "f4"
    floats = int(dtype == "f4")
    pixel = (3 if colour else 1) * np.dtype(dtype).itemsize
    width = rng.choice([16, 20, 24])
    plane = rng.choice([lifs.Y, lifs.Y, lifs.Y, lifs.Z, lifs.T])
    axes: list[tuple[int | str, int]] = [
        (kind, rng.randint(1, 3)) for kind in (lifs.Z, lifs.T)
        if kind != plane and rng.random() < 0.5
    ]  # fmt: skip
    if rng.random() < 0.2:
        axes.append((lifs.TILE, rng.randint(1, 3)))
    channels = 1 if colour else rng.choice([1, 1, 2, 3])
    if channels > 1:
        axes.insert(0, ("C", channels))
    if rng.random() < 0.3:
        rng.shuffle(axes)
    step = pixel * width
    dimensions = [Dimension(lifs.X, width, pixel)]
    luts = rng.sample(["Green", "Red", "Blue", "Gray", "Glow", "Cyan", "Yellow", ""], 3)
    told = [(luts[0], 0, floats)]
    for kind, length in [(plane, rng.randint(5, 20)), *axes]:
        if isinstance(kind, str):
            told = [(luts[n], n * step, floats) for n in range(length)]
        else:
            unit = "s" if kind == lifs.T else "m"
            dimensions.append(Dimension(kind, length, step, rng.choice([1e-5, 3e-5]), unit))
        step *= length
    if colour:
        told = [(lut, n * pixel // 3, 0) for n, lut in enumerate(luts)]
    name = rng.choice(["a", "b/c", "f/g/h"]) + str(number)
    data = noise.integers(0, 250, step // np.dtype(dtype).itemsize).astype(dtype).tobytes()
    return LifImage(name, data, dimensions, told)


def nd2(number: int, folder: Path) -> Path:
    """Write an ND2 file with loops over time, positions and Z."""
    rng, noise = random.Random(number), np.random.default_rng(number)
    axes = sorted(rng.sample("TPZ", rng.randint(0, 3)), key="TPZ".index)
    loops = [Nd2Loop(axis, rng.choice([1, 2, 3, 5]), step=rng.choice([0.5, 0.25])) for axis in axes]
    several = any(loop.axis == "P" and loop.length > 1 for loop in loops)
    # Bio-Formats guesses the type where there are several positions, and the padding of odd rows.
    dtype = "u2" if several else rng.choice(["u1", "u2", "f4"])
    width = rng.choice([96, 117, 133, 140]) if dtype == "u2" else rng.choice([96, 140])
    count = int(np.prod([loop.length for loop in loops]))
    names = rng.randint(1, 4)
    frames = noise.integers(0, 250, (count, rng.choice([91, 120]), width, names)).astype(dtype)
    colors = [0, 0xFFFFFF, 0xFF0000, 0x1020]
    channels = [
        Nd2Channel(f"ch{n}", rng.choice(colors), rng.choice([460.0, 525.0]), 100.0 * (n + 1))
        for n in range(names)
    ]
    path = folder / "made.nd2"
    return write_nd2(path, frames, loops, channels, compress=rng.random() < 0.4)


def ndpi(number: int, folder: Path) -> Path:
    """Write an NDPI file in JPEG or JPEG XR."""
    rng = random.Random(number)
    height, width = rng.randint(40, 120), 64 * rng.randint(1, 4)
    if rng.random() < 0.3:
        values = np.random.default_rng(number).integers(0, 4000, (height, width)).astype(np.uint16)
        slide = Slide([Page(values, compression="jpegxr", strip=rng.choice([0, 16]))], mode=17)
    else:
        slide = slide_of(
            smooth(height, width, seed=number), levels=rng.randint(1, 3), depth=rng.randint(1, 2),
            interval=rng.choice([0, 2, 8, 16]), marked=rng.random() < 0.8,
            subsampling=rng.choice(["4:4:4", "4:2:2", "4:2:0"]),
        )  # fmt: skip
    return write_ndpi(folder / "made.ndpi", slide)


ZOO: Final[dict[str, Maker]] = {
    "czi": czi, "czi by libCZI": czi_by_libczi, "lif": lif, "nd2": nd2, "ndpi": ndpi,
}  # fmt: skip
