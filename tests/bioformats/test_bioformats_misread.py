"""Files that Bio-Formats misreads without a word: read rightly, or refused."""

from __future__ import annotations

import struct

import jpype
import numpy as np
import pytest

from bfbridge.errors import UnreadableFile, Unsupported
from bfbridge_bioformats.runtime.machine import machine
from tests.support.javareads import open_, read

pytestmark = pytest.mark.java

PIXELS = np.random.default_rng(4).normal(900, 20, (2, 5, 7)).astype(np.float32)


# ---- Andor SIF


def block(pixels, flags=""):
    """One block: its header, a time for each frame, further lines, its pixels."""
    frames, height, width = pixels.shape
    header = f"Pixel number6\nCounts12\nPixel number65538 1 {height} {width} 1 {frames} 1 9 9\n"
    header += f"65538 1 {height} {width} 1 1 1 0\n" + "         0\n" * frames
    return (header + flags).encode() + pixels.tobytes()


def sif(*blocks, footer=b"0\n" * 4):
    head = b"Andor Technology Multi-Channel File\n65538 1\n65559 0 0 1 125433\n"
    return head + b"0\n1\n65559 0 0 1 125433\n".join(blocks) + footer


@pytest.mark.parametrize(
    "data",
    [
        sif(block(PIXELS)),
        sif(block(PIXELS), footer=b"0\n0\n"),
        sif(block(PIXELS), footer=b"0\n" * 9),
        sif(block(PIXELS, "0\n")),
        sif(block(PIXELS, "0\n"), footer=b"0\n0\n"),
        sif(block(PIXELS, "1\n0.5\n0.6\n"), footer=b"0\n0\n"),
        sif(block(PIXELS), block(PIXELS + 1), footer=b"0\n0\n"),
        sif(block(PIXELS), block(PIXELS[:1]), block(PIXELS + 5), footer=b"0\n0\n"),
    ],
    ids=["as Bio-Formats expects", "short end", "long end", "flag", "flag and short end", "flags",
         "two blocks", "three blocks"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["disk", "memory"])
def test_the_first_block_of_a_sif_file(tmp_path, data, place):
    path = tmp_path / "a.sif"
    path.write_bytes(data)
    found = read(path) if place == "disk" else read(data, "a.sif")
    assert found.shape == (2, 1, 1, 5, 7)
    np.testing.assert_array_equal(found[:, 0, 0], PIXELS)


def test_a_sif_file_whose_pixels_are_nowhere_to_be_found():
    data = sif(block(PIXELS, "what is this\n"))
    with pytest.raises(Unsupported, match="a.sif: the position of the pixels in this SIF file"):
        open_(data, "a.sif")


# ---- Hamamatsu ITEX


def itex(kind, comment=b"[Application],Software=HiPic"):
    pixel = {0: 1, 2: 2, 3: 4}[kind]
    header = struct.pack("<2s6h", b"IM", len(comment), 7, 5, 0, 0, kind)
    return header.ljust(64, b"\0") + comment + bytes(range(35 * pixel))


@pytest.mark.parametrize("kind", [0, 2, 3])
@pytest.mark.parametrize("comment", [b"[Application],Software=HiPic", b"", b"no such text"])
def test_an_image_of_hamamatsu_is_none_of_jeol(kind, comment):
    with pytest.raises(Unsupported, match=r"a\.img: .*Hamamatsu.*7 x 5.*JEOL"):
        open_(itex(kind, comment), "a.img")


def test_an_image_of_jeol(tmp_path):
    """Rows of 1024 bytes behind 60 bytes and a comment, as JEOLReader.initFile takes them."""
    rows = np.arange(4 * 1024, dtype=np.uint32).reshape(4, 1024).astype(np.uint8)
    data = b"IM" + struct.pack("<h", 6) + bytes(56) + b"a note" + rows.tobytes()
    np.testing.assert_array_equal(read(data, "a.img")[0, 0, 0], rows)


# ---- Targa


@pytest.mark.parametrize(("kind", "depth"), [(10, 32), (9, 16), (11, 16)])
def test_packed_targa_of_which_only_a_part_is_unpacked(kind, depth):
    colors = struct.pack("<BHHB", 1, 0, 2, 24) if kind == 9 else struct.pack("<BHHB", 0, 0, 0, 0)
    head = struct.pack("<B", 0) + colors[:1] + struct.pack("<B", kind) + colors[1:]
    head += struct.pack("<HHHHBB", 0, 0, 6, 4, depth, 0x20) + bytes(6 if kind == 9 else 0)
    data = head + (b"\x85" + b"\x01" * (depth // 8)) * 4
    with pytest.raises(Unsupported, match=f"a.tga: its pixels are compressed with {depth} bits"):
        open_(data, "a.tga")


# ---- MINC 2


def minc2(path, shape, names, kind="int8"):
    """A file as Bio-Formats takes MINC 2, written through HDF5 in Java."""
    arrays = {"int8": "MDByteArray", "int16": "MDShortArray"}
    with machine.attached():
        writer = machine.type("ch.systemsx.cisd.hdf5.HDF5Factory").open(str(path))
        try:
            sizes = jpype.JArray(jpype.JInt)(shape)
            array = machine.type(f"ch.systemsx.cisd.base.mdarray.{arrays[kind]}")(sizes)
            for place in range(int(np.prod(shape))):
                array.getAsFlatArray()[place] = place % 100
            writer.object().createGroup("/minc-2.0/image/0")
            getattr(writer, kind)().writeMDArray("/minc-2.0/image/0/image", array)
            writer.string().setAttr("/minc-2.0", "ident", "a file")
            for name, size in zip(names, shape, strict=True):
                axis = f"/minc-2.0/dimensions/{name}"
                writer.int32().write(axis, 0)
                writer.int32().setAttr(axis, "length", size)
                writer.string().setAttr(axis, "units", "mm")
                for what in ("step", "start"):
                    writer.float64().setAttr(axis, what, 1.0)
        finally:
            writer.close()
    return path


SPACE = ("zspace", "yspace", "xspace")


def test_a_minc2_file_without_time(tmp_path):
    found = read(minc2(tmp_path / "a.mnc", (3, 5, 7), SPACE))
    assert found.shape == (1, 1, 3, 5, 7)
    # MINC counts rows from below.
    np.testing.assert_array_equal(found[0, 0, 1, ::-1], np.arange(35, 70).reshape(5, 7))


@pytest.mark.parametrize(
    ("shape", "names", "kind", "why"),
    [
        ((2, 3, 5, 7), ("time", *SPACE), "int8", "6 planes, but Bio-Formats reads 3"),
        ((2, 3, 5, 7), ("time", *SPACE), "int16", "more axes"),
        ((7, 3, 5), ("xspace", "zspace", "yspace"), "int8", "7 planes"),
        ((3, 7, 5), ("zspace", "xspace", "yspace"), "int8", "another order"),
    ],
)
def test_a_minc2_file_whose_axes_are_not_seen(tmp_path, shape, names, kind, why):
    with pytest.raises(Unsupported, match=f"a.mnc: .*{why}"):
        open_(minc2(tmp_path / "a.mnc", shape, names, kind))


def test_a_short_sif_file_is_refused():
    with pytest.raises(UnreadableFile, match="the end marker of SIF files is missing"):
        open_(sif(block(PIXELS), footer=b""), "a.sif")
