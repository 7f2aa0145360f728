"""Every real file as OME-Zarr 0.5 and 0.4: each chunk against ``br[...]``, documents valid."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.ngff.compression import parse_compression
from tests.real.manifest import DATA, Entry, entries
from tests.support.virtual import assert_store_holds, check_some_chunks, check_valid

pytest.importorskip("zarr")

OPEN = [entry for entry in entries() if entry.opens and not entry.pixels_fail]
QUICK = {"svs", "omezarr_v04", "omezarr_b2r", "deltavision", "gif", "ometiff_multiseries", "mrc"}
MOST_BYTES = 64 << 20
MOST_IMAGES = 6

pytestmark = [
    pytest.mark.skipif(not OPEN, reason=f"no real files at {DATA}"),
    pytest.mark.filterwarnings("ignore:Casting invalid:UserWarning"),
]


@pytest.mark.slow
@pytest.mark.parametrize("entry", OPEN, ids=str)
@pytest.mark.parametrize("version", [3, 2])
def test_every_file(entry: Entry, version: int) -> None:
    run(entry, version)


@pytest.mark.parametrize("entry", [entry for entry in OPEN if entry.format in QUICK], ids=str)
@pytest.mark.parametrize("version", [3, 2])
def test_some_files(entry: Entry, version: int) -> None:
    run(entry, version)


def run(entry: Entry, version: int) -> None:
    with BioReader(entry.path) as br:
        store = br.to_zarr(version)
        check_valid(store, "0.5" if version == 3 else "0.4")
        nbytes = sum(math.prod(view.sizes.values()) * view.dtype.itemsize for view in br.series)
        if nbytes <= MOST_BYTES:
            assert_store_holds(store, br)
            return
        for number, view in enumerate(islice(br.series, MOST_IMAGES)):
            check_some_chunks(store.hierarchy.image(number), view)
        # The bytes of a store are these pixels.
        image = store.hierarchy.image(0)
        mark = "0/c/" if version == 3 else "0/"
        group = store.hierarchy.places.groups[0]
        key = f"{group}/{mark}0/0/0/0/0" if group else f"{mark}0/0/0/0/0"
        data = store.hierarchy.get(key)
        level = image.levels[0]
        if data is not None and (level.compression or parse_compression(None)).name == "none":
            found = np.frombuffer(data, image.dtype.newbyteorder("<")).reshape(level.chunk)
            pixels = image.chunk(0, (0, 0, 0, 0, 0))
            np.testing.assert_array_equal(found[tuple(map(slice, pixels.shape))], pixels)
