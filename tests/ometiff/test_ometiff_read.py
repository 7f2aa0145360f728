"""OME-TIFF pixels, read and compared with what was stored; tifffile is the referee."""

from __future__ import annotations

import itertools
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from bfbridge import BioReader
from bfbridge.backend import OpenOptions, PixelSize, Quantity, Region
from bfbridge.errors import (
    BadArgument,
    BfbridgeError,
    Closed,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.storage.source import as_source
from bfbridge.tiff.tags import COMPRESSION_OF_TAG, COMPRESSIONS
from bfbridge_ometiff import OmeTiffReader
from bfbridge_ometiff.structure.jpeg_header import stream_is_rgb
from tests.support.tiffs import (
    all_of,
    build,
    numbered,
    ome_document,
    ome_image,
    ome_xml,
    open_ours,
    packed_row,
    page,
    read_ours,
    saved,
    write_rgb_jpeg,
)

LENGTH, WIDTH = 50, 70


def made(array, *, order="<", big=False, **options) -> bytes:
    """One uncompressed directory of one plane."""
    size = array.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3, "c": 6}[array.dtype.kind]
    stored = array.astype(array.dtype.newbyteorder(order)).tobytes()
    description = ome_xml(array.shape, array.dtype)
    length, width = array.shape[3:]
    options = {"bits": size, "kind": kind, "description": description} | options
    return build([page(width, length, [stored], **options)], order, big=big)


STORED = [
    combination
    for number, combination in enumerate(
        itertools.product(
            "<>",
            ["u1", "i2", "u2", "f4", "u4", "f8"],
            ["contig", "separate"],
            [None, (32, 48)],
            [None, "zlib", "lzw", "zstd", "packbits"],
            [False, True],
        )
    )
    if number % 5 in (0, 3) and not (combination[5] and combination[4] in (None, "packbits"))
]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(("order", "dtype", "planar", "tile", "compression", "predictor"), STORED)
def test_what_tifffile_stores(tmp_path, order, dtype, planar, tile, compression, predictor):
    array = numbered((2, 3, 2, LENGTH, WIDTH), dtype)
    chunky = planar == "contig"
    stored = array.transpose(0, 2, 3, 4, 1) if chunky else array.transpose(0, 2, 1, 3, 4)
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(
        path,
        stored.astype(np.dtype(dtype).newbyteorder(order)),
        byteorder=order,
        bigtiff=dtype == "u2",
        photometric="rgb",
        planarconfig=planar,
        compression=compression,
        predictor=predictor,
        metadata={"axes": "TZYXS" if chunky else "TZSYX"},
        **({"tile": tile} if tile else {"rowsperstrip": 7}),
    )
    np.testing.assert_array_equal(read_ours(path), array)
    reader = open_ours(path)
    (image,) = reader.images
    assert (image.byteorder, image.samples, image.interleaved) == (order, 3, chunky)
    assert image.levels[0].chunk[1] == (3 if chunky else 1)
    box = Region(0, 0, (1, 1, 0, 9, 33), (2, 3, 2, 47, 66))
    out = np.empty(box.shape, image.dtype)
    reader.read(box, out)
    np.testing.assert_array_equal(out, array[1:2, 1:3, 0:2, 9:47, 33:66])
    reader.close()


@pytest.mark.parametrize("strided", [False, True])
def test_out_may_have_any_strides(tmp_path, strided):
    array = numbered((1, 2, 3, LENGTH, WIDTH), "u2")
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(path, array, tile=(32, 32), compression="zlib", metadata={"axes": "TCZYX"})
    reader = open_ours(path)
    shape = array.shape
    holder = np.zeros((*shape[3:], *shape[2::-1], 2), "u2")
    out = holder[..., 0].transpose(4, 3, 2, 0, 1) if strided else np.zeros(shape, "u2")
    reader.read(Region(0, 0, (0,) * 5, shape), out)
    np.testing.assert_array_equal(out, array)
    assert not holder[..., 1].any()
    reader.close()


