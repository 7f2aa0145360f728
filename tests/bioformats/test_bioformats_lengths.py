"""Files shorter than they say, and files that never end: refused soon, by content."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
import tifffile

import bfbridge_bioformats
from bfbridge.backend import OpenOptions, Region
from bfbridge.errors import BfbridgeError, UnreadableFile, Unsupported
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source
from bfbridge_bioformats.files.truncation import check_length
from tests.support.tiffs import build, page

pytestmark = pytest.mark.java

PIXELS = np.random.default_rng(9).integers(1, 255, (13, 21, 3), np.uint8)
PIXELS[:, 20] = PIXELS[:, 19]


def open_(target, name=None, **options):
    return bfbridge_bioformats.READER.open(as_source(target, name=name), OpenOptions(**options))


def read(reader, image=0):
    region = Region(image, 0, (0,) * 5, reader.images[image].levels[0].shape)
    out = np.empty(region.shape, reader.images[image].dtype)
    reader.read(region, out)
    return out


def targa(*, packed):
    head = struct.pack("<BBBHHBHHHHBB", 3, 0, 10 if packed else 2, 0, 0, 0, 0, 0, 21, 13, 24, 0x20)
    rows = PIXELS[:, :, ::-1]
    if not packed:
        return head + b"abc" + rows.tobytes()
    # A stretch of 19 pixels and a run of two in each row.
    runs = b"".join(b"\x12" + row[:19].tobytes() + b"\x81" + row[20].tobytes() for row in rows)
    return head + b"abc" + runs


def photoshop(*, packed):
    planes = PIXELS.transpose(2, 0, 1)
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 13, 21, 8, 3) + bytes(12)
    if not packed:
        return head + b"\0\0" + planes.tobytes()
    rows = [b"\x14" + row.tobytes() for row in planes.reshape(-1, 21)]
    lengths = b"".join(struct.pack(">H", len(row)) for row in rows)
    return head + b"\0\1" + lengths + b"".join(rows)


def classic_netcdf(*, records):
    """One variable, `image`, of 4 x 13 x 21 bytes; its first axis is unlimited or not."""

    def name(text):
        return struct.pack(">i", len(text)) + text + bytes(-len(text) % 4)

    lengths = ((b"t", 0 if records else 4), (b"y", 13), (b"x", 21))
    dimensions = b"".join(name(text) + struct.pack(">i", length) for text, length in lengths)
    head = struct.pack(">3sBi", b"CDF", 1, 4 if records else 0)
    head += struct.pack(">ii", 10, 3) + dimensions
    head += struct.pack(">ii", 12, 1) + name(b"note") + struct.pack(">ii", 2, 3) + b"abc\0"
    head += struct.pack(">ii", 11, 1) + name(b"image") + struct.pack(">4i", 3, 0, 1, 2)
    # One variable with records has no padding between them.
    head += struct.pack(">4i", 0, 0, 1, 273 if records else 4 * 273)
    head += struct.pack(">i", len(head) + 4)
    return head + bytes(4 * 273)


def hdf5(version):
    data = bytearray(512)
    data[:9] = b"\x89HDF\r\n\x1a\n" + bytes([version])
    if version < 2:
        data[13] = data[14] = 8
        struct.pack_into("<3Q", data, 24 + 4 * version, 0, (1 << 64) - 1, 512)
    else:
        data[9] = data[10] = 8
        struct.pack_into("<3Q", data, 12, 0, (1 << 64) - 1, 512)
    return bytes(data)


def jpeg2000(*, boxes, endless=False):
    stream = b"\xff\x4f\xff\x51" + struct.pack(">H", 41) + bytes(39)
    for _ in range(3):
        length = 0 if endless else 114
        stream += b"\xff\x90" + struct.pack(">HHIBB", 10, 0, length, 0, 1) + bytes(102)
        if endless:
            break
    stream += b"\xff\xd9"
    if not boxes:
        return stream
    head = (
        struct.pack(">I4sI", 12, b"jP  ", 0x0D0A870A)
        + struct.pack(">I4s", 16, b"ftyp")
        + b"jp2 abcd"
    )
    return head + struct.pack(">I4s", 8 + len(stream), b"jp2c") + stream


def dicom_element(tag, kind, value, length=None):
    length = len(value) if length is None else length
    size = struct.pack("<2xI" if kind in (b"OB", b"SQ") else "<H", length)
    return struct.pack("<HH2s", *tag, kind) + size + value


def dicom(syntax, rest):
    return bytes(128) + b"DICM" + dicom_element((2, 0x10), b"UI", syntax) + rest


def packed_dicom():
    """Two fragments after an offset table; before them a sequence that holds pixels as well."""
    item = struct.Struct("<HHI")
    icon = dicom_element((0x7FE0, 0x10), b"OB", bytes(30))
    sequence = item.pack(0xFFFE, 0xE000, 0xFFFFFFFF) + icon + item.pack(0xFFFE, 0xE00D, 0)
    sequence += item.pack(0xFFFE, 0xE0DD, 0)
    pixels = b"".join(
        item.pack(0xFFFE, 0xE000, length) + b"\x55" * length for length in (0, 50, 70)
    )
    pixels += item.pack(0xFFFE, 0xE0DD, 0)
    rest = dicom_element((0x88, 0x200), b"SQ", sequence, 0xFFFFFFFF)
    rest += dicom_element((0x7FE0, 0x10), b"OB", pixels, 0xFFFFFFFF)
    # What follows: padding.
    return dicom(b"1.2.840.10008.1.2.4.50", rest + dicom_element((0xFFFC,) * 2, b"OB", bytes(6)))


def implicit_dicom():
    rest = struct.pack("<HHI", 0x10, 0x10, 4) + b"name"
    return dicom(b"1.2.840.10008.1.2\0", rest + struct.pack("<HHI", 0x7FE0, 0x10, 40) + b"U" * 40)


WHOLE = {
    "raw.tga": targa(packed=False),
    "packed.tga": targa(packed=True),
    "raw.psd": photoshop(packed=False),
    "packed.psd": photoshop(packed=True),
    "fixed.mnc": classic_netcdf(records=False),
    "records.mnc": classic_netcdf(records=True),
    **{f"version{version}.mnc": hdf5(version) for version in range(4)},
    "stream.j2k": jpeg2000(boxes=False),
    "boxes.jp2": jpeg2000(boxes=True),
    "endless.j2k": jpeg2000(boxes=False, endless=True),
    "flags.sif": b"Andor Technology Multi-Channel File\n" + bytes(range(1, 100)) + b"0\n0\n",
    "appendix.sif": b"Andor Technology Multi-Channel File\n" + bytes(range(1, 100)) + b"SIFX",
    "model.mod": b"IMODV1.2" + bytes(300) + b"IEOF",
    "header.spe": bytes(4100),
    "packed.dcm": packed_dicom(),
    "implicit.dcm": implicit_dicom(),
    "explicit.dcm": dicom(
        b"1.2.840.10008.1.2.1\0", dicom_element((0x7FE0, 0x10), b"OB", b"U" * 40)
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_every_length_but_the_whole_is_refused(name):
    """From where the header that tells the length ends; shorter ones Java refuses."""
    whole = WHOLE[name]
    check_length(as_source(whole, name=name), Limits())
    check_length(as_source(whole + b"0\n0\n" * name.endswith(".sif"), name=name), Limits())
    # A code stream may end with a tile-part, without the mark of the end.
    parts = {whole.index(b"\xff\x90") + 114 * n for n in (1, 2, 3)} if name == "stream.j2k" else ()
    begin, end = 96, len(whole) - (1 if parts else 0)
    if name.endswith(".dcm"):
        begin, end = whole.index(b"UU"), len(whole) - 26 * name.startswith("packed")
    for length in range(begin, end):
        if length in parts:
            continue
        with pytest.raises(UnreadableFile, match=r"cut short.*Copy or download it again"):
            check_length(as_source(whole[:length], name=name), Limits())


def test_no_end_mark_is_needed_after_a_whole_tile_part():
    check_length(as_source(jpeg2000(boxes=False)[:-2], name="a.j2k"), Limits())


@pytest.mark.parametrize("name", ["raw.tga", "packed.tga", "raw.psd", "packed.psd"])
def test_the_samples_are_sound(name):
    """Otherwise what is tested above would be another format."""
    found = read(open_(WHOLE[name], name))
    np.testing.assert_array_equal(found[0, :, 0].transpose(1, 2, 0), PIXELS)


def test_runs_of_one_pixel_are_refused():
    """Bio-Formats skips them, and everything after them moves."""
    data = WHOLE["packed.tga"].replace(b"\x81", b"\x80" + bytes(3) + b"\x80", 1)
    with pytest.raises(Unsupported, match="runs of one pixel"):
        open_(data, "a.tga")


@pytest.mark.parametrize("tiled", [False, True])
def test_a_tiff_whose_pixels_begin_beyond_its_end(tmp_path, tiled):
    """Bio-Formats leaves them black."""
    path = tmp_path / "a.tif"
    image = np.arange(1, 48 * 64 + 1, dtype=np.uint16).reshape(48, 64)
    options = {"tile": (16, 16)} if tiled else {"rowsperstrip": 8}
    tifffile.imwrite(path, image, photometric="minisblack", metadata=None, **options)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        last = max(file.pages[0].dataoffsets)
    read(open_(data, "a.tif"))
    for length in (last, len(data) - 1):
        with pytest.raises(UnreadableFile, match=f"pixels of image directory 1 .* byte {last:,}"):
            open_(data[:length], "a.tif")


@pytest.mark.parametrize("compression", ["zlib", "lzw"])
def test_a_packed_tiff_whose_pixels_begin_beyond_its_end(tmp_path, compression):
    path = tmp_path / "a.tif"
    image = np.arange(1, 48 * 64 + 1, dtype=np.uint16).reshape(48, 64)
    options = {"rowsperstrip": 8, "compression": compression, "metadata": None}
    tifffile.imwrite(path, image, photometric="minisblack", **options)
    data = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        last = max(file.pages[0].dataoffsets)
    for length in (last, last + 20, len(data) - 2):
        with pytest.raises(UnreadableFile, match=f"pixels of image directory 1 .* byte {last:,}"):
            open_(data[:length], "a.tif")


def test_a_last_strip_may_claim_more_than_its_rows_need(tmp_path):
    """As some writers do: the file is whole."""
    path = tmp_path / "a.tif"
    image = np.arange(1, 9 * 7 + 1, dtype=np.uint8).reshape(9, 7)
    tifffile.imwrite(path, image, photometric="minisblack", metadata=None, rowsperstrip=4)
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags["StripByteCounts"]
        place, last = tag.valueoffset, tag.value[-1]
        form = {3: "<H", 4: "<I"}[int(tag.dtype)]
    assert last == 7
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place + 2 * struct.calcsize(form), 28)
    np.testing.assert_array_equal(read(open_(bytes(data), "a.tif"))[0, 0, 0], image)


def test_places_beyond_all_numbers(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((5, 7), np.uint8), bigtiff=True, metadata=None)
    data = bytearray(path.read_bytes())
    struct.pack_into("<Q", data, 8, (1 << 64) - 1)
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="image directory 1 should be at"):
        open_(path)


def dicom_with_a_sequence_that_never_ends():
    head = bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, 0)
    return head + struct.pack("<HH2sHI", 0x40, 0x555, b"SQ", 0, 0xFFFFFFFF) + bytes(2)


ENDLESS = {
    "a.lms": bytes(4096),
    "b.lms": b"hello world\n" * 40,
    "a.dcm": dicom_with_a_sequence_that_never_ends(),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_reader_that_would_never_end_is_ended(name, on_disk, tmp_path):
    """ZeissLMSReader.seekToNextMarker and DicomTag go on at the end of the file for ever."""
    target = tmp_path / name
    target.write_bytes(ENDLESS[name])
    begun = time.monotonic()
    with pytest.raises(UnreadableFile, match="contains a cycle, or points past the end"):
        open_(target if on_disk else ENDLESS[name], None if on_disk else name)
    assert time.monotonic() - begun < 10


def suffixes():
    return sorted({s for each in bfbridge_bioformats.formats() for s in each.suffixes})


NONSENSE = {
    "one byte": b"I",
    "end of a zip": b"PK\5\6" + bytes(18),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "text": b"hello world\n" * 40,
}
# What these hold is text of parameters, of which none are needed.
_NO_CONTENT = {"fake"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=() if kind == "end of a zip" else pytest.mark.slow)
        for kind in [*NONSENSE, "random"]
    ],
)
def test_nonsense_under_every_suffix_is_refused_soon(kind, tmp_path):
    rng = np.random.default_rng(7)
    for suffix in suffixes():
        if suffix in _NO_CONTENT:
            continue
        data = rng.bytes(4096) if kind == "random" else NONSENSE[kind]
        folder = tmp_path / suffix.replace(", ", "_")
        folder.mkdir()
        path = folder / f"a.{suffix}"
        path.write_bytes(data)
        begun = time.monotonic()
        with pytest.raises(BfbridgeError):
            read_a_corner(open_(path))
        assert time.monotonic() - begun < 10, suffix


def packed_tiff(bits, samples, tile, width):
    """Pixels (50, width, samples), and a TIFF of them with `bits` for each sample."""
    array = np.random.default_rng(bits).integers(0, 1 << bits, (50, width, samples))
    step = tile or (50, width)
    padded = np.zeros((-(-50 // step[0]) * step[0], -(-width // step[1]) * step[1], samples), int)
    padded[:50, :width] = array
    segments = []
    for y in range(0, len(padded), step[0]):
        for x in range(0, padded.shape[1], step[1]):
            rows = padded[y : y + step[0], x : x + step[1]].reshape(step[0], -1, 1)
            binary = (rows >> np.arange(bits)[::-1] & 1).astype(np.uint8)
            segments.append(np.packbits(binary.reshape(step[0], -1), axis=1).tobytes())
    kind = 2 if samples == 3 else 1
    made = page(width, 50, segments, bits=bits, samples=samples, tile=tile, photometric=kind)
    return array, build([made])


@pytest.mark.parametrize("bits", [1, 4, 10, 12])
@pytest.mark.parametrize(
    ("samples", "tile", "width", "is_misread"),
    [
        (1, None, 17, False),
        (1, (32, 32), 80, False),
        (1, (32, 32), 71, True),
        (1, (32, 32), 17, True),
        (3, None, 16, False),
        (3, None, 17, True),
        (3, (32, 32), 64, False),
    ],
)
def test_packed_samples_that_java_misreads_are_refused(
    bits, samples, tile, width, is_misread, tmp_path
):
    array, data = packed_tiff(bits, samples, tile, width)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    if is_misread:
        with pytest.raises(
            Unsupported, match=r"image directory 1 has compressed .* without backend="
        ):
            open_(path)
    else:
        got = read(open_(path))
        np.testing.assert_array_equal(got[0, :, 0].transpose(1, 2, 0), array)


def read_a_corner(reader):
    """At most 64 x 64 pixels of the first image."""
    try:
        image = reader.images[0]
        _, _, _, y, x = image.levels[0].shape
        region = Region(0, 0, (0,) * 5, (1, image.samples, 1, min(y, 64), min(x, 64)))
        reader.read(region, np.empty(region.shape, image.dtype))
    finally:
        reader.close()
