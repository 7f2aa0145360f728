"""The documents that describe a file for viewers, of every kind of image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)

import tifffile  # noqa: E402 - after looking for it

from bfbridge import BioReader  # noqa: E402 - after looking for its packages
from bfbridge.serve.content import describe as documents  # noqa: E402
from bfbridge.serve.content.describe import (  # noqa: E402
    describe,
    histograms,
    original_metadata,
    to_json,
)
from bfbridge.serve.files.served_file import ServedFile  # noqa: E402
from bfbridge.serve.replies import Refused  # noqa: E402
from tests.support.samples import write_ome_zarr, write_plate  # noqa: E402


@contextmanager
def opened(path: Path) -> Iterator[ServedFile]:
    with BioReader(path) as reader:
        yield ServedFile(reader, path.name)


def image_of(path: Path, series: int = 0) -> dict[str, Any]:
    with opened(path) as served:
        found = describe(served, series)["image"]
    # Everything is JSON.
    json.loads(to_json(found))
    return found


def test_numbers_that_json_lacks_are_null() -> None:
    content = {"a": [1.5, float("nan"), (float("inf"), 2)], 3: None, "µ": "ü\udc80"}
    assert to_json(content) == '{"a":[1.5,null,[null,2]],"3":null,"µ":"ü?"}'.encode()


def test_a_plate_lists_wells_with_the_images_of_their_fields(tmp_path: Path) -> None:
    field = np.arange(30, dtype=np.uint8).reshape(1, 1, 1, 5, 6)
    wells = {(0, 0): [field], (0, 2): [field, field], (1, 1): [field]}
    with opened(write_plate(tmp_path / "plate.ome.zarr", wells, 2, 3)) as served:
        found = describe(served)
        names = [view.name for view in served.reader.series]
    assert "image" not in found
    assert len(found["series"]) == 4
    (plate,) = found["plates"]
    assert (plate["rows"], plate["columns"]) == (2, 3)
    listed = {(well["row"], well["column"]): well["fields"] for well in plate["wells"]}
    assert {place: len(fields) for place, fields in listed.items()} == {
        place: len(fields) for place, fields in wells.items()
    }
    assert sorted(n for fields in listed.values() for n in fields) == [0, 1, 2, 3]
    # The second field of a well has another name than the first.
    assert len({names[number] for number in listed[0, 2]}) == 2


def test_several_images_without_a_plate(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for size in (4, 6):
            writer.write(np.zeros((5, size), np.uint8), metadata={"axes": "YX"})
    with opened(path) as served:
        found = describe(served)
        assert found["plates"] == []
        assert [entry["sizes"]["X"] for entry in found["series"]] == [4, 6]
        with pytest.raises(Refused, match="there is no series 2; it has 2"):
            describe(served, 2)


def test_a_palette_is_a_table_of_colours(tmp_path: Path) -> None:
    table = np.random.default_rng(3).integers(0, 256, (3, 256), np.uint8)
    values = np.arange(35, dtype=np.uint8).reshape(5, 7)
    # The entries of a TIFF have 16 bits.
    options = {"photometric": "palette", "colormap": table.astype(np.uint16) * 257}
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    found = image_of(tmp_path / "a.tif")
    assert found["kind"] == "indexed"
    np.testing.assert_array_equal(found["colorTable"], table.T)
    (channel,) = found["channels"]
    assert (channel["window"], channel["color"]) == ([0.0, 255.0], "#ffffff")


def test_samples_of_rgb_are_one_white_channel(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 7, 3), np.uint8), photometric="rgb")
    found = image_of(tmp_path / "a.tif")
    assert (found["kind"], found["colorTable"]) == ("rgb", None)
    (channel,) = found["channels"]
    assert (channel["c"], channel["color"], channel["active"]) == ([0, 1, 2], "#ffffff", True)


def test_label_images_are_drawn_by_value(tmp_path: Path) -> None:
    pixels = np.arange(32 * 32, dtype=np.uint16).reshape(1, 1, 1, 32, 32)
    labels = pixels // 100
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [pixels], labels=labels)
    with opened(path) as served:
        image, mask = (describe(served, number)["image"] for number in range(2))
    assert (image["kind"], image["mask"]) == ("intensity", False)
    assert (mask["kind"], mask["mask"], mask["colorTable"]) == ("labels", True, None)
    assert [channel["window"] for channel in mask["channels"]] == [[0.0, 255.0]]


def test_channels_that_are_not_drawn_have_a_colour_and_a_window(tmp_path: Path) -> None:
    """Many channels are not all drawn at first; a viewer may show any of them."""
    values = np.arange(1, 13)[:, None, None] * np.arange(35).reshape(5, 7)
    metadata = {
        "axes": "CYX", "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm",
        "Channel": {"EmissionWavelength": [500.0 + n for n in range(12)]},
    }  # fmt: skip
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, values.astype(np.uint16), metadata=metadata)
    found = image_of(path)
    channels = found["channels"]
    hidden = [channel for channel in channels if not channel["active"]]
    assert hidden
    assert len(hidden) < len(channels) == 12
    for number, channel in enumerate(channels):
        assert channel["emission"] == {"value": 500.0 + number, "unit": "nm"}
        assert channel["excitation"] is None
        low, high = channel["window"]
        assert 0 <= low < high <= 34 * (number + 1)
        assert len(channel["color"]) == 7
    assert found["pixelSize"]["x"] == {"value": 0.25, "unit": "µm"}
    assert found["pixelSize"]["z"] is None


def test_histograms_of_a_plane_and_of_a_channel(tmp_path: Path) -> None:
    values = np.arange(2 * 5 * 7, dtype=np.uint8).reshape(2, 5, 7)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, values, metadata={"axes": "ZYX"})
    with opened(path) as served:
        plane = histograms(served, 0, [0], 1, None)
        whole = histograms(served, 0, [0], None, None)
    assert (plane["z"], plane["t"], whole["z"], whole["t"]) == (1, 0, None, None)
    (found,) = plane["channels"]
    assert (found["min"], found["max"]) == (35, 69)
    assert sum(found["counts"]) == 35
    (found,) = whole["channels"]
    assert (found["min"], found["max"], sum(found["counts"])) == (0, 69, 70)


def test_metadata_of_the_format_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, np.zeros((5, 7), np.uint8), software="x" * 500)
    with opened(path) as served:
        whole = original_metadata(served)
        monkeypatch.setattr(documents, "_MOST_ENTRIES", 3)
        monkeypatch.setattr(documents, "_LONGEST", 8)
        part = original_metadata(served)
    assert whole["count"] == len(whole["entries"]) > 3
    assert "x" * 500 in whole["entries"].values()
    assert part["count"] == whole["count"]
    assert part["entries"] == {
        name[:8]: value[:8] for name, value in list(whole["entries"].items())[:3]
    }
