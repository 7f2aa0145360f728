"""Requests of the IIIF Image API 3.0, as sections 4.1 to 4.5 and 5 of the specification state."""

from __future__ import annotations

import pytest

from bfbridge.serve.content.iiif import ImageRequest, info_document, parse_image_request
from bfbridge.serve.replies import Refused

SIZE = (300, 200)
MOST = 120_000


def parsed(
    region: str = "full", size: str = "max", rotation: str = "0", ending: str = "default.png",
    most: int = MOST, image: tuple[int, int] = SIZE,
) -> ImageRequest:  # fmt: skip
    return parse_image_request(region, size, rotation, ending, *image, most)


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        ("full", (0, 0, 300, 200)),
        ("square", (50, 0, 250, 200)),
        ("10,20,30,40", (10, 20, 40, 60)),
        ("290,190,50,50", (290, 190, 300, 200)),
        ("pct:10,10,50,25", (30, 20, 180, 70)),
        ("pct:0,0.5,.5,100", (0, 1, 2, 200)),
    ],
)
def test_regions(region: str, expected: tuple[int, ...]) -> None:
    found = parsed(region)
    assert found.region == expected
    assert found.size == (expected[2] - expected[0], expected[3] - expected[1])


def test_the_square_of_a_tall_image_is_its_middle() -> None:
    assert parsed("square", image=(7, 20)).region == (0, 6, 7, 13)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("max", (300, 200)),
        # The largest with sides in proportion: 2 times the pixels, 1.41 times the sides.
        ("^max", (424, 282)),
        ("150,", (150, 100)),
        (",50", (75, 50)),
        ("30,40", (30, 40)),
        ("^360,", (360, 240)),
        ("pct:50", (150, 100)),
        ("pct:.1", (1, 1)),
        ("^pct:120", (360, 240)),
        ("!150,150", (150, 100)),
        ("!600,600", (300, 200)),
        ("^!400,400", (400, 267)),
    ],
)
def test_sizes(size: str, expected: tuple[int, int]) -> None:
    assert parsed(size=size).size == expected


def test_the_greatest_size_is_bounded_without_enlarging() -> None:
    assert parsed(size="max", most=15_000).size == (150, 100)
    assert parsed(size="^max", most=15_000).size == (150, 100)
    assert parsed("0,0,300,1", "100,").size == (100, 1)


@pytest.mark.parametrize(
    ("rotation", "expected"),
    [("0", (False, 0)), ("90", (False, 1)), ("180.0", (False, 2)), ("!270", (True, 3)),
     ("360", (False, 0)), ("!0", (True, 0))],
)  # fmt: skip
def test_rotations(rotation: str, expected: tuple[bool, int]) -> None:
    found = parsed(rotation=rotation)
    assert (found.mirrored, found.turns) == expected


def test_qualities_and_formats() -> None:
    made = {
        (found.quality, found.format)
        for quality in ("default", "color", "gray", "bitonal")
        for suffix in ("jpg", "png", "webp")
        for found in [parsed(ending=f"{quality}.{suffix}")]
    }
    assert len(made) == 12
    assert {form for _, form in made} == {"jpeg", "png", "webp"}


@pytest.mark.parametrize(
    ("part", "texts", "status", "message"),
    [
        ("region", ["", "1,2,3", "-1,0,5,5", "pct:1,2,3", "all"], 400, "region: give full, square"),
        ("region", ["0,0,0,5", "0,0,5,0", "300,0,5,5", "0,200,5,5", "pct:100,0,1,1"], 400,
         "region: it is empty or outside the image"),
        ("size", ["", ",", "0,5", "5,0", "5", "full", "^", "1,2,3"], 400, "size: give max, w, or"),
        ("size", ["!5,", "!,5"], 400, "size: give both of !w,h"),
        ("size", ["pct:0", "pct:100.1", "pct:x", "pct:", "^pct:10001"], 400, "size: give a share"),
        ("size", ["301,", ",201", "301,5"], 400, "size: larger than the region; prefix ^"),
        ("size", ["^500,500", "^70000,1"], 400, "size: pictures have at most 120000 pixels"),
        ("rotation", ["", "!", "-90", "361", "x", "1e1"], 400, "rotation: give 0 to 360"),
        ("rotation", ["45", "!0.5"], 501, "rotation: only by multiples of 90"),
        ("ending", ["default", "default.gif", "pretty.png", ".png"], 400,
         "there are the qualities"),
    ],
)  # fmt: skip
def test_refusals(part: str, texts: list[str], status: int, message: str) -> None:
    for text in texts:
        with pytest.raises(Refused) as caught:
            parsed(**{part: text})
        assert (caught.value.status, str(caught.value)[: len(message)]) == (status, message), text


def test_the_document_lists_levels_that_may_be_requested() -> None:
    found = info_document("http://x/iiif/3/a", 1101, 700, 3, 256, 500_000)
    assert found["sizes"] == [{"width": 276, "height": 175}, {"width": 551, "height": 350}]
    assert found["tiles"] == [{"width": 256, "height": 256, "scaleFactors": [1, 2, 4]}]
    assert (found["width"], found["height"], found["maxArea"]) == (1101, 700, 500_000)
    assert (found["id"], found["profile"]) == ("http://x/iiif/3/a", "level2")
    for listed in found["sizes"]:
        size = f"{listed['width']},{listed['height']}"
        assert parsed(size=size, most=500_000, image=(1101, 700)).size == tuple(listed.values())
