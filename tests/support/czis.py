"""Small CZI files with every kind of subblock, for what pylibCZIrw cannot write.

Structures are those of "ZISRAW (CZI) File Format" 1.2.2; what comes out is read by pylibCZIrw and
Bio-Formats in the tests that use it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

__all__ = ["Block", "czi_bytes", "metadata_xml", "stored_data", "write_czi"]

Array = np.ndarray[Any, Any]
PIXEL_TYPES = {
    ("uint8", 1): 0, ("uint16", 1): 1, ("float32", 1): 2, ("uint8", 3): 3, ("uint16", 3): 4,
    ("float32", 3): 8, ("uint8", 4): 9, ("uint32", 1): 12, ("float64", 1): 13,
}  # fmt: skip
COMPRESSIONS = {"none": 0, "lzw": 2, "jpegxr": 4, "zstd0": 5, "zstd1": 6, "zstd1hilo": 6}


@dataclass
class Block:
    """One subblock.

    Attributes
    ----------
    pixels
        Shape (Y, X) or (Y, X, samples), samples as red, green, blue.
    x, y
        Of its corner, in pixels of the full size.
    at
        Position along further axes, in the order in which they are written.
    scale
        Pixels of the full size for each pixel stored.
    compression
        One of `COMPRESSIONS`.
    metadata
        XML of the subblock.
    pyramid
        Pyramid type; by default 0 for full size and 2 else.
    """

    pixels: Array
    x: int = 0
    y: int = 0
    at: dict[str, int] = field(default_factory=dict)
    scale: int = 1
    compression: str = "none"
    metadata: str = ""
    pyramid: int | None = None
    size: tuple[int, int] | None = None
    position: int = 0

    def entry(self) -> bytes:
        """Its entry of the directory."""
        samples = self.pixels.shape[2] if self.pixels.ndim == 3 else 1
        kind = PIXEL_TYPES[self.pixels.dtype.name, samples]
        rows, columns = self.pixels.shape[:2]
        height, width = self.size or (rows * self.scale, columns * self.scale)
        pyramid = self.pyramid if self.pyramid is not None else 2 * (self.scale > 1)
        head = struct.pack(
            "<2siqiiB5xi", b"DV", kind, self.position, 0, COMPRESSIONS[self.compression], pyramid,
            2 + len(self.at),
        )  # fmt: skip
        axes = [("X", self.x, width, columns), ("Y", self.y, height, rows)]
        axes += [(axis, start, 1, 1) for axis, start in self.at.items()]
        return head + b"".join(
            struct.pack("<4siifi", axis.encode(), start, size, float(start), stored)
            for axis, start, size, stored in axes
        )

    def segment(self) -> bytes:
        """The segment, without its header."""
        data, metadata = stored_data(self.pixels, self.compression), self.metadata.encode()
        head = struct.pack("<iiq", len(metadata), 0, len(data)) + self.entry()
        return head.ljust(256, b"\0") + metadata + data


def stored_data(pixels: Array, compression: str) -> bytes:
    """Encode pixels."""
    if compression == "jpegxr":
        # The level 1.0 loses nothing; the encoder takes red, green, blue.
        return bytes(imagecodecs.jpegxr_encode(pixels, level=1.0))
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    raw = np.ascontiguousarray(pixels).tobytes()
    if compression == "none":
        return raw
    if compression == "lzw":
        return bytes(imagecodecs.lzw_encode(raw))
    if compression == "zstd0":
        return bytes(imagecodecs.zstd_encode(raw, level=1))
    if compression == "zstd1":
        return b"\x01" + bytes(imagecodecs.zstd_encode(raw, level=1))
    halves = np.frombuffer(raw, np.uint8).reshape(-1, 2)
    split = np.concatenate([halves[:, 0], halves[:, 1]]).tobytes()
    return b"\x03\x01\x01" + bytes(imagecodecs.zstd_encode(split, level=1))


def _segment(name: str, data: bytes) -> bytes:
    allocated = -(-len(data) // 32) * 32
    return struct.pack("<16sqq", name.encode(), allocated, len(data)) + data.ljust(allocated, b"\0")


def czi_bytes(
    blocks: Sequence[Block], xml: str = "", attachments: Sequence[tuple[str, str, bytes]] = ()
) -> bytes:
    """Return a file.

    Parameters
    ----------
    blocks
        In the order in which they are to lie in the file.
    xml
        The metadata; none where it is empty.
    attachments
        Name, content type and data of each.
    """
    parts: list[bytes] = []
    at = 32 + 512

    def put(name: str, data: bytes) -> int:
        nonlocal at
        parts.append(_segment(name, data))
        begun, at = at, at + len(parts[-1])
        return begun

    for block in blocks:
        block.position = at
        put("ZISRAWSUBBLOCK", block.segment())
    metadata = 0
    if xml:
        text = xml.encode()
        metadata = put("ZISRAWMETADATA", struct.pack("<ii248x", len(text), 0) + text)
    entries = []
    for name, kind, data in attachments:
        entry = struct.pack("<2s10xqi16s8s80s", b"A1", at, 0, b"", kind.encode(), name.encode())
        entries.append(entry)
        put("ZISRAWATTACH", struct.pack("<q8x", len(data)) + entry + bytes(112) + data)
    attached = 0
    if entries:
        attached = put("ZISRAWATTDIR", struct.pack("<i252x", len(entries)) + b"".join(entries))
    listed = b"".join(block.entry() for block in blocks)
    directory = put("ZISRAWDIRECTORY", struct.pack("<i124x", len(blocks)) + listed)
    header = struct.pack(
        "<4i16s16siqqiq", 1, 0, 0, 0, b"a" * 16, b"a" * 16, 0, directory, metadata, 0, attached
    )
    return _segment("ZISRAWFILE", header.ljust(512, b"\0")) + b"".join(parts)


def write_czi(path: Path, blocks: Sequence[Block], xml: str = "", **options: Any) -> Path:
    """Write a file; see `czi_bytes`."""
    path.write_bytes(czi_bytes(blocks, xml, **options))
    return path


def metadata_xml(inner: str = "") -> str:
    """Wrap elements as the metadata of a file."""
    return f"<ImageDocument><Metadata>{inner}</Metadata></ImageDocument>"