@pytest.mark.parametrize("compression", ["webp", "jpegxl", "lerc", "jpeg2000"])
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_lossless_image_codecs(tmp_path, compression, tile):
    array = numbered((LENGTH, WIDTH, 3), "u1")
    path = tmp_path / "made.ome.tif"
    options = {"webp": {"lossless": True}, "jpegxl": {"lossless": True}}.get(compression, {})
    tifffile.imwrite(
        path,
        array,
        photometric="rgb",
        compression=compression,
        compressionargs=options,
        metadata={"axes": "YXS"},
        **({"tile": tile} if tile else {"rowsperstrip": 16}),
    )
    np.testing.assert_array_equal(read_ours(path)[0, :, 0], array.transpose(2, 0, 1))


# Every method that tifffile writes: its name, arguments that make it lossless, dtypes, samples.
METHODS = {
    "adobe_deflate": ({}, ("u1", "u2", "f4"), (1, 3)),
    "aperio_jp2000_rgb": ({}, ("u1", "u2"), (1, 3)),
    "aperio_jp2000_ycbc": ({}, ("u1",), (1,)),
    "deflate": ({}, ("u1", "u2", "f4"), (1, 3)),
    "jpeg2000": ({}, ("u1", "u2"), (1, 3)),
    "jpeg_2000_lossy": ({}, ("u1", "u2"), (1, 3)),
    "jpegxl": ({"lossless": True}, ("u1", "u2", "f4"), (1, 3)),
    "jpegxl_dng": ({"lossless": True}, ("u1", "u2"), (1, 3)),
    "jpegxr": ({"level": 1.0}, ("u1", "u2"), (1, 3)),
    "jpegxr_ndpi": ({"level": 1.0}, ("u1", "u2"), (1, 3)),
    "lerc": ({}, ("u1", "u2", "f4"), (1, 3)),
    "lzma": ({}, ("u1", "u2", "i4", "f4"), (1, 3)),
    "lzw": ({}, ("u1", "u2", "f4"), (1, 3)),
    "none": ({}, ("u1", "u2", "f4"), (1, 3)),
    "packbits": ({}, ("u1", "u2", "f4"), (1, 3)),
    "pixtiff": ({}, ("u1", "u2", "f4"), (1, 3)),
    "png": ({}, ("u1", "u2"), (1, 3)),
    "webp": ({"lossless": True}, ("u1",), (3,)),
    "webp_deprecated": ({"lossless": True}, ("u1",), (3,)),
    "zstd": ({}, ("u1", "u2", "f4"), (1, 3)),
    "zstd_deprecated": ({}, ("u1", "u2", "f4"), (1, 3)),
}
# JPEG is lossy and has tests of its own; the encoder of Jetraw is not part of imagecodecs' wheels.
NOT_HERE = {"jpeg", "jpeg_lossy", "jetraw"}


def test_methods_are_all_that_tifffile_writes():
    written = set()
    for method in tifffile.COMPRESSION:
        try:
            tifffile.TIFF.COMPRESSORS[method.value]
        except (KeyError, NotImplementedError):
            continue
        written.add(method.name.lower())
    assert written - NOT_HERE == set(METHODS)


def test_the_table_of_compressions_in_the_documentation():
    page = Path(__file__).parents[2] / "docs" / "tiff-compressions.md"
    lines = [line.strip("| ").split(" | ") for line in page.read_text().splitlines() if "|" in line]
    native = {cells[0]: cells for cells in lines if len(cells) == 5 and cells[0] in COMPRESSIONS}
    assert set(native) == set(COMPRESSIONS)
    for name, method in COMPRESSIONS.items():
        _, tags, read, written, function = native[name]
        assert tags == ", ".join(map(str, method.tags))
        assert (read, written) == ("yes", "yes" if method.levels else "no")
        if name != "none":
            assert getattr(imagecodecs, name.replace("jpeg2000", "jpeg2k").upper()).available
            assert callable(getattr(imagecodecs, function.strip("`")))
    others = {
        int(tag) for cells in lines if len(cells) == 3 for tag in cells[1].split(", ")
        if tag.isdigit()
    }  # fmt: skip
    decoded = set()
    for method in tifffile.COMPRESSION:
        try:
            tifffile.TIFF.DECOMPRESSORS[method.value]
        except (KeyError, NotImplementedError, ImportError):
            continue
        decoded.add(int(method))
    assert decoded - set(COMPRESSION_OF_TAG) <= others
    assert not others & set(COMPRESSION_OF_TAG)


