"""Whatever is passed to a public function or method: it works, or the error is one of ours.

Each parameter of each signature in turn gets values of every kind: wrong types, texts, NaN, huge
and negative numbers, None, arrays, nested sequences.
"""

from __future__ import annotations

import inspect
import itertools
import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bfbridge
from bfbridge import BioReader, BioWriter, Limits, imread, imwrite
from bfbridge.aics import AICSImage
from bfbridge.analysis import regions as render
from bfbridge.errors import BfbridgeError
from bfbridge.files.file_pattern import FilePattern, is_pattern
from bfbridge.files.writing import image_plans
from bfbridge.integrations.xarray import BfbridgeBackend
from bfbridge.patches import ImageStack
from bfbridge.storage.source import path_or_url
from bfbridge_ometiff import writer as ometiff
from tests.support.effort import examples
from tests.support.memory import distinct

pytestmark = pytest.mark.java

ARRAY = distinct((60, 70, 2, 3, 2), np.uint8)
NAN, INF = float("nan"), float("inf")
WORDS = [
    "", "x", "1um", "um", "px", "TCZYX", "YX", "mean", "area", "pad", "file", "a,b", "0:5", "\0",
    "é", "a::b", "::", "zip://", "no://such", "{a}", "{t:d}", "*.tif", "~", ".", "/",
]  # fmt: skip
OBJECTS = [
    None, True, False, NAN, INF, -INF, 1e-300, 1e300, 2**31, 2**63, 2**70, -(2**70), b"x", {1},
    object(), int, len, Ellipsis, 1j, slice(None), slice("a"), slice(NAN), range(3),
    pathlib.Path("x"),
    np.zeros((2, 2)), np.zeros((2, 3, 4), "u2"), np.array(5), np.array([1, 2]), np.array(["a"]),
    np.float32(NAN), np.int64(3), np.datetime64("2020"), np.array([True, False]),
    {"x": 1, "y": "a"},
]  # fmt: skip
PLAIN = st.one_of(
    st.sampled_from(OBJECTS), st.sampled_from(WORDS), st.integers(-3, 80), st.integers(),
    st.floats(), st.text(max_size=3),
)  # fmt: skip
VALUES = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=5),
    st.tuples(PLAIN, PLAIN),
    st.tuples(st.tuples(PLAIN, PLAIN), PLAIN),
    st.dictionaries(st.sampled_from(["x", "y", "a", "level", "units"]), PLAIN, max_size=2),
)


@dataclass
class Target:
    """A function, and the arguments with which it works.

    Attributes
    ----------
    call
        What is called, with keywords.
    like
        Whose parameters are tried.
    valid
        Arguments of every call.
    without
        Parameters that are left out: they name a file to write, or are called.
    """

    call: Callable[..., object]
    like: Callable[..., object] | None = None
    valid: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "..."  # pytest and hypothesis show all of them

    @property
    def parameters(self) -> list[str]:
        variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        return [
            name
            for name, parameter in inspect.signature(self.like or self.call).parameters.items()
            if parameter.kind not in variable and name not in ("self", *self.without)
        ]


