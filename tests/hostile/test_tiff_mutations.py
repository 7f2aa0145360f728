"""Real TIFFs whose headers, entries, pointers and bytes were changed at random: no hang.

Each file is opened in a process of its own, which is ended after a while: its metadata are asked
for, and the first planes. Every outcome is pixels or a BfbridgeError. The numbers of a failure are
in its message; ``changed(data, random.Random(number))`` makes the file again.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bfbridge import BioReader
from bfbridge.errors import BfbridgeError
from tests.real.manifest import DATA
from tests.support.forked import check
from tests.support.tiffzoo import make

QUICK, BLOCK, BLOCKS = 60, 300, 7
LARGEST = 2_500_000
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
DECISIVE = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 330, 339)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@dataclass
class Structure:
    """Where a TIFF's entries (place, tag, values) and pointers to directories are."""

    order: str
    big: bool
    entries: list[tuple[int, int, int]] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)

    @property
    def word(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def room(self) -> int:
        return 8 if self.big else 4


def structure(data: bytes) -> Structure:
    order = "<" if data[:2] == b"II" else ">"
    found = Structure(order, struct.unpack_from(order + "H", data, 2)[0] == 43)
    head, count_code, length = (8, "Q", 20) if found.big else (2, "H", 12)
    found.links.append(8 if found.big else 4)
    while len(found.starts) < 400:
        (start,) = struct.unpack_from(found.word, data, found.links[-1])
        if not start or start in found.starts or start + head > len(data):
            break
        (count,) = struct.unpack_from(order + count_code, data, start)
        end = start + head + count * length
        if end + found.room > len(data):
            break
        found.starts.append(start)
        found.links.append(end)
        for place in range(start + head, end, length):
            (tag,) = struct.unpack_from(order + "H", data, place)
            (values,) = struct.unpack_from(found.word, data, place + 4)
            found.entries.append((place, tag, values))
    return found


class Changes:
    """What can be done to a file; each method changes one thing."""

    def __init__(self, data: bytes, rng: random.Random) -> None:
        self.there = structure(data)
        self.out, self.size, self.rng = bytearray(data), len(data), rng
        self.top = (1 << (8 * self.there.room)) - 1

    def number(self) -> int:
        few = [0, 1, 2, 3, 8, 16, 255, 65535, 1 << 20, (1 << 31) - 1, 1 << 31, self.top, self.size]
        more = [self.size - 1, self.rng.randrange(self.size), *self.there.starts[:9]]
        return self.rng.choice([*few, *more]) & self.top

    def put(self, place: int, number: int) -> None:
        struct.pack_into(self.there.word, self.out, place, max(0, number) & self.top)

    def put_short(self, place: int, number: int) -> None:
        struct.pack_into(self.there.order + "H", self.out, place, number)

    def link(self) -> None:
        near = self.rng.choice([*self.there.starts, self.rng.randrange(self.size)])
        self.put(self.rng.choice(self.there.links), near + self.rng.choice([-12, -2, 0, 2, 12]))

    def entry(self) -> None:
        place, _, _ = self.rng.choice(self.there.entries)
        part = self.rng.randrange(4)
        if part == 0:
            self.put_short(place, self.rng.choice([*DECISIVE, 254, 270, 347]))
        elif part == 1:
            self.put_short(place + 2, self.rng.randrange(20))
        else:
            self.put(place + 4 + (part == 3) * self.there.room, self.number())

    def value(self) -> None:
        entries = [each for each in self.there.entries if each[1] in DECISIVE]
        self.put(
            self.rng.choice(entries or self.there.entries)[0] + 4 + self.there.room, self.number()
        )

    def levels(self) -> None:
        place, _, _ = self.rng.choice(self.there.entries)
        self.put_short(place, 330)
        self.put_short(place + 2, self.rng.choice([4, 13, 16]))
        self.put(place + 4, self.rng.choice([1, 3, 1000, self.size // 8, self.top]))
        self.put(place + 4 + self.there.room, self.number())

    def digits(self) -> None:
        texts = [e for e in self.there.entries if e[1] == 270 and e[2] > self.there.room]
        if not texts:
            return
        place, _, length = self.rng.choice(texts)
        (start,) = struct.unpack_from(self.there.word, self.out, place + 4 + self.there.room)
        inside = range(start, min(start + length, self.size))
        found = [i for i in inside if 48 <= self.out[i] < 58]
        for i in self.rng.sample(found, min(len(found), 3)):
            self.out[i] = self.rng.choice(b"0123456789-.")

    def some_bytes(self) -> None:
        for _ in range(self.rng.choice([1, 3, 30])):
            place = self.rng.randrange(self.size)
            self.out[place] = self.rng.choice([0, 1, 255, self.rng.randrange(256)])


def changed(data: bytes, rng: random.Random) -> bytes:
    """Change a file in one to six places."""
    changes = Changes(data, rng)
    kinds: list[Callable[[], None]] = [changes.some_bytes, changes.link]
    if changes.there.entries:
        kinds += [changes.link, *3 * [changes.entry], *2 * [changes.value]]
        kinds += [changes.levels, changes.digits]
    for _ in range(rng.choice([1, 1, 1, 2, 3, 6])):
        rng.choice(kinds)()
    return bytes(changes.out[: rng.randrange(8, len(data))] if rng.random() < 0.03 else changes.out)


def read_some(path: Path) -> None:
    """Open, ask for all metadata, read the first plane of the first levels."""
    with BioReader(path, backend="ometiff", max_workers=1) as reader:
        with contextlib.suppress(BfbridgeError):
            _ = reader.metadata
        _ = reader.ome_xml, reader.original_metadata
        for image in list(reader.series)[:3]:
            for level in list(image.levels)[:4]:
                _ = level[:1024, :1024, 0, 0, 0]


def made(folder: Path) -> Iterator[Path]:
    """Sound files of every kind, made here."""
    for number in range(40):
        home = folder / str(number)
        home.mkdir()
        with contextlib.suppress(Exception):  # not every combination can be made
            path = make(number, home).path
            with path.open("rb") as file:
                if file.read(4) in MAGIC:
                    yield path


@pytest.mark.slow(ci=True)
def test_made_files_that_are_changed(tmp_path: Path) -> None:
    sources = list(made(tmp_path))
    assert len(sources) > 20
    (tmp_path / "here").mkdir()
    check(read_some, changed, sources, range(QUICK), tmp_path / "here")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason=f"no real files at {DATA}")
@pytest.mark.parametrize("block", range(BLOCKS))
def test_real_files_that_are_changed(tmp_path: Path, block: int) -> None:
    sources: dict[Path, Path] = {}
    for path in sorted(DATA.rglob("*")):
        if path.is_file() and path.stat().st_size < LARGEST:
            with path.open("rb") as file:
                if file.read(4) in MAGIC:
                    # Of a set of hundreds, one is enough.
                    sources.setdefault(path.parent, path)
    first = 1000 + block * BLOCK
    numbers = range(first, first + BLOCK)
    check(read_some, changed, list(sources.values()), numbers, tmp_path)
