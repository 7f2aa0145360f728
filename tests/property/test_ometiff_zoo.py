"""Thousands of TIFFs of every make: right pixels, or Bio-Formats' own, or a clear error.

Each file is made from a number (tests/support/tiffzoo.py). Where its pixels are certain they are
the referee; where they are not (a TiffData that contradicts itself, a tag left out) Bio-Formats
is. What this backend leaves to Bio-Formats cannot differ from it. A failure names the number;
`make(number, folder)` makes the file again.
"""

from __future__ import annotations

import contextlib
import math
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge.errors import BfbridgeError, UnreadableFile, Unsupported
from tests.support.referees import needed
from tests.support.tiffs import all_of, open_java, open_ours
from tests.support.tiffzoo import Made, make

pytestmark = pytest.mark.java

QUICK = 60
BLOCK = 500
BLOCKS = 10
FLIPS = 12
MOST = 1 << 22
# An error where Bio-Formats makes black or misplaced planes (DESIGN.md, differences on purpose).
ON_PURPOSE = (
    "is missing",
    "there is no directory",
    "none of the files that contain",
    "was changed without its metadata",
    "its metadata name directory",
)
# Some options of tifffile's exclude each other.
NOT_MADE = (ValueError, TypeError, RuntimeError, tifffile.OmeXmlError)


@pytest.fixture(scope="module", autouse=True)
def _bioformats() -> None:
    needed("bioformats")


def loaded(opener: Any, path: Path) -> list[tuple[Any, list[Any]]] | BfbridgeError:
    """Every image's record and the pixels of its levels, or the error in their place."""
    try:
        reader = opener(path)
    except BfbridgeError as error:
        return error
    found = []
    try:
        for index, image in enumerate(reader.images):
            levels: list[Any] = []
            for level, each in enumerate(image.levels):
                if math.prod(each.shape) > MOST:
                    levels.append(UnreadableFile("larger than any file made here"))
                    continue
                try:
                    levels.append(all_of(reader, index, level))
                except BfbridgeError as error:
                    levels.append(error)
            found.append((image, levels))
    finally:
        reader.close()
    return found


def faults(made: Made) -> tuple[str, list[str]]:
    """What became of a file, and what is wrong with it."""
    ours = loaded(open_ours, made.path)
    if isinstance(ours, Unsupported):
        return "left", []
    java = loaded(open_java, made.path)
    if isinstance(ours, BfbridgeError):
        clear = isinstance(java, BfbridgeError) or any(text in str(ours) for text in ON_PURPOSE)
        return "error", [] if clear else [str(ours)]
    wrong = []
    for level, truth in enumerate(made.truth):
        pixels = ours[0][1][level]
        if isinstance(pixels, BfbridgeError):
            wrong.append(f"level {level}: {pixels}")
        elif not same(pixels, truth):
            wrong.append(f"level {level} is not what was stored")
    if not isinstance(java, BfbridgeError):
        wrong += differences(ours, java, made)
    return "read", wrong


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return left.dtype == right.dtype and np.array_equal(
        left, right, equal_nan=left.dtype.kind in "fc"
    )


def differences(ours: Any, java: Any, made: Made) -> list[str]:
    """Compare what both readers opened; pixels that are certain have been compared already."""
    if len(ours) != len(java):
        return [f"{len(ours)} images, not {len(java)}"]
    wrong = []
    for index, ((mine, left), (theirs, right)) in enumerate(zip(ours, java, strict=True)):
        if counts_samples_twice(mine, theirs, right[0]):
            continue
        wrong += [
            f"{what} {getattr(mine, what)}, not {getattr(theirs, what)}"
            for what in ("dtype", "samples", "name", "pixel_size")
            if getattr(mine, what) != getattr(theirs, what)
        ]
        wrong += [
            f"channels' {what}s differ"
            for what in ("name", "color", "emission", "excitation")
            if [getattr(c, what) for c in mine.channels]
            != [getattr(c, what) for c in theirs.channels]
        ]
        if [level.shape for level in mine.levels] != [level.shape for level in theirs.levels]:
            wrong.append(f"levels {mine.levels}, not {theirs.levels}")
            continue
        certain = len(made.truth) if index == 0 else 0
        for level in range(certain, len(left)):
            wrong += unequal(f"image {index}, level {level}", left[level], right[level], made)
    return wrong


def counts_samples_twice(mine: Any, theirs: Any, pixels: Any) -> bool:
    """Whether Bio-Formats takes each sample for a channel of samples (DESIGN.md).

    Then it has more planes than are stored, and those are black.
    """
    if isinstance(pixels, BfbridgeError) or mine.samples == 1:
        return False
    more = theirs.levels[0].shape[1] > mine.levels[0].shape[1]
    return more and not pixels.any((3, 4)).all()


