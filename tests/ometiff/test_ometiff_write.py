"""OME-TIFFs written chunk by chunk, and read by this project, tifffile and the OME schema."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from ome_types import OME, model, validate_xml

from bfbridge import BioWriter
from bfbridge.backend import Image, ImageSpec, Level, PixelSize, Quantity, Shape5
from bfbridge.errors import (
    BadArgument,
    BadDtype,
    Closed,
    UnreadableFile,
    Unsupported,
    WriteFailed,
)
from bfbridge.ome.pixel_types import pixel_type_of
from bfbridge_ometiff import OmeTiffWriter
from tests.support.tiffs import all_of, numbered, open_ours, read_ours

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8", "c8", "c16"]
LOSSLESS = ["deflate", "zstd", "lzw", "none", "jpeg2000"]
SIZE = PixelSize(Quantity(0.25, "µm"), Quantity(500.0, "nm"), Quantity(2.0, "µm"))


def document(arrays: Sequence[np.ndarray], samples: int, order: str) -> OME:
    images = []
    for index, array in enumerate(arrays):
        t, c, z, y, x = array.shape
        images.append(
            model.Image(
                id=f"Image:{index}",
                name=f"image {index}",
                pixels=model.Pixels(
                    id=f"Pixels:{index}",
                    dimension_order=order,
                    type=pixel_type_of(array.dtype),
                    size_x=x,
                    size_y=y,
                    size_z=z,
                    size_c=c,
                    size_t=t,
                    physical_size_x=0.25,
                    channels=[
                        model.Channel(id=f"Channel:{index}:{i}", samples_per_pixel=samples)
                        for i in range(c // samples)
                    ],
                ),
            )
        )
    return OME(images=images)


def prepare(
    path: Path,
    images: Sequence[Sequence[np.ndarray]],
    *,
    samples: int = 1,
    order: str = "XYZCT",
    fill: float = 0,
    chunk: Shape5 | None = None,
    ome: OME | None = None,
    **options: Any,
) -> tuple[OmeTiffWriter, list[ImageSpec]]:
    """A writer for images, each a list of levels."""
    specs = []
    for levels in images:
        plain = Image(
            name=None,
            levels=(Level(levels[0].shape, levels[0].shape),),
            dtype=levels[0].dtype,
            samples=samples,
        )
        grid = chunk or OmeTiffWriter.default_chunk(plain, options)
        record = Image(
            name=None,
            levels=tuple(Level(level.shape, grid) for level in levels),
            dtype=levels[0].dtype,
            samples=samples,
            pixel_size=SIZE,
        )
        specs.append(ImageSpec(record, fill))
    ome = ome or document([levels[0] for levels in images], samples, order)
    return OmeTiffWriter.prepare(path, specs, ome, options), specs


def blocks(array: np.ndarray, chunk: Shape5) -> list[tuple[Shape5, np.ndarray]]:
    counts = [-(-a // b) for a, b in zip(array.shape, chunk, strict=True)]
    return [
        (
            index,
            array[tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, chunk, strict=True))],
        )
        for index in itertools.product(*map(range, counts))
    ]


def write(
    path: Path, images: Sequence[Sequence[np.ndarray]], seed: int = 0, **options: Any
) -> None:
    """Write all chunks of all levels in a shuffled order."""
    writer, specs = prepare(path, images, **options)
    work = [
        (image, level, *block)
        for image, (levels, spec) in enumerate(zip(images, specs, strict=True))
        for level, array in enumerate(levels)
        for block in blocks(array, spec.image.levels[level].chunk)
    ]
    for position in np.random.default_rng(seed).permutation(len(work)):
        writer.write_block(*work[position])
    writer.finish()


def by_tifffile(path: Path, series: int = 0, level: int = 0) -> np.ndarray:
    """All pixels as T, C x S, Z, Y, X."""
    with tifffile.TiffFile(path) as file:
        part = file.series[series].levels[level]
        array, axes = part.asarray(), part.axes
    for axis in set("TCSZYX") - set(axes):
        array, axes = array[..., np.newaxis], axes + axis
    array = np.moveaxis(array, [axes.index(axis) for axis in "TCSZYX"], range(6))
    t, c, s, *rest = array.shape
    return array.reshape(t, c * s, *rest)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("dtype", "samples", "compression"),
    [
        (dtype, samples, compression)
        for dtype, samples, compression in itertools.product(DTYPES, [1, 2, 3, 4], LOSSLESS)
        if compression != "jpeg2000" or dtype in ("u1", "i1", "u2", "i2")
    ],
)
def test_every_type_comes_back(tmp_path, dtype, samples, compression):
    array = numbered((2, 2 * samples, 3, 50, 70), dtype)
    small = np.ascontiguousarray(array[..., ::2, ::2])
    path = tmp_path / "made.ome.tif"
    order = "XYZTC" if samples == 3 else "XYZCT"
    write(
        path,
        [[array, small]],
        samples=samples,
        order=order,
        compression=compression,
        tile=(32, 48),
        bigtiff=samples == 2,
    )
    for level, expected in enumerate((array, small)):
        np.testing.assert_array_equal(read_ours(path, 0, level), expected)
        np.testing.assert_array_equal(by_tifffile(path, 0, level), expected)


@pytest.mark.parametrize(
    ("dtype", "predictor"), [("u2", 1), ("u2", 2), ("i4", 2), ("f4", 1), ("f4", 3), ("f8", 3)]
)
@pytest.mark.parametrize("compression", ["deflate", "zstd", "lzw"])
def test_predictors(tmp_path, dtype, predictor, compression):
    array = numbered((1, 3, 1, 40, 40), dtype)
    path = tmp_path / "made.ome.tif"
    write(path, [[array]], samples=3, compression=compression, predictor=predictor, tile=16)
    np.testing.assert_array_equal(read_ours(path), array)
    np.testing.assert_array_equal(by_tifffile(path), array)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].predictor == predictor


def test_differences_are_the_default_for_integers_only(tmp_path):
    for dtype, predictor in (("u2", 2), ("f4", 1)):
        path = tmp_path / f"{dtype}.ome.tif"
        write(path, [[numbered((1, 1, 1, 40, 40), dtype)]])
        with tifffile.TiffFile(path) as file:
            assert file.pages[0].predictor == predictor
            assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE


@pytest.mark.parametrize(("compression", "level", "most"), [("jpeg", 95, 12), ("jpeg2000", 45, 12)])
@pytest.mark.parametrize("samples", [1, 3])
def test_lossy_pixels_are_close_up_to_the_edge(tmp_path, compression, level, most, samples):
    y, x = np.mgrid[:50, :70]
    plane = 120 + 60 * np.sin(x / 20) + 40 * np.cos(y / 15)
    array = np.stack([plane + 10 * s for s in range(samples)])[None, :, None].astype("u1")
    path = tmp_path / "made.ome.tif"
    write(path, [[array]], samples=samples, compression=compression, level=level, tile=32)
    found = read_ours(path)
    assert np.abs(found.astype(int) - array).max() <= most
    np.testing.assert_array_equal(by_tifffile(path), found)


def test_several_images(tmp_path):
    first = numbered((1, 2, 3, 40, 50), "u2")
    second = numbered((2, 1, 1, 30, 20), "f4")
    path = tmp_path / "made.ome.tif"
    write(path, [[first], [second, second[..., ::2, ::2]]])
    for index, array in enumerate((first, second)):
        np.testing.assert_array_equal(read_ours(path, index), array)
        np.testing.assert_array_equal(by_tifffile(path, index), array)
    np.testing.assert_array_equal(read_ours(path, 1, 1), second[..., ::2, ::2])


@pytest.mark.parametrize("order", ["XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"])
def test_directories_follow_the_dimension_order(tmp_path, order):
    array = numbered((2, 3, 4, 16, 16), "u2")
    path = tmp_path / "made.ome.tif"
    write(path, [[array]], order=order)
    np.testing.assert_array_equal(by_tifffile(path), array)
    with tifffile.TiffFile(path) as file:
        second = file.pages[1].asarray()
    at = {axis: int(axis == order[2]) for axis in "TCZ"}
    np.testing.assert_array_equal(second, array[at["T"], at["C"], at["Z"]])


def test_the_order_of_chunks_and_threads_does_not_matter(tmp_path):
    array = numbered((2, 2, 2, 100, 90), "u2")
    writer, specs = prepare(tmp_path / "a.ome.tif", [[array]], tile=16)
    work = blocks(array, specs[0].image.levels[0].chunk)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda block: writer.write_block(0, 0, *block), work))
    writer.finish()
    np.testing.assert_array_equal(read_ours(tmp_path / "a.ome.tif"), array)


def test_a_chunk_written_again_replaces_the_first(tmp_path):
    array = numbered((1, 1, 1, 32, 32), "u2")
    writer, _ = prepare(tmp_path / "a.ome.tif", [[array]], tile=16)
    for index, block in blocks(array, (1, 1, 1, 16, 16)):
        writer.write_block(0, 0, index, block * 0 + 7)
        writer.write_block(0, 0, index, block)
    writer.finish()
    np.testing.assert_array_equal(read_ours(tmp_path / "a.ome.tif"), array)


@pytest.mark.parametrize("compression", ["deflate", "none", "jpeg2000"])
def test_chunks_can_be_read_back_while_writing(tmp_path, compression):
    array = numbered((1, 3, 1, 40, 30), "u2")
    writer, _ = prepare(
        tmp_path / "a.ome.tif", [[array]], samples=3, tile=32, compression=compression
    )
    for index, block in blocks(array, (1, 3, 1, 32, 32)):
        assert writer.read_block(0, 0, index) is None
        writer.write_block(0, 0, index, block)
        np.testing.assert_array_equal(writer.read_block(0, 0, index), block)
    writer.abort()


@pytest.mark.parametrize("fill", [0, 9])
@pytest.mark.parametrize("compression", ["deflate", "none"])
def test_missing_chunks_take_the_fill_value_once(tmp_path, fill, compression):
    array = numbered((1, 1, 5, 100, 90), "u2")
    path = tmp_path / "a.ome.tif"
    writer, _ = prepare(path, [[array]], tile=32, fill=fill, compression=compression)
    expected = np.full_like(array, fill)
    for index, block in blocks(array, (1, 1, 1, 32, 32)):
        if index[3] == 1:
            writer.write_block(0, 0, index, block)
            expected[0, 0, index[2], 32:64, 32 * index[4] : 32 * index[4] + block.shape[4]] = block
    writer.finish()
    np.testing.assert_array_equal(read_ours(path), expected)
    np.testing.assert_array_equal(by_tifffile(path), expected)
    with tifffile.TiffFile(path) as file:
        offsets = {file.pages[z].dataoffsets[i] for z in range(5) for i in (0, 11)}
    assert len(offsets) == 1


@pytest.mark.parametrize("rows", [7, 40])
def test_a_chunk_of_whole_rows_becomes_strips(tmp_path, rows):
    array = numbered((1, 1, 2, 40, 33), "u2")
    path = tmp_path / "a.ome.tif"
    write(path, [[array]], chunk=(1, 1, 1, rows, 33))
    np.testing.assert_array_equal(read_ours(path), array)
    np.testing.assert_array_equal(by_tifffile(path), array)
    with tifffile.TiffFile(path) as file:
        assert not file.pages[0].is_tiled
        assert file.pages[0].rowsperstrip == rows


@pytest.mark.parametrize("chunk", [(1, 1, 1, 20, 16), (1, 1, 2, 16, 16), (1, 3, 1, 16, 16)])
def test_chunks_that_tiff_has_not(tmp_path, chunk):
    with pytest.raises(BadArgument, match="not a TIFF tile"):
        prepare(tmp_path / "a.ome.tif", [[numbered((1, 3, 2, 40, 33), "u2")]], chunk=chunk)


def test_the_default_chunk_is_no_larger_than_the_image():
    def chunk_of(y, x, **options):
        shape = (1, 3, 1, y, x)
        image = Image(None, (Level(shape, shape),), np.dtype("u1"), samples=3)
        return OmeTiffWriter.default_chunk(image, options)

    assert chunk_of(5000, 5000) == (1, 3, 1, 1024, 1024)
    assert chunk_of(5000, 33) == (1, 3, 1, 1024, 48)
    assert chunk_of(1, 1) == (1, 3, 1, 16, 16)
    assert chunk_of(5000, 5000, tile=(256, 512)) == (1, 3, 1, 256, 512)


def test_metadata_is_valid_and_says_what_the_file_holds(tmp_path):
    array = numbered((2, 2, 3, 40, 50), "u2")
    ome = document([array], 1, "XYZCT")
    ome.images[0].description = "kept"
    ome.images[0].pixels.size_x = 9999
    ome.images[0].pixels.channels[1].id = "Channel:0:0"
    ome.images[0].pixels.channels[0].color = model.Color("red")
    path = tmp_path / "made.ome.tif"
    write(path, [[array]], ome=ome)
    reader = open_ours(path)
    xml = reader.ome_xml()
    assert xml is not None
    validate_xml(xml)
    stored = reader.ome()
    reader.close()
    assert stored.uuid is not None
    assert stored.uuid.startswith("urn:uuid:")
    (image,) = stored.images
    assert image.description == "kept"
    assert (image.pixels.size_x, image.pixels.type.value) == (50, "uint16")
    assert len({channel.id for channel in image.pixels.channels}) == 2
    assert image.pixels.channels[0].color.as_rgb_tuple()[:3] == (255, 0, 0)
    (data,) = image.pixels.tiff_data_blocks
    assert (data.ifd, data.plane_count) == (0, 12)
    assert ome.images[0].pixels.size_x == 9999


def test_channels_are_made_to_fit(tmp_path):
    array = numbered((1, 4, 1, 20, 20), "u2")
    ome = document([array], 1, "XYZCT")
    del ome.images[0].pixels.channels[1:]
    write(tmp_path / "made.ome.tif", [[array]], ome=ome)
    stored = open_ours(tmp_path / "made.ome.tif").ome()
    assert len({channel.id for channel in stored.images[0].pixels.channels}) == 4


def test_tags(tmp_path):
    array = numbered((1, 3, 1, 64, 64), "u1")
    path = tmp_path / "made.ome.tif"
    write(path, [[array, array[..., ::2, ::2]]], samples=3, tile=16)
    with tifffile.TiffFile(path) as file:
        first = file.pages[0]
        tags = {tag.name: tag.value for tag in first.tags}
        (below,) = first.pages
        # 0.25 µm and 500 nm a pixel are 40 000 and 20 000 pixels a centimetre.
        assert tags["ResolutionUnit"] == tifffile.RESUNIT.CENTIMETER
        assert tags["XResolution"] == (40000, 1)
        assert tags["YResolution"] == (20000, 1)
        assert tags["Software"] == "bfbridge"
        assert tags["ImageDescription"].startswith("<?xml")
        assert tags["NewSubfileType"] == 0
        assert tags["PhotometricInterpretation"] == tifffile.PHOTOMETRIC.RGB
        assert below.tags["NewSubfileType"].value == 1
        assert below.tags["XResolution"].value == (20000, 1)
        assert "ImageDescription" not in below.tags


@pytest.mark.parametrize("samples", [2, 4, 5])
def test_further_samples_are_declared(tmp_path, samples):
    array = numbered((1, samples, 1, 20, 20), "u1")
    path = tmp_path / "made.ome.tif"
    write(path, [[array]], samples=samples)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages[0].extrasamples) == samples - (3 if samples > 2 else 1)


@pytest.mark.parametrize(("bigtiff", "expected"), [("auto", False), (True, True), (False, False)])
def test_bigtiff_where_asked_for(tmp_path, bigtiff, expected):
    path = tmp_path / "made.ome.tif"
    write(path, [[numbered((1, 1, 1, 20, 20), "u1")]], bigtiff=bigtiff)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff is expected


@pytest.mark.parametrize("bigtiff", ["auto", False])
def test_beyond_four_gigabytes(tmp_path, bigtiff):
    """The file is made sparse: the writer's position is at 4 GiB already."""
    array = numbered((1, 1, 1, 32, 32), "u2")
    path = tmp_path / "made.ome.tif"
    writer, _ = prepare(path, [[array]], tile=16, bigtiff=bigtiff)
    work = blocks(array, (1, 1, 1, 16, 16))
    writer.write_block(0, 0, *work[0])
    writer._end = 1 << 32
    if bigtiff is False:
        with pytest.raises(WriteFailed, match="4 GiB"):
            writer.write_block(0, 0, *work[1])
        writer.abort()
        return
    for block in work[1:]:
        writer.write_block(0, 0, *block)
    writer.finish()
    np.testing.assert_array_equal(read_ours(path), array)
    np.testing.assert_array_equal(by_tifffile(path), array)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff


