"""The Bio-Formats writer: as every backend, and in the formats only it writes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import tifffile

import bfbridge_bioformats
from bfbridge import BioReader, BioWriter
from bfbridge.backend import ImageSpec, OpenOptions, Region
from bfbridge.engine.pyramid import plan_levels
from bfbridge.errors import BadArgument, BfbridgeError, Unsupported, WriteFailed
from bfbridge.ome import metadata
from bfbridge.storage.source import as_source
from bfbridge.testing import BackendSuite
from bfbridge_bioformats import READER, WRITER

pytestmark = pytest.mark.java


class TestOmeTiff(BackendSuite):
    reader = READER
    writer = WRITER
    suffix = ".ome.tiff"


@pytest.mark.slow
class TestOmeTiffZlib(BackendSuite):
    reader = READER
    writer = WRITER
    suffix = ".ome.tif"
    options: ClassVar = {"compression": "zlib"}


def write(path, pixels, samples=1, **options):
    """Write T C Z Y X in whole-plane blocks."""
    ome = metadata.new_document(1)
    element = ome.images[0]
    for axis, size in zip("tczyx", pixels.shape, strict=True):
        setattr(element.pixels, f"size_{axis}", size)
    metadata.set_pixel_type(element.pixels, metadata.ome_pixel_type(pixels.dtype))
    element.pixels.channels[0].samples_per_pixel = samples
    metadata.settle(ome)
    flat = metadata.record(element, pixels.dtype, plan_levels(pixels.shape, pixels.shape, ()))
    chunk = WRITER.default_chunk(flat, options)
    spec = ImageSpec(metadata.record(element, pixels.dtype, plan_levels(pixels.shape, chunk, ())))
    writer = WRITER.prepare(path, [spec], ome, options)
    try:
        t, c, z, _, _ = pixels.shape
        for index in np.ndindex(t, c // samples, z):
            at, ac, az = index
            block = pixels[at : at + 1, ac * samples : (ac + 1) * samples, az : az + 1]
            writer.write_block(0, 0, (at, ac, az, 0, 0), block)
        writer.finish()
    finally:
        writer.abort()


def read(path):
    reader = READER.open(as_source(path), OpenOptions())
    shape = reader.images[0].levels[0].shape
    out = np.empty(shape, reader.images[0].dtype)
    reader.read(Region(0, 0, (0,) * 5, shape), out)
    return out


def pixels(shape, dtype):
    values = np.arange(int(np.prod(shape)), dtype=np.int64) * 7 % 251
    return values.reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("suffix", "shape", "samples", "dtype"),
    [
        (".ics", (2, 3, 4, 31, 44), 1, "uint16"),
        (".ids", (2, 3, 4, 31, 44), 1, "float32"),
        (".png", (1, 1, 1, 31, 44), 1, "uint16"),
        (".png", (1, 3, 1, 31, 44), 3, "uint8"),
        (".jp2", (1, 1, 1, 31, 44), 1, "uint16"),
        (".jp2", (1, 3, 1, 32, 48), 3, "uint8"),
        (".avi", (5, 1, 1, 32, 48), 1, "uint8"),
        (".dcm", (1, 1, 3, 32, 48), 1, "uint16"),
        (".eps", (1, 1, 1, 31, 44), 1, "uint8"),
        (".mov", (3, 1, 1, 32, 48), 1, "uint8"),
        (".ome.xml", (2, 3, 4, 31, 44), 1, "int16"),
        (".tif", (1, 1, 5, 31, 44), 1, "uint32"),
        (".tif", (2, 3, 4, 31, 44), 1, "uint16"),
    ],
)
def test_formats_that_keep_pixels(tmp_path, suffix, shape, samples, dtype):
    expected = pixels(shape, dtype)
    path = tmp_path / f"file{suffix}"
    write(path, expected, samples)
    found = read(path)
    assert found.dtype == expected.dtype
    # Formats without the axes hold the same planes along another one.
    np.testing.assert_array_equal(found.reshape(-1, *shape[3:]), expected.reshape(-1, *shape[3:]))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("samples", "shape", "options"),
    [
        (1, (1, 2, 1, 1100, 1300), {}),
        (3, (1, 3, 1, 1100, 1300), {}),
        (1, (1, 1, 1, 1100, 1300), {"pyramid": True}),
        (3, (1, 3, 1, 1100, 1300), {"pyramid": True}),
    ],
)
def test_ome_tiff_is_compressed_in_tiles_as_by_bfio(tmp_path, samples, shape, options):
    """bfio 2.5.0: setCompression(ZLIB), setTileSizeX(1024), setTileSizeY(1024)."""
    expected = np.random.default_rng(3).integers(0, 255, shape).astype(np.uint8)
    path = tmp_path / "a.ome.tif"
    with BioWriter(path, backend="java", samples_per_pixel=samples, **options) as writer:
        writer[...] = expected.transpose(3, 4, 2, 1, 0)
    with tifffile.TiffFile(path) as tiff:
        levels = tiff.series[0].levels
        assert len(levels) == (3 if options else 1)
        for level in levels:
            assert level.pages[0].is_tiled
            assert level.pages[0].tile == (1024, 1024)
            assert level.pages[0].compression == 8
        found = levels[0].asarray()
    full = expected[0, :, 0].transpose(1, 2, 0) if samples == 3 else expected[0, :, 0].squeeze()
    np.testing.assert_array_equal(found, full)
    np.testing.assert_array_equal(read(path), expected)
    with BioReader(path) as br, BioReader(path, backend="bioformats") as java:
        for level in range(len(br.levels)):
            np.testing.assert_array_equal(
                br.levels[level].read(keepdims=True), java.levels[level].read(keepdims=True)
            )


def test_plane_order_is_that_of_the_axes(tmp_path):
    expected = pixels((2, 3, 4, 15, 18), "uint16") + np.arange(24).reshape(2, 3, 4, 1, 1)
    write(tmp_path / "order.ics", expected.astype("uint16"))
    np.testing.assert_array_equal(read(tmp_path / "order.ics"), expected)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "message"),
    [
        ("a.jpg", (1, 1, 1, 8, 8), "uint16", "uint16"),
        ("a.jpg", (2, 1, 1, 8, 8), "uint8", "one plane"),
        ("a.png", (1, 1, 1, 8, 8), "float32", "float32"),
        ("a.eps", (1, 1, 2, 8, 8), "uint8", "one plane"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_writing(tmp_path, name, shape, dtype, message):
    with pytest.raises(Unsupported, match=message):
        write(tmp_path / name, pixels(shape, dtype))
    assert list(tmp_path.iterdir()) == []


def test_signed_pixels_that_come_back_unsigned_are_an_error(tmp_path):
    with pytest.raises(WriteFailed, match=r"a\.png.*T, C, Z are \(6, 1, 1\), not \(1, 2, 3\)"):
        write(tmp_path / "a.png", pixels((1, 2, 3, 8, 9), "uint8"))
    with pytest.raises(WriteFailed, match=r"a\.png.*does not store these pixels unchanged"):
        write(tmp_path / "a.png", pixels((1, 1, 1, 8, 9), "int8") - np.int8(100))


def test_unknown_suffixes_and_codecs(tmp_path):
    image = pixels((1, 1, 1, 8, 8), "uint8")
    with pytest.raises(BadArgument, match=r"\.xyz.*\.avi.*\.ics"):
        write(tmp_path / "a.xyz", image)
    with pytest.raises(BadArgument, match=r"compression='zip'.*LZW"):
        write(tmp_path / "a.ome.tiff", image, compression="zip")
    with pytest.raises(BfbridgeError, match="compression=5"):
        WRITER.check({"compression": 5})


def test_suffixes_are_those_of_the_jar():
    assert {".ics", ".avi", ".png", ".ome.tiff"} <= set(bfbridge_bioformats.writable_suffixes())
