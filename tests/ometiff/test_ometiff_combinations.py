"""Files of every kind the writer makes, read by all referees: tifffile, libvips, libtiff, Java.

A combination is a type, samples a pixel, codec and predictor, byte order of the array, tile and
pyramid. The usual run takes few of them, in which any two settings meet at least once; all of them
take long:

    python -m pytest -m slow tests/ometiff/test_ometiff_combinations.py
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bfbridge import BioWriter
from tests.support import referees

Array = np.ndarray[Any, Any]

JPEGS = ("jpeg", "jpeg2000")
MOST = 2
"""Grey levels by which decoders of lossy codecs may differ: DESIGN.md names the codecs."""


class Combination(NamedTuple):
    dtype: str
    samples: int
    coding: tuple[str, int]
    byteorder: str
    tile: int | tuple[int, int]
    pyramid: tuple[int, ...]

    @property
    def possible(self) -> bool:
        """Whether TIFF has it."""
        compression, predictor = self.coding
        if compression == "jpeg":
            return self.dtype == "u1" and self.samples in (1, 3)
        if compression == "jpeg2000":
            return self.dtype in ("u1", "i1", "u2", "i2")
        return {1: True, 2: self.dtype[0] in "iu", 3: self.dtype[0] == "f"}[predictor]

    @property
    def lossy(self) -> bool:
        return self.coding[0] == "jpeg"


FACTORS: tuple[tuple[Any, ...], ...] = (
    ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "c8", "c16"),
    (1, 2, 3, 4),
    (
        *itertools.product(("deflate", "zstd", "lzw"), (1, 2, 3)),
        ("none", 1), ("jpeg", 1), ("jpeg2000", 1),
    ),
    ("<", ">"),
    (16, (32, 48), 128),
    ((), (2, 4), (4, 8)),
)  # fmt: skip
ALL = [c for c in itertools.starmap(Combination, itertools.product(*FACTORS)) if c.possible]


def pairs(combination: Combination) -> set[tuple[Any, ...]]:
    return set(itertools.combinations(enumerate(combination), 2))


def few(combinations: Iterable[Combination]) -> list[Combination]:
    """Combinations in which every pair of settings occurs that occurs in all of them."""
    shuffled = sorted(combinations, key=str)
    random.Random(0).shuffle(shuffled)
    chosen, missing = [], set().union(*map(pairs, shuffled))
    # First those that bring most new pairs.
    for least in (15, 9, 5, 3, 1):
        for combination in shuffled:
            new = pairs(combination) & missing
            if len(new) >= least:
                chosen.append(combination)
                missing -= new
    return chosen


def readable(referee: str, combination: Combination) -> bool:
    """Whether a referee knows the types and codecs of a combination."""
    compression, predictor = combination.coding
    if referee == "libvips":
        # Which codecs it has depends on how it was built.
        return combination.dtype not in ("f8", "c8", "c16") and referees.libvips_has(
            {"jpeg2000": "jp2k"}.get(compression, compression)
        )
    if referee == "libtiff":
        return compression != "jpeg2000"
    if referee == "bioformats":
        return combination.dtype[0] != "c" and predictor != 3
    return True


def pixels(combination: Combination) -> Array:
    """Y, X, Z, C x S, T. Smooth where loss must be small; else all different.

    Sums of floats are exact, so that means of the lower levels do not depend on the order.
    """
    shape = (100, 90, 2, combination.samples, 1)
    y, x, z, c, _ = np.indices(shape)
    if combination.lossy:
        return (120 + 60 * np.sin(x / 20 + z) + 40 * np.cos(y / 15) + 10 * c).astype("u1")
    dtype = np.dtype(combination.dtype)
    rng = np.random.default_rng(0)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    values = rng.integers(-(2**20), 2**20, shape) / 64
    if dtype.kind == "c":
        values = values + 1j * rng.integers(-(2**20), 2**20, shape) / 64
    return values.astype(dtype)


def expected_levels(array: Array, factors: tuple[int, ...]) -> list[Array]:
    """T, C, Z, Y, X of every level: each the mean of the one before it, halves rounded up."""
    levels, before = [array], 1
    for factor in factors:
        last, step, before = levels[-1], factor // before, factor
        exact = last.astype(np.int64) if last.dtype.kind in "iu" else last.astype("c16")
        sums, counts = exact, np.ones(last.shape, np.int64)
        for axis in (0, 1):
            starts = range(0, last.shape[axis], step)
            sums = np.add.reduceat(sums, starts, axis)
            counts = np.add.reduceat(counts, starts, axis)
        if last.dtype.kind in "iu":
            mean = (2 * sums + counts) // (2 * counts)
        else:
            mean = sums / counts
            mean = mean if last.dtype.kind == "c" else mean.real
        levels.append(mean.astype(last.dtype))
    return [np.ascontiguousarray(level.transpose(4, 3, 2, 0, 1)) for level in levels]


def written(folder: Path, combination: Combination) -> tuple[Path, list[Array]]:
    compression, predictor = combination.coding
    array = pixels(combination)
    path = folder / "made.ome.tif"
    stored = array.astype(array.dtype.newbyteorder(combination.byteorder))
    with BioWriter(
        path,
        image=stored,
        overwrite=True,
        samples_per_pixel=combination.samples,
        compression=compression,
        tile=combination.tile,
        pyramid=combination.pyramid or False,
        **({} if compression in (*JPEGS, "none") else {"predictor": predictor}),
    ) as writer:
        writer[:] = stored
    return path, expected_levels(array, combination.pyramid)


def check(folder: Path, combination: Combination, referee: str) -> None:
    path, expected = written(folder, combination)
    found = referees.READERS[referee](path)
    assert [(level.shape, level.dtype) for level in found] == [
        (level.shape, level.dtype) for level in expected
    ]
    if combination.lossy:
        for left, right, made in zip(found, referees.by_bfbridge(path), expected, strict=True):
            assert np.abs(left.astype(int) - right).max() <= MOST
            assert np.abs(left.astype(int) - made).max() <= 12
        return
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


def check_all(folder: Path, combinations: Iterable[Combination], referee: str) -> None:
    readables = [combination for combination in combinations if readable(referee, combination)]
    if not readables:
        pytest.skip(f"{referee} reads none of them")
    failures = []
    for combination in readables:
        try:
            check(folder, combination, referee)
        except Exception as error:  # noqa: BLE001 - all failures are reported together
            failures.append(f"{combination}: {error!r}")
    assert not failures, f"{len(failures)} of {len(readables)}:\n" + "\n".join(failures[:20])


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("referee", referees.READERS)
def test_any_two_settings_meet(tmp_path, referee):
    referees.needed(referee)
    check_all(tmp_path, few(ALL), referee)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("dtype", FACTORS[0])
@pytest.mark.parametrize("referee", referees.READERS)
def test_all_combinations(tmp_path, referee, dtype):
    referees.needed(referee)
    check_all(tmp_path, (c for c in ALL if c.dtype == dtype), referee)
