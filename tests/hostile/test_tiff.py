"""TIFFs that lie, loop, end too early or point elsewhere: an error, soon, and little memory."""

from __future__ import annotations

import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from bfbridge.backend import Region
from bfbridge.errors import (
    BfbridgeError,
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.limits import Limits
from tests.support.peak import peak_memory
from tests.support.tiffs import (
    Page,
    all_of,
    build,
    numbered,
    ome_document,
    ome_image,
    ome_xml,
    open_ours,
    page,
    saved,
)

SHAPE = (1, 2, 1, 48, 40)
SECONDS = 5
MEMORY = 256 << 20


def sample(order: str = "<", *, big: bool = False, compression: int = 8) -> bytes:
    """A small, sound file: two planes of six tiles, the first with a lower resolution."""
    array = numbered(SHAPE, "u2")
    encode = {
        1: bytes,
        5: imagecodecs.lzw_encode,
        7: lambda data: imagecodecs.jpeg8_encode(np.frombuffer(data, "u1").reshape(16, 16), 90),
        8: imagecodecs.zlib_encode,
        32773: imagecodecs.packbits_encode,
        50000: imagecodecs.zstd_encode,
    }[compression]
    dtype = "u1" if compression == 7 else f"{order}u2"

    def tiles(plane: np.ndarray) -> list[bytes]:
        padded = np.zeros((48, 48), dtype)
        padded[: plane.shape[0], : plane.shape[1]] = plane
        return [
            encode(padded[y : y + 16, x : x + 16].tobytes())
            for y in range(0, plane.shape[0], 16)
            for x in range(0, plane.shape[1], 16)
        ]

    def directory(plane: np.ndarray, **options: object) -> Page:
        return page(
            plane.shape[1],
            plane.shape[0],
            tiles(plane),
            bits=np.dtype(dtype).itemsize * 8,
            compression=compression,
            tile=(16, 16),
            **options,
        )

    below = [directory(array[0, c, 0, ::2, ::2]) for c in range(2)]
    document = ome_xml(SHAPE, np.dtype(dtype).newbyteorder("="))
    pages = [
        directory(array[0, c, 0], below=[below[c]], description=None if c else document)
        for c in range(2)
    ]
    return build(pages, order, big=big)


def read_everything(data: bytes | Path, **options: object) -> None:
    """Open, read every level of every image that is not absurdly large, ask for metadata."""
    reader = open_ours(data, **options)
    try:
        for image, record in enumerate(reader.images):
            for level, each in enumerate(record.levels):
                if np.prod([float(n) for n in each.shape]) * record.dtype.itemsize < 1 << 24:
                    all_of(reader, image, level)
        assert reader.ome_xml()
        assert reader.original_metadata
    finally:
        reader.close()


def quickly(action, seconds: float = SECONDS) -> BaseException | None:
    """Run, and check time and memory; return the error it ended in."""
    error: BaseException | None = None
    with peak_memory() as peak:
        begin = time.perf_counter()
        try:
            action()
        except BfbridgeError as caught:
            error = caught
        spent = time.perf_counter() - begin
    assert spent < seconds
    assert peak.nbytes < MEMORY
    return error


@pytest.mark.parametrize("compression", [1, 5, 7, 8, 32773, 50000])
def test_the_sample_is_sound(compression):
    """Otherwise what follows would fail for another reason."""
    read_everything(sample(compression=compression))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_every_length_of_a_cut_file(order, big):
    data = sample(order, big=big)
    for length in range(0, len(data) - 1, 37):
        with pytest.raises(BfbridgeError):
            read_everything(data[:length])


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("compression", [1, 5, 7, 8, 32773, 50000])
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", True)])
def test_bytes_changed_at_random(compression, order, big):
    """Every outcome is pixels or a BfbridgeError; nothing else, nothing slow."""
    if compression == 7 and order == ">":
        pytest.skip("the same file except for its header")
    data = np.frombuffer(sample(order, big=big, compression=compression), np.uint8)
    rng = np.random.default_rng(compression)
    failed = 0
    for _ in range(120):
        changed = data.copy()
        places = rng.integers(0, len(data), rng.integers(1, 6))
        if rng.random() < 0.5:
            # Where the structure is: the end of the file, where the directories lie.
            places = len(data) - 1 - rng.integers(0, min(1200, len(data)), len(places))
        changed[places] = rng.choice(
            np.array([0, 1, 2, 0x7F, 0x80, 0xFF, rng.integers(256)], np.uint8), len(places)
        )
        begin = time.perf_counter()
        try:
            read_everything(changed.tobytes())
        except BfbridgeError:
            failed += 1
        assert time.perf_counter() - begin < SECONDS
    assert failed > 10


def with_next(data: bytes, place: int, target: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into("<I", changed, place, target)
    return bytes(changed)


def directory_ends(data: bytes) -> list[int]:
    """Places of the links to the next directory, of the main chain."""
    (offset,) = struct.unpack_from("<I", data, 4)
    ends = []
    while offset:
        (count,) = struct.unpack_from("<H", data, offset)
        ends.append(offset + 2 + 12 * count)
        (offset,) = struct.unpack_from("<I", data, ends[-1])
    return ends


@pytest.mark.parametrize("back", [0, 1])
def test_a_circle_of_directories(back):
    data = sample()
    starts = [struct.unpack_from("<I", data, 4)[0]]
    ends = directory_ends(data)
    starts += [struct.unpack_from("<I", data, end)[0] for end in ends[:-1]]
    looped = with_next(data, ends[0], starts[0]) if back else with_next(data, ends[-1], starts[0])
    if back:
        error = quickly(lambda: read_everything(looped))
        assert isinstance(error, UnreadableFile)
        assert "cyclic" in str(error)
        return
    wider = ome_xml((1, 3, 1, 48, 40), "u2").encode()
    narrow = ome_xml(SHAPE, "u2").encode()
    # One channel more in the XML makes the reader read on in the cycle.
    grown = looped.replace(narrow, wider[: len(narrow)])
    error = quickly(lambda: read_everything(grown))
    assert isinstance(error, (UnreadableFile, Unsupported))


def test_a_subifd_that_is_its_own_parent():
    array = numbered((1, 1, 1, 16, 16), "u1")
    first = page(16, 16, [array.tobytes()], description=ome_xml(array.shape, "u1"))
    first.tags[330] = (4, [8])
    data = bytearray(build([first]))
    (start,) = struct.unpack_from("<I", data, 4)
    place = data.index(struct.pack("<HHI", 330, 4, 1)) + 8
    struct.pack_into("<I", data, place, start)
    reader = open_ours(bytes(data))
    assert len(reader.images[0].levels) == 2
    reader.close()


def hostile(change: dict, *, shape=(1, 1, 1, 16, 16), segments=(bytes(256),), **options) -> bytes:
    length, width = shape[3:]
    each = page(width, length, list(segments), description=ome_xml(shape, "u1"), **options)
    each.tags |= change
    return build([each], big=True)


LARGE = (1, 1, 1, (1 << 31) - 1, (1 << 31) - 1)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "data",
    [
        hostile({}, shape=LARGE, tile=(1024, 1024), compression=8),
        hostile({}, shape=LARGE, compression=8),
        hostile({}, shape=(1, 1, 1, 16, (1 << 31) - 1)),
        hostile({322: (4, [(1 << 31) - 1]), 323: (4, [(1 << 31) - 1])}, tile=(16, 16)),
        hostile({322: (4, [0])}, tile=(16, 16)),
        hostile({256: (4, [0])}),
        hostile({256: (16, [1 << 63])}),
        hostile({278: (4, [0])}),
        hostile({277: (3, [0])}),
        hostile({277: (3, [65535])}),
        hostile({258: (3, [0])}),
        hostile({258: (2, b"abcdefgh\0")}),
        hostile({273: (16, [1 << 63])}),
        hostile({273: (16, [(1 << 64) - 1])}),
        hostile({279: (16, [(1 << 64) - 1])}, compression=8),
        hostile({339: (3, [99])}),
        hostile({262: (3, [9999])}),
        hostile({}, segments=[imagecodecs.zlib_encode(bytes(1 << 22))], compression=8),
    ],
)
def test_numbers_that_lie(data):
    error = quickly(lambda: read_box(data))
    assert error is not None


def read_box(data: bytes) -> None:
    reader = open_ours(data)
    try:
        shape = reader.images[0].levels[0].shape
        box = Region(0, 0, (0,) * 5, (1, 1, 1, min(16, shape[3]), min(16, shape[4])))
        reader.read(box, np.empty(box.shape, reader.images[0].dtype))
    finally:
        reader.close()


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("big", [False, True])
def test_counts_of_tags_and_values_that_lie(big):
    data = bytearray(sample(big=big))
    (start,) = struct.unpack_from("<Q" if big else "<I", data, 8 if big else 4)
    lies = bytearray(data)
    struct.pack_into("<Q" if big else "<H", lies, start, (1 << 28) if big else 65535)
    assert quickly(lambda: read_everything(bytes(lies))) is not None
    size, head = (20, 8) if big else (12, 2)
    count = struct.unpack_from("<Q" if big else "<H", data, start)[0]
    for entry in range(count):
        for value in (1 << 31, (1 << 32) - 1):
            lies = bytearray(data)
            at = start + head + size * entry + 4
            struct.pack_into("<Q" if big else "<I", lies, at, value)
            quickly(lambda lies=lies: read_everything(bytes(lies)))


@pytest.mark.parametrize("tag", [256, 257, 258, 259, 262, 277, 284, 317, 322, 323, 324, 325, 339])
@pytest.mark.parametrize(("kind", "count"), [(200, 1), (3, 0)])
def test_decisive_tags_that_cannot_be_read(tag, kind, count):
    """Their defaults would make other pixels of the same bytes: compressed ones taken for plain."""
    array = numbered((1, 1, 1, 16, 16), "u1")
    data = bytearray(
        build(
            [
                page(
                    16,
                    16,
                    [imagecodecs.zlib_encode(array.tobytes())],
                    compression=8,
                    tile=(16, 16),
                    description=ome_xml(array.shape, "u1"),
                    more={317: (3, [1])},
                )
            ]
        )
    )
    (start,) = struct.unpack_from("<I", data, 4)
    places = range(start + 2, start + 2 + 12 * data[start], 12)
    at = next(place for place in places if struct.unpack_from("<H", data, place)[0] == tag)
    read_everything(bytes(data))
    struct.pack_into("<HI", data, at + 2, kind, count)
    with pytest.raises(UnreadableFile, match=f"tag {tag} of the directory"):
        read_everything(bytes(data))


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000"])
@pytest.mark.parametrize("holes", [False, True])
def test_image_codecs_whose_tiles_end_too_early(tmp_path, compression, holes):
    """Their decoders fill in grey for what is missing, and say nothing."""
    y, x = np.mgrid[:64, :64]
    array = np.stack([x * 3, y * 3, x + y], -1).astype("u1")
    path = tmp_path / "made.ome.tif"
    options = {"photometric": "rgb", "tile": (64, 64), "metadata": {"axes": "YXS"}}
    tifffile.imwrite(path, array, compression=compression, **options)
    read_everything(path)
    with tifffile.TiffFile(path) as file:
        (start,), (count,) = file.pages[0].dataoffsets, file.pages[0].databytecounts
        place = file.pages[0].tags["TileByteCounts"].valueoffset
    data = bytearray(path.read_bytes())
    if holes:
        data[start + count * 2 // 3 : start + count] = bytes(count - count * 2 // 3)
    else:
        struct.pack_into("<I", data, place, count - 2)
    with pytest.raises(ReadFailed, match="tile 0, 0.*(has no end|does not decode)"):
        read_everything(bytes(data))


def test_limits_hold():
    data = sample()
    with pytest.raises(LimitExceeded, match="number of planes"):
        read_everything(data, limits=Limits(planes=1))
    second = ome_xml((1, 1, 1, 16, 16), "u1", tiff_data='<TiffData IFD="1"/>')
    pages = [page(16, 16, [bytes(256)], description=second), page(16, 16, [bytes(256)])]
    with pytest.raises(LimitExceeded, match="directories"):
        read_everything(build(pages), limits=Limits(directories=1))
    with pytest.raises(LimitExceeded, match="length"):
        read_everything(data, limits=Limits(xml_bytes=100))
    with pytest.raises(LimitExceeded, match="segment"):
        read_everything(data, limits=Limits(chunk_bytes=100))
    with pytest.raises(LimitExceeded, match="tag 270"):
        read_everything(data, limits=Limits(tag_bytes=100))


def test_a_small_tile_that_decodes_to_much():
    """49 KB that claim 1 GB: refused by the ratio before memory is taken."""
    shape = (1, 1, 1, 32768, 32768)
    data = hostile(
        {}, shape=shape, tile=(32768, 32768), compression=50000, segments=[bytes(40_000)]
    )
    error = quickly(lambda: read_box(data))
    assert isinstance(error, LimitExceeded)


def test_an_xml_with_too_many_planes_is_refused_soon():
    """Sizes of 2147483647 in three axes: no list of planes is made."""
    most = (1 << 31) - 1
    shape = (most, most, most, 16, 16)
    each = page(
        16, 16, [bytes(256)], description=ome_xml(shape, "u1", channels="", tiff_data="<TiffData/>")
    )
    error = quickly(lambda: read_everything(build([each])))
    assert isinstance(error, BfbridgeError)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "prologue",
    [
        '<!DOCTYPE OME SYSTEM "http://127.0.0.1:{port}/x.dtd">',
        '<!DOCTYPE OME [<!ENTITY x SYSTEM "http://127.0.0.1:{port}/x">]>',
        '<!DOCTYPE OME [<!ENTITY % x SYSTEM "http://127.0.0.1:{port}/x"> %x;]>',
        '<!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/hostname">]>',
    ],
)
@pytest.mark.parametrize("carrier", ["tiff", "companion", "binary only"])
def test_xml_reaches_nothing_outside(tmp_path, prologue, carrier):
    hits: list[str] = []

    class Canary(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Canary)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        xml = ome_xml((1, 1, 1, 16, 16), "u1").partition("?>")[2]
        evil = prologue.format(port=server.server_port) + xml.replace("image 0", "&x;")
        pixels = [bytes(256)]
        if carrier == "tiff":
            target = saved(tmp_path, build([page(16, 16, pixels, description=evil)]))
        else:
            target = tmp_path / "a.companion.ome"
            target.write_text(evil)
            if carrier == "binary only":
                pointer = ome_document('<BinaryOnly MetadataFile="a.companion.ome" UUID="urn:u"/>')
                target = saved(tmp_path, build([page(16, 16, pixels, description=pointer)]))
        with pytest.raises(UnreadableFile, match="document type or entity"):
            read_everything(target)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert hits == []


def test_a_billion_laughs():
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(10)
    )
    evil = f"<!DOCTYPE OME [{entities}]><OME xmlns='x'><Image Name='&k;'/></OME>"
    data = build([page(16, 16, [bytes(256)], description=evil)])
    error = quickly(lambda: read_everything(data))
    assert isinstance(error, UnreadableFile)


def test_many_tiffdata_without_count_take_no_quadratic_time():
    shape = (20_000, 1, 1, 16, 16)
    data = "".join(f'<TiffData IFD="0" FirstT="{t}"/>' for t in range(20_000))
    xml = ome_document(ome_image(shape, "u1", tiff_data=data))
    each = page(16, 16, [bytes(256)], description=xml)
    reader = None

    def open_it() -> None:
        nonlocal reader
        reader = open_ours(build([each]))

    assert quickly(open_it) is None
    assert reader is not None
    reader.close()


def test_a_companion_that_is_binary_only_itself(tmp_path):
    pointer = ome_document('<BinaryOnly MetadataFile="made.ome.tif" UUID="urn:u"/>')
    path = saved(tmp_path, build([page(16, 16, [bytes(256)], description=pointer)]))
    error = quickly(lambda: read_everything(path))
    assert isinstance(error, Unsupported)
