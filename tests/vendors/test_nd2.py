"""ND2 files: loops in any order, both ways of storing, and what is left to Bio-Formats."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader
from bfbridge.backend import Region
from bfbridge.errors import Closed, LimitExceeded, ReadFailed, UnreadableFile, Unsupported
from bfbridge.limits import Limits
from bfbridge_bioformats import BioFormatsReader
from bfbridge_nd2 import Nd2Reader
from tests.support.agreement import all_of, differences, document_entries, opened
from tests.support.counting import Counting
from tests.support.nd2s import (
    U32,
    Nd2Channel,
    Nd2Loop,
    Nd2Parts,
    lite,
    nd2_bytes,
    nd2_parts,
    write_nd2,
)

Array = np.ndarray[Any, Any]
CHANNELS = (Nd2Channel(), Nd2Channel("GFP", 0x00FF00, 525.0, 20.0), Nd2Channel("none", 0))
# What Nikon's library knows and ND2Reader does not tell.
MORE = ("AcquisitionDate", "excitation", "ExcitationWavelength", "PinholeSize", "StageLabel")


def noise(shape: Sequence[int], dtype: str = "u2", seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def frames_of(
    loops: Sequence[Nd2Loop], channels: int = 2, dtype: str = "u2", size: tuple[int, int] = (91, 96)
) -> Array:
    count = int(np.prod([loop.length for loop in loops]))
    return noise((count, *size, channels), dtype)


@contextmanager
def library(path: Path) -> Iterator[Any]:
    nd2 = pytest.importorskip("nd2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with nd2.ND2File(path) as file:
            yield file


@pytest.mark.java
@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize(("dtype", "channels"), [("u1", 1), ("u2", 1), ("u2", 3), ("f4", 2)])
def test_types(dtype: str, channels: int, compress: bool, tmp_path: Path) -> None:
    loops = [Nd2Loop("T", 2), Nd2Loop("Z", 3)]
    frames = frames_of(loops, channels, dtype)
    path = write_nd2(tmp_path / "a.nd2", frames, loops, CHANNELS[:channels], compress=compress)
    with opened(Nd2Reader, path) as ours:
        wanted = frames.reshape(2, 3, 91, 96, channels).transpose(0, 4, 1, 2, 3)
        np.testing.assert_array_equal(all_of(ours), wanted)
        # ND2Reader takes the time of another frame where there are several channels.
        but = ("DeltaT",) if channels > 1 else ()
        with opened(BioFormatsReader, path) as theirs:
            assert differences(ours, theirs, more=MORE, but=but) == []


@pytest.mark.parametrize("axes", ["TPZ", "PTZ", "ZT", "TZ", "PZT", "Z", "P", ""])
def test_loops_in_any_order_as_nikons_library_has_them(axes: str, tmp_path: Path) -> None:
    lengths = {"T": 2, "P": 3, "Z": 4}
    loops = [Nd2Loop(axis, lengths[axis]) for axis in axes]
    path = write_nd2(tmp_path / "a.nd2", frames_of(loops), loops, CHANNELS[:2])
    with library(path) as file, opened(Nd2Reader, path) as ours:
        theirs = file.asarray()
        names = [name for name, length in file.sizes.items() if length > 1]
        theirs = theirs.reshape([file.sizes[name] for name in names])
        missing = [name for name in "PTCZYX" if name not in names]
        theirs = theirs[(None,) * len(missing)].transpose(
            [missing.index(n) if n in missing else len(missing) + names.index(n) for n in "PTCZYX"]
        )
        assert len(ours.images) == len(theirs)
        for position, pixels in enumerate(theirs):
            np.testing.assert_array_equal(all_of(ours, position), pixels)


@pytest.mark.java
@pytest.mark.parametrize("axes", ["TPZ", "PZ", "TP", "TZ"])
def test_positions_are_images_as_in_bioformats(axes: str, tmp_path: Path) -> None:
    lengths = {"T": 2, "P": 3, "Z": 4}
    loops = [Nd2Loop(axis, lengths[axis]) for axis in axes]
    path = write_nd2(tmp_path / "a.nd2", frames_of(loops, 1), loops, CHANNELS[:1])
    with opened(Nd2Reader, path) as ours, opened(BioFormatsReader, path) as theirs:
        assert differences(ours, theirs, more=MORE) == []


def test_phases_of_time_follow_one_another(tmp_path: Path) -> None:
    loops = [Nd2Loop("N", 5, phases=[2, 3])]
    frames = frames_of(loops, 1)
    path = write_nd2(tmp_path / "a.nd2", frames, loops, CHANNELS[:1])
    with library(path) as file, opened(Nd2Reader, path) as ours:
        assert ours.images[0].levels[0].shape == (5, 1, 1, 91, 96)
        np.testing.assert_array_equal(all_of(ours)[:, 0, 0], file.asarray())


def test_rows_are_filled_up_to_four_bytes() -> None:
    frames = noise((2, 9, 13, 3), "u1")
    with opened(Nd2Reader, nd2_bytes(frames, [Nd2Loop("Z", 2)], CHANNELS)) as ours:
        np.testing.assert_array_equal(all_of(ours)[0], frames.transpose(3, 0, 1, 2))
        out = np.empty((1, 2, 1, 4, 5), np.uint8)
        ours.read(Region(0, 0, (0, 1, 1, 3, 6), (1, 3, 2, 7, 11)), out)
        np.testing.assert_array_equal(out[0, :, 0], frames[1, 3:7, 6:11, 1:].transpose(2, 0, 1))


def test_metadata(tmp_path: Path) -> None:
    loops = [Nd2Loop("P", 2, points=[("left", 1.0, 2.0, 0.0), ("right", 3.0, 4.0, 0.0)])]
    path = write_nd2(tmp_path / "a.nd2", frames_of(loops), loops, CHANNELS[:2])
    with BioReader(path) as br:
        assert br.backend == "nd2"
        assert br.channel_names == ["DAPI", "GFP"]
        assert br.channels[0].color == (0, 0, 255, 255)
        assert br.channels[1].emission == (525.0, "nm")
        assert br.physical_pixel_size.x == (0.25, "µm")
        assert [view.name for view in br.series] == ["a.nd2 (series 1)", "a.nd2 (series 2)"]
        found = document_entries(br.ome_xml)
        assert found["/Image[1]/StageLabel[0]@Name"] == "right"
        assert found["/Image[1]/Pixels[0]/Plane[1]@ExposureTime"] == "0.02"
        assert found["/Image[1]/Pixels[0]/Plane[0]@PositionX"] == "-80.5"
        # ome_types has times without a zone; in a document they are UTC.
        taken = br.metadata.images[0].acquisition_date
        assert str(taken) == "2014-06-18 13:55:23.392000"
        assert br.original_metadata["Numerical Aperture"] == "0.95"
        assert br.original_metadata["uiWidth"] == 96


@pytest.mark.java
def test_colours_of_channels_are_those_of_bioformats(tmp_path: Path) -> None:
    for colors in ([0xFF0000, 0x1020, 0], [0, 0xFFFFFF, 0]):
        for dtype in ("u1", "u2"):
            channels = [Nd2Channel(f"c{n}", color) for n, color in enumerate(colors)]
            path = write_nd2(tmp_path / "a.nd2", frames_of([], 3, dtype), [], channels)
            with opened(Nd2Reader, path) as ours, opened(BioFormatsReader, path) as theirs:
                assert differences(ours, theirs, more=MORE) == []


def test_opening_reads_no_pixels_and_crops_their_rows_only() -> None:
    loops = [Nd2Loop("T", 4)]
    frames = frames_of(loops, size=(300, 400))
    file = Counting(nd2_bytes(frames, loops, CHANNELS[:2]))
    with opened(Nd2Reader, file) as ours:
        assert file.count < 20_000
        file.count = 0
        out = np.empty((1, 2, 1, 10, 20), np.uint16)
        ours.read(Region(0, 0, (2, 0, 0, 50, 60), (3, 2, 1, 60, 80)), out)
        np.testing.assert_array_equal(out[0, :, 0], frames[2, 50:60, 60:80].transpose(2, 0, 1))
        assert file.count <= 10 * 1600 + 300


def parts(channels: int = 2, **more: Any) -> Nd2Parts:
    loops = [Nd2Loop("Z", 3)]
    return nd2_parts(frames_of(loops, channels, size=(8, 9)), loops, CHANNELS[:channels], **more)


def without(chunk: str) -> bytes:
    made = parts()
    made.remove(chunk)
    return made.bytes()


def with_level(chunk: str, name: str, value: Any) -> bytes:
    made = parts()
    made.replace(chunk, lite(name, value))
    return made.bytes()


def experiment(**more: Any) -> bytes:
    return with_level("ImageMetadataLV!", "SLxExperiment", Nd2Loop("Z", 3).level(None) | more)


LEFT_ALONE: dict[str, tuple[Callable[[], bytes], str]] = {
    "JPEG 2000": (lambda: b"\0\0\0\x0cjP  ".ljust(200, b"\0"), "JPEG 2000"),
    "version 2": (lambda: parts().bytes("Ver2.1"), "before version 3"),
    "no version": (lambda: parts().bytes("2.1"), "without its version"),
    "no attributes": (lambda: without("ImageAttributesLV!"), "without its attributes"),
    "no picture": (lambda: without("ImageMetadataSeqLV|0!"), "without its attributes"),
    "XML": (lambda: with_xml("ImageMetadataLV!"), "metadata as XML"),
    "lossy": (lambda: parts(attributes={"eCompression": 1}).bytes(), "compression 1"),
    "bits": (lambda: parts(attributes={"uiBpcInMemory": U32(12)}).bytes(), "12 bits per pixel"),
    "tiles": (lambda: parts(attributes={"uiTileWidth": U32(4)}).bytes(), "frames in tiles"),
    "rows": (lambda: parts(attributes={"uiWidthBytes": U32(20)}).bytes(), "9 x 8.*20 bytes"),
    "significant": (
        lambda: parts(attributes={"uiBpcSignificant": U32(17)}).bytes(), "17 significant bits",
    ),
    "components": (
        lambda: nd2_bytes(noise((1, 8, 9, 3)), [], CHANNELS[:2]), "3 components in 2 channels",
    ),
    "count": (
        lambda: parts(attributes={"uiSequenceCount": U32(4)}).bytes(),
        "4 frames where the experiment has 3",
    ),
    "no width": (lambda: parts(attributes={"uiWidth": "9"}).bytes(), "without a value of uiWidth"),
    "colours": (
        lambda: parts(1, picture={"sPicturePlanes": {
            "uiCount": U32(1), "sPlaneNew": {"a0": {"uiCompCount": U32(3)}}}}).bytes(),
        "in colours",
    ),
    "no channels": (lambda: parts(picture={"sPicturePlanes": {}}).bytes(), "without channels"),
    "loop": (lambda: experiment(eType=U32(7)), "a loop of type 7"),
    "no runs": (
        lambda: experiment(uLoopPars={"uiCount": U32(0)}), "0 runs of a loop over Z",
    ),
    "two parts": (
        lambda: experiment(ppNextLevelEx=[{"eType": U32(1)}, {"eType": U32(1)}]),
        "several parts",
    ),
    "twice Z": (
        lambda: experiment(ppNextLevelEx=[Nd2Loop("Z", 3).level(None)]), "3 runs of a loop over Z",
    ),
    "position left out": (
        lambda: experiment(eType=U32(2), uLoopPars={"Points": [{}, {}, {}]}, pItemValid=b"\1\0\1"),
        "positions that were left out",
    ),
    "unknown value": (lambda: with_data("ImageMetadataLV!", b"\x0c\x01a\0"), "type 12"),
}  # fmt: skip


def with_xml(chunk: str) -> bytes:
    return with_data(chunk, b"<?xml version='1.0'?><variant/>")


def with_data(chunk: str, data: bytes) -> bytes:
    made = parts()
    made.replace(chunk, data)
    return made.bytes()


@pytest.mark.parametrize("make", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_is_left_to_bioformats(make: tuple[Callable[[], bytes], str]) -> None:
    data, reason = make
    with pytest.raises(Unsupported, match=reason), opened(Nd2Reader, data()):
        pass


@pytest.mark.java
def test_options_of_bioformats_choose_bioformats(tmp_path: Path) -> None:
    path = write_nd2(tmp_path / "a.nd2", frames_of([]), [], CHANNELS[:2])
    with BioReader(path, options={"nativend2.chunkmap": "false"}) as br:
        assert br.backend == "bioformats"
        assert "the nd2 backend has no option named nativend2.chunkmap" in br.backend_reason


def test_a_file_without_its_map_is_damaged() -> None:
    data = parts().bytes()
    for share in (0.1, 0.5, 0.9, 0.999):
        with pytest.raises(UnreadableFile, match="map of chunks is missing.*backend='bioformats'"):
            opened(Nd2Reader, data[: int(len(data) * share)]).__enter__()


@pytest.mark.parametrize("compress", [False, True])
def test_damaged_frames_are_named(compress: bool) -> None:
    made = parts(compress=compress)
    short = struct.pack("<d", 0.0) + (zlib.compress(bytes(20)) if compress else bytes(20))
    made.replace("ImageDataSeq|1!", short)
    with opened(Nd2Reader, made.bytes()) as ours:
        with pytest.raises(ReadFailed, match=r"frame 1 \(image 0, z 1, t 0\) has 20 bytes"):
            all_of(ours)
        out = np.empty((1, 2, 1, 8, 9), np.uint16)
        ours.read(Region(0, 0, (0, 0, 2, 0, 0), (1, 2, 3, 8, 9)), out)


def test_spoiled_streams_are_errors() -> None:
    made = parts(compress=True)
    made.replace("ImageDataSeq|1!", bytes(8) + b"\xff" * 40)
    with opened(Nd2Reader, made.bytes()) as ours, pytest.raises(ReadFailed, match="is damaged"):
        all_of(ours)


def test_a_chunk_that_is_not_where_the_map_says() -> None:
    made = parts()
    data = bytearray(made.bytes())
    at = data.rfind(b"ImageMetadataSeqLV|0!") + len(b"ImageMetadataSeqLV|0!")
    data[at : at + 8] = struct.pack("<Q", 4096)
    with pytest.raises(UnreadableFile, match=r"chunk 'ImageMetadataSeqLV\|0!' is not where"):
        opened(Nd2Reader, bytes(data)).__enter__()
    data[at : at + 8] = struct.pack("<Q", 1 << 60)
    with pytest.raises(UnreadableFile, match="but the file has"):
        opened(Nd2Reader, bytes(data)).__enter__()


def test_metadata_that_end_early_or_nest_too_deeply() -> None:
    whole = lite("SLxExperiment", Nd2Loop("Z", 3).level(None))
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(UnreadableFile, match="metadata are damaged at byte"):
            opened(Nd2Reader, with_data("ImageMetadataLV!", whole[: int(len(whole) * share)])
                   ).__enter__()  # fmt: skip
    deep: Any = 1.0
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(LimitExceeded, match="nesting depth"):
        opened(Nd2Reader, with_level("ImageMetadataLV!", "SLxExperiment", deep)).__enter__()


def test_compressed_metadata() -> None:
    whole = lite("SLxExperiment", Nd2Loop("Z", 3).level(None))
    packed = bytes([76]) + bytes(11) + zlib.compress(whole)
    with opened(Nd2Reader, with_data("ImageMetadataLV!", packed)) as ours:
        assert ours.images[0].levels[0].shape[2] == 3
    bomb = bytes([76]) + bytes(11) + zlib.compress(bytes(1 << 22))
    with pytest.raises(LimitExceeded, match="length of the metadata"):
        opened(
            Nd2Reader, with_data("ImageMetadataLV!", bomb), limits=Limits(xml_bytes=1 << 20)
        ).__enter__()
    with pytest.raises(UnreadableFile, match="cut short"):
        opened(Nd2Reader, with_data("ImageMetadataLV!", packed[:-9])).__enter__()


def test_limits() -> None:
    data = parts().bytes()
    for limits in (
        Limits(tag_bytes=50), Limits(directories=5), Limits(xml_depth=2), Limits(chunk_bytes=100),
    ):  # fmt: skip
        with pytest.raises(LimitExceeded):
            opened(Nd2Reader, data, limits=limits).__enter__()


def test_closed() -> None:
    with opened(Nd2Reader, parts().bytes()) as ours:
        ours.close()
        with pytest.raises(Closed):
            all_of(ours)
        with pytest.raises(Closed):
            ours.ome_xml()
