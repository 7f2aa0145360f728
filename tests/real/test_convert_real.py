"""Conversion of real files, checked against what the reference reader says of the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, convert
from tests.real.manifest import DATA, Entry, entries, right_pixels, wrong_planes

# One of each kind: tiled, RGB, several series, many files, levels, odd types, other axes.
KINDS = (
    "DAPI_GFP.czi", "CellDivision_T3_Z6_CH1_X300_Y200_DCV_ZSTD.czi",
    "LeicaLASX_wavelength-sweep_example.lif", "cluster.nd2", "chromo3d.ics", "sample_0.jpk",
    "multiseries.ome.tiff", "test.ome.tiff", "ndtiffv3.0_test_NDTiffStack.tif", "5channel.tif",
    "EMD-3197.map", "world.jp2",
)  # fmt: skip
CHOSEN = [entry for entry in entries() if entry.path.name in KINDS]

pytestmark = pytest.mark.skipif(not entries(), reason=f"no real files at {DATA}")


def tczyx(view: Any) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = view.read(keepdims=True)
    return array.transpose(4, 3, 2, 0, 1)


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("entry", CHOSEN, ids=str)
def test_planes_are_the_reference_readers(entry: Entry, suffix: str, tmp_path: Path) -> None:
    done = convert(entry.path, tmp_path / f"t{suffix}", verify=True)
    assert done.images == entry.truth["series_count"]
    right = right_pixels(entry)
    with BioReader(tmp_path / f"t{suffix}") as br:
        if right is not None:
            np.testing.assert_array_equal(tczyx(br), right)
            return
        for view, series in zip(br.series, entry.series, strict=False):
            assert wrong_planes(tczyx(view), series) == []


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("name", ["DAPI_GFP.czi", "multiseries.ome.tiff", "cluster.nd2"])
def test_metadata_survive(name: str, suffix: str, tmp_path: Path) -> None:
    (path,) = (entry.path for entry in entries() if entry.path.name == name)
    convert(path, tmp_path / f"t{suffix}", original_metadata=True)
    with BioReader(path) as before, BioReader(tmp_path / f"t{suffix}") as after:
        old, new = before.ome, after.ome
        assert [i.model_dump(exclude={"id"}) for i in new.instruments] == [
            i.model_dump(exclude={"id"}) for i in old.instruments
        ]
        for a, b in zip(old.images, new.images, strict=True):
            assert (a.name, a.acquisition_date, a.description) == (
                b.name, b.acquisition_date, b.description,
            )  # fmt: skip
            assert [(p.the_z, p.the_c, p.the_t, p.delta_t) for p in a.pixels.planes] == [
                (p.the_z, p.the_c, p.the_t, p.delta_t) for p in b.pixels.planes
            ]
            assert [(c.name, c.emission_wavelength) for c in a.pixels.channels] == [
                (c.name, c.emission_wavelength) for c in b.pixels.channels
            ]
            for axis in "xyz":
                size = f"physical_size_{axis}"
                assert getattr(a.pixels, size) == getattr(b.pixels, size)
        kept = [
            n.namespace
            for n in new.structured_annotations.xml_annotations
            if n.namespace == "openmicroscopy.org/OriginalMetadata"
        ]
        assert len(kept) >= len(before.original_metadata)


def test_a_folder_of_one_data_set_is_one_image(tmp_path: Path) -> None:
    (path,) = (e.path for e in entries() if e.path.suffix == ".wpi")
    found = convert(path.parent, tmp_path / "out", suffix=".ome.zarr", series=0)
    assert [Path(record.source).name for record in found.files] == [path.name]
    assert len(found.skipped) >= 10


def test_only_damaged_files_fail(tmp_path: Path) -> None:
    from bfbridge.errors import BatchFailed

    good = next(e.path for e in entries() if e.path.name == "5channel.tif")
    bad = [e.path for e in entries() if not e.opens]
    with pytest.raises(BatchFailed) as caught:
        convert([*bad, good], tmp_path / "out")
    statuses = {Path(r.source).name: r.status for r in caught.value.conversion.files}
    assert statuses == {**{path.name: "failed" for path in bad}, good.name: "done"}
