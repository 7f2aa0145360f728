"""Files that declare more than they hold, or lead round in circles: Java does not follow."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import zlib

import imagecodecs
import jpype
import numpy as np
import pytest

from bfbridge.backend import Region
from bfbridge.errors import BfbridgeError, LimitExceeded, ReadFailed, UnreadableFile
from bfbridge.limits import Limits
from bfbridge_bioformats.runtime.machine import machine
from tests.real import manifest
from tests.support.javareads import open_, read
from tests.support.tiffs import build, page

IMAGE = (np.add.outer(np.arange(30), np.arange(40)) % 251).astype(np.uint8)


# ---- TIFF


def strips(**more):
    return page(40, 30, [zlib.compress(IMAGE.tobytes())], compression=8, **more)


def test_directories_that_lead_round_in_a_circle(tmp_path):
    data = bytearray(build([strips(), strips()]))
    first = struct.unpack_from("<I", data, 4)[0]
    # The last directory names the first one as the next.
    entries = struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, first + 2 + 12 * entries)[0]
    struct.pack_into("<I", data, second + 2 + 12 * entries, first)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="a.tif: its image directories form a cycle"):
        open_(path)


def test_too_many_directories(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(build([strips()] * 4))
    with pytest.raises(LimitExceeded, match="number of image directories is 4"):
        open_(path, limits=Limits(directories=3))


def test_a_tag_with_more_values_than_the_file_has_bytes(tmp_path):
    data = bytearray(build([strips(more={65000: (4, [1, 2, 3])})]))
    at = data.index(struct.pack("<HHI", 65000, 4, 3))
    struct.pack_into("<I", data, at + 4, 1 << 28)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    with pytest.raises(UnreadableFile, match="tag 65000 of image directory 1 should end at byte"):
        open_(path)


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_a_few_bytes_that_stand_for_many(tmp_path, tile):
    segments = [zlib.compress(IMAGE.tobytes())] * (6 if tile else 1)
    many = page(40, 30, segments, compression=8, tile=tile, more={277: (3, [60_000])})
    path = tmp_path / "a.tif"
    path.write_bytes(build([many]))
    with pytest.raises(
        LimitExceeded, match=r"directory 1: \d+ stored bytes .* decode to [\d,]+ bytes"
    ):
        open_(path, limits=Limits(chunk_ratio=100))
    with pytest.raises(LimitExceeded, match="decoded size of a strip or tile in bytes"):
        open_(path, limits=Limits(chunk_bytes=1 << 20))


# ---- PNG, which APNGReader would wait for


@pytest.mark.java
def test_a_damaged_png(tmp_path):
    path = tmp_path / "a.png"
    whole = imagecodecs.png_encode(IMAGE)
    path.write_bytes(whole)
    np.testing.assert_array_equal(read(path)[0, 0, 0], IMAGE)
    at = whole.index(b"IDAT") + 20
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(UnreadableFile, match="a.png: its chunk 'IDAT' at byte .* is damaged"):
        read(path)
    path.write_bytes(whole[:-14])
    with pytest.raises(UnreadableFile, match=r"a.png: the file is cut short: .*chunk"):
        read(path)


# ---- JPEG 2000, whose decoder takes what a header says


def code_stream(**sizes):
    """A code stream whose header has other sizes than it was made with."""
    stream = bytearray(imagecodecs.jpeg2k_encode(IMAGE, level=0, codecformat="j2k"))
    places = {"width": 8, "height": 12, "tile_width": 24, "tile_height": 28}
    for what, size in sizes.items():
        struct.pack_into(">I", stream, places[what], size)
    return bytes(stream)


@pytest.mark.java
def test_a_sound_code_stream(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(build([page(40, 30, [code_stream()], compression=34712)]))
    np.testing.assert_array_equal(read(path)[0, 0, 0], IMAGE)


@pytest.mark.java
@pytest.mark.parametrize(
    ("sizes", "why"),
    [
        ({"width": 4000, "height": 3000, "tile_width": 1, "tile_height": 1}, "4000 x 3000 tiles"),
        (
            {"width": 1 << 30, "height": 1 << 30, "tile_width": 1 << 30, "tile_height": 1 << 30},
            "contain",
        ),
        ({"tile_width": 0}, "no tiles"),
        ({"width": 0}, "tiles"),
    ],
)
def test_a_code_stream_that_declares_too_much(tmp_path, sizes, why):
    path = tmp_path / "a.tif"
    path.write_bytes(build([page(40, 30, [code_stream(**sizes)], compression=34712)]))
    with pytest.raises(ReadFailed, match=f"a JPEG 2000 stream .*{why}"):
        read(path)


def packet_bits(data):
    """The class that decoders take bits of packet headers from."""
    name = "jj2000.j2k.codestream.reader.PktHeaderBitReader"
    stream = machine.type("java.io.ByteArrayInputStream")
    kind = machine.type("java.lang.Class").forName(name)
    maker = kind.getDeclaredConstructor(stream.class_)
    maker.setAccessible(True)
    reader = maker.newInstance(stream(machine.bytes(data)))

    def call(method, *arguments):
        kinds = [machine.type("java.lang.Integer").TYPE] * len(arguments)
        found = kind.getDeclaredMethod(method, *kinds)
        found.setAccessible(True)
        result = found.invoke(reader, *map(jpype.JInt, arguments))
        return None if result is None else int(result)

    return call


@pytest.mark.java
def test_bits_of_packet_headers():
    """ITU-T T.800, B.10.1: after a byte of ones comes one of which seven bits count."""
    with machine.attached():
        call = packet_bits(bytes([0b10110010, 0xFF, 0b00111111, 0x55]))
        assert [call("readBit") for _ in range(4)] == [1, 0, 1, 1]
        assert call("readBits", 4) == 0b0010
        assert call("readBits", 15) == 0b11111111_0111111
        call("sync")
        assert call("readBits", 8) == 0x55
        with pytest.raises(machine.type("java.lang.reflect.InvocationTargetException")) as caught:
            call("readBit")
        assert "ends inside a packet header" in str(caught.value.getCause().getMessage())


# ---- numbers of images, channels and planes


def test_frames_that_no_file_has(tmp_path):
    """Each would be given a place among the metadata before anything of it is read."""

    def element(group, number, kind, value):
        value += b" " * (len(value) % 2)
        size = "<2xI" if kind in (b"OB", b"OW") else "<H"
        return struct.pack("<HH2s", group, number, kind) + struct.pack(size, len(value)) + value

    def number(group, place, value):
        return element(group, place, b"US", struct.pack("<H", value))

    body = element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0") + number(0x28, 2, 1)
    body += element(0x28, 4, b"CS", b"MONOCHROME2") + element(0x28, 8, b"IS", b"99999999")
    body += number(0x28, 0x10, 30) + number(0x28, 0x11, 40)
    body += number(0x28, 0x100, 8) + number(0x28, 0x101, 8) + number(0x28, 0x102, 7)
    body += element(0x7FE0, 0x10, b"OB", IMAGE.tobytes())
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(128) + b"DICM" + body)
    with pytest.raises(LimitExceeded, match="a.dcm: number of frames is 99,999,999"):
        open_(path)


@pytest.mark.java
@pytest.mark.parametrize(
    ("name", "limits", "what"),
    [
        ("a&series=4.fake", Limits(images=3), "images"),
        ("a&sizeZ=4.fake", Limits(planes=3), "planes"),
        ("a&sizeC=4.fake", Limits(channels=3), "channels"),
        ("a&sizeC=9&rgb=3&series=2.fake", Limits(channels=17), "channels"),
        ("a&sizeX=512&sizeY=512&resolutions=4.fake", Limits(levels=3), "levels"),
    ],
)
def test_counts_are_held_to_limits(name, limits, what):
    with pytest.raises(LimitExceeded, match=f"a&.*fake: .*{what}.*Limits"):
        open_(name, limits=limits)


@pytest.mark.java
def test_the_store_of_the_metadata_has_limits_of_its_own(tmp_path):
    """It is filled while a file is opened, plane by plane."""
    (tmp_path / "a.ics").write_text(
        "\t\nics_version\t1.0\nfilename\ta\nlayout\tparameters\t5\n"
        "layout\torder\tbits\tx\ty\tz\tt\nlayout\tsizes\t8\t40\t30\t5\t2\n"
        "layout\tcoordinates\tvideo\nlayout\tsignificant_bits\t8\n"
        "representation\tformat\tinteger\nrepresentation\tsign\tunsigned\n"
        "representation\tcompression\tuncompressed\nrepresentation\tbyte_order\t1\n"
    )
    (tmp_path / "a.ids").write_bytes(IMAGE.tobytes() * 10)
    assert read(tmp_path / "a.ics").shape == (2, 1, 5, 30, 40)
    with pytest.raises(LimitExceeded, match=r"more than 9 planes; .*Limits\(planes=\.\.\.\)"):
        open_(tmp_path / "a.ics", limits=Limits(planes=9))


@pytest.mark.parametrize("name", ["a.ome", "a.ome.xml", "a.xml"])
def test_elements_of_a_document_are_held_to_limits(tmp_path, name):
    body = "<Image/>" * 1000
    (tmp_path / name).write_text(
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{body}'
        "</OME>"
    )
    with pytest.raises(LimitExceeded, match=r"number of XML elements is 1,00\d"):
        open_(tmp_path / name, limits=Limits(elements=900))


@pytest.mark.java
def test_lack_of_heap_is_an_error_of_ours(tmp_path):
    """While a file is opened, and while its metadata become a document; reading continues."""
    code = """
