"""`validate` of TIFF files: each part of the structure with one fault."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge.backend import OpenOptions
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source
from bfbridge_ometiff.validation import validate
from tests.support.tiffs import Page, build, ome_xml, page, saved

ONE = (1, 1, 1, 16, 16)
PIXELS = np.arange(256, dtype=np.uint8).tobytes()


def found(path: Path, **limits: int) -> list[tuple[str, str, str]]:
    """Code, place in the file and message of each finding."""
    options = OpenOptions(limits=Limits(**limits)) if limits else OpenOptions()
    listed = list(validate(as_source(path), options))
    return [(f.code, f.where.removeprefix(str(path)).lstrip(": "), f.message) for f in listed]


def described(**changes: Any) -> Page:
    """The first directory of an image of 16 x 16 pixels."""
    shape = changes.pop("shape", ONE)
    options: dict[str, Any] = {"description": ome_xml(shape, "u1"), "segments": [PIXELS]}
    options |= changes
    return page(16, 16, options.pop("segments"), **options)


def made(tmp_path: Path, *pages: Page) -> Path:
    return saved(tmp_path, build(pages or [described()]))


def entries(data: bytes) -> int:
    """Position of the first entry of the first directory."""
    (start,) = struct.unpack_from("<I", data, 4)
    return int(start) + 2


def test_a_file_without_faults(tmp_path: Path) -> None:
    below = page(8, 8, [bytes(64)], more={254: (4, [1])})
    assert found(made(tmp_path, described(below=[below]))) == []


def test_tags_out_of_order_and_twice(tmp_path: Path) -> None:
    data = bytearray(made(tmp_path).read_bytes())
    start = entries(data)
    first, second = data[start : start + 12], data[start + 12 : start + 24]
    data[start : start + 24] = second + first
    ((code, where, message),) = found(saved(tmp_path, data))
    assert (code, where) == ("tiff-tag-order", "directory 0")
    assert message.startswith("its tags are not in ascending order, as TIFF 6.0 requires")
    # The second of two equal tags replaces ImageLength, so that the image is square still.
    data[start : start + 24] = first + first
    twice = found(saved(tmp_path, data))
    assert ("tiff-tag-twice", "directory 0") in [each[:2] for each in twice]
    assert any(message.startswith("tags 256 occur more than once") for _, _, message in twice)


def test_files_that_this_backend_does_not_open(tmp_path: Path) -> None:
    """Their directories are checked nonetheless, if there are any."""
    first, second, *others = found(made(tmp_path, described(compression=32_809)))
    assert first[:2] == ("tiff-other-reader", "")
    assert first[2].startswith("it is read through Bio-Formats: ")
    assert first[2].endswith("; its planes are not checked here")
    assert second[:2] == ("tiff-unchecked", "directory 0")
    assert second[2].startswith("its segments are not checked: ")
    assert others == []
    ((code, where, message),) = found(saved(tmp_path, b"not a TIFF at all"))
    assert (code, where) == ("tiff-open", "")
    assert message == "this is not a TIFF file; its first bytes are b'not '."
    listed = found(saved(tmp_path, b"II*\0"))
    assert [code for code, _, _ in listed] == ["tiff-open", "tiff-header"]


def test_directories_that_are_not_in_the_file(tmp_path: Path) -> None:
    data = bytearray(made(tmp_path).read_bytes())
    data[-4:] = struct.pack("<I", len(data) + 1000)
    ((code, where, message),) = found(saved(tmp_path, data))
    assert (code, where) == ("tiff-directories", "")
    assert message.startswith(f"the directory at byte {len(data) + 1000} is at bytes")
    listed = found(saved(tmp_path, b"II*\0\xff\xff\xff\x7f"))
    assert [code for code, _, _ in listed] == ["tiff-open", "tiff-directories"]


def test_tags_beyond_a_limit(tmp_path: Path) -> None:
    path = made(tmp_path, described(segments=[PIXELS[:16]] * 16, rows=1))
    listed = {code: (where, message) for code, where, message in found(path, tag_bytes=30)}
    assert list(listed) == ["tiff-open", "tiff-limit"]
    assert listed["tiff-limit"][0] == "directory 0"
    assert listed["tiff-limit"][1].startswith("tag 273 length in bytes is 64, above the limit of 3")


def test_segments_outside_of_the_file_and_in_its_header(tmp_path: Path) -> None:
    strips = [PIXELS[:64]] * 4
    offsets = {273: (4, [4, 100_000, 200, 10])}
    listed = found(made(tmp_path, described(segments=strips, rows=4, more=offsets)))
    places = {where: message for code, where, message in listed if code == "tiff-offsets"}
    assert list(places) == ["directory 0, strip 1", "directory 0, strip 0"]
    first, second = places.values()
    assert first.startswith("its 64 bytes at 100,000 are outside the file of ")
    assert second == "its 64 bytes at 4 overlap the header of the file"
    listed = found(made(tmp_path, described(more={273: (4, [1 << 31]), 279: (4, [1 << 31])})))
    assert ("tiff-offsets", "directory 0, strip 0") in [each[:2] for each in listed]


def test_segments_without_bytes(tmp_path: Path) -> None:
    strips = [PIXELS[:64], b"", b"", PIXELS[:64]]
    ((code, where, message),) = found(made(tmp_path, described(segments=strips, rows=4)))
    assert (code, where) == ("tiff-empty", "directory 0")
    assert message.startswith("2 of its 4 strips have no bytes: bfbridge and libtiff read them as")


@pytest.mark.parametrize("planar", [1, 2])
def test_uncompressed_segments_that_are_too_short(tmp_path: Path, planar: int) -> None:
    count = 3 if planar == 2 else 1
    length = 768 // count
    strips = [bytes(length)] * (count - 1) + [bytes(length - 5)]
    first = described(
        description=ome_xml((1, 3, 1, 16, 16), "u1", samples=3), segments=strips, samples=3,
        photometric=2, planar=planar,
    )  # fmt: skip
    ((code, where, message),) = found(made(tmp_path, first))
    assert (code, where) == ("tiff-lengths", f"directory 0, strip {count - 1}")
    assert message == f"it has {length - 5} bytes, but its pixels need {length}"


def test_segments_that_share_bytes(tmp_path: Path) -> None:
    # The same segment twice is no fault.
    strips = {273: (4, [8, 8, 40, 200]), 279: (4, [64] * 4)}
    first = described(segments=[PIXELS], rows=4, more=strips)
    ((code, where, message),) = found(made(tmp_path, first))
    assert (code, where) == ("tiff-overlap", "")
    assert message.startswith("1 tiles or strips share a part of their bytes with another one; the")
    assert "first at byte 40:" in message


# ---- lower resolutions


@pytest.mark.parametrize(
    ("below", "code", "message"),
    [
        (
            page(8, 8, [bytes(64)]),
            "tiff-pyramid", "NewSubfileType is not 1 (reduced resolution), as OME-TIFF requires",
        ),
        (
            page(8, 8, [bytes(128)], bits=16, more={254: (4, [1])}),
            "tiff-pyramid", "its pixels are 1 x uint16, those of the full size 1 x uint8",
        ),
        (
            page(16, 16, [bytes(256)], more={254: (4, [1])}),
            "tiff-pyramid", "its size 16 x 16 is not below that of the level before it, 16 x 16",
        ),
        (
            page(8, 2, [bytes(16)], more={254: (4, [1])}),
            "tiff-pyramid",
            ("its size 8 x 2 has another ratio of sides than the full size, 16 x 16: it is "
            "displayed distorted"),
        ),
        (
            page(8, 8, [bytes(64)], compression=32_809, more={254: (4, [1])}),
            "tiff-unchecked", "its segments are not checked",
        ),
    ],
)  # fmt: skip
def test_lower_resolutions(tmp_path: Path, below: Page, code: str, message: str) -> None:
    listed = found(made(tmp_path, described(below=[below])))
    matching = [each for each in listed if each[0] == code]
    assert [where for _, where, _ in matching] == ["directory 0, lower resolution 0"]
    assert matching[0][2].startswith(message)


def test_lower_resolutions_that_cannot_be_read(tmp_path: Path) -> None:
    first = described(more={330: (4, [99_999])})
    listed = found(made(tmp_path, first))
    assert ("tiff-pyramid", "directory 0, lower resolution 0") in [each[:2] for each in listed]


# ---- planes


def second(width: int = 16, **options: Any) -> Page:
    return page(width, 16, [bytes(16 * width)], **options)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            second(8),
            (
                "level 0 in directory 1 has 8 x 16 pixels of 1 x uint8, where the image has "
                "16 x 16 of 1 x uint8"
            ),
        ),
        (
            second(below=[page(8, 8, [bytes(64)], more={254: (4, [1])})]),
            "directory 1 has 1 lower resolutions, the image 0",
        ),
    ],
)
def test_planes_that_differ_from_their_image(tmp_path: Path, other: Page, message: str) -> None:
    path = made(tmp_path, described(shape=(2, 1, 1, 16, 16)), other)
    ((code, where, text),) = found(path)
    assert (code, where, text) == ("tiff-plane", "image 0, plane z 0, c 0, t 1", message)


def test_planes_without_a_directory(tmp_path: Path) -> None:
    # Two files of a set with the first and the last of three planes.
    ids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{n}" for n in range(2)]
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{n}.ome.tif">{ids[n]}'
        "</UUID></TiffData>"
        for n, z in enumerate((0, 2))
    )
    for n in range(2):
        xml = ome_xml((1, 1, 3, 16, 16), "u1", tiff_data=data, uuid=ids[n])
        saved(tmp_path, build([described(description=xml)]), f"{n}.ome.tif")
    ((code, where, message),) = found(tmp_path / "0.ome.tif")
    assert (code, where) == ("tiff-absent", "image 0")
    assert message == "no file contains 1 of its 3 planes: they are read as zeros"
    xml = ome_xml((1, 1, 2, 16, 16), "u1", tiff_data='<TiffData IFD="0" PlaneCount="2"/>')
    ((code, where, message),) = found(made(tmp_path, described(description=xml)))
    assert (code, where) == ("tiff-plane", "image 0, plane z 1, c 0, t 0")
    assert message.startswith("there is no directory 1, which its metadata names")
