"""Arrays that others wrote, in random combinations of all they can: the pixels they read.

Some dozens are looked at in every run, thousands with ``-m slow`` (two minutes).
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorstore")
pytest.importorskip("zarr")

from bfbridge.backend import OpenOptions, Region, Shape5
from bfbridge.errors import Unsupported
from bfbridge.storage.source import as_source
from bfbridge_omezarr import OmeZarrReader
from tests.support.zarrzoo import Exhibit, make, seen_by

# Combinations that Zarr's specification does not name, or has named since.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def _compare(path: Path, exhibit: Exhibit, seed: int) -> bool:
    """Compare whole levels and crops; whether there was a reader to compare with."""
    referees = seen_by(path, exhibit)
    try:
        reader = OmeZarrReader.open(as_source(path), OpenOptions())
    except Unsupported as error:
        # It is one of those that zarr-python has to read for us, and does not.
        if "zarr-python does not open" in str(error) and "zarr-python" not in referees:
            return False
        raise
    image = reader.images[0]
    shape = image.levels[0].shape
    whole = np.empty(shape, image.dtype)
    reader.read(Region(0, 0, (0,) * 5, shape), whole)
    for name, expected in referees.items():
        np.testing.assert_array_equal(whole, expected, f"{name}, {exhibit.told}")
    rnd = random.Random(seed)
    for _ in range(4):
        low: Shape5 = tuple(rnd.randrange(n) for n in shape)  # type: ignore[assignment]
        high: Shape5 = tuple(  # type: ignore[assignment]
            rnd.randrange(a + 1, n + 1) for a, n in zip(low, shape, strict=True)
        )
        region = Region(0, 0, low, high)
        out = np.empty(region.shape, image.dtype)
        reader.read(region, out)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        np.testing.assert_array_equal(out, whole[box], f"{region}, {exhibit.told}")
    reader.close()
    return bool(referees)


def _look_at(seeds: range, folder: Path) -> int:
    compared = 0
    for seed in seeds:
        path = folder / f"{seed}.zarr"
        exhibit = make(seed, path)
        compared += exhibit is not None and _compare(path, exhibit, seed)
        shutil.rmtree(path, ignore_errors=True)
    return compared


@pytest.mark.slow(ci=True)
def test_some_of_the_zoo(tmp_path: Path) -> None:
    assert _look_at(range(80), tmp_path) >= 60


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_zoo(tmp_path: Path) -> None:
    assert _look_at(range(80, 3000), tmp_path) >= 2200