from bfbridge import BioReader
from bfbridge.errors import OutOfMemory
for name in ("a&annMap=400000.fake", "a&series=3000&annLong=100.fake"):
    try:
        BioReader(name).ome_xml
    except OutOfMemory as error:
        print(str(error).split(" needs ")[1][:40])
with BioReader("b&sizeX=64&sizeY=48.fake") as reader:
    print(reader.read().shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "BFBRIDGE_HEAP": "64m"},
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.stdout.splitlines() == ["more than Java's heap of 61 MB. Ask for "] * 2 + [
        "(48, 64)"
    ]


# ---- bytes changed at random

MUTATED = (
    "world.jp2", "US1_J2KR.dcm", "small_HE.svs", "sample_0.jpk", "sm_image.dcm", "blobs.gif",
    "tiles_z.czi", "cluster.nd2", "chromo3d.ics", "18x24y5z5t2c8b-text.ome", "image.sif",
    "2010-06-18x24y5z1t2c8b-text.ome.tiff", "test-2.dm3", "minc1_4d.mnc", "hopper.psd",
    "rgb32rle.tga", "MetamorphImage.tif", "spestack_test.spe", "AL-a_M.am", "test_data.mod",
)  # fmt: skip
MUTATIONS = 20
# Far above what any takes; those that went round took for ever.
PATIENCE = 100.0


