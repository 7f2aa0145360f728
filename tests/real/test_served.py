"""Every real file over HTTP as OME-Zarr 0.5 and 0.4, as zarr-python and tensorstore read it.

Of files up to `MOST_BYTES` every chunk of every array is compared with ``br[...]``, of larger ones
chunks spread over all levels of the first images.
"""

# ruff: noqa: E402 - packages that may be missing are looked for first

from __future__ import annotations

import math
from itertools import islice
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "fsspec", "imagecodecs", "tensorstore", "zarr"):
    pytest.importorskip(module)

import tensorstore
import zarr

from bfbridge import BioReader
from bfbridge.virtual.hierarchy import VirtualHierarchy
from tests.real.manifest import DATA, Entry, entries
from tests.support.liveserver import Live, live
from tests.support.virtual import assert_arrays_hold, check_some_chunks

OPEN = [entry for entry in entries() if entry.opens and not entry.pixels_fail]
QUICK = {"svs", "omezarr_v04", "omezarr_b2r", "deltavision", "gif", "ometiff_multiseries"}
MOST_BYTES = 16 << 20
MOST_IMAGES = 2
MOST_CHUNKS = 6
ROUTES = {3: "zarr", 2: "zarr2"}

pytestmark = [
    pytest.mark.skipif(not OPEN, reason=f"no real files at {DATA}"),
    pytest.mark.filterwarnings("ignore:Casting invalid:UserWarning"),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("entry", OPEN, ids=str)
@pytest.mark.parametrize("version", [3, 2])
def test_every_file(entry: Entry, version: int) -> None:
    compare(entry, version)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("entry", [entry for entry in OPEN if entry.format in QUICK], ids=str)
@pytest.mark.parametrize("version", [3, 2])
def test_some_files(entry: Entry, version: int) -> None:
    compare(entry, version)


def compare(entry: Entry, version: int) -> None:
    with live(entry.path) as server, BioReader(entry.path) as br:
        name = server.get("/list/").json["images"][0]
        url = f"{server.url}/{ROUTES[version]}/{quote(name)}.ome.zarr"
        hierarchy = VirtualHierarchy(br.series[:], version)  # type: ignore[arg-type]
        group = zarr.open_group(url, mode="r", zarr_format=version, use_consolidated=True)
        nbytes = sum(math.prod(view.sizes.values()) * view.dtype.itemsize for view in br.series)
        for array_at in (group.__getitem__, Tensorstores(url, version)):
            if nbytes <= MOST_BYTES:
                assert_arrays_hold(hierarchy, br, array_at)
            else:
                compare_some(hierarchy, br, array_at)
        assert failures_of(server) == 0


def compare_some(hierarchy: VirtualHierarchy, br: BioReader, array_at: Any) -> None:
    for number, view in enumerate(islice(br.series, MOST_IMAGES)):
        group = hierarchy.places.groups[number]

        def read(level: int, start: Any, stop: Any, group: str = group) -> Any:
            array = array_at(f"{group}/{level}" if group else str(level))
            return array[tuple(map(slice, start, stop))]

        check_some_chunks(hierarchy.image(number), view, read, MOST_CHUNKS)


class Tensorstores:
    """The arrays of a store as tensorstore reads them, with values by numpy's indexing."""

    def __init__(self, url: str, version: int) -> None:
        self._url = url
        self._driver = "zarr3" if version == 3 else "zarr"

    def __call__(self, path: str) -> Any:
        spec = {"driver": self._driver, "kvstore": f"{self._url}/{path}/"}
        return Values(tensorstore.open(spec, read=True).result())


class Values:
    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(array.shape)
        self.dtype = array.dtype.numpy_dtype

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = self._array[key].read().result()
        return found


def failures_of(server: Live) -> float:
    """Return the number of replies with a status of 500 or above."""
    return server.metrics.get("status_5xx")
