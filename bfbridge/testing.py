"""Conformance suite for backends: tests of the contract in `bfbridge.backend`.

The test module of a backend subclasses `BackendSuite`, and pytest runs the inherited tests::

    from bfbridge.testing import BackendSuite

    class TestMine(BackendSuite):
        reader = MyReader
        writer = MyWriter
        suffix = ".mine"

A backend that only reads sets ``writer = None`` and makes its files in `BackendSuite.write_sample`.
It needs pytest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest

from bfbridge.backend import (
    AXES,
    ChunkGrid,
    ImageSpec,
    OpenOptions,
    PixelSize,
    ReaderBackend,
    Region,
    Shape5,
    StoredAs,
    WriterBackend,
)
from bfbridge.chunked_store import ChunkedStoreBackend, ExtendableBackend
from bfbridge.engine.pyramid import plan_levels, reduce_block
from bfbridge.errors import BadArgument, BfbridgeError, FileMissing, Unsupported
from bfbridge.ome import metadata
from bfbridge.storage.source import as_source

if TYPE_CHECKING:
    from ome_types import OME

__all__ = ["BackendSuite", "distinct"]

Array = np.ndarray[Any, Any]
LEVEL_FACTORS = (2, 2)


def distinct(shape: Sequence[int], dtype: Any = np.uint16, seed: int = 0) -> Array:
    """Return random pixels, distinct if the dtype has enough values: misplaced pixels differ.

    Parameters
    ----------
    shape, dtype
        Shape and dtype of the array.
    seed
        Another number gives other pixels.
    """
    count = int(np.prod(shape))
    values = np.random.default_rng(seed + count).permutation(count) + 1
    return values.reshape(shape).astype(dtype)


class BackendSuite:
    """Tests that every backend must pass; a subclass sets the backend to test.

    Attributes
    ----------
    reader
        The class that reads.
    writer
        The class that writes, or None.
    suffix
        Suffix of the files, with its dot.
    shape
        Sizes of the sample along T, C, Z, Y, X: all different, none a multiple of a usual chunk.
        Its dtype is uint16.
    dtypes
        Names of the dtypes that the writer supports.
    options
        Options for the writer: chunks small enough that the sample has several.
    unknown_file
        Bytes that are not a file of this format.
    has_levels, has_samples, has_images
        Whether the writer supports lower levels, RGB pixels, and several images in one file.
    """

    reader: ClassVar[type[ReaderBackend]]
    writer: ClassVar[type[WriterBackend] | None] = None
    suffix: ClassVar[str]
    shape: ClassVar[Shape5] = (2, 3, 4, 37, 53)
    dtypes: ClassVar[tuple[str, ...]] = (
        "uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64",
    )  # fmt: skip
    options: ClassVar[Mapping[str, Any]] = {}
    unknown_file: ClassVar[bytes] = b"This is no image.\n" * 100
    has_levels: ClassVar[bool] = True
    has_samples: ClassVar[bool] = True
    has_images: ClassVar[bool] = True

    # ---- methods that a subclass may replace

    def write_sample(self, path: Path, pixels: Array) -> None:
        """Make `path`, one image of `pixels` (T, C, Z, Y, X). Default: with `writer`."""
        self.write(path, [[pixels]])

    # ---- helpers

    @contextmanager
    def opened(self, path: Path) -> Iterator[ReaderBackend]:
        """Open the file `path` for eight threads; close it at the end."""
        backend = self.reader.open(as_source(path), OpenOptions(max_workers=8))
        try:
            yield backend
        finally:
            backend.close()

    def read(self, backend: ReaderBackend, image: int = 0, level: int = 0) -> Array:
        """Read a whole `level` of an `image` from an open `backend`."""
        record = backend.images[image]
        shape = record.levels[level].shape
        out = np.empty(shape, record.dtype)
        backend.read(Region(image, level, (0,) * 5, shape), out)
        return out

    @contextmanager
    def sample(self, folder: Path) -> Iterator[tuple[ReaderBackend, Array]]:
        """Make a file with known pixels in `folder`, and open it."""
        pixels = distinct(self.shape)
        path = folder / f"sample{self.suffix}"
        self.write_sample(path, pixels)
        with self.opened(path) as backend:
            yield backend, pixels

    def prepare(
        self,
        path: Path,
        images: Sequence[Sequence[Array]],
        samples: int = 1,
        fill: float = 0,
        stored: StoredAs | None = None,
    ) -> tuple[WriterBackend, list[ImageSpec]]:
        """Start the file `path` for `images`, each a list of levels (T, C, Z, Y, X).

        `samples` per pixel, the `fill` value and the encoding `stored` are those of all images.
        """
        ome, specs = self._specs(images, samples, fill, stored)
        return self._writer().prepare(path, specs, ome, self.options), specs

    def _specs(
        self,
        images: Sequence[Sequence[Array]],
        samples: int = 1,
        fill: float = 0,
        stored: StoredAs | None = None,
    ) -> tuple[OME, list[ImageSpec]]:
        """Describe images given as lists of levels."""
        writer = self._writer()
        ome = metadata.new_document(len(images))
        specs = []
        for element, levels in zip(ome.images, images, strict=True):
            pixels, dtype = element.pixels, levels[0].dtype
            for axis, size in zip(AXES, levels[0].shape, strict=True):
                setattr(pixels, f"size_{axis.lower()}", size)
            metadata.set_pixel_type(pixels, metadata.ome_pixel_type(dtype) or "uint8")
            pixels.channels[0].samples_per_pixel = samples
            element.name = f"image of {dtype}"
            specs.append((element, dtype, levels))
        metadata.settle(ome)
        made = []
        for element, dtype, levels in specs:
            shape: Shape5 = levels[0].shape
            flat = metadata.record(element, dtype, plan_levels(shape, shape, ()))
            chunk = writer.default_chunk(flat, self.options)
            planned = plan_levels(shape, chunk, LEVEL_FACTORS[: len(levels) - 1])
            image = metadata.record(element, dtype, planned)
            made.append(ImageSpec(image, fill, stored_as=(stored,) if stored else ()))
        return ome, made

    def write(self, path: Path, images: Sequence[Sequence[Array]], samples: int = 1) -> None:
        """Write `images` of `samples` to `path` as in `prepare`: shuffled chunks, four threads."""
        backend, specs = self.prepare(path, images, samples)
        jobs = [
            (number, level, index, block)
            for number, (spec, levels) in enumerate(zip(specs, images, strict=True))
            for level, pixels in enumerate(levels)
            for index, block in _blocks(pixels, spec.image.levels[level].chunk)
        ]
        order = np.random.default_rng(1).permutation(len(jobs))
        _in_threads(4, [partial(backend.write_block, *jobs[i]) for i in order])
        backend.finish()

    def _writer(self) -> type[WriterBackend]:
        if self.writer is None:
            pytest.skip(f"{self.reader.name} only reads")
        return self.writer

    # ---- reading

    def test_records_describe_the_file(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (backend, pixels):
            assert len(backend.images) >= 1
            for image in backend.images:
                assert image.dtype == image.dtype.newbyteorder("=")
                assert image.byteorder in ("<", ">")
                assert image.role in ("image", "label", "macro", "thumbnail")
                assert isinstance(image.pixel_size, PixelSize)
                assert len(image.channels) * image.samples == image.levels[0].shape[1]
                for level in image.levels:
                    assert len(level.shape) == len(level.chunk) == 5
                    assert all(isinstance(n, int) and n > 0 for n in (*level.shape, *level.chunk))
                areas = [level.shape[3] * level.shape[4] for level in image.levels]
                assert areas == sorted(areas, reverse=True)
            assert backend.images[0].levels[0].shape == pixels.shape
            assert backend.images[0].dtype == pixels.dtype

    def test_reads_all_pixels(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (backend, pixels):
            np.testing.assert_array_equal(self.read(backend), pixels)

    def test_reads_any_box(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (backend, pixels):
            for region, wanted in _boxes(pixels, 60):
                out = np.empty(region.shape, pixels.dtype)
                backend.read(region, out)
                np.testing.assert_array_equal(out, wanted, str(region))

    def test_fills_arrays_of_any_strides_and_nothing_else(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (backend, pixels):
            for number, (region, wanted) in enumerate(_boxes(pixels, 40)):
                around, out = _strided(region.shape, pixels.dtype, number)
                backend.read(region, out)
                np.testing.assert_array_equal(out, wanted, str(region))
                out[...] = 0
                assert not around.any(), "pixels outside the array were written"

    def test_reads_from_many_threads(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (backend, pixels):

            def job(region: Region, wanted: Array) -> None:
                out = np.empty(region.shape, pixels.dtype)
                backend.read(region, out)
                np.testing.assert_array_equal(out, wanted, str(region))

            boxes = list(_boxes(pixels, 80))
            _in_threads(8, [partial(job, *box) for box in boxes])

    def test_two_readers_of_one_file_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (first, pixels):
            with self.opened(tmp_path / f"sample{self.suffix}") as second:
                np.testing.assert_array_equal(self.read(second), pixels)
            np.testing.assert_array_equal(self.read(first), pixels)

    def test_metadata_in_every_form(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (backend, pixels):
            ome = backend.ome()
            assert len(ome.images) == len(backend.images)
            one = ome.images[0].pixels
            sizes = (one.size_t, one.size_c, one.size_z, one.size_y, one.size_x)
            assert sizes == pixels.shape
            xml = backend.ome_xml()
            assert xml is None or "<OME" in xml or ":OME" in xml
            assert all(isinstance(key, str) for key in backend.original_metadata)
            files = list(backend.used_files)
            assert any(f"sample{self.suffix}" in str(file) for file in files[:1])

    def test_ranges_lie_in_the_file(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (backend, pixels):
            try:
                ranges = backend.stored_ranges(0, 0)
            except Unsupported as error:
                pytest.skip(str(error))
            assert ranges.dtype.newbyteorder("=") == pixels.dtype
            for index in ChunkGrid(self.shape, ranges.chunk):
                where = ranges.locate(index)
                if where is not None:
                    name, offset, length = where
                    assert 0 <= offset < offset + length <= Path(name).stat().st_size

    def test_closes_twice_and_refuses_to_read_then(self, tmp_path: Path) -> None:
        with self.sample(tmp_path) as (backend, pixels):
            backend.close()
            backend.close()
            with pytest.raises(BfbridgeError):
                backend.read(Region(0, 0, (0,) * 5, self.shape), np.empty(self.shape, pixels.dtype))

    def test_refuses_what_is_not_its_own(self, tmp_path: Path) -> None:
        path = tmp_path / f"text{self.suffix}"
        path.write_bytes(self.unknown_file)
        with pytest.raises(BfbridgeError):
            self.reader.open(as_source(path), OpenOptions())

    def test_a_missing_file_is_said_to_be_missing(self, tmp_path: Path) -> None:
        with pytest.raises(FileMissing):
            self.reader.open(as_source(tmp_path / f"none{self.suffix}"), OpenOptions())

    def test_a_truncated_file_gives_right_pixels_or_an_error(self, tmp_path: Path) -> None:
        pixels = distinct(self.shape)
        path = tmp_path / f"sample{self.suffix}"
        self.write_sample(path, pixels)
        files = [path]
        if path.is_dir():
            files = [file for file in sorted(path.rglob("*")) if file.is_file()]
            files = files[:: max(1, len(files) // 8)]
        for file in files:
            whole = file.read_bytes()
            for part in (0.1, 0.5, 0.9, 0.999):
                file.write_bytes(whole[: int(len(whole) * part)])
                try:
                    with self.opened(path) as backend:
                        found = self.read(backend)
                except BfbridgeError:
                    continue
                np.testing.assert_array_equal(found, pixels, f"{file}, {part:.1%} of it")
            file.write_bytes(whole)

    # ---- writing

    def test_writes_every_dtype(self, tmp_path: Path) -> None:
        self._writer()
        for dtype in self.dtypes:
            pixels = distinct((1, min(2, self.shape[1]), 1, 33, 41), dtype)
            if np.dtype(dtype).kind == "f":
                pixels[0, 0, 0, 0, :3] = np.nan, np.inf, -0.0
            elif np.dtype(dtype).kind in "iu":
                pixels[0, 0, 0, 0, :2] = np.iinfo(dtype).min, np.iinfo(dtype).max
            path = tmp_path / f"{dtype}{self.suffix}"
            self.write(path, [[pixels]])
            with self.opened(path) as backend:
                assert backend.images[0].dtype == np.dtype(dtype)
                np.testing.assert_array_equal(self.read(backend), pixels)

    def test_writes_levels(self, tmp_path: Path) -> None:
        self._needs(self.has_levels, "lower levels")
        levels = [distinct(self.shape)]
        for factor in LEVEL_FACTORS:
            levels.append(np.ascontiguousarray(reduce_block(levels[-1], factor, "nearest")))
        path = tmp_path / f"levels{self.suffix}"
        self.write(path, [levels])
        with self.opened(path) as backend:
            assert [level.shape for level in backend.images[0].levels] == [a.shape for a in levels]
            for number, level in enumerate(levels):
                np.testing.assert_array_equal(self.read(backend, level=number), level)

    def test_writes_samples(self, tmp_path: Path) -> None:
        self._needs(self.has_samples, "RGB pixels")
        pixels = distinct((2, 3, 4, 37, 53), np.uint8)
        path = tmp_path / f"rgb{self.suffix}"
        self.write(path, [[pixels]], samples=3)
        with self.opened(path) as backend:
            np.testing.assert_array_equal(self.read(backend), pixels)

    def test_writes_several_images(self, tmp_path: Path) -> None:
        self._needs(self.has_images, "several images")
        images = [
            distinct(self.shape),
            distinct((1, 1, 2, 40, 20), np.uint8),
            distinct((3, 1, 1, 5, 7)),
        ]
        path = tmp_path / f"images{self.suffix}"
        self.write(path, [[pixels] for pixels in images])
        with self.opened(path) as backend:
            assert len(backend.images) == len(images)
            for number, pixels in enumerate(images):
                np.testing.assert_array_equal(self.read(backend, number), pixels)

    def test_blocks_are_read_back_and_replaced(self, tmp_path: Path) -> None:
        pixels = distinct(self.shape)
        path = tmp_path / f"again{self.suffix}"
        backend, specs = self.prepare(path, [[pixels]])
        chunk = specs[0].image.levels[0].chunk
        for index, block in _blocks(pixels, chunk):
            assert backend.read_block(0, 0, index) is None
            strided = (block + 1)[..., ::-1, :]  # negative strides, and reused after the call
            backend.write_block(0, 0, index, strided)
            strided[...] = 0
            found = backend.read_block(0, 0, index)
            assert found is not None
            np.testing.assert_array_equal(found, (block + 1)[..., ::-1, :])
            backend.write_block(0, 0, index, block)
            np.testing.assert_array_equal(backend.read_block(0, 0, index), block)
        backend.finish()
        with self.opened(path) as reader:
            np.testing.assert_array_equal(self.read(reader), pixels)

    def test_chunks_never_written_hold_the_fill_value(self, tmp_path: Path) -> None:
        pixels = distinct(self.shape)
        path = tmp_path / f"gaps{self.suffix}"
        backend, specs = self.prepare(path, [[pixels]], fill=77)
        for number, (index, block) in enumerate(_blocks(pixels, specs[0].image.levels[0].chunk)):
            if number % 3:
                backend.write_block(0, 0, index, block)
            else:
                block[...] = 77  # a view: what the file should hold
        backend.finish()
        with self.opened(path) as reader:
            np.testing.assert_array_equal(self.read(reader), pixels)

    def test_trims_to_the_first_channel_and_time_point(self, tmp_path: Path) -> None:
        """A writer that cannot trim completes the file that was prepared."""
        written = np.zeros(self.shape, np.uint16)
        written[:1, :1] = first = distinct(self.shape)[:1, :1]
        path = tmp_path / f"trimmed{self.suffix}"
        backend, (full,) = self.prepare(path, [[written]])
        chunk = full.image.levels[0].chunk
        for index, block in _blocks(written, chunk):
            if index[:2] == (0, 0):
                backend.write_block(0, 0, index, block)
        ome, (spec,) = self._specs([[first]])
        # The chunks stay as they are, and may extend beyond the image.
        level = replace(spec.image.levels[0], chunk=chunk)
        spec = replace(spec, image=replace(spec.image, levels=(level,)))
        trimmed = backend.trim([spec], ome)
        backend.finish()
        with self.opened(path) as reader:
            np.testing.assert_array_equal(self.read(reader), first if trimmed else written)

    def test_gives_up_at_any_time(self, tmp_path: Path) -> None:
        pixels = distinct(self.shape)
        for step in range(3):
            folder = tmp_path / str(step)
            folder.mkdir()
            backend, specs = self.prepare(folder / f"none{self.suffix}", [[pixels]])
            if step:
                index, block = next(iter(_blocks(pixels, specs[0].image.levels[0].chunk)))
                backend.write_block(0, 0, index, block)
            if step == 2:
                backend.finish()
            backend.abort()
            backend.abort()

    def test_makes_nothing_beside_its_target(self, tmp_path: Path) -> None:
        target = tmp_path / f"only{self.suffix}"
        self.write(target, [[distinct(self.shape)]])
        assert [path.name for path in tmp_path.iterdir()] == [target.name]

    def test_unknown_options_are_refused(self) -> None:
        writer = self._writer()
        writer.check(self.options)
        with pytest.raises(BadArgument, match="no_such_option"):
            writer.check({**self.options, "no_such_option": 1})

    # ---- encoded chunks

    def test_encoded_chunks_are_copied_byte_for_byte(self, tmp_path: Path) -> None:
        writer = self._writer()
        pixels = distinct(self.shape)
        first, second = (tmp_path / f"{name}{self.suffix}" for name in ("first", "second"))
        self.write(first, [[pixels]])
        with self.opened(first) as reader:
            stored = reader.stored_as(0, 0)
            if stored is None or not writer.can_store(stored, reader.images[0], self.options):
                pytest.skip("this format cannot store encoded chunks")
            backend, specs = self.prepare(second, [[pixels]], stored=stored)
            grid = specs[0].image.levels[0].grid
            assert grid.chunk == reader.images[0].levels[0].chunk
            for index in grid:
                data = reader.read_stored(0, 0, index)
                if data is not None:
                    backend.write_stored(0, 0, index, data)
            backend.finish()
        with self.opened(second) as copy:
            np.testing.assert_array_equal(self.read(copy), pixels)

    # ---- files that are written at their final place (`ChunkedStoreBackend`)

    def test_several_writers_share_a_file(self, tmp_path: Path) -> None:
        store = self._store()
        pixels = distinct(self.shape)
        path = tmp_path / f"shared{self.suffix}"
        ome, specs = self._specs([[pixels]])
        store.create(path, specs, ome, self.options).release()
        parts = [store.open_existing(path) for _ in range(2)]
        assert [spec.image.levels[0].shape for spec in parts[0].images] == [pixels.shape]
        for index, block in _blocks(pixels, parts[0].images[0].image.levels[0].chunk):
            # One time point each: some formats need one writer for chunks that share a file.
            parts[index[0] % 2].write_block(0, 0, index, block)
        for part in parts:
            part.release()
        store.open_existing(path).finish()
        with self.opened(path) as reader:
            np.testing.assert_array_equal(self.read(reader), pixels)

    def test_time_points_are_added(self, tmp_path: Path) -> None:
        store = self._writer()
        if not issubclass(store, ExtendableBackend):
            pytest.skip(f"time points cannot be added to {store.name} files")
        pixels = distinct((5, *self.shape[1:]))
        path = tmp_path / f"longer{self.suffix}"
        self.write(path, [[pixels[:2]]])
        try:
            added = store.extend(path, 3)
        except Unsupported as error:
            pytest.skip(str(error))
        assert added.images[0].image.levels[0].shape == (3, *self.shape[1:])
        for index, block in _blocks(pixels[2:], added.images[0].image.levels[0].chunk):
            added.write_block(0, 0, index, block)
        added.finish()
        with self.opened(path) as reader:
            np.testing.assert_array_equal(self.read(reader), pixels)

    def test_an_aborted_change_leaves_the_file_as_it_was(self, tmp_path: Path) -> None:
        store = self._store()
        pixels = distinct(self.shape)
        path = tmp_path / f"changed{self.suffix}"
        self.write(path, [[pixels]])
        for keep in (False, True):
            try:
                changes = store.update(path)
            except Unsupported as error:
                pytest.skip(str(error))
            index, block = next(_blocks(pixels, changes.images[0].image.levels[0].chunk))
            changes.write_block(0, 0, index, block + 1)
            found = changes.read_block(0, 0, index)
            np.testing.assert_array_equal(found, block + 1)
            if keep:
                changes.finish()
                block += 1
            else:
                changes.abort()
            with self.opened(path) as reader:
                np.testing.assert_array_equal(self.read(reader), pixels)

    def _store(self) -> type[ChunkedStoreBackend]:
        writer = self._writer()
        if not issubclass(writer, ChunkedStoreBackend):
            pytest.skip(f"{writer.name} files cannot be written at their final place")
        return writer

    def _needs(self, has: bool, what: str) -> None:
        self._writer()
        if not has:
            pytest.skip(f"this format does not support {what}")


def _blocks(pixels: Array, chunk: Shape5) -> Iterator[tuple[Shape5, Array]]:
    """Yield grid position and pixels, as a view, of every chunk; cropped at the edge."""
    grid = ChunkGrid(pixels.shape, chunk)
    for index in grid:
        yield index, pixels[grid.slices(index)]


def _boxes(pixels: Array, count: int) -> Iterator[tuple[Region, Array]]:
    """Yield random boxes; the first ones are the first and the last pixel."""
    rng = np.random.default_rng(count)
    last = tuple(n - 1 for n in pixels.shape)
    corners = [((0,) * 5, (1,) * 5), (last, pixels.shape)]
    for _ in range(count):
        start = [int(rng.integers(0, n)) for n in pixels.shape]
        stop = [int(rng.integers(a, n)) + 1 for a, n in zip(start, pixels.shape, strict=True)]
        corners.append((tuple(start), tuple(stop)))
    for start, stop in corners:  # type: ignore[assignment]
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        yield Region(0, 0, tuple(start), tuple(stop)), pixels[box]  # type: ignore[arg-type]


def _strided(shape: Shape5, dtype: np.dtype[Any], number: int) -> tuple[Array, Array]:
    """Return an array of zeros, and a view of `shape` inside it with unusual strides."""
    order = np.random.default_rng(number).permutation(5)
    larger = np.zeros([2 * shape[axis] + 2 for axis in order], dtype)
    steps = (slice(1, -1, 2), slice(-2, 0, -2))
    inner = larger[tuple(steps[(number >> place) & 1] for place in range(5))]
    return larger, inner.transpose(np.argsort(order))


def _in_threads(count: int, jobs: Sequence[Callable[[], object]]) -> None:
    """Run jobs on threads that start together; raise the first error."""
    todo, lock = iter(jobs), threading.Lock()
    errors: list[BaseException] = []
    gate = threading.Barrier(count)

    def work() -> None:
        gate.wait()
        while True:
            with lock:
                job = next(todo, None)
            if job is None or errors:
                return
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