@pytest.mark.java
def test_black_and_white_scans_are_an_error(tmp_path):
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "a.tif"
    image.fromarray(numbered((64, 80), "u1") % 7 > 3).save(path, compression="group4")
    with pytest.raises(BfbridgeError, match=r"a\.tif"), BioReader(path) as br:
        br[:]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tile", [None, (32, 48)])
def test_methods_of_tifffile(tmp_path, method, tile):
    options, dtypes, samples = METHODS[method]
    for dtype, count in itertools.product(dtypes, samples):
        shape = (LENGTH, WIDTH, count) if count > 1 else (LENGTH, WIDTH)
        array = numbered(shape, dtype)
        if (method, dtype) == ("jpegxl", "f4"):
            array = np.abs(array)  # newer libjxl rejects negative values in RGB
        path = tmp_path / f"{dtype}{count}.ome.tif"
        tifffile.imwrite(
            path,
            array,
            photometric="rgb" if count > 1 else "minisblack",
            compression=method,
            compressionargs=options,
            metadata={"axes": "YXS" if count > 1 else "YX"},
            **({"tile": tile} if tile else {"rowsperstrip": 16}),
        )
        np.testing.assert_array_equal(tifffile.imread(path), array)
        found = read_ours(path)[0, :, 0].transpose(1, 2, 0).reshape(shape)
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_lzma_with_a_predictor(tmp_path, dtype):
    array = numbered((LENGTH, WIDTH), dtype)
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(path, array, compression="lzma", predictor=True, metadata={"axes": "YX"})
    np.testing.assert_array_equal(read_ours(path)[0, 0, 0], array)


def test_jpeg_of_camera_files(tmp_path):
    array = numbered((LENGTH, WIDTH), "u1")
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(path, array, compression="jpeg_lossy", metadata={"axes": "YX"})
    np.testing.assert_array_equal(read_ours(path)[0, 0, 0], tifffile.imread(path))


