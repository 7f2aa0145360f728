"""Time points that are added to a finished OME-TIFF: by value, against tifffile and Bio-Formats."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import bfbridge_ometiff.append as append
from bfbridge import BioReader, BioWriter
from bfbridge.curation import validate
from bfbridge.errors import BadArgument, BfbridgeError, TargetBusy, Unsupported, WriteFailed
from bfbridge.tiff.directories import TiffFile
from tests.support.faults import leftovers

Array = np.ndarray[Any, Any]
SHAPE = (50, 70, 2, 3, 5)  # Y, X, Z, C, T
DATA = np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE)


def write(path: Path, data: Array = DATA[..., :2], **options: Any) -> Path:
    with BioWriter(path, image=data, **{"tile": 32, **options}) as bw:
        bw[:] = data
    return path


def extend(path: Path, data: Array = DATA, first: int = 2, **options: Any) -> None:
    with BioWriter(path, append=True, T=data.shape[4], **options) as bw:
        assert bw.shape == data.shape
        bw[..., first:] = data[..., first:]


def by_tifffile(path: Path, level: int = 0) -> Array:
    """Pixels along Y, X, Z, C, T."""
    with tifffile.TiffFile(path) as tiff:
        series = tiff.series[0].levels[level]
        pixels, axes = series.asarray(), series.axes.replace("S", "C")
    assert series.is_multifile is False
    for axis in "YXZCT":
        if axis not in axes:
            pixels, axes = pixels[np.newaxis], axis + axes
    return pixels.transpose([axes.index(axis) for axis in "YXZCT"])


def check(path: Path, data: Array) -> None:
    """Compare all pixels, as read by bfbridge and tifffile."""
    with BioReader(path) as br:
        assert br.metadata.images[0].pixels.size_t == data.shape[4]
        np.testing.assert_array_equal(br.read(keepdims=True), data)
        if len(br.levels) > 1:
            fresh = path.with_name("fresh.ome.tif")
            write(fresh, data, overwrite=True, pyramid=len(br.levels) - 1)
            with BioReader(fresh) as other:
                for ours, expected in zip(br.levels, other.levels, strict=True):
                    np.testing.assert_array_equal(ours[:], expected[:])
            fresh.unlink()
    np.testing.assert_array_equal(by_tifffile(path), data)
    assert validate(path).errors == ()


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "options",
    [
        {"bigtiff": False},
        {"bigtiff": True, "pyramid": 2},
        {"compression": "zstd", "pyramid": (2, 4), "predictor": False},
        {"compression": "none", "bigtiff": True},
        {"compression": "lzw"},
    ],
)
def test_time_points_are_added_twice(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write(tmp_path / "a.ome.tif", **options)
    with BioReader(path) as br:
        assert br.T == 2
        before = br.metadata.uuid
    extend(path, DATA[..., :4])
    check(path, DATA[..., :4])
    extend(path, DATA, 4)
    check(path, DATA)
    with BioReader(path) as br:
        assert br.metadata.uuid != before
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff == options.get("bigtiff", False)
        assert len({page.hash for page in tiff.pages}) == 1
    assert leftovers(path) == []


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_other_pixels(tmp_path: Path, dtype: str) -> None:
    rgb = (np.arange(50 * 70 * 3 * 4) % 251).astype(dtype).reshape(50, 70, 1, 3, 4)
    path = tmp_path / "a.ome.tif"
    with BioWriter(path, image=rgb[..., :1], samples_per_pixel=3, tile=32) as bw:
        bw[:] = rgb[..., :1]
    extend(path, rgb, 1)
    check(path, rgb)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 4


def foreign(path: Path, axes: str, count: int, **options: Any) -> Path:
    """Write a file with tifffile, whose DimensionOrder is XY and then the axes from the last."""
    stored = DATA[..., :count].transpose(["YXZCT".index(axis) for axis in axes])
    metadata = {"axes": axes, "Description": 'a > "b"'}
    options = {"tile": (32, 32), "compression": "zlib", **options}
    tifffile.imwrite(path, stored, ome=True, metadata=metadata, photometric="minisblack", **options)
    return path


ORDERS = ["TCZYX", "TZCYX", "CTZYX", "CZTYX", "ZTCYX", "ZCTYX"]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("axes", ORDERS)
def test_every_dimension_order(tmp_path: Path, axes: str) -> None:
    path = foreign(tmp_path / "a.ome.tif", axes, 2)
    extend(path, DATA[..., :4])
    check(path, DATA[..., :4])
    extend(path, DATA, 4)
    check(path, DATA)
    with BioReader(path) as br:
        assert br.metadata.images[0].pixels.dimension_order.value == "XY" + axes[2::-1]
        assert br.metadata.images[0].description == 'a > "b"'


@pytest.mark.java
def test_bioformats_reads_the_same(tmp_path: Path) -> None:
    paths = [foreign(tmp_path / f"{axes}.ome.tif", axes, 2) for axes in ORDERS[::2]]
    paths.append(write(tmp_path / "a.ome.tif", pyramid=1))
    for path in paths:
        for first, count in ((2, 4), (4, 5)):
            extend(path, DATA[..., :count], first)
            with BioReader(path, backend="bioformats") as br:
                np.testing.assert_array_equal(br.read(keepdims=True), DATA[..., :count])
    for path in paths:
        leave_linked(path, 6)
        with BioReader(path, backend="bioformats") as br:
            np.testing.assert_array_equal(br.read(keepdims=True), DATA)


def leave_linked(path: Path, count: int) -> None:
    """Leave a file as a kill between the link and the header leaves it."""
    size = path.stat().st_size
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(append.Extension, "_restore", lambda self: None)
        patch.setattr(append.Extension, "_commit", lambda self, first: 1 / 0)
        with pytest.raises(ZeroDivisionError), BioWriter(path, append=True, T=count) as bw:
            bw[..., count - 1] = 7
    assert path.stat().st_size > size


def directories(path: Path) -> int:
    with tifffile.TiffFile(path) as tiff:
        return len(tiff.pages)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("axes", ["TCZYX", "ZTCYX"])
def test_directories_of_a_killed_writer(tmp_path: Path, axes: str) -> None:
    path = foreign(tmp_path / "a.ome.tif", axes, 2)
    old = DATA[..., :2]
    for number in (1, 2):
        leave_linked(path, 3)
        assert directories(path) == 12 + 6 * number
        check(path, old)
    extend(path, DATA[..., :4])
    assert directories(path) == 12 + 12 + 12
    check(path, DATA[..., :4])
    extend(path, DATA, 4)
    check(path, DATA)


def test_a_link_across_two_sectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append, "_SECTOR", 2)
    path = write(tmp_path / "a.ome.tif")
    old = path.read_bytes()
    extend(path, DATA[..., :4])
    check(path, DATA[..., :4])
    # Besides the header, no old byte has changed.
    assert path.read_bytes()[8 : len(old)] == old[8:]
    extend(path, DATA, 4)
    check(path, DATA)
    assert directories(path) == 30


def test_an_image_of_one_plane(tmp_path: Path) -> None:
    data = DATA[:, :, :1, :1]
    path = write(tmp_path / "a.ome.tif", data[..., :1], pyramid=1)
    extend(path, data[..., :2], 1)
    extend(path, data, 2)
    check(path, data)


def test_nothing_changes_before_close(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif")
    before = path.read_bytes()
    bw = BioWriter(path, append=True, T=3)
    bw[..., 2] = DATA[..., 2]
    with pytest.raises(TargetBusy):
        BioWriter(path, append=True, T=3)
    with pytest.raises(TargetBusy):
        BioWriter(path, overwrite=True, image=DATA)
    with pytest.raises(BfbridgeError, match="time points 0 to 1 are finished"):
        bw[..., 1] = 0
    # A file that grows while it is read is an error of its own.
    bw._file._background.wait()
    check(path, DATA[..., :2])
    bw.abort()
    assert path.read_bytes() == before

    def fail() -> None:
        with BioWriter(path, append=True, T=3) as bw:
            bw[..., 2] = 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_bytes() == before
    assert leftovers(path) == []


def test_gaps_have_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.ome.tif", pyramid=1)
    monkeypatch.chdir(tmp_path)
    with BioWriter("a.ome.tif", append=True, T=4) as bw:
        bw[:20, :20, 0, 0, 3] = 9
        monkeypatch.chdir(tmp_path.parent)
    expected = np.zeros_like(DATA[..., :4])
    expected[..., :2] = DATA[..., :2]
    expected[:20, :20, 0, 0, 3] = 9
    check(path, expected)


def test_other_metadata_are_kept(tmp_path: Path) -> None:
    note = "<!-- kept --><StructuredAnnotations><XMLAnnotation ID='Annotation:1'><Value>"
    note += "<OME xmlns=''><Image><Pixels SizeT='9'/></Image></OME></Value></XMLAnnotation>"
    note += "</StructuredAnnotations>"
    path = write(tmp_path / "a.ome.tif")
    xml = tifffile.tiffcomment(path).replace("</OME>", f"{note}</OME>")
    xml = re.sub(r"<TiffData (.*?)/>", r"<TiffData \1><!-- > --></TiffData>", xml)
    xml = xml.replace('Creator="bfbridge"', 'Creator="µ > SizeT"')
    tifffile.tiffcomment(path, xml.encode())
    extend(path)
    check(path, DATA)
    with BioReader(path) as br:
        assert br.ome_xml is not None
        found = br.ome_xml
    for old, new in (
        (r'UUID="[^"]*"', 'UUID=""'), ('SizeT="."', 'SizeT=""'), ("<TiffData.*>", "<TiffData/>"),
    ):  # fmt: skip
        xml, found = re.sub(old, new, xml, count=1), re.sub(old, new, found, count=1)
    assert found == xml


def refused(path: Path, match: str, kind: type[BfbridgeError] = Unsupported, t: int = 3) -> None:
    before = path.read_bytes()
    with pytest.raises(kind, match=match) as caught:
        BioWriter(path, append=True, T=t)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert leftovers(path) == []


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    refused(foreign(path, "TCZYX", 2, tile=None), "in strips.*bfbridge.convert")
    refused(foreign(path, "TCZYX", 2, byteorder=">"), "its byte order is not")
    write(path, DATA[..., :2].astype("u1"), compression="jpeg", overwrite=True)
    refused(path, "its compression is jpeg, of unknown quality")
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for _ in range(2):
            tiff.write(DATA[:, :, 0, 0], tile=(32, 32))
    refused(path, "it has 2 images, and one is required")
    refused(write(path, overwrite=True), "T=1, but the file has 2", BadArgument, t=1)
    refused(path, "pixels of ometiff files cannot be changed.*T=3 for one", t=2)
    refused(path, "maximum is", BadArgument, t=10**6)
    with pytest.raises(BadArgument, match="the file has dtype|dtype=.*the file has"):
        BioWriter(path, append=True, T=3, dtype="uint8")
    plain = tmp_path / "plain.tif"
    tifffile.imwrite(plain, DATA[:, :, 0, 0], tile=(32, 32))
    with pytest.raises(BfbridgeError):
        BioWriter(plain, append=True, T=9)


def test_a_classic_tiff_that_grows_beyond_4_gib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.ome.tif", bigtiff=False)
    before = path.read_bytes()
    # During the segments, and for the directories.
    for limit in (len(before) + 10, len(before) + 30_000):
        monkeypatch.setattr("bfbridge_ometiff.writer.CLASSIC_END", limit)
        monkeypatch.setattr(append, "CLASSIC_END", limit)
        with pytest.raises(WriteFailed, match=r"beyond 4 GiB.*bigtiff=True.*No time points"):
            extend(path, DATA[..., :3])
        assert path.read_bytes() == before


def test_another_program_changes_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ome.tif")
    for replaced in (False, True):
        size = path.stat().st_size
        bw = BioWriter(path, append=True, T=3)
        bw[..., 2] = 5
        if replaced:
            other = write(tmp_path / "b.ome.tif", DATA[..., :1])
            os.replace(other, path)
        else:
            with path.open("rb") as file:
                last = TiffFile(_Opened(file), "a", append.DEFAULT_LIMITS)
                offset = append._chain(last)[-1][1]
            with path.open("r+b") as file:
                file.seek(offset)
                file.write(struct.pack("<I", 8))
        now = path.read_bytes()[:size]
        with pytest.raises(WriteFailed, match="another program replaced or changed this file"):
            bw.close()
        # What that program stored is not undone, and nothing is cut off.
        assert path.read_bytes()[: len(now)] == now
        assert path.stat().st_size >= len(now)
        if not replaced:
            write(path, overwrite=True)


class _Opened:
    """An open file as `RandomAccess`."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return bytes(self._file.read(length))


def test_files_at_urls_are_refused(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    path = write(tmp_path / "a.ome.tif")
    memory = fsspec.filesystem("memory")
    memory.pipe("/append/a.ome.tif", path.read_bytes())
    try:
        with pytest.raises(Unsupported, match="at a URL cannot be appended to.*Copy the file"):
            BioWriter("memory://append/a.ome.tif", append=True, T=3)
    finally:
        memory.rm("/append", recursive=True)
