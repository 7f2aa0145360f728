"""The same files through this backend and through Bio-Formats: equal records, equal pixels."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from bfbridge import BioWriter
from bfbridge.backend import ReaderBackend
from tests.ometiff.test_ometiff_plain import slide, slide_pages
from tests.ometiff.test_ometiff_planes import SHAPE, in_order, pages_of, write_companion, write_set
from tests.ometiff.test_ometiff_write import write
from tests.support.tiffs import (
    all_of,
    build,
    numbered,
    ome_xml,
    open_ours,
    packed_row,
    page,
    saved,
    write_rgb_jpeg,
)

pytestmark = pytest.mark.java


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder alone in its folder: a plain TIFF among many files may be part of a data set."""
    folder = tmp_path / "alone" / "here"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _jar() -> None:
    from bfbridge.errors import JarNotFound
    from bfbridge_bioformats.jars.locate import find_jar

    try:
        find_jar()
    except JarNotFound as error:
        pytest.skip(str(error))


def open_java(path) -> ReaderBackend:
    from bfbridge.backend import OpenOptions
    from bfbridge.storage.source import as_source
    from bfbridge_bioformats import READER

    reader: ReaderBackend = READER.open(as_source(path), OpenOptions())
    return reader


def compare(path, most: int = 0) -> int:
    """Compare every level of every image; return how many there were."""
    ours, java = open_ours(path), open_java(path)
    try:
        assert len(ours.images) == len(java.images)
        count = 0
        for index, (mine, theirs) in enumerate(zip(ours.images, java.images, strict=True)):
            assert [level.shape for level in mine.levels] == [x.shape for x in theirs.levels]
            assert mine.dtype == theirs.dtype
            assert mine.samples == theirs.samples
            assert mine.name == theirs.name
            assert mine.pixel_size == theirs.pixel_size
            assert [c.name for c in mine.channels] == [c.name for c in theirs.channels]
            for level in range(len(mine.levels)):
                left, right = all_of(ours, index, level), all_of(java, index, level)
                if most:
                    assert np.abs(left.astype(float) - right).max() <= most
                else:
                    np.testing.assert_array_equal(left, right)
                count += 1
        return count
    finally:
        ours.close()
        java.close()


