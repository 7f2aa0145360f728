"""Stores that are continued, changed, or written by several processes."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bfbridge import BioReader, BioWriter
from bfbridge.errors import (
    BadArgument,
    BadSelection,
    BfbridgeError,
    Closed,
    FileMissing,
    TargetBusy,
    TargetExists,
    Unsupported,
    WriteFailed,
)

SHAPE = (300, 420, 2, 3, 4)
OPTIONS: dict[str, Any] = {"chunks": 128, "pyramid": 2}


def pixels(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(1, 60_000, shape).astype(np.uint16)


def everything(path: Path) -> list[np.ndarray[Any, Any]]:
    with BioReader(path) as br:
        return [level.read(keepdims=True) for level in br.levels]


def same(ours: list[np.ndarray[Any, Any]], theirs: list[np.ndarray[Any, Any]]) -> bool:
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def written(path: Path, array: np.ndarray[Any, Any], **options: Any) -> Path:
    with BioWriter(path, image=array, **(OPTIONS | options)) as bw:
        bw[:] = array
    return path


def write_part(path: Path, rows: tuple[int, int]) -> None:
    with BioWriter.open(path) as bw:
        bw[slice(*rows)] = pixels()[slice(*rows)]


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("extra", [{}, {"version": "0.4"}, {"shards": 256}], ids=str)
def test_processes_write_one_store(tmp_path: Path, extra: dict[str, Any]) -> None:
    path = tmp_path / "shared.ome.zarr"
    BioWriter.create(path, image=pixels(), **OPTIONS, **extra)
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=write_part, args=(path, rows)) for rows in ((0, 256), (256, 300))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    with pytest.raises(BfbridgeError, match="not an image"):
        BioReader(path)
    BioWriter.finish(path)
    alone = written(tmp_path / "alone.ome.zarr", pixels(), **extra)
    assert same(everything(path), everything(alone))
    assert len(everything(path)) == 3
    with pytest.raises(FileMissing, match="finished already"):
        BioWriter.open(path)


def test_a_chunk_written_in_part_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shared.ome.zarr"
    BioWriter.create(path, image=pixels(), **OPTIONS)
    bw = BioWriter.open(path)
    bw[:100] = pixels()[:100]
    with pytest.raises(WriteFailed, match=r"written only in part.*bw\.chunks"):
        bw.close()


def test_parts_that_become_a_chunk_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "shared.ome.zarr"
    BioWriter.create(path, image=pixels(), **OPTIONS)
    with BioWriter.open(path) as bw:
        assert bw.chunks == (128, 128, 1, 1, 1)
        for row in range(0, 300, 50):
            bw[row : row + 50] = pixels()[row : row + 50]
    BioWriter.finish(path)
    assert np.array_equal(everything(path)[0], pixels())


def test_factors_are_those_requested_if_others_give_the_same_sizes(tmp_path: Path) -> None:
    values = pixels()[:40, :70]
    path, alone = tmp_path / "shared.ome.zarr", tmp_path / "alone.ome.zarr"
    BioWriter.create(path, image=values, pyramid=[16])
    with BioWriter.open(path) as bw:
        bw[:] = values
    BioWriter.finish(path)
    with BioWriter(alone, image=values, pyramid=[16]) as bw:
        bw[:] = values
    assert same(everything(path), everything(alone))


def test_create_leaves_no_writer_open(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    BioWriter.create(tmp_path / "shared.ome.zarr", image=pixels(), **OPTIONS)
    assert not recwarn.list
    assert [entry.name for entry in tmp_path.iterdir()] == ["shared.ome.zarr"]


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "taken.ome.zarr", pixels())
    with pytest.raises(TargetExists):
        BioWriter.create(path, image=pixels())
    assert np.array_equal(everything(path)[0], pixels())


SEVERAL = r"cannot be written by several processes; those named \.zarr can"


def test_tiff_is_written_by_one_process(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=SEVERAL):
        BioWriter.create(tmp_path / "one.ome.tif", image=pixels())
    with pytest.raises(Unsupported, match=SEVERAL):
        BioWriter.open(tmp_path / "one.ome.tif")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("extra", [{}, {"version": "0.4"}, {"shards": 256}], ids=str)
def test_append_adds_time_points(tmp_path: Path, extra: dict[str, Any]) -> None:
    whole = pixels()
    path = written(tmp_path / "grown.ome.zarr", whole[..., :3], **extra)
    with BioWriter(path, append=True, T=4) as bw:
        assert bw.shape == SHAPE
        assert bw.dtype == np.uint16
        bw[..., 3] = whole[..., 3]
    at_once = written(tmp_path / "whole.ome.zarr", whole, **extra)
    assert same(everything(path), everything(at_once))
    with BioReader(path) as br:
        assert br.metadata.images[0].pixels.size_t == 4


def test_append_leaves_finished_time_points_alone(tmp_path: Path) -> None:
    path = written(tmp_path / "grown.ome.zarr", pixels())
    bw = BioWriter(path, append=True, T=6)
    with pytest.raises(BadSelection, match="0 to 3 are finished"):
        bw[..., 2:5] = 0
    bw.abort()
    assert np.array_equal(everything(path)[0], pixels())
    with pytest.raises(BadArgument, match="has 4 time points"):
        BioWriter(path, append=True, T=2)


@pytest.mark.slow(ci=True)
def test_append_changes_regions_and_every_level_above(tmp_path: Path) -> None:
    new = pixels()
    new[40:170, 100:333, 1:2, :, 2:3] = pixels(seed=1)[40:170, 100:333, 1:2, :, 2:3]
    path = written(tmp_path / "changed.ome.zarr", pixels())
    with BioWriter(path, append=True) as bw:
        bw[40:170, 100:333, 1:2, :, 2:3] = new[40:170, 100:333, 1:2, :, 2:3]
    assert same(everything(path), everything(written(tmp_path / "new.ome.zarr", new)))


@pytest.mark.slow(ci=True)
def test_a_reader_that_is_open_sees_what_was_changed(tmp_path: Path) -> None:
    old, new = pixels(), pixels(seed=1)
    path = written(tmp_path / "a.ome.zarr", old)
    with BioReader(path, cache=0) as br:
        assert np.array_equal(br[:], old)
        with BioWriter(path, append=True) as bw:
            bw[:] = new
        assert np.array_equal(br[:], new)


@pytest.mark.slow(ci=True)
def test_append_fills_in_what_was_never_written(tmp_path: Path) -> None:
    path, whole = tmp_path / "late.ome.zarr", pixels()
    with BioWriter(path, image=whole, **OPTIONS) as bw:
        bw[:, :, :, :2] = whole[:, :, :, :2]
    with BioWriter(path, append=True) as bw:
        bw[:, :, :, 2:] = whole[:, :, :, 2:]
    assert same(everything(path), everything(written(tmp_path / "new.ome.zarr", whole)))


def test_append_makes_a_new_file_where_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "new.ome.zarr"
    with BioWriter(path, image=pixels(), append=True) as bw:
        bw[:] = pixels()
    assert np.array_equal(everything(path)[0], pixels())


def test_append_keeps_other_writers_out(tmp_path: Path) -> None:
    path = written(tmp_path / "busy.ome.zarr", pixels())
    with BioWriter(path, append=True) as bw:
        with pytest.raises(TargetBusy):
            BioWriter(path, append=True)
        bw[0, 0, 0, 0, 0] = 7
    assert everything(path)[0][0, 0, 0, 0, 0] == 7


def test_formats_without_append(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    plane = pixels()[:, :, :1, :1, :1]
    with BioWriter(path, image=plane) as bw:
        bw[:] = plane
    with pytest.raises(Unsupported, match=r"cannot be changed; those named \.zarr can"):
        BioWriter(path, append=True)
    with pytest.raises(Unsupported, match=r"cannot be appended to; .*\.zarr, \.ome\.tif,.* can"):
        BioWriter(path, append=True, T=9)
    assert np.array_equal(everything(path)[0], plane)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"anything": "x"}, "anything"),
        ({"compression": "no such codec"}, "no such codec"),
        ({"X": 421}, "X=421, but the file has 420"),
        ({"shape": (300, 420, 2, 2, 4)}, "C=2, but the file has 3"),
        ({"dtype": "uint8"}, "dtype=.*uint8.*, but the file has .*uint16"),
        ({"channel_names": ["a", "b", "c"]}, "channel_names=.*, but the file has"),
        ({"ps_x": 0.25}, "physical_size_x=0.25, but the file has .*0.5"),
        ({"ps_y": 0.25}, "physical_size_y=0.25, but the file has None"),
        ({"spp": 3}, "samples_per_pixel=3, but the file has 1"),
        ({"name": "other"}, "name='other', but the file has"),
        ({"T": 3}, "T=3, but the file has 4 time points"),
        ({"T": "four"}, "T='four': a size is an integer"),
        ({"shape": 5}, "shape=5: give 2 to 5 sizes"),
        ({"image": pixels((10, 10))}, "Y=10, but the file has 300"),
        ({"memory": "much"}, "memory='much'"),
        ({"backend": "nothing"}, "there is no such backend"),
    ],
)
def test_append_refuses_what_the_file_is_not(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    path = written(tmp_path / "a.ome.zarr", pixels(), ps_x=0.5)
    with pytest.raises(BadArgument, match=words):
        BioWriter(path, append=True, **options)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.ome.zarr"]
    assert np.array_equal(everything(path)[0], pixels())


@pytest.mark.slow(ci=True)
def test_append_takes_the_arguments_that_made_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    options = {
        "dtype": "uint16", "ps_x": (500, "nm"), "channel_names": ["a", "b", "c"], "name": "n",
    } | OPTIONS  # fmt: skip
    for count in (2, 4):
        with BioWriter(path, append=True, shape=(*SHAPE[:4], count), **options) as bw:
            bw[..., count - 2 : count] = pixels()[..., count - 2 : count]
            ome = bw.metadata
    assert np.array_equal(everything(path)[0], pixels())
    with BioReader(path) as br, BioWriter(path, append=True, metadata=br.metadata) as bw:
        bw[0] = 9
    assert (everything(path)[0][0] == 9).all()
    ome.images[0].pixels.size_y = 5
    with pytest.raises(BadArgument, match="Y=5, but the file has 300"):
        BioWriter(path, append=True, metadata=ome)


def _write_rows(writer: BioWriter, first: int) -> None:
    with writer:
        rows = slice(first, min(first + 128, writer.shape[0]))
        writer[rows] = pixels()[rows]


@pytest.mark.slow(ci=True)
def test_a_part_is_pickled_to_other_processes(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    BioWriter.create("shared.ome.zarr", image=pixels(), **OPTIONS)
    with BioWriter.open("shared.ome.zarr", max_workers=2) as bw:
        sent = pickle.dumps(bw)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            jobs = [pool.submit(_write_rows, bw, first) for first in range(0, SHAPE[0], 128)]
            for job in jobs:
                job.result()
    monkeypatch.chdir("/")
    with pickle.loads(sent) as copy:
        assert copy.max_workers == 2
    BioWriter.finish(tmp_path / "shared.ome.zarr")
    with BioReader(tmp_path / "shared.ome.zarr") as br:
        np.testing.assert_array_equal(br[:], pixels())


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_writers_of_one_process_are_not_pickled(tmp_path: Path, suffix: str) -> None:
    with BioWriter(tmp_path / f"a{suffix}", image=pixels()) as bw:
        with pytest.raises(BadArgument, match=r"BioWriter\.create\(path"):
            pickle.dumps(bw)
        with pytest.raises(BadArgument, match="view of an image"):
            pickle.dumps(bw.series[0])
        bw[:] = pixels()
    BioWriter.create(tmp_path / "shared.ome.zarr", image=pixels())
    bw = BioWriter.open(tmp_path / "shared.ome.zarr")
    bw.close()
    with pytest.raises(Closed, match="closed cannot be pickled"):
        pickle.dumps(bw)
