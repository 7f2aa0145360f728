"""LIF files: every order of axes, colour, tiles, names, and what is left to Bio-Formats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.backend import Region
from bfbridge.errors import Closed, LimitExceeded, ReadFailed, UnreadableFile, Unsupported
from bfbridge.limits import Limits
from bfbridge_bioformats import BioFormatsReader
from bfbridge_lif import LifReader
from tests.support import lifs
from tests.support.agreement import all_of, differences, opened
from tests.support.counting import Counting
from tests.support.lifs import Dimension, LifImage, image_of, lif_bytes, write_lif

Array = np.ndarray[Any, Any]
SHAPE = (2, 3, 4, 11, 16)


def noise(shape: Sequence[int], dtype: str = "u2", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def one(data: bytes, dimensions: Sequence[Dimension], **more: Any) -> bytes:
    return lif_bytes([LifImage("image", data, dimensions, **more)])


@pytest.mark.java
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("wide", [True, False])
def test_types_and_widths_of_blocks(dtype: str, wide: bool, tmp_path: Path) -> None:
    pixels = noise(SHAPE, dtype)
    path = write_lif(tmp_path / "a.lif", [image_of(pixels)], wide=wide)
    with opened(LifReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        np.testing.assert_array_equal(all_of(ours), pixels)
        assert differences(ours, theirs) == []


def test_liffile_agrees(tmp_path: Path) -> None:
    liffile = pytest.importorskip("liffile")
    pixels = noise(SHAPE)
    path = write_lif(tmp_path / "a.lif", [image_of(pixels)])
    with liffile.LifFile(path) as file, opened(LifReader, path) as ours:
        image = file.images[0]
        theirs = image.asxarray().transpose("T", "C", "Z", "Y", "X").to_numpy()
        np.testing.assert_array_equal(all_of(ours), theirs)


@pytest.mark.java
def test_colour_is_stored_as_blue_green_red(tmp_path: Path) -> None:
    pixels = noise((2, 1, 3, 11, 16, 3), "u1")
    path = write_lif(tmp_path / "rgb.lif", [image_of(pixels)])
    with opened(LifReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert ours.images[0].samples == 3
        np.testing.assert_array_equal(all_of(ours), np.moveaxis(pixels[:, 0], -1, 1))
        assert differences(ours, theirs) == []
        out = np.empty((1, 2, 1, 4, 5), np.uint8)
        ours.read(Region(0, 0, (1, 1, 2, 3, 6), (2, 3, 3, 7, 11)), out)
        wanted = np.moveaxis(pixels[1, 0, 2, 3:7, 6:11, 1:], -1, 0)
        np.testing.assert_array_equal(out[0, :, 0], wanted)


@pytest.mark.java
@pytest.mark.parametrize("axes", ["CZT", "ZCT", "TZC", "ZTC", "CTZ"])
def test_axes_lie_in_any_order(axes: str, tmp_path: Path) -> None:
    pixels = noise(SHAPE)
    order = ["TCZ".index(axis) for axis in reversed(axes)]
    data = pixels.transpose(*order, 3, 4).tobytes()
    step, dimensions, channels = 2 * 16 * 11, [], []
    for axis in axes:
        length = SHAPE["TCZ".index(axis)]
        if axis == "C":
            channels = [("Gray", n * step, 0) for n in range(length)]
        else:
            kind, unit = (lifs.Z, "m") if axis == "Z" else (lifs.T, "s")
            dimensions.append(Dimension(kind, length, step, 3e-5, unit))
        step *= length
    plane = [Dimension(lifs.X, 16, 2), Dimension(lifs.Y, 11, 32)]
    path = tmp_path / "a.lif"
    path.write_bytes(one(data, [*plane, *dimensions], channels=channels))
    with opened(LifReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        np.testing.assert_array_equal(all_of(ours), pixels)
        assert differences(ours, theirs) == []


def test_rows_with_padding(tmp_path: Path) -> None:
    pixels = noise((4, 9, 15), "u1")
    padded = np.zeros((4, 9, 16), "u1")
    padded[:, :, :15] = pixels
    sizes = [Dimension(lifs.X, 15, 1), Dimension(lifs.Y, 9, 16), Dimension(lifs.Z, 4, 144)]
    with opened(LifReader, one(padded.tobytes(), sizes)) as ours:
        np.testing.assert_array_equal(all_of(ours)[0, 0], pixels)
        out = np.empty((1, 1, 2, 3, 4), np.uint8)
        ours.read(Region(0, 0, (0, 0, 1, 4, 5), (1, 1, 3, 7, 9)), out)
        np.testing.assert_array_equal(out[0, 0], pixels[1:3, 4:7, 5:9])


def test_tiles_are_images(tmp_path: Path) -> None:
    pixels = noise((3, 4, 9, 16))
    dimensions = [
        Dimension(lifs.X, 16, 2), Dimension(lifs.Y, 9, 32), Dimension(lifs.Z, 4, 288),
        Dimension(lifs.TILE, 3, 4 * 288),
    ]  # fmt: skip
    with opened(LifReader, one(pixels.tobytes(), dimensions)) as ours:
        assert len(ours.images) == 3
        for tile in range(3):
            np.testing.assert_array_equal(all_of(ours, tile)[0, 0], pixels[tile])


@pytest.mark.java
def test_names_tell_folders(tmp_path: Path) -> None:
    images = [image_of(noise((1, 1, 1, 4, 8), seed=n), name) for n, name in enumerate("ab")]
    images.append(image_of(noise((1, 1, 1, 6, 8)), "folder/below/c"))
    path = write_lif(tmp_path / "a.lif", images)
    with opened(LifReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert [image.name for image in ours.images] == ["a", "b", "folder/below/c"]
        assert differences(ours, theirs) == []


@pytest.mark.java
def test_lookup_tables_are_those_of_bioformats(tmp_path: Path) -> None:
    path = write_lif(tmp_path / "a.lif", [image_of(noise((1, 5, 1, 4, 8), "u1"))])
    with opened(LifReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        for channel in range(5):
            table = ours.lookup_table(0, channel)
            assert table is not None
            np.testing.assert_array_equal(table, theirs.lookup_table(0, channel))


def test_text_of_any_script() -> None:
    image = image_of(noise((1, 1, 1, 4, 8)), "λ 細胞")
    with opened(LifReader, lif_bytes([image])) as ours:
        assert ours.images[0].name == "λ 細胞"
        assert "λ 細胞" in ours.ome_xml()


def test_opening_reads_no_pixels_and_crops_their_rows_only() -> None:
    pixels = noise((1, 2, 3, 200, 400))
    file = Counting(lif_bytes([image_of(pixels)]))
    with opened(LifReader, file) as ours:
        assert file.count < 20_000
        file.count = 0
        out = np.empty((1, 1, 1, 10, 20), np.uint16)
        ours.read(Region(0, 0, (0, 1, 2, 50, 60), (1, 2, 3, 60, 80)), out)
        np.testing.assert_array_equal(out[0, 0, 0], pixels[0, 1, 2, 50:60, 60:80])
        assert file.count <= 10 * 800


X, Y = Dimension(lifs.X, 8, 2), Dimension(lifs.Y, 4, 16)
DATA = bytes(64)
LEFT_ALONE: dict[str, tuple[Callable[[], bytes], str]] = {
    "no LIF": (lambda: b"no LIF file at all".ljust(100), "not a LIF file"),
    "no images": (lambda: lif_bytes([]), "without images"),
    "pixels of 5 bytes": (
        lambda: one(DATA, [Dimension(lifs.X, 8, 5), Y]), "pixels of 5 bytes",
    ),
    "two axes of tiles": (
        lambda: one(DATA, [X, Y, Dimension(lifs.TILE, 2, 0), Dimension(lifs.TILE, 2, 0)]),
        "two axes of tiles",
    ),
    "channels have uneven distances": (
        lambda: one(DATA * 9, [X, Y], channels=[("Gray", n, 0) for n in (0, 64, 200)]),
        "have uneven distances",
    ),
    "rows that overlap": (
        lambda: one(DATA, [X, Dimension(lifs.Y, 4, 8)]), "does not fit its block",
    ),
    "a block too small": (lambda: one(DATA[:40], [X, Y]), "does not fit its block"),
    "a number that is none": (
        lambda: one(DATA, [X, Y]).replace(
            'Elements="8"'.encode("utf-16-le"), 'Elements="x"'.encode("utf-16-le")
        ),
        "the number 'x'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("make", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_to_bioformats(make: tuple[Callable[[], bytes], str]) -> None:
    data, reason = make
    with pytest.raises(Unsupported, match=reason), opened(LifReader, data()):
        pass


@pytest.mark.java
def test_options_of_bioformats_choose_bioformats(tmp_path: Path) -> None:
    path = write_lif(tmp_path / "a.lif", [image_of(noise(SHAPE))])
    with BioReader(path) as br:
        assert br.backend == "lif"
    with BioReader(path, options={"leicalif.old_physical_size": "true"}) as br:
        assert br.backend == "bioformats"
        assert "the lif backend has no option named leicalif.old_physical_size" in br.backend_reason


def test_planes_that_were_not_recorded_are_an_error() -> None:
    pixels = noise((1, 1, 4, 9, 16))
    image = image_of(pixels)
    stopped = LifImage(image.name, image.data[: 2 * 288 + 50], image.dimensions, image.channels)
    with opened(LifReader, lif_bytes([stopped])) as ours:
        out = np.empty((1, 1, 2, 9, 16), np.uint16)
        ours.read(Region(0, 0, (0,) * 5, (1, 1, 2, 9, 16)), out)
        np.testing.assert_array_equal(out, pixels[:, :, :2])
        with pytest.raises(ReadFailed, match="plane z 2.*the recording was stopped"):
            ours.read(Region(0, 0, (0, 0, 2, 0, 0), (1, 1, 3, 9, 16)), out[:, :, :1])


def test_truncated_files() -> None:
    data = lif_bytes([image_of(noise(SHAPE))])
    for share in (0.01, 0.1, 0.5, 0.9, 0.999):
        with pytest.raises(UnreadableFile, match="truncated or damaged"):
            opened(LifReader, data[: int(len(data) * share)]).__enter__()


def test_limits() -> None:
    data = lif_bytes([image_of(noise(SHAPE))])
    for limits in (Limits(xml_bytes=100), Limits(directories=5), Limits(xml_depth=3)):
        with pytest.raises(LimitExceeded):
            opened(LifReader, data, limits=limits).__enter__()


def test_closed() -> None:
    with opened(LifReader, lif_bytes([image_of(noise(SHAPE))])) as ours:
        ours.close()
        with pytest.raises(Closed):
            all_of(ours)
        with pytest.raises(Closed):
            ours.ome_xml()
