"""The Bio-Formats reader against Bio-Formats itself, on synthetic and written files."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile

import bfbridge_bioformats
from bfbridge import BioReader, BioWriter
from bfbridge.backend import OpenOptions, Quantity, Region
from bfbridge.errors import (
    BadArgument,
    BfbridgeError,
    Closed,
    FileMissing,
    ReadFailed,
    UnreadableFile,
)
from bfbridge.storage.source import as_source
from bfbridge_bioformats.readers import buffers
from bfbridge_bioformats.readers.pool import JavaReader
from bfbridge_bioformats.runtime.machine import machine
from tests.real.manifest import DATA

pytestmark = pytest.mark.java


def open_(name, **options):
    return bfbridge_bioformats.READER.open(as_source(name), OpenOptions(**options))


def read(reader, start=(0,) * 5, stop=None, image=0, level=0):
    region = Region(image, level, start, stop or reader.images[image].levels[level].shape)
    out = np.empty(region.shape, reader.images[image].dtype)
    out.view(np.uint8).fill(0xA5)
    reader.read(region, out)
    return out


def referee(name, series=0, resolution=0):
    """Every plane as Bio-Formats' own ImageReader gives it, put in order by hand: T C Z Y X."""
    with machine.attached():
        java = machine.type("loci.formats.ImageReader")()
        java.setFlattenedResolutions(False)
        java.setId(name)
        java.setSeries(series)
        java.setResolution(resolution)
        samples = java.getRGBChannelCount()
        sizes = java.getSizeT(), java.getEffectiveSizeC(), java.getSizeZ()
        y, x = java.getSizeY(), java.getSizeX()
        types = [
            "int8",
            "uint8",
            "int16",
            "uint16",
            "int32",
            "uint32",
            "float32",
            "float64",
            "uint8",
        ]
        dtype = np.dtype(types[java.getPixelType()]).newbyteorder(
            "<" if java.isLittleEndian() else ">"
        )
        out = np.empty((sizes[0], sizes[1] * samples, sizes[2], y, x), dtype.newbyteorder("="))
        for t, c, z in np.ndindex(*sizes):
            plane = java.openBytes(java.getIndex(z, c, t))
            values = np.asarray(plane).view(dtype)
            if java.isInterleaved() and samples > 1:
                values = values.reshape(y, x, samples).transpose(2, 0, 1)
            out[t, c * samples : (c + 1) * samples, z] = values.reshape(samples, y, x)
        java.close()
        return out


@pytest.mark.parametrize("little", ["true", "false"])
@pytest.mark.parametrize(
    "pixel_type", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float", "double", "bit"]
)
def test_every_pixel_type_in_both_byte_orders(pixel_type, little):
    name = (
        f"types&sizeX=37&sizeY=29&sizeZ=3&sizeC=2&sizeT=4&pixelType={pixel_type}&little={little}"
        "&dimOrder=XYTCZ.fake"
    )
    reader = open_(name)
    image = reader.images[0]
    assert image.levels[0].shape == (4, 2, 3, 29, 37)
    assert image.byteorder == ("<" if little == "true" else ">")
    assert image.dtype.isnative
    expected = referee(name)
    assert image.dtype == expected.dtype
    np.testing.assert_array_equal(read(reader), expected)
    np.testing.assert_array_equal(
        read(reader, (1, 1, 0, 7, 11), (3, 2, 2, 28, 36)), expected[1:3, 1:2, 0:2, 7:28, 11:36]
    )


@pytest.mark.parametrize("interleaved", ["true", "false"])
@pytest.mark.parametrize("order", ["XYCZT", "XYCTZ"])
def test_rgb_counts_samples_as_channels(interleaved, order):
    name = (
        f"rgb&sizeX=53&sizeY=17&sizeC=6&rgb=3&sizeZ=2&sizeT=3&pixelType=uint16&little=false"
        f"&interleaved={interleaved}&dimOrder={order}.fake"
    )
    reader = open_(name)
    image = reader.images[0]
    assert image.levels[0].shape == (3, 6, 2, 17, 53)
    assert image.samples == 3
    assert image.interleaved is (interleaved == "true")
    assert [channel.samples for channel in image.channels] == [3, 3]
    expected = referee(name)
    assert len({expected[t, c, z].tobytes() for t, c, z in np.ndindex(3, 6, 2)}) >= 6
    np.testing.assert_array_equal(read(reader), expected)
    # A range that begins and ends inside a pixel.
    np.testing.assert_array_equal(
        read(reader, (1, 1, 1, 0, 0), (2, 5, 2, 17, 53)), expected[1:2, 1:5, 1:2]
    )


