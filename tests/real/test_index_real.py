"""The index on every real file that Bio-Formats opens: the metadata of a fresh opening."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.errors import ReadFailed, Unsupported
from bfbridge_bioformats.indexing.reader import IndexedReader
from tests.real.manifest import DATA, Entry, entries

OPENING = [entry for entry in entries() if entry.opens and not entry.is_zarr]

pytestmark = [
    pytest.mark.skipif(not entries(), reason=f"no real files at {DATA}"),
    pytest.mark.slow,
]


def described(br: BioReader) -> dict[str, Any]:
    backend = br._file.backend
    return {
        "images": [repr(image) for image in backend.images],
        "xml": br.ome_xml,
        # Arrays of Java have their address as text.
        "original": re.sub("@[0-9a-f]+", "@", repr(sorted(br.original_metadata.items()))),
        "used": br.used_files,
        "modulo": [dict(backend.modulo(number)) for number in range(len(backend.images))],
    }


def corner(br: BioReader) -> Any:
    try:
        return br[:64, :64, -1:, -1:, -1:]
    except ReadFailed as error:
        return str(error)


@pytest.mark.parametrize("entry", OPENING, ids=lambda entry: entry.path.name)
def test_reopening_equals_opening(entry: Entry, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"backend": "bioformats", "max_workers": 1}
    try:
        with BioReader(entry.path, **arguments) as br:
            wanted, pixels = described(br), corner(br)
    except Unsupported:
        return
    with BioReader(entry.path, index=tmp_path, **arguments) as br:
        if "such files are not indexed" in br.backend_reason:
            return
        assert "added for the next opening" in br.backend_reason
    with BioReader(entry.path, index=tmp_path, **arguments) as br:
        backend = br._file.backend
        assert isinstance(backend, IndexedReader), br.backend_reason
        assert described(br) == wanted
        assert not backend.is_open
        np.testing.assert_array_equal(corner(br), pixels)