def test_an_unfinished_file_is_no_tiff(tmp_path):
    array = numbered((1, 1, 1, 32, 32), "u2")
    path = tmp_path / "made.ome.tif"
    writer, _ = prepare(path, [[array]], tile=16)
    for block in blocks(array, (1, 1, 1, 16, 16)):
        writer.write_block(0, 0, *block)
        assert path.read_bytes()[:16] == bytes(16)
        with pytest.raises(UnreadableFile, match="not a TIFF"):
            open_ours(path)
    writer.abort()
    writer.abort()
    assert not path.exists()


def test_the_header_is_written_last(tmp_path, monkeypatch):
    array = numbered((1, 1, 2, 32, 32), "u2")
    writer, _ = prepare(tmp_path / "made.ome.tif", [[array]], tile=16)
    for block in blocks(array, (1, 1, 1, 16, 16)):
        writer.write_block(0, 0, *block)
    seen = []
    real = os.pwrite

    def note(fd, data, offset):
        seen.append(offset)
        return real(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", note)
    writer.finish()
    assert seen[-1] == 0
    assert 0 not in seen[:-1]


def test_a_full_disk_is_said_and_the_file_not_finished(tmp_path, monkeypatch):
    array = numbered((1, 1, 1, 32, 32), "u2")
    path = tmp_path / "made.ome.tif"
    writer, _ = prepare(path, [[array]], tile=16)
    work = blocks(array, (1, 1, 1, 16, 16))
    writer.write_block(0, 0, *work[0])

    def full(fd, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(WriteFailed, match="disk is full"):
            writer.write_block(0, 0, *work[1])
    with pytest.raises(WriteFailed, match="earlier write failed"):
        writer.finish()
    writer.abort()
    assert not path.exists()


def test_writes_that_take_less_than_asked_are_carried_on(tmp_path, monkeypatch):
    array = numbered((1, 1, 1, 32, 32), "u2")
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:7], offset))
    write(tmp_path / "made.ome.tif", [[array]], tile=16)
    np.testing.assert_array_equal(read_ours(tmp_path / "made.ome.tif"), array)