def test_series_and_levels():
    name = "levels&sizeX=400&sizeY=300&resolutions=3&resolutionScale=2&series=2&sizeZ=2.fake"
    reader = open_(name)
    assert len(reader.images) == 2
    shapes = [level.shape for level in reader.images[1].levels]
    assert shapes == [(1, 1, 2, 300, 400), (1, 1, 2, 150, 200), (1, 1, 2, 75, 100)]
    for level in range(3):
        np.testing.assert_array_equal(
            read(reader, image=1, level=level), referee(name, series=1, resolution=level)
        )


def test_any_strides_are_filled():
    reader = open_("strides&sizeX=40&sizeY=30&sizeC=3&sizeZ=2&sizeT=2&pixelType=int16.fake")
    expected = read(reader)
    region = Region(0, 0, (0,) * 5, expected.shape)
    yxzct = np.full((30, 40, 2, 3, 2), -7, np.int16)
    reader.read(region, yxzct.transpose(4, 3, 2, 0, 1))
    np.testing.assert_array_equal(yxzct.transpose(4, 3, 2, 0, 1), expected)


def test_metadata_of_a_synthetic_image():
    reader = open_(
        "meta&sizeX=64&sizeY=64&sizeC=2&sizeZ=3&physicalSizeX=0.5&physicalSizeY=500nm"
        "&physicalSizeZ=2&color=-16776961.fake"
    )
    image = reader.images[0]
    assert image.name == "meta"
    assert image.pixel_size.x == Quantity(0.5, "µm")
    assert image.pixel_size.y == Quantity(500.0, "nm")
    assert image.pixel_size.z == Quantity(2.0, "µm")
    ome = reader.ome()
    assert (ome.images[0].pixels.size_x, ome.images[0].pixels.size_z) == (64, 3)
    assert reader.ome_xml().startswith("<?xml")
    assert reader.used_files[0].startswith("meta&sizeX=64")


def test_indexed_colour_has_a_lookup_table():
    reader = open_("indexed&sizeX=32&sizeY=32&indexed=true&pixelType=uint8.fake")
    table = reader.lookup_table(0)
    assert table.shape[0] == 3
    assert table.dtype == np.uint8
    assert table.any()
    assert open_("plain&sizeX=32&sizeY=32.fake").lookup_table(0) is None


def test_original_metadata_of_a_written_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint8), description="a note")
    found = open_(tmp_path / "a.tif").original_metadata
    assert found["ImageWidth"] == 9
    assert found["ImageLength"] == 8
    assert found["Software"] == "tifffile.py"


def test_pixels_from_many_threads(tmp_path):
    image = np.arange(3 * 700 * 500, dtype=np.uint32).reshape(3, 700, 500)
    tifffile.imwrite(
        tmp_path / "stack.tif", image, tile=(64, 48), compression="zlib", photometric="minisblack"
    )
    reader = open_(tmp_path / "stack.tif", max_workers=3)
    squeezed = [axis for axis, n in enumerate(reader.images[0].levels[0].shape) if n == 3]

    def one(seed):
        rng = np.random.default_rng(seed)
        start, stop = [0] * 5, [1] * 5
        plane = int(rng.integers(3))
        start[squeezed[0]], stop[squeezed[0]] = plane, plane + 1
        y, x = int(rng.integers(600)), int(rng.integers(400))
        start[3:], stop[3:] = (y, x), (y + 61, x + 83)
        got = read(reader, tuple(start), tuple(stop))
        return np.array_equal(got.reshape(61, 83), image[plane, y : y + 61, x : x + 83])

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(one, range(60)))


def test_regions_larger_than_a_java_array_piece(monkeypatch):
    name = "pieces&sizeX=300&sizeY=200&pixelType=uint16&sizeC=3&rgb=3.fake"
    expected = referee(name)
    reader = open_(name)
    for size in (1, 300 * 6, 5000, 300 * 6 * 7 + 1):
        monkeypatch.setattr("bfbridge_bioformats.reader._piece_bytes", lambda size=size: size)
        stop = (1, 3, 1, 9, 300) if size == 1 else None
        np.testing.assert_array_equal(
            read(reader, stop=stop), expected[:, :, :, : stop[3] if stop else None]
        )


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (None, "missing.czi", FileMissing),
        (b"", "empty.czi", UnreadableFile),
        (b"this is no image at all, whatever its name says\n" * 40, "text.czi", UnreadableFile),
        (bytes(range(256)) * 64, "bytes.nd2", UnreadableFile),
        (b"\0" * 100_000, "zeros.lif", UnreadableFile),
        (b"II*\0\x08\0\0\0\xff\xff", "cut.tif", UnreadableFile),
        (b"<OME><Image>", "cut.ome", UnreadableFile),
    ],
)
def test_what_is_not_an_image_is_named(tmp_path, content, name, kind):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BfbridgeError) as caught:
        open_(path)
    assert isinstance(caught.value, kind)
    assert name in str(caught.value)