def first(results: Any) -> None:
    next(iter(results), None)


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:  # noqa: C901
    folder = tmp_path_factory.mktemp("arguments")
    tiff, zarr = folder / "a.ome.tif", folder / "a.ome.zarr"
    sizes: dict[str, Any] = {"ps_x": 0.5, "ps_y": (0.5, "µm"), "pyramid": 1}
    for path, options in ((tiff, {"tile": 32}), (zarr, {"chunks": 32})):
        with BioWriter(path, **sizes, **options) as bw:
            bw[:] = ARRAY
    numbers = itertools.count()

    def new(suffix: str = ".ome.tif") -> pathlib.Path:
        return folder / f"{next(numbers)}{suffix}"

    def read(**arguments: Any) -> None:
        with BioReader(**arguments) as other:
            other[:1, :1]

    def write(suffix: str = ".ome.tif", **arguments: Any) -> None:
        arguments.setdefault("file_path", new(suffix))
        bw = BioWriter(**{"shape": (20, 30), **arguments})
        try:
            bw[:1, :1] = 0
        finally:
            bw.abort()

    def write_with(name: str, suffix: str, value: Any) -> None:
        write(suffix, **{name: value})

    def assign(key: Any = ..., value: Any = 3) -> None:
        bw = BioWriter(new(), shape=(20, 30), dtype="uint8")
        try:
            bw[key] = value
        finally:
            bw.abort()

    def assign_first(value: Any) -> None:
        bw = BioWriter(new())
        try:
            bw[:] = value
        finally:
            bw.abort()

    def write_block(**arguments: Any) -> None:
        bw = BioWriter(new(), shape=(20, 30), dtype="uint8")
        try:
            bw.write(**arguments)
        finally:
            bw.abort()

    def close(require_complete: Any) -> None:
        bw = BioWriter(new(), shape=(20, 30))
        bw[:5] = 1
        try:
            bw.close(require_complete=require_complete)
        finally:
            bw.abort()

    def append(**arguments: Any) -> None:
        BioWriter(zarr, append=True, **arguments).abort()

    def shared() -> pathlib.Path:
        path = new(".ome.zarr")
        BioWriter.create(path, shape=(5, 5))
        return path

    def take_part(**arguments: Any) -> None:
        BioWriter.open(shared(), **arguments).abort()

    def save(**arguments: Any) -> None:
        imwrite(**{"path": new(), **arguments})

    def look(**arguments: Any) -> None:
        with AICSImage(**arguments) as image:
            image.get_image_data("YX")

    def aics(method: str) -> Callable[..., object]:
        def call(**arguments: Any) -> object:
            with AICSImage(tiff) as image:
                return getattr(image, method)(**arguments)

        return call

    def aics_axis(axis: str, value: Any, name: str = "get_image_data") -> None:
        with AICSImage(tiff) as image:
            getattr(image, name)("TCZYX", **{axis: value})

    br = BioReader(tiff, max_workers=2)
    stack = ImageStack(tiff)
    found: dict[str, Target] = {
        name: Target(getattr(br, name))
        for name in (
            "read", "region", "thumbnail", "histogram", "min_max", "to_dask", "to_xarray",
            "asarray", "pixel_size", "lookup_table", "to_physical", "to_pixels",
        )
    }  # fmt: skip
    found |= {
        "region in um": Target(br.region, valid={"units": "um", "x": (0, 10), "y": (0, 10)}),
        "tiles": Target(lambda **a: first(br.tiles(**a)), br.tiles),
        "batches": Target(lambda **a: first(br.tiles(**a)), br.tiles, {"batch": 2}),
        "call": Target(lambda **a: first(br(**a)), br.__call__, {"tile_size": (16, 16)}),
        "maximum_batch_size": Target(br.maximum_batch_size, valid={"tile_size": 16}),
        "getitem": Target(lambda key: br[key]),
        "getitem of X": Target(lambda key: br[:, key]),
        "levels": Target(lambda key: br.levels[key]),
        "series": Target(lambda key: br.series[key]),
        "series from": Target(lambda key: br.series[key:]),
        "read_stored": Target(br.read_stored),
        "image_size": Target(BioReader.image_size),
        "BioReader": Target(read, BioReader, {"file_path": tiff}),
        "Limits": Target(lambda **a: read(file_path=tiff, limits=Limits(**a)), Limits),
        "BioWriter": Target(write, BioWriter),
        "BioWriter of OME-Zarr": Target(lambda **a: write(".ome.zarr", **a), BioWriter),
        "write": Target(write_block, BioWriter.write, {"image": ARRAY[:5, :5, 0, 0, 0]}),
        "setitem": Target(assign),
        "setitem of a new image": Target(assign_first),
        "close": Target(close),
        "append": Target(append, BioWriter, without=("file_path", "append")),
        "open": Target(take_part, BioWriter.open, without=("file_path",)),
        "imread": Target(imread, valid={"path": tiff}),
        "imwrite": Target(save, imwrite, {"array": ARRAY[:, :, 0, 0, 0]}),
        "convert": Target(
            lambda **a: bfbridge.convert(**{"source": tiff, "target": new(), **a}),
            bfbridge.convert,
            # "jobs" starts processes; the others are called.
            without=("jobs", "progress", "watcher", "client", "report"),
        ),
        "path_or_url": Target(path_or_url),
        "FilePattern": Target(lambda pattern: FilePattern(pattern).select(["a"])),
        "is_pattern": Target(is_pattern),
        "ImageStack": Target(ImageStack, valid={"source": tiff}),
        "extract_patch": Target(
            stack.extract_patch,
            valid={"sample_idx": 0, "channels": None, "coords": (0, 0), "patch_size": (5, 5)},
        ),
        "from_array": Target(ImageStack.from_array, valid={"data": ARRAY, "axes": "YXZCT"}),
        "get_bounding_rectangles": Target(ImageStack.get_bounding_rectangles),
        "AICSImage": Target(look, AICSImage, {"image": tiff}),
        "AICSImage of an array": Target(look, AICSImage, {"image": ARRAY}),
        "axis of get_image_data": Target(lambda value: aics_axis("Z", value)),
        "axis of dask data": Target(lambda value: aics_axis("Y", value, "get_image_dask_data")),
        "open_dataset": Target(
            lambda **a: BfbridgeBackend().open_dataset(**a).close(),
            BfbridgeBackend().open_dataset,
            {"filename_or_obj": tiff},
        ),
    }
    for name in (
        "set_scene", "set_resolution_level", "get_image_data", "get_image_dask_data", "get_stack",
        "get_mosaic_tile_position",
    ):  # fmt: skip
        found[name] = Target(aics(name), getattr(AICSImage, name))
    for name in (
        "X", "C", "shape", "dtype", "name", "channel_names", "samples_per_pixel", "ps_x", "ps_z",
        "compression", "level", "tile", "chunks", "predictor", "bigtiff",
    ):  # fmt: skip
        found[f"property {name}"] = Target(partial(write_with, name, ".ome.tif"))
    for name in ("compression", "level", "chunks", "tile", "shards", "version", "wells"):
        found[f"option {name}"] = Target(partial(write_with, name, ".ome.zarr"))
    yield found
    br.close()
    stack.close()