@pytest.mark.parametrize("method", ["lzma", "png", "jpegxr"])
def test_truncated_segments_are_errors(tmp_path, method):
    array = numbered((LENGTH, WIDTH), "u1")
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(path, array, compression=method, metadata={"axes": "YX"})
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags["StripByteCounts"]
        counts, place = tag.value, tag.valueoffset
    data = bytearray(path.read_bytes())
    data[place : place + 4] = struct.pack("<I", counts[0] * 2 // 3)
    path.write_bytes(data)
    with pytest.raises(ReadFailed, match="image 0"):
        read_ours(path)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("space", [None, "rgb"])
def test_jpeg_as_tifffile_decodes_it(tmp_path, subsampling, space):
    path = write_rgb_jpeg(tmp_path, (LENGTH, WIDTH), subsampling, space)
    np.testing.assert_array_equal(
        read_ours(path)[0, :, 0].transpose(1, 2, 0), tifffile.imread(path)
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("width", [16, 21])
@pytest.mark.parametrize("inverted", [False, True])
def test_packed_samples(tmp_path, bits, width, inverted):
    rng = np.random.default_rng(bits)
    array = rng.integers(0, 1 << bits, (1, 1, 1, 12, width)).astype("u1" if bits < 8 else "u2")
    rows = [packed_row(row, bits) for row in array[0, 0, 0]]
    strips = [b"".join(rows[:5]), b"".join(rows[5:10]), b"".join(rows[10:])]
    description = ome_xml(array.shape, array.dtype)
    file = page(
        width,
        12,
        strips,
        bits=bits,
        rows=5,
        photometric=0 if inverted else 1,
        description=description,
    )
    expected = (1 << bits) - 1 - array if inverted else array
    np.testing.assert_array_equal(read_ours(saved(tmp_path, build([file], ">"))), expected)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4"])
@pytest.mark.parametrize("compressed", [False, True])
def test_white_is_zero_is_inverted(tmp_path, dtype, compressed):
    array = numbered((1, 1, 1, 12, 21), dtype)
    data = imagecodecs.zlib_encode(array.tobytes()) if compressed else array.tobytes()
    file = page(
        21,
        12,
        [data],
        bits=array.itemsize * 8,
        kind=2 if dtype[0] == "i" else 1,
        compression=8 if compressed else 1,
        photometric=0,
        description=ome_xml(array.shape, dtype),
    )
    np.testing.assert_array_equal(read_ours(saved(tmp_path, build([file]))), ~array)


def test_palette_pixels_are_indices(tmp_path):
    array = numbered((1, 1, 1, 12, 21), "u1")
    data = made(array, photometric=3, more={320: (3, list(range(768)))})
    np.testing.assert_array_equal(read_ours(saved(tmp_path, data)), array)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["path", "bytes", "file", "url"])
def test_every_kind_of_source(tmp_path, order, big, kind):
    array = numbered((1, 1, 1, 12, 21), "f4")
    data = made(array, order=order, big=big)
    path = saved(tmp_path, data)
    if kind == "file":
        with path.open("rb") as file:
            np.testing.assert_array_equal(read_ours(file), array)
        return
    target = {"path": path, "bytes": data, "url": path.as_uri()}[kind]
    np.testing.assert_array_equal(read_ours(target), array)


def test_a_segment_never_written_is_zero(tmp_path):
    array = numbered((1, 1, 1, 12, 21), "u1")
    array[array == 0] = 1
    strips = [array[0, 0, 0, :6].tobytes(), b""]
    file = page(21, 12, strips, rows=6, description=ome_xml(array.shape, "u1"))
    found = read_ours(saved(tmp_path, build([file])))
    np.testing.assert_array_equal(found[..., :6, :], array[..., :6, :])
    assert not found[..., 6:, :].any()


def test_a_last_strip_of_full_length(tmp_path):
    array = numbered((1, 1, 1, 12, 21), "u1")
    first = imagecodecs.zlib_encode(array[0, 0, 0, :8].tobytes())
    last = imagecodecs.zlib_encode(array[0, 0, 0, 8:].tobytes() + bytes(21 * 4))
    file = page(
        21, 12, [first, last], rows=8, compression=8, description=ome_xml(array.shape, "u1")
    )
    np.testing.assert_array_equal(read_ours(saved(tmp_path, build([file]))), array)


def test_small_strips_are_joined_to_bands(tmp_path):
    array = numbered((1, 1, 1, 3000, 500), "u2")
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(path, array, rowsperstrip=1, compression="lzw", metadata={"axes": "TCZYX"})
    reader = open_ours(path)
    chunk = reader.images[0].levels[0].chunk
    assert chunk[4] == 500
    assert 500_000 < chunk[3] * 500 * 2 <= 1 << 20
    np.testing.assert_array_equal(all_of(reader), array)
    reader.close()


def test_levels_are_the_subifds(tmp_path):
    array = numbered((1, 2, 1, 64, 96), "u2")
    path = tmp_path / "made.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(array, subifds=2, tile=(32, 32), metadata={"axes": "TCZYX"})
        writer.write(array[..., ::2, ::2], subfiletype=1, tile=(16, 32))
        writer.write(array[..., ::4, ::4], subfiletype=1, tile=(16, 16), compression="zlib")
    reader = open_ours(path)
    assert [level.chunk for level in reader.images[0].levels] == [
        (1, 1, 1, 32, 32),
        (1, 1, 1, 16, 32),
        (1, 1, 1, 16, 16),
    ]
    for level in range(3):
        np.testing.assert_array_equal(
            all_of(reader, 0, level), array[..., :: 1 << level, :: 1 << level]
        )
    reader.close()


def test_metadata_of_images(tmp_path):
    array = numbered((1, 2, 1, 12, 21), "u2")
    channels = (
        '<Channel ID="Channel:0:0" Name="one" Color="-1"/><Channel ID="Channel:0:1" Name="two"/>'
    )
    sizes = 'PhysicalSizeX="0.25" PhysicalSizeXUnit="nm" SignificantBits="12"'
    document = ome_document(
        ome_image(array.shape, "u2", channels=channels, pixels=sizes)
        + ome_image((1, 1, 1, 12, 21), "u2", index=1, tiff_data='<TiffData IFD="1"/>').replace(
            "image 1", "label image"
        )
    )
    pages = [
        page(21, 12, [array[0, c, 0].tobytes()], bits=16, description=None if c else document)
        for c in range(2)
    ]
    pages[0].tags[305] = (2, b"somebody\0")
    reader = open_ours(saved(tmp_path, build(pages)))
    first, second = reader.images
    assert [c.name for c in first.channels] == ["one", "two"]
    assert first.channels[0].color == (255, 255, 255, 255)
    assert first.pixel_size == PixelSize(Quantity(0.25, "nm"), None, None)
    assert first.significant_bits == 12
    assert (first.name, first.role) == ("image 0", "image")
    assert (second.name, second.role) == ("label image", "label")
    np.testing.assert_array_equal(all_of(reader, 1)[0, 0, 0], array[0, 1, 0])
    assert reader.original_metadata["Software"] == "somebody"
    assert reader.original_metadata["ImageWidth"] == 21
    assert reader.ome_xml() == document
    assert reader.used_files == (str(tmp_path / "made.ome.tif"),)
    assert reader.ome().images[0].pixels.physical_size_x == 0.25
    reader.close()


def test_many_threads_read_one_reader(tmp_path):
    array = numbered((1, 1, 1, 512, 512), "u2")
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(
        path, array, tile=(64, 64), compression="zlib", predictor=True, metadata={"axes": "TCZYX"}
    )
    reader = open_ours(path)

    def check(seed: int) -> bool:
        rng = np.random.default_rng(seed)
        for _ in range(40):
            y, x = rng.integers(0, 400, 2).tolist()
            box = Region(0, 0, (0, 0, 0, y, x), (1, 1, 1, y + 100, x + 90))
            out = np.empty(box.shape, "u2")
            reader.read(box, out)
            if not np.array_equal(out[0, 0, 0], array[0, 0, 0, y : y + 100, x : x + 90]):
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(8)))
    reader.close()


