"""Files packed as a whole: unpacked once, rightly, and within bounds; nothing empty hangs."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

import bfbridge_bioformats
from bfbridge.backend import OpenOptions, Region
from bfbridge.errors import LimitExceeded, UnreadableFile
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source

pytestmark = pytest.mark.java

SERIES = [
    np.arange(61 * 47, dtype=np.uint16).reshape(61, 47) * 3,
    np.arange(5 * 31 * 23, dtype=np.uint8).reshape(5, 31, 23),
]
PACK = {".gz": gzip.compress, ".bz2": bz2.compress}


def open_(target, name=None, **options):
    return bfbridge_bioformats.READER.open(as_source(target, name=name), OpenOptions(**options))


def read(reader, image=0):
    region = Region(image, 0, (0,) * 5, reader.images[image].levels[0].shape)
    out = np.empty(region.shape, reader.images[image].dtype)
    out.view(np.uint8).fill(0xA5)
    reader.read(region, out)
    return out


def zipped(*entries, **options):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return packed.getvalue()


def tiff(*arrays):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for array in arrays:
            writer.write(array, photometric="minisblack", metadata=None)
    return file.getvalue()


@pytest.fixture(scope="module")
def two_series():
    """An OME-TIFF of two images of different sizes and types."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file, ome=True) as writer:
        for array in SERIES:
            writer.write(array, photometric="minisblack")
    return file.getvalue()


def given(way, tmp_path, data, name):
    """The same bytes as a path, a URL, bytes or an open file: what `open_` takes."""
    if way == "bytes":
        return data, name
    if way == "url":
        fsspec = pytest.importorskip("fsspec")
        fsspec.filesystem("memory").pipe(f"/packed/{name}", data)
        return f"memory://packed/{name}", None
    path = tmp_path / name
    path.write_bytes(data)
    return (path if way == "path" else path.open("rb")), name if way == "open file" else None


WAYS = ["path", "url", "bytes", "open file"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(zipped(), id="nothing"),
        pytest.param(zipped(("a/", b""), ("a/b/", b"")), id="folders"),
        pytest.param(zipped(("../a.tif", tiff(SERIES[0]))), id="a file outside"),
    ],
)
def test_a_zip_without_files_is_refused(way, data, tmp_path):
    target, name = given(way, tmp_path, data, "empty.zip")
    begun = time.monotonic()
    with pytest.raises(UnreadableFile, match=r"empty\.zip: this zip file contains no files"):
        open_(target, name)
    assert time.monotonic() - begun < 10
    if way == "open file":
        target.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zip"])
def test_what_is_empty_when_unpacked_is_refused(suffix, tmp_path):
    data = zipped(("a.tif", b"")) if suffix == ".zip" else PACK[suffix](b"")
    for way in WAYS:
        target, name = given(way, tmp_path, data, f"a.tif{suffix}")
        with pytest.raises(UnreadableFile, match="0 bytes when decompressed"):
            open_(target, name)
        if way == "open file":
            target.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zip"])
def test_every_image_has_its_own_pixels(way, suffix, two_series, tmp_path):
    """Bio-Formats' own reader of zip files gives those of the first for all."""
    if suffix == ".zip":
        data = zipped(("folder/", b""), ("other.txt", b"text"), ("a.ome.tif", two_series))
    else:
        data = PACK[suffix](two_series)
    target, name = given(way, tmp_path, data, f"a.ome.tif{suffix}")
    reader = open_(target, name)
    assert reader.format == "OME-TIFF"
    assert len(reader.images) == 2
    for image, array in enumerate(SERIES):
        np.testing.assert_array_equal(read(reader, image).ravel(), array.ravel())
    (used,) = reader.used_files
    expected = {"path": str(target), "url": target, "bytes": name}
    assert used == expected.get(way, name)
    reader.close()
    if way == "open file":
        assert not target.closed
        target.close()


def ics():
    header = (
        "\t\nics_version\t1.0\nfilename\ta\nlayout\tparameters\t3\nlayout\torder\tbits\tx\ty\n"
        "layout\tsizes\t8\t23\t31\nlayout\tcoordinates\tvideo\nlayout\tsignificant_bits\t8\n"
        "representation\tformat\tinteger\nrepresentation\tsign\tunsigned\n"
        "representation\tcompression\tuncompressed\nrepresentation\tbyte_order\t1\n"
    )
    return header.encode(), SERIES[1][0].tobytes()


def test_files_that_belong_together_in_one_zip(tmp_path):
    header, pixels = ics()
    packed = zipped(("set/a.ids", pixels), ("set/a.ics", header), ("elsewhere/a.ids", bytes(713)))
    (tmp_path / "set.zip").write_bytes(packed)
    reader = open_(tmp_path / "set.zip")
    np.testing.assert_array_equal(read(reader)[0, 0, 0], SERIES[1][0])
    assert reader.used_files == (str(tmp_path / "set.zip"),)
    reader.close()


