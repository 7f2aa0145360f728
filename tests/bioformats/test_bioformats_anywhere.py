"""Any Bio-Formats format from a URL, an open file or memory, and files that lead elsewhere."""

from __future__ import annotations

import http.server
import os
import struct
import tempfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile

import bfbridge_bioformats
from bfbridge.backend import OpenOptions, Region
from bfbridge.errors import BfbridgeError, ReadFailed, UnreadableFile
from bfbridge.storage.source import as_source

fsspec = pytest.importorskip("fsspec")

pytestmark = pytest.mark.java


def open_(target, name=None, **options):
    return bfbridge_bioformats.READER.open(as_source(target, name=name), OpenOptions(**options))


def read(reader, start=(0,) * 5, stop=None, image=0, level=0):
    region = Region(image, level, start, stop or reader.images[image].levels[level].shape)
    out = np.empty(region.shape, reader.images[image].dtype)
    out.view(np.uint8).fill(0xA5)
    reader.read(region, out)
    return out


def mapped_folders():
    return set(Path(tempfile.gettempdir()).glob("bfbridge-*"))


@pytest.fixture
def stack():
    return np.arange(4 * 61 * 47, dtype=np.uint16).reshape(1, 1, 4, 61, 47) * 3


@pytest.fixture
def ics(tmp_path, stack):
    """A format of two files: a text header that does not name the file with the pixels."""
    (tmp_path / "a.ids").write_bytes((stack % 251).astype("u1").tobytes())
    (tmp_path / "a.ics").write_text(
        "\t\nics_version\t1.0\nfilename\ta\nlayout\tparameters\t4\nlayout\torder\tbits\tx\ty\tz\n"
        "layout\tsizes\t8\t47\t61\t4\nlayout\tcoordinates\tvideo\nlayout\tsignificant_bits\t8\n"
        "representation\tformat\tinteger\nrepresentation\tsign\tunsigned\n"
        "representation\tcompression\tuncompressed\nrepresentation\tbyte_order\t1\n"
    )
    return tmp_path / "a.ics"


@pytest.fixture
def tiff(tmp_path, stack):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack[0, 0], compression="zlib", imagej=False, photometric="minisblack")
    return path


@pytest.fixture
def served(tmp_path):
    """A web server of the test's folder that knows ranges and counts what it sends."""
    sent = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            path = Path(self.translate_path(self.path))
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            asked = self.headers.get("Range")
            if asked:
                first, last = asked.removeprefix("bytes=").split("-")
                stop = min(int(last or len(data)) + 1, len(data))
                part = data[int(first) : stop]
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
                )
                data = part
            else:
                self.send_response(200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            sent.append(len(data))
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    thread.join()
    server.server_close()


def test_bytes_and_open_files(tiff, stack):
    before = mapped_folders()
    with tiff.open("rb") as file:
        for target, name in ((tiff.read_bytes(), "x.tif"), (tiff.read_bytes(), None), (file, None)):
            reader = open_(target, name, max_workers=2)
            np.testing.assert_array_equal(read(reader).ravel(), stack.ravel())
            assert reader.used_files[0].endswith(("x.tif", "<bytes>", "stack.tif"))
            assert mapped_folders() != before
            reader.close()
            assert mapped_folders() == before


def test_a_file_system_with_folders_finds_companions(ics, stack):
    memory = fsspec.filesystem("memory")
    for file in ics.parent.iterdir():
        memory.pipe(f"/ics/{file.name}", file.read_bytes())
    reader = open_("memory://ics/a.ics")
    np.testing.assert_array_equal(read(reader), stack % 251)
    assert sorted(reader.used_files) == ["memory://ics/a.ics", "memory://ics/a.ids"]


def test_a_web_server_finds_companions(ics, stack, served):
    url, _ = served
    np.testing.assert_array_equal(read(open_(f"{url}/{ics.name}")), stack % 251)


def test_a_set_of_files_in_memory_asks_for_a_path(ics):
    with pytest.raises(BfbridgeError, match=r"a\.ics.*open it by path or URL"):
        open_(ics.read_bytes(), "a.ics")


def test_one_plane_moves_a_small_part(tmp_path, served):
    url, sent = served
    planes = np.random.default_rng(5).integers(0, 4000, (40, 700, 900), np.uint16)
    tifffile.imwrite(tmp_path / "big.tif", planes, photometric="minisblack")
    total = (tmp_path / "big.tif").stat().st_size
    reader = open_(f"{url}/big.tif")
    axis = reader.images[0].levels[0].shape.index(40)
    start, stop = [0] * 5, [1, 1, 1, 700, 900]
    start[axis], stop[axis] = 23, 24
    np.testing.assert_array_equal(
        read(reader, tuple(start), tuple(stop)).reshape(700, 900), planes[23]
    )
    assert sum(sent) < total / 10, (sum(sent), total)


def test_a_connection_that_breaks_is_an_error(tiff, monkeypatch):
    reader = open_(tiff.read_bytes(), "x.tif")
    first = read(reader, stop=(1, 1, 1, 61, 47)) if len(reader.images) == 1 else None
    assert first is None or first.any()

    def broken(self, position, length):
        raise OSError("connection reset")

    monkeypatch.setattr("bfbridge.storage.source._Bytes.read_at", broken)
    fresh = as_source(tiff.read_bytes(), name="y.tif")
    with pytest.raises((BfbridgeError, OSError), match="connection reset"):
        bfbridge_bioformats.READER.open(fresh, OpenOptions())


def test_packed_files_are_unpacked(tmp_path, stack):
    import gzip

    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 47, 61, 4, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 512, 16)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    data = bytes(header) + stack.astype("<u2").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    expected = read(open_(tmp_path / "a.nii"))
    assert expected.size == stack.size
    np.testing.assert_array_equal(read(open_(gzip.compress(data), "a.nii.gz")), expected)


