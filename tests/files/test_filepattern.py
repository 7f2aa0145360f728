"""File patterns against names written out by hand."""

from __future__ import annotations

import pytest

from bfbridge.errors import BadArgument
from bfbridge.files.file_pattern import FilePattern, is_pattern


@pytest.mark.parametrize(
    ("pattern", "name", "values"),
    [
        ("img_r{r:ddd}_c{c:d+}.tif", "img_r007_c12.tif", {"r": 7, "c": 12}),
        ("img_r{r:ddd}_c{c:d+}.tif", "img_r07_c12.tif", None),
        ("img_r{r:ddd}_c{c:d+}.tif", "img_r0007_c12.tif", None),
        ("{stain:c+}_{w:cc}.czi", "DAPI_ab.czi", {"stain": "DAPI", "w": "ab"}),
        ("{stain:c+}.czi", "D1.czi", None),
        ("at_{x:ffff}.tif", "at_1.25.tif", {"x": 1.25}),
        ("at_{x:f+}.tif", "at_12.5.tif", {"x": 12.5}),
        ("at_{x:ffff}.tif", "at_1..5.tif", None),
        (r".*_z{z:d+}\.ome\.tif", "any thing_z3.ome.tif", {"z": 3}),
        (".*", "x.lif", {}),
        (r"a\.(tif|czi)", "a.czi", {}),
        (r"a\.(tif|czi)", "b.a.czi", None),
        (r"p\d{2}.tif", "p12.tif", {}),
        ("old_{xxx}_{y+}.tif", "old_004_5.tif", {"x": 4, "y": 5}),
        ("{x:d}_{x:d}.tif", "3_3.tif", {"x": 3}),
        ("{x:d}_{x:d}.tif", "3_4.tif", None),
    ],
)
def test_match(pattern: str, name: str, values: dict[str, object] | None) -> None:
    assert FilePattern(pattern).match(name) == values


@pytest.mark.parametrize("pattern", ["img_{r:xyz}.tif", "img_{r:dc}.tif", "img_{}.tif", "a(b.tif"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadArgument, match="file pattern"):
        FilePattern(pattern).match("img.tif")


def test_names_come_in_the_order_of_their_numbers() -> None:
    names = ["c10.tif", "c9.tif", "c1.tif", "c2.czi"]
    assert FilePattern("c{c:d+}.tif").select(names) == ["c1.tif", "c9.tif", "c10.tif"]


def test_what_is_a_pattern() -> None:
    assert is_pattern("a_{c:d+}.tif")
    assert is_pattern("a_{ccc}.tif")
    assert not is_pattern("a_c01.tif")
    assert not is_pattern(r"a\d{2}.tif")