def test_packed_files_that_lie_together(tmp_path):
    pixels = SERIES[1]
    for z, plane in enumerate(pixels):
        (tmp_path / f"a_z{z}.tif.gz").write_bytes(gzip.compress(tiff(plane)))
    (tmp_path / "a_readme.gz").write_bytes(b"not gzip")
    reader = open_(tmp_path / "a_z2.tif.gz", group_files=True)
    found = read(reader)
    assert found.size in (pixels.size, pixels[0].size)
    expected = pixels if found.size == pixels.size else pixels[2]
    np.testing.assert_array_equal(found.ravel(), expected.ravel())
    reader.close()


@pytest.mark.timeout(30)
def test_an_empty_zip_among_others_hangs_nothing(tmp_path):
    for number in range(2):
        (tmp_path / f"a_z{number}.tif.zip").write_bytes(zipped())
    (tmp_path / "a.pattern").write_text("a_z<0-1>.tif.zip")
    with pytest.raises(UnreadableFile):
        open_(tmp_path / "a.pattern")


def changed_size(data, size):
    """A zip whose directory and local header say that the file has another length."""
    changed = bytearray(data)
    central = data.index(b"PK\1\2")
    for at in (22, central + 24):
        struct.pack_into("<I", changed, at, size)
    return bytes(changed)


def lies():
    pixels = tiff(np.random.default_rng(3).integers(0, 255, (61, 47), np.uint8))
    packed = gzip.compress(pixels)
    yield "half.tif.gz", packed[: len(packed) // 2]
    yield "other-length.tif.gz", packed[:-4] + struct.pack("<I", 77)
    yield "other-checksum.tif.gz", packed[:-8] + bytes(4) + packed[-4:]
    yield "head-only.tif.gz", packed[:10]
    yield "half.tif.bz2", bz2.compress(pixels)[: len(pixels) // 2]
    yield "head-only.tif.bz2", b"BZh9"
    packed = zipped(("a.tif", pixels))
    yield "half.zip", packed[: len(packed) // 2]
    yield "longer.zip", changed_size(packed, 2 * len(pixels))
    yield "shorter.zip", changed_size(packed, len(pixels) // 2)
    yield "no-archive.zip", pixels
    yield "end-only-twice.zip", zipped() + zipped()[:21]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("name", "data"), [pytest.param(*lie, id=lie[0]) for lie in lies()])
def test_what_lies_about_its_size_is_refused(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UnreadableFile, match=r"cannot be unpacked|contains no files"):
        open_(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zip"])
def test_a_bomb_ends_at_the_limit(suffix):
    zeros = bytes(8 << 20)
    data = zipped(("a.tif", zeros)) if suffix == ".zip" else PACK[suffix](zeros)
    assert len(data) < 20_000
    with pytest.raises(LimitExceeded, match="unpacked"):
        open_(data, f"a.tif{suffix}", limits=Limits(unpacked_bytes=4 << 20))


def test_a_locked_zip_is_refused():
    packed = bytearray(zipped(("a.tif", tiff(SERIES[0]))))
    central = packed.index(b"PK\1\2")
    for at in (6, central + 8):
        packed[at] |= 1
    with pytest.raises(UnreadableFile, match=r"cannot be unpacked.*password"):
        open_(bytes(packed), "a.zip")


@pytest.mark.parametrize("way", ["bytes", "url", "open file", "gz", "zip"])
def test_what_is_not_on_disk_draws_in_no_file_of_this_machine(way, tmp_path):
    for z, plane in enumerate(SERIES[1]):
        (tmp_path / f"secret_z{z}.tif").write_bytes(tiff(plane))
    pattern = f"{tmp_path}/secret_z<0-4>.tif".encode()
    if way == "zip":
        target, name = zipped(("a.pattern", pattern)), "a.zip"
    elif way == "gz":
        target, name = gzip.compress(pattern), "a.pattern.gz"
    else:
        (tmp_path / "here").mkdir()
        target, name = given(way, tmp_path / "here", pattern, "a.pattern")
    with pytest.raises(UnreadableFile, match="secret_z.*outside its own folder"):
        open_(target, name)
    allowed = open_(target, name, allow_outside=True)
    np.testing.assert_array_equal(read(allowed)[0, 0], SERIES[1])
    allowed.close()
    if way == "open file":
        target.close()


def test_descriptors_are_given_back(two_series, tmp_path):
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    (tmp_path / "a.ome.tif.zip").write_bytes(zipped(("a.ome.tif", two_series)))
    (tmp_path / "bad.tif.gz").write_bytes(gzip.compress(b"II*\0nothing"))
    open_(tmp_path / "a.ome.tif.zip").close()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        open_(tmp_path / "a.ome.tif.zip").close()
        with pytest.raises(UnreadableFile):
            open_(tmp_path / "bad.tif.gz")
    assert len(os.listdir("/proc/self/fd")) <= before
