"""The same keys through real files: what `BioWriter` writes, `BioReader` and Bio-Formats read."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bfbridge import BioReader, BioWriter
from bfbridge.errors import Closed, FileMissing, IncompleteImage, ReadOnlyProperty
from tests.support.effort import examples
from tests.support.engine import assign, expected, face, keys, positions, shapes, smaller, values
from tests.support.memory import distinct

SHAPE = (45, 70, 4, 3, 2)
ARRAY = face(distinct((2, 3, 4, 45, 70)))
DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64"]
SUFFIXES = {"ometiff": ".ome.tif", "omezarr": ".ome.zarr"}
OPTIONS: dict[str, dict[str, Any]] = {
    "ometiff": {"tile": 32},
    "omezarr": {"chunks": (1, 2, 3, 32, 16)},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for backend, suffix in SUFFIXES.items():
        made[backend] = folder / f"image{suffix}"
        with BioWriter(made[backend], pyramid=2, **OPTIONS[backend]) as bw:
            bw.shape, bw.dtype = SHAPE, "uint16"
            bw[...] = ARRAY
    made["bioformats"] = made["ometiff"]
    return made


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("backend", ["ometiff", "omezarr", "bioformats"])
@settings(
    max_examples=examples(40),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_reading_equals_numpy(backend: str, files: dict[str, Path], data: st.DataObject) -> None:
    workers = data.draw(st.sampled_from([1, 2]), "workers")
    cache = data.draw(st.sampled_from([None, 0, 5000]), "cache")
    with BioReader(files[backend], backend=backend, max_workers=workers, cache=cache) as br:
        assert br.backend == backend
        for _ in range(4):
            key = data.draw(keys(SHAPE), "key")
            got, wanted = br[key], expected(ARRAY, key)
            assert got.shape == wanted.shape
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("backend", ["ometiff", "omezarr", "bioformats"])
def test_levels_are_halves(backend: str, files: dict[str, Path]) -> None:
    half = smaller(ARRAY.transpose(4, 3, 2, 0, 1), 2, "mean")
    with BioReader(files[backend], backend=backend) as br:
        assert [level.sizes["X"] for level in br.levels] == [70, 35, 18]
        np.testing.assert_array_equal(br.levels[1][...], face(half))
        np.testing.assert_array_equal(br.levels[2][...], face(smaller(half, 2, "mean")))
    with BioReader(files[backend], backend=backend, level=1) as br:
        np.testing.assert_array_equal(br[3:20:4, ::-1], face(half)[3:20:4, ::-1])


@pytest.mark.slow(ci=True)
@pytest.mark.parametrize("backend", ["ometiff", "omezarr"])
@settings(
    max_examples=examples(25),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_writing_equals_numpy(backend: str, data: st.DataObject) -> None:
    shape = data.draw(shapes((70, 60, 3, 3, 2)), "shape")
    dtype = np.dtype(data.draw(st.sampled_from(DTYPES), "dtype"))
    levels = data.draw(st.integers(0, 2), "levels")
    method = data.draw(st.sampled_from(["mean", "nearest", "mode"]), "method")
    options = {
        "ometiff": {"tile": data.draw(st.sampled_from([16, 32, (48, 16)]))},
        "omezarr": {"chunks": data.draw(st.sampled_from([16, (2, 1, 3, 32, 16)]))},
    }[backend]
    fill = data.draw(st.sampled_from([0, 9]), "fill value")
    array = np.full(shape, fill, dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{SUFFIXES[backend]}"
        with BioWriter(
            path,
            max_workers=data.draw(st.sampled_from([1, 2]), "workers"),
            pyramid=levels,
            downsample=method,
            fill_value=fill,
            memory=data.draw(st.sampled_from([0, 1 << 28]), "memory"),
            **options,
        ) as bw:
            bw.dtype, bw.shape = dtype, shape
            for _ in range(data.draw(st.integers(1, 5), "writes")):
                key = data.draw(keys(shape), "key")
                value = data.draw(values(tuple(map(len, positions(key, shape))), dtype), "value")
                bw[key] = value
                assign(array, key, value)
            bw[:1, :1] = array[:1, :1]  # a writer that wrote no pixel makes no file
        with BioReader(path) as br:
            assert br.backend == backend
            assert br.dtype == dtype
            level = array.transpose(4, 3, 2, 0, 1)
            for view in br.levels:
                np.testing.assert_array_equal(view.read(keepdims=True), face(level))
                level = smaller(level, 2, method)
            assert len(br.levels) == levels + 1


class Boom(Exception):
    """What a program of ours raises in the middle of writing."""


class WriterMachine(RuleBasedStateMachine):
    """Open, write, rewrite, close, abort, open again: compared with an array."""

    suffix = ""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / f"image{self.suffix}"
        self.published: np.ndarray[Any, Any] | None = None
        self.bw: BioWriter | None = None

    @precondition(lambda self: self.bw is None)
    @rule(
        shape=shapes((50, 40, 2, 3, 2)),
        dtype=st.sampled_from(["uint8", "int16", "float32"]),
        levels=st.integers(0, 1),
        memory=st.sampled_from([0, 1 << 28]),
    )
    def open(self, shape: tuple[int, ...], dtype: str, levels: int, memory: int) -> None:
        self.bw = BioWriter(self.path, 2, overwrite=True, pyramid=levels, memory=memory)
        self.bw.shape, self.bw.dtype = shape, dtype
        self.array = np.zeros(shape, dtype)
        self.mask = np.zeros(shape, bool)
        self.levels = levels

    @precondition(lambda self: self.bw is not None)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        assert self.bw is not None
        key = data.draw(keys(self.array.shape), "key")
        size = tuple(map(len, positions(key, self.array.shape)))
        value = data.draw(values(size, self.array.dtype), "value")
        self.bw[key] = value
        assign(self.array, key, value)
        assign(self.mask, key, True)
        with pytest.raises(ReadOnlyProperty):
            self.bw.X = 5

    @precondition(lambda self: self.bw is not None)
    @rule(step=st.integers(3, 30), seed=st.integers(0, 99))
    def write_all_in_tiles_from_threads(self, step: int, seed: int) -> None:
        bw, shape = self.bw, self.array.shape
        assert bw is not None
        pixels = np.random.default_rng(seed).integers(0, 120, shape).astype(self.array.dtype)

        def tile(corner: tuple[int, int]) -> None:
            box = np.s_[corner[0] : corner[0] + step, corner[1] : corner[1] + step]
            bw[box] = pixels[box]

        corners = [(y, x) for y in range(0, shape[0], step) for x in range(0, shape[1], step)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(tile, corners))
        self.array, self.mask[:] = pixels, True

    @precondition(lambda self: self.bw is not None)
    @rule(complete=st.booleans())
    def close(self, complete: bool) -> None:
        assert self.bw is not None
        if not self.mask.any() or (complete and not self.mask.all()):
            with pytest.raises(IncompleteImage, match="never written|nothing was written"):
                self.bw.close(require_complete=complete)
        else:
            self.bw.close(require_complete=complete)
            self.published = self.array
        with pytest.raises(Closed):
            self.bw[0, 0] = 1
        self.bw.close()
        self.bw = None
        self.look()

    @precondition(lambda self: self.bw is not None)
    @rule(how=st.sampled_from(["abort", "raise"]))
    def give_up(self, how: str) -> None:
        assert self.bw is not None
        if how == "abort":
            self.bw.abort()
        else:
            with pytest.raises(Boom), self.bw:
                raise Boom
        self.bw = None
        self.look()

    @rule()
    def look(self) -> None:
        """The file is the one last closed, also while a new one is written."""
        if self.published is None:
            with pytest.raises(FileMissing):
                BioReader(self.path)
            return
        with BioReader(self.path) as br:
            np.testing.assert_array_equal(br.read(keepdims=True), self.published)
            if len(br.levels) > 1:
                half = smaller(self.published.transpose(4, 3, 2, 0, 1), 2, "mean")
                np.testing.assert_allclose(br.levels[1].read(keepdims=True), face(half), rtol=1e-6)

    def teardown(self) -> None:
        if not hasattr(self, "bw"):
            return
        if self.bw is not None:
            self.bw.abort()
        names = {p.name for p in Path(self.folder.name).iterdir()}
        assert names <= {self.path.name}, "something was left behind"
        self.folder.cleanup()


class OmeTiffMachine(WriterMachine):
    suffix = ".ome.tif"


class OmeZarrMachine(WriterMachine):
    suffix = ".ome.zarr"


STEPS = settings(max_examples=examples(20), stateful_step_count=16, deadline=None)
OmeTiffMachine.TestCase.settings = STEPS
OmeZarrMachine.TestCase.settings = STEPS
TestOmeTiffWriter = pytest.mark.slow(ci=True)(OmeTiffMachine.TestCase)
TestOmeZarrWriter = pytest.mark.slow(ci=True)(OmeZarrMachine.TestCase)