def test_folders_and_pipes_are_refused(tmp_path):
    import os

    with pytest.raises(UnreadableFile, match="folder"):
        open_(tmp_path)
    os.mkfifo(tmp_path / "pipe.czi")
    with pytest.raises(UnreadableFile, match="pipe"):
        open_(tmp_path / "pipe.czi")


def test_java_exceptions_are_causes_only(tmp_path):
    path = tmp_path / "bad.tif"
    tifffile.imwrite(path, np.ones((64, 64), np.uint8), compression="zlib", rowsperstrip=64)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[0]
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(data)
    reader = open_(path)
    with pytest.raises(
        ReadFailed, match=r"bad\.tif: image 0, level 0, .* y 0:64, x 0:64"
    ) as caught:
        read(reader)
    assert "Java" not in type(caught.value).__mro__[1].__name__
    assert caught.value.__cause__ is not None
    with pytest.raises(ReadFailed):
        read(reader)


def test_closed_readers_say_so():
    reader = open_("closed&sizeX=32&sizeY=32.fake")
    reader.close()
    reader.close()
    for use in (lambda: read(reader), reader.ome_xml, lambda: reader.original_metadata):
        with pytest.raises(Closed, match=r"closed.*\.fake"):
            use()


def test_closing_while_others_read():
    reader = open_("busy&sizeX=32&sizeY=32&sizeT=200&sleepOpenBytes=20.fake", max_workers=2)
    outcomes = []

    def run():
        try:
            read(reader)
        except Closed as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    reader.close()
    for thread in threads:
        thread.join(10)
    assert len(outcomes) == 3


def test_options_are_known_by_name(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint8))
    with pytest.raises(BadArgument, match=r"zeissczi\.autostich.*zeissczi\.autostitch"):
        open_(tmp_path / "a.tif", backend_options={"zeissczi.autostich": False})
    reader = open_(
        tmp_path / "a.tif", backend_options={"zeissczi.autostitch": False, "metadata.level": "ALL"}
    )
    assert reader.images[0].levels[0].shape == (1, 1, 1, 8, 9)


def test_files_are_grouped_on_demand(tmp_path):
    for z in range(3):
        tifffile.imwrite(tmp_path / f"s_z{z}.tif", np.full((8, 9), z, np.uint8))
    (tmp_path / "s.pattern").write_text("s_z<0-2>.tif")
    reader = open_(tmp_path / "s.pattern")
    assert reader.images[0].levels[0].shape == (1, 1, 3, 8, 9)
    np.testing.assert_array_equal(read(reader)[0, 0, :, 0, 0], [0, 1, 2])
    assert len(reader.used_files) == 4


def test_formats_are_counted_from_the_jar():
    formats = bfbridge_bioformats.formats()
    names = {found.name for found in formats}
    assert len(formats) > 150
    assert {"Zeiss CZI", "OME-TIFF", "Nikon ND2", "Leica Image File Format"} <= names
    czi = next(found for found in formats if found.name == "Zeiss CZI")
    assert (czi.suffixes, czi.can_write) == (("czi",), False)
    assert next(found for found in formats if found.name == "OME-TIFF").can_write


def test_a_diagnosis_finds_everything_here():
    checks = {check.name: check for check in bfbridge_bioformats.diagnose()}
    assert all(check.ok for check in checks.values()), checks
    assert "version" in checks["Bio-Formats starts"].detail


def test_roles_put_associated_images_last(tmp_path):
    reader = open_("thumbs&sizeX=64&sizeY=64&series=2&thumbSizeX=8.fake")
    assert [image.role for image in reader.images] == ["image", "image"]
    assert list(reader.series) == [0, 1]


