"""What OME metadata is made of NGFF metadata: plates, and where images lie."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr")

from bfbridge import BioReader, BioWriter  # noqa: E402

UM = {"type": "space", "unit": "micrometer"}


def image(group: Any, **multiscale: Any) -> None:
    """An image of 2 channels, 3 slices of 8 x 10 pixels, its axes c, z, y, x."""
    axes = [{"name": "c", "type": "channel"}, *({"name": n, **UM} for n in "zyx")]
    dataset = {"path": "0", "coordinateTransformations": multiscale.pop("own", [])}
    entry = {"axes": axes, "datasets": [dataset], **multiscale}
    group.attrs.put({"ome": {"version": "0.5", "multiscales": [entry]}})
    group.create_array("0", shape=(2, 3, 8, 10), dtype="u1", chunks=(1, 1, 8, 10))[...] = 7


def scale(*values: float) -> dict[str, Any]:
    return {"type": "scale", "scale": list(values)}


def shift(*values: float) -> dict[str, Any]:
    return {"type": "translation", "translation": list(values)}


@pytest.mark.parametrize(
    ("own", "common", "expected"),
    [
        ([scale(1, 2, 0.5, 0.5), shift(0, 30, -10, 40.5)], None, (30, -10, 40.5)),
        ([scale(1, 2, 0.5, 0.5)], [shift(0, 30, -10, 40.5)], (30, -10, 40.5)),
        # What all levels have in common is done after a level's own.
        ([scale(1, 1, 1, 1), shift(0, 4, 5, 6)], [scale(1, 2, 0.5, 0.5), shift(0, 1, 2, 3)],
         (9, 4.5, 6)),
        ([{"type": "sequence", "transformations":
           [scale(1, 2, 0.5, 0.5), shift(0, 30, -10, 40.5)]}], None, (30, -10, 40.5)),
    ],
)  # fmt: skip
def test_a_translation_is_where_planes_lie(
    tmp_path: Path, own: Any, common: Any, expected: tuple[float, float, float]
) -> None:
    path = tmp_path / "a.zarr"
    more = {} if common is None else {"coordinateTransformations": common}
    image(zarr.open_group(str(path), mode="w"), own=own, **more)
    with BioReader(path) as br:
        planes = br.metadata.images[0].pixels.planes
    assert [(p.the_c, p.the_z, p.the_t) for p in planes] == [
        (c, z, 0) for c in range(2) for z in range(3)
    ]
    z, y, x = expected
    for plane in planes:
        assert (plane.position_x, plane.position_y) == (x, y)
        assert plane.position_z == z + 2 * plane.the_z
        units = (plane.position_x_unit, plane.position_y_unit, plane.position_z_unit)
        assert {unit.value for unit in units} == {"µm"}


def test_without_translation_nothing_is_said_of_places(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    image(zarr.open_group(str(path), mode="w"), own=[scale(1, 2, 0.5, 0.5)])
    with BioReader(path) as br:
        assert br.metadata.images[0].pixels.planes == []
        assert br.metadata.images[0].pixels.physical_size_x == 0.5


def plate(path: Path, wells: list[str], **more: Any) -> None:
    """A plate whose first well has two fields, the others one."""
    root = zarr.open_group(str(path), mode="w")
    listed = [{"path": well, "rowIndex": 0, "columnIndex": i} for i, well in enumerate(wells)]
    root.attrs.put({"ome": {"version": "0.5", "plate": {"wells": listed, **more}}})
    for i, well in enumerate(wells):
        fields = ["0", "1"] if i == 0 else ["0"]
        group = root.create_group(well)
        group.attrs.put({"ome": {"version": "0.5", "well":
                                 {"images": [{"path": field} for field in fields]}}})  # fmt: skip
        for field in fields:
            image(group.create_group(field))


def test_a_plate_is_in_the_metadata(tmp_path: Path) -> None:
    plate(tmp_path / "p.zarr", ["C/02", "C/11", "AA/2"], name="trial")
    with BioReader(tmp_path / "p.zarr") as br:
        (found,) = br.ome.plates
        images = br.ome.images
    assert found.name == "trial"
    assert found.row_naming_convention.value == "letter"
    assert found.column_naming_convention.value == "number"
    # Rows and columns are counted from A and 1, whichever the store has.
    assert [(well.row, well.column) for well in found.wells] == [(2, 1), (2, 10), (26, 1)]
    refs = [[sample.image_ref.id for sample in well.well_samples] for well in found.wells]
    assert refs == [[images[0].id, images[1].id], [images[2].id], [images[3].id]]
    assert [sample.index for well in found.wells for sample in well.well_samples] == [0, 1, 2, 3]


def test_wells_of_other_names_are_numbered(tmp_path: Path) -> None:
    plate(tmp_path / "p.zarr", ["top/left", "top/right", "end/left"])
    with BioReader(tmp_path / "p.zarr") as br:
        (found,) = br.ome.plates
    assert [(well.row, well.column) for well in found.wells] == [(1, 0), (1, 1), (0, 0)]
    assert found.row_naming_convention is None


def test_a_plate_survives_being_written_again(tmp_path: Path) -> None:
    plate(tmp_path / "p.zarr", ["C/2", "C/11"], name="trial")
    with BioReader(tmp_path / "p.zarr") as br:
        ome = br.ome
    with BioWriter(tmp_path / "q.zarr", metadata=ome, series="all") as bw:
        for view in bw.series:
            view[:] = np.uint8(9)
    with BioReader(tmp_path / "q.zarr") as br:
        assert br.series.names == ["C2/0", "C2/1", "C11/0"]
        assert [(well.row, well.column) for well in br.ome.plates[0].wells] == [(2, 1), (2, 10)]