# Bio-Formats takes a quarter of a second a file: every type with every number of samples, and
# every compression with both, but not all three at once.
WRITTEN = [
    (dtype, samples, compression)
    for i, dtype in enumerate(["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
    for j, samples in enumerate([1, 3, 4])
    for k, compression in enumerate(["deflate", "zstd", "lzw", "none"])
    if (i + j + k) % 4 == 0
]


@pytest.mark.java
@pytest.mark.parametrize(("dtype", "samples", "compression"), WRITTEN)
def test_what_the_writer_writes(tmp_path, dtype, samples, compression):
    array = numbered((2, 2 * samples, 2, 50, 70), dtype)
    path = tmp_path / "made.ome.tif"
    big = samples == 4
    order = "XYZTC" if samples == 3 else "XYCZT"
    write(
        path,
        [[array, array[..., ::2, ::2]], [array[..., :20, :]]],
        samples=samples,
        order=order,
        compression=compression,
        tile=(32, 48),
        bigtiff=big,
    )
    assert compare(path) == 3


@pytest.mark.java
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
@pytest.mark.parametrize("level", [None, 80])
def test_what_the_writer_writes_with_loss(tmp_path, compression, samples, level):
    y, x = np.mgrid[:100, :90]
    plane = 120 + 60 * np.sin(x / 20) + 40 * np.cos(y / 15)
    array = np.stack([plane + 10 * s for s in range(samples)])[None, :, None].astype("u1")
    path = tmp_path / "made.ome.tif"
    write(path, [[array]], samples=samples, compression=compression, level=level, tile=32)
    assert compare(path, most=2) == 1


@pytest.mark.java
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd", "packbits"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_what_tifffile_writes(tmp_path, order, planar, compression, tile):
    array = numbered((2, 3, 2, 50, 70), "u2")
    chunky = planar == "contig"
    stored = array.transpose(0, 2, 3, 4, 1) if chunky else array.transpose(0, 2, 1, 3, 4)
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(
        path,
        stored,
        byteorder=order,
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        predictor=compression in ("zlib", "lzw"),
        metadata={"axes": "TZYXS" if chunky else "TZSYX", "PhysicalSizeX": 0.5},
        **({"tile": tile} if tile else {"rowsperstrip": 7}),
    )
    assert compare(path) == 1


@pytest.mark.java
@pytest.mark.parametrize("subsampling", [(2, 1), (2, 2)])
@pytest.mark.parametrize("space", [None, "rgb"])
def test_jpeg(tmp_path, subsampling, space):
    path = write_rgb_jpeg(tmp_path, (100, 90), subsampling, space)
    assert compare(path, most=2) == 1


@pytest.mark.java
@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_packed_samples(tmp_path, bits, inverted, order):
    rng = np.random.default_rng(bits)
    array = rng.integers(0, 1 << bits, (1, 1, 1, 12, 21)).astype("u1" if bits < 8 else "u2")
    rows = [packed_row(row, bits) for row in array[0, 0, 0]]
    file = page(
        21,
        12,
        [b"".join(rows)],
        bits=bits,
        photometric=0 if inverted else 1,
        description=ome_xml(array.shape, array.dtype),
    )
    assert compare(saved(tmp_path, build([file], order))) == 1


@pytest.mark.java
@pytest.mark.parametrize("order", ["XYZCT", "XYZTC", "XYCTZ", "XYCZT", "XYTCZ", "XYTZC"])
def test_dimension_orders(tmp_path, order):
    array = numbered(SHAPE, "u2")
    description = ome_xml(SHAPE, "u2", order=order, tiff_data="<TiffData/>")
    file = saved(tmp_path, build(pages_of(array, in_order(order), description)))
    assert compare(file) == 1


@pytest.mark.java
def test_four_samples_under_one_channel(tmp_path):
    array = numbered((12, 21, 4), "u2")
    description = ome_xml((1, 1, 1, 12, 21), "u2", channels='<Channel ID="Channel:0:0"/>')
    file = page(
        21, 12, [array.tobytes()], bits=16, samples=4, photometric=2, description=description
    )
    assert compare(saved(tmp_path, build([file]))) == 1


@pytest.mark.java
def test_a_set_of_files_and_a_companion(tmp_path):
    array = numbered(SHAPE, "u2")
    for file in write_set(tmp_path, array, ["s_c0.ome.tif", "s_c1.ome.tif"]):
        assert compare(file) == 1
    folder = tmp_path / "companion"
    folder.mkdir()
    for file in write_companion(folder, array):
        assert compare(file) == 1


@pytest.mark.java
@pytest.mark.parametrize("axes", ["TZCYX", "ZYX", "TYX", "CYX", "YX", "YXS", "TYXS"])
@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m", None])
def test_imagej(tmp_path, axes, unit):
    lengths = {"T": 2, "Z": 3, "C": 4, "Y": 12, "X": 21, "S": 3}
    array = numbered([lengths[axis] for axis in axes], "u1" if "S" in axes else "u2")
    path = tmp_path / "a.tif"
    metadata = {"axes": axes, **({"unit": unit, "spacing": 2.5} if unit else {})}
    tifffile.imwrite(path, array, imagej=True, resolution=(3, 7), metadata=metadata)
    assert compare(path) == 1


@pytest.mark.java
@pytest.mark.parametrize("unit", ["none", "inch", "centimeter"])
@pytest.mark.parametrize("kind", ["stack", "rgb", "planar", "sizes", "thumbnail", "white", "bits"])
def test_plain(tmp_path, kind, unit):
    path = tmp_path / "a.tif"
    resolution = {"resolution": (300, 200), "resolutionunit": unit, "metadata": None}
    if kind == "bits":
        tifffile.imwrite(
            path, numbered((20, 30), "u1") > 99, photometric="minisblack", **resolution
        )
    elif kind in ("sizes", "thumbnail"):
        with tifffile.TiffWriter(path) as writer:
            writer.write(numbered((20, 30), "u2"), **resolution)
            second = {"subfiletype": 1} if kind == "thumbnail" else {}
            writer.write(numbered((9, 8), "u2"), **second, **resolution)
    else:
        shape, photometric = {
            "stack": ((5, 20, 30), "minisblack"),
            "white": ((5, 20, 30), "miniswhite"),
            "rgb": ((5, 20, 30, 3), "rgb"),
            "planar": ((5, 3, 20, 30), "rgb"),
        }[kind]
        planar = {"planarconfig": "separate"} if kind == "planar" else {}
        tifffile.imwrite(
            path, numbered(shape, "u1"), photometric=photometric, **planar, **resolution
        )
    assert compare(path) == (2 if kind == "sizes" else 1)


@pytest.mark.java
@pytest.mark.parametrize(
    "without",
    [(), ("thumbnail",), ("label",), ("macro",), ("label", "macro"), ("level1", "level2")],
)
def test_aperio_slides(tmp_path, without):
    pages = {name: pixels for name, pixels in slide_pages().items() if name not in without}
    levels = sum(name.startswith("level") for name in pages)
    extras = len({"label", "macro"} - set(without))
    path = saved(tmp_path, slide(pages), "a.svs")
    assert compare(path) == levels + extras
    ours, java = open_ours(path), open_java(path)
    for mine, theirs in zip(ours.ome().images, java.ome().images, strict=True):
        assert mine.description == theirs.description
        assert mine.acquisition_date == theirs.acquisition_date
    for mine, theirs in zip(ours.ome().instruments, java.ome().instruments, strict=True):
        assert mine.objectives[0].nominal_magnification == (
            theirs.objectives[0].nominal_magnification
        )
    ours.close()
    java.close()


CONVERTED = {
    "strips": ("sizeZ=2&sizeC=3&sizeT=2&pixelType=uint16", [], "a.ome.tif"),
    "pyramid": (
        "sizeC=2&pixelType=uint16&series=2",
        ["-pyramid-resolutions", "2", "-pyramid-scale", "2", "-tilex", "64", "-tiley", "64"],
        "a.ome.tiff",
    ),
    "jpeg": (
        "sizeC=3&rgb=3",
        ["-compression", "JPEG", "-tilex", "64", "-tiley", "64"],
        "a.ome.tif",
    ),
    "big": ("pixelType=int16&little=false", ["-compression", "zlib", "-bigtiff"], "a.ome.tif"),
    "set": ("sizeC=2&sizeZ=2&pixelType=float", ["-compression", "LZW"], "a_c%c_z%z.ome.tif"),
    "companion": (
        "sizeC=2&sizeZ=2",
        ["-option", "ometiff.companion", "{folder}/set.companion.ome"],
        "a_c%c.ome.tif",
    ),
}


def bfconvert(source, target, *options):
    from bfbridge_bioformats.runtime.machine import machine

    with machine.attached():
        converter = machine.type("loci.formats.tools.ImageConverter")()
        writer = machine.type("loci.formats.ImageWriter")()
        arguments = ["-no-upgrade", *options, str(source), str(target)]
        assert converter.testConvert(writer, arguments)


@pytest.mark.java
@pytest.mark.parametrize("kind", CONVERTED)
def test_what_bfconvert_writes(tmp_path, kind):
    synthetic, options, name = CONVERTED[kind]
    options = [option.format(folder=tmp_path) for option in options]
    bfconvert(f"a&sizeX=150&sizeY=100&{synthetic}.fake", tmp_path / name, *options)
    files = [*tmp_path.glob("*.tif*"), *tmp_path.glob("*.companion.ome")]
    assert len(files) == {"set": 4, "companion": 3}.get(kind, 1)
    for file in files:
        assert compare(file, most=2 if kind == "jpeg" else 0) == (4 if kind == "pyramid" else 1)


def xmlvalid(*files):
    """Bio-Formats' own check of OME-XML, with the schema in the jar instead of the one online."""
    from bfbridge_bioformats.jars.locate import find_jar
    from bfbridge_bioformats.runtime.java import find_java

    jar = find_jar().paths[0]
    online = "http://www.openmicroscopy.org/Schemas/OME/2016-06/ome.xsd"
    for file in files:
        xml = file.read_text("utf-8")
        assert xml.count(online) == 1
        schema = f"jar:{jar.as_uri()}!/released-schema/2016-06/ome.xsd"
        file.write_text(xml.replace(online, schema), "utf-8")
    done = subprocess.run(
        [
            find_java().home / "bin" / "java",
            "-Dbioformats_can_do_upgrade_check=false",
            *("-cp", jar, "loci.formats.tools.XMLValidate"),
            *files,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.count("No validation errors found")


@pytest.mark.java
def test_xmlvalid_finds_no_fault(tmp_path):
    first, second = numbered((50, 40, 3, 4, 2), "u2"), numbered((1, 6, 1, 30, 20), "u1")
    path, other = tmp_path / "made.ome.tif", tmp_path / "other.ome.tif"
    names = ["a", "b <&>", "c", "µ"]
    with BioWriter(path, image=first, channel_names=names, ps_x=(1, "nm"), name="x") as writer:
        writer[:] = first
    write(other, [[second], [second, second[..., ::2, ::2]]], samples=3, order="XYZTC")
    files = [tmp_path / name for name in ("a.xml", "b.xml", "bad.xml")]
    for file, source in zip(files, (path, other, path), strict=True):
        with tifffile.TiffFile(source) as made:
            file.write_text(made.ome_metadata, "utf-8")
    files[2].write_text(files[2].read_text("utf-8").replace("<Pixels ", '<Pixels Colour="1" '))
    assert xmlvalid(*files[:2]) == (0, 2)
    assert xmlvalid(files[2]) == (1, 0)
