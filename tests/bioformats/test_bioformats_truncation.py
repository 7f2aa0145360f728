"""Files shorter than their header declares, of the formats whose header alone tells it."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from bfbridge.errors import LimitExceeded, UnreadableFile
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source
from bfbridge_bioformats.files.truncation import check_length
from tests.support.czis import Block, czi_bytes, metadata_xml
from tests.support.nd2s import Nd2Channel, nd2_bytes

PIXELS = np.arange(1, 5 * 7 + 1, dtype=np.uint16).reshape(5, 7)


def checked(data: bytes, name: str = "a.bin", **limits: int) -> None:
    check_length(as_source(data, name=name), Limits(**limits))


def mrc(order: str = "<", mode: int = 1, extended: int = 64, shape: tuple[int, ...] = (7, 5, 3)):
    """Header of MRC2014; the machine stamp at 212 states the byte order."""
    head = bytearray(1024)
    struct.pack_into(order + "iiii", head, 0, *shape, mode)
    struct.pack_into(order + "i", head, 92, extended)
    head[208:214] = b"MAP " + (b"\x11\x11" if order == ">" else b"\x44\x44")
    return bytes(head)


def deltavision(order: str = "<", mode: int = 6, extended: int = 1024):
    """Header of DeltaVision: the magic number -16224 at 96 states the byte order."""
    head = bytearray(1024)
    struct.pack_into(order + "iiii", head, 0, 7, 5, 3, mode)
    struct.pack_into(order + "ih", head, 92, extended, -16224)
    return bytes(head)


def spe(kind: int = 3, x: int = 7, y: int = 5, frames: int = 3):
    head = bytearray(4100)
    for at, value in ((42, x), (108, kind), (656, y)):
        struct.pack_into("<H", head, at, value)
    struct.pack_into("<i", head, 1446, frames)
    return bytes(head)


def bmp(bits: int = 24, x: int = 7, y: int = 5, compression: int = 0, header: int = 40):
    head = struct.pack("<2sI4xIIiiHHI", b"BM", 0, 54, header, x, y, 1, bits, compression)
    return head.ljust(54, b"\0")


# Header, bytes of the pixels, and the message: pixels are counted by the specification's sizes.
SIZED: dict[str, tuple[bytes, int, str, str]] = {
    "MRC, int16": (mrc(), 64 + 210, "a.mrc", "3 planes of 7 x 5 pixels need 1,298 bytes"),
    "MRC, float32, big endian": (
        mrc(">", 2, 0), 420, "a.mrc", "3 planes of 7 x 5 pixels need 1,444 bytes",
    ),
    "MRC, RGB": (mrc(mode=16), 64 + 315, "a.mrc", "need 1,403 bytes"),
    "DeltaVision, uint16": (deltavision(), 1024 + 210, "a.dv", "need 2,258 bytes"),
    "DeltaVision, complex, big endian": (deltavision(">", 4, 0), 840, "a.dv", "need 1,864 bytes"),
    "SPE, uint16": (spe(), 210, "a.SPE", "3 frames of 7 x 5 pixels need 4,310 bytes"),
    "SPE, float64": (spe(5), 840, "a.spe", "3 frames of 7 x 5 pixels need 4,940 bytes"),
    "SPE, more than 32,767 columns": (spe(6, 40_000, 1, 1), 40_000, "a.spe", "1 frames of 40000"),
    # Rows of 21 bytes are padded to 24; the last one may lack its padding.
    "BMP, 24 bits": (bmp(), 4 * 24 + 21, "a.bmp", "7 x 5 pixels need 171 bytes"),
    "BMP, 1 bit, from the top": (bmp(1, 7, -5), 4 * 4 + 1, "a.bmp", "7 x 5 pixels need 71 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SIZED)
def test_one_byte_less_than_the_pixels_need_is_refused(kind: str) -> None:
    head, length, name, message = SIZED[kind]
    whole = head + b"\x55" * length
    checked(whole, name)
    checked(whole + b"more", name)
    for cut in (whole[:-1], head):
        with pytest.raises(UnreadableFile) as caught:
            checked(cut, name)
        assert message in str(caught.value)
        assert str(caught.value).startswith(f"{name}: the file is cut short: ")
        assert f"the file has {len(cut):,} bytes" in str(caught.value)
        assert str(caught.value).endswith("Copy or download it again.")


def test_a_spe_file_without_its_header_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="its header needs 4,100 bytes"):
        checked(spe()[:-1], "a.spe")


@pytest.mark.parametrize(
    ("head", "name"),
    [
        pytest.param(mrc(mode=101), "a.mrc", id="MRC mode"),
        pytest.param(mrc(extended=-1), "a.mrc", id="MRC extended header"),
        pytest.param(mrc(shape=(7, 0, 3)), "a.mrc", id="MRC size"),
        pytest.param(mrc()[:1000], "a.mrc", id="MRC header"),
        pytest.param(deltavision(mode=9), "a.dv", id="DeltaVision mode"),
        pytest.param(spe(kind=4), "a.spe", id="SPE type"),
        pytest.param(spe(frames=0), "a.spe", id="SPE frames"),
        pytest.param(spe(), "a.dat", id="SPE is known by its suffix"),
        pytest.param(bmp(compression=1), "a.bmp", id="BMP runs"),
        pytest.param(bmp(header=12), "a.bmp", id="BMP of OS/2"),
        pytest.param(bmp(x=0), "a.bmp", id="BMP size"),
        pytest.param(bmp()[:50], "a.bmp", id="BMP header"),
    ],
)
def test_what_declares_no_length_is_left_to_the_reader(head: bytes, name: str) -> None:
    checked(head, name)


def czi(**options) -> bytes:
    blocks = [Block(PIXELS, at={"C": c}) for c in range(3)]
    return czi_bytes(blocks, metadata_xml("<Scaling/>"), **options)


def test_every_cut_czi_file_is_refused() -> None:
    """From the end of its header on; the directory is the last segment, padded to 32 bytes."""
    whole = czi()
    checked(whole, "a.czi")
    directory = struct.unpack_from("<q", whole, 84)[0]
    end = directory + 32 + struct.unpack_from("<q", whole, directory + 24)[0]
    checked(whole[:end], "a.czi")
    for length in range(112, end):
        with pytest.raises(UnreadableFile, match="cut short: its subblock directory should"):
            checked(whole[:length], "a.czi")


def moved(data: bytes, change: Callable[[bytearray, int], None]) -> bytes:
    """Put the directory first, so that pixels are last, and change the result."""
    made = bytearray(data)
    (directory,) = struct.unpack_from("<q", made, 84)
    copy = made[directory:]
    for n in range(3):
        # Entries of three dimensions, 92 bytes each, are moved with their subblocks.
        at = 160 + 92 * n + 6
        struct.pack_into("<q", copy, at, struct.unpack_from("<q", copy, at)[0] + len(copy))
    made[544:] = copy + made[544:directory]
    struct.pack_into("<q", made, 84, 544)
    (metadata,) = struct.unpack_from("<q", made, 92)
    struct.pack_into("<q", made, 92, metadata + len(copy))
    change(made, len(copy))
    return bytes(made)


def test_czi_segments_are_followed_in_any_order() -> None:
    whole = moved(czi(), lambda data, _: None)
    (metadata,) = struct.unpack_from("<q", whole, 92)
    (used,) = struct.unpack_from("<q", whole, metadata + 24)
    end = metadata + 32 + used
    checked(whole[:end], "a.czi")
    with pytest.raises(UnreadableFile, match=f"its metadata should end at byte {end:,}"):
        checked(whole[: end - 1], "a.czi")
    with pytest.raises(UnreadableFile, match=f"its metadata should be at byte {metadata:,}"):
        checked(whole[:metadata], "a.czi")
    # Without metadata, the last subblock ends the file.
    plain = moved(czi(), lambda data, _: struct.pack_into("<q", data, 92, 0))
    (last,) = struct.unpack_from("<q", plain, 544 + 160 + 2 * 92 + 6)
    end = last + 32 + struct.unpack_from("<q", plain, last + 24)[0]
    assert plain[last : last + 14] == b"ZISRAWSUBBLOCK"
    checked(plain[:end], "a.czi")
    for length in (end - 1, last + 5, last, last - 100):
        expected = end if length > last + 32 else last + 32
        with pytest.raises(UnreadableFile, match=f"of pixels should end at byte {expected:,}"):
            checked(plain[:length], "a.czi")


def test_czi_headers_that_contradict_themselves_are_left_to_the_reader() -> None:
    """Only what a valid file declares is a length."""

    def patch(form: str, at: int, value: object) -> bytes:
        data = bytearray(czi())
        struct.pack_into(form, data, at, value)
        return bytes(data)

    (directory,) = struct.unpack_from("<q", czi(), 84)
    checked(patch("<q", 84, 0), "a.czi")
    checked(patch("<q", 84, -1), "a.czi")
    checked(patch("<q", 92, -1), "a.czi")
    checked(patch("<q", 84, 544), "a.czi")  # a subblock
    checked(patch("<2s", directory + 160, b"DE"), "a.czi")  # an entry of another kind
    checked(patch("<i", directory + 160 + 28, -1), "a.czi")  # dimensions
    checked(patch("<i", directory + 160 + 14, 1), "a.czi")  # in another file
    with pytest.raises(LimitExceeded, match="length of the subblock directory is"):
        checked(czi(), "a.czi", tag_bytes=100)


def test_an_nd2_file_without_the_position_of_its_map_is_refused() -> None:
    whole = nd2_bytes(PIXELS[None, None], [], [Nd2Channel()])
    checked(whole, "a.nd2")
    checked(whole + b"more", "a.nd2")
    for length in (*range(len(whole) - 60, len(whole)), 4096, 100):
        with pytest.raises(UnreadableFile, match="the chunk map at the end of every ND2 file"):
            checked(whole[:length], "a.nd2")


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n\t "])
def test_the_elements_of_a_document_are_limited(start: bytes) -> None:
    text = start + b"<a>" + b"<b>text</b>" * 99 + b"</a>"
    checked(text, "a.xml", elements=100)
    with pytest.raises(LimitExceeded, match=r"a\.xml: number of XML elements is 100, above"):
        checked(text, "a.xml", elements=99)
    # Not a document.
    checked(b"text " + text, "a.txt", elements=1)
