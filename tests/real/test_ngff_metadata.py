"""The metadata of every real file, carried over to OME-Zarr: valid documents that say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from tests.real.manifest import DATA, Entry, entries

yaozarrs = pytest.importorskip("yaozarrs")

OPEN = [entry for entry in entries() if entry.opens]

pytestmark = [
    pytest.mark.skipif(not OPEN, reason=f"no real files at {DATA}"),
    # ome-types tells of identifiers that it renames.
    pytest.mark.filterwarnings("ignore:Casting invalid:UserWarning"),
]


@pytest.mark.parametrize("entry", OPEN, ids=str)
def test_metadata_of_a_file_become_valid_ngff(entry: Entry, tmp_path: Path) -> None:
    with BioReader(entry.path) as source:
        wanted = source.metadata
    for version in ("0.4", "0.5"):
        path = tmp_path / f"{version}.ome.zarr"
        with BioWriter(path, metadata=wanted, series="all", version=version, pyramid=2) as writer:
            for view in writer.series:
                view[:1, :1, :1, :1, :1] = np.ones((1, 1, 1, 1, 1), view.dtype)
        yaozarrs.validate_zarr_store(str(path))
        with BioReader(path) as written:
            found = written.metadata
        for before, after in zip(wanted.images, found.images, strict=True):
            assert after.name == before.name
            for name in ("x", "y", "z"):
                size, unit = f"physical_size_{name}", f"physical_size_{name}_unit"
                assert getattr(after.pixels, size) == getattr(before.pixels, size)
                assert getattr(after.pixels, unit) == getattr(before.pixels, unit)
            names = [channel.name for channel in before.pixels.channels]
            # Where a document has no channels, they are added.
            assert [channel.name for channel in after.pixels.channels][: len(names)] == names
