"""Metadata of every real file, also of OME schemas that are older than today's."""

from __future__ import annotations

from typing import Any

import pytest

from bfbridge import BioReader
from bfbridge.errors import UnreadableFile
from tests.real.manifest import DATA, Entry, entries

OPEN = [entry for entry in entries() if entry.opens]

pytestmark = pytest.mark.skipif(not OPEN, reason=f"no real files at {DATA}")


@pytest.mark.filterwarnings("ignore:Casting invalid")  # ome-types, of ids that break the schema
@pytest.mark.parametrize("entry", OPEN, ids=str)
def test_metadata_magnification_and_labels(entry: Entry) -> None:
    with BioReader(entry.path) as br:
        try:
            images, reason = br.ome.images, ""
        except UnreadableFile as error:
            images, reason = [], str(error)
        if reason:
            assert "break the OME schema" in reason
            return
        assert len(images) == len(br.series)
        found: list[Any] = [br.metadata, br.magnification, br.to_xarray().coords]
        assert found[0].images[0].pixels.size_x == br.X
        assert found[1] is None or found[1] > 0
        assert len(found[2]["c"]) == br.C