def _limit_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Enlarged regions may take that many pixels along each side, which is correct but slow.
    monkeypatch.setattr(render, "LONGEST", 2000)
    # Files may have a million planes, which take a minute.
    few = Limits(channels=50_000, directories=5_000)
    monkeypatch.setattr(image_plans, "DEFAULT_LIMITS", few)
    monkeypatch.setattr(ometiff, "DEFAULT_LIMITS", few)


@pytest.mark.filterwarnings("ignore")  # numpy's, of dtypes by old names
@settings(
    max_examples=examples(700), deadline=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(data=st.data())
def test_errors_are_ours(
    targets: dict[str, Target], data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit_sizes(monkeypatch)
    name = data.draw(st.sampled_from(sorted(targets)), "target")
    target = targets[name]
    parameter = data.draw(st.sampled_from(target.parameters), "parameter")
    value = data.draw(VALUES, "value")
    try:
        target.call(**{**target.valid, parameter: value})
    except BfbridgeError as error:
        told = str(error)
    else:
        told = "it worked"
    assert told, "an error without a message"


@pytest.mark.slow(ci=True)
@pytest.mark.filterwarnings("ignore")
def test_objects_that_are_neither_true_nor_equal(
    targets: dict[str, Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    # `if value` and `value in choices` fail with such arrays, and huge numbers exhaust memory.
    _limit_sizes(monkeypatch)
    failures = []
    for name, target in targets.items():
        for parameter in target.parameters:
            for value in (np.zeros((2, 2)), [np.zeros((2, 2))], 2**70, {(1, 2): 3, "x": 4}):
                try:
                    target.call(**{**target.valid, parameter: value})
                except BfbridgeError:
                    continue
                except Exception as error:  # noqa: BLE001 - any but ours is a failure
                    failures.append(f"{name}, {parameter}={value!r}: {error!r}")
    assert failures == []


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some of the texts that are tried become names of new files.
    monkeypatch.chdir(tmp_path_factory.mktemp("arguments"))
