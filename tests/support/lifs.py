"""Small LIF files of every make, for there is no library that writes them.

What comes out is read by liffile and Bio-Formats in the tests that use it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Dimension", "LifImage", "image_of", "lif_bytes", "write_lif"]

X, Y, Z, T, LAMBDA, TILE = 1, 2, 3, 4, 5, 10


@dataclass
class Dimension:
    """One axis as the document tells of it: DimID, elements, bytes to the next, physical length."""

    kind: int
    length: int
    step: int
    physical: float = 1e-5
    unit: str = "m"

    def xml(self) -> str:
        return (
            f'<DimensionDescription DimID="{self.kind}" NumberOfElements="{self.length}" '
            f'Origin="0" Length="{self.physical:.6e}" Unit="{self.unit}" BitInc="0" '
            f'BytesInc="{self.step}"/>'
        )


@dataclass
class LifImage:
    """One image.

    Attributes
    ----------
    name
        With folders: "folder/image".
    data
        Of the block of pixels.
    dimensions
        Without that of the channels.
    channels
        Name of the colour table, bytes from the first channel, DataType.
    inside
        More XML inside the Image element.
    """

    name: str
    data: bytes
    dimensions: Sequence[Dimension]
    channels: Sequence[tuple[str, int, int]] = (("Gray", 0, 0),)
    inside: str = ""

    def xml(self, block: str) -> str:
        bits = 8 * self.dimensions[0].step // (3 if len(self.channels) == 3 else 1)
        bits = 8 * self.dimensions[0].step if bits % 8 else bits
        channels = "".join(
            f'<ChannelDescription DataType="{kind}" ChannelTag="0" Resolution="{bits}" '
            f'NameOfMeasuredQuantity="" Min="0" Max="255" Unit="" LUTName="{lut}" '
            f'IsLUTInverted="0" BytesInc="{step}" BitInc="0"/>'
            for lut, step, kind in self.channels
        )
        dimensions = "".join(dimension.xml() for dimension in self.dimensions)
        *folders, name = self.name.split("/")
        text = (
            f'<Element Name="{name}"><Data><Image><ImageDescription>'
            f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
            f"</ImageDescription>{self.inside}</Image></Data>"
            f'<Memory Size="{len(self.data)}" MemoryBlockID="{block}"/></Element>'
        )
        for folder in reversed(folders):
            text = f'<Element Name="{folder}"><Children>{text}</Children></Element>'
        return text


def image_of(pixels: np.ndarray[Any, Any], name: str = "image", inside: str = "") -> LifImage:
    """Make an image of T, C, Z, Y, X, or with samples last."""
    t, c, z, y, x = pixels.shape[:5]
    samples = pixels.shape[5] if pixels.ndim == 6 else 1
    size = pixels.itemsize
    kind = int(pixels.dtype.kind == "f")
    stored = pixels[..., ::-1] if samples == 3 else pixels
    data = stored.astype(pixels.dtype.newbyteorder("<")).tobytes()
    row = x * samples * size
    channels: list[tuple[str, int, int]]
    if samples == 3:
        channels = [(lut, n * size, kind) for n, lut in enumerate(("Blue", "Green", "Red"))]
    else:
        luts = ("Green", "Red", "Gray", "Blue", "Glow")
        channels = [(luts[n % 5], n * z * y * row, kind) for n in range(c)]
    dimensions = [
        Dimension(X, x, samples * size),
        Dimension(Y, y, row, 2e-5),
        Dimension(Z, z, y * row, 3e-5),
        Dimension(T, t, c * z * y * row, 10.0, "s"),
    ]
    return LifImage(name, data, dimensions, channels, inside)


def lif_bytes(images: Sequence[LifImage], *, wide: bool = True) -> bytes:
    """Return a file; block sizes take 64 bits where `wide`, else 32."""
    blocks = [f"MemBlock_{number}" for number in range(1, len(images) + 1)]
    inside = "".join(image.xml(block) for image, block in zip(images, blocks, strict=True))
    document = (
        '<LMSDataContainerHeader Version="2"><Element Name="file.lif"><Memory Size="0" '
        f'MemoryBlockID="MemBlock_0"/><Children>{inside}</Children></Element>'
        "</LMSDataContainerHeader>"
    )
    text = document.encode("utf-16-le")
    parts = [struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(document)), text]
    empty = LifImage("", b"", ())
    for block, image in zip(["MemBlock_0", *blocks], [empty, *images], strict=True):
        name = block.encode("utf-16-le")
        size = struct.pack("<Q" if wide else "<I", len(image.data))
        head = b"\x2a" + size + b"\x2a" + struct.pack("<I", len(block)) + name
        parts += [struct.pack("<II", 0x70, len(head)), head, image.data]
    return b"".join(parts)


def write_lif(path: Path, images: Sequence[LifImage], **options: Any) -> Path:
    """Write a file; see `lif_bytes`."""
    path.write_bytes(lif_bytes(images, **options))
    return path