def test_a_closed_reader_says_so(tmp_path):
    reader = open_ours(saved(tmp_path, made(numbered((1, 1, 1, 12, 21), "u1"))))
    reader.close()
    reader.close()
    with pytest.raises(Closed):
        all_of(reader)


def test_options_of_others_are_refused(tmp_path):
    path = saved(tmp_path, made(numbered((1, 1, 1, 12, 21), "u1")))
    with pytest.raises(BadArgument, match=r"zeissczi\.autostitch"):
        OmeTiffReader.open(
            as_source(path), OpenOptions(backend_options={"zeissczi.autostitch": False})
        )


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 50000])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_reversed_bits(tmp_path, compression, inverted, tile):
    """FillOrder 2: the bits of every stored byte are mirrored, after compression."""
    encode = {
        1: bytes,
        5: imagecodecs.lzw_encode,
        8: imagecodecs.zlib_encode,
        32773: imagecodecs.packbits_encode,
        50000: imagecodecs.zstd_encode,
    }[compression]
    array = numbered((1, 1, 1, 32, 16), "u2")
    blocks = [array[0, 0, 0, :16], array[0, 0, 0, 16:]]
    file = page(
        16,
        32,
        [imagecodecs.bitorder_decode(encode(block.tobytes())) for block in blocks],
        bits=16,
        rows=16,
        tile=tile,
        compression=compression,
        photometric=0 if inverted else 1,
        description=ome_xml(array.shape, "u2"),
        more={266: (3, [2])},
    )
    path = saved(tmp_path, build([file]))
    np.testing.assert_array_equal(read_ours(path), ~array if inverted else array)
    with tifffile.TiffFile(path) as referee:
        np.testing.assert_array_equal(referee.pages[0].asarray(), array[0, 0, 0])
    reader = open_ours(path)
    assert reader.stored_as(0, 0) is None
    reader.close()


