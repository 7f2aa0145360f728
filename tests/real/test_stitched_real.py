"""Real tiles and fields, fused on their positions; the referee is the format's own mosaic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bfbridge import BioReader, convert
from tests.real.manifest import DATA, entries

pytestmark = pytest.mark.skipif(not entries(), reason=f"no real files at {DATA}")


def find(name: str) -> Path:
    (path,) = (entry.path for entry in entries() if entry.path.name == name)
    return path


@pytest.mark.parametrize("name", ["tiles_z.czi", "mosaic_test.czi"])
def test_tiles_make_the_mosaic_of_the_file(name: str, tmp_path: Path) -> None:
    convert(find(name), tmp_path / "a.ome.zarr", autostitch=False, stitch=True, verify=True)
    with BioReader(find(name)) as right, BioReader(tmp_path / "a.ome.zarr") as found:
        assert len(found.series) == len(right.series)
        assert np.array_equal(found[:], right[:])


@pytest.mark.java
@pytest.mark.slow
def test_a_plate_of_fields(tmp_path: Path) -> None:
    source = find("CV8000-Minimal-DataSet-2C-3W-4S-FP2-stack.wpi")
    convert(
        source, tmp_path / "a.ome.zarr", stitch=True, position_unit="um", flip_stage="y", z=1,
        channels=0, hcs=True,
    )  # fmt: skip
    with BioReader(source) as br, BioReader(tmp_path / "a.ome.zarr") as found:
        assert [image.name for image in found.ome.images] == ["D8", "E3", "F8"]
        for well in range(3):
            whole = found.series[well][:]
            assert whole.shape == (4000, 4000)
            # Fields 1 and 2 are the upper row: the stage's Y axis points up.
            for number, (y, x) in enumerate([(0, 0), (0, 2000), (2000, 0), (2000, 2000)]):
                field = br.series[4 * well + number][:, :, 1, 0]
                assert np.array_equal(whole[y : y + 2000, x : x + 2000], field)