def test_the_face_has_lookup_tables_and_modulo_axes() -> None:
    from bfbridge import BioReader

    name = "f&sizeX=40&sizeY=30&indexed=true&falseColor=false&pixelType=uint8.fake"
    with BioReader(name) as br:
        table = br.lookup_table()
        assert table is not None
        assert table.shape == (3, 256)
        assert table.dtype == np.uint8
    with BioReader("g&sizeX=40&sizeY=30.fake") as br:
        assert br.lookup_table() is None
        assert br.modulo == {}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real files at {DATA}")
def test_lifetimes_are_a_modulo_axis() -> None:
    from bfbridge import BioReader

    folder = DATA / "sdt/seminal_receptacle_FLIM_single_image.sdt.d"
    with BioReader(folder / "seminal_receptacle_FLIM_single_image.sdt") as br:
        found = br.modulo["T"]
    assert (found.type, found.unit, found.length) == ("Lifetime", "ps", 256)
    assert found.step == pytest.approx(48.86091184430619)


def test_each_image_is_read_at_the_level_asked_for(tmp_path):
    """setSeries puts Java's reader back to full size, whatever level it was at."""
    name = str(tmp_path / "a.ome.tif")
    with BioReader("demo&series=2&sizeX=80&sizeY=64.fake") as br:
        told = br.metadata
    with BioWriter(name, metadata=told, series="all", pyramid=1) as bw:
        for number, image in enumerate(bw.series):
            image[:] = np.random.default_rng(number).integers(0, 255, (64, 80), np.uint8)
    reader = open_(name)
    size = reader.images[0].levels[1].shape
    for image, level in [(0, 1), (1, 1), (0, 0), (1, 1), (1, 0), (0, 1)]:
        found = read(reader, image=image, level=level, stop=size)
        expected = referee(name, image, level)[tuple(slice(n) for n in size)]
        np.testing.assert_array_equal(found, expected, f"image {image}, level {level}")
    reader.close()


def test_what_java_leaves_out_is_no_older_plane():
    """Its array is used again, and some readers fill only what their file has."""

    class Sparse:
        def openBytes(self, plane, array, x, y, width, height):  # noqa: N802 - Java's name
            if plane == 0:
                array[:] = [5] * len(array)
            return array

    with machine.attached():
        reader = JavaReader(Sparse())
        assert reader.open_bytes(0, 0, 0, 4, 2, 8).tolist() == [5] * 8
        assert reader.open_bytes(1, 0, 0, 4, 2, 8).tolist() == [0] * 8


def test_memory_outside_javas_heap_is_used_again(monkeypatch):
    """Java frees it only when its heap is full: a loop that opens files must not need more."""
    made = []
    real = machine.window
    monkeypatch.setattr(machine, "window", lambda memory: made.append(len(memory)) or real(memory))
    monkeypatch.setattr(buffers, "windows", buffers.Windows())

    class Filled:
        def __init__(self, value):
            self.value = value

        def openBytes(self, plane, array, x, y, width, height):  # noqa: N802 - Java's name
            array[:] = [self.value] * len(array)
            return array

        def close(self):
            pass

    sizes = [(2, 4), (300, 400), (3, 5)]
    with machine.attached():
        for number in range(30):
            one, other = JavaReader(Filled(number)), JavaReader(Filled(100))
            for height, width in sizes:
                first = one.open_bytes(0, 0, 0, width, height, height * width)
                second = other.open_bytes(0, 0, 0, width, height, height * width)
                assert first.shape == (height * width,)
                assert (first == number).all(), "readers in use do not share memory"
                assert (second == 100).all()
            one.close()
            other.close()
        assert sorted(made) == [1 << 16] * 2 + [1 << 17] * 2
        large = [buffers.windows.take(32 << 20), buffers.windows.take(1 << 30)]
        for window in large:
            buffers.windows.give(window)
        assert buffers.windows.take(32 << 20) is large[0]
        assert buffers.windows.take(1 << 30) is not large[1], "64 MiB are kept at most"


def test_closing_a_file_collects_javas_garbage():
    """The serial collector alone would let the heap grow to its maximum."""
    source = "a&sizeX=64&sizeY=64.fake"
    with BioReader(source) as br:
        br[:]
    runtime = machine.type("java.lang.Runtime").getRuntime()
    with machine.attached():
        runtime.gc()
        alive = runtime.totalMemory() - runtime.freeMemory()
        arrays = [machine.new_bytes(10 << 20) for _ in range(30)]
        assert runtime.totalMemory() - runtime.freeMemory() > alive + (256 << 20)
        arrays.clear()
    with BioReader(source) as br:
        br[:]
    with machine.attached():
        assert runtime.totalMemory() - runtime.freeMemory() < alive + (64 << 20)