def test_without_the_compression_tag_pixels_are_uncompressed(tmp_path):
    # As old versions of ImageJ write; TIFF 6.0 gives the tag the default 1.
    array = numbered((1, 1, 1, 12, 21), "u2")
    options = {"bits": 16, "more": {259: None}, "description": ome_xml(array.shape, "u2")}
    path = saved(tmp_path, build([page(21, 12, [array.tobytes()], **options)]))
    np.testing.assert_array_equal(read_ours(path), array)
    np.testing.assert_array_equal(tifffile.imread(path), array[0, 0, 0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"compression": 2}, r"compression 2 \(CCITT run lengths; libtiff's `tiffcp -c lzw"),
        ({"compression": 4}, r"compression 4 \(CCITT T.6"),
        ({"compression": 34677}, r"compression 34677 \(SGI LogLuv"),
        ({"compression": 48124}, r"compression 48124 \(Jetraw; convert it with the program"),
        ({"compression": 65001}, r"compression 65001 \(EER"),
        ({"compression": 60001}, "compression 60001$"),
        ({"photometric": 5, "samples": 4}, "PhotometricInterpretation 5"),
        ({"photometric": 6}, "YCbCr"),
        ({"bits": 24}, "24 bits"),
        ({"bits": 16, "kind": 3}, "16 bits"),
        ({"bits": 64}, "64 bits"),
        ({"more": {266: (3, [3])}}, "FillOrder 3"),
        ({"compression": 7, "more": {266: (3, [2])}}, "FillOrder 2 with jpeg"),
        ({"more": {317: (3, [2])}}, "Predictor 2 with none"),
        ({"compression": 8, "more": {317: (3, [3])}}, "Predictor 3"),
        ({"samples": 2, "more": {258: (3, [8, 16])}}, "different types"),
        ({"samples": 3, "more": {258: (3, [8, 8])}}, "BitsPerSample of 2 samples"),
        ({"samples": 3, "more": {258: None}}, "BitsPerSample of 0 samples"),
        ({"samples": 3, "photometric": 2, "planar": 0}, "PlanarConfiguration 0"),
        ({"description": "made by hand"}, "no OME-XML"),
        ({"description": ome_xml((1, 1, 1, 12, 21), "u1").replace("image", "\x03")}, "characters"),
        (
            {"description": ome_xml((1, 1, 1, 12, 21), "u1").replace("image", "&#x1f;")},
            "characters",
        ),
        ({"description": '<OME xmlns="x"></OME>'}, "no pixels"),
    ],
)
def test_what_is_left_to_bioformats(tmp_path, change, reason):
    options = {"description": ome_xml((1, 1, 1, 12, 21), "u1")} | change
    file = page(21, 12, [bytes(21 * 12 * 8)], **options)
    data = build([file])
    with pytest.raises(Unsupported, match=reason):
        open_ours(saved(tmp_path, data))


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [((1, 1, 1, 12, 20), "u1", "20 x 12 in the OME-XML"), ((2, 1, 1, 12, 21), "u1", "TiffData")],
)
def test_sizes_that_disagree_are_left_to_bioformats(tmp_path, shape, dtype, reason):
    file = page(
        21,
        12,
        [bytes(252)],
        description=ome_xml(shape, dtype, tiff_data='<TiffData IFD="0" PlaneCount="1"/>'),
    )
    with pytest.raises(Unsupported, match=reason.replace("TiffData", "no TiffData names")):
        open_ours(saved(tmp_path, build([file])))


