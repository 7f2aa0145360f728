"""DICOM that Bio-Formats misreads: right pixels, or an error where that is unsure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jpype", reason="JPype is not installed")
pytest.importorskip("imagecodecs")

import imagecodecs

from bfbridge import BioReader
from bfbridge.errors import LimitExceeded, ReadFailed, UnreadableFile
from bfbridge.limits import Limits
from bfbridge.storage.source import as_source
from bfbridge_bioformats.files.dicom import corrected
from tests.support.dicoms import (
    BIG_ENDIAN,
    EXPLICIT,
    JPEG,
    RUN_LENGTHS,
    dicom,
    plain_dicom,
    run_lengths,
)

pytestmark = pytest.mark.java

RNG = np.random.default_rng(39)
SHAPE = (40, 56, 3)


def lossless(count: int, samples: int = 3) -> tuple[list[np.ndarray], list[bytes]]:
    """Frames, and what they are packed as."""
    # No extreme values, and no colour transform: Java's decoder has them wrong.
    frames = [RNG.integers(60, 190, (40, 56, samples)).astype(np.uint8) for _ in range(count)]
    packed = [
        imagecodecs.jpeg2k_encode(frame.squeeze(), level=0, codecformat="j2k", mct=False)
        for frame in frames
    ]
    return frames, packed


def planes(target: object, name: str | None = None) -> np.ndarray:
    """All planes as (planes, Y, X, samples)."""
    with BioReader(target, name=name) as br:
        pixels = br.read(keepdims=True)
        assert br.backend == "bioformats"
    return pixels.transpose(2, 4, 0, 1, 3).reshape(-1, *pixels.shape[:2], pixels.shape[3])


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("table", [False, True])
def test_one_frame(tmp_path: Path, table: bool, in_memory: bool) -> None:
    frames, packed = lossless(1)
    assert len(packed[0]) > 3000
    data = dicom(packed, SHAPE, cuts=[(1000, 1002, 2500)], table=table)
    path = tmp_path / "a.dcm"
    path.write_bytes(data)
    found = planes(data, "a.dcm") if in_memory else planes(path)
    np.testing.assert_array_equal(found, frames)


@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_several_frames(tmp_path: Path, samples: int, table: bool) -> None:
    frames, packed = lossless(4, samples)
    cuts = [(1000,), (), (2, 4, 1500), (700, 900)]
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(packed, (40, 56, samples), cuts=cuts, table=table))
    np.testing.assert_array_equal(planes(path), frames)
    whole = tmp_path / "b" / "a.dcm"
    whole.parent.mkdir()
    whole.write_bytes(dicom(packed, (40, 56, samples)))
    np.testing.assert_array_equal(planes(whole), frames)
    with BioReader(path) as one, BioReader(whole) as other:
        assert (one.sizes, one.dtype, one.used_files) == (other.sizes, other.dtype, [str(path)])
        np.testing.assert_array_equal(one[5:30, 7:50], other[5:30, 7:50])


def test_jpeg(tmp_path: Path) -> None:
    smooth = [
        np.kron(RNG.integers(0, 256, (5, 7)), np.ones((8, 8))).astype(np.uint8) for _ in "123"
    ]
    packed = [imagecodecs.jpeg8_encode(frame, level=97) for frame in smooth]
    path = tmp_path / "a.dcm"
    cuts = [(300, 400), (500,), ()]
    path.write_bytes(dicom(packed, (40, 56, 1), syntax=JPEG, cuts=cuts))
    truth = [imagecodecs.jpeg8_decode(frame) for frame in packed]
    assert np.abs(planes(path)[..., 0].astype(int) - truth).max() <= 2


def test_other_files_of_the_series(tmp_path: Path) -> None:
    frames, packed = lossless(3, 1)
    for number, frame in enumerate(packed):
        # The one that is opened is not cut.
        cuts = [(500, 1000)] if number else ()
        data = dicom([frame], (40, 56, 1), cuts=cuts, instance=number + 1)
        (tmp_path / f"{number}.dcm").write_bytes(data)
    found = planes(tmp_path / "0.dcm")
    assert len(found) == 3
    np.testing.assert_array_equal(found, frames)


def test_in_a_worker_process(tmp_path: Path) -> None:
    frames, packed = lossless(2)
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(packed, SHAPE, cuts=[(1000,), (500,)]))
    with BioReader(path, isolated=True) as br:
        np.testing.assert_array_equal(br.read(keepdims=True).transpose(2, 4, 0, 1, 3)[:, 0], frames)


def test_fragments_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    _, packed = lossless(2)
    # The second stream has no mark of its beginning.
    broken = [packed[0], b"\0\0" + packed[1]]
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(broken, SHAPE, cuts=[(1000,), (500,)]))
    with pytest.raises(UnreadableFile, match="2 frames have 4 fragments") as caught:
        BioReader(path).close()
    assert "a.dcm" in str(caught.value)
    path.write_bytes(dicom(packed, SHAPE, cuts=[(1000,), (500,)], declared=9))
    with pytest.raises(UnreadableFile, match="9 frames, and only 4 are present"):
        BioReader(path).close()


def test_the_joined_file_is_that_of_whole_frames() -> None:
    packed = [b"\xff\xd8\xff" + RNG.bytes(n) for n in (3001, 2000, 999)]
    wanted = dicom(packed, SHAPE, syntax=JPEG)
    for table in (False, True):
        data = dicom(packed, SHAPE, syntax=JPEG, cuts=[(1000,), (2, 8), ()], table=table)
        access = as_source(data).open()
        whole = corrected(access, "a.dcm", Limits())
        assert whole is not None
        assert whole.size == len(wanted)
        assert whole.read_at(0, whole.size) == wanted
        for _ in range(200):
            start = int(RNG.integers(0, len(wanted)))
            length = int(RNG.integers(0, 3000))
            assert whole.read_at(start, length) == wanted[start : start + length]


def test_other_files_are_left_alone() -> None:
    packed = [b"\xff\xd8\xff" + RNG.bytes(n) for n in (3001, 2000)]
    plain = plain_dicom(RNG.integers(0, 255, (2, 40, 56, 3)).astype(np.uint8))
    for data in (dicom(packed, SHAPE, syntax=JPEG), plain, b"no DICOM", bytes(5000)):
        access = as_source(data).open()
        assert corrected(access, "a.dcm", Limits()) is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32"])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("count", [1, 3])
def test_run_lengths(count: int, samples: int, dtype: str) -> None:
    limits = np.iinfo(dtype)
    frames = RNG.integers(limits.min, limits.max, (count, 40, 56, samples), endpoint=True)
    frames = frames.astype(dtype)
    frames[:, :3] = 0  # segments that begin with zeros
    frames[:, 10:30, 7:50] = 77
    data = dicom(
        [run_lengths(frame) for frame in frames], (40, 56, samples), syntax=RUN_LENGTHS,
        bits=8 * frames.itemsize, signed=frames.dtype.kind == "i",
    )  # fmt: skip
    with BioReader(data, name="a.dcm") as br:
        assert br.dtype == dtype
        assert br.samples_per_pixel == samples
    np.testing.assert_array_equal(planes(data, "a.dcm"), frames)


def test_damaged_run_lengths_are_an_error() -> None:
    frame = RNG.integers(0, 256, (40, 56, 1)).astype(np.uint8)
    packed = run_lengths(frame)
    for wrong in (packed[:-600], b"\x07" + packed[1:], packed[:64]):
        data = dicom([wrong], (40, 56, 1), syntax=RUN_LENGTHS)
        with pytest.raises(ReadFailed, match="a.dcm"), BioReader(data, name="a.dcm") as br:
            br[:]
    two = dicom([packed], (40, 56, 1), syntax=RUN_LENGTHS, cuts=[(500,)])
    with pytest.raises(UnreadableFile, match="invalid for run-length"):
        BioReader(two, name="a.dcm").close()


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", ["OW", "OB"])
def test_big_endian_words(kind: str, dtype: str) -> None:
    if dtype == "uint16" and kind == "OB":
        pytest.skip("there are no such files")
    frames = RNG.integers(0, 256, (2, 41, 57, 3)).astype(dtype)
    data = plain_dicom(frames, syntax=BIG_ENDIAN, kind=kind)
    np.testing.assert_array_equal(planes(data, "a.dcm"), frames)


def test_the_sign_of_samples_with_spare_bits(tmp_path: Path) -> None:
    truth = RNG.integers(-4096, 4096, (40, 56, 1)).astype(np.int16)
    # As some writers pack them: 13 bits, which the stream calls unsigned.
    stored = (truth & 0x1FFF).astype(np.uint16)
    stream = imagecodecs.jpeg2k_encode(stored[..., 0], level=0, codecformat="j2k", bitspersample=13)
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom([stream], (40, 56, 1), bits=16, stored=13, signed=True))
    np.testing.assert_array_equal(planes(path)[0], truth)


def test_pixels_that_look_like_an_item_are_refused() -> None:
    frames = RNG.integers(0, 1000, (4, 600, 700, 1)).astype(np.int16)
    np.testing.assert_array_equal(planes(plain_dicom(frames), "a.dcm"), frames)
    # Bio-Formats takes the tag of the pixels for a length, 0x107FE0.
    frames.reshape(-1)[(0x107FE0 - 8) // 2] = -2
    with pytest.raises(UnreadableFile, match="the value that marks an item"):
        BioReader(plain_dicom(frames, syntax=EXPLICIT), name="a.dcm").close()


def test_frames_larger_than_the_limits_are_refused() -> None:
    _, packed = lossless(1)
    data = dicom(packed, SHAPE)
    with pytest.raises(LimitExceeded, match="decoded size of a frame"):
        BioReader(data, name="a.dcm", limits=Limits(chunk_bytes=1000)).close()
