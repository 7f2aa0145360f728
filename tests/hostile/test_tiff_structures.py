"""TIFFs of a few megabytes that would take hours or all memory: found out soon."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from bfbridge import BioReader
from bfbridge.backend import Region
from bfbridge.errors import (
    BfbridgeError,
    LimitExceeded,
    ReadFailed,
    UnreadableFile,
    Unsupported,
)
from bfbridge.limits import Limits
from bfbridge.tiff.directories import TiffFile
from tests.hostile.test_tiff import quickly, read_everything
from tests.support.tiffs import (
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

ONE = (1, 1, 1, 16, 16)
PATIENCE = 60


def pointed_at(data: bytes, tag: int, count: int, kind: int, at: int) -> bytes:
    """A BigTIFF whose first directory has an entry of `count` values at byte `at`."""
    changed = bytearray(data)
    (start,) = struct.unpack_from("<Q", changed, 8)
    (entries,) = struct.unpack_from("<Q", changed, start)
    places = (start + 8 + 20 * number for number in range(entries))
    place = next(place for place in places if struct.unpack_from("<H", changed, place)[0] == tag)
    struct.pack_into("<HQQ", changed, place + 2, kind, count, at)
    return bytes(changed)


def chain(entries: list[tuple[int, int]], count: int, last_plane: int | None) -> bytes:
    """A sound first directory and `count` more of these entries (tag, value)."""
    described = None if last_plane is None else f'<TiffData IFD="{last_plane}"/>'
    xml = None if described is None else ome_xml(ONE, "u1", tiff_data=described)
    out = bytearray(build([page(16, 16, [bytes(256)], description=xml)]))
    (first,) = struct.unpack_from("<I", out, 4)
    struct.pack_into("<I", out, first + 2 + 12 * out[first], len(out))
    body = struct.pack("<H", len(entries))
    body += b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries)
    step = len(body) + 4
    starts = range(len(out), len(out) + step * count, step)
    for start in starts:
        out += body + struct.pack("<I", start + step if start != starts[-1] else 0)
    return bytes(out)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif"])
@pytest.mark.parametrize("entries", [[], [(256, 16)], [(254, 1), (256, 16)]])
def test_chains_of_hundreds_of_thousands_of_small_directories(
    tmp_path: Path, name: str, entries: list[tuple[int, int]]
) -> None:
    """Each is empty, has a width alone, or is a thumbnail: planes, or no planes, but no hang."""
    data = chain(entries, 300_000, 300_000 if "ome" in name else None)
    path = saved(tmp_path, data, name)
    error = quickly(lambda: read_everything(path), PATIENCE)
    if entries == [(256, 16)] or "ome" in name:
        assert isinstance(error, (UnreadableFile, Unsupported))


@pytest.mark.slow(ci=True)
def test_directories_that_overlap(tmp_path: Path) -> None:
    """A megabyte that holds 80 000 directories of 4000 entries."""
    count = 4000
    out = bytearray(build([page(16, 16, [bytes(256)])]))
    (first,) = struct.unpack_from("<I", out, 4)
    out += bytes(-len(out) % 4)
    base = len(out)
    struct.pack_into("<I", out, first + 2 + 12 * out[first], base)
    out += struct.pack("<HHII", count, count, 0, 0) * 90_000
    for number in range(80_000):
        place = base + 12 * number
        struct.pack_into("<I", out, place + 2 + 12 * count, place + 12)
    error = quickly(lambda: read_everything(saved(tmp_path, bytes(out), "a.tif")), PATIENCE)
    assert isinstance(error, UnreadableFile)
    assert "its directories overlap" in str(error)


class _Bytes:
    """A file in memory that counts its reads."""

    def __init__(self, data: bytes) -> None:
        self.data, self.size, self.reads = data, len(data), 0

    def read_at(self, offset: int, length: int) -> bytes:
        self.reads += 1
        return self.data[offset : offset + length]


def walked(data: bytes, until: int) -> tuple[list[int], list[int], str, int]:
    """The offsets and skipped positions of a chain, the error, and the number of reads."""
    access, error = _Bytes(data), ""
    file = TiffFile(access, "a.tif", Limits(directories=1500))
    try:
        file.walk(until)
        file.count()
    except BfbridgeError as found:
        error = str(found)
    return file._offsets, file.skipped, error, access.reads


@pytest.mark.parametrize("big", [False, True])
def test_chains_of_alike_directories_are_followed_as_others(
    big: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a byte of them is: offsets, thumbnails and errors are those of single steps."""
    if big:
        pixels = np.zeros((1200, 16, 16), np.uint8)
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, bigtiff=True, metadata=None)
        data = file.getvalue()
    else:
        data = chain([(256, 16), (257, 16)], 1400, None)
    rng = np.random.default_rng(5)
    files = [data, data[:-100], data[: len(data) // 2]]
    for _ in range(40):
        changed = bytearray(data)
        for place in rng.integers(len(data) // 3, len(data), 2):
            changed[place] = rng.choice([0, 1, 16, 254, rng.integers(256)])
        files.append(bytes(changed))
    leaping = [walked(file, until) for file in files for until in (3, 700, 1600)]
    assert leaping[0][3] < len(leaping[0][0]) / 4
    monkeypatch.setattr(TiffFile, "_leap", lambda *_: None)
    stepping = [walked(file, until) for file in files for until in (3, 700, 1600)]
    assert [found[:3] for found in leaping] == [found[:3] for found in stepping]
    assert {bool(found[2]) for found in leaping} == {True, False}


def test_a_directory_of_more_entries_than_libtiff_takes() -> None:
    data = chain([(40000 + number, 0) for number in range(4097)], 1, 1)
    error = quickly(lambda: read_everything(data))
    assert isinstance(error, UnreadableFile)
    assert "declares 4,097 entries" in str(error)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("tag", [258, 339, 278, 530])
def test_a_hundred_million_values_where_a_few_belong(tmp_path: Path, tag: int) -> None:
    one = page(16, 16, [bytes(256)], description=ome_xml(ONE, "u1"), more={tag: (3, [1] * 8)})
    data = build([one], big=True)
    path = saved(tmp_path, pointed_at(data, tag, 100_000_000, 3, len(data)))
    with path.open("r+b") as file:
        file.truncate(len(data) + 200_000_000)  # sparse
    error = quickly(lambda: read_everything(path))
    assert isinstance(error, UnreadableFile)
    assert f"tag {tag} " in str(error)


def test_a_pyramid_of_millions_of_levels() -> None:
    one = page(16, 16, [bytes(256)], description=ome_xml(ONE, "u1"), more={330: (13, [8, 8, 8])})
    data = build([one], big=True)
    (start,) = struct.unpack_from("<Q", data, 8)
    levels = 2_000_000
    data = pointed_at(data, 330, levels, 13, len(data)) + struct.pack("<I", start) * levels
    error = quickly(lambda: read_everything(data))
    assert isinstance(error, LimitExceeded)
    assert "number of resolutions is 2,000,001" in str(error)


def test_resolutions_within_the_limit_are_levels() -> None:
    array = numbered((1, 1, 1, 64, 64), "u1")
    below = [page(size, size, [array[0, 0, 0, :size, :size].tobytes()]) for size in (32, 16, 8)]
    one = page(64, 64, [array.tobytes()], description=ome_xml(array.shape, "u1"), below=below)
    with pytest.raises(LimitExceeded, match="number of resolutions is 4"):
        open_ours(build([one]), limits=Limits(levels=3))
    reader = open_ours(build([one]), limits=Limits(levels=4))
    assert len(reader.images[0].levels) == 4
    reader.close()


@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif", "a.svs"])
def test_thousands_of_samples_are_no_pixel_for_any_reader(tmp_path: Path, name: str) -> None:
    """Whatever else would leave the file to Bio-Formats, which makes a channel of each."""
    described = ome_xml(ONE, "u1") if "ome" in name else "of another reader"
    one = page(16, 16, [bytes(256)], description=described, more={277: (3, [4097])})
    with pytest.raises(UnreadableFile, match="SamplesPerPixel is 4,097"):
        BioReader(saved(tmp_path, build([one]), name))


def test_texts_that_share_their_bytes() -> None:
    """2000 entries of the same ten megabytes: 20 GB of metadata."""
    one = page(16, 16, [bytes(256)], description=ome_xml(ONE, "u1"))
    one.tags |= {40_000 + number: (2, b"x" * 9) for number in range(2000)}
    data = build([one], big=True)
    size = 10 << 20
    changed = bytearray(data)
    (start,) = struct.unpack_from("<Q", changed, 8)
    (entries,) = struct.unpack_from("<Q", changed, start)
    for number in range(entries):
        place = start + 8 + 20 * number
        if struct.unpack_from("<H", changed, place)[0] >= 40_000:
            struct.pack_into("<QQ", changed, place + 4, size, len(data))
    hostile = bytes(changed) + b"y" * size
    found: dict[str, object] = {}

    def action() -> None:
        reader = open_ours(hostile)
        found.update(reader.original_metadata)
        reader.close()

    assert quickly(action) is None
    assert found["ImageWidth"] == 16
    assert 0 < sum(key.startswith("40") for key in found) < 3


def test_directories_that_share_one_large_list_of_segments() -> None:
    """2000 images, each of them with the same megabytes of places: gigabytes when read apart."""
    count, side = 2000, 16 * 700
    segments = (side // 16) ** 2
    xml = ome_document(
        "".join(
            ome_image(
                (1, 1, 1, side, side), "u1", index=i,
                tiff_data=f'<TiffData IFD="{i}" PlaneCount="1"/>',
            )
            for i in range(count)
        )
    )  # fmt: skip
    data = bytes(16) + bytes(8 * segments)
    pages = []
    for number in range(count):
        one = page(
            side, side, [], tile=(16, 16), compression=8, description=None if number else xml
        )
        one.tags |= {324: (16, [0] * 2), 325: (16, [0] * 2)}
        pages.append(one)
    built = bytearray(build(pages, big=True))
    at = len(built)
    (start,) = struct.unpack_from("<Q", built, 8)
    while start:
        (entries,) = struct.unpack_from("<Q", built, start)
        for place in range(start + 8, start + 8 + 20 * entries, 20):
            if struct.unpack_from("<H", built, place)[0] in (324, 325):
                struct.pack_into("<QQ", built, place + 4, segments, at)
        (start,) = struct.unpack_from("<Q", built, start + 8 + 20 * entries)
    error = quickly(lambda: open_ours(bytes(built) + data).close(), PATIENCE)
    assert isinstance(error, UnreadableFile)
    assert "share the same bytes" in str(error)


def test_a_jpeg_of_millions_of_empty_tiles() -> None:
    side, count = 16 * 1500, 1500 * 1500
    one = page(side, side, [], samples=3, compression=7, photometric=2, tile=(16, 16),
               description=ome_xml((1, 3, 1, side, side), "u1", samples=3))  # fmt: skip
    one.tags |= {324: (4, [0] * count), 325: (4, [0] * count)}
    data = build([one], big=True)

    def action() -> None:
        reader = open_ours(data)
        region = Region(0, 0, (0,) * 5, (1, 3, 1, 16, 16))
        out = np.ones(region.shape, "u1")
        reader.read(region, out)
        assert not out.any()
        reader.close()

    assert quickly(action) is None


def test_megabytes_of_imagej_metadata(tmp_path: Path) -> None:
    described = {50839: (2, b"\x01a" * 10_000_000)}
    data = build(
        [page(16, 16, [bytes(256)], description="ImageJ=1.53\nimages=1", more=described)], big=True
    )
    path = saved(tmp_path, data, "a.tif")
    assert quickly(lambda: open_ours(path).close()) is None
    repeated = build(
        [
            page(
                16, 16, [bytes(256)], description="ImageJ=1.53\nimages=1",
                more={50839: (2, b"x\0\x02s\0lices=3\x7f\0")},
            )
        ]
    )  # fmt: skip
    with pytest.raises(Unsupported, match="repeats a size"):
        open_ours(saved(tmp_path, repeated, "b.tif"))


@cache
def oversized(compression: int) -> bytes:
    """A sound stream of a few kilobytes that decodes to hundreds of megabytes of one value."""
    large = np.zeros((16_000, 16_000, 3), "u1")
    encode: dict[int, Callable[[], bytes]] = {
        34712: lambda: imagecodecs.jpeg2k_encode(large[:6000, :6000], level=0, numthreads=1),
        50001: lambda: imagecodecs.webp_encode(large, lossless=True),
        50002: lambda: imagecodecs.jpegxl_encode(large, effort=1),
        34887: lambda: imagecodecs.lerc_encode(large),
    }
    if compression != 7:
        return encode[compression]()
    data = bytearray(imagecodecs.jpeg8_encode(large[:64, :64], 90))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 60_000, 60_000)
    return bytes(data)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("compression", [7, 34712, 34887, 50001, 50002])
@pytest.mark.parametrize("part", [False, True])
def test_streams_that_declare_a_larger_image_than_the_tile(compression: int, part: bool) -> None:
    stream = oversized(compression)
    shape = (1, 3, 1, 64, 64)
    one = page(64, 64, [stream], samples=3, compression=compression,
               photometric=6 if compression == 7 else 2, tile=(64, 64),
               description=ome_xml(shape, "u1", samples=3))  # fmt: skip
    data = build([one])

    def action() -> None:
        if not part:
            all_of(open_ours(data))
        reader = open_ours(data)
        reader.read(Region(0, 0, (0,) * 5, (1, 3, 1, 9, 9)), np.empty((1, 3, 1, 9, 9), "u1"))

    error = quickly(action)
    assert isinstance(error, ReadFailed)
    assert "tile 0, 0" in str(error)


@pytest.mark.slow(ci=True)
def test_a_lerc_stream_that_is_packed_to_nothing() -> None:
    """Its second compression makes a gigabyte of a megabyte."""
    packed = imagecodecs.zlib_encode(bytes(1 << 28))
    one = page(64, 64, [packed], compression=34887, tile=(64, 64), more={50674: (4, [4, 1])},
               description=ome_xml((1, 1, 1, 64, 64), "u1"))  # fmt: skip
    error = quickly(lambda: read_everything(build([one])))
    assert isinstance(error, ReadFailed)


def test_a_jpeg_of_thousands_of_scans() -> None:
    plain = imagecodecs.jpeg8_encode(np.zeros((16, 16), "u1"), 90)
    at = plain.index(b"\xff\xda")
    stream = plain[:-2] + plain[at:-2] * 600 + plain[-2:]
    one = page(16, 16, [stream], compression=7, tile=(16, 16), description=ome_xml(ONE, "u1"))
    error = quickly(lambda: read_everything(build([one])))
    assert isinstance(error, ReadFailed)
    assert "has 601 scans" in str(error)


@pytest.mark.slow(ci=True)
def test_a_long_stack_is_read_as_its_pages_say(tmp_path: Path) -> None:
    """Pages that look alike are not read entry by entry; those that do not are."""
    array = numbered((1, 1, 3000, 16, 16), "u1")
    planes = array[0, 0]
    name = lambda number: {285: (2, f"page {number}".encode() + b"\0")}  # noqa: E731
    path = saved(
        tmp_path,
        build([page(16, 16, [planes[n].tobytes()], more=name(n)) for n in range(3000)]),
        "a.tif",
    )
    reader = open_ours(path)
    assert reader.images[0].levels[0].shape == (3000, 1, 1, 16, 16)
    np.testing.assert_array_equal(all_of(reader)[:, 0, 0], planes)
    reader.close()


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({256: (4, [8]), 257: (4, [32]), 278: (4, [32])}, "another image"),
        ({339: (3, [2])}, "another image"),
        ({262: (3, [0])}, "another reader's"),
        ({317: (3, [2])}, "another reader's"),
        ({33629: (4, [1])}, "another reader's"),
        ({257: (4, [32])}, "damaged"),
    ],
)
def test_a_page_of_a_stack_that_differs(
    tmp_path: Path, change: dict[int, tuple[int, list[int]]], outcome: str
) -> None:
    planes = numbered((40, 16, 16), "u1")
    pages = [page(16, 16, [plane.tobytes()]) for plane in planes]
    pages[30].tags |= change
    path = saved(tmp_path, build(pages), "a.tif")
    errors = {"another reader's": Unsupported, "damaged": UnreadableFile}
    if outcome in errors:
        with pytest.raises(errors[outcome]):
            open_ours(path)
        return
    reader = open_ours(path)
    assert len(reader.images) == 40
    np.testing.assert_array_equal(all_of(reader, 30).view("u1").ravel(), planes[30].ravel())
    reader.close()
