"""Plates in conversions to OME-Zarr: one for several wells, an image for one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ome_types import OME, model

from bfbridge import BioReader, BioWriter, convert
from bfbridge.errors import BadArgument


def pixels(number: int) -> Any:
    return (np.arange(600, dtype=np.uint16) + 1000 * number).reshape(20, 30)


def write(path: Path, wells: list[tuple[int, int]]) -> Path:
    """A plate with an image for each of `wells`, given as rows and columns."""
    images = [
        model.Image(
            id=f"Image:{i}", name=f"field {i}",
            pixels=model.Pixels(
                id=f"Pixels:{i}", dimension_order="XYZCT", type="uint16", size_x=30, size_y=20,
                size_z=1, size_c=1, size_t=1, channels=[model.Channel(id=f"Channel:{i}:0")],
            ),
        )
        for i in range(len(wells))
    ]  # fmt: skip
    samples = [
        model.WellSample(id=f"WellSample:{i}", index=i, image_ref=model.ImageRef(id=f"Image:{i}"))
        for i in range(len(wells))
    ]
    plate = model.Plate(
        id="Plate:0", name="P",
        wells=[
            model.Well(
                id=f"Well:{row}:{column}", row=row, column=column,
                well_samples=[s for s, w in zip(samples, wells, strict=True) if w == (row, column)],
            )
            for row, column in dict.fromkeys(wells)
        ],
    )  # fmt: skip
    with BioWriter(path, metadata=OME(images=images, plates=[plate]), series="all") as bw:
        for i, image in enumerate(bw.series):
            image[:] = pixels(i)
    return path


def root(path: Path) -> Any:
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]


@pytest.mark.parametrize(
    ("wells", "options", "kind"),
    [
        # A CZI or Cellomics file names the well that it was taken in.
        ([(1, 2)], {}, "multiscales"),
        ([(1, 2)] * 3, {}, "bioformats2raw.layout"),
        ([(1, 2), (1, 3)], {}, "plate"),
        ([(1, 2)], {"hcs": True}, "plate"),
        ([(1, 2), (1, 3)], {"hcs": False}, "bioformats2raw.layout"),
        ([(1, 2), (1, 3)], {"series": 1}, "multiscales"),
    ],
)
def test_plates_are_of_several_wells(
    tmp_path: Path, wells: list[tuple[int, int]], options: dict[str, Any], kind: str
) -> None:
    source = write(tmp_path / "a.ome.tif", wells)
    convert(source, tmp_path / "b.ome.zarr", verify=True, **options)
    assert kind in root(tmp_path / "b.ome.zarr")
    first = options.get("series", 0)
    with BioReader(tmp_path / "b.ome.zarr") as br:
        np.testing.assert_array_equal(br[:], pixels(first))
        # The metadata keep the well.
        assert br.ome.plates[0].wells[0].row == 1


def test_images_of_a_plate_are_kept_well_by_well(tmp_path: Path) -> None:
    source = write(tmp_path / "a.ome.tif", [(0, 0), (0, 1), (0, 0), (0, 1)])
    convert(source, tmp_path / "b.ome.zarr", verify=True)
    with BioReader(tmp_path / "b.ome.zarr") as br:
        assert [view.name for view in br.series] == ["A1/0", "A1/1", "A2/0", "A2/1"]
        for view, number in zip(br.series, (0, 2, 1, 3), strict=True):
            np.testing.assert_array_equal(view[:], pixels(number))
            assert view.metadata.images[0].name == f"field {number}"


def test_the_option_is_for_stores_of_plates(tmp_path: Path) -> None:
    source = write(tmp_path / "a.ome.tif", [(0, 0)])
    with pytest.raises(BadArgument, match="hcs"):
        convert(source, tmp_path / "b.ome.tif", hcs=True)
    with pytest.raises(BadArgument, match="hcs='yes': give True, False or None"):
        convert(source, tmp_path / "b.ome.zarr", hcs="yes")