def test_of_the_first_image_the_tiff_is_believed(tmp_path):
    array = numbered((1, 1, 1, 12, 21), "i1")
    found = read_ours(saved(tmp_path, made(array, description=ome_xml(array.shape, "u1"))))
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("compression", [1, 5, 8, 50000])
def test_truncated_pixels_are_an_error_that_says_where(tmp_path, compression):
    array = numbered((1, 2, 1, 32, 16), "u2")
    encode = {
        1: bytes,
        5: imagecodecs.lzw_encode,
        8: imagecodecs.zlib_encode,
        50000: imagecodecs.zstd_encode,
    }[compression]
    segments = [
        encode(array[0, c, 0, row : row + 16].tobytes()) for c in range(2) for row in (0, 16)
    ]
    segments[3] = segments[3][: len(segments[3]) // 2]
    pages = [
        page(
            16,
            32,
            segments[2 * c : 2 * c + 2],
            bits=16,
            tile=(16, 16),
            compression=compression,
            description=None if c else ome_xml(array.shape, "u2"),
        )
        for c in range(2)
    ]
    reader = open_ours(saved(tmp_path, build(pages)))
    out = np.empty((1, 1, 1, 32, 16), "u2")
    reader.read(Region(0, 0, (0, 0, 0, 0, 0), (1, 1, 1, 32, 16)), out)
    np.testing.assert_array_equal(out[0, 0], array[0, 0])
    with pytest.raises(
        ReadFailed, match=r"made\.ome\.tif: image 0, level 0, plane .* c 1.*tile 0, 1"
    ):
        all_of(reader)
    reader.close()


@pytest.mark.parametrize("libtiff", [True, False])
@pytest.mark.parametrize("tile", [(128, 128), None])
def test_large_segments_of_lzw_are_the_same_with_and_without_libtiff(
    tmp_path, monkeypatch, tile, libtiff
):
    monkeypatch.setattr(imagecodecs.TIFF, "available", libtiff)
    array = np.random.default_rng(3).poisson(200, (1, 1, 1, 200, 150)).astype("u2")
    path = tmp_path / "made.ome.tif"
    options = {"tile": tile} if tile else {"rowsperstrip": 120}
    tifffile.imwrite(path, array, compression="lzw", metadata={"axes": "TCZYX"}, **options)
    np.testing.assert_array_equal(read_ours(path), array)


def test_large_strips_of_lzw_may_be_stored_at_full_length(tmp_path):
    array = np.random.default_rng(4).poisson(200, (1, 1, 1, 300, 128)).astype("u2")
    rows = np.zeros((400, 128), "u2")
    rows[:300] = array[0, 0, 0]
    segments = [imagecodecs.lzw_encode(rows[y : y + 200].tobytes()) for y in (0, 200)]
    description = ome_xml(array.shape, "u2")
    pages = [page(128, 300, segments, bits=16, compression=5, rows=200, description=description)]
    np.testing.assert_array_equal(read_ours(saved(tmp_path, build(pages))), array)


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_large_damaged_segment_of_lzw_is_an_error_that_says_where(tmp_path, damage):
    array = np.random.default_rng(5).poisson(200, (1, 1, 1, 128, 128)).astype("u2")
    stored = imagecodecs.lzw_encode(array.tobytes())
    # Ones all over are the code 4095, long before the table has so many entries.
    segment = stored[:9000] if damage == "cut" else stored[:300] + b"\xff" * 60 + stored[360:]
    description = ome_xml(array.shape, "u2")
    pages = [
        page(128, 128, [segment], bits=16, tile=(128, 128), compression=5, description=description)
    ]
    with pytest.raises(ReadFailed, match=r"made\.ome\.tif: image 0.*tile 0, 0.*decompress|decode"):
        read_ours(saved(tmp_path, build(pages)))


def test_a_file_cut_short_is_an_error_that_says_so(tmp_path):
    array = numbered((1, 1, 1, 64, 64), "u2")
    description = ome_xml(array.shape, "u2")
    whole = build([page(64, 64, [array.tobytes()], bits=16, description=description)])
    moved = bytearray(whole)
    place = whole.index(array.tobytes())
    cut = saved(tmp_path, bytes(moved[: place + 100]) + b"", "cut.ome.tif")
    with pytest.raises(UnreadableFile, match="truncated"):
        open_ours(cut)


@pytest.mark.parametrize(
    ("space", "sampling", "names", "marked", "rgb"),
    [
        ("YCBCR", "444", (1, 2, 3), True, False),
        ("YCBCR", "422", (0, 1, 2), False, False),
        ("RGB", "444", (1, 2, 3), True, True),
        ("RGB", "444", (1, 2, 3), False, False),
        ("RGB", "444", (0, 1, 2), False, True),
        ("RGB", "444", (82, 71, 66), False, True),
    ],
)
def test_colour_of_a_jpeg_stream(space, sampling, names, marked, rgb):
    data = imagecodecs.jpeg8_encode(
        numbered((16, 16, 3), "u1"), 90, colorspace="RGB", outcolorspace=space, subsampling=sampling
    )
    assert stream_is_rgb(renamed(data, names, marked=marked)) is rgb


def renamed(data: bytes, names: tuple[int, ...], *, marked: bool) -> bytes:
    """Give a JPEG's components other names, and leave its JFIF and Adobe markers or not."""
    out, position = bytearray(data[:2]), 2
    while True:
        marker = data[position + 1]
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        segment = bytearray(data[position : position + 2 + length])
        if marker in (0xC0, 0xC1, 0xC2):
            segment[10:17:3] = bytes(names)
        if marker == 0xDA:
            segment[5:11:2] = bytes(names)
            return bytes(out + segment + data[position + 2 + length :])
        if marked or marker not in (0xE0, 0xEE):
            out += segment
        position += 2 + length


def test_jpeg_of_disputed_colour_is_left_to_bioformats(tmp_path):
    data = imagecodecs.jpeg8_encode(
        numbered((16, 16, 3), "u1"), 90, colorspace="RGB", outcolorspace="YCBCR"
    )
    file = page(
        16,
        16,
        [data],
        samples=3,
        compression=7,
        photometric=2,
        tile=(16, 16),
        description=ome_xml((1, 3, 1, 16, 16), "u1", samples=3),
    )
    with pytest.raises(Unsupported, match="disagree on colour"):
        open_ours(saved(tmp_path, build([file])))


def test_one_request_for_a_tile_of_a_remote_file(tmp_path, monkeypatch):
    from bfbridge.storage import source

    array = numbered((1, 2, 1, 640, 640), "u2")
    path = tmp_path / "made.ome.tif"
    tifffile.imwrite(path, array, tile=(128, 128), metadata={"axes": "TCZYX"})
    asked: list[int] = []
    real = source._RemoteFile.read_at

    def note(self, offset: int, length: int) -> bytes:
        asked.append(length)
        return real(self, offset, length)

    monkeypatch.setattr(source._RemoteFile, "read_at", note)
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe_file("/one-request/made.ome.tif", path.read_bytes())
    reader = open_ours("memory://one-request/made.ome.tif")
    assert sum(asked) < path.stat().st_size / 5
    region = Region(0, 0, (0, 1, 0, 128, 256), (1, 2, 1, 256, 384))
    out = np.empty(region.shape, "u2")
    reader.read(region, out)
    asked.clear()
    reader.read(region, out)
    np.testing.assert_array_equal(out[0, 0, 0], array[0, 1, 0, 128:256, 256:384])
    assert asked == [128 * 128 * 2]
    reader.close()
