"""`BioReader`: what it takes, what it tells, and walking over an image in tiles."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bfbridge import BioReader, BioWriter
from bfbridge.backend import Image
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.errors import BadArgument, BadSelection, Closed, FileMissing, UnreadableFile
from tests.support.engine import face
from tests.support.memory import distinct, view_of

ARRAY = face(distinct((2, 3, 4, 45, 70)))
SECOND = face(distinct((1, 1, 1, 20, 33), np.uint8))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from ome_types import OME
    from ome_types.model import Image as OmeImage
    from ome_types.model import Pixels

    def image(array: np.ndarray[Any, Any], name: str) -> OmeImage:
        y, x, z, c, t = array.shape
        return OmeImage(
            name=name,
            pixels=Pixels(
                dimension_order="XYZCT", type=array.dtype.name,
                size_x=x, size_y=y, size_z=z, size_c=c, size_t=t,
            ),
        )  # fmt: skip

    path = tmp_path_factory.mktemp("reader") / "a.ome.tif"
    ome = OME(images=[image(ARRAY, "cells"), image(SECOND, "label")])
    with BioWriter(path, metadata=ome, series="all", pyramid=1, tile=16) as bw:
        bw.series[0][:] = ARRAY
        bw.series[1][:] = SECOND
    return path


@pytest.fixture
def br(path: Path) -> Iterator[BioReader]:
    with BioReader(path) as reader:
        yield reader


# ---- opening


def test_takes_paths_bytes_and_open_files(path: Path) -> None:
    with path.open("rb") as file:
        for target in (path, str(path), path.read_bytes(), file, io.BytesIO(path.read_bytes())):
            with BioReader(target) as br:
                np.testing.assert_array_equal(br[...], ARRAY)
        assert not file.closed


def test_series_and_level(path: Path) -> None:
    for series in (1, -1, "label"):
        with BioReader(path, series=series) as br:
            np.testing.assert_array_equal(br[:], SECOND[:, :, 0, 0, 0])
            assert [image.name for image in br.metadata.images] == ["label"]
    with BioReader(path, level=1) as br:
        assert br.shape == (23, 35, 4, 3, 2)
        assert [image.name for image in br.metadata.images] == ["cells", "label"]
    with BioReader(path, 2, "python", True, 1) as br:  # bfio's positions
        assert (br.max_workers, br.backend, br.level) == (2, "ometiff", 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"series": 2}, "no series 2; it has 2"),
        ({"series": "x"}, "no image has this name"),
        ({"series": 1.5}, "1.5 is not a valid series"),
        ({"level": 2}, "no level 2; it has 2"),
        ({"level": "x"}, "by number"),
    ],
)
def test_what_is_not_in_the_file(path: Path, options: dict[str, Any], words: str) -> None:
    fds = Path("/proc/self/fd")
    before = len(list(fds.iterdir())) if fds.exists() else 0
    with pytest.raises(BadSelection, match=words):
        BioReader(path, **options)
    assert (len(list(fds.iterdir())) if fds.exists() else 0) == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_workers": 0}, "max_workers=0"),
        ({"max_workers": True}, "max_workers=True"),
        ({"max_workers": 1.5}, "max_workers=1.5"),
        ({"cache": -1}, "cache=-1"),
        ({"cache": "much"}, "cache='much'"),
        ({"backend": "nothing"}, "no such backend"),
        ({"options": {"no.such.option": 1}}, "no.such.option"),
    ],
)
def test_options_that_make_no_sense(path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        BioReader(path, **options)


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.czi").touch()
    with pytest.raises(UnreadableFile, match=r"empty\.czi: the file is empty"):
        BioReader(tmp_path / "empty.czi")
    with pytest.raises(UnreadableFile, match="not an image"):
        BioReader(tmp_path)
    with pytest.raises(FileMissing, match=r"none\.czi"):
        BioReader(tmp_path / "none.czi")


def test_it_tells_who_reads_and_why(br: BioReader, path: Path) -> None:
    assert br.backend == "ometiff"
    assert br.backend_reason == "ometiff claims this content"
    assert br.source_name == str(path)
    assert br.used_files == [str(path)]
    assert "<OME" in (br.ome_xml or "")
    assert repr(br).startswith(f"<BioReader {str(path)!r}, image 0 of 2 'cells'")
    assert "Y=45, X=70" in repr(br)
    assert len(repr(br).splitlines()) == 6


# ---- caches


def test_caches_of_every_kind(path: Path) -> None:
    shared = ChunkCache(1 << 20)
    mapping: dict[Any, Any] = {}
    for cache in (None, 0, 5000, shared, mapping):
        with BioReader(path, cache=cache) as br:
            np.testing.assert_array_equal(br[3:9, 5:9], ARRAY[3:9, 5:9])
            np.testing.assert_array_equal(br[::3, 8, 2], ARRAY[::3, 8:9, 2:3])
    assert len(shared) > 0
    assert len(mapping) > 0


def test_a_shared_cache_never_gives_an_older_files_pixels(tmp_path: Path) -> None:
    cache = ChunkCache()
    path = tmp_path / "a.ome.tif"
    for value in range(6):
        with BioWriter(path, X=40, Y=40, dtype="uint8", overwrite=True, compression="none") as bw:
            bw[:] = value
        os.utime(path, ns=(10**18, 10**18))  # the same time and size
        with BioReader(path, cache=cache) as br:
            assert (br[3:5, 3:5] == value).all()


# ---- lifetime


def test_closed_readers_say_so(path: Path) -> None:
    br = BioReader(path)
    level = br.levels[1]
    with br as same:
        assert same is br
    br.close()
    assert br.closed
    for use in (lambda: br[0], lambda: br.X, lambda: level[0], lambda: br.series[0]):
        with pytest.raises(Closed, match=r"a\.ome\.tif: the reader is closed"):
            use()


def test_pickles_keep_series_level_and_options(path: Path) -> None:
    with BioReader(path, max_workers=3, series="label", level=1, cache=0) as br:
        again = pickle.loads(pickle.dumps(br))
        assert type(again) is BioReader
        assert (again.index, again.level, again.max_workers) == (1, 1, 3)
        assert [image.name for image in again.metadata.images] == ["label"]
        np.testing.assert_array_equal(again[:], br[:])
        again.close()
    data = BioReader(path.read_bytes(), name="x.ome.tif")
    copy = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(copy[3:5, 1], data[3:5, 1])
    data.close()
    copy.close()


@pytest.mark.slow(ci=True)
def test_opening_often_leaks_nothing(path: Path) -> None:
    import threading

    from bfbridge.engine.workers import available_cpus

    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("needs /proc")
    for _ in range(3):
        BioReader(path)[0, 0].sum()
    before = len(list(fds.iterdir())), threading.active_count()
    for number in range(100):
        br = BioReader(path)
        assert br[number % 45, 3].shape == (1, 1, 4, 3, 2)
        if number % 2:
            br.close()
        del br
    assert len(list(fds.iterdir())) <= before[0]
    # The shared pool may still grow, to as many threads as worked at once.
    assert threading.active_count() <= before[1] + available_cpus()


def test_shape_builds_no_ome_types_object(path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from bfbridge import BioReader; br = BioReader(sys.argv[1]);"
        "assert br.shape == (45, 70, 4, 3, 2); br[0, 0]; br.channel_names; br.ps_x;"
        "assert 'ome_types' not in sys.modules and 'jpype' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---- tiles


@pytest.mark.slow(ci=True)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_tiles_equal_slices(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*(st.integers(1, n) for n in (20, 23, 3, 3, 2))), "shape")
    array = face(distinct((shape[4], shape[3], shape[2], shape[0], shape[1])))
    view = view_of(array.transpose(4, 3, 2, 0, 1), (1, 1, 1, 8, 6))
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    overlap = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    edge = data.draw(st.sampled_from(["crop", "pad", "drop"]))
    y0, x0 = data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, shape[0])), data.draw(st.integers(x0 + 1, shape[1]))
    region = data.draw(st.sampled_from([np.s_[...], np.s_[y0:y1, x0:x1], np.s_[y0:, :x1, 0]]))
    inside = np.zeros(shape, bool)
    inside[region] = True
    bottom = int(np.flatnonzero(inside.any(axis=(1, 2, 3, 4)))[-1]) + 1
    right = int(np.flatnonzero(inside.any(axis=(0, 2, 3, 4)))[-1]) + 1
    seen = np.zeros(shape, int)
    for tile in view.tiles((height, width), overlap=overlap, region=region, edge=edge):
        seen[tile.key] += 1
        wanted = array[tile.key][:, :, 0, 0, 0]
        np.testing.assert_array_equal(tile.pixels[: tile.height, : tile.width], wanted)
        assert tile.y + tile.height <= bottom
        assert tile.x + tile.width <= right
        if edge == "crop":
            assert tile.pixels.shape == (tile.height, tile.width)
        else:
            assert tile.pixels.shape == (height, width)
        if edge == "pad":
            assert not tile.pixels[tile.height :].any()
            assert not tile.pixels[:, tile.width :].any()
        if edge == "drop":
            assert (tile.height, tile.width) == (height, width)
    assert not seen[~inside].any()
    if edge != "drop":
        assert (seen[inside] >= 1).all()
        if overlap == (0, 0):
            assert (seen[inside] == 1).all()


def test_batches_of_tiles(br: BioReader) -> None:
    got = np.zeros_like(ARRAY)
    sizes = []
    for batch in br.tiles((16, 32), batch=5):
        sizes.append(len(batch.tiles))
        assert batch.pixels.shape == (len(batch.tiles), 16, 32)
        for tile, pixels in zip(batch.tiles, batch.pixels, strict=True):
            assert np.shares_memory(tile.pixels, pixels)
            got[tile.key] = pixels[: tile.height, : tile.width, None, None, None]
    assert sizes[:-1] == [5] * (len(sizes) - 1)
    assert sum(sizes) == 3 * 3 * 4 * 3 * 2
    np.testing.assert_array_equal(got, ARRAY)


def test_tiles_of_rgb_hold_all_samples() -> None:
    view = view_of(distinct((1, 6, 2, 20, 30), np.uint8), (1, 3, 1, 8, 8))
    backend = view._file.backend
    old = backend.images[0]
    backend._images = (  # type: ignore[attr-defined]
        Image("rgb", old.levels, old.dtype, samples=3, channels=old.channels[:2]),
    )
    array = view.read(keepdims=True)
    tiles = list(view.tiles((16, 16)))
    assert len(tiles) == 2 * 2 * 2 * 2
    for tile in tiles:
        np.testing.assert_array_equal(tile.pixels, array[tile.key][:, :, 0, :, 0])
        assert tile.pixels.shape == (tile.height, tile.width, 3)
        assert tile.c in (0, 3)
    with pytest.raises(BadArgument, match="3 samples of an RGB channel form one tile"):
        list(view.tiles(16, region=np.s_[..., 1, 0]))


def test_tiles_of_a_level(br: BioReader) -> None:
    level = br.levels[1][...]
    for tile in br.tiles(16, level=1):
        np.testing.assert_array_equal(tile.pixels, level[tile.key][:, :, 0, 0, 0])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, "size=0"),
        ({"size": (4, 4, 4)}, "size="),
        ({"size": 2.5}, "size=2.5"),
        ({"overlap": 16}, "smaller than the tile"),
        ({"overlap": -1}, "overlap=-1"),
        ({"edge": "wrap"}, "edge='wrap'"),
        ({"region": np.s_[::2]}, "Y must be one range without steps"),
        ({"region": np.s_[:, [0, 5]]}, "X must be one range"),
        ({"batch": 0}, "batch=0"),
        ({"batch": 3, "edge": "crop"}, "use edge='pad' or 'drop'"),
    ],
)
def test_tiles_that_make_no_sense(br: BioReader, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadArgument, match=words):
        list(br.tiles(**{"size": 16, **options}))


def test_iterating_a_reader_says_what_to_do_instead(br: BioReader) -> None:
    with pytest.raises(TypeError, match=r"br\.tiles\(1024\)"):
        iter(br)


# ---- bfio's iterator


def test_bfios_iterator_pads_at_the_edges(br: BioReader) -> None:
    pairs = list(br([32, 40]))
    assert len(pairs) == 1
    tiles, (x, y, z, c, t) = pairs[0]
    assert tiles.shape == (4, 32, 40, 1)
    assert x == [[0, 40], [0, 40], [40, 80], [40, 80]]
    assert y == [[0, 32], [32, 64], [0, 32], [32, 64]]
    assert (z, c, t) == ([[0, 1]] * 4, [[0]] * 4, [[0]] * 4)
    padded = np.zeros((64, 80), np.uint16)
    padded[:45, :70] = ARRAY[:, :, 0, 0, 0]
    for tile, (x0, x1), (y0, y1) in zip(tiles, x, y, strict=True):
        np.testing.assert_array_equal(tile[..., 0], padded[y0:y1, x0:x1])


def test_bfios_iterator_centres_tiles_on_their_strides(br: BioReader) -> None:
    padded = np.zeros((100, 120), np.uint16)
    padded[10 : 10 + 45, 10 : 10 + 70] = ARRAY[:, :, 0, 2, 0]
    count = 0
    for tiles, index in br([24, 30], tile_stride=[16, 20], batch_size=2, channels=[2]):
        for tile, (x0, x1), (y0, y1) in zip(tiles, index[0], index[1], strict=True):
            assert (x0 % 20, y0 % 16) == (15, 12)
            np.testing.assert_array_equal(
                tile[..., 0], padded[10 + y0 : 10 + y1, 10 + x0 : 10 + x1]
            )
            count += 1
    assert count == len(range(-5, 70, 20)) * len(range(-4, 45, 16))


def test_bfios_batches(br: BioReader) -> None:
    assert br.maximum_batch_size([32, 32]) == 2 * 32
    assert [len(tiles) for tiles, _ in br([32, 32], batch_size=4)] == [4, 2]
    with pytest.raises(BadArgument, match="batch_size=65"):
        list(br([32, 32], batch_size=65))
    with pytest.raises(BadSelection):
        list(br([32, 32], channels=[3]))
