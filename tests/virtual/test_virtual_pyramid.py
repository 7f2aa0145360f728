"""Pyramids of exact halves over what a file stores, against numpy."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from bfbridge import BioReader
from bfbridge.backend import Shape5
from bfbridge.engine.chunk_cache import ChunkCache
from bfbridge.engine.pyramid import reduce_block
from bfbridge.errors import BadArgument, BadSelection, ReadFailed
from bfbridge.virtual.pyramid import VirtualImage
from tests.support.samples import distinct, write_ome_zarr

Array = np.ndarray[Any, Any]


def smooth(shape: tuple[int, ...], dtype: str = "uint16") -> Array:
    """Values that differ from pixel to pixel along every axis, and that fit the dtype."""
    total = sum(
        (np.arange(n) * (13 + 7 * i)).reshape((-1,) + (1,) * (len(shape) - i - 1))
        for i, n in enumerate(shape)
    )
    most = 250 if dtype in ("uint8", "int8") else 60_000
    return (total % most).astype(dtype)


def halves(full: Array, count: int, method: str = "mean") -> list[Array]:
    levels = [full]
    for _ in range(count):
        levels.append(np.ascontiguousarray(reduce_block(levels[-1], 2, method)))
    return levels


def all_chunks(image: VirtualImage, number: int) -> Array:
    """A level put together from its chunks, each of them read once."""
    level = image.levels[number]
    out = np.zeros(level.shape, image.dtype)
    for index in product(*map(range, level.counts)):
        start, stop = level.box(index)  # type: ignore[arg-type]
        pixels = image.chunk(number, index)  # type: ignore[arg-type]
        assert pixels.flags.c_contiguous
        assert not pixels.flags.writeable or level.stored is not None
        out[tuple(map(slice, start, stop))] = pixels
    return out


def check(image: VirtualImage, expected: list[Array]) -> None:
    assert [level.shape for level in image.levels] == [level.shape for level in expected]
    for number, wanted in enumerate(expected):
        np.testing.assert_array_equal(all_chunks(image, number), wanted)


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "uint64", "complex64"])
def test_missing_levels_are_exact_halves(tmp_path: Path, dtype: str) -> None:
    values = smooth((1, 2, 2, 1101, 1603), dtype)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [values], (1, 1, 1, 200, 300))
    with BioReader(path) as br:
        image = VirtualImage(br, 512)
        assert image.method == "mean"
        assert [level.stored for level in image.levels] == [0, None, None]
        assert not image.is_complete
        check(image, halves(values, 2))
        # Once more, from what is kept.
        check(image, halves(values, 2))


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("cache", [0, 200_000, None])
def test_deep_pyramids(tmp_path: Path, cache: int | None) -> None:
    values = smooth((1, 1, 1, 5001, 4403), "uint8")
    tifffile.imwrite(tmp_path / "a.ome.tif", values[0, 0, 0], tile=(256, 256), compression="zlib")
    expected = halves(values, 4)
    with BioReader(tmp_path / "a.ome.tif", cache=cache) as br:
        check(VirtualImage(br, 512), expected)
        # The coarsest first, as viewers ask.
        image = VirtualImage(br, 512, ChunkCache(100_000))
        np.testing.assert_array_equal(image.chunk(4, (0, 0, 0, 0, 0)), expected[4])


def test_rgb_keeps_its_samples_together(tmp_path: Path) -> None:
    values = smooth((700, 900, 3), "uint8")
    tifffile.imwrite(tmp_path / "a.ome.tif", values, tile=(256, 256), photometric="rgb")
    expected = values.transpose(2, 0, 1)[np.newaxis, :, np.newaxis]
    with BioReader(tmp_path / "a.ome.tif") as br:
        image = VirtualImage(br, 512)
        assert [level.chunk for level in image.levels] == [
            (1, 3, 1, 512, 512), (1, 3, 1, 350, 450)
        ]  # fmt: skip
        check(image, halves(expected, 1))


def test_sides_of_chunks(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", smooth((1300, 1500)), tile=(240, 240))
    with BioReader(tmp_path / "a.ome.tif") as br:
        assert VirtualImage(br).levels[0].chunk == (1, 1, 1, 1024, 1024)
        image = VirtualImage(br, 512)
        assert [level.chunk[3:] for level in image.levels] == [(512, 512), (512, 512), (325, 375)]
        for side in (300, None, True, "512"):
            with pytest.raises(BadArgument, match="512 or 1024"):
                VirtualImage(br, side)  # type: ignore[arg-type]


def pyramid(path: Path, full: Array, shapes: list[tuple[int, int]], mark: int) -> Path:
    """A store whose lower levels hold `mark` plus their number, to tell which were read."""
    levels = [full]
    for i, shape in enumerate(shapes):
        levels.append(np.full((*full.shape[:3], *shape), mark + i, full.dtype))
    return write_ome_zarr(path, levels, (1, 1, 1, 512, 512))


def test_stored_levels_are_used_where_they_fit(tmp_path: Path) -> None:
    full = smooth((1, 1, 1, 2001, 3003))
    path = pyramid(tmp_path / "a.ome.zarr", full, [(1001, 1502), (501, 751), (251, 376)], 100)
    with BioReader(path) as br:
        image = VirtualImage(br)
        assert [level.stored for level in image.levels] == [0, 1, 2, 3]
        assert image.is_complete
        assert [int(image.chunk(i, (0, 0, 0, 0, 0))[0, 0, 0, 3, 3]) for i in (1, 2, 3)] == [
            100, 101, 102
        ]  # fmt: skip


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize(
    "shapes",
    [
        [(667, 1001)],  # a third
        [(1001, 1502, "z")],  # fewer slices
        [(900, 1400)],
        [(999, 1502)],
    ],
)
def test_levels_that_fit_nowhere_are_left_alone(tmp_path: Path, shapes: Any) -> None:
    full = smooth((1, 1, 2, 2001, 3003))
    levels = [full]
    for height, width, *more in shapes:
        levels.append(np.full((1, 1, 1 if more else 2, height, width), 7, full.dtype))
    path = write_ome_zarr(tmp_path / "a.ome.zarr", levels, (1, 1, 1, 512, 512))
    with BioReader(path) as br:
        image = VirtualImage(br)
        assert [level.stored for level in image.levels] == [0, None, None, None]
        np.testing.assert_array_equal(all_chunks(image, 2), halves(full, 2)[2])


def test_a_gap_between_stored_levels_is_filled(tmp_path: Path) -> None:
    full = smooth((1, 1, 1, 4000, 3000))
    path = pyramid(tmp_path / "a.ome.zarr", full, [(1000, 750)], 100)
    with BioReader(path) as br:
        image = VirtualImage(br)
        assert [level.stored for level in image.levels] == [0, None, 1, None]
        np.testing.assert_array_equal(all_chunks(image, 1), halves(full, 1)[1])
        assert (all_chunks(image, 2) == 100).all()
        assert (all_chunks(image, 3) == 100).all()


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("sides", [((1000, 1502), (500, 751)), ((1001, 1501), (501, 750)),
                                   ((1000, 1501), (500, 750))])  # fmt: skip
def test_what_was_rounded_down_is_made(tmp_path: Path, sides: Any) -> None:
    # Scanners drop the last row or column of odd sizes; it is made of the level before.
    full = smooth((1, 2, 1, 2001, 3003))
    path = pyramid(tmp_path / "a.ome.zarr", full, list(sides), 100)
    expected = halves(full, 3)
    with BioReader(path) as br:
        image = VirtualImage(br, 512)
        assert [level.stored for level in image.levels] == [0, 1, 2, None]
        for number in (1, 2):
            found = all_chunks(image, number)
            rows, columns = sides[number - 1]
            assert (found[..., :rows, :columns] == 99 + number).all()
            # The edge of level 2 comes from level 1, whose own edge was made the same way.
            finer = full if number == 1 else all_chunks(image, 1)
            made = reduce_block(finer, 2, "mean")
            np.testing.assert_array_equal(found[..., rows:, :], made[..., rows:, :])
            np.testing.assert_array_equal(found[..., :, columns:], made[..., :, columns:])
        assert image.levels[3].shape == expected[3].shape


def test_labels_and_indexed_images_take_the_first_pixel(tmp_path: Path) -> None:
    labels = smooth((1, 1, 1, 700, 800))
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [labels], (1, 1, 1, 256, 256), labels=labels)
    with BioReader(path, series=1) as br:
        image = VirtualImage(br)
        assert image.method == "nearest"
        np.testing.assert_array_equal(all_chunks(image, 1), labels[..., ::2, ::2])
    table = np.random.default_rng(0).integers(0, 60_000, (3, 256)).astype(np.uint16)
    values = smooth((700, 800), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=table)
    with BioReader(tmp_path / "a.tif") as br:
        assert VirtualImage(br).method == "nearest"


def test_any_box_of_any_level(tmp_path: Path) -> None:
    values = smooth((2, 2, 2, 1101, 1603))
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [values], (1, 1, 1, 200, 300))
    expected = halves(values, 2)
    boxes: list[tuple[int, Shape5, Shape5]] = [
        (0, (0, 1, 0, 3, 5), (2, 2, 2, 700, 801)),
        (1, (1, 0, 1, 500, 500), (2, 2, 2, 520, 560)),
        (2, (0, 0, 0, 0, 0), (2, 2, 2, 276, 401)),
        (2, (1, 1, 1, 275, 400), (2, 2, 2, 276, 401)),
    ]
    with BioReader(path) as br:
        image = VirtualImage(br, 512)
        for number, start, stop in boxes:
            wanted = expected[number][tuple(map(slice, start, stop))]
            np.testing.assert_array_equal(image.read(number, start, stop), wanted)
        for number, start, stop in (
            (0, (0, 0, 0, 0, 0), (3, 1, 1, 1, 1)),
            (0, (0, 0, 0, 5, 5), (1, 1, 1, 5, 6)),
            (1, (0, 0, 0, -1, 0), (1, 1, 1, 4, 4)),
        ):
            with pytest.raises(BadSelection, match="is not inside a level"):
                image.read(number, start, stop)  # type: ignore[arg-type]
        for index in ((0, 0, 0, 3, 0), (0, 0, 0, 0, -1), (2, 0, 0, 0, 0)):
            with pytest.raises(BadSelection, match="there is no chunk"):
                image.chunk(0, index)  # type: ignore[arg-type]
        for number in (3, -1):
            with pytest.raises(BadSelection, match="there is no level"):
                image.chunk(number, (0, 0, 0, 0, 0))


def test_how_much_has_to_be_read(tmp_path: Path) -> None:
    values = smooth((1, 1, 1, 4100, 4100), "uint8")
    tifffile.imwrite(tmp_path / "a.ome.tif", values[0, 0, 0], tile=(256, 256))
    with BioReader(tmp_path / "a.ome.tif") as br:
        image = VirtualImage(br, 512)
        first = (0, 0, 0, 0, 0)
        assert [image.boxes_to_read(i, first) for i in range(4)] == [1, 1, 4, 16]
        assert image.boxes_to_read(4, first) == 25
        image.chunk(2, first)
        assert [image.boxes_to_read(i, first) for i in range(4)] == [1, 0, 0, 12]
        image.chunk(4, first)
        assert image.boxes_to_read(4, first) == 0


def test_stored_chunks_are_handed_out_as_they_are(tmp_path: Path) -> None:
    values = distinct((1, 1, 2, 1000, 60), np.uint32)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", [values], (1, 1, 1, 512, 60))
    with BioReader(path) as br:
        image = VirtualImage(br)
        level = image.levels[0]
        assert level.compression is not None
        assert level.chunk == (1, 1, 1, 512, 60)
        data = image.read_stored(0, (0, 0, 1, 1, 0))
        assert data == (path / "0/c/0/0/1/1/0").read_bytes()
        with pytest.raises(BadSelection, match="no chunk"):
            image.read_stored(0, (0, 0, 2, 0, 0))
        with pytest.raises(BadSelection, match="cannot be passed through"):
            image.read_stored(1, (0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tile": (512, 512), "compression": "zstd"}, "zstd"),
        ({"tile": (512, 512)}, "none"),
        ({"tile": (512, 512), "compression": "zlib"}, None),
        ({"tile": (512, 512), "compression": "zstd", "predictor": True}, None),
        ({"tile": (512, 512), "byteorder": ">"}, None),
        ({"tile": (256, 256), "compression": "zstd"}, None),
        ({"rowsperstrip": 512}, None),
    ],
)
def test_tiles_that_zarr_knows_are_handed_out(
    tmp_path: Path, options: dict[str, Any], expected: str | None
) -> None:
    values = smooth((1, 1, 1, 700, 900))
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, values[0, 0, 0], ome=True, **options)
    with BioReader(path) as br:
        image = VirtualImage(br)
        found = image.levels[0].compression
        assert (found and found.name) == expected
        check(image, halves(values, 1))


def test_threads_share_one_image(tmp_path: Path) -> None:
    values = smooth((1, 1, 1, 3000, 3000), "uint8")
    tifffile.imwrite(tmp_path / "a.ome.tif", values[0, 0, 0], rowsperstrip=100, compression="zlib")
    expected = halves(values, 3)
    wrong: list[Any] = []
    with BioReader(tmp_path / "a.ome.tif", max_workers=2) as br:
        image = VirtualImage(br, 512)

        def work(order: Callable[[list[Any]], list[Any]]) -> None:
            keys = [(n, i) for n in range(4) for i in product(*map(range, image.levels[n].counts))]
            for number, index in order(keys):
                start, stop = image.levels[number].box(index)
                wanted = expected[number][tuple(map(slice, start, stop))]
                if not np.array_equal(image.chunk(number, index), wanted):
                    wrong.append((number, index))

        orders: list[Callable[[list[Any]], list[Any]]] = [
            lambda keys: keys, lambda keys: keys[::-1], lambda keys: keys[::3] + keys[1::3],
            lambda keys: sorted(keys, key=lambda key: key[1]),
        ]  # fmt: skip
        threads = [threading.Thread(target=work, args=(order,)) for order in orders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_damaged_file_is_an_error_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    values = np.random.default_rng(0).integers(0, 60_000, (1500, 1500)).astype(np.uint16)
    tifffile.imwrite(path, values, tile=(256, 256), compression="zlib")
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[20]
    path.write_bytes(whole[:offset] + b"\xff" * 40 + whole[offset + 40 :])
    with BioReader(path) as br:
        image = VirtualImage(br, 512)
        for _ in range(2):
            with pytest.raises(ReadFailed):
                image.chunk(2, (0, 0, 0, 0, 0))
        # What is not damaged can be read.
        np.testing.assert_array_equal(image.chunk(0, (0, 0, 0, 0, 0))[0, 0, 0], values[:512, :512])


def test_one_thread_decodes_what_several_want(tmp_path: Path) -> None:
    # A strip is as wide as the image: neighbouring chunks need the same ones.
    values = smooth((1, 1, 1, 2048, 4096), "uint8")
    tifffile.imwrite(tmp_path / "a.ome.tif", values[0, 0, 0], rowsperstrip=256, compression="zlib")
    with BioReader(tmp_path / "a.ome.tif", max_workers=4) as br:
        backend = br._file.backend
        reads: list[Any] = []
        read = backend.read

        def counted(region: Any, out: Array) -> None:
            reads.append(region.start)
            read(region, out)

        backend.read = counted  # type: ignore[method-assign]
        image = VirtualImage(br, 512)
        barrier = threading.Barrier(8)

        def work(column: int) -> None:
            barrier.wait()
            image.chunk(0, (0, 0, 0, 0, column))

        threads = [threading.Thread(target=work, args=(x,)) for x in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(reads) == len(set(reads))