def misread(recipe: dict[str, Any]) -> bool:
    """Whether Bio-Formats makes wrong pixels of it (DESIGN.md, differences on purpose)."""
    packed = recipe.get("bits", 8) not in (8, 16, 32, 64)
    full_color = recipe.get("compression") == "jpeg" and recipe.get("subsampling") == (1, 1)
    return packed or full_color or recipe.get("fill_order") == 2


def unequal(where: str, left: Any, right: Any, made: Made) -> list[str]:
    if isinstance(right, BfbridgeError) or misread(made.recipe):
        return []
    if isinstance(left, BfbridgeError):
        clear = made.recipe.get("damaged") or any(text in str(left) for text in ON_PURPOSE)
        return [] if clear else [f"{where}: {left}"]
    if made.recipe.get("lossy"):
        most = np.abs(left.astype(float) - right.astype(float)).max()
        return [] if most <= 2 else [f"{where} differs by {most}"]
    return [] if same(left, right) else [f"{where} differs from Bio-Formats"]


def zoo(numbers: range, folder: Path) -> Iterator[tuple[int, Made]]:
    """Make files, each alone in its folder: plain TIFFs are not taken among others."""
    for number in numbers:
        home = folder / str(number) / "here"
        home.mkdir(parents=True)
        found: list[Made] = []
        with warnings.catch_warnings(), contextlib.suppress(*NOT_MADE):
            warnings.simplefilter("ignore")
            found.append(make(number, home))
        if found:
            yield number, found[0]


def check(numbers: range, folder: Path) -> None:
    wrong, seen = [], {"left": 0, "error": 0, "read": 0}
    for number, made in zoo(numbers, folder):
        outcome, found = faults(made)
        seen[outcome] += 1
        wrong += [f"{number} ({made.path.name}): {fault} {made.recipe}" for fault in found]
    assert not wrong, "\n".join(wrong[:5])
    assert seen["read"] > len(numbers) // 3, seen


def entries(path: Path) -> list[tuple[int, int]]:
    """Position and length of the entries of the main directories, except texts."""
    with tifffile.TiffFile(path) as file:
        length = 20 if file.is_bigtiff else 12
        return [
            (tag.offset, length)
            for number in range(len(file.pages))
            for tag in file.pages.get(number, cache=False).aspage().tags
            if tag.dtype != 2
        ]


def bit_faults(path: Path, rng: random.Random, recipe: dict[str, Any]) -> list[str]:
    """Change one bit of a directory at a time; the pixels change only if Bio-Formats' do."""
    sound, before = path.read_bytes(), loaded(open_ours, path)
    places, wrong = entries(path), []
    for _ in range(FLIPS):
        start, length = rng.choice(places)
        place, bit = start + rng.randrange(length), 1 << rng.randrange(8)
        changed = bytearray(sound)
        changed[place] ^= bit
        path.write_bytes(changed)
        ours = loaded(open_ours, path)
        if isinstance(ours, BfbridgeError) or unchanged(ours, before):
            continue
        java = loaded(open_java, path)
        if isinstance(java, BfbridgeError):
            wrong.append(f"bit {bit} of byte {place}: read, but by Bio-Formats not: {java}")
        elif not unchanged(ours, java):
            wrong.append(f"bit {bit} of byte {place}: read otherwise than by Bio-Formats")
    return [f"{fault} {recipe}" for fault in wrong]


def unchanged(left: Any, right: Any) -> bool:
    """Whether all pixels of `left` that can be read are those of `right`."""
    return len(left) == len(right) and all(
        isinstance(mine, BfbridgeError)
        or (not isinstance(theirs, BfbridgeError) and same(mine, theirs))
        for (_, some), (_, others) in zip(left, right, strict=True)
        for mine, theirs in zip(some, others, strict=False)
    )


@pytest.mark.java
def test_a_zoo_of_tiffs(tmp_path):
    check(range(QUICK), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(1, BLOCKS + 1))
def test_a_large_zoo_of_tiffs(tmp_path, block):
    check(range(block * BLOCK, (block + 1) * BLOCK), tmp_path)


@pytest.mark.slow
def test_single_bits_of_directories(tmp_path):
    wrong, tried = [], 0
    for number, made in zoo(range(20000, 20400), tmp_path):
        ours = loaded(open_ours, made.path)
        java = loaded(open_java, made.path)
        if isinstance(ours, BfbridgeError) or isinstance(java, BfbridgeError):
            continue
        if made.path.suffix == ".ome" or not unchanged(ours, java):
            continue
        tried += 1
        wrong += bit_faults(made.path, random.Random(number), made.recipe)
    assert not wrong, "\n".join(wrong[:5])
    assert tried > 100
