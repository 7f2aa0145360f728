"""CZI, LIF, ND2 and NDPI files that lie, are cut short or would take hours: an error, soon.

And files that change while they are open.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from bfbridge.backend import OpenOptions, ReaderBackend, Region
from bfbridge.errors import (
    BfbridgeError,
    FileChanged,
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source
from bfbridge_czi import CziReader
from bfbridge_lif import LifReader
from bfbridge_nd2 import Nd2Reader
from bfbridge_ndpi import NdpiReader
from tests.support import lifs
from tests.support.agreement import all_of, opened
from tests.support.czis import Block, czi_bytes, metadata_xml
from tests.support.lifs import Dimension, LifImage, image_of, lif_bytes
from tests.support.nd2s import U32, Nd2Channel, Nd2Loop, lite, nd2_bytes, nd2_parts
from tests.support.ndpis import Page, Slide, ndpi_bytes, slide_of, smooth
from tests.support.peak import peak_memory

Array = np.ndarray[Any, Any]
SECONDS = 10
MEMORY = 256 << 20
READERS: dict[str, type[ReaderBackend]] = {
    "czi": CziReader, "lif": LifReader, "nd2": Nd2Reader, "ndpi": NdpiReader,
}  # fmt: skip
STRICT = Limits(xml_bytes=1 << 20, tag_bytes=1 << 20, chunk_bytes=1 << 24)


def noise(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 250, shape).astype("u2")


def czi(seed: int = 0, compression: str = "zstd1") -> bytes:
    tiles = noise((4, 24, 40), seed)
    return czi_bytes(
        [Block(tile, at={"C": n}, compression=compression) for n, tile in enumerate(tiles)],
        metadata_xml("<Information><Image><SizeC>4</SizeC></Image></Information>"),
    )


def lif(seed: int = 0) -> bytes:
    return lif_bytes([image_of(noise((1, 2, 3, 24, 40), seed)), image_of(noise((1, 1, 1, 9, 8)))])


def nd2(seed: int = 0, *, compress: bool = False) -> bytes:
    channels = [Nd2Channel("a"), Nd2Channel("b")]
    return nd2_bytes(noise((3, 24, 40, 2), seed), [Nd2Loop("T", 3)], channels, compress=compress)


def ndpi(seed: int = 0) -> bytes:
    return ndpi_bytes(slide_of(smooth(64, 128, seed=seed), levels=2, interval=4))


def ndpi_in_jpegxr(seed: int = 0) -> bytes:
    pages = [Page(plane, compression="jpegxr", strip=8) for plane in noise((3, 24, 40), seed)]
    return ndpi_bytes(Slide(pages, mode=17))


SOUND: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "czi": ("czi", czi),
    "czi uncompressed": ("czi", lambda seed: czi(seed, "none")),
    "lif": ("lif", lif),
    "nd2": ("nd2", nd2),
    "nd2 compressed": ("nd2", lambda seed: nd2(seed, compress=True)),
    "ndpi": ("ndpi", ndpi),
    "ndpi in JPEG XR": ("ndpi", ndpi_in_jpegxr),
}


def read_everything(kind: str, data: bytes, limits: Limits = STRICT) -> list[Array]:
    """Open, ask for the metadata, read every image."""
    with opened(READERS[kind], data, limits=limits) as reader:
        assert reader.ome_xml()
        _ = reader.original_metadata
        return [all_of(reader, number) for number in range(len(reader.images))]


def quickly(kind: str, data: bytes, limits: Limits = STRICT) -> BfbridgeError | None:
    """Read everything, and check time and memory; return the error it ended in.

    Seconds are those of the processor: what else runs on the machine does not count.
    """
    error: BfbridgeError | None = None
    with peak_memory() as peak:
        begin = time.process_time()
        try:
            read_everything(kind, data, limits)
        except BfbridgeError as caught:
            error = caught
        spent = time.process_time() - begin
    assert spent < SECONDS
    assert peak.nbytes < MEMORY
    return error


@pytest.mark.parametrize("name", SOUND)
def test_cut_at_any_length(name: str) -> None:
    """An error when the file is opened, or the pixels of the whole file."""
    kind, make = SOUND[name]
    data = make(0)
    whole = read_everything(kind, data)
    for length in range(0, len(data) - 1, max(len(data) // 150, 1)):
        try:
            found = read_everything(kind, data[:length])
        except BfbridgeError:
            continue
        assert length > len(data) * 0.9
        assert all(map(np.array_equal, found, whole))


@pytest.mark.skipif(os.name == "nt", reason="open files cannot be written there")
@pytest.mark.parametrize("how", ["pixels", "metadata", "damage", "shorter"])
@pytest.mark.parametrize("name", SOUND)
def test_a_file_written_to_while_it_is_open(name: str, how: str, tmp_path: Path) -> None:
    kind, make = SOUND[name]
    path = tmp_path / f"made.{kind}"
    path.write_bytes(make(0))
    os.utime(path, ns=(1_000_000_007, 1_000_000_007))
    with opened(READERS[kind], path) as reader:
        first = reader.images[0]
        t, _, z, y, x = first.levels[0].shape
        last = Region(0, 0, (t - 1, 0, z - 1, 0, 0), (t, 1, z, y, x))
        out = np.empty((1, 1, 1, 2, x), first.dtype)
        reader.read(Region(0, 0, (0, 0, 0, 0, 0), (1, 1, 1, 2, x)), out)
        other = make(1)
        path.write_bytes({"damage": bytes(len(other)), "shorter": other[:900]}.get(how, other))
        os.utime(path, ns=(2_000_000_007, 2_000_000_007))
        read: Callable[[], object] = partial(reader.read, last, np.empty(last.shape, first.dtype))
        if how == "metadata" and kind not in ("lif", "ndpi"):
            # Of LIF, and of small NDPI files, all metadata are read when the file is opened.
            read = reader.ome_xml
        with pytest.raises(FileChanged, match=rf"made\.{kind}: the file has changed"):
            read()


# ---- CZI


def entries_changed(data: bytes, offset: int, code: str, value: int, *, first: int = 0) -> bytes:
    """Change a field of entries of the directory and of the subblocks themselves."""
    out = bytearray(data)
    places, at = [], out.find(b"DV")
    while at >= 0:
        places.append(at)
        at = out.find(b"DV", at + 2)
    for place in places[first:]:
        struct.pack_into(code, out, place + offset, value)
    return bytes(out)


def czi_with(offset: int, code: str, value: int) -> bytes:
    """One subblock along X, Y, C; axes begin 32 bytes after the entry, 20 bytes each."""
    block = Block(noise((24, 40)), at={"C": 0}, compression="zstd1")
    return entries_changed(czi_bytes([block]), offset, code, value)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "data",
    [
        czi_with(32 + 8, "<i", (1 << 31) - 1),  # wide
        czi_with(32 + 8, "<i", 0),
        czi_with(32 + 8, "<i", -1),
        czi_with(32 + 16, "<i", (1 << 31) - 1),  # stored wide
        czi_with(52 + 8, "<i", (1 << 31) - 1),  # high
        czi_with(72 + 4, "<i", (1 << 31) - 1),  # the last channel of so many
        czi_with(72 + 8, "<i", 9),  # several channels in one
        czi_with(28, "<i", (1 << 31) - 1),  # axes
        czi_with(28, "<i", -1),
        czi_with(6, "<q", 1 << 62),  # position
        czi_with(6, "<q", -1),
        czi_with(6, "<q", 0),
        czi_with(18, "<i", 4),  # compression
    ],
)
def test_numbers_of_czi_that_lie(data: bytes) -> None:
    assert quickly("czi", data) is not None


def test_many_channels_of_few_subblocks_meet_the_limits() -> None:
    data = czi_with(72 + 4, "<i", 999)
    assert isinstance(quickly("czi", data, Limits(channels=500)), LimitExceeded)
    assert isinstance(quickly("czi", data, Limits(planes=500)), LimitExceeded)
    with opened(CziReader, data) as reader:
        assert len(reader.images[0].channels) == 1000


def test_scenes_that_only_numbers_tell_of() -> None:
    blocks = [Block(noise((8, 8)), at={"S": 0, "V": 0}), Block(noise((8, 8)), at={"S": 1, "V": 1})]
    far = entries_changed(czi_bytes(blocks), 72 + 4, "<i", (1 << 31) - 1, first=3)
    assert isinstance(quickly("czi", far), Unsupported)


def test_two_subblocks_in_one_place() -> None:
    """Else a hundred thousand entries would read one subblock as often."""
    data = bytearray(czi())
    directory = data.index(b"ZISRAWDIRECTORY")
    first = data.index(b"DV", directory)
    second = data.index(b"DV", first + 2)
    data[second + 6 : second + 14] = data[first + 6 : first + 14]
    error = quickly("czi", bytes(data))
    assert isinstance(error, UnreadableFile)
    assert "two subblocks at byte" in str(error)


def test_a_subblock_that_reaches_into_the_next() -> None:
    data = bytearray(czi(compression="none"))
    first = data.index(b"ZISRAWSUBBLOCK") + 32
    (size,) = struct.unpack_from("<q", data, first + 8)
    struct.pack_into("<q", data, first + 8, 3 * size)
    error = quickly("czi", bytes(data))
    assert isinstance(error, ReadFailed)
    assert "after the next part of the file begins" in str(error)


def test_a_tile_that_grows_without_bound() -> None:
    """128 MB of zeros in a few bytes: within the limits for one tile, unless they are lower."""
    stored = bytes(imagecodecs.zstd_encode(bytes(1 << 27), level=1))
    block = Block(noise((200, 200)), compression="zstd0", size=(8192, 8192))
    data = bytearray(czi_bytes([block]))
    begin = block.position + 32 + 256
    struct.pack_into("<q", data, block.position + 32 + 8, len(stored))
    data[begin : begin + len(stored)] = stored.ljust(len(stored), b"\0")
    assert len(stored) < 40_000
    changed = entries_changed(bytes(data), 32 + 16, "<i", 8192)
    changed = entries_changed(changed, 52 + 16, "<i", 8192)
    with opened(CziReader, changed, limits=STRICT) as reader:
        out = np.empty((1, 1, 1, 4, 4), "u2")
        with peak_memory() as peak, pytest.raises(LimitExceeded, match="more than the limits"):
            reader.read(Region(0, 0, (0, 0, 0, 0, 0), (1, 1, 1, 4, 4)), out)
    assert peak.nbytes < MEMORY // 8


def test_tiles_far_apart_cost_nothing_by_themselves() -> None:
    """A mosaic of 2^31 pixels a side with two tiles: crops are read, and its index stays small."""
    edge = (1 << 31) - 100
    tiles = noise((2, 24, 40))
    data = czi_bytes(
        [Block(tile, x=m * edge, y=m * edge, at={"M": m}) for m, tile in enumerate(tiles)]
    )
    with peak_memory() as peak, opened(CziReader, data) as reader:
        assert reader.images[0].levels[0].shape[3:] == (edge + 24, edge + 40)
        region = Region(0, 0, (0, 0, 0, edge - 4, edge - 6), (1, 1, 1, edge + 24, edge + 40))
        out = np.empty(region.shape, "u2")
        reader.read(region, out)
        np.testing.assert_array_equal(out[0, 0, 0, 4:, 6:], tiles[1])
        assert not out[0, 0, 0, :4].any()
    assert peak.nbytes < MEMORY


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("xml", "limits"),
    [
        ("<a/>" * 3000, Limits(elements=200)),
        ("<a>" * 300 + "</a>" * 300, STRICT),
        ("<!DOCTYPE a>", STRICT),
        ("<a>", STRICT),
        ("x" * (1 << 21), STRICT),
    ],
)
def test_metadata_of_czi_without_bound(xml: str, limits: Limits) -> None:
    data = czi_bytes([Block(noise((8, 8)))], metadata_xml(xml))
    assert isinstance(quickly("czi", data, limits), UnreadableFile | LimitExceeded)


def test_texts_within_texts_are_bounded() -> None:
    """Each element of a chain has the text of the innermost one."""
    names = [f"a{n}" for n in range(200)]
    text = "".join(f"<{n}>" for n in names) + "x" * 100_000
    text += "".join(f"</{n}>" for n in reversed(names))
    data = czi_bytes([Block(noise((8, 8)))], metadata_xml(text))
    with (
        opened(CziReader, data, limits=Limits(xml_bytes=1 << 20)) as reader,
        pytest.raises(LimitExceeded, match="length of all entries"),
    ):
        _ = reader.original_metadata


@pytest.mark.slow(ci=True)
def test_many_wells_are_read_once_each() -> None:
    shapes = "".join(f'<Scene><Shape Id="{n}-1" Name="w"/></Scene>' for n in range(40_000))
    xml = metadata_xml(
        "<Experiment><ExperimentBlocks><AcquisitionBlock><RegionsSetup><SampleHolder><Template>"
        "<ShapeRows>1</ShapeRows><ShapeColumns>1</ShapeColumns></Template><SingleTileRegionArray>"
        "<TemplateShapeId>1-1</TemplateShapeId></SingleTileRegionArray></SampleHolder>"
        "</RegionsSetup></AcquisitionBlock></ExperimentBlocks></Experiment><Information><Image>"
        f"<Dimensions><S><Scenes>{shapes}</Scenes></S></Dimensions></Image></Information>"
    )
    assert quickly("czi", czi_bytes([Block(noise((8, 8)))], xml), Limits()) is None


@pytest.mark.parametrize("time_", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_times_beyond_the_calendar_are_left_out(time_: str) -> None:
    xml = f"<METADATA><Tags><AcquisitionTime>{time_}</AcquisitionTime></Tags></METADATA>"
    assert quickly("czi", czi_bytes([Block(noise((8, 8)), metadata=xml)])) is None


# ---- LIF


def lif_with(*dimensions: Dimension, data: bytes = bytes(1000)) -> bytes:
    return lif_bytes([LifImage("image", data, dimensions)])


FLAT = (Dimension(lifs.X, 10, 1), Dimension(lifs.Y, 10, 10))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "data",
    [
        lif_with(Dimension(lifs.X, 1 << 40, 1), Dimension(lifs.Y, 2, 1 << 40)),
        lif_with(Dimension(lifs.X, 10, 1), Dimension(lifs.Y, 1 << 40, 10)),
        lif_with(Dimension(lifs.X, 10, 1 << 40), Dimension(lifs.Y, 10, 1 << 44)),
        lif_with(*FLAT, Dimension(lifs.T, 1 << 40, 0)),
        lif_with(*FLAT, Dimension(lifs.TILE, 1 << 40, 0)),
        lif_with(*FLAT, Dimension(lifs.TILE, 60_000, 0)),
        lif_with(Dimension(lifs.X, 10, 1), Dimension(lifs.Y, 10, 0)),
        lif()[:8] + b"*" + struct.pack("<I", (1 << 32) - 1) + lif()[13:],
    ],
)
def test_numbers_of_lif_that_lie(data: bytes) -> None:
    assert quickly("lif", data) is not None


def test_images_inside_images_are_left_alone() -> None:
    """Else each of them would be read as often as there are images around it."""
    inner = lifs.LifImage("inner", b"", [Dimension(lifs.X, 9, 1)]).xml("MemBlock_1")
    data = lif_bytes([image_of(noise((1, 1, 1, 9, 8)), inside=f"<Attachment>{inner}</Attachment>")])
    assert isinstance(quickly("lif", data), Unsupported)


@pytest.mark.slow(ci=True)
def test_images_and_planes_of_lif_meet_the_limits() -> None:
    data = lif_bytes([image_of(noise((2, 2, 2, 9, 8)))] * 3)
    assert quickly("lif", data) is None
    for limits in (Limits(images=2), Limits(planes=20), Limits(channels=5)):
        assert isinstance(quickly("lif", data, limits), LimitExceeded)


# ---- ND2


def nd2_with(**attributes: int) -> bytes:
    told = {key: U32(value) for key, value in attributes.items()}
    channels = [Nd2Channel("a"), Nd2Channel("b")]
    return nd2_bytes(noise((3, 24, 40, 2)), [Nd2Loop("T", 3)], channels, attributes=told)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "data",
    [
        nd2_with(uiWidth=(1 << 32) - 1, uiTileWidth=(1 << 32) - 1),
        nd2_with(uiHeight=(1 << 32) - 1, uiTileHeight=(1 << 32) - 1),
        nd2_with(uiWidthBytes=(1 << 32) - 1),
        nd2_with(uiHeight=0, uiTileHeight=0),
        nd2_with(uiComp=(1 << 32) - 1),
        nd2_with(uiSequenceCount=(1 << 32) - 1),
        nd2_with(uiBpcSignificant=99),
        nd2()[:-8] + struct.pack("<Q", (1 << 64) - 1),
        nd2()[:-8] + struct.pack("<Q", 0),
    ],
)
def test_numbers_of_nd2_that_lie(data: bytes) -> None:
    assert quickly("nd2", data) is not None


def test_a_frame_that_is_missing() -> None:
    """Bio-Formats makes up its pixels."""
    parts = nd2_parts(noise((3, 24, 40, 1)), [Nd2Loop("T", 3)], [Nd2Channel()])
    parts.remove("ImageDataSeq|1!")
    error = quickly("nd2", parts.bytes())
    assert isinstance(error, UnreadableFile)
    assert "frame 1 of 3 is missing" in str(error)


@pytest.mark.slow(ci=True)
def test_images_and_planes_of_nd2_meet_the_limits() -> None:
    frames, channels = noise((6, 24, 40, 2)), [Nd2Channel("a"), Nd2Channel("b")]
    data = nd2_bytes(frames, [Nd2Loop("P", 3), Nd2Loop("Z", 2)], channels)
    assert quickly("nd2", data) is None
    for limits in (Limits(images=2), Limits(planes=11), Limits(channels=5)):
        assert isinstance(quickly("nd2", data, limits), LimitExceeded)


def test_metadata_of_nd2_that_grow_without_bound() -> None:
    parts = nd2_parts(noise((1, 24, 40, 1)), [], [Nd2Channel()])
    bomb = bytes([76]) + bytes(11) + zlib.compress(bytes(1 << 26))
    parts.replace("ImageMetadataSeqLV|0!", bomb)
    assert isinstance(quickly("nd2", parts.bytes()), LimitExceeded)


def test_levels_of_nd2_within_levels() -> None:
    level: dict[str, Any] = {}
    for _ in range(400):
        level = {"a": level}
    parts = nd2_parts(noise((1, 24, 40, 1)), [], [Nd2Channel()])
    parts.replace("ImageMetadataSeqLV|0!", lite("SLxPictureMetadata", level))
    assert isinstance(quickly("nd2", parts.bytes()), LimitExceeded)


@pytest.mark.slow(ci=True)
def test_a_frame_that_grows_more_than_zlib_can() -> None:
    parts = nd2_parts(noise((1, 2000, 2000, 1)), [], [Nd2Channel()], compress=True)
    parts.replace("ImageDataSeq|0!", bytes(8) + zlib.compress(bytes(1000)))
    error = quickly("nd2", parts.bytes())
    assert isinstance(error, ReadFailed)
    assert "more than zlib allows" in str(error)


@pytest.mark.parametrize("kind", READERS)
def test_no_file_at_all(kind: str) -> None:
    for data in (b"", b"x", bytes(100), bytes(100_000)):
        with pytest.raises((Unsupported, UnreadableFile)):
            READERS[kind].open(as_source(data), OpenOptions())
