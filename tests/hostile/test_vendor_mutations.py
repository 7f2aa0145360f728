"""CZI, LIF, ND2 and NDPI files whose numbers and bytes were changed at random: no hang, no crash.

Each file is opened in a process of its own, which reads its metadata and the first planes. The
numbers of a failure are in its message; ``changed(data, random.Random(number))`` makes the file
again. Thousands of real files with ``-m slow``.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bfbridge.backend import OpenOptions, ReaderBackend, Region
from bfbridge.errors import BfbridgeError
from bfbridge.storage.source import as_source
from bfbridge_czi import CziReader
from bfbridge_lif import LifReader
from bfbridge_nd2 import Nd2Reader
from bfbridge_ndpi import NdpiReader
from tests.real.manifest import DATA
from tests.support.czis import Block, write_czi
from tests.support.forked import check
from tests.support.vendorzoo import ZOO

QUICK, BLOCK, BLOCKS = 60, 300, 6
LARGEST = 6_000_000
READERS: dict[str, type[ReaderBackend]] = {
    "czi": CziReader, "lif": LifReader, "nd2": Nd2Reader, "ndpi": NdpiReader,
}  # fmt: skip
# Where structures begin: entries and segments, items and elements, chunks, directories and streams.
MARKS = {
    ".czi": (b"DV", b"ZISRAW", b"WMPHOTO", b"II\xbc"),
    ".lif": (b"p\0\0\0", b"B\0y\0t\0e\0s\0I\0n\0c\0", b"E\0l\0e\0m\0e\0n\0t\0s\0"),
    ".nd2": (b"\xda\xce\xbe\n", b"u\0i\0", b"ImageDataSeq|", b"p\0", b"!"),
    ".ndpi": (b"\0\1\4\0", b"\x11\1\4\0", b"\x8c\xff", b"\xff\xd8", b"\xff\xc0", b"WMPHOTO"),
}
MOST_PIXELS = 1 << 24

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def suffix_of(data: bytes) -> str:
    if data.startswith(b"ZISRAW"):
        return ".czi"
    if data.startswith(b"II*\0"):
        return ".ndpi"
    return ".nd2" if data.startswith(b"\xda\xce\xbe") else ".lif"


class Changes:
    """What can be done to a file; each method changes one thing."""

    def __init__(self, data: bytes, rng: random.Random) -> None:
        self.out, self.size, self.rng = bytearray(data), len(data), rng
        self.places = []
        for mark in MARKS[suffix_of(data)]:
            at = data.find(mark)
            while at >= 0 and len(self.places) < 3000:
                self.places.append(at)
                at = data.find(mark, at + 1)

    def near(self) -> int:
        """A place within a structure."""
        return min(self.rng.choice(self.places) + self.rng.randrange(160), self.size - 9)

    def number(self) -> None:
        few = [0, 1, 2, 3, 255, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 63) - 1, self.size]
        value = self.rng.choice([*few, self.size - 1, self.rng.randrange(self.size), (1 << 64) - 1])
        code = self.rng.choice(["<B", "<H", "<I", "<I", "<Q"])
        top = (1 << 8 * struct.calcsize(code)) - 1
        struct.pack_into(code, self.out, self.near(), value & top)

    def step(self) -> None:
        place = self.near()
        self.out[place] = (self.out[place] + self.rng.choice([1, 255, 16, 128])) & 255

    def digits(self) -> None:
        """Change digits of the metadata: as text of one byte each, or of two."""
        place = self.rng.randrange(self.size)
        found = [i for i in range(place, min(place + 5000, self.size)) if 48 <= self.out[i] < 58]
        for i in self.rng.sample(found, min(len(found), 3)):
            self.out[i] = self.rng.choice(b"0123456789-.")

    def copied(self) -> None:
        """Put one structure in the place of another."""
        begin, end = self.rng.choice(self.places), self.rng.choice(self.places)
        length = min(self.rng.choice([32, 80, 112, 128]), self.size - max(begin, end))
        self.out[end : end + length] = self.out[begin : begin + length]

    def some_bytes(self) -> None:
        for _ in range(self.rng.choice([1, 3, 30])):
            place = self.rng.randrange(self.size)
            self.out[place] = self.rng.choice([0, 1, 255, self.rng.randrange(256)])


def changed(data: bytes, rng: random.Random) -> bytes:
    """Change a file in one to six places."""
    changes = Changes(data, rng)
    kinds = [*4 * [changes.number], changes.step, changes.step, changes.digits, changes.copied]
    kinds.append(changes.some_bytes)
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        rng.choice(kinds)()
    return bytes(changes.out[: rng.randrange(8, len(data))] if rng.random() < 0.03 else changes.out)


def read_some(path: Path) -> None:
    """Open, ask for all metadata, read the first planes of the first images and levels."""
    with path.open("rb") as file:
        name = suffix_of(file.read(16))
    # Not through BioReader, which would go on to ask Bio-Formats.
    reader = READERS[name[1:]].open(as_source(path), OpenOptions())
    try:
        with contextlib.suppress(BfbridgeError):
            reader.ome_xml()
        with contextlib.suppress(BfbridgeError):
            _ = reader.original_metadata
        for number, image in enumerate(reader.images[:3]):
            reader.lookup_table(number)
            for level, each in enumerate(image.levels[:4]):
                t, _, z, y, x = each.shape
                region = Region(
                    number, level, (0, 0, 0, 0, 0),
                    (min(t, 2), image.samples, min(z, 2), min(y, 1024), min(x, 1024)),
                )  # fmt: skip
                if np.prod(region.shape) < MOST_PIXELS:
                    with contextlib.suppress(BfbridgeError):
                        reader.read(region, np.empty(region.shape, image.dtype))
    finally:
        reader.close()


def made(kind: str, folder: Path) -> Iterator[Path]:
    """Sound files of every kind, made here."""
    for number in range(20):
        home = folder / str(number)
        home.mkdir()
        yield ZOO[kind](number, home)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("kind", ["czi", "lif", "nd2", "ndpi"])
def test_made_files_that_are_changed(tmp_path: Path, kind: str) -> None:
    sources = list(made(kind, tmp_path))
    (tmp_path / "here").mkdir()
    check(read_some, changed, sources, range(QUICK), tmp_path / "here")


def spoiled(data: bytes, rng: random.Random) -> bytes:
    """Change bytes of a JPEG-XR tile: of its directory and headers more often than of the rest."""
    out, begin = bytearray(data), data.index(b"II\xbc")
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        place = begin + rng.randrange(rng.choice([300, len(data) - begin]))
        out[place] = rng.choice([0, 1, 255, rng.randrange(256), out[place] ^ 1 << rng.randrange(8)])
    return bytes(out)


@pytest.mark.slow(ci=True)
def test_jpegxr_tiles_that_are_changed(tmp_path: Path) -> None:
    """A decoder in C, which takes sizes from several places."""
    noise, sources = np.random.default_rng(0), []
    for dtype in ("u1", "u2"):
        for shape in ((40, 56), (40, 56, 3)):
            tile = Block(noise.integers(0, 250, shape).astype(dtype), compression="jpegxr")
            sources.append(write_czi(tmp_path / f"{dtype}{len(shape)}.czi", [tile]))
    (tmp_path / "here").mkdir()
    check(read_some, spoiled, sources, range(QUICK), tmp_path / "here")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["czi", "lif", "nd2", "ndpi"])
@pytest.mark.parametrize("block", range(BLOCKS))
def test_more_files_that_are_changed(tmp_path: Path, kind: str, block: int) -> None:
    sources = list(made(kind, tmp_path))
    real = (path for path in sorted(DATA.glob(f"{kind}/*/*")) if path.suffix == f".{kind}")
    sources += [path for path in real if path.stat().st_size < LARGEST]
    (tmp_path / "here").mkdir()
    first = 1000 + block * BLOCK
    check(read_some, changed, sources, range(first, first + BLOCK), tmp_path / "here")