OME = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{own}">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="9" SizeY="7"
 SizeZ="2" SizeC="1" SizeT="1"><Channel ID="Channel:0:0" SamplesPerPixel="1"/>
<TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="{main}">urn:uuid:{own}</UUID></TiffData>
<TiffData IFD="0" FirstZ="1" PlaneCount="1">
 <UUID FileName="{other}">urn:uuid:{far}</UUID></TiffData>
</Pixels></Image></OME>"""
OWN = "11111111-1111-1111-1111-111111111111"
FAR = "22222222-2222-2222-2222-222222222222"


def write_pair(folder, other, place):
    for path, value, uuid in ((folder / "main.ome.tif", 1, OWN), (place, 2, FAR)):
        xml = OME.format(own=uuid, far=FAR, main="main.ome.tif", other=other)
        xml = xml if uuid == OWN else xml.replace(FAR, OWN, 0)
        tifffile.imwrite(path, np.full((7, 9), value, np.uint8), description=xml, metadata=None)
    return folder / "main.ome.tif"


def test_companions_in_the_same_folder_are_read(tmp_path):
    reader = open_(write_pair(tmp_path, "other.ome.tif", tmp_path / "other.ome.tif"))
    assert read(reader)[0, 0, :, 0, 0].tolist() == [1, 2]


@pytest.mark.parametrize(
    "name",
    ["../outside.ome.tif", "sub/../../outside.ome.tif", "link.ome.tif"],
)
def test_companions_outside_the_folder_are_refused(tmp_path, name):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    outside = tmp_path / "outside.ome.tif"
    (folder / "link.ome.tif").symlink_to(outside)
    main = write_pair(folder, name, outside)
    with pytest.raises(UnreadableFile, match="outside its own folder.*allow_outside"):
        open_(main)
    reader = open_(main, allow_outside=True)
    assert read(reader)[0, 0, :, 0, 0].tolist() == [1, 2]


def test_a_pattern_file_cannot_reach_outside(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for z in range(2):
        tifffile.imwrite(tmp_path / f"secret_z{z}.tif", np.full((7, 9), z, np.uint8))
    # Bio-Formats would search all folders below such a path before it opens a file.
    for path in (f"{tmp_path}/", "../", "./", "sub/../../", "..\\", "/"):
        (folder / "x.pattern").write_text(f"{path}secret_z<0-1>.tif")
        with pytest.raises(UnreadableFile, match="secret_z<0-1>.*outside its own folder"):
            open_(folder / "x.pattern")
    (folder / "x.pattern").write_text(f"{tmp_path}/secret_z<0-1>.tif")
    reader = open_(folder / "x.pattern", allow_outside=True)
    assert read(reader)[:, 0, :, 0, 0].ravel().tolist() == [0, 1]
    for z in range(2):
        (tmp_path / f"secret_z{z}.tif").rename(folder / f"own_z{z}.tif")
    (folder / "x.pattern").write_text(f"{folder}/own_z<0-1>.tif")
    reader = open_(folder / "x.pattern")
    assert read(reader)[:, 0, :, 0, 0].ravel().tolist() == [0, 1]


def test_a_linked_folder_is_no_outside(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    main = write_pair(real, "other.ome.tif", real / "other.ome.tif")
    links = tmp_path / "links"
    links.mkdir()
    for file in real.iterdir():
        (links / file.name).symlink_to(file)
    assert read(open_(links / main.name))[0, 0, :, 0, 0].tolist() == [1, 2]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("damage", ["none", "no format", "cut short"])
def test_no_file_is_left_open(tmp_path, tiff, damage):
    """Neither by the search for its format, nor by a reader that fails."""
    path = tmp_path / "left.tif"
    data = tiff.read_bytes()
    path.write_bytes({"none": data, "no format": b"x" * 99, "cut short": data[:-9]}[damage])

    def held():
        links = (Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        return [link for link in links if link.exists() and os.readlink(link) == str(path)]

    try:
        reader = open_(path)
    except BfbridgeError:
        assert damage != "none"
    else:
        assert damage == "none"
        assert held()
        read(reader)
        reader.close()
    assert held() == []


def test_our_java_classes_are_those_of_the_sources():
    import zipfile

    from bfbridge_bioformats.runtime.handles import build

    with zipfile.ZipFile(build.JAR) as jar:
        assert jar.read(build.HASH).decode() == build.sources_hash()


def raw_files():
    """(name, whole file): formats whose missing pixels Bio-Formats fills with zeros."""
    pixels = np.arange(1, 6 * 40 * 30 + 1, dtype="<u2").reshape(6, 40, 30)
    mrc = bytearray(1024)
    struct.pack_into("<4i", mrc, 0, 30, 40, 6, 6)
    struct.pack_into("<3i", mrc, 28, 30, 40, 6)
    struct.pack_into("<3f", mrc, 40, 30, 40, 6)
    struct.pack_into("<3i", mrc, 64, 1, 2, 3)
    mrc[208:216] = b"MAP DD\0\0"
    nrrd = (
        b"NRRD0004\ntype: uint16\ndimension: 3\nsizes: 30 40 6\nendian: little\nencoding: raw\n\n"
    )
    pgm = b"P5\n30 240\n65535\n"
    yield "a.mrc", bytes(mrc) + pixels.tobytes()
    yield "a.nrrd", nrrd + pixels.tobytes()
    yield "a.pgm", pgm + pixels.astype(">u2").tobytes()


RAW_FILES = list(raw_files())


@pytest.mark.parametrize(("name", "data"), RAW_FILES, ids=[name for name, _ in RAW_FILES])
@pytest.mark.parametrize("in_memory", [False, True])
def test_a_file_cut_short_never_reads_as_zeros(tmp_path, name, data, in_memory):
    def target(content):
        if in_memory:
            return content, name
        (tmp_path / name).write_bytes(content)
        return tmp_path / name, None

    whole = read(open_(*target(data)))
    assert whole.all()
    for share in (0.97, 0.6, 0.3):
        wrong, errors = planes_of(target(data[: int(len(data) * share)]), whole)
        assert wrong == 0
        assert errors
        assert all(
            name in error and ("cut short" in error or "ends before" in error) for error in errors
        )


def planes_of(target, whole):
    """How many planes are not as they should be, and the messages of those that fail."""
    try:
        reader = open_(*target)
    except UnreadableFile as error:
        return 0, [str(error)]
    wrong, errors = 0, []
    for z in range(whole.shape[2]):
        try:
            plane = read(reader, (0, 0, z, 0, 0), (1, 1, z + 1, *whole.shape[3:]))
        except ReadFailed as error:
            errors.append(str(error))
        else:
            wrong += not np.array_equal(plane, whole[:, :, z : z + 1])
    return wrong, errors


def test_a_tiff_cut_short_is_told(tmp_path):
    pixels = np.arange(1, 3 * 50 * 40 + 1, dtype=np.uint16).reshape(3, 50, 40)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=None, contiguous=False)
    data = path.read_bytes()
    for share in (0.95, 0.5, 0.2):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(BfbridgeError, match=r"a\.tif"):
            read(open_(path))
