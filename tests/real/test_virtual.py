"""Every real file as OME-Zarr 0.5 and 0.4: each chunk against ``br[...]``, documents valid."""

from __future__ import annotations

import math
from itertools import islice, product
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.engine.pyramid import reduce_block
from bfbridge.ngff.compression import parse_compression
from bfbridge.virtual.pyramid import VirtualImage
from tests.real.manifest import DATA, Entry, entries
from tests.support.virtual import assert_store_holds, check_valid

pytest.importorskip("zarr")

OPEN = [entry for entry in entries() if entry.opens and not entry.pixels_fail]
QUICK = {"svs", "omezarr_v04", "omezarr_b2r", "deltavision", "gif", "ometiff_multiseries", "mrc"}
MOST_BYTES = 64 << 20
MOST_CHUNKS = 40
MOST_IMAGES = 6

pytestmark = [
    pytest.mark.skipif(not OPEN, reason=f"no real files at {DATA}"),
    pytest.mark.filterwarnings("ignore:Casting invalid:UserWarning"),
]


def check_some_chunks(image: VirtualImage, view: Any) -> None:
    """Compare chunks spread over every level with what the reader gives."""
    for number, level in enumerate(image.levels):
        total = math.prod(level.counts)
        indices = islice(product(*map(range, level.counts)), 0, None, max(1, total // MOST_CHUNKS))
        for index in indices:
            (start, stop), source = level.box(index), number  # type: ignore[arg-type]
            pixels = image.chunk(number, index)  # type: ignore[arg-type]
            while image.levels[source].stored is None:
                source -= 1
            factor = 2 ** (number - source)
            shape = image.levels[source].shape
            first = [a * (factor if i > 2 else 1) for i, a in enumerate(start)]
            last = [
                min(b * (factor if i > 2 else 1), n)
                for i, (b, n) in enumerate(zip(stop, shape, strict=True))
            ]
            t, c, z, y, x = map(slice, first, last)
            stored = view.levels[image.levels[source].stored]
            wanted = stored.read(x, y, z, c, t, keepdims=True).transpose(4, 3, 2, 0, 1)
            for _ in range(number - source):
                wanted = reduce_block(wanted, 2, image.method)
            rows, columns = wanted.shape[3:]
            np.testing.assert_array_equal(pixels[..., :rows, :columns], wanted)


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
