"""Pictures of boxes and regions, and stored JPEG tiles, against the pixels of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for module in ("aiohttp", "cmap", "imagecodecs", "tifffile"):
    pytest.importorskip(module)

import imagecodecs  # noqa: E402 - after looking for it
import tifffile  # noqa: E402 - after looking for it

from bfbridge import BioReader, imwrite  # noqa: E402 - after looking for its packages
from bfbridge.serve.content.pictures import (  # noqa: E402
    draw_box,
    draw_region,
    encode,
    stored_jpeg,
)
from bfbridge.serve.content.query import Shown, shown  # noqa: E402
from bfbridge.serve.files.served_file import ServedFile  # noqa: E402
from bfbridge.serve.replies import Refused  # noqa: E402

PLAIN = Shown()
Y, X = np.mgrid[:200, :300]
RGB = np.stack([X // 2, Y, (X + Y) // 3], -1).astype(np.uint8)
JPEG = {"tile": (64, 80), "compression": "jpeg", "photometric": "rgb"}


@contextmanager
def served(path: Path, **options: Any) -> Iterator[ServedFile]:
    with BioReader(path, **options) as reader:
        yield ServedFile(reader, path.name)


def slide(path: Path, values: Any = RGB, **options: Any) -> Path:
    tifffile.imwrite(path, values, **(JPEG | options))
    return path


# ---- stored JPEG tiles


@pytest.mark.parametrize(
    "options",
    [
        {"compressionargs": {"outcolorspace": "ycbcr"}},
        {"compressionargs": {"outcolorspace": "rgb"}},
        # Tables of libjpeg apart from the tiles.
        {"compressionargs": {"outcolorspace": "rgb"}, "jpegtables": None},
    ],
)
def test_stored_tiles_are_jpeg_files_of_the_same_pixels(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = slide(tmp_path / "a.tif", **options)
    with served(path) as file:
        for row, column in ((0, 0), (1, 2), (2, 1)):
            top, left = 64 * row, 80 * column
            data = stored_jpeg(file, 0, PLAIN, 0, (top, left, top + 64, left + 80))
            assert data is not None
            assert data[:2] == b"\xff\xd8"
            expected = file.reader[top : top + 64, left : left + 80].reshape(64, 80, 3)
            np.testing.assert_array_equal(imagecodecs.jpeg_decode(data), expected)


BOX = (0, 0, 64, 80)


@pytest.mark.parametrize(
    ("query", "level", "box"),
    [
        ({"style": '{"gamma": 2}'}, 0, BOX),
        ({"channels": "0"}, 0, BOX),
        ({"quality": "50"}, 0, BOX),
        ({"projection": "max"}, 0, BOX),
        ({}, 9, BOX),
        ({}, 1, (0, 0, 32, 40)),
        ({}, 0, (0, 0, 64, 79)),
        ({}, 0, (0, 0, 128, 80)),
        ({}, 0, (1, 0, 65, 80)),
        ({}, 0, (0, 40, 64, 120)),
        ({}, 0, (192, 0, 256, 80)),
    ],
)
def test_boxes_that_are_no_stored_tile_are_drawn(
    tmp_path: Path, query: dict[str, str], level: int, box: Any
) -> None:
    with served(slide(tmp_path / "a.tif")) as file:
        assert stored_jpeg(file, 0, PLAIN, 0, BOX) is not None
        assert stored_jpeg(file, 0, shown(query), level, box) is None


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (RGB, {"compression": "deflate"}),
        (RGB[..., 0], {"photometric": "minisblack"}),
        (RGB.astype(np.uint16), {"compression": None}),
        (np.moveaxis(RGB, -1, 0), {"planarconfig": "separate"}),
    ],
)
def test_tiles_that_are_no_rgb_jpeg_are_drawn(
    tmp_path: Path, values: Any, options: dict[str, Any]
) -> None:
    with served(slide(tmp_path / "a.tif", values, **options)) as file:
        assert stored_jpeg(file, 0, PLAIN, 0, BOX) is None


def test_tiles_without_bytes_and_tiles_that_are_no_jpeg_are_drawn(tmp_path: Path) -> None:
    path = slide(tmp_path / "a.tif")
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[1]
    path.write_bytes(whole[:offset] + b"\0\0" + whole[offset + 2 :])
    with served(path) as found:
        assert stored_jpeg(found, 0, PLAIN, 0, BOX) is not None
        assert stored_jpeg(found, 0, PLAIN, 0, (0, 80, 64, 160)) is None
    path.write_bytes(whole)
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        page.tags["TileByteCounts"].overwrite((0, *page.databytecounts[1:]))
    with served(path) as found:
        assert stored_jpeg(found, 0, PLAIN, 0, BOX) is None
        assert not draw_box(found, 0, PLAIN, 0, BOX)[..., :3].any()


@pytest.mark.parametrize(("space", "marker"), [("rgb", b"\xff\xee"), ("ycbcr", b"\xff\xe0")])
def test_a_marker_in_the_tile_defines_its_colours(
    tmp_path: Path, space: str, marker: bytes
) -> None:
    """Adobe's or JFIF's: another marker before it could contradict it."""
    tiles = []
    for top in range(0, 192, 64):
        for left in range(0, 240, 80):
            block = np.ascontiguousarray(RGB[top : top + 64, left : left + 80])
            tiles.append(bytes(imagecodecs.jpeg8_encode(block, 95, outcolorspace=space)))
            assert tiles[-1][2:4] == marker
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, iter(tiles), shape=(192, 240, 3), dtype="u1", tile=(64, 80), compression="jpeg",
        photometric="rgb", compressionargs={"outcolorspace": space},
    )  # fmt: skip
    with served(path) as file:
        assert stored_jpeg(file, 0, PLAIN, 0, BOX) == tiles[0]
        expected = file.reader[:64, :80].reshape(64, 80, 3)
    np.testing.assert_array_equal(imagecodecs.jpeg_decode(tiles[0]), expected)


# ---- pictures

GREY = (X // 2 + Y // 3).astype(np.uint8)
WHOLE = {"style": '{"min": 0, "max": 255}'}


def test_boxes_have_the_pixels_of_their_level(tmp_path: Path) -> None:
    with served(slide(tmp_path / "a.tif", compression=None)) as file:
        picture = draw_box(file, 0, PLAIN, 0, (10, 20, 110, 220))
        np.testing.assert_array_equal(picture[..., :3], RGB[10:110, 20:220])
        assert (picture[..., 3] == 255).all()


def test_regions_are_means_of_the_pixels_that_they_cover(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GREY, tile=(64, 64))
    with served(path) as file:
        whole = draw_region(file, 0, shown(WHOLE), (0, 0, 300, 200), (300, 200))
        np.testing.assert_array_equal(whole[..., 0], GREY)
        part = draw_region(file, 0, shown(WHOLE), (30, 20, 150, 80), (40, 20))
        means = GREY[20:80, 30:150].reshape(20, 3, 40, 3).mean((1, 3))
        assert np.abs(part[..., 0] - means).max() <= 1
        # From the level of a fourth: means of 4 x 4 pixels, rounded twice.
        part = draw_region(file, 0, shown(WHOLE), (40, 40, 280, 200), (60, 40))
        means = GREY[40:200, 40:280].reshape(40, 4, 60, 4).mean((1, 3))
        assert np.abs(part[..., 0] - means).max() <= 1.5
        # Enlarged: pixels between two have values between theirs.
        large = draw_region(file, 0, shown(WHOLE), (10, 10, 12, 11), (20, 3))[1, :, 0].astype(int)
        ends = sorted(int(value) for value in GREY[10, 10:12])
        assert ends[0] <= large.min() <= large.max() <= ends[1]


def test_labels_are_not_averaged(tmp_path: Path) -> None:
    labels = (X // 7 + 50 * (Y // 9)).astype(np.uint16)
    imwrite(tmp_path / "a.ome.zarr", np.zeros((200, 300), np.uint8), axes="YX", chunks=64)
    from bfbridge import BioWriter

    with BioWriter(tmp_path / "a.ome.zarr", labels="cells", dtype="uint16") as bw:
        bw[:] = labels
    with served(tmp_path / "a.ome.zarr") as file:
        number = next(n for n, view in enumerate(file.reader.series) if view.is_mask)
        whole = draw_region(file, number, PLAIN, (0, 0, 300, 200), (300, 200))
        part = draw_region(file, number, PLAIN, (0, 0, 300, 180), (100, 60))
        colors = {tuple(color) for color in whole.reshape(-1, 4).tolist()}
        assert {tuple(color) for color in part.reshape(-1, 4).tolist()} <= colors
        # One of the 3 x 3 pixels that it covers.
        blocks = whole[:180].reshape(60, 3, 100, 3, 4).transpose(0, 2, 1, 3, 4)
        same = (blocks == part[:, :, None, None]).all(-1).any((2, 3))
        assert same.all()


def test_pictures_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    imwrite(path, np.zeros((3, 8000, 3000), np.uint8), axes="ZYX", chunks=2000)
    with served(path) as file:
        # A level with as few rows has no columns: each pixel would need thousands.
        with pytest.raises(Refused, match="request a larger one") as caught:
            draw_region(file, 0, PLAIN, (0, 0, 3000, 8000), (3000, 1))
        assert caught.value.status == 400
        with pytest.raises(Refused, match="style: dtype is not for pictures") as caught:
            draw_box(file, 0, shown({"style": '{"dtype": "uint16"}'}), 0, BOX)
        assert caught.value.status == 400
    options = replace(BioReader(path)._file.options.limits, chunk_bytes=8_000_000)
    with served(path, limits=options) as file:
        draw_box(file, 0, shown({"projection": "max"}), 0, BOX)
        with pytest.raises(Refused, match="projection: 68 MiB would have to be read, and 7 MiB"):
            draw_box(file, 0, shown({"projection": "max"}), 0, (0, 0, 8000, 3000))


def test_qualities_are_limited_to_those_of_the_format() -> None:
    picture = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    for form in ("png", "jpeg", "webp"):
        for quality in (None, 0, 50, 100):
            found = imagecodecs.imread(encode(picture, form, quality))[..., :3]
            assert found.shape == RGB.shape
            if form == "png":
                np.testing.assert_array_equal(found, RGB)
    assert encode(picture, "png", 100) == encode(picture, "png", 9)
    assert encode(picture, "jpeg", 0) == encode(picture, "jpeg", 1)
