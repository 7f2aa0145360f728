"""NDPI slides: levels, focal planes, restart intervals, files of 4 GiB, and damage."""

from __future__ import annotations

import io
import os
import random
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from bfbridge import BioReader
from bfbridge.backend import ReaderBackend, Region
from bfbridge.errors import (
    BfbridgeError,
    Closed,
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.limits import Limits
from bfbridge_bioformats import BioFormatsReader
from bfbridge_ndpi import NdpiReader
from tests.support.agreement import all_of, differences, opened
from tests.support.forks import Child
from tests.support.ndpis import (
    LONG,
    SHORT,
    UNLIKE,
    Page,
    Slide,
    assembled,
    interval_places,
    jpeg_of,
    ndpi_bytes,
    slide_of,
    smooth,
    write_ndpi,
)
from tests.support.webserver import serve

Array = np.ndarray[Any, Any]


def noise(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def yxs(backend: ReaderBackend, image: int = 0, level: int = 0, z: int = 0) -> Array:
    return all_of(backend, image, level)[0, :, z].transpose(1, 2, 0)


def crop(backend: ReaderBackend, y: slice, x: slice, z: int = 0) -> Array:
    """Read a part of level 0, into memory that was filled before."""
    samples = backend.images[0].samples
    out = np.full((1, samples, 1, y.stop - y.start, x.stop - x.start), 0xA5, np.uint8)
    region = Region(0, 0, (0, 0, z, y.start, x.start), (1, samples, z + 1, y.stop, x.stop))
    backend.read(region, out)
    return out[0, :, 0].transpose(1, 2, 0)


@contextmanager
def library(data: bytes) -> Iterator[tifffile.TiffFile]:
    with tifffile.TiffFile(io.BytesIO(data), is_ndpi=True) as file:
        assert file.is_ndpi
        yield file


# ---- pixels


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(
    ("size", "interval"),
    [
        ((203, 512), 8),  # columns and rows of intervals
        ((203, 509), 16),  # a narrower last column
        ((64, 640), 10),
        ((100, 333), 42),  # in half of the cases one row of MCUs, or two
        ((101, 333), 84),
    ],
)
def test_crops_equal_those_of_the_whole_stream(
    size: tuple[int, int], interval: int, subsampling: str
) -> None:
    """Also at the edges of intervals, where colour depends on the neighbours."""
    slide = Slide([Page(noise(*size), interval=interval, subsampling=subsampling)])
    wanted = imagecodecs.jpeg8_decode(slide.pages[0].segments()[0])
    rng = random.Random(interval)
    with opened(NdpiReader, ndpi_bytes(slide)) as ours:
        assert ours.reads_parts(0, 0)
        np.testing.assert_array_equal(yxs(ours), wanted)
        for number in range(40):
            (top, bottom), (left, right) = (sorted(rng.sample(range(side + 1), 2)) for side in size)
            if number % 2:
                # Whole intervals.
                top, left = top // 16 * 16, left // 64 * 64
                right = min(size[1], -(-right // 64) * 64)
            y, x = slice(top, bottom), slice(left, right)
            np.testing.assert_array_equal(crop(ours, y, x), wanted[y, x])


def test_levels_and_images_as_tifffile_has_them() -> None:
    data = ndpi_bytes(slide_of(smooth(397, 1024), levels=3, interval=16))
    with opened(NdpiReader, data) as ours, library(data) as theirs:
        assert [image.role for image in ours.images] == ["image", "macro", "macro"]
        assert [len(image.levels) for image in ours.images] == [3, 1, 1]
        shown = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0)]
        for page, (image, level) in zip(theirs.pages, shown, strict=True):
            np.testing.assert_array_equal(yxs(ours, image, level).squeeze(), page.asarray())


def test_focal_planes_as_tifffile_has_them() -> None:
    data = ndpi_bytes(slide_of(smooth(120, 256), levels=2, depth=3, interval=8))
    with opened(NdpiReader, data) as ours, library(data) as theirs:
        assert [level.shape for level in ours.images[0].levels] == [
            (1, 3, 3, 120, 256), (1, 3, 3, 60, 128),
        ]  # fmt: skip
        for level in range(2):
            pixels = all_of(ours, 0, level)[0].transpose(1, 2, 3, 0)
            np.testing.assert_array_equal(pixels, theirs.series[0].levels[level].asarray())


def test_grey_streams_and_streams_without_markers() -> None:
    grey = Page(smooth(90, 160, 1), interval=5)
    with opened(NdpiReader, ndpi_bytes(Slide([grey]))) as ours:
        wanted = imagecodecs.jpeg8_decode(grey.segments()[0])
        np.testing.assert_array_equal(yxs(ours)[:, :, 0], wanted)
        np.testing.assert_array_equal(
            crop(ours, slice(9, 33), slice(50, 99))[:, :, 0], wanted[9:33, 50:99]
        )
    plain = Page(noise(90, 160))
    with opened(NdpiReader, ndpi_bytes(Slide([plain]))) as ours:
        assert not ours.reads_parts(0, 0)
        wanted = imagecodecs.jpeg8_decode(plain.segments()[0])
        np.testing.assert_array_equal(crop(ours, slice(9, 33), slice(50, 99)), wanted[9:33, 50:99])


def test_markers_are_searched_where_their_positions_are_not_stored() -> None:
    page = Page(noise(200, 512), interval=8, marked=False)
    wanted = imagecodecs.jpeg8_decode(page.segments()[0])
    with opened(NdpiReader, ndpi_bytes(Slide([page]))) as ours:
        np.testing.assert_array_equal(
            crop(ours, slice(65, 130), slice(70, 200)), wanted[65:130, 70:200]
        )
    # Of another number of intervals than the level has.
    few = replace(page, more={65426: (LONG, [700, 900])})
    with opened(NdpiReader, ndpi_bytes(Slide([few]))) as ours:
        np.testing.assert_array_equal(yxs(ours), wanted)


def test_intervals_that_do_not_form_rectangles_are_decoded_together() -> None:
    page = Page(noise(90, 250), interval=7)
    with opened(NdpiReader, ndpi_bytes(Slide([page]))) as ours:
        assert not ours.reads_parts(0, 0)
        np.testing.assert_array_equal(yxs(ours), imagecodecs.jpeg8_decode(page.segments()[0]))


def test_tags_that_cut_a_pixel_off() -> None:
    page = Page(noise(90, 250), size=(89, 249))
    with opened(NdpiReader, ndpi_bytes(Slide([page]))) as ours:
        wanted = imagecodecs.jpeg8_decode(page.segments()[0])
        np.testing.assert_array_equal(yxs(ours), wanted[:89, :249])


@pytest.mark.parametrize("mode", [7, 17])
@pytest.mark.parametrize("strip", [0, 16])
def test_fluorescence_of_16_bits(mode: int, strip: int) -> None:
    """The directories state 8 bits and three samples, as those of real files do."""
    values = np.random.default_rng(1).integers(0, 4096, (50, 70)).astype(np.uint16)
    stated = {258: (SHORT, [8, 8, 8]), 262: (SHORT, [6]), 277: (SHORT, [3])}
    page = Page(values, compression="jpegxr", strip=strip, more=stated)
    macro = Page(smooth(40, 60), lens=-1.0)
    data = ndpi_bytes(Slide([page, macro], mode=mode))
    with opened(NdpiReader, data) as ours, library(data) as theirs:
        assert ours.images[0].dtype == np.uint16
        assert ours.images[0].samples == 1
        np.testing.assert_array_equal(yxs(ours)[:, :, 0], values)
        np.testing.assert_array_equal(theirs.pages[0].asarray(), values)
        np.testing.assert_array_equal(yxs(ours, 1), theirs.pages[1].asarray())


def test_grey_of_8_bits_in_jpegxr() -> None:
    page = Page(smooth(50, 70, 1)[:, :, 0], compression="jpegxr")
    with opened(NdpiReader, ndpi_bytes(Slide([page], mode=1))) as ours:
        np.testing.assert_array_equal(yxs(ours)[:, :, 0], page.pixels)


# ---- large files


def test_streams_wider_than_jpeg_allows() -> None:
    blocks = [noise(8, 2048, seed) for seed in range(5)]
    order = np.random.default_rng(3).integers(0, 5, (6, 33))
    stream = assembled(blocks, order)
    size = 48, 33 * 2048
    assert stream[(at := stream.index(b"\xff\xc0") + 5) : at + 4] == b"\0\x30\0\0"
    page = Page(blocks[0], interval=256, stream=stream, size=size)
    decoded = [imagecodecs.jpeg8_decode(jpeg_of(block, 256)) for block in blocks]
    data = ndpi_bytes(Slide([page]))
    with opened(NdpiReader, data) as ours, library(data) as theirs:
        assert theirs.pages[0].shape == (*size, 3)
        assert ours.images[0].levels[0].shape[3:] == size
        whole = yxs(ours)
        for row, column in np.ndindex(order.shape):
            part = whole[8 * row : 8 * row + 8, 2048 * column : 2048 * column + 2048]
            np.testing.assert_array_equal(part, decoded[order[row, column]])
        np.testing.assert_array_equal(
            crop(ours, slice(13, 40), slice(66_000, 67_000)), whole[13:40, 66_000:67_000]
        )


def test_files_of_more_than_4_gib(tmp_path: Path) -> None:
    slide = slide_of(smooth(120, 256), levels=2, depth=2, interval=8)
    path = write_ndpi(tmp_path / "a.ndpi", slide, start=(1 << 32) - 5000)
    small = ndpi_bytes(slide)
    with opened(NdpiReader, path) as ours, opened(NdpiReader, small) as same:
        assert ours.images == same.images
        for number, image in enumerate(ours.images):
            for level in range(len(image.levels)):
                np.testing.assert_array_equal(
                    all_of(ours, number, level), all_of(same, number, level)
                )
        assert ours.ome_xml() == same.ome_xml()
        assert ours.original_metadata["Reference"] == same.original_metadata["Reference"]
    with BioReader(path) as br:
        assert br.backend == "ndpi"
    with tifffile.TiffFile(path) as file, opened(NdpiReader, path) as ours:
        np.testing.assert_array_equal(yxs(ours), file.pages[0].asarray())


def test_strips_beyond_4_gib(tmp_path: Path) -> None:
    values = np.arange(50 * 70, dtype=np.uint16).reshape(50, 70)
    slide = Slide([Page(values, compression="jpegxr", strip=16)], mode=17)
    path = write_ndpi(tmp_path / "a.ndpi", slide, start=(1 << 32) + 100)
    with opened(NdpiReader, path) as ours:
        np.testing.assert_array_equal(yxs(ours)[:, :, 0], values)


# ---- Bio-Formats


SLIDES: dict[str, Callable[[], Slide]] = {
    "pyramid": lambda: slide_of(smooth(2104, 2304), levels=3, interval=96),
    "focal planes": lambda: slide_of(smooth(300, 512), levels=2, depth=3, interval=16),
    "no macro image": lambda: slide_of(smooth(300, 512), levels=2, macro=False, interval=16),
    "no lens": lambda: Slide([Page(smooth(80, 96), lens=None), Page(smooth(40, 50), lens=None)]),
    # As of old scanners: the bits and samples of the map are not stated.
    "map without a type": lambda: Slide(
        [
            Page(smooth(80, 96), interval=12),
            Page(smooth(40, 60), lens=-1.0),
            Page(
                smooth(30, 50, 1), lens=-2.0, compression="none",
                more={258: None, 262: (SHORT, [2]), 277: None},
            ),
        ]
    ),
    "16 bits": lambda: Slide(
        [
            Page(np.arange(3500, dtype=np.uint16).reshape(50, 70), compression="jpegxr"),
            Page(smooth(40, 60), lens=-1.0),
        ],
        mode=17,
    ),
}  # fmt: skip


@pytest.mark.java
@pytest.mark.parametrize("name", SLIDES)
def test_slides_as_bioformats_reads_them(name: str, tmp_path: Path) -> None:
    path = write_ndpi(tmp_path / "a.ndpi", SLIDES[name]())
    with opened(NdpiReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs, but=UNLIKE, within=2) == []
        mine, other = ours.original_metadata, theirs.original_metadata
        for key in ("Magnification", "Reference", "Slide center X (nm)", "Capture mode", "Product"):
            assert str(mine.get(key)) == str(other.get(key)), key


@pytest.mark.java
@pytest.mark.slow
def test_large_slides_as_bioformats_reads_them(tmp_path: Path) -> None:
    blocks = [noise(8, 2048, seed) for seed in range(5)]
    order = np.random.default_rng(3).integers(0, 5, (264, 33))
    page = Page(
        blocks[0], interval=256, stream=assembled(blocks, order), size=(2112, 33 * 2048)
    )  # fmt: skip
    slide = Slide([page, Page(smooth(40, 60), lens=-1.0)])
    path = write_ndpi(tmp_path / "a.ndpi", slide, start=(1 << 32) - 5000)
    with opened(NdpiReader, path) as ours, opened(BioFormatsReader, path) as theirs:
        for y, x in ((0, 0), (513, 65_400), (2084, 67_484)):
            box = slice(y, y + 28), slice(x, x + 100)
            left, right = (crop(each, *box).astype(int) for each in (ours, theirs))
            assert np.abs(left - right).max() <= 2


def test_urls(tmp_path: Path) -> None:
    """Chunks are as high as one interval, so that threads request them at once."""
    slide = slide_of(smooth(200, 512), levels=2, interval=8)
    path = write_ndpi(tmp_path / "a.ndpi", slide)
    with serve(tmp_path) as web, BioReader(f"{web.url}/a.ndpi") as far, BioReader(path) as near:
        assert far.backend == "ndpi"
        np.testing.assert_array_equal(far[50:120, 60:300], near[50:120, 60:300])
        np.testing.assert_array_equal(far[:], near[:])
    with opened(NdpiReader, path) as ours:
        assert ours.images[0].levels[0].chunk[3] == 200


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_read_on() -> None:
    wanted = imagecodecs.jpeg8_decode(STREAM)
    with opened(NdpiReader, ndpi_bytes(Slide([PAGE]))) as ours:
        crop(ours, slice(0, 8), slice(0, 8))
        box = slice(11, 60), slice(20, 90)
        child = Child(lambda: np.array_equal(crop(ours, *box), wanted[box]))
        assert child.answer() == "True"


# ---- metadata


def test_metadata(tmp_path: Path) -> None:
    path = write_ndpi(tmp_path / "a.ndpi", slide_of(smooth(120, 256), levels=2, interval=8))
    with BioReader(path) as br:
        assert br.backend == "ndpi"
        assert br.physical_pixel_size.x == (pytest.approx(10_000 / 44_000), "µm")
        assert [view.role for view in br.series] == ["image", "macro", "macro"]
        assert br.series[1].physical_pixel_size.x == (pytest.approx(10_000 / 2200), "µm")
        assert br.original_metadata["Reference"] == "S10533009"
        assert br.original_metadata["NDP.S/N"] == "680057"
        assert br.original_metadata["Instrument Make"] == "Hamamatsu"
        document = br.metadata
        assert document.instruments[0].microscope.model == "NanoZoomer"
        assert document.instruments[0].objectives[0].nominal_magnification == 20
        assert document.images[0].description == "680057"
        assert str(document.images[0].acquisition_date) == "2020-04-02 10:25:21"
        plane = document.images[0].pixels.planes[0]
        assert (plane.position_x, plane.position_x_unit.value) == (-1_500_000, "nm")


def test_short_labels_are_not_stored_in_their_entry() -> None:
    page = Page(noise(40, 40), more={65427: (2, "A1")})
    with opened(NdpiReader, ndpi_bytes(Slide([page]))) as ours:
        assert ours.original_metadata["Reference"] == "A1"


# ---- selection of the backend


def test_content_selects_the_backend(tmp_path: Path) -> None:
    data = ndpi_bytes(Slide([Page(noise(40, 40))]))
    for name in ("a.ndpi", "other", "renamed.dat"):
        (tmp_path / name).write_bytes(data)
        with BioReader(tmp_path / name) as br:
            assert br.backend == "ndpi"
    with BioReader(data) as br:
        assert br.backend == "ndpi"
    plain = io.BytesIO()
    tifffile.imwrite(plain, noise(40, 40))
    (tmp_path / "plain.ndpi").write_bytes(plain.getvalue())
    with pytest.raises(Unsupported, match="without the tags of NDPI"):
        BioReader(tmp_path / "plain.ndpi", backend="ndpi")


def changed(page: Page, **more: Any) -> Slide:
    return Slide([replace(page, **more)])


PAGE = Page(noise(96, 128), interval=4)
STREAM = PAGE.segments()[0]
STARTS = interval_places(STREAM)
UNUSUAL: dict[str, Slide] = {
    "LZW": changed(PAGE, more={259: (SHORT, [5])}),
    "another colour": changed(PAGE, more={262: (SHORT, [2])}),
    "four samples": changed(PAGE, more={277: (SHORT, [4])}),
    "tables": changed(PAGE, more={347: (LONG, [1])}),
    "a smaller stream": changed(PAGE, size=(97, 129)),
    "capture mode 6": Slide([PAGE], mode=6),
    "JPEG of 16 bits": Slide([PAGE], mode=17),
    "a level after the macro image": Slide(
        [PAGE, Page(smooth(20, 30), lens=-1.0), Page(noise(48, 64), lens=10.0)]
    ),
    "focal planes of other sizes": Slide(
        [PAGE, Page(noise(48, 64)), PAGE, Page(noise(47, 64))]
    ),
    "levels of two types": Slide([PAGE, Page(smooth(48, 64, 1))]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_files_are_left_to_bioformats(name: str) -> None:
    with pytest.raises(Unsupported):
        NdpiReader.open(*_target(ndpi_bytes(UNUSUAL[name])))


def _target(data: bytes) -> tuple[Any, Any]:
    from bfbridge.backend import OpenOptions
    from bfbridge.storage.source import as_source

    return as_source(data), OpenOptions()


# ---- damage


def at(places: slice | int, values: Any) -> Callable[[Any], None]:
    """Return a function that changes a part of a sequence."""

    def change(target: Any) -> None:
        target[places] = values

    return change


def damaged(
    *,
    starts: Callable[[list[int]], None] | None = None,
    stream: Callable[[Any], None] | None = None,
) -> bytes:
    """A file whose JPEG stream, or the positions of its intervals, were changed."""
    places, data = list(STARTS), bytearray(STREAM)
    if starts is not None:
        starts(places)
    if stream is not None:
        stream(data)
    page = replace(PAGE, stream=bytes(data), more={65426: (LONG, places)})
    return ndpi_bytes(Slide([page]))


DAMAGED: dict[str, bytes] = {
    "two intervals exchanged": damaged(starts=at(slice(5, 7), STARTS[6:4:-1])),
    "one position off": damaged(starts=at(5, STARTS[5] + 2)),
    "a position beyond the stream": damaged(starts=at(-1, 1 << 31)),
    "all positions equal": damaged(starts=at(slice(None), STARTS[:1] * len(STARTS))),
    "a marker with another number": damaged(stream=at(STARTS[6] - 1, 0xD0)),
    "no marker": damaged(stream=at(STARTS[6] - 2, 0)),
    "a marker inside an interval": damaged(stream=at(slice(STARTS[6], STARTS[6] + 2), b"\xff\xd9")),
    "no end": damaged(stream=at(slice(-2, None), b"\0\0")),
}


def test_positions_from_another_place() -> None:
    data = damaged(starts=at(slice(None), [place + 8 for place in STARTS]))
    with opened(NdpiReader, data) as ours:
        np.testing.assert_array_equal(yxs(ours), imagecodecs.jpeg8_decode(STREAM))


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_intervals(name: str) -> None:
    with opened(NdpiReader, DAMAGED[name]) as ours, pytest.raises(ReadFailed, match="directory 0"):
        yxs(ours)


def test_damage_of_one_interval_leaves_the_others() -> None:
    wanted = imagecodecs.jpeg8_decode(STREAM)
    with opened(NdpiReader, DAMAGED["no marker"]) as ours:
        np.testing.assert_array_equal(crop(ours, slice(40, 96), slice(0, 128)), wanted[40:])
        with pytest.raises(ReadFailed, match="restart intervals 4 to 7"):
            crop(ours, slice(8, 16), slice(0, 128))


def test_truncated_files() -> None:
    """Directories follow the pixels: what is missing is noticed when the file is opened."""
    slide = slide_of(smooth(60, 64), levels=2, interval=8)
    data = ndpi_bytes(slide)
    for length in (8, 20, len(data) // 2, len(data) - 200):
        with pytest.raises(BfbridgeError):
            NdpiReader.open(*_target(data[:length]))
    path_of_pixels = changed(PAGE, more={273: (LONG, [1 << 30])})
    with pytest.raises(UnreadableFile, match="truncated or damaged"):
        NdpiReader.open(*_target(ndpi_bytes(path_of_pixels)))


HOSTILE: dict[str, dict[int, tuple[int, Any] | None]] = {
    "no pixels": {256: (LONG, [0])},
    "a wide image": {256: (LONG, [(1 << 32) - 1])},
    "no positions": {273: None},
    "more lengths than positions": {279: (LONG, [10, 10])},
    "a length beyond the file": {279: (LONG, [1 << 31])},
    "pixels that are no JPEG stream": {273: (LONG, [0])},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_numbers(name: str) -> None:
    with pytest.raises(UnreadableFile):
        NdpiReader.open(*_target(ndpi_bytes(changed(PAGE, more=HOSTILE[name]))))


@pytest.mark.parametrize("count", [0, 1 << 20, (1 << 32) - 1])
def test_numbers_of_positions_that_lie(count: int) -> None:
    data = bytearray(ndpi_bytes(Slide([PAGE])))
    entry = data.index(struct.pack("<HHI", 65426, 4, len(STARTS)))
    struct.pack_into("<I", data, entry + 4, count)
    with opened(NdpiReader, bytes(data)) as ours:
        if count:
            with pytest.raises(ReadFailed, match="directory 0"):
                yxs(ours)
        else:
            # They are searched in the stream.
            np.testing.assert_array_equal(yxs(ours), imagecodecs.jpeg8_decode(STREAM))


def test_cyclic_and_overlapping_directories() -> None:
    data = bytearray(ndpi_bytes(Slide([PAGE])))
    first = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, first)[0]
    struct.pack_into("<I", data, first + 2 + 12 * count, first)
    with pytest.raises(UnreadableFile, match="cyclic"):
        NdpiReader.open(*_target(bytes(data)))


def test_repeated_tags() -> None:
    """The first of them with a known field type is used."""
    # In place of NewSubfileType, which sorts first: the width, of an unknown type.
    page = replace(PAGE, more={254: (LONG, [0])})
    data = bytearray(ndpi_bytes(Slide([page])))
    first = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<HH", data, first + 2, 256, 4864)
    with pytest.raises(UnreadableFile, match="tag 256"):
        NdpiReader.open(*_target(bytes(data)))
    struct.pack_into("<HH", data, first + 2, 65427, 4864)
    with opened(NdpiReader, bytes(data)) as ours:
        assert ours.original_metadata["Reference"] == "S10533009"


def test_limits() -> None:
    data = ndpi_bytes(slide_of(smooth(120, 256), levels=3, depth=2, interval=8))
    for limits in (Limits(levels=2), Limits(images=2), Limits(planes=7), Limits(directories=3)):
        with pytest.raises(LimitExceeded), opened(NdpiReader, data, limits=limits):
            pass
    with (
        pytest.raises(LimitExceeded),
        opened(NdpiReader, ndpi_bytes(Slide([Page(noise(90, 90))])), limits=Limits(chunk_bytes=99)),
    ):
        pass


def test_closed() -> None:
    reader = NdpiReader.open(*_target(ndpi_bytes(Slide([PAGE]))))
    reader.close()
    with pytest.raises(Closed):
        crop(reader, slice(0, 8), slice(0, 8))
