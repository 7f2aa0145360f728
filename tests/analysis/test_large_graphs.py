"""The graph of a dask array of a huge image is small: no task is made before it is computed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bfbridge import BioReader, BioWriter
from tests.support.peak import peak_memory

pytest.importorskip("dask.array")


def test_the_graph_of_a_huge_image_is_small(tmp_path: Path) -> None:
    path = tmp_path / "huge.ome.zarr"
    BioWriter.create(path, X=100_000, Y=100_000, C=4, dtype="uint16", tile=8192)
    BioWriter.finish(path)
    with BioReader(path) as br:
        with peak_memory() as peak:
            array = br.to_dask(chunks=(1, 1, 1, 1024, 1024))
            layers = array.__dask_graph__().layers
        assert array.shape == (1, 4, 1, 100_000, 100_000)
        assert array.npartitions == 4 * 98 * 98
        assert peak.nbytes < 100 << 20
        assert all(not layer.is_materialized() for layer in layers.values())