def test_wrong_blocks_are_refused(tmp_path):
    writer, _ = prepare(tmp_path / "a.ome.tif", [[numbered((1, 1, 1, 40, 40), "u2")]], tile=16)
    good = np.zeros((1, 1, 1, 16, 16), "u2")
    with pytest.raises(BadDtype, match=r"int64.*uint16"):
        writer.write_block(0, 0, (0, 0, 0, 0, 0), good.astype("i8"))
    with pytest.raises(BadArgument, match="shape"):
        writer.write_block(0, 0, (0, 0, 0, 0, 2), good)
    with pytest.raises(BadArgument, match="outside the grid"):
        writer.write_block(0, 0, (0, 0, 0, 0, 3), good)
    writer.abort()
    with pytest.raises(Closed):
        writer.write_block(0, 0, (0, 0, 0, 0, 0), good)


@pytest.mark.parametrize(
    ("dtype", "samples", "options", "reason"),
    [
        ("i8", 1, {}, "no pixel type for int64"),
        ("u8", 1, {}, "no pixel type for uint64"),
        ("f2", 1, {}, "no pixel type for float16"),
        ("u2", 1, {"compression": "jpeg"}, "jpeg stores samples of the types uint8"),
        ("u1", 2, {"compression": "jpeg"}, "1 or 3 samples"),
        ("f4", 1, {"compression": "jpeg2000"}, "jpeg2000 stores samples"),
    ],
)
def test_what_ome_tiff_cannot_hold(dtype, samples, options, reason):
    shape = (1, samples, 1, 40, 40)
    image = Image(None, (Level(shape, shape),), np.dtype(dtype), samples=samples)
    with pytest.raises(Unsupported, match=reason):
        OmeTiffWriter.default_chunk(image, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compresion": "zstd"}, "compresion: there is no such option. Did you mean compression"),
        ({"compression": "rar"}, "rar"),
        ({"level": 13}, "0 to 12"),
        ({"level": True}, "level=True"),
        ({"compression": "jpeg", "level": 0}, "1 to 100"),
        ({"compression": "lzw", "level": 3}, "lzw has no levels"),
        ({"predictor": 4}, "predictor=4"),
        ({"predictor": 2, "compression": "none"}, "only deflate"),
        ({"tile": 100}, "multiple of 16"),
        ({"tile": (16, 16, 16)}, "pair"),
        ({"tile": 0}, "multiple of 16"),
        ({"tile": 16.0}, "multiple of 16"),
        ({"tile": "16"}, "multiple of 16"),
        ({"bigtiff": "yes"}, "bigtiff"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(BadArgument, match=message):
        OmeTiffWriter.check(options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": None, "level": None, "predictor": None, "tile": None, "bigtiff": None},
        {"compression": "ZSTD", "level": -3, "predictor": False, "tile": (16, 32)},
        {"compression": "deflate", "level": np.int64(9), "predictor": True, "bigtiff": True},
    ],
)
def test_right_options_pass(options):
    OmeTiffWriter.check(options)
    shape = (1, 1, 1, 640, 640)
    image = Image(None, (Level(shape, shape),), np.dtype("u2"))
    assert OmeTiffWriter.default_chunk(image, options)[4] % 16 == 0


def test_a_target_that_exists_is_not_touched(tmp_path):
    path = tmp_path / "made.ome.tif"
    path.write_text("mine")
    with pytest.raises(WriteFailed, match="cannot be created"):
        prepare(path, [[numbered((1, 1, 1, 40, 40), "u2")]])
    assert path.read_text() == "mine"


def test_metadata_for_another_number_of_images(tmp_path):
    array = numbered((1, 1, 1, 40, 40), "u2")
    with pytest.raises(BadArgument, match="describes 2 images"):
        prepare(tmp_path / "a.ome.tif", [[array]], ome=document([array, array], 1, "XYZCT"))
    assert not (tmp_path / "a.ome.tif").exists()


def test_bool_arrives_as_bytes(tmp_path):
    array = numbered((1, 1, 1, 40, 40), "u1") > 100
    path = tmp_path / "a.ome.tif"
    writer, _ = prepare(path, [[array.astype("u1")]])
    writer.write_block(0, 0, (0, 0, 0, 0, 0), array)
    writer.finish()
    found = read_ours(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


def test_a_file_of_many_planes(tmp_path):
    array = numbered((300, 2, 3, 16, 16), "u1")
    path = tmp_path / "a.ome.tif"
    write(path, [[array]])
    reader = open_ours(path)
    np.testing.assert_array_equal(all_of(reader), array)
    reader.close()
    np.testing.assert_array_equal(by_tifffile(path), array)


def test_without_pread_and_pwrite(tmp_path, monkeypatch):
    """As on Windows."""
    array = numbered((1, 1, 2, 100, 90), "u2")
    path = tmp_path / "made.ome.tif"
    writer, specs = prepare(path, [[array]], tile=16)
    with monkeypatch.context() as patch:
        patch.delattr(os, "pwrite")
        patch.delattr(os, "pread")
        patch.delattr(os, "preadv", raising=False)
        work = blocks(array, specs[0].image.levels[0].chunk)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda block: writer.write_block(0, 0, *block), work))
        for index, block in work[:5]:
            np.testing.assert_array_equal(writer.read_block(0, 0, index), block)
        writer.finish()
        np.testing.assert_array_equal(read_ours(path), array)
    np.testing.assert_array_equal(read_ours(path), array)


def test_planes_above_what_readers_accept(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    bw = BioWriter(path, shape=(4, 5, 1001, 10, 100), dtype="uint8")
    with pytest.raises(BadArgument, match=r"1,001,000 planes .* maximum is 1,000,000.*OME-Zarr"):
        bw[:1] = 5
    bw.abort()
    assert list(tmp_path.iterdir()) == []
