"""Real files cut short: an error, or the pixels of the whole file; nothing that was made up."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from bfbridge.backend import OpenOptions, ReaderBackend, Region
from bfbridge.errors import BfbridgeError, Unsupported
from bfbridge.storage.source import as_source
from bfbridge_bioformats import READER
from tests.real.manifest import Entry, entries

LARGEST = 3 << 20
SHARES = (0.999, 0.9, 0.5, 0.1, 0.01)
MOST_PLANES = 6


def small() -> list[Entry]:
    found = [e for e in entries() if e.opens and not e.pixels_fail and not e.is_zarr]
    return [e for e in found if e.path.stat().st_size <= LARGEST]


def planes(reader: ReaderBackend) -> Iterator[Region]:
    """The first planes of every image, and its last."""
    for number, image in enumerate(reader.images):
        t, c, z, y, x = image.levels[0].shape
        places = [(i, j, k) for i in range(t) for j in range(0, c, image.samples) for k in range(z)]
        for i, j, k in [*places[:MOST_PLANES], places[-1]]:
            yield Region(number, 0, (i, j, k, 0, 0), (i + 1, j + image.samples, k + 1, y, x))


def read(reader: ReaderBackend, region: Region) -> np.ndarray:
    out = np.empty(region.shape, reader.images[region.image].dtype)
    out.view(np.uint8).fill(0xA5)
    reader.read(region, out)
    return out


@pytest.mark.parametrize("entry", small(), ids=str)
def test_a_file_cut_short(entry: Entry) -> None:
    name, data = entry.path.name, entry.path.read_bytes()
    try:
        whole = READER.open(as_source(entry.path), OpenOptions())
    except Unsupported:
        pytest.skip("Bio-Formats' pixels of it are wrong: another backend reads it")
    expected = {}
    for region in planes(whole):
        expected[region] = read(whole, region)
    alone = len(whole.used_files) == 1
    whole.close()
    if not alone:
        pytest.skip("its pixels are in other files")
    for share in SHARES:
        try:
            reader = READER.open(
                as_source(data[: int(len(data) * share)], name=name), OpenOptions()
            )
        except BfbridgeError:
            continue
        for region in planes(reader):
            try:
                found = read(reader, region)
            except BfbridgeError:
                continue
            assert region in expected, (share, region)
            np.testing.assert_array_equal(found, expected[region], f"{share} {region}")
        reader.close()