def mutated(data, chance):
    """Change a few bytes, or numbers of two or four bytes, most of them near the ends."""
    changed = bytearray(data)
    size = len(changed)
    for _ in range(chance.choice((1, 1, 2, 3, 6, 12))):
        first, last = chance.choice(((0, 1024), (0, 16384), (size - 2048, size), (0, size)))
        at = chance.randrange(max(first, 0), min(last, size))
        odd = chance.choice(
            (0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFF, size, at, chance.getrandbits(32))
        )
        new = chance.choice(
            (
                bytes([chance.randrange(256)]),
                struct.pack(chance.choice(("<I", ">I")), odd),
                struct.pack(chance.choice(("<H", ">H")), odd & 0xFFFF),
            )
        )
        changed[at : at + len(new)] = new
    return bytes(changed[:size])


def corner(path):
    """Read the metadata, and a corner of the first and last level of some images."""
    reader = open_(path)
    try:
        reader.ome_xml()
        for number, image in enumerate(reader.images[:3]):
            for level in {0, len(image.levels) - 1}:
                shape = image.levels[level].shape
                stop = (1, min(image.samples, shape[1]), 1, min(256, shape[3]), min(256, shape[4]))
                out = np.empty(stop, image.dtype)
                reader.read(Region(number, level, (0,) * 5, stop), out)
    finally:
        reader.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MUTATED)
def test_files_changed_at_random_end_soon(tmp_path, name):
    found = [entry.path for entry in manifest.entries() if entry.path.name == name]
    if not found:
        pytest.skip("there are no real files (BFBRIDGE_DATA)")
    for beside in found[0].parent.iterdir():
        shutil.copy(beside, tmp_path / beside.name)
    whole = found[0].read_bytes()
    for seed in range(MUTATIONS):
        (tmp_path / name).write_bytes(mutated(whole, random.Random(f"{name} {seed}")))
        ended = []

        def work(ended=ended):
            try:
                corner(tmp_path / name)
            except BfbridgeError:
                pass
            except BaseException as error:  # noqa: BLE001 - told below
                ended.append(error)
                return
            ended.append(None)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        assert ended == [None], f"seed {seed}: {ended or 'does not end'}"
