"""`BioWriter`: properties in any order, regions in any order, and every way it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ome_types import OME
from ome_types.model import Image, Pixels

from bfbridge import BioReader, BioWriter
from bfbridge.errors import (
    BadArgument,
    BadDtype,
    BadSelection,
    BfbridgeError,
    Closed,
    IncompleteImage,
    ReadOnlyProperty,
    TargetBusy,
    TargetExists,
    WriteFailed,
)
from tests.support.dropped import settle_all
from tests.support.engine import face, memory_writer, smaller, written
from tests.support.memory import distinct

STORED = distinct((2, 3, 4, 45, 70))
ARRAY = face(STORED)
SUFFIXES = [".ome.tif", ".ome.zarr"]


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"a{request.param}"


def read(path: Path) -> np.ndarray[Any, Any]:
    with BioReader(path) as br:
        return br.read(keepdims=True)


def document(**fields: Any) -> OME:
    given = {
        "dimension_order": "XYZCT", "type": "uint16", "size_x": 70, "size_y": 45, "size_z": 4,
        "size_c": 3, "size_t": 2, "physical_size_x": 0.5, **fields,
    }  # fmt: skip
    return OME(images=[Image(name="cells", pixels=Pixels(**given))])


# ---- what it will be


@pytest.mark.parametrize("order", range(6))
def test_properties_may_be_set_in_any_order(path: Path, order: int) -> None:
    wanted = {
        "C": 3, "channel_names": ["a", "b", "c"], "dtype": "uint8", "X": 70, "Y": 45, "T": 2,
        "Z": 4, "ps_x": (0.5, "nm"), "name": "cells",
    }  # fmt: skip
    names = np.random.default_rng(order).permutation(list(wanted))
    with BioWriter(path) as bw:
        for name in names:
            setattr(bw, name, wanted[name])
            assert bw.X >= 1  # reading in between changes nothing
            assert bw.samples_per_pixel == 1
        for name, value in wanted.items():
            assert getattr(bw, name) == value
        bw[:] = 7
    with BioReader(path) as br:
        assert br.shape == (45, 70, 4, 3, 2)
        assert br.channel_names == ["a", "b", "c"]
        assert br.ps_x == (0.5, "nm")
        assert br.name == "cells"
        assert br.dtype == np.uint8


def test_rgb_in_any_order(path: Path) -> None:
    pixels = distinct((45, 70, 3), np.uint8)
    for first in ("spp", "C"):
        with BioWriter(path, overwrite=True, X=70, Y=45, dtype="uint8") as bw:
            setattr(bw, first, 3)
            assert len(bw.channel_names) in (1, 3)
            setattr(bw, "C" if first == "spp" else "spp", 3)
            assert bw.samples_per_pixel == 3
            assert len(bw.channel_names) == 1
            bw[:, :, 0, :, 0] = pixels[:, :, None]
        with BioReader(path) as br:
            # NGFF has channels only.
            assert (br.C, br.samples_per_pixel) == (3, 3 if br.backend == "ometiff" else 1)
            np.testing.assert_array_equal(br[:][:, :, 0], pixels)


def test_keywords_override_metadata_which_is_copied(path: Path) -> None:
    ome = document()
    before = ome.to_xml()
    with BioWriter(path, metadata=ome, Z=1, dtype="uint8", ps_x=(3, "mm")) as bw:
        assert bw.shape == (45, 70, 1, 3, 2)
        bw.C = 2
        bw[:] = 5
    assert ome.to_xml() == before
    with BioReader(path) as br:
        assert br.shape == (45, 70, 1, 2, 2)
        assert br.dtype == np.uint8
        assert br.ps_x == (3.0, "mm")
        assert br.name == "cells"


def test_changes_to_the_document_count_until_the_first_write(path: Path) -> None:
    with BioWriter(path, metadata=document()) as bw:
        pixels = bw.metadata.images[0].pixels
        pixels.type = "uint8"
        pixels.size_z = 1
        assert bw.dtype == np.uint8
        bw.metadata.images[0].name = "changed"
        bw[:] = 9
        pixels.size_x, pixels.type = 5, "uint16"  # too late
        assert bw.shape == (45, 70, 1, 3, 2)
        with pytest.raises(BadDtype):
            bw[:] = 300
        bw[0] = 8
    with BioReader(path) as br:
        assert (br.shape, br.dtype, br.name) == ((45, 70, 1, 3, 2), np.uint8, "changed")
        assert (br[1:] == 9).all()
        assert (br[0] == 8).all()


def test_images_cannot_be_added_behind_the_writers_back(path: Path) -> None:
    bw = BioWriter(path, metadata=document())
    bw.metadata.images.append(document().images[0])
    with pytest.raises(BadArgument, match="had 1 image.* and has 2 now"):
        bw[:] = 5
    bw.abort()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"X": 0}, "X=0: a size is from 1"),
        ({"X": 2**31}, "X=2147483648"),
        ({"X": 1.5}, "X=1.5: a size is an integer"),
        ({"X": True}, "X=True"),
        ({"shape": (5,)}, "give 2 to 5 sizes"),
        ({"shape": 5}, "give 2 to 5 sizes"),
        ({"shape": (1,) * 6}, "give 2 to 5 sizes"),
        ({"channel_names": "abc"}, "give a list of names"),
        ({"spp": 0}, "samples_per_pixel=0"),
        ({"ps_x": -1}, "physical_size_x=-1"),
        ({"ps_x": (1, "second")}, "not a unit of length"),
        ({"max_workers": 0}, "max_workers=0"),
        ({"downsample": "max"}, "downsample='max': use one of mean, nearest, mode"),
        ({"no_such_option": 1}, "no_such_option"),
        ({"compression": "gzip9000"}, "gzip9000"),
        ({"metadata": "<OME/>"}, "metadata is a str; give an ome_types.OME"),
        ({"metadata": document(), "series": 1}, "series=1"),
        ({"metadata": document(), "series": "x"}, "series='x'"),
    ],
)
def test_arguments_that_make_no_sense(path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        BioWriter(path, **options)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float16", "O", "no such", "datetime64[s]"])
def test_dtypes_that_no_file_holds(path: Path, dtype: str) -> None:
    with pytest.raises(BadDtype, match="dtype"):
        BioWriter(path, dtype=dtype)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fill_value": 300}, "fill_value=300 cannot be stored as uint8"),
        ({"fill_value": float("nan")}, "fill_value=nan cannot be stored"),
        ({"fill_value": -1}, "fill_value=-1"),
        ({"pyramid": -1}, "pyramid=-1"),
        ({"pyramid": (3, 5)}, "pyramid="),
        ({"cnames": ["a", "b"]}, "channel_names has 2 names, and image 0 has 1 channel"),
    ],
)
def test_what_shows_at_the_first_write(path: Path, options: dict[str, Any], words: str) -> None:
    bw = BioWriter(path, X=70, Y=45, dtype="uint8", **options)
    with pytest.raises(BadArgument, match=words):
        bw[:] = 5
    with pytest.raises(BadArgument, match=words):
        bw.close()
    assert bw.closed
    assert list(path.parent.iterdir()) == []


def test_channels_above_what_readers_accept(path: Path) -> None:
    # Metadata of each channel take about 3 kB: millions of them would fill the memory.
    bw = BioWriter(path, X=7, Y=4, C=11_338_640, dtype="uint8")
    words = r"image 0 has 11,338,640 channels \(C\); the maximum is 100,000.*shape=\(Y, X, Z"
    with pytest.raises(BadArgument, match=words):
        bw[:1] = 5
    bw.abort()
    assert list(path.parent.iterdir()) == []


def test_it_tells_what_it_is(path: Path) -> None:
    bw = BioWriter(path, X=70, Y=45)
    assert repr(bw) == f"<BioWriter {str(path)!r} image 0: Y=45, X=70, Z=1, C=1, T=1, uint8>"
    assert bw.backend in ("ometiff", "omezarr")
    assert not bw.read_only
    with pytest.raises(TypeError, match="cannot be iterated"):
        iter(bw)
    bw.abort()
    assert bw.read_only


# ---- writing


def test_write_places_blocks(path: Path) -> None:
    starts, axis = [2, 0], np.array([1])
    with BioWriter(path, metadata=document(physical_size_x=None)) as bw:
        bw.write(ARRAY[:, :, :, [2, 0], 1:], C=starts, T=axis)
        bw.write(ARRAY[:, :, :, [2, 0], :1], C=(2, 0))
        bw.write(ARRAY[:, :, 1:2, 1, :].reshape(45, 70, 1, 1, 2), Z=1, C=1)
        bw.write(ARRAY[5:9, 60:, :1, 1:2, :1], X=60, Y=[5], Z=(0,), C=[1], T=0)
    assert starts == [2, 0]
    assert axis.tolist() == [1]
    wanted = ARRAY.copy()
    wanted[:, :, [0, 2, 3], 1] = 0
    wanted[5:9, 60:, 0, 1, 0] = ARRAY[5:9, 60:, 0, 1, 0]
    np.testing.assert_array_equal(read(path), wanted)


@pytest.mark.parametrize(
    ("block", "where", "words"),
    [
        ((5, 5), {"X": 66}, "a block of 5 from X=66 on does not fit: X is 70"),
        ((5, 5), {"Y": 45}, "axis Y: index 45 is outside"),
        ((46, 5), {}, "a block of 46 from Y=0"),
        ((5, 5, 1, 2), {"C": [0]}, r"C=\[0\] has 1 positions, but the block has 2"),
        ((5, 5, 1, 2), {"C": [0, 3]}, "axis C: index 3"),
        ((5,), {}, "2 to 5 axes"),
        ((1,) * 6, {}, "2 to 5 axes"),
    ],
)
def test_blocks_that_do_not_fit(
    path: Path, block: tuple[int, ...], where: dict[str, Any], words: str
) -> None:
    bw = BioWriter(path, metadata=document())
    with pytest.raises(BadSelection, match=words):
        bw.write(np.ones(block, np.uint8), **where)
    assert not bw.read_only
    bw.abort()


def test_values_that_do_not_fit_leave_everything_as_it_was(path: Path) -> None:
    with BioWriter(path, X=70, Y=45, dtype="uint8") as bw:
        for wrong in (np.ones((45, 71)), np.ones(45), np.full((45, 70), 300)):
            with pytest.raises(BfbridgeError):
                bw[:] = wrong
        assert not bw.read_only  # so that the remedy of the message can be followed
        bw.dtype = "uint16"
        bw[:] = ARRAY[:, :, 0, 0, 0]
    np.testing.assert_array_equal(read(path)[:, :, 0, 0, 0], ARRAY[:, :, 0, 0, 0])


def test_a_large_pyramid_from_threads(path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 65535, (1111, 1333), np.uint16)
    with BioWriter(path, X=1333, Y=1111, dtype="uint16", pyramid=True) as bw:
        threads = [
            threading.Thread(
                target=lambda y: bw.__setitem__(np.s_[y : y + 100], array[y : y + 100]), args=(y,)
            )
            for y in range(0, 1111, 100)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with BioReader(path) as br:
        assert [level.shape for level in br.levels] == [(1111, 1333), (556, 667), (278, 334)]
        np.testing.assert_array_equal(br[:], array)
        half = smaller(array[:300, :300], 2, "mean")
        np.testing.assert_array_equal(br.levels[1][:150, :150], half)


def test_a_strided_or_foreign_array_is_written_right(path: Path) -> None:
    class Foreign:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
            return ARRAY[:, :, 0, 0, 0]

    with BioWriter(path, metadata=document()) as bw:
        bw[..., 0, 0, 0] = Foreign()
        bw[..., 1, 0, 0] = np.asfortranarray(ARRAY[:, :, 1, 0, 0])
        bw[::-1, ::-1, 2, 0, 0] = ARRAY[::-1, ::-1, 2, 0, 0]
        bw[..., 3, 0, 0] = ARRAY[:, :, 3, 0, 0].astype(">u2")
    np.testing.assert_array_equal(read(path)[..., 0, 0], ARRAY[..., 0, 0])


def test_fill_values(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        for dtype, fill in [("uint8", 7), ("int16", -5), ("float32", float("nan"))]:
            path = tmp_path / f"{dtype}{suffix}"
            with BioWriter(path, X=70, Y=45, dtype=dtype, fill_value=fill, pyramid=1) as bw:
                bw[10:20, 10:20] = 3
            wanted = np.full((45, 70), fill, dtype)
            wanted[10:20, 10:20] = 3
            np.testing.assert_array_equal(read(path)[:, :, 0, 0, 0], wanted)


@pytest.mark.parametrize(
    "options", [{"X": 70, "Y": 45}, {"image": ARRAY}, {"metadata": document()}]
)
def test_nothing_written_is_an_error(path: Path, options: dict[str, Any]) -> None:
    bw = BioWriter(path, **options)
    with pytest.raises(IncompleteImage, match=r"nothing was written.*bw\[:\] = array.*imwrite"):
        bw.close()
    assert bw.closed
    assert list(path.parent.iterdir()) == []
    bw = BioWriter(path, **options)
    bw[5:5] = 1  # no pixel
    with pytest.raises(IncompleteImage, match="nothing was written"):
        bw.close()
    assert list(path.parent.iterdir()) == []


# ---- ways to end


def test_close_twice_and_use_after(path: Path) -> None:
    bw = BioWriter(path, X=70, Y=45)
    bw[:] = 5
    bw.close()
    bw.close()
    bw.abort()
    assert bw.closed
    with pytest.raises(Closed, match="the writer is closed"):
        bw[0] = 1
    with pytest.raises(ReadOnlyProperty):
        bw.X = 1
    assert (read(path) == 5).all()


def test_require_complete(path: Path) -> None:
    bw = BioWriter(path, X=70, Y=45, Z=2)
    bw[:, :, 0] = 5
    bw[:, :69, 1] = 5
    with pytest.raises(IncompleteImage, match=r"image 0 has areas that were never written"):
        bw.close(require_complete=True)
    assert list(path.parent.iterdir()) == []
    with BioWriter(path, X=70, Y=45, Z=2) as again:
        again[:, :, 0] = 5
        again[:, :69, 1] = 5
        again[:, 69:, 1] = 5
        again.close(require_complete=True)
    assert (read(path) == 5).all()


def test_existing_targets_need_overwrite(path: Path) -> None:
    with BioWriter(path, X=70, Y=45) as bw:
        bw[:] = 1
    with pytest.raises(TargetExists, match="overwrite=True") as caught:
        BioWriter(path, X=70, Y=45)
    assert isinstance(caught.value, FileExistsError)
    bw = BioWriter(path, X=70, Y=45, overwrite=True)
    bw[:] = 2
    assert (read(path) == 1).all()
    bw.close()
    assert (read(path) == 2).all()


def test_one_writer_per_target(path: Path) -> None:
    bw = BioWriter(path, X=70, Y=45)
    bw[:] = 1
    with pytest.raises(TargetBusy, match="another writer"):
        BioWriter(path, X=70, Y=45)
    bw.close()
    assert (read(path) == 1).all()


def test_folders_that_may_not_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write everywhere
    with pytest.raises(WriteFailed, match="Permission denied. Ask for write permission") as caught:
        BioWriter(path, X=70, Y=45)
    assert str(path) in str(caught.value)


def test_a_file_where_the_folder_should_be(path: Path) -> None:
    (path.parent / "file").write_text("x")
    with pytest.raises(WriteFailed, match="file"):
        BioWriter(path.parent / "file" / path.name, X=70, Y=45)
    assert (path.parent / "file").read_text() == "x"


@pytest.mark.slow(ci=True)
def test_a_forgotten_writer_warns_and_loses_nothing(path: Path) -> None:
    bw = BioWriter(path, X=70, Y=45)
    bw[:] = 5
    writers = [bw]
    del bw
    with pytest.warns(ResourceWarning, match="was not closed"):
        writers.clear()
    settle_all()
    assert (read(path) == 5).all()


@pytest.mark.slow(ci=True)
def test_a_forgotten_writer_without_a_write_leaves_nothing(path: Path) -> None:
    bw = BioWriter(path, X=70, Y=45)
    writers = [bw]
    del bw
    with pytest.warns(ResourceWarning, match="was not closed"):
        writers.clear()
    settle_all()
    assert list(path.parent.iterdir()) == []


def test_abort_from_another_thread_waits_for_the_write(tmp_path: Path) -> None:
    writer = memory_writer(tmp_path, workers=2)
    writer.shape, writer.dtype = ARRAY.shape, "uint16"
    threads = [threading.Thread(target=lambda: _try(lambda: writer.__setitem__(..., ARRAY)))]
    threads.append(threading.Thread(target=writer.abort))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert writer.closed
    assert list(tmp_path.iterdir()) == []


def _try(job: Any) -> None:
    with contextlib.suppress(Closed):
        job()


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device")])
def test_what_the_system_refuses_is_ours_to_report(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = memory_writer(tmp_path)
    writer.shape = (45, 70)
    writer[0] = 1

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(written(writer), "write_block", fail)
    with pytest.raises(
        BfbridgeError, match=r"image: (memory ran out|cannot be written \(No space)"
    ):
        writer[:] = 2
    with pytest.raises(WriteFailed, match="an earlier write failed"):
        writer.close()
    assert not (tmp_path / "image").exists()


def test_levels_in_memory_only(tmp_path: Path) -> None:
    writer = memory_writer(tmp_path, pyramid=(2, 4), downsample="nearest", workers=3)
    writer.shape, writer.dtype = ARRAY.shape, "uint16"
    writer[:] = ARRAY
    writer.close()
    level = STORED
    for number in range(3):
        np.testing.assert_array_equal(written(writer).array(level=number), level)
        level = smaller(level, 2, "nearest")


def test_a_dtype_that_nothing_says_is_that_of_the_first_array(tmp_path: Path) -> None:
    array = distinct((40, 50), np.uint16)
    path = tmp_path / "inferred.ome.tif"
    with BioWriter(path, Y=40, X=50) as bw:
        bw[:] = array
        assert bw.dtype == np.uint16
    with BioReader(path) as br:
        assert br.dtype == np.uint16
        assert np.array_equal(br[:], array)
    with BioWriter(tmp_path / "said.ome.tif", Y=40, X=50, dtype="uint8") as bw:
        with pytest.raises(BadDtype):
            bw[:] = array
        bw.abort()


def test_an_exception_in_the_block_leaves_what_stood_there(path: Path) -> None:
    old = distinct((30, 40), np.uint16)
    with BioWriter(path, shape=old.shape, dtype=old.dtype) as bw:
        bw[:] = old

    def fail_midway() -> None:
        with BioWriter(path, shape=old.shape, dtype=old.dtype, overwrite=True) as bw:
            bw[:] = old[::-1]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_midway()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    np.testing.assert_array_equal(read(path)[..., 0, 0, 0], old)


@pytest.mark.slow(ci=True)
def test_a_forgotten_writer_with_gaps_leaves_nothing(path: Path) -> None:
    bw = BioWriter(path, X=70, Y=45)
    bw[:40] = 5
    writers = [bw]
    del bw
    with pytest.warns(ResourceWarning, match="otherwise it is not created"):
        writers.clear()
    settle_all()
    assert list(path.parent.iterdir()) == []
