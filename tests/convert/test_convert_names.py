"""Names of new files as patterns, in bfconvert's spelling."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ome_types import OME, model

from bfbridge import BioReader, BioWriter, convert
from bfbridge.convert.plan.naming import axes_of_pattern, filled, is_name_pattern
from bfbridge.errors import BadArgument, BadSelection, Unsupported
from tests.support.samples import distinct, write_ome_tiff

SHAPE = (20, 30, 2, 3, 1)
DATE = datetime(2020, 1, 31, 12, 30, tzinfo=UTC)


def pixels(start: int = 0) -> Any:
    return np.arange(start, start + 3600, dtype=np.uint16).reshape(SHAPE)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images of three channels, all with names."""
    images = [
        model.Image(
            id=f"Image:{i}", name=name, acquisition_date=date,
            pixels=model.Pixels(
                id=f"Pixels:{i}", dimension_order="XYZCT", type="uint16", size_x=30, size_y=20,
                size_z=2, size_c=3, size_t=1,
                channels=[
                    model.Channel(id=f"Channel:{i}:{c}", name=channel, samples_per_pixel=1)
                    for c, channel in enumerate(("DAPI", "a/b", None))
                ],
            ),
        )
        for i, (name, date) in enumerate((("well A", DATE), ("B:2", None)))
    ]  # fmt: skip
    path = tmp_path / "in.ome.tif"
    with BioWriter(path, metadata=OME(images=images), series="all") as bw:
        bw.series[0][:] = pixels()
        bw.series[1][:] = pixels(10_000)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("p_%s.ome.zarr", ["p_0.ome.zarr", "p_1.ome.zarr"]),
        ("%n.ome.tif", ["B_2.ome.tif", "well A.ome.tif"]),
        ("%s%c.ome.tif", [f"{s}{c}.ome.tif" for s in range(2) for c in range(3)]),
        ("%w_%s.tf8", sorted(f"{w}_{s}.tf8" for w in ("DAPI", "a_b", "2") for s in range(2))),
        ("s%s_z%z_t%t.ome.tif", [f"s{s}_z{z}_t0.ome.tif" for s in range(2) for z in range(2)]),
        ("100%%_%s.ome.tif", ["100%_0.ome.tif", "100%_1.ome.tif"]),
        ("50%.ome.tif", ["50%.ome.tif"]),
    ],
)
def test_patterns(source: Path, tmp_path: Path, pattern: str, expected: list[str]) -> None:
    convert(source, tmp_path / "out" / pattern, verify=True)
    assert names(tmp_path / "out") == expected


def test_each_file_holds_what_its_name_says(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out/%s_%c_%z.ome.tif", pyramid=False)
    for s in range(2):
        for c in range(3):
            for z in range(2):
                with BioReader(tmp_path / f"out/{s}_{c}_{z}.ome.tif") as br:
                    np.testing.assert_array_equal(br[:], pixels(10_000 * s)[:, :, z, c, 0])


def test_numbers_count_in_the_source(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "out/%s_%c_%z_%A.ome.tif", series=0, channels=[2, 0], z="1:")
    date = "2020-01-31T12-30-00"
    assert names(tmp_path / "out") == [f"0_{c}_1_{date}.ome.tif" for c in (0, 2)]
    with BioReader(tmp_path / f"out/0_2_1_{date}.ome.tif") as br:
        np.testing.assert_array_equal(br[:], pixels()[:, :, 1, 2, 0])


@pytest.mark.parametrize(
    ("pattern", "options", "error", "message"),
    [
        ("%x_%y.ome.tif", {}, BadArgument, "every tile"),
        ("%A.ome.tif", {"series": 1}, BadSelection, "when image 1 was acquired"),
        ("%c.ome.tif", {"split": "s"}, BadArgument, "two new files would be called 0.ome.tif"),
    ],
)
def test_patterns_refused(
    source: Path, tmp_path: Path, pattern: str, options: dict[str, Any], error: Any, message: str
) -> None:
    with pytest.raises(error, match=message):
        convert(source, tmp_path / "out" / pattern, **options)
    assert not (tmp_path / "out").exists()


def test_numbers_are_padded_on_request(tmp_path: Path) -> None:
    source = write_ome_tiff(tmp_path / "a.ome.tif", distinct((12, 2, 1, 8, 9)))
    convert(
        source, tmp_path / "marks" / "b.ome.tif", split="t,c", padded=True, t="8:12", channels=1
    )
    assert names(tmp_path / "marks") == [f"b_t{t:02}.ome.tif" for t in range(8, 12)]
    convert(source, tmp_path / "names" / "%s_%c_%t_%z.ome.tif", padded=True, t="9:11")
    assert names(tmp_path / "names") == [
        f"0_{c}_{t:02}_0.ome.tif" for c in range(2) for t in (9, 10)
    ]
    with BioReader(tmp_path / "names" / "0_1_09_0.ome.tif") as br:
        assert np.array_equal(br[:], distinct((12, 2, 1, 8, 9))[9, 1, 0])


def test_a_batch_has_no_pattern(source: Path, tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="for one source"):
        convert([source], tmp_path / "out_%s")


def test_tokens_in_a_source_name_are_no_pattern(source: Path, tmp_path: Path) -> None:
    odd = source.rename(source.with_name("100%cells.ome.tif"))
    convert([odd], tmp_path / "out", suffix=".ome.zarr")
    assert names(tmp_path / "out") == ["100%cells.ome.zarr", "bfbridge-report.json"]


def test_parts() -> None:
    assert axes_of_pattern("%w%n%A%z") == ("series", "c", "z")
    assert not is_name_pattern("100 %.tif")
    assert filled("%%%n", {"n": lambda: 'a"b\\c'}) == "%a_b_c"


@pytest.mark.java
def test_levels_are_left_out_where_the_format_has_none(tmp_path: Path) -> None:
    pytest.importorskip("jpype", reason="JPype is not installed")
    a = np.arange(700 * 600, dtype=np.uint16).reshape(700, 600)
    with BioWriter(tmp_path / "a.ome.tif", image=a) as bw:
        bw[:] = a
    convert(tmp_path / "a.ome.tif", tmp_path / "a.png", verify=True)
    with BioReader(tmp_path / "a.png") as br:
        np.testing.assert_array_equal(br[:], a)
    with pytest.raises(Unsupported, match="no lower levels"):
        convert(tmp_path / "a.ome.tif", tmp_path / "b.png", pyramid=True)
    convert(tmp_path / "a.ome.tif", tmp_path / "c.ome.tif", recompress=True)
    with BioReader(tmp_path / "c.ome.tif") as br:
        assert len(br.levels) == 2
